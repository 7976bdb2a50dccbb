//! The C++ side: `cpp/host.cpp`.

use std::ffi::{CStr, c_char, c_int, c_void};

/// A kernel compiled for the host, as `host.h` declares it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawKernel {
    name: *const c_char,
    file: *const c_char,
    run: *const c_void,
    argument_bytes: usize,
    max_threads: u32,
}

/// A kernel compiled for the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel(&'static RawKernel);

// SAFETY: the structure is written before `main` and never again, and its strings are literals.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

#[cfg(host_kernels)]
unsafe extern "C" {
    fn arras_host_kernel(index: usize) -> *const RawKernel;
    fn arras_host_launch(
        kernel: *const RawKernel,
        grid: *const u32,
        threads: u32,
        shared_bytes: usize,
        arguments: *const c_void,
        order: u32,
        seed: u64,
        message: *mut c_char,
        message_bytes: usize,
    ) -> c_int;
    fn arras_host_guard(memory: *mut c_void, bytes: usize, forbidden: c_int);
    fn arras_host_sanitized() -> c_int;
}

/// What stands in for the C++ side where it could not be compiled.
#[cfg(not(host_kernels))]
mod absent {
    use super::{RawKernel, c_char, c_int, c_void};

    pub(super) unsafe fn arras_host_kernel(_: usize) -> *const RawKernel {
        std::ptr::null()
    }

    #[allow(clippy::too_many_arguments, reason = "the signature of the other one")]
    pub(super) unsafe fn arras_host_launch(
        _: *const RawKernel,
        _: *const u32,
        _: u32,
        _: usize,
        _: *const c_void,
        _: u32,
        _: u64,
        _: *mut c_char,
        _: usize,
    ) -> c_int {
        1
    }

    pub(super) unsafe fn arras_host_guard(_: *mut c_void, _: usize, _: c_int) {}

    pub(super) unsafe fn arras_host_sanitized() -> c_int {
        0
    }
}
#[cfg(not(host_kernels))]
use absent::{arras_host_guard, arras_host_kernel, arras_host_launch, arras_host_sanitized};

impl Kernel {
    /// All kernels.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(|index| {
            // SAFETY: any index may be asked for; what is returned is null or lives as long as the program.
            unsafe { arras_host_kernel(index).as_ref() }.map(Kernel)
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        // SAFETY: a string literal.
        unsafe { CStr::from_ptr(self.0.name) }.to_str().unwrap_or_default()
    }

    /// The file it stands in.
    pub(crate) fn file(&self) -> &'static str {
        // SAFETY: a string literal.
        unsafe { CStr::from_ptr(self.0.file) }.to_str().unwrap_or_default()
    }

    /// Size of the structure it takes.
    pub(crate) fn argument_bytes(&self) -> usize {
        self.0.argument_bytes
    }

    /// The most threads of a block.
    pub(crate) fn max_threads(&self) -> u32 {
        self.0.max_threads
    }

    /// Runs a grid to its end.
    ///
    /// # Safety
    /// `arguments` hold the structure of this kernel, whose addresses are good for what the kernel does with them.
    pub(crate) unsafe fn launch(
        &self,
        grid: [u32; 3],
        threads: u32,
        shared: usize,
        arguments: &[u128],
        (order, seed): (u32, u64),
    ) -> Result<(), String> {
        let mut message = [0 as c_char; 512];
        // SAFETY: the caller vouches for the arguments; the message is as long as is said, and ends with a zero.
        unsafe {
            let failed = arras_host_launch(
                self.0,
                grid.as_ptr(),
                threads,
                shared,
                arguments.as_ptr().cast(),
                order,
                seed,
                message.as_mut_ptr(),
                message.len(),
            );
            match failed {
                0 => Ok(()),
                _ => Err(CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned()),
            }
        }
    }
}

/// Forbids kernels to touch memory, or allows it again. Without a sanitizer nothing happens.
///
/// # Safety
/// The memory belongs to the caller, who does not touch it either while it is forbidden.
pub(crate) unsafe fn guard(memory: *mut u8, bytes: usize, forbidden: bool) {
    // SAFETY: the caller's promise.
    unsafe { arras_host_guard(memory.cast(), bytes, forbidden.into()) }
}

/// Whether the kernels were compiled with sanitizers.
pub(crate) fn sanitized() -> bool {
    // SAFETY: has no conditions.
    unsafe { arras_host_sanitized() != 0 }
}
