//! One operation on its way to the device: operands become what kernels take.

use std::sync::Arc;

use arras_rns::{Domain, Error, LimbSet, Result, Ring, RingTables, Storage};
use bytemuck::{Pod, Zeroable};

use crate::backend::Cuda;
use crate::driver::Launch;
use crate::kernels::Kernel;
use crate::memory::{Buffer, Line};
use crate::nvtx::Range;
use crate::queue::Queue;
use crate::tables::Tables;
use crate::{DevicePtr, Driver, abi};

/// The most blocks in y and z.
const MAX_BLOCKS: usize = 65535;

/// An operation of one queue. What it stages for its kernels lives until it is queued.
pub(crate) struct Call<'c, D: Driver> {
    cuda: &'c Cuda<D>,
    line: &'c Arc<Line<D>>,
    operation: &'static str,
    staged: Vec<Buffer<D>>,
    _range: Range,
}

impl<'c, D: Driver> Call<'c, D> {
    pub(crate) fn new(cuda: &'c Cuda<D>, queue: &'c Queue<D>, operation: &'static str) -> Self {
        Self { cuda, line: &queue.line, operation, staged: Vec::new(), _range: Range::new(operation) }
    }

    /// The limbs and polynomials that kernels go through, with the constants of the ring.
    pub(crate) fn shape(&self, tables: &Tables<D>, limbs: LimbSet, batch: usize) -> Result<abi::Shape> {
        let mut shape = self.bare_shape(tables.ring().degree(), limbs, batch)?;
        shape.limb = tables.buffer.used_by(self.line);
        Ok(shape)
    }

    /// The same for kernels that need no constants.
    pub(crate) fn bare_shape(&self, degree: usize, limbs: LimbSet, batch: usize) -> Result<abi::Shape> {
        let too_many = || Error::shape(self.operation, "batch", batch, 0..u32::MAX);
        Ok(abi::Shape {
            log_degree: degree.trailing_zeros(),
            limbs: limbs.len() as u32,
            batch: u32::try_from(batch).map_err(|_| too_many())?,
            id: ids(limbs.iter()),
            ..Zeroable::zeroed()
        })
    }

    /// A view as kernels take it: strides if it has any, else a table of its rows.
    pub(crate) fn view<X: Domain>(&mut self, view: &arras_rns::View<'_, Cuda<D>, X>) -> Result<abi::View> {
        for segment in view.segments() {
            segment.buffer.used_by(self.line);
        }
        if let Some(view) = strided(view) {
            return Ok(view);
        }
        let rows: Vec<DevicePtr> =
            view.rows().map(|(_, buffer, offset)| buffer.ptr().offset(8 * offset)).collect();
        let rows = self.stage(bytemuck::cast_slice(&rows), 0)?;
        Ok(abi::View { rows, ..Zeroable::zeroed() })
    }

    /// A copy of `bytes` on the device, with `spare` more behind, until the operation is queued.
    pub(crate) fn stage(&mut self, bytes: &[u8], spare: usize) -> Result<DevicePtr> {
        let buffer = Buffer::holding(self.line, bytes, spare, self.operation)?;
        let ptr = buffer.ptr();
        self.staged.push(buffer);
        Ok(ptr)
    }

    /// The driver.
    pub(crate) fn driver(&self) -> &D {
        &self.line.driver
    }

    /// Memory of `words` words.
    pub(crate) fn allocate(&self, words: usize) -> Result<Buffer<D>> {
        Buffer::allocate(self.line, words, self.operation)
    }

    /// Memory that holds `bytes`.
    pub(crate) fn holding(&self, bytes: &[u8]) -> Result<Buffer<D>> {
        Buffer::holding(self.line, bytes, 0, self.operation)
    }

    /// Copies `bytes` to an address in `buffer`, which was made by this operation.
    pub(crate) fn upload(&self, buffer: &Buffer<D>, to: DevicePtr, bytes: &[u8]) -> Result<()> {
        let offset = (to.0 - buffer.ptr().0) as usize / 8;
        buffer.stretch(offset, bytes.len().div_ceil(8)).ok_or_else(|| {
            Error::shape(
                self.operation,
                "stretch of words",
                (offset, bytes.len().div_ceil(8)),
                0..buffer.words(),
            )
        })?;
        let Line { driver, stream } = &**self.line;
        // SAFETY: the stretch is inside the buffer, which was made on this stream.
        let uploaded = unsafe { driver.upload(stream, to, bytes) };
        uploaded.map_err(|error| error.during(self.operation))
    }

    /// The address of memory that the operation uses.
    pub(crate) fn address(&self, buffer: &Buffer<D>) -> DevicePtr {
        buffer.used_by(self.line)
    }

    /// Launches a kernel by the grid rule `rows`: `columns` threads in x, limbs in y, the batch in z.
    pub(crate) fn rows<A: Pod>(
        &self,
        kernel: Kernel,
        columns: usize,
        shape: &abi::Shape,
        arguments: &A,
    ) -> Result<()> {
        let blocks = columns.div_ceil(kernel.threads() as usize);
        self.launch(kernel, [blocks, shape.limbs as usize, shape.batch as usize], 0, arguments)
    }

    /// Launches a kernel, unless the grid is empty; z is cut to what a device can take.
    pub(crate) fn launch<A: Pod>(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        shared: usize,
        arguments: &A,
    ) -> Result<()> {
        self.launch_function(self.cuda.functions().get(kernel), kernel.threads(), grid, shared, arguments)
    }

    /// The same for a function with blocks of so many threads.
    pub(crate) fn launch_function<A: Pod>(
        &self,
        function: &D::Function,
        threads: u32,
        grid: [usize; 3],
        shared: usize,
        arguments: &A,
    ) -> Result<()> {
        let [x, y, z] = grid;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let grid = [x as u32, y as u32, z.min(MAX_BLOCKS) as u32];
        let launch = Launch { grid, threads, shared };
        let Line { driver, stream } = &**self.line;
        // SAFETY: `A` is the structure of the kernel (abi.h), its addresses come from views and buffers that were checked and are
        // noted as used by this stream, and the grid is the one that the kernel is written for.
        let launched = unsafe { driver.launch(stream, function, launch, bytemuck::bytes_of(arguments)) };
        launched.map_err(|error| error.during(self.operation))
    }
}

/// Limb ids as kernels take them.
pub(crate) fn ids(limbs: impl Iterator<Item = usize>) -> [u8; abi::LIMBS] {
    let mut ids = [0; abi::LIMBS];
    ids.iter_mut().zip(limbs).for_each(|(id, limb)| *id = limb as u8);
    ids
}

/// The rows of `limbs` among those that are stored.
pub(crate) fn ranks(limbs: LimbSet, stored: LimbSet) -> [u8; abi::LIMBS] {
    ids(limbs.iter().map(|limb| stored.rank(limb)))
}

/// A view of one stretch of memory whose limbs lie at equal distances, and whose polynomials do if it is repeated.
fn strided<D: Driver, X: Domain>(view: &arras_rns::View<'_, Cuda<D>, X>) -> Option<abi::View> {
    let [segment] = view.segments() else { return None };
    if view.repetitions() > 1 && segment.count > 1 {
        return None;
    }
    let stored = segment.extent.limbs;
    let mut ranks = view.limbs().iter().map(|limb| stored.rank(limb));
    let first = ranks.next()?;
    let steps: Vec<usize> =
        ranks.scan(first, |last, rank| Some(rank - std::mem::replace(last, rank))).collect();
    let step = steps.first().copied().unwrap_or(0);
    if steps.iter().any(|&other| other != step) {
        return None;
    }
    let degree = segment.extent.degree;
    let batch = if segment.count > 1 { stored.len() * degree } else { 0 };
    let base = segment.buffer.ptr().offset(8 * (segment.first * stored.len() + first) * degree);
    Some(abi::View {
        base,
        rows: DevicePtr::NULL,
        batch_stride: batch as u64,
        limb_stride: (step * degree) as u64,
    })
}

impl<D: Driver> Tables<D> {
    /// The moduli of some limbs, in order.
    pub(crate) fn moduli(&self, limbs: LimbSet) -> Vec<u64> {
        let ring: &Ring = self.ring();
        limbs.iter().map(|limb| ring.modulus(limb).value()).collect()
    }
}
