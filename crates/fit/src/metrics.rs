//! How good a classifier's scores are, with intervals.
//!
//! Definitions, for n rows with scores `s[i][c]` and true classes `t[i]`; the predicted class is the one with
//! the largest score, the first of equals:
//! - *confusion*: `confusion[t][p]` counts rows of class t predicted as p.
//! - *accuracy*: share of rows with p = t.
//! - *balanced accuracy*: mean over the classes that occur of the share of their rows with p = t.
//! - *AUC*: per class, the probability that a row of the class has a larger score for it than a row of another
//!   class, equal scores counting one half (the area under the ROC curve, Mann-Whitney); then the mean over the
//!   classes for which both kinds of rows occur. Computed on the scores as they are, as
//!   `sklearn.metrics.roc_auc_score(t == c, s[:, c])` per class and its mean.
//! - *calibration error*: expected calibration error of the softmax of the scores (Guo et al. 2017): rows are
//!   put into 15 bins of equal width (k/15, (k+1)/15] by their largest probability, and the distances between
//!   mean probability and accuracy of the bins are averaged, weighted by their rows. The scores of a ridge head
//!   are close to 0 and 1, so that their softmax is never sharp: expect large values, and compare only heads
//!   of one kind.
//!
//! Intervals are percentile bootstrap: groups are drawn with replacement, as many as there are (rows if there
//! are no groups), the metric is computed on the rows of the drawn groups, and the 2.5 % and 97.5 % quantiles
//! of the resamples in which it is defined are reported (linear interpolation).

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::random::Stream;

/// Number of bins of the calibration error.
pub const CALIBRATION_BINS: usize = 15;
/// Resamples that give stable 95 % limits.
pub const DEFAULT_RESAMPLES: usize = 1_000;
/// More resamples than this are refused.
pub const MAX_RESAMPLES: usize = 1_000_000;

/// Scores of rows whose classes are known.
///
/// ```
/// use arras_fit::metrics::{Predictions, evaluate};
///
/// // Four rows of two classes; the second row is wrong.
/// let scores = [0.9, 0.1, 0.4, 0.6, 0.2, 0.8, 0.3, 0.7];
/// let predictions = Predictions { scores: &scores, class_count: 2, labels: &[0, 0, 1, 1], groups: None };
/// let found = evaluate(&predictions, 100, 1)?;
/// assert_eq!(found.confusion, [[1, 1], [0, 2]]);
/// assert_eq!((found.accuracy.value, found.balanced_accuracy.value), (0.75, 0.75));
/// assert_eq!(found.auc.map(|auc| auc.value), Some(1.0));
/// assert!(found.accuracy.low <= 0.75 && 0.75 <= found.accuracy.high);
/// assert_eq!((found.bootstrap.units, found.bootstrap.by_group), (4, false));
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Predictions<'a> {
    /// `[n][C]`, row-major, finite.
    pub scores: &'a [f64],
    /// C, at least 1.
    pub class_count: usize,
    /// The true class of each row, below C.
    pub labels: &'a [usize],
    /// The group of each row, any numbers: rows of one group are drawn together.
    pub groups: Option<&'a [usize]>,
}

/// A number with its 95 % interval.
/// See the example of [`Predictions`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On all rows.
    pub value: f64,
    /// 2.5 % quantile of the resamples.
    pub low: f64,
    /// 97.5 % quantile of the resamples.
    pub high: f64,
}

/// What the intervals come from.
/// See the example of [`Predictions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Number of units drawn in each: groups, or rows.
    pub units: usize,
    /// Whether the units are groups.
    pub by_group: bool,
    /// The seed.
    pub seed: u64,
}

/// All metrics of this module. See there for the definitions.
/// See the example of [`Predictions`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// n.
    pub rows: usize,
    /// `[true][predicted]` counts.
    pub confusion: Vec<Vec<u64>>,
    /// Share of correct predictions.
    pub accuracy: Estimate,
    /// Mean share of correct predictions over the classes that occur.
    pub balanced_accuracy: Estimate,
    /// Mean one-versus-rest AUC; `None` if all rows are of one class.
    pub auc: Option<Estimate>,
    /// Expected calibration error of the softmax of the scores.
    pub calibration_error: Estimate,
    /// What the intervals come from.
    pub bootstrap: Bootstrap,
}

/// The index of the largest score, the first of equals; 0 for no scores.
#[must_use]
pub fn argmax<T: PartialOrd>(scores: &[T]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

/// The distance between the largest and the second largest score; infinite for a single one.
#[must_use]
pub fn margin(scores: &[f64]) -> f64 {
    let best = argmax(scores);
    let others = scores.iter().enumerate().filter(|&(index, _)| index != best);
    scores.get(best).copied().unwrap_or(f64::NAN)
        - others.map(|(_, &score)| score).fold(f64::NEG_INFINITY, f64::max)
}

/// Computes every metric with intervals from `resamples` bootstrap resamples (0 for none: the interval is then
/// the value itself). Reproducible: the resamples depend on `seed` and the number of units alone.
///
/// # Errors
/// No rows, lengths that do not fit, scores that are not finite, labels beyond C, too many resamples.
pub fn evaluate(predictions: &Predictions<'_>, resamples: usize, seed: u64) -> Result<Evaluation, Error> {
    predictions.check(resamples)?;
    let rows = Rows::new(predictions);
    let units = predictions.units();
    let all = rows.measure(&vec![1; predictions.labels.len()]);

    let mut resampled: [Vec<f64>; 4] = Default::default();
    let mut weights = vec![0; predictions.labels.len()];
    let mut stream = Stream::new("arras/1 bootstrap", &[seed]);
    for _ in 0..resamples {
        weights.fill(0);
        for _ in 0..units.len() {
            let drawn = stream.below(units.len() as u64) as usize;
            units[drawn].iter().for_each(|&row| weights[row] += 1);
        }
        let measured = rows.measure(&weights);
        let values =
            [Some(measured.accuracy), Some(measured.balanced), measured.auc, Some(measured.calibration)];
        resampled.iter_mut().zip(values).for_each(|(values, value)| values.extend(value));
    }
    let [accuracy, balanced, auc, calibration] = resampled;
    Ok(Evaluation {
        rows: predictions.labels.len(),
        confusion: rows.confusion(),
        accuracy: Estimate::new(all.accuracy, accuracy),
        balanced_accuracy: Estimate::new(all.balanced, balanced),
        auc: all.auc.map(|value| Estimate::new(value, auc)),
        calibration_error: Estimate::new(all.calibration, calibration),
        bootstrap: Bootstrap { resamples, units: units.len(), by_group: predictions.groups.is_some(), seed },
    })
}

impl Predictions<'_> {
    fn check(&self, resamples: usize) -> Result<(), Error> {
        let rows = self.labels.len();
        if rows == 0 || self.class_count == 0 || Some(self.scores.len()) != rows.checked_mul(self.class_count)
        {
            let reason =
                format!("{} values for {rows} rows of {} classes", self.scores.len(), self.class_count);
            return Err(Error::invalid("scores", reason));
        }
        if let Some(index) = self.scores.iter().position(|score| !score.is_finite()) {
            let (row, class) = (index / self.class_count, index % self.class_count);
            return Err(Error::invalid("scores", format!("row {row}, class {class} is not finite")));
        }
        if let Some(row) = self.labels.iter().position(|&label| label >= self.class_count) {
            let reason = format!("row {row} is {}, not below {}", self.labels[row], self.class_count);
            return Err(Error::invalid("labels", reason));
        }
        if let Some(groups) = self.groups.filter(|groups| groups.len() != rows) {
            return Err(Error::invalid("groups", format!("{} entries for {rows} rows", groups.len())));
        }
        if resamples > MAX_RESAMPLES {
            return Err(Error::invalid("resamples", format!("{resamples}, at most {MAX_RESAMPLES}")));
        }
        Ok(())
    }

    /// The rows that are drawn together.
    fn units(&self) -> Vec<Vec<usize>> {
        let Some(groups) = self.groups else { return (0..self.labels.len()).map(|row| vec![row]).collect() };
        let mut units = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        for (row, &group) in groups.iter().enumerate() {
            units.entry(group).or_default().push(row);
        }
        units.into_values().collect()
    }
}

impl Estimate {
    fn new(value: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| {
            let Some(last) = resampled.len().checked_sub(1) else { return value };
            let position = share * last as f64;
            let (low, high) = (resampled[position.floor() as usize], resampled[position.ceil() as usize]);
            low + (high - low) * position.fract()
        };
        Estimate { value, low: quantile(0.025), high: quantile(0.975) }
    }
}

/// One value of each metric.
struct Measured {
    accuracy: f64,
    balanced: f64,
    auc: Option<f64>,
    calibration: f64,
}

/// What the metrics need of each row, computed once: a resample is only a multiplicity per row.
struct Rows<'a> {
    labels: &'a [usize],
    class_count: usize,
    predicted: Vec<usize>,
    confidence: Vec<f64>,
    /// Per class, the rows by ascending score, in runs of equal scores.
    ascending: Vec<Vec<Vec<usize>>>,
}

impl<'a> Rows<'a> {
    fn new(predictions: &Predictions<'a>) -> Self {
        let class_count = predictions.class_count;
        let of_rows = || predictions.scores.chunks_exact(class_count);
        let score = |row: usize, class: usize| predictions.scores[row * class_count + class];
        let ascending = |class: usize| {
            let mut order: Vec<usize> = (0..predictions.labels.len()).collect();
            order.sort_unstable_by(|&a, &b| score(a, class).total_cmp(&score(b, class)));
            order.chunk_by(|&a, &b| score(a, class) == score(b, class)).map(<[usize]>::to_vec).collect()
        };
        Rows {
            labels: predictions.labels,
            class_count,
            predicted: of_rows().map(argmax).collect(),
            confidence: of_rows().map(largest_probability).collect(),
            ascending: (0..class_count).map(ascending).collect(),
        }
    }

    fn confusion(&self) -> Vec<Vec<u64>> {
        let mut confusion = vec![vec![0; self.class_count]; self.class_count];
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            confusion[label][predicted] += 1;
        }
        confusion
    }

    fn measure(&self, weights: &[u64]) -> Measured {
        let mut totals = vec![0_u64; self.class_count];
        let mut hits = vec![0_u64; self.class_count];
        for ((&label, &predicted), &weight) in self.labels.iter().zip(&self.predicted).zip(weights) {
            totals[label] += weight;
            hits[label] += weight * u64::from(label == predicted);
        }
        let share = |hits: u64, total: u64| hits as f64 / total as f64;
        let occurring = totals.iter().zip(&hits).filter(|&(&total, _)| total > 0);
        Measured {
            accuracy: share(hits.iter().sum(), totals.iter().sum()),
            balanced: mean(occurring.map(|(&total, &hits)| share(hits, total))).unwrap_or(f64::NAN),
            auc: mean((0..self.class_count).filter_map(|class| self.auc(class, weights))),
            calibration: self.calibration_error(weights),
        }
    }

    /// Mann-Whitney: the share of pairs (row of the class, other row) in the right order.
    fn auc(&self, class: usize, weights: &[u64]) -> Option<f64> {
        let (mut below, mut positives, mut pairs) = (0_u64, 0_u64, 0.0);
        for run in &self.ascending[class] {
            let (mut inside, mut outside) = (0, 0);
            for &row in run {
                let count = if self.labels[row] == class { &mut inside } else { &mut outside };
                *count += weights[row];
            }
            pairs += inside as f64 * (below as f64 + 0.5 * outside as f64);
            below += outside;
            positives += inside;
        }
        (positives > 0 && below > 0).then(|| pairs / (positives as f64 * below as f64))
    }

    fn calibration_error(&self, weights: &[u64]) -> f64 {
        let mut gaps = [0.0; CALIBRATION_BINS];
        let mut total = 0_u64;
        for (row, &weight) in weights.iter().enumerate() {
            let upper = (self.confidence[row] * CALIBRATION_BINS as f64).ceil() as usize;
            let hit = f64::from(u8::from(self.labels[row] == self.predicted[row]));
            gaps[upper.clamp(1, CALIBRATION_BINS) - 1] += weight as f64 * (self.confidence[row] - hit);
            total += weight;
        }
        gaps.iter().map(|gap| gap.abs()).sum::<f64>() / total as f64
    }
}

/// The largest softmax probability: one over the sum of `exp(score - largest score)`.
fn largest_probability(scores: &[f64]) -> f64 {
    let largest = scores[argmax(scores)];
    1.0 / scores.iter().map(|score| (score - largest).exp()).sum::<f64>()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests;
