//! `audit`: what each party sees, attacked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Result, bail};
use arras_audit::metrics::Lpips;
use arras_audit::{Attack, Audit as Document, Plan, Source, Subject, Watch, report, run};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::embed::{Backbone, progress};
use super::{Common, Text};

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// Folder for the report; an interrupted audit of the same settings goes on where it was
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Pictures to attack, sub-folders being classes, pictures of one group (groups.csv) on one side; without it, generated tiles
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A Hugging Face directory (ViTModel or Dinov2Model) to attack; without it, random weights from the seed
    #[arg(long, value_name = "HF_DIR")]
    model: Option<PathBuf>,
    /// Attacks to run, by name or letter; without it, all
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = attack)]
    attacks: Vec<Attack>,
    /// What everything random depends on but encryption
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Victims of attacks on tokens
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(10..=10_000))]
    victims: u16,
    /// Pictures that the attacker learns from
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u16).range(20..=20_000))]
    own: u16,
    /// Steps of gradient matching; a serious run takes 2000
    #[arg(long, default_value_t = Plan::default().iterations)]
    iterations: usize,
    /// Batch sizes of gradient matching
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = Plan::default().batch_sizes)]
    batch_sizes: Vec<usize>,
    /// Weights of AlexNet for LPIPS, as scripts/lpips-weights.py writes them
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
}

fn attack(text: &str) -> Result<Attack, String> {
    let named = |attack: &Attack| attack.name() == text || text.parse::<char>() == Ok(attack.letter());
    Attack::ALL.into_iter().find(named).ok_or_else(|| {
        format!(
            "expected one of {}",
            Attack::ALL.map(|a| format!("{} ({})", a.name(), a.letter())).join(", ")
        )
    })
}

/// The document, with the table as its text.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    audit: Document,
    #[serde(skip)]
    page: PathBuf,
}

impl Text for Report {
    fn text(&self) -> String {
        format!("{}report: {}\n", report::text(&self.audit), self.page.display())
    }
}

/// A bar for each stage.
struct Bars<'a> {
    common: &'a Common,
    bar: Mutex<ProgressBar>,
}

impl Watch for Bars<'_> {
    fn begin(&self, what: &str, steps: usize) {
        let next = progress(self.common, "", steps).with_message(what.to_owned());
        if let Ok(mut bar) = self.bar.lock() {
            std::mem::replace(&mut *bar, next).finish_and_clear();
        }
    }

    fn step(&self) {
        if let Ok(bar) = self.bar.lock() {
            bar.inc(1);
        }
    }
}

impl Audit {
    /// Runs the command.
    ///
    /// # Errors
    /// Pictures or a model that cannot be used, a folder that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        if self.batch_sizes.contains(&0) || self.iterations == 0 {
            bail!("--batch-sizes, --iterations: expected at least 1");
        }
        let vit = Backbone::of(self.model.clone(), self.seed).load(common, &common.backend()?)?;
        let lpips = self.lpips.as_deref().map(Lpips::load).transpose()?;
        let source = match &self.images {
            Some(folder) => Source::folder(folder, self.seed)?,
            None => Source::Tiles(self.seed),
        };
        let plan = Plan {
            seed: self.seed,
            attacks: if self.attacks.is_empty() { Attack::ALL.to_vec() } else { self.attacks.clone() },
            victims: self.victims.into(),
            own: self.own.into(),
            iterations: self.iterations,
            batch_sizes: self.batch_sizes.clone(),
            ..Plan::default()
        };
        let bars = Bars { common, bar: Mutex::new(ProgressBar::hidden()) };
        let subject = Subject { vit: &vit, model: self.model.as_deref(), source, lpips: lpips.as_ref() };
        let audit = run(subject, &plan, &self.output, &bars)?;
        bars.begin("", 0);
        common.print(&Report { audit, page: self.output.join("report.html") })?;
        Ok(ExitCode::SUCCESS)
    }
}
