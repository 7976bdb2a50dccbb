//! Ridge regression from sums over the rows: what clients of a federation send instead of features.
//!
//! With every row extended by a one, `x' = (x, 1)`, and one-hot targets y, the sums `X'^T X'` and `X'^T Y` hold
//! everything that the fit of [`ridge`](crate::ridge) needs: n is the corner of the first, the sums of the
//! features its last column, the class counts the last row of the second. They add up over clients, so the head
//! fitted to the sum is the head that pooled rows would give.
//!
//! Sums that carry noise (differential privacy) have a Gram matrix with negative eigenvalues. They are set to
//! zero before solving, which gives the nearest positive semidefinite matrix (Higham 1988), and counted.

use faer::{Mat, Side};

use crate::Error;
use crate::ridge::Problem;

/// Sums over rows. All entries are finite.
///
/// Two clients send their sums; the head of the sum is that of all rows together:
///
/// ```
/// use arras_fit::ridge::Problem;
/// use arras_fit::statistics::Statistics;
///
/// let sums = |features: &[f32], classes: &[usize]| {
///     Statistics::of(&Problem { features, dimension: 1, classes, class_count: 2, groups: None })
/// };
/// let mut total = sums(&[0.0, 1.0], &[0, 0])?;
/// total.add(&sums(&[2.0, 3.0], &[1, 1])?)?;
/// assert_eq!(total, sums(&[0.0, 1.0, 2.0, 3.0], &[0, 0, 1, 1])?);
///
/// let head = total.solver()?.solve(5.0)?;
/// assert!((head.weight[1] - 0.2).abs() < 1e-12 && (head.bias[1] - 0.2).abs() < 1e-12);
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// D, at least 1.
    pub dimension: usize,
    /// C, at least 1.
    pub class_count: usize,
    /// `X'^T X'`, the upper triangle row by row: (0,0), (0,1) .. (0,D), (1,1) .. (D,D). The last entry is n.
    pub gram: Vec<f64>,
    /// `X'^T Y`, `[D + 1][C]`. The last row is the number of rows of each class.
    pub cross: Vec<f64>,
}

/// Entries of the upper triangle of `X'^T X'`; `None` if that overflows.
#[must_use]
pub fn gram_len(dimension: usize) -> Option<usize> {
    let side = dimension.checked_add(1)?;
    side.checked_mul(side.checked_add(1)?).map(|twice| twice / 2)
}

/// Entries of `X'^T Y`; `None` if that overflows.
#[must_use]
pub fn cross_len(dimension: usize, class_count: usize) -> Option<usize> {
    dimension.checked_add(1)?.checked_mul(class_count)
}

impl Statistics {
    /// The sums over the rows of a problem. Its groups play no part.
    ///
    /// # Errors
    /// What [`ridge::fit`](crate::ridge::fit) refuses about features and classes.
    pub fn of(problem: &Problem<'_>) -> Result<Self, Error> {
        problem.check()?;
        let (rows, dimension, class_count) = (problem.rows(), problem.dimension, problem.class_count);
        let extended = Mat::from_fn(rows, dimension + 1, |row, column| match column {
            column if column < dimension => f64::from(problem.features[row * dimension + column]),
            _ => 1.0,
        });
        let product = extended.transpose() * &extended;
        let gram = upper(dimension).map(|(row, column)| product[(row, column)]).collect();
        let mut cross = vec![0.0; (dimension + 1) * class_count];
        for (row, &class) in problem.classes.iter().enumerate() {
            for column in 0..=dimension {
                cross[column * class_count + class] += extended[(row, column)];
            }
        }
        Ok(Statistics { dimension, class_count, gram, cross })
    }

    /// Number of rows n; with noise, whatever the noise made of it.
    #[must_use]
    pub fn rows(&self) -> f64 {
        self.gram.last().copied().unwrap_or(0.0)
    }

    /// Adds the sums of other rows.
    ///
    /// # Errors
    /// Another dimension or number of classes.
    pub fn add(&mut self, other: &Statistics) -> Result<(), Error> {
        if (self.dimension, self.class_count) != (other.dimension, other.class_count) {
            let reason = format!(
                "{} features and {} classes added to {} and {}",
                other.dimension, other.class_count, self.dimension, self.class_count
            );
            return Err(Error::invalid("statistics", reason));
        }
        self.gram.iter_mut().zip(&other.gram).for_each(|(sum, value)| *sum += value);
        self.cross.iter_mut().zip(&other.cross).for_each(|(sum, value)| *sum += value);
        Ok(())
    }

    /// Prepares for any number of penalties: one eigendecomposition, O(D^3).
    ///
    /// # Errors
    /// Lengths that do not fit, entries that are not finite, fewer than one row.
    pub fn solver(&self) -> Result<Solver, Error> {
        self.check()?;
        let (dimension, class_count, rows) = (self.dimension, self.class_count, self.rows());
        let mut centred = Mat::<f64>::zeros(dimension, dimension);
        let feature_sum: Vec<f64> =
            (0..dimension).map(|row| self.gram[index(dimension, row, dimension)]).collect();
        for (&value, (row, column)) in self.gram.iter().zip(upper(dimension)) {
            if column < dimension {
                let value = value - feature_sum[row] * feature_sum[column] / rows;
                centred[(row, column)] = value;
                centred[(column, row)] = value;
            }
        }
        let class_rows = &self.cross[dimension * class_count..];
        let cross = Mat::from_fn(dimension, class_count, |row, class| {
            self.cross[row * class_count + class] - feature_sum[row] * class_rows[class] / rows
        });
        let decomposition = centred.self_adjoint_eigen(Side::Lower).map_err(|_| Error::Eigendecomposition)?;
        let found: Vec<f64> = decomposition.S().column_vector().iter().copied().collect();
        let basis = decomposition.U().to_owned();
        let projections = basis.transpose() * cross;
        Ok(Solver {
            negative: found.iter().filter(|&&value| value < 0.0).count(),
            eigenvalues: found.into_iter().map(|value| value.max(0.0)).collect(),
            basis,
            projections,
            feature_mean: feature_sum.iter().map(|sum| sum / rows).collect(),
            target_mean: class_rows.iter().map(|count| count / rows).collect(),
            rows,
        })
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::invalid("statistics", reason));
        if self.dimension == 0 || self.class_count == 0 {
            return invalid(format!(
                "{} features, {} classes; each must be at least 1",
                self.dimension, self.class_count
            ));
        }
        if Some(self.gram.len()) != gram_len(self.dimension)
            || Some(self.cross.len()) != cross_len(self.dimension, self.class_count)
        {
            return invalid(format!(
                "{} and {} entries for {} features and {} classes",
                self.gram.len(),
                self.cross.len(),
                self.dimension,
                self.class_count
            ));
        }
        if let Some(entry) = self.gram.iter().chain(&self.cross).position(|value| !value.is_finite()) {
            return invalid(format!("entry {entry} is not finite"));
        }
        if self.rows() < 1.0 {
            return invalid(format!("{} rows", self.rows()));
        }
        Ok(())
    }
}

/// The positions of the upper triangle of a matrix of side D + 1, row by row.
fn upper(dimension: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..=dimension).flat_map(move |row| (row..=dimension).map(move |column| (row, column)))
}

/// Where entry (row, column), row <= column, stands in the packed triangle of side D + 1.
fn index(dimension: usize, row: usize, column: usize) -> usize {
    row * (2 * dimension + 3 - row) / 2 + column - row
}

/// The centred problem in the eigenbasis of its Gram matrix.
/// See the example of [`Statistics`].
#[derive(Debug, Clone)]
pub struct Solver {
    /// Ascending, at least zero.
    eigenvalues: Vec<f64>,
    negative: usize,
    /// `[D, D]`, and `[D, C]` of the right sides in it.
    basis: Mat<f64>,
    projections: Mat<f64>,
    feature_mean: Vec<f64>,
    target_mean: Vec<f64>,
    rows: f64,
}

/// A head, and how well its penalty determines it.
/// See the example of [`Statistics`].
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// `[C][D]`, row-major.
    pub weight: Vec<f64>,
    /// `[C]`.
    pub bias: Vec<f64>,
    /// `(largest + l2) / (smallest + l2)` over the eigenvalues of the centred Gram matrix.
    pub condition_number: f64,
}

impl Solver {
    /// How many eigenvalues were below zero, as noise makes them, and are treated as zero. Rounding alone makes
    /// a few where rows are fewer than features.
    #[must_use]
    pub fn negative_eigenvalues(&self) -> usize {
        self.negative
    }

    /// The mean eigenvalue over the directions that n rows can span: the natural unit of l2.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = (self.rows - 1.0).clamp(1.0, self.eigenvalues.len() as f64);
        self.eigenvalues.iter().sum::<f64>() / rank
    }

    /// The head for a penalty: `W^T = (X^T X + l2 I)^-1 X^T Y` of centred X and Y, `b = mean(y) - W mean(x)`.
    ///
    /// # Errors
    /// A penalty that is negative, or that leaves the system singular to working precision.
    pub fn solve(&self, l2: f64) -> Result<Solution, Error> {
        if !l2.is_finite() || l2 < 0.0 {
            return Err(Error::invalid("l2", format!("{l2} is not a number of at least zero")));
        }
        let [smallest, largest] =
            [self.eigenvalues.first(), self.eigenvalues.last()].map(|value| value.copied().unwrap_or(0.0));
        let dimension = self.eigenvalues.len();
        let noise = largest * f64::EPSILON * (dimension as f64).max(self.rows);
        if smallest + l2 <= noise {
            let usable = if noise > 0.0 { 2.0 * noise } else { f64::MIN_POSITIVE };
            return Err(Error::Singular {
                l2,
                smallest,
                largest,
                rows: self.rows as usize,
                dimension,
                usable,
            });
        }
        let scaled = Mat::from_fn(dimension, self.projections.ncols(), |row, class| {
            self.projections[(row, class)] / (self.eigenvalues[row] + l2)
        });
        let transposed = &self.basis * scaled;
        let mean_score =
            |class| transposed.col(class).iter().zip(&self.feature_mean).map(|(w, x)| w * x).sum::<f64>();
        let class_count = self.target_mean.len();
        Ok(Solution {
            weight: (0..class_count).flat_map(|class| transposed.col(class).iter().copied()).collect(),
            bias: (0..class_count).map(|class| self.target_mean[class] - mean_score(class)).collect(),
            condition_number: if largest == 0.0 { 1.0 } else { (largest + l2) / (smallest + l2) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::ridge;

    /// Rows around class means, correlated, far from the origin.
    fn rows(count: usize, dimension: usize, class_count: usize, seed: u64) -> (Vec<f32>, Vec<usize>) {
        let mut stream = Stream::new("arras/1 test statistics", &[seed]);
        let classes: Vec<usize> = (0..count).map(|row| row % class_count).collect();
        let features = classes
            .iter()
            .flat_map(|&class| {
                let shared = stream.bell();
                (0..dimension)
                    .map(|column| {
                        let mean = if column % class_count == class { 1.5 } else { 0.0 };
                        5.0 + mean + shared + 0.3 * stream.bell()
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        (features, classes)
    }

    fn problem<'a>(features: &'a [f32], classes: &'a [usize], dimension: usize) -> Problem<'a> {
        Problem { features, dimension, classes, class_count: 3, groups: None }
    }

    fn distance(ours: &[f64], theirs: &[f64]) -> f64 {
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied())
    }

    #[test]
    fn the_sum_over_clients_gives_the_pooled_head() {
        for (count, dimension) in [(300, 20), (15, 20)] {
            let (features, classes) = rows(count, dimension, 3, 7);
            let pooled = ridge::fit(&problem(&features, &classes, dimension), Some(0.5)).unwrap();
            let third = count / 3;
            let mut sum: Option<Statistics> = None;
            for start in (0..count).step_by(third) {
                let part = Statistics::of(&problem(
                    &features[start * dimension..(start + third) * dimension],
                    &classes[start..start + third],
                    dimension,
                ))
                .unwrap();
                match &mut sum {
                    Some(sum) => sum.add(&part).unwrap(),
                    None => sum = Some(part),
                }
            }
            let solution = sum.unwrap().solver().unwrap().solve(0.5).unwrap();
            assert!(distance(&solution.weight, &pooled.weight) < 1e-9);
            assert!(distance(&solution.bias, &pooled.bias) < 1e-9);
            let relative = solution.condition_number / pooled.condition_number;
            assert!((relative - 1.0).abs() < 1e-9, "{relative}");
        }
    }

    #[test]
    fn packed_positions_follow_the_stated_order() {
        for dimension in [1, 2, 7] {
            let positions: Vec<usize> =
                upper(dimension).map(|(row, column)| index(dimension, row, column)).collect();
            assert_eq!(positions, (0..gram_len(dimension).unwrap()).collect::<Vec<_>>());
        }
        assert_eq!(gram_len(768).unwrap() + cross_len(768, 3).unwrap(), 298_372);
    }

    #[test]
    fn noise_below_zero_is_clipped_and_counted() {
        let (features, classes) = rows(30, 8, 3, 1);
        let mut statistics = Statistics::of(&problem(&features, &classes, 8)).unwrap();
        let solver = statistics.solver().unwrap();
        assert_eq!(solver.negative_eigenvalues(), 0);
        statistics.gram[0] -= 1e4;
        let solver = statistics.solver().unwrap();
        assert_eq!(solver.negative_eigenvalues(), 1);
        let solution = solver.solve(1.0).unwrap();
        assert!(solution.weight.iter().chain(&solution.bias).all(|value| value.is_finite()));
    }

    #[test]
    fn what_cannot_be_solved_is_refused() {
        let (features, classes) = rows(9, 20, 3, 2);
        let good = Statistics::of(&problem(&features, &classes, 20)).unwrap();
        let solver = good.solver().unwrap();
        assert!(matches!(solver.solve(0.0), Err(Error::Singular { .. })));
        assert!(solver.solve(f64::NAN).is_err() && solver.solve(-1.0).is_err());
        let mut changed = good.clone();
        changed.gram.pop();
        assert!(changed.solver().is_err());
        changed = good.clone();
        changed.cross[3] = f64::INFINITY;
        assert!(changed.solver().is_err());
        changed = good.clone();
        *changed.gram.last_mut().unwrap() = 0.5;
        assert!(changed.solver().is_err());
        let (features, classes) = rows(9, 5, 3, 2);
        assert!(changed.add(&Statistics::of(&problem(&features, &classes, 5)).unwrap()).is_err());
    }
}
