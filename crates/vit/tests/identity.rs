//! What the fingerprint covers, and that seeded weights and batches give the same numbers every time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arras_vit::config::{Activation, Trunk};
use arras_vit::{Architecture, Device, Fingerprint, Vit};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use support::{copy_of, fixtures};

fn fingerprint(dir: &Path) -> Fingerprint {
    Vit::load(dir, &Device::Cpu).unwrap().fingerprint()
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(file: &Path) -> Tensors {
    let bytes = fs::read(file).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let views = parsed.tensors().into_iter();
    views.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn write(file: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name, view)
    });
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn file_layout_does_not_matter() {
    // The sharded bf16 classifier as one bare f32 file without the classifier's own tensors.
    let sharded = fixtures().join("models/dinov2-swiglu-sharded");
    let mut all = Tensors::new();
    for shard in 1..=4 {
        for (name, (dtype, shape, data)) in
            read(&sharded.join(format!("model-0000{shard}-of-00004.safetensors")))
        {
            let Some(name) = name.strip_prefix("dinov2.") else { continue };
            assert_eq!(dtype, Dtype::BF16);
            let pairs = data.as_chunks::<2>().0;
            let wide =
                pairs.iter().flat_map(|pair| bf16::from_le_bytes(*pair).to_f32().to_le_bytes()).collect();
            all.insert(name.to_owned(), (Dtype::F32, shape, wide));
        }
    }
    let single = tempfile::tempdir().unwrap();
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(sharded.join(name), single.path().join(name)).unwrap();
    }
    write(&single.path().join("model.safetensors"), &all);
    assert_eq!(fingerprint(single.path()), fingerprint(&sharded));
}

#[test]
fn every_weight_matters_and_the_pooler_does_not() {
    let copy = copy_of("vit");
    let file = copy.path().join("model.safetensors");
    let original = read(&file);
    let before = fingerprint(copy.path());
    for name in original.keys() {
        let mut changed = original.clone();
        // The lowest bit of the last value.
        let data = &mut changed.get_mut(name).unwrap().2;
        let last = data.len() - 4;
        data[last] ^= 1;
        write(&file, &changed);
        assert_eq!(fingerprint(copy.path()) == before, name.starts_with("pooler"), "{name}");
    }
}

#[test]
fn every_field_of_the_configuration_that_changes_results_matters() {
    let copy = copy_of("vit");
    let before = fingerprint(copy.path());
    let config = fs::read_to_string(copy.path().join("config.json")).unwrap();
    for (from, to, same) in [
        ("\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": 1e-11", false),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", false),
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 4", false),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", false),
        ("\"qkv_bias\": true", "\"qkv_bias\": false", false),
        ("\"hidden_dropout_prob\": 0.0", "\"hidden_dropout_prob\": 0.5", true),
    ] {
        assert!(config.contains(from), "{from}");
        fs::write(copy.path().join("config.json"), config.replace(from, to)).unwrap();
        assert_eq!(fingerprint(copy.path()) == before, same, "{to}");
    }
}

#[test]
fn every_preprocessing_field_matters() {
    let copy = copy_of("vit");
    let file = copy.path().join("preprocessor_config.json");
    let mut seen = vec![fingerprint(copy.path())];
    for field in [
        r#""resample": 3"#,
        r#""do_resize": false"#,
        r#""size": {"shortest_edge": 16}"#,
        r#""do_center_crop": true, "crop_size": 16"#,
        r#""do_rescale": false"#,
        r#""rescale_factor": 0.0039"#,
        r#""do_normalize": false"#,
        r#""image_mean": [0.5, 0.4, 0.5]"#,
        r#""image_std": [0.5, 0.5, 0.4]"#,
    ] {
        let size = if field.contains("\"size\"") { "" } else { r#""size": 16, "# };
        fs::write(&file, format!("{{{size}{field}}}")).unwrap();
        let now = fingerprint(copy.path());
        assert!(!seen.contains(&now), "{field}");
        seen.push(now);
    }
    fs::write(&file, r#"{"size": {"height": 16, "width": 16}}"#).unwrap();
    assert_eq!(fingerprint(copy.path()), seen[0]);
}

fn small(image: usize) -> Architecture {
    let Architecture::Vit(trunk, _) = Architecture::tiny() else { panic!("tiny is a ViT") };
    let side = arras_vit::Size::square(image);
    Architecture::Vit(Trunk { image: side, width: 96, heads: 4, activation: Activation::Gelu, ..trunk }, 192)
}

#[test]
fn seeded_weights_are_pinned() {
    let vit = |seed| Vit::random(&small(32), seed, &Device::Cpu).unwrap().fingerprint();
    assert_eq!(vit(1).to_string(), "b4bda985b49c723ac106de4adae7091cf1edf83f01be5aa1a69fad63f6df3694");
    assert_ne!(vit(1), vit(2));
}

#[test]
fn a_batch_gives_what_single_images_give() {
    let vit = Vit::random(&small(40), 3, &Device::Cpu).unwrap();
    let image = |seed: usize| -> Vec<f32> {
        (0..vit.preprocessor().len()).map(|i| ((i * (seed + 7)) % 251) as f32 / 125.5 - 1.0).collect()
    };
    let images: Vec<_> = (0..5).map(image).collect();
    let together = vit.embed_batch(&images).unwrap();
    for (image, row) in images.iter().zip(&together) {
        let alone = &vit.embed_batch(&[image]).unwrap()[0];
        // Matrix products may add in another order for another number of rows.
        let worst = alone.iter().zip(row).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst}");
    }
    assert_ne!(together[0], together[1]);
    assert!(vit.embed_batch::<Vec<f32>>(&[]).unwrap().is_empty());
    let error = vit.embed_batch(&[&images[0][..], &images[1][1..]]).unwrap_err().to_string();
    assert!(error.starts_with("image 1: expected"), "{error}");
    let error = vit.embed_batch(&[vec![f32::NAN; images[0].len()]]).unwrap_err().to_string();
    assert_eq!(error, "image 0: the CLS token is not finite");
}

#[test]
fn invalid_architectures_are_refused() {
    let Architecture::Vit(trunk, hidden) = Architecture::tiny() else { panic!("tiny is a ViT") };
    for broken in [
        Trunk { patch: arras_vit::Size::square(0), ..trunk },
        Trunk { heads: 5, ..trunk },
        Trunk { depth: usize::MAX, ..trunk },
        Trunk { layer_norm_eps: f64::NAN, ..trunk },
    ] {
        let error = Vit::random(&Architecture::Vit(broken, hidden), 1, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains(": "), "{error}");
    }
}
