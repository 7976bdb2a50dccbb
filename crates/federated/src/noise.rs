//! Discrete Gaussian noise, sampled exactly with integers (Canonne, Kamath and Steinke, NeurIPS 2020, algorithms 1 to 3): no
//! floating point, whose rounding tells values apart (Mironov 2012).
//!
//! The time of a draw depends on what is drawn. Noise is drawn once per upload on the party's own machine, and its timing is not
//! observable from outside; it must stay so.

use arras_ckks::sampling::Sampler;

use crate::{Error, Result};

/// Largest sigma; with it all numbers below fit 128 bits.
pub const MAX_SIGMA: u64 = 1 << 45;

/// A discrete Gaussian on the integers: probability of x proportional to `exp(-x^2 / (2 sigma^2))`.
///
/// ```
/// use arras_federated::noise::DiscreteGaussian;
/// use arras_ckks::sampling::Sampler;
///
/// let noise = DiscreteGaussian::new(40.0)?;
/// let mut rng = Sampler::from_os()?;
/// let draws: Vec<f64> = (0..1000).map(|_| noise.sample(&mut rng) as f64).collect();
/// let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1000.0;
/// assert!((variance.sqrt() - 40.0).abs() < 10.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DiscreteGaussian {
    sigma: u64,
}

impl DiscreteGaussian {
    /// A distribution whose sigma is the next integer above the one asked for: never less noise.
    ///
    /// # Errors
    /// A sigma that is not above 0 or is beyond [`MAX_SIGMA`].
    pub fn new(sigma: f64) -> Result<Self> {
        if !(sigma > 0.0 && sigma <= MAX_SIGMA as f64) {
            return Err(Error::Noise { sigma });
        }
        Ok(DiscreteGaussian { sigma: sigma.ceil() as u64 })
    }

    /// A draw. A discrete Laplace variable of scale sigma is kept with probability `exp(-(|y| - sigma)^2 / (2 sigma^2))`.
    pub fn sample(&self, rng: &mut Sampler) -> i64 {
        loop {
            let y = laplace(self.sigma, rng);
            let distance = u128::from(y.unsigned_abs().abs_diff(self.sigma));
            let sigma = u128::from(self.sigma);
            if bernoulli_exp(distance * distance, 2 * sigma * sigma, rng) {
                return y;
            }
        }
    }
}

/// A discrete Laplace variable: probability of x proportional to `exp(-|x| / scale)`.
fn laplace(scale: u64, rng: &mut Sampler) -> i64 {
    loop {
        let low = below(u128::from(scale), rng) as u64;
        if !bernoulli_exp(u128::from(low), u128::from(scale), rng) {
            continue;
        }
        let mut high = 0;
        while bernoulli_exp(1, 1, rng) {
            high += 1;
        }
        let magnitude = (low + scale * high) as i64;
        let is_negative = rng.bytes::<1>()[0] & 1 == 1;
        if !(is_negative && magnitude == 0) {
            return if is_negative { -magnitude } else { magnitude };
        }
    }
}

/// True with probability `exp(-numerator / denominator)`.
fn bernoulli_exp(mut numerator: u128, denominator: u128, rng: &mut Sampler) -> bool {
    while numerator > denominator {
        if !bernoulli_exp_fraction(1, 1, rng) {
            return false;
        }
        numerator -= denominator;
    }
    bernoulli_exp_fraction(numerator, denominator, rng)
}

/// The same for a ratio of at most 1: the parity of the number of successes in a series of trials with probabilities `ratio / k`
/// (von Neumann).
fn bernoulli_exp_fraction(numerator: u128, denominator: u128, rng: &mut Sampler) -> bool {
    let mut k = 1;
    while below(denominator * k, rng) < numerator {
        k += 1;
    }
    k % 2 == 1
}

/// Uniform below a bound of at least 1: rejection from the next power of two.
fn below(bound: u128, rng: &mut Sampler) -> u128 {
    let mask = bound.next_power_of_two() - 1;
    loop {
        let candidate = u128::from_le_bytes(rng.bytes()) & mask;
        if candidate < bound {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_tails_are_those_of_the_distribution() {
        let mut rng = Sampler::from_os().unwrap();
        for sigma in [1.0, 3.0, 40.0, 1e9] {
            let distribution = DiscreteGaussian::new(sigma).unwrap();
            let count = 20_000;
            let draws: Vec<f64> = (0..count).map(|_| distribution.sample(&mut rng) as f64 / sigma).collect();
            let mean = draws.iter().sum::<f64>() / f64::from(count);
            let variance = draws.iter().map(|x| x * x).sum::<f64>() / f64::from(count);
            let tail = draws.iter().filter(|x| x.abs() > 2.0).count() as f64 / f64::from(count);
            // Six standard deviations of each estimate; a discrete Gaussian's variance is that of sigma = 1 to 1e-6 already.
            assert!(mean.abs() < 6.0 / f64::from(count).sqrt(), "{sigma}: mean {mean}");
            assert!(
                (variance - 1.0).abs() < 6.0 * (2.0 / f64::from(count)).sqrt(),
                "{sigma}: variance {variance}"
            );
            let expected = tail_beyond_two(sigma);
            assert!(
                (tail - expected).abs() < 6.0 * (expected / f64::from(count)).sqrt(),
                "{sigma}: tail {tail} {expected}"
            );
        }
    }

    /// Probability of more than two sigma, by summation where that is possible.
    fn tail_beyond_two(sigma: f64) -> f64 {
        if sigma > 1e6 {
            return 0.0455;
        }
        let weight = |x: i64| (-(x as f64).powi(2) / (2.0 * sigma * sigma)).exp();
        let range = (12.0 * sigma) as i64;
        let total: f64 = (-range..=range).map(weight).sum();
        (-range..=range).filter(|x| x.unsigned_abs() as f64 > 2.0 * sigma).map(weight).sum::<f64>() / total
    }

    #[test]
    fn small_sigmas_have_the_exact_probabilities() {
        let mut rng = Sampler::from_os().unwrap();
        let distribution = DiscreteGaussian::new(1.0).unwrap();
        let count = 40_000;
        let zeros =
            (0..count).filter(|_| distribution.sample(&mut rng) == 0).count() as f64 / f64::from(count);
        let total: f64 = (-20..=20).map(|x: i32| (-f64::from(x * x) / 2.0).exp()).sum();
        assert!((zeros - 1.0 / total).abs() < 6.0 * (0.24 / f64::from(count)).sqrt(), "{zeros}");
    }

    #[test]
    fn impossible_sigmas_are_refused() {
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e15] {
            assert!(DiscreteGaussian::new(sigma).is_err());
        }
    }
}
