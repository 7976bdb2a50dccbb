//! What tests of the dependency graph share.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

/// Why Cargo could not answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is not there, or a package it would need is not on this machine.
    Missing(String),
    /// It found something wrong.
    Failed(String),
}

/// Runs Cargo without network access in `folder`; its standard output.
pub(crate) fn cargo(folder: &Path, arguments: &[&str]) -> Result<String, Refusal> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).arg("--offline").current_dir(folder).output();
    let output = output.map_err(|error| Refusal::Missing(format!("cargo does not run: {error}")))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else if stderr.contains("--offline") {
        Err(Refusal::Missing("a package is not on this machine".into()))
    } else {
        Err(Refusal::Failed(stderr))
    }
}

/// The packages that `cargo tree` reaches along normal dependencies, as `name version`.
pub(crate) fn reached(folder: &Path, arguments: &[&str]) -> Result<BTreeSet<String>, Refusal> {
    let all = [&["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"], arguments].concat();
    let text = cargo(folder, &all)?;
    let package = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().filter(|line| !line.is_empty()).map(package).collect())
}

/// A trial of an answer, ignored with its reason if there can be none here.
pub(crate) fn trial<T: Send + 'static>(
    name: &str,
    answer: Result<T, Refusal>,
    check: impl FnOnce(T) -> Result<(), String> + Send + 'static,
) -> Trial {
    match answer {
        Ok(answer) => Trial::test(name, move || check(answer).map_err(Failed::from)),
        Err(Refusal::Failed(message)) => Trial::test(name, move || Err(message.into())),
        Err(Refusal::Missing(reason)) => {
            // Fails when it is asked for all the same: what cannot run has not passed.
            Trial::test(format!("{name} ({reason})"), move || Err(reason.into())).with_ignored_flag(true)
        }
    }
}
