//! From features to logits through bytes, and what the clear model says of the same features.
#![allow(dead_code, clippy::unwrap_used, reason = "for tests and an example, none of which can go on")]

use arras_ckks::{Context, EvaluationKeys};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{
    Classifier, Head, Layout, Mlp, Model, ModelCard, Preset, Query, Reply, RotationsPlan, Shape,
};
use arras_secret::{Cipher, SecretKey};
use arras_wire::corpus::SplitMix64;

/// Nearly normal numbers, the same everywhere.
pub(crate) fn bells(rng: &mut SplitMix64, count: usize, deviation: f32) -> Vec<f32> {
    let mut uniform = || (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() * deviation).collect()
}

pub(crate) fn linear(rng: &mut SplitMix64, dimension: usize, classes: usize) -> Head {
    Head {
        weight: bells(rng, classes * dimension, 1.0 / (dimension as f32).sqrt()),
        bias: bells(rng, classes, 0.5),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    }
}

/// Units of variance near 1 on features of variance 1.
pub(crate) fn mlp(rng: &mut SplitMix64, dimension: usize, hidden: usize, classes: usize) -> Model {
    let weight = bells(rng, hidden * dimension, 1.0 / (dimension as f32).sqrt());
    Model::Mlp(Mlp { weight, bias: bells(rng, hidden, 0.3), output: linear(rng, hidden, classes) })
}

/// A client and a server.
pub(crate) struct Road {
    pub(crate) context: Context<Cpu>,
    pub(crate) key: SecretKey,
    pub(crate) preset: &'static Preset,
    pub(crate) model: Model,
}

/// What came of a query.
pub(crate) struct Outcome {
    pub(crate) logits: Vec<f64>,
    pub(crate) bound: f64,
    pub(crate) upload: usize,
    pub(crate) reply: usize,
}

impl Road {
    pub(crate) fn new(preset: &str, model: Model) -> Self {
        let preset = Preset::named(preset).unwrap();
        let context = Context::new(Cpu::with(Default::default()).unwrap(), preset.params.clone()).unwrap();
        Self { key: SecretKey::generate(&preset.params).unwrap(), context, preset, model }
    }

    pub(crate) fn keys(&self, layout: Layout) -> Option<EvaluationKeys<Cpu>> {
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

    pub(crate) fn walk(&self, layout: Layout, features: &[f32], groups_of: &[usize]) -> Outcome {
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

/// Classes that encrypted and clear logits name for the same images.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Agreement {
    /// Images whose class differs although the clear margin exceeds twice the bound.
    pub(crate) disagreements: usize,
    /// Images whose clear margin does not.
    pub(crate) ties: usize,
    /// Of the logits.
    pub(crate) largest: f64,
}

/// Holds logits against the clear ones.
pub(crate) fn compare(clear: &[f64], found: &[f64], classes: usize, bound: f64) -> Agreement {
    assert!(clear.len() == found.len() && found.iter().all(|logit| logit.is_finite()));
    let mut agreement = Agreement { disagreements: 0, ties: 0, largest: 0.0 };
    let argmax = |row: &[f64]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    for (clear, found) in clear.chunks(classes).zip(found.chunks(classes)) {
        let mut sorted = clear.to_vec();
        sorted.sort_by(f64::total_cmp);
        let tied = sorted[classes - 1] - sorted[classes - 2] <= 2.0 * bound;
        agreement.ties += usize::from(tied);
        agreement.disagreements += usize::from(!tied && argmax(clear) != argmax(found));
        let errors = clear.iter().zip(found).map(|(a, b)| (a - b).abs());
        agreement.largest = errors.fold(agreement.largest, f64::max);
    }
    agreement
}
