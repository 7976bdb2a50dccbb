//! What the two commands share: global options, output, devices, exit codes.
//!
//! Results go to standard output and nothing else does; messages and progress go to standard error.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use arras_cpu::{Cpu, CpuOptions, Path};
use clap::Args;
use serde::Serialize;

use self::device::Device;

/// The features of this build.
#[cfg(feature = "cli")]
macro_rules! features {
    ($cuda:literal) => {
        concat!("features cli client server", $cuda)
    };
}
#[cfg(not(feature = "cli"))]
macro_rules! features {
    ($cuda:literal) => {
        concat!("features server", $cuda)
    };
}

#[cfg(all(feature = "cli", feature = "cuda"))]
pub mod ceilings;
pub mod classify;
pub mod device;
pub mod federated;

#[cfg(feature = "cli")]
pub mod audit;
#[cfg(feature = "cli")]
pub mod basis;
#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod budget;
#[cfg(feature = "cli")]
pub mod crypt;
#[cfg(feature = "cli")]
pub mod demo;
#[cfg(feature = "cli")]
pub mod doctor;
#[cfg(feature = "cli")]
pub mod embed;
#[cfg(feature = "cli")]
pub mod evaluate;
#[cfg(feature = "cli")]
pub mod fit;
#[cfg(feature = "cli")]
pub mod infer;
#[cfg(feature = "cli")]
pub mod metrics;
#[cfg(feature = "cli")]
pub mod pipeline;
#[cfg(feature = "cli")]
pub mod plan;
#[cfg(feature = "cli")]
pub mod profile;
#[cfg(feature = "cli")]
pub mod program;
#[cfg(feature = "cli")]
pub mod report;
#[cfg(feature = "cli")]
pub mod road;
#[cfg(feature = "cli")]
pub mod tiles;

/// Version, commit and features.
#[cfg(feature = "cuda")]
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("ARRAS_COMMIT"), ", ", features!(" cuda"), ")");
/// Version, commit and features.
#[cfg(not(feature = "cuda"))]
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("ARRAS_COMMIT"), ", ", features!(""), ")");

/// Exit code when some inputs could not be used and the rest were.
pub const EXIT_PARTIAL: u8 = 3;

/// Most threads that can be asked for.
const MAX_THREADS: usize = 4096;

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more about what is being done (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// No messages and no progress bars; errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Threads to use; 0 takes one per core
    #[arg(long, global = true, default_value_t = 0, env = "ARRAS_THREADS", value_parser = threads)]
    pub threads: usize,
    /// Instruction set of the CPU: portable, avx2, avx512 or avx512-ifma; without it the fastest there is
    #[arg(long, global = true, env = "ARRAS_SIMD", value_name = "PATH")]
    pub simd: Option<Path>,
    /// Where to compute: `cpu` or `cuda:N`
    #[arg(long, global = true, default_value = "cpu", env = "ARRAS_DEVICE")]
    pub device: String,
}

/// A number of threads that a machine can give: far more would only fail to start, slowly.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count <= MAX_THREADS => Ok(count),
        _ => Err(format!("expected 0 to {MAX_THREADS}")),
    }
}

impl Common {
    /// The backend that was asked for, never another.
    ///
    /// # Errors
    /// A device that this build or this machine does not have, or that is none.
    pub fn backend(&self) -> Result<Device> {
        match self.ordinal()? {
            None => Ok(device::cpu(self.cpu()?)),
            Some(ordinal) => device::cuda(ordinal).with_context(|| format!("--device {}", self.device)),
        }
    }

    /// The CPU, with the options that were given for it.
    ///
    /// # Errors
    /// Threads that the operating system refuses, an instruction set that the processor lacks.
    pub fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu::with(CpuOptions { threads: self.threads, path: self.simd })?)
    }

    /// The number of the GPU that was asked for, or nothing for the CPU.
    ///
    /// # Errors
    /// A name that is none of a device.
    pub fn ordinal(&self) -> Result<Option<usize>> {
        match self.device.as_str() {
            "cpu" => Ok(None),
            device => match device.strip_prefix("cuda:").map(str::parse::<u16>) {
                Some(Ok(ordinal)) => Ok(Some(ordinal.into())),
                _ => bail!("--device {device}: expected `cpu` or `cuda:N`"),
            },
        }
    }

    /// Refuses devices other than the CPU for a stage that only runs there.
    ///
    /// # Errors
    /// Another device.
    pub fn require_cpu(&self, stage: &str) -> Result<()> {
        match self.ordinal()? {
            None => Ok(()),
            Some(_) => bail!("--device {}: {stage} cannot run there", self.device),
        }
    }

    /// Prints a result: as JSON if that was asked for, else as its own text.
    ///
    /// # Errors
    /// As [`say`].
    pub fn print(&self, result: &(impl Serialize + Text)) -> Result<()> {
        if self.json { say(&(serde_json::to_string_pretty(result)? + "\n")) } else { say(&result.text()) }
    }
}

/// Writes to standard output. A reader that has seen enough and left (`| head`) is no error.
///
/// # Errors
/// Standard output cannot be written: a full disk.
pub fn say(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// A result in words.
pub trait Text {
    /// The text, ending in a line break.
    fn text(&self) -> String;
}

/// Lines of `name  value`, aligned.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// Sets up messages on standard error.
pub fn start(common: &Common) {
    use tracing::Level;
    let level = match (common.quiet, common.verbose) {
        (true, _) => Level::ERROR,
        (_, 0) => Level::INFO,
        (_, 1) => Level::DEBUG,
        _ => Level::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .with_target(false)
        .with_level(false);
    // Fails only if a subscriber is set already, which is then used.
    let _ = subscriber.try_init();
}

/// The exit code of a command, its error on one line of standard error.
pub fn finish(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let message = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })
}

/// Refuses to compute on encrypted data beside a secret key.
///
/// # Errors
/// If the folder of `path` holds something named `secret`.
pub fn refuse_secrets_beside(path: &FilePath) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    for folder in [folder.as_path(), path] {
        let secret = folder.join("secret");
        if secret.exists() {
            bail!("{}: a server must not be given a folder that holds a secret key", secret.display());
        }
    }
    Ok(())
}

/// Refuses to replace a file that the command reads: a key or a head would be gone.
///
/// # Errors
/// If `output` exists and is one of `inputs`, by whatever name.
pub fn refuse_replacing<'a>(output: &FilePath, inputs: impl IntoIterator<Item = &'a FilePath>) -> Result<()> {
    let Ok(there) = output.canonicalize() else {
        return Ok(());
    };
    if inputs.into_iter().any(|input| input.canonicalize().is_ok_and(|input| input == there)) {
        bail!("{}: is an input of this command: refusing to replace it", output.display());
    }
    Ok(())
}

/// Adds the name of the file to an error that does not carry it.
///
/// # Errors
/// Those of `result`.
pub fn in_file<T, E: Into<anyhow::Error>>(path: &FilePath, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(Into::into).with_context(|| path.display().to_string())
}
