//! The encrypted heads: the whole roads of server and client, cut where bytes travel, and the parts that the layout for many
//! images is made of.

use std::collections::BTreeMap;
use std::hint::black_box;

use arras_ckks::{Context, EvaluationKeys};
use arras_heads::layout::{Groups, Piece};
use arras_heads::plan::key_size;
use arras_heads::{
    Classifier, Head, Layout, Mlp, Model, ModelCard, Preset, Query, Reply, RotationsPlan, Shape as Heads,
};
use arras_rns::Backend;
use arras_secret::{Cipher, SecretKey};
use serde_json::Value;

use super::rig::{Shape, ensure};
use super::ring::{self, Entry, RingGroup, butterflies, matrix_product};
use super::{Group, Ready, Visitor, Wanted};
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

/// Who does the work.
#[derive(Clone, Copy)]
enum Road {
    Server,
    Encrypt,
    Decrypt,
}

const ROADS: [(Road, &str, &str); 3] = [
    (Road::Server, "server", "server: query bytes to reply bytes"),
    (Road::Encrypt, "encrypt", "client: features to query bytes"),
    (Road::Decrypt, "decrypt", "client: reply bytes to logits"),
];

/// Units of the hidden layer.
const HIDDEN: usize = 64;

/// A kind of head under a preset, and the queries that are measured.
struct Spec {
    preset: &'static str,
    hidden: Option<usize>,
    queries: &'static [(Layout, usize)],
}

/// Single images and full batches. `paper` by rotations is the head of arXiv 2511.20983: N = 8192, primes of 60, 40, 40 and 60
/// bits, 768 features and 5 classes.
const SPECS: [Spec; 4] = [
    Spec {
        preset: Preset::DEFAULT,
        hidden: None,
        queries: &[(Layout::Dot, 1), (Layout::Transposed, DEGREE)],
    },
    Spec { preset: "paper", hidden: None, queries: &[(Layout::Rotations, 1), (Layout::Slots, 4096)] },
    Spec { preset: "mlp", hidden: Some(HIDDEN), queries: &[(Layout::Slots, 2048)] },
    Spec { preset: "mlp-rotations", hidden: Some(HIDDEN), queries: &[(Layout::Rotations, 1)] },
];

impl Spec {
    fn kind(&self) -> &'static str {
        if self.hidden.is_some() { "mlp" } else { "linear" }
    }

    fn name(&self, road: &str, (layout, images): (Layout, usize)) -> String {
        let hidden = self.hidden.map_or_else(String::new, |units| format!("/hidden={units}"));
        let preset = match self.preset {
            Preset::DEFAULT => String::new(),
            preset => format!("/preset={preset}"),
        };
        format!("head/{}/{road}/layout={}/images={images}{hidden}{preset}", self.kind(), layout.name())
    }

    fn parameters(&self, preset: &Preset, (layout, images): (Layout, usize)) -> BTreeMap<String, Value> {
        let params = &preset.params;
        let moduli: Vec<u64> = params.ring().moduli().iter().map(|modulus| modulus.value()).collect();
        let parameters = [
            ("preset", preset.name.into()),
            ("degree", params.degree().into()),
            ("moduli", moduli.into()),
            ("special", params.special_limbs().len().into()),
            ("layout", layout.name().into()),
            ("images", images.into()),
            ("classes", CLASSES.into()),
            ("features", FEATURES.into()),
            ("hidden", self.hidden.into()),
        ];
        parameters.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// The roads of one kind of head.
pub(super) struct HeadGroup {
    spec: &'static Spec,
}

impl HeadGroup {
    /// All kinds.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        SPECS.iter().map(|spec| Self { spec })
    }
}

impl<D: Device> Group<D> for HeadGroup {
    fn names(&self) -> Vec<String> {
        let name = |&query| ROADS.iter().map(move |(_, road, _)| self.spec.name(road, query));
        self.spec.queries.iter().flat_map(name).collect()
    }

    fn visit(&self, device: &D, wanted: Wanted<'_>, visitor: Visitor<'_, D::Backend>) -> Result<()> {
        let spec = self.spec;
        let preset = Preset::named(spec.preset)?;
        let context = Context::new(device.backend()?, preset.params.clone())?;
        let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params)?)?;
        let model = model(spec.hidden);
        let mut numbers = SplitMix(3);
        let most = spec.queries.iter().map(|(_, images)| *images).max().unwrap_or(0);
        let features: Vec<f32> = (0..most * FEATURES).map(|_| numbers.unit() as f32).collect();
        let wanted_query =
            |query: &&(Layout, usize)| ROADS.iter().any(|(_, road, _)| wanted(&spec.name(road, **query)));
        let queries: Vec<(Layout, usize)> = spec.queries.iter().filter(wanted_query).copied().collect();
        let roads = queries
            .iter()
            .map(|&(layout, images)| {
                Roads::new(&cipher, &model, preset, layout, &features[..images * FEATURES])
            })
            .collect::<Result<Vec<_>>>()?;
        let mut ready = Vec::new();
        for (&query, roads) in queries.iter().zip(&roads) {
            for &(road, start, what) in &ROADS {
                let name = spec.name(start, query);
                if !wanted(&name) {
                    continue;
                }
                let work = roads.work(road, &model)?;
                ready.push(Ready {
                    name,
                    what: spec.what(what, query),
                    parameters: spec.parameters(preset, query),
                    items: (query.1 as u64, "image"),
                    work,
                    footprint: work.read + work.written,
                    headline: true,
                    on: (context.backend(), context.queue()),
                    run: roads.run(road),
                });
            }
        }
        visitor(&mut ready)
    }
}

impl Spec {
    fn what(&self, road: &str, (layout, images): (Layout, usize)) -> String {
        let images = if images == 1 { "1 image".into() } else { format!("{images} images") };
        let hidden = self.hidden.map_or_else(String::new, |units| format!(", {units} hidden units"));
        let preset = match self.preset {
            Preset::DEFAULT => String::new(),
            preset => format!(", preset {preset}"),
        };
        format!("{road}, layout {}, {images}{hidden}{preset}", layout.name())
    }
}

/// Weights of the size that fitted heads have.
fn model(hidden: Option<usize>) -> Model {
    let mut numbers = SplitMix(1);
    let mut number = |scale: f64| (numbers.unit() * scale) as f32;
    let mut head = |columns: usize| Head {
        weight: (0..CLASSES * columns).map(|_| number(0.05)).collect(),
        bias: (0..CLASSES).map(|_| number(1.0)).collect(),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    };
    let Some(hidden) = hidden else { return head(FEATURES).into() };
    let output = head(hidden);
    let weight = (0..hidden * FEATURES).map(|_| number(0.05)).collect();
    Mlp { weight, bias: (0..hidden).map(|_| number(0.5)).collect(), output }.into()
}

/// Client and server of one query, and what they send each other.
struct Roads<'f, B: Backend> {
    cipher: &'f Cipher<'f, B>,
    server: Classifier<'f, B>,
    features: &'f [f32],
    groups: Groups,
    query: Vec<u8>,
    reply: Vec<u8>,
    components: usize,
}

impl<'f, B: Backend> Roads<'f, B> {
    /// Prepares both sides. The logits are those of the clear head in double precision, up to the stated bound.
    fn new(
        cipher: &'f Cipher<'f, B>,
        model: &Model,
        preset: &Preset,
        layout: Layout,
        features: &'f [f32],
    ) -> Result<Self> {
        let context = cipher.context();
        let groups = Groups::new(layout, preset.params.degree(), FEATURES, features.len() / FEATURES)?;
        let keys = (layout == Layout::Rotations).then(|| evaluation_keys(cipher, model)).transpose()?;
        let server = Classifier::new(context, model, layout, preset.bounds_of(features, FEATURES)?, keys)?;
        let query = cipher.encrypt_features(groups, features, None)?.to_bytes();
        let bytes = server.classify(&Query::from_bytes(&query)?)?.to_bytes();
        let reply = Reply::from_bytes(&bytes)?;
        let logits = cipher.decrypt_logits(&reply)?;
        for (place, (expected, logit)) in model.scores(features).iter().zip(&logits).enumerate() {
            let error = (expected - logit).abs();
            ensure(error <= reply.logit_bound, || {
                format!("layout {}, image {}: an error of {error:e}", layout.name(), place / CLASSES)
            })
            .map_err(|error| match error {
                Error::Wrong { problem, .. } => Error::wrong("head", problem),
                other => other,
            })?;
        }
        let components = reply.components();
        Ok(Self { cipher, server, features, groups, query, reply: bytes, components })
    }

    /// What has to be done at least. Encoders work in floating point, which is not counted.
    fn work(&self, road: Road, model: &Model) -> Result<Work> {
        let params = self.cipher.context().params();
        let (degree, limbs) = (params.degree(), params.limbs().len());
        let (asked, answered) = (self.query.len() as u64, self.reply.len() as u64);
        let classes = model.class_count();
        let pieces = self.groups.pieces();
        let sum = |count: &dyn Fn(&Piece) -> usize| pieces.iter().map(count).sum::<usize>();
        let asked_polynomials = sum(&|piece| piece.polynomials);
        let reply_polynomials = sum(&|piece| self.groups.reply_polynomials(piece, classes));
        // Multiplications of a row, and transforms of one.
        let count = |rows: usize, transforms: usize| (rows * degree) as u64 + butterflies(degree, transforms);
        Ok(match road {
            Road::Server => {
                let (rows, transforms, keys) = self.server_rows(model)?;
                Work { multiplications: count(rows, transforms), ..Work::moving(asked + keys, answered) }
            }
            // The masks times the secret, back.
            Road::Encrypt => {
                let rows = asked_polynomials * limbs;
                Work {
                    multiplications: count(rows, rows),
                    ..Work::moving(4 * self.features.len() as u64, asked)
                }
            }
            // Of every component but the first: forward, times the secret, back.
            Road::Decrypt => {
                let limbs = if self.groups.layout.in_slots() { limbs } else { 1 };
                let rows = reply_polynomials * (self.components - 1) * limbs;
                let logits = 8 * (self.groups.images * classes) as u64;
                Work { multiplications: count(rows, 2 * rows), ..Work::moving(answered, logits) }
            }
        })
    }

    /// The server's multiplications of rows, its transforms of rows, and the bytes of the keys it reads.
    fn server_rows(&self, model: &Model) -> Result<(usize, usize, u64)> {
        let params = self.cipher.context().params();
        let limbs = params.limbs().len();
        let classes = model.class_count();
        let hidden = model.hidden();
        Ok(match (self.groups.layout, hidden) {
            // One polynomial forward, products of both components back.
            (Layout::Dot, _) => (2 * classes, 1 + 2 * classes, 0),
            // Both components times the matrix; the masks' products are transformed back.
            (Layout::Transposed, _) | (Layout::Slots, None) => {
                (2 * FEATURES * classes * limbs, classes * limbs, 0)
            }
            // Hidden units, the one component that is in coefficients forward; squares; three components times the second
            // matrix, and back.
            (Layout::Slots, Some(hidden)) => (
                (2 * FEATURES * hidden + 3 * hidden + 3 * hidden * classes) * limbs,
                (hidden + 3 * classes) * limbs,
                0,
            ),
            (Layout::Rotations, _) => {
                let plan = RotationsPlan::new(params, Heads::of(model))?;
                let polynomials: usize = self.groups.pieces().iter().map(|piece| piece.polynomials).sum();
                let work = plan.work();
                (polynomials * work.products, polynomials * work.transforms, key_size(params, &plan)?.1)
            }
        })
    }

    fn run(&self, road: Road) -> Run<'_> {
        match road {
            Road::Server => Box::new(move || {
                black_box(self.server.classify(&Query::from_bytes(&self.query)?)?.to_bytes());
                Ok(())
            }),
            Road::Encrypt => Box::new(move || {
                black_box(self.cipher.encrypt_features(self.groups, self.features, None)?.to_bytes());
                Ok(())
            }),
            Road::Decrypt => Box::new(move || {
                black_box(self.cipher.decrypt_logits(&Reply::from_bytes(&self.reply)?)?);
                Ok(())
            }),
        }
    }
}

/// All keys that a head takes.
fn evaluation_keys<B: Backend>(cipher: &Cipher<'_, B>, model: &Model) -> Result<EvaluationKeys<B>> {
    let context = cipher.context();
    let mut keys = EvaluationKeys::new(context.params());
    for (element, level) in RotationsPlan::new(context.params(), Heads::of(model))?.keys()? {
        keys.insert(context, &cipher.evaluation_key(element, level)?)?;
    }
    Ok(keys)
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
