//! (b) Images from all gradients, by descent on their cosine distance (Geiping et al. 2020, arXiv 2003.14053).
//!
//! The attacker looks for pixels x whose gradients g(x) point where the gradients g* that it sees point:
//! `phi(x) = 1 - cos(g(x), g*)` plus the total variation of x, minimised by Adam from noise, labels known. The gradient of
//! phi needs no second derivatives: with `u = d phi / d g`, `d phi / d x = d/dx <g(x), u>`, which is the derivative of
//! `d loss / d x` along u in the weights, taken as a central difference:
//! `(d/dx loss(x, w + e u) - d/dx loss(x, w - e u)) / 2e`.
//!
//! It works on any batch, without a guarantee. A run whose distance stays large shows nothing: neither that the images
//! are lost nor that they are safe.

use candle_core::{DType, Device, Tensor, Var};

use crate::metrics::psnr;
use crate::network::{Network, Weights};
use crate::picture::{Sample, Scale};
use crate::{Error, Image, Random, Result};

/// Length of the step in weights of a central difference: small beside the weights' own norm, large beside rounding.
const STEP: f64 = 1e-2;
/// Adam (Kingma and Ba 2015).
const BETA: (f64, f64) = (0.9, 0.999);

/// How to descend.
///
/// ```
/// use arras_audit::attacks::matching::{Descent, gradients, invert, labels};
/// # use arras_audit::{network::Network, picture::{Scale, tiles}};
/// # use arras_vit::{Tensors, config::{Activation, Architecture, Size, Trunk}};
///
/// # let trunk = Trunk { image: Size::square(32), patch: Size::square(8), width: 32, depth: 1, heads: 2,
/// #     activation: Activation::Gelu, layer_norm_eps: 1e-6, qkv_bias: true };
/// # let model = Tensors::random(&Architecture::Vit(trunk, 64), 1)?;
/// # let (scale, samples) = (Scale::of(&model.preprocessor), tiles(&model.preprocessor, 7, 2)?);
/// # let network = Network::new(model, 3, 1, &candle_core::Device::Cpu)?;
/// // A batch of two pictures of 32x32, and far fewer steps than it takes.
/// let batch = [&samples[0], &samples[1]];
/// let (seen, labels) = (gradients(&network, &batch)?, labels(&batch)?);
/// let descent = Descent { iterations: 3, ..Descent::default() };
/// let found = invert(&network, &scale, (&seen, &labels), descent, 1, || {})?;
/// assert_eq!((found.images.len(), found.images[0].shape()), (2, [3, 32, 32]));
/// assert!(found.distance > descent.reached && !found.converged);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// Steps, at least 1.
    pub iterations: usize,
    /// First step width; falls to zero along a cosine.
    pub rate: f64,
    /// Weight of the total variation: the mean absolute difference of neighbouring pixels.
    pub total_variation: f64,
    /// Cosine distance below which a run has converged.
    pub reached: f64,
}

impl Default for Descent {
    fn default() -> Self {
        Self { iterations: 2000, rate: 0.1, total_variation: 1e-2, reached: 1e-4 }
    }
}

/// Where a run ended.
///
/// See the example of [`Descent`].
#[derive(Clone, Debug)]
pub struct Matched {
    /// One picture for each of the batch, in no order.
    pub images: Vec<Image>,
    /// The cosine distance there.
    pub distance: f64,
    /// Whether it is below what [`Descent::reached`] asks for.
    pub converged: bool,
}

/// What a server sees of one step on a batch: the gradients of all weights.
///
/// # Errors
/// An empty batch, pictures of another size.
pub fn gradients(network: &Network, batch: &[&Sample]) -> Result<Weights> {
    let flat: Vec<f32> = batch.iter().flat_map(|sample| &sample.pixels).copied().collect();
    let pixels = Tensor::from_vec(flat, shape(network, batch.len()), &Device::Cpu)?;
    network.gradients(&pixels, &labels(batch)?, &[])
}

/// The labels of a batch, which the attacker is given.
///
/// # Errors
/// An empty batch.
pub fn labels(batch: &[&Sample]) -> Result<Tensor> {
    let labels: Vec<u32> = batch.iter().map(|sample| sample.class as u32).collect();
    Ok(Tensor::from_vec(labels, batch.len(), &Device::Cpu)?)
}

fn shape(network: &Network, count: usize) -> (usize, usize, usize, usize) {
    let size = network.architecture().trunk().image;
    (count, 3, size.height, size.width)
}

/// Looks for the batch that gave the gradients; `progress` is called after every step.
///
/// # Errors
/// Gradients of another model, no step, a step that leaves the finite numbers.
pub fn invert(
    network: &Network,
    scale: &Scale,
    (target, labels): (&Weights, &Tensor),
    descent: Descent,
    seed: u64,
    mut progress: impl FnMut(),
) -> Result<Matched> {
    if descent.iterations == 0 {
        return Err(Error::invalid("iterations", "expected at least 1"));
    }
    let shape = shape(network, labels.dim(0)?);
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let noise = Random::new("arras/1 audit matching", &[seed]).normals(count, 0.3);
    let mut pixels = Tensor::from_vec(noise, shape, &Device::Cpu)?;
    let mut adam = Adam::new(&pixels)?;
    let (low, high) = scale.range();
    let mut best = (f64::INFINITY, pixels.clone());
    for step in 0..descent.iterations {
        let (distance, slope) = slope(network, target, &pixels, labels)?;
        if distance < best.0 {
            best = (distance, pixels.clone());
        }
        let smooth = variation_slope(&pixels)?;
        let slope = (slope + (smooth * descent.total_variation)?)?;
        let phase = std::f64::consts::PI * step as f64 / descent.iterations as f64;
        let rate = descent.rate * 0.5 * (1.0 + phase.cos());
        pixels = adam.step(&pixels, &slope, rate)?.clamp(low, high)?;
        progress();
    }
    let (distance, pixels) = best;
    if !distance.is_finite() {
        return Err(Error::invalid("matching", "the descent left the finite numbers"));
    }
    let rows = pixels.flatten_from(1)?.to_vec2::<f32>()?;
    let images = rows.iter().map(|row| scale.image(row)).collect::<Result<_>>()?;
    Ok(Matched { images, distance, converged: distance < descent.reached })
}

/// The cosine distance at `pixels` and its slope in them.
fn slope(network: &Network, target: &Weights, pixels: &Tensor, labels: &Tensor) -> Result<(f64, Tensor)> {
    let found = network.gradients(pixels, labels, &[])?;
    let (product, own, wanted) =
        (dot(&found, target)?, dot(&found, &found)?.sqrt(), dot(target, target)?.sqrt());
    if !(own > 0.0 && wanted > 0.0) {
        return Err(Error::invalid("gradients", "all zero, or not finite"));
    }
    // d phi / d g of phi = 1 - <g, g*> / (|g| |g*|).
    let (along, back) = (-1.0 / (own * wanted), product / (own.powi(3) * wanted));
    let mut direction = Weights::new();
    for (name, gradient) in &found {
        let wanted = target.get(name).ok_or_else(|| Error::invalid(name.as_str(), "no gradient"))?;
        direction.insert(name.clone(), ((wanted * along)? + (gradient * back)?)?);
    }
    let length = dot(&direction, &direction)?.sqrt();
    let distance = 1.0 - product / (own * wanted);
    if length == 0.0 {
        return Ok((distance, pixels.zeros_like()?));
    }
    let step = STEP / length;
    let at = |step: f64| -> Result<Tensor> {
        let mut weights = Weights::new();
        for (name, weight) in network.weights() {
            let moved = direction.get(name).map(|direction| weight + (direction * step)?).transpose()?;
            weights.insert(name.clone(), moved.unwrap_or_else(|| weight.clone()));
        }
        let variable = Var::from_tensor(pixels)?;
        let mut slopes = network.loss(&weights, variable.as_tensor(), labels)?.backward()?;
        slopes.remove(&variable).ok_or_else(|| Error::invalid("loss", "does not depend on the pixels"))
    };
    Ok((distance, ((at(step)? - at(-step)?)? / (2.0 * step))?))
}

/// The inner product over all tensors.
fn dot(a: &Weights, b: &Weights) -> Result<f64> {
    let mut sum = 0.0;
    for (name, a) in a {
        let b = b.get(name).ok_or_else(|| Error::invalid(name.as_str(), "no gradient"))?;
        sum += (a * b)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    Ok(sum)
}

/// The slope of the mean absolute difference of neighbouring pixels.
fn variation_slope(pixels: &Tensor) -> Result<Tensor> {
    let variable = Var::from_tensor(pixels)?;
    let x = variable.as_tensor();
    let (_, _, height, width) = x.dims4()?;
    let down = (x.narrow(2, 1, height - 1)? - x.narrow(2, 0, height - 1)?)?.abs()?.mean_all()?;
    let right = (x.narrow(3, 1, width - 1)? - x.narrow(3, 0, width - 1)?)?.abs()?.mean_all()?;
    let mut slopes = (down + right)?.backward()?;
    slopes.remove(&variable).ok_or_else(|| Error::invalid("pixels", "without variation"))
}

/// Adam's running moments.
struct Adam {
    mean: Tensor,
    square: Tensor,
    steps: i32,
}

impl Adam {
    fn new(like: &Tensor) -> Result<Self> {
        Ok(Self { mean: like.zeros_like()?, square: like.zeros_like()?, steps: 0 })
    }

    fn step(&mut self, at: &Tensor, slope: &Tensor, rate: f64) -> Result<Tensor> {
        self.steps += 1;
        self.mean = ((&self.mean * BETA.0)? + (slope * (1.0 - BETA.0))?)?;
        self.square = ((&self.square * BETA.1)? + (slope.sqr()? * (1.0 - BETA.1))?)?;
        let mean = (&self.mean / (1.0 - BETA.0.powi(self.steps)))?;
        let root = ((&self.square / (1.0 - BETA.1.powi(self.steps)))?.sqrt()? + 1e-12)?;
        Ok((at - ((mean / root)? * rate)?)?)
    }
}

/// For each original the reconstruction that is closest to it, every one used once, the closest pairs first.
///
/// # Errors
/// Lists of different lengths, shapes that differ.
pub fn paired(originals: &[&Image], found: &[Image]) -> Result<Vec<Image>> {
    if originals.len() != found.len() {
        return Err(Error::invalid("reconstructions", "not as many as originals"));
    }
    let mut pairs = Vec::new();
    for (i, original) in originals.iter().enumerate() {
        for (j, image) in found.iter().enumerate() {
            pairs.push((psnr(original, image)?, i, j));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut chosen: Vec<Option<usize>> = vec![None; originals.len()];
    for (_, i, j) in pairs {
        if chosen[i].is_none() && !chosen.contains(&Some(j)) {
            chosen[i] = Some(j);
        }
    }
    Ok(chosen.into_iter().flatten().map(|j| found[j].clone()).collect())
}

#[cfg(test)]
mod tests {
    use arras_vit::Tensors;
    use arras_vit::config::{Activation, Architecture, Size, Trunk};

    use super::*;
    use crate::picture::tiles;

    fn model() -> (Network, Scale, Vec<Sample>) {
        let trunk = Trunk {
            image: Size::square(32),
            patch: Size::square(8),
            width: 48,
            depth: 1,
            heads: 4,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
        };
        let model = Tensors::random(&Architecture::Vit(trunk, 96), 1).unwrap();
        let (scale, tiles) = (Scale::of(&model.preprocessor), tiles(&model.preprocessor, 4, 3).unwrap());
        (Network::new(model, 3, 2, &Device::Cpu).unwrap(), scale, tiles)
    }

    fn distance(network: &Network, target: &Weights, pixels: &Tensor, labels: &Tensor) -> f64 {
        let found = network.gradients(pixels, labels, &[]).unwrap();
        let norms = dot(&found, &found).unwrap() * dot(target, target).unwrap();
        1.0 - dot(&found, target).unwrap() / norms.sqrt()
    }

    #[test]
    fn slopes_are_those_of_the_distance() -> Result<()> {
        let (network, _, tiles) = model();
        let batch = [&tiles[0], &tiles[1]];
        let (target, labels) = (gradients(&network, &batch)?, labels(&batch)?);
        let mut random = Random::new("test", &[]);
        let pixels = Tensor::from_vec(random.normals(6144, 1.0), (2, 3, 32, 32), &Device::Cpu)?;
        let (value, slope) = slope(&network, &target, &pixels, &labels)?;
        assert!((value - distance(&network, &target, &pixels, &labels)).abs() < 1e-5);
        // Along the slope itself, where differences in single precision are sharpest.
        let length = slope.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
        let unit = (&slope / f64::from(length))?;
        let at = |step: f64| -> Result<f64> {
            Ok(distance(&network, &target, &(&pixels + (&unit * step)?)?, &labels))
        };
        let measured = (at(0.2)? - at(-0.2)?) / 0.4;
        assert!((measured / f64::from(length) - 1.0).abs() < 0.03, "{measured} {length}");
        Ok(())
    }

    #[test]
    fn descent_comes_closer_to_the_image() -> Result<()> {
        let (network, scale, tiles) = model();
        let batch = [&tiles[0]];
        let target = gradients(&network, &batch)?;
        let descent = Descent { iterations: 60, ..Descent::default() };
        let found = invert(&network, &scale, (&target, &labels(&batch)?), descent, 1, || ())?;
        let close = psnr(&tiles[0].image, &found.images[0])?;
        assert!(found.distance < 0.2 && close > 12.0, "{} {close}", found.distance);
        let nothing = Descent { iterations: 0, ..descent };
        assert!(invert(&network, &scale, (&target, &labels(&batch)?), nothing, 1, || ()).is_err());
        Ok(())
    }

    #[test]
    fn pairs_are_the_closest_and_use_each_once() -> Result<()> {
        let flat = |value: f32| Image::new(1, 1, 1, vec![value]);
        let (a, b) = (flat(0.0)?, flat(1.0)?);
        let found = [flat(0.9)?, flat(0.8)?];
        assert_eq!(paired(&[&a, &b], &found)?, [found[1].clone(), found[0].clone()]);
        Ok(())
    }
}
