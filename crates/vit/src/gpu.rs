//! The transformer on a GPU: one stream for candle and for our kernels, uploads beside it.

use std::fmt::{self, Debug};
use std::sync::Arc;

use arras_cuda::memory::Buffer;
use arras_cuda::queue::Queue;
use arras_cuda::upload::Uploads;
use arras_cuda::{Cuda, NvidiaDriver};
use arras_rns::Backend;
use candle_core::{DType, Device, Tensor};

use crate::config::Size;
use crate::launch::{BlockKernels, Launcher};
use crate::model::Encoder;
use crate::ops::Path;
use crate::{Error, Result};

/// What weights and activations are stored as. Sums are in f32 either way.
///
/// See the example of [`Gpu`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// 32-bit floats: tokens agree with the CPU's to rounding.
    #[default]
    F32,
    /// bf16: half the memory traffic, and the matrix units at full rate. Tokens differ by about 2^-8.
    Bf16,
}

/// A GPU that computes transformers and, in the same stream, our own operations: tokens need not leave it to be encrypted.
///
/// ```no_run
/// use arras_cuda::{Cuda, Images, NvidiaDriver};
/// use arras_vit::{Architecture, Device, Gpu, Precision, Vit};
///
/// # let images = Images { abi: 0, images: &[] };
/// // `images` are those of the build, `arras::KERNELS`.
/// let cuda = Cuda::new(NvidiaDriver::open(0)?, &images)?;
/// let gpu = Gpu::new(&cuda, 0, Precision::Bf16)?;
/// let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cuda(gpu))?;
/// let tokens = vit.embed_batch(&[vec![0.0; vit.preprocessor().len()]])?;
/// assert_eq!(tokens[0].len(), 768);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    device: Device,
    precision: Precision,
    launcher: Arc<Launcher<NvidiaDriver>>,
}

impl Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({:?}, {:?})", self.0.device.location(), self.0.precision)
    }
}

/// Images that go through the transformer together.
const BATCH: usize = 64;

impl Gpu {
    /// Lets candle use the device of `cuda`, which is number `ordinal`.
    ///
    /// # Errors
    /// [`Error::Compute`]: candle cannot use it (it takes cuBLAS and cuRAND), or `cuda` is another one.
    pub fn new(cuda: &Cuda<NvidiaDriver>, ordinal: usize, precision: Precision) -> Result<Self> {
        let device = Device::new_cuda_with_stream(ordinal)?;
        let stream = device.as_cuda_device()?.cuda_stream();
        if stream.context().cu_ctx() != cuda.driver().raw_context() {
            return Err(Error::Compute(format!("the backend is not on cuda:{ordinal}")));
        }
        let launcher = Launcher::on(cuda, stream).map_err(device_error)?;
        Ok(Self(Arc::new(Inner { device, precision, launcher: Arc::new(launcher) })))
    }

    /// Candle's device.
    pub fn candle_device(&self) -> &Device {
        &self.0.device
    }

    pub(crate) fn dtype(&self) -> DType {
        match self.0.precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        }
    }

    pub(crate) fn path(&self) -> Path {
        Path::Kernels(self.0.launcher.clone() as Arc<dyn BlockKernels>)
    }

    /// The backend that shares the device.
    pub fn backend(&self) -> &Cuda<NvidiaDriver> {
        self.0.launcher.kernels().cuda()
    }

    /// The elements of an f32 tensor of this device as 64-bit floats, one to a word, for work of `queue` from here on. The tensor is
    /// overwritten.
    pub(crate) fn words(&self, queue: &Queue<NvidiaDriver>, tokens: Tensor) -> Result<Buffer<NvidiaDriver>> {
        let backend = self.backend();
        let own = backend.queue_on(Launcher::share(backend, self.0.device.as_cuda_device()?.cuda_stream()));
        let count = tokens.elem_count();
        let words = backend.allocate(&own, count).map_err(device_error)?;
        self.0.launcher.widen_and_wipe(&own, &words, &tokens)?;
        let done = backend.record(&own).map_err(device_error)?;
        backend.wait(queue, &done).map_err(device_error)?;
        Ok(words)
    }

    /// Tokens `[B, D]` of images as `Vit::embed_batch` takes them: while a batch is computed, the next is copied.
    pub(crate) fn tokens<P: AsRef<[f32]>>(
        &self,
        encoder: &Encoder,
        size: Size,
        pixels: &[P],
    ) -> Result<Tensor> {
        let batch = pixels.len().clamp(1, BATCH);
        let shape = (batch, 3, size.height, size.width);
        let make = || Tensor::zeros(shape, DType::F32, &self.0.device);
        let targets = [make()?, make()?];
        let bytes = batch * 3 * size.area() * size_of::<f32>();
        let mut uploads = Uploads::new(self.backend(), bytes).map_err(device_error)?;
        // The targets are allocated and cleared in candle's stream.
        for _ in &targets {
            uploads.used(self.0.launcher.stream()).map_err(device_error)?;
        }
        let mut tokens = Vec::new();
        for images in pixels.chunks(batch) {
            let target = &targets[uploads.turn()];
            self.0.launcher.upload(&mut uploads, target, images)?;
            tokens.push(encoder.cls(&target.narrow(0, 0, images.len())?)?);
            uploads.used(self.0.launcher.stream()).map_err(device_error)?;
        }
        if tokens.is_empty() {
            return Ok(Tensor::zeros((0, encoder.width()), DType::F32, &self.0.device)?);
        }
        Ok(Tensor::cat(&tokens, 0)?)
    }
}

fn device_error(error: impl fmt::Display) -> Error {
    Error::Compute(error.to_string())
}
