//! From residues to floats.

use arras_rns::backend::Backend;
use arras_rns::{Coefficient, Input, LimbSet, Modulus, Poly};

use crate::{Context, Result};

/// The centred integers in `(-Q/2, Q/2)` that the coefficients are, as floats, polynomial by polynomial.
///
/// Balanced mixed radix: `x = d_0 + q_0 (d_1 + q_1 (d_2 + ..))` with every digit in `(-q_i/2, q_i/2]`. The backend finds
/// the digits; an integer that the first few limbs can hold has zeros above its last digit, and nothing is computed for
/// those. The sum goes from the highest digit down with one fused multiply-add per limb. Integers below 2^53 come out
/// exactly. Of others the relative error is at most 2^-53 per limb, or 2^-51 if a prime has more than 53 bits: where the
/// partial sum is not exact, it is so large that nothing cancels.
pub(crate) fn to_floats<B: Backend>(
    context: &Context<B>,
    mut poly: Poly<B, Coefficient>,
) -> Result<Vec<f64>> {
    let (backend, queue) = (context.backend(), context.queue());
    let words = poly.batch() * poly.extent().degree;
    let mut digits = Vec::new();
    let mut rest = poly.limbs();
    while let Some(limb) = rest.iter().next() {
        let mut digit = vec![0; words];
        backend.download(queue, &poly.view().with_limbs(LimbSet::single(limb))?, &mut digit)?;
        digits.push((context.params().ring().modulus(limb), digit));
        rest = rest.difference(LimbSet::single(limb));
        if rest.is_empty() || !take_digit(context, &mut poly, limb, rest)? {
            break;
        }
    }
    Ok(sum(&digits))
}

/// Subtracts the digit of `limb` from the limbs `rest` and divides by the prime. False if nothing is left.
fn take_digit<B: Backend>(
    context: &Context<B>,
    poly: &mut Poly<B, Coefficient>,
    limb: usize,
    rest: LimbSet,
) -> Result<bool> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let ring = context.params().ring();
    // The conversion of a single limb is exact and centred.
    let digit = LimbSet::single(limb);
    let converter = backend.converter(queue, tables, digit, rest)?;
    let mut converted: Poly<B, Coefficient> = context.allocate(rest, poly.batch())?;
    backend.base_convert(
        queue,
        tables,
        &converter,
        &mut converted.view_mut(),
        &poly.view().with_limbs(digit)?,
    )?;
    backend.sub(queue, tables, &mut poly.view_mut().with_limbs(rest)?, Input::InPlace, &converted.view())?;
    if is_zero(context, poly, rest)? {
        return Ok(false);
    }
    let inverses: Vec<u64> = rest
        .iter()
        .map(|other| {
            let q = ring.modulus(other);
            q.inverse(q.reduce(ring.modulus(limb).value().into()))
        })
        .collect();
    backend.scale_add(
        queue,
        tables,
        &mut poly.view_mut().with_limbs(rest)?,
        Input::InPlace,
        &inverses,
        None,
    )?;
    Ok(true)
}

/// Whether all residues of these limbs are 0: limb by limb, since most often the first one tells.
fn is_zero<B: Backend>(context: &Context<B>, poly: &Poly<B, Coefficient>, limbs: LimbSet) -> Result<bool> {
    let mut row = vec![0; poly.batch() * poly.extent().degree];
    for limb in limbs.iter() {
        let view = poly.view().with_limbs(LimbSet::single(limb))?;
        context.backend().download(context.queue(), &view, &mut row)?;
        if row.chunks(64).any(|chunk| chunk.iter().fold(0, |any, &x| any | x) != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Horner's rule from the highest digit down.
fn sum(digits: &[(Modulus, Vec<u64>)]) -> Vec<f64> {
    let mut values = vec![0.0f64; digits.first().map_or(0, |(_, row)| row.len())];
    let arch = pulp::Arch::new();
    for (q, row) in digits.iter().rev() {
        arch.dispatch(
            #[inline(always)]
            || {
                let radix = q.value() as f64;
                for (value, &digit) in values.iter_mut().zip(row) {
                    *value = value.mul_add(radix, q.centre(digit) as f64);
                }
            },
        );
    }
    values
}

#[cfg(test)]
mod tests {
    use arras_cpu::Cpu;
    use arras_rns::prime::ntt_primes;
    use arras_rns::{Backend, Coefficient, Poly};
    use arras_wire::corpus::SplitMix64;
    use num_bigint::BigInt;

    use super::to_floats;
    use crate::{Context, Params, Spec, small_params};

    const N: usize = 64;

    /// Random integers of up to `bits` bits and their neighbours, with both signs.
    fn integers(rng: &mut SplitMix64, bits: u32, modulus: &BigInt) -> Vec<BigInt> {
        let half: BigInt = (modulus - 1) / 2;
        let one = BigInt::from(1);
        (0..N)
            .map(|i| {
                let wide = (0..5).fold(BigInt::from(0), |x, _| (x << 64) + rng.next_u64());
                let magnitude = match i / 2 {
                    0 => half.clone(),
                    1 => (&one << bits) - &one,
                    2 => &one << (bits - 1),
                    _ => wide % (&one << bits),
                };
                let magnitude = magnitude.min(half.clone());
                if i % 2 == 0 { magnitude } else { -magnitude }
            })
            .collect()
    }

    fn residue(x: &BigInt, q: u64) -> u64 {
        let r = ((x % q) + q) % q;
        u64::try_from(r).unwrap()
    }

    /// Against big integers, for chains of 1 to 6 primes of several sizes and integers of every size.
    #[test]
    fn floats_are_the_centred_integers() {
        let mut rng = SplitMix64::new(1);
        for (bits, steps) in [(30, 1.0), (46, 1.0), (50, 1.0), (60, 4.0)] {
            for count in 1..=6 {
                let moduli = ntt_primes(bits, N, count, &[]).unwrap();
                let modulus = moduli.iter().fold(BigInt::from(1), |product, &q| product * q);
                let spec =
                    Spec { degree: N, moduli: moduli.clone(), ..small_params().unwrap().spec().clone() };
                let context = Context::new(Cpu::sequential(), Params::insecure(spec).unwrap()).unwrap();
                for size in (2..bits * count as u32).step_by(7) {
                    let expected = integers(&mut rng, size, &modulus);
                    let words: Vec<u64> =
                        moduli.iter().flat_map(|&q| expected.iter().map(move |x| residue(x, q))).collect();
                    let mut poly: Poly<Cpu, Coefficient> =
                        context.allocate(context.params().limbs(), 1).unwrap();
                    context.backend().upload(context.queue(), &mut poly.view_mut(), &words).unwrap();
                    let found = to_floats(&context, poly).unwrap();
                    for (found, expected) in found.iter().zip(&expected) {
                        assert_eq!(found.fract(), 0.0);
                        let found = exact(*found);
                        let error: BigInt = &found - expected;
                        let magnitude: BigInt = expected.magnitude().clone().into();
                        if magnitude.bits() <= 53 {
                            assert_eq!(&found, expected);
                        }
                        let bound = magnitude * ((steps * count as f64) as u64);
                        assert!(
                            (error.magnitude().clone() << 53u32) <= bound.magnitude().clone(),
                            "{expected}: {error}"
                        );
                    }
                }
            }
        }
    }

    /// The integer that a float without fractional part is.
    fn exact(x: f64) -> BigInt {
        let bits = x.abs().to_bits();
        let (mantissa, exponent) = ((bits & ((1 << 52) - 1)) | 1 << 52, (bits >> 52) as i64 - 1075);
        if x == 0.0 {
            return BigInt::from(0);
        }
        let magnitude = if exponent >= 0 {
            BigInt::from(mantissa) << exponent
        } else {
            BigInt::from(mantissa >> -exponent)
        };
        if x < 0.0 { -magnitude } else { magnitude }
    }
}
