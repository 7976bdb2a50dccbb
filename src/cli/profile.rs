//! `profile`: what is known about the kernels without running them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Common, Text};

/// Registers and instructions of every kernel, written by scripts/kernel-budget.
const COMPILED: &str = include_str!("../../kernels/budget.toml");

/// Arguments of `profile`.
#[derive(Args, Debug)]
pub struct Profile {
    /// Architecture: sm_80, sm_89 or sm_90
    #[arg(long, default_value = "sm_90")]
    arch: String,
    /// Only kernels and operations whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

/// What a multiprocessor has (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
#[derive(Clone, Copy, Debug)]
struct Multiprocessor {
    warps: u32,
    blocks: u32,
    registers: u32,
    shared: usize,
}

impl Multiprocessor {
    fn of(arch: &str) -> Result<Self> {
        let registers = 1 << 16;
        Ok(match arch {
            "sm_80" => Self { warps: 64, blocks: 32, registers, shared: 164 << 10 },
            "sm_89" => Self { warps: 48, blocks: 24, registers, shared: 100 << 10 },
            "sm_90" => Self { warps: 64, blocks: 32, registers, shared: 228 << 10 },
            other => bail!("--arch {other}: expected sm_80, sm_89 or sm_90"),
        })
    }

    /// The share of its warps that a kernel can keep there at once, from its registers to a thread, threads to a block and
    /// bytes of shared memory to a block.
    fn occupancy(self, registers: u32, threads: u32, shared: usize) -> f64 {
        /// Threads of a warp.
        const WARP: u32 = 32;
        /// Registers are given out to warps in so many at a time.
        const REGISTERS: u32 = 256;
        /// Shared memory in so many bytes, and so many of them are the system's.
        const SHARED: usize = 128;
        const SYSTEM: usize = 1 << 10;
        let warps = threads.div_ceil(WARP).max(1);
        let by_registers = self.registers / (registers.max(1) * WARP).next_multiple_of(REGISTERS) / warps;
        let by_shared = self.shared / (shared.next_multiple_of(SHARED) + SYSTEM);
        let blocks = by_registers.min(self.warps / warps).min(self.blocks).min(by_shared as u32);
        f64::from(blocks * warps) / f64::from(self.warps)
    }
}

/// What the compiler made of a kernel.
#[derive(Deserialize, Clone, Copy)]
struct Compiled {
    registers: u32,
    instructions: u32,
}

/// A kernel, and the largest blocks that operations launch it in.
#[derive(Serialize)]
struct Kernel {
    name: String,
    registers: u32,
    instructions: u32,
    threads: Option<u32>,
    shared_bytes: Option<usize>,
    occupancy: Option<f64>,
}

/// What an operation launches.
#[derive(Serialize)]
struct Operation {
    name: String,
    launches: usize,
    /// By kernel.
    kernels: BTreeMap<String, usize>,
}

#[derive(Serialize)]
struct Profiled {
    arch: String,
    kernels: Vec<Kernel>,
    operations: Vec<Operation>,
    /// Why there are no operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl Text for Profiled {
    fn text(&self) -> String {
        let width = self.kernels.iter().map(|kernel| kernel.name.len()).max().unwrap_or(0);
        let mut text = format!(
            "{:width$} {:>9} {:>12} {:>7} {:>7} {:>9}\n",
            self.arch, "registers", "instructions", "threads", "shared", "occupancy"
        );
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        for kernel in &self.kernels {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:width$} {:>9} {:>12} {:>7} {:>7} {:>9}",
                kernel.name,
                kernel.registers,
                kernel.instructions,
                or_dash(kernel.threads.map(|threads| threads.to_string())),
                or_dash(kernel.shared_bytes.map(|bytes| bytes.to_string())),
                or_dash(kernel.occupancy.map(|part| format!("{:.0} %", 100.0 * part))),
            );
        }
        if let Some(missing) = &self.missing {
            let _ = writeln!(text, "\nlaunches per operation: not available: {missing}");
        }
        for operation in &self.operations {
            let launches = if operation.launches == 1 { "launch" } else { "launches" };
            let _ = writeln!(text, "\n{}: {} {launches}", operation.name, operation.launches);
            for (kernel, count) in &operation.kernels {
                let _ = writeln!(text, "  {count:>4} x {kernel}");
            }
        }
        text
    }
}

/// A kernel in the shape of one launch.
struct Launched {
    entry: String,
    threads: u32,
    shared: usize,
}

impl Profile {
    /// Runs the command.
    ///
    /// # Errors
    /// An architecture without kernels.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let multiprocessor = Multiprocessor::of(&self.arch)?;
        let budget: toml::Table = COMPILED.parse().context("kernels/budget.toml")?;
        let compiled = budget.get(&self.arch).context("kernels/budget.toml lacks the architecture")?;
        let compiled: BTreeMap<String, Compiled> =
            compiled.clone().try_into().context("kernels/budget.toml")?;
        let (noted, missing) = match operations() {
            Ok(noted) => (noted, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let mut shapes: BTreeMap<&str, (u32, usize)> = BTreeMap::new();
        for launch in noted.iter().flat_map(|(_, launches)| launches) {
            let shape = shapes.entry(&launch.entry).or_default();
            *shape = (shape.0.max(launch.threads), shape.1.max(launch.shared));
        }
        let wanted = |name: &str| name.contains(&self.filter);
        let kernel = |(name, compiled): (&String, &Compiled)| {
            let shape = shapes.get(name.as_str()).copied();
            let Compiled { registers, instructions } = *compiled;
            Kernel {
                name: name.clone(),
                registers,
                instructions,
                threads: shape.map(|shape| shape.0),
                shared_bytes: shape.map(|shape| shape.1),
                occupancy: shape
                    .map(|(threads, shared)| multiprocessor.occupancy(registers, threads, shared)),
            }
        };
        let kernels = compiled.iter().filter(|(name, _)| wanted(name)).map(kernel).collect();
        let operations = noted.iter().filter(|(name, _)| wanted(name)).map(|(name, launches)| {
            let mut kernels = BTreeMap::new();
            launches.iter().for_each(|launch| *kernels.entry(launch.entry.clone()).or_default() += 1);
            Operation { name: name.clone(), launches: launches.len(), kernels }
        });
        let operations = operations.collect();
        common.print(&Profiled { arch: self.arch.clone(), kernels, operations, missing })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Every operation with its launches, in order.
type Operations = Vec<(String, Vec<Launched>)>;

#[cfg(not(feature = "cuda"))]
fn operations() -> Result<Operations> {
    bail!("this build lacks the feature `cuda`")
}

#[cfg(feature = "cuda")]
use counted::operations;

#[cfg(feature = "cuda")]
mod counted {
    use anyhow::Result;
    use arras_ckks::encoder::SlotEncoder;
    use arras_ckks::evaluator::Evaluator;
    use arras_ckks::fft::Complex;
    use arras_ckks::{Context, EvaluationKeys, Slots, Workspace};
    use arras_cpu::Cpu;
    use arras_cuda::Cuda;
    use arras_cuda::counting::CountingDriver;
    use arras_heads::layout::Groups;
    use arras_heads::{Classifier, Layout, Model, Preset, Query};
    use arras_measure::Sweep;
    use arras_measure::sweep::Set;
    use arras_rns::prime::ntt_primes;
    use arras_rns::{Backend, Evaluation, Input, Poly, Ring};
    use arras_secret::{Cipher, SecretKey};

    use super::super::road::{evaluation_keys, head};
    use super::{Launched, Operations};

    type Gpu = Cuda<CountingDriver>;

    /// Counts on a device that is not there; keys and ciphertexts hold nothing, which launches do not depend on.
    pub(super) fn operations() -> Result<Operations> {
        let mut all = Vec::new();
        for log in 11..=17 {
            // The three forms of arithmetic: primes c 2^32 + 1, others up to 57 bits, and beyond.
            let native = Preset::named(Preset::DEFAULT)?.params.ring().modulus(0).value();
            let other = ntt_primes(50, 1 << log, 1, &[])?[0];
            let large = ntt_primes(60, 1 << log, 1, &[])?[0];
            for (form, prime) in [("c 2^32 + 1", native), ("50 bits", other), ("60 bits", large)] {
                transforms(1 << log, (form, prime), &mut all)?;
            }
        }
        for set in &Sweep::default().sets {
            // Tables for more would take gigabytes of host memory.
            if set.degree <= 1 << 15 {
                evaluator(set, &mut all)?;
            }
        }
        for (preset, layout, images) in [
            (Preset::DEFAULT, Layout::Dot, 1),
            (Preset::DEFAULT, Layout::Transposed, 2048),
            ("paper", Layout::Rotations, 1),
        ] {
            classify(Preset::named(preset)?, layout, images, &mut all)?;
        }
        Ok(all)
    }

    fn gpu() -> Result<Gpu> {
        Ok(Cuda::counting(CountingDriver::h200())?)
    }

    /// What was launched since the last call.
    fn taken(gpu: &Gpu) -> Vec<Launched> {
        let noted = gpu.driver().take().into_iter();
        noted
            .map(|one| Launched { entry: one.entry, threads: one.launch.threads, shared: one.launch.shared })
            .collect()
    }

    fn transforms(degree: usize, (form, prime): (&str, u64), all: &mut Operations) -> Result<()> {
        let gpu = gpu()?;
        let ring = Ring::new(degree, &[prime])?;
        let queue = gpu.queue()?;
        let tables = gpu.tables(&queue, &ring)?;
        let mut poly: Poly<Gpu, Evaluation> = Poly::allocate(&gpu, &queue, &ring, ring.limbs(), 1)?;
        taken(&gpu);
        gpu.intt(&queue, &tables, &mut poly.view_mut().retag(), Input::InPlace)?;
        all.push((format!("intt, N = {degree}, {form}"), taken(&gpu)));
        gpu.ntt(&queue, &tables, &mut poly.view_mut(), Input::InPlace)?;
        all.push((format!("ntt, N = {degree}, {form}"), taken(&gpu)));
        Ok(())
    }

    fn evaluator(set: &Set, all: &mut Operations) -> Result<()> {
        let params = set.params()?;
        let gpu = gpu()?;
        let context = Context::new(gpu.clone(), params.clone())?;
        let cipher = Cipher::new(&context, &SecretKey::generate(&params)?)?;
        let evaluator = Evaluator::new(&context);
        let encoder = SlotEncoder::new(params.degree(), Slots::GENERATOR)?;
        let top = params.max_level();
        let values = vec![Complex::new(0.5, 0.0); encoder.slots()];
        let plain = encoder.encode(&context, &values, encoder.slots(), params.scale(), top)?;
        let ciphertext = cipher.encrypt(&plain)?;
        let mut keys = EvaluationKeys::new(&params);
        let steps: Vec<i64> = (1..=8).collect();
        for element in evaluator.slots().elements(steps.iter().copied())? {
            keys.insert(&context, &cipher.galois_key(element, top)?)?;
        }
        keys.insert(&context, &cipher.relinearisation_key(top)?)?;
        let mut workspace = Workspace::new(&context, top.saturating_sub(1)..=top, 1)?;
        let product = evaluator.multiply(&ciphertext, &ciphertext)?;
        taken(&gpu);
        // What was launched since the note before.
        let mut note = |name: &str| all.push((format!("{name}, {}", set.name()), taken(&gpu)));
        cipher.encrypt(&plain)?;
        note("encrypt");
        evaluator.add(&ciphertext, &ciphertext)?;
        note("add");
        evaluator.multiply(&ciphertext, &ciphertext)?;
        note("multiply");
        evaluator.relinearise(&product, &keys, &mut workspace)?;
        note("relinearise");
        evaluator.rescale_with(&ciphertext, &mut workspace)?;
        note("rescale");
        evaluator.rotate(&ciphertext, 1, &keys, &mut workspace)?;
        note("rotate");
        evaluator.rotate_hoisted(&ciphertext, &steps, &keys, &mut workspace)?;
        note("8 hoisted rotations");
        Ok(())
    }

    /// The server's part. The query is made on the CPU, as bytes.
    fn classify(preset: &'static Preset, layout: Layout, images: usize, all: &mut Operations) -> Result<()> {
        let model: Model = head(768).into();
        let features = vec![0.5; images * 768];
        let secret = SecretKey::generate(&preset.params)?;
        let client = Context::new(Cpu::sequential(), preset.params.clone())?;
        let groups = Groups::new(layout, preset.params.degree(), 768, images)?;
        let query = Cipher::new(&client, &secret)?.encrypt_features(groups, &features, None)?.to_bytes();
        let gpu = gpu()?;
        let context = Context::new(gpu.clone(), preset.params.clone())?;
        let cipher = Cipher::new(&context, &secret)?;
        let keys = (layout == Layout::Rotations).then(|| evaluation_keys(&cipher, &model)).transpose()?;
        let bounds = preset.bounds_of(&features, 768)?;
        let server = Classifier::new(&context, &model, layout, bounds, keys)?;
        taken(&gpu);
        server.classify(&Query::from_bytes(&query)?)?;
        all.push((
            format!("classify, preset {}, layout {}, {images} images", preset.name, layout.name()),
            taken(&gpu),
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against NVIDIA's occupancy calculator.
    #[test]
    fn occupancy_is_that_of_the_calculator() {
        let of = |arch: &str, registers, threads, shared| {
            Multiprocessor::of(arch).unwrap().occupancy(registers, threads, shared)
        };
        assert_eq!(of("sm_90", 32, 256, 0), 1.0);
        // 80 registers: 2560 a warp, 25 warps, 3 blocks of 8.
        assert_eq!(of("sm_90", 80, 256, 0), 24.0 / 64.0);
        // 64 KiB and the system's 1 KiB: 3 of them in 228 KiB, 1 in 100 KiB.
        assert_eq!(of("sm_90", 32, 512, 64 << 10), 48.0 / 64.0);
        assert_eq!(of("sm_89", 32, 512, 64 << 10), 16.0 / 48.0);
        assert_eq!(of("sm_80", 255, 1024, 0), 0.0);
        assert!(Multiprocessor::of("sm_70").is_err());
    }
}
