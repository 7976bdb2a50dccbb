//! 8. Three hospitals, one head: the one that their pooled data would give, from encrypted sums.
//!
//! A ridge head depends on the data only through X^T X, X^T Y and the number of rows. Each party uploads those, encrypted
//! under a key that no one holds whole; what is decrypted are the sums over all parties, exactly. A second round of
//! encrypted counts chooses the penalty. No row, token or image leaves its party, and no party's own sums are seen.
//!
//! A *party* is a state machine with a journal: what it sends is stored before it is sent, so that it can be killed at any
//! point and never says two things under one mask. Here all of them live in one process; `arras federated` runs the same
//! code in four.
//!
//! Run it with `cargo run --example 08_federated`.

use std::error::Error;

use arras::cpu::Cpu;
use arras::federated::session::Plan;
use arras::federated::{local, simulate};
use arras::fit::metrics::argmax;
use arras::fit::split::Deal;
use arras::fit::{Features, import};
use arras::rounds::Agreement;

const IRIS: &str = include_str!("data/iris.csv");
const PARTIES: u32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let table = import::from_csv("iris.csv", IRIS.replacen("species", "label", 1).as_bytes())?;
    let flowers = Features { fingerprint: Some("four lengths in cm".into()), ..table };
    let (classes, truth) = flowers.classes().ok_or("no labels")?;
    let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let agreement = Agreement {
        name: "irises".into(),
        epoch: 1,
        backbone: "four lengths in cm".into(),
        dimension: flowers.dimension as u32,
        classes,
        // A public bound on the norm of a row, in centimetres: what is longer is cut.
        row_bound: 16.0,
        rows: 1000,
        parties: PARTIES,
        threshold: 2,
        quorum: PARTIES,
        receiver: "party-001".into(),
        projection: None,
        privacy: None,
    };
    assert!(flowers.values.chunks_exact(4).all(|row| norm(row) <= agreement.row_bound));

    // Dealt out unevenly, as classes are in earnest (a Dirichlet distribution), and trained together.
    let parts = local::deal(&flowers, None, PARTIES as usize, Deal::Dirichlet(1.0), 3)?;
    let plan = Plan { penalties: vec![1e-4, 1e-3, 1e-2], ..Plan::default() };
    let outcome = simulate::run(&agreement, &parts, &plan, Cpu::sequential)?;
    for (party, (training, held_out, _)) in outcome.parties.iter().enumerate() {
        println!("party {}: {training} rows for training, {held_out} held out", party + 1);
    }
    println!("upload {} bytes, flooded with 2^{}", outcome.upload_bytes, outcome.flooding_bits);
    println!("decrypted sums are the integer sums: {:?}", outcome.sums_are_exact);
    assert_eq!(outcome.sums_are_exact, Some(true));

    // The head is an ordinary one.
    let head = outcome.head;
    let logits = head.logits(&flowers.values);
    let decided = logits.chunks_exact(head.class_count()).map(argmax);
    let right = decided.zip(&truth).filter(|(decided, truth)| decided == *truth).count();
    println!("l2 = {:?}; {right} of {} flowers right", head.card.l2, flowers.rows());
    assert!(right * 10 >= flowers.rows() * 8);

    // The ledger says what was released to whom, each line chained to the one before by its hash.
    println!("{}", outcome.ledger.lines().next().unwrap_or_default());
    arras::rounds::Ledger::verify(&outcome.ledger)?;
    Ok(())
}
