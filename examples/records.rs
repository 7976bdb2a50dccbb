//! Keeps what a benchmark measured, and shows it.
//!
//! ```text
//! cargo bench --bench linear_head                              # writes target/criterion/linear_head.record.json
//! cargo run --example records -- keep target/criterion/linear_head.record.json
//! cargo run --example records -- table                         # renews the table in README.md
//! ```
//!
//! A record of a checkout with changes in it is refused: nobody could repeat it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use arras::record::{self, Record};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["keep", file] => println!("{}", keep(&root.join("records"), Path::new(file))?.display()),
        ["table"] => renew(root)?,
        _ => bail!("usage: records keep FILE | records table"),
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

fn renew(root: &Path) -> Result<()> {
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let table = record::table(&record::read_all(&root.join("records"))?);
    Ok(std::fs::write(&path, record::with_table(&readme, &table)?)?)
}
