//! The contract of `arras-rns` on a GPU.

use std::sync::{Arc, OnceLock};

use arras_rns::backend::Conversion;
use arras_rns::poly::Extent;
use arras_rns::switching::{self, KeySwitchParts, ModDownParts};
use arras_rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Packing, Positions, PreparedView,
    Quantise, Result, Ring, RingTables, SeedLabel, Storage, View, ViewMut, check,
};
use bytemuck::Zeroable;

use crate::call::{Call, ids, ranks};
use crate::fast::{Extension, FastMatrix, Transforms};
use crate::kernels::{Functions, Kernel};
use crate::memory::Buffer;
use crate::nvtx::Range;
use crate::queue::{Checked, Event, Queue};
use crate::tables::{self, Converter, Matrix, Prepared, Tables};
use crate::{DevicePtr, Driver, Images, abi, driver};

/// A GPU as a backend.
///
/// With a GPU and the kernels of the build it is `Cuda::new(NvidiaDriver::open(0)?, &arras::KERNELS)`; without one, launches are
/// counted:
///
/// ```
/// use arras_cuda::Cuda;
/// use arras_cuda::counting::CountingDriver;
/// use arras_rns::{Backend, Coefficient, Input, Poly, Ring, prime::ntt_primes};
///
/// let cuda = Cuda::counting(CountingDriver::h200())?;
/// let ring = Ring::new(4096, &ntt_primes(50, 4096, 2, &[])?)?;
/// let (queue, limbs) = (cuda.queue()?, ring.limbs());
/// let tables = cuda.tables(&queue, &ring)?;
/// let mut sum: Poly<_, Coefficient> = Poly::allocate(&cuda, &queue, &ring, limbs, 8)?;
/// let other: Poly<_, Coefficient> = Poly::allocate(&cuda, &queue, &ring, limbs, 8)?;
/// cuda.driver().take();
/// cuda.add(&queue, &tables, &mut sum.view_mut(), Input::InPlace, &other.view())?;
/// // One launch for the batch.
/// let noted = cuda.driver().take();
/// assert_eq!((noted.len(), noted[0].entry.as_str()), (1, "arras_add"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cuda<D: Driver> {
    inner: Arc<Inner<D>>,
}

#[derive(Debug)]
struct Inner<D: Driver> {
    driver: Arc<D>,
    functions: Functions<D>,
    /// Whether products of doubles turned out to be exact.
    exact: OnceLock<bool>,
    /// Whether the fast kernels stay out.
    simple: bool,
}

impl<D: Driver> Clone for Cuda<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

/// The largest degree whose rows fit the shared memory that every block may have.
const BLOCK_DEGREE: usize = 1 << 12;

impl<D: Driver> Cuda<D> {
    /// A device with these kernels.
    ///
    /// # Errors
    /// [`DriverError::Abi`](crate::DriverError::Abi) if the images were compiled from other headers,
    /// [`DriverError::MissingKernel`](crate::DriverError::MissingKernel) if one lacks a kernel, and what the driver refuses.
    pub fn new(driver: D, images: &Images<'_>) -> driver::Result<Self> {
        Self::with(driver, images, false)
    }

    /// The same with the simple kernels alone, transforms a stage at a time: the oracle of the fast ones.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn simple(driver: D, images: &Images<'_>) -> driver::Result<Self> {
        Self::with(driver, images, true)
    }

    fn with(driver: D, images: &Images<'_>, simple: bool) -> driver::Result<Self> {
        let functions = Functions::load(&driver, images)?;
        let inner = Inner { driver: Arc::new(driver), functions, exact: OnceLock::new(), simple };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        &self.inner.driver
    }

    pub(crate) fn functions(&self) -> &Functions<D> {
        &self.inner.functions
    }

    pub(crate) fn exact(&self) -> &OnceLock<bool> {
        &self.inner.exact
    }

    /// A queue on a stream of the caller's.
    pub fn queue_on(&self, stream: D::Stream) -> Queue<D> {
        Queue::new(self.inner.driver.clone(), stream)
    }

    /// An operation with up to two operands of the shape of its output.
    fn pointwise<X: Domain, Y: Domain>(
        &self,
        mut call: Call<'_, D>,
        shape: abi::Shape,
        kernel: Kernel,
        out: &ViewMut<'_, Self, X>,
        a: &Input<'_, Self, Y>,
        b: Option<&View<'_, Self, X>>,
    ) -> Result<()> {
        let arguments = abi::PointwiseArgs {
            shape,
            out: call.view(&out.as_view())?,
            a: first(&mut call, out, a)?,
            b: b.map_or(Ok(Zeroable::zeroed()), |b| call.view(b))?,
        };
        call.rows(kernel, out.degree() / 2, &shape, &arguments)
    }

    /// A transform: one of the fast ones, or small rows in shared memory, or stage by stage.
    fn transform<X: Domain, Y: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        input: &Input<'_, Self, Y>,
        operation: &'static str,
    ) -> Result<()> {
        check::unary(operation, tables, out, input)?;
        let mut call = Call::new(self, queue, operation);
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let degree = out.degree();
        if let Some(transforms) = &tables.transforms {
            let (to, from) = (call.view(&out.as_view())?, first(&mut call, out, input)?);
            return if X::IS_EVALUATION {
                transforms.forward(&call, &shape, to, from)
            } else {
                transforms.inverse(&call, &shape, to, from, None)
            };
        }
        if degree <= BLOCK_DEGREE && !self.inner.simple {
            let kernel = if X::IS_EVALUATION { Kernel::NttBlock } else { Kernel::InttBlock };
            let arguments = abi::PointwiseArgs {
                shape,
                out: call.view(&out.as_view())?,
                a: first(&mut call, out, input)?,
                b: Zeroable::zeroed(),
            };
            return call.launch(
                kernel,
                [1, shape.limbs as usize, shape.batch as usize],
                8 * degree,
                &arguments,
            );
        }
        if let Input::From(_) = input {
            let copy = Call::new(self, queue, operation);
            self.pointwise(copy, shape, Kernel::Copy, out, input, None)?;
        }
        let kernel = if X::IS_EVALUATION { Kernel::NttStage } else { Kernel::InttStage };
        let mut arguments = abi::StageArgs { shape, out: call.view(&out.as_view())?, log_half: 0, last: 0 };
        for stage in 0..shape.log_degree {
            arguments.last = u32::from(stage + 1 == shape.log_degree);
            arguments.log_half = if X::IS_EVALUATION { shape.log_degree - 1 - stage } else { stage };
            call.rows(kernel, degree / 2, &shape, &arguments)?;
        }
        Ok(())
    }
}

/// The first operand of an operation.
fn first<D: Driver, X: Domain, Y: Domain>(
    call: &mut Call<'_, D>,
    out: &ViewMut<'_, Cuda<D>, X>,
    a: &Input<'_, Cuda<D>, Y>,
) -> Result<abi::View> {
    match a {
        Input::InPlace => call.view(&out.as_view()),
        Input::From(view) => call.view(view),
    }
}

fn outside(operation: &'static str, found: (usize, usize), words: usize) -> Error {
    Error::shape(operation, "stretch of words", found, 0..words)
}

/// The kernel arguments of a label: the message up to the prime, as words.
fn message(label: &SeedLabel, ring: &Ring) -> abi::SeedMessage {
    let mut message: abi::SeedMessage = Zeroable::zeroed();
    // The prime comes last; any will do here.
    if let Some(&modulus) = ring.moduli().first() {
        let bytes = label.message(modulus);
        for (word, bytes) in message.word.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
    }
    message
}

impl<D: Driver> Backend for Cuda<D> {
    type Buffer = Buffer<D>;
    type Queue = Queue<D>;
    type Event = Event<D>;
    type Tables = Tables<D>;
    type Converter = Converter<D>;
    type Prepared = Prepared<D>;
    type Matrix = Matrix<D>;

    fn name(&self) -> String {
        let device = self.driver().device();
        format!("cuda ({}, sm_{}{})", device.name, device.capability.0, device.capability.1)
    }

    fn queue(&self) -> Result<Queue<D>> {
        self.driver().stream().map(|stream| self.queue_on(stream)).map_err(|error| error.during("queue"))
    }

    fn synchronize(&self, queue: &Queue<D>) -> Result<()> {
        let _range = Range::new("synchronize");
        queue.synchronize()
    }

    fn record(&self, queue: &Queue<D>) -> Result<Event<D>> {
        let _range = Range::new("record");
        let recorded = self.driver().event(false).and_then(|event| {
            self.driver().record(queue.stream(), &event)?;
            Ok(Event { event })
        });
        recorded.map_err(|error| error.during("record"))
    }

    fn wait(&self, queue: &Queue<D>, event: &Event<D>) -> Result<()> {
        let _range = Range::new("wait");
        self.driver().wait(queue.stream(), &event.event).map_err(|error| error.during("wait"))
    }

    fn allocate(&self, queue: &Queue<D>, words: usize) -> Result<Buffer<D>> {
        let _range = Range::new("allocate");
        Buffer::allocate(&queue.line, words, "allocate")
    }

    fn write(&self, queue: &Queue<D>, buffer: &mut Buffer<D>, offset: usize, words: &[u64]) -> Result<()> {
        let _range = Range::new("write");
        let refused = || outside("write", (offset, words.len()), buffer.words());
        let to = buffer.stretch(offset, words.len()).ok_or_else(refused)?;
        if words.is_empty() {
            return Ok(());
        }
        buffer.used_by(&queue.line);
        // SAFETY: the stretch is inside the buffer, which knows that this stream uses it.
        let uploaded = unsafe { self.driver().upload(queue.stream(), to, bytemuck::cast_slice(words)) };
        uploaded.map_err(|error| error.during("write"))
    }

    fn read(&self, queue: &Queue<D>, buffer: &Buffer<D>, offset: usize, words: &mut [u64]) -> Result<()> {
        let _range = Range::new("read");
        let refused = || outside("read", (offset, words.len()), buffer.words());
        let from = buffer.stretch(offset, words.len()).ok_or_else(refused)?;
        if words.is_empty() {
            return queue.settle();
        }
        buffer.used_by(&queue.line);
        // SAFETY: the stretch is inside the buffer, which knows that this stream uses it.
        let read = unsafe { self.driver().download(queue.stream(), bytemuck::cast_slice_mut(words), from) };
        read.map_err(|error| error.during("read"))?;
        queue.settle()
    }

    fn wipe(&self, queue: &Queue<D>, buffer: &mut Buffer<D>) -> Result<()> {
        let _range = Range::new("wipe");
        if buffer.words() == 0 {
            return Ok(());
        }
        let ptr = buffer.used_by(&queue.line);
        // SAFETY: the buffer is that long, and knows that this stream uses it.
        let wiped = unsafe { self.driver().fill(queue.stream(), ptr, 0, 8 * buffer.words()) };
        wiped.map_err(|error| error.during("wipe"))
    }

    fn tables(&self, queue: &Queue<D>, ring: &Ring) -> Result<Tables<D>> {
        let _range = Range::new("tables");
        let buffer = Buffer::allocate(&queue.line, tables::table_words(ring), "tables")?;
        let bytes = tables::table_bytes(ring, buffer.ptr());
        // SAFETY: just allocated on this stream, for exactly these bytes.
        let uploaded = unsafe { self.driver().upload(queue.stream(), buffer.ptr(), &bytes) };
        uploaded.map_err(|error| error.during("tables"))?;
        let call = Call::new(self, queue, "tables");
        let transforms = match self.inner.simple {
            true => None,
            false => Transforms::new(&call, self.functions(), ring, buffer.ptr())?,
        };
        Ok(Tables { ring: ring.clone(), buffer, transforms })
    }

    fn converter(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        source: LimbSet,
        target: LimbSet,
    ) -> Result<Converter<D>> {
        let _range = Range::new("converter");
        check::converter(tables.ring(), source, target)?;
        let bytes = tables::conversion_bytes(tables.ring(), source, target);
        let buffer = Buffer::holding(&queue.line, &bytes, 0, "converter")?;
        let call = Call::new(self, queue, "converter");
        let extension = tables.transforms.as_ref().map(|transforms| {
            Extension::new(&call, self.functions(), transforms, tables.ring(), (source, target))
        });
        Ok(Converter { source, target, buffer, extension: extension.transpose()?.flatten() })
    }

    fn prepare(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        polynomials: &View<'_, Self, Evaluation>,
    ) -> Result<Prepared<D>> {
        let _range = Range::new("prepare");
        check::prepare(tables, polynomials)?;
        let extent =
            Extent { batch: polynomials.batch(), limbs: polynomials.limbs(), degree: polynomials.degree() };
        let buffer = self.gather(queue, polynomials, "prepare")?;
        Ok(Prepared { buffer, extent })
    }

    fn matrix(
        &self,
        queue: &Queue<D>,
        _: &Tables<D>,
        rows: usize,
        columns: usize,
        entries: &[i64],
    ) -> Result<Matrix<D>> {
        let _range = Range::new("matrix");
        check::matrix(rows, columns, entries)?;
        let buffer = Buffer::holding(&queue.line, bytemuck::cast_slice(entries), 0, "matrix")?;
        let fast = match self.inner.simple {
            true => None,
            false => FastMatrix::new(&Call::new(self, queue, "matrix"), rows, columns, entries)?,
        };
        Ok(Matrix { rows, columns, buffer, terms: tables::terms(entries), fast })
    }

    fn ntt(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: Input<'_, Self, Coefficient>,
    ) -> Result<()> {
        self.transform(queue, tables, out, &input, "ntt")
    }

    fn intt(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: Input<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.transform(queue, tables, out, &input, "intt")
    }

    fn automorphism<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        input: &View<'_, Self, X>,
        element: usize,
    ) -> Result<()> {
        check::automorphism(tables, out, input, element)?;
        let mut call = Call::new(self, queue, "automorphism");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let arguments = abi::AutomorphismArgs {
            shape,
            out: call.view(&out.as_view())?,
            a: call.view(input)?,
            element: element as u32,
            evaluation: u32::from(X::IS_EVALUATION),
        };
        call.rows(Kernel::Automorphism, out.degree(), &shape, &arguments)
    }

    fn copy<X: Domain>(
        &self,
        queue: &Queue<D>,
        out: &mut ViewMut<'_, Self, X>,
        input: &View<'_, Self, X>,
    ) -> Result<()> {
        check::copy(out, input)?;
        let call = Call::new(self, queue, "copy");
        let shape = call.bare_shape(out.degree(), out.limbs(), out.batch())?;
        self.pointwise(call, shape, Kernel::Copy, out, &input.clone().into(), None)
    }

    fn add<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        a: Input<'_, Self, X>,
        b: &View<'_, Self, X>,
    ) -> Result<()> {
        check::binary("add", tables, out, &a, b)?;
        let call = Call::new(self, queue, "add");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        self.pointwise(call, shape, Kernel::Add, out, &a, Some(b))
    }

    fn sub<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        a: Input<'_, Self, X>,
        b: &View<'_, Self, X>,
    ) -> Result<()> {
        check::binary("sub", tables, out, &a, b)?;
        let call = Call::new(self, queue, "sub");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        self.pointwise(call, shape, Kernel::Sub, out, &a, Some(b))
    }

    fn negate<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        a: Input<'_, Self, X>,
    ) -> Result<()> {
        check::unary("negate", tables, out, &a)?;
        let call = Call::new(self, queue, "negate");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        self.pointwise(call, shape, Kernel::Negate, out, &a, None)
    }

    fn multiply(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        check::binary("multiply", tables, out, &a, b)?;
        let call = Call::new(self, queue, "multiply");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        self.pointwise(call, shape, Kernel::Multiply, out, &a, Some(b))
    }

    fn multiply_accumulate(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let a = Input::from(a.clone());
        check::binary("multiply_accumulate", tables, out, &a, b)?;
        let call = Call::new(self, queue, "multiply_accumulate");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        self.pointwise(call, shape, Kernel::MultiplyAccumulate, out, &a, Some(b))
    }

    fn scale_add<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        a: Input<'_, Self, X>,
        scalars: &[u64],
        b: Option<&View<'_, Self, X>>,
    ) -> Result<()> {
        check::scale_add(tables, out, &a, scalars, b)?;
        let mut call = Call::new(self, queue, "scale_add");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let mut scalar = [abi::Factor::zeroed(); abi::LIMBS];
        for ((factor, limb), &value) in scalar.iter_mut().zip(out.limbs().iter()).zip(scalars) {
            *factor = tables::factor(tables.ring().modulus(limb), value);
        }
        let arguments = abi::ScaleArgs {
            shape,
            out: call.view(&out.as_view())?,
            a: first(&mut call, out, &a)?,
            b: b.map_or(Ok(Zeroable::zeroed()), |b| call.view(b))?,
            reserved: 0,
            scalar,
        };
        call.rows(Kernel::ScaleAdd, out.degree() / 2, &shape, &arguments)
    }

    fn base_convert(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        converter: &Converter<D>,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: &View<'_, Self, Coefficient>,
    ) -> Result<()> {
        check::base_convert(tables, converter, out, input)?;
        let mut call = Call::new(self, queue, "base_convert");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let (scale, sources) = (call.address(&converter.buffer), converter.source().len());
        let arguments = abi::ConvertArgs {
            shape,
            out: call.view(&out.as_view())?,
            input: call.view(input)?,
            scale,
            weights: scale.offset(sources * size_of::<abi::Factor>()),
            sources: sources as u32,
            reserved: 0,
            source: ids(converter.source().iter()),
        };
        call.rows(Kernel::BaseConvert, out.degree(), &shape, &arguments)
    }

    fn inner_product(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()> {
        check::inner_product(tables, out, left, right)?;
        let Extent { limbs: stored, degree, .. } = right.prepared.extent;
        let mut call = Call::new(self, queue, "inner_product");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let views = left.iter().map(|term| call.view(term)).collect::<Result<Vec<_>>>()?;
        let arguments = abi::InnerProductArgs {
            shape,
            out: call.view(&out.as_view())?,
            left: call.stage(bytemuck::cast_slice(&views), 0)?,
            terms: left.len() as u64,
            right: abi::Prepared {
                base: call.address(&right.prepared.buffer),
                entry_stride: (stored.len() * degree) as u64,
                first: right.first as u64,
                term_stride: right.term_stride as u64,
                batch_stride: right.batch_stride as u64,
                row: ranks(out.limbs(), stored),
            },
        };
        call.rows(Kernel::InnerProduct, degree, &shape, &arguments)
    }

    fn matrix_product<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        matrix: &Matrix<D>,
        input: &View<'_, Self, X>,
    ) -> Result<()> {
        check::matrix_product(tables, out, matrix, input)?;
        if self.fast_product(queue, tables, out, matrix, input)? {
            return Ok(());
        }
        let mut call = Call::new(self, queue, "matrix_product");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let arguments = abi::MatrixProductArgs {
            shape,
            out: call.view(&out.as_view())?,
            input: call.view(input)?,
            entries: call.address(&matrix.buffer),
            columns: matrix.columns as u32,
            terms: matrix.terms,
        };
        call.rows(Kernel::MatrixProduct, out.degree(), &shape, &arguments)
    }

    fn mod_down_parts(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let _range = Range::new("mod_down");
        if self.divide(queue, tables, parts, out, input)? {
            return Ok(());
        }
        switching::mod_down(self, queue, tables, parts, out, input)
    }

    fn mod_up_parts(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        parts: &mut KeySwitchParts<'_, Self>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let _range = Range::new("mod_up");
        if self.extend(queue, tables, parts, input)? {
            return Ok(());
        }
        switching::mod_up(self, queue, tables, parts, input)
    }

    fn gadget_product_parts(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Prepared<D>,
    ) -> Result<()> {
        let _range = Range::new("gadget_product");
        if self.both_products(queue, tables, parts, key)? {
            return Ok(());
        }
        switching::gadget_product(self, queue, tables, parts, key)
    }

    fn quantise(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &Buffer<D>,
        how: Quantise,
    ) -> Result<()> {
        check::quantise(tables, out, values.words(), how)?;
        let mut call = Call::new(self, queue, "quantise");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let found = queue.check(Checked::Quantise(how), "quantise")?;
        let arguments = abi::QuantiseArgs {
            shape,
            out: call.view(&out.as_view())?,
            values: call.address(values),
            first: how.first as u64,
            batch_stride: how.batch_stride as u64,
            coefficient_stride: how.coefficient_stride as u64,
            count: how.count as u64,
            fault: found.place(),
            scale_bits: how.scale_bits,
            reserved: 0,
        };
        call.rows(Kernel::Quantise, out.degree(), &shape, &arguments)?;
        queue.keep(found);
        Ok(())
    }

    fn expand_seed(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()> {
        check::expand_seed(tables, out, labels)?;
        let mut call = Call::new(self, queue, "expand_seed");
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let messages: Vec<_> = labels.iter().map(|label| message(label, tables.ring())).collect();
        let arguments = abi::ExpandArgs {
            shape,
            out: call.view(&out.as_view())?,
            message: call.stage(bytemuck::cast_slice(&messages), 0)?,
        };
        call.rows(Kernel::ExpandSeed, out.degree() / 4, &shape, &arguments)
    }

    fn unpack<X: Domain>(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, X>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()> {
        check::unpack(tables, out, packing, packed)?;
        let (limbs, (_, values)) = (out.limbs(), packing.extent(out.batch()));
        let mut call = Call::new(self, queue, "unpack");
        let shape = call.shape(tables, limbs, out.batch())?;
        let moduli = tables.moduli(limbs);
        let found = queue.check(Checked::Unpack { moduli, values }, "unpack")?;
        let mut offset = [0; abi::LIMBS];
        let mut row_bytes = 0;
        for (offset, limb) in offset.iter_mut().zip(limbs.iter()) {
            *offset = row_bytes as u64;
            row_bytes += check::packed_row(values, tables.ring().modulus(limb).bits());
        }
        let arguments = abi::UnpackArgs {
            shape,
            out: call.view(&out.as_view())?,
            // The kernel reads whole words, and the one behind the last.
            packed: call.stage(packed, 16)?,
            row_bytes: row_bytes as u64,
            fault: found.place(),
            coefficients: packing.coefficients() as u32,
            transposed: u32::from(matches!(packing, Packing::ByCoefficient { .. })),
            offset,
        };
        call.rows(Kernel::Unpack, out.degree(), &shape, &arguments)?;
        queue.keep(found);
        Ok(())
    }

    fn trim(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        input: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()> {
        check::trim(tables, input, bits, positions, packed)?;
        if packed.is_empty() {
            return queue.settle();
        }
        let row_bytes = check::packed_row(positions.count, bits);
        let mut call = Call::new(self, queue, "trim");
        let shape = call.shape(tables, input.limbs(), input.batch())?;
        let room = Buffer::allocate(&queue.line, packed.len().div_ceil(8), "trim")?;
        let arguments = abi::TrimArgs {
            shape,
            input: call.view(input)?,
            packed: call.address(&room),
            row_bytes: row_bytes as u64,
            bits,
            first: positions.first as u32,
            step: positions.step as u32,
            count: positions.count as u32,
        };
        call.rows(Kernel::Trim, row_bytes, &shape, &arguments)?;
        // SAFETY: the buffer was allocated on this stream for these bytes.
        let read = unsafe { self.driver().download(queue.stream(), packed, room.ptr()) };
        read.map_err(|error| error.during("trim"))?;
        queue.settle()
    }

    fn upload<X: Domain>(
        &self,
        queue: &Queue<D>,
        out: &mut ViewMut<'_, Self, X>,
        words: &[u64],
    ) -> Result<()> {
        let mut call = Call::new(self, queue, "upload");
        let shape = call.bare_shape(out.degree(), out.limbs(), out.batch())?;
        let expected = out.batch() * out.limbs().len() * out.degree();
        if words.len() != expected {
            return Err(Error::shape("upload", "number of words", words.len(), expected));
        }
        let from = call.stage(bytemuck::cast_slice(words), 0)?;
        let arguments = abi::PointwiseArgs {
            shape,
            out: call.view(&out.as_view())?,
            a: contiguous(from, &shape),
            b: Zeroable::zeroed(),
        };
        call.rows(Kernel::Copy, out.degree() / 2, &shape, &arguments)
    }

    fn download<X: Domain>(
        &self,
        queue: &Queue<D>,
        view: &View<'_, Self, X>,
        words: &mut [u64],
    ) -> Result<()> {
        let _range = Range::new("download");
        let expected = view.batch() * view.limbs().len() * view.degree();
        if words.len() != expected {
            return Err(Error::shape("download", "number of words", words.len(), expected));
        }
        let gathered = self.gather(queue, view, "download")?;
        self.read(queue, &gathered, 0, words)
    }
}

impl<D: Driver> Cuda<D> {
    /// A copy of polynomials in a buffer of their own.
    fn gather<X: Domain>(
        &self,
        queue: &Queue<D>,
        view: &View<'_, Self, X>,
        operation: &'static str,
    ) -> Result<Buffer<D>> {
        let mut call = Call::new(self, queue, operation);
        let shape = call.bare_shape(view.degree(), view.limbs(), view.batch())?;
        let buffer =
            Buffer::allocate(&queue.line, view.batch() * view.limbs().len() * view.degree(), operation)?;
        let arguments = abi::PointwiseArgs {
            shape,
            out: contiguous(buffer.ptr(), &shape),
            a: call.view(view)?,
            b: Zeroable::zeroed(),
        };
        call.rows(Kernel::Copy, view.degree() / 2, &shape, &arguments)?;
        Ok(buffer)
    }
}

/// `[batch][limb][N]` words.
fn contiguous(base: DevicePtr, shape: &abi::Shape) -> abi::View {
    let row = 1u64 << shape.log_degree;
    abi::View { base, rows: DevicePtr::NULL, batch_stride: u64::from(shape.limbs) * row, limb_stride: row }
}
