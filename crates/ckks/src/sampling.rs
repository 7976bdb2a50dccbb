//! Randomness of keys, encryptions and blinding. Distributions take the same time and touch the same memory whatever they return.

use chacha20::ChaCha20Rng;
use pulp::Arch;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use arras_rns::backend::Quantise;
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Poly};

use crate::{Context, Error, Result};

/// A ChaCha20 stream keyed with 256 bits from the operating system. Make a fresh one for every key generation and every
/// encryption call. It is wiped when dropped.
///
/// ```
/// use arras_ckks::sampling::Sampler;
///
/// let mut sampler = Sampler::from_os()?;
/// let mut noise = [0i8; 1000];
/// sampler.noise(&mut noise, |e| e);
/// assert!(noise.iter().all(|e| (-21..=21).contains(e)));
/// // Whoever has the key of a stream has its values.
/// let key = sampler.bytes();
/// assert_eq!(Sampler::from_key(&key).uniform(40), Sampler::from_key(&key).uniform(40));
/// # Ok::<(), arras_ckks::Error>(())
/// ```
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

    /// The stream of a key that another sampler drew, so that whoever has the key can make its values elsewhere.
    pub fn from_key(key: &[u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(*key))
    }

    /// The same stream every time.
    #[cfg(any(test, feature = "testkit"))]
    pub fn for_tests(seed: u8) -> Self {
        Self(ChaCha20Rng::from_seed([seed; 32]))
    }

    /// Public random bytes, such as a seed to expand.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A uniform integer in `[-2^bits, 2^bits)`, `bits` up to 126.
    pub fn uniform(&mut self, bits: u32) -> i128 {
        let bits = bits.min(126);
        (u128::from_le_bytes(self.bytes()) >> (127 - bits)) as i128 - (1 << bits)
    }

    /// Uniform elements of {-1, 0, 1}, made into what is wanted by `value`: each the high word of three times a uniform
    /// word, which has a bias of 2^-63.
    pub fn ternary<T>(&mut self, out: &mut [T], value: impl Fn(i8) -> T) {
        let mut block = Zeroizing::new([0; BLOCK]);
        for out in out.chunks_mut(BLOCK / 8) {
            let bytes = &mut block[..8 * out.len()];
            self.0.fill_bytes(bytes);
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (out, &word) in out.iter_mut().zip(bytes.as_chunks().0) {
                        *out = value(ternary(u64::from_le_bytes(word)));
                    }
                },
            );
        }
    }

    /// Centred binomial variables, made into what is wanted by `value`: each the difference of two sums of 21 fair bits,
    /// standard deviation sqrt(10.5) = 3.24, at most 21 in magnitude. Three of them take two words.
    pub fn noise<T>(&mut self, out: &mut [T], value: impl Fn(i8) -> T) {
        const THIRD: usize = BLOCK / 16;
        let mut block = Zeroizing::new([0; BLOCK]);
        for out in out.chunks_mut(3 * THIRD) {
            self.0.fill_bytes(&mut *block);
            let (a, b) = block.as_chunks().0.split_at(THIRD);
            let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
            let mut thirds = out.chunks_mut(THIRD);
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (half, out) in [a, b].into_iter().zip(&mut thirds) {
                        for (out, x) in out.iter_mut().zip(half) {
                            *out = value(binomial(word(x)));
                        }
                    }
                    // What the others left of the words.
                    for (out, (x, y)) in thirds.flatten().zip(a.iter().zip(b)) {
                        *out = value(binomial(word(x) >> 42 | word(y) >> 42 << 22));
                    }
                },
            );
        }
    }
}

/// The bit pattern of a float: what [`small_polynomials`] takes.
pub fn float(x: i8) -> u64 {
    f64::from(x).to_bits()
}

/// Residues of small integers given as floats, `row` of them per polynomial; the other coefficients are 0. One number per
/// coefficient goes to the backend, which makes it a residue of every limb. Nothing of it is left on the device but the result.
///
/// # Errors
/// A failing device.
pub fn small_polynomials<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    row: usize,
    small: &[u64],
) -> Result<Poly<B, Coefficient>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut poly = context.allocate(limbs, small.len() / row)?;
    let mut buffer = backend.allocate(queue, small.len())?;
    backend.write(queue, &mut buffer, 0, small)?;
    let how = Quantise { first: 0, batch_stride: row, coefficient_stride: 1, count: row, scale_bits: 0 };
    backend.quantise(queue, tables, &mut poly.view_mut(), &buffer, how)?;
    backend.wipe(queue, &mut buffer)?;
    Ok(poly)
}

/// Fresh noise in the evaluation domain.
///
/// # Errors
/// A failing device.
pub fn noise<B: Backend>(
    context: &Context<B>,
    sampler: &mut Sampler,
    limbs: LimbSet,
    batch: usize,
) -> Result<Poly<B, Evaluation>> {
    let mut small = Zeroizing::new(vec![0; batch * context.params().degree()]);
    sampler.noise(&mut small, float);
    transformed(context, limbs, &small)
}

/// Fresh uniform ternary polynomials in the evaluation domain.
///
/// # Errors
/// A failing device.
pub fn ternary_polynomials<B: Backend>(
    context: &Context<B>,
    sampler: &mut Sampler,
    limbs: LimbSet,
    batch: usize,
) -> Result<Poly<B, Evaluation>> {
    let mut small = Zeroizing::new(vec![0; batch * context.params().degree()]);
    sampler.ternary(&mut small, float);
    transformed(context, limbs, &small)
}

fn transformed<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    small: &[u64],
) -> Result<Poly<B, Evaluation>> {
    let mut poly = small_polynomials(context, limbs, context.params().degree(), small)?.retag();
    context.backend().ntt(context.queue(), context.tables(), &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}

/// Bytes of the stream that are taken at a time, so that little has to be wiped.
const BLOCK: usize = 1 << 10;

/// The high word of `3 word`, less one.
#[inline(always)]
fn ternary(word: u64) -> i8 {
    const THIRD: u64 = u64::MAX / 3;
    i8::from(word > THIRD) + i8::from(word > 2 * THIRD) - 1
}

/// From the low 42 bits: the number of ones among the lower 21, less that among the upper 21.
#[inline(always)]
fn binomial(word: u64) -> i8 {
    const HALF: u64 = (1 << 21) - 1;
    let flipped = (word ^ HALF << 21) & (HALF << 21 | HALF);
    flipped.count_ones() as i8 - 21
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Sampler, binomial, ternary};

    /// Words at the places where the result changes, and random ones.
    #[test]
    fn words_are_mapped_as_stated() {
        let third = u64::MAX / 3;
        let mut words = vec![0, 1, third - 1, third, third + 1, 2 * third, 2 * third + 1, u64::MAX];
        words.extend((0..64).map(|i| 1 << i));
        let mut rng = Sampler::for_tests(2);
        words.extend((0..1000).map(|_| u64::from_le_bytes(rng.bytes())));
        for word in words {
            assert_eq!(i128::from(ternary(word)), ((i128::from(word) * 3) >> 64) - 1, "{word:x}");
            let bits = |range: std::ops::Range<u32>| range.map(|i| (word >> i & 1) as i8).sum::<i8>();
            assert_eq!(binomial(word), bits(0..21) - bits(21..42), "{word:x}");
        }
    }

    /// Which bits of the stream make which value, for lengths that are no whole number of blocks too.
    #[test]
    fn values_follow_the_stream() {
        for count in [1, 63, 64, 65, 128, 150, 192, 193, 1000] {
            let mut stream = Sampler::for_tests(3);
            let mut ternaries = vec![0; count];
            Sampler::for_tests(3).ternary(&mut ternaries, |x| x);
            for &found in &ternaries {
                assert_eq!(found, ternary(u64::from_le_bytes(stream.bytes())));
            }
            let mut stream = Sampler::for_tests(4);
            let mut noise = vec![0.0; count];
            Sampler::for_tests(4).noise(&mut noise, f64::from);
            for noise in noise.chunks(192) {
                let block: [u8; BLOCK] = stream.bytes();
                let words: Vec<_> = block.as_chunks().0.iter().map(|&x| u64::from_le_bytes(x)).collect();
                for (i, &found) in noise.iter().enumerate() {
                    let word = match i / 64 {
                        0 | 1 => words[i],
                        _ => words[i - 128] >> 42 | words[i - 64] >> 42 << 22,
                    };
                    assert_eq!(found, f64::from(binomial(word)), "{i} of {count}");
                }
            }
        }
    }

    /// Six standard deviations of an estimate from `count` samples.
    fn six_sigma(variance: f64, count: usize) -> f64 {
        6.0 * (variance / count as f64).sqrt()
    }

    #[test]
    fn ternary_values_are_uniform() {
        let count = 300_000;
        let mut values = vec![0i8; count];
        Sampler::for_tests(1).ternary(&mut values, |x| x);
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
        Sampler::for_tests(5).noise(&mut values, |x| x);
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
        let [a, b]: [[u8; 32]; 2] = std::array::from_fn(|_| Sampler::from_os().unwrap().bytes());
        assert_ne!(a, b);
    }

    #[test]
    fn uniform_integers_fill_their_range() {
        let mut sampler = Sampler::for_tests(3);
        for bits in [0, 1, 40, 100, 126] {
            let values: Vec<i128> = (0..2000).map(|_| sampler.uniform(bits)).collect();
            assert!(values.iter().all(|&x| (-(1 << bits)..1 << bits).contains(&x)));
            let mean = values.iter().map(|&x| x as f64 / f64::from(bits).exp2()).sum::<f64>() / 2000.0;
            let expected = -0.5 / f64::from(bits).exp2();
            assert!((mean - expected).abs() < 0.08, "{bits}: {mean}");
        }
    }
}
