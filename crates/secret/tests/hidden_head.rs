//! Heads in slots and by rotations, with and without a hidden layer, from features to logits.
#![allow(clippy::unwrap_used)]

use arras_ckks::{Context, EvaluationKeys};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{
    Classifier, Head, Layout, Mlp, Model, ModelCard, Preset, Query, Reply, RotationsPlan, Shape,
};
use arras_secret::{Cipher, SecretKey};
use arras_wire::corpus::SplitMix64;

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
