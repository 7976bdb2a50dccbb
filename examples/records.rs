//! Keeps what a benchmark measured, and shows it.
//!
//! ```text
//! cargo run --release -- bench                   # writes to records/; or to a file:
//! cargo run --release -- bench FILE
//! cargo run --example records -- keep FILE
//! cargo run --example records -- table           # renews the table in README.md
//! ```
//!
//! A record of a checkout with changes in it is refused: nobody could repeat it.

use std::path::Path;
use std::process::ExitCode;

use arras_measure::record::{Record, read_all};
use arras_measure::table::{table, with_table};

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
        ["keep", file] => {
            println!("{}", Record::read(Path::new(file))?.keep(&root.join("records"))?.display());
            Ok(())
        }
        ["table"] => renew(root),
        _ => Err("usage: records keep FILE | records table".into()),
    }
}

fn renew(root: &Path) -> Result<(), Failure> {
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let table = table(&read_all(&root.join("records"))?);
    Ok(std::fs::write(&path, with_table(&readme, &table)?)?)
}
