//! The transforms of other crates, checked and ready to be timed.

use arras_rns::testkit::oracle;
use arras_rns::{Ring, prime};
use fhe_math::ntt::NttOperator;
use tfhe_ntt::prime64::Plan;

use crate::Failure;
use crate::rows::BITS;
use crate::timing::Timed;

/// The prime of the unit: 50 bits, supports every degree here.
const UNIT_PRIME: u64 = 1_125_899_902_124_033;

/// Residues from the beginning of a cache line on, like those of arras: tfhe-ntt takes 9 % longer where every vector lies across
/// two lines, as in most large vectors of the standard library.
struct Row {
    words: Vec<u64>,
    start: usize,
}

impl Row {
    const LINE: usize = 8;

    fn new(residues: &[u64]) -> Self {
        let mut words = vec![0; residues.len() + Self::LINE];
        let start = words.as_ptr().align_offset(64).min(Self::LINE);
        words[start..][..residues.len()].copy_from_slice(residues);
        Self { words, start }
    }

    fn residues(&mut self) -> &mut [u64] {
        let end = self.start + self.words.len() - Self::LINE;
        &mut self.words[self.start..end]
    }
}

/// The unit of a degree.
pub fn unit(degree: usize) -> Result<Timed<'static>, Failure> {
    let plan = plan(degree, UNIT_PRIME)?;
    if cfg!(target_arch = "x86_64") && !plan.use_ifma() {
        eprintln!("note: tfhe-ntt does not take its AVX-512 path here; units are not those of the targets");
    }
    let row = checked(degree, UNIT_PRIME, |row| plan.fwd(row), |row| plan.inv(row), "tfhe-ntt")?;
    let mut row = Row::new(&row);
    Timed::new(
        move || {
            plan.fwd(row.residues());
            Ok(())
        },
        1,
    )
}

/// Names, and transforms of one row, of every peer for every size of primes.
pub fn transforms(degree: usize) -> Result<Vec<(String, Timed<'static>)>, Failure> {
    let mut all = Vec::new();
    for bits in BITS {
        let q = prime::ntt_primes(bits, degree, 1, &[])?[0];
        let name = |peer: &str, direction: &str| format!("peers/{peer}/{direction}/n={degree}/q={bits}");
        let plan = plan(degree, q)?;
        let row = checked(degree, q, |row| plan.fwd(row), |row| plan.inv(row), "tfhe-ntt")?;
        let (mut a, mut b, inverse) = (Row::new(&row), Row::new(&row), plan.clone());
        all.push((
            name("tfhe-ntt", "forward"),
            Timed::new(
                move || {
                    plan.fwd(a.residues());
                    Ok(())
                },
                1,
            )?,
        ));
        all.push((
            name("tfhe-ntt", "inverse"),
            Timed::new(
                move || {
                    inverse.inv(b.residues());
                    Ok(())
                },
                1,
            )?,
        ));

        let operator = operator(degree, q)?;
        let forward = |row: &mut [u64]| operator.forward(row);
        let row = checked(degree, q, forward, |row| operator.backward(row), "fhe-math")?;
        let (mut a, mut b, inverse) = (Row::new(&row), Row::new(&row), operator.clone());
        all.push((
            name("fhe-math", "forward"),
            Timed::new(
                move || {
                    operator.forward(a.residues());
                    Ok(())
                },
                1,
            )?,
        ));
        all.push((
            name("fhe-math", "inverse"),
            Timed::new(
                move || {
                    inverse.backward(b.residues());
                    Ok(())
                },
                1,
            )?,
        ));
    }
    Ok(all)
}

fn plan(degree: usize, q: u64) -> Result<Plan, Failure> {
    Plan::try_new(degree, q).ok_or_else(|| format!("tfhe-ntt refuses degree {degree}, prime {q}").into())
}

fn operator(degree: usize, q: u64) -> Result<NttOperator, Failure> {
    let modulus = fhe_math::zq::Modulus::new(q).map_err(|error| error.to_string())?;
    NttOperator::new(&modulus, degree)
        .ok_or_else(|| format!("fhe-math refuses degree {degree}, prime {q}").into())
}

/// A row, after the transform was found to do what a negacyclic transform does: whatever its order and its root, it takes
/// the product modulo X^N + 1 to the products of values, and its inverse leads back, up to a factor.
fn checked(
    degree: usize,
    q: u64,
    forward: impl Fn(&mut [u64]),
    inverse: impl Fn(&mut [u64]),
    peer: &str,
) -> Result<Vec<u64>, Failure> {
    let ring = Ring::new(degree, &[q])?;
    let (a, b) = (residues(degree, q, 1), residues(degree, q, 2));
    let root = ring.root(0);
    let values = |row: &[u64]| oracle::ntt(row, root, q);
    let product: Vec<u64> = values(&a).iter().zip(values(&b)).map(|(&x, y)| oracle::mul(x, y, q)).collect();
    let expected = oracle::intt(&product, root, q);

    let (mut x, mut y) = (a.clone(), b);
    forward(&mut x);
    forward(&mut y);
    x.iter_mut().zip(&y).for_each(|(x, &y)| *x = oracle::mul(*x % q, y % q, q));
    inverse(&mut x);
    // tfhe-ntt leaves out the factor 1/N.
    let full = oracle::mul(expected[0], degree as u64, q);
    let factor = if x[0] % q == expected[0] { 1 } else { degree as u64 };
    let same = x.iter().zip(&expected).all(|(&x, &e)| x % q == oracle::mul(e, factor, q));
    if same && (factor == 1 || x[0] % q == full) {
        return Ok(a);
    }
    Err(format!("{peer}, degree {degree}, prime {q}: not a negacyclic transform").into())
}

/// Canonical residues that look random.
fn residues(degree: usize, q: u64, seed: u64) -> Vec<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % q
    };
    (0..degree).map(|_| next()).collect()
}
