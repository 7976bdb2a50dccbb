//! The trials of the testkit on the CPU: every instruction set, with and without threads, and behind `Opaque`.
//!
//! `ARRAS_TEST_FULL=1` runs all degrees up to 2^17.

use std::process::ExitCode;

use arras_cpu::{Cpu, Path};
use arras_rns::testkit::{self, Opaque, Scale};
use arras_rns::{Backend, Result};
use libtest_mimic::{Arguments, Trial};

/// The trials on one backend; where `missing` says why it cannot run here, they are reported as ignored.
fn path<B: Backend>(
    name: &str,
    missing: Option<&str>,
    make: impl Fn() -> Result<B> + Send + Sync + 'static,
) -> Vec<Trial> {
    let scale = if std::env::var_os("ARRAS_TEST_FULL").is_some() { Scale::Full } else { Scale::Quick };
    if let Some(reason) = missing {
        let reason = reason.to_owned();
        // Fails when it is asked for all the same: what cannot run has not passed.
        let ignored = Trial::test(format!("{name}: all trials ({reason})"), move || Err(reason.into()));
        return vec![ignored.with_ignored_flag(true)];
    }
    let trials = testkit::trials(make, scale).into_iter();
    trials
        .map(|trial| Trial::test(format!("{name}/{}", trial.name), move || (trial.run)().map_err(Into::into)))
        .collect()
}

fn main() -> ExitCode {
    let mut trials = path("threads", None, || Cpu::with_threads(2));
    trials.extend(path("opaque", None, || Ok(Opaque::new(Cpu::sequential()))));
    for set in Path::ALL {
        let missing = set.missing().map(|feature| format!("this processor lacks {feature}"));
        trials.extend(path(&set.to_string(), missing.as_deref(), move || Cpu::sequential().on_path(set)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
