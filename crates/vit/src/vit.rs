use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use crate::config::{self, Architecture, TensorSpec};
use crate::fingerprint::{Builder, Fingerprint};
use crate::load::{Checkpoint, read_json};
use crate::model::{Encoder, Weights};
use crate::preprocess::{Preprocessor, Steps};
use crate::{Error, Result, init, ops};

/// Where the transformer runs.
///
/// See the example of [`Vit`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Device {
    /// Host memory; threads as rayon's global pool has.
    #[default]
    Cpu,
    /// A GPU.
    #[cfg(feature = "gpu")]
    Cuda(crate::Gpu),
}

impl Device {
    fn candle(&self) -> candle_core::Device {
        match self {
            Self::Cpu => candle_core::Device::Cpu,
            #[cfg(feature = "gpu")]
            Self::Cuda(gpu) => gpu.candle_device().clone(),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Cpu => DType::F32,
            #[cfg(feature = "gpu")]
            Self::Cuda(gpu) => gpu.dtype(),
        }
    }

    fn path(&self) -> ops::Path {
        match self {
            Self::Cpu => ops::Path::Fused,
            #[cfg(feature = "gpu")]
            Self::Cuda(gpu) => gpu.path(),
        }
    }
}

/// A vision transformer with its weights and preprocessing.
///
/// ```
/// use arras_vit::{Architecture, Device, Vit};
/// use image::DynamicImage;
///
/// let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cpu)?;
/// let black = vit.preprocessor().pixels(&DynamicImage::new_rgb8(100, 80))?;
/// let tokens = vit.embed_batch(&[black])?;
/// assert_eq!((tokens.len(), tokens[0].len()), (1, vit.config().width()));
/// let error = vit.embed_batch(&[vec![0.0; 5]]).unwrap_err();
/// assert_eq!(error.to_string(), "image 0: expected 12288 values, found 5");
/// # Ok::<(), arras_vit::Error>(())
/// ```
#[derive(Debug)]
pub struct Vit {
    architecture: Architecture,
    preprocessor: Preprocessor,
    fingerprint: Fingerprint,
    device: Device,
    encoder: Encoder,
}

impl Vit {
    /// Loads a Hugging Face directory: `config.json`, `model.safetensors` or its shards (f32, f16, bf16;
    /// computed in f32, on a GPU as its precision says), and `preprocessor_config.json` if there is one.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Field`], [`Error::Weights`] or [`Error::Tensor`], naming the file; [`Error::Compute`].
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let file = dir.join("config.json");
        let architecture = config::parse(&read_json(&file)?).map_err(|error| error.at(&file))?;
        let preprocessor = Preprocessor::from_dir(dir, &architecture)?;
        let mut checkpoint = Checkpoint::open(dir)?;
        Self::build(architecture, preprocessor, device, |spec| checkpoint.tensor(spec))
    }

    /// Random weights: the same bits for a seed on every machine. Normal of deviation 0.02 truncated at two
    /// deviations, biases zero, norms one. Preprocessing is [`Steps::for_family`].
    ///
    /// # Errors
    /// [`Error::Input`]: an architecture that [`Architecture::validate`] refuses; [`Error::Compute`].
    pub fn random(architecture: &Architecture, seed: u64, device: &Device) -> Result<Self> {
        let invalid = |error: crate::FieldError| Error::Input(error.to_string());
        architecture.validate().map_err(invalid)?;
        let steps = Steps::for_family(architecture);
        let preprocessor = Preprocessor::new(steps, architecture).map_err(invalid)?;
        Self::build(*architecture, preprocessor, device, |spec| Ok(init::tensor(seed, spec)))
    }

    fn build(
        architecture: Architecture,
        preprocessor: Preprocessor,
        device: &Device,
        mut tensor: impl FnMut(&TensorSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut builder = Builder::new(&architecture, preprocessor.steps());
        let mut values = HashMap::new();
        for spec in architecture.tensors() {
            let found = tensor(&spec)?;
            builder.tensor(&spec, &found);
            values.insert(spec.name, found);
        }
        let weights = Weights { values, device: &device.candle(), dtype: device.dtype() };
        let encoder = Encoder::new(architecture, preprocessor.output(), weights, device.path())?;
        let (fingerprint, device) = (builder.finish(), device.clone());
        Ok(Self { architecture, preprocessor, fingerprint, device, encoder })
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
    /// Every element of `pixels` is `[3][height][width]` as [`Preprocessor::pixels`] gives it. On the CPU the whole slice
    /// is one batch, and memory grows with its length; on a GPU it goes through in batches.
    ///
    /// # Errors
    /// [`Error::Input`]: an image of another length, or one whose token is not finite, named by its index; [`Error::Compute`].
    pub fn embed_batch<P: AsRef<[f32]>>(&self, pixels: &[P]) -> Result<Vec<Vec<f32>>> {
        self.check(pixels)?;
        if pixels.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.tokens(pixels)?.to_vec2::<f32>()?;
        match rows.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            Some(index) => Err(Error::Input(format!("image {index}: the CLS token is not finite"))),
            None => Ok(rows),
        }
    }

    /// [`embed_batch`](Self::embed_batch) of a transformer on a GPU, without the way back: the tokens as 64-bit floats, one to a word, image
    /// after image, for work of `queue` from here on. The tensor of tokens is overwritten; what the layers leave in candle's memory is not.
    ///
    /// # Errors
    /// As there; a transformer on the CPU. Tokens that are not finite are left for the encoder to find.
    #[cfg(feature = "gpu")]
    pub fn embed_resident<P: AsRef<[f32]>>(
        &self,
        queue: &arras_cuda::queue::Queue<arras_cuda::NvidiaDriver>,
        pixels: &[P],
    ) -> Result<arras_cuda::memory::Buffer<arras_cuda::NvidiaDriver>> {
        let Device::Cuda(gpu) = &self.device else {
            return Err(Error::Input("the transformer is on the CPU".to_owned()));
        };
        self.check(pixels)?;
        gpu.words(queue, self.tokens(pixels)?)
    }

    fn check<P: AsRef<[f32]>>(&self, pixels: &[P]) -> Result<()> {
        let wanted = self.preprocessor.len();
        match pixels.iter().position(|p| p.as_ref().len() != wanted) {
            Some(index) => {
                let found = pixels[index].as_ref().len();
                Err(Error::Input(format!("image {index}: expected {wanted} values, found {found}")))
            }
            None => Ok(()),
        }
    }

    /// Tokens `[B, D]` of images that have the right length, on the device.
    fn tokens<P: AsRef<[f32]>>(&self, pixels: &[P]) -> Result<Tensor> {
        let size = self.preprocessor.output();
        match &self.device {
            Device::Cpu => {
                let flat: Vec<f32> = pixels.iter().flat_map(|p| p.as_ref()).copied().collect();
                let shape = (pixels.len(), 3, size.height, size.width);
                self.cls(&Tensor::from_vec(flat, shape, self.encoder.device())?)
            }
            #[cfg(feature = "gpu")]
            Device::Cuda(gpu) => gpu.tokens(&self.encoder, size, pixels),
        }
    }

    /// Lower level: CLS tokens `[B, D]` in f32 of pixels `[B, 3, H, W]` on [`Self::candle_device`].
    ///
    /// # Errors
    /// [`Error::Compute`]: pixels of another shape, or on another device.
    pub fn cls(&self, pixels: &Tensor) -> Result<Tensor> {
        self.encoder.cls(pixels)
    }

    /// Lower level: `last_hidden_state` `[B, T, D]` (all tokens after the last norm) of pixels
    /// `[B, 3, H, W]`; token 0 is CLS.
    ///
    /// # Errors
    /// As [`Self::cls`].
    pub fn last_hidden_state(&self, pixels: &Tensor) -> Result<Tensor> {
        self.encoder.last_hidden_state(pixels)
    }

    /// Lower level: candle's device of the weights.
    pub fn candle_device(&self) -> &candle_core::Device {
        self.encoder.device()
    }
}
