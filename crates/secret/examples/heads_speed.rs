//! How long the server takes for a head of 768 features and 5 classes in slots and by rotations, in units of the forward
//! transform of one limb in the same run. One thread; medians of interleaved rounds.
//!
//! `cargo run --release -p arras-secret --example heads_speed`

use std::time::Instant;

use arras_ckks::{Context, EvaluationKeys};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{Classifier, Head, Layout, Mlp, Model, ModelCard, Preset, RotationsPlan, Shape};
use arras_rns::{Backend, Coefficient, Input, Poly};
use arras_secret::{Cipher, SecretKey};

type Failure = Box<dyn std::error::Error>;

/// Numbers in [-1, 1), the same everywhere.
fn numbers(count: usize, limit: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * limit
    };
    (0..count).map(|_| next()).collect()
}

fn linear(dimension: usize) -> Head {
    let classes = (0..5).map(|class| class.to_string()).collect();
    Head { weight: numbers(5 * dimension, 0.05), bias: numbers(5, 1.0), classes, card: ModelCard::default() }
}

fn mlp() -> Mlp {
    Mlp { weight: numbers(64 * 768, 0.05), bias: numbers(64, 0.3), output: linear(64) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds of the transform of one limb.
fn unit(context: &Context<Cpu>) -> Result<impl Fn() -> Result<f64, Failure> + '_, Failure> {
    const BATCH: usize = 16;
    let limb = context.params().limbs_at(0);
    let poly: Poly<Cpu, Coefficient> = context.allocate(limb, BATCH)?;
    Ok(move || {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let mut out = context.allocate(limb, BATCH)?;
        backend.ntt(queue, tables, &mut out.view_mut(), Input::From(poly.view()))?;
        let started = Instant::now();
        backend.ntt(queue, tables, &mut out.view_mut(), Input::From(poly.view()))?;
        Ok(started.elapsed().as_secs_f64() / BATCH as f64)
    })
}

fn case(preset: &str, model: &Model, layout: Layout, images: usize, rounds: usize) -> Result<(), Failure> {
    let preset = Preset::named(preset)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let mut keys = None;
    if layout == Layout::Rotations {
        let mut all = EvaluationKeys::new(&preset.params);
        for (element, level) in RotationsPlan::new(&preset.params, Shape::of(model))?.keys()? {
            all.insert(&context, &cipher.evaluation_key(element, level)?)?;
        }
        keys = Some(all);
    }
    let started = Instant::now();
    let server = Classifier::new(&context, model, layout, preset.bounds, keys)?;
    let prepare = started.elapsed().as_secs_f64();
    let groups = Groups::new(layout, preset.params.degree(), model.dimension(), images)?;
    let started = Instant::now();
    let query = cipher.encrypt_features(groups, &numbers(images * model.dimension(), 1.0), None)?;
    let encrypt = started.elapsed().as_secs_f64();
    let (unit, mut units, mut whole, mut alone) = (unit(&context)?, Vec::new(), Vec::new(), Vec::new());
    // What the peers time: ciphertexts in memory, in the evaluation domain.
    let polynomials = groups.pieces().first().map_or(1, |piece| piece.polynomials);
    let limbs = preset.params.limbs();
    let components = vec![context.allocate(limbs, polynomials)?, context.allocate(limbs, polynomials)?];
    let features = arras_ckks::Ciphertext { components, scale: preset.params.scale(), seed: None };
    let mut workspace = match &server {
        Classifier::Rotations(head) => Some(head.workspace(polynomials)?),
        _ => None,
    };
    for _ in 0..rounds {
        units.push(unit()?);
        let started = Instant::now();
        server.classify(&query)?;
        whole.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        match (&server, &mut workspace) {
            (Classifier::Rotations(head), Some(workspace)) => drop(head.apply(&features, workspace)?),
            (Classifier::Slots(head), _) => drop(head.apply(&features)?),
            _ => {}
        }
        alone.push(started.elapsed().as_secs_f64());
    }
    let (unit, whole, alone) = (median(units), median(whole), median(alone));
    println!(
        "{:14} {:10} {images:5} images: classify {:9.3} ms = {:7.0} units, computation {:9.3} ms = {:7.0} units; unit {:.2} us, prepare {:.0} ms, encrypt {:.1} ms",
        preset.name,
        layout.name(),
        whole * 1e3,
        whole / unit,
        alone * 1e3,
        alone / unit,
        unit * 1e6,
        prepare * 1e3,
        encrypt * 1e3
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).is_some() {
        return case("paper", &Model::Linear(linear(768)), Layout::Rotations, 1, 200);
    }
    let (probe, mlp) = (Model::Linear(linear(768)), Model::Mlp(mlp()));
    case("paper", &probe, Layout::Rotations, 1, 25)?;
    case("paper", &probe, Layout::Slots, 4096, 3)?;
    case("mlp-rotations", &mlp, Layout::Rotations, 1, 9)?;
    case("mlp-rotations", &mlp, Layout::Rotations, 64, 3)?;
    case("mlp", &mlp, Layout::Slots, 2048, 3)?;
    case("mlp-precise", &mlp, Layout::Slots, 4096, 3)
}
