//! Features with classes, the material of the attacks on models.

use arras_fit::Features;
use arras_fit::ridge::Problem;

use crate::{Error, Random, Result};

/// Rows of features, each with its class.
///
/// ```
/// use arras_audit::Rows;
///
/// let rows = Rows::synthetic(1, 30, 8, 3);
/// assert_eq!((rows.len(), rows.row(0).len(), &rows.classes[..4]), (30, 8, &[0, 1, 2, 0][..]));
/// let norm = rows.row(5).iter().map(|x| x * x).sum::<f32>().sqrt();
/// assert!((norm - 8_f32.sqrt()).abs() < 1e-3);
/// assert_eq!(Rows::of(&rows.features("synthetic"))?, rows);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// D, at least 1.
    pub dimension: usize,
    /// `[n][D]`, row-major, finite.
    pub values: Vec<f32>,
    /// n classes below `class_count`.
    pub classes: Vec<usize>,
    /// C, at least 1.
    pub class_count: usize,
}

impl Rows {
    /// Rows in the manner of layer-normalised tokens: norm sqrt(D), a mean that all share and that makes up half of it,
    /// classes that overlap, coordinates of decreasing deviation. Classes take turns.
    #[must_use]
    pub fn synthetic(seed: u64, count: usize, dimension: usize, class_count: usize) -> Self {
        let mut random = Random::new("arras/1 audit rows", &[seed, dimension as u64]);
        let mean = random.normals(dimension, 0.7);
        let centres: Vec<Vec<f32>> =
            (0..class_count).map(|_| random.normals(dimension, 2.0 / (dimension as f64).sqrt())).collect();
        let classes: Vec<usize> = (0..count).map(|row| row % class_count.max(1)).collect();
        let mut values = Vec::with_capacity(count * dimension);
        for &class in &classes {
            let noise = random.normals(dimension, 1.0);
            let row: Vec<f32> = (0..dimension)
                .map(|j| {
                    let deviation = 0.9 / (1.0 + 2.0 * j as f32 / dimension as f32);
                    mean[j] + centres[class][j] + deviation * noise[j]
                })
                .collect();
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let factor = (dimension as f32).sqrt() / norm;
            values.extend(row.into_iter().map(|x| x * factor));
        }
        Self { dimension, values, classes, class_count }
    }

    /// The rows of a file of features.
    ///
    /// # Errors
    /// Features without labels.
    pub fn of(features: &Features) -> Result<Self> {
        let (names, classes) =
            features.classes().ok_or_else(|| Error::invalid("features", "carry no labels"))?;
        let (dimension, values) = (features.dimension, features.values.clone());
        Ok(Self { dimension, values, classes, class_count: names.len() })
    }

    /// Number of rows n.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The D numbers of a row; empty past the end.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        self.values.chunks_exact(self.dimension.max(1)).nth(row).unwrap_or_default()
    }

    /// The given rows in the given order; rows past the end are left out.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = rows.iter().copied().filter(|&row| row < self.len());
        let values = rows.clone().flat_map(|row| self.row(row)).copied().collect();
        let classes = rows.map(|row| self.classes[row]).collect();
        Self { values, classes, ..*self }
    }

    /// As a problem of ridge regression without groups.
    #[must_use]
    pub fn problem(&self) -> Problem<'_> {
        Problem {
            features: &self.values,
            dimension: self.dimension,
            classes: &self.classes,
            class_count: self.class_count,
            groups: None,
        }
    }

    /// As a file of features, every row its own group, classes named "0", "1", ....
    #[must_use]
    pub fn features(&self, fingerprint: &str) -> Features {
        let names = |prefix: &str| (0..self.len()).map(|row| format!("{prefix}{row}")).collect();
        Features {
            dimension: self.dimension,
            values: self.values.clone(),
            names: names("image "),
            labels: Some(self.classes.iter().map(usize::to_string).collect()),
            groups: Some(names("group ")),
            fingerprint: Some(fingerprint.to_owned()),
        }
    }

    /// The rows in d dimensions instead of D: products with a seeded matrix of `+-1/sqrt(D)` (Achlioptas 2003), which keeps angles
    /// on average, and the mean square of coordinates.
    #[must_use]
    pub fn projected(&self, dimension: usize, seed: u64) -> Self {
        let mut random = Random::new("arras/1 audit projection", &[seed]);
        let unit = 1.0 / (self.dimension as f32).sqrt();
        let matrix: Vec<f32> = (0..dimension * self.dimension)
            .map(|_| if random.word() & 1 == 1 { unit } else { -unit })
            .collect();
        let dot = |weights: &[f32], row: &[f32]| weights.iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
        let project = |row| matrix.chunks_exact(self.dimension).map(move |weights| dot(weights, row));
        let values = self.values.chunks_exact(self.dimension.max(1)).flat_map(project).collect();
        Self { dimension, values, classes: self.classes.clone(), class_count: self.class_count }
    }

    /// [Projected](Self::projected) if they have more dimensions, else as they are; at least one is kept.
    #[must_use]
    pub fn at_most(&self, dimension: usize, seed: u64) -> Self {
        let dimension = dimension.max(1);
        if self.dimension > dimension { self.projected(dimension, seed) } else { self.clone() }
    }

    /// The mean row.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.dimension];
        for row in self.values.chunks_exact(self.dimension.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        sums.iter_mut().for_each(|sum| *sum /= self.len().max(1) as f64);
        sums
    }

    /// The row at the smallest Euclidean distance of a point; the first of equals, 0 if there are none.
    #[must_use]
    pub fn nearest(&self, point: &[f64]) -> usize {
        let distances = (0..self.len()).map(|row| distance(point, self.row(row)));
        let best = distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map_or(0, |(row, _)| row)
    }
}

/// Euclidean distance of a guess and a row.
pub(crate) fn distance(guess: &[f64], row: &[f32]) -> f64 {
    guess.iter().zip(row).map(|(&a, &b)| (a - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

/// The angle's cosine of a guess and a row; 0 if one of them is.
#[cfg(test)]
pub(crate) fn cosine(guess: &[f64], row: &[f32]) -> f64 {
    let dot: f64 = guess.iter().zip(row).map(|(&a, &b)| a * f64::from(b)).sum();
    let norms = distance(guess, &vec![0.0; guess.len()]) * distance(&vec![0.0; row.len()], row);
    if norms > 0.0 { dot / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_rows_have_classes_that_a_head_can_tell() {
        let rows = Rows::synthetic(1, 600, 48, 3);
        assert_eq!((rows.len(), rows.values.len()), (600, 600 * 48));
        for row in 0..600 {
            let norm = distance(&[0.0; 48], rows.row(row));
            assert!((norm - 48_f64.sqrt()).abs() < 1e-4, "{norm}");
        }
        let fit = arras_fit::ridge::fit(&rows.problem(), Some(1.0)).unwrap();
        let accuracy = fit.validation.unwrap().accuracy;
        assert!(accuracy > 0.6 && accuracy < 0.999, "{accuracy}");
        assert_eq!(rows, Rows::of(&rows.features("vit")).unwrap());
    }

    #[test]
    fn projections_keep_distances_up_to_their_unit() {
        let rows = Rows::synthetic(2, 40, 256, 2);
        let projected = rows.projected(128, 3);
        let mut ratios = 0.0;
        for row in 1..40 {
            let from: Vec<f64> = rows.row(row).iter().map(|&x| x.into()).collect();
            let to: Vec<f64> = projected.row(row).iter().map(|&x| x.into()).collect();
            ratios += distance(&to, projected.row(0)) / distance(&from, rows.row(0)) / 39.0;
        }
        // 128 of 256 coordinates.
        assert!((ratios - 0.5_f64.sqrt()).abs() < 0.07, "{ratios}");
        let own: Vec<f64> = rows.row(7).iter().map(|&x| x.into()).collect();
        assert_eq!(rows.nearest(&own), 7);
        assert!((cosine(&own, rows.row(7)) - 1.0).abs() < 1e-9);
    }
}
