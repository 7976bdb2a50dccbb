//! The contract of `arras-rns` on host memory.

use std::sync::Arc;

use arras_rns::poly::Extent;
use arras_rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Modulus, Packing, Positions,
    PreparedView, Quantise, Result, Ring, RingTables, SeedLabel, Storage, View, ViewMut, check,
};

use crate::memory::Buffer;
use crate::portable;
use crate::queue::Queue;
use crate::tables::{Converter, Matrix, Prepared, Tables};

/// The CPU as a backend.
#[derive(Clone, Debug)]
pub struct Cpu {
    queue: Queue,
}

impl Cpu {
    /// Everything on the calling thread.
    pub fn sequential() -> Self {
        Self { queue: Queue::sequential() }
    }

    /// With `threads` threads of its own; 0 takes one per core.
    ///
    /// # Errors
    /// [`Error::Device`] if the operating system refuses the threads.
    pub fn with_threads(threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("arras-cpu-{i}"))
            .build()
            .map_err(|error| Error::Device {
                place: "starting threads".into(),
                message: error.to_string(),
            })?;
        Ok(Self {
            queue: if pool.current_num_threads() == 1 {
                Queue::sequential()
            } else {
                Queue::with_pool(Arc::new(pool))
            },
        })
    }

    /// On a queue of the caller's.
    pub fn on(queue: Queue) -> Self {
        Self { queue }
    }

    /// Number of threads of the queues this backend makes.
    pub fn threads(&self) -> usize {
        self.queue.threads()
    }
}

/// The rows of a view with their limbs.
fn rows<'a, D: Domain>(view: &View<'a, Cpu, D>) -> Vec<(usize, &'a [u64])> {
    let degree = view.degree();
    view.rows().map(|(limb, buffer, offset)| (limb, &buffer.as_slice()[offset..][..degree])).collect()
}

/// The rows of an output with their limbs, in the order of [`rows`].
fn rows_mut<'v, D: Domain>(view: &'v mut ViewMut<'_, Cpu, D>) -> Vec<(usize, &'v mut [u64])> {
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
    queue.for_each(items, words, |(start, q, skipped, mut columns)| {
        let mut line = vec![0; batch];
        let count = columns.first().map_or(0, |column| column.len());
        for i in 0..count {
            let bytes = &packed[(start + i) * row_bytes + skipped..][..check::packed_row(batch, q.bits())];
            portable::unpack(&mut line, bytes, q).map_err(|at| not_packed(start + i, at, batch, q))?;
            columns.iter_mut().zip(&line).for_each(|(column, &x)| column[i] = x);
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

impl Backend for Cpu {
    type Buffer = Buffer;
    type Queue = Queue;
    type Event = ();
    type Tables = Tables;
    type Converter = Converter;
    type Prepared = Prepared;
    type Matrix = Matrix;

    fn name(&self) -> String {
        "cpu (portable)".into()
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
        Buffer::new(words).ok_or_else(|| Error::Device {
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
        Ok(Tables::new(ring))
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
        let mut buffer = self.allocate(queue, extent.words())?;
        self.download(queue, polynomials, buffer.as_mut_slice())?;
        Ok(Prepared { buffer, extent })
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
            portable::ntt(out, tables.limb(limb));
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
            if let Some(a) = a {
                out.copy_from_slice(a);
            }
            portable::intt(out, tables.limb(limb));
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
                portable::automorphism_values(out, a, element);
            } else {
                portable::automorphism_coefficients(out, a, element, tables.limb(limb).modulus);
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
            portable::add(out, a, b.unwrap_or_default(), tables.limb(limb).modulus);
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
            portable::sub(out, a, b.unwrap_or_default(), tables.limb(limb).modulus);
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
            portable::negate(out, a, tables.limb(limb).modulus);
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
            portable::multiply(out, a, b.unwrap_or_default(), tables.limb(limb).modulus);
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
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            portable::multiply_accumulate(out, a, b, tables.limb(limb).modulus);
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
            portable::scale_add(out, a, scalars[limbs.rank(limb)], b, tables.limb(limb).modulus);
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
            portable::base_convert(&mut outputs, &inputs, converter);
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
        let degree = right.prepared.extent.degree;
        if degree != out.degree() {
            return Err(Error::shape(
                "inner_product",
                "degree of the prepared operand",
                degree,
                out.degree(),
            ));
        }
        let limbs = out.limbs().len();
        let left: Vec<_> = left.iter().map(rows).collect();
        let words = out.batch() * limbs * out.degree() * left.len();
        let items = rows_mut(out).into_iter().enumerate().collect();
        queue.for_each(items, words, |(index, (limb, out))| {
            let left_rows: Vec<_> = left.iter().map(|term| term[index].1).collect();
            let right_rows: Vec<_> =
                (0..left.len()).map(|k| right.prepared.row(right.entry(k, index / limbs), limb)).collect();
            portable::inner_product(out, &left_rows, &right_rows, tables.limb(limb).modulus);
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
        let limbs = out.limbs().len();
        let words = matrix.rows * matrix.columns * limbs * out.degree();
        let inputs = rows(input);
        let items = rows_mut(out).into_iter().enumerate().collect();
        queue.for_each(items, words, |(index, (limb, out))| {
            let weights = &matrix.entries[index / limbs * matrix.columns..][..matrix.columns];
            let column: Vec<_> =
                inputs.iter().skip(index % limbs).step_by(limbs).map(|(_, row)| *row).collect();
            portable::matrix_row(
                out,
                weights,
                &column,
                matrix.terms_per_reduction,
                tables.limb(limb).modulus,
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
        let value_at = |polynomial: usize, i: usize| {
            let index = how.first + polynomial * how.batch_stride + i * how.coefficient_stride;
            let x = f64::from_bits(values[index]);
            portable::quantise(x, how.scale_bits).ok_or_else(|| {
                out_of_range("quantise", "value", index, format!("{x} times 2^{}", how.scale_bits))
            })
        };
        // Refused as a whole: the output stays as it was.
        (0..out.batch()).try_for_each(|b| (0..how.count).try_for_each(|i| value_at(b, i).map(drop)))?;
        let items = rows_mut(out).into_iter().enumerate().collect();
        queue.for_each(items, words, |(index, (limb, row))| {
            let q = tables.limb(limb).modulus;
            let (filled, rest) = row.split_at_mut(how.count);
            for (i, out) in filled.iter_mut().enumerate() {
                *out = q.reduce_signed(value_at(index / limbs, i)?.into());
            }
            rest.fill(0);
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
            labels[index / limbs].expand(tables.limb(limb).modulus, row);
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
            let q = tables.limb(limb).modulus;
            portable::pack(positions.iter().map(|i| portable::trim(row[i], bits, q)), bits, packed);
            Ok(())
        })
    }
}
