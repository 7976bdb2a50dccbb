//! 4. Keys that let a server multiply and rotate, and a matrix times an encrypted vector.
//!
//! A product of two ciphertexts has three components, and a rotation of the slots leaves a ciphertext under another key.
//! Both are brought back by *key switching*, for which the owner of the secret makes evaluation keys: one for products, one
//! for every rotation that will be used. Whoever computes states what is needed before any key is made.
//!
//! Keys are large and switching is the costliest operation of all, so three things are worth knowing: rotations of the
//! same ciphertext share the greater part of their work (`rotate_hoisted`), a matrix with d diagonals takes about
//! 2 sqrt(d) keys (`LinearTransform`), and a key for a lower level is smaller.
//!
//! Run it with `cargo run --example 04_rotations`.

use std::collections::BTreeMap;
use std::error::Error;

use arras::ckks::encoder::SlotEncoder;
use arras::ckks::evaluator::{Evaluator, LinearTransform, inner_sum_rotations};
use arras::ckks::fft::Complex;
use arras::ckks::{Ciphertext, Context, EvaluationKeys, Params, Security, Slots, Spec, Workspace};
use arras::cpu::Cpu;
use arras::rns::prime::ntt_primes;
use arras::rns::{Backend, Evaluation, Poly};
use arras::secret::{Cipher, SecretKey};

const DEGREE: usize = 8192;
/// The matrix is a band: this many diagonals, from -4 to 4.
const REACH: i64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    // Two levels, and one special prime: every digit that is switched has one prime, and the special one is no smaller.
    let large = ntt_primes(50, DEGREE, 2, &[])?;
    let rest = ntt_primes(40, DEGREE, 2, &[])?;
    let spec = Spec {
        degree: DEGREE,
        moduli: vec![large[1], rest[0], rest[1]],
        special: vec![large[0]],
        digits: 3,
        scale_bits: 40,
        security: Security::Classical128,
    };
    let context = Context::new(Cpu::sequential(), Params::new(spec)?)?;
    let (scale, level) = (context.params().scale(), context.params().max_level());
    let encoder = SlotEncoder::new(DEGREE, Slots::GENERATOR)?;
    let evaluator = Evaluator::new(&context);
    let slots = encoder.slots();

    // The server's matrix, as diagonals: diagonal d holds the entries M[j][j + d]. It says which rotations it needs.
    let diagonal = |d: i64| (0..slots).map(|j| Complex::new(weight(j, d), 0.0)).collect();
    let diagonals: BTreeMap<i64, Vec<Complex>> = (-REACH..=REACH).map(|d| (d, diagonal(d))).collect();
    let prime = context.params().ring().modulus(level).value() as f64;
    let matrix = LinearTransform::new(&context, &encoder, &diagonals, prime, level, None)?;
    println!("{} diagonals, rotations by {:?}", diagonals.len(), matrix.plan().rotations());
    assert!(matrix.plan().rotations().len() < diagonals.len());

    // The client: a secret, and exactly the keys that were asked for.
    let mut rotations = matrix.plan().rotations();
    rotations.extend(inner_sum_rotations(8, 1));
    let elements =
        rotations.iter().map(|&steps| evaluator.slots().element(steps)).collect::<Result<Vec<_>, _>>()?;
    let secret = SecretKey::generate(context.params())?;
    let cipher = Cipher::new(&context, &secret)?;
    let galois = cipher.galois_keys(&elements, level)?;
    let mut keys = EvaluationKeys::from_keys(&context, &galois)?;
    keys.insert(&context, &cipher.relinearisation_key(level)?)?;
    let x: Vec<Complex> = (0..slots).map(|j| Complex::new((j as f64 * 0.37).sin(), 0.0)).collect();
    let encrypted = cipher.encrypt(&encoder.encode(&context, &x, slots, scale, level)?)?;

    // The server: y = M x, its square, and sums of 8 neighbours. A workspace holds what key switching needs on the way.
    let mut workspace = Workspace::new(&context, 0..=level, 1)?;
    let y = evaluator.rescale(&evaluator.transform(&encrypted, &matrix, &keys, &mut workspace)?)?;
    let square = evaluator.relinearise(&evaluator.square(&y)?, &keys, &mut workspace)?;
    let square = evaluator.rescale(&square)?;
    let sums = evaluator.inner_sum(&y, 8, 1, &keys, &mut workspace)?;

    // A rotation that nobody asked a key for is refused by name; hoisted rotations are those of the plain operation.
    let refusal = match evaluator.rotate(&encrypted, 77, &keys, &mut workspace) {
        Ok(_) => return Err("a rotation without its key".into()),
        Err(error) => error.to_string(),
    };
    println!("rotation by 77: {refusal}");
    assert!(refusal.contains("77"), "{refusal}");
    let hoisted = evaluator.rotate_hoisted(&encrypted, &rotations[..2], &keys, &mut workspace)?;
    let plain = evaluator.rotate(&encrypted, rotations[1], &keys, &mut workspace)?;
    assert_eq!(words(&context, &hoisted[1])?, words(&context, &plain)?);

    // The client again.
    let image = |j: usize| -> f64 {
        let at = |d: i64| (j as i64 + d).rem_euclid(slots as i64) as usize;
        (-REACH..=REACH).map(|d| weight(j, d) * x[at(d)].re).sum()
    };
    let image: Vec<f64> = (0..slots).map(image).collect();
    let read = |ciphertext| -> Result<Vec<Complex>, Box<dyn Error>> {
        Ok(encoder.decode(&context, &cipher.decrypt(ciphertext)?)?)
    };
    check("M x", &read(&y)?, |j| image[j]);
    check("(M x)^2", &read(&square)?, |j| image[j] * image[j]);
    check("sums of 8", &read(&sums)?, |j| (j..j + 8).map(|k| image[k % slots]).sum());
    Ok(())
}

/// The residues of both components.
fn words(context: &Context<Cpu>, ciphertext: &Ciphertext<Cpu>) -> Result<Vec<Vec<u64>>, Box<dyn Error>> {
    let read = |component: &Poly<Cpu, Evaluation>| {
        let mut words = vec![0; component.extent().words()];
        context.backend().download(context.queue(), &component.view(), &mut words)?;
        Ok(words)
    };
    ciphertext.components.iter().map(read).collect()
}

/// Entry `[j][j + d]` of the matrix.
fn weight(j: usize, d: i64) -> f64 {
    (j as f64 * 0.01).cos() / (1 + d.abs()) as f64
}

fn check(what: &str, found: &[Complex], expected: impl Fn(usize) -> f64) {
    let errors = found.iter().enumerate().map(|(j, x)| (x.re - expected(j)).hypot(x.im));
    let worst = errors.fold(0.0, f64::max);
    println!("{what}: largest error of {} slots {worst:.1e}", found.len());
    assert!(worst < 1e-5, "{what}");
}
