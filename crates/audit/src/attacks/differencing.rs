//! (i) One client's sums, and one image, from the difference of two releases.
//!
//! The sums of a federation are linear: a release without one client subtracted from a release with it is that
//! client's statistics, to the last integer. Without one image the difference is `x' x'^T` with `x' = (x, 1)`, whose last column
//! is the token itself; without the extension by one the leading eigenvector gives it up to its sign. Threshold decryption does
//! not help, since both sums are opened as they are meant to be. What helps is not to make the second release
//! (`arras_rounds::rule`), or noise in both.
//!
//! Sees: the receiver of the sums, or whoever it shows them to. Succeeds: if the guess is nearer to the truth than
//! what the first release alone tells (`error` below 1); against the rule, if a second sum is opened at all (`opened`).

use arras_cpu::Cpu;
use arras_federated::local::from_integers;
use arras_federated::{Local, Party};
use arras_fit::statistics::Statistics;
use arras_rounds::agreement::{Agreement, Privacy};
use arras_rounds::journal::MemoryJournal;
use arras_rounds::message::{Message, Opening, Proposal, Purpose, Signed, Upload, body_hash};
use arras_rounds::privacy::{self, Noise};
use arras_rounds::{Coordinator, Roster};
use arras_wire::Writer;
use faer::{Mat, Side};

use crate::rows::{Rows, distance};
use crate::statistics::{Better, paired};
use crate::{Attack, Error, Finding, Random, Result, Verdict};

/// What differential privacy is agreed on; the unit is one row.
///
/// ```
/// use arras_audit::attacks::differencing::Unit;
///
/// let (strict, loose) = (Unit { epsilon: 1.0, delta: 1e-6 }, Unit { epsilon: 8.0, delta: 1e-6 });
/// assert!(strict.rho()? < loose.rho()?);
/// assert!(Unit { epsilon: 0.0, ..strict }.rho().is_err());
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Largest epsilon.
    pub epsilon: f64,
    /// The delta that it is stated at.
    pub delta: f64,
}

impl Unit {
    /// zCDP of one release that spends all of it.
    ///
    /// # Errors
    /// An epsilon or delta that means nothing.
    pub fn rho(&self) -> Result<f64> {
        Ok(privacy::rho(self.epsilon, self.delta)?)
    }

    fn agreed(self) -> Privacy {
        Privacy { epsilon: self.epsilon, delta: self.delta, rows_per_unit: 1 }
    }
}

/// The difference of two sums: the sums over what is in the first and not in the second.
///
/// # Errors
/// Sums of other shapes.
pub fn difference(with: &Statistics, without: &Statistics) -> Result<Statistics> {
    if (with.gram.len(), with.cross.len()) != (without.gram.len(), without.cross.len()) {
        return Err(Error::invalid("statistics", "of different shapes"));
    }
    let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
    Ok(Statistics {
        gram: minus(&with.gram, &without.gram),
        cross: minus(&with.cross, &without.cross),
        ..*with
    })
}

/// The row and class that the sums over a single row hold: its last column, and the class whose count is largest.
#[must_use]
pub fn single_row(sums: &Statistics) -> (Vec<f64>, usize) {
    let dimension = sums.dimension;
    let row = (0..dimension).map(|j| sums.gram[index(dimension, j, dimension)]).collect();
    let counts = sums.cross.iter().skip(dimension * sums.class_count).enumerate();
    let class = counts.max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(class, _)| class);
    (row, class)
}

/// The row up to its sign, from `X^T X` alone: the leading eigenvector times the root of its eigenvalue.
///
/// # Errors
/// [`arras_fit::Error::Eigendecomposition`].
pub fn single_row_up_to_sign(sums: &Statistics) -> Result<Vec<f64>> {
    let dimension = sums.dimension;
    let gram = Mat::from_fn(dimension, dimension, |row, column| {
        sums.gram[index(dimension, row.min(column), row.max(column))]
    });
    let eigen = gram.self_adjoint_eigen(Side::Lower).map_err(|_| arras_fit::Error::Eigendecomposition)?;
    let last = dimension - 1;
    let root = eigen.S().column_vector()[last].max(0.0).sqrt();
    Ok(eigen.U().col(last).iter().map(|value| value * root).collect())
}

/// Where entry (row, column), row <= column, stands in the packed triangle of side D + 1.
fn index(dimension: usize, row: usize, column: usize) -> usize {
    row * (2 * dimension + 3 - row) / 2 + column - row
}

/// A federation of small practices on the parties' side, up to the integers that are encrypted: at most two rows of a class at a
/// party, so that all of them train.
///
/// That decryption gives exactly the sum of those integers is what `crates/federated` tests; here the sum is taken in the clear.
///
/// ```
/// use arras_audit::Rows;
/// use arras_audit::attacks::differencing::{Federation, difference};
///
/// let rows = Rows::synthetic(1, 24, 6, 2);
/// let federation = Federation::new(&rows, None)?;
/// let everybody = federation.everybody();
/// let (all, without) = (federation.release(&everybody, None)?, federation.release(&everybody[1..], None)?);
/// // What the receiver of both sums knows of the first party: how many rows it has, and all sums over them.
/// let rows_of_first = (0..rows.len()).filter(|&row| federation.party_of(row) == Some(0)).count();
/// assert_eq!(difference(&all, &without)?.rows().round(), rows_of_first as f64);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Debug)]
pub struct Federation {
    agreement: Agreement,
    rows: Rows,
    /// The rows of each party.
    parts: Vec<Vec<usize>>,
}

const FINGERPRINT: &str = "audit";

impl Federation {
    /// Deals the rows, each class in turn.
    ///
    /// # Errors
    /// Fewer rows than make three parties, or an agreement that is out of range.
    pub fn new(rows: &Rows, unit: Option<Unit>) -> Result<Self> {
        let mut of_class = vec![0; rows.class_count];
        let mut parts = Vec::<Vec<usize>>::new();
        for (row, &class) in rows.classes.iter().enumerate() {
            let party = of_class[class] / 2;
            parts.resize(parts.len().max(party + 1), Vec::new());
            parts[party].push(row);
            of_class[class] += 1;
        }
        let largest = (0..rows.len()).map(|row| distance(&vec![0.0; rows.dimension], rows.row(row)));
        // Just above the largest norm: nothing is clipped.
        let row_bound = largest.fold(0.0, f64::max) * (1.0 + 1e-5) + f64::MIN_POSITIVE;
        let parties = parts.len() as u32;
        let agreement = Agreement {
            name: "audit".to_owned(),
            epoch: 1,
            backbone: FINGERPRINT.to_owned(),
            dimension: rows.dimension as u32,
            classes: (0..rows.class_count).map(|class| class.to_string()).collect(),
            row_bound,
            rows: rows.len() as u32,
            parties,
            threshold: parties / 2 + 1,
            quorum: parties,
            receiver: party_name(0),
            projection: None,
            privacy: unit.map(Unit::agreed),
        };
        agreement.check()?;
        Ok(Self { agreement, rows: rows.clone(), parts })
    }

    /// Number of parties.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.parts.len() as u32
    }

    /// All parties.
    #[must_use]
    pub fn everybody(&self) -> Vec<usize> {
        (0..self.parts.len()).collect()
    }

    /// The party that holds a row.
    #[must_use]
    pub fn party_of(&self, row: usize) -> Option<usize> {
        self.parts.iter().position(|part| part.contains(&row))
    }

    /// The federation after one row was deleted where it was.
    #[must_use]
    pub fn without(&self, row: usize) -> Self {
        let keep = |part: &Vec<usize>| part.iter().copied().filter(|&other| other != row).collect();
        let parts = self.parts.iter().map(keep).collect();
        Self { agreement: self.agreement.clone(), rows: self.rows.clone(), parts }
    }

    /// Rows as the statistics see them: divided by the bound.
    #[must_use]
    pub fn scaled(&self, rows: &Rows) -> Rows {
        let bound = self.agreement.row_bound;
        let values = rows.values.iter().map(|&x| (f64::from(x) / bound) as f32).collect();
        Rows { values, ..rows.clone() }
    }

    /// The sum over some parties as the receiver gets it, with their share of the noise if it is asked for.
    ///
    /// # Errors
    /// What the parties refuse.
    pub fn release(&self, members: &[usize], noise: Option<Noise>) -> Result<Statistics> {
        let opening = opening(1, 1, noise);
        let mut sums = Vec::<i64>::new();
        for &party in members {
            if self.parts[party].is_empty() {
                continue;
            }
            let features = self.rows.select(&self.parts[party]).features(FINGERPRINT);
            let integers = Local::new(&self.agreement, &features)?.integers(&opening)?;
            sums.resize(integers.len(), 0);
            sums.iter_mut().zip(integers).for_each(|(sum, integer)| *sum += integer);
        }
        Ok(from_integers(&self.agreement, &sums)?)
    }
}

fn party_name(index: usize) -> String {
    format!("party-{:03}", index + 1)
}

fn opening(round: u32, attempt: u32, noise: Option<Noise>) -> Opening {
    let purpose = Purpose::Statistics;
    Opening { round, attempt, purpose, noise, upload_seconds: 10, share_seconds: 10 }
}

/// Every party in turn is left out of a second exact release: its statistics, exactly.
///
/// # Errors
/// Rows that make fewer than three parties.
pub fn without_one_client(rows: &Rows, seed: u64) -> Result<Finding> {
    let started = std::time::Instant::now();
    let federation = Federation::new(rows, None)?;
    let everybody = federation.everybody();
    let all = federation.release(&everybody, None)?;
    let (mut errors, mut guesses) = (Vec::new(), Vec::new());
    for &victim in &everybody {
        let others: Vec<usize> = everybody.iter().copied().filter(|&party| party != victim).collect();
        let rest = federation.release(&others, None)?;
        let found = difference(&all, &rest)?;
        let truth = federation.release(&[victim], None)?;
        // Without the second release: an equal part of the first.
        let share = 1.0 / everybody.len() as f64;
        let equal: Vec<f64> = all.gram.iter().map(|value| value * share).collect();
        errors.push(relative(&found.gram, &truth.gram));
        guesses.push(relative(&equal, &truth.gram));
    }
    let row = Finding::new(
        Attack::Differencing,
        "two exact sums, with and without a client",
        "receiver",
        "none",
        seed,
    );
    let mut row = Finding { victims: errors.len(), ..row }
        .parameter("rows", rows.len())
        .parameter("dimension", rows.dimension)
        .score("error", paired(&errors, &guesses, Better::Lower, seed)?)
        .judged(true, "the difference is the client's own statistics");
    if errors.iter().all(|&error| error < 1e-9) {
        row.verdict = Verdict::Recovered;
    }
    Ok(Finding { seconds: started.elapsed().as_secs_f64(), ..row })
}

/// Norm of the difference over the norm of the truth.
fn relative(found: &[f64], truth: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut found.iter().zip(truth).map(|(a, b)| a - b));
    error / norm(&mut truth.iter().copied()).max(f64::MIN_POSITIVE)
}

/// Victims drawn at random, each deleted before a second release: its token and class. With `unit` both releases carry the
/// noise that spends it, drawn by the parties from the operating system.
///
/// # Errors
/// Rows or a unit that the federation refuses.
pub fn without_one_image(rows: &Rows, unit: Option<Unit>, victims: usize, seed: u64) -> Result<Finding> {
    let started = std::time::Instant::now();
    let federation = Federation::new(rows, unit)?;
    let everybody = federation.everybody();
    // Two releases share the budget.
    let noise = match unit {
        Some(unit) => Some(Noise { rho: unit.rho()? / 2.0, honest: federation.parties() }),
        None => None,
    };
    let gallery = federation.scaled(rows);
    let mean = gallery.mean();
    let mut order = Random::new("arras/1 audit differencing", &[seed]).permutation(rows.len());
    order.truncate(victims);
    let (mut errors, mut hits, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for &victim in &order {
        let with = federation.release(&everybody, noise)?;
        let without = federation.without(victim).release(&everybody, noise)?;
        let (guess, class) = single_row(&difference(&with, &without)?);
        let token = gallery.row(victim);
        errors.push(distance(&guess, token) / distance(&mean, token).max(f64::MIN_POSITIVE));
        let hit = gallery.nearest(&guess) == victim && class == rows.classes[victim];
        hits.push(f64::from(u8::from(hit)));
        plain.push(f64::from(u8::from(gallery.nearest(&mean) == victim)));
    }
    let (kind, protection, text) = match unit {
        None => ("exact", "none".to_owned(), "the difference is the image's token and class"),
        Some(unit) => {
            ("noisy", format!("DP, epsilon {}", unit.epsilon), "the difference is noise of both releases")
        }
    };
    let seen = format!("two {kind} sums, with and without an image");
    let row = Finding::new(Attack::Differencing, &seen, "receiver", &protection, seed);
    let mut row = Finding { victims: errors.len(), ..row }
        .parameter("rows", rows.len())
        .parameter("dimension", rows.dimension)
        .score("error", paired(&errors, &vec![1.0; errors.len()], Better::Lower, seed)?)
        .score("reidentified", paired(&hits, &plain, Better::Higher, seed)?)
        .judged(true, text);
    if errors.iter().all(|&error| error < 1e-3) {
        row.verdict = Verdict::Recovered;
    }
    Ok(Finding { seconds: started.elapsed().as_secs_f64(), ..row })
}

/// A second sum that somebody asks for after a first one was opened.
/// See the example of [`ask_for_second_sums`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondSum {
    /// What is asked for.
    pub what: &'static str,
    /// Why it was refused; nothing if it was opened.
    pub refused: Option<String>,
}

/// A receiver and a coordinator that work together ask real parties for second sums in every way that would give one client or
/// one image away; each case begins with new parties that have opened a first, proper sum.
///
/// # Errors
/// Parties that fail at something else than the question, such as a first sum that is not opened.
pub fn ask_for_second_sums() -> Result<Vec<SecondSum>> {
    let smaller = |world: &mut World, round, attempt, decryptors: &[u32]| {
        let members = [0, 1, 2, 3];
        world.ask(opening(round, attempt, None), &members, &[], decryptors)
    };
    type Case<'a> = (&'static str, &'a dyn Fn(&mut World) -> Result<()>);
    let cases: [Case<'_>; 6] = [
        ("the same attempt without a client", &|world| smaller(world, 1, 1, &FIRST)),
        ("the next attempt without a client", &|world| smaller(world, 1, 2, &FIRST)),
        ("another round without a client", &|world| smaller(world, 2, 1, &FIRST)),
        ("another round without a client, of other share holders", &|world| smaller(world, 2, 1, &OTHERS)),
        ("another round after a share holder deleted an image", &|world| {
            world.ask(opening(2, 1, None), &ALL, &[1], &FIRST)
        }),
        ("another round after a client that is not asked for a share deleted an image", &|world| {
            world.ask(opening(2, 1, None), &ALL, &[4], &FIRST)
        }),
    ];
    let mut sums = Vec::new();
    for (what, ask) in cases {
        let mut world = World::new(None)?;
        world.ask(opening(1, 1, None), &ALL, &[], &FIRST)?;
        sums.push(SecondSum { what, refused: ask(&mut world).err().map(|error| error.to_string()) });
    }
    let unit = Unit { epsilon: 1.0, delta: 1e-6 };
    let half = Noise { rho: unit.rho()? / 2.0, honest: 4 };
    let noisy: [(&'static str, Option<Noise>); 2] = [
        ("an exact sum where noise was agreed on", None),
        ("a third sum, of other share holders, after two that spent the budget", Some(half)),
    ];
    for (what, noise) in noisy {
        let mut world = World::new(Some(unit))?;
        world.ask(opening(1, 1, Some(half)), &ALL, &[], &FIRST)?;
        world.ask(opening(2, 1, Some(half)), &ALL, &[], &FIRST)?;
        let refused = world.ask(opening(3, 1, noise), &ALL, &[], &OTHERS).err();
        sums.push(SecondSum { what, refused: refused.map(|error| error.to_string()) });
    }
    Ok(sums)
}

/// The same as a row of the report: the share of second sums that are opened.
///
/// # Errors
/// As [`ask_for_second_sums`].
pub fn release_rule(seed: u64) -> Result<Finding> {
    let started = std::time::Instant::now();
    let sums = ask_for_second_sums()?;
    let opened: Vec<f64> = sums.iter().map(|sum| f64::from(u8::from(sum.refused.is_none()))).collect();
    let score = paired(&opened, &vec![0.0; opened.len()], Better::Higher, seed)?;
    let reasons: Vec<String> = sums
        .iter()
        .map(|sum| format!("{}: {}", sum.what, sum.refused.as_deref().unwrap_or("OPENED")))
        .collect();
    let seen = "one exact sum, a second asked for";
    let row = Finding::new(Attack::Differencing, seen, "receiver with coordinator", "release rule", seed)
        .score("opened", score)
        .parameter("asked", reasons)
        .judged(true, "share holders and uploaders refuse every second sum that would give something away");
    Ok(Finding { victims: sums.len(), seconds: started.elapsed().as_secs_f64(), ..row })
}

/// The rows of the report, on at most 96 of the given rows in at most 32 dimensions.
///
/// # Errors
/// Rows that make fewer than three parties.
pub fn findings(rows: &Rows, seed: u64) -> Result<Vec<Finding>> {
    let rows = sample(rows, 96, 32, seed);
    let mut findings = vec![without_one_client(&rows, seed)?, without_one_image(&rows, None, 24, seed)?];
    for epsilon in [8.0, 1.0] {
        findings.push(without_one_image(&rows, Some(Unit { epsilon, delta: 1e-5 }), 24, seed)?);
    }
    findings.push(release_rule(seed)?);
    Ok(findings)
}

/// So many rows at random, in so many dimensions, or all if they are fewer.
pub(crate) fn sample(rows: &Rows, count: usize, dimension: usize, seed: u64) -> Rows {
    let mut order = Random::new("arras/1 audit sample", &[seed]).permutation(rows.len());
    order.truncate(count);
    rows.select(&order).at_most(dimension, seed)
}

const PARTIES: usize = 5;
const THRESHOLD: u32 = 3;
const ALL: [usize; PARTIES] = [0, 1, 2, 3, 4];
/// Share holders of the first sum, and a set with as few of them as the threshold allows.
const FIRST: [u32; 3] = [0, 1, 2];
const OTHERS: [u32; 3] = [2, 3, 4];
/// What stands for a party's data, before and after an image was deleted.
const DATA: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// Real parties with key shares; the coordinator is gone, the attacker plays it.
struct World {
    roster: Roster,
    parties: Vec<Party<Cpu, MemoryJournal>>,
}

impl World {
    fn new(unit: Option<Unit>) -> Result<Self> {
        let agreement = Agreement {
            name: "audit".to_owned(),
            epoch: 1,
            backbone: FINGERPRINT.to_owned(),
            dimension: 4,
            classes: vec!["0".to_owned(), "1".to_owned()],
            row_bound: 1.0,
            rows: 1000,
            parties: PARTIES as u32,
            threshold: THRESHOLD,
            quorum: 4,
            receiver: party_name(0),
            projection: None,
            privacy: unit.map(Unit::agreed),
        };
        let backend = Cpu::sequential;
        let mut coordinator = Coordinator::new(agreement.clone(), backend(), MemoryJournal::default())?;
        let mut parties = ALL
            .iter()
            .map(|&index| {
                Party::new(&party_name(index), agreement.clone(), backend(), MemoryJournal::default())
            })
            .collect::<arras_federated::Result<Vec<_>>>()?;
        for party in &parties {
            coordinator.post(0, &party.join()?)?;
        }
        let missing = || Error::invalid("parties", "did not all join and deal");
        let roster = coordinator.roster().cloned().ok_or_else(missing)?;
        let pinned: Vec<_> =
            parties.iter().map(|party| (party.name().to_owned(), party.verifying_key())).collect();
        for party in &mut parties {
            coordinator.post(0, &party.pin(&roster.encode()?, &pinned)?)?;
            coordinator.post(0, &party.deal()?)?;
        }
        let deals = coordinator.deals().ok_or_else(missing)?;
        let deals = deals.into_iter().map(Signed::encode).collect::<arras_rounds::Result<Vec<_>>>()?;
        for party in &mut parties {
            party.receive(&deals)?;
        }
        Ok(Self { roster, parties })
    }

    /// Asks for a sum of some members, some of which have deleted an image, to be opened by some share holders. An error is their
    /// refusal.
    fn ask(
        &mut self,
        asked: Opening,
        members: &[usize],
        changed: &[usize],
        decryptors: &[u32],
    ) -> Result<()> {
        let signed = self.parties[0].open(asked.clone())?;
        let entries = self.roster.agreement.format()?.entries;
        let mut accepted = Vec::with_capacity(members.len());
        for &member in members {
            let value = i64::from(!changed.contains(&member));
            self.parties[member].contribute(&signed, DATA[usize::from(changed.contains(&member))])?;
            let message = self.parties[member].upload(&signed, |_| Ok(vec![value; entries]))?;
            let message = Signed::decode(&message)?;
            let Message::Upload(Upload { opening, body }, _) = message.message else {
                return Err(Error::invalid("upload", "is none"));
            };
            accepted.push((member as u32, Upload { opening, body }, message.signature));
        }
        let proposal = Proposal {
            opening: asked.hash(&self.roster)?,
            accepted,
            decryptors: decryptors.to_vec(),
            sum: body_hash(&[]),
        };
        let mut w = Writer::new();
        proposal.encode(&mut w)?;
        for &holder in decryptors {
            let data = DATA[usize::from(changed.contains(&(holder as usize)))];
            self.parties[holder as usize].share(&signed, w.as_bytes(), data)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arras_fit::statistics::gram_len;

    use super::*;
    use crate::rows::cosine;

    #[test]
    fn two_exact_sums_give_one_image_and_one_client() -> Result<()> {
        let rows = Rows::synthetic(6, 120, 24, 3);
        let image = without_one_image(&rows, None, 20, 1)?;
        assert_eq!(image.verdict, Verdict::Recovered, "{:?}", image.scores);
        assert_eq!(image.scores["reidentified"].value, 1.0);
        let client = without_one_client(&rows, 1)?;
        assert_eq!((client.victims, client.verdict), (20, Verdict::Recovered));
        assert!(client.scores["error"].baseline > 0.05, "{:?}", client.scores);
        Ok(())
    }

    #[test]
    fn a_gram_matrix_gives_the_row_up_to_its_sign() -> Result<()> {
        let rows = Rows::synthetic(7, 30, 16, 3);
        let all = Statistics::of(&rows.problem())?;
        let kept: Vec<usize> = (1..30).collect();
        let rest = Statistics::of(&rows.select(&kept).problem())?;
        let found = difference(&all, &rest)?;
        assert_eq!(Some(found.gram.len()), gram_len(16));
        let vector = single_row_up_to_sign(&found)?;
        assert!(cosine(&vector, rows.row(0)).abs() > 1.0 - 1e-9);
        let (row, class) = single_row(&found);
        assert!(distance(&row, rows.row(0)) < 1e-9 && class == rows.classes[0]);
        assert!(difference(&all, &Statistics::of(&rows.projected(8, 1).problem())?).is_err());
        Ok(())
    }

    #[test]
    fn noise_in_both_releases_hides_the_image() -> Result<()> {
        let rows = Rows::synthetic(8, 60, 12, 3);
        let found = without_one_image(&rows, Some(Unit { epsilon: 1.0, delta: 1e-5 }), 10, 1)?;
        assert!(found.scores["error"].value > 1.0, "{:?}", found.scores);
        assert!(!found.scores["error"].gains());
        Ok(())
    }

    #[test]
    fn the_release_rule_refuses_every_second_sum() -> Result<()> {
        for sum in ask_for_second_sums()? {
            assert!(sum.refused.is_some(), "{} was opened", sum.what);
        }
        assert_eq!(release_rule(1)?.verdict, Verdict::NoAdvantage);
        Ok(())
    }
}
