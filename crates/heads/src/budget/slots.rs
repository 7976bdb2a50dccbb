//! The budget of layout slots: integer weights of one or two layers, nothing divided away in between.
//!
//! Features have scale Delta, the first layer S1, the second S2. With a hidden layer the logits have scale
//! `Delta^2 S1^2 S2` and everything has to fit Q. Class c is a quadratic form in the features,
//!
//! `x^T A x + 2 g^T x + k,  A = W^T diag(V_c) W,  g = W^T diag(V_c) b,  k = sum V_c b^2 + bias`
//!
//! so that `|A| n^2 + 2 |g| n + |k|` bounds it for rows of norm n, `|A|` being a bound on the spectral norm. Let a hat mark the rounded weights, E = W^ - W. The
//! error of a logit is at most the sum of
//!
//! | cause | bound |
//! |---|---|
//! | rounding the weights | the same form in the differences, with `|A^ - A|` at most `|E^T V^ W^| + |W^T V^ E| + |W^T (V^ - V) W|` |
//! | noise, first order | `2 f (|A^| n + |g^|) / Delta`, f the bound on a fresh slot |
//! | noise, second order | `2 f^2 sum_k |V^_k| |W^_k|^2 / Delta^2` |
//! | dividing the reply down to one prime, and trimming it | rounding of three components |
//!
//! Norms of products come from Gram matrices, so that nothing is larger than H by H.

use arras_ckks::Params;

use super::{MIN_WEIGHT_BITS, Norms, TRIM_SHARE};
use crate::head::{Head, Mlp, Model};
use crate::noise::Noise;
use crate::preset::Bounds;
use crate::reply::SLOT_BITS;
use crate::{Error, Result};

/// Fraction of Q/2 that logits leave free for errors.
const MARGIN: f64 = 1.0 / 64.0;
/// Most bits of a weight scale: weights below the smallest prime of any preset take the fast path of matrix products.
const MAX_WEIGHT_BITS: f64 = 36.0;
/// Bits of weights from which on a linear head spends no further prime.
const ENOUGH_BITS: f64 = 20.0;

/// Integer weights of a head in slots, and what they imply.
///
/// See the example of [`SlotsHead`](crate::SlotsHead).
#[derive(Clone, PartialEq, Debug)]
pub struct SlotsBudget {
    /// `[H][D]` integer weights of the hidden layer, or `[C][D]` of a linear head.
    pub first: Vec<i64>,
    /// Integer biases of the hidden layer at its scale; empty for a linear head.
    pub first_bias: Vec<i128>,
    /// `[C][H]` integer weights of the second layer; empty for a linear head.
    pub second: Vec<i64>,
    /// Weight scales S1 and S2; S2 is 1 for a linear head.
    pub weight_scales: [f64; 2],
    /// The level that is computed at.
    pub level: usize,
    /// Scale of the logits once they are divided down to level 0.
    pub scale: f64,
    /// Bits that reply coefficients are trimmed to.
    pub reply_bits: u32,
    /// Bound on the error of any logit.
    pub logit_bound: f64,
}

impl SlotsBudget {
    /// The weights that fit, with the smallest error to be expected.
    ///
    /// # Errors
    /// [`Error::Overflow`] or [`Error::HiddenOverflow`] if the worst-case logit leaves too few bits for the weights.
    pub fn new(model: &Model, params: &Params, bounds: Bounds) -> Result<Self> {
        match model {
            Model::Linear(head) => Self::linear(head, params, bounds),
            Model::Mlp(mlp) => Self::hidden(mlp, params, bounds),
        }
    }

    fn linear(head: &Head, params: &Params, bounds: Bounds) -> Result<Self> {
        let (dimension, data_scale) = (head.dimension().max(1), params.scale());
        let logits = head.weight.chunks_exact(dimension).zip(&head.bias).map(|(weight, &bias)| {
            Norms::of(weight.iter().map(|&w| f64::from(w))).bound(bounds) + f64::from(bias).abs()
        });
        let (class, logit) = largest(logits);
        let bits =
            |level: usize| params.log_modulus(level) - 1.0 - (logit * data_scale / (1.0 - MARGIN)).log2();
        let levels = 0..=params.max_level();
        let level = levels.clone().find(|&level| bits(level) >= ENOUGH_BITS).unwrap_or(*levels.end());
        if bits(level) < MIN_WEIGHT_BITS {
            let (scale_bits, modulus_bits) = (params.spec().scale_bits, params.log_modulus(level));
            return Err(Error::Overflow { class, logit, scale_bits, bits: bits(level), modulus_bits });
        }
        let scale = bits(level).min(MAX_WEIGHT_BITS).exp2().floor();
        let round = |&w: &f32| (f64::from(w) * scale).round_ties_even() as i64;
        let first: Vec<i64> = head.weight.iter().map(round).collect();
        let noise = Noise::new(params);
        let rows = first.chunks_exact(dimension).zip(head.weight.chunks_exact(dimension));
        let errors = rows.map(|(integers, exact)| {
            let delta = integers.iter().zip(exact).map(|(&w, &x)| w as f64 / scale - f64::from(x));
            let size = Norms::of(integers.iter().map(|&w| w as f64 / scale));
            Norms::of(delta).bound(bounds) + noise.fresh() * size.two / data_scale
        });
        let error = errors.fold(0.0, f64::max);
        let empty = (Vec::new(), Vec::new());
        Ok(Self::finish(params, first, empty, [scale, 1.0], level, data_scale * scale, error))
    }

    fn hidden(mlp: &Mlp, params: &Params, bounds: Bounds) -> Result<Self> {
        let exact = Layers::exact(mlp);
        let (n, data_scale, level) = (f64::from(bounds.norm_max), params.scale(), params.max_level());
        let (class, logit) = largest((0..mlp.output.class_count()).map(|class| exact.bound(class, n)));
        // A scale beyond the modulus would be refused, however small the logits.
        let logit = logit.max(1.0);
        let modulus_bits = params.log_modulus(level);
        let room = ((1.0 - MARGIN) / 2.0).log2() + modulus_bits;
        let bits = room - logit.log2() - 2.0 * data_scale.log2();
        let needed = 3.0 * MIN_WEIGHT_BITS;
        if bits.is_nan() || bits < needed {
            let (scale_bits, needed) = (params.spec().scale_bits, needed as u32);
            let bits = if bits.is_nan() { 0.0 } else { bits };
            return Err(Error::HiddenOverflow { class, logit, scale_bits, bits, needed, modulus_bits });
        }
        let [first_bits, second_bits] = exact.split(bits);
        let [s1, s2] = [first_bits.exp2().floor(), second_bits.exp2().floor()];
        let round = |x: f64| x.round_ties_even();
        let first: Vec<i64> = mlp.weight.iter().map(|&w| round(f64::from(w) * s1) as i64).collect();
        let first_bias: Vec<i128> =
            mlp.bias.iter().map(|&b| round(f64::from(b) * s1 * data_scale) as i128).collect();
        let second: Vec<i64> = mlp.output.weight.iter().map(|&v| round(f64::from(v) * s2) as i64).collect();
        let rounded = Layers::of(
            first.iter().map(|&w| w as f64 / s1).collect(),
            first_bias.iter().map(|&b| b as f64 / (s1 * data_scale)).collect(),
            second.iter().map(|&v| v as f64 / s2).collect(),
            exact.constants.clone(),
        );
        let fresh = Noise::new(params).fresh() / data_scale;
        let errors = (0..mlp.output.class_count())
            .map(|class| exact.difference(&rounded, class, n) + rounded.noise(class, n, fresh));
        let error = errors.fold(0.0, f64::max);
        let budget = Self::finish(
            params,
            first,
            (first_bias, second),
            [s1, s2],
            level,
            (data_scale * s1).powi(2) * s2,
            error,
        );
        if budget.logit_bound > logit * MARGIN / 2.0 {
            let (scale_bits, needed) = (params.spec().scale_bits, needed as u32);
            return Err(Error::HiddenOverflow { class, logit, scale_bits, bits, needed, modulus_bits });
        }
        Ok(budget)
    }

    /// Adds what dividing and trimming the reply costs.
    fn finish(
        params: &Params,
        first: Vec<i64>,
        (first_bias, second): (Vec<i128>, Vec<i64>),
        weight_scales: [f64; 2],
        level: usize,
        scale: f64,
        error: f64,
    ) -> Self {
        let scale = scale * (params.log_modulus(0) - params.log_modulus(level)).exp2();
        let components = if second.is_empty() { 2 } else { 3 };
        let rounding = Noise::new(params).rounding(components, params.degree()) / scale;
        // Every division but the last is divided again; the bias is rounded once.
        let divided = if level == 0 { 0.0 } else { 1.001 * rounding } + 0.5 / scale;
        let error = error + divided;
        let q = params.log_modulus(0);
        let trim = |bits: u32| rounding * (q - f64::from(bits)).exp2();
        let reply_bits = SLOT_BITS.into_iter().find(|&bits| trim(bits) <= TRIM_SHARE * error);
        let reply_bits = reply_bits.unwrap_or(*SLOT_BITS.end());
        let logit_bound = error + trim(reply_bits);
        Self { first, first_bias, second, weight_scales, level, scale, reply_bits, logit_bound }
    }
}

/// The largest of some worst-case logits and its class.
fn largest(logits: impl Iterator<Item = f64>) -> (usize, f64) {
    logits
        .enumerate()
        .fold((0, 0.0), |best, (class, logit)| if logit > best.1 { (class, logit) } else { best })
}

/// Both layers in double precision, with the Gram matrix of the first.
pub(crate) struct Layers {
    hidden: usize,
    weight: Vec<f64>,
    bias: Vec<f64>,
    /// `[C][H]`.
    outer: Vec<f64>,
    constants: Vec<f64>,
    gram: Vec<f64>,
}

impl Layers {
    pub(crate) fn exact(mlp: &Mlp) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        Self::of(wide(&mlp.weight), wide(&mlp.bias), wide(&mlp.output.weight), wide(&mlp.output.bias))
    }

    fn of(weight: Vec<f64>, bias: Vec<f64>, outer: Vec<f64>, constants: Vec<f64>) -> Self {
        let hidden = bias.len();
        let gram = gram(&weight, hidden);
        Self { hidden, weight, bias, outer, constants, gram }
    }

    fn dimension(&self) -> usize {
        self.weight.len() / self.hidden.max(1)
    }

    fn outer(&self, class: usize) -> &[f64] {
        &self.outer[class * self.hidden..(class + 1) * self.hidden]
    }

    /// Squared norms of the rows of W.
    fn squares(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.hidden).map(|k| self.gram[k * self.hidden + k])
    }

    /// `g`, as W^T times the given H numbers.
    fn gradient(&self, factors: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut out = vec![0.0; self.dimension()];
        for (row, factor) in self.weight.chunks_exact(self.dimension().max(1)).zip(factors) {
            out.iter_mut().zip(row).for_each(|(sum, w)| *sum += factor * w);
        }
        out
    }

    fn linear(&self, class: usize) -> Vec<f64> {
        self.gradient(self.outer(class).iter().zip(&self.bias).map(|(v, b)| v * b))
    }

    fn constant(&self, class: usize) -> f64 {
        self.outer(class).iter().zip(&self.bias).map(|(v, b)| v * b * b).sum::<f64>() + self.constants[class]
    }

    /// A bound on `|A|`.
    fn quadratic(&self, class: usize) -> f64 {
        spectral(self.outer(class), &self.gram, &self.gram)
    }

    /// Worst-case logit.
    fn bound(&self, class: usize, n: f64) -> f64 {
        self.quadratic(class) * n * n + 2.0 * norm(&self.linear(class)) * n + self.constant(class).abs()
    }

    /// Worst case of a logit and of every sum of some of its terms: what the form with `|V_c|` cannot exceed.
    pub(crate) fn partial_bound(&self, class: usize, n: f64) -> f64 {
        let outer: Vec<f64> = self.outer(class).iter().map(|v| v.abs()).collect();
        let terms = outer.iter().zip(&self.bias).zip(self.squares());
        let rest = terms.map(|((v, b), w)| v * (2.0 * b.abs() * w.sqrt() * n + b * b)).sum::<f64>();
        spectral(&outer, &self.gram, &self.gram) * n * n + rest + self.constants[class].abs()
    }

    /// How `bits` of S1^2 S2 are best divided: the rounding of W costs about `a / S1`, that of V about `b / S2`, so that
    /// `S1^3 = a 2^bits / 2b`.
    fn split(&self, bits: f64) -> [f64; 2] {
        let classes = 0..self.constants.len();
        let row = |class| self.outer(class).iter().zip(self.squares()).map(|(v, w)| v * v * w).sum::<f64>();
        let a = 2.0 * (self.dimension() as f64 * classes.map(row).fold(0.0, f64::max) / 12.0).sqrt();
        let b = (self.squares().map(|w| w * w).sum::<f64>() / 12.0).sqrt();
        let best = (bits + (a / (2.0 * b)).log2()) / 3.0;
        let best = if best.is_finite() { best } else { bits / 3.0 };
        let first = best.clamp(MIN_WEIGHT_BITS, (bits - MIN_WEIGHT_BITS) / 2.0).min(MAX_WEIGHT_BITS);
        [first, (bits - 2.0 * first).min(MAX_WEIGHT_BITS)]
    }

    /// Largest difference between the logits of two such heads.
    fn difference(&self, rounded: &Self, class: usize, n: f64) -> f64 {
        let errors: Vec<f64> = rounded.weight.iter().zip(&self.weight).map(|(a, b)| a - b).collect();
        let errors = gram(&errors, self.hidden);
        let outer = rounded.outer(class);
        let outer_errors: Vec<f64> = outer.iter().zip(self.outer(class)).map(|(a, b)| a - b).collect();
        let quadratic = spectral(outer, &errors, &rounded.gram)
            + spectral(outer, &self.gram, &errors)
            + spectral(&outer_errors, &self.gram, &self.gram);
        let (a, b) = (self.linear(class), rounded.linear(class));
        let linear = norm(&a.iter().zip(&b).map(|(a, b)| a - b).collect::<Vec<_>>());
        quadratic * n * n + 2.0 * linear * n + (self.constant(class) - rounded.constant(class)).abs()
    }

    /// What noise of at most `fresh` in every slot does to a logit.
    fn noise(&self, class: usize, n: f64, fresh: f64) -> f64 {
        let first = 2.0 * fresh * (self.quadratic(class) * n + norm(&self.linear(class)));
        let second = self.outer(class).iter().zip(self.squares()).map(|(v, w)| v.abs() * w).sum::<f64>();
        first + 2.0 * fresh * fresh * second
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `[H][H]` inner products of H rows.
fn gram(rows: &[f64], count: usize) -> Vec<f64> {
    let width = (rows.len() / count.max(1)).max(1);
    let mut out = vec![0.0; count * count];
    for (k, a) in rows.chunks_exact(width).enumerate() {
        for (l, b) in rows.chunks_exact(width).enumerate().take(k + 1) {
            let product = a.iter().zip(b).map(|(a, b)| a * b).sum();
            out[k * count + l] = product;
            out[l * count + k] = product;
        }
    }
    out
}

/// An upper bound on the spectral norm of `X^T diag(d) Y` from the Gram matrices of X and Y. Its squared singular values
/// are the eigenvalues, none negative, of `M = diag(d) X X^T diag(d) Y Y^T`, the largest of which is at most
/// `(trace M^p)^(1/p)`: p = 1 gives the Frobenius norm, p = 8 takes four matrix products.
fn spectral(d: &[f64], x: &[f64], y: &[f64]) -> f64 {
    /// Above this many hidden units the products are not worth their time.
    const MOST: usize = 128;
    let hidden = d.len();
    let trace = || {
        let rows = x.chunks_exact(hidden).zip(y.chunks_exact(hidden)).zip(d);
        let row = |((x, y), dk): ((&[f64], &[f64]), &f64)| {
            x.iter().zip(y).zip(d).map(|((x, y), dl)| x * y * dl).sum::<f64>() * dk
        };
        rows.map(row).sum::<f64>().max(0.0)
    };
    let first = trace();
    if hidden > MOST || first == 0.0 {
        return first.sqrt();
    }
    // Divided by its trace, which keeps powers in range.
    let scaled = |gram: &[f64], unit: f64| -> Vec<f64> {
        let rows = gram.chunks_exact(hidden).zip(d);
        rows.flat_map(|(row, &dk)| row.iter().map(move |g| g * dk / unit)).collect()
    };
    let mut power = product(&scaled(x, first), &scaled(y, 1.0), hidden);
    for _ in 0..3 {
        power = product(&power, &power, hidden);
    }
    let trace = (0..hidden).map(|k| power[k * hidden + k]).sum::<f64>().max(0.0);
    // Rounding may make the trace of the power too small by a few units in the last place of the first.
    (first * (trace.powf(1.0 / 8.0) + 1e-3).min(1.0)).sqrt()
}

/// Product of two square matrices.
fn product(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for (row, out) in a.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        for (&factor, b) in row.iter().zip(b.chunks_exact(size)) {
            out.iter_mut().zip(b).for_each(|(sum, b)| *sum += factor * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{gram, norm, product, spectral};

    /// Numbers in [-1, 1).
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = arras_wire::corpus::SplitMix64::new(seed);
        (0..count).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0).collect()
    }

    #[test]
    fn spectral_norms_are_bounded_and_not_by_much() {
        for (hidden, dimension) in [(1, 3), (5, 4), (16, 60), (130, 40)] {
            let [x, y] = [1, 2].map(|seed| numbers(hidden * dimension, seed));
            let d = numbers(hidden, 3);
            let bound = spectral(&d, &gram(&x, hidden), &gram(&y, hidden));
            // B = X^T diag(d) Y, and a lower bound on its norm by power iteration.
            let mut b = vec![0.0; dimension * dimension];
            for ((x, y), d) in x.chunks(dimension).zip(y.chunks(dimension)).zip(&d) {
                for (row, x) in b.chunks_mut(dimension).zip(x) {
                    row.iter_mut().zip(y).for_each(|(sum, y)| *sum += d * x * y);
                }
            }
            let transposed: Vec<f64> =
                (0..dimension * dimension).map(|i| b[i % dimension * dimension + i / dimension]).collect();
            let square = product(&transposed, &b, dimension);
            let mut v = numbers(dimension, 4);
            for _ in 0..200 {
                let next: Vec<f64> = square
                    .chunks(dimension)
                    .map(|row| row.iter().zip(&v).map(|(a, b)| a * b).sum())
                    .collect();
                let length = norm(&next);
                v = next.into_iter().map(|x| x / length).collect();
            }
            let image: Vec<f64> =
                b.chunks(dimension).map(|row| row.iter().zip(&v).map(|(a, b)| a * b).sum()).collect();
            let exact = norm(&image);
            assert!(bound >= exact * (1.0 - 1e-9), "{hidden}: {bound} {exact}");
            if hidden <= 16 {
                assert!(bound <= 1.35 * exact, "{hidden}: {bound} {exact}");
            }
        }
    }
}
