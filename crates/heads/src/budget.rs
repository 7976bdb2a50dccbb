//! How large the integer weights may be, and how large the error of a logit can get.
//!
//! The client sends round(x Delta) + e, the server multiplies by integers w = round(W S) and adds round(bias Delta S), and
//! the client decrypts modulo q. An overflow would go unseen, so the weight scale S is the largest integer for which
//! the *worst* row within the public [`Bounds`] still fits. With delta = w / S - W the error of a logit is at most the sum of
//!
//! | cause | bound |
//! |---|---|
//! | rounding the weights | min(\|\|delta\|\|_1 x_max, \|\|delta\|\|_2 norm_max) |
//! | rounding the features | \|\|w\|\|_1 / (2 Delta S) |
//! | encryption noise | 8 sqrt(10.5) \|\|w\|\|_2 / (Delta S), except with probability 2^-45 |
//! | rounding the bias | 1 / (2 Delta S) |
//! | trimming the reply to r bits | (N + 1) q / (2^(r+1) Delta S) |
//! | hiding the head | F / (Delta S), and (N + 1) q_1 / (2 Delta S) for dividing by the second prime |
//!
//! Where the head is hidden ([`crate::hide`]), q is the product of two primes, and the flood is uniform below
//! `F = 2^40 * 8 sqrt(10.5) ||w||_2`, rounded up to a power of two.
//!
//! The noise is a sum of independent centred binomial variables, each sub-Gaussian with its variance 10.5 (Hoeffding), so
//! its tail beyond t standard deviations is below 2 exp(-t^2 / 2).

pub mod slots;

use arras_ckks::Params;

use crate::noise::NOISE_VARIANCE;
use crate::preset::Bounds;
use crate::{Error, Head, Result};

/// Fraction of q/2 that logits leave free: room for the errors of trimming.
const MARGIN: f64 = 1.0 / 256.0;
/// Below this many bits weights are too coarse to be of use.
const MIN_WEIGHT_BITS: f64 = 4.0;
/// Larger weight scales do not make a visible difference, but products more expensive.
const MAX_WEIGHT_BITS: f64 = 30.0;
/// Largest magnitude that the noise of a coefficient can have.
const NOISE_MAX: f64 = 21.0;
/// Standard deviations of noise that the bound covers.
const NOISE_DEVIATIONS: f64 = 8.0;
/// log2 of the flood over the noise it hides: what the client sees differs from what it would see of another head with
/// the same logits by a statistical distance of 2^-40 per logit.
const FLOOD_BITS: u32 = 40;
/// Replies are trimmed until that costs this share of the other errors.
pub(crate) const TRIM_SHARE: f64 = 1.0 / 16.0;
/// Range of bits that replies are trimmed to: with q of 46 bits and N = 2^11, 34 is the most for which the client's
/// product of a centred reply with its secret stays below q/2.
pub const REPLY_BITS: std::ops::RangeInclusive<u32> = 24..=34;
/// The same where heads are hidden, with q_1 of 50 bits and N = 2^12.
pub const HIDDEN_REPLY_BITS: std::ops::RangeInclusive<u32> = 24..=37;

/// Integer weights of a head, and what they imply.
///
/// ```
/// use arras_heads::{Budget, Preset};
/// # use arras_heads::{Head, ModelCard};
///
/// # let (weight, bias) = (vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], vec![1.0, -0.5]);
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let head = Head { weight, bias, classes, card: ModelCard::default() };
/// let preset = Preset::named("linear")?;
/// let budget = Budget::new(&head, &preset.params, preset.bounds)?;
/// // The weights are rounded at a scale that no row within the bounds makes overflow.
/// assert_eq!(budget.weights[0], (0.5 * f64::from(budget.weight_scale)).round_ties_even() as i64);
/// assert!(budget.weight_scale > 1 << 20 && budget.logit_bound < 1e-3);
///
/// // Larger logits leave less room.
/// let large = Head { weight: head.weight.iter().map(|w| 64.0 * w).collect(), ..head };
/// assert!(Budget::new(&large, &preset.params, preset.bounds)?.weight_scale < budget.weight_scale);
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Budget {
    /// `[C][D]` integer weights, row by row.
    pub weights: Vec<i64>,
    /// `[C]` integer biases, at the scale of the logits.
    pub bias: Vec<i128>,
    /// The weight scale S, 2^4 to 2^30.
    pub weight_scale: u32,
    /// Bits that reply coefficients are trimmed to.
    pub reply_bits: u32,
    /// log2 of the flood that hides the noise, if the head is hidden.
    pub flood_bits: Option<u32>,
    /// Bound on the error of any logit, except with probability 2^-45 each.
    pub logit_bound: f64,
}

impl Budget {
    /// The largest weights that fit.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the worst-case logit of some class leaves less than four bits for the weights.
    pub fn new(head: &Head, params: &Params, bounds: Bounds) -> Result<Self> {
        Self::with(head, params, bounds, false)
    }

    /// As [`new`](Self::new), with room for what [`crate::hide`] adds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn hiding(head: &Head, params: &Params, bounds: Bounds) -> Result<Self> {
        Self::with(head, params, bounds, true)
    }

    fn with(head: &Head, params: &Params, bounds: Bounds, hide: bool) -> Result<Self> {
        let (dimension, scale) = (head.dimension().max(1), params.scale());
        let modulus_bits = params.log_modulus(params.max_level());
        let modulus = modulus_bits.exp2();
        let mut bits = MAX_WEIGHT_BITS;
        for (class, (weight, &bias)) in head.weight.chunks_exact(dimension).zip(&head.bias).enumerate() {
            let norms = Norms::of(weight.iter().map(|&w| f64::from(w)));
            let logit = norms.bound(bounds) + f64::from(bias).abs();
            // Features and noise before scaling, per unit of S; rounding the weights adds at most half of
            // (x_max Delta + noise) for each of them.
            let per_unit = logit * scale + norms.one * (0.5 + NOISE_MAX);
            let rounding = 0.5 * dimension as f64 * (f64::from(bounds.x_max) * scale + 0.5 + NOISE_MAX);
            let room = modulus / 2.0 * (1.0 - MARGIN) - rounding - 1.0;
            let class_bits = (room / per_unit).log2();
            if class_bits.is_nan() || class_bits < MIN_WEIGHT_BITS {
                let scale_bits = params.spec().scale_bits;
                let bits = if class_bits.is_nan() { 0.0 } else { class_bits };
                return Err(Error::Overflow { class, logit, scale_bits, bits, modulus_bits });
            }
            bits = bits.min(class_bits);
        }
        Ok(Self::at(head, params, bounds, bits.exp2().floor() as u32, hide))
    }

    /// Rounds the weights at a scale and bounds the error.
    fn at(head: &Head, params: &Params, bounds: Bounds, weight_scale: u32, hide: bool) -> Self {
        let (dimension, scale) = (head.dimension().max(1), params.scale());
        let unit = f64::from(weight_scale);
        let product = scale * unit;
        let round = |&w: &f32| (f64::from(w) * unit).round_ties_even() as i64;
        let weights: Vec<i64> = head.weight.iter().map(round).collect();
        let bias = head.bias.iter().map(|&b| (f64::from(b) * product).round_ties_even() as i128).collect();
        let rows = weights.chunks_exact(dimension).zip(head.weight.chunks_exact(dimension));
        let error = rows.map(|(integers, exact)| {
            let delta = Norms::of(integers.iter().zip(exact).map(|(&w, &x)| w as f64 / unit - f64::from(x)));
            let size = Norms::of(integers.iter().map(|&w| w as f64));
            let noise = NOISE_DEVIATIONS * NOISE_VARIANCE.sqrt() * size.two;
            delta.bound(bounds) + (0.5 * size.one + noise + 0.5) / product
        });
        let error = error.fold(0.0, f64::max);
        let flood_bits = hide.then(|| flood_bits(&weights, dimension));
        let top = params.max_level();
        let divided = (params.degree() + 1) as f64 * (params.log_modulus(top) - params.log_modulus(0)).exp2();
        let hidden = flood_bits.map_or(0.0, |bits| (f64::from(bits).exp2() + divided) / product);
        let error = error + hidden;
        let trim = |bits: u32| {
            let step = 2f64.powf(params.log_modulus(top) - f64::from(bits) - 1.0);
            (params.degree() + 1) as f64 * step / product
        };
        let range = if hide { HIDDEN_REPLY_BITS } else { REPLY_BITS };
        let enough = range.clone().find(|&bits| trim(bits) <= TRIM_SHARE * error);
        let reply_bits = enough.unwrap_or(*range.end());
        let logit_bound = error + trim(reply_bits);
        Self { weights, bias, weight_scale, reply_bits, flood_bits, logit_bound }
    }
}

/// log2 of a flood 2^40 times what the noise of a logit stays below.
fn flood_bits(weights: &[i64], dimension: usize) -> u32 {
    let rows = weights.chunks_exact(dimension).map(|row| Norms::of(row.iter().map(|&w| w as f64)).two);
    let noise = NOISE_DEVIATIONS * NOISE_VARIANCE.sqrt() * rows.fold(1.0, f64::max);
    FLOOD_BITS + noise.log2().ceil() as u32
}

/// The 1-norm and the 2-norm of a vector.
pub(crate) struct Norms {
    pub(crate) one: f64,
    pub(crate) two: f64,
}

impl Norms {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let (one, squares) = values.fold((0.0, 0.0), |(one, squares), x| (one + x.abs(), squares + x * x));
        Self { one, two: squares.sqrt() }
    }

    /// Largest inner product with a row that keeps the bounds (Hölder, Cauchy-Schwarz).
    pub(crate) fn bound(&self, bounds: Bounds) -> f64 {
        (self.one * f64::from(bounds.x_max)).min(self.two * f64::from(bounds.norm_max))
    }
}
