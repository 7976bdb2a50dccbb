//! The kernels of arras on the host: [`HostDriver`] is a CUDA driver that runs them on the CPU.
//!
//! The files under `kernels/` are compiled by the host's C++ compiler, one fiber per CUDA thread. Work is queued and
//! done as late as the rules of streams allow, or at random moments; memory is poisoned before it is written and after it is
//! freed; threads take turns in the order that is asked for. A kernel or a backend that relies on more than CUDA promises
//! gives wrong words here, or an error that names the place.

mod driver;
mod ffi;
mod memory;

use arras_cuda::{Image, Images, abi};

pub use driver::{
    HostDriver, HostEvent, HostFunction, HostGraph, HostModule, HostOptions, HostPinned, HostStream,
    Injection, Lanes, Schedule,
};
pub use memory::POISON;

/// The kernels, or why there are none on this machine.
///
/// # Errors
/// What the build could not do: usually, find a C++ compiler.
pub fn images() -> Result<Images<'static>, &'static str> {
    const LIST: &[Image<'static>] = include!(concat!(env!("OUT_DIR"), "/images.rs"));
    /// In the order of [`abi::HEADERS`].
    const HEADERS: [&[u8]; abi::HEADERS.len()] = [
        include_bytes!("../../../kernels/include/abi.h"),
        include_bytes!("../../../kernels/include/fast.h"),
        include_bytes!("../../../kernels/include/vit.h"),
        include_bytes!("../../../kernels/measure/measure.h"),
    ];
    match option_env!("ARRAS_HOST_KERNELS_MISSING") {
        None => Ok(Images { abi: abi::hash(HEADERS), images: LIST }),
        Some(reason) => Err(reason),
    }
}

/// Whether the kernels were compiled with sanitizers.
pub fn sanitized() -> bool {
    ffi::sanitized()
}
