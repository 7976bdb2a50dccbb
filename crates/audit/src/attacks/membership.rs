//! (f) Whether an image was trained on.
//!
//! The likelihood ratio attack LiRA (Carlini et al., IEEE S&P 2022, algorithm 1): shadow heads on random halves of a pool tell how
//! an image's score is distributed when it was trained on and when it was not; the log likelihood ratio of its score under the
//! victim's head orders images by suspicion. Ridge heads have a closed form, so that shadows cost an
//! eigendecomposition each and the attack is at its strongest. The score is the margin of the true class, which for least squares
//! takes the place of the logit of the confidence. What decides is not the mean but the few images that can be named with
//! certainty: the true positive rate at a false positive rate of 1 % and 0.1 %.
//!
//! "Ridge regression protects" is a claim about l2 and n/d, so both are swept: with fewer rows than features and a small penalty
//! the head interpolates and nearly every member is told; many rows per feature or a large penalty hide most of them, and neither is a
//! guarantee. Differential privacy is.
//!
//! Sees: whoever has the head, the server or a client that recovered it, and images to test. Succeeds: where `auc`, `tpr_at_1`
//! or `tpr_at_01` exceed the diagonal (0.5, 0.01, 0.001).

use std::time::Instant;

use arras_fit::statistics::{Solution, Statistics};
use arras_rounds::privacy::sensitivity;

use crate::attacks::differencing::Unit;
use crate::attacks::head::argmax;
use crate::rows::distance;
use crate::statistics::bootstrap;
use crate::{Attack, Error, Finding, Random, Result, Rows, Score};

/// How a pool is attacked.
///
/// ```
/// use arras_audit::Rows;
/// use arras_audit::attacks::membership::{Settings, lira};
///
/// // Fewer rows than features and hardly a penalty: the head interpolates.
/// let pool = Rows::synthetic(1, 40, 24, 2);
/// let found = lira(&pool, &Settings { shadows: 16, targets: 2, l2: 1e-6, ..Settings::default() })?;
/// assert_eq!(found.suspicions.len(), 2 * 40);
/// let [of_members, of_others] = found.accuracy;
/// assert!(of_members > of_others);
/// let mean = |is_member: bool| {
///     let scores = found.suspicions.iter().filter(|one| one.is_member == is_member).map(|one| one.score);
///     scores.clone().sum::<f64>() / scores.count() as f64
/// };
/// assert!(mean(true) > mean(false));
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Shadow heads; the paper calls 64 enough for most of what 256 reach.
    pub shadows: usize,
    /// Heads that are attacked.
    pub targets: usize,
    /// The penalty in units of the mean eigenvalue of the Gram matrix.
    pub l2: f64,
    /// Noise of differential privacy in the statistics that heads are fitted to; the unit is one row.
    pub privacy: Option<Unit>,
    /// Seed of halves and noise.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { shadows: 64, targets: 16, l2: 1e-3, privacy: None, seed: 0 }
    }
}

/// One image under one victim's head.
///
/// See the example of [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    /// The image, an index into the pool.
    pub row: usize,
    /// log of the likelihood ratio; larger means member.
    pub score: f64,
    /// The truth.
    pub is_member: bool,
}

/// What an attack came to.
///
/// See the example of [`Settings`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every image of the pool under every victim's head.
    pub suspicions: Vec<Suspicion>,
    /// Share of members, and of others, whose class the victims' heads tell.
    pub accuracy: [f64; 2],
}

/// A head and whom it was trained on.
struct Trained {
    members: Vec<bool>,
    /// Of every row of the pool.
    margins: Vec<f64>,
    right: [usize; 2],
}

/// Attacks heads that were each trained on a random half of the pool.
///
/// # Errors
/// Fewer than four rows, two shadows or one target; a penalty that leaves a system singular.
pub fn lira(pool: &Rows, settings: &Settings) -> Result<Outcome> {
    if pool.len() < 4 || settings.shadows < 2 || settings.targets == 0 {
        let Settings { shadows, targets, .. } = settings;
        let reason = format!("{} rows, {shadows} shadows, {targets} targets", pool.len());
        return Err(Error::invalid("membership", reason));
    }
    let heads = (0..settings.shadows + settings.targets).map(|index| train(pool, settings, index as u64));
    let heads = heads.collect::<Result<Vec<_>>>()?;
    let (shadows, targets) = heads.split_at(settings.shadows);
    let models: Vec<[Normal; 2]> = (0..pool.len()).map(|row| Normal::of_row(shadows, row)).collect();
    let mut suspicions = Vec::with_capacity(targets.len() * pool.len());
    for target in targets {
        for (row, [outside, inside]) in models.iter().enumerate() {
            let score = inside.log_density(target.margins[row]) - outside.log_density(target.margins[row]);
            suspicions.push(Suspicion { row, score, is_member: target.members[row] });
        }
    }
    let half = (targets.len() * (pool.len() / 2)) as f64;
    let others = (targets.len() * pool.len()) as f64 - half;
    let right = |side: usize| targets.iter().map(|target| target.right[side]).sum::<usize>() as f64;
    Ok(Outcome { suspicions, accuracy: [right(1) / half, right(0) / others] })
}

fn train(pool: &Rows, settings: &Settings, index: u64) -> Result<Trained> {
    let mut random = Random::new("arras/1 audit membership", &[settings.seed, index]);
    let order = random.permutation(pool.len());
    let chosen = &order[..pool.len() / 2];
    let mut members = vec![false; pool.len()];
    chosen.iter().for_each(|&row| members[row] = true);
    let mut statistics = Statistics::of(&pool.select(chosen).problem())?;
    if let Some(unit) = &settings.privacy {
        add_noise(&mut statistics, pool, unit, &mut random)?;
    }
    let solver = statistics.solver()?;
    let head = solver.solve(settings.l2 * solver.scale())?;
    let (mut margins, mut right) = (Vec::with_capacity(pool.len()), [0, 0]);
    for (row, &is_member) in members.iter().enumerate() {
        let (margin, is_right) = margin(&head, pool.row(row), pool.classes[row]);
        margins.push(margin);
        right[usize::from(is_member)] += usize::from(is_right);
    }
    Ok(Trained { members, margins, right })
}

/// The Gaussian mechanism on statistics, as the parties of a federation together carry it out with discrete noise. Here the noise
/// is continuous and seeded: it is not meant to protect anybody.
fn add_noise(statistics: &mut Statistics, pool: &Rows, unit: &Unit, random: &mut Random) -> Result<()> {
    let zero = vec![0.0; pool.dimension];
    let bound = (0..pool.len()).map(|row| distance(&zero, pool.row(row))).fold(0.0, f64::max);
    let deviation = sensitivity(1.0, 1) / (2.0 * unit.rho()?).sqrt();
    // Features count in units of the bound, ones and classes as they are.
    let side = statistics.dimension + 1;
    let weight = |column: usize| if column + 1 < side { bound } else { 1.0 };
    let places = (0..side).flat_map(|row| (row..side).map(move |column| (row, column)));
    for (value, (row, column)) in statistics.gram.iter_mut().zip(places) {
        let share = if row == column { 1.0 } else { std::f64::consts::FRAC_1_SQRT_2 };
        *value += deviation * share * weight(row) * weight(column) * random.normal();
    }
    for (at, value) in statistics.cross.iter_mut().enumerate() {
        *value += deviation * weight(at / statistics.class_count) * random.normal();
    }
    // A count below one row has no mean.
    if let Some(rows) = statistics.gram.last_mut() {
        *rows = rows.max(1.0);
    }
    Ok(())
}

/// The score of the true class less the largest of the others, and whether it is above zero.
fn margin(head: &Solution, row: &[f32], class: usize) -> (f64, bool) {
    let score = |class: usize| -> f64 {
        let weights = &head.weight[class * row.len()..][..row.len()];
        weights.iter().zip(row).map(|(w, &x)| w * f64::from(x)).sum::<f64>() + head.bias[class]
    };
    let scores: Vec<f64> = (0..head.bias.len()).map(score).collect();
    let others = scores.iter().enumerate().filter(|&(other, _)| other != class).map(|(_, &score)| score);
    let largest = others.fold(f64::NEG_INFINITY, f64::max);
    let largest = if largest.is_finite() { largest } else { 0.0 };
    (scores[class] - largest, argmax(scores.iter().copied()) == class)
}

/// A normal distribution fitted to margins.
#[derive(Clone, Copy, Debug)]
struct Normal {
    mean: f64,
    variance: f64,
}

impl Normal {
    /// Margins of a row under shadows that have not seen it, and under those that have.
    fn of_row(shadows: &[Trained], row: usize) -> [Self; 2] {
        [false, true].map(|inside| {
            let of_side = shadows.iter().filter(|shadow| shadow.members[row] == inside);
            Self::of(&of_side.map(|shadow| shadow.margins[row]).collect::<Vec<_>>())
        })
    }

    fn of(values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        // Heads that interpolate give every member the margin 1 up to rounding.
        Self { mean, variance: variance.max(1e-12) }
    }

    fn log_density(self, x: f64) -> f64 {
        -0.5 * ((x - self.mean).powi(2) / self.variance + self.variance.ln())
    }
}

/// Suspicions in order, for rates at thresholds.
struct Curve {
    /// Descending by score; ends of runs of equal scores are marked.
    sorted: Vec<(Suspicion, bool)>,
    /// For each row of the pool under how many heads it is a member, and under how many not.
    counts: Vec<[f64; 2]>,
}

impl Curve {
    fn new(suspicions: &[Suspicion], rows: usize) -> Self {
        let mut counts = vec![[0.0; 2]; rows];
        suspicions.iter().for_each(|s| counts[s.row][usize::from(!s.is_member)] += 1.0);
        let mut sorted = suspicions.to_vec();
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
        let is_end = |i: usize| {
            let next: Option<&Suspicion> = sorted.get(i + 1);
            next.is_none_or(|next| next.score.total_cmp(&sorted[i].score).is_ne())
        };
        let ends: Vec<bool> = (0..sorted.len()).map(is_end).collect();
        Self { sorted: sorted.into_iter().zip(ends).collect(), counts }
    }

    /// Points (false, true positive rate) of the curve, where each row of the pool counts so often, until one of them is enough.
    fn walk(&self, weights: &[f64], mut is_enough: impl FnMut(f64, f64) -> bool) {
        let total = |side: usize| -> f64 {
            self.counts.iter().zip(weights).map(|(counts, weight)| counts[side] * weight).sum()
        };
        let (members, others) = (total(0), total(1));
        let (mut hits, mut misses) = (0.0, 0.0);
        for (suspicion, is_end) in &self.sorted {
            let side = if suspicion.is_member { &mut hits } else { &mut misses };
            *side += weights[suspicion.row];
            if *is_end && is_enough(misses / others, hits / members) {
                return;
            }
        }
    }

    fn area(&self, weights: &[f64]) -> f64 {
        let (mut area, mut last) = (0.0, (0.0, 0.0));
        self.walk(weights, |false_rate, true_rate| {
            area += (false_rate - last.0) * (true_rate + last.1) / 2.0;
            last = (false_rate, true_rate);
            false
        });
        area
    }

    /// The largest true positive rate whose false positive rate is at most the limit.
    fn rate_at(&self, limit: f64, weights: &[f64]) -> f64 {
        let mut best = 0.0;
        self.walk(weights, |false_rate, true_rate| {
            if false_rate <= limit {
                best = true_rate;
            }
            false_rate > limit
        });
        best
    }

    /// A statistic with the bootstrap over rows of the pool: what one image gives under several heads is not independent.
    fn score(&self, baseline: f64, seed: u64, statistic: impl Fn(&Self, &[f64]) -> f64) -> Score {
        let rows = self.counts.len();
        let value = statistic(self, &vec![1.0; rows]);
        let interval_95 = bootstrap(rows, seed, |drawn| {
            let mut weights = vec![0.0; rows];
            drawn.iter().for_each(|&row| weights[row] += 1.0);
            statistic(self, &weights) - baseline
        });
        Score { value, baseline, advantage: value - baseline, interval_95 }
    }
}

/// One cell of the sweep as a row of the report.
///
/// # Errors
/// As [`lira`].
pub fn finding(pool: &Rows, settings: &Settings) -> Result<Finding> {
    let started = Instant::now();
    let outcome = lira(pool, settings)?;
    let curve = Curve::new(&outcome.suspicions, pool.len());
    let (rows, dimension) = (pool.len() / 2, pool.dimension);
    let protection = match settings.privacy {
        Some(unit) => format!("DP, epsilon {}", unit.epsilon),
        None => format!("ridge, l2 {:.0e} of the mean eigenvalue", settings.l2),
    };
    let ratio = rows as f64 / dimension as f64;
    let seen = format!("head of {ratio} rows per feature");
    let area = curve.score(0.5, settings.seed, Curve::area);
    let text = match (area.gains(), area.value) {
        (true, 0.9..) => "nearly every member is told",
        (true, _) => "members are told from others more often than by chance",
        (false, _) => "members are not told from others",
    };
    let row = Finding::new(Attack::Membership, &seen, "holder of the head", &protection, settings.seed);
    let row = Finding { victims: pool.len(), ..row }
        .score("auc", area)
        .score("tpr_at_1", curve.score(0.01, settings.seed, |curve, weights| curve.rate_at(0.01, weights)))
        .score("tpr_at_01", curve.score(0.001, settings.seed, |curve, weights| curve.rate_at(0.001, weights)))
        .parameter("rows", rows)
        .parameter("dimension", dimension)
        .parameter("l2", settings.l2)
        .parameter("shadows", settings.shadows)
        .parameter("targets", settings.targets)
        .parameter("accuracy_members", outcome.accuracy[0])
        .parameter("accuracy_others", outcome.accuracy[1])
        .judged(true, text);
    Ok(Finding { seconds: started.elapsed().as_secs_f64(), ..row })
}

/// Penalties and rows per feature, on rows of the given number of dimensions; then noise at the smallest of both.
///
/// # Errors
/// Too few rows for the largest ratio; as [`lira`].
pub fn sweep(
    rows: &Rows,
    ratios: &[f64],
    penalties: &[f64],
    units: &[Unit],
    base: &Settings,
) -> Result<Vec<Finding>> {
    let pool = |ratio: f64| -> Result<Rows> {
        let wanted = 2 * ((ratio * rows.dimension as f64).round() as usize).max(2);
        if wanted > rows.len() {
            return Err(Error::invalid("rows", format!("{} of {wanted}", rows.len())));
        }
        Ok(rows.select(&(0..wanted).collect::<Vec<_>>()))
    };
    let mut findings = Vec::new();
    for &ratio in ratios {
        let pool = pool(ratio)?;
        for &l2 in penalties {
            findings.push(finding(&pool, &Settings { l2, ..*base })?);
        }
    }
    for &unit in units {
        let ratio = ratios.iter().copied().fold(0.0, f64::max);
        findings.push(finding(&pool(ratio)?, &Settings { privacy: Some(unit), ..*base })?);
    }
    Ok(findings)
}

/// The rows of the report: in at most [`DIMENSIONS`] dimensions, for as many rows per feature as there are rows.
///
/// # Errors
/// Fewer than four rows; as [`lira`].
pub fn findings(rows: &Rows, seed: u64) -> Result<Vec<Finding>> {
    let rows = rows.at_most(DIMENSIONS.min(rows.len() / 4), seed);
    let most = rows.len() as f64 / (2 * rows.dimension) as f64;
    let ratios: Vec<f64> = [0.5, 2.0, 8.0, 32.0].into_iter().filter(|&ratio| ratio <= most).collect();
    let units = [8.0, 1.0].map(|epsilon| Unit { epsilon, delta: 1e-5 });
    sweep(&rows, &ratios, &[1e-6, 1e-2, 1.0, 100.0], &units, &Settings { seed, ..Settings::default() })
}

/// Features are projected to so many dimensions for [`findings`].
pub const DIMENSIONS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(l2: f64) -> Settings {
        Settings { targets: 8, l2, seed: 5, ..Settings::default() }
    }

    #[test]
    fn heads_that_interpolate_name_their_members_and_large_penalties_hide_most() -> Result<()> {
        let rows = Rows::synthetic(21, 64, 32, 3);
        let small = finding(&rows, &settings(1e-6))?;
        let large = finding(&rows, &settings(100.0))?;
        assert!(small.scores["auc"].value > 0.95, "{:?}", small.scores);
        assert!(small.scores["tpr_at_1"].value > 0.5, "{:?}", small.scores);
        assert!(large.scores["auc"].value < small.scores["auc"].value - 0.1, "{:?}", large.scores);
        Ok(())
    }

    #[test]
    fn many_rows_per_feature_hide_most_and_noise_hides_all() -> Result<()> {
        let rows = Rows::synthetic(22, 768, 12, 3);
        let plain = finding(&rows, &settings(1e-3))?;
        let unit = Unit { epsilon: 1.0, delta: 1e-5 };
        let noisy = finding(&rows, &Settings { privacy: Some(unit), ..settings(1e-3) })?;
        let area = |row: &Finding| row.scores["auc"].value;
        assert!(area(&plain) < 0.7, "{}", area(&plain));
        assert!(area(&noisy) < 0.53 && area(&noisy) < area(&plain), "{} {}", area(&noisy), area(&plain));
        Ok(())
    }

    /// Where the truth is known: two normals a distance apart.
    #[test]
    fn rates_are_those_of_the_distributions() {
        let mut random = Random::new("test", &[]);
        let suspicions: Vec<Suspicion> = (0..40_000)
            .map(|row| {
                let is_member = row % 2 == 0;
                Suspicion { row, score: random.normal() + f64::from(u8::from(is_member)), is_member }
            })
            .collect();
        let (curve, ones) = (Curve::new(&suspicions, 40_000), vec![1.0; 40_000]);
        // Phi(1 / sqrt 2), Phi(1 - 2.3263), Phi(1 - 3.0902).
        assert!((curve.area(&ones) - 0.7602).abs() < 0.01, "{}", curve.area(&ones));
        assert!((curve.rate_at(0.01, &ones) - 0.0924).abs() < 0.012);
        assert!((curve.rate_at(0.001, &ones) - 0.0183).abs() < 0.009);
        // Equal scores tell nothing.
        let equal: Vec<Suspicion> = suspicions.iter().map(|s| Suspicion { score: 0.0, ..*s }).collect();
        let curve = Curve::new(&equal, 40_000);
        assert_eq!((curve.area(&ones), curve.rate_at(0.01, &ones)), (0.5, 0.0));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let rows = Rows::synthetic(1, 8, 4, 2);
        assert!(lira(&rows, &Settings { shadows: 1, ..Settings::default() }).is_err());
        assert!(lira(&rows.select(&[0, 1]), &Settings::default()).is_err());
        assert!(sweep(&rows, &[8.0], &[1.0], &[], &Settings::default()).is_err());
    }
}
