//! A crate that uses arras as a CKKS and NTT backend, and nothing else of it.

use arras::ckks::encoder::{decode_coefficients, encode_coefficients};
use arras::ckks::{Context, Params, Security, Spec};
use arras::cpu::Cpu;
use arras::rns::prime::ntt_primes;
use arras::rns::{Backend, Coefficient, Evaluation, Input, Poly, Ring};

const DEGREE: usize = 2048;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let moduli = ntt_primes(50, DEGREE, 1, &[])?;

    // Ring and transform: there and back.
    let ring = Ring::new(DEGREE, &moduli)?;
    let cpu = Cpu::sequential();
    let queue = cpu.queue()?;
    let tables = cpu.tables(&queue, &ring)?;
    let words: Vec<u64> = (0..DEGREE as u64).collect();
    let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 1)?;
    cpu.upload(&queue, &mut poly.view_mut(), &words)?;
    let mut values: Poly<Cpu, Evaluation> = poly.retag();
    cpu.ntt(&queue, &tables, &mut values.view_mut(), Input::InPlace)?;
    let mut poly: Poly<Cpu, Coefficient> = values.retag();
    cpu.intt(&queue, &tables, &mut poly.view_mut(), Input::InPlace)?;
    let mut back = vec![0; DEGREE];
    cpu.download(&queue, &poly.view(), &mut back)?;
    assert_eq!(back, words);

    // Parameters and encoding.
    let spec = Spec {
        degree: DEGREE,
        moduli,
        special: Vec::new(),
        digits: 1,
        scale_bits: 20,
        security: Security::Classical128,
    };
    let context = Context::new(cpu, Params::new(spec)?)?;
    let plaintext = encode_coefficients(&context, &[1.5, -2.25], 2, 20, 0)?;
    assert_eq!(decode_coefficients(&context, &plaintext, 2)?, [1.5, -2.25]);
    Ok(())
}
