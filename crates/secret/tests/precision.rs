//! Errors are as large as the noise model says, and `docs/precision.md` shows the record.
#![allow(clippy::unwrap_used)]

mod measured;

use std::path::Path;

use measured::record;
use serde_json::Value;

fn holds(rows: Vec<Value>) {
    let wrong: Vec<String> = rows.iter().filter_map(|row| record::check(row).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() >= 2);
}

#[test]
fn one_digit_for_each_prime() {
    let sets = measured::sets();
    holds(measured::slots(&sets[0], 3));
    holds(measured::slots(&sets[1], 3));
}

#[test]
fn digits_of_two_primes_and_a_chain_of_five_products() {
    holds(measured::slots(&measured::sets()[2], 2));
}

#[test]
fn linear_heads() {
    for preset in measured::presets() {
        holds(measured::heads(preset, 3));
    }
}

#[test]
fn a_wrong_prediction_is_noticed() {
    let row = |measured: f64, worst: f64| {
        serde_json::json!({
            "set": "a", "operation": "b", "predicted": 20.0, "bound": 17.0, "band": measured::BAND,
            "measured": measured, "worst": worst,
        })
    };
    assert!(record::check(&row(20.1, 17.5)).is_ok());
    for (measured, worst) in [(19.4, 17.5), (20.6, 17.5), (20.0, 16.9), (f64::NAN, 17.5)] {
        assert!(record::check(&row(measured, worst)).is_err());
    }
}

#[test]
fn an_error_beyond_the_bound_and_another_class_are_noticed() {
    let row = |worst: f64, disagreements: u32| {
        serde_json::json!({
            "preset": "a", "layout": "b", "worst": worst, "bound": 10.0, "disagreements": disagreements,
        })
    };
    assert!(record::check_agreement(&row(10.5, 0)).is_ok());
    assert!(record::check_agreement(&row(9.5, 0)).is_err());
    assert!(record::check_agreement(&row(10.5, 1)).is_err());
}

/// Not part of the package: there is nothing to compare outside a checkout.
#[test]
fn the_page_shows_the_record_and_the_record_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = std::fs::read(root.join("records/precision/record.json")).unwrap();
    let kept: Value = serde_json::from_slice(&file).unwrap();
    let rows = kept["rows"].as_array().unwrap().iter().map(record::check);
    let agreements = kept["agreements"].as_array().unwrap();
    let wrong: Vec<String> =
        rows.chain(agreements.iter().map(record::check_agreement)).filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A hidden layer agrees with the clear model on a thousand images in each layout that serves one.
    for layout in ["slots", "rotations"] {
        let served = |row: &Value| row["layout"] == layout && row["hidden"] == 64 && row["images"] == 1000;
        assert!(agreements.iter().any(served), "{layout}");
    }
    let page = std::fs::read_to_string(root.join("docs/precision.md")).unwrap();
    let expected = record::with_table(&page, &record::table(&kept).unwrap()).unwrap();
    assert!(
        page == expected,
        "docs/precision.md differs: run `cargo run --release --example precision -- table`"
    );
}
