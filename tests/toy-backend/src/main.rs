//! The whole contract of [`arras::rns::Backend`] in its plainest form, and a program that holds it against the trials.
//!
//! Who writes a backend for a new machine can start here: every method says what it means in a line or two of `u128`
//! arithmetic, and the same trials that judge the CPU and the GPU judge this.
//!
//! `cargo run --release`, or `cargo run --release -- law/` for the trials whose name contains `law/`.

mod backend;
mod words;

use std::process::ExitCode;

use arras::rns::testkit::{Scale, Trial, trials};
use backend::Toy;

fn main() -> ExitCode {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let trials = trials(|| Ok(Toy), Scale::Quick);
    let chosen: Vec<&Trial> = trials.iter().filter(|trial| trial.name.contains(&filter)).collect();
    let failures: Vec<String> = chosen
        .iter()
        .filter_map(|trial| (trial.run)().err().map(|error| format!("{}: {error}", trial.name)))
        .collect();
    for failure in &failures {
        eprintln!("{failure}");
    }
    println!("{} trials, {} failed", chosen.len(), failures.len());
    if chosen.is_empty() || !failures.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
