//! 3. A classifier on encrypted features, from a table to decisions.
//!
//! Fisher's irises (1936): 150 flowers, 50 of each of three species, four lengths in centimetres. Two thirds of them are
//! used to fit a head, the remaining third is classified under encryption. Where a hospital has the CLS token of an image,
//! this has four lengths; the rest of the road is the same.
//!
//! A linear head sees only what its features say. The client may prepare them as it likes before it encrypts: here it
//! brings them to mean 0 and deviation 1, and adds their products in pairs, so that the head can bend its borders.
//!
//! The server holds weights and sees bytes. It learns how many rows there are and how long they are, nothing else; the client
//! learns the logits, and could compute the weights from enough of them.
//!
//! Run it with `cargo run --example 03_encrypted_head`.

use std::error::Error;

use arras::ckks::Context;
use arras::cpu::Cpu;
use arras::fit::metrics::{argmax, margin};
use arras::fit::{Features, import, train};
use arras::heads::{Head, LinearHead, Plan, Preset, Query, Rates, Reply, Shape};
use arras::secret::{Cipher, SecretKey};

const IRIS: &str = include_str!("data/iris.csv");

fn main() -> Result<(), Box<dyn Error>> {
    let flowers = prepared(&table()?);
    let (held_out, used): (Vec<usize>, Vec<usize>) = (0..flowers.rows()).partition(|row| row % 3 == 0);
    let (used, held_out) = (flowers.select(&used), flowers.select(&held_out));
    let trained = train(&used, None)?;
    println!("{} features, l2 = {} by leaving out each flower in turn", used.dimension, trained.fit.l2);

    // Client: a preset, its key, and a query as bytes. The plan finds the layout that costs least.
    let preset = Preset::named(Preset::DEFAULT)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let classes = trained.head.class_count();
    let shape = Shape { dimension: held_out.dimension, hidden: None, classes };
    let plan = Plan::new([preset], shape, held_out.rows(), None, Rates::default())?;
    let query = cipher.encrypt_features(plan.chosen.groups, &held_out.values, None)?.to_bytes();

    // Server: its own context for the same preset, no key.
    let reply = {
        let context = Context::new(Cpu::sequential(), preset.params.clone())?;
        let server = LinearHead::new(&context, &trained.head, preset.bounds)?;
        server.classify(&Query::from_bytes(&query)?)?.to_bytes()
    };

    // Client again.
    let reply_bytes = reply.len();
    let reply = Reply::from_bytes(&reply)?;
    let logits = cipher.decrypt_logits(&reply)?;
    let clear: Vec<f64> = trained.head.logits(&held_out.values).into_iter().map(f64::from).collect();

    println!("{}", plan.reason);
    println!("{} bytes up, {reply_bytes} bytes down for {} flowers", query.len(), held_out.rows());
    let (accuracy_clear, accuracy) =
        (accuracy(&trained.head, &held_out, &clear), accuracy(&trained.head, &held_out, &logits));
    println!("accuracy: {:.0} % in the clear, {:.0} % encrypted", 100.0 * accuracy_clear, 100.0 * accuracy);
    let errors = clear.iter().zip(&logits).map(|(a, b)| (a - b).abs());
    let worst = errors.fold(0.0, f64::max);
    println!("largest logit error {worst:.1e}, stated bound {:.1e}", reply.logit_bound);

    assert!(accuracy_clear >= 0.94);
    // The clear logits are rounded to single precision; the bound is on top of that.
    assert!(worst <= reply.logit_bound + f64::from(f32::EPSILON));
    for (clear, encrypted) in clear.chunks_exact(classes).zip(logits.chunks_exact(classes)) {
        assert!(margin(clear) <= 2.0 * reply.logit_bound || argmax(clear) == argmax(encrypted));
    }
    Ok(())
}

/// The flowers as the file has them: four lengths and a species.
fn table() -> Result<Features, Box<dyn Error>> {
    // The importer calls the column of classes `label`.
    let text = IRIS.replacen("species", "label", 1);
    Ok(import::from_csv("iris.csv", text.as_bytes())?)
}

/// Standardised columns, then the product of every pair of them.
fn prepared(raw: &Features) -> Features {
    let (rows, columns) = (raw.rows(), raw.dimension);
    let column = |j: usize| raw.values[j..].iter().step_by(columns);
    let scaled: Vec<(f32, f32)> = (0..columns)
        .map(|j| {
            let mean = column(j).sum::<f32>() / rows as f32;
            let variance = column(j).map(|x| (x - mean).powi(2)).sum::<f32>() / rows as f32;
            (mean, variance.sqrt())
        })
        .collect();
    let row = |x: &[f32]| {
        let mut row: Vec<f32> =
            x.iter().zip(&scaled).map(|(x, (mean, deviation))| (x - mean) / deviation).collect();
        let pairs = (0..columns).flat_map(|i| (0..=i).map(move |j| (i, j)));
        let products: Vec<f32> = pairs.map(|(i, j)| row[i] * row[j]).collect();
        row.extend(products);
        row
    };
    let values = raw.values.chunks_exact(columns).flat_map(row).collect();
    Features { dimension: columns + columns * (columns + 1) / 2, values, ..raw.clone() }
}

/// Share of rows whose largest logit is that of the species.
fn accuracy(head: &Head, features: &Features, logits: &[f64]) -> f64 {
    let labels = features.labels.iter().flatten();
    let decided = logits.chunks_exact(head.class_count()).map(|scores| &head.classes[argmax(scores)]);
    labels.zip(decided).filter(|(label, decided)| label == decided).count() as f64 / features.rows() as f64
}
