//! Laws that hold whatever the representation: they need no oracle and catch what an oracle that shares a mistake would not.

use num_bigint::BigInt;

use crate::{Backend, Coefficient, Evaluation, Input, KeySwitchPlan, LimbSet, ModDownPlan, Poly};

use super::{Case, List};
use crate::testkit::data::{Class, Values, Words, primes};
use crate::testkit::lab::Lab;
use crate::testkit::{Outcome, oracle};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    let cases = || {
        Class::ALL
            .into_iter()
            .zip([8, 16, 32, 64, 128, 256].into_iter().cycle())
            .map(|(class, degree)| Case { class, degree, count: 3, batch: 2 })
    };
    list.add_cases("law/ntt is linear", cases(), linear);
    list.add_cases("law/intt undoes ntt", cases(), inverse);
    list.add_cases("law/products of values are negacyclic", cases(), product);
    list.add_cases("law/automorphisms compose", cases(), compose);
    list.add_cases("law/automorphism commutes with ntt", cases(), commute);
    list.add_cases("law/automorphism commutes with base_convert", cases(), convert);
    list.add_cases("law/hoisting", cases(), hoisting);
    list.add_cases("law/base_convert overflow", cases(), overflow);
    list.add_cases("law/mod_down rounds", cases(), rounding);
}

fn values<B: Backend>(lab: &Lab<B>, poly: &Poly<B, Coefficient>) -> Outcome<Poly<B, Evaluation>> {
    let mut out = lab.fresh(poly.limbs(), poly.batch())?;
    lab.backend.ntt(&lab.queue, &lab.tables, &mut out.view_mut(), poly.view().into())?;
    Ok(out)
}

pub(super) fn map_automorphism<B: Backend, D: crate::Domain>(
    lab: &Lab<B>,
    poly: &Poly<B, D>,
    element: usize,
) -> Outcome<Poly<B, D>> {
    let mut out = lab.fresh(poly.limbs(), poly.batch())?;
    lab.backend.automorphism(&lab.queue, &lab.tables, &mut out.view_mut(), &poly.view(), element)?;
    Ok(out)
}

fn same<B: Backend, D: crate::Domain>(lab: &Lab<B>, what: &str, x: &Poly<B, D>, y: &Poly<B, D>) -> Outcome {
    lab.compare(what, &lab.download(&x.view())?, &lab.download(&y.view())?)
}

fn random<B: Backend, D: crate::Domain>(lab: &Lab<B>, case: Case) -> Outcome<Poly<B, D>> {
    Ok(lab.upload(&lab.words(Values::Random, case.limbs(), case.batch))?)
}

fn linear<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (x, y): (Poly<B, Coefficient>, Poly<B, Coefficient>) = (random(lab, case)?, random(lab, case)?);
    let scalars: Vec<u64> = case.limbs().iter().map(|limb| lab.word() % lab.modulus(limb)).collect();
    let (mut after, y_values) = (values(lab, &x)?, values(lab, &y)?);
    let mut before = lab.fresh::<Coefficient>(case.limbs(), case.batch)?;
    backend.scale_add(queue, tables, &mut before.view_mut(), x.view().into(), &scalars, Some(&y.view()))?;
    let y_view = y_values.view();
    backend.scale_add(queue, tables, &mut after.view_mut(), Input::InPlace, &scalars, Some(&y_view))?;
    same(lab, "ntt(s x + y)", &values(lab, &before)?, &after)
}

fn inverse<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let x: Poly<B, Coefficient> = random(lab, case)?;
    let there = values(lab, &x)?;
    let mut back = lab.fresh::<Coefficient>(case.limbs(), case.batch)?;
    lab.backend.intt(&lab.queue, &lab.tables, &mut back.view_mut(), there.view().into())?;
    same(lab, "intt(ntt(x))", &x, &back)
}

fn product<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    for kind in [Values::Random, Values::Max] {
        let words =
            [lab.words(kind, case.limbs(), case.batch), lab.words(Values::Random, case.limbs(), case.batch)];
        let mut x = values(lab, &lab.upload(&words[0])?)?;
        let y = values(lab, &lab.upload(&words[1])?)?;
        backend.multiply(queue, tables, &mut x.view_mut(), Input::InPlace, &y.view())?;
        let mut back = x.view_mut().retag::<Coefficient>();
        backend.intt(queue, tables, &mut back, Input::InPlace)?;
        let expected = Words::from_rows(case.batch, case.limbs(), lab.degree(), |b, limb| {
            oracle::negacyclic_product(words[0].row(b, limb), words[1].row(b, limb), lab.modulus(limb))
        });
        lab.compare("intt(ntt(x) ntt(y))", &expected, &lab.download(&back.as_view())?)?;
    }
    Ok(())
}

/// An odd number below 2N.
fn element<B: Backend>(lab: &Lab<B>) -> usize {
    2 * lab.below(lab.degree()) + 1
}

fn compose<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (g, h) = (element(lab), element(lab));
    let both = g * h % (2 * lab.degree());
    let x: Poly<B, Coefficient> = random(lab, case)?;
    let twice = map_automorphism(lab, &map_automorphism(lab, &x, g)?, h)?;
    same(lab, &format!("{g} then {h}"), &map_automorphism(lab, &x, both)?, &twice)?;
    let x = values(lab, &x)?;
    let twice = map_automorphism(lab, &map_automorphism(lab, &x, g)?, h)?;
    same(lab, &format!("{g} then {h}, of values"), &map_automorphism(lab, &x, both)?, &twice)
}

fn commute<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (g, x) = (element(lab), random::<B, Coefficient>(lab, case)?);
    let first = values(lab, &map_automorphism(lab, &x, g)?)?;
    same(lab, &format!("X -> X^{g}"), &first, &map_automorphism(lab, &values(lab, &x)?, g)?)
}

/// The first two limbs of a case, and the others.
fn parts(case: Case) -> (LimbSet, LimbSet) {
    let source: LimbSet = case.limbs().iter().take(2).collect();
    (source, case.limbs().difference(source))
}

fn convert<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (source, target) = parts(case);
    let converter = backend.converter(queue, tables, source, target)?;
    let converted = |x: &Poly<B, Coefficient>| -> Outcome<Poly<B, Coefficient>> {
        let mut out = lab.fresh(target, case.batch)?;
        backend.base_convert(
            queue,
            tables,
            &converter,
            &mut out.view_mut(),
            &x.view().with_limbs(source)?,
        )?;
        Ok(out)
    };
    let (g, x) = (element(lab), random(lab, case)?);
    let first = converted(&map_automorphism(lab, &x, g)?)?;
    same(lab, &format!("X -> X^{g}"), &first, &map_automorphism(lab, &converted(&x)?, g)?)
}

/// Rotating the extended digits gives, bit for bit, the extended digits of the rotated polynomial.
fn hoisting<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (limbs, special) = parts(case);
    let special = special.union(lab.ring().limbs().difference(case.limbs()));
    let digits: Vec<LimbSet> = [limbs].into();
    let mut plan = KeySwitchPlan::new(backend, queue, tables, limbs, &digits, special, case.batch)?;
    let (g, x) = (element(lab), lab.upload::<Evaluation>(&lab.words(Values::Random, limbs, case.batch))?);
    backend.mod_up(queue, tables, &mut plan, &x.view())?;
    let rotated_after = plan
        .extended()?
        .iter()
        .map(|digit| {
            let mut out = lab.fresh::<Evaluation>(digit.limbs(), digit.batch())?;
            backend.automorphism(queue, tables, &mut out.view_mut(), digit, g)?;
            lab.download(&out.view())
        })
        .collect::<crate::Result<Vec<_>>>()?;
    backend.mod_up(queue, tables, &mut plan, &map_automorphism(lab, &x, g)?.view())?;
    for (digit, (expected, view)) in rotated_after.iter().zip(plan.extended()?).enumerate() {
        lab.compare(&format!("digit {digit}, X -> X^{g}"), expected, &lab.download(&view)?)?;
    }
    Ok(())
}

/// What two limbs are converted to stands for `x + e Q` with x in `(-Q/2, Q/2]` and `|e| <= 2/2`.
fn overflow<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (source, target) = parts(case);
    let converter = backend.converter(queue, tables, source, target)?;
    let words = lab.words(Values::Random, source, case.batch);
    let mut out = lab.fresh::<Coefficient>(target, case.batch)?;
    let input = lab.upload(&words)?;
    backend.base_convert(queue, tables, &converter, &mut out.view_mut(), &input.view())?;
    let out = lab.download(&out.view())?;
    let (from, to) = (primes(lab.ring(), source), primes(lab.ring(), target));
    let product = oracle::product(&from);
    for b in 0..case.batch {
        for i in 0..lab.degree() {
            let x = oracle::compose_centred(&words.residues(b, i), &from);
            let possible = (-1..=1).map(|e: i64| &x + &product * e);
            let found = out.residues(b, i);
            let fits = possible
                .into_iter()
                .any(|y| to.iter().zip(&found).all(|(&p, &r)| oracle::residue(&y, p) == r));
            lab.ensure(fits, || format!("polynomial {b}, coefficient {i} is off by more than Q"))?;
        }
    }
    Ok(())
}

/// `|P out - x| <= k P / 2` with k dropped primes.
fn rounding<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (keep, drop) = parts(case);
    let mut plan = ModDownPlan::new(backend, queue, tables, keep, drop, case.batch)?;
    let words = lab.words(Values::Random, case.limbs(), case.batch);
    let input = values(lab, &lab.upload(&words)?)?;
    let mut out = lab.fresh::<Evaluation>(keep, case.batch)?;
    backend.mod_down(queue, tables, &mut plan, &mut out.view_mut(), &input.view())?;
    let mut out = out.retag::<Coefficient>();
    let mut values = out.view_mut();
    backend.intt(queue, tables, &mut values, Input::InPlace)?;
    let out = lab.download(&values.as_view())?;
    let (kept, dropped) = (primes(lab.ring(), keep), primes(lab.ring(), drop));
    let (p, q) = (oracle::product(&dropped), oracle::product(&kept));
    for b in 0..case.batch {
        for i in 0..lab.degree() {
            let x = oracle::compose(&words.residues(b, i), &primes(lab.ring(), case.limbs()));
            let error: BigInt = oracle::compose(&out.residues(b, i), &kept) * &p - x;
            // Modulo Q P, since the quotient is known modulo Q only.
            let modulus = &p * &q;
            let error = ((error % &modulus) + &modulus) % &modulus;
            let size = error.clone().min(&modulus - error);
            let within = size * 2 <= &p * dropped.len();
            lab.ensure(within, || format!("polynomial {b}, coefficient {i} is not the quotient"))?;
        }
    }
    Ok(())
}
