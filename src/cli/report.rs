//! `report`: records as one HTML page.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use arras_measure::Record;
use arras_measure::report::html;
use arras_wire::file::{Access, check_writable, write_atomically};
use clap::Args;
use serde::Serialize;

use super::{Common, Text, refuse_replacing, table};

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Records of `bench` and `budget`
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// The page
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Written {
    records: usize,
    output: PathBuf,
    bytes: usize,
}

impl Text for Written {
    fn text(&self) -> String {
        table(&[
            ("records", self.records.to_string()),
            ("written to", format!("{}, {} bytes", self.output.display(), self.bytes)),
        ])
    }
}

impl Report {
    /// Runs the command.
    ///
    /// # Errors
    /// Files that are no records, an output that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        check_writable(&self.output)?;
        refuse_replacing(&self.output, self.records.iter().map(PathBuf::as_path))?;
        let records = self.records.iter().map(|path| Record::read(path)).collect::<Result<Vec<_>, _>>()?;
        let page = html(&records);
        write_atomically(&self.output, page.as_bytes(), Access::Shared)?;
        let output = self.output.clone();
        common.print(&Written { records: records.len(), output, bytes: page.len() })?;
        Ok(ExitCode::SUCCESS)
    }
}
