//! Keeps what a benchmark measured, and shows it.
//!
//! ```text
//! cargo run --release -- bench                   # writes to records/; or to a file:
//! cargo run --release -- bench FILE
//! cargo run --example records -- keep FILE
//! cargo run --example records -- table           # renews the table in README.md
//! cargo run --example records -- complete FILE   # what a script measured: {"load": .., "benchmarks": [..]} without
//!                                                # summaries; writes the record beside it and keeps it
//! ```
//!
//! A record of a checkout with changes in it is refused: nobody could repeat it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arras_measure::machine::Source;
use arras_measure::record::{Record, read_all};
use arras_measure::stats::Summary;
use arras_measure::table::{table, with_table};
use serde_json::Value;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["keep", file] => keep(root, Path::new(file)),
        ["complete", file] => keep(root, &complete(root, Path::new(file))?),
        ["table"] => renew(root),
        _ => Err("usage: records keep FILE | records complete FILE | records table".into()),
    }
}

fn keep(root: &Path, file: &Path) -> Result<(), Failure> {
    println!("{}", Record::read(file)?.keep(&root.join("records"))?.display());
    Ok(())
}

/// Adds commit, machine and summaries to what a script measured, beside its file.
fn complete(root: &Path, file: &Path) -> Result<PathBuf, Failure> {
    let mut measured: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    for benchmark in measured["benchmarks"].as_array_mut().into_iter().flatten() {
        let samples: Vec<f64> = serde_json::from_value(benchmark["samples"].clone())?;
        benchmark["summary"] = serde_json::to_value(Summary::of(&samples))?;
    }
    let record = Record {
        load: serde_json::from_value(measured["load"].take())?,
        benchmarks: serde_json::from_value(measured["benchmarks"].take())?,
        ..Record::start(Source::of(root)?)
    };
    let path = file.with_extension("record.json");
    record.write(&path)?;
    Ok(path)
}

fn renew(root: &Path) -> Result<(), Failure> {
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let table = table(&read_all(&root.join("records"))?);
    Ok(std::fs::write(&path, with_table(&readme, &table)?)?)
}
