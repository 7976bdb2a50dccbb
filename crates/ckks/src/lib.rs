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
//! | [`slots`] | which automorphism moves which slot |
//! | [`small`] | polynomials with small coefficients: drawing them, handing them to a backend |
//! | [`keys`] | evaluation keys |
//! | [`workspace`] | constants and scratch memory of key switching |
//! | [`evaluator`] | operations on ciphertexts |
//! | [`bytes`] | parameters, ciphertexts and keys on the wire |

pub mod bytes;
pub mod ciphertext;
pub mod context;
pub mod encoder;
pub mod error;
pub mod evaluator;
pub mod fft;
#[cfg(feature = "testkit")]
mod fuzz;
pub mod keys;
mod lift;
pub mod params;
pub mod security;
pub mod slots;
pub mod small;
pub mod workspace;

pub use ciphertext::{Ciphertext, Plaintext};
pub use context::Context;
pub use error::{Error, Result};
#[cfg(feature = "testkit")]
pub use fuzz::{fuzz_one, small_params, small_params_with_keys};
pub use keys::{EvaluationKeys, SwitchingKey};
pub use params::{Params, Spec};
pub use security::Security;
pub use slots::Slots;
pub use workspace::Workspace;
