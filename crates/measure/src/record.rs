//! Measured results: the files in `records/`.
//!
//! The fields are explained in `docs/records.md`. A record keeps the raw samples, so that whoever doubts a summary can
//! compute another. Whatever the summary says is recomputed when a record is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arras_wire::file::{Access, read_bounded, write_atomically};
use serde::{Deserialize, Serialize};

use crate::machine::{self, Machine, Source};
use crate::stats::{Interval, Summary};
use crate::telemetry::{Energy, Telemetry};
use crate::waterfall::Waterfall;
use crate::{Error, Result};

/// The version of the format that is written.
pub const SCHEMA: u32 = 3;
/// The oldest version that is read: it lacks clocks, ceilings, ratios, rounds, controls, work and floors. Version 2 lacks
/// blocks, energy, telemetry and waterfalls.
const OLDEST: u32 = 1;
/// Largest record that is read.
const MAX_BYTES: u64 = 64 << 20;

/// What was measured on one machine at one commit.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::machine::Source;
/// use arras_measure::{Cases, CpuDevice, Effort, Record, Sweep, measure};
///
/// # let source = Source { commit: "0".repeat(40), committed: 1_700_000_000, dirty: false };
/// let device = CpuDevice::new(Cpu::sequential());
/// let cases = Cases::new(&Sweep { degrees: vec![1024], sets: vec![], heads: false, ..Sweep::default() });
/// let wanted = |name: &str| name == "ntt/forward/n=1024/limbs=3/q=50";
/// let (benchmarks, ceilings) = measure(&device, &cases, &wanted, &Effort::QUICK, &mut |_| ())?;
/// let record = Record { benchmarks, ceilings, ..Record::start(source) };
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let path = record.clone().keep(folder)?;
/// assert_eq!(Record::read(&path)?.benchmarks[0].samples.len(), record.benchmarks[0].samples.len());
/// # Ok::<(), arras_measure::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the format.
    pub schema: u32,
    /// The source that was measured.
    pub source: Source,
    /// Where.
    pub machine: Machine,
    /// Runnable tasks per second averaged over the minute before the run, where the system tells.
    pub load: Option<f64>,
    /// Clock rates of the cores in MHz, before and after the run, where the system tells.
    #[serde(default)]
    pub clocks: [Vec<f64>; 2],
    /// What the machine reached at its simplest work in the same run.
    #[serde(default)]
    pub ceilings: Vec<Ceiling>,
    /// One entry per benchmark, in the order in which they ran.
    pub benchmarks: Vec<Benchmark>,
    /// Ratios of times of the same rounds.
    #[serde(default)]
    pub ratios: Vec<Ratio>,
    /// The whole road, stage by stage.
    #[serde(default)]
    pub waterfalls: Vec<Waterfall>,
    /// Clocks, power and temperatures during the run.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// A limit of the machine, measured.
///
/// See the example of [`Ceilings`](crate::ceiling::Ceilings).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// What was done: `stream`, `multiply`, `fma`.
    pub kind: String,
    /// Of a stream: bytes read for every `written` bytes written.
    pub read: u64,
    /// Of a stream: bytes written.
    pub written: u64,
    /// Bytes of memory that it went through again and again.
    pub footprint: u64,
    /// Nanoseconds per byte read or written, per modular multiplication, or per multiply-add of f32: the lower quartile of
    /// what was measured.
    pub ns: f64,
}

/// What a benchmark has to do at least, counted.
///
/// See the example of [`Ceilings`](crate::ceiling::Ceilings).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Bytes that have to be read: every operand once.
    pub read: u64,
    /// Bytes that have to be written: every result once.
    pub written: u64,
    /// Modular multiplications; a butterfly is one.
    pub multiplications: u64,
    /// Multiply-adds of single precision.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fmas: u64,
}

impl Work {
    /// Bytes alone.
    pub fn moving(read: u64, written: u64) -> Self {
        Self { read, written, ..Self::default() }
    }
}

/// The time that the machine needs for [`Work`] at its ceilings, in nanoseconds.
///
/// ```
/// use arras_measure::record::Floor;
///
/// let floor = Floor { memory: 1200.0, arithmetic: 900.0 };
/// assert_eq!((floor.ns(), floor.bound()), (1200.0, "memory"));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// To stream the bytes.
    pub memory: f64,
    /// To do the multiplications, modular ones and those of floats one after the other.
    pub arithmetic: f64,
}

impl Floor {
    /// The larger of the two.
    pub fn ns(&self) -> f64 {
        self.memory.max(self.arithmetic)
    }

    /// Which of the two is larger.
    pub fn bound(&self) -> &'static str {
        if self.memory > self.arithmetic { "memory" } else { "arithmetic" }
    }
}

/// A benchmark and its samples.
///
/// See the example of [`Record`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// Unique in a record; names the same work in every record.
    pub id: String,
    /// The work in words.
    pub what: String,
    /// [`Backend::name`](arras_rns::Backend::name).
    pub backend: String,
    /// Threads that the work was allowed.
    pub threads: usize,
    /// Whatever else the work depends on, by name.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Unit of the samples and of their summary: `ns`.
    pub unit: String,
    /// Into how many items (images, polynomials) the work divides.
    pub items: u64,
    /// What an item is.
    pub item: String,
    /// Whether it stands in the README's table.
    #[serde(default = "yes")]
    pub headline: bool,
    /// What it has to do at least.
    #[serde(default)]
    pub work: Option<Work>,
    /// How long that takes at the ceilings.
    #[serde(default)]
    pub floor: Option<Floor>,
    /// Rounds over all benchmarks of a group; the samples divide into as many runs of equal length.
    #[serde(default = "one")]
    pub rounds: usize,
    /// Processes that the rounds are of, as many of each, in order.
    #[serde(default = "one")]
    pub blocks: usize,
    /// Time of a fixed piece of work just before each round's samples: how fast the machine was. Empty in old records.
    #[serde(default)]
    pub control: Vec<f64>,
    /// Joules of one execution.
    #[serde(default)]
    pub energy: Energy,
    /// Time of one execution of the work, one entry per sample.
    pub samples: Vec<f64>,
    /// What the samples amount to.
    pub summary: Summary,
}

/// The time of something over the time of something else.
///
/// ```
/// use arras_measure::record::Ratio;
/// use arras_measure::stats::Interval;
///
/// let ratio = Ratio {
///     id: "ntt/two-threads".into(),
///     what: "a transform on two threads by one on one".into(),
///     value: Interval { value: 0.56, low: 0.54, high: 0.61 },
///     target: 0.58,
///     at_least: false,
/// };
/// assert!(ratio.met() && !Ratio { at_least: true, ..ratio }.met());
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Unique in a record; names the same comparison in every record.
    pub id: String,
    /// What was divided by what, in words.
    pub what: String,
    /// Median over the rounds, and its 95 % interval.
    pub value: Interval,
    /// What it should be at most, or at least.
    pub target: f64,
    /// Whether the target is a lower bound.
    pub at_least: bool,
}

impl Ratio {
    /// Whether the median keeps the target.
    pub fn met(&self) -> bool {
        if self.at_least { self.value.value >= self.target } else { self.value.value <= self.target }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

impl Record {
    /// An empty record of a source on this machine, now.
    pub fn start(source: Source) -> Self {
        Self {
            schema: SCHEMA,
            source,
            machine: Machine::here(),
            load: machine::load(),
            clocks: [machine::clocks(), Vec::new()],
            ceilings: Vec::new(),
            benchmarks: Vec::new(),
            ratios: Vec::new(),
            waterfalls: Vec::new(),
            telemetry: Telemetry::default(),
        }
    }

    /// The name of the file: machine and commit.
    pub fn name(&self) -> String {
        let words =
            self.machine.cpu.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let cpu = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
        format!("{cpu}-{}-cores-{}.json", self.machine.cores, self.source.short(12))
    }

    /// Refuses a record that does not agree with itself.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<()> {
        if !(OLDEST..=SCHEMA).contains(&self.schema) {
            let problem = format!("{} is unknown, expected {OLDEST} to {SCHEMA}", self.schema);
            return Err(Error::field("schema", problem));
        }
        self.source.check()?;
        if self.benchmarks.is_empty() && self.waterfalls.is_empty() {
            return Err(Error::field("benchmarks", "there are none"));
        }
        unique("benchmarks", self.benchmarks.iter().map(Benchmark::key))?;
        self.benchmarks.iter().try_for_each(Benchmark::check)?;
        unique("ratios", self.ratios.iter().map(|ratio| &ratio.id))?;
        unique("waterfalls", self.waterfalls.iter().map(Waterfall::key))?;
        self.waterfalls.iter().try_for_each(Waterfall::check)
    }

    /// Refuses a record that is not fit to be shown: nobody could repeat it.
    ///
    /// # Errors
    /// If tracked files differed from the commit.
    pub fn refuse_dirty(&self) -> Result<()> {
        match self.source.dirty {
            true => Err(Error::field("dirty", "tracked files differed from the commit")),
            false => Ok(()),
        }
    }

    /// Reads and checks a record.
    ///
    /// # Errors
    /// Names the file and the field.
    pub fn read(path: &Path) -> Result<Self> {
        let parse = || -> Result<Self> {
            let record: Self = serde_json::from_slice(&read_bounded(path, MAX_BYTES)?)?;
            record.check()?;
            Ok(record)
        };
        parse().map_err(|error| error.in_file(path))
    }

    /// Writes the record as JSON, whole or not at all.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomically(path, self.json()?.as_bytes(), Access::Shared)?)
    }

    /// One line per field, and per entry of a list: samples are many, and lines are what a difference is shown in.
    fn json(&self) -> Result<String> {
        fn list<T: Serialize>(entries: &[T]) -> Result<String> {
            let lines = entries.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
            Ok(if lines.is_empty() { "[]".into() } else { format!("[\n{}\n]", lines.join(",\n")) })
        }
        let fields = [
            ("schema", serde_json::to_string(&self.schema)?),
            ("source", serde_json::to_string(&self.source)?),
            ("machine", serde_json::to_string(&self.machine)?),
            ("load", serde_json::to_string(&self.load)?),
            ("clocks", serde_json::to_string(&self.clocks)?),
            ("ceilings", list(&self.ceilings)?),
            ("benchmarks", list(&self.benchmarks)?),
            ("ratios", list(&self.ratios)?),
            ("waterfalls", list(&self.waterfalls)?),
            ("telemetry", serde_json::to_string(&self.telemetry)?),
        ];
        let lines: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
    }

    /// Puts the record where it belongs and gives its path. What an older record of the same machine and commit has
    /// besides is kept.
    ///
    /// # Errors
    /// As [`refuse_dirty`](Self::refuse_dirty), [`read`](Self::read) and [`write`](Self::write).
    pub fn keep(mut self, folder: &Path) -> Result<PathBuf> {
        self.check()?;
        self.refuse_dirty()?;
        let path = folder.join(self.name());
        if path.exists() {
            let known = Self::read(&path)?;
            join(&mut self.benchmarks, known.benchmarks, |b| (b.id.clone(), b.device().to_owned()));
            join(&mut self.ratios, known.ratios, |ratio| ratio.id.clone());
            join(&mut self.waterfalls, known.waterfalls, |w| (w.id.clone(), w.device().to_owned()));
        }
        self.write(&path)?;
        Ok(path)
    }

    /// Adds the rounds of another run of the same program as a block of their own to the benchmarks that both have, and
    /// leaves out the others: `compare` takes blocks for what differs between processes.
    ///
    /// # Errors
    /// A record of another commit or machine, or without a case in common.
    pub fn append(&mut self, block: Self) -> Result<()> {
        if (&self.source, &self.machine) != (&block.source, &block.machine) {
            return Err(Error::field(
                "source",
                "is another commit or machine than that of the blocks before",
            ));
        }
        let mut more: BTreeMap<_, _> =
            block.benchmarks.into_iter().map(|b| ((b.id.clone(), b.backend.clone(), b.threads), b)).collect();
        let mut kept = Vec::new();
        for mut benchmark in std::mem::take(&mut self.benchmarks) {
            let key = (benchmark.id.clone(), benchmark.backend.clone(), benchmark.threads);
            if let Some(more) = more.remove(&key) {
                benchmark.append(more);
                kept.push(benchmark);
            }
        }
        self.benchmarks = kept;
        self.clocks[1] = block.clocks[1].clone();
        self.check()
    }
}

/// Refuses a list in which something occurs twice.
fn unique<T: Ord + Copy + std::fmt::Debug>(field: &str, mut ids: impl Iterator<Item = T>) -> Result<()> {
    let mut seen = BTreeSet::new();
    match ids.find(|&id| !seen.insert(id)) {
        Some(id) => Err(Error::field(field, format!("{id:?} occurs twice"))),
        None => Ok(()),
    }
}

/// Adds to a list what another has besides.
fn join<T, K: Ord>(list: &mut Vec<T>, other: Vec<T>, key: impl Fn(&T) -> K) {
    let known: BTreeSet<K> = list.iter().map(&key).collect();
    list.extend(other.into_iter().filter(|entry| !known.contains(&key(entry))));
}

impl Benchmark {
    fn check(&self) -> Result<()> {
        let refuse = |field: &str, problem: &str| Err(Error::field(format!("{}: {field}", self.id), problem));
        if self.unit != "ns" {
            return refuse("unit", "is not ns");
        }
        if self.threads == 0 || self.items == 0 {
            return refuse(if self.threads == 0 { "threads" } else { "items" }, "is 0");
        }
        if self.samples.is_empty() || self.rounds == 0 || !self.samples.len().is_multiple_of(self.rounds) {
            return refuse("samples", "do not divide into rounds");
        }
        if !self.samples.iter().chain(&self.control).all(|x| x.is_finite() && *x > 0.0) {
            return refuse("samples", "are not positive");
        }
        if !(self.control.is_empty() || self.control.len() == self.rounds) {
            return refuse("control", "has not one entry per round");
        }
        if self.blocks == 0 || !self.rounds.is_multiple_of(self.blocks) {
            return refuse("blocks", "do not divide the rounds");
        }
        if !self.summary.agrees(&Summary::of(&self.samples)) {
            return refuse("summary", "is not that of the samples");
        }
        Ok(())
    }

    /// What no other benchmark of a record shares: the same work may have been done by several devices.
    pub fn key(&self) -> (&str, &str) {
        (&self.id, self.device())
    }

    /// What kind of device did the work: the first word of its name, `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        kind(&self.backend)
    }

    /// Adds a block, of as many rounds and samples in each as both have: how many fit into a round depends on the moment.
    fn append(&mut self, mut more: Self) {
        let rounds = (self.rounds / self.blocks.max(1)).min(more.rounds);
        let samples = (self.samples.len() / self.rounds).min(more.samples.len() / more.rounds);
        let controlled = !self.control.is_empty() && !more.control.is_empty();
        for benchmark in [&mut *self, &mut more] {
            benchmark.cut(rounds, samples, controlled);
        }
        self.rounds += more.rounds;
        self.blocks += more.blocks;
        self.control.extend(more.control);
        self.samples.extend(more.samples);
        self.summary = Summary::of(&self.samples);
    }

    /// Keeps the first rounds of each block and the first samples of each round.
    fn cut(&mut self, rounds: usize, samples: usize, controlled: bool) {
        let per_block = self.rounds / self.blocks;
        let kept = |round: &usize| round % per_block < rounds;
        let all: Vec<&[f64]> = self.by_round().collect();
        let cut = (0..self.rounds).filter(kept).flat_map(|round| all[round][..samples].to_vec()).collect();
        self.control = match controlled {
            true => (0..self.rounds).filter(kept).map(|round| self.control[round]).collect(),
            false => Vec::new(),
        };
        (self.samples, self.rounds) = (cut, rounds * self.blocks);
    }

    /// The samples of each round.
    pub fn by_round(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.samples.chunks_exact((self.samples.len() / self.rounds.max(1)).max(1))
    }

    /// Which part of the median the floor is, if one is known.
    pub fn fraction(&self) -> Option<f64> {
        self.floor.map(|floor| floor.ns() / self.summary.median).filter(|fraction| *fraction > 0.0)
    }
}

/// The first word of a backend's name.
fn kind(backend: &str) -> &str {
    backend.split(' ').next().unwrap_or_default()
}

/// Reads every record in a folder, in the order of their names.
///
/// # Errors
/// A file that is no record, is of a checkout with changes, or is not named as [`Record::name`] says.
pub fn read_all(folder: &Path) -> Result<Vec<Record>> {
    let listing = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths =
        listing().map_err(|source| Error::System { place: "listing records", source }.in_file(folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let named = |path: &PathBuf| {
        let record = Record::read(path)?;
        record.refuse_dirty().map_err(|error| error.in_file(path))?;
        let expected = record.name();
        if !path.ends_with(&expected) {
            return Err(Error::field("name", format!("should be called {expected}")).in_file(path));
        }
        Ok(record)
    };
    paths.iter().map(named).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn benchmark(id: &str, samples: Vec<f64>) -> Benchmark {
        Benchmark {
            id: id.into(),
            what: format!("work {id}"),
            backend: "cpu".into(),
            threads: 1,
            parameters: BTreeMap::from([("degree".into(), 8.into())]),
            unit: "ns".into(),
            items: 2000,
            item: "image".into(),
            headline: true,
            work: Some(Work { read: 1, written: 2, multiplications: 3, fmas: 4 }),
            floor: Some(Floor { memory: 1e6, arithmetic: 2e6 }),
            rounds: 1,
            blocks: 1,
            control: vec![1.5],
            energy: Energy { package: Some(0.5), gpu: None },
            summary: Summary::of(&samples),
            samples,
        }
    }

    pub(crate) fn record(commit: char, committed: u64, ids: &[&str]) -> Record {
        Record {
            schema: SCHEMA,
            source: Source { commit: commit.to_string().repeat(40), committed, dirty: false },
            machine: Machine {
                cpu: "Some CPU (R) 3".into(),
                cores: 2,
                system: "linux x86_64".into(),
                features: BTreeSet::new(),
                gpus: Vec::new(),
            },
            load: Some(0.25),
            clocks: [vec![3.0], vec![4.0]],
            ceilings: vec![Ceiling { kind: "stream".into(), read: 2, written: 1, footprint: 64, ns: 0.1 }],
            benchmarks: ids.iter().map(|id| benchmark(id, vec![3e6, 1e6, 2e6, 5e6, 4e6])).collect(),
            ratios: vec![Ratio {
                id: "r".into(),
                what: "one by another".into(),
                value: Interval { value: 0.5, low: 0.4, high: 0.6 },
                target: 0.58,
                at_least: false,
            }],
            waterfalls: vec![crate::waterfall::tests::waterfall("cpu (x)")],
            telemetry: Telemetry::default(),
        }
    }

    #[test]
    fn records_survive_a_file_and_lies_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let kept = record('c', 3, &["x"]);
        assert_eq!(kept.name(), "some-cpu-r-3-2-cores-cccccccccccc.json");
        let path = kept.clone().keep(folder.path()).unwrap();
        assert_eq!(read_all(folder.path()).unwrap(), std::slice::from_ref(&kept));
        // A second run of the same commit adds to the first.
        let mut more = record('c', 3, &["y", "z"]);
        more.ratios.clear();
        more.keep(folder.path()).unwrap();
        let both = Record::read(&path).unwrap();
        let ids: Vec<&str> = both.benchmarks.iter().map(|b| b.id.as_str()).collect();
        assert_eq!((ids, both.ratios.len()), (vec!["y", "z", "x"], 1));

        let refused = |change: fn(&mut Record), field: &str| {
            let mut record = kept.clone();
            change(&mut record);
            let error = record.keep(folder.path()).unwrap_err().to_string();
            assert!(error.contains(field), "{field}: {error}");
        };
        refused(|record| record.benchmarks[0].summary.median = 1e6, "x: summary");
        refused(|record| record.benchmarks[0].samples[0] = -1.0, "x: samples");
        refused(|record| record.benchmarks[0].rounds = 2, "x: samples");
        refused(|record| record.benchmarks[0].control.push(1.0), "x: control");
        refused(|record| record.benchmarks[0].items = 0, "x: items");
        refused(|record| record.benchmarks[0].blocks = 2, "x: blocks");
        refused(|record| record.waterfalls[0].images = 0, "images");
        refused(
            |record| {
                record.benchmarks.clear();
                record.waterfalls.clear();
            },
            "benchmarks",
        );
        refused(|record| record.benchmarks.push(record.benchmarks[0].clone()), "twice");
        refused(|record| record.ratios.push(record.ratios[0].clone()), "twice");
        refused(|record| record.schema = 4, "schema");
        refused(|record| record.source.commit.clear(), "commit");
        refused(|record| record.source.dirty = true, "dirty");
        std::fs::rename(&path, folder.path().join("other.json")).unwrap();
        assert!(read_all(folder.path()).unwrap_err().to_string().contains("should be called"));
    }

    #[test]
    fn blocks_follow_each_other() {
        let mut all = record('a', 1, &["x", "y"]);
        let mut more = record('a', 1, &["z", "x"]);
        more.benchmarks[1].samples[0] = 9e6;
        more.benchmarks[1].summary = Summary::of(&more.benchmarks[1].samples);
        all.append(more.clone()).unwrap();
        let [both] = &all.benchmarks[..] else { panic!("{:?}", all.benchmarks) };
        assert_eq!((both.blocks, both.rounds, both.samples[5]), (2, 2, 9e6));
        // Fewer samples in the round: so many are kept of the others.
        more.benchmarks[1].samples.pop();
        more.benchmarks[1].summary = Summary::of(&more.benchmarks[1].samples);
        all.append(more).unwrap();
        let x = &all.benchmarks[0];
        assert_eq!((x.blocks, x.rounds, x.samples.len(), x.control.len()), (3, 3, 12, 3));
        assert_eq!(x.samples[4..6], [9e6, 1e6]);
        assert!(all.append(record('b', 1, &["x"])).unwrap_err().to_string().starts_with("source"));
    }

    /// The same work on the CPU and on a GPU may stand in one record.
    #[test]
    fn devices_are_told_apart() {
        let mut record = record('a', 1, &["x", "x"]);
        assert!(record.check().is_err());
        record.benchmarks[1].backend = "cuda (H200)".into();
        record.check().unwrap();
    }

    #[test]
    fn ratios_know_the_side_of_their_target() {
        let ratio = record('a', 1, &["x"]).ratios.remove(0);
        assert!(ratio.met() && !Ratio { target: 0.49, ..ratio.clone() }.met());
        assert!(!Ratio { at_least: true, ..ratio.clone() }.met());
        assert!(Ratio { at_least: true, target: 0.5, ..ratio }.met());
    }
}
