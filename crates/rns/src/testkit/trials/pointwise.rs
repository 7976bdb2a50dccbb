//! What works value by value.

use crate::{Backend, Coefficient, Domain, Evaluation, Input, Result, View, ViewMut};

use super::{Case, List, cases};
use crate::testkit::data::{Values, primes};
use crate::testkit::lab::{Lab, Variation, variations};
use crate::testkit::{Outcome, oracle};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    use Operation::{Add, Copy, Negate, Scale, ScaleAdd, Sub};
    for operation in [Copy, Add, Sub, Negate, Scale, ScaleAdd] {
        let name = operation.name();
        list.add_cases(&format!("{name}/coefficients"), cases(list.scale), move |lab, case| {
            in_domain::<B, Coefficient>(lab, case, operation)
        });
        list.add_cases(&format!("{name}/values"), cases(list.scale), move |lab, case| {
            in_domain::<B, Evaluation>(lab, case, operation)
        });
    }
    list.add_cases("multiply", cases(list.scale), |lab, case| {
        pairs(
            lab,
            case,
            |out, a, b| lab.backend.multiply(&lab.queue, &lab.tables, out, a, b),
            |x, y, _, q| oracle::mul(x, y, q),
        )
    });
    list.add_cases("multiply_accumulate", cases(list.scale), multiply_accumulate);
}

/// Operations that exist in both domains.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Copy,
    Add,
    Sub,
    Negate,
    Scale,
    ScaleAdd,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Copy => "copy",
            Operation::Add => "add",
            Operation::Sub => "sub",
            Operation::Negate => "negate",
            Operation::Scale => "scale_add/product",
            Operation::ScaleAdd => "scale_add",
        }
    }

    fn call<B: Backend, D: Domain>(
        self,
        lab: &Lab<B>,
        out: &mut ViewMut<'_, B, D>,
        a: Input<'_, B, D>,
        b: &View<'_, B, D>,
        scalars: &[u64],
    ) -> Result<()> {
        let Lab { backend, queue, tables, .. } = lab;
        match self {
            // A copy has no form in place; the output stands for itself.
            Operation::Copy => match a {
                Input::InPlace => Ok(()),
                Input::From(a) => backend.copy(queue, out, &a),
            },
            Operation::Add => backend.add(queue, tables, out, a, b),
            Operation::Sub => backend.sub(queue, tables, out, a, b),
            Operation::Negate => backend.negate(queue, tables, out, a),
            Operation::Scale => backend.scale_add(queue, tables, out, a, scalars, None),
            Operation::ScaleAdd => backend.scale_add(queue, tables, out, a, scalars, Some(b)),
        }
    }

    fn oracle(self, x: u64, y: u64, scalar: u64, q: u64) -> u64 {
        match self {
            Operation::Copy => x,
            Operation::Add => oracle::add(x, y, q),
            Operation::Sub => oracle::sub(x, y, q),
            Operation::Negate => oracle::sub(0, x, q),
            Operation::Scale => oracle::mul(x, scalar, q),
            Operation::ScaleAdd => oracle::add(oracle::mul(x, scalar, q), y, q),
        }
    }
}

/// One scalar per limb: the ends of the range first.
fn scalars<B: Backend>(lab: &Lab<B>, case: Case) -> Vec<u64> {
    let scalar = |(i, limb)| {
        let q = lab.modulus(limb);
        [q - 1, lab.word() % q, 0, 1][i % 4]
    };
    case.limbs().iter().enumerate().map(scalar).collect()
}

fn in_domain<B: Backend, D: Domain>(lab: &Lab<B>, case: Case, operation: Operation) -> Outcome {
    let scalars = scalars(lab, case);
    pairs::<B, D>(
        lab,
        case,
        |out, a, b| operation.call(lab, out, a, b, &scalars),
        |x, y, rank, q| operation.oracle(x, y, scalars[rank], q),
    )
}

/// `call` on two operands in every form; `expected` gets a value of each, the rank of the limb, and the modulus.
fn pairs<B: Backend, D: Domain>(
    lab: &Lab<B>,
    case: Case,
    call: impl Fn(&mut ViewMut<'_, B, D>, Input<'_, B, D>, &View<'_, B, D>) -> Result<()>,
    expected: impl Fn(u64, u64, usize, u64) -> u64,
) -> Outcome {
    let (limbs, batch, moduli) = (case.limbs(), case.batch, primes(lab.ring(), case.limbs()));
    for v in variations(lab.degree()) {
        let Variation { out, a, b, values, absurd } = v;
        let x = lab.words_for(a.unwrap_or(out), values[0], limbs, batch);
        let y = lab.words_for(b, values[1], limbs, batch);
        let mut result = x.clone();
        for (i, (z, &y)) in result.words.iter_mut().zip(&y.words).enumerate() {
            let rank = i / lab.degree() % limbs.len();
            *z = expected(*z, y, rank, moduli[rank]);
        }
        let (what, second) = (format!("{v:?}"), lab.operand(b, &y, absurd)?);
        match a {
            None => {
                let mut out = lab.operand(out, &x, absurd)?;
                call(&mut out.view_mut()?, Input::InPlace, &second.view()?)?;
                lab.expect(&what, &out, &result)?;
            }
            Some(a) => {
                let first = lab.operand(a, &x, absurd)?;
                let mut out = lab.output(out, limbs, batch, absurd)?;
                call(&mut out.view_mut()?, first.view()?.into(), &second.view()?)?;
                lab.expect(&what, &out, &result)?;
                lab.untouched("first input", &first)?;
            }
        }
        lab.untouched("second input", &second)?;
    }
    Ok(())
}

fn multiply_accumulate<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch, moduli) = (case.limbs(), case.batch, primes(lab.ring(), case.limbs()));
    for v in variations(lab.degree()) {
        let first = v.a.unwrap_or(v.b);
        let x = lab.words_for(first, v.values[0], limbs, batch);
        let y = lab.words_for(v.b, v.values[1], limbs, batch);
        let sum = lab.words(if v.absurd { Values::Max } else { Values::Random }, limbs, batch);
        let mut result = sum.clone();
        for (i, z) in result.words.iter_mut().enumerate() {
            let q = moduli[i / lab.degree() % limbs.len()];
            *z = oracle::add(*z, oracle::mul(x.words[i], y.words[i], q), q);
        }
        let (a, b) = (lab.operand(first, &x, v.absurd)?, lab.operand(v.b, &y, v.absurd)?);
        let mut out = lab.operand(v.out, &sum, v.absurd)?;
        let Lab { backend, queue, tables, .. } = lab;
        backend.multiply_accumulate(queue, tables, &mut out.view_mut()?, &a.view()?, &b.view()?)?;
        lab.expect(&format!("{v:?}"), &out, &result)?;
        lab.untouched("first input", &a)?;
        lab.untouched("second input", &b)?;
    }
    Ok(())
}
