//! An attacker with pictures of its own, victims it has never seen, and what it sees of them.

use std::collections::BTreeMap;

use crate::metrics::{Lpips, psnr};
use crate::quality::{Baselines, Guesses, after_trial, scores};
use crate::regression::{Components, Decoder, held_out, nearest, reidentified};
use crate::statistics::{Better, auc, paired};
use crate::{Attack, Error, Finding, Image, Result, Score};

/// Longest side of the pictures that are decoded; larger ones are averaged down.
const SIDE: usize = 64;
/// Of its own pictures, those on which the attacker compares its decoder with guessing.
const TRIAL: usize = 24;

/// The two worlds.
///
/// ```
/// use arras_audit::scene::{Scene, Seen};
/// use arras_audit::{Image, Random, Result};
///
/// // Pictures with one bright and one dark half; what is seen is how bright.
/// let pictures = |count: usize, seed: u64| -> Result<(Vec<Image>, Vec<Vec<f32>>)> {
///     let mut random = Random::new("example", &[seed]);
///     let seen: Vec<_> = (0..count).map(|_| vec![random.uniform() as f32, random.uniform() as f32]).collect();
///     let image = |row: &Vec<f32>| Image::new(1, 12, 12, (0..144).map(|at| row[at / 72]).collect());
///     Ok((seen.iter().map(image).collect::<Result<_>>()?, seen))
/// };
/// let ((own, own_seen), (victims, seen)) = (pictures(80, 1)?, pictures(10, 2)?);
/// let scene = Scene::new(&own, &victims, None, 3)?;
/// let found = scene.invert(&Seen { own: own_seen, candidates: seen.clone(), victims: seen })?;
/// assert!(found.explained > 0.9 && found.scores["psnr"].gains());
/// assert_eq!((found.images.len(), found.scores["reid_candidates"].value), (10, 1.0));
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Debug)]
pub struct Scene<'a> {
    own: Vec<Image>,
    victims: Vec<Image>,
    guesses: Guesses,
    /// Of the victims.
    baselines: Baselines,
    /// Of the attacker's pictures [`Self::trial`].
    own_baselines: Baselines,
    components: Components,
    lpips: Option<&'a Lpips>,
    seed: u64,
}

/// What is seen of the attacker's own pictures, of the victims, and of the victims' pictures if the attacker had them
/// as candidates and made it anew.
///
/// See the example of [`Scene`].
#[derive(Clone, Debug)]
pub struct Seen {
    /// One row for each of the attacker's pictures.
    pub own: Vec<Vec<f32>>,
    /// One row for each victim.
    pub victims: Vec<Vec<f32>>,
    /// One row for each victim's picture.
    pub candidates: Vec<Vec<f32>>,
}

/// What came of it.
///
/// See the example of [`Scene`].
#[derive(Clone, Debug)]
pub struct Inverted {
    /// Those of [`crate::metrics`]; `reid`: share of victims whose picture is the nearest of all victims' to the
    /// reconstruction; `reid_candidates`: whose candidate row is the nearest to what is seen; `auc`: reconstructions
    /// against their own and against others' pictures.
    pub scores: BTreeMap<String, Score>,
    /// One reconstruction for each victim.
    pub images: Vec<Image>,
    /// Share of the variance of the attacker's held-out pictures that the decoder explains.
    pub explained: f64,
}

impl<'a> Scene<'a> {
    /// A scene of the attacker's pictures and the victims'.
    ///
    /// # Errors
    /// Too few pictures, or shapes that differ.
    pub fn new(own: &[Image], victims: &[Image], lpips: Option<&'a Lpips>, seed: u64) -> Result<Self> {
        let own = own.iter().map(|image| image.shrunk(SIDE)).collect::<Result<Vec<_>>>()?;
        let victims = victims.iter().map(|image| image.shrunk(SIDE)).collect::<Result<Vec<_>>>()?;
        if victims.len() < 2 {
            return Err(Error::invalid("victims", "expected at least two"));
        }
        let (guesses, components) = (Guesses::new(&own, lpips)?, Components::new(&own)?);
        let tried: Vec<&Image> = trial(own.len()).map(|row| &own[row]).collect();
        let own_baselines = guesses.baselines(&tried, lpips)?;
        let baselines = guesses.baselines(&victims.iter().collect::<Vec<_>>(), lpips)?;
        Ok(Self { own, victims, guesses, baselines, own_baselines, components, lpips, seed })
    }

    /// The victims' pictures as they are compared.
    #[must_use]
    pub fn victims(&self) -> &[Image] {
        &self.victims
    }

    /// The guesses that ignore them.
    #[must_use]
    pub const fn guesses(&self) -> &Guesses {
        &self.guesses
    }

    /// Learns on the attacker's rows, decodes the victims', measures.
    ///
    /// # Errors
    /// Rows of different lengths or numbers.
    pub fn invert(&self, seen: &Seen) -> Result<Inverted> {
        let decoder = Decoder::fit(&self.components, &seen.own)?;
        let images = decoder.decode(&seen.victims)?;
        let rows: Vec<Vec<f32>> = trial(self.own.len()).map(|row| seen.own[row].clone()).collect();
        let tried = decoder.decode(&rows)?;
        let own: Vec<&Image> = trial(self.own.len()).map(|row| &self.own[row]).collect();
        let tried: Vec<&Image> = tried.iter().collect();
        let tried = scores(&own, &tried, &self.own_baselines, self.lpips, self.seed)?;
        let victims: Vec<&Image> = self.victims.iter().collect();
        let found: Vec<&Image> = images.iter().collect();
        let scores = scores(&victims, &found, &self.baselines, self.lpips, self.seed)?;
        let mut scores = after_trial(scores, &tried);
        scores.extend(self.matched(&images)?);
        let hits = reidentified(&seen.own, &seen.victims, &seen.candidates)?;
        scores.insert("reid_candidates".into(), against_chance(&hits, self.seed)?);
        Ok(Inverted { scores, images, explained: decoder.explained() })
    }

    /// How well reconstructions find their own picture among all victims'.
    fn matched(&self, images: &[Image]) -> Result<[(String, Score); 2]> {
        let mut hits = Vec::new();
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (at, image) in images.iter().enumerate() {
            let close: Vec<f64> =
                self.victims.iter().map(|victim| psnr(image, victim)).collect::<Result<_>>()?;
            hits.push(nearest(at, close.len(), |other| -close[other]));
            for (other, &close) in close.iter().enumerate() {
                if other == at { own.push(close) } else { others.push(close) }
            }
        }
        Ok([
            ("reid".to_owned(), against_chance(&hits, self.seed)?),
            ("auc".to_owned(), auc(&own, &others, self.seed)?),
        ])
    }

    /// The row of an inversion.
    #[must_use]
    pub fn finding(
        &self,
        (attack, what, party, protection): (Attack, &str, &str, &str),
        inverted: &Inverted,
    ) -> Finding {
        let mut finding = Finding::new(attack, what, party, protection, self.seed)
            .parameter("decoder", "kernel ridge")
            .parameter("own_images", self.own.len())
            .parameter("explained", inverted.explained);
        finding.victims = self.victims.len();
        finding.scores = inverted.scores.clone();
        let gain = |name: &str| finding.scores.get(name).map_or(0.0, |score| score.advantage);
        let text = format!(
            "The decoder explains {:.1} % of the variance of pictures it was not fitted on; {:+.2} dB over guessing.",
            100.0 * inverted.explained,
            gain("psnr"),
        );
        // Closed form: there is nothing that could fail to converge.
        finding.judged(true, &text)
    }
}

/// The attacker's pictures on which it compares its decoder with guessing: none that were fitted on.
fn trial(count: usize) -> impl Iterator<Item = usize> {
    held_out(count).take(TRIAL)
}

/// Hits among n against the 1 in n of chance.
fn against_chance(hits: &[f64], seed: u64) -> Result<Score> {
    paired(hits, &vec![1.0 / hits.len() as f64; hits.len()], Better::Higher, seed)
}
