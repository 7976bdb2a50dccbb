//! 5. A head with a hidden layer, evaluated under encryption in two layouts.
//!
//! Features go through a matrix, are squared, and go through another matrix: `768 -> H -> square -> classes` for a hospital,
//! `4 -> 4 -> square -> 3` for the irises here (by rotations there can be no more hidden units than features). Squares are
//! what CKKS does well, and the head is trained with them.
//!
//! *slots* puts one feature of thousands of rows into a ciphertext and needs no key at the server. *rotations* puts a few
//! whole rows into one ciphertext; it needs evaluation keys, which the head's shape alone determines, so that a server can
//! publish the list. `Plan` says what each costs.
//!
//! Run it with `cargo run --example 05_hidden_layer`.

use std::error::Error;

use arras::ckks::{Context, EvaluationKeys};
use arras::cpu::Cpu;
use arras::fit::metrics::{argmax, margin};
use arras::fit::mlp::{Training, train_mlp};
use arras::fit::{Features, import};
use arras::heads::plan::candidates;
use arras::heads::{Classifier, Layout, Model, Plan, Preset, Query, Rates, Reply, RotationsPlan, Shape};
use arras::secret::{Cipher, SecretKey};

const IRIS: &str = include_str!("data/iris.csv");

fn main() -> Result<(), Box<dyn Error>> {
    let flowers = import::from_csv("iris.csv", IRIS.replacen("species", "label", 1).as_bytes())?;
    let training = Training { epochs: 200, ..Training::new(4) };
    let trained = train_mlp(&flowers, &training)?;
    let model = Model::Mlp(trained.mlp);
    println!("trained for {} epochs, validation loss {:.3}", trained.epoch, trained.validation_loss);

    let shape = Shape::of(&model);
    for images in [flowers.rows(), 4096] {
        let plan = Plan::new(candidates(true, false), shape, images, None, Rates::default())?;
        println!("{images} rows: {}", plan.reason);
    }
    for (preset, layout) in [("mlp", Layout::Slots), ("mlp-rotations", Layout::Rotations)] {
        let logits = classified(&flowers, &model, shape, Preset::named(preset)?, layout)?;
        compare(&flowers, &model, layout, &logits.0, logits.1);
    }
    Ok(())
}

/// The road there and back; the logits and the bound on their error.
fn classified(
    flowers: &Features,
    model: &Model,
    shape: Shape,
    preset: &'static Preset,
    layout: Layout,
) -> Result<(Vec<f64>, f64), Box<dyn Error>> {
    // Client.
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let groups = Plan::new([preset], shape, flowers.rows(), Some(layout), Rates::default())?.chosen.groups;
    let query = cipher.encrypt_features(groups, &flowers.values, None)?.to_bytes();
    let evaluation = match layout {
        Layout::Rotations => {
            let wanted = RotationsPlan::new(&preset.params, shape)?.keys()?;
            println!("{}: {} evaluation keys", layout.name(), wanted.len());
            let keys = wanted.iter().map(|(&element, &level)| cipher.evaluation_key(element, level));
            Some(keys.collect::<Result<Vec<_>, _>>()?)
        }
        _ => None,
    };

    // Server. In earnest the keys travel as bytes, like the query.
    let server = Context::new(Cpu::sequential(), preset.params.clone())?;
    let evaluation = evaluation.map(|keys| EvaluationKeys::from_keys(&server, &keys)).transpose()?;
    let classifier = Classifier::new(&server, model, layout, preset.bounds, evaluation)?;
    let reply = classifier.classify(&Query::from_bytes(&query)?)?.to_bytes();

    // Client.
    println!("{}: {} bytes up, {} bytes down", layout.name(), query.len(), reply.len());
    let reply = Reply::from_bytes(&reply)?;
    Ok((cipher.decrypt_logits(&reply)?, reply.logit_bound))
}

/// Every decision is that of the clear model, except where its margin is within the stated error.
fn compare(flowers: &Features, model: &Model, layout: Layout, logits: &[f64], bound: f64) {
    let clear = model.scores(&flowers.values);
    let classes = model.class_count();
    let worst = clear.iter().zip(logits).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (mut same, mut ties) = (0, 0);
    for (clear, encrypted) in clear.chunks_exact(classes).zip(logits.chunks_exact(classes)) {
        let is_same = argmax(clear) == argmax(encrypted);
        assert!(is_same || margin(clear) <= 2.0 * bound, "another decision at margin {}", margin(clear));
        same += usize::from(is_same);
        ties += usize::from(!is_same);
    }
    println!(
        "{}: {same} equal decisions, {ties} ties, largest error {worst:.1e} of {bound:.1e}",
        layout.name()
    );
    assert!(worst <= bound);
}
