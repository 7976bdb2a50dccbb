//! Nothing is left out of the list of cases: it is compared with the sources that declare what can be called.

use std::collections::BTreeSet;

use arras_measure::{Cases, CpuDevice};

const BACKEND: &str = include_str!("../../rns/src/backend.rs");
const EVALUATOR: [&str; 4] = [
    include_str!("../../ckks/src/evaluator.rs"),
    include_str!("../../ckks/src/evaluator/keyed.rs"),
    include_str!("../../ckks/src/evaluator/linear.rs"),
    include_str!("../../ckks/src/evaluator/polynomial.rs"),
];

/// The names of the functions in a block of code that ends with a brace in the first column, by how their lines start.
fn declared<'s>(block: &'s str, start: &str) -> BTreeSet<&'s str> {
    let body = block.split_once("\n}\n").map_or(block, |(body, _)| body);
    let lines = body.lines().filter_map(|line| line.strip_prefix(start));
    lines.filter_map(|line| line.split(['(', '<']).next()).collect()
}

fn backend() -> BTreeSet<&'static str> {
    let body = BACKEND.split_once("pub trait Backend").map_or("", |(_, body)| body);
    let mut methods = declared(body, "    fn ");
    // What gives a name does no work.
    assert!(methods.remove("name") && methods.len() > 30, "{methods:?}");
    // The same on the parts of a plan.
    let whole = |name: &&str| name.strip_suffix("_parts").is_none_or(|base| !methods.contains(base));
    methods.iter().copied().filter(whole).collect()
}

fn evaluator() -> BTreeSet<&'static str> {
    let blocks = EVALUATOR.iter().flat_map(|source| source.split("\nimpl<").skip(1));
    let own = blocks.filter(|block| block.lines().next().is_some_and(|line| line.contains(" Evaluator<")));
    let mut methods: BTreeSet<&str> = own.flat_map(|block| declared(block, "    pub fn ")).collect();
    // Making an evaluator, and what it is made of.
    for other in ["new", "with_slots", "context", "slots"] {
        assert!(methods.remove(other), "{other}");
    }
    assert!(methods.len() > 15, "{methods:?}");
    methods
}

#[test]
fn every_method_and_every_operation_has_a_case() {
    let covered = Cases::<CpuDevice>::covers();
    let needed: BTreeSet<&str> = backend().union(&evaluator()).copied().collect();
    let missing: Vec<_> = needed.difference(&covered).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    // Encoding, keys and encryption go by longer names; what else is not needed is misspelt.
    let other =
        ["SlotEncoder::", "SecretKey::", "Cipher::", "PublicKey::", "EvaluationKeys::", "encode_", "decode_"];
    let unknown: Vec<_> =
        covered.difference(&needed).filter(|name| !other.iter().any(|o| name.starts_with(o))).collect();
    assert!(unknown.is_empty(), "cases for {unknown:?}, which is not there");
}
