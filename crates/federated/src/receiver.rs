//! The receiver: from decrypted sums to candidate heads, and from their counts to the one that is published.

use std::collections::BTreeMap;

use arras_fit::counts::{Counts, Quality};
use arras_fit::statistics::{Solver, Statistics};
use arras_heads::{Head, ModelCard};
use arras_rounds::Agreement;
use arras_rounds::message::Candidate;

use crate::local::{from_integers, unproject};
use crate::{Error, Result};

/// Candidates run over these powers of ten times the mean eigenvalue of the Gram matrix, in half decades.
const HALF_DECADES: std::ops::RangeInclusive<i32> = -10..=2;

/// Decrypted statistics, ready for any penalty.
///
/// ```
/// use arras_federated::local::to_integers;
/// use arras_federated::receiver::Pooled;
/// use arras_fit::ridge::Problem;
/// use arras_fit::statistics::Statistics;
///
/// # let agreement = arras_rounds::Agreement { name: "one feature".into(), epoch: 1, backbone: "x".into(), dimension: 1,
/// #     classes: vec!["low".into(), "high".into()], row_bound: 2.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// // The sums over four rows, divided by the bound, as integers: what a decryption gives.
/// let (features, classes) = (&[0.0, 0.25, 0.75, 1.0], &[0, 0, 1, 1]);
/// let problem = Problem { features, dimension: 1, classes, class_count: 2, groups: None };
/// let integers = to_integers(&Statistics::of(&problem)?, agreement.format()?.unit);
/// let pooled = Pooled::new(&agreement, &integers)?;
/// assert_eq!(pooled.statistics().rows().round(), 4.0);
/// let (head, _) = pooled.candidate(1e-3)?;
/// let decided = pooled.head(&head, None)?.logits(&[0.1, 1.9]);
/// assert!(decided[0] > decided[1] && decided[2] < decided[3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Pooled {
    agreement: Agreement,
    statistics: Statistics,
    solver: Solver,
}

impl Pooled {
    /// From the integers of a statistics round.
    ///
    /// # Errors
    /// Another number of integers than agreed; sums of fewer than one row.
    pub fn new(agreement: &Agreement, integers: &[i64]) -> Result<Self> {
        let statistics = from_integers(agreement, integers)?;
        let solver = statistics.solver()?;
        Ok(Pooled { agreement: agreement.clone(), statistics, solver })
    }

    /// The sums.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Eigenvalues that noise made negative and that were set to zero.
    pub fn negative_eigenvalues(&self) -> usize {
        self.solver.negative_eigenvalues()
    }

    /// The penalties that are tried if none are given; ascending.
    pub fn penalties(&self) -> Vec<f64> {
        let scale = self.solver.scale() * self.agreement.row_bound.powi(2);
        HALF_DECADES.map(|step| scale * 10_f64.powf(f64::from(step) / 2.0)).collect()
    }

    /// The head of a penalty, on unprojected features, with the condition number of its system.
    ///
    /// # Errors
    /// A penalty that leaves the system singular.
    pub fn candidate(&self, l2: f64) -> Result<(Candidate, f64)> {
        // The penalty is on the weights of the features as they are; the sums are of features divided by the bound.
        let solution = self.solver.solve(l2 / self.agreement.row_bound.powi(2))?;
        let weight = unproject(&self.agreement, &solution.weight);
        let candidate = Candidate {
            l2,
            weight: weight.iter().map(|&w| w as f32).collect(),
            bias: solution.bias.iter().map(|&b| b as f32).collect(),
        };
        Ok((candidate, solution.condition_number))
    }

    /// The heads of several penalties; those that leave the system singular are left out.
    ///
    /// # Errors
    /// If none is left.
    pub fn candidates(&self, penalties: &[f64]) -> Result<Vec<Candidate>> {
        let solved: Vec<Candidate> =
            penalties.iter().filter_map(|&l2| Some(self.candidate(l2).ok()?.0)).collect();
        match (solved.is_empty(), penalties.first()) {
            (true, Some(&l2)) => self.candidate(l2).map(|(candidate, _)| vec![candidate]),
            (true, None) => Err(Error::Data("no penalties were given".to_owned())),
            _ => Ok(solved),
        }
    }

    /// What the counts of all candidates tell, in their order.
    ///
    /// # Errors
    /// Another number of integers than the candidates have counts.
    pub fn qualities(&self, candidates: &[Candidate], bins: usize, integers: &[i64]) -> Result<Vec<Quality>> {
        let classes = self.agreement.classes.len();
        let length = arras_fit::counts::len(classes, bins);
        if integers.len() != candidates.len() * length {
            return Err(Error::Data(format!(
                "{} counts for {} candidates",
                integers.len(),
                candidates.len()
            )));
        }
        let of = |counts: &[i64]| Ok(Counts::from_integers(counts, classes, bins)?.quality());
        integers.chunks_exact(length).map(of).collect()
    }

    /// The head to publish: of the candidates whose accuracy is within one standard error of the best, the one with the largest
    /// penalty, since smaller weights mean smaller errors under encryption.
    ///
    /// # Errors
    /// No candidates, or qualities that are not theirs.
    pub fn choose(&self, candidates: &[Candidate], qualities: &[Quality]) -> Result<Head> {
        let best = qualities.iter().map(|quality| quality.accuracy).fold(f64::NEG_INFINITY, f64::max);
        let rows = qualities.iter().map(|quality| quality.rows).fold(1.0, f64::max);
        let enough = best - (best * (1.0 - best) / rows).max(0.0).sqrt();
        let good = candidates.iter().zip(qualities).filter(|(_, quality)| quality.accuracy >= enough);
        let chosen = good.max_by(|(a, _), (b, _)| a.l2.total_cmp(&b.l2));
        let (candidate, quality) = chosen.ok_or_else(|| Error::Data("there are no candidates".to_owned()))?;
        self.head(candidate, Some(quality))
    }

    /// A candidate as a head with its card.
    ///
    /// # Errors
    /// A candidate that does not fit the agreement.
    pub fn head(&self, candidate: &Candidate, quality: Option<&Quality>) -> Result<Head> {
        let (dimension, class_count) = (self.statistics.dimension, self.statistics.class_count);
        let counts = &self.statistics.cross[dimension * class_count..];
        let mut metrics = BTreeMap::new();
        if let Some(quality) = quality {
            let values = [
                ("rows", Some(quality.rows)),
                ("accuracy", Some(quality.accuracy)),
                ("balanced_accuracy", Some(quality.balanced_accuracy)),
                ("auc", quality.auc),
                ("calibration_error", Some(quality.calibration_error)),
            ];
            // The best of several noisy counts says little about the head: no one shall take it for a measurement.
            let prefix = if self.agreement.privacy.is_some() { "noisy_held_out" } else { "held_out" };
            metrics.extend(
                values.into_iter().filter_map(|(name, value)| Some((format!("{prefix}_{name}"), value?))),
            );
        }
        let head = Head {
            weight: candidate.weight.clone(),
            bias: candidate.bias.clone(),
            classes: self.agreement.classes.clone(),
            card: ModelCard {
                data_hash: None,
                counts: counts.iter().map(|count| count.round().max(0.0) as u64).collect(),
                l2: Some(candidate.l2),
                condition_number: Some(self.candidate(candidate.l2)?.1),
                fingerprint: Some(self.agreement.backbone.clone()),
                metrics,
                created_with: concat!("arras ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
        };
        head.to_bytes("head")?;
        Ok(head)
    }
}
