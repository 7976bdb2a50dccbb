//! `basis` and `project`: fewer features, in the principal components of public ones.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use arras_fit::{Basis as Components, Features};
use clap::Args;
use serde::Serialize;

use super::{Common, Text, refuse_replacing, table};

/// Arguments of `basis`.
#[derive(Args, Debug)]
pub struct Basis {
    /// Features of public images, of none that a party holds
    public: PathBuf,
    /// How many components to keep
    #[arg(long)]
    dimension: usize,
    /// Where to write the basis
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Arguments of `project`.
#[derive(Args, Debug)]
pub struct Project {
    /// Features of the same backbone as the basis
    features: PathBuf,
    /// The basis, from `arras basis`
    #[arg(long, value_name = "FILE")]
    basis: PathBuf,
    /// Where to write the features in that basis
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Report {
    rows: usize,
    features: usize,
    kept: usize,
    /// 50, 90 and 99 % of the rows are no longer than this: on public rows, a bound to agree on.
    norms: [f64; 3],
    fingerprint: String,
    output: PathBuf,
}

impl Report {
    fn new(basis: &Components, projected: &Features, output: &std::path::Path) -> Self {
        let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let mut norms: Vec<f64> = projected.values.chunks_exact(projected.dimension).map(norm).collect();
        norms.sort_by(f64::total_cmp);
        let quantile = |share: f64| norms[((norms.len() - 1) as f64 * share).round() as usize];
        Self {
            rows: projected.rows(),
            features: basis.dimension(),
            kept: basis.kept(),
            norms: [0.5, 0.9, 0.99].map(quantile),
            fingerprint: basis.fingerprint(),
            output: output.to_path_buf(),
        }
    }
}

impl Text for Report {
    fn text(&self) -> String {
        let [half, most, nearly_all] = self.norms;
        table(&[
            ("rows", self.rows.to_string()),
            ("features", format!("{}, {} kept", self.features, self.kept)),
            ("norms", format!("50 % up to {half:.2}, 90 % up to {most:.2}, 99 % up to {nearly_all:.2}")),
            ("fingerprint", self.fingerprint.clone()),
            ("written to", self.output.display().to_string()),
        ])
    }
}

impl Basis {
    /// Runs the command.
    ///
    /// # Errors
    /// Features that cannot be read or do not vary enough, a file that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        refuse_replacing(&self.output, [self.public.as_path()])?;
        let public = Features::read(&self.public)?;
        let of = || self.public.display().to_string();
        let basis = Components::of(&public, self.dimension).with_context(of)?;
        let projected = basis.apply(&public).with_context(of)?;
        basis.write(&self.output)?;
        common.print(&Report::new(&basis, &projected, &self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Project {
    /// Runs the command.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit each other, one that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        refuse_replacing(&self.output, [self.features.as_path(), self.basis.as_path()])?;
        let basis = Components::read(&self.basis)?;
        let features = Features::read(&self.features)?;
        let projected = basis.apply(&features).with_context(|| self.features.display().to_string())?;
        projected.write(&self.output)?;
        common.print(&Report::new(&basis, &projected, &self.output))?;
        Ok(ExitCode::SUCCESS)
    }
}
