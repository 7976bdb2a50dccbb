//! Reconstructions against originals, beside guesses that ignore the victim.

use std::collections::BTreeMap;

use crate::metrics::{Lpips, Similarity};
use crate::statistics::{Better, paired};
use crate::{Error, Image, Result, Score};

/// Pictures of the attacker that candidates are compared on, at most.
const JUDGED: usize = 24;
/// Reported for equal pictures, whose PSNR is infinite; single precision ends near 150 dB.
pub const PSNR_LIMIT: f64 = 150.0;

/// Name, direction and value of each metric.
type Metric = (&'static str, Better, fn(&Similarity) -> Option<f64>);

const METRICS: [Metric; 6] = [
    ("psnr", Better::Higher, |s| Some(s.psnr.min(PSNR_LIMIT))),
    ("ssim_uniform", Better::Higher, |s| Some(s.ssim_uniform)),
    ("ssim_gaussian", Better::Higher, |s| Some(s.ssim_gaussian)),
    ("nmi_1_2", Better::Higher, |s| Some(s.nmi_1_2)),
    ("nmi_0_1", Better::Higher, |s| Some(s.nmi_0_1)),
    ("lpips", Better::Lower, |s| s.lpips),
];

/// The best guesses that ignore the victim, made of pictures that the attacker has.
///
/// Which picture is best depends on the metric: the mean picture has the best PSNR of all, and a bad LPIPS. Candidates
/// are the mean picture, a plane of its mean colour, and the attacker's picture that is closest to the mean; of these,
/// each metric takes the one that does best on the attacker's own pictures.
#[derive(Clone, Debug)]
pub struct Guesses {
    candidates: Vec<Image>,
    /// Index of the best candidate for each of [`METRICS`].
    best: [usize; METRICS.len()],
}

impl Guesses {
    /// Guesses from the attacker's pictures.
    ///
    /// # Errors
    /// No pictures, or shapes that differ.
    pub fn new(pictures: &[Image], lpips: Option<&Lpips>) -> Result<Self> {
        let mean = Image::mean(pictures)?;
        let candidates = vec![mean.clone(), plane(&mean)?, closest(pictures, &mean)?];
        let mut sums = vec![[0.0; METRICS.len()]; candidates.len()];
        for picture in pictures.iter().take(JUDGED) {
            // A candidate is never judged on itself.
            if *picture == candidates[2] {
                continue;
            }
            for (candidate, sums) in candidates.iter().zip(&mut sums) {
                let found = Similarity::of(picture, candidate, lpips)?;
                for (sum, (_, better, value)) in sums.iter_mut().zip(&METRICS) {
                    let sign = if *better == Better::Higher { 1.0 } else { -1.0 };
                    *sum += sign * value(&found).unwrap_or(0.0);
                }
            }
        }
        let best = std::array::from_fn(|metric| {
            (1..candidates.len())
                .fold(0, |best, other| if sums[other][metric] > sums[best][metric] { other } else { best })
        });
        Ok(Self { candidates, best })
    }

    /// The mean picture, which the report shows.
    #[must_use]
    pub fn mean(&self) -> &Image {
        &self.candidates[0]
    }

    /// Scores of reconstructions, by the names of [`crate::metrics`].
    ///
    /// An attacker that has tried its reconstructions on pictures of its own, `trial` (originals, reconstructions), shows
    /// the best guess instead in every metric in which it did not gain there.
    ///
    /// # Errors
    /// No victims, lists of different lengths, or shapes that differ.
    pub fn scores(
        &self,
        originals: &[&Image],
        reconstructions: &[&Image],
        trial: Option<(&[&Image], &[&Image])>,
        lpips: Option<&Lpips>,
        seed: u64,
    ) -> Result<BTreeMap<String, Score>> {
        let mut scores = self.compared(originals, reconstructions, lpips, seed)?;
        if let Some((own, tried)) = trial {
            let tried = self.compared(own, tried, lpips, seed)?;
            for (name, score) in &mut scores {
                if tried.get(name).is_some_and(|tried| tried.advantage <= 0.0) {
                    *score = Score {
                        value: score.baseline,
                        baseline: score.baseline,
                        advantage: 0.0,
                        interval_95: [0.0; 2],
                    };
                }
            }
        }
        Ok(scores)
    }

    fn compared(
        &self,
        originals: &[&Image],
        reconstructions: &[&Image],
        lpips: Option<&Lpips>,
        seed: u64,
    ) -> Result<BTreeMap<String, Score>> {
        if originals.len() != reconstructions.len() {
            return Err(Error::invalid("reconstructions", "not as many as originals"));
        }
        let mut columns: [(Vec<f64>, Vec<f64>); METRICS.len()] = Default::default();
        for (original, reconstruction) in originals.iter().zip(reconstructions) {
            let found = Similarity::of(original, reconstruction, lpips)?;
            let guesses = self.candidates.iter().map(|guess| Similarity::of(original, guess, lpips));
            let guesses = guesses.collect::<Result<Vec<_>>>()?;
            for ((column, (_, _, value)), &best) in columns.iter_mut().zip(&METRICS).zip(&self.best) {
                column.0.extend(value(&found));
                column.1.extend(value(&guesses[best]));
            }
        }
        let mut scores = BTreeMap::new();
        for ((values, baselines), (name, better, _)) in columns.into_iter().zip(METRICS) {
            if !values.is_empty() {
                scores.insert(name.to_owned(), paired(&values, &baselines, better, seed)?);
            }
        }
        Ok(scores)
    }
}

/// A picture of one colour, the mean of another.
fn plane(picture: &Image) -> Result<Image> {
    let [channels, height, width] = picture.shape();
    let area = height * width;
    let colour = |values: &[f32]| values.iter().sum::<f32>() / area as f32;
    let values = picture.values().chunks_exact(area).flat_map(|values| vec![colour(values); area]).collect();
    Image::new(channels, height, width, values)
}

fn closest(pictures: &[Image], mean: &Image) -> Result<Image> {
    let mut best = (f64::NEG_INFINITY, mean);
    for picture in pictures {
        let psnr = crate::metrics::psnr(picture, mean)?;
        if psnr > best.0 {
            best = (psnr, picture);
        }
    }
    Ok(best.1.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn noise(seed: u64, around: f32) -> Image {
        let values = Random::new("test", &[seed]).normals(3 * 16 * 16, 0.1);
        Image::new(3, 16, 16, values.iter().map(|v| v + around).collect()).unwrap()
    }

    #[test]
    fn originals_gain_and_the_mean_gains_nothing() -> Result<()> {
        let own: Vec<Image> = (0..20).map(|seed| noise(seed, 0.5)).collect();
        let guesses = Guesses::new(&own, None)?;
        let victims: Vec<Image> = (100..110).map(|seed| noise(seed, 0.5)).collect();
        let victims: Vec<&Image> = victims.iter().collect();
        let perfect = guesses.scores(&victims, &victims, None, None, 1)?;
        assert!(perfect.values().all(Score::gains), "{perfect:?}");
        assert!(!perfect.contains_key("lpips"));
        let blind = guesses.scores(&victims, &[guesses.mean(); 10], None, None, 1)?;
        assert!(!blind.values().any(Score::gains), "{blind:?}");
        assert_eq!(perfect["psnr"].value, PSNR_LIMIT);
        // Who fails on pictures of its own guesses.
        let own: Vec<&Image> = own.iter().collect();
        let black = Image::new(3, 16, 16, vec![0.0; 768])?;
        let trial = (&own[..], &[&black; 20][..]);
        let guessed = guesses.scores(&victims, &[&black; 10], Some(trial), None, 1)?;
        assert_eq!((guessed["psnr"].advantage, guessed["psnr"].value), (0.0, guessed["psnr"].baseline));
        Ok(())
    }
}
