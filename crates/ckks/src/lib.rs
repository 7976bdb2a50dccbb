//! CKKS (Cheon, Kim, Kim, Song, ePrint 2016/421) in residue form, as far as a server may see it: parameters, encoders,
//! ciphertexts, and operations that need no secret.
//!
//! | module | what |
//! |---|---|
//! | [`security`] | how large a modulus may be at a degree |
//! | [`params`] | validated parameter sets and their fingerprints |
//! | [`context`] | a backend with the tables of one parameter set |
//! | [`encoder`] | numbers to plaintexts and back, in slots or in coefficients |
//! | [`integers`] | exact integers to plaintexts and back |
//! | [`ciphertext`] | plaintexts, ciphertexts, their scale and level |
//! | [`slots`] | which automorphism moves which slot |
//! | [`keys`] | evaluation keys |
//! | [`public`] | public keys: encryption without a secret |
//! | [`sampling`] | randomness for them |
//! | [`workspace`] | constants and scratch memory of key switching |
//! | [`evaluator`] | operations on ciphertexts |
//! | [`noise`] | how much noise the operations add, predicted |
//! | [`threshold`] | combining the shares of a key that nobody holds |
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
pub mod integers;
pub mod keys;
mod lift;
pub mod noise;
pub mod params;
pub mod public;
pub mod sampling;
pub mod security;
pub mod slots;
pub mod threshold;
pub mod workspace;

pub use ciphertext::{Ciphertext, Plaintext};
pub use context::Context;
pub use error::{Error, Result};
#[cfg(feature = "testkit")]
pub use fuzz::{fuzz_one, small_params, small_params_with_keys};
pub use keys::{EvaluationKeys, SwitchingKey};
pub use noise::Noise;
pub use params::{Params, Spec};
pub use public::PublicKey;
pub use security::Security;
pub use slots::Slots;
pub use workspace::Workspace;
