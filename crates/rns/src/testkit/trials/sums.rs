//! Inner products and matrix products.

use crate::{Backend, Coefficient, Domain, Evaluation, LimbSet, PreparedView, View};

use super::{Case, List, cases};
use crate::testkit::data::{Class, Values, Words};
use crate::testkit::lab::{Dress, Lab, variations};
use crate::testkit::{Outcome, Scale, oracle};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    list.add_cases("inner_product", cases(list.scale), |lab, case| {
        [1, 2, 5].into_iter().try_for_each(|terms| inner_product(lab, case, terms))
    });
    // Long sums of the largest values overflow whatever is not reduced in time.
    for (class, terms) in [(Class::Bits(60), 17), (Class::Bits(60), 300), (Class::Bits(30), 1100)] {
        let case = Case { class, degree: 16, count: 2, batch: 2 };
        list.add_cases(&format!("inner_product/terms{terms}"), [case], move |lab, case| {
            inner_product(lab, case, terms)
        });
    }
    list.add_cases("inner_product/prepared limbs", [few(Class::Mixed)], prepared_limbs);
    for class in Class::ALL {
        list.add_cases("matrix_product/coefficients", [few(class)], matrices::<B, Coefficient>);
        list.add_cases("matrix_product/values", [few(class)], matrices::<B, Evaluation>);
    }
    if list.scale == Scale::Full {
        let case = Case { degree: 1 << 13, ..few(Class::Bits(50)) };
        list.add_cases("matrix_product/values", [case], |lab, case| {
            matrix_product::<B, Evaluation>(lab, case, (10, 768), 1 << 20)
        });
    }
}

fn few(class: Class) -> Case {
    Case { class, degree: 32, count: 3, batch: 2 }
}

/// Both ways to go through the entries: another one for every polynomial, and the same for all.
fn inner_product<B: Backend>(lab: &Lab<B>, case: Case, terms: usize) -> Outcome {
    let (limbs, batch) = (case.limbs(), case.batch);
    for (round, v) in variations(lab.degree()).take(10).enumerate() {
        let (first, term_stride, batch_stride) = [(1, batch, 1), (0, 2, 0), (2, 1, terms)][round % 3];
        let entries = first + (terms - 1) * term_stride + (batch - 1) * batch_stride + 1;
        let right = lab.words(v.values[1], limbs, entries);
        let stored = lab.operand::<Evaluation>(Dress::Sub, &right, v.absurd)?;
        let prepared = lab.backend.prepare(&lab.queue, &lab.tables, &stored.view()?)?;
        let right_at = PreparedView { prepared: &prepared, first, term_stride, batch_stride };

        let dresses = [v.b, Dress::Plain, Dress::Concat];
        let dress = |k: usize| dresses[k % 3];
        let left: Vec<Words> =
            (0..terms).map(|k| lab.words_for(dress(k), v.values[0], limbs, batch)).collect();
        let operands = left
            .iter()
            .enumerate()
            .map(|(k, words)| lab.operand(dress(k), words, v.absurd))
            .collect::<crate::Result<Vec<_>>>()?;
        let views = operands.iter().map(|operand| operand.view()).collect::<crate::Result<Vec<_>>>()?;

        let expected = Words::from_rows(batch, limbs, lab.degree(), |b, limb| {
            let q = lab.modulus(limb);
            let term = |k: usize, i: usize| {
                oracle::mul(left[k].row(b, limb)[i], right.row(right_at.entry(k, b), limb)[i], q)
            };
            (0..lab.degree()).map(|i| (0..terms).fold(0, |sum, k| oracle::add(sum, term(k, i), q))).collect()
        });
        let mut out = lab.output(v.out, limbs, batch, v.absurd)?;
        lab.backend.inner_product(&lab.queue, &lab.tables, &mut out.view_mut()?, &views, right_at)?;
        lab.expect(
            &format!("{terms} terms, strides {term_stride} and {batch_stride}, {v:?}"),
            &out,
            &expected,
        )?;
    }
    Ok(())
}

/// Prepared polynomials have more limbs than the product: a key at a lower level.
fn prepared_limbs<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let all = lab.ring().limbs();
    let right = lab.words(Values::Random, all, 1);
    let stored = lab.upload::<Evaluation>(&right)?;
    let prepared = lab.backend.prepare(&lab.queue, &lab.tables, &stored.view())?;
    drop(stored);
    for limbs in [case.limbs(), LimbSet::single(1), all] {
        let left = lab.words(Values::Random, limbs, case.batch);
        let operand = lab.upload::<Evaluation>(&left)?;
        let mut out = lab.output(Dress::Sub, limbs, case.batch, true)?;
        let right_at = PreparedView { prepared: &prepared, first: 0, term_stride: 0, batch_stride: 0 };
        let views: [View<'_, B, _>; 2] = [operand.view(), operand.view()];
        lab.backend.inner_product(&lab.queue, &lab.tables, &mut out.view_mut()?, &views, right_at)?;
        let expected = left.map(|limb, row| {
            let q = lab.modulus(limb);
            let twice = |(&x, &y)| oracle::mul(2, oracle::mul(x, y, q), q);
            row.iter().zip(right.row(0, limb)).map(twice).collect()
        });
        lab.expect(&format!("limbs {limbs:?}"), &out, &expected)?;
    }
    Ok(())
}

fn matrices<B: Backend, D: Domain>(lab: &Lab<B>, case: Case) -> Outcome {
    for shape in [(1, 1), (3, 5), (10, 40), (2, 300)] {
        for largest in [0, 1, 127, 1 << 20, 1 << 31, 1 << 52, 1 << 62] {
            matrix_product::<B, D>(lab, case, shape, largest)?;
        }
    }
    Ok(())
}

fn matrix_product<B: Backend, D: Domain>(
    lab: &Lab<B>,
    case: Case,
    (rows, columns): (usize, usize),
    largest: i64,
) -> Outcome {
    let limbs = case.limbs();
    // Random entries, and rows of nothing but one extreme.
    let random = |_| (lab.word() % (2 * largest as u64 + 1)) as i64 - largest;
    let extreme = |i: usize| if (i / columns).is_multiple_of(2) { largest } else { -largest };
    for (round, v) in variations(lab.degree()).take(4).enumerate() {
        let entries: Vec<i64> = if round % 2 == 0 {
            (0..rows * columns).map(random).collect()
        } else {
            (0..rows * columns).map(extreme).collect()
        };
        let matrix = lab.backend.matrix(&lab.queue, &lab.tables, rows, columns, &entries)?;
        let dress = v.a.unwrap_or(v.b);
        let input = lab.words_for(dress, v.values[0], limbs, columns);
        let expected = Words::from_rows(rows, limbs, lab.degree(), |r, limb| {
            let q = lab.modulus(limb);
            let weights: Vec<u64> =
                entries[r * columns..(r + 1) * columns].iter().map(|&w| oracle::signed(w, q)).collect();
            let term = |c: usize, i: usize| oracle::mul(weights[c], input.row(c, limb)[i], q);
            (0..lab.degree())
                .map(|i| (0..columns).fold(0, |sum, c| oracle::add(sum, term(c, i), q)))
                .collect()
        });
        let operand = lab.operand::<D>(dress, &input, v.absurd)?;
        let mut out = lab.output(v.out, limbs, rows, v.absurd)?;
        let view = operand.view()?;
        lab.backend.matrix_product(&lab.queue, &lab.tables, &mut out.view_mut()?, &matrix, &view)?;
        lab.expect(&format!("{rows} x {columns} matrix, entries to {largest}, {v:?}"), &out, &expected)?;
    }
    Ok(())
}
