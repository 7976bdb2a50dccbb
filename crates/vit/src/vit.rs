use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use crate::config::{self, Architecture, TensorSpec};
use crate::fingerprint::{Builder, Fingerprint};
use crate::load::{Checkpoint, read_json};
use crate::model::{Encoder, Weights};
use crate::preprocess::{Preprocessor, Steps};
use crate::{Error, Result, init};

/// Where the transformer runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// Host memory; threads as rayon's global pool has.
    #[default]
    Cpu,
}

impl Device {
    fn open(self) -> Result<candle_core::Device> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
        }
    }
}

/// A vision transformer with its weights and preprocessing.
#[derive(Debug)]
pub struct Vit {
    architecture: Architecture,
    preprocessor: Preprocessor,
    fingerprint: Fingerprint,
    encoder: Encoder,
}

impl Vit {
    /// Loads a Hugging Face directory: `config.json`, `model.safetensors` or its shards (f32, f16, bf16;
    /// computed in f32), and `preprocessor_config.json` if there is one.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let file = dir.join("config.json");
        let architecture = config::parse(&read_json(&file)?).map_err(|error| error.at(&file))?;
        let preprocessor = Preprocessor::from_dir(dir, &architecture)?;
        let mut checkpoint = Checkpoint::open(dir)?;
        Self::build(architecture, preprocessor, device.open()?, |spec| checkpoint.tensor(spec))
    }

    /// Random weights: the same bits for a seed on every machine. Normal of deviation 0.02 truncated at two
    /// deviations, biases zero, norms one. Preprocessing is [`Steps::for_family`].
    pub fn random(architecture: &Architecture, seed: u64, device: &Device) -> Result<Self> {
        let invalid = |error: crate::FieldError| Error::Input(error.to_string());
        architecture.validate().map_err(invalid)?;
        let steps = Steps::for_family(architecture);
        let preprocessor = Preprocessor::new(steps, architecture).map_err(invalid)?;
        Self::build(*architecture, preprocessor, device.open()?, |spec| Ok(init::tensor(seed, spec)))
    }

    fn build(
        architecture: Architecture,
        preprocessor: Preprocessor,
        device: candle_core::Device,
        mut tensor: impl FnMut(&TensorSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut builder = Builder::new(&architecture, preprocessor.steps());
        let mut values = HashMap::new();
        for spec in architecture.tensors() {
            let found = tensor(&spec)?;
            builder.tensor(&spec, &found);
            values.insert(spec.name, found);
        }
        let weights = Weights { values, device: &device };
        let encoder = Encoder::new(architecture, preprocessor.output(), weights)?;
        Ok(Self { architecture, preprocessor, fingerprint: builder.finish(), encoder })
    }

    /// Family and dimensions.
    pub const fn config(&self) -> &Architecture {
        &self.architecture
    }

    /// What turns an image into [`Self::embed_batch`]'s input.
    pub const fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Identifies architecture, weights and preprocessing.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// CLS tokens of preprocessed images, one row of [`Architecture::width`] finite numbers each.
    ///
    /// Every element of `pixels` is `[3][height][width]` as [`Preprocessor::pixels`] gives it. The whole slice
    /// is one batch; memory grows with its length.
    pub fn embed_batch<P: AsRef<[f32]>>(&self, pixels: &[P]) -> Result<Vec<Vec<f32>>> {
        let wanted = self.preprocessor.len();
        if let Some(index) = pixels.iter().position(|p| p.as_ref().len() != wanted) {
            let found = pixels[index].as_ref().len();
            return Err(Error::Input(format!("image {index}: expected {wanted} values, found {found}")));
        }
        if pixels.is_empty() {
            return Ok(Vec::new());
        }
        let size = self.preprocessor.output();
        let flat: Vec<f32> = pixels.iter().flat_map(|p| p.as_ref()).copied().collect();
        let shape = (pixels.len(), 3, size.height, size.width);
        let rows = self.cls(&Tensor::from_vec(flat, shape, self.encoder.device())?)?.to_vec2::<f32>()?;
        match rows.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            Some(index) => Err(Error::Input(format!("image {index}: the CLS token is not finite"))),
            None => Ok(rows),
        }
    }

    /// Lower level: CLS tokens `[B, D]` in f32 of pixels `[B, 3, H, W]` on [`Self::candle_device`].
    pub fn cls(&self, pixels: &Tensor) -> Result<Tensor> {
        self.encoder.cls(pixels)
    }

    /// Lower level: `last_hidden_state` `[B, T, D]` (all tokens after the last norm) of pixels
    /// `[B, 3, H, W]`; token 0 is CLS.
    pub fn last_hidden_state(&self, pixels: &Tensor) -> Result<Tensor> {
        self.encoder.last_hidden_state(pixels)
    }

    /// Lower level: candle's device of the weights.
    pub fn candle_device(&self) -> &candle_core::Device {
        self.encoder.device()
    }
}
