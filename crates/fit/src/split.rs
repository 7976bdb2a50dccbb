//! Rows into training and test sets, and over the clients of a federation.
//!
//! Copies of one image, or images of one patient, on both sides of a split make every model look good. Rows that
//! share a group therefore stay together wherever groups are given.

use std::collections::BTreeMap;

use crate::Error;
use crate::random::Stream;

/// How rows are dealt to clients.
///
/// ```
/// use arras_fit::split::{Deal, Rows, deal};
///
/// // Six rows of three patients, scanned at two sites.
/// let rows = Rows { classes: &[0, 1, 0, 1, 0, 1], groups: Some(&[0, 0, 1, 1, 2, 2]) };
/// let sites = [9, 9, 9, 9, 4, 4];
/// assert_eq!(deal(&rows, Some(&sites), 2, Deal::ByKey, 1)?, [vec![0, 1, 2, 3], vec![4, 5]]);
/// let even = deal(&rows, None, 3, Deal::Even, 1)?;
/// assert!(even.iter().all(|client| client.len() == 2 && client[0] / 2 == client[1] / 2));
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deal {
    /// Every client a like mixture: groups are shuffled and each goes to the client with the fewest rows.
    Even,
    /// Each class is shared out in proportions drawn from a symmetric Dirichlet distribution with this concentration (Hsu et
    /// al. 2019): 0.1 is far from identical, 100 close to it. A group goes where its first row's class would.
    Dirichlet(f64),
    /// Each value of a key (a site) belongs to one client, the largest first to the client with the fewest rows.
    ByKey,
}

/// Rows, and what must stay together.
///
/// ```
/// use arras_fit::split::{Rows, hold_out};
///
/// // Eight rows of four patients: a patient is on one side of the split.
/// let patients = [0, 0, 1, 1, 2, 2, 3, 3];
/// let rows = Rows { classes: &[0, 0, 0, 0, 1, 1, 1, 1], groups: Some(&patients) };
/// let (training, test) = hold_out(&rows, 0.5, 1)?;
/// assert_eq!((training.len(), test.len()), (4, 4));
/// assert!(test.iter().all(|&row| training.iter().all(|&other| patients[row] != patients[other])));
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The class of each row.
    pub classes: &'a [usize],
    /// The group of each row, if groups are known.
    pub groups: Option<&'a [usize]>,
}

impl Rows<'_> {
    /// The rows of each group in ascending order; without groups every row is one.
    fn units(&self) -> Vec<Vec<usize>> {
        match self.groups {
            Some(groups) => by_value(groups),
            None => (0..self.classes.len()).map(|row| vec![row]).collect(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.classes.is_empty() {
            return Err(Error::invalid("classes", "no rows"));
        }
        match self.groups.filter(|groups| groups.len() != self.classes.len()) {
            Some(groups) => Err(Error::invalid(
                "groups",
                format!("{} entries for {} rows", groups.len(), self.classes.len()),
            )),
            None => Ok(()),
        }
    }
}

/// Training and test rows, each ascending: of every class, about `share` of the rows are for testing, groups whole. A group counts
/// towards the class of its first row. The same seed gives the same split.
///
/// # Errors
/// A share outside 0..1, lengths that do not fit, or a side that would stay empty.
pub fn hold_out(rows: &Rows<'_>, share: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>), Error> {
    rows.check()?;
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::invalid("share", format!("{share} is not between 0 and 1")));
    }
    let mut stream = Stream::new("arras/1 hold out", &[seed]);
    let mut of_class: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
    for unit in rows.units() {
        of_class.entry(rows.classes[unit[0]]).or_default().push(unit);
    }
    let (mut training, mut test) = (Vec::new(), Vec::new());
    for units in of_class.values_mut() {
        shuffle(units, &mut stream);
        let wanted = share * units.iter().map(Vec::len).sum::<usize>() as f64;
        let mut taken = 0;
        for unit in units {
            // To the test side while that brings its size closer to the wanted one.
            let is_closer = (taken as f64 + unit.len() as f64 / 2.0) <= wanted;
            let side = if is_closer { &mut test } else { &mut training };
            taken += if is_closer { unit.len() } else { 0 };
            side.append(unit);
        }
    }
    if training.is_empty() || test.is_empty() {
        let reason = format!("{share} of {} rows leaves one side empty", rows.classes.len());
        return Err(Error::invalid("share", reason));
    }
    training.sort_unstable();
    test.sort_unstable();
    Ok((training, test))
}

/// The rows of each client, ascending. `keys` are the sites of [`Deal::ByKey`] and ignored otherwise. The same seed gives the same
/// deal.
///
/// # Errors
/// No clients, lengths that do not fit, fewer keys or groups than clients, or a draw that leaves a client without rows.
pub fn deal(
    rows: &Rows<'_>,
    keys: Option<&[usize]>,
    clients: usize,
    how: Deal,
    seed: u64,
) -> Result<Vec<Vec<usize>>, Error> {
    rows.check()?;
    if clients == 0 {
        return Err(Error::invalid("clients", "none"));
    }
    let mut stream = Stream::new("arras/1 deal", &[seed, clients as u64]);
    let mut parts = match how {
        Deal::Even => {
            let mut units = rows.units();
            shuffle(&mut units, &mut stream);
            to_the_poorest(units, clients)
        }
        Deal::Dirichlet(concentration) => by_dirichlet(rows, concentration, clients, &mut stream)?,
        Deal::ByKey => {
            let keys = keys.filter(|keys| keys.len() == rows.classes.len());
            let keys = keys.ok_or_else(|| Error::invalid("keys", "one per row is needed to deal by key"))?;
            to_the_poorest(by_value(keys), clients)
        }
    };
    if let Some(client) = parts.iter().position(Vec::is_empty) {
        let reason = format!("client {client} of {clients} gets no rows; fewer clients, or another seed");
        return Err(Error::invalid("clients", reason));
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    Ok(parts)
}

/// Largest unit first, in the given order among equals, each to the client with the fewest rows (the first of equals).
fn to_the_poorest(mut units: Vec<Vec<usize>>, clients: usize) -> Vec<Vec<usize>> {
    units.sort_by_key(|unit| std::cmp::Reverse(unit.len()));
    let mut parts = vec![Vec::new(); clients];
    for mut unit in units {
        if let Some(poorest) = parts.iter_mut().min_by_key(|part| part.len()) {
            poorest.append(&mut unit);
        }
    }
    parts
}

fn by_dirichlet(
    rows: &Rows<'_>,
    concentration: f64,
    clients: usize,
    stream: &mut Stream,
) -> Result<Vec<Vec<usize>>, Error> {
    if !(1e-3..=1e6).contains(&concentration) {
        return Err(Error::invalid("concentration", format!("{concentration} is outside 0.001..=1000000")));
    }
    let class_count = rows.classes.iter().max().map_or(0, |largest| largest + 1);
    let shares: Vec<Vec<f64>> = (0..class_count).map(|_| dirichlet(concentration, clients, stream)).collect();
    let mut parts = vec![Vec::new(); clients];
    for mut unit in rows.units() {
        let mut rest = uniform(stream);
        let of_class = &shares[rows.classes[unit[0]]];
        let client = of_class.iter().position(|share| {
            rest -= share;
            rest < 0.0
        });
        parts[client.unwrap_or(clients - 1)].append(&mut unit);
    }
    Ok(parts)
}

/// Proportions that add up to one: independent gamma variables over their sum.
fn dirichlet(concentration: f64, count: usize, stream: &mut Stream) -> Vec<f64> {
    let logs: Vec<f64> = (0..count).map(|_| log_gamma_variable(concentration, stream)).collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// The logarithm of a gamma variable (Marsaglia and Tsang 2000; below 1 by their boost), as small shapes underflow.
fn log_gamma_variable(shape: f64, stream: &mut Stream) -> f64 {
    if shape < 1.0 {
        let boost = uniform(stream).ln() / shape;
        return log_gamma_variable(shape + 1.0, stream) + boost;
    }
    let d = shape - 1.0 / 3.0;
    loop {
        let x = f64::from(stream.bell());
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && uniform(stream).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// In (0, 1).
fn uniform(stream: &mut Stream) -> f64 {
    ((stream.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Fisher and Yates.
fn shuffle<T>(values: &mut [T], stream: &mut Stream) {
    for end in (1..values.len()).rev() {
        values.swap(end, stream.below(end as u64 + 1) as usize);
    }
}

/// The positions of each value, by ascending value.
fn by_value(values: &[usize]) -> Vec<Vec<usize>> {
    let mut positions = BTreeMap::<usize, Vec<usize>>::new();
    for (position, &value) in values.iter().enumerate() {
        positions.entry(value).or_default().push(position);
    }
    positions.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes_and_groups(count: usize) -> (Vec<usize>, Vec<usize>) {
        ((0..count).map(|row| row % 3).collect(), (0..count).map(|row| (row % 3) + 3 * (row / 30)).collect())
    }

    fn is_partition(parts: &[Vec<usize>], count: usize) -> bool {
        let mut all: Vec<usize> = parts.iter().flatten().copied().collect();
        all.sort_unstable();
        all == (0..count).collect::<Vec<_>>()
    }

    #[test]
    fn groups_are_never_split() {
        let (classes, groups) = classes_and_groups(600);
        let rows = Rows { classes: &classes, groups: Some(&groups) };
        let (training, test) = hold_out(&rows, 0.25, 3).unwrap();
        assert!(is_partition(&[training.clone(), test.clone()], 600));
        let groups_of =
            |rows: &[usize]| rows.iter().map(|&row| groups[row]).collect::<std::collections::BTreeSet<_>>();
        assert!(groups_of(&training).is_disjoint(&groups_of(&test)));
        assert!((100..=200).contains(&test.len()), "{}", test.len());
        for how in [Deal::Even, Deal::Dirichlet(1.0), Deal::ByKey] {
            let parts = deal(&rows, Some(&groups), 4, how, 3).unwrap();
            assert!(is_partition(&parts, 600));
            for (first, second) in [(0, 1), (0, 2), (1, 3)] {
                assert!(groups_of(&parts[first]).is_disjoint(&groups_of(&parts[second])));
            }
        }
    }

    #[test]
    fn even_is_even_and_a_small_concentration_is_not() {
        let (classes, _) = classes_and_groups(3000);
        let rows = Rows { classes: &classes, groups: None };
        let even = deal(&rows, None, 7, Deal::Even, 1).unwrap();
        assert!(even.iter().all(|part| (428..=429).contains(&part.len())));
        let skew = |concentration| {
            let parts = deal(&rows, None, 5, Deal::Dirichlet(concentration), 11).unwrap();
            let largest = |part: &Vec<usize>| {
                let count = |class| part.iter().filter(|&&row| classes[row] == class).count();
                (0..3).map(count).max().unwrap_or(0) as f64 / part.len() as f64
            };
            parts.iter().map(largest).sum::<f64>() / 5.0
        };
        let (wild, tame) = (skew(0.2), skew(1000.0));
        assert!(wild > 0.55 && tame < 0.42, "{wild} {tame}");
    }

    #[test]
    fn the_seed_decides() {
        let (classes, groups) = classes_and_groups(300);
        let rows = Rows { classes: &classes, groups: Some(&groups) };
        assert_eq!(hold_out(&rows, 0.3, 1).unwrap(), hold_out(&rows, 0.3, 1).unwrap());
        assert_ne!(hold_out(&rows, 0.3, 1).unwrap(), hold_out(&rows, 0.3, 2).unwrap());
    }

    #[test]
    fn gamma_variables_have_their_mean() {
        for shape in [0.3, 1.0, 4.0] {
            let mut stream = Stream::new("arras/1 test gamma", &[]);
            let mean =
                (0..40_000).map(|_| log_gamma_variable(shape, &mut stream).exp()).sum::<f64>() / 40_000.0;
            assert!((mean / shape - 1.0).abs() < 0.03, "{shape}: {mean}");
        }
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let rows = Rows { classes: &[0, 1], groups: None };
        assert!(hold_out(&rows, 0.0, 0).is_err() && hold_out(&rows, f64::NAN, 0).is_err());
        assert!(hold_out(&Rows { classes: &[], groups: None }, 0.5, 0).is_err());
        assert!(deal(&rows, None, 0, Deal::Even, 0).is_err());
        assert!(deal(&rows, None, 3, Deal::Even, 0).is_err());
        assert!(deal(&rows, None, 2, Deal::ByKey, 0).is_err());
        assert!(deal(&rows, None, 2, Deal::Dirichlet(f64::NAN), 0).is_err());
        assert!(deal(&Rows { classes: &[0, 1], groups: Some(&[0]) }, None, 1, Deal::Even, 0).is_err());
    }
}
