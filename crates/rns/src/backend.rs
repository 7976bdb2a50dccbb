//! The contract between the arithmetic of CKKS and the machines that carry it out.
//!
//! **Unstable until the CUDA backend implements it.**
//!
//! Everything here is integer arithmetic (or, for [`Backend::quantise`], exactly rounded), defined so precisely that
//! two backends give the same words for the same input; tests compare by equality. Rules that hold for every method:
//!
//! - Residues are canonical, in `[0, q)`, on the way in and on the way out.
//! - Outputs are owned by the caller. A method allocates memory only if it returns it.
//! - An output may be given as its own first operand with [`Input::InPlace`]; Rust's borrow rules exclude every other
//!   overlap.
//! - Work goes to a queue and may still be under way when the call returns. An error of the device may therefore
//!   surface at a later call on the queue, at the latest from [`Backend::synchronize`] or [`Backend::read`].
//! - Two queues are ordered only by [`Backend::record`] and [`Backend::wait`]. Buffers may be dropped at any time: the
//!   memory is released in queue order.
//! - Shapes are checked before anything is queued; a refused call leaves its output untouched.

use std::fmt::Debug;

use crate::switching::{Image, KeySwitchParts, ModDownParts};
use crate::{
    Coefficient, Domain, Error, Evaluation, KeySwitchPlan, LimbSet, ModDownPlan, Result, Ring, SeedLabel,
    View, ViewMut, check, switching,
};

/// Memory of a backend: 64-bit words that only the backend can touch.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_rns::{Backend, Storage};
///
/// let cpu = Cpu::sequential();
/// let queue = cpu.queue()?;
/// let mut buffer = cpu.allocate(&queue, 100)?;
/// assert_eq!(buffer.words(), 100);
/// // Only the backend writes and reads it.
/// cpu.write(&queue, &mut buffer, 98, &[1, 2])?;
/// let mut words = [0; 2];
/// cpu.read(&queue, &buffer, 98, &mut words)?;
/// assert_eq!(words, [1, 2]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub trait Storage: Send + Sync + Debug {
    /// Number of words.
    fn words(&self) -> usize;
}

/// A backend's tables for one ring.
///
/// See the example of [`Backend`].
pub trait RingTables: Send + Sync + Debug {
    /// The ring they were made for.
    fn ring(&self) -> &Ring;
}

/// The constants of one base conversion.
///
/// ```
/// use arras_rns::backend::Conversion;
/// use arras_rns::{Backend, Coefficient, LimbSet, Poly};
/// # use arras_cpu::Cpu;
/// # use arras_rns::Ring;
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// // From residues modulo 193, limb 1, to residues modulo 97, limb 0.
/// let (from, to) = (LimbSet::single(1), LimbSet::single(0));
/// let converter = cpu.converter(&queue, &tables, from, to)?;
/// assert_eq!((converter.source(), converter.target()), (from, to));
///
/// let mut x: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, from, 1)?;
/// let mut out: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, to, 1)?;
/// cpu.upload(&queue, &mut x.view_mut(), &[192; 16])?;
/// cpu.base_convert(&queue, &tables, &converter, &mut out.view_mut(), &x.view())?;
/// let mut words = [0; 16];
/// cpu.download(&queue, &out.view(), &mut words)?;
/// assert_eq!(words, [96; 16]); // -1 in both
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub trait Conversion: Send + Sync + Debug {
    /// The limbs that are read.
    fn source(&self) -> LimbSet;
    /// The limbs that are written.
    fn target(&self) -> LimbSet;
}

/// Polynomials in the evaluation domain, prepared to be multiplied by: keys, encoded plaintexts.
///
/// See the example of [`PreparedView`].
pub trait Multiplicands: Send + Sync + Debug {
    /// Number of polynomials.
    fn entries(&self) -> usize;
    /// Their limbs.
    fn limbs(&self) -> LimbSet;
    /// Coefficients per limb.
    fn degree(&self) -> usize;
}

/// A matrix of integers, prepared for [`Backend::matrix_product`].
///
/// ```
/// use arras_rns::backend::IntegerMatrix;
/// # use arras_cpu::Cpu;
/// # use arras_rns::{Backend, Coefficient, Poly, Ring};
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// # let mut x: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 2)?;
/// # let mut out: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 2)?;
/// let matrix = cpu.matrix(&queue, &tables, 2, 2, &[1, 2, 3, -1])?;
/// assert_eq!((matrix.rows(), matrix.columns()), (2, 2));
/// // A batch of two polynomials, all of whose coefficients are 5 and 7.
/// cpu.upload(&queue, &mut x.view_mut(), &[[5; 16], [7; 16]].concat())?;
/// cpu.matrix_product(&queue, &tables, &mut out.view_mut(), &matrix, &x.view())?;
/// let mut words = [0; 32];
/// cpu.download(&queue, &out.view(), &mut words)?;
/// assert_eq!((words[0], words[16]), (5 + 2 * 7, 3 * 5 - 7));
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub trait IntegerMatrix: Send + Sync + Debug {
    /// Number of outputs.
    fn rows(&self) -> usize;
    /// Number of inputs.
    fn columns(&self) -> usize;
}

/// The first operand of an operation: the output itself, or something else.
///
/// See the example of [`Backend`], which has both.
#[derive(Debug)]
pub enum Input<'a, B: Backend, D: Domain> {
    /// What the output holds when the call is made.
    InPlace,
    /// Other polynomials.
    From(View<'a, B, D>),
}

impl<'a, B: Backend, D: Domain> Input<'a, B, D> {
    /// The same operand of a backend that wraps, or is wrapped by, this one.
    ///
    /// # Errors
    /// Those of the function.
    pub fn try_map<C: Backend>(
        &self,
        buffer: impl Fn(&'a B::Buffer) -> Result<&'a C::Buffer>,
    ) -> Result<Input<'a, C, D>> {
        Ok(match self {
            Input::InPlace => Input::InPlace,
            Input::From(view) => Input::From(view.try_map(buffer)?),
        })
    }
}

impl<'a, B: Backend, D: Domain> From<View<'a, B, D>> for Input<'a, B, D> {
    fn from(view: View<'a, B, D>) -> Self {
        Input::From(view)
    }
}

/// Which entries of [`Multiplicands`] a product uses: for term `k` and polynomial `b` of the batch, entry
/// `first + k * term_stride + b * batch_stride`.
///
/// ```
/// use arras_rns::backend::Multiplicands;
/// use arras_rns::{Evaluation, PreparedView};
/// # use arras_cpu::Cpu;
/// # use arras_rns::{Backend, Poly, Ring};
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// # let pair = || Poly::<Cpu, Evaluation>::allocate(&cpu, &queue, &ring, ring.limbs(), 2);
/// # let (mut left, mut right) = (pair()?, pair()?);
/// # let mut out: Poly<Cpu, Evaluation> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 1)?;
/// cpu.upload(&queue, &mut left.view_mut(), &[[2; 16], [3; 16]].concat())?;
/// cpu.upload(&queue, &mut right.view_mut(), &[[5; 16], [7; 16]].concat())?;
/// let prepared = cpu.prepare(&queue, &tables, &right.view())?;
/// assert_eq!(prepared.entries(), 2);
///
/// let terms = [left.view().range(0..1)?, left.view().range(1..2)?];
/// let right = PreparedView { prepared: &prepared, first: 0, term_stride: 1, batch_stride: 0 };
/// cpu.inner_product(&queue, &tables, &mut out.view_mut(), &terms, right)?;
/// let mut words = [0; 16];
/// cpu.download(&queue, &out.view(), &mut words)?;
/// assert_eq!(words, [2 * 5 + 3 * 7; 16]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Debug)]
pub struct PreparedView<'a, B: Backend> {
    /// The prepared polynomials.
    pub prepared: &'a B::Prepared,
    /// Entry of term 0 and polynomial 0.
    pub first: usize,
    /// Entries from one term to the next.
    pub term_stride: usize,
    /// Entries from one polynomial of the batch to the next; 0 multiplies all by the same.
    pub batch_stride: usize,
}

impl<B: Backend> Clone for PreparedView<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for PreparedView<'_, B> {}

impl<B: Backend> PreparedView<'_, B> {
    /// The entry for term `k` of polynomial `b`.
    pub fn entry(&self, k: usize, b: usize) -> usize {
        self.first + k * self.term_stride + b * self.batch_stride
    }
}

/// How [`Backend::quantise`] reads its values: coefficient `i < count` of polynomial `b` is value
/// `first + b * batch_stride + i * coefficient_stride`, times `2^scale_bits`; the other coefficients are 0.
///
/// ```
/// use arras_rns::Quantise;
/// # use arras_cpu::Cpu;
/// # use arras_rns::{Backend, Coefficient, Poly, Ring};
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// # let mut poly: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 2)?;
/// // Two rows of three values, each to be the beginning of a polynomial, at scale 2^4.
/// let values = [0.5, -1.0, 2.0, 0.25, 0.0, 1.0].map(f64::to_bits);
/// let how = Quantise { first: 0, batch_stride: 3, coefficient_stride: 1, count: 3, scale_bits: 4 };
/// let mut buffer = cpu.allocate(&queue, values.len())?;
/// cpu.write(&queue, &mut buffer, 0, &values)?;
/// cpu.quantise(&queue, &tables, &mut poly.view_mut(), &buffer, how)?;
/// let mut words = [0; 32];
/// cpu.download(&queue, &poly.view(), &mut words)?;
/// assert_eq!(words[..4], [8, 97 - 16, 32, 0]);
/// assert_eq!(words[16..20], [4, 0, 16, 0]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quantise {
    /// Index of the value of coefficient 0 of polynomial 0.
    pub first: usize,
    /// Values from one polynomial to the next.
    pub batch_stride: usize,
    /// Values from one coefficient to the next.
    pub coefficient_stride: usize,
    /// Number of coefficients that are filled.
    pub count: usize,
    /// log2 of the scale.
    pub scale_bits: i32,
}

/// How packed rows map to polynomials. The numbers of rows and of values in a row are exchanged between the two.
///
/// ```
/// use arras_rns::Packing;
///
/// // Five coefficients of each of three polynomials: rows, and values in each.
/// assert_eq!(Packing::ByPolynomial { coefficients: 5 }.extent(3), (3, 5));
/// assert_eq!(Packing::ByCoefficient { coefficients: 5 }.extent(3), (5, 3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// Each polynomial is a row of its first `coefficients` coefficients.
    ByPolynomial {
        /// Values in a row.
        coefficients: usize,
    },
    /// Row i holds coefficient i of every polynomial, for `coefficients` rows.
    ByCoefficient {
        /// Number of rows.
        coefficients: usize,
    },
}

impl Packing {
    /// How many coefficients of each polynomial are packed.
    pub fn coefficients(self) -> usize {
        let (Self::ByPolynomial { coefficients } | Self::ByCoefficient { coefficients }) = self;
        coefficients
    }

    /// Number of rows and of values in each, for `batch` polynomials.
    pub fn extent(self, batch: usize) -> (usize, usize) {
        match self {
            Self::ByPolynomial { coefficients } => (batch, coefficients),
            Self::ByCoefficient { coefficients } => (coefficients, batch),
        }
    }
}

/// Coefficients `first, first + step, ..`, `count` of them.
///
/// ```
/// use arras_rns::Positions;
///
/// let positions = Positions { first: 3, step: 4, count: 3 };
/// assert_eq!(positions.iter().collect::<Vec<_>>(), [3, 7, 11]);
/// assert_eq!(Positions::first(3).iter().collect::<Vec<_>>(), [0, 1, 2]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Positions {
    /// The first coefficient.
    pub first: usize,
    /// The distance from one to the next.
    pub step: usize,
    /// How many.
    pub count: usize,
}

impl Positions {
    /// The first `count` coefficients.
    pub fn first(count: usize) -> Self {
        Self { first: 0, step: 1, count }
    }

    /// The coefficients in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = usize> {
        (0..self.count).map(move |i| self.first + i * self.step)
    }
}

/// Lattice arithmetic on some machine. See the [module documentation](self) for what holds throughout.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly, Ring, RingTables};
///
/// let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97])?);
/// let queue = cpu.queue()?;
/// let tables = cpu.tables(&queue, &ring)?;
/// assert_eq!(tables.ring(), &ring);
///
/// // The square of X^8 is X^16, which is -1.
/// let mut words = [0; 16];
/// words[8] = 1;
/// let mut x: Poly<Cpu, Coefficient> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 1)?;
/// cpu.upload(&queue, &mut x.view_mut(), &words)?;
/// let mut x: Poly<Cpu, Evaluation> = x.retag();
/// cpu.ntt(&queue, &tables, &mut x.view_mut(), Input::InPlace)?;
/// let mut square = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 1)?;
/// cpu.multiply(&queue, &tables, &mut square.view_mut(), Input::From(x.view()), &x.view())?;
/// let mut square = square.retag();
/// cpu.intt(&queue, &tables, &mut square.view_mut(), Input::InPlace)?;
/// cpu.download(&queue, &square.view(), &mut words)?;
/// assert_eq!((words[0], &words[1..]), (96, &[0; 15][..]));
/// # Ok::<(), arras_rns::Error>(())
/// ```
pub trait Backend: Sized + Send + Sync + Debug + 'static {
    /// Memory.
    type Buffer: Storage;
    /// Where work is queued.
    type Queue: Send + Sync + Debug;
    /// A point in a queue.
    type Event: Send + Sync + Debug;
    /// Tables for one ring.
    type Tables: RingTables;
    /// Constants of one base conversion.
    type Converter: Conversion;
    /// Polynomials prepared to be multiplied by.
    type Prepared: Multiplicands;
    /// A prepared integer matrix.
    type Matrix: IntegerMatrix;

    // --- queues -------------------------------------------------------------------------------------------------

    /// A short name with the device and the instruction set, such as `cpu (portable)`.
    fn name(&self) -> String;

    /// A new queue.
    fn queue(&self) -> Result<Self::Queue>;

    /// Waits until everything in the queue is done and reports what went wrong in it.
    fn synchronize(&self, queue: &Self::Queue) -> Result<()>;

    /// Marks the work queued so far.
    fn record(&self, queue: &Self::Queue) -> Result<Self::Event>;

    /// Lets later work of `queue` wait for what `event` marks.
    fn wait(&self, queue: &Self::Queue, event: &Self::Event) -> Result<()>;

    // --- memory -------------------------------------------------------------------------------------------------

    /// Memory of `words` words with unspecified contents.
    fn allocate(&self, queue: &Self::Queue, words: usize) -> Result<Self::Buffer>;

    /// Copies words to `buffer[offset..]`. The source may be changed as soon as the call returns.
    fn write(
        &self,
        queue: &Self::Queue,
        buffer: &mut Self::Buffer,
        offset: usize,
        words: &[u64],
    ) -> Result<()>;

    /// Copies `buffer[offset..]` to `words`, after everything queued before; waits for it.
    fn read(
        &self,
        queue: &Self::Queue,
        buffer: &Self::Buffer,
        offset: usize,
        words: &mut [u64],
    ) -> Result<()>;

    /// Overwrites a buffer with zeros, in queue order, so that its release cannot come first.
    fn wipe(&self, queue: &Self::Queue, buffer: &mut Self::Buffer) -> Result<()>;

    // --- preparation --------------------------------------------------------------------------------------------

    /// Tables for a ring.
    fn tables(&self, queue: &Self::Queue, ring: &Ring) -> Result<Self::Tables>;

    /// Constants to convert residues modulo `source` into residues modulo `target`.
    ///
    /// # Errors
    /// [`Error::MissingLimbs`] if the ring lacks a limb, [`Error::Shape`] if a set is empty or they overlap.
    fn converter(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        source: LimbSet,
        target: LimbSet,
    ) -> Result<Self::Converter>;

    /// Copies polynomials into the form that products want.
    fn prepare(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        polynomials: &View<'_, Self, Evaluation>,
    ) -> Result<Self::Prepared>;

    /// A `rows x columns` matrix of integers, row by row, each of at most 2^62 in magnitude.
    fn matrix(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        rows: usize,
        columns: usize,
        entries: &[i64],
    ) -> Result<Self::Matrix>;

    // --- transforms ---------------------------------------------------------------------------------------------

    /// Negacyclic NTT, natural order to bit-reversed order: output i is the value at `root^(2 bitrev(i) + 1)`.
    fn ntt(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: Input<'_, Self, Coefficient>,
    ) -> Result<()>;

    /// The inverse of [`ntt`](Self::ntt), the factor 1/N included.
    fn intt(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: Input<'_, Self, Evaluation>,
    ) -> Result<()>;

    /// `X -> X^element` for an odd `element < 2N`.
    fn automorphism<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
        element: usize,
    ) -> Result<()>;

    // --- element by element -------------------------------------------------------------------------------------

    /// Copies; with [`View::concat`] this gathers.
    fn copy<D: Domain>(
        &self,
        queue: &Self::Queue,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
    ) -> Result<()>;

    /// `a + b`.
    fn add<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()>;

    /// `a - b`.
    fn sub<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()>;

    /// `-a`.
    fn negate<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
    ) -> Result<()>;

    /// `a * b`, value by value.
    fn multiply(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()>;

    /// `out + a * b`, value by value.
    fn multiply_accumulate(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()>;

    /// `a * scalar + b` with one canonical scalar per limb of `out`, in order of limb id; without `b` just the product.
    fn scale_add<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        scalars: &[u64],
        b: Option<&View<'_, Self, D>>,
    ) -> Result<()>;

    // --- across limbs and polynomials ---------------------------------------------------------------------------

    /// Exact conversion of centred residues: with Q the product of the source primes and
    /// `y_i = [x_i * (Q/q_i)^-1] mod q_i` taken in `(-q_i/2, q_i/2]`, writes `sum_i y_i * (Q/q_i) mod p`.
    ///
    /// The sum is `x + e Q` for x in `(-Q/2, Q/2]` and some `|e| <= k/2` with k source limbs; it commutes with automorphisms and its mean error is 0.
    fn base_convert(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        converter: &Self::Converter,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: &View<'_, Self, Coefficient>,
    ) -> Result<()>;

    /// `sum_k left[k] * right(k)`, value by value, with one reduction at the end.
    fn inner_product(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()>;

    /// `out[r] = sum_c matrix[r][c] * input[c]`, the same for every limb and coefficient: a matrix product whose
    /// right-hand side has one row per polynomial.
    fn matrix_product<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        matrix: &Self::Matrix,
        input: &View<'_, Self, D>,
    ) -> Result<()>;

    // --- to and from the outside --------------------------------------------------------------------------------

    /// Rounds 64-bit floats to integers, ties to even, and writes their residues. `values` holds the bit patterns.
    ///
    /// # Errors
    /// [`Error::Value`] if a value is not finite or `|x| * 2^scale_bits` reaches 2^62.
    fn quantise(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &Self::Buffer,
        how: Quantise,
    ) -> Result<()>;

    /// Uniform polynomials expanded from seeds, one label per polynomial ([`crate::seed`]).
    fn expand_seed(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()>;

    /// Reads residues from packed bytes: row by row and limb by limb, each residue in as many bits as its modulus has,
    /// least significant bit first, every row of every limb padded with zeros to whole bytes. Coefficients that are not
    /// packed become 0.
    ///
    /// # Errors
    /// [`Error::Value`] if a residue is not below its modulus, with its place in its row as the index, or if padding is
    /// not zero; [`Error::Shape`] if the length does not fit.
    fn unpack<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()>;

    /// Rounds residues of a single limb to `bits` bits, `floor((2 x 2^bits + q) / 2q) mod 2^bits`, and packs those at
    /// `positions` of each polynomial as a row like those of [`unpack`](Self::unpack). Waits for the result.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is more than one limb, `bits` is not in `1..=60`, or the length does not fit.
    fn trim(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        input: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()>;

    // --- provided: correct for every backend, overridden by fused kernels ---------------------------------------

    /// Writes `[batch][limb][N]` words to a view. Waits for nothing.
    fn upload<D: Domain>(
        &self,
        queue: &Self::Queue,
        out: &mut ViewMut<'_, Self, D>,
        words: &[u64],
    ) -> Result<()> {
        let (limbs, degree) = (out.limbs(), out.degree());
        let expected = out.batch() * limbs.len() * degree;
        if words.len() != expected {
            return Err(Error::shape("upload", "number of words", words.len(), expected));
        }
        let mut rows = words.chunks_exact(degree);
        for segment in out.segments_mut() {
            for index in segment.first..segment.first + segment.count {
                for limb in limbs.iter() {
                    let row = rows.next().unwrap_or_default();
                    self.write(queue, segment.buffer, segment.extent.offset(index, limb), row)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a view as `[batch][limb][N]` words; waits for it.
    fn download<D: Domain>(
        &self,
        queue: &Self::Queue,
        view: &View<'_, Self, D>,
        words: &mut [u64],
    ) -> Result<()> {
        let expected = view.batch() * view.limbs().len() * view.degree();
        if words.len() != expected {
            return Err(Error::shape("download", "number of words", words.len(), expected));
        }
        for ((_, buffer, offset), row) in view.rows().zip(words.chunks_exact_mut(view.degree())) {
            self.read(queue, buffer, offset, row)?;
        }
        Ok(())
    }

    /// `(x - [x]_P) / P` rounded: drops the limbs of `plan`, dividing by their product P, in the evaluation domain.
    ///
    /// Not to be overridden: what is done stands in [`mod_down_parts`](Self::mod_down_parts).
    fn mod_down(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        plan: &mut ModDownPlan<Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.mod_down_parts(queue, tables, &mut plan.parts(input.batch())?, out, input)
    }

    /// Splits `input` into digits and extends each to all limbs of the key, into the plan.
    ///
    /// Not to be overridden: what is done stands in [`mod_up_parts`](Self::mod_up_parts).
    fn mod_up(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        plan: &mut KeySwitchPlan<Self>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.mod_up_parts(queue, tables, &mut plan.parts(input.batch())?, input)?;
        plan.filled(input.batch());
        Ok(())
    }

    /// Multiplies the digits in the plan by a key (entries `2 digit + component`), into the plan.
    ///
    /// Not to be overridden: what is done stands in [`gadget_product_parts`](Self::gadget_product_parts).
    fn gadget_product(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        plan: &mut KeySwitchPlan<Self>,
        key: &Self::Prepared,
    ) -> Result<()> {
        let batch = plan.batch();
        self.gadget_product_parts(queue, tables, &mut plan.parts(batch)?, key)
    }

    /// Hybrid key switching: from `d` under one key to `out[0] + out[1] s` under another, where `key` encrypts the
    /// gadget multiples of the first key under the second (Han and Ki, ePrint 2019/688).
    ///
    /// Not to be overridden: what is done stands in [`key_switch_parts`](Self::key_switch_parts).
    fn key_switch(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        plan: &mut KeySwitchPlan<Self>,
        key: &Self::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        d: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::key_switch(plan, &out, d)?;
        self.key_switch_parts(queue, tables, &mut plan.parts(d.batch())?, key, out, d)?;
        plan.filled(d.batch());
        Ok(())
    }

    /// An automorphism of a ciphertext: what [`key_switch`](Self::key_switch) makes of its second component, or of the digits
    /// of it that [`mod_up`](Self::mod_up) left in the plan, plus its first one, and then `X -> X^element`. Hoisted rotations
    /// differ in the last steps only (Halevi and Shoup, ePrint 2018/244).
    ///
    /// Not to be overridden: what is done stands in [`key_switch_automorphism_parts`](Self::key_switch_automorphism_parts).
    fn key_switch_automorphism(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        plan: &mut KeySwitchPlan<Self>,
        key: &Self::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        image: Image<'_, '_, Self>,
    ) -> Result<()> {
        check::key_switch_automorphism(plan, &out, &image)?;
        let batch = image.c0.batch();
        self.key_switch_automorphism_parts(queue, tables, &mut plan.parts(batch)?, key, out, image)?;
        plan.filled(batch);
        Ok(())
    }

    // --- the same on the parts of a plan, where fused kernels and backends that wrap another one come in ----------

    /// [`mod_down`](Self::mod_down).
    fn mod_down_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        switching::mod_down(self, queue, tables, parts, out, input)
    }

    /// [`mod_up`](Self::mod_up).
    fn mod_up_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        switching::mod_up(self, queue, tables, parts, input)
    }

    /// [`gadget_product`](Self::gadget_product).
    fn gadget_product_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Self::Prepared,
    ) -> Result<()> {
        switching::gadget_product(self, queue, tables, parts, key)
    }

    /// [`key_switch`](Self::key_switch).
    fn key_switch_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Self::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        d: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        switching::key_switch(self, queue, tables, parts, key, out, d)
    }

    /// [`key_switch_automorphism`](Self::key_switch_automorphism).
    fn key_switch_automorphism_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Self::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        image: Image<'_, '_, Self>,
    ) -> Result<()> {
        switching::key_switch_automorphism(self, queue, tables, parts, key, out, image)
    }
}
