//! Fixtures and their contents.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// One tensor of a safetensors file.
pub struct Stored {
    shape: Vec<usize>,
    dtype: safetensors::Dtype,
    data: Vec<u8>,
}

impl Stored {
    pub fn bytes(&self) -> (&[usize], &[u8]) {
        assert_eq!(self.dtype, safetensors::Dtype::U8);
        (&self.shape, &self.data)
    }

    pub fn floats(&self) -> (&[usize], Vec<f32>) {
        assert_eq!(self.dtype, safetensors::Dtype::F32);
        (&self.shape, self.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

pub fn tensors(file: &Path) -> BTreeMap<String, Stored> {
    let bytes = std::fs::read(file).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let stored = |view: &safetensors::tensor::TensorView<'_>| Stored {
        shape: view.shape().to_vec(),
        dtype: view.dtype(),
        data: view.data().to_vec(),
    };
    parsed.tensors().iter().map(|(name, view)| (name.clone(), stored(view))).collect()
}

/// A copy of a model folder that a test may damage.
pub fn copy_of(model: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join("models").join(model)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}
