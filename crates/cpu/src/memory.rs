//! Words on cache-line boundaries.

use std::fmt;

use arras_rns::backend::Storage;
use bytemuck::{Pod, Zeroable};

/// One cache line, which is also one AVX-512 register.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// A stretch of host memory, aligned to 64 bytes.
pub struct Buffer {
    lines: Vec<Line>,
    words: usize,
}

impl Buffer {
    /// `words` zeros, or `None` if there is not that much memory.
    pub fn new(words: usize) -> Option<Self> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(words.div_ceil(8)).ok()?;
        lines.resize(words.div_ceil(8), Line([0; 8]));
        Some(Self { lines, words })
    }

    /// The words.
    pub fn as_slice(&self) -> &[u64] {
        &bytemuck::cast_slice(&self.lines)[..self.words]
    }

    /// The words, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u64] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.words]
    }
}

impl Storage for Buffer {
    fn words(&self) -> usize {
        self.words
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents may be secret.
        write!(f, "Buffer({} words)", self.words)
    }
}
