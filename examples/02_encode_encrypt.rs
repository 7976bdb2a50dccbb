//! 2. Numbers to ciphertexts and back.
//!
//! CKKS computes on vectors of N/2 complex numbers, the *slots*. To encode is to multiply by a *scale*, here 2^40, and to
//! round to a polynomial with integer coefficients; the rest of the modulus above the scale is room for products. A product
//! has the square of the scale. To rescale is to divide by one of the primes of the modulus, which brings the scale back
//! and uses up one *level*.
//!
//! The parameters fix all of that, and with it the security: `Params::new` refuses a modulus that is too large for its
//! degree. Scales and levels travel with every ciphertext, and operations whose operands do not fit are errors.
//!
//! Run it with `cargo run --example 02_encode_encrypt`.

use arras::ckks::encoder::SlotEncoder;
use arras::ckks::evaluator::Evaluator;
use arras::ckks::fft::Complex;
use arras::ckks::{Context, Params, Security, Spec};
use arras::cpu::Cpu;
use arras::rns::prime::ntt_primes;
use arras::secret::{Cipher, Result, SecretKey};

const DEGREE: usize = 8192;

fn main() -> Result<()> {
    // One prime of 50 bits to decrypt from, and two of 40 bits, the size of the scale, to be divided away: two levels.
    let first = ntt_primes(50, DEGREE, 1, &[])?;
    let rest = ntt_primes(40, DEGREE, 2, &[])?;
    let spec = Spec {
        degree: DEGREE,
        moduli: [first, rest].concat(),
        special: Vec::new(),
        digits: 1,
        scale_bits: 40,
        security: Security::Classical128,
    };
    let params = Params::new(spec.clone())?;
    println!("N = {DEGREE}, log2 Q = {:.1}, {} levels", params.log_modulus(2), params.max_level());

    // The same modulus at half the degree would be insecure, and is no parameter set.
    let refusal = Params::new(Spec { degree: DEGREE / 2, ..spec }).map(|_| "accepted".to_owned());
    let refusal = refusal.unwrap_or_else(|error| error.to_string());
    assert!(refusal.contains("exceeds 106"), "{refusal}");
    println!("half the degree: {refusal}");

    let context = Context::new(Cpu::sequential(), params)?;
    let (scale, level) = (context.params().scale(), context.params().max_level());
    let encoder = SlotEncoder::new(DEGREE, 5)?;
    let slots = encoder.slots();
    let x: Vec<Complex> = (0..slots).map(|i| Complex::new((i as f64 * 0.01).sin(), 0.5)).collect();
    let y: Vec<Complex> = (0..slots).map(|i| Complex::new(0.25, (i as f64 * 0.02).cos())).collect();

    // The owner of the key encrypts. The key never leaves this side, and is wiped when it is dropped.
    let key = SecretKey::generate(context.params())?;
    let cipher = Cipher::new(&context, &key)?;
    let encrypted = cipher.encrypt(&encoder.encode(&context, &x, slots, scale, level)?)?;

    // Somebody else computes (x + x) * y + 1 without the key.
    let evaluator = Evaluator::new(&context);
    let factor = encoder.encode(&context, &y, slots, scale, level)?;
    let sum = evaluator.add(&encrypted, &encrypted)?;
    let product = evaluator.multiply_plain(&sum, &factor)?;
    let product = evaluator.rescale(&product)?;
    println!("after the product: level {}, scale 2^{:.3}", product.level(), product.scale.log2());
    assert_eq!(product.level(), level - 1);

    // Sums need equal scales and levels; what does not fit is refused. The scale is now 2^80 over a prime that is close to
    // 2^40 but not equal to it, so whatever is added to the product has to be encoded at just that scale and level.
    assert!(evaluator.add(&product, &encrypted).is_err());
    let one = vec![Complex::new(1.0, 0.0); slots];
    let one = encoder.encode(&context, &one, slots, product.scale, product.level())?;
    let result = evaluator.add_plain(&product, &one)?;

    // The owner decrypts. Every slot is right to about 2^-26.
    let decrypted = encoder.decode(&context, &cipher.decrypt(&result)?)?;
    let exact = x.iter().zip(&y).map(|(&x, &y)| (x + x) * y + Complex::new(1.0, 0.0));
    let errors =
        decrypted.iter().zip(exact).map(|(&found, exact)| (found - exact).re.hypot((found - exact).im));
    let worst = errors.fold(0.0, f64::max);
    println!("largest error of {slots} slots: {worst:.1e}");
    assert!(worst < 1e-6);
    Ok(())
}
