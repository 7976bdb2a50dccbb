use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use crate::frame::{Fingerprint, Kind};

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why bytes could not be decoded or encoded, or a file not be read or written.
///
/// Every message is one line and complete in itself: no variant hides its cause in a source chain.
///
/// ```
/// use arras_wire::Error;
///
/// // What a record adds to an error of its field, and the reader of a file to that.
/// let error = Error::invalid("scale", "not a power of two").within("ciphertexts[3]").in_file("query.bin");
/// assert_eq!(error.to_string(), "query.bin: field 'ciphertexts[3].scale': not a power of two");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a frame at all.
    #[error("not an arras file: it begins with the bytes {found:02x?} instead of \"ARRS\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// Written by a later release.
    #[error("format version {found} is newer than this program reads (up to {newest}): use a newer release")]
    TooNew {
        /// The version in the header.
        found: u16,
        /// The newest version this crate decodes.
        newest: u16,
    },
    /// Written by a release whose format is no longer read.
    #[error("format version {found} is older than this program reads (from {oldest}): write it again")]
    TooOld {
        /// The version in the header.
        found: u16,
        /// The oldest version this crate decodes.
        oldest: u16,
    },
    /// A kind number that this version does not define.
    #[error("unknown kind number {found}")]
    UnknownKind {
        /// The number in the header.
        found: u16,
    },
    /// A well-formed frame of another kind than was asked for.
    #[error("expected {expected}, found {found}")]
    Kind {
        /// What the caller asked for.
        expected: Kind,
        /// What the header says.
        found: Kind,
    },
    /// The payload is longer than the caller allows.
    #[error("a payload of {length} bytes exceeds the limit of {limit}")]
    PayloadLimit {
        /// The length in the header.
        length: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// Bytes are missing at the end.
    #[error("truncated: {needed} bytes are needed, {found} are there")]
    Truncated {
        /// The bytes that the header, or the header's own size, asks for.
        needed: u64,
        /// The bytes given.
        found: u64,
    },
    /// Bytes follow the end of the frame.
    #[error("{extra} bytes follow the end of the frame")]
    Trailing {
        /// How many.
        extra: u64,
    },
    /// The frame was damaged on its way.
    #[error("damaged: the check is {stored:016x}, the bytes give {computed:016x}")]
    Check {
        /// The check at the end of the frame.
        stored: u64,
        /// The check of the bytes before it.
        computed: u64,
    },
    /// The frame belongs to other parameters.
    #[error("made for other parameters: fingerprint {found}, expected {expected}")]
    Fingerprint {
        /// The caller's parameters.
        expected: Fingerprint,
        /// The fingerprint in the header.
        found: Fingerprint,
    },
    /// A field does not hold what it must.
    #[error("field '{field}': {problem}")]
    Field {
        /// The name given to the read or write, with its place in nested records.
        field: Cow<'static, str>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A file is longer than the caller allows.
    #[error("longer than the limit of {limit} bytes")]
    FileLimit {
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// The path names something that a file must not replace.
    #[error("not a regular file: refusing to replace it")]
    NotAFile,
    /// The operating system refused.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was attempted: "read", "create".
        action: &'static str,
        /// The system's answer.
        cause: io::Error,
    },
    /// One of the others, and the file it is about.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<Error>,
    },
}

/// What is wrong with one field.
///
/// ```
/// use arras_wire::{Problem, bits};
///
/// let mut packed = Vec::new();
/// let refused = bits::pack_below(&[5, 97], 97, &mut packed);
/// assert_eq!(refused, Err(Problem::Residue { index: 1, value: 97, modulus: 97 }));
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The bytes end within the field.
    #[error("truncated: {needed} bytes are needed, {remaining} remain")]
    Truncated {
        /// The bytes of the field.
        needed: u64,
        /// The bytes left.
        remaining: u64,
    },
    /// Bytes follow the last field.
    #[error("{extra} unread bytes follow")]
    Trailing {
        /// How many.
        extra: u64,
    },
    /// A length or count above its limit.
    #[error("{found} exceeds the limit of {limit}")]
    Limit {
        /// The number in the bytes.
        found: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// An integer outside its range.
    #[error("{found} is outside {least}..={most}")]
    Range {
        /// The number in the bytes.
        found: u64,
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// A NaN or an infinity where a finite number belongs.
    #[error("{found} is not finite")]
    NotFinite {
        /// The number in the bytes.
        found: f64,
    },
    /// A string that is not UTF-8.
    #[error("not valid UTF-8 after {valid} bytes")]
    NotUtf8 {
        /// The length of the valid beginning.
        valid: usize,
    },
    /// The unused bits of a packed row's last byte are not zero.
    #[error("padding bits are not zero")]
    Padding,
    /// A value that does not fit the width of its packed row.
    #[error("value {value} at index {index} does not fit {width} bits")]
    TooWide {
        /// Its place in the row.
        index: usize,
        /// The value.
        value: u64,
        /// The bits per value.
        width: u32,
    },
    /// A residue that is not below its modulus.
    #[error("residue {value} at index {index} is not below the modulus {modulus}")]
    Residue {
        /// Its place in the row.
        index: usize,
        /// The value.
        value: u64,
        /// The modulus of the row.
        modulus: u64,
    },
    /// A packed row of another length than its values need.
    #[error("{found} bytes where {expected} are needed")]
    Length {
        /// The length that the number of values asks for.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// A width outside 1..=64 or a modulus below 2: a mistake of the caller or of a header.
    #[error("no residues can be packed at width {width} for modulus {modulus}")]
    Width {
        /// The bits per value.
        width: u32,
        /// The modulus, or 0 where none was given.
        modulus: u64,
    },
    /// Anything else: the meaning of a field is its crate's business.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// An error about one field, for checks that only the field's owner can make.
    pub fn field(field: impl Into<Cow<'static, str>>, problem: Problem) -> Self {
        Self::Field { field: field.into(), problem }
    }

    /// As [`Error::field`], in free words: `Error::invalid("scale", "not a power of two")`.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Display) -> Self {
        Self::field(field, Problem::Invalid(message.to_string()))
    }

    /// Puts the record that holds the field before its name: `'b'` becomes `'ciphertexts[3].b'`.
    /// Errors that are not about a field pass unchanged.
    #[must_use]
    pub fn within(self, record: impl Display) -> Self {
        match self {
            Self::Field { field, problem } => Self::field(format!("{record}.{field}"), problem),
            other => other,
        }
    }

    /// Says which file the error is about, unless it says so already.
    #[must_use]
    pub fn in_file(self, path: impl AsRef<Path>) -> Self {
        match self {
            Self::File { .. } => self,
            problem => Self::File { path: path.as_ref().to_path_buf(), problem: Box::new(problem) },
        }
    }
}

/// [`Error::in_file`] on a result: `decode(&bytes).in_file(path)?`.
///
/// ```
/// use arras_wire::frame::Header;
/// use arras_wire::{Error, InFile};
///
/// let refused = Header::parse(b"PK\x03\x04").in_file("head.zip").unwrap_err();
/// assert!(matches!(&refused, Error::File { path, .. } if path.ends_with("head.zip")));
/// assert!(refused.to_string().starts_with("head.zip: not an arras file"));
/// ```
pub trait InFile<T> {
    /// Says which file an error is about.
    ///
    /// # Errors
    /// The error it was given, with `path` in front.
    fn in_file(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<Error>> InFile<T> for std::result::Result<T, E> {
    fn in_file(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| error.into().in_file(path))
    }
}
