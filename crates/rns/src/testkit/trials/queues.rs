//! Several queues: order comes from `record` and `wait`, and memory may be dropped at any time.

use crate::{Backend, Coefficient, Evaluation, Input, Poly, PreparedView};

use super::{Case, List};
use crate::testkit::Outcome;
use crate::testkit::data::{Class, Values, Words};
use crate::testkit::lab::Lab;

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    let case = [Case { class: Class::Bits(50), degree: 1 << 10, count: 3, batch: 2 }];
    list.add_cases("queues/hand over", case, hand_over);
    list.add_cases("queues/drop at any time", case, drops);
    list.add_cases("queues/source of a write", case, reused_source);
}

/// Two queues work on the same polynomial in turn.
fn hand_over<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (backend, tables) = (&lab.backend, &lab.tables);
    let (first, second) = (&lab.queue, &backend.queue()?);
    let words = lab.words(Values::Random, case.limbs(), case.batch);
    let mut x: Poly<B, Coefficient> = lab.upload(&words)?;
    backend.wait(second, &backend.record(first)?)?;
    let mut expected = words.clone();
    for (from, to) in [(first, second), (second, first), (first, second), (second, first)] {
        backend.add(
            from,
            tables,
            &mut x.view_mut(),
            Input::InPlace,
            &lab_copy(lab, from, to, &words)?.view(),
        )?;
        backend.wait(to, &backend.record(from)?)?;
        expected = Words::from_rows(case.batch, case.limbs(), lab.degree(), |b, limb| {
            let sums = expected.row(b, limb).iter().zip(words.row(b, limb));
            sums.map(|(&a, &b)| crate::testkit::oracle::add(a, b, lab.modulus(limb))).collect()
        });
    }
    lab.compare("after four turns", &expected, &lab.download(&x.view())?)
}

/// Polynomials written on one queue and handed to another.
fn lab_copy<B: Backend>(
    lab: &Lab<B>,
    to: &B::Queue,
    from: &B::Queue,
    words: &Words,
) -> Outcome<Poly<B, Coefficient>> {
    let backend = &lab.backend;
    let mut poly = Poly::allocate(backend, from, lab.ring(), words.limbs, words.batch)?;
    backend.upload(from, &mut poly.view_mut(), &words.words)?;
    backend.wait(to, &backend.record(from)?)?;
    Ok(poly)
}

/// Inputs, prepared operands and tables go out of scope while their results are still under way.
fn drops<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, .. } = lab;
    let words = lab.words(Values::Random, case.limbs(), case.batch);
    let mut sum: Poly<B, Evaluation> = lab.upload(&words)?;
    for _ in 0..4 {
        let tables = backend.tables(queue, lab.ring())?;
        let other: Poly<B, Evaluation> = lab.upload(&words)?;
        let prepared = backend.prepare(queue, &tables, &other.view())?;
        let mut product = lab.fresh::<Evaluation>(case.limbs(), case.batch)?;
        let right = PreparedView { prepared: &prepared, first: 0, term_stride: 0, batch_stride: 1 };
        backend.inner_product(queue, &tables, &mut product.view_mut(), &[other.view()], right)?;
        drop((other, prepared));
        backend.add(queue, &tables, &mut sum.view_mut(), Input::InPlace, &product.view())?;
    }
    let expected = words.map(|limb, row| {
        use crate::testkit::oracle::{add, mul};
        let q = lab.modulus(limb);
        row.iter().map(|&x| add(x, mul(4, mul(x, x, q), q), q)).collect()
    });
    lab.compare("x + 4 x^2", &expected, &lab.download(&sum.view())?)
}

/// The words given to a write may change as soon as it returns.
fn reused_source<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let mut source = lab.words(Values::Random, case.limbs(), case.batch);
    let expected = source.clone();
    let mut poly = lab.fresh::<Coefficient>(case.limbs(), case.batch)?;
    lab.backend.upload(&lab.queue, &mut poly.view_mut(), &source.words)?;
    source.words.fill(u64::MAX);
    lab.compare("upload", &expected, &lab.download(&poly.view())?)
}
