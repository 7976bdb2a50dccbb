//! Secret randomness. Distributions take the same time and touch the same memory whatever they return.

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

    /// A uniform element of {-1, 0, 1}: the high word of three times a uniform word. Its bias is 2^-63.
    pub fn ternary(&mut self) -> i8 {
        ((u128::from(self.0.next_u64()) * 3) >> 64) as i8 - 1
    }

    /// A centred binomial variable: the difference of two sums of 21 fair bits, standard deviation sqrt(10.5) = 3.24,
    /// at most 21 in magnitude.
    pub fn noise(&mut self) -> i8 {
        const HALF: u64 = (1 << 21) - 1;
        let word = self.0.next_u64();
        (word & HALF).count_ones() as i8 - ((word >> 21) & HALF).count_ones() as i8
    }
}

#[cfg(test)]
mod tests {
    use super::SecretRng;

    #[test]
    fn distributions_have_the_stated_moments() {
        let mut rng = SecretRng::for_tests(1);
        let count = 200_000;
        let mut ternary = [0u32; 3];
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            ternary[(rng.ternary() + 1) as usize] += 1;
            let noise = f64::from(rng.noise());
            assert!(noise.abs() <= 21.0);
            sum += noise;
            squares += noise * noise;
        }
        // Six standard deviations of each estimate.
        let third = f64::from(count) / 3.0;
        assert!(
            ternary.iter().all(|&n| (f64::from(n) - third).abs() < 6.0 * (third * 2.0 / 3.0).sqrt()),
            "{ternary:?}"
        );
        assert!((sum / f64::from(count)).abs() < 6.0 * (10.5 / f64::from(count)).sqrt());
        assert!((squares / f64::from(count) - 10.5).abs() < 6.0 * 10.5 * (2.0 / f64::from(count)).sqrt());
    }

    #[test]
    fn two_streams_differ() {
        let [a, b]: [[u8; 32]; 2] = std::array::from_fn(|_| SecretRng::from_os().unwrap().bytes());
        assert_ne!(a, b);
    }
}
