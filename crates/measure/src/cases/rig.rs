//! A backend with one ring, operands on it, and comparison with what is expected.

use std::cell::RefCell;

use arras_rns::prime::ntt_primes;
use arras_rns::{Backend, Domain, LimbSet, Poly, Ring, RingTables, View};

use crate::device::{Device, Run};
use crate::random::SplitMix;
use crate::{Error, Result};

/// Most sets of operands that executions go through in turn.
const MAX_SETS: u64 = 1 << 14;
/// Which coefficients are compared where all would take long: every 61st.
const STEP: usize = 61;

/// Degree, primes and batch of the operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) degree: usize,
    pub(super) limbs: usize,
    pub(super) bits: u32,
    pub(super) batch: usize,
}

impl Shape {
    /// `n=8192/limbs=3/q=45`, and the batch unless it is 1.
    pub(super) fn name(self) -> String {
        let Self { degree, limbs, bits, batch } = self;
        let batch = if batch == 1 { String::new() } else { format!("/batch={batch}") };
        format!("n={degree}/limbs={limbs}/q={bits}{batch}")
    }

    /// Limbs of a digit when there are three, or as many digits as limbs if those are fewer.
    pub(super) fn digit(self) -> usize {
        self.limbs.div_ceil(3)
    }
}

/// What the cases of one shape work with.
pub(super) struct Rig<B: Backend> {
    pub(super) backend: B,
    pub(super) queue: B::Queue,
    pub(super) tables: B::Tables,
    pub(super) shape: Shape,
    cache: u64,
    rng: RefCell<SplitMix>,
}

/// Polynomials on the host, `[batch][limb][N]`.
pub(super) struct Host {
    words: Vec<u64>,
    limbs: LimbSet,
    degree: usize,
}

impl Host {
    pub(super) fn row(&self, b: usize, limb: usize) -> &[u64] {
        let start = (b * self.limbs.len() + self.limbs.rank(limb)) * self.degree;
        &self.words[start..start + self.degree]
    }

    pub(super) fn batch(&self) -> usize {
        self.words.len() / (self.limbs.len() * self.degree)
    }

    /// The same shape, every row replaced.
    pub(super) fn map(&self, row: impl Fn(usize, &[u64]) -> Vec<u64>) -> Self {
        let rows = (0..self.batch()).flat_map(|b| self.limbs.iter().map(move |limb| (b, limb)));
        let words = rows.flat_map(|(b, limb)| row(limb, self.row(b, limb))).collect();
        Self { words, ..*self }
    }

    /// The residues of coefficient i of polynomial b.
    pub(super) fn residues(&self, limbs: LimbSet, b: usize, i: usize) -> Vec<u64> {
        limbs.iter().map(|limb| self.row(b, limb)[i]).collect()
    }
}

impl<B: Backend> Rig<B> {
    /// The primes of the shape and as many special ones as a digit has.
    pub(super) fn new<D: Device<Backend = B>>(device: &D, shape: Shape) -> Result<Self> {
        let count = shape.limbs + shape.digit();
        let mut primes = ntt_primes(shape.bits, shape.degree, count, &[])?;
        // The special primes, at the end of the chain, have to be the largest.
        primes.reverse();
        let backend = device.backend()?;
        let queue = backend.queue()?;
        let tables = backend.tables(&queue, &Ring::new(shape.degree, &primes)?)?;
        Ok(Self { backend, queue, tables, shape, cache: device.cache(), rng: RefCell::new(SplitMix(1)) })
    }

    pub(super) fn ring(&self) -> &Ring {
        self.tables.ring()
    }

    /// The limbs of Q.
    pub(super) fn limbs(&self) -> LimbSet {
        LimbSet::range(0..self.shape.limbs)
    }

    /// The limbs of P.
    pub(super) fn special(&self) -> LimbSet {
        self.ring().limbs().difference(self.limbs())
    }

    /// The digits of Q.
    pub(super) fn digits(&self) -> Vec<LimbSet> {
        let (limbs, digit) = (self.shape.limbs, self.shape.digit());
        (0..limbs).step_by(digit).map(|start| LimbSet::range(start..limbs.min(start + digit))).collect()
    }

    pub(super) fn q(&self, limb: usize) -> u64 {
        self.ring().modulus(limb).value()
    }

    pub(super) fn primes(&self, limbs: LimbSet) -> Vec<u64> {
        limbs.iter().map(|limb| self.q(limb)).collect()
    }

    /// Words of `limbs` limbs of all polynomials of the batch.
    pub(super) fn words(&self, limbs: usize) -> u64 {
        (self.shape.batch * limbs * self.shape.degree) as u64
    }

    pub(super) fn word(&self) -> u64 {
        self.rng.borrow_mut().word()
    }

    pub(super) fn unit(&self) -> f64 {
        self.rng.borrow_mut().unit()
    }

    /// Polynomials with unspecified contents.
    pub(super) fn fresh<D: Domain>(&self, limbs: LimbSet, batch: usize) -> Result<Poly<B, D>> {
        Ok(Poly::allocate(&self.backend, &self.queue, self.ring(), limbs, batch)?)
    }

    /// Uniform residues for as many words.
    pub(super) fn residues(&self, limbs: LimbSet, batch: usize) -> Vec<u64> {
        let mut rng = self.rng.borrow_mut();
        let rows = (0..batch).flat_map(|_| limbs.iter());
        let mut words = Vec::with_capacity(batch * limbs.len() * self.shape.degree);
        for limb in rows {
            let q = self.q(limb);
            words.extend((0..self.shape.degree).map(|_| rng.below(q)));
        }
        words
    }

    /// Uniform polynomials.
    pub(super) fn uniform<D: Domain>(&self, limbs: LimbSet, batch: usize) -> Result<Poly<B, D>> {
        let mut poly = self.fresh(limbs, batch)?;
        self.backend.upload(&self.queue, &mut poly.view_mut(), &self.residues(limbs, batch))?;
        Ok(poly)
    }

    /// What the caches do not hold: as many sets of operands, each of `bytes` bytes, as fill twice the largest cache.
    pub(super) fn beyond_caches<T>(&self, bytes: u64, make: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
        beyond(self.cache, bytes, make)
    }

    pub(super) fn host<D: Domain>(&self, view: &View<'_, B, D>) -> Result<Host> {
        let (limbs, degree) = (view.limbs(), view.degree());
        let mut words = vec![0; view.batch() * limbs.len() * degree];
        self.backend.download(&self.queue, view, &mut words)?;
        Ok(Host { words, limbs, degree })
    }

    /// Compares some coefficients of every polynomial with what is expected of limb and index.
    pub(super) fn agree(
        &self,
        what: &str,
        found: &Host,
        expected: impl Fn(usize, usize, usize) -> u64,
    ) -> Result<()> {
        for b in 0..found.batch() {
            for limb in found.limbs.iter() {
                for i in self.sample() {
                    let (found, expected) = (found.row(b, limb)[i], expected(b, limb, i));
                    if found != expected {
                        let place = format!("polynomial {b}, limb {limb}, index {i}");
                        return Err(Error::wrong("", format!("{what}: {place}: {found}, not {expected}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// The indices that are compared.
    pub(super) fn sample(&self) -> impl Iterator<Item = usize> + use<B> {
        let degree = self.shape.degree;
        (0..degree).step_by(if degree > 512 { STEP } else { 1 }).chain([degree - 1])
    }
}

/// As many sets of operands, each of `bytes` bytes, as fill twice a cache of `cache` bytes.
pub(super) fn beyond<T>(cache: u64, bytes: u64, mut make: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    let count = (2 * cache).div_ceil(bytes.max(1)).clamp(1, MAX_SETS);
    (0..count).map(|_| make()).collect()
}

/// Work on one set after the other.
pub(super) fn in_turn<'f, T: 'f>(
    mut sets: Vec<T>,
    mut work: impl FnMut(&mut T) -> Result<()> + 'f,
) -> Run<'f> {
    let mut next = 0;
    Box::new(move || {
        next = if next + 1 < sets.len() { next + 1 } else { 0 };
        sets.get_mut(next).map_or(Ok(()), &mut work)
    })
}

/// Refuses what is not so.
pub(super) fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::wrong("", problem())) }
}
