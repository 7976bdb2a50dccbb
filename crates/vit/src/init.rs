//! Seeded random weights, the same bits for a seed on every machine.

use rayon::prelude::*;

use crate::config::{Init, TensorSpec};

/// Deviation of the normal distribution before truncation, transformers' `initializer_range`.
const STD: f64 = 0.02;
/// Values drawn from one stream; the streams of a tensor are independent, so they run in parallel.
const STREAM: usize = 1 << 14;

/// The tensor `spec` of the model with this seed: normal of deviation 0.02 truncated at two deviations for
/// projections, CLS and position embeddings; zero for biases; one for norms and layer scales.
pub(crate) fn tensor(seed: u64, spec: &TensorSpec) -> Vec<f32> {
    match spec.init {
        Init::Zero => vec![0.0; spec.len()],
        Init::One => vec![1.0; spec.len()],
        Init::Normal => {
            let mut values = vec![0.0; spec.len()];
            values.par_chunks_mut(STREAM).enumerate().for_each(|(index, chunk)| {
                let mut stream = Stream::new(seed, &spec.name, index as u64);
                chunk.fill_with(|| (STD * stream.truncated_normal()) as f32);
            });
            values
        }
    }
}

/// BLAKE3 in output mode, keyed by what the numbers are for.
struct Stream {
    output: blake3::OutputReader,
    block: [u8; 1024],
    used: usize,
}

impl Stream {
    fn new(seed: u64, name: &str, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("arras vit 1 random weights");
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes()).update(name.as_bytes());
        Self { output: hasher.finalize_xof(), block: [0; 1024], used: 1024 }
    }

    fn word(&mut self) -> u32 {
        if self.used == self.block.len() {
            self.output.fill(&mut self.block);
            self.used = 0;
        }
        let word = self.block[self.used..].first_chunk().copied().unwrap_or_default();
        self.used += 4;
        u32::from_le_bytes(word)
    }

    /// Standard normal conditioned on [-2, 2), by rejection from the uniform distribution: two words a try,
    /// 0.60 of them accepted.
    fn truncated_normal(&mut self) -> f64 {
        loop {
            let x = f64::from(self.word() as i32) / f64::from(1_u32 << 30);
            let u = f64::from(self.word()) / 4_294_967_296.0;
            let y = x * x / 2.0;
            // 1 - y <= exp(-y) <= 1 - y + y^2/2 decides most cases.
            if u < 1.0 - y || (u < 1.0 - y + y * y / 2.0 && u < exp_neg(y)) {
                return x;
            }
        }
    }
}

/// `exp(-y)` for y in [0, 2] from additions, multiplications and divisions alone, whose results IEEE 754
/// fixes; the system's `exp` may differ between machines in the last bit and so in what is rejected.
fn exp_neg(y: f64) -> f64 {
    let z = -y / 8.0;
    let series = (1..=10).rev().fold(1.0, |sum, k| 1.0 + sum * z * (1.0 / f64::from(k)));
    let square = series * series;
    let fourth = square * square;
    fourth * fourth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, len: usize) -> TensorSpec {
        TensorSpec { name: name.to_owned(), shape: vec![len], init: Init::Normal }
    }

    #[test]
    fn exp_neg_is_exp() {
        for i in 0..=2000 {
            let y = f64::from(i) / 1000.0;
            assert!((exp_neg(y) / (-y).exp() - 1.0).abs() < 1e-12, "{y}");
        }
    }

    #[test]
    fn moments_are_those_of_the_truncated_normal() {
        // Variance of N(0, 1) on [-2, 2]: 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.773741; fourth moment 1.416
        // from the recurrence E x^4 = 3 E x^2 - 2 * 8 phi(2) / (2 Phi(2) - 1).
        let n = 1_000_000;
        let values: Vec<f64> = tensor(1, &spec("w", n)).iter().map(|&v| f64::from(v) / STD).collect();
        let moment = |k| values.iter().map(|v| v.powi(k)).sum::<f64>() / n as f64;
        assert!(values.iter().all(|v| v.abs() <= 2.0001));
        assert!(moment(1).abs() < 0.004, "{}", moment(1));
        assert!((moment(2) - 0.773741).abs() < 0.004, "{}", moment(2));
        assert!(moment(3).abs() < 0.01, "{}", moment(3));
        assert!((moment(4) - 1.416187).abs() < 0.015, "{}", moment(4));
    }

    #[test]
    fn seed_name_and_position_matter() {
        let base = tensor(1, &spec("w", 3 * STREAM));
        assert_ne!(base, tensor(2, &spec("w", 3 * STREAM)));
        assert_ne!(base, tensor(1, &spec("v", 3 * STREAM)));
        assert_ne!(base[..STREAM], base[STREAM..2 * STREAM]);
        assert_eq!(base[..STREAM + 5], tensor(1, &spec("w", STREAM + 5)));
    }

    #[test]
    fn values_are_pinned() {
        let bits: Vec<u32> = tensor(7, &spec("pinned", 4)).iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [3_169_144_086, 3_154_410_161, 1_015_877_055, 3_142_819_430]);
    }
}
