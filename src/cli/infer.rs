//! `infer`: a folder of images to predictions, encrypted in between, in one process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use arras_heads::Model;
use clap::Args;
use serde::Serialize;

use super::embed::{
    Backbone, GROUPS, attach_groups, check_output, embed_images, list, progress, read_groups, report_failures,
};
use super::evaluate::PredictionTable;
use super::{Common, Text, pipeline, table};

/// Arguments of `infer`.
#[derive(Args, Debug)]
pub struct Infer {
    /// Folder of images; the names of its sub-folders are taken for labels
    images: PathBuf,
    /// The head, from `arras fit`
    #[arg(long, value_name = "FILE")]
    head: PathBuf,
    #[command(flatten)]
    backbone: Backbone,
    /// Where to write a prediction per image
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Parameters of the encryption; without it the cheapest for the head, see `arras plan`
    #[arg(long)]
    preset: Option<String>,
    /// Let the server hide its head in the replies
    #[arg(long, conflicts_with = "preset")]
    hide_model: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    outcome: pipeline::Outcome,
    failed: Vec<String>,
}

impl Text for Report {
    fn text(&self) -> String {
        let mut rows = self.outcome.rows();
        rows.push(("skipped", format!("{} images", self.failed.len())));
        table(&rows)
    }
}

impl Infer {
    /// Runs the command.
    ///
    /// # Errors
    /// A head, backbone or folder that cannot be read or do not belong together.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let backend = common.backend()?;
        let model = Model::read(&self.head)?;
        let presets = pipeline::presets(self.preset.as_deref(), self.hide_model, &model)?;
        let images = list(&self.images)?;
        if let Some(path) = &self.predictions {
            check_output(path, &images, &[&self.head, &self.images.join(GROUPS)])?;
        }
        let groups = read_groups(&images, &self.images)?;
        let vit = self.backbone.load(common, &backend)?;
        let fingerprint = vit.fingerprint().to_string();
        if let Some(fitted) = model.card().fingerprint.as_ref().filter(|fitted| **fitted != fingerprint) {
            let (file, fitted, here) = (self.head.display(), first(fitted), first(&fingerprint));
            bail!("{file}: card.fingerprint: fitted on backbone {fitted}, the one given is {here}");
        }
        let bar = progress(common, "embedding", images.len());
        let mut embedded = embed_images(&vit, &images, &HashMap::new(), &bar, |_| Ok(()))?;
        bar.finish_and_clear();
        let failed = std::mem::take(&mut embedded.failures);
        let code = report_failures(&failed);
        if embedded.features.rows() == 0 {
            bail!("{}: none of {} images could be read", self.images.display(), images.len());
        }
        attach_groups(&mut embedded.features, groups);
        let outcome = pipeline::run(backend, presets, &model, &embedded)?;
        if let Some(path) = &self.predictions {
            let blank = || vec![String::new(); outcome.images];
            let features = embedded.features;
            let table = PredictionTable {
                classes: model.classes().to_vec(),
                files: features.names,
                groups: features.groups.unwrap_or_else(blank),
                labels: features.labels.unwrap_or_else(blank),
                scores: outcome.logits.clone(),
            };
            table.write(path)?;
        }
        common.print(&Report { outcome, failed })?;
        Ok(code)
    }
}

/// Enough of a fingerprint to tell two apart.
fn first(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}
