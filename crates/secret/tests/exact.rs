//! The encrypted linear head against exact integer arithmetic, byte for byte.
#![allow(clippy::unwrap_used)]

mod oracle;

use arras_ckks::Context;
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{Head, Layout, LinearHead, ModelCard, Preset, Query, Reply};
use arras_secret::{Cipher, SecretKey};
use arras_wire::corpus::SplitMix64;

use oracle::{DEGREE, Field, Integers, Request};

fn uniform(rng: &mut SplitMix64, limit: f32) -> f32 {
    (rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 * limit - limit
}

fn head(rng: &mut SplitMix64, classes: usize, dimension: usize, limit: f32) -> Head {
    Head {
        weight: (0..classes * dimension).map(|_| uniform(rng, limit)).collect(),
        bias: (0..classes).map(|_| uniform(rng, 1.0)).collect(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    }
}

/// The coefficients of a key, out of its file.
fn ternary(key: &SecretKey) -> Vec<i64> {
    let bytes = key.to_bytes();
    // Behind the header of the frame and the key's id.
    let payload = &bytes[48 + 8..bytes.len() - 8];
    (0..DEGREE).map(|i| i64::from(payload[i / 4] >> (2 * (i % 4)) & 3) - 1).collect()
}

fn check(preset: &str, head: &Head, layout: Layout, images: usize, rng: &mut SplitMix64) {
    let preset = Preset::named(preset).unwrap();
    let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
    let key = SecretKey::generate(&preset.params).unwrap();
    let cipher = Cipher::new(&context, &key).unwrap();
    let features: Vec<f32> = (0..images * head.dimension()).map(|_| uniform(rng, 1.0)).collect();
    let groups = Groups::new(layout, DEGREE, head.dimension(), images).unwrap();
    let backbone = images.is_multiple_of(2).then_some([7; 32]);
    let query = cipher.encrypt_features(groups, &features, backbone).unwrap().to_bytes();
    let server = LinearHead::new(&context, head, preset.bounds).unwrap();
    let reply = server.classify(&Query::from_bytes(&query).unwrap()).unwrap();

    let budget = server.budget();
    let scale = f64::from(budget.weight_scale);
    let integers = Integers {
        weights: head
            .weight
            .chunks(head.dimension())
            .map(|row| row.iter().map(|&w| (f64::from(w) * scale).round_ties_even() as i64).collect())
            .collect(),
        bias: head
            .bias
            .iter()
            .map(|&b| (f64::from(b) * scale * preset.params.scale()).round_ties_even() as i64)
            .collect(),
        weight_scale: budget.weight_scale,
        reply_bits: budget.reply_bits as u8,
        logit_bound: budget.logit_bound,
    };
    let q = preset.params.ring().modulus(0).value();
    let request = Request::parse(&query);
    let case =
        format!("{} {layout:?} D={} C={} n={images}", preset.name, head.dimension(), head.class_count());
    let bytes = reply.to_bytes();
    assert!(bytes == oracle::reply(&Field::new(q), &request, &integers), "{case}");

    let unit = q as f64 / 2f64.powi(i32::from(integers.reply_bits)) / scale / preset.params.scale();
    let phases = oracle::phases(&request, &bytes, &ternary(&key));
    let logits = cipher.decrypt_logits(&Reply::from_bytes(&bytes).unwrap()).unwrap();
    assert_eq!(logits, phases.iter().map(|&phase| phase as f64 * unit).collect::<Vec<_>>(), "{case}");
    let rows = features.chunks(head.dimension());
    let clear = rows.flat_map(|x| head.weight.chunks(x.len()).zip(&head.bias).map(|(w, &b)| exact(w, x, b)));
    for (logit, clear) in logits.iter().zip(clear) {
        assert!(
            (logit - clear).abs() <= budget.logit_bound,
            "{case}: {logit} {clear} {}",
            budget.logit_bound
        );
    }
}

fn exact(weight: &[f32], x: &[f32], bias: f32) -> f64 {
    f64::from(bias) + weight.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>()
}

#[test]
fn the_oracle_interpolates() {
    let field = Field::new(562_941_363_486_721);
    let mut rng = SplitMix64::new(1);
    let values: Vec<u64> = (0..DEGREE).map(|_| rng.next_u64() >> 15).collect();
    let coefficients = field.interpolate(&values);
    for i in [0, 1, 2, 700, 2047] {
        let exponent = 2 * (usize::reverse_bits(i) >> (usize::BITS - 11)) + 1;
        assert_eq!(field.evaluate(&coefficients, exponent), values[i]);
    }
}

#[test]
fn dot_is_exact() {
    let mut rng = SplitMix64::new(2);
    for (preset, dimension, classes, images) in [
        ("linear", 768, 5, 1),
        ("linear", 768, 5, 3),
        ("linear-wide", 768, 2, 2),
        ("linear-compact", 100, 3, 41),
        ("linear", 2048, 2, 2),
        ("linear", 2047, 1, 1),
        ("linear", 1, 4, 2049),
        ("linear-compact", 3, 2, 683),
    ] {
        check(preset, &head(&mut rng, classes, dimension, 0.05), Layout::Dot, images, &mut rng);
    }
}

/// More polynomials than a piece holds, one that is not full, and classes that are worked on in several portions.
#[test]
fn dot_is_exact_beyond_one_piece() {
    let mut rng = SplitMix64::new(3);
    check("linear", &head(&mut rng, 3, 100, 0.05), Layout::Dot, 20 * 257 + 1, &mut rng);
    check("linear", &head(&mut rng, 5, 50, 0.05), Layout::Dot, 40 * 100, &mut rng);
}

#[test]
fn transposed_is_exact() {
    let mut rng = SplitMix64::new(4);
    for (preset, dimension, classes, images) in [
        ("linear", 768, 5, 3),
        ("linear-wide", 33, 4, 2100),
        ("linear-compact", 2, 3, 4096),
        ("linear-compact", 2049, 2, 2),
        ("linear", 1, 1, 1),
    ] {
        check(preset, &head(&mut rng, classes, dimension, 0.05), Layout::Transposed, images, &mut rng);
    }
}

#[test]
fn unusual_heads_are_exact() {
    let mut rng = SplitMix64::new(5);
    for layout in [Layout::Dot, Layout::Transposed] {
        let zero = Head { weight: vec![0.0; 8], bias: vec![0.0; 2], ..head(&mut rng, 2, 4, 1.0) };
        check("linear", &zero, layout, 3, &mut rng);
        let only_bias = Head { bias: vec![-3.0e4, 2.5e4], ..zero };
        check("linear", &only_bias, layout, 3, &mut rng);
        // Weights so large that a few bits remain for them, and so small that the largest scale is taken.
        check("linear", &head(&mut rng, 2, 50, 3.0e4), layout, 5, &mut rng);
        check("linear", &head(&mut rng, 2, 50, 1.0e-30), layout, 5, &mut rng);
        check("linear-compact", &head(&mut rng, 4096, 2, 1.0), layout, 1, &mut rng);
    }
}
