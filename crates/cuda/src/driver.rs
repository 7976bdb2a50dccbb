//! What the backend needs of a CUDA driver, and nothing else of it.
//!
//! Two implementations: the real one, and one that runs the kernels on the host (`arras-cuda-host`) as late as the
//! rules of streams allow, to show where the backend relies on more than they promise.

use std::fmt::{self, Debug};
use std::time::Duration;

use crate::DriverError;

/// The result of every call to a driver.
pub type Result<T> = std::result::Result<T, DriverError>;

/// An address in device memory. Arithmetic is in bytes.
///
/// ```
/// use arras_cuda::DevicePtr;
///
/// let words = DevicePtr(0x7f00_0000_0000);
/// assert_eq!(words.offset(8 * 4096), DevicePtr(0x7f00_0000_8000));
/// assert_eq!(DevicePtr::NULL.0, 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// No address.
    pub const NULL: Self = Self(0);

    /// The address `bytes` further on.
    #[must_use]
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u64))
    }
}

impl Debug for DevicePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What is to be known about a device before work is planned for it.
///
/// See the example of [`CountingDriver`](crate::counting::CountingDriver).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// The product name.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// The most dynamic shared memory a block can have after opting in, in bytes.
    pub shared_bytes: usize,
    /// Size of the second-level cache in bytes.
    pub l2_bytes: usize,
    /// Version of the driver as `1000 major + 10 minor`.
    pub driver_version: u32,
}

/// Memory of a device, in bytes.
///
/// See the example of [`FunctionInfo`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryInfo {
    /// Not in use by anyone.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// What a compiler made of a kernel.
///
/// ```
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::{Driver, Kernel};
///
/// # let driver = CountingDriver::h200();
/// // Of any driver:
/// let memory = driver.memory()?;
/// assert!(memory.free <= memory.total);
/// let module = driver.load(Kernel::Add.image(), &[])?;
/// let found = driver.function_info(&driver.function(&module, Kernel::Add.entry())?)?;
/// assert!(found.local_bytes == 0, "spilled registers");
/// assert!(found.threads >= Kernel::Add.threads());
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FunctionInfo {
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of local memory per thread; anything but 0 means spilled registers.
    pub local_bytes: usize,
    /// Bytes of statically allocated shared memory.
    pub shared_bytes: usize,
    /// The most threads a block can have.
    pub threads: u32,
}

/// The shape of a launch. Every extent is at least 1.
///
/// See the example of [`CountingDriver`](crate::counting::CountingDriver).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Launch {
    /// Blocks in x, y, z; at most 2^31 - 1, 65535 and 65535.
    pub grid: [u32; 3],
    /// Threads of a block, in x only; at most 1024.
    pub threads: u32,
    /// Bytes of dynamic shared memory. Above 48 KiB, [`Driver::allow_shared`] comes first.
    pub shared: usize,
}

/// `C = alpha A B + beta C` for column-major matrices of 64-bit floats: `C` is `m x n`, `A` is `m x k`, `B` is `k x n`.
///
/// ```
/// use arras_cuda::Driver;
/// use arras_cuda::counting::{CountingDriver, GEMM};
/// use arras_cuda::driver::Gemm;
///
/// # let driver = CountingDriver::h200();
/// # let stream = driver.stream()?;
/// // C = A B for 4 x 3 times 3 x 2, columns one after the other.
/// let [a, b, c] = [4 * 3, 3 * 2, 4 * 2].map(|count| driver.allocate(&stream, 8 * count));
/// let gemm = Gemm { extent: [4, 2, 3], alpha: 1.0, a: (a?, 4), b: (b?, 3), beta: 0.0, c: (c?, 4) };
/// // SAFETY: just allocated on this stream, with these extents.
/// unsafe { driver.gemm_f64(&stream, gemm)? };
/// assert_eq!(driver.take()[0].entry, GEMM);
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gemm {
    /// Rows of `C`, columns of `C`, columns of `A`.
    pub extent: [usize; 3],
    /// Factor of the product.
    pub alpha: f64,
    /// `A` and the distance of its columns in elements.
    pub a: (DevicePtr, usize),
    /// `B` and the distance of its columns in elements.
    pub b: (DevicePtr, usize),
    /// Factor of the old `C`.
    pub beta: f64,
    /// `C` and the distance of its columns in elements.
    pub c: (DevicePtr, usize),
}

/// One device of a CUDA driver.
///
/// Everything that names a stream is queued there and may still be under way when the call returns; an error of earlier
/// work may surface at any later call. Streams are ordered only by events. Calls may come from any thread.
///
/// ```
/// use arras_cuda::Driver;
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::driver::Result;
///
/// /// Up and down again, on any driver.
/// fn round_trip<D: Driver>(driver: &D, bytes: &mut [u8]) -> Result<()> {
///     let stream = driver.stream()?;
///     let ptr = driver.allocate(&stream, bytes.len())?;
///     // SAFETY: allocated on this stream with this length, freed after its last use.
///     unsafe {
///         driver.upload(&stream, ptr, bytes)?;
///         bytes.fill(0);
///         driver.download(&stream, bytes, ptr)?;
///         driver.free(&stream, ptr)?;
///     }
///     driver.synchronize(&stream)
/// }
/// let mut bytes = *b"arras";
/// round_trip(&CountingDriver::h200(), &mut bytes)?;
/// assert_eq!(&bytes, b"arras");
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
///
/// # Safety of the unsafe methods
/// Addresses come from [`allocate`](Self::allocate) of the same driver, the stretches named lie inside an allocation, and
/// whatever else touches them is ordered by streams and events. Work of a stream that touches an allocation comes
/// before its [`free`](Self::free) in that order.
pub trait Driver: Sized + Send + Sync + Debug + 'static {
    /// A queue of work, done in order.
    type Stream: Send + Sync + Debug;
    /// A point in a stream.
    type Event: Send + Sync + Debug;
    /// Host memory that the device reaches by itself.
    type Pinned: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + Debug;
    /// A loaded image.
    type Module: Send + Sync + Debug;
    /// An entry point; keeps its module loaded.
    type Function: Clone + Send + Sync + Debug;
    /// Work recorded once, to be queued as a whole.
    type Graph: Send + Sync + Debug;

    /// The device.
    fn device(&self) -> &DeviceInfo;

    /// How much memory there is.
    fn memory(&self) -> Result<MemoryInfo>;

    // --- streams and events -------------------------------------------------------------------------------------

    /// A new stream, not ordered with any other.
    fn stream(&self) -> Result<Self::Stream>;

    /// Waits for all work of a stream and reports what went wrong in it.
    fn synchronize(&self, stream: &Self::Stream) -> Result<()>;

    /// A new event. Without `timing` it is cheaper and has no [`elapsed`](Self::elapsed).
    fn event(&self, timing: bool) -> Result<Self::Event>;

    /// Marks the work queued so far; what the event marked before is forgotten.
    fn record(&self, stream: &Self::Stream, event: &Self::Event) -> Result<()>;

    /// Lets later work of `stream` wait for what `event` marks now; returns at once. An event that marks nothing is not waited for.
    fn wait(&self, stream: &Self::Stream, event: &Self::Event) -> Result<()>;

    /// Waits on the host for what `event` marks.
    fn synchronize_event(&self, event: &Self::Event) -> Result<()>;

    /// The time between two events that have come to pass.
    fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Result<Duration>;

    // --- memory -------------------------------------------------------------------------------------------------

    /// `bytes > 0` bytes of unspecified contents, aligned to 256, for work of `stream` from here on.
    fn allocate(&self, stream: &Self::Stream, bytes: usize) -> Result<DevicePtr>;

    /// Releases an allocation when `stream` has come here.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods). Other streams that used the memory are waited for by `stream`
    /// first.
    unsafe fn free(&self, stream: &Self::Stream, ptr: DevicePtr) -> Result<()>;

    /// Sets bytes.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods).
    unsafe fn fill(&self, stream: &Self::Stream, ptr: DevicePtr, byte: u8, bytes: usize) -> Result<()>;

    /// Copies within the device; the stretches do not overlap.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods).
    unsafe fn copy(&self, stream: &Self::Stream, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()>;

    /// Copies to the device. The source may be changed as soon as the call returns.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods).
    unsafe fn upload(&self, stream: &Self::Stream, to: DevicePtr, from: &[u8]) -> Result<()>;

    /// Copies to the host and waits for it.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods).
    unsafe fn download(&self, stream: &Self::Stream, to: &mut [u8], from: DevicePtr) -> Result<()>;

    /// Zeroed page-locked memory.
    fn pinned(&self, bytes: usize) -> Result<Self::Pinned>;

    /// Copies to the device from page-locked memory, without waiting.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods). `from` is neither changed nor dropped before the copy is done.
    unsafe fn upload_pinned(
        &self,
        stream: &Self::Stream,
        to: DevicePtr,
        from: &Self::Pinned,
        range: std::ops::Range<usize>,
    ) -> Result<()>;

    /// Copies to page-locked memory, without waiting.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods). `to` is neither read nor dropped before the copy is done.
    unsafe fn download_pinned(
        &self,
        stream: &Self::Stream,
        to: &mut Self::Pinned,
        range: std::ops::Range<usize>,
        from: DevicePtr,
    ) -> Result<()>;

    // --- code ---------------------------------------------------------------------------------------------------

    /// Loads an image: a fatbin, a cubin or PTX.
    fn load(&self, name: &str, image: &[u8]) -> Result<Self::Module>;

    /// An entry point of a module.
    ///
    /// # Errors
    /// [`DriverError::MissingKernel`].
    fn function(&self, module: &Self::Module, entry: &str) -> Result<Self::Function>;

    /// What the compiler made of it.
    fn function_info(&self, function: &Self::Function) -> Result<FunctionInfo>;

    /// Lets blocks of a function have up to `bytes` of dynamic shared memory.
    fn allow_shared(&self, function: &Self::Function, bytes: usize) -> Result<()>;

    /// Runs a kernel. All kernels take one structure by value: `arguments` are its bytes.
    ///
    /// # Safety
    /// The bytes are those of the structure that the kernel is declared with, every address in it is good for what the kernel
    /// does with it at this launch shape, and the [trait](Self#safety-of-the-unsafe-methods).
    unsafe fn launch(
        &self,
        stream: &Self::Stream,
        function: &Self::Function,
        launch: Launch,
        arguments: &[u8],
    ) -> Result<()>;

    /// Runs a matrix product of 64-bit floats, fused multiply-adds in an order of the library's choosing: exact as long as every
    /// partial sum is an integer below 2^53.
    ///
    /// # Safety
    /// See the [trait](Self#safety-of-the-unsafe-methods). `C` overlaps neither `A` nor `B`.
    unsafe fn gemm_f64(&self, stream: &Self::Stream, gemm: Gemm) -> Result<()>;

    // --- graphs -------------------------------------------------------------------------------------------------

    /// From here on, what is queued on `stream` is recorded instead of done.
    fn begin_capture(&self, stream: &Self::Stream) -> Result<()>;

    /// Ends the recording. Memory that the recorded work names has to outlive the graph.
    fn end_capture(&self, stream: &Self::Stream) -> Result<Self::Graph>;

    /// Queues recorded work.
    ///
    /// # Safety
    /// What held for each recorded call holds again now.
    unsafe fn launch_graph(&self, stream: &Self::Stream, graph: &Self::Graph) -> Result<()>;
}
