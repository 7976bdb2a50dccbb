//! Everything that needs, or makes, a secret: keys, encryption, decryption. A server never links this crate.
//!
//! | module | what |
//! |---|---|
//! | [`key`] | secret keys, in memory and on disk |
//! | [`cipher`] | a secret key on a backend: encryption, decryption, public keys |
//! | [`evaluation`] | keys for products and automorphisms |
//! | [`threshold`] | keys that nobody holds whole: shares of keys, uploads under a common mask, shares of decryptions |
//! | [`resident`] | the same for features that are on a device |
//! | [`features`] | the client's side of an encrypted head: requests out, logits in |
//!
//! Secret material is drawn from the operating system through ChaCha20 ([`arras_ckks::sampling`]), has no `Debug` output and is overwritten when it
//! is dropped. No branch or memory index depends on it. The code has not been audited.

pub mod cipher;
pub mod error;
pub mod evaluation;
pub mod features;
#[cfg(feature = "testkit")]
mod fuzz;
pub mod key;
pub mod resident;
pub mod threshold;

pub use arras_ckks::PublicKey;
pub use cipher::Cipher;
pub use error::{Error, Result};
#[cfg(feature = "testkit")]
pub use fuzz::fuzz_one;
pub use key::SecretKey;
pub use resident::Resident;
