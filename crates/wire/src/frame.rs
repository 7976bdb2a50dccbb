//! The container of every arras file and message.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic, `ARRS` |
//! | 4 | 2 | format version |
//! | 6 | 2 | kind of payload |
//! | 8 | 8 | length `L` of the payload in bytes |
//! | 16 | 32 | fingerprint of the parameters the payload belongs to |
//! | 48 | `L` | payload |
//! | 48 + `L` | 8 | XXH64 of everything before it |
//!
//! Integers are little endian. The check finds accidental damage; it does not authenticate.

use std::fmt;

use crate::xxh64::xxh64;
use crate::{Error, Reader, Result, Writer};

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"ARRS";
/// The version this crate writes, and the newest it reads.
pub const VERSION: u16 = 1;
/// The oldest version this crate reads.
pub const OLDEST_VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 48;
/// Bytes after the payload.
pub const CHECK_LEN: usize = 8;

/// What a payload is. Numbers are never reused.
///
/// ```
/// use arras_wire::frame::{Fingerprint, Kind, decode, encode};
///
/// let bytes = encode(Kind::SecretKey, &Fingerprint([7; 32]), b"..");
/// let refused = decode(&bytes, Kind::PublicKey, 1 << 20).unwrap_err();
/// assert_eq!(refused.to_string(), "expected a public key, found a secret key");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Kind {
    /// A secret key. Its file is readable by its owner only.
    SecretKey = 1,
    /// A public encryption key.
    PublicKey = 2,
    /// Relinearisation and rotation keys.
    EvaluationKeys = 3,
    /// A client's request: encrypted feature vectors.
    EncryptedFeatures = 4,
    /// A server's answer: encrypted logits.
    Reply = 5,
    /// A parameter set.
    Parameters = 6,
    /// Ciphertexts outside any protocol.
    Ciphertexts = 7,
}

impl Kind {
    /// Every kind, in the order of its numbers.
    pub const ALL: [Self; 7] = [
        Self::SecretKey,
        Self::PublicKey,
        Self::EvaluationKeys,
        Self::EncryptedFeatures,
        Self::Reply,
        Self::Parameters,
        Self::Ciphertexts,
    ];

    /// The kind of a number in a header.
    ///
    /// # Errors
    /// [`Error::UnknownKind`].
    pub fn from_number(number: u16) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| *kind as u16 == number);
        known.ok_or(Error::UnknownKind { found: number })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecretKey => "a secret key",
            Self::PublicKey => "a public key",
            Self::EvaluationKeys => "evaluation keys",
            Self::EncryptedFeatures => "encrypted features",
            Self::Reply => "a reply",
            Self::Parameters => "parameters",
            Self::Ciphertexts => "ciphertexts",
        })
    }
}

/// 32 bytes that stand for a parameter set: equal exactly when the parameters are.
///
/// Shown by its first eight bytes in hexadecimal.
///
/// See the example of [`Frame`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The first [`HEADER_LEN`] bytes of a frame, without the parts that are the same in all of them.
///
/// ```
/// use arras_wire::frame::{CHECK_LEN, Fingerprint, HEADER_LEN, Header, Kind, encode};
///
/// let bytes = encode(Kind::Reply, &Fingerprint([7; 32]), &[1, 2, 3]);
/// // Enough to know how much there is to receive.
/// let header = Header::parse(&bytes[..HEADER_LEN])?;
/// assert_eq!((header.kind, header.payload_len), (Kind::Reply, 3));
/// assert_eq!(header.frame_len(), (HEADER_LEN + 3 + CHECK_LEN) as u64);
/// # Ok::<(), arras_wire::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: Kind,
    /// Its length in bytes, as stated: no promise that they are there.
    pub payload_len: u64,
    /// The parameters it belongs to.
    pub fingerprint: Fingerprint,
}

impl Header {
    /// Reads a header from the beginning of `bytes`; what follows it is not looked at.
    ///
    /// A receiver uses it to learn the kind of a file, or to refuse a length before receiving it.
    ///
    /// # Errors
    /// Wrong magic, a version that is not read here, an unknown kind, fewer than [`HEADER_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // Magic and version stand where they stand in every version, so they are judged first.
        let truncated = Error::Truncated { needed: HEADER_LEN as u64, found: bytes.len() as u64 };
        let mut r = Reader::new(bytes);
        let Ok(magic) = r.array("magic") else { return Err(truncated) };
        if magic != MAGIC {
            return Err(Error::Magic { found: magic });
        }
        let Ok(version) = r.u16("version") else { return Err(truncated) };
        if version > VERSION {
            return Err(Error::TooNew { found: version, newest: VERSION });
        }
        if version < OLDEST_VERSION {
            return Err(Error::TooOld { found: version, oldest: OLDEST_VERSION });
        }
        if bytes.len() < HEADER_LEN {
            return Err(truncated);
        }
        Ok(Self {
            kind: Kind::from_number(r.u16("kind")?)?,
            payload_len: r.u64("payload length")?,
            fingerprint: Fingerprint(r.array("fingerprint")?),
        })
    }

    /// The length in bytes of the whole frame, saturating.
    pub const fn frame_len(&self) -> u64 {
        self.payload_len.saturating_add((HEADER_LEN + CHECK_LEN) as u64)
    }
}

/// A decoded frame that borrows its payload. `Debug` shows the payload's length only.
///
/// ```
/// use arras_wire::frame::{Fingerprint, Kind, decode, encode};
///
/// let mut bytes = encode(Kind::Reply, &Fingerprint([7; 32]), &[1, 2, 3]);
/// let frame = decode(&bytes, Kind::Reply, 1 << 20)?;
/// assert_eq!(frame.payload, [1, 2, 3]);
/// let refused = frame.require(&Fingerprint([8; 32])).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "made for other parameters: fingerprint 0707070707070707, expected 0808080808080808"
/// );
/// // A flipped bit anywhere is found.
/// bytes[50] ^= 1;
/// assert!(decode(&bytes, Kind::Reply, 1 << 20).unwrap_err().to_string().starts_with("damaged"));
/// # Ok::<(), arras_wire::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// The parameters it belongs to.
    pub fingerprint: Fingerprint,
    /// The payload.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Refuses a frame made for other parameters.
    ///
    /// # Errors
    /// [`Error::Fingerprint`].
    pub fn require(&self, expected: &Fingerprint) -> Result<()> {
        if self.fingerprint == *expected {
            return Ok(());
        }
        Err(Error::Fingerprint { expected: *expected, found: self.fingerprint })
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind)
            .field("fingerprint", &self.fingerprint)
            .field("payload_len", &self.payload.len())
            .finish()
    }
}

/// The length in bytes of the frame around a payload.
pub const fn encoded_len(payload_len: usize) -> usize {
    HEADER_LEN + payload_len + CHECK_LEN
}

/// Frames a payload.
///
/// The bytes are allocated once at their final size, so that wiping the result of a secret payload
/// leaves no copy behind.
pub fn encode(kind: Kind, fingerprint: &Fingerprint, payload: &[u8]) -> Vec<u8> {
    let mut w = Writer::with_capacity(encoded_len(payload.len()));
    w.array(&MAGIC);
    w.u16(VERSION);
    w.u16(kind as u16);
    w.u64(payload.len() as u64);
    w.array(&fingerprint.0);
    w.array(payload);
    let check = xxh64(w.as_bytes());
    w.u64(check);
    w.into_bytes()
}

/// Reads the one frame that `bytes` is, of the kind expected and with a payload of at most
/// `max_payload` bytes.
///
/// # Errors
/// Those of [`Header::parse`]; another kind, a payload beyond the limit, missing or trailing bytes, a
/// wrong check: each with its numbers.
pub fn decode(bytes: &[u8], expected: Kind, max_payload: u64) -> Result<Frame<'_>> {
    let header = Header::parse(bytes)?;
    let Header { kind, payload_len, fingerprint } = header;
    if kind != expected {
        return Err(Error::Kind { expected, found: kind });
    }
    if payload_len > max_payload {
        return Err(Error::PayloadLimit { length: payload_len, limit: max_payload });
    }
    let (needed, found) = (header.frame_len(), bytes.len() as u64);
    if found > needed {
        return Err(Error::Trailing { extra: found - needed });
    }
    let Some((checked, check)) = bytes.split_last_chunk().filter(|_| found == needed) else {
        return Err(Error::Truncated { needed, found });
    };
    let (stored, computed) = (u64::from_le_bytes(*check), xxh64(checked));
    if stored != computed {
        return Err(Error::Check { stored, computed });
    }
    let payload = checked.get(HEADER_LEN..).unwrap_or_default();
    Ok(Frame { kind, fingerprint, payload })
}
