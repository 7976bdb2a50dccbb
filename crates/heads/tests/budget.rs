//! The modulus budget under the worst inputs that the bounds allow.
#![allow(clippy::unwrap_used, clippy::panic)]

use arras_heads::{Budget, Error, Head, Layout, ModelCard, Preset};
use arras_wire::corpus::SplitMix64;

fn head(weight: Vec<f32>, bias: Vec<f32>) -> Head {
    let classes = (0..bias.len()).map(|class| class.to_string()).collect();
    Head { weight, bias, classes, card: ModelCard::default() }
}

fn random(rng: &mut SplitMix64, count: usize, limit: f32) -> Vec<f32> {
    (0..count).map(|_| ((rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * limit).collect()
}

/// The row that a class answers with its largest logit: min(x_max, t |w_j|) with the sign of w_j, t as large as the norm
/// allows.
fn worst(weight: &[f32], preset: &Preset) -> Vec<f64> {
    let (x_max, norm_max) = (f64::from(preset.bounds.x_max), f64::from(preset.bounds.norm_max));
    let row =
        |t: f64| -> Vec<f64> { weight.iter().map(|&w| (t * f64::from(w)).clamp(-x_max, x_max)).collect() };
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    let (mut low, mut high) = (0.0, 1e40);
    for _ in 0..400 {
        let middle = f64::sqrt(f64::max(low, 1e-40) * high);
        if norm(&row(middle)) <= norm_max { low = middle } else { high = middle }
    }
    row(low)
}

/// What the client decrypts at most, in integers: features rounded away from zero, and the largest possible noise.
fn largest_logit(budget: &Budget, class: usize, row: &[f64], scale: f64) -> i128 {
    let weights = &budget.weights[class * row.len()..(class + 1) * row.len()];
    let features = row.iter().map(|x| (x.abs() * scale).ceil() as i128 + 21);
    let products = weights.iter().zip(features).map(|(&w, x)| i128::from(w.unsigned_abs()) * x);
    products.sum::<i128>() + budget.bias[class].abs()
}

#[test]
fn no_row_within_the_bounds_overflows_and_no_bit_is_wasted() {
    let mut rng = SplitMix64::new(1);
    for preset in Preset::all().iter().filter(|preset| preset.layouts.contains(&Layout::Dot) && !preset.hides)
    {
        let q = i128::from(preset.params.ring().modulus(0).value());
        for round in 0..200 {
            let (dimension, classes) = (1 + rng.below(900), 1 + rng.below(6));
            let limit = 2f32.powi(rng.below(24) as i32 - 16);
            let mut weight = random(&mut rng, dimension * classes, limit);
            if round % 4 == 0 {
                // A few large weights among small ones, and zeros.
                weight.iter_mut().step_by(7).for_each(|w| *w *= 100.0);
                weight.iter_mut().step_by(5).for_each(|w| *w = 0.0);
            }
            let bias = random(&mut rng, classes, 50.0 * limit);
            let head = head(weight, bias);
            let budget = match Budget::new(&head, &preset.params, preset.bounds) {
                Ok(budget) => budget,
                Err(Error::Overflow { bits, .. }) => {
                    assert!(bits < 4.0);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let mut most = 0;
            for (class, weight) in head.weight.chunks(dimension).enumerate() {
                let row = worst(weight, preset);
                let logit = largest_logit(&budget, class, &row, preset.params.scale());
                // Half of the modulus less what trimming may add.
                let trim = ((2048 + 1) * q) >> (budget.reply_bits + 1);
                assert!(2 * (logit + trim) < q, "{} D={dimension} class {class}: {logit}", preset.name);
                most = most.max(logit);
            }
            // The bound takes the smaller of two norms, which is at most sqrt(2) above the true maximum here, and the next
            // power of two is twice as large.
            assert!(budget.weight_scale == 1 << 30 || 2 * most > q / 8, "{} wastes bits", preset.name);
        }
    }
}

/// Integer weights, rounded features, worst signs of every rounding: never beyond the bound without its noise and trim.
#[test]
fn the_logit_bound_covers_every_rounding() {
    let mut rng = SplitMix64::new(2);
    let preset = Preset::named("linear").unwrap();
    let scale = preset.params.scale();
    for dimension in [1, 3, 64, 768] {
        for limit in [1e-3, 0.05, 2.0] {
            let head = head(random(&mut rng, dimension, limit), vec![0.3 * limit]);
            let budget = Budget::new(&head, &preset.params, preset.bounds).unwrap();
            let product = scale * f64::from(budget.weight_scale);
            let exact = |row: &[f64]| {
                let products = head.weight.iter().zip(row).map(|(&w, x)| f64::from(w) * x);
                products.sum::<f64>() + f64::from(head.bias[0])
            };
            for round in 0..50 {
                // Half-way between two integers, where rounding errs most, towards the worst row or anywhere.
                let mut row = worst(&head.weight, preset);
                if round > 0 {
                    let factors = random(&mut rng, dimension, 1.0);
                    row.iter_mut().zip(factors).for_each(|(x, f)| *x *= f64::from(f));
                }
                row.iter_mut().for_each(|x| *x = ((*x * scale * 0.999).floor() + 0.5) / scale);
                let integers = row.iter().map(|x| (x * scale).round_ties_even() as i128);
                let logit =
                    budget.weights.iter().zip(integers).map(|(&w, m)| i128::from(w) * m).sum::<i128>();
                let logit = (logit + budget.bias[0]) as f64 / product;
                assert!((logit - exact(&row)).abs() <= budget.logit_bound);
            }
        }
    }
}

#[test]
fn unusual_heads_have_a_budget_or_are_refused_with_the_numbers() {
    let preset = Preset::named("linear").unwrap();
    let budget = |weight, bias| Budget::new(&head(weight, bias), &preset.params, preset.bounds);
    let zero = budget(vec![0.0; 5], vec![0.0]).unwrap();
    assert_eq!((zero.weight_scale, &zero.weights[..], &zero.bias[..]), (1 << 30, &[0; 5][..], &[0][..]));
    assert_eq!(budget(vec![0.01; 4096 * 2], vec![0.0; 4096]).unwrap().bias.len(), 4096);
    // A bias alone fits up to q / 2 / 2^20 / 2^4.
    assert!(budget(vec![0.0; 5], vec![1.6e7]).is_ok());
    let error = budget(vec![0.0; 10], vec![0.0, 1.7e7]).unwrap_err().to_string();
    assert!(
        error.starts_with("class 1: a logit of up to 1.700e7 at data scale 2^20 leaves 3.98 bits"),
        "{error}"
    );
    let error = budget(vec![1e6; 768], vec![0.0]).unwrap_err().to_string();
    assert!(error.contains("in a modulus of 49.0 bits; at least 4 are needed"), "{error}");
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        assert!(matches!(budget(vec![bad; 3], vec![0.0]), Err(Error::Overflow { .. })), "{bad}");
    }
}
