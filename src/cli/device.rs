//! The devices of this build: what `--device` can name.

use anyhow::Result;
use arras_cpu::Cpu;

#[cfg(feature = "cuda-vit")]
pub use on_gpu::{Precision, transformer};

#[cfg(feature = "cuda")]
pub use with_cuda::{Device, cache, cpu, cuda, gpus, threads};
#[cfg(not(feature = "cuda"))]
pub use without_cuda::{Device, cache, cpu, cuda, gpus, threads};

/// A GPU or, if there is none, why.
#[derive(Debug)]
pub struct Gpu {
    /// As `--device` takes it.
    pub name: String,
    /// Whether it can compute.
    pub available: bool,
    /// What it is, or what is missing.
    pub detail: String,
}

#[cfg(feature = "cuda")]
mod with_cuda {
    use anyhow::anyhow;
    use arras_cuda::{DriverError, NvidiaDriver};

    use super::{Cpu, Gpu, Result};
    pub use crate::Device;

    /// The CPU as a device.
    pub fn cpu(cpu: Cpu) -> Device {
        Device::Cpu(cpu)
    }

    /// GPU number `ordinal`.
    ///
    /// # Errors
    /// If it cannot be had, or a profiler not be told what it does.
    pub fn cuda(ordinal: usize) -> Result<Device> {
        let device = Device::cuda(ordinal).map_err(|error| match error {
            DriverError::NoDriver { .. } | DriverError::NoDevice { .. } => {
                anyhow!("there is no CUDA device: {error}")
            }
            other => anyhow!("the CUDA device cannot be used: {other}"),
        })?;
        show_ranges()?;
        Ok(device)
    }

    /// Lets a profiler that this process was started under see the operations of the backend.
    fn show_ranges() -> Result<()> {
        #[cfg(feature = "nvtx")]
        if let Some(library) = std::env::var_os(PROFILER) {
            arras_cuda::nvtx::connect(library.as_ref()).map_err(|why| anyhow!("{PROFILER}: {why}"))?;
        }
        Ok(())
    }

    /// Where profilers name the library that ranges go to.
    #[cfg(feature = "nvtx")]
    const PROFILER: &str = "NVTX_INJECTION64_PATH";

    /// Threads of the host that the device uses.
    pub fn threads(device: &Device) -> usize {
        match device {
            Device::Cpu(cpu) => cpu.threads(),
            Device::Cuda(_) => 1,
        }
    }

    /// Bytes of the device's largest cache; 0 if it is the CPU.
    pub fn cache(device: &Device) -> u64 {
        use arras_cuda::Driver;
        match device {
            Device::Cpu(_) => 0,
            Device::Cuda(backend) => backend.driver().device().l2_bytes as u64,
        }
    }

    /// Every GPU of this machine.
    pub fn gpus() -> Vec<Gpu> {
        let none = |detail| vec![Gpu { name: "cuda:N".into(), available: false, detail }];
        match NvidiaDriver::count() {
            Ok(0) => none("the driver finds no device".into()),
            Ok(count) => (0..count).map(gpu).collect(),
            Err(error) => none(error.to_string()),
        }
    }

    fn gpu(ordinal: usize) -> Gpu {
        let name = format!("cuda:{ordinal}");
        match describe(ordinal) {
            Ok(detail) => Gpu { name, available: true, detail },
            Err(error) => Gpu { name, available: false, detail: error.to_string() },
        }
    }

    /// Opens the device with all its kernels, as a command would.
    fn describe(ordinal: usize) -> Result<String, DriverError> {
        use arras_cuda::Driver;
        let Device::Cuda(backend) = Device::cuda(ordinal)? else {
            return Err(DriverError::NoDevice { ordinal, count: 0 });
        };
        let (info, memory) = (backend.driver().device(), backend.driver().memory()?);
        let (major, minor) = info.capability;
        Ok(format!(
            "{}, sm_{major}{minor}, {} multiprocessors, {} of {} MiB free, driver for CUDA {}.{}",
            info.name,
            info.multiprocessors,
            memory.free >> 20,
            memory.total >> 20,
            info.driver_version / 1000,
            info.driver_version % 1000 / 10,
        ))
    }
}

#[cfg(not(feature = "cuda"))]
mod without_cuda {
    use anyhow::bail;

    use super::{Cpu, Gpu, Result};

    /// The only device there is.
    pub type Device = Cpu;

    const LACKING: &str = "this build lacks the feature `cuda`";

    /// The CPU as a device.
    pub fn cpu(cpu: Cpu) -> Device {
        cpu
    }

    /// No GPU.
    ///
    /// # Errors
    /// Always.
    pub fn cuda(_: usize) -> Result<Device> {
        bail!(LACKING)
    }

    /// Threads of the host that the device uses.
    pub fn threads(device: &Device) -> usize {
        device.threads()
    }

    /// Bytes of the device's largest cache; 0 if it is the CPU.
    pub fn cache(_: &Device) -> u64 {
        0
    }

    /// No GPU.
    pub fn gpus() -> Vec<Gpu> {
        vec![Gpu { name: "cuda:N".into(), available: false, detail: LACKING.into() }]
    }
}

/// The vision transformer on the GPU that was asked for.
#[cfg(feature = "cuda-vit")]
mod on_gpu {
    use anyhow::{Context as _, bail};
    use arras_vit::Gpu;

    use super::{Device, Result};
    use crate::cli::Common;

    /// What a transformer computes with on a GPU.
    #[derive(clap::ValueEnum, Clone, Copy, Debug, Default)]
    pub enum Precision {
        /// 32-bit floats
        #[default]
        F32,
        /// bf16 between layers, sums in 32-bit floats
        Bf16,
    }

    /// Where the transformer runs: on the device of `backend`, which is the one of `--device`.
    ///
    /// # Errors
    /// A GPU that candle cannot use, bf16 on the CPU.
    pub fn transformer(common: &Common, backend: &Device, precision: Precision) -> Result<arras_vit::Device> {
        let precision = match (common.ordinal()?, precision) {
            (None, Precision::F32) => return Ok(arras_vit::Device::Cpu),
            (None, Precision::Bf16) => bail!("--precision bf16: the CPU computes in f32"),
            (Some(_), Precision::F32) => arras_vit::Precision::F32,
            (Some(_), Precision::Bf16) => arras_vit::Precision::Bf16,
        };
        match (backend, common.ordinal()?) {
            (Device::Cuda(cuda), Some(ordinal)) => {
                let gpu = Gpu::new(cuda, ordinal, precision);
                let gpu = gpu.with_context(|| format!("--device {}: the transformer", common.device))?;
                Ok(arras_vit::Device::Cuda(gpu))
            }
            _ => Ok(arras_vit::Device::Cpu),
        }
    }
}
