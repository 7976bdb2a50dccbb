//! (d) Images from decrypted sums of tokens and from decrypted statistics, with and without differential privacy.
//!
//! Encryption ends where a sum is decrypted, and whoever receives it sees what it is a sum of as far as the sum tells.
//! Two kinds: sums of k tokens, which the published system decrypts, and the sums over rows that a ridge head is fitted
//! from (the Gram matrix and the sums of each class), which this one decrypts.
//!
//! The leverage `x^T (G + r)^-1 x` of a row in the Gram matrix G is h / (1 + h) if the row is in the sum, h being what it
//! is without it, and h if not. As long as m rows are fewer than dimensions, h is that of a row outside the range of G,
//! without bound as r goes to zero: every member among candidates is named. Noise of differential privacy is met by an r
//! of its size, as an attacker would who knows it.

use arras_fit::ridge::Problem;
use arras_fit::statistics::Statistics;
use arras_rounds::privacy;
use faer::{Mat, Side};

use crate::scene::{Inverted, Scene, Seen};
use crate::statistics::auc;
use crate::{Attack, Error, Finding, Random, Result};

/// Share of the largest eigenvalue below which an exact Gram matrix has none.
const RANK: f64 = 1e-9;

/// Differential privacy of a release: a unit is one image.
///
/// ```
/// use arras_audit::Random;
/// use arras_audit::attacks::aggregate::{Privacy, of_statistics};
///
/// let mut random = Random::new("example", &[1]);
/// let mut tokens = || (0..20).map(|_| random.normals(48, 1.0)).collect::<Vec<_>>();
/// let (members, others) = (tokens(), tokens());
/// // The exact sums over 20 rows of 48 features name every member among candidates.
/// assert_eq!(of_statistics(&members, &others, None, 1)?.scores["auc"].value, 1.0);
/// let privacy = Privacy { epsilon: 1.0, delta: 1e-6 };
/// assert!(of_statistics(&members, &others, Some(privacy), 1)?.scores["auc"].value < 1.0);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Privacy {
    /// Bound on the probability ratio, as exp(epsilon).
    pub epsilon: f64,
    /// Probability with which that does not hold.
    pub delta: f64,
}

impl Privacy {
    /// The name in a report.
    fn name(privacy: Option<Self>) -> String {
        privacy.map_or("none".into(), |p| format!("DP, epsilon {}, delta {:e}", p.epsilon, p.delta))
    }

    /// Deviation of the Gaussian noise on every number of a release with an L2 sensitivity.
    fn sigma(self, sensitivity: f64) -> Result<f64> {
        let rho = privacy::rho(self.epsilon, self.delta);
        let rho = rho.map_err(|error| Error::invalid("privacy", error.to_string()))?;
        Ok(sensitivity / (2.0 * rho).sqrt())
    }
}

/// The largest norm of rows: what they would be clipped to, were it known beforehand.
fn largest_norm(rows: &[Vec<f32>]) -> f64 {
    let norm = |row: &Vec<f32>| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    rows.iter().map(norm).fold(0.0, f64::max)
}

/// Sums of row i and `k - 1` other rows at random, with noise.
fn sums(rows: &[Vec<f32>], k: usize, sigma: f64, random: &mut Random) -> Vec<Vec<f32>> {
    let one = |at: usize, random: &mut Random| {
        let mut others: Vec<usize> = (0..rows.len()).filter(|&row| row != at).collect();
        random.shuffle(&mut others);
        let mut sum: Vec<f64> = rows[at].iter().map(|&v| v.into()).collect();
        for &other in &others[..k - 1] {
            sum.iter_mut().zip(&rows[other]).for_each(|(s, &v)| *s += f64::from(v));
        }
        // A mean is as good as a sum to who knows k.
        sum.into_iter().map(|s| ((s + sigma * random.normal()) / k as f64) as f32).collect()
    };
    (0..rows.len()).map(|at| one(at, random)).collect()
}

/// Runs the decoder on decrypted sums of `k` tokens, each of one victim and others of the victims.
///
/// # Errors
/// A k that is not below the number of victims, tokens of different lengths, parameters of privacy out of range.
pub fn of_sums(
    scene: &Scene<'_>,
    own: &[Vec<f32>],
    victims: &[Vec<f32>],
    k: usize,
    privacy: Option<Privacy>,
    seed: u64,
) -> Result<(Finding, Inverted)> {
    if k == 0 || k > victims.len().min(own.len()) {
        return Err(Error::invalid("k", format!("{k} of {} victims", victims.len())));
    }
    let mut random = Random::new("arras/1 audit sums", &[seed, k as u64]);
    let sigma = privacy.map_or(Ok(0.0), |privacy| privacy.sigma(largest_norm(own)))?;
    let seen = Seen {
        own: sums(own, k, sigma, &mut random),
        victims: sums(victims, k, sigma, &mut random),
        candidates: victims.to_vec(),
    };
    let inverted = scene.invert(&seen)?;
    let what = if k == 1 { "sum of 1 token".into() } else { format!("sum of {k} tokens") };
    let row = (Attack::Aggregate, what.as_str(), "receiver of the decrypted sum", &*Privacy::name(privacy));
    Ok((scene.finding(row, &inverted).parameter("k", k).parameter("sigma", sigma), inverted))
}

/// Tells members from others by the statistics of the members alone: the AUC of the leverage.
///
/// # Errors
/// No members or no others, rows of different lengths, parameters of privacy out of range.
pub fn of_statistics(
    members: &[Vec<f32>],
    others: &[Vec<f32>],
    privacy: Option<Privacy>,
    seed: u64,
) -> Result<Finding> {
    let statistics = statistics(members)?;
    let dimension = statistics.dimension;
    let rows = [members, others].concat();
    let sigma = match privacy {
        Some(privacy) => privacy.sigma(privacy::sensitivity(largest_norm(&rows), 1))?,
        None => 0.0,
    };
    let gram = noisy_gram(&statistics, sigma, seed);
    let failed = |_| Error::invalid("statistics", "their eigendecomposition did not converge");
    let found = gram.self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let values: Vec<f64> = found.S().column_vector().iter().copied().collect();
    // The noise has a norm of about 2 sigma sqrt(D).
    let ridge = (RANK * values.last().copied().unwrap_or(0.0)).max(2.0 * sigma * (dimension as f64).sqrt());
    // Negated: members have the smaller ones.
    let scores = |rows: &[Vec<f32>]| -> Vec<f64> {
        let extended = Mat::from_fn(rows.len(), dimension + 1, |row, at| {
            rows[row].get(at).map_or(1.0, |&value| value.into())
        });
        let along = extended * found.U();
        let leverage = |row: usize| -> f64 {
            values.iter().enumerate().map(|(at, v)| along[(row, at)].powi(2) / (v.max(0.0) + ridge)).sum()
        };
        (0..rows.len()).map(|row| -leverage(row)).collect()
    };
    let score = auc(&scores(members), &scores(others), seed)?;
    let what = format!("Gram matrix of {} images", members.len());
    let party = "receiver of the decrypted statistics";
    let mut finding = Finding::new(Attack::Aggregate, &what, party, &Privacy::name(privacy), seed)
        .score("auc", score)
        .parameter("dimension", dimension)
        .parameter("sigma", sigma);
    finding.victims = members.len();
    let text =
        format!("Candidates that are in the sum are told from others with an AUC of {:.3}.", score.value);
    Ok(finding.judged(true, &text))
}

/// The statistics of rows of one class.
fn statistics(rows: &[Vec<f32>]) -> Result<Statistics> {
    let features: Vec<f32> = rows.concat();
    let dimension = rows.first().map_or(0, Vec::len);
    let classes = vec![0; rows.len()];
    let problem = Problem { features: &features, dimension, classes: &classes, class_count: 1, groups: None };
    Ok(Statistics::of(&problem)?)
}

/// The full Gram matrix with noise on each number of its triangle; off-diagonal ones count twice in the sensitivity and
/// take `sigma / sqrt(2)`.
fn noisy_gram(statistics: &Statistics, sigma: f64, seed: u64) -> Mat<f64> {
    let side = statistics.dimension + 1;
    let mut random = Random::new("arras/1 audit statistics", &[seed]);
    let mut gram = Mat::zeros(side, side);
    let mut entries = statistics.gram.iter();
    for row in 0..side {
        for column in row..side {
            let scale = if row == column { sigma } else { sigma * std::f64::consts::FRAC_1_SQRT_2 };
            let value = entries.next().copied().unwrap_or(0.0) + scale * random.normal();
            gram[(row, column)] = value;
            gram[(column, row)] = value;
        }
    }
    gram
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut random = Random::new("test tokens", &[seed]);
        (0..count).map(|_| random.normals(96, 1.0)).collect()
    }

    #[test]
    fn leverage_names_members_until_noise_hides_them() -> Result<()> {
        let (members, others) = (tokens(40, 1), tokens(40, 2));
        let exact = of_statistics(&members, &others, None, 1)?;
        assert_eq!(exact.scores["auc"].value, 1.0);
        let private = Privacy { epsilon: 1.0, delta: 1e-6 };
        let noisy = of_statistics(&members, &others, Some(private), 1)?;
        assert!((noisy.scores["auc"].value - 0.5).abs() < 0.2, "{:?}", noisy.scores);
        assert!(of_statistics(&members, &[], None, 1).is_err());
        Ok(())
    }

    #[test]
    fn sums_are_means_of_k_rows() {
        let rows = tokens(8, 3);
        let mut random = Random::new("test", &[]);
        assert_eq!(sums(&rows, 1, 0.0, &mut random), rows);
        let all = sums(&rows, 8, 0.0, &mut random);
        let mean: f32 = rows.iter().map(|row| row[5]).sum::<f32>() / 8.0;
        assert!(all.iter().all(|sum| (sum[5] - mean).abs() < 1e-5));
    }
}
