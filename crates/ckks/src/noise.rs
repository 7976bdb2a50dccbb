//! How much noise the operations add, predicted.
//!
//! The model tracks variances, as Costache, Curtis, Hales, Murphy, Ogilvie and Player (*On the precision loss in
//! approximate homomorphic encryption*, ePrint 2022/162) do: a coefficient of the error has a mean of 0 and a variance,
//! coefficients are as good as independent, and so the error of a slot, a sum of N of them turned in the complex plane, has N
//! times that variance. Messages multiply noise slot by slot. Secrets are uniform ternary, digits uniform and centred.
//! `docs/precision.md` derives the terms and holds them against measurements.

use crate::Params;

/// Variance of a coefficient of fresh noise: the difference of two sums of 21 bits.
pub const ENCRYPTION: f64 = 10.5;

/// Variance of rounding a coefficient to an integer.
pub const ENCODING: f64 = 1.0 / 12.0;

/// Variance of a coefficient of the secret.
const SECRET: f64 = 2.0 / 3.0;

/// Variance of a coefficient of what a division by `count` primes rounds away: each component is off by a sum of `count`
/// uniform variables of width 1, and the second is seen through the secret.
pub fn rounding(degree: usize, count: usize) -> f64 {
    count as f64 * ENCODING * (1.0 + SECRET * degree as f64)
}

/// Variance that a key switch at `level` adds to a coefficient: digits of k primes, of variance `k Q_i^2 / 12`, times noise in
/// N terms, divided by P; and the rounding of the division.
pub fn switching(params: &Params, level: usize) -> f64 {
    gadget(params, level) + rounding(params.degree(), params.special_limbs().len())
}

/// The part of [`switching`] that the digits and the noise of the key make.
pub fn gadget(params: &Params, level: usize) -> f64 {
    let (ring, special) = (params.ring(), params.special_limbs());
    let share = |limbs| (2.0 * (ring.log_modulus(limbs) - ring.log_modulus(special))).exp2();
    let digits = params.digits_at(level).into_iter();
    let digits: f64 = digits.map(|limbs| limbs.len() as f64 * ENCODING * share(limbs)).sum();
    params.degree() as f64 * ENCRYPTION * digits
}

/// The noise of a ciphertext: variances of a coefficient of the error, in units of 1, and the scale at which it is seen.
///
/// ```
/// use arras_ckks::Noise;
///
/// // A fresh ciphertext times an encoded plaintext, messages near 1, divided by a prime near the scale.
/// let (degree, scale) = (8192, 2f64.powi(40));
/// let fresh = Noise::encrypted(degree, scale);
/// let product = fresh.times(1.0, Noise::encoded(degree, scale), 1.0).rescaled(scale);
/// assert_eq!(product.scale(), scale);
/// assert!(product.deviation() > fresh.deviation());
/// // But for a chance of one in a billion, no slot is further off.
/// assert!(product.bound(degree / 2, 1e-9) < 1e-7);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noise {
    degree: usize,
    scale: f64,
    /// From sums of many small terms: a slot's share is a normal variable.
    normal: f64,
    /// From products of two polynomials, both random (roundings times the secret, digits times noise): in a slot a product
    /// of two normal variables, with a longer tail.
    product: f64,
}

impl Noise {
    /// Of an encoded plaintext.
    pub fn encoded(degree: usize, scale: f64) -> Self {
        Self { degree, scale, normal: ENCODING, product: 0.0 }
    }

    /// Of an encryption with the secret key, the encoding included.
    pub fn encrypted(degree: usize, scale: f64) -> Self {
        Self { degree, scale, normal: ENCODING + ENCRYPTION, product: 0.0 }
    }

    /// Of an encryption with the public key, `u e + e0 + e1 s`, the encoding included.
    pub fn encrypted_publicly(degree: usize, scale: f64) -> Self {
        Self { product: 2.0 * degree as f64 * SECRET * ENCRYPTION, ..Self::encrypted(degree, scale) }
    }

    /// The scale.
    pub fn scale(self) -> f64 {
        self.scale
    }

    /// Variance of a coefficient.
    pub fn variance(self) -> f64 {
        self.normal + self.product
    }

    /// The same noise with variances multiplied, at another scale.
    fn scaled(self, factor: f64, scale: f64) -> Self {
        Self { normal: self.normal * factor, product: self.product * factor, scale, ..self }
    }

    /// Of a sum or a difference with an operand of the same scale. The errors are independent, as those of different slots
    /// of one ciphertext are.
    pub fn plus(self, other: Self) -> Self {
        Self { normal: self.normal + other.normal, product: self.product + other.product, ..self }
    }

    /// Of `count` times the same operand: errors add, not variances.
    pub fn repeated(self, count: f64) -> Self {
        self.scaled(count * count, self.scale)
    }

    /// Of a product with a number without error, encoded at `scale`.
    pub fn times_scalar(self, value: f64, scale: f64) -> Self {
        self.scaled((value * scale).powi(2), self.scale * scale)
    }

    /// Of a product, slot by slot, `x f + y e + e f`; the messages have the root mean squares `x` and `y`.
    pub fn times(self, x: f64, other: Self, y: f64) -> Self {
        let scale = self.scale * other.scale;
        let left = self.scaled((y * other.scale).powi(2), scale);
        let right = other.scaled((x * self.scale).powi(2), scale);
        let both = self.degree as f64 * self.variance() * other.variance();
        let sum = left.plus(right);
        Self { product: sum.product + both, ..sum }
    }

    /// Of a square, `2 x e + e^2`; the message has the root mean square `x`.
    pub fn squared(self, x: f64) -> Self {
        let scale = self.scale * self.scale;
        let both = self.degree as f64 * self.variance().powi(2);
        let linear = self.scaled((2.0 * x * self.scale).powi(2), scale);
        Self { product: linear.product + 2.0 * both, ..linear }
    }

    /// With the noise of a key: a gadget product at `level`, before the special primes are divided away.
    pub fn keyed(self, params: &Params, level: usize) -> Self {
        Self { product: self.product + gadget(params, level), ..self }
    }

    /// With what a division by `count` primes rounds away, at the scale after it.
    pub fn rounded(self, count: usize) -> Self {
        let own = count as f64 * ENCODING;
        let seen = rounding(self.degree, count) - own;
        Self { normal: self.normal + own, product: self.product + seen, ..self }
    }

    /// After a rotation, a conjugation or a relinearisation at `level`.
    pub fn switched(self, params: &Params, level: usize) -> Self {
        self.keyed(params, level).rounded(params.special_limbs().len())
    }

    /// After a division by `prime`.
    pub fn rescaled(self, prime: f64) -> Self {
        self.scaled(prime.powi(-2), self.scale / prime).rounded(1)
    }

    /// Root mean square of the error of a slot, in units of the message.
    pub fn deviation(self) -> f64 {
        (self.degree as f64 * self.variance()).sqrt() / self.scale
    }

    /// What the largest error of `slots` slots stays below, but for a chance of `failure`: a complex normal variable exceeds
    /// t standard deviations with probability `exp(-t^2)`, a product of two with `2 t K_1(2t)`, about `sqrt(pi t) exp(-2t)`.
    pub fn bound(self, slots: usize, failure: f64) -> f64 {
        let part = |variance: f64| (self.degree as f64 * variance).sqrt() / self.scale;
        let log = (slots as f64 * 2.0 / failure).ln();
        // Three rounds of t = (log + ln(pi t) / 2) / 2 settle the first digits.
        let product = (0..3).fold(log / 2.0, |t, _| (log + (std::f64::consts::PI * t).ln() / 2.0) / 2.0);
        log.sqrt() * part(self.normal) + product * part(self.product)
    }
}

#[cfg(test)]
mod tests {
    use super::Noise;

    #[test]
    fn tails_are_those_of_the_distributions() {
        let normal = Noise { degree: 1, scale: 1.0, normal: 1.0, product: 0.0 };
        let product = Noise { normal: 0.0, product: 1.0, ..normal };
        // exp(-t^2) = 5e-7, sqrt(pi t) exp(-2t) = 5e-7.
        assert!((normal.bound(1, 1e-6) - 3.809).abs() < 1e-3, "{}", normal.bound(1, 1e-6));
        let t = product.bound(1, 1e-6);
        assert!(((std::f64::consts::PI * t).sqrt() * (-2.0 * t).exp() / 5e-7 - 1.0).abs() < 0.01, "{t}");
        assert!(product.bound(1000, 1e-6) > t);
    }

    #[test]
    fn operations_are_those_of_the_errors() {
        let (degree, scale) = (64, 1024.0);
        let a = Noise::encrypted(degree, scale);
        assert_eq!(a.plus(a).variance(), 2.0 * a.variance());
        assert_eq!(a.repeated(2.0).variance(), 4.0 * a.variance());
        assert_eq!(a.times_scalar(-3.0, 2.0), Noise { scale: 2048.0, normal: 36.0 * a.normal, ..a });
        // (x + e)(y + f) with x = y = 1: two times the variance at the squared scale, and e f.
        let product = a.times(1.0, a, 1.0);
        assert_eq!(product.normal, 2.0 * a.variance() * scale * scale);
        assert_eq!((product.product, product.scale), (64.0 * a.variance().powi(2), scale * scale));
        assert_eq!(a.squared(1.0).normal, 2.0 * product.normal);
        assert!((a.deviation() * scale - (64.0 * a.variance()).sqrt()).abs() < 1e-12);
    }
}
