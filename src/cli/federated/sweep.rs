//! Accuracy under differential privacy, on rows that no party holds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use arras_federated::session::Plan;
use arras_federated::{local, simulate};
use arras_fit::Features;
use arras_fit::metrics::argmax;
use arras_fit::split::Deal;
use arras_rounds::Agreement;
use arras_rounds::agreement::{Privacy, Projection, seed_of};
use clap::Args;
use serde::Serialize;

use super::super::{Common, Text};

/// Arguments of `federated sweep`.
#[derive(Args, Debug)]
pub struct Sweep {
    /// Labelled features of all parties
    features: PathBuf,
    /// Labelled features that judge heads and train none
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// Number of parties, among which rows are dealt evenly
    #[arg(long, default_value_t = 3)]
    parties: u32,
    /// Values of epsilon, separated by commas; `inf` for exact sums
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2,4,8,inf")]
    epsilon: Vec<f64>,
    /// Delta
    #[arg(long, default_value_t = 1e-5)]
    delta: f64,
    /// Numbers of dimensions to project features to at random, separated by commas; without it they stay as they are
    #[arg(long, value_delimiter = ',')]
    project: Vec<u32>,
    /// Most rows of one unit, separated by commas: 1 protects rows, more protect groups
    #[arg(long, value_delimiter = ',', default_value = "1")]
    rows_per_unit: Vec<u32>,
    /// Rows are clipped to this norm, which must not come from the parties' data
    #[arg(long)]
    row_bound: f64,
    /// How often noise is drawn
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// What was measured, and on what.
#[derive(Serialize)]
struct Measured {
    rows: usize,
    test_rows: usize,
    dimension: usize,
    /// Hashes of both sets of features.
    data: [String; 2],
    parties: u32,
    delta: f64,
    row_bound: f64,
    /// Share of rows cut to the bound, without a projection.
    clipped: f64,
    /// Share of the largest class among the rows that judge.
    chance: f64,
    runs: Vec<Run>,
}

/// Accuracy on the rows that judge, of one setting.
#[derive(Serialize)]
struct Run {
    rows_per_unit: u32,
    project: u32,
    /// None for exact sums.
    epsilon: Option<f64>,
    /// In the order in which noise was drawn.
    accuracy: Vec<f64>,
}

impl Text for Measured {
    fn text(&self) -> String {
        let head = format!(
            "{} rows of {} features, {} judge, chance {:.3}, {:.1} % clipped\nunit  dimensions  epsilon  accuracy\n",
            self.rows,
            self.dimension,
            self.test_rows,
            self.chance,
            100.0 * self.clipped
        );
        let line = |run: &Run| {
            let epsilon = run.epsilon.map_or_else(|| "inf".to_owned(), |epsilon| epsilon.to_string());
            let accuracy: Vec<String> = run.accuracy.iter().map(|value| format!("{value:.3}")).collect();
            format!("{:4}  {:10}  {epsilon:>7}  {}\n", run.rows_per_unit, run.project, accuracy.join(" "))
        };
        head + &self.runs.iter().map(line).collect::<String>()
    }
}

impl Sweep {
    /// Runs the command.
    ///
    /// # Errors
    /// Features that do not fit each other or the options.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let features = read(&self.features)?;
        let test = read(&self.test)?;
        ensure!(
            features.dimension == test.dimension,
            "{}: {} features per row, {} has {}",
            self.test.display(),
            test.dimension,
            self.features.display(),
            features.dimension
        );
        ensure!(
            self.epsilon.iter().all(|epsilon| *epsilon > 0.0) && self.repeats > 0,
            "--epsilon and --repeats: have to be above 0"
        );
        let (classes, of_test) = test.classes().context("no labels")?;
        let largest = (0..classes.len())
            .map(|class| of_test.iter().filter(|&&of| of == class).count())
            .max()
            .unwrap_or_default();
        let all = u32::try_from(features.dimension).context("features per row")?;
        let projections = if self.project.is_empty() { vec![all] } else { self.project.clone() };
        let mut runs = Vec::new();
        for &rows_per_unit in &self.rows_per_unit {
            for &project in &projections {
                for &epsilon in &self.epsilon {
                    let privacy =
                        epsilon.is_finite().then_some(Privacy { epsilon, delta: self.delta, rows_per_unit });
                    let agreement = self.agreement(&features, &classes, project, privacy)?;
                    let repeats = if privacy.is_some() { self.repeats } else { 1 };
                    let accuracy = (0..repeats)
                        .map(|_| accuracy(common, &agreement, &features, rows_per_unit, &test, &of_test))
                        .collect::<Result<_>>()?;
                    runs.push(Run {
                        rows_per_unit,
                        project,
                        epsilon: privacy.map(|privacy| privacy.epsilon),
                        accuracy,
                    });
                }
            }
        }
        let norms = features.values.chunks_exact(features.dimension).map(norm);
        common.print(&Measured {
            rows: features.rows(),
            test_rows: test.rows(),
            dimension: features.dimension,
            data: [&features, &test].map(Features::data_hash),
            parties: self.parties,
            delta: self.delta,
            row_bound: self.row_bound,
            clipped: norms.filter(|norm| *norm > self.row_bound).count() as f64 / features.rows() as f64,
            chance: largest as f64 / test.rows() as f64,
            runs,
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn agreement(
        &self,
        features: &Features,
        classes: &[String],
        project: u32,
        privacy: Option<Privacy>,
    ) -> Result<Agreement> {
        let agreement = Agreement {
            name: "sweep".to_owned(),
            epoch: 1,
            backbone: features.fingerprint.clone().unwrap_or_default(),
            dimension: u32::try_from(features.dimension).context("features per row")?,
            classes: classes.to_vec(),
            row_bound: self.row_bound,
            rows: u32::try_from(features.rows()).context("rows")?,
            parties: self.parties,
            threshold: self.parties / 2 + 1,
            quorum: self.parties,
            receiver: "party-001".to_owned(),
            projection: (project as usize != features.dimension)
                .then(|| Projection { dimension: project, seed: seed_of("sweep") }),
            privacy,
        };
        agreement.check()?;
        Ok(agreement)
    }
}

/// Labelled features, with a name for their backbone.
fn read(path: &Path) -> Result<Features> {
    let features = Features::read(path)?;
    ensure!(features.labels.is_some(), "{}: the features carry no labels", path.display());
    let fingerprint = features.fingerprint.clone().unwrap_or_else(|| "unknown".to_owned());
    Ok(Features { fingerprint: Some(fingerprint), ..features })
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Trains once and judges.
fn accuracy(
    common: &Common,
    agreement: &Agreement,
    features: &Features,
    rows_per_unit: u32,
    test: &Features,
    of_test: &[usize],
) -> Result<f64> {
    // Where rows are units, nothing is said of groups.
    let groups = features.groups.clone().filter(|_| rows_per_unit > 1);
    let features = Features { groups, ..features.clone() };
    let parts = local::deal(&features, None, agreement.parties as usize, Deal::Even, 0)?;
    let plan = Plan { attempts: 1, honest: agreement.quorum, ..Plan::default() };
    let device = common.backend()?;
    let head = simulate::run(agreement, &parts, &plan, || device.clone())?.head;
    let logits = head.logits(&test.values);
    let correct = logits
        .chunks_exact(agreement.classes.len())
        .zip(of_test)
        .filter(|(row, class)| argmax(row) == **class);
    Ok(correct.count() as f64 / of_test.len() as f64)
}
