//! The encrypted linear head: the whole roads of server and client, cut where bytes travel, and the parts that the layout
//! for many images is made of.

use std::collections::BTreeMap;
use std::hint::black_box;

use arras_ckks::Context;
use arras_heads::layout::Groups;
use arras_heads::{Head, Layout, LinearHead, ModelCard, Preset, Query, Reply};
use arras_rns::Backend;
use arras_secret::{Cipher, SecretKey};

use super::rig::{Shape, ensure};
use super::ring::{self, Entry, RingGroup, butterflies, matrix_product};
use super::{Group, Made, Ready, Visitor, Wanted};
use crate::device::{Device, Run};
use crate::random::SplitMix;
use crate::record::Work;
use crate::{Error, Result};

const CLASSES: usize = 5;
const FEATURES: usize = 768;
/// The degree and the size of the prime of the preset.
const DEGREE: usize = 2048;
const BITS: u32 = 49;

/// What a full batch is made of: one polynomial per feature.
pub(super) fn parts<B: Backend>() -> RingGroup<B> {
    const PARTS: [&str; 5] = [
        "ntt/forward",
        "ntt/inverse",
        "outside/expand_seed",
        "outside/unpack/by=coefficient",
        "outside/trim/bits=30",
    ];
    let shape = Shape { degree: DEGREE, limbs: 1, bits: BITS, batch: FEATURES };
    let mut entries = ring::entries();
    entries.retain(|entry: &Entry<B>| PARTS.contains(&entry.name));
    entries.push(Entry {
        name: "product/matrix/rows=5/columns=768",
        covers: &["matrix_product"],
        every_size: false,
        what: "integer matrix 5 x 768 times polynomials",
        make: |rig| matrix_product(rig, FEATURES),
    });
    RingGroup::headlines(shape, entries)
}

/// The roads, for one image and for a full batch.
pub(super) struct HeadGroup;

/// Who does the work.
#[derive(Clone, Copy)]
enum Road {
    Server,
    Encrypt,
    Decrypt,
}

const ROADS: [(Road, &str, &str); 3] = [
    (Road::Server, "head/linear/server", "server: query bytes to reply bytes"),
    (Road::Encrypt, "head/linear/encrypt", "client: features to query bytes"),
    (Road::Decrypt, "head/linear/decrypt", "client: reply bytes to logits"),
];

const LAYOUTS: [(Layout, usize); 2] = [(Layout::Dot, 1), (Layout::Transposed, DEGREE)];

fn name(road: &str, (layout, images): (Layout, usize)) -> String {
    format!("{road}/layout={}/images={images}", layout.name())
}

impl<D: Device> Group<D> for HeadGroup {
    fn names(&self) -> Vec<String> {
        LAYOUTS.iter().flat_map(|&layout| ROADS.iter().map(move |(_, road, _)| name(road, layout))).collect()
    }

    fn visit(&self, device: &D, wanted: Wanted<'_>, visitor: Visitor<'_, D::Backend>) -> Result<()> {
        let preset = Preset::named(Preset::DEFAULT)?;
        let context = Context::new(device.backend()?, preset.params.clone())?;
        let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params)?)?;
        let head = head();
        let server = LinearHead::new(&context, &head, preset.bounds)?;
        let mut numbers = SplitMix(3);
        let features: Vec<f32> = (0..DEGREE * FEATURES).map(|_| numbers.unit() as f32).collect();
        let mut ready = Vec::new();
        for layout in LAYOUTS {
            if !ROADS.iter().any(|(_, road, _)| wanted(&name(road, layout))) {
                continue;
            }
            let groups = Groups::new(layout.0, DEGREE, FEATURES, layout.1)?;
            let roads = Roads { cipher: &cipher, server: &server, groups };
            let features = &features[..layout.1 * FEATURES];
            let (query, reply) = roads.checked(&head, features)?;
            for &(road, start, what) in ROADS.iter().filter(|(_, road, _)| wanted(&name(road, layout))) {
                let made = roads.made(road, features, query.clone(), reply.clone());
                ready.push(Ready {
                    name: name(start, layout),
                    what: format!("{what}, layout {}, {}", layout.0.name(), count(layout.1)),
                    parameters: parameters(preset, layout),
                    items: made.items,
                    work: made.work,
                    footprint: made.footprint,
                    headline: true,
                    on: (context.backend(), context.queue()),
                    run: made.run,
                });
            }
        }
        visitor(&mut ready)
    }
}

fn count(images: usize) -> String {
    if images == 1 { "1 image".into() } else { format!("{images} images") }
}

fn parameters(preset: &Preset, (layout, images): (Layout, usize)) -> BTreeMap<String, serde_json::Value> {
    let parameters = [
        ("preset", preset.name.into()),
        ("degree", preset.params.degree().into()),
        ("modulus", preset.params.ring().modulus(0).value().into()),
        ("layout", layout.name().into()),
        ("images", images.into()),
        ("classes", CLASSES.into()),
        ("features", FEATURES.into()),
    ];
    parameters.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Weights of the size that fitted heads have.
fn head() -> Head {
    let mut numbers = SplitMix(1);
    let mut number = |scale: f64| (numbers.unit() * scale) as f32;
    Head {
        weight: (0..CLASSES * FEATURES).map(|_| number(0.05)).collect(),
        bias: (0..CLASSES).map(|_| number(1.0)).collect(),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    }
}

/// Client and server of one layout.
struct Roads<'f, B: Backend> {
    cipher: &'f Cipher<'f, B>,
    server: &'f LinearHead<'f, B>,
    groups: Groups,
}

impl<'f, B: Backend> Roads<'f, B> {
    /// Query and reply as bytes, whose logits are those of the clear head in double precision, up to the stated bound.
    fn checked(&self, head: &Head, features: &[f32]) -> Result<(Vec<u8>, Vec<u8>)> {
        let query = self.cipher.encrypt_features(self.groups, features, None)?.to_bytes();
        let bytes = self.server.classify(&Query::from_bytes(&query)?)?.to_bytes();
        let reply = Reply::from_bytes(&bytes)?;
        let logits = self.cipher.decrypt_logits(&reply)?;
        for (image, (x, logits)) in
            features.chunks_exact(FEATURES).zip(logits.chunks_exact(CLASSES)).enumerate()
        {
            let rows = head.weight.chunks_exact(FEATURES).zip(&head.bias);
            for ((w, &bias), &logit) in rows.zip(logits) {
                let product: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                let error = (product + f64::from(bias) - logit).abs();
                ensure(error <= reply.logit_bound, || format!("image {image}: an error of {error:e}"))
                    .map_err(|error| match error {
                        Error::Wrong { problem, .. } => Error::wrong("head/linear", problem),
                        other => other,
                    })?;
            }
        }
        Ok((query, bytes))
    }

    fn made(&self, road: Road, features: &'f [f32], query: Vec<u8>, reply: Vec<u8>) -> Made<'f> {
        let (cipher, server, groups) = (self.cipher, self.server, self.groups);
        let images = groups.images as u64;
        let (asked, answered) = (query.len() as u64, reply.len() as u64);
        let (products, columns) = ((CLASSES * DEGREE) as u64, FEATURES as u64);
        let (read, written, multiplications) = match (road, groups.layout == Layout::Dot) {
            // Both components times the matrix; the masks' products are transformed back.
            (Road::Server, false) => (asked, answered, 2 * columns * products + butterflies(DEGREE, CLASSES)),
            // One polynomial forward, products of both components back.
            (Road::Server, true) => (asked, answered, 2 * products + butterflies(DEGREE, 1 + 2 * CLASSES)),
            // The masks times the secret, back.
            (Road::Encrypt, is_dot) => {
                let polynomials = if is_dot { 1 } else { FEATURES };
                let multiplications = (polynomials * DEGREE) as u64 + butterflies(DEGREE, polynomials);
                (4 * images * columns, asked, multiplications)
            }
            (Road::Decrypt, _) => {
                (answered, 8 * images * CLASSES as u64, products + butterflies(DEGREE, 2 * CLASSES))
            }
        };
        let work = Work { read, written, multiplications };
        let run: Run<'f> = match road {
            Road::Server => Box::new(move || {
                black_box(server.classify(&Query::from_bytes(&query)?)?.to_bytes());
                Ok(())
            }),
            Road::Encrypt => Box::new(move || {
                black_box(cipher.encrypt_features(groups, features, None)?.to_bytes());
                Ok(())
            }),
            Road::Decrypt => Box::new(move || {
                black_box(cipher.decrypt_logits(&Reply::from_bytes(&reply)?)?);
                Ok(())
            }),
        };
        Made { work, footprint: read + written, items: (images, "image"), run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_the_preset_s_shape() {
        let params = &Preset::named(Preset::DEFAULT).unwrap().params;
        assert_eq!((params.degree(), params.ring().modulus(0).bits()), (DEGREE, BITS));
        assert_eq!(params.ring().moduli().len(), 1);
    }
}
