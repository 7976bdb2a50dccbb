//! `arras audit` and `arras metrics` as a user runs them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_arras");
    Command::new(program).args(arguments).arg("--quiet").current_dir(folder).output().unwrap()
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn message(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

const SMALL: [&str; 10] =
    ["audit", "-o", "out", "--attacks", "c,ciphertext", "--victims", "10", "--own", "40", "--seed=3"];

#[test]
fn an_audit_is_kept_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let audit = json_of(folder.path(), &SMALL);
    assert_eq!(audit["schema"], "arras-audit/1");
    let rows = audit["findings"].as_array().unwrap();
    let letters: Vec<&str> = rows.iter().map(|row| row["letter"].as_str().unwrap()).collect();
    assert_eq!(letters, ["c", "e"]);
    // An attacker that holds the pictures finds each by its token, and none by its ciphertext.
    let found = |row: &Value| row["scores"]["reid_candidates"]["value"].as_f64().unwrap();
    assert_eq!(found(&rows[0]), 1.0);
    assert!(found(&rows[1]) < 0.6, "{}", rows[1]);
    assert_eq!(rows[1]["protection"], "CKKS");
    for row in rows {
        for picture in row["pictures"].as_array().unwrap() {
            for role in ["original", "guess", "reconstruction"] {
                assert!(folder.path().join("out").join(picture[role].as_str().unwrap()).exists());
            }
        }
    }
    let page = fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(page.contains("The 20 dB line") && page.contains("does not discriminate"));

    // Rows of the same settings are taken as they are; damaged ones and those of others are made anew.
    let again = json_of(folder.path(), &SMALL);
    assert_eq!(again, audit);
    fs::write(folder.path().join("out/results/decoder.json"), "{").unwrap();
    let again = json_of(folder.path(), &SMALL);
    assert_eq!(again["findings"][0]["scores"], audit["findings"][0]["scores"]);
    assert_eq!(again["findings"][1], audit["findings"][1]);
}

#[test]
fn pictures_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let tiles =
        run(folder.path(), &["tiles", "-o", "t", "--per-class", "1", "--seed", "1", "--patients", "1"]);
    assert!(tiles.status.success());
    let (a, b) = ("t/solid/solid-00000.png", "t/scattered/scattered-00000.png");
    let same = json_of(folder.path(), &["metrics", a, a]);
    assert!(same["psnr"].is_null() && same["lpips"].is_null());
    assert!((same["ssim_uniform"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    let other = json_of(folder.path(), &["metrics", a, b]);
    for (name, low, high) in [
        ("psnr", 5.0, 40.0),
        ("ssim_uniform", -1.0, 0.9),
        ("ssim_gaussian", -1.0, 0.9),
        ("nmi_1_2", 1.0, 1.9),
        ("nmi_0_1", 0.0, 0.9),
    ] {
        let value = other[name].as_f64().unwrap();
        assert!((low..high).contains(&value), "{name}: {value}");
    }
    assert!(message(folder.path(), &["metrics", a, "nowhere.png"]).contains("nowhere.png"));
    assert!(message(folder.path(), &["metrics", a, b, "--lpips", a]).contains(a));
    assert!(message(folder.path(), &["audit", "-o", "x", "--attacks", "z"]).contains("closed-form (a)"));
}
