//! Heads with a hidden layer of squares, trained by gradient descent.
//!
//! `logits = V (W z + b)^2 + c` on standardised features z, cross entropy, AdamW (Loshchilov and Hutter, 2019) on
//! shuffled mini-batches. A fifth of the groups, or of the rows if there are no groups, is kept for validation: training
//! stops when its loss has not fallen for a number of epochs, and the weights of the best epoch are kept. Standardisation
//! is then folded into W and b, and every hidden unit scaled to a row of norm 1, its square's factor going to V: under
//! encryption the error of a logit depends on the largest rows. Everything depends on the data and the seed alone.

use std::collections::BTreeMap;

use arras_heads::{Head, Mlp, Model, ModelCard};
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss::cross_entropy};

use crate::metrics::{DEFAULT_RESAMPLES, Evaluation, Predictions, evaluate};
use crate::random::Stream;
use crate::{Error, Features};

/// Seed of the bootstrap behind the intervals in a report.
const BOOTSTRAP_SEED: u64 = 0;
/// One in so many groups, or rows, is kept for validation.
const VALIDATION_SHARE: usize = 5;
/// Rows of a mini-batch.
const BATCH: usize = 128;
/// A feature that varies less than this, as a standard deviation, is a constant.
const CONSTANT: f64 = 1e-6;

/// How to train.
///
/// ```
/// use arras_fit::{Features, Training, train_mlp};
///
/// // Far from the origin or near it: no plane separates that, squares do.
/// let values: Vec<f32> = (0..60).map(|row| (row % 6) as f32 - 2.5).collect();
/// let label = |x: &f32| if x.abs() > 1.0 { "far" } else { "near" }.to_owned();
/// let features = Features {
///     dimension: 1,
///     labels: Some(values.iter().map(label).collect()),
///     names: (0..60).map(|row| format!("{row}.png")).collect(),
///     values,
///     ..Features::default()
/// };
/// let training = Training { epochs: 200, learning_rate: 0.05, ..Training::new(2) };
/// let trained = train_mlp(&features, &training)?;
/// assert_eq!((trained.mlp.hidden(), trained.rows), (2, [48, 12]));
/// assert_eq!(trained.evaluation.accuracy.value, 1.0);
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Hidden units H, 1 to [`MAX_HIDDEN`](arras_heads::head::mlp::MAX_HIDDEN).
    pub hidden: usize,
    /// What initial weights, the split and the order of rows depend on.
    pub seed: u64,
    /// Most passes over the data, at least 1.
    pub epochs: usize,
    /// Epochs without a smaller validation loss after which training stops.
    pub patience: usize,
    /// Step size of Adam, above 0.
    pub learning_rate: f64,
    /// Share of every weight that a step of size 1 takes away.
    pub weight_decay: f64,
}

impl Training {
    /// The usual choices for a number of hidden units.
    pub fn new(hidden: usize) -> Self {
        Self { hidden, seed: 0, epochs: 300, patience: 30, learning_rate: 2e-3, weight_decay: 0.05 }
    }
}

/// A head and how it came about.
/// See the example of [`Training`].
#[derive(Debug, Clone)]
pub struct TrainedMlp {
    /// The head with its card.
    pub mlp: Mlp,
    /// The epoch that was kept, counted from 1.
    pub epoch: usize,
    /// Rows for training and for validation.
    pub rows: [usize; 2],
    /// Whether groups were kept together.
    pub by_group: bool,
    /// Cross entropy on the validation rows at that epoch.
    pub validation_loss: f64,
    /// Metrics of the validation rows.
    pub evaluation: Evaluation,
}

/// Trains a head with a hidden layer on features with labels. Classes are the distinct labels in sorted order.
///
/// # Errors
/// Features without labels or that break their rules; fewer than two groups (or rows); no hidden units; numbers that
/// diverge.
pub fn train_mlp(features: &Features, training: &Training) -> Result<TrainedMlp, Error> {
    features.check("features")?;
    let Some((classes, class_of_row)) = features.classes() else {
        return Err(Error::invalid("labels", "the features carry none"));
    };
    if !(1..=arras_heads::head::mlp::MAX_HIDDEN).contains(&training.hidden) {
        let limit = arras_heads::head::mlp::MAX_HIDDEN;
        return Err(Error::invalid("hidden", format!("{} units, expected 1 to {limit}", training.hidden)));
    }
    let split = Split::new(features, training.seed)?;
    let scaling = Standard::of(features, &split.training);
    let data = |rows: &[usize]| Data::new(features, &class_of_row, &scaling, rows);
    let (fit, held_out) = (data(&split.training)?, data(&split.validation)?);
    let (parameters, epoch, loss) =
        descend(training, features.dimension, classes.len(), &fit, &held_out).map_err(Error::Training)?;
    if !loss.is_finite() {
        return Err(Error::invalid("training", "the loss is not finite: use a smaller learning rate"));
    }
    let mut mlp = parameters.fold(&scaling, classes).map_err(Error::Training)?;
    let evaluation = split.evaluate(features, &class_of_row, &mlp)?;
    mlp.output.card = card(features, &class_of_row, &mlp, training, &evaluation, loss);
    // What does not fit f32 would only surface when the head is written.
    mlp.to_bytes("head")?;
    let rows = [split.training.len(), split.validation.len()];
    Ok(TrainedMlp { mlp, epoch, rows, by_group: split.by_group, validation_loss: loss, evaluation })
}

fn card(
    features: &Features,
    class_of_row: &[usize],
    mlp: &Mlp,
    training: &Training,
    evaluation: &Evaluation,
    loss: f64,
) -> ModelCard {
    let mut counts = vec![0; mlp.output.class_count()];
    class_of_row.iter().for_each(|&class| counts[class] += 1);
    let metrics = [
        ("validation_loss", Some(loss)),
        ("validation_accuracy", Some(evaluation.accuracy.value)),
        ("validation_balanced_accuracy", Some(evaluation.balanced_accuracy.value)),
        ("validation_auc", evaluation.auc.map(|auc| auc.value)),
        ("validation_calibration_error", Some(evaluation.calibration_error.value)),
        ("seed", Some(training.seed as f64)),
    ];
    let metrics = metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    ModelCard {
        data_hash: Some(features.data_hash()),
        counts,
        fingerprint: features.fingerprint.clone(),
        metrics: BTreeMap::from_iter(metrics),
        created_with: concat!("arras ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ModelCard::default()
    }
}

/// Rows to train on and rows to validate on; no group in both.
struct Split {
    training: Vec<usize>,
    validation: Vec<usize>,
    by_group: bool,
}

impl Split {
    fn new(features: &Features, seed: u64) -> Result<Self, Error> {
        let groups = features.group_indices().map(|(names, of_row)| (names.len(), of_row));
        let (units, unit_of_row, by_group) = match groups {
            Some((count, of_row)) if count > 1 => (count, of_row, true),
            _ => (features.rows(), (0..features.rows()).collect(), false),
        };
        if units < 2 {
            let reason = format!("{units} row: one has to be kept for validation");
            return Err(Error::invalid("features", reason));
        }
        let mut order: Vec<usize> = (0..units).collect();
        shuffle(&mut order, &mut Stream::new("arras fit mlp: split", &[seed]));
        let kept = &order[..units.div_ceil(VALIDATION_SHARE).min(units - 1)];
        let mut held_out = vec![false; units];
        kept.iter().for_each(|&unit| held_out[unit] = true);
        let (validation, training) = (0..features.rows()).partition(|&row| held_out[unit_of_row[row]]);
        Ok(Self { training, validation, by_group })
    }

    fn evaluate(&self, features: &Features, classes: &[usize], mlp: &Mlp) -> Result<Evaluation, Error> {
        let rows = features.select(&self.validation);
        let labels: Vec<usize> = self.validation.iter().map(|&row| classes[row]).collect();
        let groups = rows.group_indices().map(|(_, of_row)| of_row).filter(|_| self.by_group);
        let predictions = Predictions {
            scores: &Model::Mlp(mlp.clone()).scores(&rows.values),
            class_count: mlp.output.class_count(),
            labels: &labels,
            groups: groups.as_deref(),
        };
        evaluate(&predictions, DEFAULT_RESAMPLES, BOOTSTRAP_SEED)
    }
}

/// Fisher and Yates.
fn shuffle(order: &mut [usize], stream: &mut Stream) {
    for last in (1..order.len()).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
}

/// Means and standard deviations of the training rows.
struct Standard {
    mean: Vec<f64>,
    /// 1 over the deviation; 0 for constants.
    scale: Vec<f64>,
}

impl Standard {
    fn of(features: &Features, rows: &[usize]) -> Self {
        let (mut mean, mut squares) = (vec![0.0; features.dimension], vec![0.0; features.dimension]);
        let count = rows.len().max(1) as f64;
        for row in rows.iter().filter_map(|&row| features.row(row)) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / count);
        }
        for row in rows.iter().filter_map(|&row| features.row(row)) {
            let centred = row.iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean);
            squares.iter_mut().zip(centred).for_each(|(sum, x)| *sum += x * x / count);
        }
        let scale = |square: f64| if square.sqrt() > CONSTANT { 1.0 / square.sqrt() } else { 0.0 };
        Self { mean, scale: squares.into_iter().map(scale).collect() }
    }
}

/// Standardised rows with their classes.
struct Data {
    features: Tensor,
    classes: Tensor,
    rows: usize,
}

impl Data {
    fn new(
        features: &Features,
        classes: &[usize],
        scaling: &Standard,
        rows: &[usize],
    ) -> Result<Self, Error> {
        let mut values = Vec::with_capacity(rows.len() * features.dimension);
        for row in rows.iter().filter_map(|&row| features.row(row)) {
            let standard = row.iter().zip(&scaling.mean).zip(&scaling.scale);
            values.extend(standard.map(|((&x, mean), scale)| ((f64::from(x) - mean) * scale) as f32));
        }
        let labels: Vec<u32> = rows.iter().map(|&row| classes[row] as u32).collect();
        let tensors = || -> candle_core::Result<_> {
            let features = Tensor::from_vec(values, (rows.len(), features.dimension), &Device::Cpu)?;
            Ok((features, Tensor::new(&labels[..], &Device::Cpu)?))
        };
        let (features, classes) = tensors().map_err(Error::Training)?;
        Ok(Self { features, classes, rows: rows.len() })
    }
}

/// W, b, V and c on standardised features.
struct Parameters([Var; 4]);

impl Parameters {
    fn new(training: &Training, dimension: usize, classes: usize) -> candle_core::Result<Self> {
        let mut stream = Stream::new("arras fit mlp: weights", &[training.seed]);
        let mut bells = |rows: usize, columns: usize, deviation: f32| {
            let values: Vec<f32> = (0..rows * columns).map(|_| stream.bell() * deviation).collect();
            Var::from_tensor(&Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
        };
        let hidden = training.hidden;
        let weight = bells(hidden, dimension, 1.0 / (dimension as f32).sqrt())?;
        let bias = bells(1, hidden, 0.5)?;
        let outer = bells(classes, hidden, 0.5 / (hidden as f32).sqrt())?;
        let constant = bells(1, classes, 0.0)?;
        Ok(Self([weight, bias, outer, constant]))
    }

    fn logits(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        let [weight, bias, outer, constant] = &self.0;
        let units = features.matmul(&weight.t()?)?.broadcast_add(bias)?;
        units.sqr()?.matmul(&outer.t()?)?.broadcast_add(constant)
    }

    fn copy(&self) -> candle_core::Result<Vec<Tensor>> {
        self.0.iter().map(|var| var.as_tensor().copy()).collect()
    }

    /// The head on features as they are, hidden units scaled to rows of norm 1.
    fn fold(&self, scaling: &Standard, classes: Vec<String>) -> candle_core::Result<Mlp> {
        let numbers = |index: usize| -> candle_core::Result<Vec<f64>> {
            let values = self.0[index].as_tensor().flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(f64::from).collect())
        };
        let (weight, bias, outer, constant) = (numbers(0)?, numbers(1)?, numbers(2)?, numbers(3)?);
        let (dimension, hidden) = (scaling.mean.len(), bias.len());
        let mut folded = Vec::with_capacity(weight.len());
        let (mut biases, mut norms) = (Vec::with_capacity(hidden), Vec::with_capacity(hidden));
        for (row, bias) in weight.chunks_exact(dimension).zip(bias) {
            let row: Vec<f64> = row.iter().zip(&scaling.scale).map(|(w, scale)| w * scale).collect();
            let bias = bias - row.iter().zip(&scaling.mean).map(|(w, mean)| w * mean).sum::<f64>();
            let norm = row.iter().map(|w| w * w).sum::<f64>().sqrt();
            let norm = if norm > 0.0 { norm } else { 1.0 };
            folded.extend(row.iter().map(|w| (w / norm) as f32));
            biases.push((bias / norm) as f32);
            norms.push(norm);
        }
        let outer = outer.iter().zip(norms.iter().cycle()).map(|(v, norm)| (v * norm * norm) as f32);
        let output = Head {
            weight: outer.collect(),
            bias: constant.into_iter().map(|c| c as f32).collect(),
            classes,
            card: ModelCard::default(),
        };
        Ok(Mlp { weight: folded, bias: biases, output })
    }
}

/// Trains; the parameters of the best epoch, that epoch, and its validation loss.
fn descend(
    training: &Training,
    dimension: usize,
    classes: usize,
    fit: &Data,
    held_out: &Data,
) -> candle_core::Result<(Parameters, usize, f64)> {
    let parameters = Parameters::new(training, dimension, classes)?;
    let settings = ParamsAdamW {
        lr: training.learning_rate,
        weight_decay: training.weight_decay,
        ..ParamsAdamW::default()
    };
    let mut optimizer = AdamW::new(parameters.0.to_vec(), settings)?;
    let mut stream = Stream::new("arras fit mlp: order", &[training.seed]);
    let mut order: Vec<usize> = (0..fit.rows).collect();
    let (mut best, mut best_epoch, mut least) = (parameters.copy()?, 0, f64::INFINITY);
    for epoch in 1..=training.epochs {
        shuffle(&mut order, &mut stream);
        for rows in order.chunks(BATCH) {
            let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
            let rows = Tensor::new(&rows[..], &Device::Cpu)?;
            let logits = parameters.logits(&fit.features.index_select(&rows, 0)?)?;
            optimizer.backward_step(&cross_entropy(&logits, &fit.classes.index_select(&rows, 0)?)?)?;
        }
        let loss = cross_entropy(&parameters.logits(&held_out.features)?, &held_out.classes)?;
        let loss = f64::from(loss.to_scalar::<f32>()?);
        if loss < least {
            (best, best_epoch, least) = (parameters.copy()?, epoch, loss);
        }
        if loss.is_nan() || epoch - best_epoch >= training.patience {
            break;
        }
    }
    for (var, tensor) in parameters.0.iter().zip(&best) {
        var.set(tensor)?;
    }
    Ok((parameters, best_epoch, least))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes that no plane separates: the sign of a product of two directions, on features with an offset and
    /// unequal scales.
    fn features() -> Features {
        let (rows, dimension) = (600, 6);
        let mut stream = Stream::new("test", &[3]);
        let mut values = Vec::new();
        let mut labels = Vec::new();
        for _ in 0..rows {
            let row: Vec<f32> = (0..dimension).map(|_| stream.bell()).collect();
            labels.push(if row[0] * row[1] > 0.0 { "same" } else { "opposite" }.to_owned());
            values.extend(row.iter().enumerate().map(|(j, x)| x * (1.0 + j as f32) + 3.0));
        }
        Features {
            dimension,
            values,
            names: (0..rows).map(|row| format!("{row}.png")).collect(),
            labels: Some(labels),
            groups: Some((0..rows).map(|row| format!("p{}", row / 10)).collect()),
            fingerprint: None,
        }
    }

    #[test]
    fn what_no_plane_separates_is_learned_and_repeats_bit_for_bit() {
        let training = Training::new(8);
        let trained = train_mlp(&features(), &training).unwrap();
        assert!(trained.evaluation.accuracy.value > 0.93, "{:?}", trained.evaluation.accuracy);
        assert!(trained.by_group && trained.rows[0] + trained.rows[1] == 600 && trained.rows[1] >= 100);
        let linear = crate::train(&features(), None).unwrap();
        assert!(linear.evaluation.unwrap().accuracy.value < 0.7);
        // Folding and scaling leave rows of norm 1.
        for row in trained.mlp.weight.chunks_exact(6) {
            let norm = row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
            assert!((norm - 1.0).abs() < 1e-6, "{norm}");
        }
        let again = train_mlp(&features(), &training).unwrap();
        assert_eq!(again.mlp.to_bytes("h").unwrap(), trained.mlp.to_bytes("h").unwrap());
        let other = train_mlp(&features(), &Training { seed: 1, ..training }).unwrap();
        assert_ne!(other.mlp, trained.mlp);
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let refused = |features: &Features, hidden| {
            train_mlp(features, &Training::new(hidden)).unwrap_err().to_string()
        };
        let all = features();
        assert_eq!(refused(&Features { labels: None, ..all.clone() }, 4), "labels: the features carry none");
        assert!(refused(&all, 0).starts_with("hidden: 0 units"));
        let one = Features { groups: None, ..all.select(&[0]) };
        assert!(refused(&one, 4).contains("kept for validation"));
    }

    #[test]
    fn constant_features_get_no_weight() {
        let mut features = features();
        features.values.iter_mut().skip(5).step_by(6).for_each(|x| *x = 2.5);
        let trained = train_mlp(&features, &Training::new(4)).unwrap();
        assert!(trained.mlp.weight.iter().skip(5).step_by(6).all(|&w| w == 0.0));
    }
}
