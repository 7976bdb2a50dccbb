//! Heads in slots and by rotations, with and without a hidden layer, from features to logits.
#![allow(clippy::unwrap_used)]

mod support;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::Evaluator;
use arras_ckks::fft::Complex;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Slots};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{
    Classifier, Head, Layout, Mlp, Model, ModelCard, Preset, Query, Reply, RotationsHead, RotationsPlan,
    Shape, SlotsHead,
};
use arras_secret::{Cipher, SecretKey};
use arras_wire::corpus::SplitMix64;
use support::{decrypt, encrypt, residues, single};

/// Nearly normal numbers, the same everywhere.
fn bells(rng: &mut SplitMix64, count: usize, deviation: f32) -> Vec<f32> {
    let mut uniform = || (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() * deviation).collect()
}

fn linear(rng: &mut SplitMix64, dimension: usize, classes: usize) -> Head {
    Head {
        weight: bells(rng, classes * dimension, 1.0 / (dimension as f32).sqrt()),
        bias: bells(rng, classes, 0.5),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    }
}

/// Units of variance near 1 on features of variance 1.
fn mlp(rng: &mut SplitMix64, dimension: usize, hidden: usize, classes: usize) -> Model {
    let weight = bells(rng, hidden * dimension, 1.0 / (dimension as f32).sqrt());
    Model::Mlp(Mlp { weight, bias: bells(rng, hidden, 0.3), output: linear(rng, hidden, classes) })
}

/// A client and a server.
struct Road {
    context: Context<Cpu>,
    key: SecretKey,
    preset: &'static Preset,
    model: Model,
}

/// What came of a query.
struct Outcome {
    logits: Vec<f64>,
    bound: f64,
    upload: usize,
    reply: usize,
}

impl Road {
    fn new(preset: &str, model: Model) -> Self {
        let preset = Preset::named(preset).unwrap();
        let context = Context::new(Cpu::with(Default::default()).unwrap(), preset.params.clone()).unwrap();
        Self { key: SecretKey::generate(&preset.params).unwrap(), context, preset, model }
    }

    fn keys(&self, layout: Layout) -> Option<EvaluationKeys<Cpu>> {
        let plan = RotationsPlan::new(&self.preset.params, Shape::of(&self.model));
        let cipher = Cipher::new(&self.context, &self.key).unwrap();
        (layout == Layout::Rotations).then(|| {
            let mut keys = EvaluationKeys::new(&self.preset.params);
            for (element, level) in plan.unwrap().keys().unwrap() {
                let key = cipher.evaluation_key(element, level).unwrap();
                keys.insert(&self.context, &key).unwrap();
            }
            keys
        })
    }

    fn walk(&self, layout: Layout, features: &[f32], groups_of: &[usize]) -> Outcome {
        let cipher = Cipher::new(&self.context, &self.key).unwrap();
        let (dimension, preset) = (self.model.dimension(), self.preset);
        let bounds = preset.bounds_of(features, dimension).unwrap();
        let server = Classifier::new(&self.context, &self.model, layout, bounds, self.keys(layout)).unwrap();
        let mut outcome = Outcome { logits: Vec::new(), bound: 0.0, upload: 0, reply: 0 };
        let mut first = 0;
        for &images in groups_of {
            let groups = Groups::new(layout, preset.params.degree(), dimension, images).unwrap();
            let rows = &features[first * dimension..(first + images) * dimension];
            let query = cipher.encrypt_features(groups, rows, None).unwrap().to_bytes();
            let reply = server.classify(&Query::from_bytes(&query).unwrap()).unwrap().to_bytes();
            let received = Reply::from_bytes(&reply).unwrap();
            outcome.logits.extend(cipher.decrypt_logits(&received).unwrap());
            outcome.bound = received.logit_bound;
            outcome.upload += query.len();
            outcome.reply += reply.len();
            first += images;
        }
        outcome
    }
}

/// Disagreements beyond ties, ties, and the largest error.
fn compare(clear: &[f64], found: &[f64], classes: usize, bound: f64) -> (usize, usize, f64) {
    assert_eq!(clear.len(), found.len());
    let (mut wrong, mut ties, mut largest) = (0, 0, 0f64);
    let argmax = |row: &[f64]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    for (clear, found) in clear.chunks(classes).zip(found.chunks(classes)) {
        let mut sorted = clear.to_vec();
        sorted.sort_by(f64::total_cmp);
        let tied = sorted[classes - 1] - sorted[classes - 2] <= 2.0 * bound;
        ties += usize::from(tied);
        wrong += usize::from(!tied && argmax(clear) != argmax(found));
        largest = clear.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(largest, f64::max);
    }
    (wrong, ties, largest)
}

#[test]
fn a_hidden_layer_agrees_on_a_thousand_images_in_both_layouts() {
    let mut rng = SplitMix64::new(7);
    let (dimension, images, classes) = (768, 1000, 5);
    let model = mlp(&mut rng, dimension, 64, classes);
    let features = bells(&mut rng, images * dimension, 1.0);
    let clear = model.scores(&features);
    for (preset, layout, most_ties) in [
        ("mlp", Layout::Slots, 250),
        ("mlp-precise", Layout::Slots, 2),
        ("mlp-rotations", Layout::Rotations, 10),
    ] {
        let started = std::time::Instant::now();
        let road = Road::new(preset, model.clone());
        let found = road.walk(layout, &features, &[images]);
        let (wrong, ties, largest) = compare(&clear, &found.logits, classes, found.bound);
        println!(
            "{preset} {}: bound {:.1e}, largest error {largest:.1e}, {ties} ties, {} bytes up, {} down per image, {:?}",
            layout.name(),
            found.bound,
            found.upload / images,
            found.reply / images,
            started.elapsed()
        );
        assert_eq!(wrong, 0);
        assert!(largest <= found.bound, "{preset}: {largest:e} > {:e}", found.bound);
        assert!(ties <= most_ties, "{preset}: {ties}");
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
        let (wrong, _, largest) = compare(&clear, &found.logits, classes, found.bound);
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
        let (wrong, _, largest) = compare(&clear, &found.logits, classes, found.bound);
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
            let (wrong, _, largest) = compare(&clear, &found.logits, classes, found.bound);
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
            let (_, _, largest) = compare(&road.model.scores(&features), &found.logits, 3, found.bound);
            assert!(largest <= found.bound, "{preset} {factor}: {largest:e} {:e}", found.bound);
        }
    }
}
