//! A backend on plain vectors that does everything at once and allocates as it likes.
//!
//! Shapes are checked by [`arras::rns::check`], as in every backend; the fused operations (key switching, division by
//! dropped primes) are the provided ones.

use arras::rns::backend::{Conversion, IntegerMatrix, Multiplicands};
use arras::rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Modulus, Packing, Positions, PreparedView,
    Quantise, Result, Ring, RingTables, SeedLabel, Storage, View, ViewMut, check,
};

use crate::words;

/// The backend. It has no state.
#[derive(Debug)]
pub struct Toy;

/// Words.
#[derive(Debug)]
pub struct Memory(Vec<u64>);

/// A ring, with the roots its transforms need.
#[derive(Debug)]
pub struct Tables {
    ring: Ring,
    twiddles: Vec<[Vec<u64>; 2]>,
}

/// From which limbs to which.
#[derive(Debug)]
pub struct Converter(LimbSet, LimbSet);

/// Rows `[polynomial][limb]`.
#[derive(Debug)]
pub struct Prepared {
    rows: Vec<Vec<u64>>,
    limbs: LimbSet,
    degree: usize,
}

/// Entries row by row.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    entries: Vec<i64>,
}

impl Storage for Memory {
    fn words(&self) -> usize {
        self.0.len()
    }
}

impl RingTables for Tables {
    fn ring(&self) -> &Ring {
        &self.ring
    }
}

impl Conversion for Converter {
    fn source(&self) -> LimbSet {
        self.0
    }

    fn target(&self) -> LimbSet {
        self.1
    }
}

impl Multiplicands for Prepared {
    fn entries(&self) -> usize {
        self.rows.len() / self.limbs.len()
    }

    fn limbs(&self) -> LimbSet {
        self.limbs
    }

    fn degree(&self) -> usize {
        self.degree
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

/// The rows of a view, polynomial by polynomial and limb by limb.
fn rows<D: Domain>(view: &View<'_, Toy, D>) -> Vec<Vec<u64>> {
    view.rows().map(|(_, memory, at)| memory.0[at..at + view.degree()].to_vec()).collect()
}

/// The rows of a first operand.
fn operand<D: Domain, E: Domain>(out: &ViewMut<'_, Toy, D>, input: &Input<'_, Toy, E>) -> Vec<Vec<u64>> {
    match input {
        Input::InPlace => rows(&out.as_view()),
        Input::From(view) => rows(view),
    }
}

/// Writes the rows of an output, each computed from its index and its limb.
fn fill<D: Domain>(out: &mut ViewMut<'_, Toy, D>, mut row: impl FnMut(usize, usize) -> Vec<u64>) {
    let (limbs, degree) = (out.limbs(), out.degree());
    let mut number = 0;
    for segment in out.segments_mut() {
        for index in segment.first..segment.first + segment.count {
            for limb in limbs.iter() {
                let at = segment.extent.offset(index, limb);
                segment.buffer.0[at..at + degree].copy_from_slice(&row(number, limb));
                number += 1;
            }
        }
    }
}

/// An operation on single residues: `f(modulus, a, b)`.
fn pointwise<D: Domain>(
    tables: &Tables,
    out: &mut ViewMut<'_, Toy, D>,
    a: &[Vec<u64>],
    b: &[Vec<u64>],
    f: impl Fn(Modulus, u64, u64) -> u64,
) {
    fill(out, |i, limb| {
        let q = tables.ring.modulus(limb);
        a[i].iter().zip(&b[i]).map(|(&a, &b)| f(q, a, b)).collect()
    });
}

/// The stretch of a buffer that a copy asks for.
fn stretch(operation: &'static str, offset: usize, count: usize, words: usize) -> Result<std::ops::Range<usize>> {
    match offset.checked_add(count) {
        Some(end) if end <= words => Ok(offset..end),
        end => Err(Error::shape(operation, "last word", end, 0..words + 1)),
    }
}

/// What [`Backend::unpack`] refuses in a row: a residue that is none, padding that is not zero.
fn refuse_packed(bytes: &[u8], residues: &[u64], q: Modulus) -> Result<()> {
    let value = |what, index, detail| Err(Error::Value { operation: "unpack", what, index, detail });
    if let Some(index) = residues.iter().position(|&x| x >= q.value()) {
        return value("residue", index, format!("{} is not below {}", residues[index], q.value()));
    }
    let used = residues.len() * q.bits() as usize;
    let padding = bytes.last().map_or(0, |&last| u32::from(last) >> (used - 8 * (bytes.len() - 1)));
    if padding != 0 { value("padding", bytes.len() - 1, format!("{padding} is not 0")) } else { Ok(()) }
}

impl Backend for Toy {
    type Buffer = Memory;
    type Queue = ();
    type Event = ();
    type Tables = Tables;
    type Converter = Converter;
    type Prepared = Prepared;
    type Matrix = Matrix;

    fn name(&self) -> String {
        "toy".into()
    }

    fn queue(&self) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn record(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn wait(&self, (): &(), (): &()) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, (): &(), words: usize) -> Result<Memory> {
        let mut memory = Vec::new();
        let refused = |error| Error::Device { place: "allocate".into(), message: format!("{words} words: {error}") };
        memory.try_reserve_exact(words).map_err(refused)?;
        memory.resize(words, 0);
        Ok(Memory(memory))
    }

    fn write(&self, (): &(), buffer: &mut Memory, offset: usize, words: &[u64]) -> Result<()> {
        let range = stretch("write", offset, words.len(), buffer.words())?;
        buffer.0[range].copy_from_slice(words);
        Ok(())
    }

    fn read(&self, (): &(), buffer: &Memory, offset: usize, words: &mut [u64]) -> Result<()> {
        let range = stretch("read", offset, words.len(), buffer.words())?;
        words.copy_from_slice(&buffer.0[range]);
        Ok(())
    }

    fn wipe(&self, (): &(), buffer: &mut Memory) -> Result<()> {
        buffer.0.fill(0);
        Ok(())
    }

    fn tables(&self, (): &(), ring: &Ring) -> Result<Tables> {
        let twiddles = |limb| [ring.twiddles(limb), ring.inverse_twiddles(limb)];
        Ok(Tables { ring: ring.clone(), twiddles: ring.limbs().iter().map(twiddles).collect() })
    }

    fn converter(&self, (): &(), tables: &Tables, source: LimbSet, target: LimbSet) -> Result<Converter> {
        check::converter(&tables.ring, source, target)?;
        Ok(Converter(source, target))
    }

    fn prepare(&self, (): &(), tables: &Tables, polynomials: &View<'_, Self, Evaluation>) -> Result<Prepared> {
        check::prepare(tables, polynomials)?;
        Ok(Prepared { rows: rows(polynomials), limbs: polynomials.limbs(), degree: polynomials.degree() })
    }

    fn matrix(&self, (): &(), _: &Tables, rows: usize, columns: usize, entries: &[i64]) -> Result<Matrix> {
        check::matrix(rows, columns, entries)?;
        Ok(Matrix { rows, columns, entries: entries.to_vec() })
    }

    fn ntt(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: Input<'_, Self, Coefficient>,
    ) -> Result<()> {
        check::unary("ntt", tables, out, &input)?;
        let mut rows = operand(out, &input);
        fill(out, |i, limb| {
            words::ntt(&mut rows[i], tables.ring.modulus(limb), &tables.twiddles[limb][0]);
            std::mem::take(&mut rows[i])
        });
        Ok(())
    }

    fn intt(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: Input<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::unary("intt", tables, out, &input)?;
        let mut rows = operand(out, &input);
        fill(out, |i, limb| {
            words::intt(&mut rows[i], tables.ring.modulus(limb), &tables.twiddles[limb][1]);
            std::mem::take(&mut rows[i])
        });
        Ok(())
    }

    fn automorphism<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
        element: usize,
    ) -> Result<()> {
        check::automorphism(tables, out, input, element)?;
        let rows = rows(input);
        fill(out, |i, limb| match D::IS_EVALUATION {
            true => words::permute_values(&rows[i], element),
            false => words::permute_coefficients(&rows[i], element, tables.ring.modulus(limb)),
        });
        Ok(())
    }

    fn copy<D: Domain>(&self, (): &(), out: &mut ViewMut<'_, Self, D>, input: &View<'_, Self, D>) -> Result<()> {
        check::copy(out, input)?;
        let mut rows = rows(input);
        fill(out, |i, _| std::mem::take(&mut rows[i]));
        Ok(())
    }

    fn add<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        check::binary("add", tables, out, &a, b)?;
        let a = operand(out, &a);
        pointwise(tables, out, &a, &rows(b), |q, a, b| q.add(a, b));
        Ok(())
    }

    fn sub<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        check::binary("sub", tables, out, &a, b)?;
        let a = operand(out, &a);
        pointwise(tables, out, &a, &rows(b), |q, a, b| q.sub(a, b));
        Ok(())
    }

    fn negate<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
    ) -> Result<()> {
        check::unary("negate", tables, out, &a)?;
        let a = operand(out, &a);
        pointwise(tables, out, &a, &a, |q, a, _| q.sub(0, a));
        Ok(())
    }

    fn multiply(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::binary("multiply", tables, out, &a, b)?;
        let a = operand(out, &a);
        pointwise(tables, out, &a, &rows(b), |q, a, b| q.mul(a, b));
        Ok(())
    }

    fn multiply_accumulate(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::binary("multiply_accumulate", tables, out, &Input::From(a.clone()), b)?;
        let (sums, a, b) = (rows(&out.as_view()), rows(a), rows(b));
        fill(out, |i, limb| {
            let q = tables.ring.modulus(limb);
            let terms = a[i].iter().zip(&b[i]).map(|(&a, &b)| q.mul(a, b));
            sums[i].iter().zip(terms).map(|(&sum, term)| q.add(sum, term)).collect()
        });
        Ok(())
    }

    fn scale_add<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        scalars: &[u64],
        b: Option<&View<'_, Self, D>>,
    ) -> Result<()> {
        check::scale_add(tables, out, &a, scalars, b)?;
        let (limbs, a, b) = (out.limbs(), operand(out, &a), b.map(rows));
        fill(out, |i, limb| {
            let (q, scalar) = (tables.ring.modulus(limb), scalars[limbs.rank(limb)]);
            let addend = |j: usize| b.as_ref().map_or(0, |b| b[i][j]);
            a[i].iter().enumerate().map(|(j, &a)| q.add(q.mul(a, scalar), addend(j))).collect()
        });
        Ok(())
    }

    fn base_convert(
        &self,
        (): &(),
        tables: &Tables,
        converter: &Converter,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: &View<'_, Self, Coefficient>,
    ) -> Result<()> {
        check::base_convert(tables, converter, out, input)?;
        let source: Vec<usize> = converter.0.iter().collect();
        let target: Vec<usize> = converter.1.iter().collect();
        let mut converted = Vec::new();
        for polynomial in rows(input).chunks_exact(source.len()) {
            let mut limbs = vec![Vec::new(); target.len()];
            for j in 0..input.degree() {
                let residues: Vec<u64> = polynomial.iter().map(|row| row[j]).collect();
                let images = words::convert(&residues, &source, &target, &tables.ring);
                limbs.iter_mut().zip(images).for_each(|(row, image)| row.push(image));
            }
            converted.extend(limbs);
        }
        fill(out, |i, _| std::mem::take(&mut converted[i]));
        Ok(())
    }

    fn inner_product(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()> {
        check::inner_product(tables, out, left, right)?;
        let (limbs, factors) = (out.limbs(), right.prepared);
        let left: Vec<Vec<Vec<u64>>> = left.iter().map(rows).collect();
        fill(out, |i, limb| {
            let (q, polynomial) = (tables.ring.modulus(limb), i / limbs.len());
            let mut sums = vec![0; tables.ring.degree()];
            for (k, term) in left.iter().enumerate() {
                let entry = right.entry(k, polynomial);
                let row = &factors.rows[entry * factors.limbs.len() + factors.limbs.rank(limb)];
                let products = term[i].iter().zip(row).map(|(&a, &b)| q.mul(a, b));
                sums.iter_mut().zip(products).for_each(|(sum, product)| *sum = q.add(*sum, product));
            }
            sums
        });
        Ok(())
    }

    fn matrix_product<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        matrix: &Matrix,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        check::matrix_product(tables, out, matrix, input)?;
        let (limbs, input) = (out.limbs(), rows(input));
        fill(out, |i, limb| {
            let (q, r, rank) = (tables.ring.modulus(limb), i / limbs.len(), i % limbs.len());
            let mut sums = vec![0; tables.ring.degree()];
            for (c, &entry) in matrix.entries[r * matrix.columns..][..matrix.columns].iter().enumerate() {
                let weight = words::signed(entry.into(), q);
                let row = &input[c * limbs.len() + rank];
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum = q.add(*sum, q.mul(weight, x)));
            }
            sums
        });
        Ok(())
    }

    fn quantise(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &Memory,
        how: Quantise,
    ) -> Result<()> {
        check::quantise(tables, out, values.words(), how)?;
        let at = |b: usize, i: usize| how.first + b * how.batch_stride + i * how.coefficient_stride;
        let integer = |index: usize| {
            let value = f64::from_bits(values.0[index]);
            words::quantise(value, how.scale_bits).ok_or_else(|| {
                let detail = format!("{value} times 2^{} is not finite and below 2^62", how.scale_bits);
                Error::Value { operation: "quantise", what: "value", index, detail }
            })
        };
        let row = |b: usize| (0..how.count).map(|i| integer(at(b, i))).collect();
        let integers: Vec<Vec<i128>> = (0..out.batch()).map(row).collect::<Result<_>>()?;
        let (limbs, degree) = (out.limbs().len(), out.degree());
        fill(out, |i, limb| {
            let q = tables.ring.modulus(limb);
            let mut row: Vec<u64> = integers[i / limbs].iter().map(|&x| words::signed(x, q)).collect();
            row.resize(degree, 0);
            row
        });
        Ok(())
    }

    fn expand_seed(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()> {
        check::expand_seed(tables, out, labels)?;
        let limbs = out.limbs().len();
        fill(out, |i, limb| {
            let mut row = vec![0; tables.ring.degree()];
            labels[i / limbs].expand(tables.ring.modulus(limb), &mut row);
            row
        });
        Ok(())
    }

    fn unpack<D: Domain>(
        &self,
        (): &(),
        tables: &Tables,
        out: &mut ViewMut<'_, Self, D>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()> {
        check::unpack(tables, out, packing, packed)?;
        let (limbs, degree) = (out.limbs(), out.degree());
        let (count, length) = packing.extent(out.batch());
        let mut unpacked = vec![vec![0; degree]; out.batch() * limbs.len()];
        let mut rest = packed;
        for row in 0..count {
            for (rank, limb) in limbs.iter().enumerate() {
                let q = tables.ring.modulus(limb);
                let (bytes, after) = rest.split_at(check::packed_row(length, q.bits()));
                rest = after;
                let residues = words::unpack(bytes, q.bits(), length);
                refuse_packed(bytes, &residues, q)?;
                for (i, x) in residues.into_iter().enumerate() {
                    let (polynomial, coefficient) = match packing {
                        Packing::ByPolynomial { .. } => (row, i),
                        Packing::ByCoefficient { .. } => (i, row),
                    };
                    unpacked[polynomial * limbs.len() + rank][coefficient] = x;
                }
            }
        }
        fill(out, |i, _| std::mem::take(&mut unpacked[i]));
        Ok(())
    }

    fn trim(
        &self,
        (): &(),
        tables: &Tables,
        input: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()> {
        check::trim(tables, input, bits, positions, packed)?;
        let bytes = check::packed_row(positions.count, bits);
        if bytes == 0 {
            return Ok(());
        }
        for ((limb, memory, at), packed) in input.rows().zip(packed.chunks_exact_mut(bytes)) {
            let q = tables.ring.modulus(limb);
            words::pack(positions.iter().map(|i| words::trim(memory.0[at + i], bits, q)), bits, packed);
        }
        Ok(())
    }
}
