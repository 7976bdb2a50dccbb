//! Vision transformers: image files to CLS tokens.
//!
//! [`Vit::load`] reads a Hugging Face directory (`config.json`, `preprocessor_config.json`, safetensors) of a
//! `ViTModel` or `Dinov2Model`, or of a classifier that contains one; [`Vit::random`] makes one from a seed.
//! [`Vit::embed_batch`] turns preprocessed images into the CLS tokens of the last hidden state.
//!
//! ```
//! use arras_vit::{Architecture, Device, Vit};
//!
//! let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cpu)?;
//! let grey = vec![0.0; vit.preprocessor().len()];
//! let tokens = vit.embed_batch(&[grey])?;
//! assert_eq!(tokens[0].len(), 768);
//! # Ok::<(), arras_vit::Error>(())
//! ```

pub mod config;
mod error;
mod fingerprint;
#[cfg(feature = "gpu")]
mod gpu;
mod images;
mod init;
mod interpolate;
mod json;
#[cfg(any(test, feature = "gpu"))]
mod launch;
mod load;
mod model;
mod ops;
pub mod preprocess;
mod resize;
mod tensors;
mod vit;

pub use config::{Architecture, Size};
pub use error::{Error, FieldError, Result};
pub use fingerprint::Fingerprint;
#[cfg(feature = "gpu")]
pub use gpu::{Gpu, Precision};
pub use images::{ImageFile, decode, images_in};
pub use preprocess::Preprocessor;
pub use resize::Filter;
pub use tensors::{NamedTensor, Tensors};
pub use vit::{Device, Vit};

// The feature `x86-v4` of this dependency is all that is wanted; see Cargo.toml.
use gemm as _;
