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
///
/// ```
/// use arras_audit::Image;
/// use arras_audit::quality::{Guesses, scores};
///
/// let ramp = |from: f32| Image::new(1, 16, 16, (0..256).map(|at| from + at as f32 / 510.0).collect());
/// let (own, victim) = ([ramp(0.0)?, ramp(0.2)?], ramp(0.4)?);
/// let guesses = Guesses::new(&own, None)?;
/// assert!((guesses.mean().values()[0] - 0.1).abs() < 1e-6);
/// let baselines = guesses.baselines(&[&victim], None)?;
/// let found = scores(&[&victim], &[&ramp(0.3)?], &baselines, None, 1)?;
/// // Off by 0.1 instead of 0.3.
/// assert!((found["psnr"].value - 20.0).abs() < 1e-3 && found["psnr"].advantage > 9.0);
/// # Ok::<(), arras_audit::Error>(())
/// ```
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

    /// What the best guess reaches on each of some originals.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn baselines(&self, originals: &[&Image], lpips: Option<&Lpips>) -> Result<Baselines> {
        let of = |original: &&Image| {
            let found = self.candidates.iter().map(|guess| Similarity::of(original, guess, lpips));
            let found = found.collect::<Result<Vec<_>>>()?;
            Ok(std::array::from_fn(|metric| METRICS[metric].2(&found[self.best[metric]])))
        };
        Ok(Baselines(originals.iter().map(of).collect::<Result<_>>()?))
    }
}

/// The value of every metric of the best guess, for each original.
/// See the example of [`Guesses`].
#[derive(Clone, Debug)]
pub struct Baselines(Vec<[Option<f64>; METRICS.len()]>);

/// Scores of reconstructions, by the names of [`crate::metrics`].
///
/// # Errors
/// No originals, lists of different lengths, or shapes that differ.
pub fn scores(
    originals: &[&Image],
    reconstructions: &[&Image],
    baselines: &Baselines,
    lpips: Option<&Lpips>,
    seed: u64,
) -> Result<BTreeMap<String, Score>> {
    if originals.len() != reconstructions.len() || originals.len() != baselines.0.len() {
        return Err(Error::invalid("reconstructions", "not as many as originals"));
    }
    let mut columns: [(Vec<f64>, Vec<f64>); METRICS.len()] = Default::default();
    for ((original, reconstruction), baseline) in originals.iter().zip(reconstructions).zip(&baselines.0) {
        let found = Similarity::of(original, reconstruction, lpips)?;
        for ((column, (_, _, value)), baseline) in columns.iter_mut().zip(&METRICS).zip(baseline) {
            column.0.extend(value(&found));
            column.1.extend(*baseline);
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

/// Scores of an attacker that has tried its reconstructions on pictures of its own and shows the best guess instead in
/// every metric in which it did not gain there.
#[must_use]
pub fn after_trial(
    mut scores: BTreeMap<String, Score>,
    trial: &BTreeMap<String, Score>,
) -> BTreeMap<String, Score> {
    for (name, score) in &mut scores {
        if trial.get(name).is_some_and(|tried| tried.advantage <= 0.0) {
            *score = Score {
                value: score.baseline,
                baseline: score.baseline,
                advantage: 0.0,
                interval_95: [0.0; 2],
            };
        }
    }
    scores
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
        let baselines = guesses.baselines(&victims, None)?;
        let perfect = scores(&victims, &victims, &baselines, None, 1)?;
        assert!(perfect.values().all(Score::gains), "{perfect:?}");
        assert!(!perfect.contains_key("lpips"));
        assert_eq!(perfect["psnr"].value, PSNR_LIMIT);
        let blind = scores(&victims, &[guesses.mean(); 10], &baselines, None, 1)?;
        assert!(!blind.values().any(Score::gains), "{blind:?}");
        assert!(scores(&victims[1..], &victims[1..], &baselines, None, 1).is_err());
        Ok(())
    }

    #[test]
    fn who_fails_on_pictures_of_its_own_guesses() -> Result<()> {
        let own: Vec<Image> = (0..20).map(|seed| noise(seed, 0.5)).collect();
        let guesses = Guesses::new(&own, None)?;
        let (own, black) = (own.iter().collect::<Vec<_>>(), Image::new(3, 16, 16, vec![0.0; 768])?);
        let trial = scores(&own, &[&black; 20], &guesses.baselines(&own, None)?, None, 1)?;
        let guessed = after_trial(trial.clone(), &trial);
        assert!(trial["psnr"].advantage < 0.0);
        assert_eq!((guessed["psnr"].advantage, guessed["psnr"].value), (0.0, trial["psnr"].baseline));
        Ok(())
    }
}
