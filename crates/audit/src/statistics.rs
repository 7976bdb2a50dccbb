//! Scores with their baseline and a bootstrap interval of the advantage.

use crate::{Error, Random, Result, Score};

/// Resamples behind an interval.
pub const RESAMPLES: usize = 2000;

/// Which way a score points for the attacker.
///
/// See the example of [`Score`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// PSNR, SSIM, NMI, AUC, accuracies.
    Higher,
    /// LPIPS, errors.
    Lower,
}

/// The score of paired values: `values[i]` of the attack and `baselines[i]` of the best guess that ignores the
/// victim, both on victim i. The interval is the percentile bootstrap (2.5 %, 97.5 %) of the mean difference over
/// victims drawn with replacement; of one victim it is the difference itself.
///
/// # Errors
/// No victims, different numbers of them, or a value that is not a number.
pub fn paired(values: &[f64], baselines: &[f64], better: Better, seed: u64) -> Result<Score> {
    if values.is_empty() || values.len() != baselines.len() {
        let reason = format!("{} values and {} baselines", values.len(), baselines.len());
        return Err(Error::invalid("score", reason));
    }
    if values.iter().chain(baselines).any(|value| value.is_nan()) {
        return Err(Error::invalid("score", "a value that is not a number"));
    }
    let sign = if better == Better::Higher { 1.0 } else { -1.0 };
    let gains: Vec<f64> = values.iter().zip(baselines).map(|(value, base)| sign * (value - base)).collect();
    Ok(Score {
        value: mean(values),
        baseline: mean(baselines),
        advantage: mean(&gains),
        interval_95: bootstrap(gains.len(), seed, |rows| {
            rows.iter().map(|&row| gains[row]).sum::<f64>() / rows.len() as f64
        }),
    })
}

/// The 95 % percentile interval of `statistic` over resamples of `0..units` with replacement. Resamples in which it
/// is not a number are left out.
pub fn bootstrap(units: usize, seed: u64, mut statistic: impl FnMut(&[usize]) -> f64) -> [f64; 2] {
    let mut random = Random::new("arras/1 audit bootstrap", &[seed]);
    let mut rows = vec![0; units];
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            rows.fill_with(|| random.below(units));
            statistic(&rows)
        })
        .filter(|value| !value.is_nan())
        .collect();
    values.sort_by(f64::total_cmp);
    [quantile(&values, 0.025), quantile(&values, 0.975)]
}

/// The area under the ROC curve: the probability that a positive's score exceeds a negative's, equal ones counting
/// one half (Mann-Whitney). Its baseline is 0.5; the interval resamples positives and negatives apart.
///
/// # Errors
/// No positives, no negatives, or a score that is not a number.
pub fn auc(positives: &[f64], negatives: &[f64], seed: u64) -> Result<Score> {
    if positives.is_empty() || negatives.is_empty() {
        return Err(Error::invalid("AUC", "needs positives and negatives"));
    }
    if positives.iter().chain(negatives).any(|score| score.is_nan()) {
        return Err(Error::invalid("AUC", "a score that is not a number"));
    }
    let value = area(positives, negatives);
    let mut random = Random::new("arras/1 audit bootstrap", &[seed]);
    let mut resample = |scores: &[f64]| -> Vec<f64> {
        (0..scores.len()).map(|_| scores[random.below(scores.len())]).collect()
    };
    let mut values: Vec<f64> =
        (0..RESAMPLES).map(|_| area(&resample(positives), &resample(negatives)) - 0.5).collect();
    values.sort_by(f64::total_cmp);
    let interval_95 = [quantile(&values, 0.025), quantile(&values, 0.975)];
    Ok(Score { value, baseline: 0.5, advantage: value - 0.5, interval_95 })
}

/// Mann-Whitney by ranks.
fn area(positives: &[f64], negatives: &[f64]) -> f64 {
    let mut sorted = negatives.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below = |score: f64| {
        let less = sorted.partition_point(|&other| other < score);
        let equal = sorted.partition_point(|&other| other <= score) - less;
        less as f64 + 0.5 * equal as f64
    };
    let wins: f64 = positives.iter().map(|&score| below(score)).sum();
    wins / (positives.len() * negatives.len()) as f64
}

/// The mean; not a number for no values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The `share`-quantile of sorted values by linear interpolation; not a number for none.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let (low, part) = (position.floor() as usize, position.fract());
    match sorted.get(low + 1) {
        // Equal infinities have no difference.
        Some(&high) if part > 0.0 && high != sorted[low] => sorted[low] + part * (high - sorted[low]),
        _ => sorted[low],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_point_to_the_attacker() -> Result<()> {
        let higher = paired(&[3.0, 5.0], &[1.0, 2.0], Better::Higher, 1)?;
        assert_eq!((higher.value, higher.baseline, higher.advantage), (4.0, 1.5, 2.5));
        assert_eq!(higher.interval_95, [2.0, 3.0]);
        assert!(higher.gains());
        assert!(!paired(&[3.0, 5.0], &[1.0, 2.0], Better::Lower, 1)?.gains());
        assert!(paired(&[1.0], &[], Better::Lower, 1).is_err());
        assert!(paired(&[f64::NAN], &[1.0], Better::Lower, 1).is_err());
        Ok(())
    }

    #[test]
    fn intervals_cover_as_often_as_they_say() -> Result<()> {
        let covers = |seed: u64| {
            let mut random = Random::new("coverage", &[seed]);
            let values: Vec<f64> = (0..60).map(|_| 0.3 + random.normal()).collect();
            paired(&values, &[0.0; 60], Better::Higher, seed)
                .map(|score| score.interval_95[0] < 0.3 && score.interval_95[1] > 0.3)
        };
        let covered = (0..400).map(covers).collect::<Result<Vec<_>>>()?.into_iter().filter(|&c| c).count();
        assert!((364..=392).contains(&covered), "{covered} of 400");
        Ok(())
    }

    #[test]
    fn areas_match_pair_counting() -> Result<()> {
        let (positives, negatives) = ([0.1, 0.4, 0.4, 0.9], [0.4, 0.2, -1.0]);
        let pairs = positives.iter().flat_map(|p| negatives.iter().map(move |n| (p, n)));
        let wins: f64 = pairs
            .map(|(p, n)| {
                if p > n {
                    1.0
                } else if p == n {
                    0.5
                } else {
                    0.0
                }
            })
            .sum();
        assert_eq!(auc(&positives, &negatives, 1)?.value, wins / 12.0);
        assert!(auc(&[], &negatives, 1).is_err());
        Ok(())
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[f64::INFINITY; 2], 0.5), f64::INFINITY);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
