//! Being built.

pub mod head;

pub use head::{Head, ModelCard};
