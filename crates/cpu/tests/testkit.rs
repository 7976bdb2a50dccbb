//! Tests of the tests: a broken backend fails the trials, and `Opaque` reports what it is there to report.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its helpers included")]

use arras_cpu::Cpu;
use arras_rns::testkit::{self, Fault, FaultKind, Opaque, Scale};
use arras_rns::{
    Backend, Coefficient, Error, Evaluation, Input, LimbSet, Poly, PreparedView, Ring, RingTables,
};

/// Operations that write polynomials, all of which a fault can sit in.
const OPERATIONS: [&str; 16] = [
    "ntt",
    "intt",
    "automorphism",
    "copy",
    "add",
    "sub",
    "negate",
    "multiply",
    "multiply_accumulate",
    "scale_add",
    "base_convert",
    "inner_product",
    "matrix_product",
    "quantise",
    "expand_seed",
    "unpack",
];

fn trials_with(operation: &'static str, kind: FaultKind) -> impl Iterator<Item = testkit::Trial> {
    let fault = Fault { operation, kind };
    testkit::trials(move || Ok(Opaque::with_fault(Cpu::sequential(), fault)), Scale::Quick).into_iter()
}

#[test]
fn every_fault_is_found_by_the_trials_of_its_operation() {
    for operation in OPERATIONS.into_iter().chain(["mod_down"]) {
        for kind in [FaultKind::SkippedRow, FaultKind::OffByOne, FaultKind::Unreduced, FaultKind::Spill] {
            // In mod_down the fault comes after the result: there is nothing left to skip.
            if (operation, kind) == ("mod_down", FaultKind::SkippedRow) {
                continue;
            }
            let prefix = format!("{operation}/");
            let found = trials_with(operation, kind)
                .filter(|trial| trial.name.starts_with(&prefix))
                .any(|trial| (trial.run)().is_err());
            assert!(found, "{kind:?} in {operation} goes unnoticed");
        }
    }
    let trim = trials_with("trim", FaultKind::OffByOne).filter(|trial| trial.name.starts_with("trim/"));
    assert!(trim.into_iter().all(|trial| (trial.run)().is_err()));
}

#[test]
fn known_answers_find_faults_on_their_own() {
    for (operation, file) in OPERATIONS
        .map(|operation| (operation, operation))
        .into_iter()
        .filter(|(operation, _)| *operation != "copy")
        .map(|(operation, file)| match operation {
            "intt" => (operation, "ntt"),
            "add" | "sub" | "negate" | "multiply" | "multiply_accumulate" | "scale_add" => {
                (operation, "pointwise")
            }
            "expand_seed" => (operation, "seed_expansion"),
            _ => (operation, file),
        })
    {
        let name = format!("known answers/{file}");
        let mut trials = trials_with(operation, FaultKind::Unreduced).filter(|trial| trial.name == name);
        let trial = trials.next().unwrap();
        assert!((trial.run)().is_err(), "{operation} is broken and {name} does not say so");
    }
}

#[test]
fn failures_name_seed_place_and_values() {
    let mut trials =
        trials_with("ntt", FaultKind::OffByOne).filter(|trial| trial.name.starts_with("ntt/n16/60bit"));
    let message = (trials.next().unwrap().run)().unwrap_err();
    for part in ["polynomial", "limb", "index 15", "expected", "seed 0x"] {
        assert!(message.contains(part), "{message}");
    }
}

struct Setup {
    backend: Opaque<Cpu>,
    ring: Ring,
}

impl Setup {
    fn new() -> Self {
        Self { backend: Opaque::new(Cpu::sequential()), ring: Ring::new(16, &[97, 193]).unwrap() }
    }

    fn poly<D: arras_rns::Domain>(&self, queue: &<Opaque<Cpu> as Backend>::Queue) -> Poly<Opaque<Cpu>, D> {
        let mut poly = Poly::allocate(&self.backend, queue, &self.ring, self.ring.limbs(), 2).unwrap();
        self.backend.upload(queue, &mut poly.view_mut(), &[1; 64]).unwrap();
        poly
    }
}

/// A device error whose text has both parts.
fn complains<T: std::fmt::Debug>(result: Result<T, Error>, operation: &str, about: &str) {
    match result {
        Err(Error::Device { place, message }) => {
            assert!(place.starts_with(operation) && message.contains(about), "{place}: {message}");
        }
        other => panic!("{operation}: {other:?} is no complaint"),
    }
}

#[test]
fn a_missing_wait_is_reported() {
    let setup @ Setup { backend, ring } = &Setup::new();
    let (first, second) = (backend.queue().unwrap(), backend.queue().unwrap());
    let tables = backend.tables(&first, ring).unwrap();
    let mut x = setup.poly::<Coefficient>(&first);
    let before_tables = backend.tables(&second, ring).unwrap();

    let negate =
        |x: &mut Poly<_, _>| backend.negate(&second, &before_tables, &mut x.view_mut(), Input::InPlace);
    complains(negate(&mut x), "negate on queue 1", "overwrites what queue 0 wrote");
    complains(
        backend.read(&second, x.buffer_mut(), 0, &mut [0]),
        "read on queue 1",
        "reads what queue 0 wrote",
    );
    // Synchronising the host orders nothing between queues.
    backend.synchronize(&first).unwrap();
    complains(negate(&mut x), "negate", "overwrites");
    // Neither does an event that was recorded too early, nor one of the wrong queue.
    let early = backend.record(&first).unwrap();
    backend.negate(&first, &tables, &mut x.view_mut(), Input::InPlace).unwrap();
    backend.wait(&second, &early).unwrap();
    backend.wait(&second, &backend.record(&second).unwrap()).unwrap();
    complains(negate(&mut x), "negate", "overwrites");
    backend.wait(&second, &backend.record(&first).unwrap()).unwrap();
    negate(&mut x).unwrap();
}

#[test]
fn overwriting_what_another_queue_reads_is_reported() {
    let setup @ Setup { backend, ring } = &Setup::new();
    let (first, second) = (backend.queue().unwrap(), backend.queue().unwrap());
    let tables = backend.tables(&first, ring).unwrap();
    let (mut x, mut y) = (setup.poly::<Coefficient>(&first), setup.poly::<Coefficient>(&first));
    let filled = backend.record(&first).unwrap();
    backend.wait(&second, &filled).unwrap();
    let mut out = setup.poly::<Coefficient>(&second);
    backend.copy(&second, &mut out.view_mut(), &x.view()).unwrap();
    // Two readers do not disturb each other.
    backend.copy(&first, &mut y.view_mut(), &x.view()).unwrap();
    let result = backend.negate(&first, &tables, &mut x.view_mut(), Input::InPlace);
    complains(result, "negate on queue 0", "overwrites what queue 1 reads");
    backend.wait(&first, &backend.record(&second).unwrap()).unwrap();
    backend.negate(&first, &tables, &mut x.view_mut(), Input::InPlace).unwrap();
}

#[test]
fn tables_and_prepared_operands_are_ordered_too() {
    let setup @ Setup { backend, ring } = &Setup::new();
    let (first, second) = (backend.queue().unwrap(), backend.queue().unwrap());
    let (tables, others) = (backend.tables(&first, ring).unwrap(), backend.tables(&second, ring).unwrap());
    let mut x = setup.poly::<Evaluation>(&second);
    let result = backend.negate(&second, &tables, &mut x.view_mut(), Input::InPlace);
    complains(result, "negate on queue 1", "reads what queue 0 wrote");
    let y = setup.poly::<Evaluation>(&first);
    let prepared = backend.prepare(&first, &tables, &y.view()).unwrap();
    let right = PreparedView { prepared: &prepared, first: 0, term_stride: 1, batch_stride: 1 };
    let left = setup.poly::<Evaluation>(&second);
    let result = backend.inner_product(&second, &others, &mut x.view_mut(), &[left.view()], right);
    complains(result, "inner_product on queue 1", "reads what queue 0 wrote");
    let converter = backend.converter(&first, &tables, LimbSet::single(0), LimbSet::single(1)).unwrap();
    let source = setup.poly::<Coefficient>(&second);
    let source = source.view().with_limbs(LimbSet::single(0)).unwrap();
    let mut out = setup.poly::<Coefficient>(&second);
    let mut out = out.view_mut().with_limbs(LimbSet::single(1)).unwrap();
    let result = backend.base_convert(&second, &others, &converter, &mut out, &source);
    complains(result, "base_convert on queue 1", "reads what queue 0 wrote");
    assert_eq!(others.ring(), ring);
}

#[test]
fn poison_is_detected() {
    let setup @ Setup { backend, ring } = &Setup::new();
    let queue = backend.queue().unwrap();
    let tables = backend.tables(&queue, ring).unwrap();
    let mut fresh: Poly<_, Coefficient> = Poly::allocate(backend, &queue, ring, ring.limbs(), 2).unwrap();
    let mut out = setup.poly::<Coefficient>(&queue);
    let result = backend.copy(&queue, &mut out.view_mut(), &fresh.view());
    complains(result, "copy", "never written");
    let result = backend.negate(&queue, &tables, &mut fresh.view_mut(), Input::InPlace);
    complains(result, "negate", "never written");
    complains(backend.download(&queue, &fresh.view(), &mut [0; 64]), "read", "never written");
    // What is written may be read: one polynomial of two, and no more.
    let mut half = fresh.view_mut().range(0..1).unwrap();
    backend.upload(&queue, &mut half, &[1; 32]).unwrap();
    drop(half);
    backend.download(&queue, &fresh.view().range(0..1).unwrap(), &mut [0; 32]).unwrap();
    complains(backend.download(&queue, &fresh.view(), &mut [0; 64]), "read", "never written");
}

#[test]
fn unwritten_output_is_detected() {
    for operation in OPERATIONS {
        let prefix = format!("{operation}/");
        let mut trials =
            trials_with(operation, FaultKind::Unwritten).filter(|trial| trial.name.starts_with(&prefix));
        let message = (trials.next().unwrap().run)().unwrap_err();
        assert!(message.contains("unwritten"), "{operation}: {message}");
    }
}
