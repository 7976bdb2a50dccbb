//! The trials of the testkit on the CUDA backend, its kernels run on the host: threads in forward, reverse and random order,
//! work done as late as possible and at random moments, with the simple kernels alone, and behind `Opaque`.
//!
//! `ARRAS_TEST_FULL=1` runs all degrees up to 2^17.

mod support;

use std::process::ExitCode;

use arras_cuda_host::{HostOptions, Lanes, Schedule};
use arras_rns::testkit::{self, Opaque, Scale};
use arras_rns::{Backend, Result};
use libtest_mimic::Trial;

fn trials<B: Backend>(name: &str, make: impl Fn() -> Result<B> + Send + Sync + 'static) -> Vec<Trial> {
    let scale = if std::env::var_os("ARRAS_TEST_FULL").is_some() { Scale::Full } else { Scale::Quick };
    let trials = testkit::trials(make, scale).into_iter();
    trials
        .map(|trial| Trial::test(format!("{name}/{}", trial.name), move || (trial.run)().map_err(Into::into)))
        .collect()
}

fn main() -> ExitCode {
    let mut all = Vec::new();
    for (name, lanes, schedule) in [
        ("forward", Lanes::Forward, Schedule::Latest),
        ("reverse", Lanes::Reverse, Schedule::Random(1)),
        ("random", Lanes::Random(2), Schedule::Random(2)),
    ] {
        let options = HostOptions { lanes, schedule, ..HostOptions::default() };
        all.extend(trials(name, move || support::cuda(options.clone())));
    }
    all.extend(trials("simple", || support::simple(HostOptions::default())));
    all.extend(trials("opaque", || support::cuda(HostOptions::default()).map(Opaque::new)));
    support::run(all)
}
