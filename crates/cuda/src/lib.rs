//! The CUDA backend of arras.
//!
//! | module | what |
//! |---|---|
//! | [`driver`] | what is needed of a CUDA driver: `trait Driver` |
//! | [`abi`] | the structures that kernels take |
//! | [`images`] | compiled kernels |
//! | [`measure`] | the ceilings of a device |
//! | [`nvidia`] | the driver of NVIDIA |

pub mod abi;
pub mod driver;
pub mod error;
pub mod images;
pub mod measure;
pub mod nvidia;

pub use driver::{DevicePtr, Driver};
pub use error::DriverError;
pub use images::{Image, Images};
pub use nvidia::NvidiaDriver;
