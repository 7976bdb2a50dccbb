//! Randomness for public operations: what a server adds to a ciphertext so that it hides what was done to it.
//! Distributions take the same time and touch the same memory whatever they return.

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// A ChaCha20 stream keyed with 256 bits from the operating system. Make a fresh one for every call; it is wiped when
/// dropped.
pub struct Sampler(ChaCha20Rng);

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sampler")
    }
}

impl Sampler {
    /// A stream with a fresh key.
    ///
    /// # Errors
    /// [`Error::Randomness`] if the operating system gives none.
    pub fn from_os() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(Error::Randomness)?;
        Ok(Self(ChaCha20Rng::from_seed(*key)))
    }

    /// Uniform elements of {-1, 0, 1}: the high word of three times a uniform word. Their bias is 2^-63.
    pub fn ternary(&mut self, out: &mut [i8]) {
        for x in out {
            *x = ((u128::from(self.0.next_u64()) * 3) >> 64) as i8 - 1;
        }
    }

    /// Centred binomial variables: differences of two sums of 21 fair bits, standard deviation sqrt(10.5) = 3.24.
    pub fn noise(&mut self, out: &mut [i8]) {
        const HALF: u64 = (1 << 21) - 1;
        for x in out {
            let word = self.0.next_u64();
            *x = (word & HALF).count_ones() as i8 - ((word >> 21) & HALF).count_ones() as i8;
        }
    }

    /// A uniform integer in `[-2^bits, 2^bits)`, `bits` up to 126.
    pub fn uniform(&mut self, bits: u32) -> i128 {
        let word = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
        let bits = bits.min(126);
        (word >> (127 - bits)) as i128 - (1 << bits)
    }
}

#[cfg(test)]
mod tests {
    use super::Sampler;

    #[test]
    fn distributions_have_the_stated_moments() {
        let mut sampler = Sampler::from_os().unwrap();
        const COUNT: usize = 200_000;
        let mut values = vec![0; COUNT];
        let mut moments = |fill: &dyn Fn(&mut Sampler, &mut [i8])| {
            fill(&mut sampler, &mut values);
            let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
            let squares: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
            (
                sum / COUNT as f64,
                squares / COUNT as f64,
                values.iter().map(|x| x.unsigned_abs()).max().unwrap(),
            )
        };
        // Six standard deviations of each estimate.
        let (mean, variance, largest) = moments(&|sampler, out| sampler.ternary(out));
        assert!(
            mean.abs() < 0.011 && (variance - 2.0 / 3.0).abs() < 0.0064 && largest == 1,
            "{mean} {variance}"
        );
        let (mean, variance, largest) = moments(&|sampler, out| sampler.noise(out));
        assert!(mean.abs() < 0.044 && (variance - 10.5).abs() < 0.2 && largest <= 21, "{mean} {variance}");
        for bits in [0, 1, 40, 100, 126] {
            let values: Vec<i128> = (0..2000).map(|_| sampler.uniform(bits)).collect();
            assert!(values.iter().all(|&x| (-(1 << bits)..1 << bits).contains(&x)));
            let mean = values.iter().map(|&x| x as f64 / f64::from(bits).exp2()).sum::<f64>() / 2000.0;
            let expected = if bits == 0 { -0.5 } else { -0.5 / f64::from(bits).exp2() };
            assert!((mean - expected).abs() < 0.08, "{bits}: {mean}");
        }
    }
}
