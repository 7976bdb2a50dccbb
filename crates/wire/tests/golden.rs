//! Bytes that earlier releases wrote. A failure here means that the format changed: if that was meant,
//! raise `frame::VERSION`, describe it in `docs/formats.md`, and keep the old file with a test that it
//! is still read or refused as too old.
//!
//! `ARRAS_BLESS=1 cargo test -p arras-wire --test golden` writes files that are missing.

// A helper of a test may fail it as the test itself may.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use arras_wire::corpus::is_golden;
use arras_wire::frame::{self, Fingerprint, Kind};
use arras_wire::{Reader, Writer};

fn compare(name: &str, encoded: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    assert!(is_golden(&folder, name, encoded).unwrap(), "{name}");
}

fn fingerprint() -> Fingerprint {
    Fingerprint(std::array::from_fn(|i| i as u8))
}

#[test]
fn frame() {
    let bytes = frame::encode(Kind::EncryptedFeatures, &fingerprint(), b"golden payload");
    compare("frame.bin", &bytes);
    assert_eq!(frame::decode(&bytes, Kind::EncryptedFeatures, 14).unwrap().payload, b"golden payload");
}

#[test]
fn fields() {
    let mut w = Writer::new();
    w.u8(0xf1);
    w.u16(0x0102);
    w.u32(0x0304_0506);
    w.u64(0x0708_090a_0b0c_0d0e);
    w.i64(-1_000_000_007);
    w.f64(0.1);
    w.flag(true);
    w.count("count", 3, 3).unwrap();
    w.blob(b"blob");
    w.string("text", "naïve", 16).unwrap();
    w.fingerprint(&fingerprint());
    compare("fields.bin", w.as_bytes());
}

#[test]
fn packed_rows() {
    let mut w = Writer::new();
    for (modulus, step) in
        [(97, 5), ((1 << 30) - 35, 1 << 25), ((1 << 50) - 27, 1 << 45), (u64::MAX, 1 << 59)]
    {
        let row: Vec<u64> = (0..13).map(|i| (modulus - 1) - i * step % modulus).collect();
        w.residues("row", &row, modulus).unwrap();
        let mut r = Reader::new(w.as_bytes());
        let row_len = arras_wire::bits::packed_len(13, arras_wire::bits::width_of(modulus));
        r.bytes("before", w.as_bytes().len() - row_len).unwrap();
        assert_eq!(r.residues("row", 13, modulus).unwrap(), row);
    }
    compare("packed.bin", w.as_bytes());
}
