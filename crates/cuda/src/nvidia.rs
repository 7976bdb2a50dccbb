//! The CUDA driver of NVIDIA, through cudarc's bindings.
//!
//! libcuda is opened when a device is asked for, not when the program starts: a machine without it gets
//! [`DriverError::NoDriver`]. Supported are driver 580 (CUDA 13.0) and compute capability 8.0, and later ones.

mod blas;
mod code;
mod context;
mod memory;

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cudarc::driver::{result, sys};

use self::blas::{Blas, Handle};
use self::context::{At, Context};
use self::memory::{Pool, Staging};
use crate::driver::{DeviceInfo, DevicePtr, Driver, FunctionInfo, Gemm, Launch, MemoryInfo, Result};
use crate::error::DriverError;

pub use code::{Function, Graph, Module};
pub use context::REQUIRED_DRIVER;
pub use memory::Pinned;

/// One GPU.
///
/// ```
/// use arras_cuda::nvidia::REQUIRED_DRIVER;
/// use arras_cuda::{Driver, DriverError, NvidiaDriver};
///
/// match NvidiaDriver::open(0) {
///     Ok(gpu) => assert!(gpu.device().driver_version >= REQUIRED_DRIVER),
///     Err(DriverError::NoDriver { reason }) => assert!(!reason.is_empty()),
///     Err(error) => println!("{error}"),
/// }
/// ```
#[derive(Debug)]
pub struct NvidiaDriver {
    info: DeviceInfo,
    staging: Staging,
    pool: Pool,
    /// Opened when a product is first asked for: most work needs no cuBLAS.
    blas: OnceLock<Arc<Blas>>,
    context: Arc<Context>,
}

impl NvidiaDriver {
    /// How many devices there are.
    ///
    /// # Errors
    /// [`DriverError::NoDriver`], [`DriverError::DriverTooOld`].
    pub fn count() -> Result<usize> {
        let (_library, _) = context::open_library()?;
        context::device_count()
    }

    /// Device number `ordinal`, with its primary context.
    ///
    /// # Errors
    /// [`DriverError::NoDriver`], [`DriverError::DriverTooOld`], [`DriverError::NoDevice`].
    pub fn open(ordinal: usize) -> Result<Self> {
        let (context, info) = Context::open(ordinal)?;
        let context = Arc::new(context);
        let pool = Pool::new(context.clone())?;
        Ok(Self { info, staging: Staging::new(), pool, blas: OnceLock::new(), context })
    }

    /// The primary context, for code that shares it.
    pub fn raw_context(&self) -> sys::CUcontext {
        self.context.raw
    }

    /// Someone else's stream of the same context. It is not destroyed with what is returned, which keeps `owner`.
    ///
    /// # Safety
    /// The stream lives at least as long as `owner`.
    pub unsafe fn foreign_stream(&self, raw: sys::CUstream, owner: impl Any + Send + Sync) -> Stream {
        let owner = Some(Box::new(owner) as Box<dyn Any + Send + Sync>);
        Stream { raw, owner, blas: OnceLock::new(), context: self.context.clone() }
    }

    fn blas(&self) -> Result<Arc<Blas>> {
        if let Some(blas) = self.blas.get() {
            return Ok(blas.clone());
        }
        let opened = Arc::new(Blas::open()?);
        Ok(self.blas.get_or_init(|| opened).clone())
    }
}

/// A stream that does not wait for the default stream.
///
/// See the example of [`Graph`].
#[derive(Debug)]
pub struct Stream {
    raw: sys::CUstream,
    /// Whose stream it is, if not ours.
    owner: Option<Box<dyn Any + Send + Sync>>,
    blas: OnceLock<Handle>,
    context: Arc<Context>,
}

// SAFETY: streams may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// The driver's handle.
    pub fn raw(&self) -> sys::CUstream {
        self.raw
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        drop(self.blas.take());
        if self.owner.is_none() {
            // SAFETY: created by `NvidiaDriver::stream`; queued work goes on.
            let _ = unsafe { result::stream::destroy(self.raw) };
        }
    }
}

/// A point in a stream.
///
/// See the example of [`Graph`].
#[derive(Debug)]
pub struct Event {
    raw: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// The context is current.
    fn new(context: &Arc<Context>, timing: bool) -> Result<Self> {
        let flags = if timing {
            sys::CUevent_flags::CU_EVENT_DEFAULT
        } else {
            sys::CUevent_flags::CU_EVENT_DISABLE_TIMING
        };
        Ok(Self { raw: result::event::create(flags).at("cuEventCreate")?, context: context.clone() })
    }

    fn record(&self, stream: &Stream) -> Result<()> {
        // SAFETY: both are alive.
        unsafe { result::event::record(self.raw, stream.raw) }.at("cuEventRecord")
    }

    /// Whether the marked work is done. An error of that work says no: whoever waits for it gets it.
    fn has_passed(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { result::event::query(self.raw) }.is_ok()
    }

    fn synchronize(&self) -> Result<()> {
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.raw) }.at("cuEventSynchronize")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created in `new`; marked work goes on.
            let _ = unsafe { result::event::destroy(self.raw) };
        }
    }
}

impl Driver for NvidiaDriver {
    type Stream = Stream;
    type Event = Event;
    type Pinned = Pinned;
    type Module = Module;
    type Function = Function;
    type Graph = Graph;

    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> Result<MemoryInfo> {
        self.context.bind()?;
        let (free, total) = result::mem_get_info().at("cuMemGetInfo")?;
        Ok(MemoryInfo { free: free as u64 + self.pool.idle()?, total: total as u64 })
    }

    fn stream(&self) -> Result<Stream> {
        self.context.bind()?;
        let raw = result::stream::create(result::stream::StreamKind::NonBlocking).at("cuStreamCreate")?;
        Ok(Stream { raw, owner: None, blas: OnceLock::new(), context: self.context.clone() })
    }

    fn synchronize(&self, stream: &Stream) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(stream.raw) }.at("cuStreamSynchronize")
    }

    fn event(&self, timing: bool) -> Result<Event> {
        self.context.bind()?;
        Event::new(&self.context, timing)
    }

    fn record(&self, stream: &Stream, event: &Event) -> Result<()> {
        self.context.bind()?;
        event.record(stream)
    }

    fn wait(&self, stream: &Stream, event: &Event) -> Result<()> {
        self.context.bind()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both are alive.
        unsafe { result::stream::wait_event(stream.raw, event.raw, flags) }.at("cuStreamWaitEvent")
    }

    fn synchronize_event(&self, event: &Event) -> Result<()> {
        self.context.bind()?;
        event.synchronize()
    }

    fn elapsed(&self, from: &Event, to: &Event) -> Result<Duration> {
        self.context.bind()?;
        // SAFETY: both are alive.
        let milliseconds = unsafe { result::event::elapsed(from.raw, to.raw) }.at("cuEventElapsedTime")?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) * 1e-3))
    }

    fn allocate(&self, stream: &Stream, bytes: usize) -> Result<DevicePtr> {
        self.context.bind()?;
        self.pool.allocate(stream, bytes)
    }

    unsafe fn free(&self, stream: &Stream, ptr: DevicePtr) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the caller's.
        unsafe { result::free_async(ptr.0, stream.raw) }.at("cuMemFreeAsync")
    }

    unsafe fn fill(&self, stream: &Stream, ptr: DevicePtr, byte: u8, bytes: usize) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the caller's.
        unsafe { result::memset_d8_async(ptr.0, byte, bytes, stream.raw) }.at("cuMemsetD8Async")
    }

    unsafe fn copy(&self, stream: &Stream, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the caller's.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, stream.raw) }.at("cuMemcpyDtoDAsync")
    }

    unsafe fn upload(&self, stream: &Stream, to: DevicePtr, from: &[u8]) -> Result<()> {
        self.context.bind()?;
        // A recording would keep the address of a block that other uploads use before it is played.
        // SAFETY: the stream is alive.
        let status = unsafe { result::stream::is_capturing(stream.raw) }.at("cuStreamIsCapturing")?;
        if status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Err(DriverError::Failed {
                place: "upload".into(),
                code: sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED as u32,
                message: "only uploads from page-locked memory can be recorded".into(),
            });
        }
        // SAFETY: the caller's.
        unsafe { self.staging.upload(&self.context, stream, to, from) }
    }

    unsafe fn download(&self, stream: &Stream, to: &mut [u8], from: DevicePtr) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the caller's, and the target is borrowed until the copy is done.
        unsafe { result::memcpy_dtoh_async(to, from.0, stream.raw) }.at("cuMemcpyDtoHAsync")?;
        self.synchronize(stream)
    }

    fn pinned(&self, bytes: usize) -> Result<Pinned> {
        Pinned::new(&self.context, bytes)
    }

    unsafe fn upload_pinned(
        &self,
        stream: &Stream,
        to: DevicePtr,
        from: &Pinned,
        range: Range<usize>,
    ) -> Result<()> {
        self.context.bind()?;
        let from = from.as_ref().get(range).ok_or_else(|| outside("upload_pinned"))?;
        // SAFETY: the caller's.
        unsafe { result::memcpy_htod_async(to.0, from, stream.raw) }.at("cuMemcpyHtoDAsync")
    }

    unsafe fn download_pinned(
        &self,
        stream: &Stream,
        to: &mut Pinned,
        range: Range<usize>,
        from: DevicePtr,
    ) -> Result<()> {
        self.context.bind()?;
        let to = to.as_mut().get_mut(range).ok_or_else(|| outside("download_pinned"))?;
        // SAFETY: the caller's.
        unsafe { result::memcpy_dtoh_async(to, from.0, stream.raw) }.at("cuMemcpyDtoHAsync")
    }

    fn load(&self, name: &str, image: &[u8]) -> Result<Module> {
        self.context.bind()?;
        Module::new(&self.context, self.info.capability, name, image)
    }

    fn function(&self, module: &Module, entry: &str) -> Result<Function> {
        self.context.bind()?;
        Function::new(module, entry)
    }

    fn function_info(&self, function: &Function) -> Result<FunctionInfo> {
        self.context.bind()?;
        function.info()
    }

    fn allow_shared(&self, function: &Function, bytes: usize) -> Result<()> {
        self.context.bind()?;
        function.allow_shared(bytes)
    }

    unsafe fn launch(
        &self,
        stream: &Stream,
        function: &Function,
        launch: Launch,
        arguments: &[u8],
    ) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the caller's.
        unsafe { function.launch(stream, launch, arguments) }
    }

    unsafe fn gemm_f64(&self, stream: &Stream, gemm: Gemm) -> Result<()> {
        self.context.bind()?;
        let handle = match stream.blas.get() {
            Some(handle) => handle,
            None => {
                let handle = Handle::new(self.blas()?, stream.raw)?;
                stream.blas.get_or_init(|| handle)
            }
        };
        // SAFETY: the caller's.
        unsafe { handle.gemm(&gemm) }
    }

    fn begin_capture(&self, stream: &Stream) -> Result<()> {
        self.context.bind()?;
        // Relaxed, so that a recording may end in another thread than the one that began it.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is alive.
        unsafe { result::stream::begin_capture(stream.raw, mode) }.at("cuStreamBeginCapture")
    }

    fn end_capture(&self, stream: &Stream) -> Result<Graph> {
        self.context.bind()?;
        Graph::end_capture(&self.context, stream)
    }

    unsafe fn launch_graph(&self, stream: &Stream, graph: &Graph) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the caller's.
        unsafe { graph.launch(stream) }
    }
}

fn outside(place: &str) -> DriverError {
    DriverError::Failed {
        place: place.into(),
        code: sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
        message: "the range lies outside the page-locked memory".into(),
    }
}
