//! The invariants of this crate's decoders, for any bytes.

use crate::frame::{self, Header};
use crate::{Reader, Result, bits};

/// Decodes `data` in every way this crate knows.
///
/// # Panics
/// When a decoder panics, or accepts bytes that are not the encoding of what it returns.
pub fn fuzz_one(data: &[u8]) {
    if let Ok(header) = Header::parse(data)
        && let Ok(found) = frame::decode(data, header.kind, data.len() as u64)
    {
        assert_eq!(frame::encode(found.kind, &found.fingerprint, found.payload), data);
        read_fields(found.payload);
    }
    read_fields(data);
}

/// Lets the bytes themselves say which field is read next, until one is refused.
fn read_fields(data: &[u8]) {
    let mut reader = Reader::new(data);
    while let Ok(choice) = reader.u8("choice") {
        if let Err(error) = read_field(&mut reader, choice) {
            assert!(!error.to_string().contains('\n'), "one line: {error}");
            return;
        }
    }
    assert!(reader.finish().is_ok(), "a reader without bytes is finished");
}

fn read_field(r: &mut Reader<'_>, choice: u8) -> Result<()> {
    match choice % 10 {
        0 => drop(r.u16("u16")?),
        1 => drop(r.i64("i64")?),
        2 => assert!(r.finite_f64("f64")?.is_finite()),
        3 => drop(r.flag("flag")?),
        4 => assert!((3..=9).contains(&r.u32_in("u32", 3..=9)?)),
        5 => assert!(r.count("count", 100, 3)? * 3 <= r.remaining()),
        6 => assert!(r.blob("blob", 1000)?.len() <= 1000),
        7 => assert!(r.string("string", 20)?.len() <= 20),
        8 => read_residues(r)?,
        _ => drop(r.fingerprint("fingerprint")?),
    }
    Ok(())
}

fn read_residues(r: &mut Reader<'_>) -> Result<()> {
    let modulus = r.u64("modulus")?;
    let count = r.u32("count")? as usize;
    let before = r.clone();
    let residues = r.residues("row", count, modulus)?;
    let mut packed = Vec::new();
    assert!(bits::pack_below(&residues, modulus, &mut packed).is_ok(), "what was read can be written");
    assert_eq!(before.clone().bytes("row", packed.len()).ok(), Some(packed.as_slice()));
    assert_eq!(before.remaining() - r.remaining(), packed.len());
    Ok(())
}
