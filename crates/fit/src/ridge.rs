//! Multi-class ridge regression in closed form.
//!
//! For features x_i, one-hot targets y_i and a penalty l2 it minimises
//! `sum_i |W x_i + b - y_i|^2 + l2 |W|^2`: the bias b is free. With X and Y centred by their means the solution
//! is `W^T = (X^T X + l2 I)^-1 X^T Y`, `b = mean(y) - W mean(x)` (Hoerl and Kennard 1970; Hastie, Tibshirani
//! and Friedman, *The Elements of Statistical Learning*, section 3.4.1). Features are centred and never
//! rescaled: W acts on the features as they are, so that a public bound on them bounds the logits.
//!
//! One eigendecomposition serves every l2: of the Gram matrix `X^T X` (D by D), or of the kernel matrix
//! `X X^T` (n by n) when there are fewer rows than features; both have the same eigenvalues apart from zeros.
//!
//! Leaving out is exact and needs no refit. If H maps targets to fitted values and e = y - H y, then the
//! residuals of a block g predicted by the fit without g are `(I - H_gg)^-1 e_g` (Allen 1974 for single rows;
//! Cook and Weisberg, *Residuals and Influence in Regression*, section 2.2 for blocks). The free bias is part
//! of H.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::Error;

/// The l2 grid runs over these powers of ten times the mean eigenvalue, in steps of half a decade.
const GRID_HALF_DECADES: std::ops::RangeInclusive<i32> = -12..=4;
/// Largest number of training rows that the n by D working copies in f64 are made for.
const MAX_ROWS: usize = 1 << 24;

/// Training data in memory.
///
/// ```
/// use arras_fit::ridge::{Form, Problem, fit};
///
/// let problem = Problem {
///     features: &[0.0, 1.0, 2.0, 3.0],
///     dimension: 1,
///     classes: &[0, 0, 1, 1],
///     class_count: 2,
///     groups: None,
/// };
/// let head = fit(&problem, Some(5.0))?;
/// assert!((head.weight[1] - 0.2).abs() < 1e-12 && (head.bias[1] - 0.2).abs() < 1e-12);
/// assert_eq!((head.form, head.blocks), (Form::Gram, 4));
/// // Without a penalty one is chosen: each row is predicted by the fit to the other rows.
/// let chosen = fit(&problem, None)?;
/// assert!(chosen.path.iter().any(|trial| trial.l2 == chosen.l2));
/// assert_eq!(chosen.validation.map(|found| found.accuracy), Some(1.0));
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// `[n][D]`, row-major, finite.
    pub features: &'a [f32],
    /// D, at least 1.
    pub dimension: usize,
    /// The class of each row, below `class_count`.
    pub classes: &'a [usize],
    /// C, at least 1; a class may be empty.
    pub class_count: usize,
    /// The group of each row, any numbers: rows with the same number are left out together.
    pub groups: Option<&'a [usize]>,
}

/// Which matrix was decomposed.
/// See the example of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `X^T X`, D by D.
    Gram,
    /// `X X^T`, n by n.
    Kernel,
}

/// How well rows are predicted by fits that have not seen their block.
/// See the example of [`Problem`].
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// The penalty.
    pub l2: f64,
    /// Mean over rows of the squared distance between the scores and the one-hot target.
    pub squared_error: f64,
    /// Standard error of `squared_error`, the blocks taken as independent.
    pub standard_error: f64,
    /// Share of rows whose largest score (the first of equals) is that of their class.
    pub accuracy: f64,
    /// `[n][C]` scores of each row from the fit without its block.
    pub scores: Vec<f64>,
}

/// What validation said about one penalty.
/// See the example of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// The penalty.
    pub l2: f64,
    /// As in [`Validation`].
    pub squared_error: f64,
    /// As in [`Validation`].
    pub accuracy: f64,
}

/// A fitted head and how its penalty was found.
/// See the example of [`Problem`].
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// `[C][D]`, row-major.
    pub weight: Vec<f64>,
    /// `[C]`.
    pub bias: Vec<f64>,
    /// The penalty, given or chosen.
    pub l2: f64,
    /// `(largest + l2) / (smallest + l2)` over the eigenvalues of the centred D by D Gram matrix.
    pub condition_number: f64,
    /// Which matrix was decomposed.
    pub form: Form,
    /// Blocks that were left out one at a time: groups if there are two or more, else rows.
    pub blocks: usize,
    /// Whether the blocks were groups.
    pub by_group: bool,
    /// The fit as seen from outside, at `l2`. `None` if there is only one block, or if leaving one out has no
    /// unique solution.
    pub validation: Option<Validation>,
    /// Every penalty that was validated, ascending.
    pub path: Vec<Trial>,
}

/// Fits a head with the given penalty, or with the largest of a grid whose squared error on left-out blocks is
/// within one standard error of the smallest (Breiman et al., *Classification and Regression Trees*, 1984): no worse as
/// far as the data can tell, and with smaller weights, which under encryption means smaller errors. The grid is `10^-6 .. 10^2` times the mean of the Gram matrix's
/// eigenvalues that centring leaves free, i.e. its trace over `min(n - 1, D)`, in half decades.
///
/// Time is O(n D min(n, D)) plus, per penalty and block of m rows, O(m^2 r) or O(r^3), whichever applies, with
/// r = min(n, D). Memory is two n by D arrays of f64.
///
/// # Errors
/// Lengths that do not fit, numbers that are not finite, a penalty that is negative or leaves the system
/// singular to working precision, no penalty where none can be chosen (a single row, constant features).
pub fn fit(problem: &Problem<'_>, l2: Option<f64>) -> Result<Fit, Error> {
    problem.check()?;
    if let Some(l2) = l2.filter(|l2| !l2.is_finite() || *l2 < 0.0) {
        return Err(Error::invalid("l2", format!("{l2} is not a number of at least zero")));
    }
    let decomposition = Decomposition::new(problem, problem.natural_form())?;
    let (blocks, by_group) = problem.blocks();
    let grid = match l2 {
        Some(l2) => vec![l2],
        None => decomposition.grid(blocks.len())?,
    };
    for &l2 in &grid {
        decomposition.check_penalty(l2)?;
    }
    let tried = decomposition.validate(&grid, &blocks);
    let path = tried.iter().map(Validation::summary).collect();
    let best = largest_within_one_error(tried);
    let Some(l2) = l2.or(best.as_ref().map(|best| best.l2)) else {
        return Err(Error::invalid("l2", "cannot be chosen: no penalty of the grid could be validated"));
    };
    let (weight, bias) = decomposition.solve(l2);
    Ok(Fit {
        weight,
        bias,
        l2,
        condition_number: decomposition.condition_number(l2),
        form: decomposition.form,
        blocks: blocks.len(),
        by_group,
        validation: best,
        path,
    })
}

/// The last (the grid ascends) whose error is at most the smallest plus the standard error of the smallest.
fn largest_within_one_error(tried: Vec<Validation>) -> Option<Validation> {
    let best = tried.iter().min_by(|a, b| a.squared_error.total_cmp(&b.squared_error))?;
    let enough = best.squared_error + best.standard_error;
    tried.into_iter().rfind(|validation| validation.squared_error <= enough)
}

impl Validation {
    fn summary(&self) -> Trial {
        Trial { l2: self.l2, squared_error: self.squared_error, accuracy: self.accuracy }
    }
}

impl Problem<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.classes.len()
    }

    fn natural_form(&self) -> Form {
        if self.rows() < self.dimension { Form::Kernel } else { Form::Gram }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let rows = self.rows();
        if self.dimension == 0 || self.class_count == 0 || !(1..=MAX_ROWS).contains(&rows) {
            let reason = format!("{rows} rows, {} features, {} classes", self.dimension, self.class_count);
            return Err(Error::invalid("features", format!("{reason}; each must be at least 1")));
        }
        if Some(self.features.len()) != rows.checked_mul(self.dimension) {
            let reason = format!("{} values for {rows} rows of {}", self.features.len(), self.dimension);
            return Err(Error::invalid("features", reason));
        }
        if let Some(index) = self.features.iter().position(|value| !value.is_finite()) {
            let (row, column) = (index / self.dimension, index % self.dimension);
            let reason = format!("row {row}, column {column} is {}, not finite", self.features[index]);
            return Err(Error::invalid("features", reason));
        }
        if let Some(row) = self.classes.iter().position(|&class| class >= self.class_count) {
            let reason = format!("row {row} is {}, not below {}", self.classes[row], self.class_count);
            return Err(Error::invalid("classes", reason));
        }
        if let Some(groups) = self.groups.filter(|groups| groups.len() != rows) {
            return Err(Error::invalid("groups", format!("{} entries for {rows} rows", groups.len())));
        }
        Ok(())
    }

    /// The rows to leave out together, and whether they are the given groups.
    fn blocks(&self) -> (Vec<Vec<usize>>, bool) {
        let mut blocks = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        for (row, &group) in self.groups.into_iter().flatten().enumerate() {
            blocks.entry(group).or_default().push(row);
        }
        if blocks.len() >= 2 {
            (blocks.into_values().collect(), true)
        } else {
            ((0..self.rows()).map(|row| vec![row]).collect(), false)
        }
    }
}

/// The centred problem in the eigenbasis of its Gram matrix: with `X^T X = V diag(eigenvalues) V^T`,
/// `rotated = X V`, and the fitted values are `rotated diag(1 / (eigenvalues + l2)) rotated^T Y`.
struct Decomposition<'a> {
    problem: &'a Problem<'a>,
    form: Form,
    feature_mean: Vec<f64>,
    target_mean: Vec<f64>,
    /// Ascending, at least zero; D of them, or n in the kernel form.
    eigenvalues: Vec<f64>,
    /// `[n, r]`.
    rotated: Mat<f64>,
    /// `[r, C]`: `rotated^T Y`.
    right_side: Mat<f64>,
    /// `[D, r]` and `[r, C]`: `W^T = basis diag(1 / (eigenvalues + l2)) projections`.
    basis: Mat<f64>,
    projections: Mat<f64>,
}

impl<'a> Decomposition<'a> {
    fn new(problem: &'a Problem<'a>, form: Form) -> Result<Self, Error> {
        let (rows, dimension) = (problem.rows(), problem.dimension);
        let value = |row: usize, column: usize| f64::from(problem.features[row * dimension + column]);
        let mean = |column| (0..rows).map(|row| value(row, column)).sum::<f64>() / rows as f64;
        let feature_mean: Vec<f64> = (0..dimension).map(mean).collect();
        let features = Mat::from_fn(rows, dimension, |row, column| value(row, column) - feature_mean[column]);
        let count = |class| problem.classes.iter().filter(|&&of_row| of_row == class).count();
        let target_mean: Vec<f64> =
            (0..problem.class_count).map(|class| count(class) as f64 / rows as f64).collect();
        let targets = Mat::from_fn(rows, problem.class_count, |row, class| {
            f64::from(u8::from(problem.classes[row] == class)) - target_mean[class]
        });

        let matrix = match form {
            Form::Gram => features.transpose() * &features,
            Form::Kernel => &features * features.transpose(),
        };
        let decomposition = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| Error::Eigendecomposition)?;
        let vectors = decomposition.U();
        let eigenvalues: Vec<f64> =
            decomposition.S().column_vector().iter().map(|&value| value.max(0.0)).collect();
        let (rotated, basis, projections) = match form {
            Form::Gram => {
                let rotated = &features * vectors;
                let projections = rotated.transpose() * &targets;
                (rotated, vectors.to_owned(), projections)
            }
            Form::Kernel => (
                Mat::from_fn(rows, rows, |row, k| vectors[(row, k)] * eigenvalues[k].sqrt()),
                features.transpose() * vectors,
                vectors.transpose() * &targets,
            ),
        };
        let right_side = rotated.transpose() * &targets;
        Ok(Decomposition {
            problem,
            form,
            feature_mean,
            target_mean,
            eigenvalues,
            rotated,
            right_side,
            basis,
            projections,
        })
    }

    fn largest(&self) -> f64 {
        self.eigenvalues.last().copied().unwrap_or(0.0)
    }

    /// Of the D by D Gram matrix, whichever matrix was decomposed: centred rows span at most n - 1 dimensions.
    fn smallest(&self) -> f64 {
        let (rows, dimension) = (self.problem.rows(), self.problem.dimension);
        if rows <= dimension {
            return 0.0;
        }
        let first = self.eigenvalues.len() - dimension;
        self.eigenvalues.get(first).copied().unwrap_or(0.0)
    }

    fn condition_number(&self, l2: f64) -> f64 {
        let smallest = self.smallest() + l2;
        // Constant features have no direction that is worse than another, at any penalty.
        if self.largest() == 0.0 { 1.0 } else { (self.largest() + l2) / smallest }
    }

    /// Refuses a penalty for which rounding alone could decide the solution: the smallest penalised eigenvalue
    /// must exceed the error bound of the computed ones.
    fn check_penalty(&self, l2: f64) -> Result<(), Error> {
        let (rows, dimension) = (self.problem.rows(), self.problem.dimension);
        let noise = self.largest() * f64::EPSILON * rows.max(dimension) as f64;
        if self.smallest() + l2 > noise {
            return Ok(());
        }
        let (smallest, largest) = (self.smallest(), self.largest());
        // With constant features the noise is zero and any penalty at all will do.
        let usable = if noise > 0.0 { 2.0 * noise } else { f64::MIN_POSITIVE };
        Err(Error::Singular { l2, smallest, largest, rows, dimension, usable })
    }

    fn grid(&self, blocks: usize) -> Result<Vec<f64>, Error> {
        let rank = (self.problem.rows() - 1).min(self.problem.dimension);
        let trace: f64 = self.eigenvalues.iter().sum();
        if blocks < 2 || trace <= 0.0 {
            let reason = format!(
                "must be given: it cannot be chosen from {} rows whose centred squares sum to {trace:e}",
                self.problem.rows()
            );
            return Err(Error::invalid("l2", reason));
        }
        let scale = trace / rank as f64;
        Ok(GRID_HALF_DECADES.map(|step| scale * 10_f64.powf(f64::from(step) / 2.0)).collect())
    }

    /// `[C][D]` weights and `[C]` biases.
    fn solve(&self, l2: f64) -> (Vec<f64>, Vec<f64>) {
        let scaled = scale_rows(&self.projections, |k| self.shrink(k, l2));
        let transposed = &self.basis * scaled;
        let (dimension, class_count) = (self.problem.dimension, self.problem.class_count);
        let weight: Vec<f64> =
            (0..class_count).flat_map(|class| transposed.col(class).iter().copied()).collect();
        let bias = weight.chunks_exact(dimension).zip(&self.target_mean).map(|(weight, target)| {
            target - weight.iter().zip(&self.feature_mean).map(|(w, x)| w * x).sum::<f64>()
        });
        let bias = bias.collect();
        (weight, bias)
    }

    /// `1 / (eigenvalue + l2)`; a direction without any extent contributes nothing.
    fn shrink(&self, k: usize, l2: f64) -> f64 {
        let penalised = self.eigenvalues[k] + l2;
        if penalised > 0.0 { 1.0 / penalised } else { 0.0 }
    }

    /// Validates every penalty that has a unique solution without each block; in the order of `grid`.
    fn validate(&self, grid: &[f64], blocks: &[Vec<usize>]) -> Vec<Validation> {
        if blocks.len() < 2 {
            return Vec::new();
        }
        let fitted: Vec<Mat<f64>> = grid
            .iter()
            .map(|&l2| &self.rotated * scale_rows(&self.right_side, |k| self.shrink(k, l2)))
            .collect();
        let class_count = self.problem.class_count;
        let mut scores = vec![Some(vec![0.0; self.problem.rows() * class_count]); grid.len()];
        for rows in blocks {
            let block = Block::new(self, rows);
            for ((&l2, fitted), scores) in grid.iter().zip(&fitted).zip(&mut scores) {
                let left_out = scores.as_mut().and_then(|_| block.left_out_residuals(self, l2, fitted));
                match (scores.as_mut(), left_out) {
                    (Some(scores), Some(residuals)) => {
                        for (i, &row) in rows.iter().enumerate() {
                            for class in 0..class_count {
                                scores[row * class_count + class] =
                                    self.target(row, class) - residuals[(i, class)];
                            }
                        }
                    }
                    _ => *scores = None,
                }
            }
        }
        let found = grid.iter().zip(scores);
        found.filter_map(|(&l2, scores)| Some(self.summarise(l2, scores?, blocks))).collect()
    }

    fn target(&self, row: usize, class: usize) -> f64 {
        f64::from(u8::from(self.problem.classes[row] == class))
    }

    fn summarise(&self, l2: f64, scores: Vec<f64>, blocks: &[Vec<usize>]) -> Validation {
        let of_row = |row: usize| &scores[row * self.problem.class_count..][..self.problem.class_count];
        let distance = |&row: &usize| {
            let differences =
                of_row(row).iter().enumerate().map(|(class, score)| score - self.target(row, class));
            differences.map(|difference| difference * difference).sum::<f64>()
        };
        let sums: Vec<f64> = blocks.iter().map(|rows| rows.iter().map(distance).sum()).collect();
        let rows = self.problem.rows() as f64;
        let squared_error = sums.iter().sum::<f64>() / rows;
        // The mean is a ratio of sums over blocks; its variance by linearisation.
        let spread =
            sums.iter().zip(blocks).map(|(sum, rows)| (sum - rows.len() as f64 * squared_error).powi(2));
        let count = blocks.len() as f64;
        let standard_error = (spread.sum::<f64>() * count / (count - 1.0)).sqrt() / rows;
        let hits = (0..self.problem.rows())
            .filter(|&row| crate::metrics::argmax(of_row(row)) == self.problem.classes[row])
            .count();
        Validation { l2, squared_error, standard_error, accuracy: hits as f64 / rows, scores }
    }
}

/// A block of rows that is left out together.
struct Block<'a> {
    rows: &'a [usize],
    /// `[m, r]`: its rows of `rotated`.
    rotated: Mat<f64>,
    /// `rotated^T rotated`, for a block with more rows than the basis has directions.
    gram: Option<Mat<f64>>,
}

impl<'a> Block<'a> {
    fn new(decomposition: &Decomposition<'_>, rows: &'a [usize]) -> Self {
        let rank = decomposition.eigenvalues.len();
        let rotated = Mat::from_fn(rows.len(), rank, |i, k| decomposition.rotated[(rows[i], k)]);
        let gram = (rows.len() > rank + 1).then(|| rotated.transpose() * &rotated);
        Block { rows, rotated, gram }
    }

    /// `(I - H_gg)^-1 e_g`, `[m, C]`, or nothing when the rest of the rows leaves the problem singular.
    fn left_out_residuals(&self, all: &Decomposition<'_>, l2: f64, fitted: &Mat<f64>) -> Option<Mat<f64>> {
        let residuals = Mat::from_fn(self.rows.len(), all.problem.class_count, |i, class| {
            let row = self.rows[i];
            all.target(row, class) - all.target_mean[class] - fitted[(row, class)]
        });
        match &self.gram {
            None => self.solve_in_rows(all, l2, residuals),
            Some(gram) => self.solve_in_directions(all, l2, residuals, gram),
        }
    }

    /// The m by m system, `H_gg = 1/n + T_g diag(1 / (eigenvalues + l2)) T_g^T`.
    fn solve_in_rows(&self, all: &Decomposition<'_>, l2: f64, residuals: Mat<f64>) -> Option<Mat<f64>> {
        let shrunk = scale_rows(self.rotated.transpose(), |k| all.shrink(k, l2));
        let mut matrix = &self.rotated * shrunk;
        let from_bias = 1.0 / all.problem.rows() as f64;
        for column in 0..matrix.ncols() {
            for (row, value) in matrix.col_mut(column).iter_mut().enumerate() {
                *value = f64::from(u8::from(row == column)) - *value - from_bias;
            }
        }
        solve_definite(&matrix, &residuals)
    }

    /// The same by the Woodbury identity: with `Z = [1 T_g]` and `A` the penalised Gram matrix of all rows in
    /// the eigenbasis, bias included, `(I - Z A^-1 Z^T)^-1 e = e + Z (A - Z^T Z)^-1 Z^T e`, and `A - Z^T Z` is
    /// the Gram matrix of the rows that stay.
    fn solve_in_directions(
        &self,
        all: &Decomposition<'_>,
        l2: f64,
        residuals: Mat<f64>,
        gram: &Mat<f64>,
    ) -> Option<Mat<f64>> {
        let (rows, rank) = (self.rows.len(), self.rotated.ncols());
        let sums: Vec<f64> = (0..rank).map(|k| self.rotated.col(k).iter().sum()).collect();
        let staying = Mat::from_fn(rank + 1, rank + 1, |i, k| match (i.checked_sub(1), k.checked_sub(1)) {
            (None, None) => (all.problem.rows() - rows) as f64,
            (None, Some(k)) | (Some(k), None) => -sums[k],
            (Some(i), Some(k)) if i == k => all.eigenvalues[i] + l2 - gram[(i, k)],
            (Some(i), Some(k)) => -gram[(i, k)],
        });
        let with_bias =
            Mat::from_fn(rows, rank + 1, |i, k| k.checked_sub(1).map_or(1.0, |k| self.rotated[(i, k)]));
        let correction = solve_definite(&staying, &(with_bias.transpose() * &residuals))?;
        Some(residuals + with_bias * correction)
    }
}

fn scale_rows(
    matrix: impl faer::mat::AsMatRef<T = f64, Rows = usize, Cols = usize>,
    factor: impl Fn(usize) -> f64,
) -> Mat<f64> {
    let matrix = matrix.as_mat_ref();
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |row, column| matrix[(row, column)] * factor(row))
}

/// Solves a symmetric positive definite system by Cholesky; `None` if it is not definite to working precision.
fn solve_definite(matrix: &Mat<f64>, right_side: &Mat<f64>) -> Option<Mat<f64>> {
    let largest = (0..matrix.nrows()).map(|k| matrix[(k, k)]).fold(0.0, f64::max);
    let factor = matrix.llt(Side::Lower).ok()?;
    let pivots = factor.L().diagonal().column_vector().iter().copied();
    let is_definite = pivots.map(|pivot| pivot * pivot).all(|pivot| pivot > largest * 1e-13);
    is_definite.then(|| factor.solve(right_side))
}

#[cfg(test)]
mod tests;
