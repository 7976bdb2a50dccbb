//! How far encryption and its operations move a slot: bounds that fail with probability at most about 2^-45 each.
//!
//! A slot is the value of a polynomial at a primitive 2N-th root of unity. The real part of the slot of a polynomial with
//! independent coefficients of variance proxy v is sub-Gaussian with variance `v N / 2`, since the squared cosines add up
//! to N/2; its imaginary part likewise. What multiplies the secret s is worse: the square of a slot of s is nearly an
//! exponential variable of mean 2N/3.

use arras_ckks::Params;

/// Variance of encryption noise, and of it with the rounding of the encoding.
pub(crate) const NOISE_VARIANCE: f64 = 10.5;
const FRESH_VARIANCE: f64 = NOISE_VARIANCE + 1.0 / 12.0;
/// Standard deviations of a sub-Gaussian variable that bounds cover.
pub(crate) const DEVIATIONS: f64 = 8.0;
/// Standard deviations of a product of two nearly normal variables: beyond t with probability near sqrt(pi t) exp(-2t).
const PRODUCT_DEVIATIONS: f64 = 22.0;
/// log of the probability that bounds on exponential variables cover.
const TAIL: f64 = 32.0;

/// Bounds on slots of ciphertexts of a parameter set, in units of 1 (not of the scale).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise<'p> {
    params: &'p Params,
    degree: f64,
}

impl<'p> Noise<'p> {
    pub(crate) fn new(params: &'p Params) -> Self {
        Self { params, degree: params.degree() as f64 }
    }

    /// Real part of a fresh slot, and of a sum of fresh slots of different polynomials when multiplied by the 2-norm of the
    /// factors.
    pub(crate) fn fresh(&self) -> f64 {
        DEVIATIONS * (FRESH_VARIANCE * self.degree / 2.0).sqrt()
    }

    /// Real part of a slot of a plaintext whose coefficients were rounded.
    pub(crate) fn encoding(&self) -> f64 {
        DEVIATIONS * (self.degree / 24.0).sqrt()
    }

    /// Slot after the coefficients of `components` components were rounded to integers, when it depends on `count`
    /// coefficients of the message: through a product with the secret for every component beyond the first.
    pub(crate) fn rounding(&self, components: usize, count: usize) -> f64 {
        let count = count as f64;
        // N / count independent polynomials share the secret's energy: the mean of as many exponential variables.
        let share = TAIL * count / self.degree;
        let energy = 2.0 * self.degree / 3.0 * (1.0 + 2.0 * share.sqrt() + share);
        let powers: f64 = (0..components as i32).map(|power| energy.powf(f64::from(power) / 2.0)).sum();
        DEVIATIONS * (count / 24.0).sqrt() * powers
    }

    /// Slot after a division by one prime, two components.
    pub(crate) fn rescale(&self) -> f64 {
        PRODUCT_DEVIATIONS * (self.degree * self.division(1)).sqrt()
    }

    /// Slot after a key switch at a level, division by the special primes included.
    pub(crate) fn switching(&self, level: usize) -> f64 {
        let (ring, special) = (self.params.ring(), self.params.special_limbs());
        let ratio = |digit| (2.0 * (ring.log_modulus(digit) - ring.log_modulus(special))).exp2();
        let digits = self.params.digits_at(level).into_iter();
        let noise: f64 = digits.map(|digit| digit.len() as f64 / 12.0 * ratio(digit)).sum();
        let variance = self.degree * NOISE_VARIANCE * noise + self.division(special.len());
        PRODUCT_DEVIATIONS * (self.degree * variance).sqrt()
    }

    /// Variance of a coefficient after a division by `count` primes, seen through a ternary secret.
    fn division(&self, count: usize) -> f64 {
        count as f64 / 12.0 * (1.0 + 2.0 * self.degree / 3.0)
    }
}
