//! What can go wrong in a round.

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed step.
///
/// ```
/// use arras_rounds::{Error, Refusal};
///
/// let error = Error::from(Refusal::TooFew { found: 2, needed: 3 });
/// assert_eq!(error.to_string(), "refused: 2 uploads, an exact sum needs 3");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value breaks a stated rule.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which value.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes could not be read.
    #[error(transparent)]
    Wire(#[from] arras_wire::Error),
    /// Polynomials or parameters do not fit, or a device failed.
    #[error(transparent)]
    Ckks(#[from] arras_ckks::Error),
    /// The release rule forbids it.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The message comes too late, too early, or twice with other bytes.
    #[error("{what} {reason}")]
    OutOfPlace {
        /// The message.
        what: String,
        /// Why it has no place here.
        reason: String,
    },
    /// Stored bytes could not be read or written.
    #[error("journal: {0}")]
    Journal(String),
}

/// Why a holder of a key share does not answer.
///
/// See the examples of [`Error`] and [`Holder`](crate::rule::Holder).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A signature does not belong to the sender and the bytes.
    #[error("the signature of {who} on {what} is wrong")]
    Signature {
        /// The sender that was named.
        who: String,
        /// What was signed.
        what: &'static str,
    },
    /// A party that was not pinned beforehand.
    #[error("{0} is not among the parties that were pinned")]
    Stranger(String),
    /// Too few uploads for an exact sum.
    #[error("{found} uploads, an exact sum needs {needed}")]
    TooFew {
        /// Uploads in the accepted set.
        found: usize,
        /// Uploads that the agreement asks for.
        needed: usize,
    },
    /// A share for this attempt was given for another accepted set or sum.
    #[error("round {round}, attempt {attempt}: a share was already given for another proposal")]
    Answered {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
    /// An exact sum over other members or data was released before.
    #[error(
        "round {round}: an exact sum was released for {before}, this one is for {now}; it needs differential privacy"
    )]
    SecondRelease {
        /// The round that is asked for.
        round: u32,
        /// What was released.
        before: String,
        /// What is asked for now.
        now: String,
    },
    /// This party's data entered an exact sum of an earlier epoch that this one would be compared with.
    #[error(
        "epoch {epoch} had an exact sum of {before}, this one would be of {now}: their difference gives data away; it needs differential privacy"
    )]
    EarlierEpoch {
        /// The earlier epoch.
        epoch: u32,
        /// What was summed then.
        before: String,
        /// What is asked for now.
        now: String,
    },
    /// A party that was revoked.
    #[error("{0} was revoked")]
    Revoked(String),
    /// The noisy releases together would cost too much.
    #[error("epsilon would be {needed}, the agreement allows {limit}")]
    Budget {
        /// Epsilon with this release.
        needed: String,
        /// Epsilon that the agreement allows.
        limit: String,
    },
    /// Something in a proposal or an opening is not as agreed.
    #[error("{what} {reason}")]
    NotAgreed {
        /// What is not.
        what: &'static str,
        /// How it differs.
        reason: String,
    },
    /// This party's own upload is in the accepted set with other bytes.
    #[error(
        "round {round}, attempt {attempt}: the accepted set holds an upload in this party's name that it did not make"
    )]
    NotMine {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn out_of_place(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::OutOfPlace { what: what.into(), reason: reason.into() }
    }
}
