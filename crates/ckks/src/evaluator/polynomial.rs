//! Polynomials of encrypted numbers.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use arras_rns::backend::Backend;

use super::Evaluator;
use crate::keys::RELINEARISATION;
use crate::{Ciphertext, Error, EvaluationKeys, Result, Workspace};

const NAME: &str = "polynomial";

/// What the coefficients of a [`Polynomial`] belong to.
///
/// See the example of [`Polynomial`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Basis {
    /// `x^k`.
    Power,
    /// Chebyshev's `T_k(u)`, `u = (2x - from - to) / (to - from)`: well conditioned for x between the two.
    Chebyshev {
        /// Lower end of the interval.
        from: f64,
        /// Upper end of the interval.
        to: f64,
    },
}

/// A polynomial with real coefficients.
///
/// ```
/// use arras_ckks::evaluator::{Basis, Polynomial};
///
/// let square = Polynomial::new(Basis::Power, vec![0.0, 0.0, 1.0])?;
/// assert_eq!((square.value(3.0), square.degree()), (9.0, 2));
///
/// let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
/// let polynomial = Polynomial::interpolate(sigmoid, 7, -4.0, 4.0)?;
/// assert!((polynomial.value(1.0) - sigmoid(1.0)).abs() < 0.01);
/// // Three for degree 7, and one to map the interval.
/// assert_eq!(polynomial.levels_needed(), 4);
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Polynomial {
    basis: Basis,
    coefficients: Vec<f64>,
}

impl Polynomial {
    /// The polynomial with the given coefficients, that of degree 0 first. Leading zeros are dropped.
    ///
    /// # Errors
    /// [`Error::Count`] without coefficients; [`Error::Value`] if a coefficient, an end of the interval or its length is not
    /// finite, or the interval is empty.
    pub fn new(basis: Basis, mut coefficients: Vec<f64>) -> Result<Self> {
        if coefficients.is_empty() {
            let expected = "1 or more".into();
            return Err(Error::Count { operation: NAME, what: "coefficients", found: 0, expected });
        }
        let refuse = |index, value| Err(Error::Value { operation: NAME, index, value, limit: f64::MAX });
        if let Some(index) = coefficients.iter().position(|c| !c.is_finite()) {
            return refuse(index, coefficients[index]);
        }
        if let Basis::Chebyshev { from, to } = basis
            && !((to - from).is_finite() && to > from)
        {
            return refuse(0, to - from);
        }
        while coefficients.len() > 1 && coefficients.last() == Some(&0.0) {
            coefficients.pop();
        }
        Ok(Self { basis, coefficients })
    }

    /// The polynomial of the given degree that agrees with `f` at the Chebyshev nodes of an interval.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn interpolate(f: impl Fn(f64) -> f64, degree: usize, from: f64, to: f64) -> Result<Self> {
        let count = degree + 1;
        let angle = |i: usize| PI * (i as f64 + 0.5) / count as f64;
        let at = |i: usize| f(from + (angle(i).cos() + 1.0) / 2.0 * (to - from));
        let values: Vec<f64> = (0..count).map(at).collect();
        let coefficient = |k: usize| {
            let sum: f64 = values.iter().enumerate().map(|(i, v)| v * (k as f64 * angle(i)).cos()).sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / count as f64
        };
        Self::new(Basis::Chebyshev { from, to }, (0..count).map(coefficient).collect())
    }

    /// The basis.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The coefficients, that of degree 0 first.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// The degree.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// How many levels [`Evaluator::evaluate`] takes: `ceil(log2(degree + 1))`, at least 1, and one more to map an interval
    /// other than -1 to 1.
    pub fn levels_needed(&self) -> usize {
        let depth = self.degree().checked_ilog2().map_or(1, |log| log as usize + 1);
        depth + usize::from(self.map().is_some())
    }

    /// Slope and offset of the map to the interval from -1 to 1, unless it is the identity.
    fn map(&self) -> Option<(f64, f64)> {
        let Basis::Chebyshev { from, to } = self.basis else { return None };
        let width = to - from;
        (from != -1.0 || to != 1.0).then(|| (2.0 / width, -(from + to) / width))
    }

    /// The value at `x`, in the clear.
    pub fn value(&self, x: f64) -> f64 {
        match self.basis {
            Basis::Power => self.coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c),
            Basis::Chebyshev { .. } => {
                let u = self.map().map_or(x, |(slope, offset)| slope * x + offset);
                // Clenshaw's recurrence.
                let step = |(next, after): (f64, f64), c: &f64| (c + 2.0 * u * next - after, next);
                let (first, second) = self.coefficients.iter().rev().fold((0.0, 0.0), step);
                first - u * second
            }
        }
    }
}

impl<B: Backend> Evaluator<'_, B> {
    /// `a + value` in every slot, `value` being rounded at the scale of `a`.
    ///
    /// # Errors
    /// [`Error::Value`] if `value` times the scale is not finite or reaches 2^126.
    pub fn add_scalar(&self, a: &Ciphertext<B>, value: f64) -> Result<Ciphertext<B>> {
        const OPERATION: &str = "add_scalar";
        let (scaled, limit) = ((value * a.scale).round_ties_even(), 126f64.exp2());
        if scaled.is_nan() || scaled.abs() >= limit {
            return Err(Error::Value { operation: OPERATION, index: 0, value, limit: limit / a.scale });
        }
        let (params, limbs) = (self.context.params(), a.limbs());
        // A constant has the same value everywhere.
        let residue = |limb| params.ring().modulus(limb).reduce_signed(scaled as i128);
        let words: Vec<u64> =
            limbs.iter().flat_map(|limb| std::iter::repeat_n(residue(limb), params.degree())).collect();
        let mut poly = self.context.allocate(limbs, 1)?;
        self.context.backend().upload(self.context.queue(), &mut poly.view_mut(), &words)?;
        self.add_plain(a, &crate::Plaintext { poly, scale: a.scale })
    }

    /// A polynomial of every slot, by the method of Paterson and Stockmeyer: about `2 sqrt(2 degree)` products of
    /// ciphertexts, relinearised after they are summed. The scale of the result is that of `a`. Scales of powers drift
    /// apart as far as the primes differ from the scale, so take primes close to it.
    ///
    /// # Errors
    /// [`Error::LevelsExhausted`] if `a` has fewer levels than [`Polynomial::levels_needed`]; [`Error::ScaleTooSmall`] and
    /// [`Error::Value`] if scales and coefficients leave what can be represented; otherwise as
    /// [`relinearise`](Self::relinearise).
    pub fn evaluate(
        &self,
        a: &Ciphertext<B>,
        polynomial: &Polynomial,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        let (needed, level) = (polynomial.levels_needed(), a.level());
        if level < needed {
            return Err(Error::LevelsExhausted { operation: NAME, needed, level });
        }
        if polynomial.degree() > 1 {
            self.key(NAME, a, RELINEARISATION, keys)?;
        }
        workspace.serves(NAME, level + 1 - needed..=level)?;
        let x = match polynomial.map() {
            None => self.duplicate(a)?,
            Some((slope, offset)) => {
                let prime = self.context.params().ring().modulus(level).value() as f64;
                let scaled = self.multiply_scalar(a, slope, prime)?;
                self.add_scalar(&self.rescale_with(&scaled, workspace)?, offset)?
            }
        };
        let chebyshev = polynomial.basis != Basis::Power;
        let (top, babies) = (x.level(), babies(polynomial.degree()));
        let powers = BTreeMap::from([(1, x)]);
        let mut run = Run { evaluator: self, keys, workspace, chebyshev, top, babies, powers };
        run.value(&polynomial.coefficients, level - needed, a.scale)
    }
}

/// Up to which degree, exclusive, a polynomial is a sum of known powers: a power of two near the root of the degree.
fn babies(degree: usize) -> usize {
    let log = degree.checked_ilog2().map_or(0, |log| log + 1);
    1 << log.div_ceil(2)
}

/// The smallest l with `2^l >= k`.
fn depth(k: usize) -> usize {
    k.next_power_of_two().ilog2() as usize
}

/// One evaluation. `x^k`, or `T_k`, lies `depth(k)` levels below x.
struct Run<'r, 'c, B: Backend> {
    evaluator: &'r Evaluator<'c, B>,
    keys: &'r EvaluationKeys<B>,
    workspace: &'r mut Workspace<B>,
    chebyshev: bool,
    /// Level of x.
    top: usize,
    babies: usize,
    powers: BTreeMap<usize, Ciphertext<B>>,
}

impl<B: Backend> Run<'_, '_, B> {
    /// The polynomial at a level and scale.
    fn value(&mut self, coefficients: &[f64], level: usize, scale: f64) -> Result<Ciphertext<B>> {
        let prime = self.evaluator.context.params().ring().modulus(level + 1).value() as f64;
        let sum = self.sum(coefficients, level + 1, scale * prime)?;
        self.reduce(sum)
    }

    /// Relinearises if need be, and rescales.
    fn reduce(&mut self, sum: Ciphertext<B>) -> Result<Ciphertext<B>> {
        let sum = match sum.components.len() {
            3 => self.evaluator.relinearise(&sum, self.keys, self.workspace)?,
            _ => sum,
        };
        self.evaluator.rescale_with(&sum, self.workspace)
    }

    /// The polynomial before it is rescaled, with two or three components.
    fn sum(&mut self, coefficients: &[f64], level: usize, scale: f64) -> Result<Ciphertext<B>> {
        let degree = coefficients.len().saturating_sub(1);
        if degree <= 1 || (degree < self.babies && self.top - depth(degree) >= level) {
            return self.combination(coefficients, level, scale);
        }
        let power = 1 << degree.ilog2();
        let (quotient, remainder) = self.divide(coefficients, power);
        let power_scale = self.power(power)?.scale;
        let product = match quotient[..] {
            [constant] => self.multiple(power, constant, level, scale)?,
            _ => {
                let quotient = self.value(&quotient, level, scale / power_scale)?;
                let evaluator = self.evaluator;
                evaluator.multiply_at(level, &quotient, self.power(power)?)?
            }
        };
        match remainder[..] {
            [] => Ok(product),
            [constant] => self.evaluator.add_scalar(&product, constant),
            _ => {
                let rest = self.sum(&remainder, level, scale)?;
                self.evaluator.add(&product, &rest)
            }
        }
    }

    /// A sum of multiples of known powers.
    fn combination(&mut self, coefficients: &[f64], level: usize, scale: f64) -> Result<Ciphertext<B>> {
        let mut sum: Option<Ciphertext<B>> = None;
        for (k, &coefficient) in coefficients.iter().enumerate().skip(1).filter(|(_, c)| **c != 0.0) {
            let term = self.multiple(k, coefficient, level, scale)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => self.evaluator.add(&sum, &term)?,
            });
        }
        let sum = match sum {
            Some(sum) => sum,
            None => self.multiple(1, 0.0, level, scale)?,
        };
        match coefficients.first() {
            Some(&constant) if constant != 0.0 => self.evaluator.add_scalar(&sum, constant),
            _ => Ok(sum),
        }
    }

    /// A power times a number, at a level and scale.
    fn multiple(&mut self, k: usize, factor: f64, level: usize, scale: f64) -> Result<Ciphertext<B>> {
        let evaluator = self.evaluator;
        let power = self.power(k)?;
        evaluator.multiply_scalar_at(level, power, factor, scale / power.scale)
    }

    /// `x^k` or `T_k`, made from those of half the index when first asked for.
    fn power(&mut self, k: usize) -> Result<&Ciphertext<B>> {
        if !self.powers.contains_key(&k) {
            let made = self.make_power(k)?;
            self.powers.insert(k, made);
        }
        let none = Error::Count { operation: NAME, what: "power", found: k, expected: "1 or more".into() };
        self.powers.get(&k).ok_or(none)
    }

    fn make_power(&mut self, k: usize) -> Result<Ciphertext<B>> {
        let (small, large) = (k / 2, k - k / 2);
        self.power(small)?;
        let evaluator = self.evaluator;
        let level = self.power(large)?.level();
        let mut product = evaluator.multiply_at(level, &self.powers[&small], &self.powers[&large])?;
        if self.chebyshev {
            // T_(i+j) = 2 T_i T_j - T_(i-j), and the indices differ by at most 1.
            product = evaluator.add(&product, &product)?;
            product = match large - small {
                0 => evaluator.add_scalar(&product, -1.0)?,
                _ => {
                    let subtrahend = self.multiple(1, 1.0, level, product.scale)?;
                    evaluator.sub(&product, &subtrahend)?
                }
            };
        }
        self.reduce(product)
    }

    /// Quotient and remainder by `x^power` or `T_power`, the degree being below twice that; without leading zeros.
    fn divide(&self, coefficients: &[f64], power: usize) -> (Vec<f64>, Vec<f64>) {
        let (low, high) = coefficients.split_at(power);
        let (mut remainder, mut quotient) = (low.to_vec(), high.to_vec());
        if self.chebyshev {
            // T_(p+j) = 2 T_p T_j - T_(p-j).
            for (j, c) in quotient.iter_mut().enumerate().skip(1) {
                remainder[power - j] -= *c;
                *c *= 2.0;
            }
        }
        while remainder.last() == Some(&0.0) {
            remainder.pop();
        }
        (quotient, remainder)
    }
}

#[cfg(test)]
mod tests {
    use super::{Basis, Polynomial};

    #[test]
    fn values_in_the_clear() {
        let p = Polynomial::new(Basis::Power, vec![1.0, 0.0, -2.0, 0.0]).unwrap();
        assert_eq!((p.degree(), p.value(3.0), p.levels_needed()), (2, -17.0, 2));
        // T_0 + T_3 on [0, 4]: u = x / 2 - 1, T_3 = 4 u^3 - 3 u.
        let p = Polynomial::new(Basis::Chebyshev { from: 0.0, to: 4.0 }, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        assert!((p.value(3.0) - 0.0).abs() < 1e-15 && (p.value(4.0) - 2.0).abs() < 1e-15);
        assert_eq!(p.levels_needed(), 3);
        let p = Polynomial::interpolate(f64::exp, 12, -1.0, 1.0).unwrap();
        assert!(
            (-10..=10).all(|i| (p.value(f64::from(i) / 10.0) - (f64::from(i) / 10.0).exp()).abs() < 1e-12)
        );
        for (degree, levels) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (31, 5)] {
            let p = Polynomial::new(Basis::Power, vec![1.0; degree + 1]).unwrap();
            assert_eq!(p.levels_needed(), levels, "{degree}");
        }
    }

    #[test]
    fn what_is_no_polynomial_is_refused() {
        assert!(Polynomial::new(Basis::Power, vec![]).is_err());
        let error = Polynomial::new(Basis::Power, vec![1.0, f64::NAN]).unwrap_err().to_string();
        assert!(error.starts_with("polynomial: value 1 is NaN"), "{error}");
        for (from, to) in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            assert!(Polynomial::new(Basis::Chebyshev { from, to }, vec![1.0]).is_err());
        }
    }
}
