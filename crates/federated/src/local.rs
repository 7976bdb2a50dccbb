//! A party's own rows and the integers that it makes of them.

use arras_ckks::sampling::Sampler;
use arras_fit::counts::{self, Counts};
use arras_fit::ridge::Problem;
use arras_fit::split::{Rows, hold_out};
use arras_fit::statistics::Statistics;
use arras_fit::{Features, split};
use arras_rounds::Agreement;
use arras_rounds::agreement::Projection;
use arras_rounds::message::{Candidate, Opening, Purpose};
use arras_rounds::privacy::{Noise, sensitivity};

use crate::noise::DiscreteGaussian;
use crate::{Error, Result};

/// Share of a party's rows that judge candidates instead of training them.
pub const HELD_OUT: f64 = 0.2;

/// The same in every epoch: sums of two epochs over the same data are over the same rows.
const HELD_OUT_SEED: u64 = 1;

/// Rows that fit an agreement: projected, clipped, with classes in its order, split into training and held-out rows.
///
/// ```
/// use arras_federated::Local;
/// use arras_fit::import;
///
/// # let agreement = arras_rounds::Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 2,
/// #     classes: vec!["high".into(), "low".into()], row_bound: 5.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// // Two features, classes "high" and "low", rows cut to norm 5.
/// let table = b"file,label,f0,f1\na,low,1,0\nb,low,0,1\nc,high,3,4\nd,high,6,8\n";
/// let mut features = import::from_csv("own.csv", table)?;
/// features.fingerprint = Some(agreement.backbone.clone());
/// let local = Local::new(&agreement, &features)?;
/// assert_eq!((local.names().len(), local.clipped()), (4, 1));
/// let (training, held_out) = local.sizes();
/// assert_eq!((training + held_out, local.statistics()?.rows()), (4, training as f64));
///
/// features.fingerprint = Some("another backbone".into());
/// assert!(Local::new(&agreement, &features).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Local {
    agreement: Agreement,
    /// As they came, for candidates.
    features: Vec<f32>,
    /// `[n][d]`, projected, clipped, and divided by the bound.
    rows: Vec<f32>,
    classes: Vec<usize>,
    training: Vec<usize>,
    held_out: Vec<usize>,
    names: Vec<String>,
    hash: [u8; 32],
    clipped: usize,
}

impl Local {
    /// Takes labelled features. Held-out rows are chosen by group where groups are given; what stays the same is their
    /// choice for the same data.
    ///
    /// # Errors
    /// Features of another backbone or dimension, labels that are not classes of the agreement, a unit with more rows than
    /// agreed.
    pub fn new(agreement: &Agreement, features: &Features) -> Result<Self> {
        features.check("features")?;
        check_fit(agreement, features)?;
        let classes = class_indices(agreement, features)?;
        let groups = features.group_indices().map(|(_, groups)| groups);
        check_units(agreement, features, groups.as_deref())?;
        let dimension = agreement.dimension as usize;
        let projected = match &agreement.projection {
            None => features.values.clone(),
            Some(projection) => {
                let matrix = projection_matrix(projection, dimension);
                features.values.chunks_exact(dimension).flat_map(|row| project(&matrix, row)).collect()
            }
        };
        let mut rows = projected;
        let clipped = clip(&mut rows, agreement.features() as usize, agreement.row_bound);
        // Against the one that extends them, rows of norm 1 share the noise of differential privacy best.
        rows.iter_mut().for_each(|x| *x = (f64::from(*x) / agreement.row_bound) as f32);
        let dealt = hold_out(&Rows { classes: &classes, groups: groups.as_deref() }, HELD_OUT, HELD_OUT_SEED);
        // Refused for one reason only: too few groups for two sides. Then all rows train and others judge.
        let (training, held_out) = dealt.unwrap_or_else(|_| ((0..classes.len()).collect(), Vec::new()));
        let hash = blake3::derive_key("arras/1 federated data", features.data_hash().as_bytes());
        Ok(Local {
            agreement: agreement.clone(),
            features: features.values.clone(),
            rows,
            classes,
            training,
            held_out,
            names: features.names.clone(),
            hash,
            clipped,
        })
    }

    /// What stands for the data in the release rule.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Names of all rows: the files that contribute.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Rows that train, and rows that judge.
    pub fn sizes(&self) -> (usize, usize) {
        (self.training.len(), self.held_out.len())
    }

    /// Indices of the rows that train, ascending.
    pub fn training(&self) -> &[usize] {
        &self.training
    }

    /// All rows, projected, clipped and divided by the bound, `[n][d]`, and their classes.
    pub fn scaled_rows(&self) -> (&[f32], &[usize]) {
        (&self.rows, &self.classes)
    }

    /// Rows whose norm exceeded the bound and was cut to it.
    pub fn clipped(&self) -> usize {
        self.clipped
    }

    /// The sums over the training rows, divided by the bound.
    ///
    /// # Errors
    /// None in practice: the rows were checked.
    pub fn statistics(&self) -> Result<Statistics> {
        let width = self.agreement.features() as usize;
        let rows: Vec<f32> =
            self.training.iter().flat_map(|&row| &self.rows[row * width..][..width]).copied().collect();
        let classes: Vec<usize> = self.training.iter().map(|&row| self.classes[row]).collect();
        let class_count = self.agreement.classes.len();
        let problem =
            Problem { features: &rows, dimension: width, classes: &classes, class_count, groups: None };
        Ok(Statistics::of(&problem)?)
    }

    /// The integers that an opening asks for, with this party's share of the noise. Noise is drawn anew at every call: call it once
    /// per attempt and store what is made of it.
    ///
    /// # Errors
    /// An opening that does not fit the agreement; no randomness.
    pub fn integers(&self, opening: &Opening) -> Result<Vec<i64>> {
        opening.check(&self.agreement)?;
        let mut integers = match &opening.purpose {
            Purpose::Statistics => to_integers(&self.statistics()?, self.agreement.format()?.unit),
            Purpose::Counts { candidates, bins } => self.counts(candidates, *bins as usize)?,
        };
        if let Some(noise) = &opening.noise {
            self.add_noise(&mut integers, &opening.purpose, noise)?;
        }
        Ok(integers)
    }

    fn counts(&self, candidates: &[Candidate], bins: usize) -> Result<Vec<i64>> {
        let (width, class_count) = (self.agreement.dimension as usize, self.agreement.classes.len());
        let classes: Vec<usize> = self.held_out.iter().map(|&row| self.classes[row]).collect();
        let mut integers = Vec::with_capacity(candidates.len() * counts::len(class_count, bins));
        for candidate in candidates {
            let scores: Vec<f64> = self
                .held_out
                .iter()
                .flat_map(|&row| scores(candidate, &self.features[row * width..][..width]))
                .collect();
            integers.extend_from_slice(Counts::of(&scores, &classes, class_count, bins)?.integers());
        }
        Ok(integers)
    }

    fn add_noise(&self, integers: &mut [i64], purpose: &Purpose, noise: &Noise) -> Result<()> {
        let mut rng = Sampler::from_os()?;
        let sigma = noise.share_sigma(integer_sensitivity(&self.agreement, purpose)?)?;
        let full = DiscreteGaussian::new(sigma)?;
        // Entries off the diagonal count twice in the square of the matrix: sqrt(2) less noise gives the same.
        let reduced = DiscreteGaussian::new(sigma * std::f64::consts::FRAC_1_SQRT_2)?;
        let gram_side = match purpose {
            Purpose::Statistics => self.agreement.features() as usize + 1,
            Purpose::Counts { .. } => 0,
        };
        let gram = (0..gram_side).flat_map(|row| (row..gram_side).map(move |column| row == column));
        let is_full = gram.chain(std::iter::repeat(true));
        for (integer, is_full) in integers.iter_mut().zip(is_full) {
            *integer += if is_full { full } else { reduced }.sample(&mut rng);
        }
        Ok(())
    }
}

/// By how much, in L2, the integers of all parties can change when one unit of rows comes or goes.
///
/// # Errors
/// Without an agreement on privacy.
pub fn integer_sensitivity(agreement: &Agreement, purpose: &Purpose) -> Result<f64> {
    let privacy = agreement.privacy.ok_or_else(|| Error::Data("no privacy was agreed on".to_owned()))?;
    let units = f64::from(privacy.rows_per_unit);
    Ok(match purpose {
        Purpose::Statistics => {
            let format = agreement.format()?;
            // Rounding moves every entry by at most one; entries off the diagonal count twice.
            let rounding = (2.0 * format.entries as f64).sqrt();
            sensitivity(1.0, privacy.rows_per_unit) / format.unit + rounding
        }
        // A row is one count in the confusion matrix and one in a histogram of each class's score, for each candidate.
        Purpose::Counts { candidates, .. } => {
            units * ((1 + agreement.classes.len()) as f64 * candidates.len() as f64).sqrt()
        }
    })
}

/// Statistics as multiples of the unit, ties to even.
pub fn to_integers(statistics: &Statistics, unit: f64) -> Vec<i64> {
    statistics
        .gram
        .iter()
        .chain(&statistics.cross)
        .map(|value| (value / unit).round_ties_even() as i64)
        .collect()
}

/// Sums of [`to_integers`] as statistics.
///
/// # Errors
/// Another number of integers than the agreement has entries.
pub fn from_integers(agreement: &Agreement, integers: &[i64]) -> Result<Statistics> {
    let format = agreement.format()?;
    if integers.len() != format.entries {
        return Err(Error::Data(format!("{} integers for {} entries", integers.len(), format.entries)));
    }
    let (dimension, class_count) = (agreement.features() as usize, agreement.classes.len());
    let values: Vec<f64> = integers.iter().map(|&integer| integer as f64 * format.unit).collect();
    let (gram, cross) = values.split_at(format.entries - (dimension + 1) * class_count);
    Ok(Statistics { dimension, class_count, gram: gram.to_vec(), cross: cross.to_vec() })
}

/// `W x + b` in f64.
fn scores(candidate: &Candidate, row: &[f32]) -> Vec<f64> {
    let dot =
        |weight: &[f32]| weight.iter().zip(row).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>();
    candidate
        .weight
        .chunks_exact(row.len())
        .zip(&candidate.bias)
        .map(|(weight, &bias)| dot(weight) + f64::from(bias))
        .collect()
}

fn check_fit(agreement: &Agreement, features: &Features) -> Result<()> {
    if features.dimension != agreement.dimension as usize {
        return Err(Error::Data(format!(
            "{} features per row, agreed were {}",
            features.dimension, agreement.dimension
        )));
    }
    match &features.fingerprint {
        Some(backbone) if *backbone == agreement.backbone => Ok(()),
        Some(backbone) => {
            Err(Error::Data(format!("made by backbone {backbone}, agreed was {}", agreement.backbone)))
        }
        None => Err(Error::Data(format!(
            "do not say which backbone made them, agreed was {}",
            agreement.backbone
        ))),
    }
}

fn class_indices(agreement: &Agreement, features: &Features) -> Result<Vec<usize>> {
    let labels = features.labels.as_ref().ok_or_else(|| Error::Data("have no labels".to_owned()))?;
    let index = |label: &String| {
        let found = agreement.classes.iter().position(|class| class == label);
        found.ok_or_else(|| Error::Data(format!("label {label:?} is not one of {:?}", agreement.classes)))
    };
    labels.iter().map(index).collect()
}

/// A unit with more rows than agreed would not be protected as promised.
fn check_units(agreement: &Agreement, features: &Features, groups: Option<&[usize]>) -> Result<()> {
    let Some(privacy) = agreement.privacy else { return Ok(()) };
    let Some(groups) = groups else {
        return match privacy.rows_per_unit {
            1 => Ok(()),
            agreed => Err(Error::Data(format!("have no groups; units of {agreed} rows were agreed on"))),
        };
    };
    let mut sizes = std::collections::BTreeMap::<usize, u32>::new();
    groups.iter().for_each(|&group| *sizes.entry(group).or_default() += 1);
    match sizes.into_iter().find(|&(_, size)| size > privacy.rows_per_unit) {
        Some((group, size)) => {
            let name = features.group_indices().map(|(names, _)| names[group].clone()).unwrap_or_default();
            Err(Error::Data(format!(
                "group {name:?} has {size} rows, agreed were at most {}",
                privacy.rows_per_unit
            )))
        }
        None => Ok(()),
    }
}

/// Scales down rows beyond the norm; returns how many.
fn clip(rows: &mut [f32], width: usize, bound: f64) -> usize {
    let mut clipped = 0;
    for row in rows.chunks_exact_mut(width) {
        let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if norm > bound {
            // Rounded down a little, so that the rounded row keeps the bound.
            let factor = bound / norm * (1.0 - 1e-6);
            row.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            clipped += 1;
        }
    }
    clipped
}

/// A matrix `[d][D]` of `+-1/sqrt(d)` (Achlioptas 2003), bits of the BLAKE3 stream of the seed: inner products are kept on average.
pub fn projection_matrix(projection: &Projection, dimension: usize) -> Vec<f32> {
    let width = projection.dimension as usize;
    let mut hasher = blake3::Hasher::new_derive_key("arras/1 random projection");
    hasher.update(&projection.seed);
    let mut bytes = vec![0; (width * dimension).div_ceil(8)];
    hasher.finalize_xof().fill(&mut bytes);
    let value = 1.0 / (width as f32).sqrt();
    (0..width * dimension)
        .map(|bit| if bytes[bit / 8] >> (bit % 8) & 1 == 1 { value } else { -value })
        .collect()
}

fn project(matrix: &[f32], row: &[f32]) -> Vec<f32> {
    let dot = |of: &[f32]| of.iter().zip(row).map(|(&m, &x)| f64::from(m) * f64::from(x)).sum::<f64>() as f32;
    matrix.chunks_exact(row.len()).map(dot).collect()
}

/// Weights on projected and scaled features, `[C][d]`, as weights on the features themselves, `[C][D]`.
pub fn unproject(agreement: &Agreement, weight: &[f64]) -> Vec<f64> {
    let scaled = weight.iter().map(|w| w / agreement.row_bound);
    let Some(projection) = &agreement.projection else { return scaled.collect() };
    let (width, dimension) = (projection.dimension as usize, agreement.dimension as usize);
    let matrix = projection_matrix(projection, dimension);
    let scaled: Vec<f64> = scaled.collect();
    scaled
        .chunks_exact(width)
        .flat_map(|of_class| {
            let column =
                |j: usize| (0..width).map(|i| of_class[i] * f64::from(matrix[i * dimension + j])).sum();
            (0..dimension).map(column).collect::<Vec<f64>>()
        })
        .collect()
}

/// Deals features to parties; see [`split::deal`]. `key` names the values of [`split::Deal::ByKey`].
///
/// # Errors
/// As [`split::deal`]; features without labels.
pub fn deal(
    features: &Features,
    key: Option<&[usize]>,
    parties: usize,
    how: split::Deal,
    seed: u64,
) -> Result<Vec<Features>> {
    let (_, classes) = features.classes().ok_or_else(|| Error::Data("have no labels".to_owned()))?;
    let groups = features.group_indices().map(|(_, groups)| groups);
    let rows = Rows { classes: &classes, groups: groups.as_deref() };
    let parts = split::deal(&rows, key, parties, how, seed)?;
    Ok(parts.iter().map(|part| features.select(part)).collect())
}
