//! Constants derived from a ring, and operands prepared for products, in device memory.

use arras_rns::backend::{Conversion, IntegerMatrix, Multiplicands, RingTables};
use arras_rns::poly::Extent;
use arras_rns::{LimbSet, Modulus, Ring};

use crate::fast::{Extension, FastMatrix, Transforms};
use crate::memory::Buffer;
use crate::{DevicePtr, Driver, abi};

/// Tables for a ring: an array of [`abi::Limb`], followed by the twiddle factors they point to.
///
/// ```
/// use arras_cuda::Cuda;
/// use arras_cuda::counting::CountingDriver;
/// use arras_rns::backend::{Conversion, IntegerMatrix};
/// use arras_rns::{Backend, LimbSet, Ring, RingTables, prime::ntt_primes};
///
/// # let cuda = Cuda::counting(CountingDriver::h200())?;
/// # let queue = cuda.queue()?;
/// let ring = Ring::new(2048, &ntt_primes(50, 2048, 3, &[])?)?;
/// let tables = cuda.tables(&queue, &ring)?;
/// assert_eq!(tables.ring().degree(), 2048);
/// // From the last prime to the first two, and a 2 x 3 matrix.
/// let (source, target) = (LimbSet::single(2), LimbSet::range(0..2));
/// let converter = cuda.converter(&queue, &tables, source, target)?;
/// assert_eq!((converter.source(), converter.target()), (source, target));
/// let matrix = cuda.matrix(&queue, &tables, 2, 3, &[1, 0, -1, 2, 5, 3])?;
/// assert_eq!((matrix.rows(), matrix.columns()), (2, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Tables<D: Driver> {
    pub(crate) ring: Ring,
    pub(crate) buffer: Buffer<D>,
    /// The fast transforms, where there are any.
    pub(crate) transforms: Option<Transforms<D>>,
}

impl<D: Driver> RingTables for Tables<D> {
    fn ring(&self) -> &Ring {
        &self.ring
    }
}

/// A constant with its Shoup quotient.
pub(crate) fn factor(q: Modulus, value: u64) -> abi::Factor {
    abi::Factor { value, quotient: q.shoup(value) }
}

/// Words of the tables of a ring.
pub(crate) fn table_words(ring: &Ring) -> usize {
    ring.moduli().len() * (size_of::<abi::Limb>() + 2 * ring.degree() * size_of::<abi::Factor>()) / 8
}

/// The tables of a ring as they are to lie at an address.
pub(crate) fn table_bytes(ring: &Ring, at: DevicePtr) -> Vec<u8> {
    let count = ring.moduli().len();
    let row = ring.degree() * size_of::<abi::Factor>();
    let factors = at.offset(count * size_of::<abi::Limb>());
    let limbs = (0..count).map(|limb| {
        let forward = factors.offset(2 * limb * row);
        constants(ring, limb, forward, forward.offset(row))
    });
    let mut bytes = bytemuck::cast_slice::<abi::Limb, u8>(&limbs.collect::<Vec<_>>()).to_vec();
    for limb in 0..count {
        let q = ring.modulus(limb);
        for powers in [ring.twiddles(limb), ring.inverse_twiddles(limb)] {
            let factors: Vec<_> = powers.into_iter().map(|power| factor(q, power)).collect();
            bytes.extend_from_slice(bytemuck::cast_slice(&factors));
        }
    }
    bytes
}

fn constants(ring: &Ring, limb: usize, forward: DevicePtr, inverse: DevicePtr) -> abi::Limb {
    let modulus = ring.modulus(limb);
    let q = modulus.value();
    // q is odd, so this is floor(2^128 / q).
    let barrett = u128::MAX / u128::from(q);
    // Newton's iteration doubles the correct low bits; q is its own inverse modulo 8.
    let inverse_word = (0..5).fold(q, |x, _| x.wrapping_mul(2u64.wrapping_sub(q.wrapping_mul(x))));
    let montgomery_one = modulus.reduce(1 << 64);
    let is_shifted = q & u64::from(u32::MAX) == 1;
    abi::Limb {
        q,
        barrett_low: barrett as u64,
        barrett_high: (barrett >> 64) as u64,
        negative_inverse: inverse_word.wrapping_neg(),
        montgomery_one,
        montgomery_square: modulus.mul(montgomery_one, montgomery_one),
        degree_inverse: factor(modulus, modulus.inverse(ring.degree() as u64)),
        forward,
        inverse,
        bits: modulus.bits(),
        shifted: if is_shifted { (q >> 32) as u32 } else { 0 },
        reserved: 0,
    }
}

/// Constants of one base conversion: a [`abi::Factor`] per source limb, then the weights.
///
/// See the example of [`Tables`].
#[derive(Debug)]
pub struct Converter<D: Driver> {
    pub(crate) source: LimbSet,
    pub(crate) target: LimbSet,
    pub(crate) buffer: Buffer<D>,
    /// What the fused kernels need.
    pub(crate) extension: Option<Extension<D>>,
}

/// What a [`Converter`] holds, for limb sets that were checked.
pub(crate) fn conversion_bytes(ring: &Ring, source: LimbSet, target: LimbSet) -> Vec<u8> {
    let others = |limb| source.difference(LimbSet::single(limb));
    let scale: Vec<_> = source
        .iter()
        .map(|limb| {
            let q = ring.modulus(limb);
            factor(q, q.inverse(ring.product_mod(others(limb), limb)))
        })
        .collect();
    let weights: Vec<u64> = target
        .iter()
        .flat_map(|to| source.iter().map(move |from| ring.product_mod(others(from), to)))
        .collect();
    let mut bytes = bytemuck::cast_slice::<abi::Factor, u8>(&scale).to_vec();
    bytes.extend_from_slice(bytemuck::cast_slice(&weights));
    bytes
}

impl<D: Driver> Conversion for Converter<D> {
    fn source(&self) -> LimbSet {
        self.source
    }

    fn target(&self) -> LimbSet {
        self.target
    }
}

/// Prepared polynomials: a copy.
///
/// ```
/// use arras_cuda::Cuda;
/// use arras_cuda::counting::CountingDriver;
/// use arras_rns::backend::Multiplicands;
/// use arras_rns::{Backend, Evaluation, Poly, Ring, prime::ntt_primes};
///
/// # let cuda = Cuda::counting(CountingDriver::h200())?;
/// # let queue = cuda.queue()?;
/// # let ring = Ring::new(2048, &ntt_primes(50, 2048, 2, &[])?)?;
/// # let tables = cuda.tables(&queue, &ring)?;
/// // Three polynomials modulo two primes, as keys and weights are.
/// let polynomials: Poly<_, Evaluation> = Poly::allocate(&cuda, &queue, &ring, ring.limbs(), 3)?;
/// let prepared = cuda.prepare(&queue, &tables, &polynomials.view())?;
/// assert_eq!((prepared.entries(), prepared.degree()), (3, 2048));
/// assert_eq!(prepared.limbs(), ring.limbs());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Prepared<D: Driver> {
    pub(crate) buffer: Buffer<D>,
    pub(crate) extent: Extent,
}

impl<D: Driver> Multiplicands for Prepared<D> {
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
/// See the example of [`Tables`].
#[derive(Debug)]
pub struct Matrix<D: Driver> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) buffer: Buffer<D>,
    /// How many products with 60-bit residues add up without overflowing 127 bits.
    pub(crate) terms: u32,
    /// What the fast kernels need, if the entries are small enough.
    pub(crate) fast: Option<FastMatrix<D>>,
}

/// [`Matrix::terms`] for entries of at most 2^62 in magnitude.
pub(crate) fn terms(entries: &[i64]) -> u32 {
    let largest = entries.iter().map(|entry| entry.unsigned_abs()).max().unwrap_or(0);
    1 << (127 - Modulus::MAX_BITS - (64 - largest.leading_zeros())).min(31)
}

impl<D: Driver> IntegerMatrix for Matrix<D> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }
}
