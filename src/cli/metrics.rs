//! `metrics`: how close two pictures are.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use arras_audit::Image;
use arras_audit::metrics::{Lpips, Similarity};
use clap::Args;
use serde::Serialize;

use super::{Common, Text, table};

/// Arguments of `metrics`.
#[derive(Args, Debug)]
pub struct Metrics {
    /// A picture (PNG, JPEG or TIFF)
    a: PathBuf,
    /// Another of the same size
    b: PathBuf,
    /// Weights of AlexNet for LPIPS, as scripts/lpips-weights.py writes them
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    similarity: Similarity,
}

impl Text for Report {
    fn text(&self) -> String {
        let Similarity { psnr, ssim_uniform, ssim_gaussian, nmi_1_2, nmi_0_1, lpips } = self.similarity;
        let lpips = lpips.map_or_else(
            || "not measured: --lpips FILE names its weights".to_owned(),
            |value| format!("{value:.6}"),
        );
        table(&[
            ("PSNR", format!("{psnr:.4} dB")),
            ("SSIM, uniform windows", format!("{ssim_uniform:.6}")),
            ("SSIM, Gaussian windows", format!("{ssim_gaussian:.6}")),
            ("NMI, 1 to 2", format!("{nmi_1_2:.6}")),
            ("NMI, 0 to 1", format!("{nmi_0_1:.6}")),
            ("LPIPS", lpips),
        ])
    }
}

impl Metrics {
    /// Runs the command.
    ///
    /// # Errors
    /// Files that are no pictures, or of different sizes; weights that are none.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let lpips = self.lpips.as_deref().map(Lpips::load).transpose()?;
        if lpips.is_none() {
            tracing::info!(
                "LPIPS is not measured: --lpips FILE names its weights (scripts/lpips-weights.py)"
            );
        }
        let (a, b) = (Image::load(&self.a)?, Image::load(&self.b)?);
        common.print(&Report { similarity: Similarity::of(&a, &b, lpips.as_ref())? })?;
        Ok(ExitCode::SUCCESS)
    }
}
