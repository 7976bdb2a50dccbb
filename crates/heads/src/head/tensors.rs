//! Bounded reading and reproducible writing of `safetensors` containers of real numbers.
//!
//! Layout (<https://huggingface.co/docs/safetensors>): eight bytes with the length of the header
//! (little-endian), a JSON header, the tensors one after the other. Reading takes f16, bf16, f32 and f64 and
//! gives f32; what is written is always f32. The writer orders every key, so that equal contents give equal
//! bytes, which the `safetensors` crate does not promise once the metadata holds two keys.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes in front of the header that state its length.
const LENGTH_BYTES: usize = 8;

/// A file that cannot be read, or numbers that cannot be written as one.
///
/// See the example of [`Archive`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written, or is longer than its kind can be.
    #[error(transparent)]
    File(#[from] arras_wire::Error),
    /// The contents break a rule of the format.
    #[error("{file}: {field}: {reason}")]
    Malformed {
        /// The file as the caller named it.
        file: String,
        /// The tensor, metadata key or part of the container.
        field: String,
        /// What is wrong with it, on one line.
        reason: String,
    },
}

impl Error {
    /// An error about one field of a file. Line breaks in the reason become spaces.
    pub fn malformed(file: &str, field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::Malformed { file: file.to_owned(), field: field.into(), reason }
    }
}

/// A dense tensor in row-major order whose numbers are all finite.
///
/// See the example of [`Archive`].
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The numbers, last axis fastest.
    pub values: Vec<f32>,
}

/// A parsed container; borrows the bytes it was read from.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use arras_heads::head::tensors::{Archive, encode};
///
/// let metadata = BTreeMap::from([("note", "\"two rows\"".to_owned())]);
/// let file = encode("a.safetensors", &[("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])], &metadata)?;
/// let archive = Archive::parse("a.safetensors", &file, 1 << 20)?;
/// let x = archive.tensor("x")?;
/// assert_eq!((x.shape, x.values[3]), (vec![2, 3], 4.0));
/// assert_eq!(archive.json::<String>("note")?, Some("two rows".to_owned()));
///
/// let refused = archive.tensor("y").unwrap_err();
/// assert_eq!(refused.to_string(), "a.safetensors: y: no such tensor");
/// # Ok::<(), arras_heads::head::Error>(())
/// ```
#[derive(Debug)]
pub struct Archive<'a> {
    file: &'a str,
    tensors: SafeTensors<'a>,
    metadata: BTreeMap<String, String>,
}

impl<'a> Archive<'a> {
    /// Parses the header and checks that the tensors tile the rest of the file exactly.
    ///
    /// `file` is only used to name the file in errors. A header longer than `max_header_bytes` is refused
    /// before it is looked at.
    ///
    /// # Errors
    /// Truncated, oversized or malformed containers.
    pub fn parse(file: &'a str, bytes: &'a [u8], max_header_bytes: u64) -> Result<Self, Error> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(Error::malformed(file, "header", format!("the file has only {} bytes", bytes.len())));
        };
        let length = u64::from_le_bytes(*length);
        if length > max_header_bytes || length > rest.len() as u64 {
            let limit = max_header_bytes.min(rest.len() as u64);
            return Err(Error::malformed(file, "header", format!("states {length} bytes, at most {limit}")));
        }
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| Error::malformed(file, "header", error))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| Error::malformed(file, "header", error))?;
        Ok(Archive { file, tensors, metadata })
    }

    /// The file as the caller named it.
    #[must_use]
    pub fn file(&self) -> &'a str {
        self.file
    }

    /// Names and shapes of all tensors, sorted by name.
    #[must_use]
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
    }

    /// A tensor converted to f32.
    ///
    /// # Errors
    /// The tensor is missing, its type is not a floating-point type of 16 bits or more, or a number is not
    /// finite (after conversion: an f64 beyond the range of f32 counts). The first such number is named.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let view = self.tensors.tensor(name).map_err(|_| self.malformed(name, "no such tensor"))?;
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => words(data).map(f32::from_le_bytes).collect(),
            Dtype::F64 => words(data).map(|word| f64::from_le_bytes(word) as f32).collect(),
            Dtype::F16 => words(data).map(|word| half::f16::from_le_bytes(word).to_f32()).collect(),
            Dtype::BF16 => words(data).map(|word| half::bf16::from_le_bytes(word).to_f32()).collect(),
            other => return Err(self.malformed(name, format!("type {other:?} is not a floating-point type"))),
        };
        let shape = view.shape().to_vec();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let place = place(&shape, index);
            return Err(
                self.malformed(format!("{name}{place:?}"), format!("{} is not finite", values[index]))
            );
        }
        Ok(Tensor { shape, values })
    }

    /// The text stored under a metadata key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The JSON value stored under a metadata key.
    ///
    /// # Errors
    /// The text is there and does not parse as a `T`.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let parse = |text| serde_json::from_str(text).map_err(|error| self.malformed(key, error));
        self.text(key).map(parse).transpose()
    }

    /// An error about one field of this file.
    pub fn malformed(&self, field: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::malformed(self.file, field, reason)
    }
}

/// The little-endian words of a byte string whose length the container has already checked.
fn words<const SIZE: usize>(data: &[u8]) -> impl Iterator<Item = [u8; SIZE]> {
    data.as_chunks::<SIZE>().0.iter().copied()
}

/// The index along every axis of the `index`-th number in row-major order.
fn place(shape: &[usize], mut index: usize) -> Vec<usize> {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&length| {
            let along = index % length.max(1);
            index /= length.max(1);
            along
        })
        .collect();
    place.reverse();
    place
}

/// A value of the header's JSON object. Serialized in the order of its fields whatever serde_json's features.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(&'a BTreeMap<&'a str, String>),
    Tensor { dtype: &'static str, shape: &'a [usize], data_offsets: [usize; 2] },
}

/// Writes f32 tensors in the given order, and the metadata sorted by key.
///
/// # Errors
/// A tensor whose number of values is not the product of its shape.
pub fn encode(
    file: &str,
    tensors: &[(&str, &[usize], &[f32])],
    metadata: &BTreeMap<&str, String>,
) -> Result<Vec<u8>, Error> {
    let mut header = BTreeMap::new();
    if !metadata.is_empty() {
        header.insert("__metadata__", Entry::Metadata(metadata));
    }
    let mut end = 0;
    for &(name, shape, values) in tensors {
        if shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length))
            != Some(values.len())
        {
            let reason = format!("{} values do not fill the shape {shape:?}", values.len());
            return Err(Error::malformed(file, name, reason));
        }
        let start = end;
        end += size_of_val(values);
        header.insert(name, Entry::Tensor { dtype: "F32", shape, data_offsets: [start, end] });
    }
    let mut header = serde_json::to_vec(&header).map_err(|error| Error::malformed(file, "header", error))?;
    header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');

    let mut bytes = Vec::with_capacity(LENGTH_BYTES + header.len() + end);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    for &(_, _, values) in tensors {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(bytes)
}
