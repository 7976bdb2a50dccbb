//! The one routine of cuBLAS that is used, from a library that may be missing.

use std::ffi::c_int;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::sys::{cublasHandle_t, cublasOperation_t};
use cudarc::driver::sys::CUstream;
use libloading::Library;

use super::context::why;
use crate::driver::{Gemm, Result};
use crate::error::DriverError;

/// Where cuBLAS is: what the linker finds first, then the usual place of a toolkit.
const LIBRARIES: &[&str] = if cfg!(windows) {
    &["cublas64_13.dll"]
} else {
    &["libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13", "libcublas.so.12"]
};

type Create = unsafe extern "C" fn(*mut cublasHandle_t) -> c_int;
type Destroy = unsafe extern "C" fn(cublasHandle_t) -> c_int;
type SetStream = unsafe extern "C" fn(cublasHandle_t, CUstream) -> c_int;
type Dgemm = unsafe extern "C" fn(
    cublasHandle_t,
    cublasOperation_t,
    cublasOperation_t,
    c_int,
    c_int,
    c_int,
    *const f64,
    *const f64,
    c_int,
    *const f64,
    c_int,
    *const f64,
    *mut f64,
    c_int,
) -> c_int;

/// The library. cudarc would panic where it is missing; here that is an error.
#[derive(Debug)]
pub(super) struct Blas {
    create: Create,
    destroy: Destroy,
    set_stream: SetStream,
    dgemm: Dgemm,
    /// What the functions are in.
    _library: Library,
}

impl Blas {
    pub(super) fn open() -> Result<Self> {
        let mut reason = String::new();
        for name in LIBRARIES {
            // SAFETY: the library's initialisation routines have no requirements.
            match unsafe { Library::new(*name) } {
                Ok(library) => return Self::of(library).map_err(|error| missing(&why(&error))),
                Err(error) if reason.is_empty() => reason = why(&error),
                Err(_) => {}
            }
        }
        Err(missing(&reason))
    }

    fn of(library: Library) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: the signatures are those of the second version of the interface, which its names carry.
        unsafe {
            Ok(Self {
                create: *library.get(b"cublasCreate_v2\0")?,
                destroy: *library.get(b"cublasDestroy_v2\0")?,
                set_stream: *library.get(b"cublasSetStream_v2\0")?,
                dgemm: *library.get(b"cublasDgemm_v2\0")?,
                _library: library,
            })
        }
    }
}

fn missing(reason: &str) -> DriverError {
    DriverError::Failed { place: "cuBLAS".into(), code: 0, message: format!("cannot be loaded: {reason}") }
}

fn check(place: &str, status: c_int) -> Result<()> {
    match status {
        0 => Ok(()),
        3 => Err(DriverError::OutOfMemory { place: place.into(), requested: 0 }),
        _ => Err(DriverError::Failed {
            place: place.into(),
            code: status.unsigned_abs(),
            message: "see cublasStatus_t".into(),
        }),
    }
}

/// A handle for one stream: its workspace is then never shared between streams.
pub(super) struct Handle {
    raw: Mutex<cublasHandle_t>,
    blas: Arc<Blas>,
}

// SAFETY: a handle may be used from any thread, by one at a time: the mutex sees to that.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// A handle whose work goes to `stream`. The context is current.
    pub(super) fn new(blas: Arc<Blas>, stream: CUstream) -> Result<Self> {
        let mut raw: cublasHandle_t = std::ptr::null_mut();
        // SAFETY: the handle is written before it is read.
        check("cublasCreate", unsafe { (blas.create)(&raw mut raw) })?;
        let set_stream = blas.set_stream;
        let handle = Self { raw: Mutex::new(raw), blas };
        // SAFETY: handle and stream are alive.
        check("cublasSetStream", unsafe { set_stream(raw, stream) })?;
        Ok(handle)
    }

    /// Queues a product. The context is current.
    ///
    /// # Safety
    /// As of `Driver::gemm_f64`.
    pub(super) unsafe fn gemm(&self, gemm: &Gemm) -> Result<()> {
        let int = |extent: usize| {
            c_int::try_from(extent).map_err(|_| DriverError::Failed {
                place: "cublasDgemm".into(),
                code: 7,
                message: format!("extent {extent} exceeds 2^31 - 1"),
            })
        };
        let [m, n, k] = [int(gemm.extent[0])?, int(gemm.extent[1])?, int(gemm.extent[2])?];
        let (lda, ldb, ldc) = (int(gemm.a.1)?, int(gemm.b.1)?, int(gemm.c.1)?);
        let plain = cublasOperation_t::CUBLAS_OP_N;
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller vouches for the matrices; the factors are read before the call returns.
        check("cublasDgemm", unsafe {
            (self.blas.dgemm)(
                *raw,
                plain,
                plain,
                m,
                n,
                k,
                &raw const gemm.alpha,
                gemm.a.0.0 as *const f64,
                lda,
                gemm.b.0.0 as *const f64,
                ldb,
                &raw const gemm.beta,
                gemm.c.0.0 as *mut f64,
                ldc,
            )
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let raw = *self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: created in `new`.
        let _ = unsafe { (self.blas.destroy)(raw) };
    }
}
