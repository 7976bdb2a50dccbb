//! Matrix products in 64-bit integer sums, or as exact products of doubles.

use arras_rns::{Domain, Result, RingTables, View, ViewMut};

use super::abi::{NarrowProductArgs, PiecesArgs};
use crate::call::Call;
use crate::driver::Gemm;
use crate::kernels::Kernel;
use crate::memory::Buffer;
use crate::queue::Queue;
use crate::tables::{Matrix, Tables};
use crate::{Cuda, Driver};

/// A matrix whose entries fit 32 bits.
#[derive(Debug)]
pub(crate) struct FastMatrix<D: Driver> {
    /// The largest magnitude of an entry.
    largest: u64,
    /// Rows of a tile: those of the kernel.
    tile: usize,
    /// `[tile][column][row]`.
    weights: Buffer<D>,
    /// The entries as doubles, row by row, if there are rows enough for [`Driver::gemm_f64`].
    doubles: Option<Buffer<D>>,
}

/// Bits of the lower piece of a residue of `bits` bits.
fn piece(bits: u32) -> u32 {
    bits.div_ceil(2)
}

/// Rows above which doubles win: below, all outputs are summed while an input passes by once.
const NARROW_ROWS: usize = 16;

impl<D: Driver> FastMatrix<D> {
    /// `None` if an entry does not fit 32 bits.
    pub(crate) fn new(
        call: &Call<'_, D>,
        rows: usize,
        columns: usize,
        entries: &[i64],
    ) -> Result<Option<Self>> {
        let largest = entries.iter().map(|entry| entry.unsigned_abs()).max().unwrap_or(0);
        if largest > i32::MAX as u64 || columns == 0 || rows == 0 {
            return Ok(None);
        }
        let tile = if rows <= 8 { 8 } else { 16 };
        let mut weights = vec![0i32; rows.div_ceil(tile) * columns * tile];
        for (row, entries) in entries.chunks_exact(columns).enumerate() {
            for (column, &entry) in entries.iter().enumerate() {
                weights[(row / tile * columns + column) * tile + row % tile] = entry as i32;
            }
        }
        let doubles = (rows > NARROW_ROWS).then(|| {
            let doubles: Vec<f64> = entries.iter().map(|&entry| entry as f64).collect();
            call.holding(bytemuck::cast_slice(&doubles))
        });
        let weights = call.holding(bytemuck::cast_slice(&weights))?;
        Ok(Some(Self { largest, tile, weights, doubles: doubles.transpose()? }))
    }

    /// Whether sums of products with both pieces of residues of `bits` bits stay below 2^63.
    fn fits_integers(&self, columns: usize, bits: u32) -> bool {
        fits(columns, piece(bits), self.largest, 63)
    }

    /// Whether they stay at or below 2^53, pieces being centred.
    fn fits_doubles(&self, columns: usize, bits: u32) -> bool {
        let bound = u128::from(self.largest) * columns as u128;
        bound << (piece(bits) - 1) <= 1 << 53
    }
}

/// `columns * largest * 2^piece < 2^limit`.
fn fits(columns: usize, piece: u32, largest: u64, limit: u32) -> bool {
    u128::from(largest) * columns as u128 * (1 << piece) < 1 << limit
}

impl<D: Driver> Cuda<D> {
    /// [`arras_rns::Backend::matrix_product`] for checked operands; `false` if the fast kernels cannot serve.
    pub(crate) fn fast_product<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        matrix: &Matrix<D>,
        input: &View<'_, Self, X>,
    ) -> Result<bool> {
        let Some(fast) = &matrix.fast else { return Ok(false) };
        // Pieces for the largest prime serve the others too.
        let bits = out.limbs().iter().map(|limb| tables.ring().modulus(limb).bits()).max().unwrap_or(0);
        if let Some(doubles) = &fast.doubles
            && fast.fits_doubles(matrix.columns, bits)
            && self.exact_doubles(queue)
        {
            self.double_product(queue, tables, out, (matrix, doubles, bits), input)?;
            return Ok(true);
        }
        if !fast.fits_integers(matrix.columns, bits) {
            return Ok(false);
        }
        self.narrow_product(queue, tables, out, (matrix, fast, bits), input)?;
        Ok(true)
    }

    fn narrow_product<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        (matrix, fast, bits): (&Matrix<D>, &FastMatrix<D>, u32),
        input: &View<'_, Self, X>,
    ) -> Result<()> {
        /// Coefficients of a block, and warps whose sums it adds up.
        const BLOCK: [usize; 2] = [16, 8];
        let kernel = if fast.tile == 8 { Kernel::MatrixNarrow8 } else { Kernel::MatrixNarrow16 };
        let shared = 2 * fast.tile * BLOCK[0] * BLOCK[1] * size_of::<i64>();
        let mut call = Call::new(self, queue, "matrix_product");
        let arguments = NarrowProductArgs {
            shape: call.shape(tables, out.limbs(), out.batch())?,
            out: call.view(&out.as_view())?,
            input: call.view(input)?,
            weights: call.address(&fast.weights),
            columns: matrix.columns as u32,
            piece: piece(bits),
        };
        let grid = [out.degree().div_ceil(BLOCK[0]), out.limbs().len(), matrix.rows.div_ceil(fast.tile)];
        call.launch(kernel, grid, shared, &arguments)
    }

    /// Limb by limb: residues to doubles, one product, doubles to residues.
    fn double_product<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        (matrix, doubles, bits): (&Matrix<D>, &Buffer<D>, u32),
        input: &View<'_, Self, X>,
    ) -> Result<()> {
        let width = 2 * out.degree();
        let call = Call::new(self, queue, "matrix_product");
        let (pieces, products) =
            (call.allocate(matrix.columns * width)?, call.allocate(matrix.rows * width)?);
        for limb in out.limbs().iter() {
            let single = arras_rns::LimbSet::single(limb);
            let mut call = Call::new(self, queue, "matrix_product");
            let mut arguments = PiecesArgs {
                shape: call.shape(tables, single, matrix.columns)?,
                residues: call.view(&input.clone().with_limbs(single)?)?,
                pieces: pieces.ptr(),
                piece: piece(bits),
                reserved: 0,
            };
            call.rows(Kernel::SplitPieces, out.degree(), &arguments.shape, &arguments)?;
            // Row by row here is column by column there: the transposed product.
            let gemm = Gemm {
                extent: [width, matrix.rows, matrix.columns],
                alpha: 1.0,
                a: (pieces.ptr(), width),
                b: (call.address(doubles), matrix.columns),
                beta: 0.0,
                c: (products.ptr(), width),
            };
            // SAFETY: the buffers have these extents, and are noted as used by this stream.
            let multiplied = unsafe { self.driver().gemm_f64(queue.stream(), gemm) };
            multiplied.map_err(|error| error.during("matrix_product"))?;
            arguments.shape = call.shape(tables, single, matrix.rows)?;
            arguments.residues = call.view(&out.as_view().with_limbs(single)?)?;
            arguments.pieces = products.ptr();
            call.rows(Kernel::JoinPieces, out.degree(), &arguments.shape, &arguments)?;
        }
        Ok(())
    }

    /// Whether the library's products are exact up to 2^53, tried once for each device. A library that emulates doubles, or
    /// has none, is found out here.
    fn exact_doubles(&self, queue: &Queue<D>) -> bool {
        *self.exact().get_or_init(|| self.try_doubles(queue).unwrap_or(false))
    }

    /// A product of the largest magnitudes allowed, signs and last bits in all combinations, against integers.
    fn try_doubles(&self, queue: &Queue<D>) -> Result<bool> {
        const M: usize = 64;
        const N: usize = 48;
        const K: usize = 512;
        // Their product with K is 2^53.
        const PIECE: i64 = 1 << 24;
        const WEIGHT: i64 = 1 << 20;
        // Magnitudes at the bound or one less; row 0 and column 0 are constant, so that their sum is 2^53.
        let entry = |row: usize, i: usize, bound: i64| {
            let word = (row * K + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let odd = i64::from(row > 0 && word & 1 == 1);
            if row > 1 && word & 2 == 2 { odd - bound } else { bound - odd }
        };
        let left: Vec<i64> = (0..K * M).map(|at| entry(at % M, at / M, PIECE)).collect();
        let right: Vec<i64> = (0..K * N).map(|at| entry(at / K, at % K, WEIGHT)).collect();
        let double = |integers: &[i64]| integers.iter().map(|&x| x as f64).collect::<Vec<_>>();
        let call = Call::new(self, queue, "matrix_product");
        let a = call.holding(bytemuck::cast_slice(&double(&left)))?;
        let b = call.holding(bytemuck::cast_slice(&double(&right)))?;
        let c = call.allocate(M * N)?;
        let gemm = Gemm {
            extent: [M, N, K],
            alpha: 1.0,
            a: (a.ptr(), M),
            b: (b.ptr(), K),
            beta: 0.0,
            c: (c.ptr(), M),
        };
        // SAFETY: the buffers have these extents and were made on this stream.
        let multiplied = unsafe { self.driver().gemm_f64(queue.stream(), gemm) };
        multiplied.map_err(|error| error.during("matrix_product"))?;
        let mut product = vec![0f64; M * N];
        // SAFETY: as above.
        let read = unsafe {
            self.driver().download(queue.stream(), bytemuck::cast_slice_mut(&mut product), c.ptr())
        };
        read.map_err(|error| error.during("matrix_product"))?;
        let expected = |at: usize| (0..K).map(|i| left[i * M + at % M] * right[at / M * K + i]).sum::<i64>();
        Ok(product.iter().enumerate().all(|(at, &x)| x == expected(at) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::{fits, piece};

    #[test]
    fn bounds_are_those_of_the_kernels() {
        // 768 columns of 50-bit residues: 2^9.58 * 2^25 * 2^28 < 2^63, one bit more is too much.
        assert!(fits(768, piece(50), 1 << 28, 63) && !fits(768, piece(50), 1 << 29, 63));
    }
}
