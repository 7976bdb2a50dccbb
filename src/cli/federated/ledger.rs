//! The record of releases, from a party's journal or a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use arras_federated::session::ledger_text;
use arras_rounds::Ledger;
use arras_rounds::ledger::Entry;
use arras_serve::Store;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::super::{Common, Text};
use super::{journal, read_text};

/// What `federated ledger` does.
#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Check every link of the chain and show the entries
    Verify(Source),
    /// Print the ledger as it stands, to be kept or exchanged
    Export(Source),
}

/// Where a ledger is.
#[derive(Args, Debug)]
pub struct Source {
    /// A party's state folder, or a file that `export` wrote
    source: PathBuf,
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
            Self::Export(source) => print!("{}", source.text()?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Source {
    fn text(&self) -> Result<String> {
        let state: &Path = &journal(&self.source);
        if self.source.is_dir() {
            return Ok(ledger_text(&Store::open(state)?)?);
        }
        read_text(&self.source)
    }
}
