//! The noise of every basic operation, measured in exact integers and held against a derived bound.
//!
//! The noise e of a fresh ciphertext is centred binomial, variance 10.5, at most 21. For a ternary s or u, a product with
//! it has the variance (2N/3) 10.5 in each coefficient. Where no worst case is used, a bound is eight standard
//! deviations of a sum of independent variables: the chance to exceed it is below 2^-45 for each coefficient.
#![allow(clippy::unwrap_used)]

use arras_ckks::encoder::encode_coefficients;
use arras_ckks::evaluator::Evaluator;
use arras_ckks::{Ciphertext, Context, Params, Plaintext, Spec, small_params};
use arras_cpu::Cpu;
use arras_rns::{Backend, Coefficient, Poly};
use arras_secret::{Cipher, Error, SecretKey};
use arras_wire::corpus::SplitMix64;

const N: usize = 2048;
const VARIANCE: f64 = 10.5;
/// Two primes of 50 and 46 bits; the noise does not depend on their being secure.
const PRIMES: [u64; 2] = [562_941_363_486_721, 65_068_754_534_401];

fn context() -> Context<Cpu> {
    let spec = Spec { degree: N, moduli: PRIMES.to_vec(), ..small_params().unwrap().spec().clone() };
    Context::new(Cpu::sequential(), Params::insecure(spec).unwrap()).unwrap()
}

/// The coefficients as integers in (-Q/2, Q/2], by the Chinese remainder theorem in 128 bits.
fn integers(context: &Context<Cpu>, plain: &Plaintext<Cpu>) -> Vec<i128> {
    let (limbs, batch) = (plain.poly.limbs(), plain.poly.batch());
    let mut poly: Poly<Cpu, Coefficient> = context.allocate(limbs, batch).unwrap();
    let (backend, queue) = (context.backend(), context.queue());
    backend.intt(queue, context.tables(), &mut poly.view_mut(), plain.poly.view().into()).unwrap();
    let mut words = vec![0; poly.extent().words()];
    backend.download(queue, &poly.view(), &mut words).unwrap();
    let [q0, q1] = PRIMES.map(i128::from);
    // q0^-1 mod q1 by Fermat.
    let inverse = (0..64).rev().fold(1, |power, bit| {
        let square = power * power % q1;
        if (q1 - 2) >> bit & 1 == 1 { square * (q0 % q1) % q1 } else { square }
    });
    let lift = |i: usize, row: &[u64]| {
        let x0 = i128::from(row[i]);
        let (x, modulus) = match limbs.len() {
            1 => (x0, q0),
            _ => (x0 + q0 * ((i128::from(row[N + i]) - x0).rem_euclid(q1) * inverse % q1), q0 * q1),
        };
        if 2 * x > modulus { x - modulus } else { x }
    };
    words.chunks(limbs.len() * N).flat_map(|row| (0..N).map(move |i| lift(i, row))).collect()
}

fn values(seed: u64, count: usize, limit: f64) -> Vec<f64> {
    let mut rng = SplitMix64::new(seed);
    (0..count).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 * limit - limit).collect()
}

/// The differences to the expected integers.
fn errors(
    context: &Context<Cpu>,
    cipher: &Cipher<'_, Cpu>,
    found: &Ciphertext<Cpu>,
    expected: &[i128],
) -> Vec<f64> {
    let found = integers(context, &cipher.decrypt(found).unwrap());
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected) as f64).collect()
}

fn largest(errors: &[f64]) -> f64 {
    errors.iter().fold(0.0, |largest, error| error.abs().max(largest))
}

fn rms(errors: &[f64]) -> f64 {
    (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt()
}

#[test]
fn noise_stays_below_its_bound_and_is_as_large_as_it_must_be() {
    let context = context();
    let key = SecretKey::generate(context.params()).unwrap();
    let cipher = Cipher::new(&context, &key).unwrap();
    let public = cipher.public_key().unwrap();
    let evaluator = Evaluator::new(&context);
    let batch = 8;
    let encode =
        |seed, level| encode_coefficients(&context, &values(seed, batch * N, 100.0), N, 30, level).unwrap();
    let (one, two) = (encode(1, 1), encode(2, 1));
    let (x, y) = (integers(&context, &one), integers(&context, &two));

    let fresh = cipher.encrypt(&one).unwrap();
    let noise = errors(&context, &cipher, &fresh, &x);
    assert!(largest(&noise) <= 21.0);
    // The relative error of a measured deviation of n values is about 1 / sqrt(2 n), here 0.6 %.
    assert!((rms(&noise) / VARIANCE.sqrt() - 1.0).abs() < 0.04, "{}", rms(&noise));

    // u e + e0 + e1 s.
    let deviation = (VARIANCE * (2.0 * 2.0 / 3.0 * N as f64 + 1.0)).sqrt();
    let by_public = public.encrypt(&context, &two).unwrap();
    let noise = errors(&context, &cipher, &by_public, &y);
    assert!(largest(&noise) <= 8.0 * deviation);
    assert!((rms(&noise) / deviation - 1.0).abs() < 0.1, "{} {deviation}", rms(&noise));

    let sum: Vec<i128> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    let added = evaluator.add(&fresh, &cipher.encrypt(&two).unwrap()).unwrap();
    assert!(largest(&errors(&context, &cipher, &added, &sum)) <= 42.0);
    let added = evaluator.add_plain(&fresh, &two).unwrap();
    assert!(largest(&errors(&context, &cipher, &added, &sum)) <= 21.0);
    let difference: Vec<i128> = x.iter().zip(&y).map(|(x, y)| y - x).collect();
    let subtracted =
        evaluator.negate(&evaluator.sub(&fresh, &cipher.encrypt(&two).unwrap()).unwrap()).unwrap();
    assert!(largest(&errors(&context, &cipher, &subtracted, &difference)) <= 42.0);

    // A scalar multiplies message and noise alike.
    let scaled = evaluator.multiply_scalar(&fresh, -0.75, 1024.0).unwrap();
    let expected: Vec<i128> = x.iter().map(|x| -768 * x).collect();
    assert!(largest(&errors(&context, &cipher, &scaled, &expected)) <= 21.0 * 768.0);
    assert_eq!(scaled.scale, 2f64.powi(40));

    // Dropping a prime changes no integer.
    let dropped = evaluator.drop_to_level(&fresh, 0).unwrap();
    assert_eq!(errors(&context, &cipher, &dropped, &x), errors(&context, &cipher, &fresh, &x));
}

#[test]
fn plain_products_and_rescaling_add_what_is_derived() {
    let context = context();
    let cipher = Cipher::new(&context, &SecretKey::generate(context.params()).unwrap()).unwrap();
    let evaluator = Evaluator::new(&context);
    let one = encode_coefficients(&context, &values(1, N, 100.0), N, 30, 1).unwrap();
    let factor = encode_coefficients(&context, &values(3, N, 1.0), N, 20, 1).unwrap();
    let (x, w) = (integers(&context, &one), integers(&context, &factor));
    let product: Vec<i128> = (0..N)
        .map(|k| (0..N).map(|i| if i <= k { x[i] * w[k - i] } else { -x[i] * w[N + k - i] }).sum())
        .collect();
    let norm = w.iter().map(|&w| (w * w) as f64).sum::<f64>().sqrt();
    let multiplied = evaluator.multiply_plain(&cipher.encrypt(&one).unwrap(), &factor).unwrap();
    let noise = errors(&context, &cipher, &multiplied, &product);
    assert!(largest(&noise) <= 8.0 * VARIANCE.sqrt() * norm);
    assert!((rms(&noise) / (VARIANCE.sqrt() * norm) - 1.0).abs() < 0.2);

    // Rounding errors of c0 and c1, uniform in [-1/2, 1/2], the second times s; and the noise divided.
    let q1 = PRIMES[1] as i128;
    let rounded: Vec<i128> = product.iter().map(|&x| (2 * x + q1).div_euclid(2 * q1)).collect();
    let rescaled = evaluator.rescale(&multiplied).unwrap();
    assert_eq!(rescaled.level(), 0);
    assert_eq!(rescaled.scale, 2f64.powi(50) / PRIMES[1] as f64);
    let rounding = ((1.0 + 2.0 / 3.0 * N as f64) / 12.0).sqrt();
    let bound = 8.0 * (rounding + VARIANCE.sqrt() * norm / PRIMES[1] as f64) + 0.5;
    let noise = errors(&context, &cipher, &rescaled, &rounded);
    assert!(largest(&noise) <= bound, "{} {bound}", largest(&noise));
    assert!((rms(&noise) / rounding - 1.0).abs() < 0.2, "{} {rounding}", rms(&noise));
}

#[test]
fn operands_that_do_not_fit_are_refused_with_the_numbers() {
    let context = context();
    let cipher = Cipher::new(&context, &SecretKey::generate(context.params()).unwrap()).unwrap();
    let evaluator = Evaluator::new(&context);
    let encode = |rows: usize, bits, level| {
        encode_coefficients(&context, &vec![1.0; rows * 4], 4, bits, level).unwrap()
    };
    let encrypt = |rows, bits, level| cipher.encrypt(&encode(rows, bits, level)).unwrap();
    let (a, low) = (encrypt(1, 20, 1), encrypt(1, 20, 0));
    let message = |result: arras_ckks::Result<Ciphertext<Cpu>>| result.unwrap_err().to_string();
    for (found, expected) in [
        (evaluator.add(&a, &low), "add: levels 1 and 0 differ"),
        (evaluator.sub(&a, &encrypt(1, 21, 1)), "sub: scales 2^20.000 and 2^21.000 differ"),
        (evaluator.add(&a, &encrypt(2, 20, 1)), "add: batch is 1, expected 2"),
        (evaluator.add_plain(&a, &encode(1, 20, 0)), "add_plain: levels 1 and 0 differ"),
        (evaluator.multiply_plain(&a, &encode(3, 20, 1)), "multiply_plain: batch is 1, expected 3"),
        (evaluator.multiply_plain(&low, &encode(1, 30, 0)), "multiply_plain: a scale of 2^50.0 does not fit"),
        (evaluator.multiply_scalar(&a, f64::NAN, 2.0), "multiply_scalar: value 0 is NaN"),
        (evaluator.multiply_scalar(&a, 1.0, -2.0), "multiply_scalar: a scale of -2e0 is not at least 1"),
        (evaluator.multiply_scalar(&a, 1.0, 0.0), "multiply_scalar: a scale of 0e0 is not at least 1"),
        (evaluator.rescale(&low), "rescale: needs level 1, the ciphertext is at level 0"),
        (evaluator.rescale(&a), "rescale: a scale of 1.6"),
        (evaluator.drop_to_level(&low, 1), "drop_to_level: needs level 1, the ciphertext is at level 0"),
        (evaluator.drop_to_level(&encrypt(1, 60, 1), 0), "drop_to_level: a scale of 2^60.0 does not fit"),
    ] {
        let found = message(found);
        assert!(found.starts_with(expected), "{found:?}, expected {expected:?}");
    }
    // A ciphertext of a smaller ring, and one with a limb that the key lacks.
    let small = Context::new(Cpu::sequential(), small_params().unwrap()).unwrap();
    let spec = Spec { moduli: vec![97], ..small.params().spec().clone() };
    let lower = Context::new(Cpu::sequential(), Params::insecure(spec).unwrap()).unwrap();
    let foreign = |context: &Context<Cpu>| Ciphertext::<Cpu> {
        components: (0..2).map(|_| context.allocate(context.params().limbs(), 1).unwrap()).collect(),
        scale: 16.0,
        seed: None,
    };
    assert!(matches!(cipher.decrypt(&foreign(&small)), Err(Error::Ckks(_))));
    let key = Cipher::new(&lower, &SecretKey::generate(lower.params()).unwrap()).unwrap();
    let error = key.decrypt(&foreign(&small)).unwrap_err().to_string();
    assert!(error.contains("limbs {1} are not there"), "{error}");
}
