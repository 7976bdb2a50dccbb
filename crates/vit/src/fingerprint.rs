//! What a set of features was computed with, in 256 bits.

use blake3::Hasher;

use crate::config::{Activation, Architecture, FeedForward, TensorSpec};
use crate::preprocess::{Resize, Steps};
use crate::resize::Filter;

/// BLAKE3 hash of architecture, weights and preprocessing: equal fingerprints mean comparable CLS tokens.
///
/// It covers values, not files: shards, tensor order, prefixes, unused tensors (pooler, classifier) and the
/// storage type of equal values make no difference. Displayed as 64 hexadecimal digits.
///
/// ```
/// use arras_vit::{Device, Fingerprint, Vit};
/// # use arras_vit::config::{Activation, Architecture, Size, Trunk};
///
/// # let trunk = Trunk { image: Size::square(8), patch: Size::square(4), width: 8, depth: 1, heads: 2,
/// #     activation: Activation::Gelu, layer_norm_eps: 1e-6, qkv_bias: true };
/// # let architecture = Architecture::Vit(trunk, 16);
/// let of_seed = |seed| Vit::random(&architecture, seed, &Device::Cpu).map(|vit| vit.fingerprint());
/// assert_eq!(of_seed(1)?, of_seed(1)?);
/// assert_ne!(of_seed(1)?, of_seed(2)?);
/// assert_eq!(Fingerprint([0xab; 32]).to_string(), "ab".repeat(32));
/// # Ok::<(), arras_vit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Collects, in this order, architecture, preprocessing and the tensors of [`Architecture::tensors`].
/// Every part has a fixed length or states it, so different inputs are different byte strings.
pub(crate) struct Builder(Hasher);

impl Builder {
    pub(crate) fn new(architecture: &Architecture, steps: &Steps) -> Self {
        let mut builder = Self(Hasher::new_derive_key("arras vit 1 fingerprint"));
        builder.architecture(architecture);
        builder.steps(steps);
        builder
    }

    fn words(&mut self, words: &[u64]) {
        for word in words {
            self.0.update(&word.to_le_bytes());
        }
    }

    fn floats(&mut self, values: &[f64]) {
        for value in values {
            self.words(&[value.to_bits()]);
        }
    }

    fn architecture(&mut self, architecture: &Architecture) {
        let family = match architecture {
            Architecture::Vit(..) => 0,
            Architecture::Dinov2(..) => 1,
        };
        let (form, hidden) = match architecture.feed_forward() {
            FeedForward::Mlp(hidden) => (0, hidden),
            FeedForward::SwiGlu(hidden) => (1, hidden),
        };
        let trunk = architecture.trunk();
        let activation = match trunk.activation {
            Activation::Gelu => 0,
            Activation::GeluTanh => 1,
            Activation::QuickGelu => 2,
            Activation::Relu => 3,
        };
        self.words(&[family, form, activation, u64::from(trunk.qkv_bias)]);
        let (image, patch) = (trunk.image, trunk.patch);
        let dimensions = [
            image.height,
            image.width,
            patch.height,
            patch.width,
            trunk.width,
            trunk.depth,
            trunk.heads,
            hidden,
        ];
        self.words(&dimensions.map(|dimension| dimension as u64));
        self.floats(&[trunk.layer_norm_eps]);
    }

    fn steps(&mut self, steps: &Steps) {
        match steps.resize {
            None => self.words(&[0]),
            Some((resize, filter)) => {
                let filter = match filter {
                    Filter::Nearest => 0,
                    Filter::Lanczos => 1,
                    Filter::Bilinear => 2,
                    Filter::Bicubic => 3,
                };
                match resize {
                    Resize::Exact(size) => self.words(&[1, filter, size.height as u64, size.width as u64]),
                    Resize::ShortestEdge(side) => self.words(&[2, filter, side as u64]),
                }
            }
        }
        match steps.crop {
            None => self.words(&[0]),
            Some(size) => self.words(&[1, size.height as u64, size.width as u64]),
        }
        match steps.rescale {
            None => self.words(&[0]),
            Some(factor) => self.words(&[1, factor.to_bits()]),
        }
        match steps.normalize {
            None => self.words(&[0]),
            Some((mean, std)) => {
                self.words(&[1]);
                self.floats(&mean);
                self.floats(&std);
            }
        }
    }

    pub(crate) fn tensor(&mut self, spec: &TensorSpec, values: &[f32]) {
        self.words(&[spec.name.len() as u64]);
        self.0.update(spec.name.as_bytes());
        self.words(&[values.len() as u64]);
        let mut bytes = [0; 4096];
        for chunk in values.chunks(bytes.len() / 4) {
            for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
                *bytes = value.to_le_bytes();
            }
            self.0.update(&bytes[..4 * chunk.len()]);
        }
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }
}
