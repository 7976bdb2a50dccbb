//! Reading the files of a Hugging Face directory: JSON documents and safetensors, single or sharded.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::config::TensorSpec;
use crate::json::{self, Object};
use crate::{Error, FieldError, Result};

const MAX_JSON: u64 = 16 << 20;
/// The format's own limit on the length of a header.
const MAX_HEADER: u64 = 100_000_000;

/// A small file, read whole.
pub(crate) fn read_json(file: &Path) -> Result<Vec<u8>> {
    let opened = File::open(file).map_err(Error::io(file))?;
    let length = opened.metadata().map_err(Error::io(file))?.len();
    if length > MAX_JSON {
        let reason = format!("{length} bytes, more than {MAX_JSON}");
        return Err(FieldError::new("document", reason).at(file));
    }
    let mut bytes = Vec::new();
    opened.take(MAX_JSON).read_to_end(&mut bytes).map_err(Error::io(file))?;
    Ok(bytes)
}

/// The weights of a directory, read one tensor at a time.
pub(crate) struct Checkpoint {
    shards: Vec<Shard>,
    /// What stands before every name: nothing for a bare model, `vit.` or `dinov2.` inside a classifier.
    prefix: &'static str,
    /// Where a missing tensor is reported.
    listing: PathBuf,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let (listing, files) = if single.exists() {
            (single.clone(), vec![single])
        } else if index.exists() {
            let bytes = read_json(&index)?;
            let names = shard_names(&bytes).map_err(|error| error.at(&index))?;
            let files = names.iter().map(|name| dir.join(name)).collect();
            (index, files)
        } else {
            return Err(no_weights(dir, single));
        };
        let shards = files.into_iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
        let has = |name: &str| shards.iter().any(|shard| shard.metadata.info(name).is_some());
        let prefix = ["", "vit.", "dinov2."]
            .into_iter()
            .find(|prefix| has(&format!("{prefix}embeddings.cls_token")))
            .unwrap_or_default();
        Ok(Self { shards, prefix, listing })
    }

    /// The values of one tensor as f32, all finite, after its shape and type were checked.
    pub(crate) fn tensor(&mut self, spec: &TensorSpec) -> Result<Vec<f32>> {
        let name = format!("{}{}", self.prefix, spec.name);
        for shard in &mut self.shards {
            if let Some(info) = shard.metadata.info(&name).cloned() {
                return shard.read(&name, &info, &spec.shape);
            }
        }
        Err(Error::Tensor { file: self.listing.clone(), name, reason: "missing".to_owned() })
    }
}

fn no_weights(dir: &Path, file: PathBuf) -> Error {
    let other = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"];
    let found = other.into_iter().find(|name| dir.join(name).exists());
    let reason = match found {
        Some(name) => format!("missing; {name} is not read, save the model as safetensors"),
        None => "missing, and no model.safetensors.index.json either".to_owned(),
    };
    Error::Weights { file, reason }
}

/// The distinct files of `weight_map`, each of which must lie in the directory itself.
fn shard_names(bytes: &[u8]) -> std::result::Result<BTreeSet<String>, FieldError> {
    let map = json::document(bytes)?;
    let root = Object::root(&map);
    let weights = root.object("weight_map")?.ok_or_else(|| root.error("weight_map", "missing"))?;
    let mut names = BTreeSet::new();
    for key in weights.keys() {
        let name = weights.str(key)?.unwrap_or_default();
        let plain = !name.contains(['/', '\\', ':']) && name.ends_with(".safetensors");
        if !plain {
            return Err(weights.error(key, format!("{name:?} is not the name of a safetensors file")));
        }
        names.insert(name.to_owned());
    }
    Ok(names)
}

/// One safetensors file: a length, a JSON header of that length, then the tensors back to back.
struct Shard {
    path: PathBuf,
    file: File,
    /// Offset of the first tensor's bytes.
    start: u64,
    metadata: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let damaged = |reason: String| Error::Weights { file: path.clone(), reason };
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let length = file.metadata().map_err(Error::io(&path))?.len();
        if length < 8 {
            return Err(damaged(format!("truncated: {length} bytes")));
        }
        let mut word = [0; 8];
        file.read_exact(&mut word).map_err(Error::io(&path))?;
        let header = u64::from_le_bytes(word);
        if header > MAX_HEADER || header > length - 8 {
            return Err(damaged(format!("header length {header} in a file of {length} bytes")));
        }
        let mut bytes = vec![0; header as usize];
        file.read_exact(&mut bytes).map_err(Error::io(&path))?;
        let metadata: Metadata =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("header: {error}")))?;
        let expected = header + 8 + metadata.data_len() as u64;
        if expected != length {
            return Err(damaged(format!("truncated or padded: expected {expected} bytes, found {length}")));
        }
        Ok(Self { path, file, start: header + 8, metadata })
    }

    fn read(&mut self, name: &str, info: &TensorInfo, shape: &[usize]) -> Result<Vec<f32>> {
        let wrong = |reason| Error::Tensor { file: self.path.clone(), name: name.to_owned(), reason };
        if info.shape != shape {
            return Err(wrong(format!("expected shape {shape:?}, found {:?}", info.shape)));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(wrong(format!("expected F32, F16 or BF16, found {:?}", info.dtype)));
        }
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0; end - begin];
        let from = SeekFrom::Start(self.start + begin as u64);
        self.file.seek(from).and_then(|_| self.file.read_exact(&mut bytes)).map_err(Error::io(&self.path))?;
        let values = to_f32(&bytes, info.dtype);
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(wrong(format!("value {at} is {}", values[at]))),
            None => Ok(values),
        }
    }
}

fn to_f32(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let pairs = bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        Dtype::F16 => pairs.map(|pair| f16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::BF16 => pairs.map(|pair| bf16::from_le_bytes(pair).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect(),
    }
}
