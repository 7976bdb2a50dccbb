//! How close two pictures are. More is closer, but for LPIPS.
//!
//! | name | definition | equals |
//! |---|---|---|
//! | `psnr` | 10 log10(1 / MSE) over all values | `skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1)` |
//! | `ssim_uniform` | [`ssim`] with [`Window::Uniform`] | `structural_similarity(a, b, data_range=1, channel_axis=-1)` |
//! | `ssim_gaussian` | [`ssim`] with [`Window::Gaussian`] | the same with `gaussian_weights=True, use_sample_covariance=False`; torchmetrics' map without its 5 border pixels |
//! | `nmi_1_2` | (H(A) + H(B)) / H(A, B) of bytes in 100 bins | `normalized_mutual_information(a, b)` of bytes |
//! | `nmi_0_1` | 2 I(A; B) / (H(A) + H(B)) of the 256 byte values | torchmetrics and scikit-learn on flattened bytes |
//! | `lpips` | [`Lpips`] | `lpips.LPIPS(net='alex')` |
//!
//! Pictures are on a scale from 0 to 1. Mutual information needs discrete values: both forms take `round(255 v)`.

mod lpips;
mod nmi;
mod ssim;

pub use lpips::Lpips;
pub use nmi::{nmi_0_1, nmi_1_2};
use serde::{Deserialize, Serialize};
pub use ssim::{Window, ssim};

use crate::{Image, Result};

/// All metrics of two pictures.
///
/// ```
/// use arras_audit::Image;
/// use arras_audit::metrics::Similarity;
///
/// let ramp = Image::new(1, 16, 16, (0..256).map(|at| at as f32 / 255.0).collect())?;
/// let darker = Image::new(1, 16, 16, ramp.values().iter().map(|value| 0.9 * value).collect())?;
/// let (same, found) = (Similarity::of(&ramp, &ramp, None)?, Similarity::of(&ramp, &darker, None)?);
/// assert_eq!((same.psnr, same.lpips), (f64::INFINITY, None));
/// assert!(found.psnr > 20.0 && found.ssim_gaussian < same.ssim_gaussian);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Decibels; infinite for equal pictures, which JSON shows as null.
    pub psnr: f64,
    /// -1 to 1, windows of 7 x 7.
    pub ssim_uniform: f64,
    /// -1 to 1, Gaussian windows of 11 taps.
    pub ssim_gaussian: f64,
    /// 1 to 2.
    pub nmi_1_2: f64,
    /// 0 to 1.
    pub nmi_0_1: f64,
    /// From 0; nothing without weights, or for pictures that the network does not take.
    pub lpips: Option<f64>,
}

impl Similarity {
    /// Measures `b` against `a`; LPIPS if there are weights for it.
    ///
    /// # Errors
    /// Shapes that differ, or sides shorter than the 11 taps of a window; what [`Lpips::distance`] refuses.
    pub fn of(a: &Image, b: &Image, lpips: Option<&Lpips>) -> Result<Self> {
        Ok(Self {
            psnr: psnr(a, b)?,
            ssim_uniform: ssim(a, b, Window::Uniform)?,
            ssim_gaussian: ssim(a, b, Window::Gaussian)?,
            nmi_1_2: nmi_1_2(a, b)?,
            nmi_0_1: nmi_0_1(a, b)?,
            lpips: lpips.map(|lpips| lpips.distance(a, b)).transpose()?,
        })
    }
}

/// Peak signal-to-noise ratio in decibels on a range of 1: `10 log10(1 / MSE)`, the squared errors averaged over all
/// pixels and channels; infinite for equal pictures.
///
/// # Errors
/// Shapes that differ.
pub fn psnr(a: &Image, b: &Image) -> Result<f64> {
    a.same_shape(b)?;
    let squares = a.values().iter().zip(b.values()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    let mse = squares.sum::<f64>() / a.values().len() as f64;
    Ok(-10.0 * mse.log10())
}

#[cfg(test)]
mod tests;
