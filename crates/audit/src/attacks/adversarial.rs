//! (l) Images changed so that the prediction changes.
//!
//! Projected gradient descent within an L-infinity ball (Madry et al., ICLR 2018) through transformer and head, on the margin
//! between the class that is decided for and the next (Carlini and Wagner 2017). Encryption is no defence and no harm: the
//! server computes the same function on what the client encrypts, so that decisions on changed images are equal in the clear and
//! encrypted, except for ties within the stated bound on a logit.
//!
//! Sees: somebody with the weights, or with copies recovered from answers ([`head`](crate::attacks::head)), who hands in images. Succeeds:
//! if decisions change (`flipped`) more often than under random signs of the same size.

use std::time::Instant;

use arras_ckks::Context;
use arras_cpu::Cpu;
use arras_heads::layout::{Groups, Layout};
use arras_heads::{Head, LinearHead, Preset};
use arras_secret::{Cipher, SecretKey};
use arras_vit::Vit;
use candle_core::{Device, Tensor, Var};

use crate::attacks::head::argmax;
use crate::network::Network;
use crate::picture::Scale;
use crate::statistics::{Better, paired};
use crate::{Attack, Error, Finding, Image, Random, Result};

/// A transformer whose gradients the attacker computes.
///
/// ```
/// use arras_audit::attacks::adversarial::{Settings, WhiteBox, descend};
/// use arras_audit::{Image, Result};
/// use arras_heads::{Head, ModelCard};
///
/// /// Tokens that are the values themselves.
/// struct Identity;
///
/// impl WhiteBox for Identity {
///     fn tokens(&self, images: &[Image]) -> Result<Vec<Vec<f32>>> {
///         Ok(images.iter().map(|image| image.values().to_vec()).collect())
///     }
///     fn gradient(&self, _: &Image, direction: &[f32]) -> Result<Vec<f32>> {
///         Ok(direction.to_vec())
///     }
/// }
/// # let (weight, bias) = (vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 2]);
/// # let classes = vec!["left".into(), "right".into()];
/// // The brighter of two pixels decides.
/// let head = Head { weight, bias, classes, card: ModelCard::default() };
/// let image = Image::new(1, 1, 2, vec![0.505, 0.5])?;
/// let changed = descend(&Identity, &head, &image, &Settings::default())?;
/// assert!(changed.values()[1] > changed.values()[0]);
/// # Ok::<(), arras_audit::Error>(())
/// ```
pub trait WhiteBox {
    /// The CLS tokens of images, one row each.
    ///
    /// # Errors
    /// Images of a shape that the model does not take.
    fn tokens(&self, images: &[Image]) -> Result<Vec<Vec<f32>>>;

    /// The gradient of `direction . token` with respect to the values of an image, in their order.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens); a direction of another length.
    fn gradient(&self, image: &Image, direction: &[f32]) -> Result<Vec<f32>>;
}

/// The product's transformer for tokens, and its twin for gradients.
///
/// See the example of [`WhiteBox`].
#[derive(Clone, Copy, Debug)]
pub struct Twin<'a> {
    /// Decides.
    pub vit: &'a Vit,
    /// The same weights in a form that has gradients.
    pub network: &'a Network,
}

impl WhiteBox for Twin<'_> {
    fn tokens(&self, images: &[Image]) -> Result<Vec<Vec<f32>>> {
        let scale = Scale::of(self.vit.preprocessor());
        let pixels = images.iter().map(|image| scale.pixels(image)).collect::<Result<Vec<_>>>()?;
        Ok(self.vit.embed_batch(&pixels)?)
    }

    fn gradient(&self, image: &Image, direction: &[f32]) -> Result<Vec<f32>> {
        let scale = Scale::of(self.vit.preprocessor());
        let shape = (1, 3, image.height(), image.width());
        let pixels = Var::from_vec(scale.pixels(image)?, shape, &Device::Cpu)?;
        let token = self.network.cls(self.network.weights(), pixels.as_tensor())?;
        let direction = Tensor::from_slice(direction, (1, direction.len()), &Device::Cpu)?;
        let slopes = (token * direction)?.sum_all()?.backward()?;
        let slope =
            slopes.get(&pixels).ok_or_else(|| Error::invalid("gradient", "does not reach the pixels"))?;
        // Pixels are linear in the values of an image.
        let flat = |value: f32| {
            let values = vec![value; image.values().len()];
            scale.pixels(&Image::new(image.channels(), image.height(), image.width(), values)?)
        };
        let (black, white) = (flat(0.0)?, flat(1.0)?);
        let slope = slope.flatten_all()?.to_vec1::<f32>()?;
        Ok(slope
            .iter()
            .zip(white.iter().zip(&black))
            .map(|(slope, (white, black))| slope * (white - black))
            .collect())
    }
}

/// How images are changed.
///
/// See the example of [`WhiteBox`].
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest change of a value; values run from 0 to 1.
    pub radius: f32,
    /// Steps, each of `2.5 radius / steps`.
    pub steps: usize,
    /// Seed of the starting points.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { radius: 4.0 / 255.0, steps: 20, seed: 0 }
    }
}

/// An image within the ball around another for which the head decides differently if that was found, rounded to bytes.
///
/// # Errors
/// Tokens of another length than the head takes; what the model refuses.
pub fn descend(model: &impl WhiteBox, head: &Head, image: &Image, settings: &Settings) -> Result<Image> {
    let class = decide(&scores(head, &single(model, image)?)?);
    let mut random = Random::new("arras/1 audit adversarial", &[settings.seed]);
    let mut current = shifted(image, settings.radius, |_| 2.0 * random.uniform() as f32 - 1.0)?;
    let step = 2.5 * settings.radius / settings.steps.max(1) as f32;
    for _ in 0..settings.steps {
        let scores = scores(head, &single(model, &current)?)?;
        let next =
            argmax(scores.iter().enumerate().map(
                |(other, &score)| {
                    if other == class { f64::NEG_INFINITY } else { score }
                },
            ));
        let dimension = head.dimension();
        let row = |class: usize| &head.weight[class * dimension..][..dimension];
        let direction: Vec<f32> = row(next).iter().zip(row(class)).map(|(a, b)| a - b).collect();
        let gradient = model.gradient(&current, &direction)?;
        let moved = current.values().iter().zip(&gradient).zip(image.values()).map(|((x, g), start)| {
            let sign = if *g == 0.0 { 0.0 } else { g.signum() };
            (x + step * sign).clamp(start - settings.radius, start + settings.radius)
        });
        current = Image::new(image.channels(), image.height(), image.width(), moved.collect())?;
    }
    rounded(&current)
}

/// The image with every value moved by `radius` times what `direction` gives for its position.
fn shifted(image: &Image, radius: f32, mut direction: impl FnMut(usize) -> f32) -> Result<Image> {
    let values = image.values().iter().enumerate().map(|(at, x)| x + radius * direction(at)).collect();
    Image::new(image.channels(), image.height(), image.width(), values)
}

/// What a file of bytes would hold.
fn rounded(image: &Image) -> Result<Image> {
    let values = image.values().iter().map(|x| (255.0 * x).round() / 255.0).collect();
    Image::new(image.channels(), image.height(), image.width(), values)
}

fn single(model: &impl WhiteBox, image: &Image) -> Result<Vec<f32>> {
    let tokens = model.tokens(std::slice::from_ref(image))?;
    tokens.into_iter().next().ok_or_else(|| Error::invalid("tokens", "none for an image"))
}

fn scores(head: &Head, token: &[f32]) -> Result<Vec<f64>> {
    if token.len() != head.dimension() {
        let reason = format!("{} features, the head takes {}", token.len(), head.dimension());
        return Err(Error::invalid("token", reason));
    }
    Ok(head.logits(token).into_iter().map(f64::from).collect())
}

fn decide(scores: &[f64]) -> usize {
    argmax(scores.iter().copied())
}

/// Decisions in the clear and through encryption, with what was tied.
struct Decisions {
    clear: Vec<usize>,
    encrypted: Vec<usize>,
    /// Margins within twice the bound on a logit.
    ties: Vec<bool>,
}

impl Decisions {
    fn of(head: &Head, tokens: &[Vec<f32>]) -> Result<Self> {
        let rows = tokens.concat();
        let (classes, images) = (head.class_count(), tokens.len());
        let preset = Preset::named(Preset::DEFAULT)?;
        let context = Context::new(Cpu::sequential(), preset.params.clone())?;
        let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params)?)?;
        let server = LinearHead::new(&context, head, preset.bounds_of(&rows, head.dimension())?)?;
        let groups = Groups::new(Layout::Dot, preset.params.degree(), head.dimension(), images)?;
        let reply = server.classify(&cipher.encrypt_features(groups, &rows, None)?)?;
        let logits = cipher.decrypt_logits(&reply)?;
        let clear: Vec<f64> = head.logits(&rows).into_iter().map(f64::from).collect();
        let tied = |row: &[f64]| {
            let mut sorted = row.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            classes > 1 && sorted[0] - sorted[1] <= 2.0 * reply.logit_bound
        };
        Ok(Self {
            ties: clear.chunks_exact(classes).map(tied).collect(),
            encrypted: logits.chunks_exact(classes).map(decide).collect(),
            clear: clear.chunks_exact(classes).map(decide).collect(),
        })
    }
}

/// Images changed by descent, and by random signs of the same size, decided in the clear and encrypted: two rows.
///
/// # Errors
/// No images; tokens that break the bounds of the preset; what the model refuses.
pub fn of_pipeline(
    model: &impl WhiteBox,
    head: &Head,
    images: &[Image],
    settings: &Settings,
) -> Result<Vec<Finding>> {
    let started = Instant::now();
    let (mut changed, mut noisy) = (Vec::with_capacity(images.len()), Vec::with_capacity(images.len()));
    for (index, image) in images.iter().enumerate() {
        let seed = settings.seed.wrapping_add(index as u64);
        changed.push(descend(model, head, image, &Settings { seed, ..*settings })?);
        let mut random = Random::new("arras/1 audit adversarial signs", &[seed]);
        let sign = |_| if random.word() & 1 == 1 { 1.0 } else { -1.0 };
        noisy.push(rounded(&shifted(image, settings.radius, sign)?)?);
    }
    let original = Decisions::of(head, &model.tokens(images)?)?;
    let changed = Decisions::of(head, &model.tokens(&changed)?)?;
    let noisy = Decisions::of(head, &model.tokens(&noisy)?)?;
    let apart = |a: &[usize], b: &[usize]| -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| f64::from(u8::from(a != b))).collect()
    };
    let differing = apart(&changed.clear, &changed.encrypted);
    let is_tie = |tie: bool| if tie { 0.0 } else { 1.0 };
    let unequal: f64 = differing.iter().zip(&changed.ties).map(|(d, &tie)| d * is_tie(tie)).sum();
    let row = |protection: &str, now: &[usize], random: &[usize], before: &[usize], text: &str| {
        let score = paired(&apart(now, before), &apart(random, before), Better::Higher, settings.seed)?;
        let row = Finding::new(
            Attack::Adversarial,
            "weights",
            "whoever hands in images",
            protection,
            settings.seed,
        );
        let row = Finding { victims: images.len(), seconds: started.elapsed().as_secs_f64(), ..row };
        Ok::<_, Error>(
            row.score("flipped", score)
                .parameter("radius", settings.radius)
                .parameter("steps", settings.steps)
                .parameter("unequal_decisions", unequal)
                .parameter("ties", changed.ties.iter().filter(|&&tie| tie).count())
                .judged(true, text),
        )
    };
    Ok(vec![
        row("none", &changed.clear, &noisy.clear, &original.clear, "decisions follow the gradient")?,
        row(
            "CKKS",
            &changed.encrypted,
            &noisy.encrypted,
            &original.encrypted,
            "encrypted decisions are the clear ones: no defence, no harm",
        )?,
    ])
}

#[cfg(test)]
mod tests {
    use arras_heads::ModelCard;
    use arras_vit::Tensors;
    use arras_vit::config::{Activation, Architecture, Size, Trunk};

    use super::*;

    const DIMENSION: usize = 24;
    const SIDE: usize = 8;

    /// Tokens that are linear in the distance from grey.
    struct Linear(Vec<f32>);

    impl WhiteBox for Linear {
        fn tokens(&self, images: &[Image]) -> Result<Vec<Vec<f32>>> {
            let dot =
                |row: &[f32], image: &Image| row.iter().zip(image.values()).map(|(a, x)| a * (x - 0.5)).sum();
            let rows = |image| self.0.chunks_exact(3 * SIDE * SIDE).map(|row| dot(row, image)).collect();
            Ok(images.iter().map(rows).collect())
        }

        fn gradient(&self, image: &Image, direction: &[f32]) -> Result<Vec<f32>> {
            let rows = || self.0.chunks_exact(image.values().len()).zip(direction);
            Ok((0..image.values().len()).map(|pixel| rows().map(|(row, d)| d * row[pixel]).sum()).collect())
        }
    }

    #[test]
    fn changed_images_fool_the_clear_and_the_encrypted_head_alike() -> Result<()> {
        let mut random = Random::new("test adversarial", &[]);
        let model = Linear(random.normals(DIMENSION * 3 * SIDE * SIDE, 0.1));
        let head = Head {
            weight: random.normals(3 * DIMENSION, 0.3),
            bias: vec![0.0; 3],
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            card: ModelCard::default(),
        };
        let images = (0..24).map(|_| {
            let values = (0..3 * SIDE * SIDE).map(|_| 0.2 + 0.6 * random.uniform() as f32).collect();
            Image::new(3, SIDE, SIDE, values)
        });
        let images = images.collect::<Result<Vec<_>>>()?;
        let settings = Settings { radius: 16.0 / 255.0, ..Settings::default() };
        let rows = of_pipeline(&model, &head, &images, &settings)?;
        for row in &rows {
            let flipped = row.scores["flipped"];
            assert!(flipped.value > 0.8 && flipped.baseline < 0.4 && flipped.gains(), "{flipped:?}");
            assert_eq!(row.parameters["unequal_decisions"], 0.0);
        }
        // The ball is kept, up to rounding to bytes.
        let changed = descend(&model, &head, &images[0], &settings)?;
        let distance = changed.values().iter().zip(images[0].values()).map(|(a, b)| (a - b).abs());
        assert!(distance.fold(0.0, f32::max) <= settings.radius + 0.5 / 255.0 + 1e-6);
        assert!(descend(&model, &Head { weight: vec![0.0; 9], ..head }, &images[0], &settings).is_err());
        Ok(())
    }

    #[test]
    fn gradients_of_the_twin_are_slopes_of_the_transformer() -> Result<()> {
        let trunk = Trunk {
            image: Size::square(32),
            patch: Size::square(8),
            width: 32,
            depth: 2,
            heads: 4,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-6,
            qkv_bias: true,
        };
        let architecture = Architecture::Vit(trunk, 64);
        let vit = Vit::random(&architecture, 3, &arras_vit::Device::Cpu)?;
        let network = Network::new(Tensors::random(&architecture, 3)?, 2, 3, &Device::Cpu)?;
        let twin = Twin { vit: &vit, network: &network };
        let mut random = Random::new("test twin", &[]);
        let values: Vec<f32> = (0..3 * 32 * 32).map(|_| 0.3 + 0.4 * random.uniform() as f32).collect();
        let image = Image::new(3, 32, 32, values)?;
        let direction = random.normals(32, 1.0);
        let gradient = twin.gradient(&image, &direction)?;
        let along = |step: f32| -> Result<f64> {
            let moved = shifted(&image, step, |at| gradient[at].signum())?;
            let token = single(&twin, &moved)?;
            Ok(token.iter().zip(&direction).map(|(t, d)| f64::from(*t) * f64::from(*d)).sum())
        };
        let slope = (along(1e-3)? - along(-1e-3)?) / 2e-3;
        let expected: f64 = gradient.iter().map(|g| f64::from(g.abs())).sum();
        assert!((slope / expected - 1.0).abs() < 0.02, "{slope} {expected}");
        Ok(())
    }
}
