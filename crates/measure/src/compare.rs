//! Whether one record is faster than another, given how much both scatter.
//!
//! The unit of evidence is a round, not a sample: samples of one round share whatever disturbed the machine at that time.
//! A round counts with its shortest sample (disturbances only ever add time), divided by the time of the fixed piece of
//! work that was measured just before: a core that ran slower for a while ran slower in both.
//! What is compared are medians over rounds; the bootstrap over rounds gives the interval of their ratio.

use serde::Serialize;

use crate::record::{Benchmark, Record};
use crate::stats::{Interval, Summary, ratio_interval};
use crate::{Error, Result};

/// How sure an interval is.
const CONFIDENCE: f64 = 0.99;
/// Differences up to this factor do not count: where in memory the operands come to lie changes some cases by as much. Nor
/// do differences up to the interquartile range of the rounds of either run.
pub const MARGIN: f64 = 1.05;

/// What can be said about a benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies within the margin.
    Same,
    /// The whole interval lies below the margin.
    Faster,
    /// The whole interval lies above the margin.
    Slower,
    /// The interval reaches across the margin: neither can be said.
    Unresolved,
}

/// One benchmark of two records.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Its id.
    pub id: String,
    /// Time in the second record over time in the first, each in units of the control, with its 99 % interval.
    pub ratio: Interval,
    /// Time over time, as the clock had it.
    pub raw: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Two records.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// What both measured, in the order of the second.
    pub comparisons: Vec<Comparison>,
    /// Ids that only the first has.
    pub only_first: Vec<String>,
    /// Ids that only the second has.
    pub only_second: Vec<String>,
    /// Why the two are not of the same thing, if they are not: another machine, other threads, another backend.
    pub differences: Vec<String>,
}

impl Report {
    /// Compares what two records have in common.
    ///
    /// # Errors
    /// If that is nothing.
    pub fn new(first: &Record, second: &Record) -> Result<Self> {
        let of = |record: &'_ Record, id: &str| record.benchmarks.iter().position(|b| b.id == id);
        let comparisons: Vec<Comparison> = second
            .benchmarks
            .iter()
            .filter_map(|b| of(first, &b.id).map(|at| compare(&first.benchmarks[at], b)))
            .collect();
        if comparisons.is_empty() {
            return Err(Error::field("benchmarks", "the records have none in common"));
        }
        let lacking = |from: &Record, other: &Record| -> Vec<String> {
            let ids = from.benchmarks.iter().map(|b| &b.id);
            ids.filter(|id| of(other, id).is_none()).cloned().collect()
        };
        Ok(Self {
            comparisons,
            only_first: lacking(first, second),
            only_second: lacking(second, first),
            differences: differences(first, second),
        })
    }

    /// How many benchmarks got a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.comparisons.iter().filter(|comparison| comparison.verdict == verdict).count()
    }

    /// The whole in words: `no difference` unless some benchmark is faster or slower.
    pub fn verdict(&self) -> String {
        let (faster, slower) = (self.count(Verdict::Faster), self.count(Verdict::Slower));
        let found = match (faster, slower) {
            (0, 0) => "no difference".into(),
            (_, 0) => format!("{faster} faster"),
            (0, _) => format!("{slower} slower"),
            _ => format!("{faster} faster, {slower} slower"),
        };
        match self.count(Verdict::Unresolved) {
            0 => found,
            count => format!("{found} ({count} of {} too noisy to say)", self.comparisons.len()),
        }
    }
}

fn differences(first: &Record, second: &Record) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, a: String, b: String| {
        if a != b {
            found.push(format!("{what}: {a} and {b}"));
        }
    };
    let machine = |record: &Record| format!("{} with {} cores", record.machine.cpu, record.machine.cores);
    differ("machine", machine(first), machine(second));
    let run = |record: &Record| {
        record
            .benchmarks
            .first()
            .map_or_else(String::new, |b| format!("{}, {} threads", b.backend, b.threads))
    };
    differ("backend", run(first), run(second));
    found
}

fn compare(first: &Benchmark, second: &Benchmark) -> Comparison {
    // Without controls in both, the clock's times have to do.
    let controlled = !first.control.is_empty() && !second.control.is_empty();
    let (a, b) = (round_times(first, controlled), round_times(second, controlled));
    let ratio = ratio_interval(&a, &b, CONFIDENCE);
    // What rounds of one run differ by, runs differ by too.
    let high = MARGIN.max(1.0 + Summary::of(&a).spread.max(Summary::of(&b).spread));
    let low = 1.0 / high;
    let verdict = if ratio.low > high {
        Verdict::Slower
    } else if ratio.high < low {
        Verdict::Faster
    } else if high <= MARGIN && ratio.low >= low && ratio.high <= high {
        Verdict::Same
    } else {
        Verdict::Unresolved
    };
    Comparison { id: second.id.clone(), ratio, raw: second.summary.median / first.summary.median, verdict }
}

/// One number per round. A record without rounds, as old ones are, counts every sample as one.
fn round_times(benchmark: &Benchmark, controlled: bool) -> Vec<f64> {
    if benchmark.rounds < 2 {
        return benchmark.samples.clone();
    }
    let rounds = benchmark.by_round().map(|samples| samples.iter().copied().fold(f64::INFINITY, f64::min));
    match controlled {
        true => rounds.zip(&benchmark.control).map(|(time, control)| time / control).collect(),
        false => rounds.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use crate::record::tests::{benchmark, record};

    /// A run of `cases` cases on a machine whose clock wanders, where a tenth of the samples is disturbed, and where every
    /// case is some per cent off because of where its memory lies.
    fn run(seed: u64, cases: usize, factor: f64) -> Record {
        let mut rng = SplitMix(seed);
        let mut all = record('a', 1, &["x"]);
        all.benchmarks.clear();
        for case in 0..cases {
            let (rounds, placed) = (15, 1.0 + 0.01 * rng.unit());
            let (mut control, mut samples) = (Vec::new(), Vec::new());
            let mut clock = 1.0 + 0.1 * rng.unit();
            for _ in 0..rounds {
                clock *= 1.0 + 0.02 * rng.unit();
                control.push(8000.0 * clock * (1.0 + 0.003 * rng.unit()));
                for _ in 0..3 {
                    let disturbed = if rng.below(10) == 0 { 1.0 + rng.unit().abs() } else { 1.0 };
                    samples.push(1e5 * clock * placed * factor * disturbed * (1.0 + 0.02 * rng.unit()));
                }
            }
            let named = benchmark(&format!("case/{case}"), samples);
            all.benchmarks.push(Benchmark { rounds, control, ..named });
        }
        all.check().unwrap();
        all
    }

    #[test]
    fn the_same_build_shows_no_difference() {
        for seed in 0..20 {
            let report = Report::new(&run(2 * seed, 50, 1.0), &run(2 * seed + 1, 50, 1.0)).unwrap();
            assert_eq!((report.count(Verdict::Slower), report.count(Verdict::Faster)), (0, 0), "seed {seed}");
            assert!(report.verdict().starts_with("no difference"), "{}", report.verdict());
            assert!(report.count(Verdict::Same) >= 48, "seed {seed}: {}", report.verdict());
        }
    }

    #[test]
    fn a_tenth_more_time_is_flagged_and_a_tenth_less() {
        for seed in 0..20 {
            let (before, after) = (run(2 * seed, 50, 1.0), run(2 * seed + 1, 50, 1.1));
            let count = |first, second, verdict| Report::new(first, second).unwrap().count(verdict);
            assert!(count(&before, &after, Verdict::Slower) >= 48, "seed {seed}");
            assert_eq!(count(&before, &after, Verdict::Faster), 0, "seed {seed}");
            assert!(count(&after, &before, Verdict::Faster) >= 48, "seed {seed}");
        }
    }

    #[test]
    fn noise_is_called_noise() {
        let noisy = |seed: u64| {
            let mut noisy = run(seed, 1, 1.0);
            let mut rng = SplitMix(seed);
            for sample in &mut noisy.benchmarks[0].samples {
                *sample *= 1.5 + rng.unit();
            }
            noisy.benchmarks[0].summary = Summary::of(&noisy.benchmarks[0].samples);
            noisy
        };
        let report = Report::new(&noisy(1), &noisy(2)).unwrap();
        assert_eq!(report.verdict(), "no difference (1 of 1 too noisy to say)");
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let (first, mut second) = (record('a', 1, &["x", "y"]), record('b', 2, &["y", "z"]));
        second.machine.cores = 4;
        let report = Report::new(&first, &second).unwrap();
        assert_eq!((report.only_first, report.only_second), (vec!["x".to_owned()], vec!["z".to_owned()]));
        assert!(report.differences[0].starts_with("machine"), "{:?}", report.differences);
        assert!(Report::new(&first, &record('c', 1, &["w"])).is_err());
    }
}
