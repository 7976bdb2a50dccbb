//! Modules, functions and graphs.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::Stream;
use super::context::{At, Context, NO_BINARY_FOR_GPU, NOT_FOUND, failure};
use crate::driver::{FunctionInfo, Launch, Result};
use crate::error::DriverError;

/// A loaded image.
///
/// See the example of [`Graph`].
#[derive(Debug)]
pub struct Module(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    raw: sys::CUmodule,
    name: String,
    context: Arc<Context>,
}

// SAFETY: modules may be used from any thread.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: loaded in `Module::new`; functions keep it.
            let _ = unsafe { result::module::unload(self.raw) };
        }
    }
}

impl Module {
    /// Loads an image. The context is current.
    pub(super) fn new(
        context: &Arc<Context>,
        capability: (u32, u32),
        name: &str,
        image: &[u8],
    ) -> Result<Self> {
        // The driver reads a fatbin by words, and PTX up to a zero byte.
        let mut aligned = vec![0u64; image.len() / 8 + 1];
        bytemuck::cast_slice_mut::<u64, u8>(&mut aligned)[..image.len()].copy_from_slice(image);
        let mut log = [0u8; 2048];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the image is aligned and ends in a zero; the options have the values that they ask for.
        let code = unsafe {
            sys::cuModuleLoadDataEx(
                raw.as_mut_ptr(),
                aligned.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        if code as u32 == NO_BINARY_FOR_GPU {
            return Err(DriverError::WrongArchitecture { found: capability, image: name.to_owned() });
        }
        if let Err(error) = code.result() {
            return Err(with_log(failure(&format!("loading {name}"), error), &log));
        }
        // SAFETY: written by the successful call.
        let raw = unsafe { raw.assume_init() };
        Ok(Self(Arc::new(Loaded { raw, name: name.to_owned(), context: context.clone() })))
    }
}

/// Adds what the driver's compiler said.
fn with_log(error: DriverError, log: &[u8]) -> DriverError {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    match error {
        DriverError::Failed { place, code, message } if !log.trim().is_empty() => {
            DriverError::Failed { place, code, message: format!("{message}: {}", log.trim()) }
        }
        other => other,
    }
}

/// An entry point.
///
/// See the example of [`Graph`].
#[derive(Clone, Debug)]
pub struct Function {
    raw: sys::CUfunction,
    /// Bytes of the structure that it takes.
    argument_bytes: usize,
    module: Arc<Loaded>,
}

// SAFETY: functions may be used from any thread; the module they belong to is kept.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// An entry point of a module. The context is current.
    pub(super) fn new(module: &Module, entry: &str) -> Result<Self> {
        let missing = || DriverError::MissingKernel { entry: entry.to_owned(), image: module.0.name.clone() };
        let name = CString::new(entry).map_err(|_| missing())?;
        // SAFETY: the module is loaded.
        let raw = unsafe { result::module::get_function(module.0.raw, name) }.map_err(|error| {
            if error.0 as u32 == NOT_FOUND { missing() } else { failure("cuModuleGetFunction", error) }
        })?;
        let (mut offset, mut argument_bytes) = (0, 0);
        // SAFETY: every entry point has a first parameter: the convention of kernels/README.md.
        unsafe { sys::cuFuncGetParamInfo(raw, 0, &raw mut offset, &raw mut argument_bytes) }
            .at("cuFuncGetParamInfo")?;
        Ok(Self { raw, argument_bytes, module: module.0.clone() })
    }

    pub(super) fn info(&self) -> Result<FunctionInfo> {
        use sys::CUfunction_attribute_enum as Attribute;
        let attribute = |which| {
            // SAFETY: the module is loaded.
            let value = unsafe { result::function::get_function_attribute(self.raw, which) };
            value.at("cuFuncGetAttribute").map(i32::unsigned_abs)
        };
        Ok(FunctionInfo {
            registers: attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)? as usize,
            shared_bytes: attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)? as usize,
            threads: attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }

    pub(super) fn allow_shared(&self, bytes: usize) -> Result<()> {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: the module is loaded.
        unsafe { result::function::set_function_attribute(self.raw, attribute, bytes) }
            .at("cuFuncSetAttribute")
    }

    /// Queues a launch. The context is current.
    ///
    /// # Safety
    /// As of `Driver::launch`.
    pub(super) unsafe fn launch(&self, stream: &Stream, launch: Launch, arguments: &[u8]) -> Result<()> {
        if arguments.len() != self.argument_bytes {
            return Err(DriverError::Failed {
                place: format!("launching a kernel of {}", self.module.name),
                code: sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
                message: format!("{} bytes of arguments, it takes {}", arguments.len(), self.argument_bytes),
            });
        }
        let [x, y, z] = launch.grid;
        let shared = u32::try_from(launch.shared).unwrap_or(u32::MAX);
        let mut parameters = [arguments.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the driver copies as many bytes as the parameter has, which were counted; the rest is the caller's.
        unsafe {
            result::launch_kernel(
                self.raw,
                (x, y, z),
                (launch.threads, 1, 1),
                shared,
                stream.raw,
                &mut parameters,
            )
        }
        .at("cuLaunchKernel")
    }

    /// The name that the driver knows it by.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn name(&self) -> Result<String> {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: the module is loaded, and the name lives as long as it.
        unsafe {
            sys::cuFuncGetName(&raw mut name, self.raw).at("cuFuncGetName")?;
            Ok(std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }
}

/// Recorded work, ready to be queued.
///
/// ```no_run
/// use arras_cuda::driver::{Driver, Launch};
/// use arras_cuda::{Kernel, NvidiaDriver};
///
/// # let (image, arguments, words) = (&[0][..], &[0][..], 4096);
/// let gpu = NvidiaDriver::open(0)?;
/// let add = gpu.function(&gpu.load(Kernel::Add.image(), image)?, Kernel::Add.entry())?;
/// let (stream, start, end) = (gpu.stream()?, gpu.event(true)?, gpu.event(true)?);
/// let (mut host, sums) = (gpu.pinned(8 * words)?, gpu.allocate(&stream, 8 * words)?);
/// let launch = Launch { grid: [16, 1, 1], threads: Kernel::Add.threads(), shared: 0 };
/// gpu.begin_capture(&stream)?;
/// // SAFETY: the arguments are those of the kernel and name memory of these extents, here and whenever the graph runs.
/// unsafe { gpu.launch(&stream, &add, launch, arguments)? };
/// let graph = gpu.end_capture(&stream)?;
/// gpu.record(&stream, &start)?;
/// // SAFETY: as above; the host's memory is read after the stream was waited for.
/// unsafe {
///     gpu.launch_graph(&stream, &graph)?;
///     gpu.download_pinned(&stream, &mut host, 0..8 * words, sums)?;
/// }
/// gpu.record(&stream, &end)?;
/// gpu.synchronize(&stream)?;
/// println!("{:?} for {} bytes", gpu.elapsed(&start, &end)?, host.as_ref().len());
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
#[derive(Debug)]
pub struct Graph {
    raw: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: the driver orders launches of a graph by itself.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    /// Ends the recording of a stream. The context is current.
    pub(super) fn end_capture(context: &Arc<Context>, stream: &Stream) -> Result<Self> {
        // SAFETY: the stream is alive.
        let recorded = unsafe { result::stream::end_capture(stream.raw) }.at("cuStreamEndCapture")?;
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the recording is complete; it is no longer needed once there is an executable form of it.
        let instantiated = unsafe {
            let code = sys::cuGraphInstantiateWithFlags(raw.as_mut_ptr(), recorded, 0);
            let _ = sys::cuGraphDestroy(recorded);
            code.at("cuGraphInstantiate").map(|()| raw.assume_init())
        };
        Ok(Self { raw: instantiated?, context: context.clone() })
    }

    /// Queues the work. The context is current.
    ///
    /// # Safety
    /// As of `Driver::launch_graph`.
    pub(super) unsafe fn launch(&self, stream: &Stream) -> Result<()> {
        // SAFETY: graph and stream are alive; the rest is the caller's.
        unsafe { sys::cuGraphLaunch(self.raw, stream.raw) }.at("cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: instantiated in `end_capture`; work that is under way goes on.
            let _ = unsafe { sys::cuGraphExecDestroy(self.raw) };
        }
    }
}
