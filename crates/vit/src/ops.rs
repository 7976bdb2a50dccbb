//! The pointwise and row-wise parts of a block. Each has a plain form, a chain of candle operations that
//! runs on any device and can be differentiated, and a fused form for inference, one pass over memory: on the
//! CPU vectorised for the instruction set found at run time, on a GPU a kernel (`launch`).
//!
//! The fused forms overwrite their first argument where they return one of the same shape. The caller hands
//! it over and keeps no other tensor on the same storage.

use candle_core::{CpuStorage, D, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
use candle_core::{CustomOp2, Shape};
use rayon::prelude::*;

use crate::config::Activation;

/// Which form to take.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    /// Operations of candle: the oracle of the others.
    #[cfg_attr(not(test), allow(dead_code, reason = "the oracle"))]
    Plain,
    /// The CPU's own.
    Fused,
    /// Kernels.
    #[cfg(any(test, feature = "gpu"))]
    Kernels(std::sync::Arc<dyn crate::launch::BlockKernels>),
}

/// `x + bias`, the bias repeated over rows.
pub(crate) fn add_bias(path: &Path, x: Tensor, bias: &Tensor) -> Result<Tensor> {
    match path {
        Path::Plain => return x.broadcast_add(bias),
        Path::Fused => x.inplace_op2(bias, &AddBias)?,
        #[cfg(any(test, feature = "gpu"))]
        Path::Kernels(kernels) => kernels.add_bias(&x, bias)?,
    }
    Ok(x)
}

/// `activation(x + bias)`.
pub(crate) fn bias_activation(path: &Path, x: Tensor, bias: &Tensor, with: Activation) -> Result<Tensor> {
    match path {
        Path::Plain => {
            let x = x.broadcast_add(bias)?;
            return match with {
                Activation::Gelu => x.gelu_erf(),
                Activation::GeluTanh => x.gelu(),
                Activation::QuickGelu => &x * sigmoid(&(&x * 1.702)?)?,
                Activation::Relu => x.relu(),
            };
        }
        Path::Fused => x.inplace_op2(bias, &BiasActivation(with))?,
        #[cfg(any(test, feature = "gpu"))]
        Path::Kernels(kernels) => kernels.bias_activation(&x, bias, with)?,
    }
    Ok(x)
}

/// `silu(a) * b` where a row of `x + bias` is `(a, b)`.
pub(crate) fn bias_swiglu(path: &Path, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    match path {
        Path::Plain => {}
        Path::Fused => return x.apply_op2_no_bwd(bias, &BiasSwiGlu),
        #[cfg(any(test, feature = "gpu"))]
        Path::Kernels(kernels) => return kernels.bias_swiglu(x, bias),
    }
    let halves = x.broadcast_add(bias)?.chunk(2, D::Minus1)?;
    let [a, b] = halves.as_slice() else { bail!("SwiGLU needs two halves") };
    (a * sigmoid(a)?)? * b
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// `x + (y + bias)`: the end of both halves of a block.
pub(crate) fn bias_residual(path: &Path, x: Tensor, y: &Tensor, bias: &Tensor) -> Result<Tensor> {
    match path {
        Path::Plain => return x + y.broadcast_add(bias)?,
        Path::Fused => x.inplace_op3(y, bias, &BiasResidual)?,
        #[cfg(any(test, feature = "gpu"))]
        Path::Kernels(kernels) => kernels.bias_residual(&x, y, bias)?,
    }
    Ok(x)
}

/// Normalises every row to mean 0 and variance 1 (biased, plus `eps`), then `* weight + bias`, the two rows of `affine`.
pub(crate) fn layer_norm(path: &Path, x: &Tensor, affine: &Tensor, eps: f64) -> Result<Tensor> {
    match path {
        Path::Plain => {}
        Path::Fused => return x.apply_op2_no_bwd(affine, &LayerNorm(eps as f32)),
        #[cfg(any(test, feature = "gpu"))]
        Path::Kernels(kernels) => return kernels.layer_norm(x, affine, eps),
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    unit.broadcast_mul(&affine.get(0)?)?.broadcast_add(&affine.get(1)?)
}

/// Softmax over the last dimension.
pub(crate) fn softmax(path: &Path, x: Tensor) -> Result<Tensor> {
    match path {
        Path::Plain => {
            let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
            return e.broadcast_div(&e.sum_keepdim(D::Minus1)?);
        }
        Path::Fused => x.inplace_op1(&Softmax)?,
        #[cfg(any(test, feature = "gpu"))]
        Path::Kernels(kernels) => kernels.softmax(&x)?,
    }
    Ok(x)
}

struct AddBias;
struct BiasActivation(Activation);
struct BiasResidual;
struct BiasSwiGlu;
struct LayerNorm(f32);
struct Softmax;

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, bias: &CpuStorage, bl: &Layout) -> Result<()> {
        let (x, bias) = (values_mut(x, xl)?, values(bias, bl)?);
        rows(x, bias.len(), |row| {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        });
        Ok(())
    }
}

impl InplaceOp2 for BiasActivation {
    fn name(&self) -> &'static str {
        "bias_activation"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, bias: &CpuStorage, bl: &Layout) -> Result<()> {
        let (x, bias) = (values_mut(x, xl)?, values(bias, bl)?);
        match self.0 {
            Activation::Gelu => bias_map(x, bias, gelu),
            Activation::GeluTanh => bias_map(x, bias, gelu_tanh),
            Activation::QuickGelu => bias_map(x, bias, |x| x * logistic(1.702 * x)),
            Activation::Relu => bias_map(x, bias, |x| if x > 0.0 { x } else { 0.0 }),
        }
        Ok(())
    }
}

#[inline(always)]
fn bias_map(x: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32 + Copy + Sync) {
    rows(x, bias.len(), |row| {
        for (x, b) in row.iter_mut().zip(bias) {
            *x = f(*x + b);
        }
    });
}

impl InplaceOp3 for BiasResidual {
    fn name(&self) -> &'static str {
        "bias_residual"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        xl: &Layout,
        y: &CpuStorage,
        yl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<()> {
        let (x, y, bias) = (values_mut(x, xl)?, values(y, yl)?, values(bias, bl)?);
        row_pairs(x, bias.len(), y, bias.len(), |x, y| {
            for ((x, y), b) in x.iter_mut().zip(y).zip(bias) {
                *x += y + b;
            }
        });
        Ok(())
    }
}

impl CustomOp2 for BiasSwiGlu {
    fn name(&self) -> &'static str {
        "bias_swiglu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (values(x, xl)?, values(bias, bl)?);
        let half = bias.len() / 2;
        let (bias_a, bias_b) = bias.split_at(half);
        let mut out = vec![0.0; x.len() / 2];
        row_pairs(&mut out, half, x, 2 * half, |out, row| {
            let (a, b) = row.split_at(half);
            let terms = a.iter().zip(bias_a).zip(b.iter().zip(bias_b));
            for (out, ((a, bias_a), (b, bias_b))) in out.iter_mut().zip(terms) {
                let a = a + bias_a;
                *out = a * logistic(a) * (b + bias_b);
            }
        });
        let mut dims = xl.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = half;
        }
        Ok((CpuStorage::F32(out), dims.into()))
    }
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        affine: &CpuStorage,
        al: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, affine) = (values(x, xl)?, values(affine, al)?);
        let mut out = vec![0.0; x.len()];
        let width = affine.len() / 2;
        let (weight, bias) = affine.split_at(width);
        row_pairs(&mut out, width, x, width, |out, row| {
            let mean = sum(row, |v| v) / width as f32;
            let variance = sum(row, |v| (v - mean) * (v - mean)) / width as f32;
            let scale = 1.0 / (variance + self.0).sqrt();
            for ((out, v), (w, b)) in out.iter_mut().zip(row).zip(weight.iter().zip(bias)) {
                *out = (v - mean) * scale * w + b;
            }
        });
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout) -> Result<()> {
        let width = xl.dims().last().copied().unwrap_or(1);
        rows(values_mut(x, xl)?, width, |row| {
            let top = max(row);
            for v in row.iter_mut() {
                *v = exp(*v - top);
            }
            let scale = 1.0 / sum(row, |v| v);
            for v in row.iter_mut() {
                *v *= scale;
            }
        });
        Ok(())
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((begin, end)) => Ok(&storage.as_slice::<f32>()?[begin..end]),
        None => bail!("fused operations take contiguous tensors"),
    }
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((begin, end))) => Ok(&mut values[begin..end]),
        _ => bail!("fused operations take contiguous f32 tensors"),
    }
}

/// Values a task works on, about a level-1 cache.
const TASK: usize = 1 << 13;

/// Calls `f` on every row, in parallel and with the best instruction set of this machine.
#[inline(always)]
fn rows(x: &mut [f32], width: usize, f: impl Fn(&mut [f32]) + Sync) {
    let arch = pulp::Arch::new();
    x.par_chunks_mut((TASK / width).max(1) * width).for_each(|task| {
        arch.dispatch(
            #[inline(always)]
            || task.chunks_exact_mut(width).for_each(&f),
        );
    });
}

/// As [`rows`], with the matching row of a second array.
#[inline(always)]
fn row_pairs(x: &mut [f32], width: usize, y: &[f32], y_width: usize, f: impl Fn(&mut [f32], &[f32]) + Sync) {
    let arch = pulp::Arch::new();
    let count = (TASK / width).max(1);
    x.par_chunks_mut(count * width).zip(y.par_chunks(count * y_width)).for_each(|(x, y)| {
        arch.dispatch(
            #[inline(always)]
            || x.chunks_exact_mut(width).zip(y.chunks_exact(y_width)).for_each(|(x, y)| f(x, y)),
        );
    });
}

/// Independent partial sums, so that the compiler may keep them in vector registers.
const LANES: usize = 32;

#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += f(*v);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|v| f(*v)).sum::<f32>()
}

#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *v);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// `exp(x)` to 2 ulp for x in [-87, 88], constant beyond. Branch-free, so that loops over it vectorise:
/// x = n ln 2 + r with |r| <= ln(2)/2, Taylor to r^7, and n added to the exponent bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 = HIGH + LOW; HIGH is 355/512, so that n * HIGH is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + coefficient;
    }
    f32::from_bits(series.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[inline(always)]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x Phi(x)`, Phi to 1e-7 absolute: Abramowitz and Stegun 7.1.26.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut series = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        series = series * t + coefficient;
    }
    let tail = 0.5 * series * t * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// `x/2 (1 + tanh(u))` with `(1 + tanh(u))/2 = logistic(2u)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    x * logistic(2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Shape};

    use super::*;

    fn ramp(shape: impl Into<Shape>, scale: f32) -> Tensor {
        let shape = shape.into();
        let values: Vec<f32> =
            (0..shape.elem_count()).map(|i| scale * ((i * 7919 % 1009) as f32 / 504.5 - 1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn close(fused: &Tensor, plain: &Tensor, bound: f32) {
        assert_eq!(fused.dims(), plain.dims());
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in values(fused).into_iter().zip(values(plain)) {
            assert!((a - b).abs() <= bound * b.abs().max(1.0), "{a} {b}");
        }
    }

    /// Runs both forms on equal inputs; the inputs are made twice, as the fused form may overwrite.
    fn both(bound: f32, run: impl Fn(&Path) -> Result<Tensor>) {
        close(&run(&Path::Fused).unwrap(), &run(&Path::Plain).unwrap(), bound);
    }

    #[test]
    fn fused_forms_agree_with_plain_ones() {
        // Rows of odd length exercise the remainders, many rows the division into tasks.
        for (count, width) in [(1, 1), (3, 37), (500, 48), (2, 9001)] {
            let x = |scale| ramp((count, width), scale);
            let b = ramp(width, 0.7);
            both(0.0, |path| add_bias(path, x(3.0), &b));
            both(2e-7, |path| bias_residual(path, x(3.0), &x(0.3), &b));
            both(2e-6, |path| softmax(path, x(20.0)));
            if width > 1 {
                let affine = Tensor::stack(&[&b, &b], 0).unwrap();
                both(5e-6, |path| layer_norm(path, &x(5.0), &affine, 1e-6));
            }
            for with in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu] {
                both(5e-7, |path| bias_activation(path, x(8.0), &b, with));
            }
            let (x, b) = (ramp((count, 2 * width), 4.0), ramp(2 * width, 0.7));
            both(5e-7, |path| bias_swiglu(path, &x, &b));
        }
    }

    #[test]
    fn exp_holds_its_bound() {
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "{x} {error}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(1e30) > 1e38);
    }
}
