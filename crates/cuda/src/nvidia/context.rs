//! The driver library, the context of a device, and what their errors mean.

use std::ffi::{CStr, c_int};
use std::fmt::{self, Debug};

use cudarc::driver::{result, sys};
use libloading::Library;

use crate::driver::{DeviceInfo, Result};
use crate::error::DriverError;

/// The oldest driver that is supported, as `1000 major + 10 minor`: CUDA 13.0, which is release 580 of the driver.
pub const REQUIRED_DRIVER: u32 = 13_000;

/// The driver library by the names it is installed under.
const DRIVER_LIBRARIES: &[&str] =
    if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

/// Opens the driver library and checks its version before anything else may call it: cudarc resolves symbols when they
/// are first called and panics where one is missing.
pub(super) fn open_library() -> Result<(Library, u32)> {
    let mut reason = String::new();
    for name in DRIVER_LIBRARIES {
        // SAFETY: the driver's initialisation routines have no requirements.
        match unsafe { Library::new(*name) } {
            Ok(library) => {
                let version = version(&library)?;
                return Ok((library, version));
            }
            Err(error) if reason.is_empty() => reason = why(&error),
            Err(_) => {}
        }
    }
    Err(DriverError::NoDriver { reason })
}

/// What the dynamic linker said, which the error itself keeps to its source.
pub(super) fn why(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn version(library: &Library) -> Result<u32> {
    type GetVersion = unsafe extern "C" fn(*mut c_int) -> u32;
    // SAFETY: the symbol has had this signature since the first version of the driver.
    let get_version = unsafe { library.get::<GetVersion>(b"cuDriverGetVersion\0") }
        .map_err(|error| DriverError::NoDriver { reason: why(&error) })?;
    let mut found: c_int = 0;
    // SAFETY: the call writes one integer and may come before cuInit.
    let code = unsafe { get_version(&mut found) };
    if code != 0 {
        return Err(DriverError::NoDriver { reason: format!("the library is a stub (code {code})") });
    }
    let found = found.unsigned_abs();
    if found < REQUIRED_DRIVER {
        return Err(DriverError::DriverTooOld { found, required: REQUIRED_DRIVER });
    }
    Ok(found)
}

/// Number of devices, after the driver was opened and initialised.
pub(super) fn device_count() -> Result<usize> {
    match result::init().and_then(|()| result::device::get_count()) {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(error) if error.0 as u32 == NO_DEVICE => Ok(0),
        Err(error) => Err(failure("cuInit", error)),
    }
}

/// The primary context of a device, retained: the one that other libraries of the process use too.
pub(super) struct Context {
    pub(super) raw: sys::CUcontext,
    pub(super) device: sys::CUdevice,
    /// Kept open for as long as anything of the driver is used.
    _library: Library,
}

// SAFETY: contexts are reference-counted by the driver and may be made current by any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({:p})", self.raw)
    }
}

impl Context {
    pub(super) fn open(ordinal: usize) -> Result<(Self, DeviceInfo)> {
        let (library, driver_version) = open_library()?;
        let count = device_count()?;
        let index = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        if ordinal >= count {
            return Err(DriverError::NoDevice { ordinal, count });
        }
        let device = result::device::get(index).at("cuDeviceGet")?;
        let info = describe(device, driver_version)?;
        // SAFETY: the device comes from the driver.
        let raw = unsafe { result::primary_ctx::retain(device) }.at("cuDevicePrimaryCtxRetain")?;
        let context = Self { raw, device, _library: library };
        context.bind()?;
        Ok((context, info))
    }

    /// Makes the context current in this thread, as most calls expect.
    pub(super) fn bind(&self) -> Result<()> {
        // SAFETY: the context is retained until self is dropped.
        unsafe { result::ctx::set_current(self.raw) }.at("cuCtxSetCurrent")
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`. An error here means that the driver is being unloaded.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

fn describe(device: sys::CUdevice, driver_version: u32) -> Result<DeviceInfo> {
    use sys::CUdevice_attribute as Attribute;
    let attribute = |which: Attribute| {
        // SAFETY: the device comes from the driver.
        let value = unsafe { result::device::get_attribute(device, which) }.at("cuDeviceGetAttribute")?;
        Ok::<_, DriverError>(value.unsigned_abs())
    };
    Ok(DeviceInfo {
        name: result::device::get_name(device).at("cuDeviceGetName")?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
        l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        driver_version,
    })
}

const OUT_OF_MEMORY: u32 = 2;
const NO_DEVICE: u32 = 100;
pub(super) const NO_BINARY_FOR_GPU: u32 = 209;
pub(super) const NOT_FOUND: u32 = 500;

/// Errors after which a context accepts no more work: faults of a kernel, of memory or of the link, and a device taken
/// away.
const LOST: [u32; 16] = [4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 911];

/// The driver's error with the call that reported it.
pub(super) fn failure(place: &str, error: result::DriverError) -> DriverError {
    let (place, code, message) = (place.to_owned(), error.0 as u32, describe_error(error));
    match code {
        OUT_OF_MEMORY => DriverError::OutOfMemory { place, requested: 0 },
        _ if LOST.contains(&code) => DriverError::DeviceLost { place, message },
        _ => DriverError::Failed { place, code, message },
    }
}

fn describe_error(error: result::DriverError) -> String {
    let text = |text: std::result::Result<&CStr, _>| text.ok().map(|t| t.to_string_lossy().into_owned());
    let name = text(error.error_name()).unwrap_or_else(|| format!("{:?}", error.0));
    match text(error.error_string()) {
        Some(words) => format!("{name}: {words}"),
        None => name,
    }
}

/// Names the call that failed.
pub(super) trait At<T> {
    fn at(self, place: &str) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, result::DriverError> {
    fn at(self, place: &str) -> Result<T> {
        self.map_err(|error| failure(place, error))
    }
}

impl At<()> for sys::CUresult {
    fn at(self, place: &str) -> Result<()> {
        self.result().at(place)
    }
}
