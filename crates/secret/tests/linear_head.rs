//! The encrypted linear head from features to logits, in both layouts.
#![allow(clippy::unwrap_used)]

use arras_ckks::Context;
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{Head, Layout, LinearHead, ModelCard, Preset, Query, Reply};
use arras_secret::{Cipher, SecretKey};

/// Numbers in [-1, 1) that look random and are the same everywhere.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn head(classes: usize, dimension: usize) -> Head {
    let weight = numbers(classes * dimension, 1).into_iter().map(|w| w * 0.05).collect();
    let names = (0..classes).map(|class| class.to_string()).collect();
    Head { weight, bias: numbers(classes, 2), classes: names, card: ModelCard::default() }
}

#[test]
fn logits_keep_the_stated_bound_in_every_layout_and_preset() {
    for preset in Preset::all().iter().filter(|preset| preset.layouts.contains(&Layout::Dot) && !preset.hides)
    {
        let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
        let key = SecretKey::generate(&preset.params).unwrap();
        let cipher = Cipher::new(&context, &key).unwrap();
        for (layout, dimension, classes, images) in [
            (Layout::Dot, 768, 5, 1),
            (Layout::Dot, 768, 5, 7),
            (Layout::Dot, 100, 3, 41),
            (Layout::Dot, 2048, 2, 2),
            (Layout::Transposed, 768, 5, 3),
            (Layout::Transposed, 33, 4, 2100),
        ] {
            let head = head(classes, dimension);
            let features = numbers(images * dimension, 3);
            let groups = Groups::new(layout, preset.params.degree(), dimension, images).unwrap();
            let query = cipher.encrypt_features(groups, &features, None).unwrap().to_bytes();
            let server = LinearHead::new(&context, &head, preset.bounds).unwrap();
            let reply = server.classify(&Query::from_bytes(&query).unwrap()).unwrap();
            let reply = Reply::from_bytes(&reply.to_bytes()).unwrap();
            let logits = cipher.decrypt_logits(&reply).unwrap();
            let clear = head.logits(&features);
            let worst = logits.iter().zip(&clear).map(|(x, &y)| (x - f64::from(y)).abs()).fold(0.0, f64::max);
            println!(
                "{} {layout:?} D={dimension} C={classes} n={images}: up {} down {} bound {:.1e} worst {worst:.1e}",
                preset.name,
                query.len(),
                reply.to_bytes().len(),
                reply.logit_bound
            );
            assert!(worst <= reply.logit_bound + 1e-6, "{layout:?} {dimension} {classes} {images}: {worst}");
        }
    }
}
