//! The CUDA backend of arras.
//!
//! | module | what |
//! |---|---|
//! | [`driver`] | what is needed of a CUDA driver: `trait Driver` |
//! | [`nvidia`] | the driver of NVIDIA |
//! | [`counting`] | a driver that only notes what is launched |
//! | [`abi`] | the structures that kernels take |
//! | [`images`], [`kernels`] | compiled kernels; which of them are launched |
//! | [`memory`], [`queue`], [`tables`] | device memory, streams, constants |
//! | [`fast`] | which fast kernels serve a ring |
//! | [`backend`] | the contract of `arras-rns` |
//! | [`upload`] | uploads that go on while the device computes |
//! | [`vit`] | the kernels of a vision transformer |
//! | [`secret`] | what the owner of a secret key runs beside the contract |
//! | [`nvtx`] | ranges that a profiler shows |
//! | [`measure`] | the ceilings of a device |

pub mod abi;
pub mod backend;
mod call;
pub mod counting;
pub mod driver;
pub mod error;
pub mod fast;
pub mod images;
pub mod kernels;
pub mod measure;
pub mod memory;
pub mod nvidia;
pub mod nvtx;
pub mod queue;
#[cfg(feature = "rust-cuda")]
pub mod rust_cuda;
pub mod secret;
pub mod tables;
pub mod upload;
pub mod vit;

pub use backend::Cuda;
pub use driver::{DevicePtr, Driver};
pub use error::DriverError;
pub use images::{Image, Images};
pub use kernels::Kernel;
pub use nvidia::NvidiaDriver;
