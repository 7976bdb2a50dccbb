//! Frames and fields: what is read is what was written, and everything else is refused by name.

// A helper of a test may fail it as the test itself may.
#![allow(clippy::unwrap_used)]

use arras_wire::corpus::SplitMix64;
use arras_wire::frame::{self, CHECK_LEN, Fingerprint, HEADER_LEN, Header, Kind};
use arras_wire::{Error, Problem, Reader, Result, Writer};

const FINGERPRINT: Fingerprint = Fingerprint([0xab; 32]);

fn reply() -> Vec<u8> {
    frame::encode(Kind::Reply, &FINGERPRINT, b"payload")
}

fn decode(bytes: &[u8]) -> Result<frame::Frame<'_>> {
    frame::decode(bytes, Kind::Reply, 7)
}

/// A copy of `bytes` with `patch` written at `at`.
fn patched(bytes: &[u8], at: usize, patch: &[u8]) -> Vec<u8> {
    let mut other = bytes.to_vec();
    other[at..at + patch.len()].copy_from_slice(patch);
    other
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_frame_comes_back() {
    for kind in Kind::ALL {
        for len in [0, 1, 7, 8, 1000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let bytes = frame::encode(kind, &FINGERPRINT, &payload);
            assert_eq!(bytes.len(), frame::encoded_len(payload.len()));
            let found = frame::decode(&bytes, kind, len).unwrap();
            assert_eq!(found, frame::Frame { kind, fingerprint: FINGERPRINT, payload: &payload });
            let header = Header::parse(&bytes[..HEADER_LEN]).unwrap();
            assert_eq!(header, Header { kind, fingerprint: FINGERPRINT, payload_len: len });
            assert_eq!(header.frame_len(), bytes.len() as u64);
        }
    }
}

#[test]
fn every_shorter_and_every_longer_frame_is_refused() {
    let whole = reply();
    for end in 0..whole.len() {
        let needed = if end < HEADER_LEN { HEADER_LEN } else { whole.len() };
        let expected = format!("truncated: {needed} bytes are needed, {end} are there");
        assert_eq!(message(decode(&whole[..end])), expected);
    }
    let mut longer = whole;
    longer.extend([0; 3]);
    assert_eq!(message(decode(&longer)), "3 bytes follow the end of the frame");
}

#[test]
fn every_flipped_bit_is_refused() {
    let whole = reply();
    for bit in 0..8 * whole.len() {
        let other = patched(&whole, bit / 8, &[whole[bit / 8] ^ (1 << (bit % 8))]);
        assert!(decode(&other).is_err(), "bit {bit}");
    }
}

#[test]
fn each_part_of_the_header_has_its_own_error() {
    let whole = reply();
    let cases: [(Vec<u8>, &str); 7] = [
        (b"\x89PNG\r\n\x1a\n".to_vec(), "not an arras file: it begins with the bytes [89, 50, 4e, 47]"),
        (patched(&whole, 4, &[2, 0]), "format version 2 is newer than this program reads (up to 1)"),
        (patched(&whole, 4, &[0, 0]), "format version 0 is older than this program reads (from 1)"),
        (patched(&whole, 6, &[0, 9]), "unknown kind number 2304"),
        (patched(&whole, 6, &[1, 0]), "expected a reply, found a secret key"),
        (patched(&whole, 8, &u64::MAX.to_le_bytes()), "a payload of 18446744073709551615 bytes exceeds"),
        (patched(&whole, HEADER_LEN, b"P"), "damaged: the check is "),
    ];
    for (bytes, expected) in cases {
        let found = message(decode(&bytes));
        assert!(found.starts_with(expected), "{found}");
    }
    let newer = patched(&whole[..6], 4, &[7, 0]);
    assert!(
        matches!(decode(&newer), Err(Error::TooNew { found: 7, newest: 1 })),
        "before its header is read"
    );
}

#[test]
fn lengths_at_the_edge_of_the_integers_do_not_wrap() {
    let bytes = patched(&reply(), 8, &(u64::MAX - 40).to_le_bytes());
    let found = frame::decode(&bytes, Kind::Reply, u64::MAX);
    assert!(matches!(found, Err(Error::Truncated { needed: u64::MAX, .. })), "{found:?}");
}

#[test]
fn other_parameters_are_refused() {
    let bytes = reply();
    let found = decode(&bytes).unwrap();
    found.require(&FINGERPRINT).unwrap();
    let other = Fingerprint([1; 32]);
    let expected = "made for other parameters: fingerprint abababababababab, expected 0101010101010101";
    assert_eq!(message(found.require(&other)), expected);
}

#[test]
fn debug_output_holds_no_payload() {
    let bytes = frame::encode(Kind::SecretKey, &FINGERPRINT, &[201; 40]);
    let found = frame::decode(&bytes, Kind::SecretKey, 40).unwrap();
    let mut writer = Writer::new();
    writer.array(found.payload);
    let shown = format!("{found:?} {writer:?} {:?}", Reader::new(found.payload));
    assert!(!shown.contains("201"), "{shown}");
}

#[test]
fn fields_come_back() {
    let mut w = Writer::new();
    w.u8(1);
    w.u16(0x0203);
    w.u32(0x0405_0607);
    w.u64(u64::MAX - 1);
    w.i64(-2);
    w.f64(-0.1);
    w.f64(f64::INFINITY);
    w.flag(true);
    w.count("count", 2, 5).unwrap();
    w.blob(b"blob");
    w.string("name", "größe", 10).unwrap();
    w.residues("row", &[3, 0, 96], 97).unwrap();
    w.fingerprint(&FINGERPRINT);

    let bytes = w.into_bytes();
    assert_eq!(bytes[..7], [1, 3, 2, 7, 6, 5, 4], "little endian");
    let mut r = Reader::new(&bytes);
    assert_eq!(r.u8("a").unwrap(), 1);
    assert_eq!(r.u16("a").unwrap(), 0x0203);
    assert_eq!(r.u32_in("a", 0x0405_0607..=0x0405_0607).unwrap(), 0x0405_0607);
    assert_eq!(r.u64("a").unwrap(), u64::MAX - 1);
    assert_eq!(r.i64("a").unwrap(), -2);
    assert_eq!(r.finite_f64("a").unwrap(), -0.1);
    assert_eq!(r.f64("a").unwrap(), f64::INFINITY);
    assert!(r.flag("a").unwrap());
    assert_eq!(r.count("a", 5, 4).unwrap(), 2);
    assert_eq!(r.blob("a", 4).unwrap(), b"blob");
    assert_eq!(r.string("a", 7).unwrap(), "größe");
    assert_eq!(r.residues("a", 3, 97).unwrap(), [3, 0, 96]);
    assert_eq!(r.fingerprint("a").unwrap(), FINGERPRINT);
    r.finish().unwrap();
}

#[test]
fn a_bad_field_is_named_with_its_numbers() {
    let nan = f64::NAN.to_le_bytes();
    let eight = |n: u64| n.to_le_bytes();
    type Read = fn(&mut Reader<'_>) -> Result<()>;
    let cases: [(&[u8], Read, &str); 13] = [
        (&[1, 2], |r| r.u32("x").map(drop), "truncated: 4 bytes are needed, 2 remain"),
        (&nan, |r| r.finite_f64("x").map(drop), "NaN is not finite"),
        (&[2], |r| r.flag("x").map(drop), "2 is outside 0..=1"),
        (&[9, 0, 0, 0], |r| r.u32_in("x", 10..=17).map(drop), "9 is outside 10..=17"),
        (&eight(18), |r| r.u64_in("x", 10..=17).map(drop), "18 is outside 10..=17"),
        (&[6, 0, 0, 0], |r| r.count("x", 5, 1).map(drop), "6 exceeds the limit of 5"),
        (&[5, 0, 0, 0, 1], |r| r.count("x", 5, 4).map(drop), "truncated: 20 bytes are needed, 1 remain"),
        (&eight(9), |r| r.blob("x", 8).map(drop), "9 exceeds the limit of 8"),
        (&eight(8), |r| r.blob("x", 8).map(drop), "truncated: 8 bytes are needed, 0 remain"),
        (&[3, 0, b'a', b'b', b'c'], |r| r.string("x", 2).map(drop), "3 exceeds the limit of 2"),
        (&[3, 0, b'a', 0xff, b'c'], |r| r.string("x", 3).map(drop), "not valid UTF-8 after 1 bytes"),
        (&[127], |r| r.residues("x", 1, 97).map(drop), "residue 127 at index 0 is not below the modulus 97"),
        (&[0], |r| r.residues("x", usize::MAX, 97).map(drop), "truncated: "),
    ];
    for (bytes, read, expected) in cases {
        let found = message(read(&mut Reader::new(bytes)));
        assert!(found.starts_with(&format!("field 'x': {expected}")), "{found}");
    }
    assert_eq!(message(Reader::new(&[0; 2]).finish()), "field 'end': 2 unread bytes follow");
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut w = Writer::new();
    assert_eq!(message(w.count("n", 6, 5)), "field 'n': 6 exceeds the limit of 5");
    assert_eq!(message(w.string("s", "abc", 2)), "field 's': 3 exceeds the limit of 2");
    let expected = "field 'r': residue 97 at index 0 is not below the modulus 97";
    assert_eq!(message(w.residues("r", &[97], 97)), expected);
    assert!(w.as_bytes().is_empty());
}

#[test]
fn an_error_says_its_file_and_its_record_once() {
    let error = Error::field("b", Problem::Padding).within("ciphertexts[3]").in_file("a.arras");
    assert_eq!(error.to_string(), "a.arras: field 'ciphertexts[3].b': padding bits are not zero");
    assert_eq!(error.in_file("b.arras").to_string().matches(".arras").count(), 1);
    assert_eq!(
        Error::invalid("scale", "not a power of two").to_string(),
        "field 'scale': not a power of two"
    );
}

#[test]
fn random_bytes_never_pass_for_a_frame() {
    let mut rng = SplitMix64::new(7);
    for _ in 0..10_000 {
        let len = rng.below(2 * (HEADER_LEN + CHECK_LEN));
        let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        assert!(Header::parse(&bytes).is_err());
        arras_wire::fuzz_one(&bytes);
    }
}
