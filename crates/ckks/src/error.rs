//! What can go wrong with parameters, plaintexts and ciphertexts.

use arras_wire::frame::Fingerprint;

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused operation.
///
/// ```
/// use arras_ckks::{Error, Slots};
///
/// let refused = Slots::new(64, Slots::GENERATOR)?.element(40).unwrap_err();
/// assert!(matches!(refused, Error::Rotation { steps: 40, slots: 32 }));
/// assert_eq!(refused.to_string(), "rotation by 40 is beyond the 32 slots");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ring below refused, or a device failed.
    #[error(transparent)]
    Ring(#[from] arras_rns::Error),
    /// Bytes could not be read.
    #[error(transparent)]
    Wire(#[from] arras_wire::Error),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(getrandom::Error),
    /// A field of a parameter set has a value that is not possible.
    #[error("parameters: {field} {problem}")]
    Params {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The modulus is larger than the security table allows.
    #[error("parameters: log2(QP) = {log_qp:.1} at degree {degree} exceeds {limit} ({policy})")]
    Insecure {
        /// log2 of the product of all primes, special ones included.
        log_qp: f64,
        /// The ring degree.
        degree: usize,
        /// The largest log2(QP) that the policy allows.
        limit: u32,
        /// The policy.
        policy: &'static str,
    },
    /// Two operands have different scales.
    #[error("{operation}: scales 2^{left:.3} and 2^{right:.3} differ")]
    Scales {
        /// The operation that refused.
        operation: &'static str,
        /// log2 of the first scale.
        left: f64,
        /// log2 of the second scale.
        right: f64,
    },
    /// Two operands are at different levels.
    #[error("{operation}: levels {left} and {right} differ; drop the higher one first")]
    Levels {
        /// The operation that refused.
        operation: &'static str,
        /// Level of the first operand.
        left: usize,
        /// Level of the second operand.
        right: usize,
    },
    /// There is no level left for the operation.
    #[error("{operation}: needs level {needed}, the ciphertext is at level {level}")]
    LevelsExhausted {
        /// The operation that refused.
        operation: &'static str,
        /// The level it needs.
        needed: usize,
        /// The level there is.
        level: usize,
    },
    /// The scaled message may not fit the modulus.
    #[error("{operation}: a scale of 2^{scale:.1} does not fit a modulus of {modulus:.1} bits")]
    ScaleTooLarge {
        /// The operation that refused.
        operation: &'static str,
        /// log2 of the scale.
        scale: f64,
        /// log2 of the modulus.
        modulus: f64,
    },
    /// A scale below 1, or one that is not a number: nothing of the message would be left.
    #[error("{operation}: a scale of {scale:e} is not at least 1")]
    ScaleTooSmall {
        /// The operation that refused.
        operation: &'static str,
        /// The scale.
        scale: f64,
    },
    /// The operand has another number of components, values or polynomials than the operation takes.
    #[error("{operation}: {what} is {found}, expected {expected}")]
    Count {
        /// The operation that refused.
        operation: &'static str,
        /// What was counted.
        what: &'static str,
        /// The count.
        found: usize,
        /// What it should be.
        expected: String,
    },
    /// A value cannot be encoded.
    #[error("{operation}: value {index} is {value}, beyond {limit:e} or not finite")]
    Value {
        /// The operation that refused.
        operation: &'static str,
        /// Position of the value.
        index: usize,
        /// The value.
        value: f64,
        /// The largest magnitude that can be encoded.
        limit: f64,
    },
    /// A rotation by as many slots as there are, or more.
    #[error("rotation by {steps} is beyond the {slots} slots")]
    Rotation {
        /// The rotation.
        steps: i64,
        /// Number of slots.
        slots: usize,
    },
    /// An automorphism for which there is no key.
    #[error("{operation}: there is no key for the Galois element {element} ({meaning})")]
    MissingGaloisKey {
        /// The operation that refused.
        operation: &'static str,
        /// The element.
        element: usize,
        /// What it does to the slots.
        meaning: String,
    },
    /// There is no relinearisation key.
    #[error("{operation}: there is no relinearisation key")]
    MissingRelinearisationKey {
        /// The operation that refused.
        operation: &'static str,
    },
    /// A key was truncated to a lower level than that of the ciphertext.
    #[error(
        "{operation}: the key of element {element} ends at level {key}, the ciphertext is at level {level}"
    )]
    KeyLevel {
        /// The operation that refused.
        operation: &'static str,
        /// The element, 0 for relinearisation.
        element: usize,
        /// The highest level of the key.
        key: usize,
        /// Level of the ciphertext.
        level: usize,
    },
    /// A workspace has no room for the level.
    #[error("{operation}: the workspace serves levels {first} to {last}, the ciphertext is at level {level}")]
    WorkspaceLevel {
        /// The operation that refused.
        operation: &'static str,
        /// Lowest level of the workspace.
        first: usize,
        /// Highest level of the workspace.
        last: usize,
        /// Level of the ciphertext.
        level: usize,
    },
    /// A decoded integer is further from a multiple of the scale than noise can have moved it.
    #[error(
        "decode: coefficient {index} is 2^{distance:.1} off, the noise is at most 2^{bound:.1}: another key?"
    )]
    Noise {
        /// Position of the coefficient.
        index: usize,
        /// log2 of its distance from the nearest multiple of the scale.
        distance: f64,
        /// log2 of the largest distance that noise explains.
        bound: f64,
    },
    /// Points of a secret sharing that share out nothing.
    #[error("points: {problem}")]
    Points {
        /// What is wrong with them.
        problem: String,
    },
    /// Something belongs to another parameter set.
    #[error("{operation}: the {what} belongs to parameters {found}, expected {expected}")]
    Parameters {
        /// The operation that refused.
        operation: &'static str,
        /// What does not fit.
        what: &'static str,
        /// Fingerprint of its parameters.
        found: Box<Fingerprint>,
        /// Fingerprint of the parameters it should have.
        expected: Box<Fingerprint>,
    },
}
