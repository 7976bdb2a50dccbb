//! `evaluate`: metrics of predictions, and the file they are kept in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use arras_fit::metrics::{self, DEFAULT_RESAMPLES, Estimate, Predictions};
use arras_fit::{Evaluation, evaluate};
use arras_wire::file::{Access, read_bounded, write_atomically};
use clap::Args;
use serde::Serialize;

use super::{Common, Text, in_file, table};

/// Largest file of predictions.
const MAX_BYTES: u64 = 1 << 30;
/// Columns before the scores.
const FIXED: [&str; 5] = ["file", "group", "label", "predicted", "margin"];
/// What precedes the name of a class in the columns of its scores.
const SCORE: &str = "score:";

/// Arguments of `evaluate`.
#[derive(Args, Debug)]
pub struct Evaluate {
    /// Predictions, from `arras infer --predictions`
    predictions: PathBuf,
    /// Resamples of the bootstrap
    #[arg(long, default_value_t = DEFAULT_RESAMPLES)]
    resamples: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct Report {
    classes: Vec<String>,
    #[serde(flatten)]
    evaluation: Evaluation,
}

impl Text for Report {
    fn text(&self) -> String {
        let width = self.classes.iter().map(String::len).max().unwrap_or(0).max(6);
        let cells = |cells: Vec<String>| {
            cells.iter().map(|cell| format!("{cell:>width$}")).collect::<Vec<_>>().join("  ")
        };
        let mut text = metrics_rows(&self.evaluation);
        text += &format!("\n{:width$}  {}\n", "true", cells(self.classes.clone()));
        for (class, row) in self.classes.iter().zip(&self.evaluation.confusion) {
            text += &format!("{class:width$}  {}\n", cells(row.iter().map(u64::to_string).collect()));
        }
        text
    }
}

/// The metrics with their intervals, a line each.
pub fn metrics_rows(evaluation: &Evaluation) -> String {
    let show =
        |estimate: &Estimate| format!("{:.4}  [{:.4}, {:.4}]", estimate.value, estimate.low, estimate.high);
    let units = if evaluation.bootstrap.by_group { "groups" } else { "rows" };
    let bootstrap = &evaluation.bootstrap;
    table(&[
        ("accuracy", show(&evaluation.accuracy)),
        ("balanced accuracy", show(&evaluation.balanced_accuracy)),
        ("AUC, one versus rest", evaluation.auc.as_ref().map_or("undefined (one class)".into(), show)),
        ("calibration error", show(&evaluation.calibration_error)),
        ("95 % intervals", format!("{} resamples of {} {units}", bootstrap.resamples, bootstrap.units)),
    ])
}

impl Evaluate {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that is not one of predictions, or whose labels are missing.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let bytes = read_bounded(&self.predictions, MAX_BYTES)?;
        let table = in_file(&self.predictions, PredictionTable::parse(&bytes))?;
        let report = in_file(&self.predictions, table.evaluate(self.resamples, self.seed))?;
        common.print(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Predictions as they stand in the file: `file,group,label,predicted,margin,score:CLASS..`.
#[derive(Debug, Default, PartialEq)]
pub struct PredictionTable {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Names of the images.
    pub files: Vec<String>,
    /// Group of each image; empty texts if there are none.
    pub groups: Vec<String>,
    /// True class of each image; empty texts if unknown.
    pub labels: Vec<String>,
    /// `[n][C]` scores.
    pub scores: Vec<f64>,
}

impl PredictionTable {
    /// Writes the file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let scores = self.classes.iter().map(|class| format!("{SCORE}{class}"));
        writer.write_record(FIXED.map(str::to_owned).into_iter().chain(scores))?;
        let rows = self.files.iter().zip(&self.groups).zip(&self.labels);
        for (((file, group), label), scores) in rows.zip(self.scores.chunks_exact(self.classes.len().max(1)))
        {
            let predicted = self.classes[metrics::argmax(scores)].clone();
            let numbers = std::iter::once(metrics::margin(scores)).chain(scores.iter().copied());
            let texts = [file.clone(), group.clone(), label.clone(), predicted];
            writer.write_record(texts.into_iter().chain(numbers.map(|x| x.to_string())))?;
        }
        let bytes = writer.into_inner().map_err(|error| error.into_error())?;
        Ok(write_atomically(path, &bytes, Access::Owner)?)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Columns or numbers that are missing or malformed, with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers()?.clone();
        for (index, name) in FIXED.iter().enumerate() {
            if header.get(index) != Some(name) {
                bail!("line 1: column {} is not `{name}`", index + 1);
            }
        }
        let class = |name: &str| {
            name.strip_prefix(SCORE)
                .map(str::to_owned)
                .with_context(|| format!("line 1: column `{name}` is no score"))
        };
        let classes = header.iter().skip(FIXED.len()).map(class).collect::<Result<Vec<_>>>()?;
        if classes.is_empty() {
            bail!("line 1: there are no columns of scores");
        }
        if let Some(index) = (1..classes.len()).find(|&index| classes[..index].contains(&classes[index])) {
            bail!("line 1: column `{SCORE}{}` occurs twice", classes[index]);
        }
        let mut table = Self { classes, ..Self::default() };
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let text = |index: usize| record.get(index).unwrap_or_default().to_owned();
            table.files.push(text(0));
            table.groups.push(text(1));
            table.labels.push(text(2));
            for field in record.iter().skip(FIXED.len()) {
                let score: f64 = field.parse().with_context(|| format!("line {line}: score '{field}'"))?;
                if !score.is_finite() {
                    bail!("line {line}: score '{field}' is not finite");
                }
                table.scores.push(score);
            }
        }
        Ok(table)
    }

    /// Metrics with intervals.
    ///
    /// # Errors
    /// No rows, or a row without a label, or with one that is no class.
    fn evaluate(self, resamples: usize, seed: u64) -> Result<Report> {
        let index = |(label, file): (&String, &String)| {
            if label.is_empty() {
                bail!("image {file:?}: has no label");
            }
            let known = || {
                format!(
                    "image {file:?}: label '{label}' is not among the classes {}",
                    self.classes.join(", ")
                )
            };
            self.classes.iter().position(|class| class == label).with_context(known)
        };
        let labels: Vec<usize> = self.labels.iter().zip(&self.files).map(index).collect::<Result<_>>()?;
        let grouped = self.groups.iter().all(|group| !group.is_empty());
        let mut names: Vec<&String> = self.groups.iter().collect();
        names.sort();
        names.dedup();
        let groups: Vec<usize> =
            self.groups.iter().filter_map(|group| names.binary_search(&group).ok()).collect();
        let predictions = Predictions {
            scores: &self.scores,
            class_count: self.classes.len(),
            labels: &labels,
            groups: grouped.then_some(&groups),
        };
        let evaluation = evaluate(&predictions, resamples, seed)?;
        Ok(Report { classes: self.classes, evaluation })
    }
}
