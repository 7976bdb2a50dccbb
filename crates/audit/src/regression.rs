//! What an attacker learns from its own data: kernel ridge regression from what is seen to pictures.
//!
//! Closed form, no training that might not have converged. Kernels are linear and Gaussian of two widths, on features
//! scaled to unit variance; the penalty runs from nothing to infinity, where the prediction is the mean picture. The
//! attacker takes what predicts a part of its own pictures best that was not fitted on. Pictures are predicted by
//! their principal components.

use faer::{Mat, MatRef, Side};

use crate::{Error, Image, Result};

/// Principal components of pictures that are predicted, at most.
const COMPONENTS: usize = 192;
/// One in so many of the attacker's pictures chooses kernel and penalty.
const HELD_OUT: usize = 5;
/// Penalties over the largest eigenvalue of the kernel matrix.
const PENALTIES: [f64; 9] = [1e-12, 1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];

/// Pictures as mean and principal components.
///
/// See the example of [`Decoder`].
#[derive(Debug)]
pub struct Components {
    shape: [usize; 3],
    mean: Vec<f64>,
    /// `[r][values]`, orthonormal rows.
    basis: Mat<f64>,
    /// `[n][r]`: the pictures that they were found from.
    coefficients: Mat<f64>,
}

impl Components {
    /// The largest principal components of the attacker's pictures.
    ///
    /// # Errors
    /// Fewer than ten pictures, shapes that differ, pictures that are all equal.
    pub fn new(pictures: &[Image]) -> Result<Self> {
        let few = || Error::invalid("pictures", format!("{} are too few to learn from", pictures.len()));
        let first = pictures.first().filter(|_| pictures.len() >= 10).ok_or_else(few)?;
        pictures.iter().try_for_each(|picture| first.same_shape(picture))?;
        let (count, length) = (pictures.len(), first.values().len());
        let mut mean = vec![0.0; length];
        for picture in pictures {
            mean.iter_mut().zip(picture.values()).for_each(|(m, &v)| *m += f64::from(v) / count as f64);
        }
        let centred = Mat::from_fn(count, length, |row, at| f64::from(pictures[row].values()[at]) - mean[at]);
        let (vectors, values) = eigen(&(&centred * centred.transpose()))?;
        let largest = values[0];
        if largest <= 0.0 {
            return Err(Error::invalid("pictures", "all equal"));
        }
        let rank = values.iter().take(COMPONENTS).take_while(|&&value| value > 1e-10 * largest).count();
        let scaled = Mat::from_fn(count, rank, |row, r| vectors[(row, r)] / values[r].sqrt());
        let basis = scaled.transpose() * &centred;
        let coefficients = &centred * basis.transpose();
        Ok(Self { shape: first.shape(), mean, basis, coefficients })
    }

    fn image(&self, coefficients: &[f64]) -> Result<Image> {
        let row = Mat::from_fn(1, coefficients.len(), |_, at| coefficients[at]);
        let deviation = row * &self.basis;
        let value = |(at, mean): (usize, &f64)| (mean + deviation[(0, at)]) as f32;
        let values = self.mean.iter().enumerate().map(value).collect();
        Image::new(self.shape[0], self.shape[1], self.shape[2], values)
    }
}

/// Mean and scale of features, so that kernels see unit variance; what does not vary is left out.
#[derive(Debug)]
struct Standard {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Standard {
    fn of(rows: &[Vec<f32>]) -> Self {
        let (count, length) = (rows.len() as f64, rows.first().map_or(0, Vec::len));
        let (mut mean, mut square) = (vec![0.0; length], vec![0.0; length]);
        for row in rows {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / count);
        }
        for row in rows {
            square.iter_mut().zip(row).zip(&mean).for_each(|((s, &v), m)| *s += (f64::from(v) - m).powi(2));
        }
        let varying = square.iter().filter(|&&square| square > 0.0).count().max(1) as f64;
        let scale = square.iter().map(|&s| if s > 0.0 { (count / (s * varying)).sqrt() } else { 0.0 });
        Self { scale: scale.collect(), mean }
    }

    /// Rows of mean squared length one.
    fn apply(&self, rows: &[Vec<f32>]) -> Mat<f64> {
        Mat::from_fn(rows.len(), self.mean.len(), |row, at| {
            (f64::from(rows[row][at]) - self.mean[at]) * self.scale[at]
        })
    }
}

/// The similarity of two rows.
///
/// The one that a [`Decoder`] is fitted with is chosen by held-out pictures. See the example of [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// Their inner product.
    Linear,
    /// `exp(-g |x - y|^2)`, rows having mean squared length one.
    Gaussian(f64),
}

impl Kernel {
    const ALL: [Self; 3] = [Self::Linear, Self::Gaussian(0.05), Self::Gaussian(0.5)];

    fn matrix(self, a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
        let products = a * b.transpose();
        let Self::Gaussian(width) = self else { return products };
        let squares = |m: &Mat<f64>| -> Vec<f64> {
            m.row_iter().map(|row| row.iter().map(|value| value * value).sum()).collect()
        };
        let (left, right) = (squares(a), squares(b));
        Mat::from_fn(a.nrows(), b.nrows(), |i, j| {
            (-width * (left[i] + right[j] - 2.0 * products[(i, j)])).exp()
        })
    }
}

/// A fitted decoder.
///
/// ```
/// use arras_audit::Image;
/// use arras_audit::metrics::psnr;
/// use arras_audit::regression::{Components, Decoder};
///
/// // Pictures that are a function of one number, and that number.
/// let picture = |x: f32| Image::new(1, 4, 4, (0..16).map(|at| x * at as f32 / 16.0).collect());
/// let numbers: Vec<f32> = (0..30).map(|row| row as f32 / 30.0).collect();
/// let pictures = numbers.iter().map(|&x| picture(x)).collect::<Result<Vec<_>, _>>()?;
/// let components = Components::new(&pictures)?;
/// let decoder = Decoder::fit(&components, &numbers.iter().map(|&x| vec![x]).collect::<Vec<_>>())?;
/// let found = decoder.decode(&[vec![0.517]])?;
/// assert!(decoder.explained() > 0.99 && psnr(&picture(0.517)?, &found[0])? > 30.0);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder<'c> {
    components: &'c Components,
    standard: Standard,
    fitted: Mat<f64>,
    kernel: Kernel,
    /// `[n][r]`; nothing where the mean picture predicts best.
    weights: Option<Mat<f64>>,
    /// Share of the variance of held-out pictures that is explained; 0 for the mean picture.
    explained: f64,
}

impl<'c> Decoder<'c> {
    /// Fits rows of what is seen, `seen[i]` belonging to picture i of `components`; every fifth picture chooses kernel
    /// and penalty instead of being fitted on.
    ///
    /// # Errors
    /// Another number of rows than of pictures, rows of different lengths, numbers that are not finite.
    pub fn fit(components: &'c Components, seen: &[Vec<f32>]) -> Result<Self> {
        check(seen, components.coefficients.nrows())?;
        let (held, kept): (Vec<usize>, Vec<usize>) = (0..seen.len()).partition(|&row| is_held_out(row));
        let rows =
            |indices: &[usize]| -> Vec<Vec<f32>> { indices.iter().map(|&row| seen[row].clone()).collect() };
        let targets = |indices: &[usize]| {
            Mat::from_fn(indices.len(), components.coefficients.ncols(), |row, r| {
                components.coefficients[(indices[row], r)]
            })
        };
        let standard = Standard::of(&rows(&kept));
        let (fitted, judged) = (standard.apply(&rows(&kept)), standard.apply(&rows(&held)));
        let (targets, wanted) = (targets(&kept), targets(&held));
        let variance = wanted.squared_norm_l2();
        let mut best = (variance, Kernel::Linear, None);
        for kernel in Kernel::ALL {
            let fit = Fit::new(&kernel.matrix(&fitted, &fitted), targets.as_ref())?;
            let projected = kernel.matrix(&judged, &fitted) * &fit.vectors;
            for penalty in PENALTIES {
                let error = (&projected * fit.shrunk(penalty) - &wanted).squared_norm_l2();
                if error < best.0 {
                    best = (error, kernel, Some(&fit.vectors * fit.shrunk(penalty)));
                }
            }
        }
        let (error, kernel, weights) = best;
        Ok(Self { components, standard, fitted, kernel, weights, explained: 1.0 - error / variance })
    }

    /// Share of the variance of the attacker's held-out pictures that is explained, 0 to 1.
    #[must_use]
    pub const fn explained(&self) -> f64 {
        self.explained
    }

    /// The picture for each row of what is seen.
    ///
    /// # Errors
    /// Rows of another length, numbers that are not finite.
    pub fn decode(&self, seen: &[Vec<f32>]) -> Result<Vec<Image>> {
        check(seen, seen.len())?;
        if seen.iter().any(|row| row.len() != self.standard.mean.len()) {
            return Err(Error::invalid("rows", "not as long as those fitted on"));
        }
        let Some(weights) = &self.weights else {
            let nothing = vec![0.0; self.components.coefficients.ncols()];
            return seen.iter().map(|_| self.components.image(&nothing)).collect();
        };
        let predicted = self.kernel.matrix(&self.standard.apply(seen), &self.fitted) * weights;
        predicted
            .row_iter()
            .map(|row| self.components.image(&row.iter().copied().collect::<Vec<f64>>()))
            .collect()
    }
}

/// The pictures among `count` that are not fitted on.
pub(crate) fn held_out(count: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(|&row| is_held_out(row))
}

/// Every fifth picture chooses.
const fn is_held_out(row: usize) -> bool {
    row % HELD_OUT == HELD_OUT - 1
}

/// Rows of one length, as many as wanted, of finite numbers.
fn check(rows: &[Vec<f32>], count: usize) -> Result<()> {
    let length = rows.first().map_or(0, Vec::len);
    if rows.len() != count || rows.iter().any(|row| row.len() != length) {
        return Err(Error::invalid("rows", format!("expected {count} rows of one length")));
    }
    match rows.iter().flatten().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(Error::invalid("rows", "a number that is not finite")),
    }
}

/// A kernel matrix by its eigenvectors, and the targets along them.
struct Fit {
    vectors: Mat<f64>,
    values: Vec<f64>,
    targets: Mat<f64>,
}

impl Fit {
    fn new(kernel: &Mat<f64>, targets: MatRef<'_, f64>) -> Result<Self> {
        let (vectors, values) = eigen(kernel)?;
        let targets = vectors.transpose() * targets;
        Ok(Self { vectors, values, targets })
    }

    /// Targets along the eigenvectors over eigenvalue plus penalty.
    fn shrunk(&self, penalty: f64) -> Mat<f64> {
        let penalty = penalty * self.values[0];
        Mat::from_fn(self.targets.nrows(), self.targets.ncols(), |row, r| {
            self.targets[(row, r)] / (self.values[row].max(0.0) + penalty)
        })
    }
}

/// Eigenvectors in columns and eigenvalues of a symmetric matrix, the largest first.
fn eigen(matrix: &Mat<f64>) -> Result<(Mat<f64>, Vec<f64>)> {
    let failed = |_| Error::invalid("features", "an eigendecomposition did not converge");
    let found = matrix.self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let last = matrix.nrows() - 1;
    let values = (0..=last).map(|at| found.S().column_vector()[last - at]).collect();
    let vectors = Mat::from_fn(last + 1, last + 1, |row, column| found.U()[(row, last - column)]);
    Ok((vectors, values))
}

/// For every row of what is seen, whether the candidate of the same index is the nearest of all, features scaled by the
/// attacker's own rows: 1 or 0.
///
/// # Errors
/// Rows of different lengths or numbers.
pub fn reidentified(own: &[Vec<f32>], seen: &[Vec<f32>], candidates: &[Vec<f32>]) -> Result<Vec<f64>> {
    check(own, own.len())?;
    check(seen, candidates.len())?;
    check(candidates, seen.len())?;
    let standard = Standard::of(own);
    let (seen, candidates) = (standard.apply(seen), standard.apply(candidates));
    let distance = |i: usize, j: usize| -> f64 {
        seen.row(i).iter().zip(candidates.row(j).iter()).map(|(a, b)| (a - b).powi(2)).sum()
    };
    Ok((0..seen.nrows()).map(|i| nearest(i, candidates.nrows(), |j| distance(i, j))).collect())
}

/// 1 if the distance to `own` is the smallest of all, 0 if not; ties count by their share.
pub(crate) fn nearest(own: usize, count: usize, distance: impl Fn(usize) -> f64) -> f64 {
    let wanted = distance(own);
    let all: Vec<f64> = (0..count).map(distance).collect();
    if all.iter().any(|&other| other < wanted) {
        return 0.0;
    }
    1.0 / all.iter().filter(|&&other| other == wanted).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Pictures that are a function of three numbers, and rows that show these numbers or hide them.
    fn world(count: usize, seed: u64) -> (Vec<Image>, Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let mut random = Random::new("test", &[seed]);
        let mut pictures = Vec::new();
        let (mut telling, mut silent) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let [a, b, c] = [(); 3].map(|()| random.uniform() as f32);
            let value =
                |at: usize| 0.2 + 0.3 * a * (at % 7) as f32 / 7.0 + 0.3 * b * c * (at % 5) as f32 / 5.0;
            pictures.push(Image::new(3, 8, 8, (0..192).map(value).collect()).unwrap());
            telling.push(vec![a, b, c, 1.0]);
            silent.push(random.normals(40, 1.0));
        }
        (pictures, telling, silent)
    }

    fn psnr(a: &[Image], b: &[Image]) -> f64 {
        let each = a.iter().zip(b).map(|(a, b)| crate::metrics::psnr(a, b).unwrap());
        each.sum::<f64>() / a.len() as f64
    }

    #[test]
    fn what_tells_is_decoded_and_what_does_not_gives_the_mean() -> Result<()> {
        let (pictures, telling, silent) = world(200, 1);
        let (victims, seen, nothing) = world(50, 2);
        let components = Components::new(&pictures)?;
        let mean = vec![Image::mean(&pictures)?; 50];

        let decoder = Decoder::fit(&components, &telling)?;
        let found = decoder.decode(&seen)?;
        assert!(decoder.explained() > 0.99, "{}", decoder.explained());
        assert!(psnr(&victims, &found) > psnr(&victims, &mean) + 10.0);

        let decoder = Decoder::fit(&components, &silent)?;
        let found = decoder.decode(&nothing)?;
        assert!(decoder.explained() < 0.1, "{}", decoder.explained());
        assert!((psnr(&victims, &found) - psnr(&victims, &mean)).abs() < 0.3);
        assert!(decoder.decode(&seen).is_err());
        assert!(Decoder::fit(&components, &telling[..10]).is_err());
        Ok(())
    }

    #[test]
    fn candidates_are_found_by_what_they_show() -> Result<()> {
        let (_, own, silent) = world(50, 3);
        let (_, seen, nothing) = world(100, 4);
        let hits = |own: &[Vec<f32>], seen: &[Vec<f32>], candidates: &[Vec<f32>]| -> Result<f64> {
            Ok(reidentified(own, seen, candidates)?.iter().sum::<f64>() / 100.0)
        };
        assert_eq!(hits(&own, &seen, &seen)?, 1.0);
        let (_, _, other) = world(100, 5);
        assert!(hits(&silent, &nothing, &other)? < 0.06);
        assert_eq!(nearest(0, 4, |_| 1.0), 0.25);
        Ok(())
    }
}
