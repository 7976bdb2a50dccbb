//! Polynomials with small coefficients: drawn without branches or memory indices that depend on what is drawn, and handed
//! to a backend as one number per coefficient.

use arras_rns::backend::{Backend, Quantise};
use arras_rns::{Coefficient, LimbSet, Poly};
use pulp::Arch;
use rand_core::Rng;
use zeroize::Zeroizing;

use crate::{Context, Result};

/// Uniform elements of {-1, 0, 1}, made into what is wanted by `value`: each the high word of three times a uniform word,
/// less one, which has a bias of 2^-63.
pub fn ternary<T>(rng: &mut impl Rng, out: &mut [T], value: impl Fn(i8) -> T) {
    let mut block = Zeroizing::new([0; BLOCK]);
    for out in out.chunks_mut(BLOCK / 8) {
        let bytes = &mut block[..8 * out.len()];
        rng.fill_bytes(bytes);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (out, &word) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = value(ternary_of(u64::from_le_bytes(word)));
                }
            },
        );
    }
}

/// Centred binomial variables, made into what is wanted by `value`: each the difference of two sums of 21 fair bits,
/// standard deviation sqrt(10.5) = 3.24, at most 21 in magnitude. Three of them take two words.
pub fn noise<T>(rng: &mut impl Rng, out: &mut [T], value: impl Fn(i8) -> T) {
    const THIRD: usize = BLOCK / 16;
    let mut block = Zeroizing::new([0; BLOCK]);
    for out in out.chunks_mut(3 * THIRD) {
        rng.fill_bytes(&mut *block);
        let (a, b) = block.as_chunks().0.split_at(THIRD);
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let mut thirds = out.chunks_mut(THIRD);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (half, out) in [a, b].into_iter().zip(&mut thirds) {
                    for (out, x) in out.iter_mut().zip(half) {
                        *out = value(binomial_of(word(x)));
                    }
                }
                // What the others left of the words.
                for (out, (x, y)) in thirds.flatten().zip(a.iter().zip(b)) {
                    *out = value(binomial_of(word(x) >> 42 | word(y) >> 42 << 22));
                }
            },
        );
    }
}

/// Bytes of the stream that are taken at a time, so that little has to be wiped.
const BLOCK: usize = 1 << 10;

/// The high word of `3 word`, less one.
#[inline(always)]
fn ternary_of(word: u64) -> i8 {
    const THIRD: u64 = u64::MAX / 3;
    i8::from(word > THIRD) + i8::from(word > 2 * THIRD) - 1
}

/// From the low 42 bits: the number of ones among the lower 21, less that among the upper 21.
#[inline(always)]
fn binomial_of(word: u64) -> i8 {
    const HALF: u64 = (1 << 21) - 1;
    let flipped = (word ^ HALF << 21) & (HALF << 21 | HALF);
    flipped.count_ones() as i8 - 21
}

/// The bit pattern of a float: what [`upload`] takes.
pub fn float(x: i8) -> u64 {
    f64::from(x).to_bits()
}

/// Polynomials of integers given as bit patterns of floats, `row` of them per polynomial; the other coefficients are 0.
/// The backend makes each number a residue of every limb. Its copy of the numbers is wiped.
///
/// # Errors
/// [`Error::Ring`](crate::Error::Ring) if there are no whole rows, a row is longer than the degree, or the device fails.
pub fn upload<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    row: usize,
    small: &[u64],
) -> Result<Poly<B, Coefficient>> {
    if row == 0 || !small.len().is_multiple_of(row) {
        return Err(
            arras_rns::Error::shape("upload", "numbers in rows", (small.len(), row), "whole rows").into()
        );
    }
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut poly = context.allocate(limbs, small.len() / row)?;
    let mut buffer = backend.allocate(queue, small.len())?;
    backend.write(queue, &mut buffer, 0, small)?;
    let how = Quantise { first: 0, batch_stride: row, coefficient_stride: 1, count: row, scale_bits: 0 };
    backend.quantise(queue, tables, &mut poly.view_mut(), &buffer, how)?;
    backend.wipe(queue, &mut buffer)?;
    Ok(poly)
}

#[cfg(test)]
mod tests {
    use chacha20::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::{binomial_of as binomial, ternary_of as ternary};

    fn stream(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    /// Words at the places where the result changes, and random ones.
    #[test]
    fn words_are_mapped_as_stated() {
        let third = u64::MAX / 3;
        let mut words = vec![0, 1, third - 1, third, third + 1, 2 * third, 2 * third + 1, u64::MAX];
        words.extend((0..64).map(|i| 1 << i));
        let mut rng = stream(2);
        words.extend((0..1000).map(|_| rng.next_u64()));
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
            let mut words = stream(3);
            let mut ternaries = vec![0; count];
            super::ternary(&mut stream(3), &mut ternaries, |x| x);
            assert!(ternaries.iter().all(|&found| found == ternary(words.next_u64())));
            let mut words = stream(4);
            let mut noise = vec![0.0; count];
            super::noise(&mut stream(4), &mut noise, f64::from);
            for noise in noise.chunks(192) {
                let words: Vec<_> = (0..128).map(|_| words.next_u64()).collect();
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
}
