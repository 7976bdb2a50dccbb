//! Tells the program which commit it was built from, and is the place where kernels will be compiled.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo::error=feature `cuda`: this version has no CUDA kernels yet; build without it");
    }
    println!("cargo::rustc-env=ARRAS_COMMIT={}", commit().unwrap_or_else(|| "unknown".into()));
}

/// The abbreviated commit of the checkout, with a `+` if tracked files differ from it; nothing in a packaged source tree.
fn commit() -> Option<String> {
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
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(git(&["rev-parse", "--short=12", "HEAD"])? + if dirty.is_empty() { "" } else { "+" })
}
