//! Framing, versions, limits and bit packing: what the byte formats of arras have in common.
//!
//! Each crate encodes its own types with the pieces found here; this crate knows none of them.
//!
//! - [`frame`]: the container (magic, version, kind, length, parameter fingerprint, payload, check).
//! - [`Reader`] and [`Writer`]: little-endian fields. A read names its field, so an error does too.
//! - [`bits`]: rows of residues packed at their exact width.
//! - [`mod@file`]: bounded reads, atomic writes.
//!
//! Decoding is strict: one value has one encoding, nothing is skipped or guessed, every length is
//! checked against a stated limit and against the bytes that are there before memory is asked for.
//! No input makes it panic. The formats are specified in `docs/formats.md`.
//!
//! ```
//! use arras_wire::frame::{self, Fingerprint, Kind};
//! use arras_wire::{Reader, Writer};
//!
//! let mut w = Writer::new();
//! w.u32(2048);
//! w.residues("b", &[1, 2, 96], 97)?;
//! let bytes = frame::encode(Kind::Reply, &Fingerprint([7; 32]), w.as_bytes());
//!
//! let frame = frame::decode(&bytes, Kind::Reply, 1 << 20)?;
//! let mut r = Reader::new(frame.payload);
//! assert_eq!(r.u32("degree")?, 2048);
//! assert_eq!(r.residues("b", 3, 97)?, [1, 2, 96]);
//! r.finish()?;
//! # Ok::<(), arras_wire::Error>(())
//! ```

pub mod bits;
mod error;
mod fields;
pub mod file;
pub mod frame;
mod xxh64;

#[cfg(feature = "testkit")]
pub mod corpus;
#[cfg(feature = "testkit")]
mod fuzz;

pub use error::{Error, InFile, Problem, Result};
pub use fields::{Reader, Writer};
#[cfg(feature = "testkit")]
pub use fuzz::fuzz_one;
