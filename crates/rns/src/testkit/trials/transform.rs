//! The transforms and automorphisms.

use crate::{Backend, Coefficient, Domain, Evaluation, Input, ViewMut};

use super::{Case, List, cases};
use crate::testkit::data::Words;
use crate::testkit::lab::{Lab, Variation, variations};
use crate::testkit::{Outcome, oracle};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    list.add("root".into(), || crate::testkit::data::Class::Mixed.ring(1 << 12, 8), roots);
    list.add_cases("ntt", cases(list.scale), |lab, case| {
        transform::<B, Coefficient, Evaluation>(lab, case, forward, |out, input| {
            lab.backend.ntt(&lab.queue, &lab.tables, out, input)
        })
    });
    list.add_cases("intt", cases(list.scale), |lab, case| {
        let inverse = |lab: &Lab<B>, words: &Words| Ok(words.intt(lab.ring()));
        transform::<B, Evaluation, Coefficient>(lab, case, inverse, |out, input| {
            lab.backend.intt(&lab.queue, &lab.tables, out, input)
        })
    });
    list.add_cases("automorphism/coefficients", cases(list.scale), |lab, case| {
        automorphism::<B, Coefficient>(lab, case, |words, element| image(lab, words, element))
    });
    list.add_cases("automorphism/values", cases(list.scale), |lab, case| {
        automorphism::<B, Evaluation>(lab, case, |words, element| {
            image(lab, &words.intt(lab.ring()), element).ntt(lab.ring())
        })
    });
}

/// The roots that everything else takes as given: primitive, and the smallest of all.
fn roots<B: Backend>(lab: &Lab<B>) -> Outcome {
    for limb in lab.ring().limbs().iter() {
        let (q, root, n) = (lab.modulus(limb), lab.ring().root(limb), lab.degree() as u64);
        lab.ensure(oracle::pow(root, n, q) == q - 1, || format!("{root} is not a primitive root mod {q}"))?;
        let smallest = (0..n).map(|i| oracle::pow(root, 2 * i + 1, q)).min();
        lab.ensure(smallest == Some(root), || format!("{root} is not the smallest root mod {q}"))?;
    }
    Ok(())
}

/// The fast oracle, held against Horner's rule: everywhere at small degrees, at some points otherwise.
fn forward<B: Backend>(lab: &Lab<B>, words: &Words) -> Outcome<Words> {
    let expected = words.ntt(lab.ring());
    let (b, limb) = (words.batch - 1, words.limbs.last().unwrap_or_default());
    let (row, root, q) = (words.row(b, limb), lab.ring().root(limb), lab.modulus(limb));
    let samples = if lab.degree() <= 64 {
        (0..lab.degree()).collect()
    } else {
        vec![0, 1, lab.degree() - 1, lab.below(lab.degree())]
    };
    for i in samples {
        let same = oracle::ntt_at(row, i, root, q) == expected.row(b, limb)[i];
        lab.ensure(same, || format!("the oracle contradicts itself at {i}"))?;
    }
    Ok(expected)
}

fn transform<B: Backend, D: Domain, E: Domain>(
    lab: &Lab<B>,
    case: Case,
    expected: impl Fn(&Lab<B>, &Words) -> Outcome<Words>,
    call: impl Fn(&mut ViewMut<'_, B, E>, Input<'_, B, D>) -> crate::Result<()>,
) -> Outcome {
    for v @ Variation { out, a, values, absurd, .. } in variations(lab.degree()) {
        let words = lab.words_for(a.unwrap_or(out), values[0], case.limbs(), case.batch);
        let expected = expected(lab, &words)?;
        let what = format!("{v:?}");
        match a {
            None => {
                let mut out = lab.operand(out, &words, absurd)?;
                call(&mut out.view_mut()?, Input::InPlace)?;
                lab.expect(&what, &out, &expected)?;
            }
            Some(a) => {
                let input = lab.operand(a, &words, absurd)?;
                let mut out = lab.output(out, words.limbs, words.batch, absurd)?;
                call(&mut out.view_mut()?, input.view()?.into())?;
                lab.expect(&what, &out, &expected)?;
                lab.untouched("input", &input)?;
            }
        }
    }
    Ok(())
}

fn image<B: Backend>(lab: &Lab<B>, words: &Words, element: usize) -> Words {
    words.map(|limb, row| oracle::automorphism(row, element, lab.modulus(limb)))
}

fn automorphism<B: Backend, D: Domain>(
    lab: &Lab<B>,
    case: Case,
    expected: impl Fn(&Words, usize) -> Words,
) -> Outcome {
    let n = lab.degree();
    let elements = [1, 3, 5, n - 1, n + 1, 2 * n - 1, 2 * lab.below(n) + 1];
    for (v, element) in variations(n).zip(elements.into_iter().cycle()) {
        let dress = v.a.unwrap_or(v.b);
        let words = lab.words_for(dress, v.values[0], case.limbs(), case.batch);
        let input = lab.operand::<D>(dress, &words, v.absurd)?;
        let mut out = lab.output(v.out, words.limbs, words.batch, v.absurd)?;
        lab.backend.automorphism(&lab.queue, &lab.tables, &mut out.view_mut()?, &input.view()?, element)?;
        lab.expect(&format!("X -> X^{element}, {v:?}"), &out, &expected(&words, element))?;
        lab.untouched("input", &input)?;
    }
    Ok(())
}
