//! What can go wrong between features and logits.

/// The result of every fallible operation on queries, replies and plans.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed operation.
///
/// ```
/// use arras_heads::layout::Groups;
/// use arras_heads::{Error, Layout};
///
/// let refused = Groups::new(Layout::Dot, 2048, 768, 0).unwrap_err();
/// assert!(matches!(refused, Error::Count { found: 0, .. }));
/// assert_eq!(refused.to_string(), "the number of images is 0, expected 1 to 1048576");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Parameters or ciphertexts do not fit.
    #[error(transparent)]
    Ckks(#[from] arras_ckks::Error),
    /// Bytes could not be read.
    #[error(transparent)]
    Wire(#[from] arras_wire::Error),
    /// The head file could not be read or written.
    #[error(transparent)]
    Head(#[from] crate::head::Error),
    /// A name that is not a preset's.
    #[error("preset '{name}' is unknown; there are {known}")]
    UnknownPreset {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Something was made for other parameters than any preset's.
    #[error("parameters {fingerprint} belong to no preset of this version")]
    UnknownParameters {
        /// Their fingerprint.
        fingerprint: arras_wire::frame::Fingerprint,
    },
    /// A query or reply was made for another preset.
    #[error("made for preset '{theirs}', expected '{ours}'")]
    Preset {
        /// The preset in use here.
        ours: &'static str,
        /// The preset of the query or reply.
        theirs: &'static str,
    },
    /// A preset is not made for a layout.
    #[error("layout {layout} is not among those of preset '{preset}': {layouts}")]
    Layout {
        /// The layout.
        layout: &'static str,
        /// The preset.
        preset: &'static str,
        /// The layouts it has.
        layouts: String,
    },
    /// The head was prepared for other layouts than the query's.
    #[error("the head was prepared for layout {ours}, the query has layout {theirs}")]
    Prepared {
        /// Layouts of the head.
        ours: String,
        /// Layout of the query.
        theirs: &'static str,
    },
    /// A layout that has no products of ciphertexts met a head with a hidden layer.
    #[error("layout {layout} serves linear heads only, this one has a hidden layer of {hidden} units")]
    HiddenLayer {
        /// The layout.
        layout: &'static str,
        /// Units of the hidden layer.
        hidden: usize,
    },
    /// Head and query have different numbers of features.
    #[error("the head takes {head} features, the query has {query}")]
    Dimension {
        /// Features of the head.
        head: usize,
        /// Features of the query.
        query: usize,
    },
    /// Head and features come from different backbones or preprocessing.
    #[error("the head was fitted on features of backbone {head}, these come from {query}")]
    Backbone {
        /// First bytes of the head's backbone fingerprint.
        head: String,
        /// First bytes of the query's.
        query: String,
    },
    /// The query promises less about its features than the head was rounded for, so that a logit might overflow.
    #[error("the query's {what} is {query}, the head was prepared for at most {head}")]
    Bounds {
        /// Which bound.
        what: &'static str,
        /// The bound of the query.
        query: f32,
        /// The bound of the head.
        head: f32,
    },
    /// A row of features exceeds a public bound, which would overflow unseen.
    #[error("row {row}: {what} is {found}, the preset '{preset}' allows {limit}")]
    Bound {
        /// The row.
        row: usize,
        /// Which quantity.
        what: String,
        /// Its value.
        found: f32,
        /// The bound.
        limit: f32,
        /// The preset.
        preset: &'static str,
    },
    /// The worst-case logit does not fit the modulus at any useful weight scale.
    #[error(
        "class {class}: a logit of up to {logit:.3e} at data scale 2^{scale_bits} leaves {bits:.2} bits for the weights \
         in a modulus of {modulus_bits:.1} bits; at least 4 are needed (fit the head with a larger l2)"
    )]
    Overflow {
        /// The class.
        class: usize,
        /// Worst-case magnitude of its logit.
        logit: f64,
        /// log2 of the data scale.
        scale_bits: u32,
        /// log2 of the largest weight scale that fits.
        bits: f64,
        /// log2 of the modulus.
        modulus_bits: f64,
    },
    /// The worst-case logit of a head with a hidden layer does not fit the modulus at any useful scales.
    #[error(
        "class {class}: a logit of up to {logit:.3e} at data scale 2^{scale_bits} leaves {bits:.2} bits for the weights of \
         both layers, those of the first counted twice, in a modulus of {modulus_bits:.1} bits; at least {needed} are \
         needed (fit the head with a larger l2)"
    )]
    HiddenOverflow {
        /// The class.
        class: usize,
        /// Worst-case magnitude of its logit.
        logit: f64,
        /// log2 of the data scale.
        scale_bits: u32,
        /// log2 of the product of the squared first weight scale and the second.
        bits: f64,
        /// The least it may be.
        needed: u32,
        /// log2 of the modulus.
        modulus_bits: f64,
    },
    /// The worst-case logit, or hidden unit, does not fit the primes that are left when it is computed.
    #[error(
        "{what}: up to {size:.3e} at scale 2^{scale:.1} does not fit the {modulus_bits:.1} bits of level {level} (fit the \
         head with a larger l2)"
    )]
    LevelOverflow {
        /// Hidden units or logits.
        what: &'static str,
        /// Their worst-case magnitude.
        size: f64,
        /// log2 of their scale.
        scale: f64,
        /// log2 of the modulus.
        modulus_bits: f64,
        /// The level.
        level: usize,
    },
    /// The server needs a public key to hide its head, and the query has none or should have none.
    #[error("public key: {0}")]
    PublicKey(&'static str),
    /// The layout takes evaluation keys and none were given.
    #[error("layout rotations takes {count} evaluation keys, none were given")]
    NoKeys {
        /// How many it takes.
        count: usize,
    },
    /// A number of images, features or classes that is not possible.
    #[error("{what} is {found}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// The count.
        found: usize,
        /// What it should be.
        expected: String,
    },
}

impl From<arras_rns::Error> for Error {
    fn from(error: arras_rns::Error) -> Self {
        Error::Ckks(error.into())
    }
}
