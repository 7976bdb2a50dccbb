use std::fmt;
use std::ops::RangeInclusive;

use crate::error::{Error, Problem, Result};
use crate::{bits, frame};

/// Reads little-endian fields, each under its name.
///
/// Nothing is allocated beyond what a read returns, and no read returns more than the bytes that
/// remain can hold. `Debug` shows the number of bytes that remain, never the bytes.
///
/// ```
/// use arras_wire::Reader;
///
/// let mut r = Reader::new(&[3, 0, 0, 0, 0xff]);
/// assert_eq!(r.u32("degree")?, 3);
/// // Every refusal names the field.
/// let refused = r.flag("seeded").unwrap_err();
/// assert_eq!(refused.to_string(), "field 'seeded': 255 is outside 0..=1");
/// let refused = Reader::new(&[3, 0]).u32("degree").unwrap_err();
/// assert_eq!(refused.to_string(), "field 'degree': truncated: 4 bytes are needed, 2 remain");
/// # Ok::<(), arras_wire::Error>(())
/// ```
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("remaining", &self.rest.len()).finish()
    }
}

/// Every read fails with [`Error::Field`]: [`Problem::Truncated`] when the bytes end, and whatever its
/// own line names. After an error the position is unspecified.
#[allow(clippy::missing_errors_doc)]
impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number of bytes not yet read.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(field, N as u64));
        };
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8> {
        self.array(field).map(u8::from_le_bytes)
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Eight bytes, two's complement.
    pub fn i64(&mut self, field: &'static str) -> Result<i64> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// Eight bytes, IEEE 754 binary64; NaN and infinities pass.
    pub fn f64(&mut self, field: &'static str) -> Result<f64> {
        self.array(field).map(f64::from_le_bytes)
    }

    /// Eight bytes, IEEE 754 binary64, neither NaN nor infinite.
    pub fn finite_f64(&mut self, field: &'static str) -> Result<f64> {
        let found = self.f64(field)?;
        if found.is_finite() { Ok(found) } else { Err(Error::field(field, Problem::NotFinite { found })) }
    }

    /// One byte, 0 or 1.
    pub fn flag(&mut self, field: &'static str) -> Result<bool> {
        Ok(in_range(field, self.u8(field)?.into(), &(0..=1))? == 1)
    }

    /// Four bytes, a number within `range`.
    pub fn u32_in(&mut self, field: &'static str, range: RangeInclusive<u32>) -> Result<u32> {
        let found = self.u32(field)?;
        in_range(field, found.into(), &((*range.start()).into()..=(*range.end()).into()))?;
        Ok(found)
    }

    /// Eight bytes, a number within `range`.
    pub fn u64_in(&mut self, field: &'static str, range: RangeInclusive<u64>) -> Result<u64> {
        in_range(field, self.u64(field)?, &range)
    }

    /// Four bytes: how many records follow, at most `limit`, each of at least `record_len` bytes.
    ///
    /// A count that the remaining bytes cannot hold is refused here, so that the caller may allocate for
    /// it.
    pub fn count(&mut self, field: &'static str, limit: u32, record_len: usize) -> Result<usize> {
        let found = self.u32(field)?;
        if found > limit {
            return Err(Error::field(field, Problem::Limit { found: found.into(), limit: limit.into() }));
        }
        let needed = u64::from(found).saturating_mul(record_len as u64);
        if needed > self.rest.len() as u64 {
            return Err(self.truncated(field, needed));
        }
        Ok(found as usize)
    }

    /// `len` bytes, borrowed.
    pub fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.truncated(field, len as u64));
        };
        self.rest = rest;
        Ok(head)
    }

    /// A length of eight bytes, at most `limit`, and that many bytes, borrowed.
    pub fn blob(&mut self, field: &'static str, limit: u64) -> Result<&'a [u8]> {
        let found = self.u64(field)?;
        if found > limit {
            return Err(Error::field(field, Problem::Limit { found, limit }));
        }
        // A length that no memory holds is truncated all the same.
        let len = usize::try_from(found).map_err(|_| self.truncated(field, found))?;
        self.bytes(field, len)
    }

    /// A length of two bytes, at most `limit`, and that many bytes of UTF-8, borrowed.
    pub fn string(&mut self, field: &'static str, limit: u16) -> Result<&'a str> {
        let found = self.u16(field)?;
        if found > limit {
            return Err(Error::field(field, Problem::Limit { found: found.into(), limit: limit.into() }));
        }
        let bytes = self.bytes(field, found.into())?;
        std::str::from_utf8(bytes)
            .map_err(|error| Error::field(field, Problem::NotUtf8 { valid: error.valid_up_to() }))
    }

    /// A packed row of residues of `modulus` ([`bits::unpack_below`]) that fills `out`.
    pub fn residues_into(&mut self, field: &'static str, modulus: u64, out: &mut [u64]) -> Result<()> {
        let row = self.bytes(field, bits::packed_len(out.len(), bits::width_of(modulus)))?;
        bits::unpack_below(row, modulus, out).map_err(|problem| Error::field(field, problem))
    }

    /// As [`Reader::residues_into`], into a new vector of `count` residues.
    pub fn residues(&mut self, field: &'static str, count: usize, modulus: u64) -> Result<Vec<u64>> {
        let needed = bits::packed_len(count, bits::width_of(modulus));
        if needed > self.rest.len() {
            return Err(self.truncated(field, needed as u64));
        }
        let mut out = vec![0; count];
        self.residues_into(field, modulus, &mut out)?;
        Ok(out)
    }

    /// 32 bytes that stand for a parameter set.
    pub fn fingerprint(&mut self, field: &'static str) -> Result<frame::Fingerprint> {
        self.array(field).map(frame::Fingerprint)
    }

    /// Refuses bytes that no field has claimed.
    pub fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(Error::field("end", Problem::Trailing { extra: extra as u64 })),
        }
    }

    fn truncated(&self, field: &'static str, needed: u64) -> Error {
        Error::field(field, Problem::Truncated { needed, remaining: self.rest.len() as u64 })
    }
}

fn in_range(field: &'static str, found: u64, range: &RangeInclusive<u64>) -> Result<u64> {
    if range.contains(&found) {
        return Ok(found);
    }
    Err(Error::field(field, Problem::Range { found, least: *range.start(), most: *range.end() }))
}

/// Writes what [`Reader`] reads, method for method.
///
/// `Debug` shows the number of bytes written, never the bytes. Writing a secret: ask for the final
/// [capacity](Writer::with_capacity) first, so that no growth leaves a copy behind, and wipe the bytes.
///
/// ```
/// use arras_wire::{Reader, Writer};
///
/// let mut w = Writer::new();
/// w.string("name", "linear", 64)?;
/// w.residues("b", &[1, 2, 96], 97)?; // 7 bits each
/// assert_eq!(w.as_bytes().len(), 2 + 6 + 3);
///
/// let mut r = Reader::new(w.as_bytes());
/// assert_eq!(r.string("name", 64)?, "linear");
/// assert_eq!(r.residues("b", 3, 97)?, [1, 2, 96]);
/// r.finish()?;
/// # Ok::<(), arras_wire::Error>(())
/// ```
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("written", &self.bytes.len()).finish()
    }
}

impl Writer {
    /// Starts empty.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Starts empty with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// What has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes as they are, without a length ([`Reader::array`], [`Reader::bytes`]).
    pub fn array(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.array(&value.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.array(&value.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.array(&value.to_le_bytes());
    }

    /// Eight bytes, two's complement.
    pub fn i64(&mut self, value: i64) {
        self.array(&value.to_le_bytes());
    }

    /// Eight bytes, IEEE 754 binary64.
    pub fn f64(&mut self, value: f64) {
        self.array(&value.to_le_bytes());
    }

    /// One byte, 0 or 1.
    pub fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// Four bytes: how many records follow.
    ///
    /// # Errors
    /// More than `limit`, which the reader would refuse.
    pub fn count(&mut self, field: &'static str, count: usize, limit: u32) -> Result<()> {
        let number = u32::try_from(count).ok().filter(|number| *number <= limit);
        let problem = Problem::Limit { found: count as u64, limit: limit.into() };
        self.u32(number.ok_or_else(|| Error::field(field, problem))?);
        Ok(())
    }

    /// A length of eight bytes and the bytes.
    pub fn blob(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.array(bytes);
    }

    /// A length of two bytes and the bytes of `text`.
    ///
    /// # Errors
    /// More than `limit` bytes, which the reader would refuse.
    pub fn string(&mut self, field: &'static str, text: &str, limit: u16) -> Result<()> {
        let len = u16::try_from(text.len()).ok().filter(|len| *len <= limit);
        let problem = Problem::Limit { found: text.len() as u64, limit: limit.into() };
        self.u16(len.ok_or_else(|| Error::field(field, problem))?);
        self.array(text.as_bytes());
        Ok(())
    }

    /// A packed row of residues of `modulus` ([`bits::pack_below`]).
    ///
    /// # Errors
    /// A value that is not below the modulus, or a modulus below 2; nothing is then written.
    pub fn residues(&mut self, field: &'static str, values: &[u64], modulus: u64) -> Result<()> {
        bits::pack_below(values, modulus, &mut self.bytes).map_err(|problem| Error::field(field, problem))
    }

    /// 32 bytes that stand for a parameter set.
    pub fn fingerprint(&mut self, value: &frame::Fingerprint) {
        self.array(&value.0);
    }
}
