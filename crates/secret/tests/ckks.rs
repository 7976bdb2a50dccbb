//! Encryption and decryption, in slots and coefficients.
#![allow(clippy::unwrap_used)]

use arras_ckks::encoder::{SlotEncoder, decode_coefficients, encode_coefficients};
use arras_ckks::evaluator::Evaluator;
use arras_ckks::fft::Complex;
use arras_ckks::{Context, Params, Security, Spec};
use arras_cpu::Cpu;
use arras_rns::prime::ntt_primes;
use arras_secret::{Cipher, SecretKey};

fn params() -> Params {
    let special = ntt_primes(50, 8192, 1, &[]).unwrap();
    let moduli = [ntt_primes(50, 8192, 1, &special).unwrap(), ntt_primes(46, 8192, 2, &[]).unwrap()].concat();
    let spec =
        Spec { degree: 8192, moduli, special, digits: 3, scale_bits: 40, security: Security::Classical128 };
    Params::new(spec).unwrap()
}

fn slots(count: usize, seed: f64) -> Vec<Complex> {
    (0..count).map(|i| Complex::new((i as f64 * seed).sin(), (i as f64 + seed).cos())).collect()
}

fn worst(found: &[Complex], expected: &[Complex]) -> f64 {
    found.iter().zip(expected).map(|(&a, &b)| (a - b).re.hypot((a - b).im)).fold(0.0, f64::max)
}

#[test]
fn encoding_alone() {
    let context = Context::new(Cpu::sequential(), params()).unwrap();
    let values: Vec<f64> = (0..300).map(|i| f64::from(i) / 7.0 - 20.0).collect();
    let plain = encode_coefficients(&context, &values, 100, 40, 2).unwrap();
    let back = decode_coefficients(&context, &plain, 100).unwrap();
    assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-11));
    for generator in [5, 3] {
        let encoder = SlotEncoder::new(8192, generator).unwrap();
        let z = slots(2 * encoder.slots(), 0.37);
        let plain = encoder.encode(&context, &z, encoder.slots(), (1u64 << 40) as f64, 2).unwrap();
        assert!(worst(&encoder.decode(&context, &plain).unwrap(), &z) < 1e-9);
    }
}

#[test]
fn encryption_products_and_rescaling() {
    let context = Context::new(Cpu::sequential(), params()).unwrap();
    let key = SecretKey::generate(context.params()).unwrap();
    let cipher = Cipher::new(&context, &key).unwrap();
    let public = cipher.public_key().unwrap();
    let encoder = SlotEncoder::new(8192, 5).unwrap();
    let evaluator = Evaluator::new(&context);
    let (x, y) = (slots(2 * encoder.slots(), 0.1), slots(encoder.slots(), 0.7));
    let scale = context.params().scale();
    let plain = encoder.encode(&context, &x, encoder.slots(), scale, 2).unwrap();
    let factor = encoder.encode(&context, &y, encoder.slots(), scale, 2).unwrap();
    for fresh in [cipher.encrypt(&plain).unwrap(), public.encrypt(&context, &plain).unwrap()] {
        let decrypted = encoder.decode(&context, &cipher.decrypt(&fresh).unwrap()).unwrap();
        assert!(worst(&decrypted, &x) < 1e-6);
        let product = evaluator.rescale(&evaluator.multiply_plain(&fresh, &factor).unwrap()).unwrap();
        let decrypted = encoder.decode(&context, &cipher.decrypt(&product).unwrap()).unwrap();
        let expected: Vec<Complex> = x.iter().zip(y.iter().cycle()).map(|(&a, &b)| a * b).collect();
        assert!(worst(&decrypted, &expected) < 1e-6);
    }
}
