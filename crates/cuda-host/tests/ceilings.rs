//! The measurement of a device's ceilings runs: every kernel, copy, graph and product of it. The numbers mean nothing here.

use std::process::ExitCode;

use arras_cuda::measure::{Effort, measure};
use arras_cuda_host::{HostDriver, HostOptions};
use libtest_mimic::{Arguments, Failed, Trial};

fn ceilings() -> Result<(), Failed> {
    let images = arras_cuda_host::images()?;
    let found = measure(&HostDriver::new(HostOptions::default()), &images, &Effort::trial())?;
    for kind in [
        "imad rate",
        "clock under dfma",
        "read 16 KiB",
        "copy 64 KiB",
        "launch gap, graph",
        "dgemm 8 x 16 x 8",
    ] {
        if !found.iter().any(|row| row.name == kind) {
            return Err(format!("no `{kind}` in {found:?}").into());
        }
    }
    match found.iter().find(|row| row.samples.is_empty() || row.missing.is_some()) {
        Some(row) => Err(format!("{row:?}").into()),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    let name = "every ceiling is measured, and the product of the library is exact";
    let trial = match arras_cuda_host::images() {
        Err(reason) if std::env::var_os("ARRAS_REQUIRE_HOST_KERNELS").is_none() => {
            Trial::test(format!("{name} ({reason})"), move || Err(reason.into())).with_ignored_flag(true)
        }
        _ => Trial::test(name, ceilings),
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
