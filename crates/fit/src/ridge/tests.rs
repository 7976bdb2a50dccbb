use super::*;
use crate::random::Stream;

struct Data {
    features: Vec<f32>,
    dimension: usize,
    classes: Vec<usize>,
    class_count: usize,
    groups: Vec<usize>,
}

impl Data {
    /// Clouds around one point per class, off the origin, in groups of uneven size.
    fn new(rows: usize, dimension: usize, class_count: usize, groups: usize, seed: u64) -> Self {
        let mut stream = Stream::new("ridge test", &[seed]);
        let classes: Vec<usize> = (0..rows).map(|_| stream.below(class_count as u64) as usize).collect();
        let centre: Vec<f32> = (0..class_count * dimension).map(|_| stream.bell()).collect();
        let features = (0..rows * dimension)
            .map(|index| {
                3.0 + centre[classes[index / dimension] * dimension + index % dimension] + stream.bell()
            })
            .collect();
        let groups = (0..rows).map(|row| (row * row / 7) % groups.max(1)).collect();
        Data { features, dimension, classes, class_count, groups }
    }

    fn problem(&self) -> Problem<'_> {
        Problem {
            features: &self.features,
            dimension: self.dimension,
            classes: &self.classes,
            class_count: self.class_count,
            groups: None,
        }
    }

    fn without(&self, left_out: &[usize]) -> Data {
        let keep: Vec<usize> = (0..self.classes.len()).filter(|row| !left_out.contains(row)).collect();
        let rows = self.features.chunks_exact(self.dimension).collect::<Vec<_>>();
        Data {
            features: keep.iter().flat_map(|&row| rows[row].to_vec()).collect(),
            classes: keep.iter().map(|&row| self.classes[row]).collect(),
            groups: keep.iter().map(|&row| self.groups[row]).collect(),
            ..*self
        }
    }
}

/// The oracle: normal equations of the features with a column of ones, penalty on all but that column, solved
/// by Gaussian elimination with partial pivoting. Returns `[C][D + 1]`, the bias last.
fn naive(data: &Data, l2: f64) -> Vec<Vec<f64>> {
    let width = data.dimension + 1;
    let mut system = vec![vec![0.0; width + data.class_count]; width];
    for (row, &class) in data.features.chunks_exact(data.dimension).zip(&data.classes) {
        let extended: Vec<f64> = row.iter().map(|&x| f64::from(x)).chain([1.0]).collect();
        for i in 0..width {
            for j in 0..width {
                system[i][j] += extended[i] * extended[j];
            }
            system[i][width + class] += extended[i];
        }
    }
    for (i, equation) in system.iter_mut().enumerate().take(data.dimension) {
        equation[i] += l2;
    }
    for k in 0..width {
        let pivot = (k..width).max_by(|&a, &b| system[a][k].abs().total_cmp(&system[b][k].abs())).unwrap();
        system.swap(k, pivot);
        let head = system[k].clone();
        for (i, equation) in system.iter_mut().enumerate() {
            if i != k {
                let factor = equation[k] / head[k];
                equation.iter_mut().zip(&head).for_each(|(value, of_head)| *value -= factor * of_head);
            }
        }
    }
    (0..data.class_count)
        .map(|class| (0..width).map(|i| system[i][width + class] / system[i][i]).collect())
        .collect()
}

fn scores(solution: &[Vec<f64>], row: &[f32]) -> Vec<f64> {
    let extended: Vec<f64> = row.iter().map(|&x| f64::from(x)).chain([1.0]).collect();
    solution.iter().map(|weights| weights.iter().zip(&extended).map(|(w, x)| w * x).sum()).collect()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{found} for {expected}");
    }
}

const SHAPES: [(usize, usize, usize); 6] =
    [(2, 1, 2), (30, 4, 3), (12, 20, 3), (20, 20, 2), (21, 20, 5), (60, 7, 1)];

#[test]
fn the_fit_equals_the_normal_equations() {
    for (seed, (rows, dimension, class_count)) in SHAPES.into_iter().enumerate() {
        let data = Data::new(rows, dimension, class_count, 4, seed as u64);
        for l2 in [0.01, 1.0, 100.0] {
            let found = fit(&data.problem(), Some(l2)).unwrap();
            let expected = naive(&data, l2);
            for (class, expected) in expected.iter().enumerate() {
                let weight = &found.weight[class * dimension..(class + 1) * dimension];
                assert_close(weight, &expected[..dimension], 1e-8);
                assert_close(&[found.bias[class]], &expected[dimension..], 1e-8);
            }
        }
    }
    let data = Data::new(50, 5, 3, 1, 9);
    let found = fit(&data.problem(), Some(0.0)).unwrap();
    assert_close(&found.weight[..5], &naive(&data, 0.0)[0][..5], 1e-8);
}

#[test]
fn both_forms_agree() {
    for (seed, (rows, dimension, class_count)) in SHAPES.into_iter().enumerate() {
        let data = Data::new(rows, dimension, class_count, 3, seed as u64);
        let problem = Problem { groups: Some(&data.groups), ..data.problem() };
        let (blocks, _) = problem.blocks();
        let [gram, kernel] =
            [Form::Gram, Form::Kernel].map(|form| Decomposition::new(&problem, form).unwrap());
        for l2 in [0.1, 10.0] {
            let ((weight, bias), (other_weight, other_bias)) = (gram.solve(l2), kernel.solve(l2));
            assert_close(&weight, &other_weight, 1e-9);
            assert_close(&bias, &other_bias, 1e-9);
            assert_close(&[gram.condition_number(l2)], &[kernel.condition_number(l2)], 1e-9);
            let (found, other) = (gram.validate(&[l2], &blocks), kernel.validate(&[l2], &blocks));
            assert_close(&found[0].scores, &other[0].scores, 1e-9);
        }
    }
}

fn refit_scores(data: &Data, blocks: &[Vec<usize>], l2: f64) -> Vec<f64> {
    let mut expected = vec![0.0; data.classes.len() * data.class_count];
    for block in blocks {
        let solution = naive(&data.without(block), l2);
        for &row in block {
            let of_row = scores(&solution, &data.features[row * data.dimension..(row + 1) * data.dimension]);
            expected[row * data.class_count..(row + 1) * data.class_count].copy_from_slice(&of_row);
        }
    }
    expected
}

#[test]
fn leaving_one_row_out_equals_refitting() {
    for (seed, (rows, dimension, class_count)) in SHAPES.into_iter().enumerate() {
        let data = Data::new(rows, dimension, class_count, 1, seed as u64);
        let blocks: Vec<Vec<usize>> = (0..rows).map(|row| vec![row]).collect();
        for l2 in [0.1, 10.0] {
            let found = fit(&data.problem(), Some(l2)).unwrap();
            assert!(!found.by_group && found.blocks == rows);
            assert_close(&found.validation.unwrap().scores, &refit_scores(&data, &blocks, l2), 1e-8);
        }
    }
}

#[test]
fn leaving_one_group_out_equals_refitting() {
    // Two groups of many rows take the Woodbury path, many small groups the direct one.
    for (rows, dimension, groups) in [(30, 4, 2), (60, 7, 9), (12, 20, 3), (40, 3, 3), (25, 25, 5)] {
        let data = Data::new(rows, dimension, 3, groups, rows as u64);
        let problem = Problem { groups: Some(&data.groups), ..data.problem() };
        let (blocks, by_group) = problem.blocks();
        assert!(by_group);
        for l2 in [0.1, 10.0] {
            let found = fit(&problem, Some(l2)).unwrap();
            assert!(found.by_group && found.blocks == blocks.len());
            assert_close(&found.validation.unwrap().scores, &refit_scores(&data, &blocks, l2), 1e-8);
        }
    }
}

#[test]
fn the_largest_penalty_within_one_standard_error_is_chosen() {
    let data = Data { groups: (0..60).map(|row| row % 6).collect(), ..Data::new(60, 30, 3, 6, 5) };
    let problem = Problem { groups: Some(&data.groups), ..data.problem() };
    let found = fit(&problem, None).unwrap();
    assert_eq!(found.path.len(), GRID_HALF_DECADES.count());
    let best = found.path.iter().min_by(|a, b| a.squared_error.total_cmp(&b.squared_error)).unwrap();
    let at_best = fit(&problem, Some(best.l2)).unwrap().validation.unwrap();
    // The standard error by hand: every group has ten rows, so the mean is a mean of group means.
    let mut sums = [0.0; 6];
    for (row, scores) in at_best.scores.chunks_exact(3).enumerate() {
        let target = |class| f64::from(u8::from(class == data.classes[row]));
        sums[data.groups[row]] += (0..3).map(|class| (scores[class] - target(class)).powi(2)).sum::<f64>();
    }
    let means = sums.map(|sum| sum / 10.0);
    let mean = means.iter().sum::<f64>() / 6.0;
    let error = (means.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 5.0 / 6.0).sqrt();
    assert_close(&[at_best.standard_error], &[error], 1e-12);
    let validation = found.validation.unwrap();
    assert_eq!(validation.l2, found.l2);
    let within: Vec<f64> =
        found.path.iter().filter(|t| t.squared_error <= best.squared_error + error).map(|t| t.l2).collect();
    assert_eq!(Some(&found.l2), within.last());
    let given = fit(&problem, Some(found.l2)).unwrap();
    assert_eq!(given.weight, found.weight);
    let inner = &found.path[1..found.path.len() - 1];
    assert!(inner.iter().any(|point| point.l2 == found.l2), "the best penalty lies inside the grid");
}

#[test]
fn the_squared_error_and_accuracy_are_those_of_the_scores() {
    let data = Data::new(40, 6, 3, 1, 8);
    let validation = fit(&data.problem(), Some(1.0)).unwrap().validation.unwrap();
    let (mut squares, mut hits) = (0.0, 0.0);
    for (of_row, &class) in validation.scores.chunks_exact(3).zip(&data.classes) {
        squares += (0..3).map(|k| (of_row[k] - f64::from(u8::from(k == class))).powi(2)).sum::<f64>();
        hits += f64::from(u8::from((0..3).all(|k| k == class || of_row[k] < of_row[class])));
    }
    assert_close(&[validation.squared_error, validation.accuracy], &[squares / 40.0, hits / 40.0], 1e-12);
}

#[test]
fn a_single_row_is_fitted_by_its_bias() {
    let problem =
        Problem { features: &[1.0, 2.0], dimension: 2, classes: &[1], class_count: 3, groups: None };
    let found = fit(&problem, Some(0.5)).unwrap();
    assert_eq!((found.weight, found.bias), (vec![0.0; 6], vec![0.0, 1.0, 0.0]));
    assert_eq!(found.validation, None);
    assert!(fit(&problem, None).unwrap_err().to_string().starts_with("l2: must be given"));
}

#[test]
fn a_single_class_is_always_predicted() {
    let data = Data::new(20, 3, 1, 1, 2);
    let found = fit(&data.problem(), None).unwrap();
    assert_close(&found.weight, &[0.0; 3], 1e-12);
    assert_close(&found.bias, &[1.0], 1e-12);
    assert_eq!(found.validation.unwrap().accuracy, 1.0);
}

#[test]
fn constant_features_and_duplicate_rows_are_no_obstacle_with_a_penalty() {
    let mut data = Data::new(30, 3, 2, 1, 3);
    data.features.chunks_exact_mut(3).for_each(|row| row[1] = 7.0);
    let found = fit(&data.problem(), None).unwrap();
    assert_close(&[found.weight[1], found.weight[4]], &[0.0, 0.0], 1e-9);
    assert!(matches!(fit(&data.problem(), Some(0.0)), Err(Error::Singular { .. })));

    let twice = Data {
        features: data.features.repeat(2),
        classes: data.classes.repeat(2),
        groups: data.groups.repeat(2),
        ..data
    };
    assert_close(
        &fit(&twice.problem(), Some(2.0)).unwrap().weight,
        &fit(&data.problem(), Some(1.0)).unwrap().weight,
        1e-9,
    );

    let flat =
        Problem { features: &[5.0; 8], dimension: 2, classes: &[0, 1, 0, 0], class_count: 2, groups: None };
    assert_eq!(fit(&flat, Some(1.0)).unwrap().bias, [0.75, 0.25]);
    assert!(fit(&flat, None).unwrap_err().to_string().contains("sum to 0e0"));
    assert!(matches!(fit(&flat, Some(0.0)), Err(Error::Singular { .. })));
}

#[test]
fn singular_systems_are_refused_with_numbers_and_a_way_out() {
    let data = Data::new(10, 20, 2, 1, 4);
    let Err(error @ Error::Singular { usable, .. }) = fit(&data.problem(), Some(0.0)) else {
        panic!("accepted")
    };
    assert!(error.to_string().contains("10 rows, 20 features"), "{error}");
    assert!(fit(&data.problem(), Some(usable)).is_ok());
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let data = Data::new(6, 2, 2, 1, 6);
    let good = data.problem();
    let bad_features = [&data.features[..11], &[f32::NAN]].concat();
    for (problem, l2, expected) in [
        (Problem { dimension: 0, ..good }, Some(1.0), "0 features"),
        (Problem { dimension: 3, ..good }, Some(1.0), "12 values for 6 rows of 3"),
        (Problem { class_count: 1, ..good }, Some(1.0), "classes: row"),
        (Problem { groups: Some(&[0, 1]), ..good }, Some(1.0), "groups: 2 entries"),
        (Problem { features: &bad_features, ..good }, Some(1.0), "row 5, column 1 is NaN"),
        (good, Some(-1.0), "l2: -1"),
        (good, Some(f64::NAN), "l2: NaN"),
    ] {
        let message = fit(&problem, l2).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
