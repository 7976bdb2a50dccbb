//! Constants derived from a ring, and operands prepared for products.

use arras_rns::backend::{Conversion, IntegerMatrix, Multiplicands, RingTables};
use arras_rns::poly::Extent;
use arras_rns::{LimbSet, Modulus, Result, Ring};

use crate::kernels::LimbTable;
use crate::memory::Buffer;
use crate::path::Path;

/// A constant factor with its Shoup quotient `floor(value * 2^64 / q)`.
#[derive(Clone, Copy, Debug)]
pub struct Factor {
    /// The factor, canonical.
    pub value: u64,
    /// Its quotient.
    pub quotient: u64,
}

impl Factor {
    /// The factor `value` modulo `q`.
    pub fn new(q: Modulus, value: u64) -> Self {
        Self { value, quotient: q.shoup(value) }
    }

    /// `x * value mod q` in `[0, 2q)` for **any** word `x` (Harvey 2014, section 3).
    #[inline(always)]
    pub fn mul_lazy(self, x: u64, q: u64) -> u64 {
        let estimate = ((u128::from(x) * u128::from(self.quotient)) >> 64) as u64;
        x.wrapping_mul(self.value).wrapping_sub(estimate.wrapping_mul(q))
    }
}

/// Factors of the portable transforms of one limb.
#[derive(Debug)]
pub struct Twiddles {
    /// The modulus.
    pub modulus: Modulus,
    /// Twiddle factors of the forward transform; the one of block i at a level of m blocks is at `m + i`.
    pub forward: Vec<Factor>,
    /// Those of the inverse transform, at the same places.
    pub inverse: Vec<Factor>,
    /// `1/N`.
    pub degree_inverse: Factor,
}

impl Twiddles {
    /// Those of `limb`.
    pub fn new(ring: &Ring, limb: usize) -> Self {
        let modulus = ring.modulus(limb);
        let factors =
            |values: Vec<u64>| values.into_iter().map(|value| Factor::new(modulus, value)).collect();
        Self {
            modulus,
            forward: factors(ring.twiddles(limb)),
            inverse: factors(ring.inverse_twiddles(limb)),
            degree_inverse: Factor::new(modulus, modulus.inverse(ring.degree() as u64)),
        }
    }
}

/// Tables for a ring: one [`LimbTable`] per prime.
#[derive(Debug)]
pub struct Tables {
    ring: Ring,
    limbs: Vec<LimbTable>,
}

impl Tables {
    /// Tables for all limbs of `ring`, whose kernels take `path` where the degree is large enough for it.
    ///
    /// # Errors
    /// [`Device`](arras_rns::Error::Device) if the processor cannot take the path.
    pub fn new(ring: &Ring, path: Path) -> Result<Self> {
        path.check()?;
        let limbs = (0..ring.moduli().len()).map(|limb| LimbTable::new(ring, limb, path)).collect();
        Ok(Self { ring: ring.clone(), limbs })
    }

    /// The table of a limb.
    pub fn limb(&self, limb: usize) -> &LimbTable {
        &self.limbs[limb]
    }
}

impl RingTables for Tables {
    fn ring(&self) -> &Ring {
        &self.ring
    }
}

/// Constants of one base conversion.
#[derive(Debug)]
pub struct Converter {
    source: LimbSet,
    target: LimbSet,
    /// `(Q/q_i)^-1 mod q_i` for each source limb.
    pub(crate) scale: Vec<Factor>,
    /// For each target limb.
    pub(crate) columns: Vec<Column>,
}

/// Constants of a base conversion to one target limb p.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) modulus: Modulus,
    /// `Q/q_i mod p` for each source limb.
    pub(crate) weights: Vec<u64>,
    /// `- sum_i (q_i - 1)/2 * Q/q_i mod p`: what undoes moving centred digits to `[0, q_i)`.
    pub(crate) start: u64,
}

impl Converter {
    /// The limb sets have been checked to be disjoint and part of the ring.
    pub(crate) fn new(ring: &Ring, source: LimbSet, target: LimbSet) -> Self {
        let others = |limb| source.difference(LimbSet::single(limb));
        let scale = source.iter().map(|limb| {
            let q = ring.modulus(limb);
            Factor::new(q, q.inverse(ring.product_mod(others(limb), limb)))
        });
        let columns = target.iter().map(|to| {
            let modulus = ring.modulus(to);
            let weights: Vec<u64> = source.iter().map(|from| ring.product_mod(others(from), to)).collect();
            let moved = source.iter().zip(&weights).fold(0, |sum, (from, &weight)| {
                let half = modulus.reduce(u128::from(ring.modulus(from).value() / 2));
                modulus.add(sum, modulus.mul(half, weight))
            });
            Column { modulus, weights, start: modulus.negate(moved) }
        });
        Self { source, target, scale: scale.collect(), columns: columns.collect() }
    }

    /// `(Q/q_i)^-1 mod q_i` for a source limb.
    pub(crate) fn scale_of(&self, limb: usize) -> Option<Factor> {
        self.source.contains(limb).then(|| self.scale[self.source.rank(limb)])
    }
}

impl Conversion for Converter {
    fn source(&self) -> LimbSet {
        self.source
    }

    fn target(&self) -> LimbSet {
        self.target
    }
}

/// Words of an entry of [`Prepared`] that lie together: a cache line, so that a product with several entries reads line
/// after line.
const CHUNK: usize = 8;

/// Prepared polynomials, `[limb][N / chunk][entry][chunk]`: a product with several of them reads one stretch of memory
/// from end to end, where rows would be a power of two apart and compete for the same lines of a cache.
#[derive(Debug)]
pub struct Prepared {
    buffer: Buffer,
    pub(crate) extent: Extent,
}

impl Prepared {
    /// Takes `extent` words of room, and the rows in order of entry and limb.
    pub fn new<'a>(mut buffer: Buffer, extent: Extent, rows: impl Iterator<Item = &'a [u64]>) -> Self {
        let Extent { batch, limbs, degree } = extent;
        let chunk = CHUNK.min(degree);
        let words = buffer.as_mut_slice();
        for (index, row) in rows.enumerate() {
            let (entry, limb) = (index / limbs.len(), index % limbs.len());
            let entries = words[limb * degree * batch..][..degree * batch].chunks_exact_mut(chunk);
            for (to, from) in entries.skip(entry).step_by(batch).zip(row.chunks_exact(chunk)) {
                to.copy_from_slice(from);
            }
        }
        Self { buffer, extent }
    }

    /// Entries `first + k stride` for k = 0, 1, .., modulo a limb that there is.
    pub fn terms(&self, limb: usize, first: usize, stride: usize) -> Terms<'_> {
        let Extent { batch, limbs, degree } = self.extent;
        let words = &self.buffer.as_slice()[limbs.rank(limb) * degree * batch..][..degree * batch];
        Terms { words, entries: batch, chunk: CHUNK.min(degree), first, stride }
    }
}

/// Some of the polynomials of a [`Prepared`], modulo one limb.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// `[N / chunk][entry][chunk]`.
    words: &'a [u64],
    entries: usize,
    chunk: usize,
    first: usize,
    stride: usize,
}

impl<'a> Terms<'a> {
    /// All words, entries that are not terms included.
    pub fn words(self) -> &'a [u64] {
        self.words
    }

    /// Words of an entry that lie together, which divide the degree.
    pub fn chunk(self) -> usize {
        self.chunk
    }

    /// Whether there are so many terms of polynomials of `degree` words, and so many components of each.
    pub fn holds(self, degree: usize, terms: usize, components: usize) -> bool {
        let end = terms.saturating_sub(1).saturating_mul(self.stride).saturating_add(self.first);
        let within = terms == 0 || end.saturating_add(components) <= self.entries;
        within
            && self.entries.checked_mul(degree) == Some(self.words.len())
            && degree.is_multiple_of(self.chunk)
    }

    /// The words from index `start` of every polynomial on, a chunk of each entry.
    pub fn chunk_at(self, start: usize) -> &'a [u64] {
        &self.words[start * self.entries..][..self.chunk * self.entries]
    }

    /// Where in [`chunk_at`](Self::chunk_at) component `c` of term `k` begins.
    pub fn offset(self, k: usize, c: usize) -> usize {
        (self.first + k * self.stride + c) * self.chunk
    }
}

impl Multiplicands for Prepared {
    fn entries(&self) -> usize {
        self.extent.batch
    }

    fn limbs(&self) -> LimbSet {
        self.extent.limbs
    }

    fn degree(&self) -> usize {
        self.extent.degree
    }
}

/// An integer matrix, row by row.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) entries: Vec<i64>,
    /// The largest magnitude of an entry.
    pub(crate) largest: u64,
    /// How many products with 60-bit residues add up without overflowing 127 bits.
    pub(crate) terms_per_reduction: usize,
}

impl Matrix {
    /// From `rows * columns` entries of at most 2^62 in magnitude.
    pub fn new(rows: usize, columns: usize, entries: &[i64]) -> Self {
        let largest = entries.iter().map(|entry| entry.unsigned_abs()).max().unwrap_or(0);
        let product_bits = Modulus::MAX_BITS + (64 - largest.leading_zeros());
        let terms_per_reduction = 1usize << (127 - product_bits).min(32);
        Self { rows, columns, entries: entries.to_vec(), largest, terms_per_reduction }
    }

    /// The entries of each row.
    pub(crate) fn each_row(&self) -> impl Iterator<Item = &[i64]> {
        let row =
            move |r: usize| self.entries.get(r * self.columns..(r + 1) * self.columns).unwrap_or_default();
        (0..self.rows).map(row)
    }
}

impl IntegerMatrix for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }
}
