//! Reproducible public randomness: the BLAKE3 output stream of a purpose and a list of numbers. It never
//! touches secrets.

/// Bytes taken from the generator at once.
const BUFFER: usize = 1024;

/// A stream of numbers that depends on its key alone: the same on every machine and in every order of use.
pub(crate) struct Stream {
    reader: blake3::OutputReader,
    buffer: [u8; BUFFER],
    used: usize,
}

impl Stream {
    /// The stream of a purpose and of the numbers that identify its use (a seed, an index, ...).
    pub(crate) fn new(purpose: &'static str, numbers: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        Stream { reader: hasher.finalize_xof(), buffer: [0; BUFFER], used: BUFFER }
    }

    fn word<const SIZE: usize>(&mut self) -> [u8; SIZE] {
        if self.used + SIZE > BUFFER {
            self.reader.fill(&mut self.buffer);
            self.used = 0;
        }
        let mut word = [0; SIZE];
        word.copy_from_slice(&self.buffer[self.used..self.used + SIZE]);
        self.used += SIZE;
        word
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.word())
    }

    /// Uniform in `0..bound`; zero for a bound of zero. Lemire's multiplication with rejection (2019): no bias.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= bound.wrapping_neg().checked_rem(bound).unwrap_or(0) {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in \[low, high) on a grid of 2^-24.
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (u32::from_le_bytes(self.word()) >> 8) as f32 / (1 << 24) as f32;
        low + (high - low) * unit
    }

    /// Mean 0, variance 1, within ±3.47: the sum of four 16-bit uniforms (Irwin-Hall). No transcendental
    /// function, hence the same bits everywhere.
    pub(crate) fn bell(&mut self) -> f32 {
        let sum: u32 =
            self.word::<8>().as_chunks::<2>().0.iter().map(|&b| u32::from(u16::from_le_bytes(b))).sum();
        // Four times the mean 32767.5; the deviation of one is sqrt((2^32 - 1) / 12), of the sum twice that.
        (sum as f32 - 131_070.0) / 37_837.23
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_purpose_and_numbers_alone() {
        let draw = |purpose, numbers: &[u64]| Stream::new(purpose, numbers).next_u64();
        assert_eq!(draw("a", &[1, 2]), draw("a", &[1, 2]));
        assert_ne!(draw("a", &[1, 2]), draw("a", &[2, 1]));
        assert_ne!(draw("a", &[1, 2]), draw("b", &[1, 2]));
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut stream = Stream::new("test", &[]);
        let mut counts = [0; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count: &i32| (count - 10_000).abs() < 500), "{counts:?}");
        assert_eq!((stream.below(0), stream.below(1)), (0, 0));
    }

    #[test]
    fn uniform_and_bell_have_their_moments() {
        let mut stream = Stream::new("test", &[1]);
        let count = 200_000;
        let moments = |values: Vec<f32>| {
            let mean = values.iter().sum::<f32>() / count as f32;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count as f32)
        };
        let (mean, variance) = moments((0..count).map(|_| stream.bell()).collect());
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let (mean, variance) = moments((0..count).map(|_| stream.uniform(2.0, 4.0)).collect());
        assert!((mean - 3.0).abs() < 0.02 && (variance - 1.0 / 3.0).abs() < 0.01, "{mean} {variance}");
    }
}
