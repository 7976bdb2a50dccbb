//! Encrypted vision-transformer inference: CKKS and number-theoretic transforms on CPU and, later, CUDA.
//!
//! As a library, `arras = { default-features = false }` is a CKKS and NTT backend:
//!
//! - [`rns`]: primes, rings, views of polynomials and the [`rns::Backend`] contract,
//! - [`cpu`]: the contract on host memory,
//! - [`ckks`]: parameters, encoders, ciphertexts and operations that need no secret.
//!
//! Feature `server` adds [`heads`] (encrypted classifier heads), feature `client` adds [`secret`] (keys, encryption,
//! decryption), [`vit`] (images to CLS tokens) and [`fit`] (heads from features). A program without `client` contains no
//! code that handles a secret key. Start with the numbered programs in `examples/`.

pub use arras_ckks as ckks;
pub use arras_cpu as cpu;
pub use arras_rns as rns;

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
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod record;
