//! Products and automorphisms: correct within derived bounds, and equal, bit for bit, where they have to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::{Evaluator, inner_sum_rotations};
use arras_ckks::fft::Complex;
use arras_ckks::keys::RELINEARISATION;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Params, Slots, SwitchingKey, Workspace};
use arras_cpu::Cpu;
use arras_rns::testkit::Opaque;
use arras_rns::{Backend, Input, KeySwitchPlan};
use arras_secret::{Cipher, SecretKey};

use support::*;

fn cipher<B: Backend>(context: &Context<B>) -> Cipher<'_, B> {
    Cipher::new(context, &SecretKey::generate(context.params()).unwrap()).unwrap()
}

fn keys<B: Backend>(
    cipher: &Cipher<'_, B>,
    slots: Slots,
    rotations: &[i64],
    level: usize,
) -> EvaluationKeys<B> {
    let mut elements = slots.elements(rotations.iter().copied()).unwrap();
    elements.push(slots.conjugation());
    let mut all = cipher.galois_keys(&elements, level).unwrap();
    all.push(cipher.relinearisation_key(level).unwrap());
    EvaluationKeys::from_keys(cipher.context(), &all).unwrap()
}

#[test]
fn rotations_and_conjugation_move_slots_and_add_the_predicted_noise() {
    for (set, params) in sets().into_iter().enumerate() {
        let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
        let cipher = cipher(&context);
        let top = params.max_level();
        for (generator, level) in [(5, top), (3, top), (5, top - 1), (5, 0)] {
            let encoder = SlotEncoder::new(params.degree(), generator).unwrap();
            let evaluator = Evaluator::with_slots(&context, encoder.group()).unwrap();
            let steps = [1, -1, 100, encoder.slots() as i64 - 1];
            // Keys made for the top serve every level below it.
            let keys = keys(&cipher, encoder.group(), &steps, top);
            let mut workspace = Workspace::new(&context, 0..=top, 2).unwrap();
            let z = slots(set as u64, 2 * encoder.slots());
            let sent = encrypt(&cipher, &encoder, &z, level);
            let bound = slot_bound(&params, FRESH + switching(&params, level), sent.scale);
            for steps in steps {
                let found = evaluator.rotate(&sent, steps, &keys, &mut workspace).unwrap();
                assert_eq!((found.level(), found.scale, found.batch()), (level, sent.scale, 2));
                let error = worst(&decrypt(&cipher, &encoder, &found), &rotated(&z, encoder.slots(), steps));
                // The bound is 22 standard deviations, and the worst of so many slots lies beyond one.
                let predicted = bound / 22.0..bound;
                assert!(
                    predicted.contains(&error),
                    "set {set}, level {level}, rotation {steps}: {error:e} {bound:e}"
                );
            }
            let found = evaluator.conjugate(&sent, &keys, &mut workspace).unwrap();
            let expected: Vec<_> = z.iter().map(|z| z.conjugate()).collect();
            let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
            assert!(error < bound, "set {set}, conjugation: {error:e} {bound:e}");
        }
    }
}

/// (x + e)(y + f) differs from xy by xf + ye + ef; switching adds at the scale of the product, rescaling at its own.
#[test]
fn products_relinearised_at_once_or_as_a_sum_are_as_precise_as_predicted() {
    for (set, params) in sets().into_iter().enumerate() {
        let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
        let (cipher, evaluator) = (cipher(&context), Evaluator::new(&context));
        let encoder = SlotEncoder::new(params.degree(), 5).unwrap();
        let top = params.max_level();
        let keys = keys(&cipher, encoder.group(), &[], top);
        let mut workspace = Workspace::new(&context, 0..=top, 2).unwrap();
        let [x, y] = [slots(1, 2 * encoder.slots()), slots(2, 2 * encoder.slots())];
        let [a, b] = [&x, &y].map(|z| encrypt(&cipher, &encoder, z, top));
        let product: Vec<_> = x.iter().zip(&y).map(|(&x, &y)| x * y).collect();

        let three = evaluator.multiply(&a, &b).unwrap();
        assert_eq!(three.components.len(), 3);
        let fresh = slot_bound(&params, FRESH, a.scale);
        let multiplied = 2.0 * fresh + fresh * fresh;
        assert!(worst(&decrypt(&cipher, &encoder, &three), &product) < multiplied, "set {set}");
        let two = evaluator.relinearise(&three, &keys, &mut workspace).unwrap();
        let switched = multiplied + slot_bound(&params, switching(&params, top), three.scale);
        let error = worst(&decrypt(&cipher, &encoder, &two), &product);
        assert!(two.components.len() == 2 && error < switched, "set {set}: {error:e} {switched:e}");
        let rescaled = evaluator.rescale_with(&two, &mut workspace).unwrap();
        assert_eq!(
            residues(&context, &rescaled),
            residues(&context, &evaluator.rescale(&two).unwrap()),
            "set {set}"
        );
        let bound = switched + slot_bound(&params, rounding(params.degree(), 1), rescaled.scale);
        let error = worst(&decrypt(&cipher, &encoder, &rescaled), &product);
        assert!(error < bound, "set {set}: {error:e} {bound:e}");

        // Lazily: xy + x^2 - y, one relinearisation for both products.
        let square = evaluator.square(&a).unwrap();
        let sum = evaluator.add(&three, &square).unwrap();
        let sum = evaluator.sub(&sum, &evaluator.multiply_scalar(&b, 1.0, a.scale).unwrap()).unwrap();
        let expected: Vec<_> = x.iter().zip(&y).map(|(&x, &y)| x * y + x * x - y).collect();
        let found = evaluator.relinearise(&sum, &keys, &mut workspace).unwrap();
        let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
        assert!(error < 2.5 * switched, "set {set}: {error:e}");
    }
}

/// The definition: the automorphism first, then a key switch with the key as it was sent.
fn by_definition<B: Backend>(
    context: &Context<B>,
    key: &SwitchingKey<B>,
    a: &Ciphertext<B>,
) -> Vec<Vec<u64>> {
    let (backend, queue, tables, params) =
        (context.backend(), context.queue(), context.tables(), context.params());
    let image = |component: usize| {
        let mut out = context.allocate(a.limbs(), a.batch()).unwrap();
        let input = a.components[component].view();
        backend.automorphism(queue, tables, &mut out.view_mut(), &input, key.element()).unwrap();
        out
    };
    let (c0, c1) = (image(0), image(1));
    let masks = key.masks(context).unwrap();
    let digits = 0..key.body().batch();
    let entries: Vec<_> =
        digits.flat_map(|i| [key.body(), &masks].map(|part| part.view().range(i..i + 1).unwrap())).collect();
    let entries = arras_rns::View::concat(&entries).unwrap();
    let prepared = backend.prepare(queue, tables, &entries).unwrap();
    let (digits, special) = (params.digit_limbs(), params.special_limbs());
    let mut plan =
        KeySwitchPlan::new(backend, queue, tables, a.limbs(), &digits, special, a.batch()).unwrap();
    let mut out = [(); 2].map(|()| context.allocate(a.limbs(), a.batch()).unwrap());
    let [first, second] = &mut out;
    let (mut first, mut second) = (first.view_mut(), second.view_mut());
    let views = [&mut first, &mut second];
    backend.key_switch(queue, tables, &mut plan, &prepared, views, &c1.view()).unwrap();
    backend.add(queue, tables, &mut first, Input::InPlace, &c0.view()).unwrap();
    drop((first, second));
    out.iter().map(|component| words(context, component)).collect()
}

fn hoisting_changes_nothing<B: Backend>(backend: B, params: Params) {
    let context = Context::new(backend, params.clone()).unwrap();
    let (cipher, evaluator) = (cipher(&context), Evaluator::new(&context));
    let encoder = SlotEncoder::new(params.degree(), 5).unwrap();
    let top = params.max_level();
    let steps = [3i64, 0, -7, 64];
    let elements = steps.map(|steps| evaluator.slots().element(steps).unwrap());
    let sent: Vec<_> = [0, 2, 3].map(|i| cipher.galois_key(elements[i], top).unwrap()).into();
    let keys = EvaluationKeys::from_keys(&context, &sent).unwrap();
    for level in [top, top - 1] {
        let mut workspace = Workspace::new(&context, level..=level, 3).unwrap();
        let a = encrypt(&cipher, &encoder, &slots(3, 2 * encoder.slots()), level);
        let hoisted = evaluator.rotate_hoisted(&a, &steps, &keys, &mut workspace).unwrap();
        assert_eq!(hoisted.len(), steps.len());
        for ((found, steps), element) in hoisted.iter().zip(steps).zip(elements) {
            let found = residues(&context, found);
            let single = evaluator.rotate(&a, steps, &keys, &mut workspace).unwrap();
            assert!(found == residues(&context, &single), "rotation {steps}");
            match sent.iter().find(|key| key.element() == element) {
                Some(key) => assert!(found == by_definition(&context, key, &a), "rotation {steps}"),
                None => assert!(found == residues(&context, &a), "rotation {steps}"),
            }
        }
    }
}

#[test]
fn hoisted_rotations_are_those_of_the_definition() {
    for params in sets() {
        hoisting_changes_nothing(Cpu::sequential(), params);
    }
}

#[test]
fn hoisted_rotations_are_those_of_the_definition_on_a_strict_backend() {
    for params in sets().into_iter().take(2) {
        hoisting_changes_nothing(Opaque::new(Cpu::sequential()), params);
    }
}

#[test]
fn a_batch_is_its_ciphertexts_one_by_one() {
    for params in sets() {
        let context = Context::new(Opaque::new(Cpu::sequential()), params.clone()).unwrap();
        let (cipher, evaluator) = (cipher(&context), Evaluator::new(&context));
        let encoder = SlotEncoder::new(params.degree(), 5).unwrap();
        let top = params.max_level();
        let keys = keys(&cipher, encoder.group(), &[9], top);
        let mut workspace = Workspace::new(&context, top..=top, 3).unwrap();
        let [a, b] = [4, 5].map(|seed| encrypt(&cipher, &encoder, &slots(seed, 3 * encoder.slots()), top));
        let mut all = |a: &Ciphertext<_>, b: &Ciphertext<_>| {
            let product = evaluator.multiply(a, b).unwrap();
            let product = evaluator.relinearise(&product, &keys, &mut workspace).unwrap();
            [
                evaluator.rescale_with(&product, &mut workspace).unwrap(),
                evaluator.rotate(a, 9, &keys, &mut workspace).unwrap(),
                evaluator.conjugate(b, &keys, &mut workspace).unwrap(),
            ]
        };
        let together = all(&a, &b);
        for index in 0..3 {
            let alone = all(&single(&context, &a, index), &single(&context, &b, index));
            for (together, alone) in together.iter().zip(&alone) {
                let expected = residues(&context, &single(&context, together, index));
                assert!(residues(&context, alone) == expected);
            }
        }
    }
}

#[test]
fn inner_sums_of_any_length() {
    let params = params(2048, &[50, 40], &[50], 2, 40);
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let (cipher, evaluator) = (cipher(&context), Evaluator::new(&context));
    let encoder = SlotEncoder::new(params.degree(), 5).unwrap();
    let z = slots(6, encoder.slots());
    let a = encrypt(&cipher, &encoder, &z, 1);
    let mut workspace = Workspace::new(&context, 1..=1, 1).unwrap();
    for (count, stride) in [(1, 1), (2, 3), (7, 1), (8, 5), (13, 20), (1024, 1)] {
        let rotations = inner_sum_rotations(count, stride);
        assert!(rotations.len() < 2 * count.ilog2() as usize + 1);
        let keys = keys(&cipher, encoder.group(), &rotations, 1);
        let found = evaluator.inner_sum(&a, count, stride, &keys, &mut workspace).unwrap();
        let slot = |j: usize| {
            (0..count).fold(Complex::default(), |sum, i| sum + z[(j + i * stride) % encoder.slots()])
        };
        let expected: Vec<_> = (0..encoder.slots()).map(slot).collect();
        // Noise of up to `count` ciphertexts, which are not independent: standard deviations add.
        let single = slot_bound(&params, FRESH + 2.0 * switching(&params, 1), a.scale);
        let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
        assert!(error < count as f64 * single, "{count} {stride}: {error:e}");
    }
    let keys = EvaluationKeys::new(&params);
    let message = |count, stride| {
        let mut workspace = Workspace::new(&context, 1..=1, 1).unwrap();
        evaluator.inner_sum(&a, count, stride, &keys, &mut workspace).unwrap_err().to_string()
    };
    assert_eq!(message(0, 1), "inner_sum: slots is 0, expected 1 or more");
    assert_eq!(message(1025, 1), "rotation by 1024 is beyond the 1024 slots");
    assert_eq!(message(3, usize::MAX), format!("rotation by {} is beyond the 1024 slots", i64::MAX));
}

#[test]
fn wrong_use_is_an_error_with_the_numbers() {
    let params = params(2048, &[50, 40, 40], &[50], 3, 40);
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let (cipher, evaluator) = (cipher(&context), Evaluator::new(&context));
    let encoder = SlotEncoder::new(params.degree(), 5).unwrap();
    let z = slots(7, encoder.slots());
    let [high, low] = [2, 0].map(|level| encrypt(&cipher, &encoder, &z, level));
    let two = encrypt(&cipher, &encoder, &slots(8, 2 * encoder.slots()), 2);
    let [one, relinearisation] = [5, RELINEARISATION].map(|element| match element {
        RELINEARISATION => cipher.relinearisation_key(1).unwrap(),
        _ => cipher.galois_key(element, 2).unwrap(),
    });
    let mut keys = EvaluationKeys::from_keys(&context, [&one, &relinearisation]).unwrap();
    assert_eq!(keys.elements().collect::<Vec<_>>(), [0, 5]);
    assert_eq!((keys.level(0), keys.level(5), keys.level(25)), (Some(1), Some(2), None));
    assert_eq!(keys.missing(&[0, 1, 5, 25], 2).collect::<Vec<_>>(), [0, 25]);
    let mut workspace = Workspace::new(&context, 1..=2, 1).unwrap();
    let mut rotate = |a, steps| evaluator.rotate(a, steps, &keys, &mut workspace).unwrap_err().to_string();
    let no_key =
        |element, meaning| format!("rotate: there is no key for the Galois element {element} ({meaning})");
    assert_eq!(rotate(&high, 2), no_key(25, "rotation by 2"));
    let element = evaluator.slots().element(-1).unwrap();
    assert_eq!(rotate(&high, -1), no_key(element, "rotation by 1023"));
    assert_eq!(rotate(&high, 1024), "rotation by 1024 is beyond the 1024 slots");
    assert_eq!(rotate(&low, 1), "rotate: the workspace serves levels 1 to 2, the ciphertext is at level 0");
    assert_eq!(rotate(&two, 1), "rotate: batch is 2, expected at most 1, that of the workspace");

    let product = evaluator.square(&high).unwrap();
    assert_eq!(rotate(&product, 1), "rotate: components is 3, expected 2");
    let mut workspace = Workspace::new(&context, 1..=2, 1).unwrap();
    let mut message = |a| evaluator.relinearise(a, &keys, &mut workspace).unwrap_err().to_string();
    assert_eq!(
        message(&product),
        "relinearise: the key of element 0 ends at level 1, the ciphertext is at level 2"
    );
    assert_eq!(message(&high), "relinearise: components is 2, expected 3");
    assert!(keys.remove(RELINEARISATION) && !keys.remove(RELINEARISATION));
    let mut message = |a| evaluator.relinearise(a, &keys, &mut workspace).unwrap_err().to_string();
    assert_eq!(message(&product), "relinearise: there is no relinearisation key");

    let error = evaluator.conjugate(&high, &keys, &mut workspace).unwrap_err().to_string();
    assert_eq!(error, "conjugate: there is no key for the Galois element 4095 (conjugation)");
    let error = evaluator.automorphism(&high, 4095 - 4, &keys, &mut workspace).unwrap_err().to_string();
    assert!(error.ends_with("(conjugation and rotation by 1)"), "{error}");
    for element in [0, 2, 4097] {
        let error = evaluator.automorphism(&high, element, &keys, &mut workspace).unwrap_err().to_string();
        assert!(error.ends_with("expected odd and below 4096"), "{error}");
    }
    let error = |result: arras_ckks::Result<Ciphertext<Cpu>>| result.unwrap_err().to_string();
    assert_eq!(
        error(evaluator.multiply(&high, &low)),
        "multiply: levels 2 and 0 differ; drop the higher one first"
    );
    assert_eq!(error(evaluator.multiply(&product, &high)), "multiply: components is 3, expected 2");
    assert_eq!(error(evaluator.multiply(&high, &two)), "multiply: batch is 2, expected 1");
    assert_eq!(
        error(evaluator.square(&low)),
        "multiply: a scale of 2^80.0 does not fit a modulus of 50.0 bits"
    );
    assert!(error(evaluator.add(&product, &high)).starts_with("add: scales 2^80.000 and 2^40.000"));
    assert_eq!(error(evaluator.rescale(&low)), "rescale: needs level 1, the ciphertext is at level 0");
    assert_eq!(
        error(evaluator.rescale_with(&low, &mut Workspace::new(&context, 0..=0, 1).unwrap())),
        "rescale: needs level 1, the ciphertext is at level 0"
    );
}

#[test]
fn other_parameter_sets_are_refused() {
    let ours = params(2048, &[50, 40], &[50], 2, 40);
    let theirs = params(2048, &[50, 40], &[50], 2, 39);
    let contexts = [&ours, &theirs].map(|p| Context::new(Cpu::sequential(), p.clone()).unwrap());
    let ciphers = [cipher(&contexts[0]), cipher(&contexts[1])];
    let [ours, theirs] = [&ours, &theirs].map(|params| params.fingerprint());
    let expected =
        |operation, what| format!("{operation}: the {what} belongs to parameters {theirs}, expected {ours}");
    let key = ciphers[1].galois_key(5, 1).unwrap();
    let error = EvaluationKeys::from_keys(&contexts[0], [&key]).unwrap_err().to_string();
    assert_eq!(error, expected("evaluation keys", "key"));
    let error = arras_ckks::bytes::encode_switching_key(&contexts[0], &key).unwrap_err().to_string();
    assert_eq!(error, expected("encode", "key"));

    let encoder = SlotEncoder::new(2048, 5).unwrap();
    let a = encrypt(&ciphers[0], &encoder, &slots(9, 1024), 1);
    let evaluator = Evaluator::new(&contexts[0]);
    let foreign = EvaluationKeys::from_keys(&contexts[1], [&key]).unwrap();
    let mut workspace = Workspace::new(&contexts[0], 1..=1, 1).unwrap();
    let error = evaluator.rotate(&a, 1, &foreign, &mut workspace).unwrap_err().to_string();
    assert_eq!(error, expected("rotate", "set of evaluation keys"));
    let key = ciphers[0].galois_key(5, 1).unwrap();
    let keys = EvaluationKeys::from_keys(&contexts[0], [&key]).unwrap();
    let mut foreign = Workspace::new(&contexts[1], 1..=1, 1).unwrap();
    let error = evaluator.rotate(&a, 1, &keys, &mut foreign).unwrap_err().to_string();
    assert_eq!(error, expected("rotate", "workspace"));
    assert!(Evaluator::with_slots(&contexts[0], Slots::new(4096, 5).unwrap()).is_err());

    // No key without special primes, for a level that is not there, or for an even element.
    let plain = Context::new(Cpu::sequential(), params(2048, &[50, 40], &[], 2, 40)).unwrap();
    let error = cipher(&plain).relinearisation_key(1).unwrap_err().to_string();
    assert_eq!(error, "parameters: special is empty: there can be no evaluation keys");
    assert!(Workspace::new(&plain, 0..=1, 1).is_err());
    let error = ciphers[0].galois_key(5, 2).unwrap_err().to_string();
    assert_eq!(error, "switching key: needs level 2, the ciphertext is at level 1");
    assert!(Workspace::new(&contexts[0], 0..=2, 1).is_err());
    assert!([0, 2, 4096, 4097].iter().all(|&element| ciphers[0].galois_key(element, 1).is_err()));
}
