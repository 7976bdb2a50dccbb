//! From labelled features to a head with its model card.

use std::collections::BTreeMap;

use arras_heads::{Head, ModelCard};

use crate::metrics::{DEFAULT_RESAMPLES, Evaluation, Predictions, evaluate};
use crate::ridge::{self, Fit, Problem};
use crate::{Error, Features};

/// Seed of the bootstrap behind the intervals in a report.
const BOOTSTRAP_SEED: u64 = 0;

/// A head and what is known about it.
///
/// ```
/// use arras_fit::{import, train};
///
/// let table = "file,label,f0\na,low,0.1\nb,low,0.2\nc,low,0.3\nd,high,0.7\ne,high,0.8\nf,high,0.9\n";
/// let features = import::from_csv("tokens.csv", table.as_bytes())?;
/// let trained = train(&features, None)?;
/// assert_eq!(trained.head.classes, ["high", "low"]);
/// assert_eq!(trained.head.card.counts, [3, 3]);
/// assert_eq!(trained.head.card.l2, Some(trained.fit.l2));
/// let evaluation = trained.evaluation.ok_or("a single row")?;
/// assert_eq!(evaluation.confusion, [[3, 0], [0, 3]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trained {
    /// The head, rounded to f32, with its card.
    pub head: Head,
    /// The fit in f64 and how its penalty was found.
    pub fit: Fit,
    /// Metrics of the left-out scores; `None` where leaving out is impossible (a single row).
    pub evaluation: Option<Evaluation>,
}

/// Fits a ridge head (see [`ridge`]) to features with labels. Classes are the distinct labels in sorted order;
/// groups, if there are any, are never split between fitting and validation.
///
/// # Errors
/// Features without labels or that break their rules, and everything [`ridge::fit`] refuses.
pub fn train(features: &Features, l2: Option<f64>) -> Result<Trained, Error> {
    features.check("features")?;
    let Some((classes, class_of_row)) = features.classes() else {
        return Err(Error::invalid("labels", "the features carry none"));
    };
    let groups = features.group_indices().map(|(_, group_of_row)| group_of_row);
    let problem = Problem {
        features: &features.values,
        dimension: features.dimension,
        classes: &class_of_row,
        class_count: classes.len(),
        groups: groups.as_deref(),
    };
    let fit = ridge::fit(&problem, l2)?;
    let evaluation = match &fit.validation {
        None => None,
        Some(validation) => {
            let predictions = Predictions {
                scores: &validation.scores,
                class_count: classes.len(),
                labels: &class_of_row,
                groups: groups.as_deref(),
            };
            Some(evaluate(&predictions, DEFAULT_RESAMPLES, BOOTSTRAP_SEED)?)
        }
    };
    let head = Head {
        weight: fit.weight.iter().map(|&weight| weight as f32).collect(),
        bias: fit.bias.iter().map(|&bias| bias as f32).collect(),
        card: card(features, &classes, &class_of_row, &fit, evaluation.as_ref()),
        classes,
    };
    // A weight beyond the range of f32 or too many classes would only surface when the head is written.
    head.to_bytes("head")?;
    Ok(Trained { head, fit, evaluation })
}

fn card(
    features: &Features,
    classes: &[String],
    class_of_row: &[usize],
    fit: &Fit,
    evaluation: Option<&Evaluation>,
) -> ModelCard {
    let mut counts = vec![0; classes.len()];
    class_of_row.iter().for_each(|&class| counts[class] += 1);
    let mut metrics = BTreeMap::new();
    if let (Some(validation), Some(evaluation)) = (&fit.validation, evaluation) {
        let prefix = if fit.by_group { "leave_one_group_out" } else { "leave_one_out" };
        let values = [
            ("squared_error", Some(validation.squared_error)),
            ("accuracy", Some(evaluation.accuracy.value)),
            ("balanced_accuracy", Some(evaluation.balanced_accuracy.value)),
            ("auc", evaluation.auc.map(|auc| auc.value)),
            ("calibration_error", Some(evaluation.calibration_error.value)),
        ];
        metrics.extend(
            values.into_iter().filter_map(|(name, value)| Some((format!("{prefix}_{name}"), value?))),
        );
    }
    ModelCard {
        data_hash: Some(features.data_hash()),
        counts,
        l2: Some(fit.l2),
        condition_number: Some(fit.condition_number),
        fingerprint: features.fingerprint.clone(),
        metrics,
        created_with: concat!("arras ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes on either side of a plane, in pairs of rows per group.
    fn features() -> Features {
        let rows = 24;
        let value =
            |row: usize, column: usize| ((row * 7 + column * 3) % 11) as f32 / 11.0 + (row % 2) as f32;
        Features {
            dimension: 3,
            values: (0..rows * 3).map(|index| value(index / 3, index % 3)).collect(),
            names: (0..rows).map(|row| format!("{row}.png")).collect(),
            labels: Some((0..rows).map(|row| ["normal", "tumour"][row % 2].to_owned()).collect()),
            groups: Some((0..rows).map(|row| format!("p{}", row / 4)).collect()),
            fingerprint: Some("vit".to_owned()),
        }
    }

    #[test]
    fn the_head_separates_and_the_card_tells_how() {
        let trained = train(&features(), None).unwrap();
        let head = &trained.head;
        assert_eq!(head.classes, ["normal", "tumour"]);
        assert_eq!((head.class_count(), head.dimension()), (2, 3));
        let predicted: Vec<usize> =
            head.logits(&features().values).chunks_exact(2).map(crate::metrics::argmax).collect();
        assert_eq!(predicted, (0..24).map(|row| row % 2).collect::<Vec<_>>());
        assert_eq!(head.card.counts, [12, 12]);
        assert_eq!(head.card.data_hash, Some(features().data_hash()));
        assert_eq!(head.card.fingerprint.as_deref(), Some("vit"));
        assert_eq!(head.card.l2, Some(trained.fit.l2));
        let accuracy = trained.evaluation.unwrap().accuracy.value;
        assert_eq!(head.card.metrics["leave_one_group_out_accuracy"], accuracy);
        assert_eq!(
            train(&features(), None).unwrap().head.to_bytes("h").unwrap(),
            head.to_bytes("h").unwrap()
        );
    }

    #[test]
    fn a_single_row_trains_without_metrics() {
        let trained = train(&features().select(&[0]), Some(1.0)).unwrap();
        assert!(trained.evaluation.is_none() && trained.head.card.metrics.is_empty());
    }

    #[test]
    fn missing_labels_are_an_error() {
        let unlabelled = Features { labels: None, ..features() };
        assert_eq!(train(&unlabelled, None).unwrap_err().to_string(), "labels: the features carry none");
    }
}
