//! Parameters, values and error bounds for the tests of keyed operations.
#![allow(dead_code, clippy::unwrap_used, reason = "each test takes what it needs")]

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::fft::Complex;
use arras_ckks::noise::{ENCODING, ENCRYPTION};
// Not every test that includes this file needs both.
#[allow(unused_imports)]
pub(crate) use arras_ckks::noise::{rounding, switching};
use arras_ckks::{Ciphertext, Context, Params, Security, Spec};
use arras_rns::prime::ntt_primes;
use arras_rns::{Backend, Evaluation, Poly};
use arras_secret::Cipher;
use arras_wire::corpus::SplitMix64;

/// Primes of the given sizes; their product need not be secure at that degree.
pub(crate) fn params(degree: usize, bits: &[u32], special: &[u32], digits: usize, scale_bits: u32) -> Params {
    let mut taken = Vec::new();
    let mut prime = |&bits: &u32| {
        let q = ntt_primes(bits, degree, 1, &taken).unwrap()[0];
        taken.push(q);
        q
    };
    // The special primes first, so that they are the largest of their size.
    let special: Vec<u64> = special.iter().map(&mut prime).collect();
    let moduli = bits.iter().map(&mut prime).collect();
    Params::insecure(Spec { degree, moduli, special, digits, scale_bits, security: Security::Unchecked })
        .unwrap()
}

/// A digit per prime and one special prime; two digits; one digit; a last digit shorter than the others.
pub(crate) fn sets() -> Vec<Params> {
    vec![
        params(2048, &[50, 40, 40], &[50], 3, 40),
        params(2048, &[50, 40, 40, 40], &[50, 50], 2, 40),
        params(4096, &[45, 40, 40], &[45, 45, 45], 1, 40),
        params(2048, &[45, 40, 40, 40, 40], &[45, 45], 3, 40),
        params(8192, &[50, 46, 46], &[50], 3, 40),
    ]
}

/// `count` numbers in the square of side 2 around 0, scaled into the unit disc.
pub(crate) fn slots(seed: u64, count: usize) -> Vec<Complex> {
    let mut rng = SplitMix64::new(seed);
    let mut next = || (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    (0..count).map(|_| Complex::new(next(), next()).scale(0.7)).collect()
}

pub(crate) fn encrypt<B: Backend>(
    cipher: &Cipher<'_, B>,
    encoder: &SlotEncoder,
    values: &[Complex],
    level: usize,
) -> Ciphertext<B> {
    let context = cipher.context();
    let plain = encoder.encode(context, values, encoder.slots(), context.params().scale(), level).unwrap();
    cipher.encrypt(&plain).unwrap()
}

pub(crate) fn decrypt<B: Backend>(
    cipher: &Cipher<'_, B>,
    encoder: &SlotEncoder,
    a: &Ciphertext<B>,
) -> Vec<Complex> {
    encoder.decode(cipher.context(), &cipher.decrypt(a).unwrap()).unwrap()
}

pub(crate) fn worst(found: &[Complex], expected: &[Complex]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(&a, &b)| (a - b).re.hypot((a - b).im)).fold(0.0, f64::max)
}

/// Slot by slot, row by row.
pub(crate) fn rotated(values: &[Complex], slots: usize, steps: i64) -> Vec<Complex> {
    values
        .chunks(slots)
        .flat_map(|row| {
            let mut row = row.to_vec();
            row.rotate_left(steps.rem_euclid(slots as i64) as usize);
            row
        })
        .collect()
}

/// Variance of a coefficient of a fresh ciphertext, the rounding of the encoding included.
pub(crate) const FRESH: f64 = ENCRYPTION + ENCODING;

/// What no slot exceeds if every coefficient has this variance. A slot of a polynomial is a sum of N coefficients turned in
/// the complex plane; most of the noise is a product of two such sums, one of them the secret's or a key's, so that its
/// tail is that of a product of two complex normal variables: beyond t standard deviations with probability
/// `sqrt(pi t) exp(-2t)`, for t = 22 below 2^-60. Double precision adds a little.
pub(crate) fn slot_bound(params: &Params, variance: f64, scale: f64) -> f64 {
    22.0 * (params.degree() as f64 * variance).sqrt() / scale + 1e-12
}

pub(crate) fn words<B: Backend>(context: &Context<B>, poly: &Poly<B, Evaluation>) -> Vec<u64> {
    let mut words = vec![0; poly.extent().words()];
    context.backend().download(context.queue(), &poly.view(), &mut words).unwrap();
    words
}

/// The residues of all components.
pub(crate) fn residues<B: Backend>(context: &Context<B>, a: &Ciphertext<B>) -> Vec<Vec<u64>> {
    a.components.iter().map(|component| words(context, component)).collect()
}

/// Ciphertext `index` of a batch.
pub(crate) fn single<B: Backend>(context: &Context<B>, a: &Ciphertext<B>, index: usize) -> Ciphertext<B> {
    let components = a.components.iter().map(|component| {
        let mut poly = context.allocate(component.limbs(), 1).unwrap();
        let view = component.view().range(index..index + 1).unwrap();
        context.backend().copy(context.queue(), &mut poly.view_mut(), &view).unwrap();
        poly
    });
    Ciphertext { components: components.collect(), scale: a.scale, seed: None }
}
