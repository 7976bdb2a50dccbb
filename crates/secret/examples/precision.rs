//! Measures the errors of every operation beside the noise model's prediction, and keeps the result.
//!
//! ```text
//! cargo run --release -p arras-secret --example precision               # prints
//! cargo run --release -p arras-secret --example precision -- keep [N]   # N runs: the record, then the table
//! cargo run --release -p arras-secret --example precision -- table      # renews the table in docs/precision.md
//! ```

#[path = "../tests/measured/mod.rs"]
mod measured;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use measured::record;
use serde_json::{Value, json};

/// Of which the class is compared with the clear model's.
const IMAGES: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => println!("{}", record::table(&measure(10)?)?),
        ["keep"] => keep(100)?,
        ["keep", runs] => keep(runs.parse()?)?,
        ["table"] => renew()?,
        _ => return Err("usage: precision [keep [RUNS] | table]".into()),
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn git(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new("git").arg("-C").arg(root()).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn measure(runs: usize) -> Result<Value, Box<dyn Error>> {
    let (commit, mut rows) = (git(&["rev-parse", "HEAD"])?, Vec::new());
    for set in measured::sets() {
        // Larger rings give as many errors in fewer runs.
        rows.extend(measured::slots(&set, (runs * 8192 / set.params.degree()).max(2)));
        eprintln!("{}: done", set.name);
    }
    for preset in measured::presets() {
        rows.extend(measured::heads(preset, runs));
    }
    rows.iter().try_for_each(record::check)?;
    let agreements = measured::agreements(IMAGES);
    agreements.iter().try_for_each(record::check_agreement)?;
    Ok(json!({"schema": 2, "commit": commit, "runs": runs, "rows": rows, "agreements": agreements}))
}

fn keep(runs: usize) -> Result<(), Box<dyn Error>> {
    if !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        return Err("tracked files differ from the commit: nobody could repeat such a record".into());
    }
    let folder = root().join("records/precision");
    std::fs::create_dir_all(&folder)?;
    let text = serde_json::to_string_pretty(&measure(runs)?)? + "\n";
    std::fs::write(folder.join("record.json"), text)?;
    renew()
}

fn renew() -> Result<(), Box<dyn Error>> {
    let kept: Value = serde_json::from_slice(&std::fs::read(root().join("records/precision/record.json"))?)?;
    let page = root().join("docs/precision.md");
    let renewed = record::with_table(&std::fs::read_to_string(&page)?, &record::table(&kept)?)?;
    Ok(std::fs::write(page, renewed)?)
}
