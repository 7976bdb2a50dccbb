//! `tiles`: synthetic tiles.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use arras_fit::tiles::{CLASSES, TileSet};
use arras_wire::file::{Access, write_atomically};
use clap::Args;
use image::{ExtendedColorType, ImageEncoder};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;

use super::embed::progress;
use super::{Common, Text, table};

/// Arguments of `tiles`.
#[derive(Args, Debug)]
pub struct Tiles {
    /// Folder to fill, a sub-folder per class
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Tiles of each of the three classes
    #[arg(long)]
    per_class: usize,
    /// What everything random depends on
    #[arg(long)]
    seed: u64,
    /// Number of patients; their tiles share stain and cell size
    #[arg(long, default_value_t = 12)]
    patients: usize,
    /// Number of sites; their tiles share a scanner
    #[arg(long, default_value_t = 2)]
    sites: usize,
    /// Side of a tile in pixels
    #[arg(long, default_value_t = 96)]
    size: usize,
}

#[derive(Serialize)]
struct Report {
    tiles: usize,
    classes: [&'static str; 3],
    patients: usize,
    sites: usize,
    output: PathBuf,
}

impl Text for Report {
    fn text(&self) -> String {
        table(&[
            ("tiles", format!("{} of {}", self.tiles, self.classes.join(", "))),
            ("patients", format!("{} at {} sites", self.patients, self.sites)),
            ("written to", self.output.display().to_string()),
        ])
    }
}

impl Tiles {
    /// Runs the command.
    ///
    /// # Errors
    /// Numbers out of range, or a folder that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let set = TileSet {
            seed: self.seed,
            per_class: self.per_class,
            patients: self.patients,
            sites: self.sites,
            size: self.size,
        };
        set.check()?;
        let bar = progress(common, "painting", set.len());
        write_tiles(&set, &self.output, &bar)?;
        bar.finish_and_clear();
        common.print(&Report {
            tiles: set.len(),
            classes: CLASSES,
            patients: self.patients,
            sites: self.sites,
            output: self.output.clone(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes every tile as PNG into the folder of its class, and `groups.csv` with the patient of each.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_tiles(set: &TileSet, folder: &Path, bar: &ProgressBar) -> Result<()> {
    for class in CLASSES {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let write = |position: usize| -> Result<String> {
        let tile = set.tile(position)?;
        let side = set.size as u32;
        let mut png = Vec::new();
        image::codecs::png::PngEncoder::new(&mut png).write_image(
            &tile.rgb,
            side,
            side,
            ExtendedColorType::Rgb8,
        )?;
        write_atomically(&folder.join(&tile.name), &png, Access::Shared)?;
        bar.inc(1);
        Ok(format!("{},patient-{:03}\n", tile.name, tile.patient))
    };
    let rows: Vec<String> = (0..set.len()).into_par_iter().map(write).collect::<Result<_>>()?;
    let groups = format!("file,group\n{}", rows.concat());
    write_atomically(&folder.join("groups.csv"), groups.as_bytes(), Access::Shared)?;
    Ok(())
}
