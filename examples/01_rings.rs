//! 1. Rings, primes, and products by number-theoretic transform.
//!
//! Everything in arras happens in Z_q[X]/(X^N + 1): polynomials of degree below N, a power of two, whose coefficients are
//! integers modulo a prime q. Multiplying two of them by the school method takes N^2 products. If q is 1 modulo 2N there is
//! a number-theoretic transform (NTT), which turns the product of polynomials into N products of values.
//!
//! Work is done by a `Backend`; here it is the CPU. A backend takes batches of polynomials, as *views*, and never allocates
//! what it returns: the caller owns inputs and outputs. The type of a polynomial says where it is: `Coefficient` or
//! `Evaluation`. Mixing them up does not compile.
//!
//! Run it with `cargo run --no-default-features --example 01_rings`.

use arras::cpu::Cpu;
use arras::rns::prime::ntt_primes;
use arras::rns::{Backend, Coefficient, Evaluation, Input, Modulus, Poly, Result, Ring};

const DEGREE: usize = 2048;

fn main() -> Result<()> {
    // The largest 50-bit prime that is 1 modulo 2N. A ring may have many such primes, its limbs; one is enough here.
    let primes = ntt_primes(50, DEGREE, 1, &[])?;
    let ring = Ring::new(DEGREE, &primes)?;
    let q = ring.modulus(0);
    println!("N = {DEGREE}, q = {} ({} bits)", q.value(), q.bits());

    // A backend, a queue that its work goes to, and tables of roots of unity for the ring.
    let cpu = Cpu::sequential();
    let queue = cpu.queue()?;
    let tables = cpu.tables(&queue, &ring)?;

    // Two polynomials: 1 + 2X + 3X^2 + .., and 1 - X^(N-1), so that the product has to wrap around.
    let a: Vec<u64> = (1..=DEGREE as u64).collect();
    let mut b = vec![0; DEGREE];
    (b[0], b[DEGREE - 1]) = (1, q.value() - 1);

    let a_values = transformed(&cpu, &queue, &tables, &ring, &a)?;
    let b_values = transformed(&cpu, &queue, &tables, &ring, &b)?;
    let mut product: Poly<Cpu, Evaluation> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 1)?;
    cpu.multiply(&queue, &tables, &mut product.view_mut(), a_values.view().into(), &b_values.view())?;

    // Back to coefficients, in place: the memory stays, its type changes.
    let mut product: Poly<Cpu, Coefficient> = product.retag();
    cpu.intt(&queue, &tables, &mut product.view_mut(), Input::InPlace)?;
    let mut words = vec![0; DEGREE];
    cpu.download(&queue, &product.view(), &mut words)?;

    assert_eq!(words, schoolbook(&a, &b, q));
    println!("the product begins {:?} and equals the schoolbook's", &words[..4]);
    Ok(())
}

/// Uploads coefficients and transforms them.
fn transformed(
    cpu: &Cpu,
    queue: &<Cpu as Backend>::Queue,
    tables: &<Cpu as Backend>::Tables,
    ring: &Ring,
    words: &[u64],
) -> Result<Poly<Cpu, Evaluation>> {
    let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(cpu, queue, ring, ring.limbs(), 1)?;
    cpu.upload(queue, &mut poly.view_mut(), words)?;
    let mut poly = poly.retag();
    cpu.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}

/// The product by definition: X^N is -1, so what passes the top comes back with its sign changed.
fn schoolbook(a: &[u64], b: &[u64], q: Modulus) -> Vec<u64> {
    let mut product = vec![0; a.len()];
    for (i, &x) in a.iter().enumerate() {
        for (j, &y) in b.iter().enumerate() {
            let (place, term) = ((i + j) % a.len(), q.mul(x, y));
            product[place] =
                if i + j < a.len() { q.add(product[place], term) } else { q.sub(product[place], term) };
        }
    }
    product
}
