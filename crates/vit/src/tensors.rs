use std::path::Path;

use crate::config::{self, Architecture};
use crate::load::{Checkpoint, read_json};
use crate::preprocess::{Preprocessor, Steps};
use crate::{Error, Result, init};

/// One tensor of a model.
///
/// See the example of [`Tensors`].
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// As Hugging Face names it, without the prefix of a classifier.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// The weights of a model as they are stored, for whoever wants more of it than [`Vit`](crate::Vit) computes:
/// gradients, say.
///
/// ```
/// use arras_vit::Tensors;
/// # use arras_vit::config::{Activation, Architecture, Size, Trunk};
///
/// # let trunk = Trunk { image: Size::square(8), patch: Size::square(4), width: 8, depth: 1, heads: 2,
/// #     activation: Activation::Gelu, layer_norm_eps: 1e-6, qkv_bias: true };
/// # let architecture = Architecture::Vit(trunk, 16);
/// // 8x8 images in patches of 4, tokens of 8 numbers.
/// let model = Tensors::random(&architecture, 1)?;
/// let weights: usize = model.tensors.iter().map(|tensor| tensor.values.len()).sum();
/// assert_eq!(weights, architecture.weights());
/// let cls = model.tensors.iter().find(|tensor| tensor.name == "embeddings.cls_token").ok_or("no CLS")?;
/// assert_eq!(cls.shape, [1, 1, 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensors {
    /// Family and dimensions.
    pub architecture: Architecture,
    /// What turns an image into the model's input.
    pub preprocessor: Preprocessor,
    /// Every tensor that the CLS token depends on, in a fixed order.
    pub tensors: Vec<NamedTensor>,
}

impl Tensors {
    /// Those of a Hugging Face directory that [`Vit::load`](crate::Vit::load) takes.
    ///
    /// # Errors
    /// As [`Vit::load`](crate::Vit::load).
    pub fn load(dir: &Path) -> Result<Self> {
        let file = dir.join("config.json");
        let architecture = config::parse(&read_json(&file)?).map_err(|error| error.at(&file))?;
        let preprocessor = Preprocessor::from_dir(dir, &architecture)?;
        let mut checkpoint = Checkpoint::open(dir)?;
        let tensors = architecture.tensors().into_iter().map(|spec| {
            checkpoint.tensor(&spec).map(|values| NamedTensor { name: spec.name, shape: spec.shape, values })
        });
        Ok(Self { tensors: tensors.collect::<Result<_>>()?, architecture, preprocessor })
    }

    /// Those of [`Vit::random`](crate::Vit::random).
    ///
    /// # Errors
    /// [`Error::Input`]: an architecture that [`Architecture::validate`] refuses.
    pub fn random(architecture: &Architecture, seed: u64) -> Result<Self> {
        let invalid = |error: crate::FieldError| Error::Input(error.to_string());
        architecture.validate().map_err(invalid)?;
        let steps = Steps::for_family(architecture);
        let preprocessor = Preprocessor::new(steps, architecture).map_err(invalid)?;
        let tensors = architecture.tensors().into_iter().map(|spec| {
            let values = init::tensor(seed, &spec);
            NamedTensor { name: spec.name, shape: spec.shape, values }
        });
        Ok(Self { tensors: tensors.collect(), architecture: *architecture, preprocessor })
    }
}
