//! The decoders under mutations of the committed corpus, and the driver itself.

// A helper of a test may fail it as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use arras_wire::corpus::{Failure, Report, drive, reseal};
use arras_wire::frame::{self, Fingerprint, Kind};

#[test]
fn no_mutant_breaks_an_invariant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let report = drive(&folder, 1, Duration::from_secs(2), arras_wire::fuzz_one);
    match report {
        Ok(Report { entries, runs }) => {
            assert!(entries >= 3 && runs > 1000, "{entries} entries, {runs} runs")
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// The corpus was written by a separate program from `docs/formats.md`, so this compares two encoders.
#[test]
fn a_frame_made_elsewhere_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let bytes = std::fs::read(folder.join("request.bin")).unwrap();
    let found = frame::decode(&bytes, Kind::EncryptedFeatures, 1 << 10).unwrap();
    assert_eq!(found.fingerprint, Fingerprint(std::array::from_fn(|i| i as u8)));
    let scripts =
        [std::fs::read(folder.join("fields.bin")).unwrap(), std::fs::read(folder.join("rows.bin")).unwrap()];
    assert!(found.payload.starts_with(&scripts[0]));
    assert!(scripts[1].starts_with(&found.payload[scripts[0].len()..]));
}

#[test]
fn mutants_reach_what_lies_behind_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let whole = frame::encode(Kind::Reply, &Fingerprint([0; 32]), &[0; 20]);
    std::fs::write(folder.path().join("reply.bin"), &whole).unwrap();
    let reached = std::cell::Cell::new(0);
    drive(folder.path(), 3, Duration::from_millis(200), |bytes| {
        let accepted = frame::decode(bytes, Kind::Reply, 1 << 20).is_ok_and(|f| f.payload != [0; 20]);
        reached.set(reached.get() + usize::from(accepted));
    })
    .unwrap();
    assert!(reached.get() > 100, "{} mutants", reached.get());
}

#[test]
fn a_failing_input_is_kept_and_tried_first_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("seed.bin"), [0; 8]).unwrap();
    let hates_ff = |bytes: &[u8]| assert!(!bytes.contains(&0xff), "found 0xff");
    let failed = |seed| drive(folder.path(), seed, Duration::from_secs(60), hates_ff).unwrap_err();

    let Failure::Panic { message, path, hex, .. } = failed(5) else { panic!("not a panic") };
    assert_eq!(message, "found 0xff");
    let kept = std::fs::read(&path).unwrap();
    assert!(kept.contains(&0xff) && hex.contains("ff"), "{hex}");
    let Failure::Panic { run, .. } = failed(6) else { panic!("not a panic") };
    assert_eq!(run, 0);
}

#[test]
fn resealing_makes_a_frame_decodable_again() {
    let mut bytes = frame::encode(Kind::Reply, &Fingerprint([0; 32]), &[1; 9]);
    bytes.drain(50..53);
    assert!(frame::decode(&bytes, Kind::Reply, 9).is_err());
    assert!(reseal(&mut bytes));
    assert_eq!(frame::decode(&bytes, Kind::Reply, 9).unwrap().payload, [1; 6]);
    assert!(!reseal(&mut [0; 100]));
}
