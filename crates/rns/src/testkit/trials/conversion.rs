//! Base conversion, division by dropped primes, rescaling.

use crate::{Backend, Coefficient, Evaluation, LimbSet, ModDownPlan, switching};

use super::{Case, List};
use crate::testkit::data::{Class, Words, primes};
use crate::testkit::lab::{Lab, variations};
use crate::testkit::{Outcome, Scale, oracle};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    for (split, case) in splits(list.scale) {
        list.add_cases(&format!("base_convert/{split}to{}", case.count - split), [case], move |lab, case| {
            base_convert(lab, case, split)
        });
        list.add_cases(&format!("mod_down/{split}of{}", case.count), [case], move |lab, case| {
            mod_down(lab, case, split)
        });
    }
    for class in Class::ALL {
        let case = Case { class, degree: 64, count: 4, batch: 2 };
        list.add_cases("rescale", [case], rescale);
    }
}

/// How many of the limbs of a case are converted from, or dropped.
fn splits(scale: Scale) -> Vec<(usize, Case)> {
    let case = |class, degree, count, batch| Case { class, degree, count, batch };
    let mut all = Vec::new();
    for class in Class::ALL {
        all.extend([(1, case(class, 16, 4, 3)), (3, case(class, 16, 5, 1))]);
    }
    all.extend([
        (1, case(Class::Bits(50), 8, 2, 1)),
        (8, case(Class::Bits(60), 64, 9, 3)),
        (1, case(Class::Mixed, 256, 9, 1)),
        // More than a stretch of coefficients.
        (2, case(Class::Bits(60), 1 << 11, 3, 1)),
        (1, case(Class::Bits(50), 1 << 12, 2, 2)),
        // About the longest sum a chain allows.
        (120, case(Class::Bits(60), 8, 125, 1)),
    ]);
    if scale == Scale::Full {
        for log_degree in 13..=17 {
            all.extend([Class::Bits(50), Class::Mixed].map(|class| (2, case(class, 1 << log_degree, 4, 1))));
        }
    }
    all
}

/// The first `split` limbs of a case, and the rest.
fn halves(case: Case, split: usize) -> (LimbSet, LimbSet) {
    let first: LimbSet = case.limbs().iter().take(split).collect();
    (first, case.limbs().difference(first))
}

fn base_convert<B: Backend>(lab: &Lab<B>, case: Case, split: usize) -> Outcome {
    let (first, rest) = halves(case, split);
    for (source, target) in [(first, rest), (rest, first)] {
        let converter = lab.backend.converter(&lab.queue, &lab.tables, source, target)?;
        let (from, to) = (primes(lab.ring(), source), primes(lab.ring(), target));
        for v in variations(lab.degree()) {
            let dress = v.a.unwrap_or(v.b);
            let words = lab.words_for(dress, v.values[0], source, case.batch);
            let expected = words.map_residues(target, |x| oracle::base_convert(x, &from, &to));
            let input = lab.operand::<Coefficient>(dress, &words, v.absurd)?;
            let mut out = lab.output(v.out, target, case.batch, v.absurd)?;
            let view = input.view()?;
            lab.backend.base_convert(&lab.queue, &lab.tables, &converter, &mut out.view_mut()?, &view)?;
            lab.expect(&format!("{source:?} to {target:?}, {v:?}"), &out, &expected)?;
            lab.untouched("input", &input)?;
        }
    }
    Ok(())
}

/// The expected result of dropping limbs, from and to the evaluation domain.
pub(super) fn divided<B: Backend>(
    lab: &Lab<B>,
    values: &Words,
    keep: LimbSet,
    drop: LimbSet,
) -> Outcome<Words> {
    let (kept, dropped) = (primes(lab.ring(), keep), primes(lab.ring(), drop));
    let coefficients = values.with_limbs(keep.union(drop)).intt(lab.ring());
    let mut words = coefficients.with_limbs(keep);
    let low = coefficients.with_limbs(drop);
    for b in 0..words.batch {
        for i in 0..lab.degree() {
            let quotient = oracle::mod_down(&words.residues(b, i), &kept, &low.residues(b, i), &dropped)
                .ok_or_else(|| lab.failure("the oracle's division is not exact".into()))?;
            for (rank, x) in quotient.into_iter().enumerate() {
                words.words[(b * kept.len() + rank) * lab.degree() + i] = x;
            }
        }
    }
    Ok(words.ntt(lab.ring()))
}

fn mod_down<B: Backend>(lab: &Lab<B>, case: Case, split: usize) -> Outcome {
    let (drop, keep) = halves(case, split);
    let Lab { backend, queue, tables, .. } = lab;
    let mut plan = ModDownPlan::new(backend, queue, tables, keep, drop, case.batch + 1)?;
    for v in variations(lab.degree()).take(if lab.degree() > 256 { 3 } else { 10 }) {
        let dress = v.a.unwrap_or(v.b);
        let words = lab.words_for(dress, v.values[0], case.limbs(), case.batch);
        let expected = divided(lab, &words, keep, drop)?;
        let input = lab.operand::<Evaluation>(dress, &words, v.absurd)?;
        let mut out = lab.output(v.out, keep, case.batch, v.absurd)?;
        backend.mod_down(queue, tables, &mut plan, &mut out.view_mut()?, &input.view()?)?;
        lab.expect(&format!("{v:?}"), &out, &expected)?;
        lab.untouched("input", &input)?;
        let mut plain = lab.output(v.out, keep, case.batch, v.absurd)?;
        let parts = &mut plan.parts(case.batch)?;
        switching::mod_down(backend, queue, tables, parts, &mut plain.view_mut()?, &input.view()?)?;
        lab.expect(&format!("unfused, {v:?}"), &plain, &expected)?;
    }
    Ok(())
}

/// Dropping one prime rounds to the nearest integer, computed here without any of the constants of the definition.
fn rescale<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let drop = LimbSet::single(case.limbs().last().unwrap_or_default());
    let keep = case.limbs().difference(drop);
    let Lab { backend, queue, tables, .. } = lab;
    let mut plan = ModDownPlan::new(backend, queue, tables, keep, drop, case.batch)?;
    let (kept, dropped) = (primes(lab.ring(), keep), primes(lab.ring(), drop));
    for values in crate::testkit::data::Values::ALL {
        let words = lab.words(values, case.limbs(), case.batch);
        let input = lab.upload::<Evaluation>(&words.ntt(lab.ring()))?;
        let mut out = lab.fresh::<Evaluation>(keep, case.batch)?;
        backend.mod_down(queue, tables, &mut plan, &mut out.view_mut(), &input.view())?;
        let expected = words
            .map_residues(keep, |x| oracle::rescale(&x[..kept.len()], &kept, x[kept.len()], dropped[0]))
            .ntt(lab.ring());
        lab.compare(&format!("{values:?}"), &expected, &lab.download(&out.view())?)?;
    }
    Ok(())
}
