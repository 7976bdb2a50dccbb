//! How much a crate takes on that uses arras as a backend (`tests/downstream`).

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use support::{Refusal, reached, trial};

/// The promise: at most this many packages, arras and its own included.
const LIMIT: usize = 60;

/// The packages of the crate, resolved as this checkout's lock file has them. It is asked from a copy, because Cargo would
/// write a lock file of its own beside it.
fn packages() -> Result<BTreeSet<String>, Refusal> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let failed = |error: std::io::Error| Refusal::Failed(error.to_string());
    let folder = tempfile::tempdir().map_err(failed)?;
    let manifest = std::fs::read_to_string(root.join("tests/downstream/Cargo.toml")).map_err(failed)?;
    let relative = "path = \"../..\"";
    if !manifest.contains(relative) {
        return Err(Refusal::Failed(format!("tests/downstream/Cargo.toml does not say {relative}")));
    }
    // A literal string: backslashes in it mean themselves.
    let manifest = manifest.replace(relative, &format!("path = '{}'", root.display()));
    std::fs::write(folder.path().join("Cargo.toml"), manifest).map_err(failed)?;
    std::fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock")).map_err(failed)?;
    std::fs::create_dir(folder.path().join("src")).map_err(failed)?;
    std::fs::copy(root.join("tests/downstream/src/main.rs"), folder.path().join("src/main.rs"))
        .map_err(failed)?;
    reached(folder.path(), &[])
}

fn main() -> ExitCode {
    let trials = vec![trial("a backend costs few packages", packages(), |mut packages| {
        packages.retain(|package| !package.starts_with("downstream "));
        if !packages.iter().any(|package| package.starts_with("arras-ckks ")) {
            return Err(format!("no CKKS in {packages:?}"));
        }
        println!("{} packages", packages.len());
        (packages.len() < LIMIT)
            .then_some(())
            .ok_or_else(|| format!("{} packages: {packages:#?}", packages.len()))
    })];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
