//! Public randomness of the audit: ChaCha20 keyed by a purpose and the numbers that identify its use. It never
//! makes keys or noise that must stay secret.

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A stream of numbers that depends on its purpose and numbers alone: every attack draws from its own, so that
/// leaving one out does not change another.
///
/// ```
/// use arras_audit::Random;
///
/// let mut random = Random::new("example", &[7, 0]);
/// let mut order = random.permutation(10);
/// assert_eq!(order, Random::new("example", &[7, 0]).permutation(10));
/// assert!((0.0..1.0).contains(&random.uniform()) && random.below(3) < 3);
/// order.sort_unstable();
/// assert_eq!(order, (0..10).collect::<Vec<_>>());
/// ```
pub struct Random(ChaCha20Rng);

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// The stream of a purpose ("arras/1 audit closed-form", ...) and of the numbers of its use (seed, index, ...).
    #[must_use]
    pub fn new(purpose: &'static str, numbers: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        Self(ChaCha20Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Uniform over 64-bit words.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..bound`; zero for a bound of zero. Lemire's multiplication with rejection (2019): no bias.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        loop {
            let product = u128::from(self.word()) * u128::from(bound);
            if product as u64 >= bound.wrapping_neg().checked_rem(bound).unwrap_or(0) {
                return (product >> 64) as usize;
            }
        }
    }

    /// Uniform in \[0, 1) on a grid of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box-Muller; one of the pair is dropped).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `count` normal numbers of the given deviation.
    pub fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        (0..count).map(|_| (deviation * self.normal()) as f32).collect()
    }

    /// Puts `items` into a uniformly random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `0..count` in a uniformly random order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_purpose_and_numbers_alone() {
        let draw = |purpose, numbers: &[u64]| Random::new(purpose, numbers).word();
        assert_eq!(draw("a", &[1, 2]), draw("a", &[1, 2]));
        assert_ne!(draw("a", &[1, 2]), draw("a", &[2, 1]));
        assert_ne!(draw("a", &[1, 2]), draw("b", &[1, 2]));
    }

    #[test]
    fn normals_have_their_moments() {
        let values = Random::new("test", &[]).normals(200_000, 2.0);
        let mean = values.iter().sum::<f32>() / 200_000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 200_000.0;
        assert!(mean.abs() < 0.02 && (variance - 4.0).abs() < 0.06, "{mean} {variance}");
    }

    #[test]
    fn permutations_are_permutations() {
        let mut order = Random::new("test", &[]).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
