use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::{Error, Image, Result};

/// Shift and scale of the input per channel, after it was mapped to -1..1.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Shortest side that leaves a pixel after both poolings.
const SHORTEST: usize = 31;

/// One convolution of AlexNet: output channels, input channels, kernel side, stride, padding, and the name that
/// `lpips` gives it.
type Convolution = (usize, usize, usize, usize, usize, &'static str);
const CONVOLUTIONS: [Convolution; 5] = [
    (64, 3, 11, 4, 2, "net.slice1.0"),
    (192, 64, 5, 1, 2, "net.slice2.3"),
    (384, 192, 3, 1, 1, "net.slice3.6"),
    (256, 384, 3, 1, 1, "net.slice4.8"),
    (256, 256, 3, 1, 1, "net.slice5.10"),
];

/// Learned perceptual image patch similarity (Zhang et al. 2018), AlexNet, version 0.1: the squared distance between
/// features of both pictures after each of five convolutions, every position's features scaled to length 1, weighted
/// by channel, averaged over positions, summed over the five. 0 for equal pictures; closer is less.
///
/// ```
/// use arras_audit::metrics::Lpips;
///
/// // Weights are not part of the package; without the file there is no LPIPS.
/// let error = Lpips::load("lpips.safetensors".as_ref()).unwrap_err();
/// assert!(error.to_string().starts_with("lpips.safetensors: "));
/// ```
#[derive(Debug)]
pub struct Lpips {
    layers: Vec<Layer>,
    shift: Tensor,
    scale: Tensor,
}

#[derive(Debug)]
struct Layer {
    weight: Tensor,
    /// `[1, C, 1, 1]`.
    bias: Tensor,
    stride: usize,
    padding: usize,
    /// Weight of every channel, `[1, C, 1, 1]`.
    channels: Tensor,
}

impl Lpips {
    /// Reads weights: a safetensors file of f32 tensors named as in `lpips.LPIPS(net='alex').state_dict()`
    /// (`net.slice1.0.weight`, ..., `lin4.model.1.weight`), which `scripts/lpips-weights.py` writes.
    ///
    /// # Errors
    /// A file that is none, or lacks a tensor of the right shape.
    pub fn load(file: &Path) -> Result<Self> {
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).map_err(|e| Error::file(file, e))?;
        Self::from_tensors(&tensors).map_err(|error| Error::file(file, error))
    }

    /// The network of tensors by name.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn from_tensors(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let take = |name: String, shape: &[usize]| -> Result<Tensor> {
            let tensor = tensors.get(&name).ok_or_else(|| Error::invalid(name.as_str(), "missing"))?;
            if tensor.dims() != shape {
                let reason = format!("expected shape {shape:?}, found {:?}", tensor.dims());
                return Err(Error::invalid(name, reason));
            }
            Ok(tensor.to_dtype(DType::F32)?)
        };
        let layer = |(index, &(out, input, side, stride, padding, name)): (usize, &Convolution)| {
            Ok(Layer {
                weight: take(format!("{name}.weight"), &[out, input, side, side])?,
                bias: take(format!("{name}.bias"), &[out])?.reshape((1, out, 1, 1))?,
                stride,
                padding,
                channels: take(format!("lin{index}.model.1.weight"), &[1, out, 1, 1])?,
            })
        };
        let triple = |values: [f32; 3]| Tensor::from_slice(&values, (1, 3, 1, 1), &Device::Cpu);
        Ok(Self {
            layers: CONVOLUTIONS.iter().enumerate().map(layer).collect::<Result<_>>()?,
            shift: triple(SHIFT)?,
            scale: triple(SCALE)?,
        })
    }

    /// The distance of two RGB pictures.
    ///
    /// # Errors
    /// Shapes that differ, other than three channels, a side shorter than 31 pixels.
    pub fn distance(&self, a: &Image, b: &Image) -> Result<f64> {
        a.same_shape(b)?;
        if a.channels() != 3 || a.height().min(a.width()) < SHORTEST {
            let reason = format!("LPIPS takes RGB of {SHORTEST} pixels and more, not {:?}", a.shape());
            return Err(Error::invalid("images", reason));
        }
        let (a, b) = (self.features(a)?, self.features(b)?);
        let mut sum = 0.0;
        for (layer, (a, b)) in self.layers.iter().zip(a.iter().zip(&b)) {
            let weighted = (a - b)?.sqr()?.broadcast_mul(&layer.channels)?.sum(1)?;
            sum += f64::from(weighted.mean_all()?.to_scalar::<f32>()?);
        }
        Ok(sum)
    }

    /// Features after each convolution, of length 1 at every position.
    fn features(&self, image: &Image) -> Result<Vec<Tensor>> {
        let x = Tensor::from_slice(image.values(), (1, 3, image.height(), image.width()), &Device::Cpu)?;
        let mut x = x.affine(2.0, -1.0)?.broadcast_sub(&self.shift)?.broadcast_div(&self.scale)?;
        let mut features = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            if index == 1 || index == 2 {
                x = x.max_pool2d_with_stride(3, 2)?;
            }
            x = x.conv2d(&layer.weight, layer.padding, layer.stride, 1, 1)?;
            x = x.broadcast_add(&layer.bias)?.relu()?;
            let length = (x.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-10)?;
            features.push(x.broadcast_div(&length)?);
        }
        Ok(features)
    }
}
