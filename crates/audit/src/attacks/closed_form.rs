//! (a) Images from the gradients of patch and position embeddings, by least squares.
//!
//! The embedding of patch n is `W x_n + b + p_n`. With `d_n` the gradient of the loss in it, the gradient of the
//! position embedding `p_n` is `d_n` itself and the gradient of the projection is `W' = sum_n d_n x_n^T`. One image has
//! fewer patches N than the model has dimensions D, so that `W' = D^T X` with the known N x D matrix of the `d_n`
//! determines the N x 3PP matrix X of its patches: no search, no prior, no label, whatever stands behind the
//! embeddings. Of a batch, both gradients are sums over images and the system no longer holds; the same solver is run to
//! show it. (The observation for attention instead of the projection: APRIL, Lu et al. 2022, arXiv 2112.14087.)

use candle_core::{DType, Device, Tensor};
use faer::Mat;

use crate::network::Network;
use crate::picture::{Sample, Scale};
use crate::{Error, Image, Result};

/// Singular values below this share of the largest are taken as zero: gradients are in single precision.
const CUTOFF: f64 = 1e-9;
/// Relative residual up to which the gradients are those of one image.
const FITS: f64 = 1e-2;

/// How gradients travel.
///
/// See the example of [`Inversion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As computed.
    Single,
    /// Rounded to half precision.
    Half,
    /// Rounded to bfloat16.
    Brain,
}

impl Precision {
    /// The name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "f32",
            Self::Half => "f16",
            Self::Brain => "bf16",
        }
    }

    fn round(self, tensor: &Tensor) -> Result<Tensor> {
        let through = match self {
            Self::Single => return Ok(tensor.clone()),
            Self::Half => DType::F16,
            Self::Brain => DType::BF16,
        };
        Ok(tensor.to_dtype(through)?.to_dtype(DType::F32)?)
    }
}

/// One inversion.
///
/// ```
/// use arras_audit::attacks::closed_form::{Precision, gradients, invert};
/// use arras_audit::metrics::psnr;
/// # use arras_audit::{network::Network, picture::{Scale, tiles}};
/// # use arras_vit::{Tensors, config::{Activation, Architecture, Size, Trunk}};
///
/// # let trunk = Trunk { image: Size::square(32), patch: Size::square(8), width: 32, depth: 1, heads: 2,
/// #     activation: Activation::Gelu, layer_norm_eps: 1e-6, qkv_bias: true };
/// # let model = Tensors::random(&Architecture::Vit(trunk, 64), 1)?;
/// # let (scale, samples) = (Scale::of(&model.preprocessor), tiles(&model.preprocessor, 7, 2)?);
/// # let network = Network::new(model, 3, 1, &candle_core::Device::Cpu)?;
/// // What a server of plain federated learning sees of a step on one picture, and on two.
/// let seen = gradients(&network, &[&samples[0]])?;
/// let found = invert(&network, &scale, &seen, Precision::Single)?;
/// assert!(found.fits() && psnr(&samples[0].image, &found.image)? > 40.0);
/// let seen = gradients(&network, &[&samples[0], &samples[1]])?;
/// let mixed = invert(&network, &scale, &seen, Precision::Single)?;
/// assert!(psnr(&samples[0].image, &mixed.image)? < 30.0);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Inversion {
    /// The picture.
    pub image: Image,
    /// `|D^T X - W'| / |W'|`.
    pub residual: f64,
    /// Largest over smallest singular value that was used.
    pub condition: f64,
}

impl Inversion {
    /// Whether the gradients are those of one image, by the residual alone.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.residual < FITS
    }
}

/// What the server of unprotected federated learning sees of one step on `batch`: the gradients of position embeddings
/// `[1, T, D]` and of patch projection `[D, 3, P, P]`.
///
/// # Errors
/// An empty batch, pictures of another size, labels beyond the classes.
pub fn gradients(network: &Network, batch: &[&Sample]) -> Result<(Tensor, Tensor)> {
    let size = network.architecture().trunk().image;
    let flat: Vec<f32> = batch.iter().flat_map(|sample| &sample.pixels).copied().collect();
    let pixels = Tensor::from_vec(flat, (batch.len(), 3, size.height, size.width), &Device::Cpu)?;
    let labels = batch.iter().map(|sample| label(network, sample)).collect::<Result<Vec<u32>>>()?;
    network.embedding_gradients(&pixels, &Tensor::from_vec(labels, batch.len(), &Device::Cpu)?)
}

fn label(network: &Network, sample: &Sample) -> Result<u32> {
    if sample.class >= network.classes() {
        let reason = format!("class {} of {}", sample.class, network.classes());
        return Err(Error::invalid("label", reason));
    }
    Ok(sample.class as u32)
}

/// Solves for the image that gave both gradients, rounded as they travel.
///
/// # Errors
/// Gradients that are zero or not finite, or of another model.
pub fn invert(
    network: &Network,
    scale: &Scale,
    (positions, projection): &(Tensor, Tensor),
    precision: Precision,
) -> Result<Inversion> {
    let trunk = network.architecture().trunk();
    let (tokens, pixels) = (positions.dim(1)?, 3 * trunk.patch.area());
    let rows = precision.round(positions)?.flatten_all()?.to_vec1::<f32>()?;
    let sums = precision.round(projection)?.flatten_all()?.to_vec1::<f32>()?;
    if rows.len() != tokens * trunk.width || sums.len() != trunk.width * pixels {
        return Err(Error::invalid("gradients", "not those of this model"));
    }
    if rows.iter().chain(&sums).any(|value| !value.is_finite()) {
        return Err(Error::invalid("gradients", "a value that is not finite"));
    }
    // Row 0 belongs to CLS.
    let patches = tokens - 1;
    let left = Mat::from_fn(trunk.width, patches, |d, n| f64::from(rows[(n + 1) * trunk.width + d]));
    let right = Mat::from_fn(trunk.width, pixels, |d, p| f64::from(sums[d * pixels + p]));
    let (solution, condition) = least_squares(&left, &right)?;
    let residual = (&left * &solution - &right).norm_l2() / right.norm_l2();
    let grid = network.architecture().grid(trunk.image);
    let at = |c: usize, y: usize, x: usize| {
        let (row, column) = (y / trunk.patch.height, x / trunk.patch.width);
        if row >= grid.height || column >= grid.width {
            return 0.0;
        }
        let (y, x) = (y % trunk.patch.height, x % trunk.patch.width);
        solution[(row * grid.width + column, (c * trunk.patch.height + y) * trunk.patch.width + x)] as f32
    };
    let (height, width) = (trunk.image.height, trunk.image.width);
    let places = (0..3).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))));
    let found: Vec<f32> = places.map(|(c, y, x)| at(c, y, x)).collect();
    Ok(Inversion { image: scale.image(&found)?, residual, condition })
}

/// The least-squares solution of smallest norm, and the condition number.
fn least_squares(left: &Mat<f64>, right: &Mat<f64>) -> Result<(Mat<f64>, f64)> {
    let failed = || Error::invalid("gradients", "their singular value decomposition does not exist");
    let svd = left.thin_svd().map_err(|_| failed())?;
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let largest = values.first().copied().filter(|&value| value > 0.0).ok_or_else(failed)?;
    let kept = values.iter().take_while(|&&value| value > CUTOFF * largest).count();
    let projected = svd.U().transpose() * right;
    let scaled = Mat::from_fn(values.len(), right.ncols(), |row, column| match row < kept {
        true => projected[(row, column)] / values[row],
        false => 0.0,
    });
    Ok((svd.V() * scaled, largest / values[kept - 1]))
}

#[cfg(test)]
mod tests {
    use arras_vit::Tensors;
    use arras_vit::config::{Activation, Architecture, Size, Trunk};

    use super::*;
    use crate::metrics::psnr;
    use crate::picture::tiles;

    /// The geometry of the paper in small: fewer patches than dimensions, fewer dimensions than pixels of a patch.
    fn model() -> (Network, Scale, Vec<Sample>) {
        let trunk = Trunk {
            image: Size::square(40),
            patch: Size::square(10),
            width: 96,
            depth: 2,
            heads: 4,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
        };
        let model = Tensors::random(&Architecture::Vit(trunk, 96), 1).unwrap();
        let (scale, tiles) = (Scale::of(&model.preprocessor), tiles(&model.preprocessor, 4, 3).unwrap());
        (Network::new(model, 3, 2, &Device::Cpu).unwrap(), scale, tiles)
    }

    #[test]
    fn one_image_is_recovered_and_two_are_not() -> Result<()> {
        let (network, scale, tiles) = model();
        let seen = gradients(&network, &[&tiles[0]])?;
        let found = invert(&network, &scale, &seen, Precision::Single)?;
        let close = psnr(&tiles[0].image, &found.image)?;
        assert!(found.fits() && close > 80.0, "{close} {}", found.residual);
        let half = invert(&network, &scale, &seen, Precision::Half)?;
        assert!(psnr(&tiles[0].image, &half.image)? < close);

        let both = gradients(&network, &[&tiles[0], &tiles[1]])?;
        let found = invert(&network, &scale, &both, Precision::Single)?;
        let close = psnr(&tiles[0].image, &found.image)?;
        assert!(!found.fits() && close < 30.0, "{close} {}", found.residual);
        Ok(())
    }

    #[test]
    fn gradients_of_another_model_are_refused() -> Result<()> {
        let (network, scale, mut tiles) = model();
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let other = (zeros(&[1, 17, 96])?, zeros(&[96, 3, 8, 8])?);
        assert!(invert(&network, &scale, &other, Precision::Single).is_err());
        let nothing = (zeros(&[1, 17, 96])?, zeros(&[96, 3, 10, 10])?);
        assert!(invert(&network, &scale, &nothing, Precision::Single).is_err());
        tiles[0].class = 3;
        assert!(gradients(&network, &[&tiles[0]]).is_err());
        Ok(())
    }
}
