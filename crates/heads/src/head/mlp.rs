//! A head with one hidden layer of squares, and the file of either kind of head.

use std::collections::BTreeMap;
use std::path::Path;

use arras_wire::file::{Access, read_bounded, write_atomically};

use super::tensors::{Archive, Error, encode};
use super::{Head, MAX_CLASSES, MAX_DIMENSION, MAX_FILE_BYTES, MAX_HEADER_BYTES, ModelCard};

/// Largest number of hidden units that is read or written.
pub const MAX_HIDDEN: usize = 4_096;
/// Largest file of a head of either kind.
pub const MAX_MODEL_BYTES: u64 = MAX_FILE_BYTES + (MAX_HIDDEN * (MAX_DIMENSION + MAX_CLASSES + 2) * 8) as u64;
/// What `activation` says in the metadata: the only one there is.
const ACTIVATION: &str = "square";
/// The tensors of the hidden layer.
const WEIGHT: &str = "hidden.weight";
const BIAS: &str = "hidden.bias";

/// `logits = V (W x + b)^2 + c`, the square being that of each of H hidden units. Any activation of degree two can be
/// written so: `p h^2 + r h = p (h + r / 2p)^2 - r^2 / 4p`.
///
/// ```
/// use arras_heads::{Head, Mlp, Model, ModelCard};
///
/// // One hidden unit, the square of x - y + 1, and one class that is twice that.
/// let output =
///     Head { weight: vec![2.0], bias: vec![0.0], classes: vec!["far".into()], card: ModelCard::default() };
/// let mlp = Mlp { weight: vec![1.0, -1.0], bias: vec![1.0], output };
/// assert_eq!((mlp.dimension(), mlp.hidden()), (2, 1));
/// assert_eq!(Model::from(mlp).scores(&[5.0, 3.0]), [2.0 * 9.0]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// W, `[H][D]`, row-major: one row per hidden unit.
    pub weight: Vec<f32>,
    /// b, `[H]`.
    pub bias: Vec<f32>,
    /// V and c, with the names of the classes and the card: a head whose features are the H squares.
    pub output: Head,
}

impl Mlp {
    /// Number of features D.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// Number of hidden units H.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.bias.len()
    }

    /// Parses a head; `file` names the source in errors.
    ///
    /// # Errors
    /// Anything that is not a head with a hidden layer, within the limits of this module.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let archive = Archive::parse(file, bytes, MAX_HEADER_BYTES)?;
        match archive.text("activation") {
            Some(ACTIVATION) => (),
            Some(other) => {
                return Err(archive.malformed("activation", format!("'{other}' is not '{ACTIVATION}'")));
            }
            None => {
                return Err(archive.malformed("activation", format!("is missing, expected '{ACTIVATION}'")));
            }
        }
        let shapes = archive.shapes();
        let shape = |field: &str| shapes.get(field).map(Vec::as_slice);
        let Some(&[hidden, dimension]) = shape(WEIGHT) else {
            return Err(archive.malformed(WEIGHT, "is missing or its shape is not [H, D]"));
        };
        check_size(file, hidden, dimension)?;
        if shape(BIAS) != Some(&[hidden]) {
            return Err(archive.malformed(BIAS, format!("is missing or its shape is not [{hidden}]")));
        }
        let mlp = Self {
            weight: archive.tensor(WEIGHT)?.values,
            bias: archive.tensor(BIAS)?.values,
            output: Head::of(&archive)?,
        };
        mlp.check(file)?;
        Ok(mlp)
    }

    /// The file: equal heads give equal bytes. `file` names the destination in errors.
    ///
    /// # Errors
    /// A head that breaks the rules stated at its fields.
    pub fn to_bytes(&self, file: &str) -> Result<Vec<u8>, Error> {
        self.check(file)?;
        let mut metadata = self.output.metadata(file)?;
        metadata.insert("activation", ACTIVATION.into());
        let (outer, inner) = ([self.output.class_count(), self.hidden()], [self.hidden(), self.dimension()]);
        let tensors: [(&str, &[usize], &[f32]); 4] = [
            ("bias", &outer[..1], &self.output.bias),
            (BIAS, &inner[..1], &self.bias),
            (WEIGHT, &inner, &self.weight),
            ("weight", &outer, &self.output.weight),
        ];
        encode(file, &tensors, &metadata)
    }

    fn check(&self, file: &str) -> Result<(), Error> {
        let hidden = self.hidden();
        check_size(file, hidden, self.dimension())?;
        if self.weight.len() != hidden * self.dimension() {
            let reason = format!("{} values are not a multiple of {hidden} hidden units", self.weight.len());
            return Err(Error::malformed(file, WEIGHT, reason));
        }
        for (field, values) in [(WEIGHT, &self.weight), (BIAS, &self.bias)] {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let reason = format!("value {index} is {}, not finite", values[index]);
                return Err(Error::malformed(file, field, reason));
            }
        }
        if self.output.dimension() != hidden {
            let reason = format!("takes {} hidden units, there are {hidden}", self.output.dimension());
            return Err(Error::malformed(file, "weight", reason));
        }
        self.output.check(file)
    }

    /// The H values `W x + b` of a row.
    fn units<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        let rows = self.weight.chunks_exact(self.dimension().max(1)).zip(&self.bias);
        rows.map(move |(weight, &bias)| dot(weight, row) + f64::from(bias))
    }
}

fn check_size(file: &str, hidden: usize, dimension: usize) -> Result<(), Error> {
    if (1..=MAX_HIDDEN).contains(&hidden) && (1..=MAX_DIMENSION).contains(&dimension) {
        return Ok(());
    }
    let reason = format!("shape [{hidden}, {dimension}] is outside [1..={MAX_HIDDEN}, 1..={MAX_DIMENSION}]");
    Err(Error::malformed(file, WEIGHT, reason))
}

fn dot(weight: &[f32], row: &[f32]) -> f64 {
    weight.iter().zip(row).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
}

/// A head of either kind.
///
/// ```
/// use arras_heads::Model;
/// # use arras_heads::{Head, ModelCard};
///
/// # let (weight, bias) = (vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], vec![1.0, -0.5]);
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let head = Head { weight, bias, classes, card: ModelCard::default() };
/// // Whichever kind of head a file holds.
/// let file = head.to_bytes("head.safetensors")?;
/// let model = Model::from_bytes("head.safetensors", &file)?;
/// assert_eq!((model.dimension(), model.hidden(), model.class_count()), (3, None, 2));
/// # Ok::<(), arras_heads::head::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// A linear head.
    Linear(Head),
    /// A head with a hidden layer.
    Mlp(Mlp),
}

impl From<Head> for Model {
    fn from(head: Head) -> Self {
        Self::Linear(head)
    }
}

impl From<Mlp> for Model {
    fn from(mlp: Mlp) -> Self {
        Self::Mlp(mlp)
    }
}

impl Model {
    /// Number of features D.
    #[must_use]
    pub fn dimension(&self) -> usize {
        match self {
            Model::Linear(head) => head.dimension(),
            Model::Mlp(mlp) => mlp.dimension(),
        }
    }

    /// Number of hidden units, if there are any.
    #[must_use]
    pub fn hidden(&self) -> Option<usize> {
        match self {
            Model::Linear(_) => None,
            Model::Mlp(mlp) => Some(mlp.hidden()),
        }
    }

    /// The last layer.
    fn last(&self) -> &Head {
        match self {
            Model::Linear(head) => head,
            Model::Mlp(mlp) => &mlp.output,
        }
    }

    /// Number of classes C.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.last().class_count()
    }

    /// The numbers and the names alone: a text of a float need not parse to the same float.
    pub(super) fn without_card(&self) -> Self {
        let mut model = self.clone();
        let (Model::Linear(last) | Model::Mlp(Mlp { output: last, .. })) = &mut model;
        last.card = ModelCard::default();
        model
    }

    /// The names of the classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.last().classes
    }

    /// Where the numbers come from.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.last().card
    }

    /// `[n][C]` logits of `[n][D]` features in f64: the oracle of the encrypted computation. A trailing part of `features`
    /// shorter than D is not a row and gives no logits.
    #[must_use]
    pub fn scores(&self, features: &[f32]) -> Vec<f64> {
        let last = self.last();
        let classes = || last.weight.chunks_exact(last.dimension().max(1)).zip(&last.bias);
        let row = |row: &[f32]| -> Vec<f64> {
            match self {
                Model::Linear(_) => {
                    classes().map(|(weight, &bias)| dot(weight, row) + f64::from(bias)).collect()
                }
                Model::Mlp(mlp) => {
                    let squares: Vec<f64> = mlp.units(row).map(|h| h * h).collect();
                    let class = |(weight, &bias): (&[f32], &f32)| {
                        let terms = weight.iter().zip(&squares).map(|(&v, &square)| f64::from(v) * square);
                        terms.sum::<f64>() + f64::from(bias)
                    };
                    classes().map(class).collect()
                }
            }
        };
        features.chunks_exact(self.dimension().max(1)).flat_map(row).collect()
    }

    /// Parses a head of either kind; `file` names the source in errors.
    ///
    /// # Errors
    /// Anything that is no head.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        if has_hidden_layer(&Archive::parse(file, bytes, MAX_HEADER_BYTES)?.shapes()) {
            Ok(Self::Mlp(Mlp::from_bytes(file, bytes)?))
        } else {
            Ok(Self::Linear(Head::from_bytes(file, bytes)?))
        }
    }

    /// The file: equal heads give equal bytes. `file` names the destination in errors.
    ///
    /// # Errors
    /// A head that breaks the rules stated at its fields.
    pub fn to_bytes(&self, file: &str) -> Result<Vec<u8>, Error> {
        match self {
            Model::Linear(head) => head.to_bytes(file),
            Model::Mlp(mlp) => mlp.to_bytes(file),
        }
    }

    /// Reads a head of either kind.
    ///
    /// # Errors
    /// See [`Model::from_bytes`]; also a file above [`MAX_MODEL_BYTES`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::from_bytes(&path.display().to_string(), &read_bounded(path, MAX_MODEL_BYTES)?)
    }

    /// Writes a head, whole or not at all.
    ///
    /// # Errors
    /// See [`Model::to_bytes`]; also what the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.to_bytes(&path.display().to_string())?;
        Ok(write_atomically(path, &bytes, Access::Shared)?)
    }
}

/// Whether a file holds a hidden layer.
pub(super) fn has_hidden_layer(shapes: &BTreeMap<String, Vec<usize>>) -> bool {
    shapes.contains_key(WEIGHT)
}
