//! Keeps what a benchmark measured, and shows it.
//!
//! ```text
//! cargo bench --bench linear_head                              # writes target/criterion/linear_head.record.json
//! cargo run --example records -- keep target/criterion/linear_head.record.json
//! cargo run --example records -- table                         # renews the table in README.md
//! cargo run --example records -- complete FILE                 # what a script measured: {"load": .., "benchmarks": [..]}
//!                                                              # without summaries; writes and keeps the record
//! ```
//!
//! A record of a checkout with changes in it is refused: nobody could repeat it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arras::record::{self, Record, Summary};
use serde_json::Value;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["keep", file] => println!("{}", keep(&root.join("records"), Path::new(file))?.display()),
        ["table"] => renew(root)?,
        ["complete", file] => {
            let record = complete(root, Path::new(file))?;
            println!("{}", keep(&root.join("records"), &record)?.display());
        }
        _ => bail!("usage: records keep FILE | records table | records complete FILE"),
    }
    Ok(())
}

/// Copies a record to where it belongs. A record of the same machine and commit is extended, not lost.
fn keep(folder: &Path, file: &Path) -> Result<PathBuf> {
    let mut fresh = Record::read(file)?;
    let path = folder.join(fresh.name());
    if path.exists() {
        let known = Record::read(&path)?;
        let measured: Vec<String> = fresh.benchmarks.iter().map(|benchmark| benchmark.id.clone()).collect();
        fresh.benchmarks.extend(known.benchmarks.into_iter().filter(|b| !measured.contains(&b.id)));
    }
    fresh.write(&path)?;
    Ok(path)
}

/// Adds commit, machine and summaries to what a script measured, beside its file.
fn complete(root: &Path, file: &Path) -> Result<PathBuf> {
    let mut measured: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    for benchmark in measured["benchmarks"].as_array_mut().into_iter().flatten() {
        let samples: Vec<f64> = serde_json::from_value(benchmark["samples"].clone())?;
        benchmark["summary"] = serde_json::to_value(Summary::of(&samples))?;
    }
    let record = Record {
        load: serde_json::from_value(measured["load"].take())?,
        benchmarks: serde_json::from_value(measured["benchmarks"].take())?,
        ..Record::start(root)?
    };
    let path = file.with_extension("record.json");
    record.write(&path)?;
    Ok(path)
}

fn renew(root: &Path) -> Result<()> {
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let table = record::table(&record::read_all(&root.join("records"))?);
    Ok(std::fs::write(&path, record::with_table(&readme, &table)?)?)
}
