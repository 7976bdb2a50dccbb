//! `Device` is the backend inside it: the trials of the testkit on both of its arms, and a GPU's if there is one.
//!
//! The arm of the GPU is tested with a CPU in it, so that it is tested everywhere.

use std::process::ExitCode;

use arras::cpu::Cpu;
use arras::rns::testkit::{self, Scale};
use arras::rns::{Backend, Error, Result};
use libtest_mimic::{Arguments, Trial};

/// Two backends of the same kind.
type Pair = arras::Device<Cpu, Cpu>;

fn trials<B: Backend>(name: &str, make: impl Fn() -> Result<B> + Send + Sync + 'static) -> Vec<Trial> {
    let trials = testkit::trials(make, Scale::Quick).into_iter();
    trials
        .map(|trial| Trial::test(format!("{name}/{}", trial.name), move || (trial.run)().map_err(Into::into)))
        .collect()
}

/// What one device made is an error on the other.
fn mixed() -> std::result::Result<(), libtest_mimic::Failed> {
    let (cpu, gpu) = (Pair::Cpu(Cpu::sequential()), Pair::Cuda(Cpu::sequential()));
    let (queue, other) = (cpu.queue()?, gpu.queue()?);
    let refused = |result: Result<()>| matches!(result, Err(Error::Device { .. }));
    let mut buffer = cpu.allocate(&queue, 8)?;
    assert!(refused(gpu.allocate(&queue, 8).map(drop)));
    assert!(refused(gpu.write(&other, &mut buffer, 0, &[1; 8])));
    cpu.write(&queue, &mut buffer, 0, &[1; 8])?;
    assert!(refused(gpu.synchronize(&queue)));
    Ok(())
}

/// The GPU itself; ignored with its reason where there is none, unless ARRAS_REQUIRE_GPU asks for it.
fn gpu() -> Vec<Trial> {
    let missing = match arras::Device::cuda(0) {
        Ok(_) => {
            return trials("gpu", || {
                arras::Device::cuda(0)
                    .map_err(|error| Error::Device { place: "cuda:0".into(), message: error.to_string() })
            });
        }
        Err(error) => error.to_string(),
    };
    let required = std::env::var_os("ARRAS_REQUIRE_GPU").is_some();
    let trial = Trial::test(format!("gpu: all trials ({missing})"), move || Err(missing.into()));
    vec![trial.with_ignored_flag(!required)]
}

fn main() -> ExitCode {
    let mut all = trials("cpu arm", || Ok(Pair::Cpu(Cpu::sequential())));
    all.extend(trials("gpu arm", || Ok(Pair::Cuda(Cpu::sequential()))));
    all.push(Trial::test("operands of another device are refused", mixed));
    all.extend(gpu());
    libtest_mimic::run(&Arguments::from_args(), all).exit_code()
}
