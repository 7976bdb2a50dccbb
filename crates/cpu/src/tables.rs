//! Constants derived from a ring, and operands prepared for products.

use arras_rns::backend::{Conversion, IntegerMatrix, Multiplicands, RingTables};
use arras_rns::poly::Extent;
use arras_rns::{LimbSet, Modulus, Result, Ring};

use crate::kernels::LimbTable;
use crate::memory::Buffer;
use crate::path::Path;

/// A constant factor with its Shoup quotient `floor(value * 2^64 / q)`.
///
/// ```
/// use arras_cpu::tables::Factor;
/// use arras_rns::Modulus;
///
/// let q = Modulus::new(97)?;
/// let factor = Factor::new(q, 50);
/// // Any word may be multiplied; the product is below 2 q.
/// let product = factor.mul_lazy(u64::MAX, 97);
/// assert!(product < 2 * 97);
/// assert_eq!(product % 97, q.mul(u64::MAX, 50));
/// # Ok::<(), arras_rns::Error>(())
/// ```
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
///
/// ```
/// use arras_cpu::portable;
/// use arras_cpu::tables::Twiddles;
/// use arras_rns::Ring;
///
/// let ring = Ring::new(16, &[97])?;
/// let twiddles = Twiddles::new(&ring, 0);
/// let mut row: [u64; 16] = std::array::from_fn(|i| i as u64);
/// portable::ntt(&mut row, &twiddles);
/// portable::intt(&mut row, &twiddles);
/// assert_eq!(row, std::array::from_fn(|i| i as u64));
/// # Ok::<(), arras_rns::Error>(())
/// ```
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
///
/// See the example of [`LimbTable`].
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
    ///
    /// # Panics
    /// If the ring has no such limb.
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
///
/// ```
/// use arras_cpu::{Cpu, kernels};
/// use arras_rns::{Backend, LimbSet, Ring};
///
/// let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193])?);
/// let queue = cpu.queue()?;
/// let tables = cpu.tables(&queue, &ring)?;
/// let converter = cpu.converter(&queue, &tables, LimbSet::single(1), LimbSet::single(0))?;
/// // Residues modulo 193 are those of centred integers: 192 stands for -1.
/// let (from, mut to) = ([192; 16], [0; 16]);
/// kernels::base_convert(&tables, &mut [&mut to], &[&from], &converter);
/// assert_eq!(to, [97 - 1; 16]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
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
///
/// ```
/// use arras_cpu::Path;
/// use arras_cpu::memory::Buffer;
/// use arras_cpu::tables::{Prepared, Tables};
/// use arras_rns::poly::Extent;
/// # use arras_rns::Ring;
///
/// # let ring = Ring::new(16, &[97])?;
/// let tables = Tables::new(&ring, Path::Portable)?;
/// let extent = Extent { batch: 2, limbs: ring.limbs(), degree: 16 };
/// let room = Buffer::new(extent.words()).ok_or("no memory")?;
/// let prepared = Prepared::new(room, extent, [[5; 16], [7; 16]].iter().map(|row| &row[..]));
/// let mut out = [0; 16];
/// // Limb 0 of both entries, from the first on.
/// tables.limb(0).inner_product(&mut out, &[&[2; 16], &[3; 16]], prepared.terms(0, 0, 1));
/// assert_eq!(out, [2 * 5 + 3 * 7; 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// See the example of [`Prepared`].
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
///
/// ```
/// use arras_cpu::Path;
/// use arras_cpu::tables::{Matrix, Tables};
/// # use arras_rns::Ring;
///
/// # let ring = Ring::new(16, &[97])?;
/// let tables = Tables::new(&ring, Path::Portable)?;
/// let matrix = Matrix::new(2, 2, &[1, 2, 3, -1]);
/// let constants = tables.limb(0).matrix_constants(&matrix);
/// let (mut first, mut second) = ([0; 16], [0; 16]);
/// let out = &mut [&mut first[..], &mut second[..]];
/// tables.limb(0).matrix_rows(out, &matrix, &constants, &[&[5; 16], &[7; 16]]);
/// assert_eq!((first, second), ([5 + 2 * 7; 16], [3 * 5 - 7; 16]));
/// # Ok::<(), arras_rns::Error>(())
/// ```
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
