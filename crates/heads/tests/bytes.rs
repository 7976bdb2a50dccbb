//! Queries, replies and heads as bytes: golden files, which are also the corpus of the fuzzing, and hostile ones.
//! `ARRAS_BLESS=1` writes files that are missing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use arras_ckks::Context;
use arras_cpu::Cpu;
use arras_heads::{Groups, Head, Layout, LinearHead, ModelCard, Preset, Query, Reply, fuzz_one};
use arras_wire::bits;
use arras_wire::corpus::{SplitMix64, drive, is_golden};
use arras_wire::frame::{self, Kind};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Of the shape that `fuzz_one` classifies.
fn head() -> Head {
    Head {
        weight: vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125],
        bias: vec![1.0, -0.5],
        classes: vec!["adenoma".into(), "other".into()],
        card: ModelCard { l2: Some(0.5), created_with: "arras".into(), ..ModelCard::default() },
    }
}

/// A query of repeatable residues: for the server it is as good as an encrypted one.
fn query(preset: &str, layout: Layout, images: usize, backbone: Option<[u8; 32]>) -> Query {
    let preset = Preset::named(preset).unwrap();
    let groups = Groups::new(layout, 2048, 3, images).unwrap();
    let (q, mut rng) = (preset.params.ring().modulus(0).value(), SplitMix64::new(images as u64));
    let mut body = Vec::new();
    for piece in groups.pieces() {
        let (rows, values) = piece.packing.extent(piece.polynomials);
        for _ in 0..rows {
            let row: Vec<u64> = (0..values).map(|_| rng.below(q as usize) as u64).collect();
            bits::pack_below(&row, q, &mut body).unwrap();
        }
    }
    Query::new(preset, groups, preset.bounds, backbone, std::array::from_fn(|i| i as u8), *b"a key id", body)
        .unwrap()
}

fn answer(query: &Query) -> Reply {
    let preset = query.preset();
    let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
    LinearHead::new(&context, &head(), preset.bounds).unwrap().classify(query).unwrap()
}

#[test]
fn the_format_has_not_changed() {
    let dot = query("linear", Layout::Dot, 684, None);
    let transposed = query("linear-compact", Layout::Transposed, 5, Some([9; 32]));
    for (name, encoded) in [
        ("query-dot.bin", dot.to_bytes()),
        ("query-transposed.bin", transposed.to_bytes()),
        ("reply-dot.bin", answer(&dot).to_bytes()),
        ("reply-transposed.bin", answer(&transposed).to_bytes()),
        ("head.safetensors", head().to_bytes("head").unwrap()),
    ] {
        assert!(is_golden(&corpus(), name, &encoded).unwrap(), "{name}");
        fuzz_one(&encoded);
    }
}

#[test]
fn no_mutant_breaks_an_invariant() {
    let report = drive(&corpus(), 1, Duration::from_secs(2), fuzz_one).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.entries >= 5 && report.runs > 200, "{report:?}");
}

/// Bytes to overwrite, with their places.
type Changes<'a> = &'a [(usize, &'a [u8])];

/// Overwrites bytes of a payload.
fn with(framed: &[u8], kind: Kind, changes: Changes) -> Vec<u8> {
    let frame = frame::decode(framed, kind, 1 << 30).unwrap();
    let mut payload = frame.payload.to_vec();
    for (at, bytes) in changes {
        payload[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    frame::encode(kind, &frame.fingerprint, &payload)
}

#[test]
fn hostile_queries_are_refused_with_the_field() {
    let query = query("linear", Layout::Dot, 4, None).to_bytes();
    let (many, nan, negative) = ((1u32 << 20).to_le_bytes(), f32::NAN.to_le_bytes(), (-1.0f32).to_le_bytes());
    let (wide, wider) = (65536u32.to_le_bytes(), 3000u32.to_le_bytes());
    let cases: [(Changes, &str); 9] = [
        (&[(0, &[2])], "field 'layout': 2 is unknown"),
        (&[(1, &[0; 4])], "field 'features': 0 is outside 1..=65536"),
        (&[(1, &wider)], "the number of features is 3000, expected 1 to 2048"),
        (&[(5, &[255; 4])], "field 'images': 4294967295 is outside"),
        // A million images of 65536 features: 420 GB that are not there.
        (&[(0, &[1]), (1, &wide), (5, &many)], "field 'residues': truncated: 42090"),
        (&[(9, &nan)], "field 'x_max': NaN is not a positive number"),
        (&[(13, &negative)], "field 'norm_max': -1 is not a positive number"),
        (&[(17, &[7])], "field 'backbone given': 7 is outside"),
        (&[(17, &[1])], "field 'residues': truncated"),
    ];
    for (changes, expected) in cases {
        let bytes = with(&query, Kind::EncryptedFeatures, changes);
        let message = Query::from_bytes(&bytes).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
    let foreign = frame::encode(Kind::EncryptedFeatures, &frame::Fingerprint([1; 32]), &[]);
    assert!(Query::from_bytes(&foreign).unwrap_err().to_string().contains("no preset"));
}

#[test]
fn hostile_replies_are_refused_with_the_field() {
    let reply = answer(&query("linear", Layout::Dot, 4, None)).to_bytes();
    let (many, classes, more) = ((1u32 << 20).to_le_bytes(), 4096u32.to_le_bytes(), 4097u32.to_le_bytes());
    let (infinite, negative) = (f64::INFINITY.to_le_bytes(), (-1.0f64).to_le_bytes());
    let cases: [(Changes, &str); 8] = [
        (&[(9, &[0; 4])], "field 'classes': 0 is outside 1..=4096"),
        (&[(9, &more)], "field 'classes': 4097 is outside"),
        (&[(5, &many), (9, &classes)], "field 'coefficients': truncated"),
        (&[(0, &[1]), (5, &many), (9, &classes)], "field 'coefficients': truncated"),
        (&[(13, &[0; 4])], "field 'weight scale': 0 is outside"),
        (&[(17, &[35])], "field 'bits': 35 is not in 24..=34"),
        (&[(18, &infinite)], "field 'logit bound': inf is not finite"),
        (&[(18, &negative)], "field 'logit bound': is negative"),
    ];
    for (changes, expected) in cases {
        let message = Reply::from_bytes(&with(&reply, Kind::Reply, changes)).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let query = query("linear", Layout::Transposed, 2, None);
    let (reply, query) = (answer(&query).to_bytes(), query.to_bytes());
    assert!((0..query.len()).all(|length| Query::from_bytes(&query[..length]).is_err()));
    assert!((0..reply.len()).step_by(37).all(|length| Reply::from_bytes(&reply[..length]).is_err()));
    // Also when the frame is whole and the payload is not.
    let frame = frame::decode(&query, Kind::EncryptedFeatures, 1 << 20).unwrap();
    for length in 0..frame.payload.len() {
        let cut = frame::encode(Kind::EncryptedFeatures, &frame.fingerprint, &frame.payload[..length]);
        assert!(Query::from_bytes(&cut).is_err(), "{length}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused_with_the_numbers() {
    let linear = Preset::named("linear").unwrap();
    let context = Context::new(Cpu::sequential(), linear.params.clone()).unwrap();
    let mut owned = head();
    owned.card.fingerprint = Some("09".repeat(32));
    let server = LinearHead::new(&context, &owned, linear.bounds).unwrap();
    let refused = |query: &Query| server.classify(query).unwrap_err().to_string();

    let mut wide = query("linear", Layout::Dot, 4, None);
    wide.bounds.norm_max = 65.0;
    assert_eq!(refused(&wide), "the query's norm_max is 65, the head was prepared for at most 64");
    wide.bounds.x_max = 17.0;
    assert_eq!(refused(&wide), "the query's x_max is 17, the head was prepared for at most 16");
    let foreign = query("linear", Layout::Dot, 4, Some([8; 32]));
    assert!(refused(&foreign).contains("backbone 0909090909090909, these come from 0808080808080808"));
    assert!(server.classify(&query("linear", Layout::Dot, 4, Some([9; 32]))).is_ok());
    let error = refused(&query("linear-wide", Layout::Dot, 4, None));
    assert_eq!(error, "made for preset 'linear-wide', expected 'linear'");

    let groups = Groups::new(Layout::Dot, 2048, 4, 1).unwrap();
    let new = |groups, body| Query::new(linear, groups, linear.bounds, None, [0; 32], [0; 8], body);
    assert_eq!(refused(&new(groups, vec![0; 25]).unwrap()), "the head takes 3 features, the query has 4");
    let short = new(groups, vec![0; 24]).unwrap_err().to_string();
    assert_eq!(short, "the number of packed bytes is 24, expected 25");
    let other = new(Groups::new(Layout::Dot, 1024, 4, 1).unwrap(), vec![0; 25]).unwrap_err().to_string();
    assert_eq!(other, "the ring degree is 1024, expected 2048");
    // A residue that is not below the modulus is noticed where it is used.
    let four = Head { weight: vec![1.0; 4], bias: vec![0.0], classes: vec!["a".into()], ..head() };
    let server = LinearHead::new(&context, &four, linear.bounds).unwrap();
    let error = server.classify(&new(groups, [vec![0xff; 24], vec![0x0f]].concat()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not below 562941363486721"), "{error}");
}
