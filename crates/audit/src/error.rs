use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image, a file or an attack was refused. Every message is one line.
///
/// ```
/// use arras_audit::Image;
///
/// let error = Image::load("scans/missing.png".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("scans/missing.png: "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, parsed or written.
    #[error("{}: {reason}", file.display())]
    File {
        /// Its path.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Numbers handed over in memory break a stated rule.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which argument.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensor library failed.
    #[error("computing: {0}")]
    Compute(#[from] candle_core::Error),
    /// The vision transformer was refused.
    #[error(transparent)]
    Vit(#[from] arras_vit::Error),
    /// Features or tiles were refused.
    #[error(transparent)]
    Fit(#[from] arras_fit::Error),
    /// A device failed, or shapes do not fit.
    #[error(transparent)]
    Ring(#[from] arras_rns::Error),
    /// Polynomials, parameters or a device were refused.
    #[error(transparent)]
    Ckks(#[from] arras_ckks::Error),
    /// A query, a reply or a head was refused.
    #[error(transparent)]
    Heads(#[from] arras_heads::Error),
    /// Keys or ciphertexts were refused.
    #[error(transparent)]
    Secret(#[from] arras_secret::Error),
    /// An agreement or a message was refused, or a party refused.
    #[error(transparent)]
    Rounds(#[from] arras_rounds::Error),
    /// A party failed or refused.
    #[error(transparent)]
    Federated(#[from] arras_federated::Error),
    /// Bytes that are damaged.
    #[error(transparent)]
    Wire(#[from] arras_wire::Error),
}

impl Error {
    /// An argument that breaks a rule.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// A file that cannot be used.
    pub fn file(file: &Path, reason: impl ToString) -> Self {
        Self::File { file: file.to_path_buf(), reason: reason.to_string() }
    }
}
