//! The definitions, written down as literally as possible. Nothing here is fast, and nothing is shared with the code it
//! judges: no Barrett, no Shoup, no twiddle tables; a residue is what `%` leaves.

use num_bigint::{BigInt, BigUint};

use crate::SeedLabel;

/// `a + b mod q`.
pub fn add(a: u64, b: u64, q: u64) -> u64 {
    ((u128::from(a) + u128::from(b)) % u128::from(q)) as u64
}

/// `a - b mod q` for `b <= q`.
pub fn sub(a: u64, b: u64, q: u64) -> u64 {
    add(a, q - b, q)
}

/// `a * b mod q`.
pub fn mul(a: u64, b: u64, q: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(q)) as u64
}

/// `base^exponent mod q`.
pub fn pow(base: u64, exponent: u64, q: u64) -> u64 {
    if exponent == 0 {
        return 1 % q;
    }
    let half = pow(base, exponent / 2, q);
    let square = mul(half, half, q);
    if exponent % 2 == 1 { mul(square, base, q) } else { square }
}

/// The inverse modulo a prime, by Fermat.
pub fn inverse(a: u64, q: u64) -> u64 {
    pow(a, q - 2, q)
}

/// The lowest `bits` bits of `i` in reverse.
pub fn bit_reverse(i: usize, bits: u32) -> usize {
    (0..bits).filter(|bit| i >> bit & 1 == 1).map(|bit| 1 << (bits - 1 - bit)).sum()
}

/// Element `index` of the transform: the polynomial at `root^(2 bitrev(index) + 1)`, by Horner's rule.
pub fn ntt_at(coefficients: &[u64], index: usize, root: u64, q: u64) -> u64 {
    let log_degree = coefficients.len().trailing_zeros();
    let point = pow(root, 2 * bit_reverse(index, log_degree) as u64 + 1, q);
    coefficients.iter().rev().fold(0, |value, &c| add(mul(value, point, q), c, q))
}

/// The whole transform by Horner's rule, O(N^2).
pub fn ntt_by_horner(coefficients: &[u64], root: u64, q: u64) -> Vec<u64> {
    (0..coefficients.len()).map(|index| ntt_at(coefficients, index, root, q)).collect()
}

/// The transform in O(N log N): values at `root, root^3, root^5, ..` by splitting even from odd coefficients, then
/// brought into bit-reversed order. The trials hold it against [`ntt_at`].
pub fn ntt(coefficients: &[u64], root: u64, q: u64) -> Vec<u64> {
    permuted(&values_at_odd_powers(coefficients, root, q))
}

/// The inverse of [`ntt`].
pub fn intt(values: &[u64], root: u64, q: u64) -> Vec<u64> {
    from_values_at_odd_powers(&permuted(values), root, q)
}

fn permuted(values: &[u64]) -> Vec<u64> {
    let bits = values.len().trailing_zeros();
    (0..values.len()).map(|i| values[bit_reverse(i, bits)]).collect()
}

/// `f(X) = e(X^2) + X o(X^2)`, and the second half of the points are the negatives of the first.
fn values_at_odd_powers(f: &[u64], root: u64, q: u64) -> Vec<u64> {
    if f.len() == 1 {
        return f.to_vec();
    }
    let half = |parity: usize| f.iter().copied().skip(parity).step_by(2).collect::<Vec<_>>();
    let square = mul(root, root, q);
    let (even, odd) = (values_at_odd_powers(&half(0), square, q), values_at_odd_powers(&half(1), square, q));
    let mut point = root;
    let (mut low, mut high) = (Vec::with_capacity(f.len()), Vec::new());
    for (&e, &o) in even.iter().zip(&odd) {
        let product = mul(point, o, q);
        low.push(add(e, product, q));
        high.push(sub(e, product, q));
        point = mul(point, square, q);
    }
    low.extend(high);
    low
}

fn from_values_at_odd_powers(values: &[u64], root: u64, q: u64) -> Vec<u64> {
    if values.len() == 1 {
        return values.to_vec();
    }
    let (low, high) = values.split_at(values.len() / 2);
    let (square, half) = (mul(root, root, q), inverse(2, q));
    let (mut even, mut odd) = (Vec::with_capacity(low.len()), Vec::with_capacity(low.len()));
    let (mut factor, step) = (mul(half, inverse(root, q), q), inverse(square, q));
    for (&x, &y) in low.iter().zip(high) {
        even.push(mul(half, add(x, y, q), q));
        odd.push(mul(factor, sub(x, y, q), q));
        factor = mul(factor, step, q);
    }
    let even = from_values_at_odd_powers(&even, square, q);
    let odd = from_values_at_odd_powers(&odd, square, q);
    even.into_iter().zip(odd).flat_map(|(e, o)| [e, o]).collect()
}

/// The product modulo `X^N + 1`, term by term, O(N^2).
pub fn negacyclic_product(a: &[u64], b: &[u64], q: u64) -> Vec<u64> {
    let n = a.len();
    let mut product = vec![0; n];
    for (i, &x) in a.iter().enumerate() {
        for (j, &y) in b.iter().enumerate() {
            let (to, term) = ((i + j) % n, mul(x, y, q));
            product[to] = if i + j < n { add(product[to], term, q) } else { sub(product[to], term, q) };
        }
    }
    product
}

/// `X -> X^element` on coefficients.
pub fn automorphism(coefficients: &[u64], element: usize, q: u64) -> Vec<u64> {
    let n = coefficients.len();
    let mut image = vec![0; n];
    for (i, &c) in coefficients.iter().enumerate() {
        // X^N = -1, so X^(N + j) = -X^j.
        let exponent = i * element % (2 * n);
        image[exponent % n] = if exponent < n { c } else { sub(0, c, q) };
    }
    image
}

/// The representative of `x mod q` in `(-q/2, q/2]`.
pub fn centred(x: u64, q: u64) -> i64 {
    if 2 * u128::from(x) > u128::from(q) { -((q - x) as i64) } else { x as i64 }
}

/// The product of the primes.
pub fn product(primes: &[u64]) -> BigInt {
    primes.iter().map(|&q| BigInt::from(q)).product()
}

/// The residue of an integer, in `[0, q)`.
pub fn residue(x: &BigInt, q: u64) -> u64 {
    let q = BigInt::from(q);
    let remainder = ((x % &q) + &q) % &q;
    remainder.to_u64_digits().1.first().copied().unwrap_or(0)
}

/// The integer `sum_i y_i (Q/q_i)` with `y_i = [x_i (Q/q_i)^-1] mod q_i`, centred: what a base conversion stands for.
/// It is `x + e Q` with x in `(-Q/2, Q/2]` and `|e| <= k/2`.
pub fn centred_sum(residues: &[u64], primes: &[u64]) -> BigInt {
    let q_all = product(primes);
    let terms = residues.iter().zip(primes).map(|(&x, &q)| {
        let others = &q_all / q;
        let y = mul(x, inverse(residue(&others, q), q), q);
        others * centred(y, q)
    });
    terms.sum()
}

/// The integer in `[0, Q)` with the given residues.
pub fn compose(residues: &[u64], primes: &[u64]) -> BigInt {
    let q_all = product(primes);
    ((centred_sum(residues, primes) % &q_all) + &q_all) % &q_all
}

/// The integer in `(-Q/2, Q/2]` with the given residues.
pub fn compose_centred(residues: &[u64], primes: &[u64]) -> BigInt {
    let (x, q_all) = (compose(residues, primes), product(primes));
    if BigInt::from(2) * &x > q_all { x - q_all } else { x }
}

/// `sum_i y_i (Q/q_i)` modulo each target prime.
pub fn base_convert(residues: &[u64], source: &[u64], target: &[u64]) -> Vec<u64> {
    let sum = centred_sum(residues, source);
    target.iter().map(|&p| residue(&sum, p)).collect()
}

/// `(x - c) / P` modulo each kept prime, an exact division of integers: P is the product of the dropped primes and c their
/// [`centred_sum`]. `None` if it is not exact, which would be a mistake in here.
pub fn mod_down(kept: &[u64], keep: &[u64], dropped: &[u64], drop: &[u64]) -> Option<Vec<u64>> {
    let (residues, primes) = ([kept, dropped].concat(), [keep, drop].concat());
    let (difference, p) = (compose(&residues, &primes) - centred_sum(dropped, drop), product(drop));
    let quotient = &difference / &p;
    (&quotient * &p == difference).then(|| keep.iter().map(|&q| residue(&quotient, q)).collect())
}

/// `x / p` rounded to the nearest integer, modulo each kept prime: the other definition of a rescale by one prime.
pub fn rescale(kept: &[u64], keep: &[u64], dropped: u64, p: u64) -> Vec<u64> {
    let x = compose(&[kept, &[dropped]].concat(), &[keep, &[p]].concat());
    let rounded = (x + (p - 1) / 2) / p;
    keep.iter().map(|&q| residue(&rounded, q)).collect()
}

/// `floor((2 x 2^bits + q) / 2q) mod 2^bits`.
pub fn trim(x: u64, bits: u32, q: u64) -> u64 {
    let scaled = (BigUint::from(2 * u128::from(x)) << bits) + q;
    let rounded = (scaled / (2 * u128::from(q))) % (BigUint::from(1u32) << bits);
    rounded.to_u64_digits().first().copied().unwrap_or(0)
}

/// The float with the given bit pattern times `2^scale_bits`, rounded to an integer, ties to even; `None` if it is not
/// finite or reaches 2^62 in magnitude. Uses the fields of the format, no floating point.
pub fn quantise(pattern: u64, scale_bits: i32) -> Option<i64> {
    let (field, fraction) = ((pattern >> 52 & 0x7ff) as i32, pattern & ((1 << 52) - 1));
    if field == 0x7ff {
        return None;
    }
    let (mantissa, exponent) =
        if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
    let shift = exponent + scale_bits;
    let magnitude = match shift {
        _ if mantissa == 0 => 0,
        0.. if shift > 62 || mantissa >= (1 << 62) >> shift => return None,
        0.. => mantissa << shift,
        // Less than half a unit.
        ..-54 => 0,
        _ => {
            let (floor, rest) = (mantissa >> -shift, mantissa & ((1 << -shift) - 1));
            let half = 1u64 << (-shift - 1);
            floor + u64::from(rest > half || rest == half && floor % 2 == 1)
        }
    } as i64;
    Some(if pattern >> 63 == 1 { -magnitude } else { magnitude })
}

/// `value mod q` for a signed value.
pub fn signed(value: i64, q: u64) -> u64 {
    let r = value.unsigned_abs() % q;
    if value < 0 { sub(0, r, q) } else { r }
}

/// The uniform polynomial of a label: the specification of [`crate::seed`], read again.
pub fn expand(label: &SeedLabel, q: u64, degree: usize) -> Vec<u64> {
    let message = [
        &b"arras/1"[..],
        &label.seed,
        &[label.purpose as u8],
        &label.object.to_le_bytes(),
        &label.polynomial.to_le_bytes(),
        &q.to_le_bytes(),
    ]
    .concat();
    let mut bytes = vec![0; 16 * degree];
    blake3::Hasher::new().update(&message).finalize_xof().fill(&mut bytes);
    let chunks = bytes.as_chunks::<16>().0.iter();
    chunks.map(|&chunk| (u128::from_le_bytes(chunk) % u128::from(q)) as u64).collect()
}

/// Packs values of `bits` bits, bit by bit, least significant first, padded with zeros to a whole byte.
pub fn pack(values: &[u64], bits: u32) -> Vec<u8> {
    let mut bytes = vec![0; (values.len() * bits as usize).div_ceil(8)];
    for (i, value) in values.iter().enumerate() {
        for bit in (0..bits as usize).filter(|bit| value >> bit & 1 == 1) {
            let at = i * bits as usize + bit;
            bytes[at / 8] |= 1 << (at % 8);
        }
    }
    bytes
}

/// Reads `count` values of `bits` bits, bit by bit.
pub fn unpack(bytes: &[u8], bits: u32, count: usize) -> Vec<u64> {
    let bit = |at: usize| u64::from(bytes[at / 8] >> (at % 8) & 1);
    (0..count).map(|i| (0..bits as usize).map(|b| bit(i * bits as usize + b) << b).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_transforms_agree_and_invert() {
        // 97 - 1 = 3 * 32 and 5 generates, so 5^3 has order 32.
        let (q, n, root) = (97, 16, pow(5, 3, 97));
        assert_eq!(pow(root, n as u64, q), q - 1);
        let f: Vec<u64> = (0..n as u64).map(|i| (7 * i * i + 3) % q).collect();
        assert_eq!(ntt(&f, root, q), ntt_by_horner(&f, root, q));
        assert_eq!(intt(&ntt(&f, root, q), root, q), f);
        assert_eq!(ntt_at(&f, 3, root, q), ntt(&f, root, q)[3]);
    }

    #[test]
    fn negacyclic_wraps_with_a_sign() {
        assert_eq!(negacyclic_product(&[0, 0, 0, 1], &[0, 2, 0, 0], 97), [95, 0, 0, 0]);
        assert_eq!(automorphism(&[1, 2, 3, 4], 3, 97), [1, 4, 94, 2]);
    }

    #[test]
    fn integers_of_residues() {
        let primes = [97, 193, 257];
        for x in [-2_405_648i64, -1, 0, 1, 42, 2_405_648] {
            let residues: Vec<u64> = primes.iter().map(|&q| signed(x, q)).collect();
            assert_eq!(compose_centred(&residues, &primes), BigInt::from(x));
        }
        assert_eq!((centred(48, 97), centred(49, 97)), (48, -48));
        // 1000 = 97 * 10.3; 1000 = 30 mod 97.
        assert_eq!(rescale(&[1000 % 193], &[193], 1000 % 97, 97), [10]);
        assert_eq!(mod_down(&[1000 % 193], &[193], &[1000 % 97], &[97]), Some(vec![10]));
    }

    #[test]
    fn quantise_follows_the_float_where_that_is_exact() {
        let values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.499_999_999_999_999_94, 1e18, f64::MIN_POSITIVE, -3.25];
        for x in values {
            assert_eq!(quantise(x.to_bits(), 0), Some(x.round_ties_even() as i64), "{x}");
        }
        assert_eq!(quantise(1f64.next_down().to_bits(), 62), Some((1 << 62) - 512));
        assert_eq!(quantise(1f64.to_bits(), 62), None);
        assert_eq!(quantise((-0.5f64).to_bits(), 63), None);
        assert_eq!(quantise(f64::NAN.to_bits(), 0), None);
        assert_eq!(quantise(1, 1000), Some(0));
        assert_eq!(quantise(3f64.to_bits(), -1), Some(2));
    }

    #[test]
    fn packing_is_little_endian_by_bit() {
        assert_eq!(pack(&[0b101, 0b011, 0b111], 3), [0b1101_1101, 0b1]);
        assert_eq!(unpack(&[0b1101_1101, 0b1], 3, 3), [0b101, 0b011, 0b111]);
        assert_eq!(trim(96, 3, 97), 0);
        assert_eq!(trim(49, 3, 97), 4);
    }
}
