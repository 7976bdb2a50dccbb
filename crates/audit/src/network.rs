//! A vision transformer that can be differentiated: made of candle's plain operations, whose gradients exist. The
//! fused ones of `arras-vit` have none, and candle's own fast softmax and layer norm stop gradients silently.

use std::collections::{BTreeMap, HashMap};

use arras_vit::Tensors;
use arras_vit::config::{Activation, Architecture, FeedForward};
use candle_core::{D, Device, Tensor, Var};

use crate::{Error, Random, Result};

/// Weights by name, `head.weight` and `head.bias` among them.
/// See the example of [`Network`].
pub type Weights = BTreeMap<String, Tensor>;

const POSITIONS: &str = "embeddings.position_embeddings";
const PATCH: &str = "embeddings.patch_embeddings.projection.weight";

/// A transformer with a linear classifier on its CLS token, as it is while a client trains it.
///
/// ```
/// use arras_audit::network::Network;
/// use candle_core::{DType, Device, Tensor};
/// # use arras_vit::{Tensors, config::{Activation, Architecture, Size, Trunk}};
///
/// # let trunk = Trunk { image: Size::square(8), patch: Size::square(4), width: 8, depth: 1, heads: 2,
/// #     activation: Activation::Gelu, layer_norm_eps: 1e-6, qkv_bias: true };
/// # let model = Tensors::random(&Architecture::Vit(trunk, 16), 1)?;
/// // 8x8 pictures in patches of 4, tokens of 8 numbers, three classes.
/// let network = Network::new(model, 3, 1, &Device::Cpu)?;
/// let pixels = Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[0_u32, 2], &Device::Cpu)?;
/// assert_eq!(network.cls(network.weights(), &pixels)?.dims(), [2, 8]);
/// let gradients = network.gradients(&pixels, &labels, &["head.weight"])?;
/// assert_eq!(gradients["head.weight"].dims(), [3, 8]);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    classes: usize,
    weights: Weights,
}

impl Network {
    /// Stored weights with a classifier of `classes` classes whose weights are normal of deviation 0.02.
    ///
    /// # Errors
    /// No class, or a preprocessing whose output is not the size that the position embeddings belong to.
    pub fn new(model: Tensors, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let Tensors { architecture, preprocessor, tensors } = model;
        if preprocessor.output() != architecture.trunk().image {
            let reason = format!("gradients need {} pixels, as trained", architecture.trunk().image);
            return Err(Error::invalid("model", reason));
        }
        if classes == 0 {
            return Err(Error::invalid("classes", "expected at least 1"));
        }
        let width = architecture.width();
        let mut weights = Weights::new();
        for tensor in tensors {
            weights.insert(tensor.name, Tensor::from_vec(tensor.values, tensor.shape, device)?);
        }
        let head = Random::new("arras/1 audit head", &[seed]).normals(classes * width, 0.02);
        weights.insert("head.weight".into(), Tensor::from_vec(head, (classes, width), device)?);
        weights.insert("head.bias".into(), Tensor::zeros(classes, candle_core::DType::F32, device)?);
        Ok(Self { architecture, classes, weights })
    }

    /// Family and dimensions.
    #[must_use]
    pub const fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Number of classes.
    #[must_use]
    pub const fn classes(&self) -> usize {
        self.classes
    }

    /// The weights.
    #[must_use]
    pub const fn weights(&self) -> &Weights {
        &self.weights
    }

    /// CLS tokens `[B, D]` after the last norm, of pixels `[B, 3, H, W]`.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn cls(&self, weights: &Weights, pixels: &Tensor) -> Result<Tensor> {
        Pass { network: self, weights }.cls(pixels)
    }

    /// Mean cross-entropy of the labels `[B]` (u32) of pixels `[B, 3, H, W]`, in a form that is differentiable in
    /// weights and pixels.
    ///
    /// # Errors
    /// Pixels or labels of another shape.
    pub fn loss(&self, weights: &Weights, pixels: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let pass = Pass { network: self, weights };
        let logits = pass.linear(&pass.cls(pixels)?, "head")?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
        let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
        let scores = shifted.broadcast_sub(&log_sum)?.gather(&labels.unsqueeze(1)?, 1)?;
        Ok(scores.mean_all()?.neg()?)
    }

    /// What a client that trains on one batch of pixels sends: the gradients of [`Self::loss`] in the named weights,
    /// in all of them if none is named.
    ///
    /// # Errors
    /// Pixels or labels of another shape, a weight that does not exist.
    pub fn gradients(&self, pixels: &Tensor, labels: &Tensor, names: &[&str]) -> Result<Weights> {
        let all: Vec<&str> = self.weights.keys().map(String::as_str).collect();
        let mut weights = self.weights.clone();
        let mut variables = HashMap::new();
        for &name in if names.is_empty() { &all } else { names } {
            let weight = weights.get_mut(name).ok_or_else(|| Error::invalid(name, "no such weight"))?;
            let variable = Var::from_tensor(weight)?;
            *weight = variable.as_tensor().clone();
            variables.insert(name, variable);
        }
        let mut found = self.loss(&weights, pixels, labels)?.backward()?;
        variables
            .into_iter()
            .map(|(name, variable)| {
                let missing = || Error::invalid(name, "the loss does not depend on it");
                Ok((name.to_owned(), found.remove(&variable).ok_or_else(missing)?))
            })
            .collect()
    }

    /// The two gradients that give an image away, of position embeddings `[1, T, D]` and of patch projection
    /// `[D, 3, P, P]`.
    ///
    /// # Errors
    /// Pixels or labels of another shape.
    pub fn embedding_gradients(&self, pixels: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let mut gradients = self.gradients(pixels, labels, &[POSITIONS, PATCH])?;
        let mut take = |name| gradients.remove(name).ok_or_else(|| Error::invalid(name, "missing"));
        Ok((take(POSITIONS)?, take(PATCH)?))
    }
}

/// One evaluation with given weights.
struct Pass<'a> {
    network: &'a Network,
    weights: &'a Weights,
}

impl Pass<'_> {
    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.weights.get(name).ok_or_else(|| Error::invalid(name, "missing"))
    }

    fn cls(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, ..) = pixels.dims4()?;
        let trunk = self.network.architecture.trunk();
        let patches = patches(pixels, trunk.patch.height, trunk.patch.width)?;
        let projection = self.weight(PATCH)?.flatten_from(1)?;
        let bias = self.weight("embeddings.patch_embeddings.projection.bias")?;
        let embedded = matmul_t(&patches, &projection)?.broadcast_add(bias)?;
        let cls = self.weight("embeddings.cls_token")?.broadcast_as((batch, 1, trunk.width))?;
        let mut x = Tensor::cat(&[&cls, &embedded], 1)?.broadcast_add(self.weight(POSITIONS)?)?;
        for block in 0..trunk.depth {
            x = self.block(&format!("encoder.layer.{block}"), &x)?;
        }
        self.norm(&x.narrow(1, 0, 1)?.squeeze(1)?, "layernorm")
    }

    fn block(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let dinov2 = matches!(self.network.architecture, Architecture::Dinov2(..));
        let (norm1, norm2) =
            if dinov2 { ("norm1", "norm2") } else { ("layernorm_before", "layernorm_after") };
        let scaled = |y: Tensor, scale: &str| -> Result<Tensor> {
            match dinov2 {
                true => Ok(y.broadcast_mul(self.weight(&format!("{name}.{scale}.lambda1"))?)?),
                false => Ok(y),
            }
        };
        let mixed = self.attention(name, &self.norm(x, &format!("{name}.{norm1}"))?)?;
        let x = (x + scaled(mixed, "layer_scale1")?)?;
        let fed = self.feed_forward(name, &self.norm(&x, &format!("{name}.{norm2}"))?, dinov2)?;
        Ok((x + scaled(fed, "layer_scale2")?)?)
    }

    fn attention(&self, block: &str, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let heads = self.network.architecture.trunk().heads;
        let part = |name: &str| -> Result<Tensor> {
            let y = self.linear(x, &format!("{block}.attention.attention.{name}"))?;
            Ok(y.reshape((batch, tokens, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
        };
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let scores = (part("query")?.matmul(&part("key")?.t()?.contiguous()?)? * scale)?;
        let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let shares = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
        let mixed = shares.matmul(&part("value")?)?.transpose(1, 2)?.reshape((batch, tokens, width))?;
        self.linear(&mixed, &format!("{block}.attention.output.dense"))
    }

    fn feed_forward(&self, block: &str, x: &Tensor, dinov2: bool) -> Result<Tensor> {
        let architecture = &self.network.architecture;
        if let FeedForward::SwiGlu(hidden) = architecture.feed_forward() {
            let both = self.linear(x, &format!("{block}.mlp.weights_in"))?;
            let gate = both.narrow(D::Minus1, 0, hidden)?.silu()?;
            let product = (gate * both.narrow(D::Minus1, hidden, hidden)?)?;
            return self.linear(&product, &format!("{block}.mlp.weights_out"));
        }
        let (up, down) = if dinov2 { ("mlp.fc1", "mlp.fc2") } else { ("intermediate.dense", "output.dense") };
        let hidden = self.linear(x, &format!("{block}.{up}"))?;
        let hidden = match architecture.trunk().activation {
            Activation::Gelu => hidden.gelu_erf()?,
            Activation::GeluTanh => hidden.gelu()?,
            Activation::QuickGelu => (&hidden * ((&hidden * -1.702)?.exp()? + 1.0)?.recip()?)?,
            Activation::Relu => hidden.relu()?,
            other => return Err(Error::invalid("hidden_act", format!("{other:?} has no gradient here"))),
        };
        self.linear(&hidden, &format!("{block}.{down}"))
    }

    /// `x w^T + b`; a projection that has no bias has none stored.
    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let y = matmul_t(x, self.weight(&format!("{name}.weight"))?)?;
        match self.weights.get(&format!("{name}.bias")) {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let eps = self.network.architecture.trunk().layer_norm_eps;
        let scaled = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
        let weighted = scaled.broadcast_mul(self.weight(&format!("{name}.weight"))?)?;
        Ok(weighted.broadcast_add(self.weight(&format!("{name}.bias"))?)?)
    }
}

/// `x w^T` of `x` with any number of leading dimensions.
fn matmul_t(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inner = dims.pop().unwrap_or(0);
    dims.push(weight.dim(0)?);
    let rows = x.elem_count() / inner.max(1);
    Ok(x.reshape((rows, inner))?.matmul(&weight.t()?)?.reshape(dims)?)
}

/// Patches `[B, N, 3 P P]` of pixels `[B, 3, H, W]`, row by row, each channel by channel; a remainder that fills no
/// patch is not looked at.
pub(crate) fn patches(pixels: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, channels, h, w) = pixels.dims4()?;
    let (rows, columns) = (h / height, w / width);
    let whole = pixels.narrow(2, 0, rows * height)?.narrow(3, 0, columns * width)?;
    let split = whole.reshape((batch, channels, rows, height, columns * width))?;
    let split = split.reshape(&[batch, channels, rows, height, columns, width][..])?;
    let ordered = split.permute(vec![0, 2, 4, 1, 3, 5])?.contiguous()?;
    Ok(ordered.reshape((batch, rows * columns, channels * height * width))?)
}

#[cfg(test)]
mod tests;
