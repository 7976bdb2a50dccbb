//! The kernels in plain Rust, one row of one limb at a time. Rows are canonical on entry and on return; ranges inside a
//! kernel are stated where they are wider.

use std::ops::Range;

use arras_rns::Modulus;

use crate::tables::{Column, Factor, Terms, Twiddles};

/// Forward transform in place: Cooley-Tukey butterflies with Harvey's lazy reduction, values below 4q inside.
pub fn ntt(row: &mut [u64], table: &Twiddles) {
    let q = table.modulus.value();
    let (mut blocks, mut half) = (1, row.len() / 2);
    while half > 0 {
        for (block, factor) in row.chunks_exact_mut(2 * half).zip(&table.forward[blocks..]) {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                let even = reduce_once(*x, 2 * q);
                let odd = factor.mul_lazy(*y, q);
                (*x, *y) = (even + odd, even + 2 * q - odd);
            }
        }
        (blocks, half) = (2 * blocks, half / 2);
    }
    for x in row {
        *x = reduce_once(reduce_once(*x, 2 * q), q);
    }
}

/// Inverse transform in place, 1/N included: Gentleman-Sande butterflies, values below 2q inside.
pub fn intt(row: &mut [u64], table: &Twiddles) {
    let q = table.modulus.value();
    let (mut blocks, mut half) = (row.len() / 2, 1);
    while blocks > 0 {
        for (block, factor) in row.chunks_exact_mut(2 * half).zip(&table.inverse[blocks..]) {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                let (sum, difference) = (*x + *y, *x + 2 * q - *y);
                (*x, *y) = (reduce_once(sum, 2 * q), factor.mul_lazy(difference, q));
            }
        }
        (blocks, half) = (blocks / 2, 2 * half);
    }
    for x in row {
        *x = reduce_once(table.degree_inverse.mul_lazy(*x, q), q);
    }
}

/// `x - bound` if that is not negative: from `[0, 2 bound)` to `[0, bound)`.
#[inline(always)]
fn reduce_once(x: u64, bound: u64) -> u64 {
    x.min(x.wrapping_sub(bound))
}

/// `out = a + b`, where no `a` stands for `out` itself.
pub fn add(out: &mut [u64], a: Option<&[u64]>, b: &[u64], q: Modulus) {
    combine(out, a, b, |x, y| q.add(x, y));
}

/// `out = a - b`.
pub fn sub(out: &mut [u64], a: Option<&[u64]>, b: &[u64], q: Modulus) {
    combine(out, a, b, |x, y| q.sub(x, y));
}

/// `out = a * b`.
pub fn multiply(out: &mut [u64], a: Option<&[u64]>, b: &[u64], q: Modulus) {
    combine(out, a, b, |x, y| q.mul(x, y));
}

/// `out = out + a * b`.
pub fn multiply_accumulate(out: &mut [u64], a: &[u64], b: &[u64], q: Modulus) {
    for ((out, &x), &y) in out.iter_mut().zip(a).zip(b) {
        *out = q.reduce(u128::from(*out) + u128::from(x) * u128::from(y));
    }
}

/// `out = -a`.
pub fn negate(out: &mut [u64], a: Option<&[u64]>, q: Modulus) {
    transform(out, a, |x| q.negate(x));
}

/// `out = a * scalar + b`.
pub fn scale_add(out: &mut [u64], a: Option<&[u64]>, scalar: u64, b: Option<&[u64]>, q: Modulus) {
    let factor = Factor::new(q, scalar);
    let product = |x| reduce_once(factor.mul_lazy(x, q.value()), q.value());
    match b {
        None => transform(out, a, product),
        Some(b) => combine(out, a, b, |x, y| q.add(product(x), y)),
    }
}

#[inline(always)]
fn transform(out: &mut [u64], a: Option<&[u64]>, f: impl Fn(u64) -> u64) {
    match a {
        None => out.iter_mut().for_each(|out| *out = f(*out)),
        Some(a) => out.iter_mut().zip(a).for_each(|(out, &x)| *out = f(x)),
    }
}

#[inline(always)]
fn combine(out: &mut [u64], a: Option<&[u64]>, b: &[u64], f: impl Fn(u64, u64) -> u64) {
    match a {
        None => out.iter_mut().zip(b).for_each(|(out, &y)| *out = f(*out, y)),
        Some(a) => out.iter_mut().zip(a).zip(b).for_each(|((out, &x), &y)| *out = f(x, y)),
    }
}

/// `X -> X^element` on coefficients: X^i goes to X^(i element), whose sign flips with every wrap around N.
pub fn automorphism_coefficients(out: &mut [u64], input: &[u64], element: usize, q: Modulus) {
    let n = input.len();
    let mut to = 0;
    for &x in input {
        out[to & (n - 1)] = if to < n { x } else { q.negate(x) };
        to = (to + element) & (2 * n - 1);
    }
}

/// `X -> X^element` on values: the value at `root^e` is the old one at `root^(e element)`.
pub fn automorphism_values(out: &mut [u64], input: &[u64], element: usize) {
    let n = input.len();
    let shift = usize::BITS - n.trailing_zeros();
    for (i, out) in out.iter_mut().enumerate() {
        let exponent = (2 * (i.reverse_bits() >> shift) + 1) * element % (2 * n);
        *out = input[((exponent - 1) / 2).reverse_bits() >> shift];
    }
}

/// The first step of a base conversion: `[a scale]`, taken centred and moved to `[0, q)`; without `a`, in place.
pub fn digits(out: &mut [u64], a: Option<&[u64]>, scale: Factor, q: Modulus) {
    let digit = |x| q.add(reduce_once(scale.mul_lazy(x, q.value()), q.value()), q.value() / 2);
    match a {
        None => out.iter_mut().for_each(|x| *x = digit(*x)),
        Some(a) => out.iter_mut().zip(a).for_each(|(out, &x)| *out = digit(x)),
    }
}

/// The second: `sum_i y_i w_i mod p` for the centred digits y and the weights of one target limb, for a stretch of words.
pub(crate) fn weigh(out: &mut [u64], at: Range<usize>, digits: &[&[u64]], column: &Column) {
    for at in at {
        // At most 128 products of residues below 2^60.
        let products = digits.iter().zip(&column.weights).map(|(y, &w)| u128::from(y[at]) * u128::from(w));
        out[at] = column.modulus.reduce(products.sum::<u128>() + u128::from(column.start));
    }
}

/// `out = sum_k left[k] * right[k]`, with component `component` of each term.
pub fn inner_product(out: &mut [u64], left: &[&[u64]], right: Terms<'_>, component: usize, q: Modulus) {
    // 256 products of 60-bit residues stay below 2^128.
    const TERMS: usize = 256;
    for (at, out) in out.iter_mut().enumerate() {
        let (start, within) = (at - at % right.chunk(), at % right.chunk());
        let prepared = right.chunk_at(start);
        let mut sum = 0;
        for (first, left) in (0..).step_by(TERMS).zip(left.chunks(TERMS)) {
            let right = |k: usize| prepared[right.offset(first + k, component) + within];
            let products = left.iter().enumerate().map(|(k, x)| u128::from(x[at]) * u128::from(right(k)));
            sum = q.add(sum, q.reduce(products.sum()));
        }
        *out = sum;
    }
}

/// `out = sum_c weights[c] * inputs[c]`, with a reduction after every `terms_per_reduction` terms.
pub fn matrix_row(
    out: &mut [u64],
    weights: &[i64],
    inputs: &[&[u64]],
    terms_per_reduction: usize,
    q: Modulus,
) {
    // A tile of sums stays in the first-level cache while the inputs stream past.
    const TILE: usize = 256;
    let mut sums = [0i128; TILE];
    for (tile, out) in out.chunks_mut(TILE).enumerate() {
        let sums = &mut sums[..out.len()];
        out.fill(0);
        for (weights, inputs) in weights.chunks(terms_per_reduction).zip(inputs.chunks(terms_per_reduction)) {
            sums.fill(0);
            for (&weight, input) in weights.iter().zip(inputs) {
                for (sum, &x) in sums.iter_mut().zip(&input[tile * TILE..]) {
                    *sum += i128::from(x as i64) * i128::from(weight);
                }
            }
            for (out, &sum) in out.iter_mut().zip(sums.iter()) {
                *out = q.add(*out, q.reduce_signed(sum));
            }
        }
    }
}

/// `x * 2^scale_bits` rounded to an integer, ties to even; `None` if not finite or not below 2^62 in magnitude. The product
/// is exact unless it underflows, where it rounds to 0 anyway.
pub fn quantise(x: f64, scale_bits: i32) -> Option<i64> {
    in_range(x, scale_bits).then(|| (x * power_of_two(scale_bits)).round_ties_even() as i64)
}

/// Whether `x * 2^scale_bits` is below 2^62 in magnitude; around 2^62 all floats are integers, so rounding first would
/// make no difference.
pub fn in_range(x: f64, scale_bits: i32) -> bool {
    x.abs() < quantise_limit(scale_bits)
}

/// `2^(62 - scale_bits)`, or infinity if that is no float, for `|scale_bits| <= 1000`.
pub fn quantise_limit(scale_bits: i32) -> f64 {
    if scale_bits < -961 { f64::INFINITY } else { power_of_two(62 - scale_bits) }
}

/// `2^exponent` for `-1022 <= exponent <= 1023`.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// `floor((2 x 2^bits + q) / 2q) mod 2^bits`: the nearest multiple of `q / 2^bits`, as a count.
pub fn trim(x: u64, bits: u32, q: Modulus) -> u64 {
    let q = u128::from(q.value());
    let rounded = ((u128::from(x) << (bits + 1)) + q) / (2 * q);
    (rounded as u64) & ((1 << bits) - 1)
}

/// Unpacks `row.len()` residues of `bits` bits, least significant bit first, from exactly as many bytes as they need; the
/// index of the first that is not below `q`, or the number of them if the padding is not zero, is the error.
pub fn unpack(row: &mut [u64], packed: &[u8], q: Modulus) -> Result<(), usize> {
    let bits = q.bits() as usize;
    let mask = (1 << bits) - 1;
    let mut fits = true;
    for (index, residue) in row.iter_mut().enumerate() {
        let bit = index * bits;
        // Up to 60 bits and the 7 before them.
        let window = u128::from_le_bytes(window(packed, bit / 8));
        *residue = (window >> (bit % 8)) as u64 & mask;
        fits &= *residue < q.value();
    }
    if !fits && let Some(index) = row.iter().position(|&residue| residue >= q.value()) {
        return Err(index);
    }
    let used = row.len() * bits % 8;
    if used != 0 && packed.last().is_some_and(|last| last >> used != 0) { Err(row.len()) } else { Ok(()) }
}

/// The 16 bytes from `at`, zero beyond the end.
#[inline(always)]
fn window(bytes: &[u8], at: usize) -> [u8; 16] {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut padded = [0; 16];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

/// Packs values of `bits` bits, least significant bit first, into exactly as many bytes as they need.
pub fn pack(values: impl Iterator<Item = u64>, bits: u32, packed: &mut [u8]) {
    let (mut window, mut held) = (0u128, 0);
    let mut words = packed.chunks_mut(8);
    let mut put = |word: u64| {
        if let Some(bytes) = words.next() {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
    };
    for value in values {
        window |= u128::from(value) << held;
        held += bits;
        if held >= 64 {
            put(window as u64);
            window >>= 64;
            held -= 64;
        }
    }
    if held > 0 {
        put(window as u64);
    }
}
