//! Wrong use: an error of the right kind before anything is written.

use crate::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, KeySwitchPlan, LimbSet, ModDownPlan, Packing,
    Poly, Positions, PreparedView, Purpose, Quantise, Result, Ring, SeedLabel, View, ViewMut,
};

use super::{Case, List};
use crate::testkit::Outcome;
use crate::testkit::data::{Class, Values, Words};
use crate::testkit::lab::{Dress, Lab, Operand};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    let case = || [Case { class: Class::Mixed, degree: 16, count: 3, batch: 2 }];
    list.add_cases("refused/shapes", case(), shapes);
    list.add_cases("refused/foreign tables", case(), foreign_tables);
    list.add_cases("refused/arguments", case(), arguments);
    list.add_cases("refused/conversions", case(), conversions);
    list.add_cases("refused/sums", case(), sums);
    list.add_cases("refused/packed bytes", case(), bytes);
    list.add_cases("refused/plans", case(), plans);
    list.add_cases("refused/use of plans", case(), use_of_plans);
    list.add_cases("nothing to do", case(), nothing);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Shape,
    MissingLimbs,
    Value,
}

fn kind(error: &Error) -> Option<Kind> {
    match error {
        Error::Shape { .. } => Some(Kind::Shape),
        Error::MissingLimbs { .. } => Some(Kind::MissingLimbs),
        Error::Value { .. } => Some(Kind::Value),
        _ => None,
    }
}

fn refused<B: Backend, T>(lab: &Lab<B>, what: &str, expected: Kind, result: Result<T>) -> Outcome {
    match result {
        Ok(_) => Err(lab.failure(format!("{what}: accepted"))),
        Err(error) => lab.ensure(kind(&error) == Some(expected), || {
            format!("{what}: {error} is not of kind {expected:?}")
        }),
    }
}

/// An output full of garbage; a call that has to be refused; the garbage has to be there still.
fn spares<B: Backend, D: Domain>(
    lab: &Lab<B>,
    what: &str,
    expected: Kind,
    (limbs, batch): (LimbSet, usize),
    call: impl FnOnce(&mut ViewMut<'_, B, D>) -> Result<()>,
) -> Outcome {
    let mut out: Operand<B, D> = lab.output(Dress::Sub, limbs, batch, true)?;
    let result = call(&mut out.view_mut()?);
    refused(lab, what, expected, result)?;
    lab.untouched(&format!("{what}: the output of a refused call"), &out)
}

/// A polynomial of the same limbs in a ring of another degree.
fn of_other_degree<B: Backend, D: Domain>(lab: &Lab<B>, limbs: LimbSet, batch: usize) -> Outcome<Poly<B, D>> {
    let primes: Vec<u64> = lab.ring().moduli().iter().map(|q| q.value()).collect();
    let ring = Ring::new(lab.degree() / 2, &primes)?;
    let mut poly = Poly::allocate(&lab.backend, &lab.queue, &ring, limbs, batch)?;
    let words = vec![1; poly.extent().words()];
    lab.backend.upload(&lab.queue, &mut poly.view_mut(), &words)?;
    Ok(poly)
}

fn ones<B: Backend, D: Domain>(lab: &Lab<B>, limbs: LimbSet, batch: usize) -> Outcome<Poly<B, D>> {
    let words = Words::from_rows(batch, limbs, lab.degree(), |_, _| vec![1; lab.degree()]);
    Ok(lab.upload(&words)?)
}

/// Every operation with an operand of the wrong batch, limbs or degree, in every place.
fn shapes<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch) = (case.limbs(), case.batch);
    let fewer = limbs.difference(LimbSet::single(limbs.last().unwrap_or_default()));
    in_domain::<B, Evaluation>(lab, case, fewer)?;
    in_domain::<B, Coefficient>(lab, case, fewer)?;
    let good = ones::<B, Evaluation>(lab, limbs, batch)?;
    let wrong = [
        ones::<B, Evaluation>(lab, limbs, batch + 1)?,
        ones(lab, fewer, batch)?,
        of_other_degree(lab, limbs, batch)?,
    ];
    let Lab { backend, queue, tables, .. } = lab;
    for bad in &wrong {
        let (good, bad) = (good.view(), bad.view());
        let shape = (limbs, batch);
        let what = |name: &str| format!("{name} with {bad:?}");
        let coefficients = bad.clone().retag::<Coefficient>();
        spares(lab, &what("ntt"), Kind::Shape, shape, |out| {
            backend.ntt(queue, tables, out, coefficients.into())
        })?;
        spares(lab, &what("intt"), Kind::Shape, shape, |out| {
            backend.intt(queue, tables, out, bad.clone().into())
        })?;
        let places = [(good.clone(), &bad), (bad.clone(), &good)];
        for (a, b) in places {
            spares(lab, &what("multiply"), Kind::Shape, shape, |out| {
                backend.multiply(queue, tables, out, a.clone().into(), b)
            })?;
            spares(lab, &what("multiply_accumulate"), Kind::Shape, shape, |out| {
                backend.multiply_accumulate(queue, tables, out, &a, b)
            })?;
        }
    }
    Ok(())
}

fn in_domain<B: Backend, D: Domain>(lab: &Lab<B>, case: Case, fewer: LimbSet) -> Outcome {
    let (limbs, batch, Lab { backend, queue, tables, .. }) = (case.limbs(), case.batch, lab);
    let good = ones::<B, D>(lab, limbs, batch)?;
    let wrong: [Poly<B, D>; 3] =
        [ones(lab, limbs, batch + 1)?, ones(lab, fewer, batch)?, of_other_degree(lab, limbs, batch)?];
    let scalars = vec![1; limbs.len()];
    for bad in &wrong {
        let (good, bad) = (good.view(), bad.view());
        let shape = (limbs, batch);
        let what = |name: &str| format!("{name} with {bad:?}");
        let try_one = |name, call: &dyn Fn(&mut ViewMut<'_, B, D>) -> Result<()>| {
            spares(lab, &what(name), Kind::Shape, shape, |out| call(out))
        };
        try_one("copy", &|out| backend.copy(queue, out, &bad))?;
        try_one("negate", &|out| backend.negate(queue, tables, out, bad.clone().into()))?;
        try_one("automorphism", &|out| backend.automorphism(queue, tables, out, &bad, 3))?;
        try_one("scale_add in place", &|out| {
            backend.scale_add(queue, tables, out, Input::InPlace, &scalars, Some(&bad))
        })?;
        try_one("scale_add", &|out| {
            backend.scale_add(queue, tables, out, bad.clone().into(), &scalars, None)
        })?;
        for (a, b) in [(good.clone(), &bad), (bad.clone(), &good)] {
            try_one("add", &|out| backend.add(queue, tables, out, a.clone().into(), b))?;
            try_one("sub", &|out| backend.sub(queue, tables, out, a.clone().into(), b))?;
        }
    }
    Ok(())
}

/// Operands that have limbs, or a degree, that the ring of the tables does not have.
fn foreign_tables<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch, Lab { backend, queue, .. }) = (case.limbs(), case.batch, lab);
    let primes: Vec<u64> = lab.ring().moduli().iter().map(|q| q.value()).collect();
    let fewer = Ring::new(lab.degree(), &primes[..2])?;
    let smaller = Ring::new(lab.degree() / 2, &primes)?;
    let operand = ones::<B, Evaluation>(lab, limbs, batch)?;
    let coefficients = ones::<B, Coefficient>(lab, limbs, batch)?;
    let scalars = vec![1; limbs.len()];
    let label = SeedLabel { seed: [1; 32], purpose: Purpose::Ciphertext, object: 0, polynomial: 0 };
    for (ring, kind) in [(fewer, Kind::MissingLimbs), (smaller, Kind::Shape)] {
        let tables = &backend.tables(queue, &ring)?;
        let (x, shape) = (operand.view(), (limbs, batch));
        type Call<'c, B, D> = &'c dyn Fn(&mut ViewMut<'_, B, D>) -> Result<()>;
        let calls: [(&str, Call<'_, B, Evaluation>); 9] = [
            ("ntt", &|out| backend.ntt(queue, tables, out, coefficients.view().into())),
            ("automorphism", &|out| backend.automorphism(queue, tables, out, &x, 3)),
            ("add", &|out| backend.add(queue, tables, out, x.clone().into(), &x)),
            ("sub", &|out| backend.sub(queue, tables, out, x.clone().into(), &x)),
            ("negate", &|out| backend.negate(queue, tables, out, x.clone().into())),
            ("multiply", &|out| backend.multiply(queue, tables, out, x.clone().into(), &x)),
            ("multiply_accumulate", &|out| backend.multiply_accumulate(queue, tables, out, &x, &x)),
            ("scale_add", &|out| backend.scale_add(queue, tables, out, x.clone().into(), &scalars, None)),
            ("expand_seed", &|out| backend.expand_seed(queue, tables, out, &vec![label; batch])),
        ];
        for (name, call) in calls {
            spares(lab, name, kind, shape, |out| call(out))?;
        }
        spares(lab, "intt", kind, shape, |out| backend.intt(queue, tables, out, x.clone().into()))?;
        let none = Packing::ByPolynomial { coefficients: 0 };
        spares::<B, Evaluation>(lab, "unpack", kind, shape, |out| {
            backend.unpack(queue, tables, out, none, &[])
        })?;
        let one = coefficients.view().with_limbs(LimbSet::single(3))?;
        let positions = Positions::first(0);
        refused(lab, "trim", kind, backend.trim(queue, tables, &one, 8, positions, &mut []))?;
        refused(lab, "prepare", kind, backend.prepare(queue, tables, &x).map(drop))?;
    }
    Ok(())
}

fn arguments<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch, Lab { backend, queue, tables, .. }) = (case.limbs(), case.batch, lab);
    let (shape, n) = ((limbs, batch), lab.degree());
    let x = ones::<B, Evaluation>(lab, limbs, batch)?;
    for element in [0, 2, 2 * n, 2 * n + 1, usize::MAX] {
        spares(lab, &format!("X -> X^{element}"), Kind::Shape, shape, |out| {
            backend.automorphism(queue, tables, out, &x.view(), element)
        })?;
    }
    for count in [0, limbs.len() - 1, limbs.len() + 1] {
        spares(lab, &format!("{count} scalars"), Kind::Shape, shape, |out| {
            backend.scale_add(queue, tables, out, x.view().into(), &vec![1; count], None)
        })?;
    }
    for (rank, limb) in limbs.iter().enumerate() {
        let mut scalars = vec![0; limbs.len()];
        scalars[rank] = lab.modulus(limb);
        spares(lab, "a scalar that is its modulus", Kind::Value, shape, |out| {
            backend.scale_add(queue, tables, out, x.view().into(), &scalars, None)
        })?;
    }
    let label = SeedLabel { seed: [1; 32], purpose: Purpose::Ciphertext, object: 0, polynomial: 0 };
    for count in [0, batch - 1, batch + 1] {
        spares(lab, &format!("{count} labels"), Kind::Shape, shape, |out| {
            backend.expand_seed(queue, tables, out, &vec![label; count])
        })?;
    }
    let mut values = backend.allocate(queue, batch * n)?;
    backend.write(queue, &mut values, 0, &vec![0; batch * n])?;
    let good = Quantise { first: 0, batch_stride: n, coefficient_stride: 1, count: n, scale_bits: 10 };
    let bad = [
        Quantise { count: n + 1, ..good },
        Quantise { first: 1, ..good },
        Quantise { batch_stride: n + 1, ..good },
        Quantise { coefficient_stride: usize::MAX, ..good },
        Quantise { batch_stride: usize::MAX, ..good },
        Quantise { first: usize::MAX, ..good },
        Quantise { scale_bits: 1001, ..good },
        Quantise { scale_bits: i32::MIN, ..good },
    ];
    for how in bad {
        spares(lab, &format!("{how:?}"), Kind::Shape, shape, |out| {
            backend.quantise(queue, tables, out, &values, how)
        })?;
    }
    Ok(())
}

fn conversions<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (batch, Lab { backend, queue, tables, .. }) = (case.batch, lab);
    let (low, high) = (LimbSet::range(0..2), LimbSet::range(2..4));
    let outside = LimbSet::single(lab.ring().moduli().len());
    let attempt = |source, target| backend.converter(queue, tables, source, target).map(drop);
    for (source, target, kind) in [
        (low, LimbSet::EMPTY, Kind::Shape),
        (LimbSet::EMPTY, high, Kind::Shape),
        (low, low, Kind::Shape),
        (low, LimbSet::range(1..3), Kind::Shape),
        (low, outside, Kind::MissingLimbs),
        (outside, high, Kind::MissingLimbs),
    ] {
        refused(lab, &format!("converter from {source:?} to {target:?}"), kind, attempt(source, target))?;
    }
    let converter = backend.converter(queue, tables, low, high)?;
    let input = |limbs, batch| ones::<B, Coefficient>(lab, limbs, batch);
    let wrong = [
        (input(high, batch)?, high),
        (input(lab.ring().limbs(), batch)?, high),
        (input(low, batch + 1)?, high),
        (of_other_degree(lab, low, batch)?, high),
        (input(low, batch)?, low),
        (input(low, batch)?, LimbSet::range(2..5)),
        (input(low, batch)?, LimbSet::single(2)),
    ];
    for (x, target) in &wrong {
        spares(lab, &format!("{x:?} to {target:?}"), Kind::Shape, (*target, batch), |out| {
            backend.base_convert(queue, tables, &converter, out, &x.view())
        })?;
    }
    Ok(())
}

fn sums<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch, Lab { backend, queue, tables, .. }) = (case.limbs(), case.batch, lab);
    let (x, shape) = (ones::<B, Evaluation>(lab, limbs, batch)?, (limbs, batch));
    let entries = ones::<B, Evaluation>(lab, limbs, 4)?;
    let prepared = backend.prepare(queue, tables, &entries.view())?;
    let right = |first, term_stride, batch_stride| PreparedView {
        prepared: &prepared,
        first,
        term_stride,
        batch_stride,
    };
    let two: [View<'_, B, Evaluation>; 2] = [x.view(), x.view()];
    let product = |what: &str, kind, left: &[View<'_, B, Evaluation>], right| {
        spares(lab, what, kind, shape, |out| backend.inner_product(queue, tables, out, left, right))
    };
    product("no term", Kind::Shape, &[], right(0, 1, 1))?;
    for (first, term, batch) in [
        (4, 0, 0),
        (3, 1, 0),
        (2, 1, 1),
        (0, 4, 0),
        (usize::MAX, 1, 1),
        (0, usize::MAX, 2),
        (1, 1, usize::MAX),
    ] {
        product(&format!("entries {first}, {term}, {batch}"), Kind::Shape, &two, right(first, term, batch))?;
    }
    let wrong = ones::<B, Evaluation>(lab, limbs, batch + 1)?;
    product("a second term of another shape", Kind::Shape, &[x.view(), wrong.view()], right(0, 1, 0))?;
    let few = ones::<B, Evaluation>(lab, LimbSet::single(0), 4)?;
    let few = backend.prepare(queue, tables, &few.view())?;
    let lacking = PreparedView { prepared: &few, first: 0, term_stride: 1, batch_stride: 0 };
    product("an operand that lacks limbs", Kind::MissingLimbs, &two, lacking)?;
    let primes: Vec<u64> = lab.ring().moduli().iter().map(|q| q.value()).collect();
    let smaller = Ring::new(lab.degree() / 2, &primes)?;
    let small = of_other_degree::<B, Evaluation>(lab, limbs, 4)?;
    let small = backend.prepare(queue, &backend.tables(queue, &smaller)?, &small.view())?;
    let foreign = PreparedView { prepared: &small, first: 0, term_stride: 1, batch_stride: 0 };
    product("an operand of another degree", Kind::Shape, &two, foreign)?;

    for (rows, columns, count) in [(0, 1, 0), (1, 0, 0), (2, 2, 3), (2, 2, 5), (usize::MAX, 2, 4)] {
        let result = backend.matrix(queue, tables, rows, columns, &vec![1; count]).map(drop);
        refused(lab, &format!("a {rows} x {columns} matrix of {count}"), Kind::Shape, result)?;
    }
    for entry in [(1 << 62) + 1, -(1 << 62) - 1, i64::MIN, i64::MAX] {
        refused(lab, "a large entry", Kind::Value, backend.matrix(queue, tables, 1, 1, &[entry]).map(drop))?;
    }
    let matrix = backend.matrix(queue, tables, 3, batch, &vec![1; 3 * batch])?;
    let matrix_product = |what: &str, rows, input: &Poly<B, Evaluation>| {
        spares(lab, what, Kind::Shape, (limbs, rows), |out| {
            backend.matrix_product(queue, tables, out, &matrix, &input.view())
        })
    };
    matrix_product("too few rows", 2, &x)?;
    matrix_product("too many columns", 3, &wrong)?;
    matrix_product("columns of another degree", 3, &of_other_degree(lab, limbs, batch)?)
}

fn bytes<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch, Lab { backend, queue, tables, .. }) = (case.limbs(), case.batch, lab);
    let n = lab.degree();
    let row = |limb, count: usize| (count * lab.ring().modulus(limb).bits() as usize).div_ceil(8);
    let by_polynomial = |coefficients| Packing::ByPolynomial { coefficients };
    let by_coefficient = |coefficients| Packing::ByCoefficient { coefficients };
    let right = |rows, values| rows * limbs.iter().map(|limb| row(limb, values)).sum::<usize>();
    for (packing, right) in
        [(by_polynomial as fn(usize) -> Packing, right(batch, 3)), (by_coefficient, right(3, batch))]
    {
        for (count, length) in [(3, right - 1), (3, right + 1), (3, 0), (n + 1, right), (usize::MAX, right)] {
            let what = format!("{length} bytes for {:?}", packing(count));
            spares::<B, Coefficient>(lab, &what, Kind::Shape, (limbs, batch), |out| {
                backend.unpack(queue, tables, out, packing(count), &vec![0; length])
            })?;
        }
    }
    let x = ones::<B, Coefficient>(lab, limbs, batch)?;
    let one = x.view().with_limbs(LimbSet::single(0))?;
    let first = Positions::first;
    let attempts = [
        (&one, 0, first(1), batch),
        (&one, 61, first(1), 8 * batch),
        (&one, 64, first(1), 8 * batch),
        (&one, 8, first(n + 1), batch * (n + 1)),
        (&one, 8, Positions { first: n, step: 1, count: 1 }, batch),
        (&one, 8, Positions { first: 0, step: n, count: 2 }, 2 * batch),
        (&one, 8, Positions { first: 0, step: usize::MAX, count: 3 }, 3 * batch),
        (&one, 8, Positions { first: 0, step: 0, count: 1 << 61 }, 0),
        (&one, 8, first(2), 2 * batch - 1),
        (&one, 8, first(2), 2 * batch + 1),
        (&x.view(), 8, first(1), batch),
    ];
    for (view, bits, positions, length) in attempts {
        let mut packed = vec![0xa5; length];
        let result = backend.trim(queue, tables, view, bits, positions, &mut packed);
        refused(lab, &format!("trim to {bits} bits, {positions:?}, {length} bytes"), Kind::Shape, result)?;
        lab.ensure(packed.iter().all(|&byte| byte == 0xa5), || "a refused trim wrote something".into())?;
    }
    let upload = |length: usize| {
        spares::<B, Coefficient>(lab, "upload", Kind::Shape, (limbs, batch), |out| {
            backend.upload(queue, out, &vec![0; length])
        })
    };
    let words = batch * limbs.len() * n;
    [0, words - 1, words + 1].into_iter().try_for_each(upload)?;
    let download = |length: usize| backend.download(queue, &x.view(), &mut vec![0; length]);
    [0, words - 1, words + 1]
        .into_iter()
        .try_for_each(|length| refused(lab, "download", Kind::Shape, download(length)))
}

fn plans<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let set = |range: std::ops::Range<usize>| LimbSet::range(range);
    let outside = set(4..lab.ring().moduli().len() + 1);
    for (keep, drop, kind) in [
        (set(0..2), set(1..3), Kind::Shape),
        (set(0..2), LimbSet::EMPTY, Kind::Shape),
        (LimbSet::EMPTY, set(1..3), Kind::Shape),
        (set(0..2), outside, Kind::MissingLimbs),
    ] {
        let result = ModDownPlan::new(backend, queue, tables, keep, drop, case.batch);
        refused(lab, &format!("dropping {drop:?} from {keep:?}"), kind, result)?;
    }
    let attempt = |limbs, digits: &[LimbSet], special| {
        KeySwitchPlan::new(backend, queue, tables, limbs, digits, special, case.batch)
    };
    let halves = [set(0..1), set(1..2)];
    for (limbs, digits, special, kind) in [
        (set(0..2), &halves[..1], set(2..4), Kind::Shape),
        (set(0..2), &[set(0..2), set(1..2)][..], set(2..5), Kind::Shape),
        (set(0..2), &halves[..], set(1..4), Kind::Shape),
        (outside, &[outside][..], set(0..4), Kind::MissingLimbs),
        (set(0..2), &halves[..], outside, Kind::MissingLimbs),
        // The first digit is gone, so that the entries of a key would be off by two.
        (set(1..2), &halves[..], set(2..4), Kind::Shape),
    ] {
        let what = format!("switching {limbs:?} in digits {digits:?} with {special:?}");
        refused(lab, &what, kind, attempt(limbs, digits, special))?;
    }
    // Limb 0 has 60 bits, limb 1 has 30.
    for special in [set(1..2), LimbSet::EMPTY] {
        let result = attempt(set(0..1), &[set(0..1)], special);
        let right = matches!(result, Err(Error::SpecialTooSmall { .. }));
        lab.ensure(right, || format!("special primes {special:?}: {result:?}"))?;
    }
    let allocate =
        |limbs, batch| Poly::<B, Evaluation>::allocate(backend, queue, lab.ring(), limbs, batch).map(drop);
    refused(lab, "limbs that are not there", Kind::MissingLimbs, allocate(outside, 1))?;
    refused(lab, "no limbs", Kind::MissingLimbs, allocate(LimbSet::EMPTY, 1))?;
    let result = allocate(set(0..2), usize::MAX / 8);
    lab.ensure(result.is_err(), || "more memory than there is was allocated".into())
}

fn use_of_plans<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (batch, Lab { backend, queue, tables, .. }) = (case.batch, lab);
    let (keep, drop) = (LimbSet::range(0..2), LimbSet::range(2..5));
    let mut down = ModDownPlan::new(backend, queue, tables, keep, drop, batch)?;
    let input = |limbs, batch| ones::<B, Evaluation>(lab, limbs, batch);
    let all = keep.union(drop);
    for (x, out, kind) in [
        (input(all, batch + 1)?, (keep, batch + 1), Kind::Shape),
        (input(all, batch)?, (keep, batch - 1), Kind::Shape),
        (input(all, batch)?, (LimbSet::single(0), batch), Kind::Shape),
        (input(keep, batch)?, (keep, batch), Kind::MissingLimbs),
        (input(drop, batch)?, (keep, batch), Kind::MissingLimbs),
    ] {
        spares(lab, &format!("mod_down of {x:?} to {out:?}"), kind, out, |out| {
            backend.mod_down(queue, tables, &mut down, out, &x.view())
        })?;
    }

    let digits = [LimbSet::single(0), LimbSet::single(1)];
    let mut plan = KeySwitchPlan::new(backend, queue, tables, keep, &digits, drop, batch)?;
    let key = backend.prepare(queue, tables, &input(all, 4)?.view())?;
    let short = backend.prepare(queue, tables, &input(all, 3)?.view())?;
    let narrow = backend.prepare(queue, tables, &input(keep, 4)?.view())?;
    let good = input(keep, batch)?;
    let cases = [
        ("a key that is too short", &short, input(keep, batch)?, (keep, batch), Kind::Shape),
        ("a key that lacks limbs", &narrow, input(keep, batch)?, (keep, batch), Kind::MissingLimbs),
        ("a batch beyond the plan", &key, input(keep, batch + 1)?, (keep, batch + 1), Kind::Shape),
        (
            "an input that lacks limbs",
            &key,
            input(LimbSet::single(0), batch)?,
            (keep, batch),
            Kind::MissingLimbs,
        ),
        ("an output of other limbs", &key, input(keep, batch)?, (drop, batch), Kind::Shape),
        ("an output of another batch", &key, input(keep, batch)?, (keep, batch - 1), Kind::Shape),
    ];
    for (what, key, d, out) in cases.iter().map(|(what, key, d, out, kind)| ((*what, *kind), *key, d, *out)) {
        // One wrong output beside a right one, in both places: neither may be written.
        for wrong_first in [true, false] {
            let mut other: Operand<B, Evaluation> = lab.output(Dress::Plain, keep, d.batch(), true)?;
            spares(lab, what.0, what.1, out, |wrong| {
                // Borrowed anew, so that both have the same lifetime.
                let (wrong, right) = (&mut wrong.reborrow(), &mut other.view_mut()?);
                let views = if wrong_first { [wrong, right] } else { [right, wrong] };
                backend.key_switch(queue, tables, &mut plan, key, views, &d.view())
            })?;
            lab.untouched(&format!("{}: the other output", what.0), &other)?;
        }
    }
    // The plan is as good as new after all that.
    let mut out = [lab.fresh(keep, batch)?, lab.fresh(keep, batch)?];
    let [first, second] = &mut out;
    let views = [&mut first.view_mut(), &mut second.view_mut()];
    Ok(backend.key_switch(queue, tables, &mut plan, &key, views, &good.view())?)
}

/// Batches of nothing are accepted and leave everything alone.
fn nothing<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, Lab { backend, queue, tables, .. }) = (case.limbs(), lab);
    let words = lab.words(Values::Random, limbs, case.batch);
    let mut poly = lab.upload::<Evaluation>(&words)?;
    let other = lab.upload::<Evaluation>(&words)?;
    let empty = other.view().range(1..1)?;
    for none in [empty.clone(), other.view().repeat(0), View::concat([&empty, &empty])?] {
        lab.ensure(none.batch() == 0, || format!("{none:?} is not empty"))?;
        let mut out = poly.view_mut().range(1..1)?;
        backend.copy(queue, &mut out, &none)?;
        backend.add(queue, tables, &mut out, Input::InPlace, &none)?;
        backend.multiply(queue, tables, &mut out, none.clone().into(), &none)?;
        backend.intt(queue, tables, &mut out.retag(), none.clone().into())?;
        backend.download(queue, &none, &mut [])?;
        let mut out = poly.view_mut().range(0..0)?;
        backend.upload(queue, &mut out, &[])?;
        backend.expand_seed(queue, tables, &mut out, &[])?;
    }
    lab.compare("what was not selected", &words, &lab.download(&poly.view())?)
}
