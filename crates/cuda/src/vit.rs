//! The kernels of a vision transformer's blocks (`kernels/vit`), launched on tensors that someone else owns.
//!
//! Matrix products are the vendor's; these are the parts in between, each one pass over memory. The fused kernels serve the widths of
//! transformers; elsewhere, and where it is asked for, the simple ones do, which are their oracles.

use bytemuck::{Pod, Zeroable};

use crate::backend::Cuda;
use crate::driver::{DevicePtr, Driver, Launch, Result};

/// What a tensor is made of. Arithmetic is in `f32` either way.
///
/// See the example of [`VitKernels`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Element {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    Bf16,
}

impl Element {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// An activation function of a feed-forward part.
///
/// See the example of [`VitKernels`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// `x Phi(x)`.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// Its approximation `x / (1 + exp(-1.702 x))`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

/// Rows of elements, one after the other.
///
/// See the example of [`VitKernels`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// What they are made of.
    pub element: Element,
    /// How many.
    pub rows: usize,
    /// Elements of each; at most 2^31.
    pub width: usize,
}

/// Declares the operations: a name here, and in the entry points `arras_vit_NAME_ELEMENT` of which image.
macro_rules! operations {
    ($($name:ident: $entry:literal in $image:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Operation { $($name,)* }

        impl Operation {
            const ALL: &'static [(&'static str, &'static str)] = &[$(($entry, $image),)*];
        }
    };
}

operations! {
    Softmax256: "softmax_256" in "vit/fused";
    Softmax1024: "softmax_1024" in "vit/fused";
    LayerNorm: "layer_norm" in "vit/fused";
    AddBias: "add_bias" in "vit/fused";
    Residual: "residual" in "vit/fused";
    Gelu: "gelu" in "vit/fused";
    GeluTanh: "gelu_tanh" in "vit/fused";
    QuickGelu: "quick_gelu" in "vit/fused";
    Relu: "relu" in "vit/fused";
    Swiglu: "swiglu" in "vit/fused";
    Widen: "widen" in "vit/fused";
    SoftmaxSimple: "softmax_simple" in "vit/simple";
    LayerNormSimple: "layer_norm_simple" in "vit/simple";
    AddBiasSimple: "add_bias_simple" in "vit/simple";
    ResidualSimple: "residual_simple" in "vit/simple";
    GeluSimple: "gelu_simple" in "vit/simple";
    GeluTanhSimple: "gelu_tanh_simple" in "vit/simple";
    QuickGeluSimple: "quick_gelu_simple" in "vit/simple";
    ReluSimple: "relu_simple" in "vit/simple";
    SwigluSimple: "swiglu_simple" in "vit/simple";
}

/// Structures of `kernels/include/vit.h`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SoftmaxArgs {
    x: DevicePtr,
    rows: u64,
    width: u32,
    scale: f32,
}
const _: () = assert!(size_of::<SoftmaxArgs>() == 24);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LayerNormArgs {
    x: DevicePtr,
    out: DevicePtr,
    weight: DevicePtr,
    bias: DevicePtr,
    rows: u64,
    width: u32,
    epsilon: f32,
}
const _: () = assert!(size_of::<LayerNormArgs>() == 48);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct BiasArgs {
    x: DevicePtr,
    y: DevicePtr,
    bias: DevicePtr,
    rows: u64,
    width: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<BiasArgs>() == 40);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WidenArgs {
    x: DevicePtr,
    out: DevicePtr,
    count: u64,
}
const _: () = assert!(size_of::<WidenArgs>() == 24);

/// Threads of a block; rows of a block whose warps take one each.
const THREADS: u32 = 256;
const WARPS: usize = 8;
/// Widths that the warps hold in registers (vit.h).
const SOFTMAX_NARROW: usize = 256;
const SOFTMAX_WIDE: usize = 1024;
const LAYER_NORM_WIDTH: usize = 1536;

/// The kernels on a device.
///
/// Which kernels serve the tokens of a transformer, noted instead of run:
///
/// ```
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::vit::{Activation, Element, Rows, VitKernels};
/// use arras_cuda::{Cuda, Driver, Image, Images, abi};
///
/// # let mut images = CountingDriver::images();
/// # images.extend(["vit/fused", "vit/simple"].map(|name| Image { name, bytes: &[] }));
/// let cuda = Cuda::new(CountingDriver::h200(), &Images { abi: abi::HASH, images: &images })?;
/// let (kernels, stream) = (VitKernels::new(&cuda)?, cuda.driver().stream()?);
/// let tokens = Rows { element: Element::Bf16, rows: 65, width: 768 };
/// let bytes = tokens.rows * tokens.width * tokens.element.bytes();
/// let (x, bias) = (cuda.driver().allocate(&stream, bytes)?, cuda.driver().allocate(&stream, 768 * 2)?);
/// // SAFETY: just allocated on this stream, with these extents.
/// unsafe { kernels.activate(&stream, tokens, Activation::Gelu, x, bias)? };
/// let noted = cuda.driver().take();
/// assert_eq!((noted.len(), noted[0].entry.as_str()), (1, "arras_vit_gelu_bf16"));
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
///
/// # Safety of the unsafe methods
/// Addresses are of this device, aligned to their elements, and good for as many of them as [`Rows`] says (the bias for one row); operands do
/// not overlap; whatever else touches them is ordered with `stream`. Errors are the driver's.
#[derive(Debug)]
pub struct VitKernels<D: Driver> {
    cuda: Cuda<D>,
    /// By [`Element`], then by [`Operation`].
    functions: [Vec<D::Function>; 2],
    simple: bool,
}

impl<D: Driver> VitKernels<D> {
    /// The kernels of a device's images.
    ///
    /// # Errors
    /// [`DriverError::MissingKernel`](crate::DriverError::MissingKernel).
    pub fn new(cuda: &Cuda<D>) -> Result<Self> {
        let find = |element: Element| {
            let entries = Operation::ALL.iter().map(|(name, image)| {
                let entry = format!("arras_vit_{name}_{}", element.name());
                cuda.functions().find(cuda.driver(), image, &entry)
            });
            entries.collect::<Result<Vec<_>>>()
        };
        let functions = [find(Element::F32)?, find(Element::Bf16)?];
        Ok(Self { cuda: cuda.clone(), functions, simple: false })
    }

    /// The same with the simple kernels alone.
    #[must_use]
    pub fn simple(self) -> Self {
        Self { simple: true, ..self }
    }

    /// The device.
    pub fn cuda(&self) -> &Cuda<D> {
        &self.cuda
    }

    /// `x = softmax(scale x)` by rows, in place; `scale > 0`.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    pub unsafe fn softmax(&self, stream: &D::Stream, shape: Rows, x: DevicePtr, scale: f32) -> Result<()> {
        let (operation, rows) = if self.simple || shape.width > SOFTMAX_WIDE {
            (Operation::SoftmaxSimple, THREADS as usize)
        } else if shape.width > SOFTMAX_NARROW {
            (Operation::Softmax1024, WARPS)
        } else {
            (Operation::Softmax256, WARPS)
        };
        let arguments = SoftmaxArgs { x, rows: shape.rows as u64, width: shape.width as u32, scale };
        let grid = [shape.rows.div_ceil(rows), 1];
        // SAFETY: the caller's.
        unsafe { self.launch(stream, shape, operation, grid, THREADS, &arguments) }
    }

    /// `out = (x - mean) / sqrt(variance + epsilon) * weight + bias` by rows, the variance over the whole row.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods); `weight` is as long as `bias`.
    pub unsafe fn layer_norm(
        &self,
        stream: &D::Stream,
        shape: Rows,
        [out, x, weight, bias]: [DevicePtr; 4],
        epsilon: f32,
    ) -> Result<()> {
        let held = shape.width <= LAYER_NORM_WIDTH && self.by_fours(shape, &[out, x, weight, bias]);
        let (operation, rows) = match held {
            true => (Operation::LayerNorm, WARPS),
            false => (Operation::LayerNormSimple, THREADS as usize),
        };
        let (rows_in_all, width) = (shape.rows as u64, shape.width as u32);
        let arguments = LayerNormArgs { x, out, weight, bias, rows: rows_in_all, width, epsilon };
        let grid = [shape.rows.div_ceil(rows), 1];
        // SAFETY: the caller's.
        unsafe { self.launch(stream, shape, operation, grid, THREADS, &arguments) }
    }

    /// `x = x + bias`, the bias repeated over rows.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    pub unsafe fn add_bias(
        &self,
        stream: &D::Stream,
        shape: Rows,
        x: DevicePtr,
        bias: DevicePtr,
    ) -> Result<()> {
        let pair = [Operation::AddBias, Operation::AddBiasSimple];
        // SAFETY: the caller's.
        unsafe { self.pointwise(stream, shape, pair, [x, DevicePtr::NULL, bias]) }
    }

    /// `x = x + (y + bias)`.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    pub unsafe fn residual(&self, stream: &D::Stream, shape: Rows, operands: [DevicePtr; 3]) -> Result<()> {
        let pair = [Operation::Residual, Operation::ResidualSimple];
        // SAFETY: the caller's.
        unsafe { self.pointwise(stream, shape, pair, operands) }
    }

    /// `x = f(x + bias)`.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    pub unsafe fn activate(
        &self,
        stream: &D::Stream,
        shape: Rows,
        f: Activation,
        x: DevicePtr,
        bias: DevicePtr,
    ) -> Result<()> {
        let pair = match f {
            Activation::Gelu => [Operation::Gelu, Operation::GeluSimple],
            Activation::GeluTanh => [Operation::GeluTanh, Operation::GeluTanhSimple],
            Activation::QuickGelu => [Operation::QuickGelu, Operation::QuickGeluSimple],
            Activation::Relu => [Operation::Relu, Operation::ReluSimple],
        };
        // SAFETY: the caller's.
        unsafe { self.pointwise(stream, shape, pair, [x, DevicePtr::NULL, bias]) }
    }

    /// `x = silu(a) b` where a row of `y + bias`, twice as long as one of `x`, is `(a, b)`.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods); `shape` is that of `x`.
    pub unsafe fn swiglu(&self, stream: &D::Stream, shape: Rows, operands: [DevicePtr; 3]) -> Result<()> {
        let pair = [Operation::Swiglu, Operation::SwigluSimple];
        // SAFETY: the caller's.
        unsafe { self.pointwise(stream, shape, pair, operands) }
    }

    /// `out = x` as 64-bit floats.
    ///
    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    pub unsafe fn widen(&self, stream: &D::Stream, shape: Rows, out: DevicePtr, x: DevicePtr) -> Result<()> {
        let count = shape.rows * shape.width;
        let arguments = WidenArgs { x, out, count: count as u64 };
        let grid = [count.div_ceil(THREADS as usize), 1];
        // SAFETY: the caller's.
        unsafe { self.launch(stream, shape, Operation::Widen, grid, THREADS, &arguments) }
    }

    /// Whether rows can be taken four elements at a time.
    fn by_fours(&self, shape: Rows, operands: &[DevicePtr]) -> bool {
        let bytes = 4 * shape.element.bytes() as u64;
        !self.simple && shape.width.is_multiple_of(4) && operands.iter().all(|p| p.0.is_multiple_of(bytes))
    }

    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    unsafe fn pointwise(
        &self,
        stream: &D::Stream,
        shape: Rows,
        [fused, simple]: [Operation; 2],
        [x, y, bias]: [DevicePtr; 3],
    ) -> Result<()> {
        let arguments =
            BiasArgs { x, y, bias, rows: shape.rows as u64, width: shape.width as u32, reserved: 0 };
        let (operation, columns) = match self.by_fours(shape, &[x, y, bias]) {
            true => (fused, shape.width / 4),
            false => (simple, shape.width),
        };
        let threads = block_for(columns);
        let across = columns.div_ceil(threads as usize);
        // A thread keeps its bias while it goes down the rows, so there are no more blocks than fill the device a few times.
        const WAVES: usize = 16;
        let fill = WAVES * self.cuda.driver().device().multiprocessors as usize;
        let down = shape.rows.min(fill.div_ceil(across.max(1)));
        // SAFETY: the caller's.
        unsafe { self.launch(stream, shape, operation, [across, down], threads, &arguments) }
    }

    /// # Safety
    /// See the [structure](Self#safety-of-the-unsafe-methods).
    unsafe fn launch<A: Pod>(
        &self,
        stream: &D::Stream,
        shape: Rows,
        operation: Operation,
        [x, y]: [usize; 2],
        threads: u32,
        arguments: &A,
    ) -> Result<()> {
        if x == 0 || y == 0 || shape.width == 0 {
            return Ok(());
        }
        let function = &self.functions[shape.element as usize][operation as usize];
        let launch = Launch { grid: [x as u32, y.min(65535) as u32, 1], threads, shared: 0 };
        // SAFETY: the structure is the one that the operation's kernels take; the rest is the caller's.
        unsafe { self.cuda.driver().launch(stream, function, launch, bytemuck::bytes_of(arguments)) }
    }
}

/// The largest block of whole warps that leaves no thread idle, else the largest there is.
fn block_for(columns: usize) -> u32 {
    let whole = (1..=THREADS / 32).rev().map(|warps| 32 * warps);
    let mut even = whole.filter(|&threads| columns.is_multiple_of(threads as usize));
    even.next().unwrap_or(THREADS)
}
