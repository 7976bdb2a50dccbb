//! The contract of `arras-rns` on host memory.

use std::sync::Arc;

use arras_rns::poly::Extent;
use arras_rns::switching::{Image, KeySwitchParts, ModDownParts};
use arras_rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Modulus, Packing, Positions,
    PreparedView, Quantise, Result, Ring, RingTables, SeedLabel, Storage, View, ViewMut, check,
};

use crate::kernels;
use crate::memory::{Buffer, Pool};
use crate::path::Path;
use crate::portable;
use crate::queue::Queue;
use crate::switching;
use crate::tables::{Converter, Matrix, Prepared, Tables};

/// How to set up a [`Cpu`].
///
/// See the example of [`Cpu`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuOptions {
    /// Number of threads; 0 takes one per core, 1 stays on the calling thread.
    pub threads: usize,
    /// The instruction set; `None` takes the fastest that the processor has.
    pub path: Option<Path>,
}

impl Default for CpuOptions {
    /// The calling thread, the fastest path.
    fn default() -> Self {
        Self { threads: 1, path: None }
    }
}

/// The CPU as a backend.
///
/// ```
/// use arras_cpu::{Cpu, CpuOptions, Path};
/// use arras_rns::Backend;
///
/// // The fastest path on the calling thread, and plain Rust on two threads: the same words.
/// let fast = Cpu::with(CpuOptions::default())?;
/// assert_eq!((fast.threads(), fast.path()), (1, Path::detect()));
/// let portable = Cpu::with(CpuOptions { threads: 2, path: Some(Path::Portable) })?;
/// assert_eq!((portable.threads(), portable.name()), (2, "cpu (portable)".to_owned()));
/// # Ok::<(), arras_rns::Error>(())
/// ```
///
/// Products of polynomials: the example of [`Backend`].
#[derive(Clone, Debug)]
pub struct Cpu {
    queue: Queue,
    path: Path,
    pool: Arc<Pool>,
}

impl Cpu {
    /// Everything on the calling thread, on the fastest path.
    pub fn sequential() -> Self {
        Self::on(Queue::sequential())
    }

    /// With `threads` threads of its own, on the fastest path; 0 takes one per core.
    ///
    /// # Errors
    /// [`Error::Device`] if the operating system refuses the threads.
    pub fn with_threads(threads: usize) -> Result<Self> {
        Self::with(CpuOptions { threads, ..CpuOptions::default() })
    }

    /// As the options say.
    ///
    /// # Errors
    /// [`Error::Device`] if the operating system refuses the threads, or the processor cannot take the path.
    pub fn with(options: CpuOptions) -> Result<Self> {
        let queue = Queue::with_threads(options.threads)?;
        Self::on(queue).on_path(options.path.unwrap_or_else(Path::detect))
    }

    /// On a queue of the caller's, on the fastest path.
    pub fn on(queue: Queue) -> Self {
        Self { queue, path: Path::detect(), pool: Arc::default() }
    }

    /// The same threads on another path.
    ///
    /// # Errors
    /// [`Error::Device`] if the processor cannot take it.
    pub fn on_path(self, path: Path) -> Result<Self> {
        path.check()?;
        Ok(Self { path, ..self })
    }

    /// Number of threads of the queues this backend makes.
    pub fn threads(&self) -> usize {
        self.queue.threads()
    }

    /// The instruction set.
    pub fn path(&self) -> Path {
        self.path
    }
}

/// The rows of a view with their limbs.
pub(crate) fn rows<'a, D: Domain>(view: &View<'a, Cpu, D>) -> Vec<(usize, &'a [u64])> {
    let degree = view.degree();
    view.rows().map(|(limb, buffer, offset)| (limb, &buffer.as_slice()[offset..][..degree])).collect()
}

/// The rows of an output with their limbs, in the order of [`rows`].
pub(crate) fn rows_mut<'v, D: Domain>(view: &'v mut ViewMut<'_, Cpu, D>) -> Vec<(usize, &'v mut [u64])> {
    let limbs = view.limbs();
    let mut all = Vec::with_capacity(view.batch() * limbs.len());
    for segment in view.segments_mut() {
        let Extent { limbs: stored, degree, .. } = segment.extent;
        let start = segment.extent.offset(segment.first, 0);
        let words = &mut segment.buffer.as_mut_slice()[start..][..segment.count * stored.len() * degree];
        let rows = words.chunks_exact_mut(degree);
        all.extend(
            (0..segment.count)
                .flat_map(|_| stored.iter())
                .zip(rows)
                .filter(|(limb, _)| limbs.contains(*limb)),
        );
    }
    all
}

/// The rows of a first operand, `None` where it is the output itself.
fn input_rows<'a, D: Domain>(input: &Input<'a, Cpu, D>, count: usize) -> Vec<Option<&'a [u64]>> {
    match input {
        Input::InPlace => vec![None; count],
        Input::From(view) => rows(view).into_iter().map(|(_, row)| Some(row)).collect(),
    }
}

fn out_of_range(
    operation: &'static str,
    what: &'static str,
    index: usize,
    detail: impl Into<String>,
) -> Error {
    Error::Value { operation, what, index, detail: detail.into() }
}

/// Runs a row kernel for every row of `out` with the matching rows of `a` and, if there is one, of `b`.
fn row_by_row<D: Domain, E: Domain>(
    queue: &Queue,
    tables: &Tables,
    out: &mut ViewMut<'_, Cpu, D>,
    a: &Input<'_, Cpu, E>,
    b: Option<&View<'_, Cpu, D>>,
    kernel: impl Fn(&mut [u64], Option<&[u64]>, Option<&[u64]>, usize) + Send + Sync,
) -> Result<()> {
    debug_assert!(out.limbs().is_subset(tables.ring().limbs()));
    let out = rows_mut(out);
    let a = input_rows(a, out.len());
    let b =
        b.map_or_else(|| vec![None; out.len()], |b| rows(b).into_iter().map(|(_, row)| Some(row)).collect());
    let words = out.len() * tables.ring().degree();
    let items = out.into_iter().zip(a).zip(b).collect();
    queue.for_each(items, words, |(((limb, out), a), b)| {
        kernel(out, a, b, limb);
        Ok(())
    })
}

/// One packed row per polynomial and limb.
fn unpack_polynomials<D: Domain>(
    queue: &Queue,
    tables: &Tables,
    out: &mut ViewMut<'_, Cpu, D>,
    coefficients: usize,
    packed: &[u8],
) -> Result<()> {
    let (limbs, words) = (out.limbs().len(), out.batch() * out.limbs().len() * out.degree());
    let mut rest = packed;
    let rows = rows_mut(out).into_iter().enumerate().map(|(index, (limb, row))| {
        let q = tables.limb(limb).modulus;
        let (bytes, later) = rest.split_at(check::packed_row(coefficients, q.bits()));
        rest = later;
        (index / limbs, q, row, bytes)
    });
    let items = rows.collect();
    queue.for_each(items, words, |(index, q, row, bytes): (usize, Modulus, &mut [u64], &[u8])| {
        let (filled, zeros) = row.split_at_mut(coefficients);
        zeros.fill(0);
        portable::unpack(filled, bytes, q).map_err(|at| not_packed(index, at, coefficients, q))
    })
}

/// One packed row per coefficient and limb: unpacked a block of rows at a time, so that the transposition stays in cache.
fn unpack_coefficients<D: Domain>(
    queue: &Queue,
    tables: &Tables,
    out: &mut ViewMut<'_, Cpu, D>,
    coefficients: usize,
    packed: &[u8],
) -> Result<()> {
    const BLOCK: usize = 8;
    let (batch, limbs) = (out.batch(), out.limbs());
    let row_bytes = check::packed_rows(tables.ring(), limbs, batch);
    let words = batch * limbs.len() * out.degree();
    // For each limb, the rows of all polynomials cut into blocks of coefficients.
    let mut cuts: Vec<_> = rows_mut(out)
        .into_iter()
        .map(|(_, row)| {
            let (filled, zeros) = row.split_at_mut(coefficients);
            zeros.fill(0);
            filled.chunks_mut(BLOCK)
        })
        .collect();
    let mut items = Vec::new();
    for start in (0..coefficients).step_by(BLOCK) {
        let mut skipped = 0;
        for (rank, limb) in limbs.iter().enumerate() {
            let q = tables.limb(limb).modulus;
            let columns = cuts.iter_mut().skip(rank).step_by(limbs.len()).flat_map(Iterator::next);
            items.push((start, q, skipped, columns.collect::<Vec<_>>()));
            skipped += check::packed_row(batch, q.bits());
        }
    }
    queue.for_each(items, words, |(start, q, skipped, columns)| {
        let count = columns.first().map_or(0, |column| column.len());
        let mut lines = vec![0; count * batch];
        for (i, line) in lines.chunks_exact_mut(batch.max(1)).enumerate() {
            let bytes = &packed[(start + i) * row_bytes + skipped..][..check::packed_row(batch, q.bits())];
            portable::unpack(line, bytes, q).map_err(|at| not_packed(start + i, at, batch, q))?;
        }
        // Column by column: columns lie a power of two apart, so that few of their cache lines fit at a time, and each
        // should be visited once only.
        for (j, column) in columns.into_iter().enumerate() {
            column.iter_mut().zip(lines[j..].iter().step_by(batch)).for_each(|(out, &x)| *out = x);
        }
        Ok(())
    })
}

/// What [`portable::unpack`] found at position `at` of a row of `count` values.
fn not_packed(row: usize, at: usize, count: usize, q: Modulus) -> Error {
    if at < count {
        out_of_range("unpack", "residue", at, format!("row {row}: not below {}", q.value()))
    } else {
        out_of_range("unpack", "padding", at, format!("row {row}: not zero"))
    }
}

/// Coefficients that a thread takes at a time where all limbs of a coefficient are needed together.
const STRETCH: usize = 1024;

/// The same for matrix products.
const MATRIX_STRETCH: usize = 512;

impl Backend for Cpu {
    type Buffer = Buffer;
    type Queue = Queue;
    type Event = ();
    type Tables = Tables;
    type Converter = Converter;
    type Prepared = Prepared;
    type Matrix = Matrix;

    fn name(&self) -> String {
        format!("cpu ({})", self.path)
    }

    fn queue(&self) -> Result<Queue> {
        Ok(self.queue.clone())
    }

    fn synchronize(&self, _: &Queue) -> Result<()> {
        Ok(())
    }

    fn record(&self, _: &Queue) -> Result<()> {
        Ok(())
    }

    fn wait(&self, _: &Queue, _: &()) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, _: &Queue, words: usize) -> Result<Buffer> {
        self.pool.take(words).ok_or_else(|| Error::Device {
            place: format!("allocating {words} words"),
            message: "not enough memory".into(),
        })
    }

    fn write(&self, _: &Queue, buffer: &mut Buffer, offset: usize, words: &[u64]) -> Result<()> {
        let available = buffer.words();
        offset
            .checked_add(words.len())
            .and_then(|end| buffer.as_mut_slice().get_mut(offset..end))
            .map(|target| target.copy_from_slice(words))
            .ok_or_else(|| Error::shape("write", "stretch of words", (offset, words.len()), 0..available))
    }

    fn read(&self, _: &Queue, buffer: &Buffer, offset: usize, words: &mut [u64]) -> Result<()> {
        offset
            .checked_add(words.len())
            .and_then(|end| buffer.as_slice().get(offset..end))
            .map(|source| words.copy_from_slice(source))
            .ok_or_else(|| Error::shape("read", "stretch of words", (offset, words.len()), 0..buffer.words()))
    }

    fn wipe(&self, _: &Queue, buffer: &mut Buffer) -> Result<()> {
        buffer.as_mut_slice().fill(0);
        // Keeps the compiler from dropping a write to memory that is about to be freed.
        std::hint::black_box(buffer.as_mut_slice());
        Ok(())
    }

    fn tables(&self, _: &Queue, ring: &Ring) -> Result<Tables> {
        Tables::new(ring, self.path)
    }

    fn converter(&self, _: &Queue, tables: &Tables, source: LimbSet, target: LimbSet) -> Result<Converter> {
        check::converter(tables.ring(), source, target)?;
        Ok(Converter::new(tables.ring(), source, target))
    }

    fn prepare(
        &self,
        queue: &Queue,
        tables: &Tables,
        polynomials: &View<'_, Self, Evaluation>,
    ) -> Result<Prepared> {
        check::prepare(tables, polynomials)?;
        let extent =
            Extent { batch: polynomials.batch(), limbs: polynomials.limbs(), degree: polynomials.degree() };
        let buffer = self.allocate(queue, extent.words())?;
        Ok(Prepared::new(buffer, extent, rows(polynomials).into_iter().map(|(_, row)| row)))
    }

    fn matrix(&self, _: &Queue, _: &Tables, rows: usize, columns: usize, entries: &[i64]) -> Result<Matrix> {
        check::matrix(rows, columns, entries)?;
        Ok(Matrix::new(rows, columns, entries))
    }

    fn ntt(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: Input<'_, Self, Coefficient>,
    ) -> Result<()> {
        check::unary("ntt", tables, out, &input)?;
        row_by_row(queue, tables, out, &input, None, |out, a, _, limb| {
            if let Some(a) = a {
                out.copy_from_slice(a);
            }
            tables.limb(limb).ntt(out);
        })
    }

    fn intt(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: Input<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::unary("intt", tables, out, &input)?;
        row_by_row(queue, tables, out, &input, None, |out, a, _, limb| {
            tables.limb(limb).intt_from(out, a);
        })
    }

    fn automorphism<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
        element: usize,
    ) -> Result<()> {
        check::automorphism(tables, out, input, element)?;
        row_by_row(queue, tables, out, &Input::from(input.clone()), None, |out, a, _, limb| {
            let a = a.unwrap_or_default();
            if D::IS_EVALUATION {
                tables.limb(limb).automorphism_values(out, a, element);
            } else {
                tables.limb(limb).automorphism_coefficients(out, a, element);
            }
        })
    }

    fn copy<D: Domain>(
        &self,
        queue: &Queue,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        check::copy(out, input)?;
        let words = out.batch() * out.limbs().len() * out.degree();
        let items = rows_mut(out).into_iter().zip(rows(input)).collect();
        queue.for_each(items, words, |((_, out), (_, row))| {
            out.copy_from_slice(row);
            Ok(())
        })
    }

    fn add<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        check::binary("add", tables, out, &a, b)?;
        row_by_row(queue, tables, out, &a, Some(b), |out, a, b, limb| {
            tables.limb(limb).add(out, a, b.unwrap_or_default());
        })
    }

    fn sub<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        check::binary("sub", tables, out, &a, b)?;
        row_by_row(queue, tables, out, &a, Some(b), |out, a, b, limb| {
            tables.limb(limb).sub(out, a, b.unwrap_or_default());
        })
    }

    fn negate<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
    ) -> Result<()> {
        check::unary("negate", tables, out, &a)?;
        row_by_row(queue, tables, out, &a, None, |out, a, _, limb| {
            tables.limb(limb).negate(out, a);
        })
    }

    fn multiply(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::binary("multiply", tables, out, &a, b)?;
        row_by_row(queue, tables, out, &a, Some(b), |out, a, b, limb| {
            tables.limb(limb).multiply(out, a, b.unwrap_or_default());
        })
    }

    fn multiply_accumulate(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let a = Input::from(a.clone());
        check::binary("multiply_accumulate", tables, out, &a, b)?;
        row_by_row(queue, tables, out, &a, Some(b), |out, a, b, limb| {
            tables.limb(limb).multiply_accumulate(out, a.unwrap_or_default(), b.unwrap_or_default());
        })
    }

    fn scale_add<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        scalars: &[u64],
        b: Option<&View<'_, Self, D>>,
    ) -> Result<()> {
        check::scale_add(tables, out, &a, scalars, b)?;
        let limbs = out.limbs();
        row_by_row(queue, tables, out, &a, b, |out, a, b, limb| {
            tables.limb(limb).scale_add(out, a, scalars[limbs.rank(limb)], b);
        })
    }

    fn base_convert(
        &self,
        queue: &Queue,
        tables: &Tables,
        converter: &Converter,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: &View<'_, Self, Coefficient>,
    ) -> Result<()> {
        check::base_convert(tables, converter, out, input)?;
        let degree = out.degree();
        let words = out.batch() * (out.limbs().len() + input.limbs().len()) * degree;
        let (targets, sources) = (out.limbs().len(), input.limbs().len());
        let inputs = rows(input);
        let mut outputs =
            rows_mut(out).into_iter().map(|(_, row)| row.chunks_mut(STRETCH)).collect::<Vec<_>>();
        let mut items = Vec::new();
        for (outputs, inputs) in outputs.chunks_mut(targets).zip(inputs.chunks(sources)) {
            for start in (0..degree).step_by(STRETCH) {
                let inputs = inputs.iter().map(|(_, row)| &row[start..degree.min(start + STRETCH)]);
                items.push((
                    outputs.iter_mut().flat_map(Iterator::next).collect::<Vec<_>>(),
                    inputs.collect::<Vec<_>>(),
                ));
            }
        }
        queue.for_each(items, words, |(mut outputs, inputs)| {
            kernels::base_convert(tables, &mut outputs, &inputs, converter);
            Ok(())
        })
    }

    fn inner_product(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()> {
        check::inner_product(tables, out, left, right)?;
        let limbs = out.limbs().len();
        let left: Vec<_> = left.iter().map(rows).collect();
        let words = out.batch() * limbs * out.degree() * left.len();
        let items = rows_mut(out).into_iter().enumerate().collect();
        queue.for_each(items, words, |(index, (limb, out))| {
            let left_rows: Vec<_> = left.iter().map(|term| term[index].1).collect();
            let terms = right.prepared.terms(limb, right.entry(0, index / limbs), right.term_stride);
            tables.limb(limb).inner_product(out, &left_rows, terms);
            Ok(())
        })
    }

    fn matrix_product<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        matrix: &Matrix,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        check::matrix_product(tables, out, matrix, input)?;
        let (limbs, degree) = (out.limbs().len(), out.degree());
        let words = matrix.rows * matrix.columns * limbs * degree;
        let inputs = rows(input);
        let constants: Vec<_> =
            out.limbs().iter().map(|limb| tables.limb(limb).matrix_constants(matrix)).collect();
        // An item is a stretch of one limb: all rows of the result from one pass over the inputs.
        let mut outputs: Vec<_> =
            rows_mut(out).into_iter().map(|(limb, row)| (limb, row.chunks_mut(MATRIX_STRETCH))).collect();
        let mut items = Vec::new();
        for start in (0..degree).step_by(MATRIX_STRETCH) {
            for index in 0..limbs {
                let limb = outputs.get(index).map_or(0, |(limb, _)| *limb);
                let column = outputs.iter_mut().skip(index).step_by(limbs);
                items.push((
                    limb,
                    index,
                    start,
                    column.filter_map(|(_, row)| row.next()).collect::<Vec<_>>(),
                ));
            }
        }
        queue.for_each(items, words, |(limb, index, start, mut outputs)| {
            let stretch = start..degree.min(start + MATRIX_STRETCH);
            let column = inputs.iter().skip(index).step_by(limbs).map(|(_, row)| &row[stretch.clone()]);
            tables.limb(limb).matrix_rows(
                &mut outputs,
                matrix,
                &constants[index],
                &column.collect::<Vec<_>>(),
            );
            Ok(())
        })
    }

    fn quantise(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &Buffer,
        how: Quantise,
    ) -> Result<()> {
        check::quantise(tables, out, values.words(), how)?;
        let limbs = out.limbs().len();
        let words = out.batch() * limbs * out.degree();
        let values = values.as_slice();
        let index_of = |polynomial: usize, i: usize| {
            how.first + polynomial * how.batch_stride + i * how.coefficient_stride
        };
        // Refused as a whole: the output stays as it was.
        let limit = portable::quantise_limit(how.scale_bits);
        let fits = |value: u64| f64::from_bits(value).abs() < limit;
        for b in 0..out.batch() {
            // Neighbours are compared several at a time, without an early end.
            let neighbours = values.get(index_of(b, 0)..).and_then(|values| values.get(..how.count));
            if how.coefficient_stride == 1
                && neighbours.is_some_and(|values| values.iter().fold(true, |all, &x| all & fits(x)))
            {
                continue;
            }
            if let Some(index) = (0..how.count).map(|i| index_of(b, i)).find(|&index| !fits(values[index])) {
                let detail = format!("{} times 2^{}", f64::from_bits(values[index]), how.scale_bits);
                return Err(out_of_range("quantise", "value", index, detail));
            }
        }
        let items = rows_mut(out).into_iter().enumerate().collect();
        queue.for_each(items, words, |(index, (limb, row))| {
            let table = tables.limb(limb);
            let (filled, rest) = row.split_at_mut(how.count);
            rest.fill(0);
            let first = index_of(index / limbs, 0);
            if how.coefficient_stride == 1 {
                table.quantise(filled, &values[first..][..how.count], how.scale_bits);
                return Ok(());
            }
            let mut gathered = [0; 64];
            for (part, filled) in filled.chunks_mut(gathered.len()).enumerate() {
                let gathered = &mut gathered[..filled.len()];
                for (i, value) in gathered.iter_mut().enumerate() {
                    *value = values[first + (part * 64 + i) * how.coefficient_stride];
                }
                table.quantise(filled, gathered, how.scale_bits);
            }
            Ok(())
        })
    }

    fn expand_seed(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()> {
        check::expand_seed(tables, out, labels)?;
        let limbs = out.limbs().len();
        let words = out.batch() * limbs * out.degree();
        let items = rows_mut(out).into_iter().enumerate().collect();
        queue.for_each(items, words, |(index, (limb, row))| {
            tables.limb(limb).expand_seed(row, &labels[index / limbs]);
            Ok(())
        })
    }

    fn unpack<D: Domain>(
        &self,
        queue: &Queue,
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()> {
        check::unpack(tables, out, packing, packed)?;
        match packing {
            Packing::ByPolynomial { coefficients } => {
                unpack_polynomials(queue, tables, out, coefficients, packed)
            }
            Packing::ByCoefficient { coefficients } => {
                unpack_coefficients(queue, tables, out, coefficients, packed)
            }
        }
    }

    fn trim(
        &self,
        queue: &Queue,
        tables: &Tables,
        input: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()> {
        check::trim(tables, input, bits, positions, packed)?;
        if packed.is_empty() {
            return Ok(());
        }
        let bytes = check::packed_row(positions.count, bits);
        let items = rows(input).into_iter().zip(packed.chunks_exact_mut(bytes)).collect();
        queue.for_each(items, input.batch() * positions.count, |((limb, row), packed)| {
            let trimmer = kernels::Trimmer::new(tables.limb(limb).modulus, bits);
            portable::pack(positions.iter().map(|i| trimmer.trim(row[i])), bits, packed);
            Ok(())
        })
    }

    fn mod_down_parts(
        &self,
        queue: &Queue,
        tables: &Tables,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        switching::mod_down(queue, tables, parts, out, input)
    }

    fn mod_up_parts(
        &self,
        queue: &Queue,
        tables: &Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        switching::mod_up(queue, tables, parts, input)
    }

    fn gadget_product_parts(
        &self,
        queue: &Queue,
        tables: &Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Prepared,
    ) -> Result<()> {
        switching::gadget_product(queue, tables, parts, key)
    }

    fn key_switch_parts(
        &self,
        queue: &Queue,
        tables: &Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        d: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        if switching::by_limbs(queue, parts.coefficients.limbs(), d.batch()) {
            switching::key_switch(queue, tables, parts, key, out, d)
        } else {
            arras_rns::switching::key_switch(self, queue, tables, parts, key, out, d)
        }
    }

    fn key_switch_automorphism_parts(
        &self,
        queue: &Queue,
        tables: &Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        image: Image<'_, '_, Self>,
    ) -> Result<()> {
        if switching::by_limbs(queue, parts.coefficients.limbs(), parts.coefficients.batch()) {
            switching::key_switch_automorphism(queue, tables, parts, key, out, image)
        } else {
            arras_rns::switching::key_switch_automorphism(self, queue, tables, parts, key, out, image)
        }
    }
}
