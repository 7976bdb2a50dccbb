//! The trials of the testkit on the CUDA backend, its kernels run on the host.
//!
//! `ARRAS_TEST_FULL=1` runs all degrees up to 2^17.

use std::process::ExitCode;

use arras_cuda::Cuda;
use arras_cuda_host::{HostDriver, HostOptions, Lanes, Schedule};
use arras_rns::testkit::{self, Opaque, Scale};
use arras_rns::{Backend, Error, Result};
use libtest_mimic::{Arguments, Trial};

/// A new device, as the options say.
fn cuda(options: HostOptions) -> Result<Cuda<HostDriver>> {
    let images = arras_cuda_host::images()
        .map_err(|reason| Error::Device { place: "kernels on the host".into(), message: reason.into() })?;
    Cuda::new(HostDriver::new(options), &images).map_err(|error| error.during("loading kernels"))
}

fn trials<B: Backend>(name: &str, make: impl Fn() -> Result<B> + Send + Sync + 'static) -> Vec<Trial> {
    let scale = if std::env::var_os("ARRAS_TEST_FULL").is_some() { Scale::Full } else { Scale::Quick };
    let trials = testkit::trials(make, scale).into_iter();
    trials
        .map(|trial| Trial::test(format!("{name}/{}", trial.name), move || (trial.run)().map_err(Into::into)))
        .collect()
}

fn main() -> ExitCode {
    let options = |lanes, schedule| HostOptions { lanes, schedule, ..HostOptions::default() };
    let mut all = Vec::new();
    for (name, lanes, schedule) in [
        ("forward", Lanes::Forward, Schedule::Latest),
        ("reverse", Lanes::Reverse, Schedule::Random(1)),
        ("random", Lanes::Random(2), Schedule::Random(2)),
    ] {
        all.extend(trials(name, move || cuda(options(lanes, schedule))));
    }
    all.extend(trials("opaque", || cuda(HostOptions::default()).map(Opaque::new)));
    libtest_mimic::run(&Arguments::from_args(), all).exit_code()
}
