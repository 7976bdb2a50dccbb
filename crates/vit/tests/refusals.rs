//! Model folders that must be refused, each with one line that names the file and the field.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use arras_vit::{Device, Vit};
use safetensors::tensor::{Dtype, TensorView};
use support::copy_of;

/// Loads a copy of `model` after `damage`; the message must be one line with all of `parts` in it.
fn refused(model: &str, damage: impl FnOnce(&Path), parts: &[&str]) {
    let copy = copy_of(model);
    damage(copy.path());
    let error = Vit::load(copy.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.join(name), bytes).unwrap();
}

fn replace(dir: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(dir.join(name)).unwrap();
    assert!(text.contains(from));
    write(dir, name, text.replacen(from, to, 1));
}

/// Rewrites model.safetensors with `change` applied to one tensor's type, shape and bytes.
fn change_tensor(dir: &Path, name: &str, change: impl FnOnce(&mut (Dtype, Vec<usize>, Vec<u8>))) {
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<String, _> = parsed
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(tensors.get_mut(name).unwrap());
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn no_such_folder() {
    let error = Vit::load(Path::new("/no/such/folder"), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("/no/such/folder/config.json: "), "{error}");
}

#[test]
fn configuration() {
    refused("vit", |dir| fs::remove_file(dir.join("config.json")).unwrap(), &["config.json: "]);
    refused("vit", |dir| write(dir, "config.json", "{\"model_type\":"), &["config.json: document: "]);
    refused("vit", |dir| write(dir, "config.json", [0xff; 64]), &["config.json: document: "]);
    let patch = |dir: &Path| replace(dir, "config.json", "\"patch_size\": 4", "\"patch_size\": 0");
    refused("vit", patch, &["config.json: patch_size: ", "found 0"]);
    let act = |dir: &Path| replace(dir, "config.json", "\"gelu\"", "\"mish\"");
    refused("vit", act, &["config.json: hidden_act: ", "mish"]);
    let large = |dir: &Path| fs::File::create(dir.join("config.json")).unwrap().set_len(1 << 40).unwrap();
    refused("vit", large, &["config.json: document: ", "bytes"]);
}

#[test]
fn preprocessing() {
    let file = "preprocessor_config.json";
    refused("vit", |dir| write(dir, file, "{"), &[file, "document: "]);
    refused("vit", |dir| write(dir, file, r#"{"resample": 9}"#), &[file, "resample: ", "9"]);
    refused("vit", |dir| write(dir, file, r#"{"size": 224}"#), &[file, "size: ", "16x16", "224x224"]);
}

#[test]
fn missing_weights() {
    let remove = |dir: &Path| fs::remove_file(dir.join("model.safetensors")).unwrap();
    refused("vit", remove, &["model.safetensors: missing"]);
    let pickle = |dir: &Path| {
        remove(dir);
        write(dir, "pytorch_model.bin", "");
    };
    refused("vit", pickle, &["model.safetensors: missing; pytorch_model.bin is not read"]);
}

#[test]
fn missing_tensor() {
    let deeper =
        |dir: &Path| replace(dir, "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    refused("vit", deeper, &["model.safetensors: tensor encoder.layer.2.layernorm_before.weight: missing"]);
    let prefixed = "tensor vit.encoder.layer.2.layernorm_before.weight: missing";
    refused("vit-classifier", deeper, &[prefixed]);
    let other = |dir: &Path| replace(dir, "config.json", "\"vit\"", "\"dinov2\"");
    refused("vit-f16", other, &["tensor encoder.layer.0.norm1.weight: missing"]);
}

#[test]
fn wrong_shape() {
    let wider =
        |dir: &Path| replace(dir, "config.json", "\"intermediate_size\": 40", "\"intermediate_size\": 41");
    let tensor = "tensor encoder.layer.0.intermediate.dense.weight: expected shape [41, 24], found [40, 24]";
    refused("vit", wider, &["model.safetensors: ", tensor]);
}

#[test]
fn wrong_type() {
    let integer = |dir: &Path| {
        change_tensor(dir, "layernorm.bias", |(dtype, _, _)| *dtype = Dtype::I32);
    };
    refused("vit", integer, &["tensor layernorm.bias: expected F32, F16 or BF16, found I32"]);
}

#[test]
fn non_finite_weights() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let put = |dir: &Path| {
            change_tensor(dir, "layernorm.bias", |(_, _, data)| {
                data[12..16].copy_from_slice(&value.to_le_bytes())
            });
        };
        refused("vit", put, &["tensor layernorm.bias: value 3 is "]);
    }
}

#[test]
fn truncated_and_padded_weights() {
    let whole = fs::read(support::fixtures().join("models/vit/model.safetensors")).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        refused("vit", |dir| write(dir, "model.safetensors", &whole[..length]), &["model.safetensors: "]);
    }
    let padded = [&whole[..], &[0]].concat();
    refused("vit", |dir| write(dir, "model.safetensors", padded), &["model.safetensors: ", "padded"]);
}

#[test]
fn lying_headers() {
    let whole = fs::read(support::fixtures().join("models/vit/model.safetensors")).unwrap();
    for length in [0, 1, 100, whole.len() as u64, u64::MAX, u64::MAX - 7, 100_000_001] {
        let mut lying = whole.clone();
        lying[..8].copy_from_slice(&length.to_le_bytes());
        refused("vit", |dir| write(dir, "model.safetensors", lying), &["model.safetensors: header"]);
    }
    // Offsets beyond the file, overlapping, or not matching the shape.
    for (from, to) in [("[0,96]", "[0,99999999999]"), ("[0,96]", "[8,104]"), ("[1,1,24]", "[1,1,25]")] {
        let header_length = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        let header = String::from_utf8(whole[8..8 + header_length].to_vec()).unwrap();
        assert!(header.contains(from), "{header}");
        let header = header.replacen(from, to, 1);
        let length = (header.len() as u64).to_le_bytes();
        let lying = [&length[..], header.as_bytes(), &whole[8 + header_length..]].concat();
        refused("vit", |dir| write(dir, "model.safetensors", lying), &["model.safetensors: header: "]);
    }
}

#[test]
fn shards() {
    let model = "dinov2-swiglu-sharded";
    let index = "model.safetensors.index.json";
    refused(model, |dir| write(dir, index, "{"), &[index, "document: "]);
    refused(model, |dir| write(dir, index, "{}"), &[index, "weight_map: missing"]);
    refused(model, |dir| write(dir, index, r#"{"weight_map": []}"#), &[index, "weight_map: "]);
    let escape = r#"{"weight_map": {"w": "../model.safetensors"}}"#;
    refused(model, |dir| write(dir, index, escape), &[index, "weight_map.w: ", "../model.safetensors"]);
    let number = r#"{"weight_map": {"w": 3}}"#;
    refused(model, |dir| write(dir, index, number), &[index, "weight_map.w: "]);
    let gone = "model-00002-of-00004.safetensors";
    refused(model, |dir| fs::remove_file(dir.join(gone)).unwrap(), &[gone]);
    refused(model, |dir| write(dir, index, r#"{"weight_map": {}}"#), &[index, "cls_token: missing"]);
}
