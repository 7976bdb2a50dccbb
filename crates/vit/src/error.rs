use std::path::{Path, PathBuf};

/// A field of a JSON document that cannot be used. [`Error::Field`] adds the file it stands in.
///
/// ```
/// let error = arras_vit::config::parse(br#"{"model_type": "vit", "patch_size": 0}"#).unwrap_err();
/// assert_eq!((error.field.as_str(), error.reason.as_str()), ("patch_size", "expected 1 to 224, found 0"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// Key of the field, dotted for nested ones (`size.height`); `document` when the JSON itself is broken.
    pub field: String,
    /// What is wrong with it and what was found.
    pub reason: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn at(self, file: &Path) -> Error {
        Error::Field { file: file.to_path_buf(), error: self }
    }
}

/// Why a model, an image or a batch was refused. Every message is one line, names the file and states the cause
/// itself: `source` stays empty, so that a report that walks the chain does not say it twice.
///
/// ```
/// let error = arras_vit::decode("scans/missing.png".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("scans/missing.png: "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be opened or read.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A JSON file holds a value that cannot be used.
    #[error("{}: {error}", file.display())]
    Field {
        /// The JSON file.
        file: PathBuf,
        /// The field and what is wrong with it.
        error: FieldError,
    },
    /// A weights file is damaged as a whole: truncated, a false header length, not safetensors.
    #[error("{}: {reason}", file.display())]
    Weights {
        /// The weights file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One tensor is missing or is not what the configuration asks for.
    #[error("{}: tensor {name}: {reason}", file.display())]
    Tensor {
        /// The weights file, or the folder or index file if no file holds the tensor.
        file: PathBuf,
        /// Name of the tensor in the file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An image could not be decoded or does not fit the preprocessing.
    #[error("{}: {reason}", file.display())]
    Image {
        /// The image file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A value passed by the caller has the wrong size.
    #[error("{0}")]
    Input(String),
    /// The tensor library failed; this points at a lack of memory or at a defect here.
    #[error("tensor operation failed: {0}")]
    Compute(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(file: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |error| Self::Io { file: file.to_path_buf(), error }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // Later lines hold a backtrace where one is captured.
        Self::Compute(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
