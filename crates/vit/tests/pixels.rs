//! Agreement with the Pillow-based processors of transformers, on the images scripts/vit-fixtures.py writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::path::Path;

use arras_vit::config::{Architecture, FeedForward, Trunk};
use arras_vit::{Preprocessor, Size, decode, preprocess};
use support::{fixtures, tensors};

/// A model that takes images of any size.
fn any_size() -> Architecture {
    let Architecture::Vit(trunk, hidden) = Architecture::tiny() else { panic!("tiny is a ViT") };
    let trunk = Trunk { patch: Size::square(4), ..trunk };
    Architecture::Dinov2(trunk, FeedForward::Mlp(hidden))
}

fn processor(file: &Path) -> Preprocessor {
    let steps = preprocess::parse(&std::fs::read(file).unwrap(), &any_size()).unwrap();
    Preprocessor::new(steps, &any_size()).unwrap()
}

/// Largest difference in byte values. JPEG decoders round the inverse cosine transform and the upsampling of
/// chroma differently, by 2 at most here; filters with negative lobes add to it. All else is exact.
fn bound(processor: &str, image: &str) -> f32 {
    match image {
        "420.jpg" if ["lanczos", "bicubic"].contains(&processor) => 3.0,
        jpeg if jpeg.ends_with(".jpg") => 2.0,
        _ => 0.0,
    }
}

fn check(name: &str) {
    let folder = fixtures().join("pixels");
    let processor = processor(&folder.join(format!("{name}.json")));
    let expected = tensors(&folder.join(format!("{name}.safetensors")));
    assert_eq!(expected.len(), 16);
    let mut failures = String::new();
    for (image, stored) in expected {
        let (shape, bytes) = stored.bytes();
        let output = processor.output();
        assert_eq!(shape, [3, output.height, output.width]);
        let found = processor.load(&fixtures().join("images").join(&image)).unwrap();
        let worst = found.iter().zip(bytes).map(|(a, b)| (a - f32::from(*b)).abs()).fold(0.0, f32::max);
        if worst > bound(name, &image) {
            failures += &format!("{name} {image}: {worst}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn nearest() {
    check("nearest");
}

#[test]
fn lanczos() {
    check("lanczos");
}

#[test]
fn bilinear() {
    check("bilinear");
}

#[test]
fn bicubic() {
    check("bicubic");
}

#[test]
fn shortest_edge_then_crop() {
    check("crop");
}

#[test]
fn crop_larger_than_the_image() {
    check("pad");
}

#[test]
fn crop_without_resize() {
    check("no-resize");
}

#[test]
fn rescaling_and_normalisation_are_bit_exact() {
    let found = processor(&fixtures().join("ramp.json")).load(&fixtures().join("ramp.png")).unwrap();
    let expected = tensors(&fixtures().join("ramp.safetensors"));
    let (_, expected) = expected["values"].floats();
    assert!(found == expected);
}

#[test]
fn sixteen_bit_grey_keeps_its_high_byte() {
    let image = decode(&fixtures().join("images/grey16.png")).unwrap();
    let json = br#"{"do_resize": false, "do_rescale": false, "do_normalize": false, "crop_size": 5}"#;
    let steps = preprocess::parse(json, &any_size()).unwrap();
    let found = Preprocessor::new(steps, &any_size()).unwrap().pixels(&image).unwrap();
    assert_eq!(found[..5], [0.0, 0.0, 1.0, 128.0, 255.0]);
}
