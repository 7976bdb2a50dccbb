//! The CPU backend of arras: the default, the oracle of the CUDA backend, and the baseline it is measured against.
//!
//! | module | what |
//! |---|---|
//! | [`portable`] | every row kernel in plain Rust: the oracle of the SIMD paths |
//! | `simd`, [`path`] | the same kernels on AVX2, AVX-512 and IFMA; which of them to take |
//! | [`kernels`] | the row kernels of one limb, on the path chosen for it |
//! | [`tables`] | per-limb constants, converters, prepared operands, matrices |
//! | [`memory`], [`queue`] | cache-line aligned words; threads |
//! | `switching` | dropping primes and switching keys, row by row |
//! | [`backend`] | the contract of `arras-rns`, row kernels spread over threads |

pub mod backend;
pub mod kernels;
pub mod memory;
pub mod path;
pub mod portable;
pub mod queue;
#[cfg(target_arch = "x86_64")]
mod simd;
mod switching;
pub mod tables;

pub use backend::{Cpu, CpuOptions};
pub use path::Path;
pub use queue::Queue;
