//! Hybrid key switching: the parts against the oracle, and the whole against what it is for.

use num_bigint::BigInt;

use crate::switching::Image;
use crate::{Backend, Evaluation, Input, KeySwitchPlan, LimbSet, Poly, switching};

use super::laws::map_automorphism;
use super::{List, conversion};
use crate::testkit::data::{Class, Values, Words, primes};
use crate::testkit::lab::{Dress, Lab};
use crate::testkit::{Outcome, Scale, oracle};

/// Which primes are switched, in which digits, with which special primes; and the chain they come from.
#[derive(Clone, Copy, Debug)]
struct Setting {
    class: Class,
    degree: usize,
    /// Limbs of the whole chain below the special primes, and how many of them are left at the level in use.
    limbs: (usize, usize),
    /// Limbs of a digit, which is also the number of special primes.
    digit: usize,
    batch: usize,
}

impl Setting {
    fn name(self) -> String {
        let Setting { class, degree, limbs: (all, left), digit, batch } = self;
        format!("n{degree}/{}/{left}of{all}limbs/digit{digit}/batch{batch}", class.name())
    }

    /// One more special prime than the digits need, so that their product exceeds every digit.
    fn special(self) -> LimbSet {
        LimbSet::range(self.limbs.0..self.limbs.0 + self.digit + 1)
    }

    fn limbs(self) -> LimbSet {
        LimbSet::range(0..self.limbs.1)
    }

    fn digits(self) -> Vec<LimbSet> {
        let (all, step) = (self.limbs.0, self.digit);
        (0..all).step_by(step).map(|first| LimbSet::range(first..all.min(first + step))).collect()
    }

    fn digits_left(self) -> impl Iterator<Item = LimbSet> {
        self.digits()
            .into_iter()
            .map(move |digit| digit.intersection(self.limbs()))
            .filter(|digit| !digit.is_empty())
    }
}

fn settings(scale: Scale) -> Vec<Setting> {
    let setting = |class, degree, limbs, digit, batch| Setting { class, degree, limbs, digit, batch };
    let mut all: Vec<_> = Class::ALL.map(|class| setting(class, 16, (3, 3), 2, 2)).into();
    all.extend([
        setting(Class::Bits(50), 64, (1, 1), 1, 1),
        setting(Class::Bits(60), 64, (4, 2), 1, 3),
        setting(Class::Mixed, 32, (8, 5), 3, 1),
        setting(Class::Shifted, 512, (3, 2), 1, 1),
        setting(Class::Bits(50), 1 << 11, (2, 2), 1, 1),
    ]);
    if scale == Scale::Full {
        all.extend((12..=14).map(|log| setting(Class::Bits(50), 1 << log, (4, 3), 2, 2)));
    }
    all
}

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    type Body<B> = fn(&Lab<B>, Setting) -> Outcome;
    let bodies: [(&str, Body<B>); 5] = [
        ("mod_up", mod_up),
        ("gadget_product", gadget_product),
        ("key_switch", key_switch),
        ("key_switch/meaning", meaning),
        ("key_switch_automorphism", automorphism),
    ];
    for setting in settings(list.scale) {
        for (name, body) in bodies {
            let chain = setting.limbs.0 + setting.digit + 1;
            list.add(
                format!("{name}/{}", setting.name()),
                move || setting.class.ring(setting.degree, chain),
                move |lab| body(lab, setting),
            );
        }
    }
}

fn plan<B: Backend>(lab: &Lab<B>, setting: Setting) -> crate::Result<KeySwitchPlan<B>> {
    let (limbs, digits, special) = (setting.limbs(), setting.digits(), setting.special());
    // Room for more than is used: the plan serves batches up to its size.
    KeySwitchPlan::new(&lab.backend, &lab.queue, &lab.tables, limbs, &digits, special, setting.batch + 1)
}

/// What [`Backend::mod_up`] leaves in the plan: every digit, extended through the coefficient domain.
fn extended<B: Backend>(lab: &Lab<B>, setting: Setting, values: &Words) -> Vec<Words> {
    let all = setting.limbs().union(setting.special());
    let extend = |digit: LimbSet| {
        let own = values.with_limbs(digit);
        let rest = all.difference(digit);
        let (from, to) = (primes(lab.ring(), digit), primes(lab.ring(), rest));
        let converted = own.intt(lab.ring()).map_residues(rest, |x| oracle::base_convert(x, &from, &to));
        let converted = converted.ntt(lab.ring());
        Words::from_rows(values.batch, all, values.degree, |b, limb| {
            if digit.contains(limb) { own.row(b, limb) } else { converted.row(b, limb) }.to_vec()
        })
    };
    setting.digits_left().map(extend).collect()
}

/// Inputs of several kinds: in their own buffer with exactly the limbs needed, or with more.
fn inputs<B: Backend>(lab: &Lab<B>, setting: Setting) -> impl Iterator<Item = (Dress, Words)> + '_ {
    let dresses = [Dress::Plain, Dress::Sub, Dress::Concat, Dress::Repeat, Dress::Plain];
    dresses
        .into_iter()
        .zip(Values::ALL)
        .map(move |(dress, values)| (dress, lab.words_for(dress, values, setting.limbs(), setting.batch)))
}

fn mod_up<B: Backend>(lab: &Lab<B>, setting: Setting) -> Outcome {
    let mut plan = plan(lab, setting)?;
    for (dress, words) in inputs(lab, setting) {
        let input = lab.operand::<Evaluation>(dress, &words, true)?;
        let expected = extended(lab, setting, &words);
        for fused in [true, false] {
            if fused {
                lab.backend.mod_up(&lab.queue, &lab.tables, &mut plan, &input.view()?)?;
            } else {
                let parts = &mut plan.parts(setting.batch)?;
                switching::mod_up(&lab.backend, &lab.queue, &lab.tables, parts, &input.view()?)?;
            }
            let found = plan.extended()?;
            lab.ensure(found.len() == expected.len(), || format!("{} digits", found.len()))?;
            for (digit, (view, expected)) in found.iter().zip(&expected).enumerate() {
                lab.compare(
                    &format!("digit {digit}, {dress:?}, fused {fused}"),
                    expected,
                    &lab.download(view)?,
                )?;
            }
        }
        lab.untouched("input", &input)?;
    }
    Ok(())
}

/// A random key for all digits, with the limbs of the whole chain.
fn random_key<B: Backend>(lab: &Lab<B>, setting: Setting) -> Outcome<(Words, B::Prepared)> {
    let words = lab.words(Values::Random, lab.ring().limbs(), 2 * setting.digits().len());
    let poly: Poly<B, Evaluation> = lab.upload(&words)?;
    Ok((words, lab.backend.prepare(&lab.queue, &lab.tables, &poly.view())?))
}

/// The two sums over the digits, before the special primes are divided away.
fn sums<B: Backend>(lab: &Lab<B>, extended: &[Words], key: &Words) -> [Words; 2] {
    [0, 1].map(|component| {
        let Words { batch, limbs, degree, .. } = extended[0];
        Words::from_rows(batch, limbs, degree, |b, limb| {
            let q = lab.modulus(limb);
            let term = |k: usize, i: usize| {
                oracle::mul(extended[k].row(b, limb)[i], key.row(2 * k + component, limb)[i], q)
            };
            let sum = |i| (0..extended.len()).fold(0, |sum, k| oracle::add(sum, term(k, i), q));
            (0..degree).map(sum).collect()
        })
    })
}

fn gadget_product<B: Backend>(lab: &Lab<B>, setting: Setting) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (mut plan, (key_words, key)) = (plan(lab, setting)?, random_key(lab, setting)?);
    for (dress, words) in inputs(lab, setting) {
        let input = lab.operand::<Evaluation>(dress, &words, true)?;
        let expected = sums(lab, &extended(lab, setting, &words), &key_words);
        backend.mod_up(queue, tables, &mut plan, &input.view()?)?;
        for fused in [true, false] {
            if fused {
                backend.gadget_product(queue, tables, &mut plan, &key)?;
            } else {
                let parts = &mut plan.parts(setting.batch)?;
                switching::gadget_product(backend, queue, tables, parts, &key)?;
            }
            for (component, (view, expected)) in plan.sums()?.iter().zip(&expected).enumerate() {
                let what = format!("component {component}, {dress:?}, fused {fused}");
                lab.compare(&what, expected, &lab.download(view)?)?;
            }
        }
    }
    Ok(())
}

fn key_switch<B: Backend>(lab: &Lab<B>, setting: Setting) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (limbs, special, batch) = (setting.limbs(), setting.special(), setting.batch);
    let (mut plan, (key_words, key)) = (plan(lab, setting)?, random_key(lab, setting)?);
    for (round, (dress, words)) in inputs(lab, setting).enumerate() {
        let input = lab.operand::<Evaluation>(dress, &words, true)?;
        let sums = sums(lab, &extended(lab, setting, &words), &key_words);
        let [first, second] = sums.map(|sum| conversion::divided(lab, &sum, limbs, special));
        let expected = [first?, second?];
        for fused in [true, false] {
            let form = [Dress::Plain, Dress::Sub, Dress::Concat][round % 3];
            let mut out =
                [lab.output(form, limbs, batch, true)?, lab.output(Dress::Plain, limbs, batch, true)?];
            let [first, second] = &mut out;
            let (mut first, mut second) = (first.view_mut()?, second.view_mut()?);
            let views = [&mut first, &mut second];
            if fused {
                backend.key_switch(queue, tables, &mut plan, &key, views, &input.view()?)?;
            } else {
                let parts = &mut plan.parts(batch)?;
                switching::key_switch(backend, queue, tables, parts, &key, views, &input.view()?)?;
            }
            drop((first, second));
            for (component, (out, expected)) in out.iter().zip(&expected).enumerate() {
                lab.expect(&format!("component {component}, {dress:?}, fused {fused}"), out, expected)?;
            }
        }
    }
    Ok(())
}

/// An automorphism of a ciphertext, from its component and from digits in the plan, against its definition step by step.
fn automorphism<B: Backend>(lab: &Lab<B>, setting: Setting) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (limbs, batch) = (setting.limbs(), setting.batch);
    let (mut plan, (_, key)) = (plan(lab, setting)?, random_key(lab, setting)?);
    let upload = || lab.upload::<Evaluation>(&lab.words(Values::Random, limbs, batch));
    let (c0, d) = (upload()?, upload()?);
    for element in [5, 2 * lab.degree() - 1] {
        let [mut first, mut second] = [lab.fresh(limbs, batch)?, lab.fresh(limbs, batch)?];
        let [mut to_first, mut to_second] = [first.view_mut(), second.view_mut()];
        backend.key_switch(queue, tables, &mut plan, &key, [&mut to_first, &mut to_second], &d.view())?;
        backend.add(queue, tables, &mut to_first, Input::InPlace, &c0.view())?;
        drop((to_first, to_second));
        let expected = [map_automorphism(lab, &first, element)?, map_automorphism(lab, &second, element)?];
        for hoisted in [false, true] {
            if hoisted {
                backend.mod_up(queue, tables, &mut plan, &d.view())?;
            }
            let mut out =
                [lab.output(Dress::Sub, limbs, batch, true)?, lab.output(Dress::Plain, limbs, batch, true)?];
            let [to_first, to_second] = &mut out;
            let (mut to_first, mut to_second) = (to_first.view_mut()?, to_second.view_mut()?);
            let mut room = [lab.fresh(limbs, batch)?, lab.fresh(limbs, batch)?];
            let room = room.each_mut().map(Poly::view_mut);
            let image = Image { element, c0: c0.view(), d: (!hoisted).then(|| d.view()), room };
            let views = [&mut to_first, &mut to_second];
            backend.key_switch_automorphism(queue, tables, &mut plan, &key, views, image)?;
            drop((to_first, to_second));
            for (component, (out, expected)) in out.iter().zip(&expected).enumerate() {
                let what = format!("component {component}, X -> X^{element}, hoisted {hoisted}");
                lab.expect(&what, out, &lab.download(&expected.view())?)?;
            }
        }
    }
    Ok(())
}

/// With a noiseless key from s' to s, `out[0] + out[1] s - d s'` is nothing but what dividing by P rounds away: at most
/// `k/2` in a coefficient of each component, k being the number of special primes, and `N k/2` after multiplying by a
/// ternary s.
fn meaning<B: Backend>(lab: &Lab<B>, setting: Setting) -> Outcome {
    let Lab { backend, queue, tables, .. } = lab;
    let (limbs, all, batch) = (setting.limbs(), lab.ring().limbs(), setting.batch);
    let (old, new) = (ternary(lab), ternary(lab));
    let key_words = gadget_key(lab, setting, &old, &new);
    let key: Poly<B, Evaluation> = lab.upload(&key_words)?;
    let key = backend.prepare(queue, tables, &key.view())?;
    let mut plan = plan(lab, setting)?;

    let d = lab.words(Values::Random, limbs, batch);
    let input: Poly<B, Evaluation> = lab.upload(&d)?;
    let mut out: [Poly<B, Evaluation>; 2] = [lab.fresh(limbs, batch)?, lab.fresh(limbs, batch)?];
    let [first, second] = &mut out;
    let (mut first, mut second) = (first.view_mut(), second.view_mut());
    backend.key_switch(queue, tables, &mut plan, &key, [&mut first, &mut second], &input.view())?;
    drop((first, second));
    let [out0, out1] = [lab.download(&out[0].view())?, lab.download(&out[1].view())?];

    let error = Words::from_rows(batch, limbs, lab.degree(), |b, limb| {
        let (q, s, s_old) = (lab.modulus(limb), new.row(0, limb), old.row(0, limb));
        let at = |i: usize| {
            let decrypted = oracle::add(out0.row(b, limb)[i], oracle::mul(out1.row(b, limb)[i], s[i], q), q);
            oracle::sub(decrypted, oracle::mul(d.row(b, limb)[i], s_old[i], q), q)
        };
        (0..lab.degree()).map(at).collect()
    });
    let error = error.intt(lab.ring());
    let moduli = primes(lab.ring(), limbs);
    let bound = BigInt::from(setting.special().len() * (lab.degree() + 1)) / 2;
    lab.ensure(all.len() > limbs.len(), || "there is nothing to switch with".into())?;
    for b in 0..batch {
        for i in 0..lab.degree() {
            let e = oracle::compose_centred(&error.residues(b, i), &moduli);
            let within = e <= bound && -&e <= bound;
            lab.ensure(within, || format!("polynomial {b}, coefficient {i}: error {e} exceeds {bound}"))?;
        }
    }
    Ok(())
}

/// A uniform ternary polynomial, in the evaluation domain.
fn ternary<B: Backend>(lab: &Lab<B>) -> Words {
    let signs: Vec<i64> = (0..lab.degree()).map(|_| lab.below(3) as i64 - 1).collect();
    let words = Words::from_rows(1, lab.ring().limbs(), lab.degree(), |_, limb| {
        signs.iter().map(|&s| oracle::signed(s, lab.modulus(limb))).collect()
    });
    words.ntt(lab.ring())
}

/// Entry 2j is `P g_j s' - a_j s` and entry 2j + 1 is `a_j`, where the gadget `g_j` is 1 modulo the primes of digit j
/// and 0 modulo the others.
fn gadget_key<B: Backend>(lab: &Lab<B>, setting: Setting, old: &Words, new: &Words) -> Words {
    let (all, digits) = (lab.ring().limbs(), setting.digits());
    let masks = lab.words(Values::Random, all, digits.len());
    let p = oracle::product(&primes(lab.ring(), setting.special()));
    Words::from_rows(2 * digits.len(), all, lab.degree(), |entry, limb| {
        let (digit, a) = (digits[entry / 2], masks.row(entry / 2, limb));
        if entry % 2 == 1 {
            return a.to_vec();
        }
        let (q, s, s_old) = (lab.modulus(limb), new.row(0, limb), old.row(0, limb));
        let gadget = if digit.contains(limb) { oracle::residue(&p, q) } else { 0 };
        let at = |i| oracle::sub(oracle::mul(gadget, s_old[i], q), oracle::mul(a[i], s[i], q), q);
        (0..lab.degree()).map(at).collect()
    })
}
