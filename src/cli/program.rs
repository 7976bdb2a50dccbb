//! The arguments of `arras`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{
    Common, audit, basis, bench, budget, classify, crypt, demo, doctor, embed, evaluate, federated, finish,
    fit, infer, metrics, plan, profile, report, start, tiles,
};

/// Classify images without showing them: a ViT turns each into a token, CKKS encrypts it, and a server that holds no
/// secret classifies what it cannot read.
#[derive(Parser, Debug)]
#[command(name = "arras", version = super::VERSION, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The whole road on generated tiles, with what it costs
    Demo(demo::Demo),
    /// Classify a folder of images under encryption, in one process
    Infer(infer::Infer),
    /// Metrics of the predictions that `infer` wrote
    Evaluate(evaluate::Evaluate),
    /// Generate synthetic tiles
    Tiles(tiles::Tiles),
    /// Images to CLS tokens
    Embed(embed::Embed),
    /// Features from NumPy, CSV or safetensors files
    Import(fit::Import),
    /// Principal components of public features, to project others to
    Basis(basis::Basis),
    /// Features in a basis
    Project(basis::Project),
    /// Fit a head to features
    Fit(fit::Fit),
    /// Make a pair of keys
    Keygen(crypt::Keygen),
    /// Make the evaluation keys that layout rotations takes
    Keys(crypt::Keys),
    /// Compare presets and layouts: bytes, keys, predicted time
    Plan(plan::Plan),
    /// Encrypt features
    Encrypt(crypt::Encrypt),
    /// Classify encrypted features (what `arras-server classify` does)
    Classify(classify::Classify),
    /// Decrypt logits
    Decrypt(crypt::Decrypt),
    /// Train over parties that show each other nothing but sums
    #[command(subcommand)]
    Federated(federated::Federated),
    /// Attack what each party sees, beside the best guess that sees nothing
    Audit(audit::Audit),
    /// How close two pictures are: PSNR, SSIM, NMI, LPIPS
    Metrics(metrics::Metrics),
    /// What this build and this machine can do
    Doctor(doctor::Doctor),
    /// Check the arithmetic of a device against the oracle
    Selftest(doctor::Selftest),
    /// Measure every operation, checked first, beside what the machine could reach
    Bench(bench::Bench),
    /// Whether one record of `bench` is faster than another
    Compare(bench::Compare),
    /// The whole road stage by stage, from an image file to decrypted logits, against 66 ms per image
    Budget(budget::Budget),
    /// Records as one HTML page
    Report(report::Report),
    /// What is known about the kernels without running them: registers, occupancy, launches per operation
    Profile(profile::Profile),
    /// Shell completions or man pages
    Docs(Docs),
}

/// Arguments of `docs`.
#[derive(clap::Args, Debug)]
struct Docs {
    /// What to write
    #[arg(value_enum)]
    kind: DocsKind,
    /// Folder to write to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum DocsKind {
    /// Man pages
    Man,
    /// Completions for bash, elvish, fish, PowerShell and zsh
    Completions,
}

/// Where the tensor library finds the numbers of threads of its two pools: there, once, and nowhere else.
const POOLS: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

impl Arguments {
    /// Sees to it that `--threads` holds for the tensor library, too: starts the program anew where the environment says
    /// something else. To be called before anything else.
    ///
    /// # Errors
    /// A program that cannot be started.
    #[cfg(unix)]
    pub fn settle_threads(&self) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        let wanted: Vec<_> = self.pools().into_iter().filter(|(name, count)| !is_set(name, count)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let program = std::env::current_exe().context("--threads: finding this program")?;
        // Returns only if it fails.
        Err(std::process::Command::new(program).args(std::env::args_os().skip(1)).envs(wanted).exec())
            .context("--threads: starting this program anew")
    }

    /// What the environment has to say for the command.
    #[cfg(unix)]
    fn pools(&self) -> Vec<(&'static str, String)> {
        let all = |count: usize| POOLS.map(|name| (name, count.to_string())).to_vec();
        match (self.common.threads, &self.command) {
            (0, Command::Bench(_)) => all(1),
            // Element by element its small models gain nothing from a second thread, and threads that spin take ten times as long
            // wherever another process wants their core.
            (0, Command::Audit(_)) if std::env::var_os(POOLS[1]).is_none() => vec![(POOLS[1], "1".into())],
            (0, _) => Vec::new(),
            (count, _) => all(count),
        }
    }

    /// Runs the command.
    pub fn run(self) -> ExitCode {
        start(&self.common);
        let common = &self.common;
        finish(match self.command {
            Command::Demo(command) => command.run(common),
            Command::Infer(command) => command.run(common),
            Command::Evaluate(command) => command.run(common),
            Command::Tiles(command) => command.run(common),
            Command::Embed(command) => command.run(common),
            Command::Import(command) => command.run(common),
            Command::Basis(command) => command.run(common),
            Command::Project(command) => command.run(common),
            Command::Fit(command) => command.run(common),
            Command::Keygen(command) => command.run(common),
            Command::Keys(command) => command.run(common),
            Command::Plan(command) => command.run(common),
            Command::Encrypt(command) => command.run(common),
            Command::Classify(command) => command.run(common),
            Command::Decrypt(command) => command.run(common),
            Command::Federated(command) => command.run(common),
            Command::Audit(command) => command.run(common),
            Command::Metrics(command) => command.run(common),
            Command::Doctor(command) => command.run(common),
            Command::Selftest(command) => command.run(common),
            Command::Bench(command) => command.run(common),
            Command::Compare(command) => command.run(common),
            Command::Budget(command) => command.run(common),
            Command::Report(command) => command.run(common),
            Command::Profile(command) => command.run(common),
            Command::Docs(command) => command.run(),
        })
    }
}

#[cfg(unix)]
fn is_set(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|found| found == value)
}

impl Docs {
    fn run(&self) -> Result<ExitCode> {
        self.write().with_context(|| self.output.display().to_string())?;
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self) -> Result<()> {
        std::fs::create_dir_all(&self.output)?;
        let mut command = Arguments::command();
        match self.kind {
            DocsKind::Man => clap_mangen::generate_to(command, &self.output)?,
            DocsKind::Completions => {
                for &shell in Shell::value_variants() {
                    clap_complete::generate_to(shell, &mut command, "arras", &self.output)?;
                }
            }
        }
        Ok(())
    }
}
