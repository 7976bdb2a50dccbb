//! Quantiles, and intervals by the bootstrap.

use serde::{Deserialize, Serialize};

use crate::random::SplitMix;

/// How often the bootstrap resamples. The ends of a 99 % interval then rest on 20 resamples each.
const RESAMPLES: usize = 4000;

/// What samples amount to. Quantiles interpolate linearly between order statistics.
///
/// ```
/// use arras_measure::stats::Summary;
///
/// let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0, 100.0]);
/// assert_eq!((summary.median, summary.spread), (3.0, (4.0 - 2.0) / 3.0));
/// assert!((summary.p95 - 80.8).abs() < 1e-9);
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// Interquartile range over median.
    pub spread: f64,
}

impl Summary {
    /// Summarises samples; zeros if there are none.
    pub fn of(samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        let median = quantile(&sorted, 0.5);
        let range = quantile(&sorted, 0.75) - quantile(&sorted, 0.25);
        Self { median, p95: quantile(&sorted, 0.95), spread: if median > 0.0 { range / median } else { 0.0 } }
    }

    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
        close(self.median, other.median) && close(self.p95, other.p95) && close(self.spread, other.spread)
    }
}

/// The samples in ascending order.
pub fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The quantile at `share` of samples in ascending order; 0 if there are none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(0.0);
    at(place.floor()) + place.fract() * (at(place.ceil()) - at(place.floor()))
}

/// The median; 0 if there are no samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(&sorted(samples), 0.5)
}

/// Where a number lies.
///
/// ```
/// use arras_measure::stats::{median_interval, sign_interval};
///
/// let samples: Vec<f64> = (1..=101).map(f64::from).collect();
/// for found in [median_interval(&samples, 0.99), sign_interval(&samples, 0.99)] {
///     assert_eq!(found.value, 51.0);
///     assert!(30.0 < found.low && found.low < 51.0 && 51.0 < found.high && found.high < 72.0);
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The best guess.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The median of samples, with the percentile interval of the bootstrap (Efron 1979).
pub fn median_interval(samples: &[f64], confidence: f64) -> Interval {
    let resamples = resample(confidence, |rng| redrawn(samples, 0.5, 1, rng));
    Interval { value: median(samples), ..resamples }
}

/// The ratio of two lower quartiles, `b` over `a`, with the percentile interval of the bootstrap; the two are resampled
/// independently, in runs of so many successive samples (Künsch 1989), as neighbours are disturbed together. The same samples
/// give the same interval.
pub fn ratio_interval(a: &[f64], b: &[f64], run: usize, confidence: f64) -> Interval {
    const SHARE: f64 = 0.25;
    let resamples = resample(confidence, |rng| redrawn(b, SHARE, run, rng) / redrawn(a, SHARE, run, rng));
    Interval { value: quantile(&sorted(b), SHARE) / quantile(&sorted(a), SHARE), ..resamples }
}

/// The median of samples with the interval of the sign test: exact whatever the distribution. With too few samples for the
/// confidence it is all that they span.
pub fn sign_interval(samples: &[f64], confidence: f64) -> Interval {
    let sorted = sorted(samples);
    let count = sorted.len();
    // The probability that fewer than k of all samples lie below the median.
    let (mut below, mut term, mut k) = (0.0, 0.5f64.powi(count as i32), 0);
    while k < count / 2 && 2.0 * (below + term) <= 1.0 - confidence {
        below += term;
        term *= (count - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    // The k-th samples from either end, counted from 1; all of them if even the outermost pair leaves more to chance.
    let outer = k.saturating_sub(1);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    Interval { value: quantile(&sorted, 0.5), low: at(outer), high: at(count.saturating_sub(1 + outer)) }
}

fn resample(confidence: f64, mut statistic: impl FnMut(&mut SplitMix) -> f64) -> Interval {
    let mut rng = SplitMix(0x6172_7261_7321);
    let mut values: Vec<f64> = (0..RESAMPLES).map(|_| statistic(&mut rng)).collect();
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Interval { value: 0.0, low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
}

/// A quantile of as many samples, drawn with replacement in runs of so many successive ones; the first follows the last.
fn redrawn(samples: &[f64], share: f64, run: usize, rng: &mut SplitMix) -> f64 {
    let count = samples.len();
    let mut drawn = Vec::with_capacity(count + run);
    while drawn.len() < count {
        let start = rng.below(count as u64) as usize;
        drawn.extend(samples.iter().cycle().skip(start).take(run.max(1)));
    }
    drawn.truncate(count);
    drawn.sort_by(f64::total_cmp);
    quantile(&drawn, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let summary = Summary::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!((summary.median, summary.p95), (3.0, 4.8));
        assert!((summary.spread - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(Summary::of(&[7.0]), Summary { median: 7.0, p95: 7.0, spread: 0.0 });
        assert_eq!(Summary::of(&[]).median, 0.0);
    }

    /// The interval of the median of n samples covers the true median about as often as it says.
    #[test]
    fn intervals_cover() {
        let mut rng = SplitMix(7);
        let mut draw = |count: usize| -> Vec<f64> {
            (0..count).map(|_| 100.0 + (0..12).map(|_| rng.unit()).sum::<f64>()).collect()
        };
        let trials = 200;
        let covered = (0..trials)
            .filter(|_| {
                let interval = median_interval(&draw(31), 0.95);
                interval.low <= 100.0 && 100.0 <= interval.high
            })
            .count();
        assert!(covered * 100 >= trials * 88, "{covered} of {trials}");
        let slower: Vec<f64> = draw(40).iter().map(|x| 1.1 * x).collect();
        let ratio = ratio_interval(&draw(40), &slower, 1, 0.99);
        assert!(ratio.low < 1.1 && 1.1 < ratio.high && ratio.low > 1.05, "{ratio:?}");
    }

    /// Of 8 samples all lie on one side of the median in 2 of 256 cases; of 12, at most one does in 26 of 4096.
    #[test]
    fn the_sign_test_is_exact() {
        let numbers = |count: u32| (1..=count).map(f64::from).collect::<Vec<_>>();
        let ends = |count, confidence| {
            let interval = sign_interval(&numbers(count), confidence);
            (interval.low, interval.high)
        };
        assert_eq!(ends(8, 0.99), (1.0, 8.0));
        assert_eq!(ends(12, 0.99), (2.0, 11.0));
        assert_eq!(ends(5, 0.99), (1.0, 5.0));
        assert_eq!(sign_interval(&numbers(9), 0.9).value, 5.0);
    }

    /// Samples that drift have a wider interval when neighbours are drawn together.
    #[test]
    fn neighbours_are_drawn_together() {
        let drifting: Vec<f64> = (0..40).map(|i| 100.0 + 5.0 * f64::from(i % 20)).collect();
        let steady = vec![150.0; 40];
        let width = |run| {
            let interval = ratio_interval(&steady, &drifting, run, 0.99);
            interval.high - interval.low
        };
        assert!(width(8) > 1.3 * width(1), "{} and {}", width(8), width(1));
    }
}
