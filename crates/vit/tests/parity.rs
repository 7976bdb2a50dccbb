//! Agreement with PyTorch transformers on the models that scripts/vit-fixtures.py writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use arras_vit::{Device, Vit};
use candle_core::Tensor;
use support::{fixtures, tensors};

/// Largest absolute difference allowed; values are of order one.
const BOUND: f32 = 1e-4;

fn check(name: &str) {
    let dir = fixtures().join("models").join(name);
    let vit = Vit::load(&dir, &Device::Cpu).unwrap();
    let expected = tensors(&dir.join("expected.safetensors"));
    let (shape, bytes) = expected["pixels"].bytes();
    let pixels: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
    let (token_shape, tokens) = expected["tokens"].floats();
    let d = token_shape[2];

    let input = Tensor::from_vec(pixels.clone(), shape, vit.candle_device()).unwrap();
    let states = vit.last_hidden_state(&input).unwrap();
    assert_eq!(states.dims(), token_shape);
    close(name, &states.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &tokens);

    let images: Vec<&[f32]> = pixels.chunks(pixels.len() / shape[0]).collect();
    let cls = vit.embed_batch(&images).unwrap();
    let first_of_each: Vec<f32> =
        tokens.chunks(token_shape[1] * d).flat_map(|image| &image[..d]).copied().collect();
    close(name, &cls.concat(), &first_of_each);
    assert_eq!(cls[0].len(), vit.config().width());
}

fn close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    assert!(largest > 0.5, "{name}: the expected values are too small to tell anything");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: largest difference {worst:.1e}");
    assert!(worst <= BOUND, "{name}: {worst}");
}

#[test]
fn vit_with_pooler() {
    check("vit");
}

#[test]
fn vit_without_qkv_bias_or_pooler_oblong_tanh_gelu() {
    check("vit-plain");
}

#[test]
fn vit_inside_a_classifier_quick_gelu() {
    check("vit-classifier");
}

#[test]
fn vit_in_f16_relu() {
    check("vit-f16");
}

#[test]
fn dinov2_with_layer_scale() {
    check("dinov2");
}

#[test]
fn dinov2_with_interpolated_positions() {
    check("dinov2-interpolated");
}

#[test]
fn dinov2_swiglu_in_bf16_shards() {
    check("dinov2-swiglu-sharded");
}
