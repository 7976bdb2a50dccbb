//! Times the client's and the evaluator's operations on one thread beside the forward NTT, in interleaved rounds, and
//! prints medians:
//! `cargo run --release -p arras-secret --example speed`.

use std::hint::black_box;
use std::time::Instant;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::Evaluator;
use arras_ckks::fft::Complex;
use arras_ckks::{Context, EvaluationKeys, Params, Security, Spec, Workspace};
use arras_cpu::Cpu;
use arras_rns::prime::ntt_primes;
use arras_rns::{Backend, Coefficient, Input, LimbSet, Poly};
use arras_secret::{Cipher, SecretKey};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 200;
const HOISTED: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn params(degree: usize, bits: &[u32], special: &[u32], digits: usize) -> Outcome<Params> {
    let mut taken = Vec::new();
    for &bits in special.iter().chain(bits) {
        taken.extend(ntt_primes(bits, degree, 1, &taken)?);
    }
    let moduli = taken.split_off(special.len());
    let security = Security::Classical128;
    Ok(Params::new(Spec { degree, moduli, special: taken, digits, scale_bits: 40, security })?)
}

fn main() -> Outcome {
    measure(params(8192, &[50, 46, 46], &[50], 3)?, ROUNDS)?;
    measure(params(16_384, &[43; 7], &[43; 3], 3)?, ROUNDS / 2)?;
    measure(params(32_768, &[43; 15], &[43; 5], 3)?, ROUNDS / 8)
}

/// Every case once per round; the medians in microseconds and in transforms modulo the first prime.
fn measure(params: Params, rounds: usize) -> Outcome {
    let context = Context::new(Cpu::sequential(), params.clone())?;
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let cipher = Cipher::new(&context, &SecretKey::generate(&params)?)?;
    let (encoder, evaluator) = (SlotEncoder::new(params.degree(), 5)?, Evaluator::new(&context));
    let top = params.max_level();
    let mut sent = cipher.galois_keys(&evaluator.slots().elements(HOISTED)?, top)?;
    sent.push(cipher.relinearisation_key(top)?);
    let keys = EvaluationKeys::from_keys(&context, &sent)?;
    let values: Vec<_> = (0..encoder.slots()).map(|i| Complex::new((i as f64).sin(), 0.0)).collect();
    let scale = params.ring().modulus(top).value() as f64;
    let plain = encoder.encode(&context, &values, encoder.slots(), scale, top)?;
    let a = cipher.encrypt(&plain)?;
    let public = cipher.public_key()?;
    let decrypted = cipher.decrypt(&a)?;
    let product = evaluator.square(&a)?;
    let mut workspace = Workspace::new(&context, 0..=top, 1)?;
    let mut row: Poly<Cpu, Coefficient> = context.allocate(params.limbs(), 1)?;
    backend.intt(queue, tables, &mut row.view_mut(), plain.poly.view().into())?;
    let mut ntt = |limb| -> Outcome {
        let mut view = row.view_mut().with_limbs(LimbSet::single(limb))?.retag();
        Ok(backend.ntt(queue, tables, &mut view, Input::InPlace)?)
    };
    let bits = |limb| params.ring().modulus(limb).bits();
    let names = [
        format!("ntt, {} bits", bits(0)),
        format!("ntt, {} bits", bits(top)),
        "encode slots".into(),
        "decode slots".into(),
        "encrypt, secret key".into(),
        "encrypt, public key".into(),
        "decrypt".into(),
        "multiply".into(),
        "relinearise".into(),
        "rescale of two components".into(),
        "rotate".into(),
        format!("each of {} hoisted", HOISTED.len()),
    ];
    let mut samples = vec![Vec::with_capacity(rounds); names.len()];
    for _ in 0..rounds {
        for (case, samples) in samples.iter_mut().enumerate() {
            let start = Instant::now();
            match case {
                0 => ntt(0)?,
                1 => ntt(top)?,
                2 => drop(black_box(encoder.encode(&context, &values, encoder.slots(), scale, top)?)),
                3 => drop(black_box(encoder.decode(&context, &decrypted)?)),
                4 => drop(black_box(cipher.encrypt(&plain)?)),
                5 => drop(black_box(public.encrypt(&context, &plain)?)),
                6 => drop(black_box(cipher.decrypt(&a)?)),
                7 => drop(black_box(evaluator.multiply(&a, &a)?)),
                8 => drop(black_box(evaluator.relinearise(&product, &keys, &mut workspace)?)),
                9 => drop(black_box(evaluator.rescale_with(&a, &mut workspace)?)),
                10 => drop(black_box(evaluator.rotate(&a, 1, &keys, &mut workspace)?)),
                _ => drop(black_box(evaluator.rotate_hoisted(&a, &HOISTED, &keys, &mut workspace)?)),
            }
            samples.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    println!(
        "N = {}, {} + {} primes, {}",
        params.degree(),
        top + 1,
        params.special_limbs().len(),
        backend.name()
    );
    let mut unit = 0.0;
    for (case, (name, samples)) in names.iter().zip(&mut samples).enumerate() {
        samples.sort_by(f64::total_cmp);
        let share = if case + 1 == names.len() { HOISTED.len() as f64 } else { 1.0 };
        let median = samples[samples.len() / 2] / share;
        if case == 0 {
            unit = median;
        }
        println!("  {name:<28} {median:>9.1} us {:>7.1} ntt", median / unit);
    }
    Ok(())
}
