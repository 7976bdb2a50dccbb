//! What can go wrong.

use std::path::{Path, PathBuf};

/// Why something was not measured, read or written.
///
/// ```
/// use arras_measure::Record;
///
/// let error = Record::read("records/missing.json".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("records/missing.json: "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A case gave another result than the oracle: it must not be timed.
    #[error("{case}: {problem}")]
    Wrong {
        /// Name of the case.
        case: String,
        /// The first difference.
        problem: String,
    },
    /// A field of a record, a sweep or an option is not what it has to be.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file.
    #[error("{}: {source}", file.display())]
    File {
        /// Its path.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The operating system refused.
    #[error("{place}: {source}")]
    System {
        /// What was being done.
        place: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// The file is no JSON, or no record.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The file is no TOML, or no sweep.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// The backend refused.
    #[error(transparent)]
    Ring(#[from] arras_rns::Error),
    /// Parameters, plaintexts or ciphertexts do not fit.
    #[error(transparent)]
    Ckks(#[from] arras_ckks::Error),
    /// An encrypted head does not fit.
    #[error(transparent)]
    Heads(#[from] arras_heads::Error),
    /// Keys or encryption.
    #[error(transparent)]
    Secret(#[from] arras_secret::Error),
    /// Reading or writing a file.
    #[error(transparent)]
    Wire(#[from] arras_wire::Error),
}

/// What everything here returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A field and what is wrong with it.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }

    /// A result that is not the oracle's.
    pub(crate) fn wrong(case: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Wrong { case: case.into(), problem: problem.into() }
    }

    /// The same error with the name of the file it is about.
    pub(crate) fn in_file(self, file: &Path) -> Self {
        match self {
            // Names the file itself.
            Self::Wire(_) | Self::File { .. } => self,
            other => Self::File { file: file.to_owned(), source: Box::new(other) },
        }
    }
}
