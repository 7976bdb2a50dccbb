use super::*;

fn of<'a>(scores: &'a [f64], class_count: usize, labels: &'a [usize]) -> Predictions<'a> {
    Predictions { scores, class_count, labels, groups: None }
}

/// Random scores on a coarse grid (many ties) and labels that follow them loosely.
fn noisy(rows: usize, class_count: usize, seed: u64) -> (Vec<f64>, Vec<usize>) {
    let mut stream = Stream::new("metrics test", &[seed]);
    let mut scores: Vec<f64> = (0..rows * class_count).map(|_| stream.below(6) as f64 / 2.0).collect();
    let labels: Vec<usize> = (0..rows).map(|_| stream.below(class_count as u64) as usize).collect();
    for (row, &label) in labels.iter().enumerate() {
        scores[row * class_count + label] += stream.below(3) as f64 / 2.0;
    }
    (scores, labels)
}

#[test]
fn a_case_computed_by_hand() {
    // Rows are predicted as 0, 1, 1, 2, 0 (a tie: the first); labels are 0, 1, 0, 2, 2.
    let scores = [
        2.0, 0.0, 0.0, /**/ 0.0, 1.0, 0.0, /**/ 0.0, 3.0, 0.0, /**/ 0.0, 0.0, 1.0,
        /**/ 1.0, 0.0, 1.0,
    ];
    let found = evaluate(&of(&scores, 3, &[0, 1, 0, 2, 2]), 0, 0).unwrap();
    assert_eq!(found.confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 1]]);
    assert_eq!(found.accuracy.value, 3.0 / 5.0);
    assert_eq!(found.balanced_accuracy.value, (0.5 + 1.0 + 0.5) / 3.0);
    // Class 0: scores 2, 0 against 0, 0, 1: (3 + 2 * 0.5) / 6. Class 1: 1 against 0, 3, 0, 0: 3 / 4.
    // Class 2: 1, 1 against 0, 0, 0: 1.
    assert_eq!(found.auc.unwrap().value, (4.0 / 6.0 + 3.0 / 4.0 + 1.0) / 3.0);
    // Largest probabilities e^2/(e^2+2) = .787 and e^3/(e^3+2) = .909 fall into bins of their own; e/(e+2) =
    // .576 holds two hits, 1/(2+1/e) = .422 a miss.
    let e = std::f64::consts::E;
    let expected = ((1.0 - e * e / (e * e + 2.0))
        + e.powi(3) / (e.powi(3) + 2.0)
        + 2.0 * (1.0 - e / (e + 2.0))
        + 1.0 / (2.0 + 1.0 / e))
        / 5.0;
    assert!((found.calibration_error.value - expected).abs() < 1e-12);
    assert_eq!((found.accuracy.low, found.accuracy.high), (0.6, 0.6));
}

#[test]
fn auc_counts_pairs_with_ties_as_one_half() {
    for seed in 0..20 {
        let (scores, labels) = noisy(40, 3, seed);
        let mut sum = 0.0;
        for class in 0..3 {
            let (mut good, mut pairs) = (0.0, 0.0);
            for (i, &inside) in labels.iter().enumerate() {
                for (j, &outside) in labels.iter().enumerate() {
                    if inside == class && outside != class {
                        let (a, b) = (scores[i * 3 + class], scores[j * 3 + class]);
                        good += if a > b {
                            1.0
                        } else if a == b {
                            0.5
                        } else {
                            0.0
                        };
                        pairs += 1.0;
                    }
                }
            }
            sum += good / pairs;
        }
        let found = evaluate(&of(&scores, 3, &labels), 0, 0).unwrap().auc.unwrap().value;
        assert!((found - sum / 3.0).abs() < 1e-12);
    }
}

#[test]
fn perfect_inverted_and_constant_scores_have_known_values() {
    let labels = [0, 1, 0, 1];
    let perfect = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
    let inverted: Vec<f64> = perfect.iter().map(|score| 1.0 - score).collect();
    for (scores, accuracy, auc) in [(&perfect[..], 1.0, 1.0), (&inverted, 0.0, 0.0), (&[0.5; 8], 0.5, 0.5)] {
        let found = evaluate(&of(scores, 2, &labels), 10, 1).unwrap();
        assert_eq!((found.accuracy.value, found.auc.unwrap().value), (accuracy, auc));
        assert_eq!(found.balanced_accuracy.value, accuracy);
    }
    let sharp: Vec<f64> = perfect.iter().map(|score| score * 1e3).collect();
    assert!(evaluate(&of(&sharp, 2, &labels), 0, 0).unwrap().calibration_error.value < 1e-12);
}

#[test]
fn classes_that_do_not_occur_are_left_out_of_the_means() {
    let scores = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let found = evaluate(&of(&scores, 3, &[0, 1]), 0, 0).unwrap();
    assert_eq!((found.balanced_accuracy.value, found.auc.unwrap().value), (1.0, 1.0));
    assert_eq!(evaluate(&of(&scores, 3, &[1, 1]), 0, 0).unwrap().auc, None);
    assert_eq!(evaluate(&of(&[3.0, 4.0], 1, &[0, 0]), 5, 0).unwrap().accuracy.value, 1.0);
}

#[test]
fn weights_are_repetitions() {
    let (scores, labels) = noisy(25, 3, 7);
    let weights: Vec<u64> = (0..25).map(|row| row % 4).collect();
    let (mut long_scores, mut long_labels) = (Vec::new(), Vec::new());
    for row in 0..25 {
        for _ in 0..weights[row] {
            long_scores.extend(&scores[row * 3..row * 3 + 3]);
            long_labels.push(labels[row]);
        }
    }
    let found = Rows::new(&of(&scores, 3, &labels)).measure(&weights);
    let long = of(&long_scores, 3, &long_labels);
    let expected = Rows::new(&long).measure(&vec![1; long_labels.len()]);
    assert_eq!((found.accuracy, found.balanced), (expected.accuracy, expected.balanced));
    assert!((found.auc.unwrap() - expected.auc.unwrap()).abs() < 1e-12);
    assert!((found.calibration - expected.calibration).abs() < 1e-12);
}

#[test]
fn intervals_have_the_width_theory_predicts() {
    // 400 independent rows, 300 hits: the normal approximation gives 0.75 +- 1.96 sqrt(.75 * .25 / 400).
    let labels: Vec<usize> = (0..400).map(|row| usize::from(row % 4 == 0)).collect();
    let scores = [1.0, 0.0].repeat(400);
    let half = 1.96 * (0.75_f64 * 0.25 / 400.0).sqrt();
    let found = evaluate(&of(&scores, 2, &labels), 2_000, 3).unwrap().accuracy;
    assert!(
        (found.low - (0.75 - half)).abs() < 0.006 && (found.high - (0.75 + half)).abs() < 0.006,
        "{found:?}"
    );

    // The same rows in 20 groups that are all hit or all missed: sqrt(20) fewer units, a wider interval.
    let groups: Vec<usize> = (0..400).map(|row| (row % 4) * 5 + row / 4 % 5).collect();
    let grouped = Predictions { groups: Some(&groups), ..of(&scores, 2, &labels) };
    let wide = evaluate(&grouped, 2_000, 3).unwrap();
    assert!(wide.accuracy.high - wide.accuracy.low > 3.0 * (found.high - found.low));
    assert_eq!((wide.bootstrap.units, wide.bootstrap.by_group), (20, true));
}

#[test]
fn the_seed_decides_the_intervals() {
    let (scores, labels) = noisy(60, 3, 1);
    let run = |seed| evaluate(&of(&scores, 3, &labels), 200, seed).unwrap();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).accuracy, run(2).accuracy);
    assert_eq!(run(1).accuracy.value, run(2).accuracy.value);
}

#[test]
fn evaluations_survive_json() {
    let (scores, labels) = noisy(10, 2, 1);
    let found = evaluate(&of(&scores, 2, &labels), 0, 0).unwrap();
    let text = serde_json::to_string(&found).unwrap();
    let again: Evaluation = serde_json::from_str(&text).unwrap();
    assert_eq!(again.confusion, found.confusion);
    assert!((again.calibration_error.value - found.calibration_error.value).abs() < 1e-15);
}

#[test]
fn margins_are_distances_to_the_runner_up() {
    assert_eq!(margin(&[1.0, 4.0, 2.5]), 1.5);
    assert_eq!(margin(&[2.0, 2.0]), 0.0);
    assert_eq!(margin(&[2.0]), f64::INFINITY);
    assert!(margin(&[]).is_nan());
}

#[test]
fn predictions_that_do_not_fit_are_refused() {
    let good = of(&[0.0, 1.0], 2, &[1]);
    for (predictions, resamples, expected) in [
        (of(&[], 2, &[]), 0, "scores: 0 values"),
        (of(&[0.0], 2, &[1]), 0, "scores: 1 values"),
        (of(&[0.0, f64::NAN], 2, &[1]), 0, "scores: row 0, class 1"),
        (of(&[0.0, 1.0], 2, &[2]), 0, "labels: row 0 is 2"),
        (Predictions { groups: Some(&[]), ..good }, 0, "groups: 0 entries"),
        (good, MAX_RESAMPLES + 1, "resamples: "),
    ] {
        let message = evaluate(&predictions, resamples, 0).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
