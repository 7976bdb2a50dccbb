//! Tells the program which commit it was built from, and is the place where kernels will be compiled.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo::error=feature `cuda`: this version has no CUDA kernels yet; build without it");
    }
    let (short, source) = commit().unwrap_or_else(|| ("unknown".into(), "unknown".into()));
    println!("cargo::rustc-env=ARRAS_COMMIT={short}");
    println!("cargo::rustc-env=ARRAS_SOURCE={source}");
}

/// The abbreviated commit of the checkout, with a `+` if tracked files differ from it, and for records the whole one, when
/// it was made, and `clean` or `dirty`; nothing in a packaged source tree.
fn commit() -> Option<(String, String)> {
    if !Path::new(".git").exists() {
        return None;
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let short = git(&["rev-parse", "--short=12", "HEAD"])? + if clean { "" } else { "+" };
    let state = if clean { "clean" } else { "dirty" };
    Some((short, format!("{} {state}", git(&["show", "--no-patch", "--format=%H %ct", "HEAD"])?)))
}
