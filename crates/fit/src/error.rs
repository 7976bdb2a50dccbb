use arras_heads::head;

/// Why a file, a set of features or a fit was refused.
///
/// ```
/// use arras_fit::import;
///
/// let error = import::from_csv("tokens.csv", b"file,f0,f1\na.png,0.5,1.0\nb.png,0.5,nan\n").unwrap_err();
/// assert_eq!(error.to_string(), "tokens.csv: line 3, column 3: \"nan\" is not finite in 32 bits");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, parsed or written. Names the file and the field.
    #[error(transparent)]
    File(#[from] head::Error),
    /// Numbers handed over in memory break a stated rule.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which argument.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The penalised Gram matrix has no usable inverse.
    #[error(
        "l2: {l2:e} leaves the Gram matrix singular (eigenvalues {smallest:e} to {largest:e}, {rows} rows, \
         {dimension} features); use at least {usable:e}"
    )]
    Singular {
        /// The penalty that was asked for.
        l2: f64,
        /// Smallest eigenvalue of the centred Gram matrix.
        smallest: f64,
        /// Largest eigenvalue of the centred Gram matrix.
        largest: f64,
        /// Number of training rows.
        rows: usize,
        /// Number of features.
        dimension: usize,
        /// Smallest penalty that would be accepted.
        usable: f64,
    },
    /// The tensor library failed.
    #[error("training: {0}")]
    Training(candle_core::Error),
    /// The eigendecomposition did not converge.
    #[error("features: the eigendecomposition of their Gram matrix did not converge")]
    Eigendecomposition,
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Invalid { field: field.into(), reason: reason.into() }
    }
}
