//! What can go wrong with keys, encryption and decryption.

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed operation. Messages never contain secret material.
///
/// ```
/// use arras_ckks::Context;
/// use arras_cpu::Cpu;
/// use arras_heads::Preset;
/// use arras_secret::{Cipher, Error, SecretKey};
///
/// let (ours, theirs) = (Preset::named("linear")?, Preset::named("mlp")?);
/// let context = Context::new(Cpu::sequential(), ours.params.clone())?;
/// let refused = Cipher::new(&context, &SecretKey::generate(&theirs.params)?).unwrap_err();
/// assert!(matches!(refused, Error::Parameters { key, .. } if key == theirs.params.fingerprint()));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Parameters, plaintexts or ciphertexts do not fit.
    #[error(transparent)]
    Ckks(#[from] arras_ckks::Error),
    /// The encrypted head's formats or bounds do not fit.
    #[error(transparent)]
    Heads(#[from] arras_heads::Error),
    /// Bytes could not be read.
    #[error(transparent)]
    Wire(#[from] arras_wire::Error),
    /// A reply answers a query that was encrypted under another key: decrypting it would give numbers without meaning.
    #[error("encrypted under key {reply}, the key given is {key}")]
    Key {
        /// Id of the key that the query was encrypted under, in hexadecimal.
        reply: String,
        /// Id of the key given, in hexadecimal.
        key: String,
    },
    /// Features that are on a device would have to leave it.
    #[error("features of layout {layout} are encoded on the host, not on a device")]
    OnHost {
        /// The layout.
        layout: &'static str,
    },
    /// A key belongs to other parameters than the context.
    #[error("the key belongs to parameters {key}, the context to {context}")]
    Parameters {
        /// Fingerprint of the key's parameters.
        key: arras_wire::frame::Fingerprint,
        /// Fingerprint of the context's parameters.
        context: arras_wire::frame::Fingerprint,
    },
}

impl From<arras_rns::Error> for Error {
    fn from(error: arras_rns::Error) -> Self {
        Error::Ckks(error.into())
    }
}
