//! The forward pass, one for all families: pre-norm blocks on patch tokens behind a CLS token.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::config::{Activation, Architecture, FeedForward, PROJECTION, QKV, Size};
use crate::ops::{self, Path};
use crate::{Error, Result, interpolate};

/// A transformer on a device, its weights arranged for inference.
#[derive(Debug)]
pub(crate) struct Encoder {
    architecture: Architecture,
    input: Size,
    path: Path,
    /// Type of the weights and of everything between pixels and tokens.
    dtype: DType,
    patch: Tensor,
    /// CLS token plus its position embedding, `[1, 1, D]`.
    cls: Tensor,
    /// Position embeddings of the patches plus the bias of their projection, `[N, D]`.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
}

#[derive(Debug)]
struct Block {
    norm1: Norm,
    /// `[3D, D]`, the query rows already scaled by 1/sqrt(head width).
    qkv: Tensor,
    qkv_bias: Option<Tensor>,
    projection: Linear,
    norm2: Norm,
    up: Linear,
    down: Linear,
}

#[derive(Debug)]
struct Linear {
    /// `[out, in]`.
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct Norm {
    /// Weight and bias, `[2, D]`.
    affine: Tensor,
    eps: f64,
}

/// The tensors of an architecture by name, taken out one by one.
pub(crate) struct Weights<'a> {
    pub(crate) values: HashMap<String, Vec<f32>>,
    pub(crate) device: &'a Device,
    pub(crate) dtype: DType,
}

impl Weights<'_> {
    fn values(&mut self, name: &str) -> Result<Vec<f32>> {
        let missing = || Error::Compute(format!("tensor {name} was not prepared"));
        self.values.remove(name).ok_or_else(missing)
    }

    fn tensor(&self, values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
        Ok(Tensor::from_vec(values, shape.into(), self.device)?.to_dtype(self.dtype)?)
    }

    fn norm(&mut self, name: &str, width: usize, eps: f64) -> Result<Norm> {
        let mut affine = self.values(&format!("{name}.weight"))?;
        affine.extend(self.values(&format!("{name}.bias"))?);
        Ok(Norm { affine: self.tensor(affine, (2, width))?, eps })
    }

    /// A projection followed by a layer scale, which is multiplied into it.
    fn linear(&mut self, name: &str, out: usize, input: usize, scale: Option<&str>) -> Result<Linear> {
        let mut weight = self.values(&format!("{name}.weight"))?;
        let mut bias = self.values(&format!("{name}.bias"))?;
        if let Some(scale) = scale {
            let scale = self.values(scale)?;
            for (row, scale) in weight.chunks_exact_mut(input).zip(&scale) {
                row.iter_mut().for_each(|w| *w *= scale);
            }
            bias.iter_mut().zip(&scale).for_each(|(b, scale)| *b *= scale);
        }
        Ok(Linear { weight: self.tensor(weight, (out, input))?, bias: self.tensor(bias, out)? })
    }

    /// Query, key and value stacked, `1/sqrt(head width)` multiplied into the query.
    fn qkv(&mut self, block: &str, suffix: &str, head_width: usize) -> Result<Vec<f32>> {
        let scale = 1.0 / (head_width as f32).sqrt();
        let mut stacked = Vec::new();
        for (part, factor) in QKV.iter().zip([scale, 1.0, 1.0]) {
            let values = self.values(&format!("{block}.{part}.{suffix}"))?;
            stacked.extend(values.into_iter().map(|w| w * factor));
        }
        Ok(stacked)
    }
}

impl Block {
    fn new(weights: &mut Weights<'_>, architecture: &Architecture, index: usize) -> Result<Self> {
        let trunk = architecture.trunk();
        let names = architecture.block_names();
        let (d, eps) = (trunk.width, trunk.layer_norm_eps);
        let (rows, hidden) = match architecture.feed_forward() {
            FeedForward::Mlp(hidden) => (hidden, hidden),
            FeedForward::SwiGlu(hidden) => (2 * hidden, hidden),
        };
        let block = format!("encoder.layer.{index}");
        let full = |name: &str| format!("{block}.{name}");
        let scale = |name: Option<&str>| name.map(full);
        let qkv = weights.qkv(&block, "weight", d / trunk.heads)?;
        let qkv_bias = match trunk.qkv_bias {
            true => {
                let bias = weights.qkv(&block, "bias", d / trunk.heads)?;
                Some(weights.tensor(bias, 3 * d)?)
            }
            false => None,
        };
        Ok(Self {
            norm1: weights.norm(&full(names.norm1), d, eps)?,
            qkv: weights.tensor(qkv, (3 * d, d))?,
            qkv_bias,
            projection: weights.linear(&full(PROJECTION), d, d, scale(names.scale1).as_deref())?,
            norm2: weights.norm(&full(names.norm2), d, eps)?,
            up: weights.linear(&full(names.up), rows, d, None)?,
            down: weights.linear(&full(names.down), d, hidden, scale(names.scale2).as_deref())?,
        })
    }

    /// Rows `begin..begin + count` of the stacked projection applied to `x`.
    fn project(&self, path: &Path, x: &Tensor, begin: usize, count: usize) -> Result<Tensor> {
        let y = matmul_t(x, &self.qkv.narrow(0, begin, count)?)?;
        match &self.qkv_bias {
            Some(bias) => Ok(ops::add_bias(path, y, &bias.narrow(0, begin, count)?)?),
            None => Ok(y),
        }
    }

    /// Second half of the block and the end of the first: `mixed` is what attention gave.
    fn finish(&self, run: &Run, x: Tensor, mixed: &Tensor) -> Result<Tensor> {
        let y = matmul_t(mixed, &self.projection.weight)?;
        let x = ops::bias_residual(&run.path, x, &y, &self.projection.bias)?;
        let hidden = matmul_t(&self.norm2.apply(&run.path, &x)?, &self.up.weight)?;
        let hidden = match run.activation {
            Some(with) => ops::bias_activation(&run.path, hidden, &self.up.bias, with)?,
            None => ops::bias_swiglu(&run.path, &hidden, &self.up.bias)?,
        };
        let y = matmul_t(&hidden, &self.down.weight)?;
        Ok(ops::bias_residual(&run.path, x, &y, &self.down.bias)?)
    }

    /// `x` is `[B * T, D]`, and so is the result.
    fn forward(&self, run: &Run, x: Tensor) -> Result<Tensor> {
        let (b, t, d) = (run.batch, run.tokens, run.width);
        let qkv = self.project(&run.path, &self.norm1.apply(&run.path, &x)?, 0, 3 * d)?;
        let heads = qkv.reshape((b, t, 3, run.heads, d / run.heads))?;
        let mixed = run.attention(
            &heads.narrow(2, 0, 1)?.squeeze(2)?,
            &heads.narrow(2, 1, 1)?.squeeze(2)?,
            &heads.narrow(2, 2, 1)?.squeeze(2)?,
        )?;
        self.finish(run, x, &mixed)
    }

    /// The CLS rows `[B, D]` of [`Self::forward`]: keys and values of all tokens, all else of one.
    fn forward_cls(&self, run: &Run, x: &Tensor) -> Result<Tensor> {
        let (b, t, d, heads) = (run.batch, run.tokens, run.width, run.heads);
        let normed = self.norm1.apply(&run.path, x)?;
        let kv = self.project(&run.path, &normed, d, 2 * d)?.reshape((b, t, 2, heads, d / heads))?;
        let cls = |x: &Tensor| -> Result<Tensor> {
            Ok(x.reshape((b, t, d))?.narrow(1, 0, 1)?.squeeze(1)?.force_contiguous()?)
        };
        let q = self.project(&run.path, &cls(&normed)?, 0, d)?.reshape((b, 1, heads, d / heads))?;
        let mixed = run.attention(&q, &kv.narrow(2, 0, 1)?.squeeze(2)?, &kv.narrow(2, 1, 1)?.squeeze(2)?)?;
        self.finish(run, cls(x)?, &mixed)
    }
}

impl Norm {
    fn apply(&self, path: &Path, x: &Tensor) -> Result<Tensor> {
        Ok(ops::layer_norm(path, x, &self.affine, self.eps)?)
    }
}

/// `x w^T`.
fn matmul_t(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

/// What is the same in all blocks of one forward pass.
struct Run {
    path: Path,
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    /// None for SwiGLU.
    activation: Option<Activation>,
}

impl Run {
    /// Attention of queries `[B, R, H, D/H]` over keys and values `[B, T, H, D/H]`, as `[B * R, D]`.
    ///
    /// On the CPU image by image: the views need no copy then, and the scores stay in cache.
    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let group = if matches!(self.path, Path::Fused) { 1 } else { self.batch };
        let rows = q.dim(1)?;
        let mut mixed = Vec::with_capacity(self.batch.div_ceil(group));
        for first in (0..self.batch).step_by(group) {
            let heads = |x: &Tensor| -> Result<Tensor> {
                let x = x.narrow(0, first, group)?.transpose(1, 2)?;
                Ok(if group > 1 { x.contiguous()? } else { x })
            };
            let scores = ops::softmax(&self.path, heads(q)?.matmul(&heads(k)?.t()?)?)?;
            mixed.push(scores.matmul(&heads(v)?)?.transpose(1, 2)?);
        }
        Ok(Tensor::cat(&mixed, 0)?.reshape((self.batch * rows, self.width))?)
    }
}

impl Encoder {
    /// Arranges the tensors that [`Architecture::tensors`] names, for inputs of size `input`.
    pub(crate) fn new(
        architecture: Architecture,
        input: Size,
        mut weights: Weights<'_>,
        path: Path,
    ) -> Result<Self> {
        let trunk = *architecture.trunk();
        let (d, dtype) = (trunk.width, weights.dtype);
        let grid = architecture.grid(input);

        let mut tokens = weights.values("embeddings.position_embeddings")?;
        let mut on_grid = interpolate::bicubic(&tokens[d..], architecture.grid(trunk.image), grid, d);
        tokens.truncate(d);
        let cls = weights.values("embeddings.cls_token")?;
        let cls = weights.tensor(cls.iter().zip(&tokens).map(|(a, b)| a + b).collect(), (1, 1, d))?;
        let projection = "embeddings.patch_embeddings.projection";
        let patch = weights.values(&format!("{projection}.weight"))?;
        let patch = weights.tensor(patch, (d, 3 * trunk.patch.area()))?;
        let bias = weights.values(&format!("{projection}.bias"))?;
        for row in on_grid.chunks_exact_mut(d) {
            row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
        }
        let positions = weights.tensor(on_grid, (grid.area(), d))?;

        let blocks: Result<_> =
            (0..trunk.depth).map(|index| Block::new(&mut weights, &architecture, index)).collect();
        let norm = weights.norm("layernorm", d, trunk.layer_norm_eps)?;
        Ok(Self { architecture, input, path, dtype, patch, cls, positions, blocks: blocks?, norm })
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn width(&self) -> usize {
        self.architecture.width()
    }

    pub(crate) fn device(&self) -> &Device {
        self.cls.device()
    }

    /// Tokens `[B * T, D]` before the first block.
    fn embed(&self, pixels: &Tensor) -> Result<(Run, Tensor)> {
        let trunk = self.architecture.trunk();
        let (batch, channels, height, width) = pixels.dims4()?;
        if (channels, height, width) != (3, self.input.height, self.input.width) {
            let found = pixels.dims();
            return Err(Error::Input(format!("expected pixels [B, 3, {}], found {found:?}", self.input)));
        }
        let grid = self.architecture.grid(self.input);
        let run = Run {
            path: self.path.clone(),
            batch,
            tokens: 1 + grid.area(),
            width: trunk.width,
            heads: trunk.heads,
            activation: match self.architecture.feed_forward() {
                FeedForward::Mlp(_) => Some(trunk.activation),
                FeedForward::SwiGlu(_) => None,
            },
        };
        let (ph, pw) = (trunk.patch.height, trunk.patch.width);
        let patches = pixels
            .to_dtype(self.dtype)?
            .narrow(2, 0, grid.height * ph)?
            .narrow(3, 0, grid.width * pw)?
            .reshape((batch, 3, grid.height, ph, grid.width, pw))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((batch * grid.area(), 3 * ph * pw))?;
        let tokens = matmul_t(&patches, &self.patch)?
            .reshape((batch, grid.area(), trunk.width))?
            .broadcast_add(&self.positions)?;
        let cls = self.cls.broadcast_as((batch, 1, trunk.width))?;
        let x = Tensor::cat(&[&cls, &tokens], 1)?.reshape((batch * run.tokens, trunk.width))?;
        Ok((run, x))
    }

    /// `last_hidden_state` `[B, T, D]` in f32 of pixels `[B, 3, H, W]`.
    pub(crate) fn last_hidden_state(&self, pixels: &Tensor) -> Result<Tensor> {
        let (run, mut x) = self.embed(pixels)?;
        for block in &self.blocks {
            x = block.forward(&run, x)?;
        }
        let x = self.norm.apply(&run.path, &x)?.to_dtype(DType::F32)?;
        Ok(x.reshape((run.batch, run.tokens, run.width))?)
    }

    /// CLS tokens `[B, D]` in f32 of pixels `[B, 3, H, W]`: `last_hidden_state[:, 0]`, without the work in the last
    /// block that does not reach them.
    pub(crate) fn cls(&self, pixels: &Tensor) -> Result<Tensor> {
        let (run, mut x) = self.embed(pixels)?;
        let (last, earlier) =
            self.blocks.split_last().ok_or_else(|| Error::Input("a model without blocks".to_owned()))?;
        for block in earlier {
            x = block.forward(&run, x)?;
        }
        Ok(self.norm.apply(&run.path, &last.forward_cls(&run, &x)?)?.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests {
    use arras_cuda_host::Lanes;

    use super::*;
    use crate::config::Trunk;
    use crate::{init, launch};

    fn encoder(architecture: Architecture, input: Size, path: Path, dtype: DType) -> Encoder {
        let tensors = architecture.tensors();
        let values = tensors.iter().map(|spec| (spec.name.clone(), init::tensor(5, spec))).collect();
        Encoder::new(architecture, input, Weights { values, device: &Device::Cpu, dtype }, path).unwrap()
    }

    /// The fused path goes image by image, the others through the whole batch with copies. In bf16 every tensor between the
    /// pixels and the token is rounded to 2^-8: tokens of unit variance end up within 0.1.
    #[test]
    fn all_paths_agree() {
        let Architecture::Vit(trunk, _) = Architecture::tiny() else { panic!("tiny is a ViT") };
        let trunk = Trunk { image: Size::square(32), width: 48, heads: 3, ..trunk };
        let input = Size { height: 24, width: 41 };
        for (architecture, input) in [
            (Architecture::Vit(trunk, 80), trunk.image),
            (Architecture::Dinov2(Trunk { qkv_bias: false, ..trunk }, FeedForward::SwiGlu(40)), input),
        ] {
            let shape = (3, 3, input.height, input.width);
            let values = (0..9 * input.area()).map(|i| (i * 31 % 255) as f32 / 127.0 - 1.0).collect();
            let pixels = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            let run = |path, dtype| {
                let encoder = encoder(architecture, input, path, dtype);
                let states = encoder.last_hidden_state(&pixels).unwrap();
                assert_eq!(states.dims(), [3, 1 + architecture.grid(input).area(), 48]);
                let cls = states.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
                [cls, encoder.cls(&pixels).unwrap()].map(|rows| rows.to_vec2::<f32>().unwrap().concat())
            };
            let [expected, short] = run(Path::Fused, DType::F32);
            let close = |found: &[f32], bound: f32| {
                let worst = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < bound, "{worst}");
            };
            close(&short, 1e-5);
            run(Path::Plain, DType::F32).iter().for_each(|found| close(found, 1e-5));
            let Some(kernels) = launch::tests::kernels(Lanes::Random(3)) else { continue };
            run(kernels.clone(), DType::F32).iter().for_each(|found| close(found, 1e-5));
            run(kernels, DType::BF16).iter().for_each(|found| close(found, 0.1));
        }
    }
}
