//! The whole road in one process, from decoded images to decrypted logits, cut into stages that can be timed.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use arras_ckks::{Context, EvaluationKeys};
use arras_fit::tiles::TileSet;
use arras_heads::layout::Groups;
use arras_heads::{Classifier, Head, Layout, Model, ModelCard, Preset, Query, Reply, RotationsPlan, Shape};
use arras_measure::cases::{Visitor, Wanted};
use arras_measure::record::Work;
use arras_measure::waterfall::Once;
use arras_measure::{CpuDevice, Group, Ready};
use arras_rns::Backend;
use arras_secret::{Cipher, SecretKey};
use arras_vit::config::{Activation, FeedForward, Trunk};
use arras_vit::{Architecture, Device, Size, Vit};
use image::{DynamicImage, RgbImage};

/// Classes of the seeded head: with 768 features the shape of arXiv 2511.20983.
pub const CLASSES: usize = 5;
/// What seeded transformers, heads and tiles depend on.
pub const SEED: u64 = 7;

/// ViT-B/16 (Dosovitskiy et al. 2021): 224 x 224 pixels, 197 tokens of 768, 12 blocks.
pub fn vit_base() -> Architecture {
    let trunk = Trunk {
        image: Size { height: 224, width: 224 },
        patch: Size { height: 16, width: 16 },
        width: 768,
        depth: 12,
        heads: 12,
        activation: Activation::Gelu,
        layer_norm_eps: 1e-12,
        qkv_bias: true,
    };
    Architecture::Vit(trunk, 3072)
}

/// Multiply-adds of a transformer on one image: patches, projections, attention, feed-forward.
fn multiply_adds(architecture: &Architecture) -> u64 {
    let Trunk { image, patch, width, depth, .. } = *architecture.trunk();
    let (patches, tokens) = (image.area() / patch.area(), architecture.tokens());
    let hidden = match architecture.feed_forward() {
        FeedForward::Mlp(hidden) => 2 * width * hidden,
        FeedForward::SwiGlu(hidden) => 3 * width * hidden,
    };
    let block = tokens * (4 * width * width + hidden) + 2 * tokens * tokens * width;
    (patches * 3 * patch.area() * width + depth * block) as u64
}

/// Painted tiles, as an image decoder would give them.
///
/// # Errors
/// None in practice.
pub fn tiles(count: usize, side: usize) -> Result<Vec<DynamicImage>> {
    let set = TileSet { seed: SEED, per_class: count.div_ceil(3), patients: 1, sites: 1, size: side };
    let paint = |position| -> Result<DynamicImage> {
        let tile = set.tile(position)?;
        let image =
            RgbImage::from_raw(side as u32, side as u32, tile.rgb).context("a tile of another size")?;
        Ok(image.into())
    };
    (0..count).map(paint).collect()
}

/// A head with weights of the size that fitted ones have: uniform within 0.05, by SplitMix64.
pub fn head(dimension: usize) -> Head {
    let mut state = SEED;
    let mut number = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 * 0.1 - 0.05
    };
    Head {
        weight: (0..CLASSES * dimension).map(|_| number()).collect(),
        bias: (0..CLASSES).map(|_| number()).collect(),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    }
}

/// All keys that a head takes.
///
/// # Errors
/// A head that does not fit the parameters, a device that fails.
pub fn evaluation_keys<B: Backend>(cipher: &Cipher<'_, B>, model: &Model) -> Result<EvaluationKeys<B>> {
    let context = cipher.context();
    let mut keys = EvaluationKeys::new(context.params());
    for (element, level) in RotationsPlan::new(context.params(), Shape::of(model))?.keys()? {
        keys.insert(context, &cipher.evaluation_key(element, level)?)?;
    }
    Ok(keys)
}

/// A part of the road, in the order in which images go through them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// Decoded images to the transformer's input.
    Preprocess,
    /// To features.
    Vit,
    /// To scaled integers in polynomials.
    Encode,
    /// To a query.
    Encrypt,
    /// To its bytes.
    Serialise,
    /// All that the server does, bytes to bytes.
    Server,
    /// To logits.
    Decrypt,
}

/// Transformer, client and server.
#[derive(Debug)]
pub struct Road<'c, B: Backend> {
    vit: &'c Vit,
    model: &'c Model,
    cipher: Cipher<'c, B>,
    server: Classifier<'c, B>,
    groups: Groups,
}

impl<'c, B: Backend> Road<'c, B> {
    /// Makes keys and prepares the head, for tokens with the bounds of that of `image`, and says what that cost.
    ///
    /// # Errors
    /// A head that does not fit the layout or the context's preset.
    pub fn new(
        context: &'c Context<B>,
        vit: &'c Vit,
        model: &'c Model,
        (layout, images): (Layout, usize),
        image: &DynamicImage,
    ) -> Result<(Self, Vec<Once>)> {
        let params = context.params();
        let token = vit.embed_batch(&[vit.preprocessor().pixels(image)?])?.concat();
        let bounds = Preset::of(params.fingerprint())?.bounds_of(&token, model.dimension())?;
        let mut clock = Instant::now();
        let mut once = Vec::new();
        let mut paid = |name: &str, bytes: u64| {
            let now = Instant::now();
            let ns = (now - std::mem::replace(&mut clock, now)).as_nanos() as f64;
            once.push(Once { name: name.into(), ns, bytes });
        };
        let cipher = Cipher::new(context, &SecretKey::generate(params)?)?;
        paid("secret key", 0);
        let keys = match layout {
            Layout::Rotations => {
                let keys = evaluation_keys(&cipher, model)?;
                let plan = RotationsPlan::new(params, Shape::of(model))?;
                let (count, bytes) = arras_heads::plan::key_size(params, &plan)?;
                paid(&format!("{count} evaluation keys"), bytes);
                Some(keys)
            }
            _ => None,
        };
        let server = Classifier::new(context, model, layout, bounds, keys)?;
        paid("preparing the head", 0);
        let groups = Groups::new(layout, params.degree(), model.dimension(), images)?;
        Ok((Self { vit, model, cipher, server, groups }, once))
    }

    /// Logits of images; `done` is told each step when it is done.
    ///
    /// # Errors
    /// An image that cannot be preprocessed, features beyond the preset's bounds.
    pub fn logits(&self, images: &[DynamicImage], done: &mut dyn FnMut(Step)) -> Result<Logits> {
        let preprocessor = self.vit.preprocessor();
        let pixels = images.iter().map(|image| preprocessor.pixels(image)).collect::<Result<Vec<_>, _>>()?;
        done(Step::Preprocess);
        let features: Vec<f32> = self.vit.embed_batch(&pixels)?.concat();
        done(Step::Vit);
        let encoded = self.cipher.encode_features(self.groups, &features)?;
        done(Step::Encode);
        let query = self.cipher.encrypt_encoded(&encoded, None)?;
        done(Step::Encrypt);
        let query = query.to_bytes();
        done(Step::Serialise);
        let reply = self.server.classify(&Query::from_bytes(&query)?)?.to_bytes();
        done(Step::Server);
        let received = Reply::from_bytes(&reply)?;
        let encrypted = self.cipher.decrypt_logits(&received)?;
        done(Step::Decrypt);
        Ok(Logits { features, encrypted, bound: received.logit_bound, bytes: [query.len(), reply.len()] })
    }

    /// Refuses logits that are not those of the clear head up to the stated bound.
    ///
    /// # Errors
    /// The largest difference.
    pub fn check(&self, found: &Logits) -> Result<()> {
        let clear = self.model.scores(&found.features);
        ensure!(clear.len() == found.encrypted.len(), "{} logits", found.encrypted.len());
        let differences = clear.iter().zip(&found.encrypted).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f64::max);
        ensure!(largest <= found.bound, "a logit is off by {largest:e}, more than {:e}", found.bound);
        Ok(())
    }
}

/// What came out.
#[derive(Debug)]
pub struct Logits {
    features: Vec<f32>,
    encrypted: Vec<f64>,
    bound: f64,
    /// Of query and reply.
    pub bytes: [usize; 2],
}

/// The transformer alone, and the whole road, as cases of `bench`.
#[derive(Clone, Copy, Debug)]
pub struct RoadGroup;

/// Name, architecture and images of the transformer's cases.
fn transformers() -> [(&'static str, Architecture, usize); 3] {
    [("tiny", Architecture::tiny(), 1), ("tiny", Architecture::tiny(), 32), ("base-16", vit_base(), 1)]
}

fn vit_name(name: &str, images: usize) -> String {
    format!("vit/forward/architecture={name}/images={images}")
}

const ROAD: &str = "road/architecture=tiny/layout=dot/images=1";

impl Group<CpuDevice> for RoadGroup {
    fn names(&self) -> Vec<String> {
        let names = transformers().into_iter().map(|(name, _, images)| vit_name(name, images));
        names.chain([ROAD.to_owned()]).collect()
    }

    fn visit(
        &self,
        device: &CpuDevice,
        wanted: Wanted<'_>,
        visitor: Visitor<'_, <CpuDevice as arras_measure::Device>::Backend>,
    ) -> arras_measure::Result<()> {
        let fails = |error: anyhow::Error| arras_measure::Error::field("road", format!("{error:#}"));
        let vits = seeded(wanted).map_err(fails)?;
        let preset = Preset::named(Preset::DEFAULT)?;
        let backend = arras_measure::Device::backend(device)?;
        let context = Context::new(backend, preset.params.clone())?;
        let on = (context.backend(), context.queue());
        let model: Model = head(768).into();
        let tile = tiles(1, 96).map_err(fails)?;
        let mut ready = Vec::new();
        for (name, vit, images) in &vits {
            let (work, pixels) = forward(vit, *images).map_err(fails)?;
            ready.push(Ready {
                name: vit_name(name, *images),
                what: format!("vision transformer {name}, {images} images, f32"),
                parameters: parameters(vit, *images),
                items: (*images as u64, "image"),
                work,
                footprint: work.read + work.written,
                headline: false,
                on,
                run: Box::new(move || {
                    black_box(vit.embed_batch(&pixels).map_err(|error| fails(error.into()))?);
                    Ok(())
                }),
            });
        }
        if let Some((_, vit, _)) = vits.iter().find(|(name, ..)| *name == "tiny" && wanted(ROAD)) {
            let (road, _) = Road::new(&context, vit, &model, (Layout::Dot, 1), &tile[0]).map_err(fails)?;
            road.check(&road.logits(&tile, &mut |_| ()).map_err(fails)?).map_err(fails)?;
            // What the server and the client do is little beside the transformer.
            let (work, _) = forward(vit, 1).map_err(fails)?;
            let tile = &tile;
            ready.push(Ready {
                name: ROAD.into(),
                what: "decoded image to decrypted logits: transformer tiny, layout dot, 1 image".into(),
                parameters: parameters(vit, 1),
                items: (1, "image"),
                work,
                footprint: work.read + work.written,
                headline: true,
                on,
                run: Box::new(move || {
                    black_box(road.logits(tile, &mut |_| ()).map_err(fails)?);
                    Ok(())
                }),
            });
        }
        // A transformer that only the road needs is no case.
        ready.retain(|case| wanted(&case.name));
        visitor(&mut ready)
    }
}

type Seeded = (&'static str, Vit, usize);

/// The transformers that cases need, with weights from the seed.
fn seeded(wanted: Wanted<'_>) -> Result<Vec<Seeded>> {
    let needed = |name: &str, images| wanted(&vit_name(name, images)) || name == "tiny" && wanted(ROAD);
    let vits = transformers().into_iter().filter(|(name, _, images)| needed(name, *images));
    vits.map(|(name, architecture, images)| {
        Ok((name, Vit::random(&architecture, SEED, &Device::Cpu)?, images))
    })
    .collect()
}

/// Bytes and multiply-adds of a forward pass, and its input. In a batch every image gives what it gives alone.
fn forward(vit: &Vit, images: usize) -> Result<(Work, Vec<Vec<f32>>)> {
    /// Largest difference: sums of floats in another order.
    const TOLERANCE: f32 = 1e-4;
    let preprocessor = vit.preprocessor();
    let pixels: Vec<Vec<f32>> = tiles(images, vit.config().trunk().image.height)?
        .iter()
        .map(|tile| preprocessor.pixels(tile))
        .collect::<Result<_, _>>()?;
    let all = vit.embed_batch(&pixels)?;
    let (alone, last) = (vit.embed_batch(&pixels[images - 1..])?.concat(), &all[images - 1]);
    let differs = alone.iter().zip(last).any(|(a, b)| (a - b).abs() > TOLERANCE);
    ensure!(!differs && alone.len() == last.len(), "an image gives another token in a batch than alone");
    let architecture = vit.config();
    let bytes = 4 * (architecture.weights() + images * preprocessor.len()) as u64;
    let fmas = images as u64 * multiply_adds(architecture);
    Ok((Work { fmas, ..Work::moving(bytes, 4 * (images * architecture.width()) as u64) }, pixels))
}

fn parameters(vit: &Vit, images: usize) -> BTreeMap<String, serde_json::Value> {
    let trunk = vit.config().trunk();
    let parameters = [
        ("image", trunk.image.to_string().into()),
        ("patch", trunk.patch.to_string().into()),
        ("width", trunk.width.into()),
        ("depth", trunk.depth.into()),
        ("weights", vit.config().weights().into()),
        ("images", images.into()),
    ];
    parameters.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ViT-B/16 at 224 x 224 is given as 17.6 GFLOPs of multiply-adds counted once (Touvron et al. 2021), and 86 M weights.
    #[test]
    fn the_work_of_the_transformer_is_what_is_published() {
        let fmas = multiply_adds(&vit_base()) as f64 / 1e9;
        assert!((17.4..17.7).contains(&fmas), "{fmas}");
        let weights = vit_base().weights() as f64 / 1e6;
        assert!((85.0..87.0).contains(&weights), "{weights}");
    }

    #[test]
    fn the_seeded_head_is_small_and_mixed() {
        let head = head(768);
        assert!(head.weight.iter().all(|w| w.abs() <= 0.05));
        let mean = head.weight.iter().sum::<f32>() / head.weight.len() as f32;
        assert!(mean.abs() < 0.005, "{mean}");
    }
}
