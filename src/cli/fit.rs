//! `import` and `fit`: features from anywhere, and a head from features.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use arras_fit::{Evaluation, Features, Training, import, train, train_mlp};
use arras_heads::Model;
use clap::Args;
use serde::Serialize;

use super::evaluate::metrics_rows;
use super::{Common, Text, in_file, refuse_replacing, table};

/// Arguments of `import`.
#[derive(Args, Debug)]
pub struct Import {
    /// A .npy, .csv or .safetensors file
    input: PathBuf,
    /// Where to write the features
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct ImportReport {
    rows: usize,
    features: usize,
    labelled: bool,
    output: PathBuf,
}

impl Text for ImportReport {
    fn text(&self) -> String {
        table(&[
            ("rows", self.rows.to_string()),
            ("features", self.features.to_string()),
            ("labels", if self.labelled { "yes" } else { "no" }.into()),
            ("written to", self.output.display().to_string()),
        ])
    }
}

impl Import {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that is not of the format its name promises, or that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        refuse_replacing(&self.output, [self.input.as_path()])?;
        let features = import::import(&self.input)?;
        features.write(&self.output)?;
        common.print(&ImportReport {
            rows: features.rows(),
            features: features.dimension,
            labelled: features.labels.is_some(),
            output: self.output.clone(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `fit`.
#[derive(Args, Debug)]
pub struct Fit {
    /// Features, from `arras embed` or `arras import`
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Labels: `file,label` rows matched by name, or one label per line in the order of the rows
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Groups (patients): `file,group` rows, or one per line; a group is never split
    #[arg(long, value_name = "FILE")]
    groups: Option<PathBuf>,
    /// Ridge penalty; without it the largest within one standard error of the best on left-out groups, or rows
    #[arg(long)]
    l2: Option<f64>,
    /// Train a head with a hidden layer of so many units, whose squares are summed
    #[arg(long, value_name = "UNITS", conflicts_with = "l2", value_parser = clap::value_parser!(u16).range(1..=4096))]
    hidden: Option<u16>,
    /// What the training of a hidden layer depends on: initial weights, rows kept for validation, their order
    #[arg(long, default_value_t = 0, requires = "hidden")]
    seed: u64,
    /// Where to write the head
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct FitReport {
    rows: usize,
    features: usize,
    classes: Vec<String>,
    l2: f64,
    l2_chosen_by: Option<String>,
    condition_number: f64,
    validation: Option<Evaluation>,
    output: PathBuf,
}

impl Text for FitReport {
    fn text(&self) -> String {
        let chosen = self.l2_chosen_by.as_deref().unwrap_or("given");
        let mut text = table(&[
            ("rows", format!("{} of {} features", self.rows, self.features)),
            ("classes", self.classes.join(", ")),
            ("l2", format!("{:.4e} ({chosen})", self.l2)),
            ("condition number", format!("{:.3e}", self.condition_number)),
            ("written to", self.output.display().to_string()),
        ]);
        if let Some(validation) = &self.validation {
            text += "\non left-out rows:\n";
            text += &metrics_rows(validation);
        }
        text
    }
}

#[derive(Serialize)]
struct TrainReport {
    rows: usize,
    features: usize,
    hidden: usize,
    classes: Vec<String>,
    epoch: usize,
    validation_rows: usize,
    by_group: bool,
    validation_loss: f64,
    validation: Evaluation,
    output: PathBuf,
}

impl Text for TrainReport {
    fn text(&self) -> String {
        let kept = if self.by_group { "whole groups" } else { "rows" };
        let mut text = table(&[
            ("rows", format!("{} of {} features", self.rows, self.features)),
            ("classes", self.classes.join(", ")),
            ("hidden units", format!("{}, squared", self.hidden)),
            ("stopped", format!("kept epoch {}, loss {:.4}", self.epoch, self.validation_loss)),
            ("written to", self.output.display().to_string()),
        ]);
        text += &format!("\non {} rows kept for validation ({kept}):\n", self.validation_rows);
        text += &metrics_rows(&self.validation);
        text
    }
}

impl Fit {
    /// Runs the command.
    ///
    /// # Errors
    /// Features without labels, files that do not fit, a singular system.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let inputs = [Some(&self.features), self.labels.as_ref(), self.groups.as_ref()];
        refuse_replacing(&self.output, inputs.into_iter().flatten().map(PathBuf::as_path))?;
        let mut features = Features::read(&self.features)?;
        if let Some(labels) = &self.labels {
            import::attach_labels(&mut features, labels)?;
        }
        if let Some(groups) = &self.groups {
            import::attach_groups(&mut features, groups)?;
        }
        if let Some(hidden) = self.hidden {
            return self.train(common, &features, hidden.into());
        }
        let trained = in_file(&self.features, train(&features, self.l2))?;
        trained.head.write(&self.output)?;
        let units = if trained.fit.by_group { "groups" } else { "rows" };
        let chosen = || {
            format!(
                "largest within one standard error of the best, leaving out {} {units} one at a time",
                trained.fit.blocks
            )
        };
        common.print(&FitReport {
            rows: features.rows(),
            features: features.dimension,
            classes: trained.head.classes.clone(),
            l2: trained.fit.l2,
            l2_chosen_by: self.l2.is_none().then(chosen),
            condition_number: trained.fit.condition_number,
            validation: trained.evaluation,
            output: self.output.clone(),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// With a hidden layer.
    fn train(&self, common: &Common, features: &Features, hidden: usize) -> Result<ExitCode> {
        let training = Training { seed: self.seed, ..Training::new(hidden) };
        let trained = in_file(&self.features, train_mlp(features, &training))?;
        Model::from(trained.mlp.clone()).write(&self.output)?;
        common.print(&TrainReport {
            rows: features.rows(),
            features: features.dimension,
            hidden,
            classes: trained.mlp.output.classes,
            epoch: trained.epoch,
            validation_rows: trained.rows[1],
            by_group: trained.by_group,
            validation_loss: trained.validation_loss,
            validation: trained.evaluation,
            output: self.output.clone(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
