//! `doctor` and `selftest`: what this build and this machine can do, and whether they do it right.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use arras_cpu::{Cpu, CpuOptions, Path};
use arras_heads::Preset;
use arras_rns::Backend;
use arras_rns::testkit::{self, Scale};
use clap::Args;
use serde::Serialize;

use super::device::{Gpu, gpus};
use super::embed::progress;
use super::{Common, Text, VERSION, table};

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {}

#[derive(Serialize)]
struct Device {
    name: String,
    available: bool,
    detail: String,
}

impl Device {
    fn text(&self) -> String {
        let state = if self.available { "available" } else { "unavailable" };
        format!("{}: {state}: {}", self.name, self.detail)
    }
}

#[derive(Serialize)]
struct DoctorReport {
    version: &'static str,
    architecture: &'static str,
    operating_system: &'static str,
    cores: usize,
    threads: usize,
    cpu_features: Vec<&'static str>,
    simd_paths: Vec<Device>,
    devices: Vec<Device>,
    presets: Vec<String>,
}

impl Text for DoctorReport {
    fn text(&self) -> String {
        let mut rows = vec![
            ("version", self.version.to_owned()),
            (
                "machine",
                format!(
                    "{} {}, {} cores, {} threads used",
                    self.architecture, self.operating_system, self.cores, self.threads
                ),
            ),
            ("CPU features", self.cpu_features.join(" ")),
        ];
        let named = |what, devices: &[Device]| -> Vec<(&'static str, String)> {
            devices.iter().map(|device| (what, device.text())).collect()
        };
        rows.extend(named("SIMD path", &self.simd_paths));
        rows.extend(named("device", &self.devices));
        rows.extend(self.presets.iter().map(|preset| ("preset", preset.clone())));
        table(&rows)
    }
}

impl Doctor {
    /// Runs the command.
    ///
    /// # Errors
    /// Threads that the operating system refuses.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let cpu = Cpu::with(CpuOptions { threads: common.threads, path: common.simd })?;
        let presets = Preset::all().iter().map(|preset| {
            let (params, bounds) = (&preset.params, preset.bounds);
            format!(
                "{}: {}; N = {}, log2 QP = {:.1}, |x| <= {}, norm <= {}",
                preset.name,
                preset.purpose,
                params.degree(),
                params.ring().log_modulus(params.ring().limbs()),
                bounds.x_max,
                bounds.norm_max
            )
        });
        let cpu_device = Device { name: "cpu".into(), available: true, detail: cpu.name() };
        let gpus =
            gpus().into_iter().map(|Gpu { name, available, detail }| Device { name, available, detail });
        common.print(&DoctorReport {
            version: VERSION,
            architecture: std::env::consts::ARCH,
            operating_system: std::env::consts::OS,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            threads: cpu.threads(),
            cpu_features: cpu_features(),
            simd_paths: Path::ALL.map(|path| simd_path(path, cpu.path())).into(),
            devices: std::iter::once(cpu_device).chain(gpus).collect(),
            presets: presets.collect(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether a path can be taken, and why not.
fn simd_path(path: Path, used: Path) -> Device {
    let missing = path.missing();
    let detail = match missing {
        Some(feature) => format!("the processor lacks {feature}"),
        None if path == used => "used".into(),
        None => "not used".into(),
    };
    Device { name: path.to_string(), available: missing.is_none(), detail }
}

/// The instruction sets that matter here and that this CPU has.
fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! probe {
            ($($feature:tt),*) => { $(if std::arch::is_x86_feature_detected!($feature) { found.push($feature); })* };
        }
        probe!(
            "avx2",
            "fma",
            "bmi2",
            "avx512f",
            "avx512dq",
            "avx512vl",
            "avx512bw",
            "avx512ifma",
            "avx512vbmi"
        );
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.push("neon");
    }
    found.sort_unstable();
    found
}

/// Arguments of `selftest`.
#[derive(Args, Debug)]
pub struct Selftest {
    /// All sizes, which takes minutes
    #[arg(long)]
    full: bool,
    /// Only trials whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// Begin no trial after so many seconds; those left out are counted
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
}

#[derive(Serialize)]
struct SelftestReport {
    device: String,
    passed: usize,
    failed: Vec<String>,
    not_run: usize,
}

impl Text for SelftestReport {
    fn text(&self) -> String {
        let mut rows = vec![("device", self.device.clone())];
        rows.extend(self.failed.iter().map(|failure| ("failed", failure.clone())));
        let left = if self.not_run == 0 { String::new() } else { format!(", {} not run", self.not_run) };
        rows.push(("result", format!("{} passed, {} failed{left}", self.passed, self.failed.len())));
        table(&rows)
    }
}

impl Selftest {
    /// Runs the command.
    ///
    /// # Errors
    /// A device that cannot be had. Failed trials are reported and give exit code 1.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let backend = common.backend()?;
        let device = backend.name();
        let scale = if self.full { Scale::Full } else { Scale::Quick };
        let wanted = |name: &str| self.filter.as_ref().is_none_or(|filter| name.contains(filter));
        let trials: Vec<_> = testkit::trials(move || Ok(backend.clone()), scale)
            .into_iter()
            .filter(|t| wanted(&t.name))
            .collect();
        let bar = progress(common, "testing", trials.len());
        let (mut failed, mut run) = (Vec::new(), 0);
        let started = Instant::now();
        let in_time = || self.limit.is_none_or(|limit| started.elapsed() < Duration::from_secs(limit));
        for trial in trials.iter().take_while(|_| in_time()) {
            run += 1;
            if let Err(reason) = (trial.run)() {
                failed.push(format!("{}: {reason}", trial.name));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let code = if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        let (passed, not_run) = (run - failed.len(), trials.len() - run);
        common.print(&SelftestReport { device, passed, failed, not_run })?;
        Ok(code)
    }
}
