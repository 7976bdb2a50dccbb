//! CKKS (Cheon, Kim, Kim, Song, ePrint 2016/421) in residue form, as far as a server may see it: parameters, encoders,
//! ciphertexts, and operations that need no secret.
//!
//! | module | what |
//! |---|---|
//! | [`security`] | how large a modulus may be at a degree |
//! | [`params`] | validated parameter sets and their fingerprints |
//! | [`context`] | a backend with the tables of one parameter set |
//! | [`encoder`] | numbers to plaintexts and back, in slots or in coefficients |
//! | [`ciphertext`] | plaintexts, ciphertexts, their scale and level |
//! | [`evaluator`] | addition, multiplication by plaintexts and scalars, rescaling |
//! | [`bytes`] | parameters and ciphertexts on the wire |

pub mod bytes;
pub mod ciphertext;
pub mod context;
pub mod encoder;
pub mod error;
pub mod evaluator;
pub mod fft;
#[cfg(feature = "testkit")]
mod fuzz;
pub mod params;
pub mod security;

pub use ciphertext::{Ciphertext, Plaintext};
pub use context::Context;
pub use error::{Error, Result};
#[cfg(feature = "testkit")]
pub use fuzz::{fuzz_one, small_params};
pub use params::{Params, Spec};
pub use security::Security;
