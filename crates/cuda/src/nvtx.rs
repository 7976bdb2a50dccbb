//! Ranges that a profiler shows: NVTX, version 3, without its headers.
//!
//! A tool that wants to see ranges names a library in the environment variable `NVTX_INJECTION64_PATH`. Whoever reads the environment hands
//! it to [`connect`]; the library then fills tables of function pointers (`nvtxDetail/nvtxTypes.h` of NVTX 3), and every operation of the
//! backend is a range `arras:OPERATION` of the thread that queues it. Without a tool a range costs one comparison, without the feature
//! `ranges` nothing.
//!
//! The tables are the only state of the process in this crate: the protocol knows no other.

use std::path::Path;

/// The prefix of every name.
pub const PREFIX: &str = "arras:";

/// Lets a tool see ranges. Once in a process: later calls have no effect.
///
/// # Errors
/// Why the library cannot be used, or that this build has no feature `ranges`.
pub fn connect(library: &Path) -> Result<(), String> {
    protocol::connect(library)
}

/// A range of this thread, from here to its end.
#[derive(Debug)]
pub(crate) struct Range {
    #[cfg(feature = "ranges")]
    pop: Option<protocol::Pop>,
}

impl Range {
    /// Begins the range `arras:OPERATION`.
    #[inline]
    pub(crate) fn new(operation: &'static str) -> Self {
        #[cfg(not(feature = "ranges"))]
        {
            let _ = operation;
            Self {}
        }
        #[cfg(feature = "ranges")]
        Self { pop: protocol::push(operation) }
    }
}

#[cfg(feature = "ranges")]
impl Drop for Range {
    #[inline]
    fn drop(&mut self) {
        if let Some(pop) = self.pop {
            // SAFETY: the tool's, which takes no arguments; this thread has begun a range.
            unsafe { pop() };
        }
    }
}

#[cfg(not(feature = "ranges"))]
mod protocol {
    pub(super) fn connect(_: &std::path::Path) -> Result<(), String> {
        Err("this build lacks the feature `ranges`".into())
    }
}

#[cfg(feature = "ranges")]
mod protocol {
    use std::ffi::{CString, c_char, c_int, c_uint, c_void};
    use std::path::Path;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use libloading::Library;

    /// Most functions of a module, number 0 (which is none) included.
    const SLOTS: usize = 16;
    /// Functions of each module and one more: none, core, CUDA, OpenCL, CUDA runtime, domains, synchronisation.
    const SIZES: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
    const CORE: usize = 1;
    const PUSH: usize = 9;
    const POP: usize = 11;

    type Slots = [[AtomicPtr<c_void>; SLOTS]; SIZES.len()];

    /// What a tool fills: its functions. Two are called.
    static FUNCTIONS: Slots = [const { [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS] }; SIZES.len()];

    /// Where the functions of the modules are, as the protocol wants to know it; number 0 is nowhere.
    struct Tables([[*const AtomicPtr<c_void>; SLOTS]; SIZES.len()]);

    // SAFETY: addresses of statics.
    unsafe impl Sync for Tables {}
    // SAFETY: as above.
    unsafe impl Send for Tables {}

    static TABLES: OnceLock<Tables> = OnceLock::new();

    fn tables() -> &'static Tables {
        TABLES.get_or_init(|| {
            let entry = |module: usize, slot: usize| match slot {
                0 => ptr::null(),
                _ => ptr::from_ref(&FUNCTIONS[module][slot]),
            };
            Tables(std::array::from_fn(|module| std::array::from_fn(|slot| entry(module, slot))))
        })
    }

    type Push = unsafe extern "C" fn(*const c_char) -> c_int;
    pub(super) type Pop = unsafe extern "C" fn() -> c_int;
    type GetExportTable = extern "C" fn(u32) -> *const c_void;
    type Initialize = unsafe extern "C" fn(GetExportTable) -> c_int;
    type GetFunctions =
        unsafe extern "C" fn(c_int, *mut *const *const AtomicPtr<c_void>, *mut c_uint) -> c_int;

    /// `NvtxExportTableCallbacks`.
    #[repr(C)]
    struct Callbacks {
        bytes: usize,
        functions: GetFunctions,
    }

    /// `NvtxExportTableVersionInfo`.
    #[repr(C)]
    struct Version {
        bytes: usize,
        version: u32,
        reserved: u32,
        set_tool_version: extern "C" fn(u32),
    }

    static CALLBACKS: Callbacks = Callbacks { bytes: size_of::<Callbacks>(), functions };
    static VERSION: Version =
        Version { bytes: size_of::<Version>(), version: 3, reserved: 0, set_tool_version };

    extern "C" fn set_tool_version(_: u32) {}

    extern "C" fn export_table(id: u32) -> *const c_void {
        match id {
            1 => ptr::from_ref(&CALLBACKS).cast(),
            3 => ptr::from_ref(&VERSION).cast(),
            _ => ptr::null(),
        }
    }

    /// `GetModuleFunctionTable`.
    ///
    /// # Safety
    /// Both results are null or can be written.
    unsafe extern "C" fn functions(
        module: c_int,
        table: *mut *const *const AtomicPtr<c_void>,
        size: *mut c_uint,
    ) -> c_int {
        let Some(index) = usize::try_from(module).ok().filter(|&index| index > 0 && index < SIZES.len())
        else {
            return 0;
        };
        // SAFETY: the caller's.
        unsafe {
            if !table.is_null() {
                *table = tables().0[index].as_ptr();
            }
            if !size.is_null() {
                *size = SIZES[index] as c_uint;
            }
        }
        1
    }

    pub(super) fn connect(library: &Path) -> Result<(), String> {
        static CONNECTED: OnceLock<Result<(), String>> = OnceLock::new();
        CONNECTED.get_or_init(|| initialize(library)).clone()
    }

    fn initialize(library: &Path) -> Result<(), String> {
        let refused = |why: String| format!("{}: {why}", library.display());
        // SAFETY: a library that a profiler named to be loaded into programs.
        let tool = unsafe { Library::new(library) }.map_err(|error| refused(error.to_string()))?;
        // SAFETY: the protocol's symbol, with its signature.
        let initialize = unsafe { tool.get::<Initialize>(b"InitializeInjectionNvtx2\0") };
        let initialize = *initialize.map_err(|error| refused(error.to_string()))?;
        // The tool's functions are called until the process ends.
        std::mem::forget(tool);
        // SAFETY: the table is there for as long as the process.
        match unsafe { initialize(export_table) } {
            0 => Err(refused("InitializeInjectionNvtx2 failed".into())),
            _ => Ok(()),
        }
    }

    /// Begins a range, if a tool listens to both ends; what ends it.
    pub(super) fn push(operation: &'static str) -> Option<Pop> {
        let push = FUNCTIONS[CORE][PUSH].load(Ordering::Acquire);
        let pop = FUNCTIONS[CORE][POP].load(Ordering::Acquire);
        if push.is_null() || pop.is_null() {
            return None;
        }
        let name = CString::new([super::PREFIX, operation].concat()).ok()?;
        // SAFETY: a tool puts functions of these types there; the name is copied by the call.
        unsafe {
            let (push, pop) = (
                std::mem::transmute::<*mut c_void, Push>(push),
                std::mem::transmute::<*mut c_void, Pop>(pop),
            );
            push(name.as_ptr());
            Some(pop)
        }
    }
}
