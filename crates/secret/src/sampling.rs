//! Secret randomness. Distributions take the same time and touch the same memory whatever they return.

use arras_ckks::small;
use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// A ChaCha20 stream keyed with 256 bits from the operating system. Make a fresh one for every key generation and every
/// encryption call. It is wiped when dropped.
pub struct SecretRng(ChaCha20Rng);

impl std::fmt::Debug for SecretRng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretRng")
    }
}

impl SecretRng {
    /// A stream with a fresh key.
    ///
    /// # Errors
    /// [`Error::Randomness`] if the operating system gives none.
    pub fn from_os() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(Error::Randomness)?;
        Ok(Self(ChaCha20Rng::from_seed(*key)))
    }

    #[cfg(test)]
    pub(crate) fn for_tests(seed: u8) -> Self {
        Self(ChaCha20Rng::from_seed([seed; 32]))
    }

    /// Public random bytes, such as a seed to expand.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Uniform elements of {-1, 0, 1} ([`small::ternary`]).
    pub fn ternary<T>(&mut self, out: &mut [T], value: impl Fn(i8) -> T) {
        small::ternary(&mut self.0, out, value);
    }

    /// Centred binomial variables of 42 bits ([`small::noise`]).
    pub fn noise<T>(&mut self, out: &mut [T], value: impl Fn(i8) -> T) {
        small::noise(&mut self.0, out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::SecretRng;

    /// Six standard deviations of an estimate from `count` samples.
    fn six_sigma(variance: f64, count: usize) -> f64 {
        6.0 * (variance / count as f64).sqrt()
    }

    #[test]
    fn ternary_values_are_uniform() {
        let count = 300_000;
        let mut values = vec![0i8; count];
        SecretRng::for_tests(1).ternary(&mut values, |x| x);
        for expected in -1..=1 {
            let share = values.iter().filter(|&&x| x == expected).count() as f64 / count as f64;
            assert!((share - 1.0 / 3.0).abs() < six_sigma(2.0 / 9.0, count), "{expected}: {share}");
        }
        let products: i32 = values.windows(2).map(|pair| i32::from(pair[0] * pair[1])).sum();
        assert!((f64::from(products) / count as f64).abs() < six_sigma(4.0 / 9.0, count), "{products}");
    }

    /// Every probability of the centred binomial distribution, and no correlation within or across words.
    #[test]
    fn noise_is_binomial() {
        let count = 192 * 3000;
        let mut values = vec![0i8; count];
        SecretRng::for_tests(5).noise(&mut values, |x| x);
        let mut probability = (1..=21).fold(0.5f64.powi(42), |p, i| p * f64::from(21 + i) / f64::from(i));
        for magnitude in 0..=21i8 {
            for expected in [-magnitude, magnitude] {
                let share = values.iter().filter(|&&x| x == expected).count() as f64 / count as f64;
                let tolerance = six_sigma(probability * (1.0 - probability), count) + 6.0 / count as f64;
                assert!((share - probability).abs() < tolerance, "{expected}: {share}, not {probability}");
            }
            probability *= f64::from(21 - magnitude) / f64::from(22 + magnitude);
        }
        assert!(values.iter().all(|x| x.abs() <= 21));
        for lag in [1, 64, 128] {
            let pairs = values.iter().zip(&values[lag..]);
            let mean = pairs.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() / (count - lag) as f64;
            assert!(mean.abs() < six_sigma(10.5 * 10.5, count - lag), "lag {lag}: {mean}");
        }
    }

    #[test]
    fn two_streams_differ() {
        let [a, b]: [[u8; 32]; 2] = std::array::from_fn(|_| SecretRng::from_os().unwrap().bytes());
        assert_ne!(a, b);
    }
}
