//! 7. From pixels to decisions: a vision transformer in front of the encrypted head.
//!
//! The transformer stays with the hospital, and so do its pixels. What is encrypted is its CLS token of 768 numbers.
//! `Vit::load` takes a Hugging Face directory; here the weights are random, which serves to show the road and nothing
//! else: the tiles are painted by a program, and a head fitted on random features learns what paint they are made of.
//!
//! The fingerprint of transformer and preprocessing goes with the features into the head and the query. A head fitted on
//! one backbone refuses the tokens of another.
//!
//! Run it with `cargo run --example 07_images`.

use std::error::Error;

use arras::ckks::Context;
use arras::cpu::Cpu;
use arras::fit::metrics::{argmax, margin};
use arras::fit::tiles::TileSet;
use arras::fit::{Features, train};
use arras::heads::{LinearHead, Plan, Preset, Query, Rates, Reply, Shape};
use arras::secret::{Cipher, SecretKey};
use arras::vit::{Architecture, Device, Vit};
use image::{DynamicImage, RgbImage};

const TILES: TileSet = TileSet { size: 64, per_class: 60, patients: 8, sites: 2, seed: 7 };

fn main() -> Result<(), Box<dyn Error>> {
    // Images to tokens.
    let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cpu)?;
    let tokens = embedded(&vit)?;
    let (held_out, used): (Vec<usize>, Vec<usize>) = (0..tokens.rows()).partition(|row| row % 4 == 0);
    let (used, held_out) = (tokens.select(&used), tokens.select(&held_out));
    let head = train(&used, None)?.head;
    println!("{} tokens of {} numbers, from {}", tokens.rows(), tokens.dimension, vit.fingerprint());

    // Tokens to logits, encrypted on the way.
    let preset = Preset::named(Preset::DEFAULT)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let classes = head.class_count();
    let shape = Shape { dimension: tokens.dimension, hidden: None, classes };
    let plan = Plan::new([preset], shape, held_out.rows(), None, Rates::default())?;
    let bounds = preset.bounds_of(&held_out.values, held_out.dimension)?;
    println!("features up to {}, rows of norm up to {}", bounds.x_max, bounds.norm_max);
    let query = cipher.encrypt_features(plan.chosen.groups, &held_out.values, None)?.to_bytes();
    let server = LinearHead::new(&context, &head, bounds)?;
    let reply = Reply::from_bytes(&server.classify(&Query::from_bytes(&query)?)?.to_bytes())?;
    let logits = cipher.decrypt_logits(&reply)?;

    // No decision differs from the clear one by more than the bound allows.
    let clear: Vec<f64> = head.logits(&held_out.values).into_iter().map(f64::from).collect();
    let labels = held_out.labels.as_deref().unwrap_or_default();
    let mut right = 0;
    for (row, (clear, logits)) in clear.chunks_exact(classes).zip(logits.chunks_exact(classes)).enumerate() {
        assert!(argmax(clear) == argmax(logits) || margin(clear) <= 2.0 * reply.logit_bound);
        right += usize::from(labels.get(row) == Some(&head.classes[argmax(logits)]));
    }
    println!("{} bytes per image, {right} of {} tiles right", query.len() / held_out.rows(), held_out.rows());
    Ok(())
}

/// The tokens of all tiles, with their classes.
fn embedded(vit: &Vit) -> Result<Features, Box<dyn Error>> {
    let tiles = TILES.iter().collect::<Result<Vec<_>, _>>()?;
    let side = u32::try_from(TILES.size)?;
    let pixels = tiles.iter().map(|tile| {
        let image = RgbImage::from_raw(side, side, tile.rgb.clone()).ok_or("a tile is not square")?;
        Ok(vit.preprocessor().pixels(&DynamicImage::ImageRgb8(image))?)
    });
    let pixels = pixels.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    Ok(Features {
        dimension: vit.config().width(),
        values: vit.embed_batch(&pixels)?.concat(),
        names: tiles.iter().map(|tile| tile.name.clone()).collect(),
        labels: Some(tiles.iter().map(|tile| tile.class_name.to_owned()).collect()),
        groups: Some(tiles.iter().map(|tile| format!("patient-{}", tile.patient)).collect()),
        fingerprint: Some(vit.fingerprint().to_string()),
    })
}
