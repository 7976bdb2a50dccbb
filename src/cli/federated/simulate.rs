//! All parties in one process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use arras_federated::session::Plan;
use arras_federated::{local, simulate};
use arras_fit::Features;
use arras_fit::split::Deal;
use arras_rounds::Agreement;
use arras_rounds::agreement::{Privacy, Projection, seed_of};
use clap::Args;
use serde::Serialize;

use super::super::{Common, Text, table};

/// How rows are dealt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split(Deal);

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "even" => Ok(Split(Deal::Even)),
            None if text == "group" => Ok(Split(Deal::ByKey)),
            Some(("dirichlet", concentration)) => {
                let concentration =
                    concentration.parse().map_err(|_| format!("{concentration:?} is not a number"))?;
                Ok(Split(Deal::Dirichlet(concentration)))
            }
            _ => Err("expected even, group or dirichlet:CONCENTRATION".to_owned()),
        }
    }
}

/// Arguments of `federated simulate`.
#[derive(Args, Debug)]
pub struct Simulate {
    /// Labelled features; groups in them are never split
    features: PathBuf,
    /// Number of parties
    #[arg(long, default_value_t = 3)]
    parties: u32,
    /// Shares that a decryption needs; without it more than half of the parties
    #[arg(long)]
    threshold: Option<u32>,
    /// How rows are dealt: `even`, `group` (whole groups, the largest first) or `dirichlet:CONCENTRATION`
    #[arg(long, default_value = "even")]
    split: Split,
    /// Seed of the deal
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Rows are clipped to this norm; without it nothing is clipped
    #[arg(long)]
    row_bound: Option<f64>,
    /// Project features to so many dimensions
    #[arg(long)]
    project: Option<u32>,
    /// Differential privacy: epsilon of all releases together
    #[arg(long)]
    epsilon: Option<f64>,
    /// Differential privacy: delta
    #[arg(long, default_value_t = 1e-5, requires = "epsilon")]
    delta: f64,
    /// Differential privacy: most rows of one group
    #[arg(long, default_value_t = 1, requires = "epsilon")]
    rows_per_unit: u32,
    /// Penalties to try, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "L2")]
    l2: Vec<f64>,
    /// Where to write the head
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    parties: u32,
    threshold: u32,
    rows: Vec<(usize, usize, usize)>,
    l2: Option<f64>,
    condition_number: Option<f64>,
    metrics: std::collections::BTreeMap<String, f64>,
    sums_are_exact: Option<bool>,
    negative_eigenvalues: usize,
    upload_bytes: usize,
    flooding_bits: u32,
    epsilon: Option<f64>,
    output: Option<PathBuf>,
}

impl Text for Report {
    fn text(&self) -> String {
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4e}"));
        let metric =
            |name: &str| self.metrics.get(name).map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let exact = match self.sums_are_exact {
            Some(true) => "equal the sums of the parties' integers",
            Some(false) => "DIFFER from the sums of the parties' integers",
            None => "carry noise",
        };
        let training: usize = self.rows.iter().map(|(training, ..)| training).sum();
        let clipped: usize = self.rows.iter().map(|(.., clipped)| clipped).sum();
        table(&[
            ("parties", format!("{}, any {} decrypt", self.parties, self.threshold)),
            ("rows", format!("{training} for training, {clipped} clipped")),
            (
                "upload",
                format!("{} bytes per party, flooded with 2^{}", self.upload_bytes, self.flooding_bits),
            ),
            ("decrypted sums", exact.to_owned()),
            (
                "epsilon",
                self.epsilon.map_or_else(|| "exact releases".to_owned(), |epsilon| epsilon.to_string()),
            ),
            ("l2", number(self.l2)),
            ("condition number", number(self.condition_number)),
            ("accuracy", metric("held_out_accuracy")),
            ("AUC", metric("held_out_auc")),
            ("calibration error", metric("held_out_calibration_error")),
        ])
    }
}

impl Simulate {
    /// Runs the command.
    ///
    /// # Errors
    /// Features that cannot be dealt or do not fit; a file that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let features = Features::read(&self.features)?;
        if let Some(output) = &self.output {
            super::super::refuse_replacing(output, [self.features.as_path()])?;
            arras_wire::file::check_writable(output)?;
        }
        let agreement = self.agreement(&features)?;
        let features = Features { fingerprint: Some(agreement.backbone.clone()), ..features };
        let groups = features.group_indices().map(|(_, groups)| groups);
        let parts =
            local::deal(&features, groups.as_deref(), self.parties as usize, self.split.0, self.seed)?;
        let plan =
            Plan { penalties: self.l2.clone(), attempts: 1, honest: agreement.quorum, ..Plan::default() };
        let device = common.backend()?;
        let simulated = simulate::run(&agreement, &parts, &plan, || device.clone())?;
        if let Some(output) = &self.output {
            simulated.head.write(output)?;
        }
        common.print(&Report {
            parties: self.parties,
            threshold: agreement.threshold,
            rows: simulated.parties,
            l2: simulated.head.card.l2,
            condition_number: simulated.head.card.condition_number,
            metrics: simulated.head.card.metrics.clone(),
            sums_are_exact: simulated.sums_are_exact,
            negative_eigenvalues: simulated.negative_eigenvalues,
            upload_bytes: simulated.upload_bytes,
            flooding_bits: simulated.flooding_bits,
            epsilon: self.epsilon,
            output: self.output.clone(),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn agreement(&self, features: &Features) -> Result<Agreement> {
        let Some((classes, _)) = features.classes() else {
            bail!("{}: the features carry no labels", self.features.display());
        };
        let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let largest = features.values.chunks_exact(features.dimension).map(norm).fold(0.0, f64::max);
        let row_bound = match (self.row_bound, self.epsilon) {
            (Some(bound), _) => bound,
            // A bound taken from the data would itself be a release.
            (None, Some(_)) => bail!("--epsilon needs --row-bound, a public bound on the norm of a row"),
            (None, None) => largest.max(1e-6) * 2.0,
        };
        let agreement = Agreement {
            name: "simulation".to_owned(),
            epoch: 1,
            backbone: features.fingerprint.clone().unwrap_or_else(|| "unknown".to_owned()),
            dimension: u32::try_from(features.dimension).context("features per row")?,
            classes,
            row_bound,
            rows: u32::try_from(features.rows()).context("rows")?,
            parties: self.parties,
            threshold: self.threshold.unwrap_or(self.parties / 2 + 1),
            quorum: self.parties,
            receiver: "party-001".to_owned(),
            projection: self.project.map(|dimension| Projection { dimension, seed: seed_of("simulation") }),
            privacy: self.epsilon.map(|epsilon| Privacy {
                epsilon,
                delta: self.delta,
                rows_per_unit: self.rows_per_unit,
            }),
        };
        agreement.check()?;
        Ok(agreement)
    }
}
