//! `demo`: the whole road on generated tiles.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use arras_fit::baseline::colour_statistics;
use arras_fit::tiles::TileSet;
use arras_fit::{Features, Training, metrics, train, train_mlp};
use arras_heads::{Head, Model};
use arras_vit::{decode, images_in};
use clap::Args;
use serde::Serialize;

use super::device::Device as Backend;
use super::embed::{Backbone, Embedded, attach_groups, embed_images, progress, read_groups};
use super::tiles::write_tiles;
use super::{Common, Text, pipeline, table};

/// Tiles of each class.
const PER_CLASS: usize = 240;
/// Patients: one half to fit on, the other to test on.
const PATIENTS: usize = 24;
/// Sites.
const SITES: usize = 3;

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// What tiles and weights depend on
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Parameters of the encryption; without it the cheapest for the head, see `arras plan`
    #[arg(long)]
    preset: Option<String>,
    /// Let the server hide its head in the replies
    #[arg(long, conflicts_with = "preset")]
    hide_model: bool,
    /// Fit a head with a hidden layer of so many units instead of a linear one
    #[arg(long, value_name = "UNITS", conflicts_with = "hide_model", value_parser = clap::value_parser!(u16).range(1..))]
    hidden: Option<u16>,
    /// Keep tiles, features and head in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    note: &'static str,
    tiles: usize,
    fitted_on: usize,
    l2: Option<f64>,
    hidden: Option<u16>,
    accuracy_colour_statistics: f64,
    #[serde(flatten)]
    outcome: pipeline::Outcome,
}

/// What must be known to read the numbers.
const NOTE: &str = "synthetic tiles, random weights: not evidence about histology";

impl Text for Report {
    fn text(&self) -> String {
        let mut rows = vec![
            ("note", self.note.to_owned()),
            (
                "tiles",
                format!(
                    "{}, {} to fit on, {} held out by patient",
                    self.tiles, self.fitted_on, self.outcome.images
                ),
            ),
        ];
        rows.extend(self.outcome.rows());
        rows.insert(
            5,
            ("accuracy of colour alone", format!("{:.2} %", 100.0 * self.accuracy_colour_statistics)),
        );
        table(&rows)
    }
}

impl Demo {
    /// Runs the command.
    ///
    /// # Errors
    /// Only a machine without room or memory.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let backend = common.backend()?;
        let scratch = tempfile::tempdir().context("making a temporary folder")?;
        let folder = self.keep.as_deref().unwrap_or(scratch.path());
        let set =
            TileSet { seed: self.seed, per_class: PER_CLASS, patients: PATIENTS, sites: SITES, size: 96 };
        let bar = progress(common, "painting", set.len());
        write_tiles(&set, &folder.join("tiles"), &bar)?;
        bar.finish_and_clear();
        let embedded = self.embed(common, &backend, &folder.join("tiles"))?;
        let split = Split::by_group(&embedded.features)?;
        let (model, l2) = self.fit(&embedded.features.select(&split.fit))?;
        let presets = pipeline::presets(self.preset.as_deref(), self.hide_model, &model)?;
        let colour = colour_accuracy(&embedded.features, &folder.join("tiles"), &split)?;
        if self.keep.is_some() {
            embedded.features.write(&folder.join("cls.safetensors"))?;
            model.write(&folder.join("head.safetensors"))?;
        }
        let outcome = pipeline::run(backend, presets, &model, &select(&embedded, &split.test))?;
        common.print(&Report {
            note: NOTE,
            tiles: set.len(),
            fitted_on: split.fit.len(),
            l2,
            hidden: self.hidden,
            accuracy_colour_statistics: colour,
            outcome,
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// The head, and the penalty of a linear one.
    fn fit(&self, features: &Features) -> Result<(Model, Option<f64>)> {
        match self.hidden {
            None => {
                let trained = train(features, None)?;
                Ok((trained.head.into(), Some(trained.fit.l2)))
            }
            Some(hidden) => {
                let training = Training { seed: self.seed, ..Training::new(hidden.into()) };
                Ok((train_mlp(features, &training)?.mlp.into(), None))
            }
        }
    }

    fn embed(&self, common: &Common, backend: &Backend, tiles: &Path) -> Result<Embedded> {
        let backbone = Backbone { random: Some(self.seed), ..Backbone::default() };
        let vit = backbone.load(common, backend)?;
        let images = images_in(tiles)?;
        let bar = progress(common, "embedding", images.len());
        let mut embedded = embed_images(&vit, &images, &HashMap::new(), &bar, |_| Ok(()))?;
        bar.finish_and_clear();
        if let Some(failure) = embedded.failures.first() {
            bail!("{failure}");
        }
        attach_groups(&mut embedded.features, read_groups(&images, tiles)?);
        Ok(embedded)
    }
}

/// Rows to fit on and rows to test on; no group in both.
struct Split {
    fit: Vec<usize>,
    test: Vec<usize>,
}

impl Split {
    /// Every second group.
    fn by_group(features: &Features) -> Result<Self> {
        let (_, group_of) = features.group_indices().context("the tiles have no groups")?;
        let (fit, test) = (0..features.rows()).partition(|&row| group_of[row].is_multiple_of(2));
        Ok(Self { fit, test })
    }
}

fn select(embedded: &Embedded, rows: &[usize]) -> Embedded {
    let pick = |times: &Vec<f64>| rows.iter().filter_map(|&row| times.get(row).copied()).collect();
    Embedded {
        features: embedded.features.select(rows),
        failures: Vec::new(),
        decode_ms: pick(&embedded.decode_ms),
        vit_ms: pick(&embedded.vit_ms),
    }
}

/// What a head on means and deviations of the colours reaches on the same split.
fn colour_accuracy(features: &Features, tiles: &Path, split: &Split) -> Result<f64> {
    let mut colours = Features { dimension: 6, values: Vec::new(), fingerprint: None, ..features.clone() };
    for name in &features.names {
        let rgb = decode(&tiles.join(name))?.into_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        colours.values.extend(colour_statistics(&rgb, width, height).context("an empty tile")?);
    }
    let head: Head = train(&colours.select(&split.fit), None)?.head;
    let held_out = colours.select(&split.test);
    let logits = head.logits(&held_out.values);
    let labels = held_out.labels.unwrap_or_default();
    let met = labels.iter().zip(logits.chunks_exact(head.class_count()));
    let met = met.filter(|(label, scores)| head.classes[metrics::argmax(scores)] == **label).count();
    Ok(met as f64 / labels.len() as f64)
}
