//! Rows of integers packed at their exact width: a 50-bit residue costs 50 bits.
//!
//! Value `i` of a row occupies bits `i * width ..= i * width + width - 1`; bit `k` of a row is bit `k % 8`
//! (the least significant is 0) of byte `k / 8`. A row ends at a byte boundary and its unused bits are
//! zero, so that equal rows are equal bytes.

use crate::error::Problem;

/// The bits that the residues of `modulus` need: the length of `modulus - 1`, at least 1.
pub const fn width_of(modulus: u64) -> u32 {
    let width = u64::BITS - modulus.saturating_sub(1).leading_zeros();
    if width == 0 { 1 } else { width }
}

/// The bytes of a row of `count` values of `width` bits; `usize::MAX` where no memory could hold them.
pub const fn packed_len(count: usize, width: u32) -> usize {
    let bytes = (count as u128 * width as u128).div_ceil(8);
    if bytes > usize::MAX as u128 { usize::MAX } else { bytes as usize }
}

/// Appends a row of `values`, each below `2^width`, to `out`.
///
/// # Errors
/// A value that does not fit, or a width outside `1..=64`; `out` is then as it was.
pub fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) -> Result<(), Problem> {
    let mask = mask(width)?;
    if values.iter().fold(0, |all, value| all | value) & !mask != 0 {
        let found = values.iter().enumerate().find(|(_, value)| **value & !mask != 0);
        let (index, value) = found.unwrap_or((0, &0));
        return Err(Problem::TooWide { index, value: *value, width });
    }
    append(values, width, out);
    Ok(())
}

/// Appends a row of residues of `modulus` at the width [`width_of`] gives.
///
/// # Errors
/// A value that is not below the modulus, or a modulus below 2; `out` is then as it was.
pub fn pack_below(values: &[u64], modulus: u64, out: &mut Vec<u8>) -> Result<(), Problem> {
    check_residues(values, modulus)?;
    append(values, width_of(modulus), out);
    Ok(())
}

/// Reads a row of `out.len()` values of `width` bits; `bytes` is exactly that row.
///
/// # Errors
/// Another length than [`packed_len`] gives, padding bits that are not zero, or a width outside
/// `1..=64`. What `out` then holds is unspecified.
pub fn unpack(bytes: &[u8], width: u32, out: &mut [u64]) -> Result<(), Problem> {
    let mask = mask(width)?;
    let expected = packed_len(out.len(), width);
    if bytes.len() != expected {
        return Err(Problem::Length { expected, found: bytes.len() });
    }
    // As 2^3 values fill whole bytes, the row's used bits modulo 8 follow from the low bits alone.
    let used = (out.len() % 8) * width as usize % 8;
    if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return Err(Problem::Padding);
    }
    let places = (0..out.len()).map(|index| index * width as usize).zip(out);
    if width <= 57 {
        // With the at most 7 bits before it, the value lies within 8 bytes.
        places.for_each(|(bit, slot)| {
            *slot = u64::from_le_bytes(window(bytes, bit / 8)) >> (bit % 8) & mask;
        });
    } else {
        places.for_each(|(bit, slot)| {
            *slot = (u128::from_le_bytes(window(bytes, bit / 8)) >> (bit % 8)) as u64 & mask;
        });
    }
    Ok(())
}

/// Reads a row of residues of `modulus` packed at the width [`width_of`] gives.
///
/// # Errors
/// As [`unpack`], and a value that is not below the modulus, named with its index.
pub fn unpack_below(bytes: &[u8], modulus: u64, out: &mut [u64]) -> Result<(), Problem> {
    unpack(bytes, width_of(modulus), out)?;
    check_residues(out, modulus)
}

fn mask(width: u32) -> Result<u64, Problem> {
    match width {
        1..=64 => Ok(u64::MAX >> (64 - width)),
        _ => Err(Problem::Width { width, modulus: 0 }),
    }
}

fn check_residues(values: &[u64], modulus: u64) -> Result<(), Problem> {
    if modulus < 2 {
        return Err(Problem::Width { width: width_of(modulus), modulus });
    }
    // Without an early end first, so that several are compared at a time.
    if values.iter().fold(true, |all, &value| all & (value < modulus)) {
        return Ok(());
    }
    match values.iter().enumerate().find(|(_, value)| **value >= modulus) {
        Some((index, value)) => Err(Problem::Residue { index, value: *value, modulus }),
        None => Ok(()),
    }
}

/// Packs values already known to fit.
fn append(values: &[u64], width: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let end = start + packed_len(values.len(), width);
    // Room for the last store of whole words.
    out.resize(end + 8, 0);
    if width <= 56 {
        append_shifted(values, width, &mut out[start..]);
    } else {
        append_words(values, width, &mut out[start..]);
    }
    out.truncate(end);
}

/// A store per value: at its byte, together with the bits that the values before left there, at most seven. Nothing
/// branches.
fn append_shifted(values: &[u64], width: u32, row: &mut [u8]) {
    let (mut pending, mut filled, mut at) = (0u64, 0, 0);
    for value in values {
        pending |= value << filled;
        filled += width;
        if let Some(bytes) = row.get_mut(at..at + 8) {
            bytes.copy_from_slice(&pending.to_le_bytes());
        }
        at += filled as usize / 8;
        pending >>= filled & !7;
        filled &= 7;
    }
}

/// A word at a time, for any width.
fn append_words(values: &[u64], width: u32, row: &mut [u8]) {
    let (mut pending, mut filled, mut at) = (0u128, 0, 0);
    for value in values {
        pending |= u128::from(*value) << filled;
        filled += width;
        if filled >= 64 {
            row[at..at + 8].copy_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            filled -= 64;
            at += 8;
        }
    }
    row[at..at + 8].copy_from_slice(&(pending as u64).to_le_bytes());
}

/// The `SIZE` bytes from `at`, zero beyond the end.
fn window<const SIZE: usize>(bytes: &[u8], at: usize) -> [u8; SIZE] {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut padded = [0; SIZE];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}
