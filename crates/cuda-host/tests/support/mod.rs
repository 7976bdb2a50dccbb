//! What the tests share.

#![allow(dead_code, reason = "no test needs all of it")]

use std::process::ExitCode;

use arras_cuda::Cuda;
use arras_cuda_host::{HostDriver, HostOptions};
use arras_rns::{Error, Result};
use libtest_mimic::{Arguments, Trial};

/// A new device.
pub(crate) fn cuda(options: HostOptions) -> Result<Cuda<HostDriver>> {
    let images = arras_cuda_host::images()
        .map_err(|reason| Error::Device { place: "kernels on the host".into(), message: reason.into() })?;
    Cuda::new(HostDriver::new(options), &images).map_err(|error| error.during("loading kernels"))
}

/// A new device with the simple kernels alone.
pub(crate) fn simple(options: HostOptions) -> Result<Cuda<HostDriver>> {
    let images = arras_cuda_host::images()
        .map_err(|reason| Error::Device { place: "kernels on the host".into(), message: reason.into() })?;
    Cuda::simple(HostDriver::new(options), &images).map_err(|error| error.during("loading kernels"))
}

/// Runs trials. Where the kernels could not be compiled they are reported as ignored, with the reason;
/// `ARRAS_REQUIRE_HOST_KERNELS=1` makes that a failure.
pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    let Err(reason) = arras_cuda_host::images() else {
        return libtest_mimic::run(&arguments, trials).exit_code();
    };
    let required = std::env::var_os("ARRAS_REQUIRE_HOST_KERNELS").is_some_and(|value| value == "1");
    let count = trials.len();
    let missing =
        Trial::test(format!("{count} trials (no kernels on the host: {reason})"), move || Err(reason.into()));
    libtest_mimic::run(&arguments, vec![missing.with_ignored_flag(!required)]).exit_code()
}

/// Turns a failed condition into the error of a trial.
pub(crate) fn ensure(condition: bool, message: impl FnOnce() -> String) -> std::result::Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}
