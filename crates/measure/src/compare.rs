//! Whether one record is faster than another, given how much both scatter.
//!
//! Disturbances have three sizes, and each has its answer.
//!
//! - *Samples of one round* share whatever disturbed the machine at that time: a round counts as one observation, with its
//!   shortest sample (disturbances only ever add time), divided by the time of the fixed piece of work that was measured just
//!   before. Lower quartiles over the rounds are compared. *Neighbouring rounds* are alike too: the bootstrap draws runs of them.
//! - *Two runs, one after the other*, differ by more than their rounds show: in where memory lies, in what else the machine
//!   does for minutes. How much is seen from all cases together: their median ratio is what both runs differ by as a whole,
//!   their scatter around it what single cases differ by for no reason. A case counts as different only if it is so beyond both.
//! - *Blocks* settle what two runs leave open: processes of both programs in turn ([`Record::append`]). Then the unit of
//!   evidence is a pair of blocks, one of each, and what drifts between pairs cancels; the sign test over the pairs gives the interval.

use serde::Serialize;

use crate::record::{Benchmark, Record};
use crate::stats::{Interval, Summary, median, quantile, ratio_interval, sign_interval, sorted};
use crate::{Error, Result};

/// How sure an interval is.
const CONFIDENCE: f64 = 0.99;
/// Differences up to this factor do not count: where in memory the operands come to lie changes some cases by as much.
pub const MARGIN: f64 = 1.05;
/// The same for two runs with too few cases in common to know how runs scatter.
const MARGIN_OF_FEW: f64 = 1.15;
/// So many cases tell how runs scatter.
const FEW: usize = 8;
/// Standard deviations of that scatter that do not count.
const DEVIATIONS: f64 = 4.0;
/// Pairs of blocks from which on they are the evidence: the sign test on fewer cannot be as sure as that.
const LEAST_BLOCKS: usize = 8;
/// Rounds that are drawn together.
const RUN: usize = 3;

/// What can be said about a benchmark.
///
/// See the example of [`Report`].
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
///
/// See the example of [`Report`].
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Its id.
    pub id: String,
    /// Time in the second record over time in the first, each in units of the control, with its 99 % interval.
    pub ratio: Interval,
    /// Time over time, as the clock had it.
    pub raw: f64,
    /// The factor up to which it does not count.
    pub margin: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Two records.
///
/// ```
/// use arras_measure::{Record, Report, Verdict};
/// # use arras_measure::{Benchmark, machine::Source, stats::Summary, telemetry::Energy};
///
/// # let record = |factor: f64| {
/// #     let samples: Vec<f64> = (0..15).map(|round| factor * (1000.0 + f64::from(round % 4))).collect();
/// #     let source = Source { commit: "0".repeat(40), committed: 1_700_000_000, dirty: false };
/// #     let benchmark = Benchmark { id: "ntt".into(), what: "a transform".into(), backend: "cpu".into(), threads: 1,
/// #         parameters: Default::default(), unit: "ns".into(), items: 1, item: "polynomial".into(), headline: true,
/// #         work: None, floor: None, rounds: 15, blocks: 1, control: vec![1.0; 15], energy: Energy::default(),
/// #         summary: Summary::of(&samples), samples };
/// #     Record { benchmarks: vec![benchmark], ..Record::start(source) }
/// # };
/// // Records of one benchmark: as it was, the same again, and half as long again.
/// let (before, again, slower) = (record(1.0), record(1.0), record(1.5));
/// let report = Report::new(&before, &again)?;
/// assert_eq!((report.count(Verdict::Same), report.comparisons[0].ratio.value), (1, 1.0));
/// let report = Report::new(&before, &slower)?;
/// assert_eq!(report.comparisons[0].verdict, Verdict::Slower);
/// # Ok::<(), arras_measure::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// What both measured, in the order of the second.
    pub comparisons: Vec<Comparison>,
    /// What the two runs differ by as a whole, unless too few cases tell or blocks took turns: the machine, or the build.
    pub common: Option<f64>,
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
        let of = |record: &'_ Record, b: &Benchmark| {
            record.benchmarks.iter().position(|other| other.key() == b.key())
        };
        let pair = |b| of(first, b).map(|at| Evidence::of(&first.benchmarks[at], b));
        let evidence: Vec<Evidence> = second.benchmarks.iter().filter_map(pair).collect();
        if evidence.is_empty() {
            return Err(Error::field("benchmarks", "the records have none in common"));
        }
        let noise = Noise::of(&evidence);
        let lacking = |from: &Record, other: &Record| -> Vec<String> {
            let lacking = from.benchmarks.iter().filter(|b| of(other, b).is_none());
            lacking.map(|b| b.id.clone()).collect()
        };
        Ok(Self {
            comparisons: evidence.into_iter().map(|evidence| evidence.judge(noise)).collect(),
            common: noise.map(|noise| noise.common),
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

/// What two runs of a benchmark say, before anything is made of it.
struct Evidence {
    id: String,
    ratio: Interval,
    raw: f64,
    /// Interquartile range of the rounds over their median, the larger of both; nothing if pairs of blocks were compared.
    spread: Option<f64>,
}

/// How two runs differ for no reason that lies in the cases, in natural logarithms but for `common`.
#[derive(Clone, Copy)]
struct Noise {
    /// Median ratio of all cases.
    common: f64,
    /// Robust standard deviation of their logarithms around it.
    scatter: f64,
}

impl Noise {
    /// Nothing if too few cases tell.
    fn of(evidence: &[Evidence]) -> Option<Self> {
        let runs = evidence.iter().filter(|one| one.spread.is_some());
        let logs: Vec<f64> = runs.map(|one| one.ratio.value.ln()).collect();
        if logs.len() < FEW {
            return None;
        }
        let common = median(&logs);
        let deviations: Vec<f64> = logs.iter().map(|log| (log - common).abs()).collect();
        // Of a normal distribution this is the standard deviation.
        Some(Self { common: common.exp(), scatter: 1.4826 * median(&deviations) })
    }
}

impl Evidence {
    fn of(first: &Benchmark, second: &Benchmark) -> Self {
        let (id, raw) = (second.id.clone(), second.summary.median / first.summary.median);
        // Without controls in both, the clock's times have to do.
        let controlled = !first.control.is_empty() && !second.control.is_empty();
        let (a, b) = (round_times(first, controlled), round_times(second, controlled));
        if first.blocks == second.blocks && first.blocks >= LEAST_BLOCKS {
            let (a, b) = (block_times(&a, first.blocks), block_times(&b, second.blocks));
            let ratios: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b / a).collect();
            return Self { id, ratio: sign_interval(&ratios, CONFIDENCE), raw, spread: None };
        }
        let spread = Summary::of(&a).spread.max(Summary::of(&b).spread);
        Self { id, ratio: ratio_interval(&a, &b, RUN, CONFIDENCE), raw, spread: Some(spread) }
    }

    fn judge(self, noise: Option<Noise>) -> Comparison {
        let Self { id, ratio, raw, spread } = self;
        let (margin, common) = match (spread, noise) {
            // What drifts is not in pairs of blocks.
            (None, _) => (MARGIN, 1.0),
            (Some(spread), Some(Noise { common, scatter })) => {
                (MARGIN.max(1.0 + spread).max((DEVIATIONS * scatter).exp()), common)
            }
            (Some(spread), None) => (MARGIN_OF_FEW.max(1.0 + spread), 1.0),
        };
        let verdict = if ratio.low > margin * common.max(1.0) {
            Verdict::Slower
        } else if ratio.high < common.min(1.0) / margin {
            Verdict::Faster
        } else if ratio.low >= 1.0 / MARGIN && ratio.high <= MARGIN {
            Verdict::Same
        } else {
            Verdict::Unresolved
        };
        Comparison { id, ratio, raw, margin, verdict }
    }
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

/// One number per block: the lower quartile of its rounds.
fn block_times(rounds: &[f64], blocks: usize) -> Vec<f64> {
    let blocks = rounds.chunks_exact((rounds.len() / blocks.max(1)).max(1));
    blocks.map(|block| quantile(&sorted(block), 0.25)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use crate::record::tests::{benchmark, record};

    /// A run of `cases` cases on a machine whose clock wanders, where a tenth of the samples is disturbed, where every case
    /// is some per cent off because of where its memory lies, and which as a whole is up to 8 % off for reasons of its own.
    fn run(seed: u64, cases: usize, factor: impl Fn(usize) -> f64) -> Record {
        let mut rng = SplitMix(seed);
        let mut all = record('a', 1, &["x"]);
        all.benchmarks.clear();
        let shared = 1.0 + 0.08 * rng.unit();
        for case in 0..cases {
            let (rounds, placed) = (15, shared * (1.0 + 0.01 * rng.unit()) * factor(case));
            let (mut control, mut samples) = (Vec::new(), Vec::new());
            let mut clock = 1.0 + 0.1 * rng.unit();
            for _ in 0..rounds {
                clock *= 1.0 + 0.02 * rng.unit();
                control.push(8000.0 * clock * (1.0 + 0.003 * rng.unit()));
                for _ in 0..3 {
                    let disturbed = if rng.below(10) == 0 { 1.0 + rng.unit().abs() } else { 1.0 };
                    samples.push(1e5 * clock * placed * disturbed * (1.0 + 0.02 * rng.unit()));
                }
            }
            let named = benchmark(&format!("case/{case}"), samples);
            all.benchmarks.push(Benchmark { rounds, control, ..named });
        }
        all.check().unwrap();
        all
    }

    fn blocks(seed: u64, factor: f64) -> Record {
        let mut all = run(seed, 3, |_| factor);
        for block in 1..10 {
            all.append(run(seed + 1000 * block, 3, |_| factor)).unwrap();
        }
        all
    }

    #[test]
    fn the_same_build_shows_no_difference() {
        for seed in 0..20 {
            let report = Report::new(&run(2 * seed, 50, |_| 1.0), &run(2 * seed + 1, 50, |_| 1.0)).unwrap();
            assert_eq!((report.count(Verdict::Slower), report.count(Verdict::Faster)), (0, 0), "seed {seed}");
            assert!(report.verdict().starts_with("no difference"), "{}", report.verdict());
            let common = report.common.unwrap();
            assert!((0.8..1.25).contains(&common), "seed {seed}: {common}");
        }
    }

    /// Up to a fifth of the cases is planted; the others say what the runs differ by as a whole.
    #[test]
    fn a_tenth_more_time_in_some_cases_is_flagged() {
        let slower = |case| if case < 10 { 1.15 } else { 1.0 };
        let mut found = 0;
        for seed in 0..20 {
            let (before, after) = (run(2 * seed, 50, |_| 1.0), run(2 * seed + 1, 50, slower));
            let report = Report::new(&before, &after).unwrap();
            let flagged = |c: &&Comparison| matches!(c.verdict, Verdict::Slower);
            found += report.comparisons.iter().filter(flagged).count();
            let innocent = report.comparisons[10..].iter().filter(flagged).count();
            assert_eq!((innocent, report.count(Verdict::Faster)), (0, 0), "seed {seed}");
        }
        // Where the machine as a whole went the other way it hides them; blocks do not.
        assert!(found > 150, "{found} of 200");
    }

    #[test]
    fn blocks_flag_a_tenth_and_nothing_else() {
        let count =
            |first: &Record, second: &Record, verdict| Report::new(first, second).unwrap().count(verdict);
        for seed in 0..10 {
            let (one, same, slower) =
                (blocks(2 * seed, 1.0), blocks(2 * seed + 1, 1.0), blocks(7 * seed + 3, 1.1));
            // The blocks of one pair share what the machine did at that time.
            let paired = |factor: f64| {
                let mut other = one.clone();
                let mut rng = SplitMix(seed);
                for benchmark in &mut other.benchmarks {
                    for sample in &mut benchmark.samples {
                        *sample *= factor * (1.0 + 0.02 * rng.unit());
                    }
                    benchmark.summary = Summary::of(&benchmark.samples);
                }
                other
            };
            assert_eq!(count(&one, &paired(1.1), Verdict::Slower), 3, "seed {seed}");
            assert_eq!(count(&one, &paired(1.0), Verdict::Same), 3, "seed {seed}");
            assert_eq!(count(&paired(1.1), &one, Verdict::Faster), 3, "seed {seed}");
            // Blocks that took no turns differ by more, and no verdict contradicts what was planted.
            assert_eq!(
                count(&one, &same, Verdict::Slower) + count(&one, &same, Verdict::Faster),
                0,
                "seed {seed}"
            );
            assert_eq!(count(&one, &slower, Verdict::Faster), 0, "seed {seed}");
        }
    }

    #[test]
    fn noise_is_called_noise() {
        let noisy = |seed: u64| {
            let mut noisy = run(seed, 1, |_| 1.0);
            let mut rng = SplitMix(seed);
            for sample in &mut noisy.benchmarks[0].samples {
                *sample *= 1.5 + rng.unit();
            }
            noisy.benchmarks[0].summary = Summary::of(&noisy.benchmarks[0].samples);
            noisy
        };
        let report = Report::new(&noisy(1), &noisy(2)).unwrap();
        assert_eq!(report.verdict(), "no difference (1 of 1 too noisy to say)");
        assert_eq!(report.common, None);
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
