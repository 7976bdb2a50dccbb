//! Exact integers in coefficients: sums of plaintexts decode to the sums of their integers, whatever the noise, as long as it
//! stays below half the scale.

use arras_rns::{Backend, Coefficient, Input, LimbSet, Poly, Ring};

use crate::{Context, Error, Plaintext, Result};

/// Largest log2 of a modulus whose residues are joined in 128 bits.
const MAX_LOG_MODULUS: f64 = 126.0;

/// Number of polynomials that hold so many integers, N in each.
pub const fn polynomials(count: usize, degree: usize) -> usize {
    count.div_ceil(degree)
}

/// Encodes integer i, times `2^scale_bits`, into coefficient `i mod N` of polynomial `i / N`; the rest of the last polynomial is
/// 0. Uses all limbs of Q.
///
/// # Errors
/// [`Error::Count`] if there are none; [`Error::Value`] if one does not fit the modulus; a failing device.
pub fn encode_integers<B: Backend>(
    context: &Context<B>,
    values: &[i64],
    scale_bits: u32,
) -> Result<Plaintext<B>> {
    let params = context.params();
    let (degree, limbs, ring) = (params.degree(), params.limbs(), params.ring());
    if values.is_empty() {
        let expected = "at least 1".to_owned();
        return Err(Error::Count { operation: "encode", what: "the number of integers", found: 0, expected });
    }
    let limit = limit(ring, limbs, scale_bits)?;
    if let Some(index) = values.iter().position(|value| value.unsigned_abs() as f64 > limit) {
        return Err(Error::Value { operation: "encode", index, value: values[index] as f64, limit });
    }
    let batch = polynomials(values.len(), degree);
    let mut words = Vec::with_capacity(batch * limbs.len() * degree);
    for row in values.chunks(degree) {
        for limb in limbs.iter() {
            let modulus = ring.modulus(limb);
            words.extend(row.iter().map(|&value| modulus.reduce_signed(i128::from(value) << scale_bits)));
            words.resize(words.len().next_multiple_of(degree), 0);
        }
    }
    let mut poly: Poly<B, Coefficient> = context.allocate(limbs, batch)?;
    context.backend().upload(context.queue(), &mut poly.view_mut(), &words)?;
    let mut poly = poly.retag();
    context.backend().ntt(context.queue(), context.tables(), &mut poly.view_mut(), Input::InPlace)?;
    Ok(Plaintext { poly, scale: f64::from(scale_bits).exp2() })
}

/// The first `count` integers of [`encode_integers`], or of a sum of such plaintexts, without the noise.
///
/// # Errors
/// [`Error::Count`] if there are fewer; [`Error::Noise`] naming the first coefficient that is further than `noise` from a
/// multiple of the scale: decrypted under a wrong key, every one is.
pub fn decode_integers<B: Backend>(
    context: &Context<B>,
    plaintext: &Plaintext<B>,
    count: usize,
    scale_bits: u32,
    noise: f64,
) -> Result<Vec<i64>> {
    let params = context.params();
    let (degree, limbs, batch) = (params.degree(), plaintext.poly.limbs(), plaintext.poly.batch());
    if count > batch * degree {
        let expected = format!("at most {}", batch * degree);
        return Err(Error::Count {
            operation: "decode",
            what: "the number of integers",
            found: count,
            expected,
        });
    }
    limit(params.ring(), limbs, scale_bits)?;
    let mut poly: Poly<B, Coefficient> = context.allocate(limbs, batch)?;
    context.backend().intt(
        context.queue(),
        context.tables(),
        &mut poly.view_mut(),
        plaintext.poly.view().into(),
    )?;
    let mut words = vec![0; batch * limbs.len() * degree];
    context.backend().download(context.queue(), &poly.view(), &mut words)?;
    let join = Join::new(params.ring(), limbs);
    let half = 1_i128 << scale_bits.saturating_sub(1);
    let mut integers = Vec::with_capacity(count);
    for index in 0..count {
        let row = &words[index / degree * limbs.len() * degree + index % degree..];
        let value = join.centred(row.iter().step_by(degree).copied().take(limbs.len()));
        let integer = (value + half) >> scale_bits;
        let distance = (value - (integer << scale_bits)).unsigned_abs() as f64;
        if distance > noise {
            return Err(Error::Noise { index, distance: distance.log2(), bound: noise.log2() });
        }
        // |value| < Q/2 and the scale was checked against Q, so that the quotient fits.
        integers.push(integer as i64);
    }
    Ok(integers)
}

/// Largest integer that fits: half the modulus over the scale, and 2^62.
fn limit(ring: &Ring, limbs: LimbSet, scale_bits: u32) -> Result<f64> {
    let modulus = ring.log_modulus(limbs);
    let room = modulus - 1.0 - f64::from(scale_bits);
    if room < 1.0 || modulus > MAX_LOG_MODULUS {
        return Err(Error::ScaleTooLarge { operation: "integers", scale: f64::from(scale_bits), modulus });
    }
    if room > 62.0 {
        return Err(Error::ScaleTooSmall { operation: "integers", scale: f64::from(scale_bits).exp2() });
    }
    Ok(room.exp2().floor() - 1.0)
}

/// Garner's mixed radix over 128 bits.
struct Join {
    moduli: Vec<arras_rns::Modulus>,
    /// Row i: the inverse of the product of the earlier moduli, modulo modulus i.
    inverses: Vec<u64>,
    product: i128,
}

impl Join {
    fn new(ring: &Ring, limbs: LimbSet) -> Self {
        let moduli: Vec<_> = limbs.iter().map(|limb| ring.modulus(limb)).collect();
        let mut product = 1_u128;
        let mut inverses = Vec::with_capacity(moduli.len());
        for modulus in &moduli {
            inverses.push(modulus.inverse(modulus.reduce(product)));
            product *= u128::from(modulus.value());
        }
        Self { moduli, inverses, product: product as i128 }
    }

    /// The integer in `(-Q/2, Q/2)` with these residues.
    fn centred(&self, residues: impl Iterator<Item = u64>) -> i128 {
        let (mut value, mut radix) = (0_u128, 1_u128);
        for ((modulus, &inverse), residue) in self.moduli.iter().zip(&self.inverses).zip(residues) {
            let digit = modulus.mul(modulus.sub(residue, modulus.reduce(value)), inverse);
            value += radix * u128::from(digit);
            radix *= u128::from(modulus.value());
        }
        let value = value as i128;
        if value > self.product / 2 { value - self.product } else { value }
    }
}
