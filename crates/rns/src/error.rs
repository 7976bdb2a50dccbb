//! What can go wrong below the level of ciphertexts.

use crate::LimbSet;

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that was refused, or a device that failed.
///
/// ```
/// use arras_rns::{Error, Ring};
///
/// let error = Ring::new(12, &[97]).unwrap_err();
/// assert_eq!(error, Error::Degree { degree: 12 });
/// assert_eq!(error.to_string(), "degree 12 is not a power of two between 8 and 131072");
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ring degree is not a power of two that arras supports.
    #[error(
        "degree {degree} is not a power of two between {} and {}",
        crate::ring::MIN_DEGREE,
        crate::ring::MAX_DEGREE
    )]
    Degree {
        /// The degree that was asked for.
        degree: usize,
    },
    /// A modulus is not a prime that supports an NTT of the ring's degree.
    #[error("modulus {modulus} {reason} (degree {degree})")]
    Modulus {
        /// The offending value.
        modulus: u64,
        /// The degree of the ring it was meant for.
        degree: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A chain holds no modulus, or more than a [`LimbSet`] can name.
    #[error("a chain of {count} moduli is not possible (1 to {})", LimbSet::CAPACITY)]
    Chain {
        /// The number of moduli.
        count: usize,
    },
    /// There are not enough primes of the size that was asked for.
    #[error("only {found} primes of {bits} bits support degree {degree}, {wanted} were asked for")]
    NotEnoughPrimes {
        /// Size of the primes in bits.
        bits: u32,
        /// Degree of the ring.
        degree: usize,
        /// How many exist.
        found: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// Two operands do not fit together.
    #[error("{operation}: {what} is {found}, expected {expected}")]
    Shape {
        /// The operation that refused.
        operation: &'static str,
        /// Which property does not fit.
        what: &'static str,
        /// Its value.
        found: String,
        /// The value it should have.
        expected: String,
    },
    /// An operand lacks limbs that the operation needs.
    #[error("{operation}: limbs {missing:?} are not there (available: {available:?})")]
    MissingLimbs {
        /// The operation that refused.
        operation: &'static str,
        /// The limbs that are missing.
        missing: LimbSet,
        /// The limbs that are there.
        available: LimbSet,
    },
    /// A value is outside the range an operation accepts.
    #[error("{operation}: {what} at index {index} is out of range ({detail})")]
    Value {
        /// The operation that refused.
        operation: &'static str,
        /// What kind of value.
        what: &'static str,
        /// Position of the first such value.
        index: usize,
        /// The value and the range.
        detail: String,
    },
    /// The special primes are too small for the digits of a key switch.
    #[error(
        "special primes of {special_bits:.1} bits are smaller than the largest digit of {digit_bits:.1} bits"
    )]
    SpecialTooSmall {
        /// log2 of the product of the special primes.
        special_bits: f64,
        /// log2 of the largest digit.
        digit_bits: f64,
    },
    /// The device or the operating system failed; may stem from an earlier call on the same queue.
    #[error("{place}: {message}")]
    Device {
        /// The expression that failed and where it stands.
        place: String,
        /// The driver's words.
        message: String,
    },
}

impl Error {
    /// A [`Error::Shape`] from anything printable.
    pub fn shape(
        operation: &'static str,
        what: &'static str,
        found: impl std::fmt::Debug,
        expected: impl std::fmt::Debug,
    ) -> Self {
        Error::Shape { operation, what, found: format!("{found:?}"), expected: format!("{expected:?}") }
    }
}
