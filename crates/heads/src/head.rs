//! A linear classifier head in the clear, and its file.
//!
//! `logits[c] = sum_j weight[c][j] * x[j] + bias[c]`. The file is a `safetensors` container with the tensors
//! `weight` f32 `[C, D]` and `bias` f32 `[C]`; its metadata holds `classes` (a JSON list of C names) and
//! `card` (a [`ModelCard`] as JSON). A head from another tool needs only the two tensors, in any of f16, bf16,
//! f32, f64: its classes are then called "0", "1", ....
//!
//! A head with a hidden layer ([`mlp`]) has two tensors more.

pub mod mlp;
pub mod tensors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arras_wire::file::{Access, read_bounded, write_atomically};
pub use mlp::{Mlp, Model};
use serde::{Deserialize, Serialize};
pub use tensors::Error;
use tensors::{Archive, encode};

/// Largest feature dimension D that is read or written.
pub const MAX_DIMENSION: usize = 65_536;
/// Largest number of classes C that is read or written.
pub const MAX_CLASSES: usize = 4_096;
/// Longest class name, in bytes.
pub const MAX_CLASS_NAME_BYTES: usize = 1_024;
/// Longest header (tensor table, class names and card) that is looked at.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Largest file that can be a head: every number in f64 plus the header. Readers check it before allocating.
pub const MAX_FILE_BYTES: u64 = (MAX_CLASSES * (MAX_DIMENSION + 1) * 8) as u64 + MAX_HEADER_BYTES + 8;

/// A linear classifier: `logits = weight x + bias`. All numbers are finite, D and C at least one.
///
/// ```
/// use arras_heads::{Head, ModelCard};
///
/// let head = Head {
///     weight: vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], // [2][3]
///     bias: vec![1.0, -0.5],
///     classes: vec!["adenoma".into(), "other".into()],
///     card: ModelCard::default(),
/// };
/// assert_eq!(head.logits(&[4.0, 1.0, 4.0]), [3.0, 2.0]);
/// let file = head.to_bytes("head.safetensors")?;
/// assert_eq!(Head::from_bytes("head.safetensors", &file)?, head);
/// # Ok::<(), arras_heads::head::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[C][D]`, row-major: one row per class.
    pub weight: Vec<f32>,
    /// `[C]`.
    pub bias: Vec<f32>,
    /// C distinct names; index = class.
    pub classes: Vec<String>,
    /// Where the numbers come from.
    pub card: ModelCard,
}

/// What is known about the origin of a head. It holds no clock time and no path: the same data give the same
/// bytes.
///
/// ```
/// use arras_heads::ModelCard;
/// # use arras_heads::Head;
///
/// # let (weight, bias) = (vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], vec![1.0, -0.5]);
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let head = Head { weight, bias, classes, card: ModelCard::default() };
/// let card = ModelCard { counts: vec![40, 60], l2: Some(0.5), ..ModelCard::default() };
/// let file = Head { card: card.clone(), ..head.clone() }.to_bytes("head.safetensors")?;
/// assert_eq!(Head::from_bytes("head.safetensors", &file)?.card, card);
///
/// let card = ModelCard { counts: vec![40], ..card };
/// let refused = Head { card, ..head }.to_bytes("head.safetensors").unwrap_err();
/// assert_eq!(refused.to_string(), "head.safetensors: card.counts: 1 entries for 2 classes");
/// # Ok::<(), arras_heads::head::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelCard {
    /// BLAKE3 of the training features, names, labels and groups, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_hash: Option<String>,
    /// Training rows per class, or empty when unknown.
    pub counts: Vec<u64>,
    /// Ridge penalty on the weights (the bias is free).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,
    /// Ratio of the largest to the smallest eigenvalue of the penalised Gram matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition_number: Option<f64>,
    /// Backbone and preprocessing that made the features. A head with one fits only features with the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Named measurements, each finite.
    pub metrics: BTreeMap<String, f64>,
    /// Program and version, such as "arras 0.1.0".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_with: String,
}

impl Head {
    /// Number of features D.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// Number of classes C.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.bias.len()
    }

    /// `[n][C]` logits of `[n][D]` features, accumulated in f64 and rounded once: the oracle of the encrypted
    /// product. A trailing part of `features` shorter than D is not a row and gives no logits.
    #[must_use]
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let dimension = self.dimension().max(1);
        let rows = features.chunks_exact(dimension);
        rows.flat_map(|row| {
            self.weight.chunks_exact(dimension).zip(&self.bias).map(move |(weight, &bias)| {
                let products = weight.iter().zip(row).map(|(&w, &x)| f64::from(w) * f64::from(x));
                (products.sum::<f64>() + f64::from(bias)) as f32
            })
        })
        .collect()
    }

    /// Parses a head; `file` names the source in errors.
    ///
    /// # Errors
    /// Anything that is not a head within the limits of this module.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let archive = Archive::parse(file, bytes, MAX_HEADER_BYTES)?;
        if mlp::has_hidden_layer(&archive.shapes()) {
            return Err(archive.malformed("hidden.weight", "is not part of a linear head"));
        }
        let head = Self::of(&archive)?;
        head.check(file)?;
        Ok(head)
    }

    /// The layer that gives the logits, not checked beyond the shapes.
    fn of(archive: &Archive<'_>) -> Result<Self, Error> {
        let shapes = archive.shapes();
        let (class_count, dimension) = match shapes.get("weight").map(Vec::as_slice) {
            Some(&[class_count, dimension]) => (class_count, dimension),
            Some(shape) => return Err(archive.malformed("weight", format!("shape {shape:?}, not [C, D]"))),
            None => return Err(archive.malformed("weight", "no such tensor")),
        };
        check_size(archive.file(), class_count, dimension)?;
        match shapes.get("bias").map(Vec::as_slice) {
            Some(&[length]) if length == class_count => (),
            Some(shape) => {
                return Err(archive.malformed("bias", format!("shape {shape:?}, not [{class_count}]")));
            }
            None => return Err(archive.malformed("bias", "no such tensor")),
        }
        Ok(Head {
            weight: archive.tensor("weight")?.values,
            bias: archive.tensor("bias")?.values,
            classes: archive
                .json("classes")?
                .unwrap_or_else(|| (0..class_count).map(|class| class.to_string()).collect()),
            card: archive.json("card")?.unwrap_or_default(),
        })
    }

    /// The file: equal heads give equal bytes. `file` names the destination in errors.
    ///
    /// # Errors
    /// A head that breaks the rules stated at its fields.
    pub fn to_bytes(&self, file: &str) -> Result<Vec<u8>, Error> {
        self.check(file)?;
        let metadata = self.metadata(file)?;
        let shape = [self.class_count(), self.dimension()];
        encode(file, &[("bias", &shape[..1], &self.bias), ("weight", &shape, &self.weight)], &metadata)
    }

    fn metadata(&self, file: &str) -> Result<BTreeMap<&'static str, String>, Error> {
        let json = |field: &str, text: Result<String, serde_json::Error>| {
            text.map_err(|error| Error::malformed(file, field, error))
        };
        Ok(BTreeMap::from([
            ("classes", json("classes", serde_json::to_string(&self.classes))?),
            ("card", json("card", serde_json::to_string(&self.card))?),
        ]))
    }

    /// Reads a head.
    ///
    /// # Errors
    /// See [`Head::from_bytes`]; also a file above [`MAX_FILE_BYTES`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::from_bytes(&path.display().to_string(), &read_bounded(path, MAX_FILE_BYTES)?)
    }

    /// Writes a head, whole or not at all.
    ///
    /// # Errors
    /// See [`Head::to_bytes`]; also what the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.to_bytes(&path.display().to_string())?;
        Ok(write_atomically(path, &bytes, Access::Shared)?)
    }

    /// Every rule of the format that types do not carry.
    fn check(&self, file: &str) -> Result<(), Error> {
        let class_count = self.class_count();
        check_size(file, class_count, self.dimension())?;
        if self.weight.len() != class_count * self.dimension() {
            let reason = format!("{} values are not a multiple of {class_count} classes", self.weight.len());
            return Err(Error::malformed(file, "weight", reason));
        }
        for (field, values) in [("weight", &self.weight), ("bias", &self.bias)] {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let reason = format!("value {index} is {}, not finite", values[index]);
                return Err(Error::malformed(file, field, reason));
            }
        }
        self.check_classes(file)?;
        self.check_card(file)
    }

    fn check_classes(&self, file: &str) -> Result<(), Error> {
        if self.classes.len() != self.class_count() {
            let reason = format!("{} names for {} rows of weight", self.classes.len(), self.class_count());
            return Err(Error::malformed(file, "classes", reason));
        }
        let mut seen = BTreeSet::new();
        for (class, name) in self.classes.iter().enumerate() {
            let field = || format!("classes[{class}]");
            if name.is_empty() || name.len() > MAX_CLASS_NAME_BYTES || name.contains(char::is_control) {
                let reason =
                    format!("a name has 1 to {MAX_CLASS_NAME_BYTES} bytes and no control characters");
                return Err(Error::malformed(file, field(), reason));
            }
            if !seen.insert(name) {
                return Err(Error::malformed(file, field(), format!("{name:?} occurs twice")));
            }
        }
        Ok(())
    }

    fn check_card(&self, file: &str) -> Result<(), Error> {
        let card = &self.card;
        if !card.counts.is_empty() && card.counts.len() != self.class_count() {
            let reason = format!("{} entries for {} classes", card.counts.len(), self.class_count());
            return Err(Error::malformed(file, "card.counts", reason));
        }
        let numbers = [("l2", card.l2), ("condition_number", card.condition_number)];
        let metrics = card.metrics.iter().map(|(name, &value)| (name.as_str(), Some(value)));
        for (name, value) in numbers.into_iter().chain(metrics) {
            if value.is_some_and(|value| !value.is_finite()) {
                return Err(Error::malformed(file, format!("card.{name}"), "is not finite"));
            }
        }
        Ok(())
    }
}

fn check_size(file: &str, class_count: usize, dimension: usize) -> Result<(), Error> {
    if (1..=MAX_CLASSES).contains(&class_count) && (1..=MAX_DIMENSION).contains(&dimension) {
        return Ok(());
    }
    let reason =
        format!("shape [{class_count}, {dimension}] is outside [1..={MAX_CLASSES}, 1..={MAX_DIMENSION}]");
    Err(Error::malformed(file, "weight", reason))
}

/// Feeds arbitrary bytes to the readers; what they accept must survive a round trip unchanged.
///
/// # Panics
/// Only if a reader and its writer disagree, which is the finding a fuzzer looks for.
pub fn fuzz_one(bytes: &[u8]) {
    let Ok(model) = Model::from_bytes("fuzz", bytes) else { return };
    let again = model.to_bytes("fuzz").and_then(|bytes| Model::from_bytes("fuzz", &bytes));
    assert!(again.is_ok_and(|again| again.without_card() == model.without_card()));
}

#[cfg(test)]
mod tests;
