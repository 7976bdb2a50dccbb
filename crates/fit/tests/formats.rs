//! The decoders on a corpus that other programs wrote, on its mutants, and on files of earlier releases.

// A helper of a test may fail it as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use arras_fit::Features;
use arras_fit::import::{attach_labels, import};
use arras_wire::corpus::{Report, drive};

const NUMBERS: [f32; 6] = [1.0, -2.0, 0.5, 4.0, 0.25, -8.0];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[test]
fn no_mutant_breaks_an_invariant() {
    match drive(&folder("corpus"), 1, Duration::from_secs(2), arras_fit::fuzz_one) {
        Ok(Report { entries, runs }) => {
            assert!(entries >= 8 && runs > 1000, "{entries} entries, {runs} runs")
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn every_format_gives_the_same_numbers() {
    for (file, rows) in [
        ("features.safetensors", 2),
        ("foreign.safetensors", 3),
        ("rows.npy", 2),
        ("columns.npy", 2),
        ("half.npy", 1),
        ("table.csv", 2),
        ("bare.csv", 2),
    ] {
        let features = import(&folder("corpus").join(file)).unwrap();
        assert_eq!((features.rows(), features.values.as_slice()), (rows, &NUMBERS[..]), "{file}");
    }
    let mut features = import(&folder("corpus/bare.csv")).unwrap();
    attach_labels(&mut features, &folder("corpus/labels.csv")).unwrap();
    assert_eq!(features.labels.unwrap(), ["a", "b"]);
}

/// If this fails the format has changed: files that users have must still load.
#[test]
fn the_file_of_features_is_what_it_was() {
    let texts = |texts: [&str; 2]| texts.map(String::from).to_vec();
    let features = Features {
        dimension: 3,
        values: NUMBERS.to_vec(),
        names: texts(["a/0.png", "b/1.png"]),
        labels: Some(texts(["a", "b"])),
        groups: Some(texts(["p", "q"])),
        fingerprint: Some("vit".to_owned()),
    };
    let golden = folder("golden/features.safetensors");
    let bytes = std::fs::read(&golden).unwrap();
    assert_eq!(Features::from_bytes("golden", &bytes).unwrap(), features);
    assert_eq!(features.to_bytes("golden").unwrap(), bytes);
    assert_eq!(import(&folder("corpus/features.safetensors")).unwrap(), features);
    assert_eq!(&features.data_hash()[..16], "3e6b30ae50a308cc");
}
