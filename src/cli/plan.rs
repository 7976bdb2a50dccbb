//! `plan`: which preset and layout to use, and what each costs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use arras_heads::plan::{Cost, candidates};
use arras_heads::{Model, Preset, Rates, RotationsPlan, Shape};
use clap::Args;
use serde::Serialize;

use super::crypt::{HeadShape, LayoutName};
use super::{Common, Text};

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// Number of images
    #[arg(long, default_value_t = 1)]
    images: usize,
    /// Number of features
    #[arg(long, default_value_t = 768, conflicts_with = "head_file")]
    dimension: usize,
    #[command(flatten)]
    head: HeadShape,
    /// Take the numbers of a head
    #[arg(long = "head", value_name = "FILE", conflicts_with_all = ["classes", "hidden"])]
    head_file: Option<PathBuf>,
    /// Look at one preset only
    #[arg(long, conflicts_with = "hide_model")]
    preset: Option<String>,
    /// Look at one layout only
    #[arg(long, value_enum)]
    layout: Option<LayoutName>,
    /// Look at presets only whose replies hide the head
    #[arg(long)]
    hide_model: bool,
    /// Speed of the link in Mbit/s
    #[arg(long, default_value_t = 1000.0, value_parser = speed)]
    link: f64,
}

/// A positive number.
fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("expected a positive number".into()),
    }
}

/// A line of the table.
#[derive(Serialize)]
struct Line {
    preset: &'static str,
    layout: &'static str,
    upload_bytes: u64,
    reply_bytes: u64,
    keys: usize,
    key_bytes: u64,
    galois_elements: Vec<usize>,
    server_ms: f64,
    link_ms: f64,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    features: usize,
    hidden: Option<usize>,
    classes: usize,
    backend: String,
    /// The first is the one chosen.
    plans: Vec<Line>,
    reason: String,
}

impl Text for Report {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:14} {:10} {:>13} {:>13} {:>5} {:>13} {:>11} {:>11}",
            "preset", "layout", "bytes up", "bytes down", "keys", "bytes of keys", "server ms", "link ms"
        );
        for line in &self.plans {
            let _ = writeln!(
                text,
                "{:14} {:10} {:>13} {:>13} {:>5} {:>13} {:>11.2} {:>11.2}",
                line.preset,
                line.layout,
                line.upload_bytes,
                line.reply_bytes,
                line.keys,
                line.key_bytes,
                line.server_ms,
                line.link_ms
            );
        }
        let _ = writeln!(text, "chosen: {} (rates measured on {})", self.reason, self.backend);
        text
    }
}

impl Plan {
    /// Runs the command.
    ///
    /// # Errors
    /// A head that cannot be read, and a shape that no preset and layout serves.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let backend = common.backend()?;
        let name = arras_rns::Backend::name(&backend);
        let shape = match &self.head_file {
            Some(file) => Shape::of(&Model::read(file)?),
            None => self.head.shape(self.dimension),
        };
        let presets = match &self.preset {
            Some(name) => vec![Preset::named(name)?],
            None => candidates(shape.hidden.is_some(), self.hide_model),
        };
        let rates = Rates { byte: 8e3 / self.link, ..Rates::measure(backend)? };
        let layout = self.layout.map(Into::into);
        let plan = arras_heads::Plan::new(presets, shape, self.images, layout, rates)?;
        let plans = std::iter::once(&plan.chosen).chain(&plan.rejected);
        common.print(&Report {
            images: self.images,
            features: shape.dimension,
            hidden: shape.hidden,
            classes: shape.classes,
            backend: name,
            plans: plans.map(|cost| line(cost, shape)).collect::<Result<_>>()?,
            reason: plan.reason,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn line(cost: &Cost, shape: Shape) -> Result<Line> {
    let galois_elements = match cost.keys {
        0 => Vec::new(),
        _ => RotationsPlan::new(&cost.preset.params, shape)?
            .keys()?
            .into_keys()
            .filter(|&key| key != 0)
            .collect(),
    };
    Ok(Line {
        preset: cost.preset.name,
        layout: cost.groups.layout.name(),
        upload_bytes: cost.upload_bytes,
        reply_bytes: cost.reply_bytes,
        keys: cost.keys,
        key_bytes: cost.key_bytes,
        galois_elements,
        server_ms: cost.server_ms,
        link_ms: cost.link_ms,
    })
}
