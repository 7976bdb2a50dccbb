//! The CPU backend of arras: the default, the oracle of the CUDA backend, and the baseline it is measured against.
//!
//! | module | what |
//! |---|---|
//! | [`portable`] | every row kernel in plain Rust: the oracle of the SIMD paths |
//! | [`tables`] | per-limb constants, converters, prepared operands, matrices |
//! | [`memory`], [`queue`] | cache-line aligned words; threads |
//! | [`backend`] | the contract of `arras-rns`, row kernels spread over threads |

pub mod backend;
pub mod memory;
pub mod portable;
pub mod queue;
pub mod tables;

pub use backend::Cpu;
pub use queue::Queue;
