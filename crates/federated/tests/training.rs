//! Whole federations in one process.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use arras_federated::Local;
use arras_federated::local::{deal, to_integers};
use arras_federated::receiver::Pooled;
use arras_federated::session::Plan;
use arras_federated::simulate;
use arras_fit::ridge::{self, Problem};
use arras_fit::split::Deal;
use arras_fit::statistics::Statistics;
use arras_fit::{Features, metrics};
use arras_rounds::Agreement;
use arras_rounds::agreement::{Privacy, Projection};
use arras_rounds::ledger::{Event, Ledger};
use support::{agreement, backend, features};

/// The head that the training rows of all parties, pooled in the clear, give at a penalty.
fn pooled_head(agreement: &Agreement, parts: &[Features], l2: f64) -> Vec<f64> {
    let mut sum: Option<Statistics> = None;
    let mut rows = Vec::new();
    let mut classes = Vec::new();
    for part in parts {
        let local = Local::new(agreement, part).unwrap();
        // In the agreement's order: a part may lack a class.
        let (_, of_row) = local.scaled_rows();
        for &row in local.training() {
            rows.extend_from_slice(part.row(row).unwrap());
            classes.push(of_row[row]);
        }
        let statistics = local.statistics().unwrap();
        match &mut sum {
            Some(sum) => sum.add(&statistics).unwrap(),
            None => sum = Some(statistics),
        }
    }
    let dimension = agreement.dimension as usize;
    let problem = Problem { features: &rows, dimension, classes: &classes, class_count: 3, groups: None };
    ridge::fit(&problem, Some(l2)).unwrap().weight
}

fn relative_error(head: &[f32], pooled: &[f64]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let difference = square(&mut head.iter().zip(pooled).map(|(&a, b)| f64::from(a) - b));
    (difference / square(&mut pooled.iter().copied())).sqrt()
}

#[test]
fn the_head_is_the_one_that_pooled_rows_give() {
    for (parties, threshold, how) in [
        (3, 3, Deal::Even),
        (5, 3, Deal::Dirichlet(0.5)),
        (12, 7, Deal::Dirichlet(1.0)),
        (50, 26, Deal::Even),
    ] {
        let all = features(30 * parties, 24, parties as u64);
        let parts = deal(&all, None, parties, how, 1).unwrap();
        let agreement = agreement(parties as u32, threshold, 24);
        let simulated = simulate::run(&agreement, &parts, &Plan::default(), backend).unwrap();
        assert_eq!(simulated.sums_are_exact, Some(true), "{parties} parties");
        let l2 = simulated.head.card.l2.unwrap();
        let error = relative_error(&simulated.head.weight, &pooled_head(&agreement, &parts, l2));
        assert!(error <= 1e-4, "{parties} parties: weights differ by {error:e}");
        assert!(simulated.head.card.metrics["held_out_accuracy"] > 0.9);
        let ledger = Ledger::verify(&simulated.ledger).unwrap();
        let count =
            |is_it: fn(&Event) -> bool| ledger.entries().iter().filter(|entry| is_it(&entry.event)).count();
        assert_eq!(count(|event| matches!(event, Event::Contributed { .. })), 2);
        assert_eq!(count(|event| matches!(event, Event::Outcome { .. })), 1);
        assert_eq!(count(|event| matches!(event, Event::Refused { .. })), 0);
    }
}

/// The release rule refuses an exact sum of two. Its arithmetic would be as exact as that of any other.
#[test]
fn the_sums_of_two_give_the_pooled_head() {
    let parts = deal(&features(120, 24, 2), None, 2, Deal::Dirichlet(0.5), 1).unwrap();
    let agreement = agreement(3, 2, 24);
    let unit = agreement.format().unwrap().unit;
    let mut sum: Vec<i64> = Vec::new();
    for part in &parts {
        let integers = to_integers(&Local::new(&agreement, part).unwrap().statistics().unwrap(), unit);
        sum.resize(integers.len(), 0);
        sum.iter_mut().zip(integers).for_each(|(sum, integer)| *sum += integer);
    }
    let pooled = Pooled::new(&agreement, &sum).unwrap();
    for candidate in pooled.candidates(&pooled.penalties()).unwrap() {
        let error = relative_error(&candidate.weight, &pooled_head(&agreement, &parts, candidate.l2));
        assert!(error <= 1e-4, "l2 {}: weights differ by {error:e}", candidate.l2);
    }
}

#[test]
fn a_projection_cuts_bytes_and_the_head_still_acts_on_features() {
    let all = features(240, 96, 4);
    let parts = deal(&all, None, 4, Deal::Even, 2).unwrap();
    let projection = Some(Projection { dimension: 32, seed: [9; 32] });
    let agreement = Agreement { projection, ..agreement(4, 3, 96) };
    let simulated = simulate::run(&agreement, &parts, &Plan::default(), backend).unwrap();
    assert_eq!(simulated.head.dimension(), 96);
    let (_, classes) = all.classes().unwrap();
    let logits = simulated.head.logits(&all.values);
    let correct =
        logits.chunks_exact(3).zip(&classes).filter(|(row, class)| metrics::argmax(row) == **class).count();
    assert!(correct > 200, "{correct} of 240");
}

#[test]
fn uploads_keep_to_their_size() {
    let full = agreement(3, 3, 768).format().unwrap();
    assert!(full.upload_bytes(full.entries) <= 3_800_000, "{}", full.upload_bytes(full.entries));
    let many = agreement(50, 26, 768).format().unwrap();
    assert!(many.upload_bytes(many.entries) <= 3_800_000, "{}", many.upload_bytes(many.entries));
    let projected =
        Agreement { projection: Some(Projection { dimension: 128, seed: [0; 32] }), ..agreement(3, 3, 768) };
    let projected = projected.format().unwrap();
    assert!(
        projected.upload_bytes(projected.entries) <= 160_000,
        "{}",
        projected.upload_bytes(projected.entries)
    );
    assert!(full.flooding_bits() >= 40 + 6);
}

#[test]
fn noisy_sums_train_and_cost_what_was_agreed() {
    let parts = deal(&features(900, 12, 8), None, 3, Deal::Even, 3).unwrap();
    let privacy = Some(Privacy { epsilon: 8.0, delta: 1e-5, rows_per_unit: 2 });
    let agreement = Agreement { privacy, row_bound: 3.0, ..agreement(3, 2, 12) };
    let plan = Plan { honest: 2, attempts: 1, ..Plan::default() };
    let simulated = simulate::run(&agreement, &parts, &plan, backend).unwrap();
    assert_eq!(simulated.sums_are_exact, None);
    assert!(simulated.head.card.metrics.contains_key("noisy_held_out_accuracy"));
    assert!(!simulated.head.card.metrics.contains_key("held_out_accuracy"));
    let ledger = Ledger::verify(&simulated.ledger).unwrap();
    let spent = ledger.entries().iter().rev().find_map(|entry| match &entry.event {
        Event::Released { epsilon, rho, .. } => Some((epsilon.unwrap(), rho.unwrap())),
        _ => None,
    });
    let (epsilon, rho) = spent.unwrap();
    assert!(epsilon <= 8.0 * (1.0 + 1e-9) && epsilon > 7.9, "{epsilon}");
    assert!(rho > 0.0);
}

/// The bound on what one unit changes is never exceeded, by integers as they are sent.
#[test]
fn one_unit_never_changes_the_integers_by_more_than_the_sensitivity() {
    let privacy = Privacy { epsilon: 1.0, delta: 1e-5, rows_per_unit: 2 };
    for seed in 0..40 {
        let agreement =
            Agreement { privacy: Some(privacy), row_bound: 0.5 + seed as f64 / 10.0, ..agreement(3, 2, 7) };
        let unit = agreement.format().unwrap().unit;
        let all = features(40, 7, seed);
        let statistics = |rows: &[usize]| {
            let mut part = all.select(rows);
            part.groups = None;
            let agreement =
                Agreement { privacy: Some(Privacy { rows_per_unit: 1, ..privacy }), ..agreement.clone() };
            let local = Local::new(&agreement, &part).unwrap();
            let (values, classes) = local.scaled_rows();
            to_integers(
                &Statistics::of(&Problem {
                    features: values,
                    dimension: 7,
                    classes,
                    class_count: 3,
                    groups: None,
                })
                .unwrap(),
                unit,
            )
        };
        let with: Vec<usize> = (0..40).collect();
        let without: Vec<usize> = (2..40).collect();
        let (with, without) = (statistics(&with), statistics(&without));
        // Entries off the diagonal of X'^T X' count twice.
        let mut weights = Vec::new();
        for row in 0..8 {
            weights.extend((row..8).map(|column| if row == column { 1.0 } else { 2.0 }));
        }
        weights.resize(with.len(), 1.0);
        let distance = with
            .iter()
            .zip(&without)
            .zip(&weights)
            .map(|((a, b), w)| w * ((a - b) as f64).powi(2))
            .sum::<f64>()
            .sqrt();
        let bound = arras_federated::local::integer_sensitivity(
            &agreement,
            &arras_rounds::message::Purpose::Statistics,
        )
        .unwrap();
        assert!(distance <= bound, "seed {seed}: {distance} > {bound}");
        assert!(distance > bound / 1000.0);
    }
}
