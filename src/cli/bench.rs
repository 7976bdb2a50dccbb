//! `bench` and `compare`: how fast this build is on this machine, and whether that has changed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use arras_measure::compare::{Comparison, MARGIN};
use arras_measure::machine::{self, Source};
use arras_measure::table::{duration, three_digits};
use arras_measure::telemetry::{Energy, Sampler, Sensors};
use arras_measure::{
    AnyDevice, Benchmark, Cases, CpuDevice, Device, Effort, Record, Report, Sweep, Verdict, measure,
};
use arras_wire::file::check_writable;
use clap::Args;
use serde::Serialize;

use super::embed::{progress, use_threads};
use super::road::RoadGroup;
use super::{Common, Text, say};

/// Where records are kept in a checkout.
const RECORDS: &str = "records";

/// Arguments of `bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[cfg(feature = "cuda")]
    #[command(subcommand)]
    ceilings: Option<super::ceilings::Ceilings>,
    /// File for the record; without it, the record goes to `records/` of the checkout that is the current folder
    #[arg(value_name = "FILE")]
    record: Option<PathBuf>,
    /// Add a block to FILE, if it is there already, rather than replace it (docs/measure.md)
    #[arg(long, requires = "record")]
    append: bool,
    /// Only cases whose name contains this; may be given more than once
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Few samples: a look that is not kept unless FILE says where
    #[arg(long)]
    quick: bool,
    /// Only name the cases
    #[arg(long)]
    list: bool,
    /// Shapes to measure, as a TOML file (docs/measure.md)
    #[arg(long, value_name = "FILE")]
    sweep: Option<PathBuf>,
    /// Ring degrees, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "N")]
    degrees: Vec<usize>,
    /// Numbers of limbs of the operands of the backend's cases
    #[arg(long, value_delimiter = ',', value_name = "L")]
    limbs: Vec<usize>,
    /// Sizes of their primes
    #[arg(long, value_delimiter = ',', value_name = "BITS")]
    bits: Vec<u32>,
    /// Polynomials in each operand
    #[arg(long, value_delimiter = ',', value_name = "B")]
    batches: Vec<usize>,
}

/// What was measured.
#[derive(Serialize)]
#[serde(transparent)]
struct Measured(Record);

impl Text for Measured {
    fn text(&self) -> String {
        let width = self.0.benchmarks.iter().map(|b| b.id.len()).max().unwrap_or(0);
        let head = format!(
            "{:width$} {:>9} {:>9} {:>7} {:>7} {:>13}  bound\n",
            "case", "median", "p95", "spread", "floor", "energy"
        );
        self.0.benchmarks.iter().fold(head, |text, benchmark| text + &row(benchmark, width))
    }
}

fn row(benchmark: &Benchmark, width: usize) -> String {
    let summary = benchmark.summary;
    let fraction = benchmark.fraction().map_or_else(String::new, |part| format!("{:.0} %", 100.0 * part));
    let bound = benchmark.fraction().and(benchmark.floor).map_or("", |floor| floor.bound());
    let spread = format!("{:.1} %", 100.0 * summary.spread);
    let (median, p95) = (duration(summary.median), duration(summary.p95));
    let energy = joules(benchmark.energy);
    format!("{:width$} {median:>9} {p95:>9} {spread:>7} {fraction:>7} {energy:>13}  {bound}\n", benchmark.id)
}

/// Of the GPU if there is one, else of the CPU.
fn joules(energy: Energy) -> String {
    match energy.gpu.or(energy.package) {
        Some(joules) => {
            let (size, unit) = [(1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")]
                .into_iter()
                .find(|(size, _)| joules >= *size)
                .unwrap_or((1e-9, "nJ"));
            format!("{} {unit}", three_digits(joules / size))
        }
        None => "not available".into(),
    }
}

impl Bench {
    /// Runs the command.
    ///
    /// # Errors
    /// A device that cannot be had, a case that does not agree with the oracle, or no place for the record.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        #[cfg(feature = "cuda")]
        if let Some(ceilings) = &self.ceilings {
            return ceilings.run(common);
        }
        let sweep = self.sweep()?;
        match common.ordinal()? {
            None => {
                // One thread unless another number is asked for: what scales is known apart from what is fast.
                let common = Common { threads: common.threads.max(1), ..common.clone() };
                use_threads(&common);
                let device = CpuDevice::new(common.cpu()?);
                let cases = Cases::new(&sweep);
                let cases = if sweep.heads { cases.with(RoadGroup) } else { cases };
                self.measure(&common, &device, &cases)
            }
            Some(_) => {
                let backend = common.backend()?;
                let cache = super::device::cache(&backend);
                self.measure(common, &AnyDevice::new(backend, cache), &Cases::new(&sweep))
            }
        }
    }

    fn measure<D: Device>(&self, common: &Common, device: &D, cases: &Cases<D>) -> Result<ExitCode> {
        let wanted =
            |name: &str| self.filter.is_empty() || self.filter.iter().any(|text| name.contains(text));
        let names: Vec<String> = cases.names().into_iter().filter(|name| wanted(name)).collect();
        if self.list {
            names.iter().try_for_each(|name| say(&format!("{name}\n")))?;
            return Ok(ExitCode::SUCCESS);
        }
        ensure!(!names.is_empty(), "--filter: no case is called so; --list names them");
        let mut record = Record::start(source()?);
        self.check_place(&record)?;
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        let bar = progress(common, "timing", names.len());
        let sampler = Sampler::start(Sensors::open());
        let (benchmarks, ceilings) =
            measure(device, cases, &wanted, &effort, &mut |_| bar.inc(1)).context("measuring")?;
        bar.finish_and_clear();
        record.telemetry = sampler.finish();
        record.clocks[1] = machine::clocks();
        (record.benchmarks, record.ceilings) = (benchmarks, ceilings);
        let throttled = record.telemetry.throttled();
        if !throttled.is_empty() {
            tracing::warn!("a GPU ran slower than it could: {}", Vec::from_iter(throttled).join(", "));
        }
        if let Some(path) = self.keep(&record)? {
            tracing::info!("wrote {}", path.display());
        }
        common.print(&Measured(record))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The default, what the file says, and what the options say.
    fn sweep(&self) -> Result<Sweep> {
        let mut sweep = match &self.sweep {
            Some(path) => Sweep::read(path)?,
            None => Sweep::default(),
        };
        let Self { degrees, limbs, bits, batches, .. } = self;
        let replace = |field: &mut Vec<usize>, values: &[usize]| {
            if !values.is_empty() {
                *field = values.to_vec();
            }
        };
        replace(&mut sweep.degrees, degrees);
        replace(&mut sweep.limbs, limbs);
        replace(&mut sweep.batches, batches);
        if !bits.is_empty() {
            sweep.bits = bits.clone();
        }
        let positive = [&sweep.degrees, &sweep.limbs, &sweep.batches].into_iter().flatten().all(|&n| n > 0);
        ensure!(positive, "a degree, a number of limbs or a batch is 0");
        Ok(sweep)
    }

    /// Refuses before the long work what could not be kept after it.
    fn check_place(&self, record: &Record) -> Result<()> {
        match &self.record {
            Some(path) => return Ok(check_writable(path)?),
            None if self.quick => return Ok(()),
            None => {}
        }
        ensure!(Path::new(RECORDS).is_dir(), "there is no {RECORDS}/ here: name a file for the record");
        record.refuse_dirty().context("a record that nobody could repeat is not kept: name a file for it")?;
        Ok(())
    }

    fn keep(&self, record: &Record) -> Result<Option<PathBuf>> {
        match &self.record {
            Some(path) if self.append && path.exists() => {
                let mut blocks = Record::read(path)?;
                blocks.append(record.clone())?;
                blocks.write(path)?;
                Ok(Some(path.clone()))
            }
            Some(path) => {
                record.write(path)?;
                Ok(Some(path.clone()))
            }
            None if self.quick => Ok(None),
            None => Ok(Some(record.clone().keep(Path::new(RECORDS))?)),
        }
    }
}

/// What this program was built from. Changes since then count: a checkout says so itself.
///
/// # Errors
/// Neither the build nor the current folder knows a commit.
pub fn source() -> Result<Source> {
    let here = Source::of(Path::new(".")).ok();
    match (Source::built(env!("ARRAS_SOURCE")), here) {
        (Some(mut built), here) => {
            built.dirty |= here.is_some_and(|here| here.dirty && here.commit == built.commit);
            Ok(built)
        }
        (None, Some(here)) => Ok(here),
        (None, None) => {
            bail!("neither this build nor the current folder knows a commit to name in the record")
        }
    }
}

/// Arguments of `compare`.
#[derive(Args, Debug)]
pub struct Compare {
    /// Record of the one
    first: PathBuf,
    /// Record of the other
    second: PathBuf,
    /// Show every benchmark, not only those that differ
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    report: Report,
    verdict: String,
    #[serde(skip)]
    all: bool,
}

impl Text for Compared {
    fn text(&self) -> String {
        let shown = |c: &&Comparison| self.all || matches!(c.verdict, Verdict::Faster | Verdict::Slower);
        let shown: Vec<&Comparison> = self.report.comparisons.iter().filter(shown).collect();
        let width = shown.iter().map(|c| c.id.len()).max().unwrap_or(0);
        let mut lines: Vec<String> =
            self.report.differences.iter().map(|d| format!("not of the same: {d}")).collect();
        lines.extend(shown.iter().map(|c| {
            let [value, low, high] = [c.ratio.value, c.ratio.low, c.ratio.high].map(three_digits);
            let verdict = format!("{:?}", c.verdict).to_lowercase();
            format!("{:width$}  {value} ({low} to {high})  {verdict}", c.id)
        }));
        if let Some(common) = self.report.common.filter(|common| !(1.0 / MARGIN..MARGIN).contains(common)) {
            lines.push(format!(
                "all cases together: {}, the machine or the whole build: runs in turn tell which (docs/measure.md)",
                three_digits(common)
            ));
        }
        for (which, ids) in [("first", &self.report.only_first), ("second", &self.report.only_second)] {
            if !ids.is_empty() {
                lines.push(format!("only in the {which}: {} cases", ids.len()));
            }
        }
        lines.push(format!("{} cases: {}", self.report.comparisons.len(), self.verdict));
        lines.join("\n") + "\n"
    }
}

impl Compare {
    /// Runs the command. Exit code 1 if something has become slower.
    ///
    /// # Errors
    /// Files that are no records, or have nothing in common.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let report = Report::new(&Record::read(&self.first)?, &Record::read(&self.second)?)?;
        let slower = report.count(Verdict::Slower) > 0;
        let verdict = report.verdict();
        common.print(&Compared { report, verdict, all: self.all })?;
        Ok(if slower { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
