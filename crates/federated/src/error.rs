//! What can go wrong at a party.

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed step. Messages never contain secret material.
///
/// ```
/// use arras_federated::noise::DiscreteGaussian;
///
/// let error = DiscreteGaussian::new(0.0).unwrap_err();
/// assert_eq!(error.to_string(), "noise of sigma 0e0 cannot be drawn (above 0, at most 2^45)");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message, a rule, an agreement, the journal.
    #[error(transparent)]
    Rounds(#[from] arras_rounds::Error),
    /// Keys, encryption, randomness.
    #[error(transparent)]
    Secret(#[from] arras_secret::Error),
    /// Parameters, polynomials, a failing device.
    #[error(transparent)]
    Ckks(#[from] arras_ckks::Error),
    /// Features, statistics, the fit.
    #[error(transparent)]
    Fit(#[from] arras_fit::Error),
    /// The head could not be written.
    #[error(transparent)]
    Head(#[from] arras_heads::head::Error),
    /// This party's data do not fit the agreement.
    #[error("data: {0}")]
    Data(String),
    /// Noise that cannot be drawn.
    #[error("noise of sigma {sigma:e} cannot be drawn (above 0, at most 2^45)")]
    Noise {
        /// The sigma.
        sigma: f64,
    },
    /// A sealed share is not what its sender's key sealed for this party.
    #[error("the key share that {from} sealed for this party cannot be opened")]
    Sealed {
        /// The sender.
        from: String,
    },
    /// The coordinator cannot be reached, for now.
    #[error("{0}")]
    Board(String),
    /// The coordinator does not take a message, or the token.
    #[error("{0}")]
    Declined(String),
    /// Something is asked for before what it builds on.
    #[error("{what} comes before {missing}")]
    TooEarly {
        /// What was asked for.
        what: &'static str,
        /// What is not there yet.
        missing: &'static str,
    },
}

impl From<Error> for arras_rounds::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Rounds(error) => error,
            other => arras_rounds::Error::Invalid { field: "party".to_owned(), reason: other.to_string() },
        }
    }
}
