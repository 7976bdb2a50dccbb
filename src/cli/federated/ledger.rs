//! The record of releases, from a party's journal or a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use arras_federated::session::{MANIFESTS, ledger_text, revoke};
use arras_rounds::ledger::Entry;
use arras_rounds::{Journal as _, Ledger};
use arras_serve::Store;
use arras_serve::federation::now;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::super::{Common, Text, say};
use super::{journal, journals, read_text};

/// What `federated ledger` does.
#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Check every link of the chain and show the entries
    Verify(Source),
    /// Print the ledger as it stands, to be kept or exchanged
    Export(Source),
    /// Print the names of the files that contributed
    Manifest(Source),
    /// Trust a party no more: this party gives no share of a sum with it, and pins no roster with it, in this epoch or a later
    Revoke(Revoke),
}

/// Arguments of `federated ledger revoke`.
#[derive(Args, Debug)]
pub struct Revoke {
    /// This party's state folder
    state: PathBuf,
    /// The party that is no longer trusted
    #[arg(long)]
    member: String,
}

/// Where a ledger is.
#[derive(Args, Debug)]
pub struct Source {
    /// A party's state folder, or a file that `export` wrote
    source: PathBuf,
    /// The epoch; without it the last one of the state folder
    #[arg(long)]
    epoch: Option<u32>,
}

#[derive(Serialize)]
struct Verified {
    entries: Vec<Entry>,
    last: String,
}

impl Text for Verified {
    fn text(&self) -> String {
        let line = |entry: &Entry| {
            let event = serde_json::to_string(&entry.event).unwrap_or_default();
            format!("{:4} {} {event}\n", entry.sequence, entry.time)
        };
        let entries: String = self.entries.iter().map(line).collect();
        format!("{entries}{} entries, every link holds; last {}\n", self.entries.len(), self.last)
    }
}

impl LedgerCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A ledger that cannot be read, or whose chain is broken: the line is named.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        match self {
            Self::Verify(source) => {
                let ledger = Ledger::verify(&source.text()?)?;
                common.print(&Verified { entries: ledger.entries().to_vec(), last: ledger.last() })?;
            }
            Self::Export(source) => say(&source.text()?)?,
            Self::Manifest(source) => source.manifests()?,
            Self::Revoke(of) => revoke(&mut latest(&of.state)?, now(), &of.member)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The journal of the last epoch.
fn latest(state: &Path) -> Result<Store> {
    let last = journals(state)?.pop_last();
    let (_, path) = last.with_context(|| format!("{}: holds no journal", state.display()))?;
    Ok(Store::open(&path)?)
}

impl Source {
    fn text(&self) -> Result<String> {
        if self.source.is_dir() {
            return Ok(ledger_text(&self.store()?)?);
        }
        read_text(&self.source)
    }

    fn store(&self) -> Result<Store> {
        let Some(epoch) = self.epoch else { return latest(&self.source) };
        let path = journal(&self.source, epoch);
        ensure!(path.is_file(), "{}: no such journal", path.display());
        Ok(Store::open(&path)?)
    }

    fn manifests(&self) -> Result<()> {
        let store = self.store()?;
        for name in store.names(MANIFESTS)? {
            say(&(String::from_utf8_lossy(&store.get(&name)?.unwrap_or_default()).into_owned() + "\n"))?;
        }
        Ok(())
    }
}
