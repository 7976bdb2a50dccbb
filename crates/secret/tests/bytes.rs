//! What a key's owner reads, as bytes; what is printed of secrets; and wrong keys.
//! `ARRAS_BLESS=1` copies files of other crates' corpora that are missing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use arras_ckks::Context;
use arras_ckks::sampling::Sampler;
use arras_cpu::Cpu;
use arras_heads::{Groups, Layout, Preset, Reply};
use arras_secret::{Cipher, SecretKey, fuzz_one};
use arras_wire::corpus::{drive, is_golden};
use arras_wire::frame::{self, Kind};

#[test]
fn no_mutant_breaks_an_invariant() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = crates.join("secret/tests/corpus");
    for (from, name) in [
        ("heads", "reply-dot.bin"),
        ("heads", "reply-transposed.bin"),
        ("heads", "reply-slots.bin"),
        ("heads", "reply-rotations.bin"),
        ("ckks", "ciphertext-three.bin"),
        ("ckks", "public-key.bin"),
    ] {
        let bytes = std::fs::read(crates.join(from).join("tests/corpus").join(name)).unwrap();
        assert!(is_golden(&folder, name, &bytes).unwrap(), "{name}");
    }
    let report = drive(&folder, 1, Duration::from_secs(2), fuzz_one).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.entries >= 5 && report.runs > 200, "{report:?}");
}

#[test]
fn keys_survive_a_round_trip_and_nothing_else_passes() {
    let params = &Preset::named("linear").unwrap().params;
    let bytes = SecretKey::generate(params).unwrap().to_bytes();
    assert_eq!(bytes.len(), 56 + 8 + 2048 / 4);
    assert_eq!(SecretKey::from_bytes(&bytes, params).unwrap().to_bytes(), bytes);
    let other = &Preset::named("linear-wide").unwrap().params;
    let error = SecretKey::from_bytes(&bytes, other).unwrap_err().to_string();
    assert!(error.contains("made for other parameters"), "{error}");
    assert!((0..bytes.len()).all(|length| SecretKey::from_bytes(&bytes[..length], params).is_err()));
    let three = frame::encode(Kind::SecretKey, &params.fingerprint(), &[0xff; 8 + 512]);
    let error = SecretKey::from_bytes(&three, params).unwrap_err().to_string();
    assert_eq!(error, "field 'coefficients': a value is not -1, 0 or 1");
    let long = frame::encode(Kind::SecretKey, &params.fingerprint(), &[0; 8 + 513]);
    assert!(SecretKey::from_bytes(&long, params).unwrap_err().to_string().contains("1 unread bytes"));
}

#[test]
fn nothing_secret_is_printed() {
    let params = &Preset::named("linear").unwrap().params;
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let key = SecretKey::generate(params).unwrap();
    let cipher = Cipher::new(&context, &key).unwrap();
    let print = params.fingerprint();
    assert_eq!(format!("{key:?}"), format!("SecretKey(parameters {print})"));
    assert_eq!(format!("{cipher:?}"), format!("Cipher(parameters {print})"));
    assert_eq!(format!("{:#?}", Sampler::from_os().unwrap()), "Sampler");
    let plain = cipher.decrypt(&cipher.encrypt(&zeros(&context)).unwrap()).unwrap();
    assert_eq!(format!("{plain:?}"), "Plaintext { poly: Poly<evaluation>[1][{0}][2048], scale: 1024.0 }");
}

fn zeros(context: &Context<Cpu>) -> arras_ckks::Plaintext<Cpu> {
    arras_ckks::encoder::encode_coefficients(context, &[0.0; 8], 8, 10, 0).unwrap()
}

#[test]
fn every_call_has_a_seed_of_its_own() {
    let preset = Preset::named("linear").unwrap();
    let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
    let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params).unwrap()).unwrap();
    let groups = Groups::new(Layout::Dot, 2048, 4, 2).unwrap();
    let queries = (0..4).map(|_| cipher.encrypt_features(groups, &[0.5; 8], None).unwrap().seed);
    let ciphertexts = (0..4).map(|_| cipher.encrypt(&zeros(&context)).unwrap().seed.unwrap().seed);
    let mut seeds: Vec<_> = queries.chain(ciphertexts).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 8);
}

#[test]
fn wrong_keys_and_groups_are_refused_or_give_garbage() {
    let [linear, wide] = ["linear", "linear-wide"].map(|name| Preset::named(name).unwrap());
    let context = Context::new(Cpu::sequential(), linear.params.clone()).unwrap();
    let key = SecretKey::generate(&wide.params).unwrap();
    let error = Cipher::new(&context, &key).unwrap_err().to_string();
    let (ours, theirs) = (linear.params.fingerprint(), wide.params.fingerprint());
    assert_eq!(error, format!("the key belongs to parameters {theirs}, the context to {ours}"));

    let cipher = |_| Cipher::new(&context, &SecretKey::generate(&linear.params).unwrap()).unwrap();
    let [right, wrong] = [(), ()].map(cipher);
    let plain = arras_ckks::encoder::encode_coefficients(&context, &[1.0; 2048], 2048, 20, 0).unwrap();
    let garbage = wrong.decrypt(&right.encrypt(&plain).unwrap()).unwrap();
    let garbage = arras_ckks::encoder::decode_coefficients(&context, &garbage, 2048).unwrap();
    // Uniform modulo q: next to nothing lies near the message.
    assert!(garbage.iter().filter(|x| (*x - 1.0).abs() < 1e3).count() < 20);

    let refused =
        |groups, features: &[f32]| right.encrypt_features(groups, features, None).unwrap_err().to_string();
    let groups = Groups::new(Layout::Dot, 2048, 4, 2).unwrap();
    assert_eq!(refused(groups, &[0.0; 7]), "the number of features is 7, expected 8");
    let mut bad = [0.0; 8];
    bad[5] = f32::NAN;
    assert_eq!(refused(groups, &bad), "row 1: feature 1 is NaN, the preset 'linear' allows 16");
    let other = Groups::new(Layout::Dot, 1024, 4, 2).unwrap();
    assert_eq!(refused(other, &[0.0; 8]), "the ring degree is 1024, expected 2048");
    let mut none = groups;
    none.images = 0;
    assert_eq!(refused(none, &[]), "the number of images is 0, expected 1 to 1048576");

    let reply =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/reply-transposed.bin"));
    let reply = Reply::from_bytes(&reply.unwrap()).unwrap();
    let error = right.decrypt_logits(&reply).unwrap_err().to_string();
    assert!(error.contains("linear-compact"), "{error}");
}
