use crate::{Error, Image, Result};

/// The weights under which means, variances and covariances are local.
///
/// ```
/// use arras_audit::Image;
/// use arras_audit::metrics::{Window, ssim};
///
/// let stripes = Image::new(1, 16, 16, (0..256).map(|at| (at % 2) as f32).collect())?;
/// let grey = Image::new(1, 16, 16, vec![0.5; 256])?;
/// assert!((ssim(&stripes, &stripes, Window::Uniform)? - 1.0).abs() < 1e-9);
/// assert!(ssim(&stripes, &grey, Window::Gaussian)? < 0.01);
/// assert!(ssim(&stripes.shrunk(8)?, &grey.shrunk(8)?, Window::Gaussian).is_err());
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// 7 x 7 equal weights, sample covariance (divided by 48): scikit-image's default.
    Uniform,
    /// Gaussian of deviation 1.5 on 11 x 11 taps, population covariance: Wang et al. 2004, torchmetrics' default.
    Gaussian,
}

impl Window {
    /// Weights along one side; those of the square are their products.
    fn taps(self) -> Vec<f64> {
        match self {
            Self::Uniform => vec![1.0 / 7.0; 7],
            Self::Gaussian => {
                let weights: Vec<f64> =
                    (-5..=5).map(|x| (-0.5 * (f64::from(x) / 1.5).powi(2)).exp()).collect();
                let sum: f64 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / sum).collect()
            }
        }
    }

    /// What turns the mean of squares about the mean into the variance.
    const fn correction(self) -> f64 {
        match self {
            Self::Uniform => 49.0 / 48.0,
            Self::Gaussian => 1.0,
        }
    }
}

/// `(K1 L)^2` and `(K2 L)^2` of Wang et al. for K1 = 0.01, K2 = 0.03 and a range L of 1.
const C1: f64 = 1e-4;
const C2: f64 = 9e-4;

/// Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004), the mean over channels and over the windows that lie
/// inside the picture.
///
/// # Errors
/// Shapes that differ, or a side shorter than a window.
pub fn ssim(a: &Image, b: &Image, window: Window) -> Result<f64> {
    a.same_shape(b)?;
    let taps = window.taps();
    let [channels, height, width] = a.shape();
    if height.min(width) < taps.len() {
        let reason = format!("{height} x {width} pixels do not hold a window of {}", taps.len());
        return Err(Error::invalid("images", reason));
    }
    let plane = |image: &Image, channel: usize| -> Vec<f64> {
        image.values()[channel * height * width..][..height * width].iter().map(|&v| v.into()).collect()
    };
    let filter = |values: Vec<f64>| filter(&values, width, &taps);
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<f64>>();
    let (mut sum, mut count) = (0.0, 0);
    for channel in 0..channels {
        let (x, y) = (plane(a, channel), plane(b, channel));
        let (xx, yy, xy) = (filter(product(&x, &x)), filter(product(&y, &y)), filter(product(&x, &y)));
        let (mx, my) = (filter(x), filter(y));
        count += mx.len();
        for i in 0..mx.len() {
            let (mx, my) = (mx[i], my[i]);
            let variance = |square: f64, mean: f64| window.correction() * (square - mean * mean);
            let (vx, vy) = (variance(xx[i], mx), variance(yy[i], my));
            let vxy = window.correction() * (xy[i] - mx * my);
            let luminance = (2.0 * mx * my + C1) / (mx * mx + my * my + C1);
            sum += luminance * (2.0 * vxy + C2) / (vx + vy + C2);
        }
    }
    Ok(sum / count as f64)
}

/// Weighted means under the square window at every place where it fits, rows then columns.
fn filter(values: &[f64], width: usize, taps: &[f64]) -> Vec<f64> {
    let weigh = |start: &[f64], step: usize| -> f64 {
        taps.iter().enumerate().map(|(tap, weight)| weight * start[tap * step]).sum()
    };
    let kept = width + 1 - taps.len();
    let rows: Vec<f64> = values
        .chunks_exact(width)
        .flat_map(|row| (0..kept).map(move |column| &row[column..]))
        .map(|start| weigh(start, 1))
        .collect();
    let last = rows.len() - (taps.len() - 1) * kept;
    (0..last).map(|place| weigh(&rows[place..], kept)).collect()
}
