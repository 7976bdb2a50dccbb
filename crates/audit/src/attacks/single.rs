//! (j) The token of an image that is alone in its class.
//!
//! The statistics of ridge regression hold the sum of the tokens of every class and the number of its rows: `X'^T Y` with one-hot
//! targets is nothing else. In a class with one row the sum is that row's token; with k rows it is k times their
//! mean, which still lies nearer to each of them than the mean of everything does. No cryptography changes that: it is
//! what the receiver is meant to see. What helps is noise, or to leave out classes with few rows.
//!
//! Sees: the receiver of the sums. Succeeds: if the guess is nearer to the token than the mean of all tokens
//! (`error` below 1), and if the nearest token of a gallery is the right one (`reidentified`).

use arras_fit::statistics::Statistics;
use arras_rounds::privacy::Noise;

use crate::attacks::differencing::{Federation, Unit, sample};
use crate::rows::{Rows, distance};
use crate::statistics::{Better, paired};
use crate::{Attack, Error, Finding, Random, Result, Verdict};

/// The number of rows of a class, and their mean; `None` for a class of less than half a row (noise may say so) or one that
/// does not exist.
#[must_use]
pub fn class_mean(statistics: &Statistics, class: usize) -> Option<(f64, Vec<f64>)> {
    let (dimension, classes) = (statistics.dimension, statistics.class_count);
    let entry = |column: usize| statistics.cross.get(column * classes + class).copied();
    let rows = entry(dimension).filter(|&rows| class < classes && rows >= 0.5)?;
    Some((rows, (0..dimension).map(|column| entry(column).unwrap_or(0.0) / rows).collect()))
}

/// The mean of all rows, which the same statistics tell: the guess that ignores the class.
#[must_use]
pub fn overall_mean(statistics: &Statistics) -> Vec<f64> {
    let (dimension, classes) = (statistics.dimension, statistics.class_count);
    let sum = |column: usize| -> f64 { statistics.cross.iter().skip(column * classes).take(classes).sum() };
    let rows = sum(dimension).max(1.0);
    (0..dimension).map(|column| sum(column) / rows).collect()
}

/// Guesses about victims in one row of the report.
struct Guesses {
    errors: Vec<f64>,
    hits: Vec<f64>,
    /// Of the guess that ignores the victim.
    plain_hits: Vec<f64>,
}

impl Guesses {
    fn new() -> Self {
        Self { errors: Vec::new(), hits: Vec::new(), plain_hits: Vec::new() }
    }

    /// Errors are in units of the distance from the mean.
    fn add(&mut self, gallery: &Rows, victim: usize, guess: &[f64], mean: &[f64]) {
        let token = gallery.row(victim);
        self.errors.push(distance(guess, token) / distance(mean, token).max(f64::MIN_POSITIVE));
        self.hits.push(f64::from(u8::from(gallery.nearest(guess) == victim)));
        self.plain_hits.push(f64::from(u8::from(gallery.nearest(mean) == victim)));
    }

    fn finding(&self, row: Finding, text: &str) -> Result<Finding> {
        let ones = vec![1.0; self.errors.len()];
        let error = paired(&self.errors, &ones, Better::Lower, row.seed)?;
        let reidentified = paired(&self.hits, &self.plain_hits, Better::Higher, row.seed)?;
        let mut row = Finding { victims: self.errors.len(), ..row }
            .score("error", error)
            .score("reidentified", reidentified)
            .judged(true, text);
        if error.value < 1e-3 {
            row.verdict = Verdict::Recovered;
        }
        Ok(row)
    }
}

/// The statistics of `rows` with `members` as the only rows of a class of its own, the last.
fn with_class_of(rows: &Rows, members: &[usize]) -> Rows {
    let mut changed = rows.clone();
    changed.class_count += 1;
    members.iter().for_each(|&row| changed.classes[row] = rows.class_count);
    changed
}

/// Victims drawn at random, each in a class with k rows in all, for several k: exact statistics.
///
/// # Errors
/// Fewer rows than the largest k or no victims.
pub fn by_class_size(rows: &Rows, sizes: &[usize], victims: usize, seed: u64) -> Result<Vec<Finding>> {
    let largest = sizes.iter().copied().max().unwrap_or(0);
    if largest > rows.len() {
        return Err(Error::invalid("sizes", format!("{largest} rows of {}", rows.len())));
    }
    sizes.iter().map(|&size| of_size(rows, size, victims, seed)).collect()
}

fn of_size(rows: &Rows, size: usize, victims: usize, seed: u64) -> Result<Finding> {
    let started = std::time::Instant::now();
    let mut guesses = Guesses::new();
    for victim in 0..victims {
        let mut random = Random::new("arras/1 audit single", &[seed, size as u64, victim as u64]);
        let members = &random.permutation(rows.len())[..size];
        let changed = with_class_of(rows, members);
        let statistics = Statistics::of(&changed.problem())?;
        let (_, mean) = class_mean(&statistics, rows.class_count)
            .ok_or_else(|| Error::invalid("sizes", "a class without rows"))?;
        guesses.add(rows, members[0], &mean, &overall_mean(&statistics));
    }
    let seen = format!("exact statistics, class of {size}");
    let protection = if size == 1 { "none".to_owned() } else { format!("at least {size} rows per class") };
    let text = match size {
        1 => "the sum of a class with one image is its token".to_owned(),
        _ => format!("the mean of {size} tokens is nearer to each of them than the mean of all"),
    };
    let row = Finding::new(Attack::Single, &seen, "receiver", &protection, seed)
        .parameter("rows", rows.len())
        .parameter("dimension", rows.dimension);
    Ok(Finding { seconds: started.elapsed().as_secs_f64(), ..guesses.finding(row, &text)? })
}

/// Victims alone in their class, statistics with the noise of differential privacy: drawn by the parties, from the operating
/// system, so that rows differ from run to run within their intervals.
///
/// # Errors
/// Rows or a unit that the federation refuses.
pub fn with_noise(rows: &Rows, units: &[Unit], victims: usize, seed: u64) -> Result<Vec<Finding>> {
    units.iter().map(|unit| noisy(rows, unit, victims, seed)).collect()
}

fn noisy(rows: &Rows, unit: &Unit, victims: usize, seed: u64) -> Result<Finding> {
    let started = std::time::Instant::now();
    let mut guesses = Guesses::new();
    for victim in
        Random::new("arras/1 audit single", &[seed]).permutation(rows.len()).into_iter().take(victims)
    {
        let changed = with_class_of(rows, &[victim]);
        let federation = Federation::new(&changed, Some(*unit))?;
        let noise = Noise { rho: unit.rho()?, honest: federation.parties() };
        let statistics = federation.release(&federation.everybody(), Some(noise))?;
        let gallery = federation.scaled(&changed);
        let mean = overall_mean(&statistics);
        let guess = class_mean(&statistics, rows.class_count).map_or(mean.clone(), |(_, guess)| guess);
        guesses.add(&gallery, victim, &guess, &mean);
    }
    let protection = format!("DP, epsilon {}", unit.epsilon);
    let row = Finding::new(Attack::Single, "noisy statistics, class of 1", "receiver", &protection, seed)
        .parameter("rows", rows.len())
        .parameter("dimension", rows.dimension)
        .parameter("delta", unit.delta);
    let finding = guesses.finding(row, "the noise of a class sum is larger than a token")?;
    Ok(Finding { seconds: started.elapsed().as_secs_f64(), ..finding })
}

/// The rows of the report, on at most 240 of the given rows in at most 32 dimensions; 96 where there is noise.
///
/// # Errors
/// No rows; rows that the federation refuses.
pub fn findings(rows: &Rows, seed: u64) -> Result<Vec<Finding>> {
    let sizes: Vec<usize> = [1, 2, 4, 8, 16].into_iter().filter(|&size| size <= rows.len()).collect();
    let mut findings = by_class_size(&sample(rows, 240, 32, seed), &sizes, 48, seed)?;
    let units = [8.0, 1.0].map(|epsilon| Unit { epsilon, delta: 1e-5 });
    findings.extend(with_noise(&sample(rows, 96, 32, seed), &units, 24, seed)?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_one_is_a_token_and_larger_ones_hide_more() -> Result<()> {
        let rows = Rows::synthetic(4, 240, 24, 3);
        let found = by_class_size(&rows, &[1, 2, 4, 16], 24, 7)?;
        let error = |k: usize| found[k].scores["error"].value;
        assert!(error(0) < 1e-5 && found[0].scores["reidentified"].value == 1.0);
        assert_eq!(found[0].verdict, Verdict::Recovered);
        assert!(error(1) < error(2) && error(2) < error(3), "{} {} {}", error(1), error(2), error(3));
        // Of k independent rows the mean is sqrt(1 - 1/k) as far from one of them as the mean of all.
        for (k, size) in [(1, 2.0), (2, 4.0), (3, 16.0_f64)] {
            assert!((error(k) - (1.0 - 1.0 / size).sqrt()).abs() < 0.06, "{size}: {}", error(k));
        }
        assert!(by_class_size(&rows, &[241], 1, 7).is_err());
        Ok(())
    }

    #[test]
    fn noise_hides_a_class_of_one() -> Result<()> {
        let rows = Rows::synthetic(5, 120, 16, 3);
        let unit = Unit { epsilon: 1.0, delta: 1e-5 };
        let found = with_noise(&rows, &[unit], 12, 7)?;
        assert_eq!(found[0].victims, 12);
        assert!(found[0].scores["error"].value > 1.0, "{:?}", found[0].scores);
        assert!(found[0].scores["reidentified"].value < 0.3, "{:?}", found[0].scores);
        Ok(())
    }
}
