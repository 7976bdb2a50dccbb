//! arras beside the libraries a user would pick instead, in one run, with the targets it has to meet.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [--quick] [--rounds N] [--filter TEXT] [--simd PATH] [--json [FILE]]
//! ```
//!
//! A *unit* is the time of tfhe-ntt 0.7.1's forward transform of one row, with its AVX-512 path, the same degree and the
//! prime 1125899902124033, on the same core, its row on whole cache lines, measured immediately before what it is the unit of. Every case of arras is
//! checked against the oracle before it is timed, and every peer against it too. Rounds go through all cases of a degree;
//! a ratio is the median over the rounds, with the 95 % interval of the bootstrap. Everything but the rows on two threads
//! runs on one core, the last one that the process may use.
//!
//! `--simd` takes another instruction set than the fastest there is: portable, avx2, avx512 or avx512-ifma; the targets are those of
//! the fastest. `--json` keeps a record: in FILE, or without a name in `records/`. The exit code is 1 if a target is missed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arras_measure::Record;
use arras_measure::machine::{self, Source};
use arras_measure::record::Ratio;
use arras_measure::table::three_digits;

mod degree;
mod peers;
mod rows;
mod threads;
mod timing;

type Failure = Box<dyn std::error::Error>;

/// What was asked for.
struct Options {
    rounds: usize,
    filter: Option<String>,
    simd: Option<arras_cpu::Path>,
    record: Option<Keep>,
}

/// Where the record goes.
enum Keep {
    Records,
    File(PathBuf),
}

impl Options {
    fn parse(mut arguments: std::iter::Peekable<impl Iterator<Item = String>>) -> Result<Self, Failure> {
        let mut options = Self { rounds: 31, filter: None, simd: None, record: None };
        while let Some(argument) = arguments.next() {
            let mut value = |name: &str| arguments.next().ok_or(format!("{name}: a value is missing"));
            match argument.as_str() {
                "--quick" => options.rounds = 7,
                "--rounds" => options.rounds = value("--rounds")?.parse::<usize>()?.max(1),
                "--filter" => options.filter = Some(value("--filter")?),
                "--simd" => options.simd = Some(value("--simd")?.parse()?),
                "--json" => {
                    let file = arguments.next_if(|word| !word.starts_with('-'));
                    options.record = Some(file.map_or(Keep::Records, |file| Keep::File(file.into())));
                }
                other => return Err(format!("{other}: unknown; see the head of src/main.rs").into()),
            }
        }
        Ok(options)
    }

    fn wanted(&self, id: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| id.contains(filter))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every target is met.
fn run() -> Result<bool, Failure> {
    let options = Options::parse(std::env::args().skip(1).peekable())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut record = Record::start(Source::of(&root)?);
    let folder = root.join("records");
    if matches!(options.record, Some(Keep::Records)) {
        record.refuse_dirty()?;
    }
    // Two threads need two cores; what follows stays on one.
    for row in rows::THREADS.iter().filter(|row| options.wanted(row.id)) {
        match threads::measure(row, options.rounds)? {
            Some(ratio) => show(&mut record, ratio),
            None => println!("{}: left out, the process may use one core only", row.id),
        }
    }
    pin()?;
    for log_degree in 11..=16 {
        let (benchmarks, ratios) = degree::measure(1 << log_degree, &options)?;
        record.benchmarks.extend(benchmarks);
        ratios.into_iter().for_each(|ratio| show(&mut record, ratio));
    }
    record.clocks[1] = machine::clocks();
    let missed = record.ratios.iter().filter(|ratio| !ratio.met()).count();
    println!("{} of {} targets met", record.ratios.len() - missed, record.ratios.len());
    match options.record {
        Some(Keep::File(path)) => record.write(&path)?,
        Some(Keep::Records) => println!("{}", record.keep(&folder)?.display()),
        None => {}
    }
    Ok(missed == 0)
}

fn show(record: &mut Record, ratio: Ratio) {
    let [value, low, high] = [ratio.value.value, ratio.value.low, ratio.value.high].map(three_digits);
    let (sign, met) = (if ratio.at_least { ">=" } else { "<=" }, if ratio.met() { "met" } else { "MISSED" });
    println!("{:<58} {value:>7} ({low} to {high})  {sign} {:<6} {met}", ratio.id, ratio.target);
    record.ratios.push(ratio);
}

/// Keeps the process on one core.
fn pin() -> Result<(), Failure> {
    let core = core_affinity::get_core_ids().and_then(|cores| cores.last().copied());
    match core.map(core_affinity::set_for_current) {
        Some(true) => Ok(()),
        _ => Err("the process cannot be kept on one core".into()),
    }
}
