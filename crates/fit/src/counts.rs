//! Metrics from counts alone: what clients send so that somebody who sees no row can judge a head.
//!
//! For a head with C classes and B bins the counts are, in this order: `[true][predicted]` rows; then for each class the histogram
//! of its score over the rows of other classes, and over its own. Bins are of equal width over `[-0.5, 1.5)`, where ridge scores
//! of one-hot targets lie; scores beyond it count in the first or last bin. Counts add up over clients.

use crate::Error;
use crate::metrics::argmax;

/// The scores that bins cover.
const RANGE: (f64, f64) = (-0.5, 1.5);

/// Counts of one head.
///
/// Two clients count on their own rows; the counts of all rows are the sum:
///
/// ```
/// use arras_fit::counts::Counts;
///
/// // Scores of two rows and two classes each.
/// let first = Counts::of(&[0.9, 0.1, 0.2, 0.8], &[0, 1], 2, 10)?;
/// let second = Counts::of(&[0.75, 0.25, 0.55, 0.45], &[0, 1], 2, 10)?;
/// let sum: Vec<i64> = first.integers().iter().zip(second.integers()).map(|(a, b)| a + b).collect();
/// let quality = Counts::from_integers(&sum, 2, 10)?.quality();
/// assert_eq!((quality.rows, quality.accuracy), (4.0, 0.75));
/// assert_eq!(quality.auc, Some(1.0));
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    class_count: usize,
    bins: usize,
    values: Vec<i64>,
}

/// What the counts tell.
/// See the example of [`Counts`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Rows counted.
    pub rows: f64,
    /// Share of correct predictions.
    pub accuracy: f64,
    /// Mean share of correct predictions over the classes that occur.
    pub balanced_accuracy: f64,
    /// Mean one-versus-rest AUC; rows of one bin count as ties. `None` if all rows are of one class.
    pub auc: Option<f64>,
    /// Distance of a class's score, clipped to 0..1, from the share of rows of that class, averaged over bins by their rows and
    /// over classes.
    pub calibration_error: f64,
}

/// Number of integers in the counts of one head.
#[must_use]
pub const fn len(class_count: usize, bins: usize) -> usize {
    class_count * class_count + 2 * class_count * bins
}

impl Counts {
    /// Counts `[n][C]` scores of rows whose classes are known, in histograms of `bins` bins, at least 1.
    ///
    /// # Errors
    /// Lengths that do not fit, a class beyond C, scores that are not finite.
    pub fn of(scores: &[f64], classes: &[usize], class_count: usize, bins: usize) -> Result<Self, Error> {
        let fits =
            class_count > 0 && bins > 0 && Some(scores.len()) == classes.len().checked_mul(class_count);
        if !fits
            || classes.iter().any(|&class| class >= class_count)
            || scores.iter().any(|score| !score.is_finite())
        {
            let reason =
                format!("{} for {} rows of {class_count} classes, {bins} bins", scores.len(), classes.len());
            return Err(Error::invalid("scores", reason));
        }
        let mut counts = Counts { class_count, bins, values: vec![0; len(class_count, bins)] };
        for (row, &class) in scores.chunks_exact(class_count).zip(classes) {
            counts.values[class * class_count + argmax(row)] += 1;
            for (of, &score) in row.iter().enumerate() {
                let start = counts.histogram(of, of == class);
                counts.values[start + bin(score, bins)] += 1;
            }
        }
        Ok(counts)
    }

    /// Counts that came as integers, such as a sum over clients. With noise they may be negative.
    ///
    /// # Errors
    /// Another length than [`len`].
    pub fn from_integers(values: &[i64], class_count: usize, bins: usize) -> Result<Self, Error> {
        if class_count == 0 || bins == 0 || values.len() != len(class_count, bins) {
            let reason = format!("{} integers for {class_count} classes and {bins} bins", values.len());
            return Err(Error::invalid("counts", reason));
        }
        Ok(Counts { class_count, bins, values: values.to_vec() })
    }

    /// The integers.
    #[must_use]
    pub fn integers(&self) -> &[i64] {
        &self.values
    }

    /// Where the histogram of a class's score over its own rows, or over the others, begins.
    fn histogram(&self, class: usize, own: bool) -> usize {
        self.class_count * self.class_count + (2 * class + usize::from(own)) * self.bins
    }

    fn bins_of(&self, class: usize, own: bool) -> impl Iterator<Item = f64> {
        let start = self.histogram(class, own);
        self.values[start..start + self.bins].iter().map(|&count| count.max(0) as f64)
    }

    /// The metrics. Negative counts, as noise makes them, are taken as zero.
    #[must_use]
    pub fn quality(&self) -> Quality {
        let count =
            |class: usize, predicted: usize| self.values[class * self.class_count + predicted].max(0) as f64;
        let classes = 0..self.class_count;
        let of_class =
            |class: usize| (0..self.class_count).map(|predicted| count(class, predicted)).sum::<f64>();
        let rows: f64 = classes.clone().map(of_class).sum();
        let correct: f64 = classes.clone().map(|class| count(class, class)).sum();
        let mean =
            |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let recalls = classes
            .clone()
            .filter(|&class| of_class(class) > 0.0)
            .map(|class| count(class, class) / of_class(class));
        Quality {
            rows,
            accuracy: if rows > 0.0 { correct / rows } else { 0.0 },
            balanced_accuracy: mean(recalls.collect()).unwrap_or(0.0),
            auc: mean(classes.clone().filter_map(|class| self.auc(class)).collect()),
            calibration_error: mean(classes.filter_map(|class| self.calibration_error(class)).collect())
                .unwrap_or(0.0),
        }
    }

    /// Pairs in the right order, ties half, over all pairs.
    fn auc(&self, class: usize) -> Option<f64> {
        let (mut below, mut own_rows, mut pairs) = (0.0, 0.0, 0.0);
        for (others, own) in self.bins_of(class, false).zip(self.bins_of(class, true)) {
            pairs += own * (below + 0.5 * others);
            below += others;
            own_rows += own;
        }
        (own_rows > 0.0 && below > 0.0).then(|| pairs / (own_rows * below))
    }

    fn calibration_error(&self, class: usize) -> Option<f64> {
        let width = (RANGE.1 - RANGE.0) / self.bins as f64;
        let (mut gap, mut rows) = (0.0, 0.0);
        for (bin, (others, own)) in self.bins_of(class, false).zip(self.bins_of(class, true)).enumerate() {
            let score = (RANGE.0 + (bin as f64 + 0.5) * width).clamp(0.0, 1.0);
            gap += (score * (others + own) - own).abs();
            rows += others + own;
        }
        (rows > 0.0).then(|| gap / rows)
    }
}

/// The bin of a score.
fn bin(score: f64, bins: usize) -> usize {
    let position = (score - RANGE.0) / (RANGE.1 - RANGE.0) * bins as f64;
    // A float cast saturates: scores below the range give 0.
    (position as usize).min(bins - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Predictions, evaluate};
    use crate::random::Stream;

    #[test]
    fn sums_over_clients_give_the_metrics_of_all_rows() {
        let mut stream = Stream::new("arras/1 test counts", &[]);
        let classes: Vec<usize> = (0..600).map(|row| row % 3).collect();
        let scores: Vec<f64> = classes
            .iter()
            .flat_map(|&class| {
                [0, 1, 2].map(|of| if of == class { 0.7 } else { 0.15 } + 0.2 * f64::from(stream.bell()))
            })
            .collect();
        let bins = 200;
        let mut sum = vec![0; len(3, bins)];
        for client in 0..3 {
            let rows = client * 200..(client + 1) * 200;
            let counts = Counts::of(&scores[rows.start * 3..rows.end * 3], &classes[rows], 3, bins).unwrap();
            sum.iter_mut().zip(counts.integers()).for_each(|(sum, value)| *sum += value);
        }
        let quality = Counts::from_integers(&sum, 3, bins).unwrap().quality();
        let predictions = Predictions { scores: &scores, class_count: 3, labels: &classes, groups: None };
        let exact = evaluate(&predictions, 0, 0).unwrap();
        assert_eq!(quality.rows, 600.0);
        assert_eq!(quality.accuracy, exact.accuracy.value);
        assert!((quality.balanced_accuracy - exact.balanced_accuracy.value).abs() < 1e-12);
        assert!((quality.auc.unwrap() - exact.auc.unwrap().value).abs() < 2e-3);
        assert!(quality.calibration_error < 0.2);
    }

    #[test]
    fn a_calibrated_score_has_no_calibration_error() {
        // One bin, a share of rows of the class that equals the clipped middle of the range.
        let counts = Counts::from_integers(&[5, 0, 0, 5, 5, 5, 5, 5], 2, 1).unwrap();
        assert_eq!(counts.quality().calibration_error, 0.0);
        let counts = Counts::from_integers(&[10, 0, 0, 0, 0, 10, 10, 0], 2, 1).unwrap();
        assert_eq!(counts.quality().calibration_error, 0.5);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        assert!(Counts::of(&[0.0; 5], &[0, 1], 2, 4).is_err());
        assert!(Counts::of(&[0.0; 4], &[0, 2], 2, 4).is_err());
        assert!(Counts::of(&[0.0, f64::NAN, 0.0, 0.0], &[0, 1], 2, 4).is_err());
        assert!(Counts::from_integers(&[0; 3], 2, 4).is_err());
        let far = Counts::of(&[-1e300, 1e300], &[1], 2, 4).unwrap();
        assert_eq!(far.integers().iter().sum::<i64>(), 3);
    }
}
