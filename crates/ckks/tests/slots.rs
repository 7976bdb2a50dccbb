//! The encoders against their definitions.
#![allow(clippy::unwrap_used)]

use std::f64::consts::PI;

use arras_ckks::encoder::{SlotEncoder, decode_coefficients, encode_coefficients};
use arras_ckks::fft::Complex;
use arras_ckks::{Context, Params, Plaintext, Spec, small_params};
use arras_cpu::Cpu;
use arras_rns::Backend;
use arras_rns::prime::ntt_primes;
use arras_wire::corpus::SplitMix64;

const N: usize = 64;

fn context(primes: usize) -> Context<Cpu> {
    let moduli = ntt_primes(50, N, primes, &[]).unwrap();
    let spec = Spec { degree: N, moduli, ..small_params().unwrap().spec().clone() };
    Context::new(Cpu::sequential(), Params::insecure(spec).unwrap()).unwrap()
}

fn slots(seed: u64) -> Vec<Complex> {
    let mut rng = SplitMix64::new(seed);
    let mut next = || (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    (0..N / 2).map(|_| Complex::new(next(), next())).collect()
}

fn distance(a: &[Complex], b: &[Complex]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| (a - b).re.hypot((a - b).im)).fold(0.0, f64::max)
}

/// The values of a real polynomial at zeta^(generator^j), term by term.
fn embedding(coefficients: &[f64], generator: usize) -> Vec<Complex> {
    let powers = std::iter::successors(Some(1), |g| Some(g * generator % (2 * N)));
    let value = |exponent: usize| {
        coefficients.iter().enumerate().fold(Complex::default(), |sum, (k, &m)| {
            let angle = PI * (exponent * k % (2 * N)) as f64 / N as f64;
            sum + Complex::new(angle.cos(), angle.sin()).scale(m)
        })
    };
    powers.take(N / 2).map(value).collect()
}

#[test]
fn slots_are_values_at_powers_of_the_generator() {
    let context = context(2);
    for generator in [5, 3, 13, 2 * N + 5] {
        let encoder = SlotEncoder::new(N, generator).unwrap();
        let z = slots(1);
        let plain = encoder.encode(&context, &z, N / 2, 2f64.powi(45), 1).unwrap();
        let coefficients = decode_coefficients(&context, &plain, N).unwrap();
        // Rounding a coefficient moves a slot by at most N / 2 units of the scale.
        assert!(distance(&embedding(&coefficients, generator), &z) < 1e-11);
        assert!(distance(&encoder.decode(&context, &plain).unwrap(), &z) < 1e-11);
    }
    for generator in [0, 1, 2, 7, 9, 15] {
        let error = SlotEncoder::new(N, generator).unwrap_err().to_string();
        assert!(error.contains("expected 3 or 5 modulo 8"), "{error}");
    }
    assert!([0, 4, 24, 1 << 18].into_iter().all(|degree| SlotEncoder::new(degree, 5).is_err()));
}

#[test]
fn the_automorphism_of_the_generator_rotates_and_minus_one_conjugates() {
    let context = context(1);
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    for generator in [5, 3] {
        let encoder = SlotEncoder::new(N, generator).unwrap();
        let z = slots(2);
        let plain = encoder.encode(&context, &z, N / 2, 2f64.powi(40), 0).unwrap();
        let image = |element| {
            let mut poly = context.allocate(plain.poly.limbs(), 1).unwrap();
            backend.automorphism(queue, tables, &mut poly.view_mut(), &plain.poly.view(), element).unwrap();
            encoder.decode(&context, &Plaintext { poly, scale: plain.scale }).unwrap()
        };
        let mut rotated = z.clone();
        rotated.rotate_left(1);
        assert!(distance(&image(generator), &rotated) < 1e-9);
        rotated.rotate_left(1);
        assert!(distance(&image(generator * generator), &rotated) < 1e-9);
        let conjugated: Vec<_> = z.iter().map(|z| z.conjugate()).collect();
        assert!(distance(&image(2 * N - 1), &conjugated) < 1e-9);
    }
}

/// Slots come back within the bounds of `docs/arithmetic.md`, at sizes below and above what vectors take at a time, for
/// several polynomials at once, and where rows are shorter than the slots.
#[test]
fn slots_come_back_within_the_stated_error() {
    for log_degree in [3, 4, 6, 7, 8, 11, 13, 14] {
        let degree = 1 << log_degree;
        let moduli = ntt_primes(50, degree, 3, &[]).unwrap();
        let spec = Spec { degree, moduli, ..small_params().unwrap().spec().clone() };
        let context = Context::new(Cpu::sequential(), Params::insecure(spec).unwrap()).unwrap();
        for (generator, row, scale, size) in [
            (5, degree / 2, 2f64.powi(40), 1.0),
            (3, degree / 2, 2f64.powi(30) * 1.1, 1e6),
            (5, degree / 4, 2f64.powi(52), 1e-3),
        ] {
            let encoder = SlotEncoder::new(degree, generator).unwrap();
            let mut rng = SplitMix64::new(degree as u64);
            let mut next = || ((rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0) * size;
            // The second row is much smaller than the first.
            let values: Vec<_> = (0..2 * row)
                .map(|i| Complex::new(next(), next()).scale(if i < row { 1.0 } else { 1e-4 }))
                .collect();
            let plain = encoder.encode(&context, &values, row, scale, 2).unwrap();
            let found = encoder.decode(&context, &plain).unwrap();
            for (found, values) in found.chunks_exact(degree / 2).zip(values.chunks_exact(row)) {
                let mut expected = values.to_vec();
                expected.resize(degree / 2, Complex::default());
                let norm = expected.iter().map(|z| z.re * z.re + z.im * z.im).sum::<f64>().sqrt();
                let rounded = (degree as f64 / 12.0).sqrt() / scale;
                // Rounding errors of many coefficients are nearly normal: seven deviations. One more ulp is the scale's.
                let bound = 7.0 * rounded + (12.0 * f64::from(log_degree - 1) + 4.0) * 2f64.powi(-53) * norm;
                let error = distance(found, &expected);
                assert!(error <= bound, "N = 2^{log_degree}, {generator}: {error:e} > {bound:e}");
            }
        }
    }
}

#[test]
fn products_of_polynomials_are_products_of_slots() {
    let context = context(2);
    for generator in [5, 3] {
        let encoder = SlotEncoder::new(N, generator).unwrap();
        let (x, y) = (slots(3), slots(4));
        let encode = |z| encoder.encode(&context, z, N / 2, 2f64.powi(40), 1).unwrap();
        let (mut a, b) = (encode(&x), encode(&y));
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let input = arras_rns::Input::InPlace;
        backend.multiply(queue, tables, &mut a.poly.view_mut(), input, &b.poly.view()).unwrap();
        a.scale *= b.scale;
        let expected: Vec<_> = x.iter().zip(&y).map(|(&x, &y)| x * y).collect();
        assert!(distance(&encoder.decode(&context, &a).unwrap(), &expected) < 1e-9);
    }
}

/// Integers within 2^53 come back as they went in, at every level and with every sign.
#[test]
fn coefficients_are_exact() {
    let context = context(4);
    for level in 0..4 {
        for scale_bits in [0, 1, 20, 48] {
            let largest = 2f64.powi(if level == 0 { 48 } else { 53 } - scale_bits as i32);
            let mut values = vec![0.0, -0.0, largest, -largest, 2f64.powi(-(scale_bits as i32))];
            values.extend((1..40).map(|i| f64::from(i * 977 - 20_000) * largest / 65_536.0));
            let scale = 2f64.powi(scale_bits as i32);
            let rounded = values.iter().map(|x| (x * scale).round_ties_even() / scale).collect::<Vec<_>>();
            let plain = encode_coefficients(&context, &values, values.len(), scale_bits, level).unwrap();
            assert_eq!(
                decode_coefficients(&context, &plain, values.len()).unwrap(),
                rounded,
                "{level} {scale_bits}"
            );
        }
    }
    // Halves go to the even neighbour.
    let plain = encode_coefficients(&context, &[0.5, 1.5, 2.5, -0.5, -1.5, -2.5], 6, 0, 3).unwrap();
    assert_eq!(decode_coefficients(&context, &plain, 6).unwrap(), [0.0, 2.0, 2.0, 0.0, -2.0, -2.0]);
}

/// The largest value that fits is accepted and keeps its sign; the next is refused, not wrapped.
#[test]
fn values_beyond_the_modulus_are_refused() {
    let context = context(2);
    let half = context.params().ring().modulus(0).value() as f64 / 2.0;
    let inside = (half * (1.0 - 1e-8)).floor();
    let plain = encode_coefficients(&context, &[inside, -inside], 2, 0, 0).unwrap();
    assert_eq!(decode_coefficients(&context, &plain, 2).unwrap(), [inside, -inside]);
    assert!(encode_coefficients(&context, &[half], 1, 0, 1).is_ok());
    let message = |values: &[f64], row, scale_bits, level| {
        encode_coefficients(&context, values, row, scale_bits, level).unwrap_err().to_string()
    };
    for (found, expected) in [
        (message(&[0.0, half], 2, 0, 0), "encode: value 1 is 5629"),
        (message(&[f64::NAN], 1, 0, 0), "encode: value 0 is NaN"),
        (message(&[2f64.powi(43)], 1, 20, 1), "encode: value 0 is 8796093022208, beyond"),
        (message(&[0.0], 1, 0, 2), "encode: needs level 2, the ciphertext is at level 1"),
        (message(&[0.0], 1, 50, 0), "encode: a scale of 2^50.0 does not fit a modulus of 50.0 bits"),
        (message(&[0.0], 1, u32::MAX, 1), "encode: a scale of 2^inf does not fit"),
        (message(&[0.0; 3], 2, 0, 0), "encode: values per row is 2, expected a divisor of 3 up to 64"),
        (message(&[], 1, 0, 0), "encode: values per row is 1, expected a divisor of 0"),
        (message(&[0.0; 65], 65, 0, 0), "encode: values per row is 65, expected a divisor of 65 up to 64"),
    ] {
        assert!(found.starts_with(expected), "{found:?}, expected {expected:?}");
    }
    let encoder = SlotEncoder::new(N, 5).unwrap();
    let one = [Complex::new(1.0, 0.0)];
    for (scale, level, expected) in [
        (f64::NAN, 0, "encode: a scale of NaN is not at least 1"),
        (0.0, 0, "encode: a scale of 0e0"),
        (2f64.powi(50), 0, "encode: a scale of 2^50.0 does not fit"),
        (2f64.powi(20), 9, "encode: needs level 9"),
    ] {
        let error = encoder.encode(&context, &one, 1, scale, level).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let other = SlotEncoder::new(32, 5).unwrap().encode(&context, &one, 1, 16.0, 0).unwrap_err();
    assert_eq!(other.to_string(), "encode: slots of the encoder is 16, expected 32");
}
