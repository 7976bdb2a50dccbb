//! Heads in slots and by rotations, with and without a hidden layer, from features to logits.
#![allow(clippy::unwrap_used)]

#[path = "measured/road.rs"]
mod road;
mod support;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::Evaluator;
use arras_ckks::fft::Complex;
use arras_ckks::{Ciphertext, Slots};
use arras_cpu::Cpu;
use arras_heads::{Layout, Model, RotationsHead, SlotsHead};
use arras_secret::Cipher;
use arras_wire::corpus::SplitMix64;
use road::{Agreement, Road, bells, compare, linear, mlp};
use support::{decrypt, encrypt, residues, single};

/// In slots a thousand images cost as much as one. By rotations they are too many for a test: `examples/precision.rs` asks
/// the same of a thousand in every layout, and `tests/precision.rs` holds its record against it.
#[test]
fn a_hidden_layer_agrees_on_many_images_in_both_layouts() {
    let mut rng = SplitMix64::new(7);
    let (dimension, classes) = (768, 5);
    let model = mlp(&mut rng, dimension, 64, classes);
    let features = bells(&mut rng, 1000 * dimension, 1.0);
    for (preset, layout, images, most_ties) in [
        ("mlp", Layout::Slots, 1000, 250),
        ("mlp-precise", Layout::Slots, 1000, 2),
        // More than a piece.
        ("mlp-rotations", Layout::Rotations, 40, 2),
    ] {
        let features = &features[..images * dimension];
        let road = Road::new(preset, model.clone());
        let found = road.walk(layout, features, &[images]);
        let agreement = compare(&model.scores(features), &found.logits, classes, found.bound);
        println!("{preset} {}: bound {:.1e}, {agreement:?}", layout.name(), found.bound);
        assert_eq!(agreement.disagreements, 0);
        assert!(agreement.largest <= found.bound, "{preset}: {agreement:?} {:e}", found.bound);
        assert!(agreement.ties <= most_ties, "{preset}: {agreement:?}");
    }
}

#[test]
fn linear_heads_keep_their_bound_at_the_papers_parameters() {
    let mut rng = SplitMix64::new(8);
    let (dimension, images, classes) = (768, 11, 5);
    let model = Model::Linear(linear(&mut rng, dimension, classes));
    let features = bells(&mut rng, images * dimension, 1.0);
    let clear = model.scores(&features);
    for layout in [Layout::Slots, Layout::Rotations] {
        let found = Road::new("paper", model.clone()).walk(layout, &features, &[images]);
        let Agreement { disagreements: wrong, largest, .. } =
            compare(&clear, &found.logits, classes, found.bound);
        println!("paper {}: bound {:.1e}, largest error {largest:.1e}", layout.name(), found.bound);
        assert!(wrong == 0 && largest <= found.bound && found.bound < 1e-4, "{largest:e} {:e}", found.bound);
    }
}

#[test]
fn hidden_linear_heads_keep_their_bound_and_their_size() {
    let mut rng = SplitMix64::new(9);
    let (dimension, images, classes) = (768, 300, 5);
    let model = Model::Linear(linear(&mut rng, dimension, classes));
    let features = bells(&mut rng, images * dimension, 1.0);
    let clear = model.scores(&features);
    for layout in [Layout::Dot, Layout::Transposed] {
        let found = Road::new("linear-hidden", model.clone()).walk(layout, &features, &[images]);
        let Agreement { disagreements: wrong, largest, .. } =
            compare(&clear, &found.logits, classes, found.bound);
        println!(
            "linear-hidden {}: bound {:.1e}, largest error {largest:.1e}, {} up and {} down per image",
            layout.name(),
            found.bound,
            found.upload / images,
            found.reply / images
        );
        assert!(wrong == 0 && largest <= found.bound && found.bound < 1e-3, "{largest:e} {:e}", found.bound);
        assert!(found.upload / images <= 9_800, "{}", found.upload);
        // The flood is there: the error is nearer to the bound than it would be without.
        assert!(largest > found.bound / 20.0, "{largest:e} {:e}", found.bound);
    }
}

#[test]
fn batches_give_what_single_images_give() {
    let mut rng = SplitMix64::new(10);
    let (dimension, classes) = (100, 3);
    let model = mlp(&mut rng, dimension, 10, classes);
    for (preset, layout, images) in [
        ("mlp-precise", Layout::Slots, 7),
        // 32 images in a ciphertext, more than four of which make a second piece.
        ("mlp-rotations", Layout::Rotations, 150),
    ] {
        let features = bells(&mut rng, images * dimension, 1.0);
        let clear = model.scores(&features);
        let road = Road::new(preset, model.clone());
        let whole = road.walk(layout, &features, &[images]);
        let parts = road.walk(layout, &features, &[1, 2, images - 3]);
        for found in [&whole, &parts] {
            let Agreement { disagreements: wrong, largest, .. } =
                compare(&clear, &found.logits, classes, found.bound);
            assert!(wrong == 0 && largest <= found.bound, "{preset}: {largest:e} {:e}", found.bound);
        }
    }
}

#[test]
fn a_batch_of_ciphertexts_gives_the_bits_of_each_alone() {
    let mut rng = SplitMix64::new(11);
    let road = Road::new("mlp-rotations", mlp(&mut rng, 48, 8, 3));
    let (context, params) = (&road.context, &road.preset.params);
    let keys = road.keys(Layout::Rotations).unwrap();
    let head = RotationsHead::new(context, &road.model, road.preset.bounds, keys).unwrap();
    let cipher = Cipher::new(context, &road.key).unwrap();
    let encoder = SlotEncoder::new(params.degree(), Slots::GENERATOR).unwrap();
    let values: Vec<Complex> =
        bells(&mut rng, 3 * encoder.slots(), 1.0).into_iter().map(|x| Complex::new(x.into(), 0.0)).collect();
    let batch = encrypt(&cipher, &encoder, &values, params.max_level());
    let mut workspace = head.workspace(3).unwrap();
    let together = residues(context, &head.apply(&batch, &mut workspace).unwrap());
    for index in 0..3 {
        let alone = head.apply(&single(context, &batch, index), &mut workspace).unwrap();
        let size = params.degree();
        for (alone, together) in residues(context, &alone).iter().zip(&together) {
            assert!(alone[..] == together[index * size..(index + 1) * size], "{index}");
        }
    }
    // Wrong scale, level exhausted.
    let wrong = Ciphertext { scale: 2.0, ..single(context, &batch, 0) };
    let message = head.apply(&wrong, &mut workspace).unwrap_err().to_string();
    assert_eq!(message, "head by rotations: scales 2^1.000 and 2^44.000 differ");
    let low = Evaluator::new(context).drop_to_level(&batch, 2).unwrap();
    let message = head.apply(&low, &mut workspace).unwrap_err().to_string();
    assert_eq!(message, "drop_to_level: needs level 3, the ciphertext is at level 2");
    // A rotation beyond the slots of the ring.
    let keys = road.keys(Layout::Rotations).unwrap();
    let message =
        Evaluator::new(context).rotate(&batch, 4096, &keys, &mut workspace).unwrap_err().to_string();
    assert_eq!(message, "rotation by 4096 is beyond the 4096 slots");
}

#[test]
fn heads_in_slots_refuse_what_does_not_fit() {
    let mut rng = SplitMix64::new(12);
    let road = Road::new("mlp", mlp(&mut rng, 5, 4, 3));
    let (context, params) = (&road.context, &road.preset.params);
    let head = SlotsHead::new(context, &road.model, road.preset.bounds).unwrap();
    let cipher = Cipher::new(context, &road.key).unwrap();
    let encoder = SlotEncoder::new(params.degree(), Slots::GENERATOR).unwrap();
    let encrypted = |count: usize| {
        let values = vec![Complex::new(0.25, 0.0); count * encoder.slots()];
        encrypt(&cipher, &encoder, &values, params.max_level())
    };
    let refused = |features: &Ciphertext<Cpu>| head.apply(features).unwrap_err().to_string();
    assert_eq!(refused(&encrypted(4)), "the head takes 5 features, the query has 4");
    let low = Evaluator::new(context).drop_to_level(&encrypted(5), 0).unwrap();
    assert_eq!(refused(&low), "slots: needs level 1, the ciphertext is at level 0");
    let wrong = Ciphertext { scale: 4.0, ..encrypted(5) };
    assert_eq!(refused(&wrong), "slots: scales 2^2.000 and 2^20.000 differ");
    let logits = head.apply(&encrypted(5)).unwrap();
    assert_eq!((logits.components.len(), logits.level(), logits.batch()), (3, 0, 3));
    let found = decrypt(&cipher, &encoder, &logits);
    let clear = road.model.scores(&[0.25; 5]);
    for (class, clear) in clear.iter().enumerate() {
        let found = found[class * encoder.slots() + 17].re;
        assert!((found - clear).abs() <= head.budget().logit_bound, "{found} {clear}");
    }
}

#[test]
fn heads_of_zeros_and_of_tiny_weights_are_served() {
    let mut rng = SplitMix64::new(13);
    for (preset, layout) in [("mlp", Layout::Slots), ("mlp-rotations", Layout::Rotations)] {
        for factor in [0.0, 1e-6] {
            let Model::Mlp(mut small) = mlp(&mut rng, 5, 4, 3) else { unreachable!() };
            for weights in [&mut small.weight, &mut small.bias, &mut small.output.weight] {
                weights.iter_mut().for_each(|w| *w *= factor);
            }
            let road = Road::new(preset, small.into());
            let features = bells(&mut rng, 10, 1.0);
            let found = road.walk(layout, &features, &[2]);
            let agreement = compare(&road.model.scores(&features), &found.logits, 3, found.bound);
            assert!(agreement.largest <= found.bound, "{preset} {factor}: {agreement:?} {:e}", found.bound);
        }
    }
}
