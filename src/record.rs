//! Measured results: the files in `records/`, and the table in the README that is made from them.
//!
//! The fields are explained in `docs/records.md`. A record keeps the raw samples, so that whoever doubts a summary can
//! compute another. Whatever the summary says is recomputed when a record is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use arras_wire::file::{Access, read_bounded, write_atomically};
use serde::{Deserialize, Serialize};

/// The version of the format.
const SCHEMA: u32 = 1;
/// Largest record that is read.
const MAX_BYTES: u64 = 16 << 20;
/// Where the table starts in the README.
pub const BEGIN: &str = "<!-- records:begin -->";
/// Where it ends.
pub const END: &str = "<!-- records:end -->";

/// What was measured on one machine at one commit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the format: 1.
    pub schema: u32,
    /// The source that was measured.
    pub source: Source,
    /// Where.
    pub machine: Machine,
    /// Runnable tasks per second averaged over the minute before the run, where the system tells.
    pub load: Option<f64>,
    /// One entry per benchmark, in the order in which they ran.
    pub benchmarks: Vec<Benchmark>,
}

/// A commit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// When it was committed, in seconds since 1970: what tells newer records from older ones.
    pub committed: u64,
    /// Whether tracked files differed from it. Such a record is not kept.
    pub dirty: bool,
}

/// A computer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What the CPU calls itself.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
    /// Operating system and architecture.
    pub system: String,
    /// The instruction sets that matter here.
    pub features: BTreeSet<String>,
}

/// A benchmark and its samples.
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
    /// Time of one execution of the work, one entry per sample.
    pub samples: Vec<f64>,
    /// What the samples amount to.
    pub summary: Summary,
}

/// What samples amount to. Quantiles interpolate linearly between order statistics.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// Interquartile range over median.
    pub spread: f64,
}

impl Summary {
    /// Summarises samples; zeros if there are none.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let place = share * sorted.len().saturating_sub(1) as f64;
            let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(0.0);
            at(place.floor()) + place.fract() * (at(place.ceil()) - at(place.floor()))
        };
        let median = quantile(0.5);
        let spread = if median > 0.0 { (quantile(0.75) - quantile(0.25)) / median } else { 0.0 };
        Self { median, p95: quantile(0.95), spread }
    }

    fn agrees(&self, other: &Self) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
        close(self.median, other.median) && close(self.p95, other.p95) && close(self.spread, other.spread)
    }
}

impl Record {
    /// An empty record of the checkout at `root` on this machine, now.
    ///
    /// # Errors
    /// If `root` is no checkout, or there is no `git`.
    pub fn start(root: &Path) -> Result<Self> {
        Ok(Self {
            schema: SCHEMA,
            source: Source::of(root)?,
            machine: Machine::here(),
            load: load(),
            benchmarks: Vec::new(),
        })
    }

    /// The name of the file: machine and commit.
    pub fn name(&self) -> String {
        let words =
            self.machine.cpu.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let cpu = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
        let commit = self.source.commit.get(..12).unwrap_or(&self.source.commit);
        format!("{cpu}-{}-cores-{commit}.json", self.machine.cores)
    }

    /// Refuses a record that is not fit to be shown.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<()> {
        ensure!(self.schema == SCHEMA, "schema: {} is unknown, expected {SCHEMA}", self.schema);
        let commit = &self.source.commit;
        ensure!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "commit: {commit:?}");
        ensure!(!self.source.dirty, "dirty: tracked files differed from the commit");
        ensure!(!self.benchmarks.is_empty(), "benchmarks: there are none");
        let mut ids = BTreeSet::new();
        for benchmark in &self.benchmarks {
            ensure!(ids.insert(&benchmark.id), "benchmarks: {:?} occurs twice", benchmark.id);
            benchmark.check().with_context(|| benchmark.id.clone())?;
        }
        Ok(())
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
        parse().with_context(|| path.display().to_string())
    }

    /// Writes the record as JSON, whole or not at all.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(write_atomically(path, text.as_bytes(), Access::Shared)?)
    }
}

impl Benchmark {
    fn check(&self) -> Result<()> {
        ensure!(self.unit == "ns", "unit: {:?} is not ns", self.unit);
        ensure!(self.threads > 0, "threads: is 0");
        ensure!(self.items > 0, "items: is 0");
        ensure!(!self.samples.is_empty(), "samples: there are none");
        ensure!(self.samples.iter().all(|x| x.is_finite() && *x > 0.0), "samples: not positive");
        ensure!(self.summary.agrees(&Summary::of(&self.samples)), "summary: is not that of the samples");
        Ok(())
    }
}

impl Source {
    /// The commit of the checkout at `root`.
    ///
    /// # Errors
    /// If `root` is no checkout, or there is no `git`.
    pub fn of(root: &Path) -> Result<Self> {
        let git = |arguments: &[&str]| -> Result<String> {
            let output = Command::new("git").arg("-C").arg(root).args(arguments).output().context("git")?;
            if !output.status.success() {
                bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            commit: git(&["rev-parse", "HEAD"])?,
            committed: git(&["show", "--no-patch", "--format=%ct", "HEAD"])?.parse()?,
            dirty: !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
        })
    }
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self {
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            features: cpu_features(),
        }
    }
}

/// The model, with family and model numbers where it has them: virtual machines hide the marketing name.
fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name| {
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        (Some(name), ..) => name,
        _ => "unknown CPU".into(),
    }
}

fn cpu_features() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! probe {
            ($($feature:tt)*) => { $(if std::arch::is_x86_feature_detected!($feature) { found.insert($feature.to_owned()); })* };
        }
        probe!("avx2" "fma" "bmi2" "avx512f" "avx512dq" "avx512vl" "avx512ifma");
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.insert("neon".to_owned());
    }
    found
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// The samples that Criterion left in `folder` for a benchmark: nanoseconds per execution. Nothing if the last run, which
/// began at `since`, left that benchmark out.
///
/// # Errors
/// Files that are there and cannot be read.
pub fn criterion_samples(folder: &Path, id: &str, since: std::time::SystemTime) -> Result<Option<Vec<f64>>> {
    #[derive(Deserialize)]
    struct Name {
        full_id: String,
    }
    #[derive(Deserialize)]
    struct Saved {
        iters: Vec<f64>,
        times: Vec<f64>,
    }
    for new in folders_named_new(folder)? {
        let name: Name = serde_json::from_slice(&read_bounded(&new.join("benchmark.json"), MAX_BYTES)?)?;
        let sample = new.join("sample.json");
        if name.full_id == id && std::fs::metadata(&sample)?.modified()? >= since {
            let saved: Saved = serde_json::from_slice(&read_bounded(&sample, MAX_BYTES)?)?;
            return Ok(Some(saved.times.iter().zip(&saved.iters).map(|(time, n)| time / n).collect()));
        }
    }
    Ok(None)
}

/// Every folder `new` with a benchmark in it, at any depth.
fn folders_named_new(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            if entry.file_name() == "new" && entry.path().join("benchmark.json").exists() {
                found.push(entry.path());
            } else {
                open.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Reads every record in a folder, in the order of their names.
///
/// # Errors
/// A file that is no record, or not named as [`Record::name`] says.
pub fn read_all(folder: &Path) -> Result<Vec<Record>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let named = |path: &PathBuf| {
        let record = Record::read(path)?;
        let expected = record.name();
        ensure!(path.ends_with(&expected), "{}: should be called {expected}", path.display());
        Ok(record)
    };
    paths.iter().map(named).collect()
}

/// The README's tables: for every machine each benchmark once, from the newest commit that measured it.
pub fn table(records: &[Record]) -> String {
    let mut newest: Vec<&Record> = records.iter().collect();
    newest.sort_by_key(|record| (&record.machine, std::cmp::Reverse(record.source.committed)));
    let mut tables = Vec::new();
    for records in newest.chunk_by(|a, b| a.machine == b.machine) {
        let mut shown = BTreeSet::new();
        for record in records {
            let fresh = record.benchmarks.iter().filter(|benchmark| shown.insert(&benchmark.id));
            let fresh: Vec<&Benchmark> = fresh.collect();
            let alike = fresh.chunk_by(|a, b| (&a.backend, a.threads) == (&b.backend, b.threads));
            tables.extend(alike.map(|alike| {
                let rows: String = alike.iter().map(|benchmark| row(benchmark)).collect();
                heading(record, alike[0]) + &rows
            }));
        }
    }
    tables.join("\n")
}

fn heading(
    Record { machine, source, .. }: &Record,
    Benchmark { backend, threads, .. }: &Benchmark,
) -> String {
    let threads = if *threads == 1 { "one thread".into() } else { format!("{threads} threads") };
    format!(
        "{}, {}, {threads} of {} cores, {backend}, commit {}:\n\n\
         | work | median | per item | 95th percentile | spread |\n|---|--:|--:|--:|--:|\n",
        machine.cpu,
        machine.system,
        machine.cores,
        source.commit.get(..8).unwrap_or(&source.commit)
    )
}

fn row(Benchmark { what, summary, items, item, .. }: &Benchmark) -> String {
    let per_item = match items {
        1 => String::new(),
        _ => format!("{} per {item}", duration(summary.median / *items as f64)),
    };
    let (median, p95) = (duration(summary.median), duration(summary.p95));
    format!("| {what} | {median} | {per_item} | {p95} | {:.1} % |\n", 100.0 * summary.spread)
}

/// Three significant digits in the unit that suits.
fn duration(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let (size, unit) = units.into_iter().find(|(size, _)| nanoseconds >= *size).unwrap_or((1.0, "ns"));
    let value = nanoseconds / size;
    let decimals = 2 - value.max(1.0).log10().floor().clamp(0.0, 2.0) as usize;
    format!("{value:.decimals$} {unit}")
}

/// Replaces what stands between [`BEGIN`] and [`END`] by a table.
///
/// # Errors
/// If the markers are not there exactly once, in this order.
pub fn with_table(readme: &str, table: &str) -> Result<String> {
    for marker in [BEGIN, END] {
        let count = readme.matches(marker).count();
        ensure!(count == 1, "the marker {marker} occurs {count} times, expected once");
    }
    let (before, rest) = readme.split_once(BEGIN).unwrap_or_default();
    let Some((_, after)) = rest.split_once(END) else { bail!("{END} stands before {BEGIN}") };
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(commit: char, committed: u64, ids: &[&str]) -> Record {
        let benchmarks = ids.iter().map(|&id| {
            let samples = vec![3e6, 1e6, 2e6, 5e6, 4e6];
            Benchmark {
                id: id.into(),
                what: format!("work {id}"),
                backend: "cpu".into(),
                threads: 1,
                parameters: BTreeMap::new(),
                unit: "ns".into(),
                items: 2000,
                item: "image".into(),
                summary: Summary::of(&samples),
                samples,
            }
        });
        Record {
            schema: SCHEMA,
            source: Source { commit: commit.to_string().repeat(40), committed, dirty: false },
            machine: Machine {
                cpu: "Some CPU (R) 3".into(),
                cores: 2,
                system: "linux x86_64".into(),
                features: BTreeSet::new(),
            },
            load: None,
            benchmarks: benchmarks.collect(),
        }
    }

    #[test]
    fn quantiles_interpolate() {
        let summary = Summary::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!((summary.median, summary.p95), (3.0, 4.8));
        assert!((summary.spread - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(Summary::of(&[7.0]), Summary { median: 7.0, p95: 7.0, spread: 0.0 });
    }

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0.5, "0.50 ns"),
            (12.34, "12.3 ns"),
            (1500.0, "1.50 µs"),
            (123_456.0, "123 µs"),
            (3.21e9, "3.21 s"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn the_newest_commit_of_a_machine_is_shown() {
        let text = table(&[record('a', 1, &["x", "y"]), record('b', 2, &["x"])]);
        assert_eq!(text.matches("work x").count(), 1);
        assert!(text.contains("| work x | 3.00 ms | 1.50 µs per image | 4.80 ms | 66.7 % |"), "{text}");
        assert!(
            text.starts_with("Some CPU (R) 3, linux x86_64, one thread of 2 cores, cpu, commit bbbbbbbb:"),
            "{text}"
        );
        let older = text.split_once("commit aaaaaaaa:").unwrap().1;
        assert!(older.contains("| work y |") && !older.contains("| work x |"), "{text}");
    }

    #[test]
    fn records_survive_a_file_and_lies_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = record('c', 3, &["x"]);
        assert_eq!(kept.name(), "some-cpu-r-3-2-cores-cccccccccccc.json");
        let path = folder.path().join(kept.name());
        kept.write(&path).unwrap();
        assert_eq!(read_all(folder.path()).unwrap(), [kept.clone()]);
        kept.benchmarks[0].summary.median = 1e6;
        assert!(kept.check().unwrap_err().to_string().contains('x'));
        kept.benchmarks[0].summary = Summary::of(&kept.benchmarks[0].samples);
        kept.source.dirty = true;
        assert!(kept.check().unwrap_err().to_string().starts_with("dirty"));
        std::fs::rename(&path, folder.path().join("other.json")).unwrap();
        assert!(read_all(folder.path()).unwrap_err().to_string().contains("should be called"));
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_markers() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let renewed = with_table(&readme, "new\n").unwrap();
        assert_eq!(renewed, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        for bad in ["", BEGIN, END, &format!("{END} {BEGIN}"), &format!("{readme}{END}")] {
            assert!(with_table(bad, "").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_samples_of_the_last_run_count() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("group").join("case").join("new");
        std::fs::create_dir_all(&new).unwrap();
        std::fs::write(new.join("benchmark.json"), r#"{"full_id": "group/case"}"#).unwrap();
        std::fs::write(new.join("sample.json"), r#"{"iters": [1.0, 2.0], "times": [10.0, 30.0]}"#).unwrap();
        let read = |id, since| criterion_samples(folder.path(), id, since).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        assert_eq!(read("group/case", long_ago), Some(vec![10.0, 15.0]));
        assert_eq!(read("group/other", long_ago), None);
        let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
        assert_eq!(read("group/case", tomorrow), None);
    }
}
