//! Encrypted vision-transformer inference: CKKS and number-theoretic transforms on CPU and CUDA.
//!
//! As a library, `arras = { default-features = false }` is a CKKS and NTT backend:
//!
//! - [`rns`]: primes, rings, views of polynomials and the [`rns::Backend`] contract,
//! - [`cpu`]: the contract on host memory,
//! - [`ckks`]: parameters, encoders, ciphertexts and operations that need no secret.
//!
//! Feature `cuda` adds `arras::cuda`, the contract on a GPU, and `arras::Device`, a backend chosen when the program runs. It needs nvcc to
//! build (`scripts/cuda-env`) and neither a GPU nor a driver, not even to start.
//!
//! Feature `server` adds [`heads`] (encrypted classifier heads), feature `client` adds [`secret`] (keys, encryption,
//! decryption), [`vit`] (images to CLS tokens) and [`fit`] (heads from features), feature `audit` adds [`audit`] (attacks on what each
//! party sees). A program without `client` contains no
//! code that handles a secret key. Start with the numbered programs in `examples/`.

pub use arras_ckks as ckks;
pub use arras_cpu as cpu;
#[cfg(feature = "cuda")]
pub use arras_cuda as cuda;
pub use arras_rns as rns;

#[cfg(feature = "cuda")]
pub use device::{Device, Either, KERNELS};

#[cfg(feature = "audit")]
pub use arras_audit as audit;
#[cfg(feature = "client")]
pub use arras_federated as federated;
#[cfg(feature = "client")]
pub use arras_fit as fit;
#[cfg(any(feature = "client", feature = "server"))]
pub use arras_heads as heads;
#[cfg(any(feature = "client", feature = "server"))]
pub use arras_rounds as rounds;
#[cfg(feature = "client")]
pub use arras_secret as secret;
#[cfg(feature = "client")]
pub use arras_vit as vit;

#[cfg(feature = "server")]
#[doc(hidden)]
pub mod cli;

/// Things of other crates as things of ours, and the other way round. Their versions are not covered by ours.
#[cfg(feature = "cust")]
pub mod interop {
    pub use arras_cuda::rust_cuda as cust;
}

#[cfg(feature = "cuda")]
mod device;
