//! `bench device`: what a GPU reaches at most.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use arras_cuda::Driver;
use arras_cuda::measure::{Effort, Measurement, measure};
use arras_wire::file::{Access, write_atomically};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::device::Device;
use super::{Common, Text, VERSION, table};
use crate::KERNELS;

/// The version of the record.
const SCHEMA: u32 = 1;

/// What else than cases `bench` measures.
#[derive(Subcommand, Debug)]
pub enum Ceilings {
    /// The ceilings of a GPU: instruction rates, bandwidths, launch gaps, copies
    Device(DeviceBench),
}

/// Arguments of `bench device`.
#[derive(Args, Debug)]
pub struct DeviceBench {
    /// Keep the record, with every sample, in this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Record {
    schema: u32,
    kind: &'static str,
    version: &'static str,
    device: Described,
    measurements: Vec<Row>,
}

#[derive(Serialize)]
struct Described {
    name: String,
    compute_capability: String,
    multiprocessors: u32,
    shared_bytes: usize,
    l2_bytes: usize,
    memory_bytes: u64,
    driver_cuda_version: u32,
}

#[derive(Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    median: Option<f64>,
    samples: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl Row {
    fn of(found: Measurement) -> Self {
        let Measurement { name, unit, samples, missing } = found;
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Self { name, unit, median: sorted.get(sorted.len() / 2).copied(), samples, missing }
    }

    fn text(&self) -> String {
        match (self.median, &self.missing) {
            (Some(median), _) => format!("{median:.4} {}", self.unit),
            (None, reason) => format!("not measured: {}", reason.as_deref().unwrap_or("no samples")),
        }
    }
}

impl Text for Record {
    fn text(&self) -> String {
        let head = format!("{}, sm_{}", self.device.name, self.device.compute_capability.replace('.', ""));
        let mut rows = vec![("device", head)];
        rows.extend(self.measurements.iter().map(|row| (row.name.as_str(), row.text())));
        table(&rows)
    }
}

impl Ceilings {
    /// Runs the command.
    ///
    /// # Errors
    /// A device that cannot be had or that fails, a file that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        match self {
            Self::Device(command) => command.run(common),
        }
    }
}

impl DeviceBench {
    fn run(&self, common: &Common) -> Result<ExitCode> {
        let Device::Cuda(backend) = common.backend()? else {
            anyhow::bail!(
                "--device {}: `bench device` measures GPUs: name one, such as cuda:0",
                common.device
            );
        };
        let driver = backend.driver();
        let found = measure(driver, &KERNELS, &Effort::full())?;
        let (info, memory) = (driver.device(), driver.memory()?);
        let record = Record {
            schema: SCHEMA,
            kind: "device ceilings",
            version: VERSION,
            device: Described {
                name: info.name.clone(),
                compute_capability: format!("{}.{}", info.capability.0, info.capability.1),
                multiprocessors: info.multiprocessors,
                shared_bytes: info.shared_bytes,
                l2_bytes: info.l2_bytes,
                memory_bytes: memory.total,
                driver_cuda_version: info.driver_version,
            },
            measurements: found.into_iter().map(Row::of).collect(),
        };
        if let Some(path) = &self.output {
            let text = serde_json::to_vec_pretty(&record).context("writing the record")?;
            write_atomically(path, &text, Access::Shared)?;
        }
        common.print(&record)?;
        Ok(ExitCode::SUCCESS)
    }
}
