//! `federated`: training over parties that show each other nothing but what the release rule allows.

#[cfg(feature = "client")]
mod board;
pub mod coordinate;
#[cfg(feature = "client")]
mod join;
#[cfg(feature = "client")]
mod ledger;
#[cfg(feature = "client")]
mod simulate;
#[cfg(feature = "client")]
mod sweep;

#[cfg(feature = "client")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
#[cfg(feature = "client")]
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use arras_rounds::Agreement;
use arras_rounds::agreement::{Privacy, Projection, seed_of};
#[cfg(feature = "client")]
use clap::Subcommand;
use serde::Deserialize;

#[cfg(feature = "client")]
use super::Common;

/// Largest agreement, list of parties or of tokens that is read.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Shortest token.
const MIN_TOKEN: usize = 16;

/// What `federated` does.
#[cfg(feature = "client")]
#[derive(Subcommand, Debug)]
pub enum Federated {
    /// Run the coordinator (what `arras-server coordinate` does)
    Coordinator(coordinate::Coordinate),
    /// Make this party's keys and print the line that the others pin
    Init(join::Init),
    /// Take part until the head is there; safe to stop and start again
    Join(join::Join),
    /// What a coordinator is waiting for
    Status(join::Status),
    /// All parties in one process, on a file of features
    Simulate(simulate::Simulate),
    /// Accuracy on rows that no party holds, under differential privacy
    Sweep(sweep::Sweep),
    /// The record of what was released
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
}

#[cfg(feature = "client")]
impl Federated {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        match self {
            Self::Coordinator(command) => command.run(common),
            Self::Init(command) => command.run(common),
            Self::Join(command) => command.run(common),
            Self::Status(command) => command.run(common),
            Self::Simulate(command) => command.run(common),
            Self::Sweep(command) => command.run(common),
            Self::Ledger(command) => command.run(common),
        }
    }
}

/// An agreement as a TOML file. `docs/federated.md` explains the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgreementFile {
    name: String,
    #[serde(default = "one")]
    epoch: u32,
    backbone: String,
    dimension: u32,
    classes: Vec<String>,
    row_bound: f64,
    rows: u32,
    parties: u32,
    threshold: u32,
    quorum: u32,
    receiver: String,
    projection: Option<ProjectionFile>,
    privacy: Option<PrivacyFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectionFile {
    dimension: u32,
    seed: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivacyFile {
    epsilon: f64,
    delta: f64,
    rows_per_unit: u32,
}

fn one() -> u32 {
    1
}

/// Reads an agreement.
fn read_agreement(path: &Path) -> Result<Agreement> {
    let file: AgreementFile =
        toml::from_str(&read_text(path)?).with_context(|| path.display().to_string())?;
    let agreement = Agreement {
        name: file.name,
        epoch: file.epoch,
        backbone: file.backbone,
        dimension: file.dimension,
        classes: file.classes,
        row_bound: file.row_bound,
        rows: file.rows,
        parties: file.parties,
        threshold: file.threshold,
        quorum: file.quorum,
        receiver: file.receiver,
        // Any text is a seed: all that matters is that it is everybody's.
        projection: file.projection.map(|projection| Projection {
            dimension: projection.dimension,
            seed: seed_of(&projection.seed),
        }),
        privacy: file.privacy.map(|privacy| Privacy {
            epsilon: privacy.epsilon,
            delta: privacy.delta,
            rows_per_unit: privacy.rows_per_unit,
        }),
    };
    agreement.check().with_context(|| path.display().to_string())?;
    Ok(agreement)
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = arras_wire::file::read_bounded(path, MAX_TEXT_BYTES)?;
    String::from_utf8(bytes).with_context(|| format!("{}: is not UTF-8", path.display()))
}

/// The tokens of a file, one per line.
fn read_tokens(path: &Path) -> Result<Vec<String>> {
    let tokens: Vec<String> =
        read_text(path)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!tokens.is_empty(), "{}: holds no token", path.display());
    ensure!(
        tokens
            .iter()
            .all(|token| token.len() >= MIN_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic())),
        "{}: a token is shorter than {MIN_TOKEN} printable characters",
        path.display()
    );
    Ok(tokens)
}

/// The journal of an epoch in a state folder, which holds those of all epochs.
fn journal(state: &Path, epoch: u32) -> PathBuf {
    state.join(format!("epoch-{epoch:010}.redb"))
}

/// The journals of a state folder by epoch.
#[cfg(feature = "client")]
fn journals(state: &Path) -> Result<BTreeMap<u32, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(state).with_context(|| state.display().to_string())? {
        let path = entry.with_context(|| state.display().to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let epoch = name.strip_prefix("epoch-").and_then(|rest| rest.strip_suffix(".redb"));
        if let Some(epoch) = epoch.and_then(|digits| digits.parse().ok()) {
            found.insert(epoch, path);
        }
    }
    Ok(found)
}
