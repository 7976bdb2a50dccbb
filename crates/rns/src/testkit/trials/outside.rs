//! To and from the outside: memory, floats, seeds, packed bytes.

use crate::{
    Backend, Coefficient, Domain, Error, Evaluation, LimbSet, Packing, Positions, Purpose, Quantise, Result,
    SeedLabel, Storage,
};

use super::{Case, List, cases};
use crate::testkit::data::{Class, Values, Words};
use crate::testkit::lab::{Dress, Lab, variations};
use crate::testkit::{Outcome, oracle};

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    let small = || Class::ALL.map(|class| Case { class, degree: 32, count: 3, batch: 3 });
    let one = || Class::ALL.map(|class| Case { class, degree: 64, count: 1, batch: 3 });
    list.add_cases("memory", [Case { class: Class::Mixed, degree: 16, count: 1, batch: 1 }], |lab, _| {
        memory(lab)
    });
    list.add_cases("upload", small(), transfers);
    list.add_cases("quantise", small(), quantise);
    list.add_cases("quantise/refused", small(), quantise_refused);
    list.add_cases("expand_seed", cases(list.scale), expand_seed);
    list.add_cases("unpack/coefficients", small(), unpack::<B, Coefficient>);
    list.add_cases("unpack/values", small(), unpack::<B, Evaluation>);
    list.add_cases("unpack/refused", small(), unpack_refused);
    list.add_cases("trim", one(), trim);
}

fn memory<B: Backend>(lab: &Lab<B>) -> Outcome {
    let Lab { backend, queue, .. } = lab;
    for words in [0, 1, 7, 8, 9, 1000] {
        let mut buffer = backend.allocate(queue, words)?;
        lab.ensure(buffer.words() == words, || format!("{} words instead of {words}", buffer.words()))?;
        let data: Vec<u64> = (0..words).map(|_| lab.word()).collect();
        backend.write(queue, &mut buffer, 0, &data)?;
        let mut back = vec![0; words];
        backend.read(queue, &buffer, 0, &mut back)?;
        lab.ensure(back == data, || format!("{words} words do not come back"))?;
        let (offset, count) = (words / 3, words - words / 3 - words / 4);
        backend.write(queue, &mut buffer, offset, &vec![7; count])?;
        backend.read(queue, &buffer, 0, &mut back)?;
        let expected =
            data.iter().enumerate().map(|(i, &x)| if (offset..offset + count).contains(&i) { 7 } else { x });
        lab.ensure(back.iter().copied().eq(expected), || format!("{count} words at {offset} are misplaced"))?;
        for (offset, count) in [(words, 1), (words + 1, 0), (usize::MAX, 1), (0, words + 1)] {
            let written = backend.write(queue, &mut buffer, offset, &vec![1; count]);
            let read = backend.read(queue, &buffer, offset, &mut vec![1; count]);
            for result in [written, read] {
                let refused = matches!(result, Err(Error::Shape { .. }));
                lab.ensure(refused, || format!("{count} words at {offset} of {words}: {result:?}"))?;
            }
        }
        backend.wipe(queue, &mut buffer)?;
        backend.read(queue, &buffer, 0, &mut back)?;
        lab.ensure(back.iter().all(|&x| x == 0), || "wiped memory holds something".into())?;
    }
    Ok(())
}

fn transfers<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    for v in variations(lab.degree()) {
        let words = lab.words_for(v.b, v.values[0], case.limbs(), case.batch);
        let input = lab.operand::<Coefficient>(v.b, &words, v.absurd)?;
        lab.compare(&format!("download, {v:?}"), &words, &lab.download(&input.view()?)?)?;
        let mut out = lab.output::<Coefficient>(v.out, words.limbs, case.batch, v.absurd)?;
        lab.backend.upload(&lab.queue, &mut out.view_mut()?, &words.words)?;
        lab.expect(&format!("upload, {v:?}"), &out, &words)?;
    }
    Ok(())
}

/// Floats whose rounding is not obvious, for a scale of `2^bits`.
fn floats<B: Backend>(lab: &Lab<B>, count: usize, bits: i32) -> Vec<u64> {
    let limit = 2f64.powi(62 - bits).min(f64::MAX);
    let unit = 2f64.powi(-bits);
    let special =
        [0.0, -0.0, limit.next_down(), -limit.next_down(), 0.5, 1.5, -2.5, f64::MIN_POSITIVE, 5e-324]
            .into_iter()
            .chain([0.5, 1.5, -0.5, 2.5, 0.5f64.next_up(), 0.5f64.next_down(), 3.0, -1.0].map(|x| x * unit))
            .filter(|x| x.abs() < limit)
            .map(f64::to_bits)
            .collect::<Vec<_>>();
    let random = |_| {
        let signed = lab.word() as i64 as f64 / 2f64.powi(64);
        (signed * limit * 2f64.powi(-(lab.below(64) as i32))).to_bits()
    };
    let chosen = special.iter().copied().cycle().take(special.len().min(count));
    chosen.chain((special.len()..count).map(random)).collect()
}

fn quantise<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limbs, batch, n) = (case.limbs(), case.batch, lab.degree());
    let layouts = [(n, 0, n, 1), (n - 3, 5, n + 1, 1), (n, 1, 1, batch), (1, 0, 0, 0), (0, 0, 0, 0)];
    for (round, v) in variations(n).take(15).enumerate() {
        let (count, first, batch_stride, coefficient_stride) = layouts[round % layouts.len()];
        let scale_bits = [0, 20, 40, -3, 1000, -1000, 61][round % 7];
        let how = Quantise { first, batch_stride, coefficient_stride, count, scale_bits };
        let values = floats(lab, first + n * (batch + 1) * 2, scale_bits);
        let mut buffer = lab.backend.allocate(&lab.queue, values.len())?;
        lab.backend.write(&lab.queue, &mut buffer, 0, &values)?;
        let expected = Words::from_rows(batch, limbs, n, |b, limb| {
            let at = |i| {
                let index = first + b * batch_stride + i * coefficient_stride;
                oracle::quantise(values[index], scale_bits).unwrap_or_default()
            };
            (0..n).map(|i| if i < count { oracle::signed(at(i), lab.modulus(limb)) } else { 0 }).collect()
        });
        let mut out = lab.output(v.out, limbs, batch, v.absurd)?;
        lab.backend.quantise(&lab.queue, &lab.tables, &mut out.view_mut()?, &buffer, how)?;
        lab.expect(&format!("{how:?}, {v:?}"), &out, &expected)?;
    }
    Ok(())
}

/// A value out of range is reported, at the latest when the queue is synchronised; one that is not used is not looked at.
fn quantise_refused<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let beyond = 2f64.powi(42);
    for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, beyond, -beyond] {
        let mut values = vec![1f64.to_bits(); 2 * lab.degree()];
        values[lab.degree() + 3] = x.to_bits();
        let mut buffer = lab.backend.allocate(&lab.queue, values.len())?;
        lab.backend.write(&lab.queue, &mut buffer, 0, &values)?;
        for (first, bad) in [(0, false), (lab.degree(), true)] {
            let how = Quantise {
                first,
                batch_stride: 0,
                coefficient_stride: 1,
                count: lab.degree(),
                scale_bits: 20,
            };
            let mut out = lab.output(Dress::Plain, case.limbs(), case.batch, true)?;
            let queued = lab.backend.quantise(&lab.queue, &lab.tables, &mut out.view_mut()?, &buffer, how);
            let result = queued.and_then(|()| lab.backend.synchronize(&lab.queue));
            let right = match &result {
                Err(Error::Value { operation: "quantise", index, .. }) => bad && *index == lab.degree() + 3,
                other => !bad && other.is_ok(),
            };
            lab.ensure(right, || format!("{x:e} among the values from {first}: {result:?}"))?;
        }
    }
    Ok(())
}

fn label<B: Backend>(lab: &Lab<B>, index: usize) -> SeedLabel {
    let purposes =
        [Purpose::Ciphertext, Purpose::PublicKey, Purpose::EvaluationKey, Purpose::CommonRandomString];
    let mut seed = [0; 32];
    seed.as_chunks_mut::<8>().0.iter_mut().for_each(|chunk| *chunk = lab.word().to_le_bytes());
    SeedLabel { seed, purpose: purposes[index % 4], object: lab.word(), polynomial: lab.word() as u32 }
}

fn expand_seed<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    for v in variations(lab.degree()).filter(|v| v.a.is_some()).take(4) {
        let labels: Vec<_> = (0..case.batch).map(|index| label(lab, index)).collect();
        let expected = Words::from_rows(case.batch, case.limbs(), lab.degree(), |b, limb| {
            oracle::expand(&labels[b], lab.modulus(limb), lab.degree())
        });
        let mut out = lab.output(v.out, case.limbs(), case.batch, v.absurd)?;
        lab.backend.expand_seed(&lab.queue, &lab.tables, &mut out.view_mut()?, &labels)?;
        lab.expect(&format!("{v:?}"), &out, &expected)?;
    }
    Ok(())
}

/// The values of `words` in packed rows.
fn packed<B: Backend>(lab: &Lab<B>, words: &Words, packing: Packing) -> Vec<u8> {
    let (rows, values) = packing.extent(words.batch);
    let row = |(row, limb): (usize, usize)| {
        let value = |i: usize| match packing {
            Packing::ByPolynomial { .. } => words.row(row, limb)[i],
            Packing::ByCoefficient { .. } => words.row(i, limb)[row],
        };
        let values: Vec<u64> = (0..values).map(value).collect();
        oracle::pack(&values, lab.ring().modulus(limb).bits())
    };
    (0..rows).flat_map(|row| words.limbs.iter().map(move |limb| (row, limb))).flat_map(row).collect()
}

fn packings(coefficients: usize) -> [Packing; 2] {
    [Packing::ByPolynomial { coefficients }, Packing::ByCoefficient { coefficients }]
}

fn unpack<B: Backend, D: Domain>(lab: &Lab<B>, case: Case) -> Outcome {
    let n = lab.degree();
    for (v, count) in variations(n).zip([n, 1, n - 1, 3, 0].into_iter().cycle()) {
        let mut words = lab.words(v.values[0], case.limbs(), case.batch);
        words.words.chunks_exact_mut(n).for_each(|row| row[count..].fill(0));
        for packing in packings(count) {
            let mut out = lab.output::<D>(v.out, case.limbs(), case.batch, v.absurd)?;
            let bytes = packed(lab, &words, packing);
            lab.backend.unpack(&lab.queue, &lab.tables, &mut out.view_mut()?, packing, &bytes)?;
            lab.expect(&format!("{packing:?}, {v:?}"), &out, &words)?;
        }
    }
    Ok(())
}

/// A residue that is not below its modulus, and padding that is not zero, are reported, at the latest when the queue is
/// synchronised.
fn unpack_refused<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (n, limb) = (lab.degree(), case.limbs().last().unwrap_or_default());
    let (q, bits) = (lab.modulus(limb), lab.ring().modulus(limb).bits());
    let attempt = |words: &Words, packing, spoil: &dyn Fn(&mut Vec<u8>)| -> Result<()> {
        let mut bytes = packed(lab, words, packing);
        spoil(&mut bytes);
        let mut out = lab.output::<Evaluation>(Dress::Plain, case.limbs(), case.batch, true)?;
        lab.backend.unpack(&lab.queue, &lab.tables, &mut out.view_mut()?, packing, &bytes)?;
        lab.backend.synchronize(&lab.queue)
    };
    let words = lab.words(Values::Max, case.limbs(), case.batch);
    let last = (words.words.len() / n - 1) * n;
    for packing in packings(n - 1) {
        let result = attempt(&words, packing, &|_| ());
        lab.ensure(result.is_ok(), || format!("the largest residues are refused: {result:?}"))?;
        for (i, value) in [(0, q), (1, (1 << bits) - 1), (n - 2, q)] {
            let mut bad = words.clone();
            bad.words[last + i] = value;
            // Where in its row the bad value of the last polynomial stands.
            let place = if let Packing::ByPolynomial { .. } = packing { i } else { case.batch - 1 };
            let result = attempt(&bad, packing, &|_| ());
            let right =
                matches!(result, Err(Error::Value { operation: "unpack", index, .. }) if index == place);
            lab.ensure(right, || format!("{packing:?}, {value} modulo {q} at {i}: {result:?}"))?;
        }
        let (_, values) = packing.extent(case.batch);
        if !(values * bits as usize).is_multiple_of(8) {
            let result = attempt(&words, packing, &|bytes| *bytes.last_mut().unwrap_or(&mut 0) |= 0x80);
            let right = matches!(result, Err(Error::Value { operation: "unpack", .. }));
            lab.ensure(right, || format!("{packing:?}, padding that is not zero: {result:?}"))?;
        }
    }
    Ok(())
}

fn trim<B: Backend>(lab: &Lab<B>, case: Case) -> Outcome {
    let (limb, n) = (case.limbs().last().unwrap_or_default(), lab.degree());
    let all = [
        Positions::first(n),
        Positions::first(1),
        Positions::first(0),
        Positions { first: 3, step: 7, count: 8 },
        Positions { first: n - 1, step: 5, count: 1 },
    ];
    for (round, v) in variations(n).enumerate() {
        let (positions, bits) = (all[round % 5], [1, 8, 13, 24, 32, 45, 59, 60][round % 8]);
        let dress = v.a.unwrap_or(v.b);
        let words = lab.words_for(dress, v.values[0], LimbSet::single(limb), case.batch);
        let input = lab.operand::<Coefficient>(dress, &words, v.absurd)?;
        let row = |b| {
            let trimmed = |i| oracle::trim(words.row(b, limb)[i], bits, lab.modulus(limb));
            oracle::pack(&positions.iter().map(trimmed).collect::<Vec<_>>(), bits)
        };
        let expected: Vec<u8> = (0..case.batch).flat_map(row).collect();
        let mut found = vec![0xff; expected.len()];
        lab.backend.trim(&lab.queue, &lab.tables, &input.view()?, bits, positions, &mut found)?;
        let different = expected.iter().zip(&found).position(|(x, y)| x != y);
        lab.ensure(different.is_none(), || {
            let at = different.unwrap_or_default();
            format!(
                "{bits} bits, {positions:?}, {v:?}: byte {at} is {}, expected {}",
                found[at], expected[at]
            )
        })?;
    }
    Ok(())
}
