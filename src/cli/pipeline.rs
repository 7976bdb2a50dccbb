//! Features to logits under encryption in one process, measured: what `infer` and `demo` share.

use std::time::Instant;

use anyhow::Result;
use arras_ckks::Context;
use arras_fit::{Features, metrics};
use arras_heads::layout::Groups;
use arras_heads::plan::candidates;
use arras_heads::{Classifier, Layout, Model, Plan, Preset, Query, Rates, Reply, Shape};
use arras_rns::Backend;
use arras_secret::{Cipher, SecretKey};
use serde::Serialize;

use super::crypt::parse_fingerprint;
use super::device::{Device, threads};
use super::embed::Embedded;
use super::road::evaluation_keys;

/// Rounds of the whole batch; medians are reported.
const ROUNDS: usize = 5;
/// Images that are classified one at a time to measure latency; fewer where one takes as long as thousands.
const SINGLES: usize = 21;
const SINGLES_IN_SLOTS: usize = 3;

/// Medians per image in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// Reading, decoding and preprocessing.
    pub decode: f64,
    /// The vision transformer.
    pub vit: f64,
    /// Scaling and rounding features into polynomials.
    pub encode: f64,
    /// Encryption, and the query's bytes.
    pub encrypt: f64,
    /// All that the server does: parsing, products, trimming, the reply's bytes.
    pub server: f64,
    /// Parsing the reply and decryption.
    pub decrypt: f64,
}

/// From encoding to decryption, in milliseconds: the scope of the paper's 66.0 ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct EncryptedInference {
    /// One image alone.
    pub single: f64,
    /// Per image, in a query of `batch`.
    pub amortised: f64,
    /// Images in that query.
    pub batch: usize,
}

/// What encrypted inference gave and cost.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Number of images.
    pub images: usize,
    /// Share of labels that the clear head meets, if there are labels.
    pub accuracy_clear: Option<f64>,
    /// The same under encryption.
    pub accuracy_encrypted: Option<f64>,
    /// Images whose decision differs although the clear margin exceeds twice the bound.
    pub disagreements: usize,
    /// Images whose clear margin does not exceed twice the bound.
    pub ties: usize,
    /// The stated bound on the error of a logit.
    pub logit_bound: f64,
    /// The largest error found.
    pub max_abs_logit_difference: f64,
    /// Bytes of the query over images.
    pub upload_bytes_per_image: f64,
    /// Bytes of the reply over images.
    pub reply_bytes_per_image: f64,
    /// Layout of the batch.
    pub layout: &'static str,
    /// Why.
    pub layout_reason: String,
    /// Evaluation keys that the server was given, and their bytes.
    pub keys: usize,
    /// As predicted from the shape of the head.
    pub key_bytes: u64,
    /// Preset.
    pub preset: &'static str,
    /// Backend.
    pub backend: String,
    /// Threads of the backend.
    pub threads: usize,
    /// Medians per image.
    pub stages_ms: Stages,
    /// Encode to decrypt.
    pub encrypted_inference_ms: EncryptedInference,
    /// Decode to decrypt, per image of the batch.
    pub total_ms_per_image: f64,
    /// What has to be beaten, encode to decrypt.
    pub budget_ms: f64,
    /// `[n][C]` decrypted logits.
    #[serde(skip)]
    pub logits: Vec<f64>,
}

/// The presets that the options of a command leave to choose from.
///
/// # Errors
/// An unknown name.
pub fn presets(name: Option<&str>, hide_model: bool, model: &Model) -> Result<Vec<&'static Preset>> {
    match name {
        Some(name) => Ok(vec![Preset::named(name)?]),
        None => Ok(candidates(model.hidden().is_some(), hide_model)),
    }
}

/// Encrypts features under a fresh key, classifies and decrypts, several times, with the cheapest of some presets.
///
/// # Errors
/// Features beyond the preset's bounds, a head that does not fit them.
pub fn run(
    backend: Device,
    presets: Vec<&'static Preset>,
    model: &Model,
    embedded: &Embedded,
) -> Result<Outcome> {
    let features = &embedded.features;
    let (threads, name) = (threads(&backend), backend.name());
    let images = features.rows();
    let plan = Plan::new(presets, Shape::of(model), images, None, Rates::default())?;
    let preset = plan.chosen.preset;
    let context = Context::new(backend, preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let layout = plan.chosen.groups.layout;
    let keys = (layout == Layout::Rotations).then(|| evaluation_keys(&cipher, model)).transpose()?;
    let bounds = preset.bounds_of(&features.values, features.dimension)?;
    let road = Road {
        server: Classifier::new(&context, model, layout, bounds, keys)?,
        cipher,
        layout,
        backbone: features.fingerprint.as_deref().map(parse_fingerprint).transpose()?,
    };
    let trips = (0..ROUNDS)
        .map(|_| road.trip(plan.chosen.groups, &features.values))
        .collect::<Result<Vec<Trip>>>()?;
    let single = road.single(features)?;
    let stage =
        |f: fn(&Stages) -> f64| median(trips.iter().map(|trip| f(&trip.stages) / images as f64).collect());
    let stages = Stages {
        decode: median(embedded.decode_ms.clone()),
        vit: median(embedded.vit_ms.clone()),
        encode: stage(|s| s.encode),
        encrypt: stage(|s| s.encrypt),
        server: stage(|s| s.server),
        decrypt: stage(|s| s.decrypt),
    };
    let amortised = median(trips.iter().map(|trip| trip.total_ms() / images as f64).collect());
    let Some(trip) = trips.into_iter().next() else { anyhow::bail!("no round was run") };
    let clear = model.scores(&features.values);
    let decisions = Decisions::compare(model, features, &clear, &trip.logits, trip.logit_bound);
    Ok(Outcome {
        images,
        accuracy_clear: accuracy(model, features, &clear),
        accuracy_encrypted: accuracy(model, features, &trip.logits),
        disagreements: decisions.disagreements,
        ties: decisions.ties,
        logit_bound: trip.logit_bound,
        max_abs_logit_difference: decisions.largest,
        upload_bytes_per_image: trip.upload as f64 / images as f64,
        reply_bytes_per_image: trip.reply as f64 / images as f64,
        layout: layout.name(),
        layout_reason: plan.reason,
        keys: plan.chosen.keys,
        key_bytes: plan.chosen.key_bytes,
        preset: preset.name,
        backend: name,
        threads,
        stages_ms: stages,
        encrypted_inference_ms: EncryptedInference { single, amortised, batch: images },
        total_ms_per_image: stages.decode + stages.vit + amortised,
        budget_ms: arras_measure::waterfall::BUDGET_MS,
        logits: trip.logits,
    })
}

/// Client and server, joined by bytes.
struct Road<'c> {
    cipher: Cipher<'c, Device>,
    server: Classifier<'c, Device>,
    layout: Layout,
    backbone: Option<[u8; 32]>,
}

/// One query there and its reply back. Times are milliseconds for all images.
struct Trip {
    stages: Stages,
    logits: Vec<f64>,
    logit_bound: f64,
    upload: usize,
    reply: usize,
}

impl Trip {
    fn total_ms(&self) -> f64 {
        self.stages.encode + self.stages.encrypt + self.stages.server + self.stages.decrypt
    }
}

impl Road<'_> {
    fn trip(&self, groups: Groups, features: &[f32]) -> Result<Trip> {
        let mut clock = Instant::now();
        let mut lap = || {
            let now = Instant::now();
            (now - std::mem::replace(&mut clock, now)).as_secs_f64() * 1e3
        };
        let encoded = self.cipher.encode_features(groups, features)?;
        let encode = lap();
        let query = self.cipher.encrypt_resident(&encoded, self.backbone)?.to_bytes();
        let encrypt = lap();
        let reply = self.server.classify(&Query::from_bytes(&query)?)?.to_bytes();
        let server = lap();
        let received = Reply::from_bytes(&reply)?;
        let logits = self.cipher.decrypt_logits(&received)?;
        let decrypt = lap();
        let stages = Stages { encode, encrypt, server, decrypt, ..Stages::default() };
        Ok(Trip {
            stages,
            logits,
            logit_bound: received.logit_bound,
            upload: query.len(),
            reply: reply.len(),
        })
    }

    /// Median milliseconds of one image alone.
    fn single(&self, features: &Features) -> Result<f64> {
        let preset = Preset::of(self.cipher.context().params().fingerprint())?;
        let (layout, count) = match self.layout {
            Layout::Transposed if features.dimension <= preset.params.degree() => (Layout::Dot, SINGLES),
            Layout::Slots => (Layout::Slots, SINGLES_IN_SLOTS),
            layout => (layout, SINGLES),
        };
        let groups = Groups::new(layout, preset.params.degree(), features.dimension, 1)?;
        let rows = features.values.chunks_exact(features.dimension).cycle().take(count);
        let times = rows.map(|row| Ok(self.trip(groups, row)?.total_ms())).collect::<Result<Vec<_>>>()?;
        Ok(median(times))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Share of rows whose largest logit is the label's; nothing without labels, or if one is no class of the head.
fn accuracy(model: &Model, features: &Features, logits: &[f64]) -> Option<f64> {
    let labels = features.labels.as_ref()?;
    let rows = labels.iter().zip(logits.chunks_exact(model.class_count()));
    let met = rows.map(|(label, scores)| {
        let class = model.classes().iter().position(|class| class == label)?;
        Some(usize::from(metrics::argmax(scores) == class))
    });
    let met: usize = met.sum::<Option<usize>>()?;
    Some(met as f64 / labels.len() as f64)
}

/// How encrypted decisions compare with clear ones.
#[derive(Default)]
struct Decisions {
    disagreements: usize,
    ties: usize,
    largest: f64,
}

impl Decisions {
    fn compare(model: &Model, features: &Features, clear: &[f64], encrypted: &[f64], bound: f64) -> Self {
        let mut all = Self::default();
        debug_assert_eq!(clear.len(), features.rows() * model.class_count());
        let rows = clear.chunks_exact(model.class_count()).zip(encrypted.chunks_exact(model.class_count()));
        for (clear, encrypted) in rows {
            let differences = clear.iter().zip(encrypted).map(|(a, b)| (a - b).abs());
            all.largest = differences.fold(all.largest, f64::max);
            let tied = metrics::margin(clear) <= 2.0 * bound;
            all.ties += usize::from(tied);
            all.disagreements += usize::from(!tied && metrics::argmax(clear) != metrics::argmax(encrypted));
        }
        all
    }
}

impl Outcome {
    /// The table that a person sees.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let percent = |share: Option<f64>| {
            share.map_or("unknown (no labels)".into(), |x| format!("{:.2} %", 100.0 * x))
        };
        let ms = |x: f64| format!("{x:.4} ms");
        let s = &self.stages_ms;
        let e = &self.encrypted_inference_ms;
        vec![
            ("images", self.images.to_string()),
            ("accuracy in the clear", percent(self.accuracy_clear)),
            ("accuracy encrypted", percent(self.accuracy_encrypted)),
            ("disagreements", format!("{} (and {} ties)", self.disagreements, self.ties)),
            (
                "largest logit error",
                format!("{:.1e}, stated bound {:.1e}", self.max_abs_logit_difference, self.logit_bound),
            ),
            ("upload per image", format!("{:.0} bytes", self.upload_bytes_per_image)),
            ("reply per image", format!("{:.0} bytes", self.reply_bytes_per_image)),
            ("layout", self.layout_reason.clone()),
            ("evaluation keys", format!("{}, {} bytes once", self.keys, self.key_bytes)),
            ("preset, backend", format!("{}, {} with {} threads", self.preset, self.backend, self.threads)),
            ("decode", ms(s.decode)),
            ("vision transformer", ms(s.vit)),
            ("encode", ms(s.encode)),
            ("encrypt", ms(s.encrypt)),
            ("server", ms(s.server)),
            ("decrypt", ms(s.decrypt)),
            (
                "encode to decrypt",
                format!(
                    "{:.3} ms for one image alone, {:.4} ms in a batch of {} (budget {} ms)",
                    e.single, e.amortised, e.batch, self.budget_ms
                ),
            ),
            ("decode to decrypt", format!("{:.2} ms per image", self.total_ms_per_image)),
        ]
    }
}
