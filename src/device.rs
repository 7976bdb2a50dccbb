//! A backend that is chosen when the program runs.

use arras_cpu::Cpu;
use arras_cuda::{Cuda, DriverError, Images, NvidiaDriver};
use arras_rns::backend::{Conversion, IntegerMatrix, Multiplicands};
use arras_rns::switching::{Image, KeySwitchParts, ModDownParts};
use arras_rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Packing, Positions, PreparedView,
    Quantise, Result, Ring, RingTables, SeedLabel, Storage, View, ViewMut,
};

/// The kernels of this build, compiled by its build script.
pub static KERNELS: Images<'static> = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The CPU or a GPU. Each operation of a batch costs one comparison more than on the backend itself.
///
/// Queues, tables, buffers and prepared operands belong to the device that made them; on the other one they are an error.
#[derive(Clone, Debug)]
pub enum Device<C = Cpu, G = Cuda<NvidiaDriver>> {
    /// Host memory.
    Cpu(C),
    /// A GPU.
    Cuda(G),
}

impl Device {
    /// GPU number `ordinal` with the kernels of this build.
    ///
    /// # Errors
    /// A machine without driver, with one that is too old, or without that device; a device for which there are no kernels; a
    /// build without kernels (`ARRAS_CUDA_IMAGES=none`).
    pub fn cuda(ordinal: usize) -> std::result::Result<Self, DriverError> {
        let driver = NvidiaDriver::open(ordinal)?;
        if KERNELS.images.is_empty() {
            let missing = "none: this build was made with ARRAS_CUDA_IMAGES=none";
            return Err(DriverError::MissingKernel { entry: "arras_*".into(), image: missing.into() });
        }
        Cuda::new(driver, &KERNELS).map(Self::Cuda)
    }
}

/// Something that one of two backends made.
#[derive(Debug)]
pub enum Either<C, G> {
    /// Of the CPU.
    Cpu(C),
    /// Of the GPU.
    Cuda(G),
}

/// What is of the CPU.
mod cpu {
    use super::{Either, Result, elsewhere};

    pub(super) fn of<C, G>(thing: &Either<C, G>) -> Result<&C> {
        match thing {
            Either::Cpu(inner) => Ok(inner),
            Either::Cuda(_) => Err(elsewhere()),
        }
    }

    pub(super) fn of_mut<C, G>(thing: &mut Either<C, G>) -> Result<&mut C> {
        match thing {
            Either::Cpu(inner) => Ok(inner),
            Either::Cuda(_) => Err(elsewhere()),
        }
    }

    pub(super) fn made<C, G>(inner: C) -> Either<C, G> {
        Either::Cpu(inner)
    }
}

/// What is of the GPU.
mod cuda {
    use super::{Either, Result, elsewhere};

    pub(super) fn of<C, G>(thing: &Either<C, G>) -> Result<&G> {
        match thing {
            Either::Cuda(inner) => Ok(inner),
            Either::Cpu(_) => Err(elsewhere()),
        }
    }

    pub(super) fn of_mut<C, G>(thing: &mut Either<C, G>) -> Result<&mut G> {
        match thing {
            Either::Cuda(inner) => Ok(inner),
            Either::Cpu(_) => Err(elsewhere()),
        }
    }

    pub(super) fn made<C, G>(inner: G) -> Either<C, G> {
        Either::Cuda(inner)
    }
}

fn elsewhere() -> Error {
    Error::Device { place: "operand".into(), message: "belongs to another device".into() }
}

/// Evaluates the same expression for either backend; `side` names the module that unwraps its things.
macro_rules! on {
    ($device:expr, $backend:ident => $call:expr) => {
        match $device {
            Device::Cpu($backend) => {
                use self::cpu as side;
                $call
            }
            Device::Cuda($backend) => {
                use self::cuda as side;
                $call
            }
        }
    };
}

impl<C: Storage, G: Storage> Storage for Either<C, G> {
    fn words(&self) -> usize {
        match self {
            Self::Cpu(inner) => inner.words(),
            Self::Cuda(inner) => inner.words(),
        }
    }
}

impl<C: RingTables, G: RingTables> RingTables for Either<C, G> {
    fn ring(&self) -> &Ring {
        match self {
            Self::Cpu(inner) => inner.ring(),
            Self::Cuda(inner) => inner.ring(),
        }
    }
}

impl<C: Conversion, G: Conversion> Conversion for Either<C, G> {
    fn source(&self) -> LimbSet {
        match self {
            Self::Cpu(inner) => inner.source(),
            Self::Cuda(inner) => inner.source(),
        }
    }

    fn target(&self) -> LimbSet {
        match self {
            Self::Cpu(inner) => inner.target(),
            Self::Cuda(inner) => inner.target(),
        }
    }
}

impl<C: Multiplicands, G: Multiplicands> Multiplicands for Either<C, G> {
    fn entries(&self) -> usize {
        match self {
            Self::Cpu(inner) => inner.entries(),
            Self::Cuda(inner) => inner.entries(),
        }
    }

    fn degree(&self) -> usize {
        match self {
            Self::Cpu(inner) => inner.degree(),
            Self::Cuda(inner) => inner.degree(),
        }
    }

    fn limbs(&self) -> LimbSet {
        match self {
            Self::Cpu(inner) => inner.limbs(),
            Self::Cuda(inner) => inner.limbs(),
        }
    }
}

impl<C: IntegerMatrix, G: IntegerMatrix> IntegerMatrix for Either<C, G> {
    fn rows(&self) -> usize {
        match self {
            Self::Cpu(inner) => inner.rows(),
            Self::Cuda(inner) => inner.rows(),
        }
    }

    fn columns(&self) -> usize {
        match self {
            Self::Cpu(inner) => inner.columns(),
            Self::Cuda(inner) => inner.columns(),
        }
    }
}

#[cfg(feature = "client")]
impl<C: arras_secret::Resident, G: arras_secret::Resident> arras_secret::Resident for Device<C, G> {
    fn sample_noise(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        count: usize,
        key: &[u8; 32],
    ) -> Result<()> {
        on!(self, backend => {
            let mut out = out.try_map(side::of_mut)?;
            backend.sample_noise(side::of(queue)?, side::of(tables)?, &mut out, count, key)
        })
    }

    fn feature_bounds(
        &self,
        queue: &Self::Queue,
        values: &Self::Buffer,
        shape: [usize; 2],
        limits: [f64; 2],
    ) -> Result<std::result::Result<f64, usize>> {
        on!(self, backend => backend.feature_bounds(side::of(queue)?, side::of(values)?, shape, limits))
    }
}

impl<C: Backend, G: Backend> Backend for Device<C, G> {
    type Buffer = Either<C::Buffer, G::Buffer>;
    type Queue = Either<C::Queue, G::Queue>;
    type Event = Either<C::Event, G::Event>;
    type Tables = Either<C::Tables, G::Tables>;
    type Converter = Either<C::Converter, G::Converter>;
    type Prepared = Either<C::Prepared, G::Prepared>;
    type Matrix = Either<C::Matrix, G::Matrix>;

    fn name(&self) -> String {
        match self {
            Self::Cpu(backend) => backend.name(),
            Self::Cuda(backend) => backend.name(),
        }
    }

    fn queue(&self) -> Result<Self::Queue> {
        on!(self, backend => backend.queue().map(side::made))
    }

    fn synchronize(&self, queue: &Self::Queue) -> Result<()> {
        on!(self, backend => backend.synchronize(side::of(queue)?))
    }

    fn record(&self, queue: &Self::Queue) -> Result<Self::Event> {
        on!(self, backend => backend.record(side::of(queue)?).map(side::made))
    }

    fn wait(&self, queue: &Self::Queue, event: &Self::Event) -> Result<()> {
        on!(self, backend => backend.wait(side::of(queue)?, side::of(event)?))
    }

    fn allocate(&self, queue: &Self::Queue, words: usize) -> Result<Self::Buffer> {
        on!(self, backend => backend.allocate(side::of(queue)?, words).map(side::made))
    }

    fn write(
        &self,
        queue: &Self::Queue,
        buffer: &mut Self::Buffer,
        offset: usize,
        words: &[u64],
    ) -> Result<()> {
        on!(self, backend => backend.write(side::of(queue)?, side::of_mut(buffer)?, offset, words))
    }

    fn read(
        &self,
        queue: &Self::Queue,
        buffer: &Self::Buffer,
        offset: usize,
        words: &mut [u64],
    ) -> Result<()> {
        on!(self, backend => backend.read(side::of(queue)?, side::of(buffer)?, offset, words))
    }

    fn wipe(&self, queue: &Self::Queue, buffer: &mut Self::Buffer) -> Result<()> {
        on!(self, backend => backend.wipe(side::of(queue)?, side::of_mut(buffer)?))
    }

    fn tables(&self, queue: &Self::Queue, ring: &Ring) -> Result<Self::Tables> {
        on!(self, backend => backend.tables(side::of(queue)?, ring).map(side::made))
    }

    fn converter(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        source: LimbSet,
        target: LimbSet,
    ) -> Result<Self::Converter> {
        on!(self, backend => {
            backend.converter(side::of(queue)?, side::of(tables)?, source, target).map(side::made)
        })
    }

    fn prepare(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        polynomials: &View<'_, Self, Evaluation>,
    ) -> Result<Self::Prepared> {
        on!(self, backend => {
            let polynomials = polynomials.try_map(side::of)?;
            backend.prepare(side::of(queue)?, side::of(tables)?, &polynomials).map(side::made)
        })
    }

    fn matrix(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        rows: usize,
        columns: usize,
        entries: &[i64],
    ) -> Result<Self::Matrix> {
        on!(self, backend => {
            backend.matrix(side::of(queue)?, side::of(tables)?, rows, columns, entries).map(side::made)
        })
    }

    fn ntt(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: Input<'_, Self, Coefficient>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.ntt(side::of(queue)?, side::of(tables)?, &mut out, input)
        })
    }

    fn intt(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: Input<'_, Self, Evaluation>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.intt(side::of(queue)?, side::of(tables)?, &mut out, input)
        })
    }

    fn automorphism<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
        element: usize,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.automorphism(side::of(queue)?, side::of(tables)?, &mut out, &input, element)
        })
    }

    fn copy<D: Domain>(
        &self,
        queue: &Self::Queue,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.copy(side::of(queue)?, &mut out, &input)
        })
    }

    fn add<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, a, b) = (out.try_map(side::of_mut)?, a.try_map(side::of)?, b.try_map(side::of)?);
            backend.add(side::of(queue)?, side::of(tables)?, &mut out, a, &b)
        })
    }

    fn sub<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, a, b) = (out.try_map(side::of_mut)?, a.try_map(side::of)?, b.try_map(side::of)?);
            backend.sub(side::of(queue)?, side::of(tables)?, &mut out, a, &b)
        })
    }

    fn negate<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, a) = (out.try_map(side::of_mut)?, a.try_map(side::of)?);
            backend.negate(side::of(queue)?, side::of(tables)?, &mut out, a)
        })
    }

    fn multiply(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, a, b) = (out.try_map(side::of_mut)?, a.try_map(side::of)?, b.try_map(side::of)?);
            backend.multiply(side::of(queue)?, side::of(tables)?, &mut out, a, &b)
        })
    }

    fn multiply_accumulate(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, a, b) = (out.try_map(side::of_mut)?, a.try_map(side::of)?, b.try_map(side::of)?);
            backend.multiply_accumulate(side::of(queue)?, side::of(tables)?, &mut out, &a, &b)
        })
    }

    fn scale_add<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        scalars: &[u64],
        b: Option<&View<'_, Self, D>>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, a) = (out.try_map(side::of_mut)?, a.try_map(side::of)?);
            let b = b.map(|b| b.try_map(side::of)).transpose()?;
            backend.scale_add(side::of(queue)?, side::of(tables)?, &mut out, a, scalars, b.as_ref())
        })
    }

    fn base_convert(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        converter: &Self::Converter,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: &View<'_, Self, Coefficient>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.base_convert(side::of(queue)?, side::of(tables)?, side::of(converter)?, &mut out, &input)
        })
    }

    fn inner_product(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()> {
        let PreparedView { prepared, first, term_stride, batch_stride } = right;
        on!(self, backend => {
            let mut out = out.try_map(side::of_mut)?;
            let left = left.iter().map(|view| view.try_map(side::of)).collect::<Result<Vec<_>>>()?;
            let right = PreparedView { prepared: side::of(prepared)?, first, term_stride, batch_stride };
            backend.inner_product(side::of(queue)?, side::of(tables)?, &mut out, &left, right)
        })
    }

    fn matrix_product<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        matrix: &Self::Matrix,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.matrix_product(side::of(queue)?, side::of(tables)?, &mut out, side::of(matrix)?, &input)
        })
    }

    fn quantise(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &Self::Buffer,
        how: Quantise,
    ) -> Result<()> {
        on!(self, backend => {
            let mut out = out.try_map(side::of_mut)?;
            backend.quantise(side::of(queue)?, side::of(tables)?, &mut out, side::of(values)?, how)
        })
    }

    fn expand_seed(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()> {
        on!(self, backend => {
            let mut out = out.try_map(side::of_mut)?;
            backend.expand_seed(side::of(queue)?, side::of(tables)?, &mut out, labels)
        })
    }

    fn unpack<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()> {
        on!(self, backend => {
            let mut out = out.try_map(side::of_mut)?;
            backend.unpack(side::of(queue)?, side::of(tables)?, &mut out, packing, packed)
        })
    }

    fn trim(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        input: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()> {
        on!(self, backend => {
            let input = input.try_map(side::of)?;
            backend.trim(side::of(queue)?, side::of(tables)?, &input, bits, positions, packed)
        })
    }

    fn upload<D: Domain>(
        &self,
        queue: &Self::Queue,
        out: &mut ViewMut<'_, Self, D>,
        words: &[u64],
    ) -> Result<()> {
        on!(self, backend => backend.upload(side::of(queue)?, &mut out.try_map(side::of_mut)?, words))
    }

    fn download<D: Domain>(
        &self,
        queue: &Self::Queue,
        view: &View<'_, Self, D>,
        words: &mut [u64],
    ) -> Result<()> {
        on!(self, backend => backend.download(side::of(queue)?, &view.try_map(side::of)?, words))
    }

    fn mod_down_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        on!(self, backend => {
            let mut parts = parts.try_map(side::of_mut, side::of)?;
            let (mut out, input) = (out.try_map(side::of_mut)?, input.try_map(side::of)?);
            backend.mod_down_parts(side::of(queue)?, side::of(tables)?, &mut parts, &mut out, &input)
        })
    }

    fn mod_up_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        on!(self, backend => {
            let (mut parts, input) = (parts.try_map(side::of_mut, side::of)?, input.try_map(side::of)?);
            backend.mod_up_parts(side::of(queue)?, side::of(tables)?, &mut parts, &input)
        })
    }

    fn gadget_product_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Self::Prepared,
    ) -> Result<()> {
        on!(self, backend => {
            let mut parts = parts.try_map(side::of_mut, side::of)?;
            backend.gadget_product_parts(side::of(queue)?, side::of(tables)?, &mut parts, side::of(key)?)
        })
    }

    fn key_switch_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Self::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        d: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let [first, second] = out;
        on!(self, backend => {
            let (mut parts, d) = (parts.try_map(side::of_mut, side::of)?, d.try_map(side::of)?);
            let (mut first, mut second) = (first.try_map(side::of_mut)?, second.try_map(side::of_mut)?);
            let (queue, tables, key) = (side::of(queue)?, side::of(tables)?, side::of(key)?);
            backend.key_switch_parts(queue, tables, &mut parts, key, [&mut first, &mut second], &d)
        })
    }

    fn key_switch_automorphism_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Self::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        mut image: Image<'_, '_, Self>,
    ) -> Result<()> {
        let [first, second] = out;
        on!(self, backend => {
            let mut parts = parts.try_map(side::of_mut, side::of)?;
            let image = image.try_map(side::of, side::of_mut)?;
            let (mut first, mut second) = (first.try_map(side::of_mut)?, second.try_map(side::of_mut)?);
            let (queue, tables, key) = (side::of(queue)?, side::of(tables)?, side::of(key)?);
            let out = [&mut first, &mut second];
            backend.key_switch_automorphism_parts(queue, tables, &mut parts, key, out, image)
        })
    }
}
