//! What the methods mean for one row of residues.

use arras::rns::{Modulus, Ring};

/// The negacyclic transform by the definition's divide and conquer: Cooley and Tukey's butterflies in the order in which
/// [`Ring::twiddles`] lists the roots.
pub fn ntt(row: &mut [u64], q: Modulus, twiddles: &[u64]) {
    let mut half = row.len() / 2;
    while half > 0 {
        let blocks = row.len() / (2 * half);
        for (block, &twiddle) in row.chunks_exact_mut(2 * half).zip(&twiddles[blocks..]) {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                let product = q.mul(*y, twiddle);
                (*x, *y) = (q.add(*x, product), q.sub(*x, product));
            }
        }
        half /= 2;
    }
}

/// The butterflies of [`ntt`] undone in reverse order, and the factor 1/N.
pub fn intt(row: &mut [u64], q: Modulus, inverse_twiddles: &[u64]) {
    let mut half = 1;
    while half < row.len() {
        let blocks = row.len() / (2 * half);
        for (block, &twiddle) in row.chunks_exact_mut(2 * half).zip(&inverse_twiddles[blocks..]) {
            let (low, high) = block.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                (*x, *y) = (q.add(*x, *y), q.mul(q.sub(*x, *y), twiddle));
            }
        }
        half *= 2;
    }
    let factor = q.inverse(row.len() as u64);
    row.iter_mut().for_each(|x| *x = q.mul(*x, factor));
}

/// `X -> X^element` on coefficients: X^N is -1.
pub fn permute_coefficients(row: &[u64], element: usize, q: Modulus) -> Vec<u64> {
    let n = row.len();
    let mut image = vec![0; n];
    for (i, &x) in row.iter().enumerate() {
        let exponent = i * element % (2 * n);
        image[exponent % n] = if exponent < n { x } else { q.sub(0, x) };
    }
    image
}

/// `X -> X^element` on values: place i holds the value at the power `2 bitrev(i) + 1` of the root.
pub fn permute_values(row: &[u64], element: usize) -> Vec<u64> {
    let n = row.len();
    let reversed = |i: usize| i.reverse_bits() >> (usize::BITS - n.trailing_zeros());
    let source = |i: usize| reversed(((2 * reversed(i) + 1) * element % (2 * n)) / 2);
    (0..n).map(|i| row[source(i)]).collect()
}

/// `x mod q` for a signed number.
pub fn signed(x: i128, q: Modulus) -> u64 {
    x.rem_euclid(i128::from(q.value())) as u64
}

/// The representative of a residue in `(-q/2, q/2]`.
pub fn centred(x: u64, q: Modulus) -> i128 {
    let (x, q) = (i128::from(x), i128::from(q.value()));
    if 2 * x > q { x - q } else { x }
}

/// One coefficient of a base conversion: `y_i = [x_i (Q/q_i)^-1]` centred, then `sum y_i (Q/q_i)` modulo each target.
pub fn convert(residues: &[u64], source: &[usize], target: &[usize], ring: &Ring) -> Vec<u64> {
    let others = |i: usize| source.iter().copied().filter(move |&other| other != i);
    let cofactor = |i: usize, limb: usize| {
        let q = ring.modulus(limb);
        others(i).fold(1, |product, other| q.mul(product, ring.modulus(other).value() % q.value()))
    };
    let digits: Vec<i128> = residues
        .iter()
        .zip(source)
        .map(|(&x, &i)| {
            let q = ring.modulus(i);
            centred(q.mul(x, q.inverse(cofactor(i, i))), q)
        })
        .collect();
    let sum = |&limb: &usize| {
        let q = ring.modulus(limb);
        let terms = digits.iter().zip(source).map(|(&y, &i)| q.mul(signed(y, q), cofactor(i, limb)));
        terms.fold(0, |sum, term| q.add(sum, term))
    };
    target.iter().map(sum).collect()
}

/// A float times a power of two, rounded to the nearest integer, ties to even; nothing if that reaches 2^62.
///
/// Scaling by a power of two is exact unless the result is subnormal, and whatever is subnormal rounds to 0.
pub fn quantise(value: f64, scale_bits: i32) -> Option<i128> {
    let half = scale_bits / 2;
    let scaled = value * 2f64.powi(half) * 2f64.powi(scale_bits - half);
    (scaled.abs() < 2f64.powi(62)).then(|| scaled.round_ties_even() as i128)
}

/// `count` numbers of `bits` bits, least significant bit first.
pub fn unpack(bytes: &[u8], bits: u32, count: usize) -> Vec<u64> {
    let bit = |at: usize| u64::from(bytes[at / 8] >> (at % 8) & 1);
    let number = |i: usize| (0..bits as usize).fold(0, |x, b| x | bit(i * bits as usize + b) << b);
    (0..count).map(number).collect()
}

/// The reverse of [`unpack`], padded with zeros to whole bytes.
pub fn pack(numbers: impl Iterator<Item = u64>, bits: u32, bytes: &mut [u8]) {
    bytes.fill(0);
    for (i, number) in numbers.enumerate() {
        for bit in (0..bits as usize).filter(|bit| number >> bit & 1 == 1) {
            let at = i * bits as usize + bit;
            bytes[at / 8] |= 1 << (at % 8);
        }
    }
}

/// `x / q` as a fraction of `2^bits`, rounded.
pub fn trim(x: u64, bits: u32, q: Modulus) -> u64 {
    let q = u128::from(q.value());
    (((u128::from(x) << (bits + 1)) + q) / (2 * q)) as u64 & ((1 << bits) - 1)
}
