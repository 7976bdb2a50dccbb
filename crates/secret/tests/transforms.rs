//! Linear transforms, polynomials and chains of products, within derived bounds.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::{BabyGiant, Basis, Evaluator, LinearTransform, Polynomial};
use arras_ckks::fft::Complex;
use arras_ckks::{Context, EvaluationKeys, Params, Workspace};
use arras_cpu::Cpu;
use arras_rns::Backend;
use arras_rns::testkit::Opaque;
use arras_secret::{Cipher, SecretKey};

use support::*;

fn cipher<B: Backend>(context: &Context<B>) -> Cipher<'_, B> {
    Cipher::new(context, &SecretKey::generate(context.params()).unwrap()).unwrap()
}

/// Offsets, which are taken modulo the slots, and the number of baby steps.
type Shape = (Vec<i64>, Option<usize>);

fn shapes() -> Vec<Shape> {
    vec![
        (vec![0], None),
        (vec![5], None),
        ((0..16).collect(), None),
        ((0..16).collect(), Some(4)),
        ((-7..8).collect(), None),
        ((0..9).map(|d| d * 100).collect(), Some(300)),
        (vec![-1, 0, 1, 511], Some(1)),
    ]
}

/// Every diagonal entry multiplies an input with its noise; rounding the diagonals adds theirs; every giant step and
/// every baby step switches keys, the latter before the diagonal multiplies.
fn matrices_times_vectors<B: Backend>(backend: B, params: Params, level: usize) {
    let context = Context::new(backend, params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(params.degree(), 3).unwrap());
    let evaluator = Evaluator::with_slots(&context, encoder.group()).unwrap();
    let (count, top) = (encoder.slots(), params.max_level());
    let x = slots(1, 2 * count);
    let a = encrypt(&cipher, &encoder, &x, level);
    let mut workspace = Workspace::new(&context, level..=level, 2).unwrap();
    let scale = params.ring().modulus(level).value() as f64;
    for (offsets, babies) in shapes() {
        let diagonals: BTreeMap<i64, Vec<Complex>> =
            offsets.iter().map(|&offset| (offset, slots(offset as u64, count))).collect();
        let matrix = LinearTransform::new(&context, &encoder, &diagonals, scale, top, babies).unwrap();
        let rotations = BabyGiant::new(count, offsets.iter().copied(), babies).unwrap().rotations();
        assert_eq!(rotations, matrix.plan().rotations());
        let elements = encoder.group().elements(rotations).unwrap();
        let sent = cipher.galois_keys(&elements, top).unwrap();
        let mut keys = EvaluationKeys::from_keys(&context, &sent).unwrap();
        let found = evaluator.transform(&a, &matrix, &keys, &mut workspace).unwrap();
        let expected: Vec<Complex> = x
            .chunks(count)
            .flat_map(|x| {
                (0..count).map(|j| {
                    let term = |(offset, diagonal): (&i64, &Vec<Complex>)| {
                        diagonal[j] * x[(j as i64 + offset).rem_euclid(count as i64) as usize]
                    };
                    diagonals.iter().map(term).fold(Complex::default(), |sum, term| sum + term)
                })
            })
            .collect();
        let switching = switching(&params, level);
        let term = slot_bound(&params, FRESH + switching, a.scale) + slot_bound(&params, 1.0 / 12.0, scale);
        let giants = matrix.plan().giants().len() as f64;
        let bound = offsets.len() as f64 * term
            + giants * slot_bound(&params, 2.0 * switching, found.scale)
            + slot_bound(&params, rounding(params.degree(), params.special_limbs().len()), found.scale);
        let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
        assert!(error < bound, "{offsets:?} {babies:?}: {error:e} {bound:e}");
        assert!(error > bound / 1e4, "the bound says nothing: {error:e} {bound:e}");
        let rescaled = evaluator.rescale(&found).unwrap();
        assert!((rescaled.scale / a.scale - 1.0).abs() < 1e-12);

        if let Some(&element) = elements.last() {
            keys.remove(element);
            let error = evaluator.transform(&a, &matrix, &keys, &mut workspace).unwrap_err().to_string();
            let steps = encoder.group().rotation(element).unwrap();
            let expected = format!("no key for the Galois element {element} (rotation by {steps})");
            assert!(error.starts_with("linear transform") && error.contains(&expected), "{error}");
        }
    }
}

#[test]
fn linear_transforms() {
    for params in sets() {
        for level in [params.max_level(), 1] {
            matrices_times_vectors(Cpu::sequential(), params.clone(), level);
        }
    }
}

#[test]
fn linear_transforms_on_a_strict_backend() {
    matrices_times_vectors(Opaque::new(Cpu::sequential()), sets().swap_remove(1), 3);
}

#[test]
fn steps_follow_from_the_offsets() {
    let plan = BabyGiant::new(1024, 0..64, None).unwrap();
    assert_eq!((plan.babies().len(), plan.giants().len()), (8, 8));
    assert_eq!(plan.rotations().len(), 14);
    // A few far diagonals are cheaper one by one than as giant steps.
    let plan = BabyGiant::new(1024, [0, 100, 200], None).unwrap();
    assert_eq!(plan.giants(), [0]);
    assert!(BabyGiant::new(1024, [], None).is_err() && BabyGiant::new(1024, [1], Some(0)).is_err());

    let params = params(2048, &[50, 40], &[50], 2, 40);
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(2048, 5).unwrap());
    let diagonals = BTreeMap::from([(0, slots(1, 1024))]);
    let new = |encoder, diagonals, scale, level| {
        LinearTransform::new(&context, encoder, diagonals, scale, level, None)
    };
    let short = BTreeMap::from([(0, slots(1, 1023))]);
    let error = new(&encoder, &short, 1e12, 1).unwrap_err().to_string();
    assert_eq!(error, "linear transform: values of a diagonal is 1023, expected 1024");
    let evaluator = Evaluator::new(&context);
    let mut workspace = Workspace::new(&context, 1..=1, 1).unwrap();
    let keys = EvaluationKeys::new(&params);
    let a = encrypt(&cipher, &encoder, &slots(2, 1024), 1);
    let mut message =
        |matrix| evaluator.transform(&a, &matrix, &keys, &mut workspace).unwrap_err().to_string();
    let low = new(&encoder, &diagonals, 1024.0, 0).unwrap();
    assert_eq!(message(low), "linear transform: levels 1 and 0 differ; drop the higher one first");
    let seal = SlotEncoder::new(2048, 3).unwrap();
    let other = new(&seal, &diagonals, 1024.0, 1).unwrap();
    assert_eq!(message(other), "linear transform: the generator of the matrix is 3, expected 5");
    let large = new(&encoder, &diagonals, 2f64.powi(55), 1).unwrap();
    assert!(message(large).contains("a scale of 2^95.0 does not fit a modulus of 90.0 bits"));
}

/// Seven primes near the scale of 2^45.
fn deep() -> Params {
    params(2048, &[55, 45, 45, 45, 45, 45, 45], &[55], 7, 45)
}

fn relinearisation<B: Backend>(cipher: &Cipher<'_, B>) -> EvaluationKeys<B> {
    let key = cipher.relinearisation_key(cipher.context().params().max_level()).unwrap();
    EvaluationKeys::from_keys(cipher.context(), [&key]).unwrap()
}

/// Let x be at most 1 and E bound its error, that of one product (switching, rescaling) included. Powers: an error of
/// kE in x^k. Chebyshev: E grows like T_k does, by k^2 (Markov). Each is weighted with its coefficient, and products of the
/// at most 6 levels of the recursion add E each, weighted with all of the coefficients.
fn polynomial_bound(params: &Params, p: &Polynomial) -> f64 {
    let variance = FRESH + switching(params, params.max_level()) + rounding(params.degree(), 1);
    let unit = slot_bound(params, variance, params.scale());
    let weight = |k: usize| match p.basis() {
        Basis::Power => k as f64,
        Basis::Chebyshev { .. } => (k * k) as f64,
    };
    let terms = p.coefficients().iter().enumerate();
    2.0 * unit * terms.map(|(k, c)| c.abs() * (weight(k) + 6.0)).sum::<f64>() + 4.0 * unit
}

fn polynomials_of_slots<B: Backend>(backend: B, degrees: &[usize]) {
    let params = deep();
    let context = Context::new(backend, params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(params.degree(), 5).unwrap());
    let (evaluator, keys, top) = (Evaluator::new(&context), relinearisation(&cipher), params.max_level());
    let mut workspace = Workspace::new(&context, 0..=top, 2).unwrap();
    let [shift, width] = [2.0, 3.0];
    for &degree in degrees {
        let coefficients: Vec<f64> = slots(degree as u64, degree + 1).iter().map(|z| z.re).collect();
        for basis in [
            Basis::Power,
            Basis::Chebyshev { from: -1.0, to: 1.0 },
            Basis::Chebyshev { from: shift - width, to: shift + width },
        ] {
            let p = Polynomial::new(basis, coefficients.clone()).unwrap();
            let mapped = matches!(basis, Basis::Chebyshev { to, .. } if to != 1.0);
            let x: Vec<_> = slots(3, 2 * encoder.slots())
                .iter()
                .map(|z| Complex::new(if mapped { shift + width * z.re } else { z.re }, 0.0))
                .collect();
            let a = encrypt(&cipher, &encoder, &x, top);
            let found = evaluator.evaluate(&a, &p, &keys, &mut workspace).unwrap();
            assert_eq!(found.level(), top - p.levels_needed(), "{p:?}");
            assert!((found.scale / a.scale - 1.0).abs() < 1e-12);
            let expected: Vec<_> = x.iter().map(|x| Complex::new(p.value(x.re), 0.0)).collect();
            let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
            let bound = polynomial_bound(&params, &p);
            assert!(error < bound && bound < 1e-5, "{degree} {basis:?}: {error:e} {bound:e}");
        }
    }
}

#[test]
fn polynomials() {
    polynomials_of_slots(Cpu::sequential(), &[0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 31]);
}

#[test]
fn polynomials_on_a_strict_backend() {
    polynomials_of_slots(Opaque::new(Cpu::sequential()), &[1, 6, 13]);
}

#[test]
fn sparse_polynomials_and_functions() {
    let params = deep();
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(params.degree(), 5).unwrap());
    let (evaluator, keys, top) = (Evaluator::new(&context), relinearisation(&cipher), params.max_level());
    let mut workspace = Workspace::new(&context, 0..=top, 1).unwrap();
    let x: Vec<_> = slots(4, encoder.slots()).iter().map(|z| Complex::new(z.re, 0.0)).collect();
    let a = encrypt(&cipher, &encoder, &x, top);
    let mut sixteen = vec![0.0; 17];
    (sixteen[16], sixteen[0]) = (1.0, 0.5);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for p in [
        Polynomial::new(Basis::Power, sixteen.clone()).unwrap(),
        Polynomial::new(Basis::Chebyshev { from: -1.0, to: 1.0 }, sixteen).unwrap(),
        Polynomial::new(Basis::Power, vec![0.0]).unwrap(),
        Polynomial::new(Basis::Power, vec![0.0, 0.0, 3.0, 0.0, 0.0, 1.0]).unwrap(),
        Polynomial::interpolate(sigmoid, 15, -1.0, 1.0).unwrap(),
    ] {
        let found = evaluator.evaluate(&a, &p, &keys, &mut workspace).unwrap();
        let expected: Vec<_> = x.iter().map(|x| Complex::new(p.value(x.re), 0.0)).collect();
        let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
        assert!(error < polynomial_bound(&params, &p), "{p:?}: {error:e}");
    }
}

#[test]
fn polynomials_are_refused_before_they_run() {
    let params = deep();
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(params.degree(), 5).unwrap());
    let (evaluator, keys) = (Evaluator::new(&context), relinearisation(&cipher));
    let a = encrypt(&cipher, &encoder, &slots(5, encoder.slots()), 3);
    let cubic = Polynomial::new(Basis::Power, vec![1.0; 9]).unwrap();
    let message = |p: &Polynomial, keys, levels| {
        let mut workspace = Workspace::new(&context, levels, 1).unwrap();
        evaluator.evaluate(&a, p, keys, &mut workspace).unwrap_err().to_string()
    };
    assert_eq!(message(&cubic, &keys, 0..=3), "polynomial: needs level 4, the ciphertext is at level 3");
    let quadratic = Polynomial::new(Basis::Power, vec![1.0; 3]).unwrap();
    let none = EvaluationKeys::new(&params);
    assert_eq!(message(&quadratic, &none, 0..=3), "polynomial: there is no relinearisation key");
    assert_eq!(
        message(&quadratic, &keys, 3..=3),
        "polynomial: the workspace serves levels 3 to 3, the ciphertext is at level 2"
    );
    let error = evaluator.add_scalar(&a, f64::INFINITY).unwrap_err().to_string();
    assert!(error.starts_with("add_scalar: value 0 is inf"), "{error}");
}

/// Squares of squares, x^(2^k): the error of a square is twice that of its root times the root, and what switching and
/// rescaling add.
#[test]
fn a_chain_of_squares_keeps_its_predicted_precision() {
    let params = deep();
    let context = Context::new(Cpu::sequential(), params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(params.degree(), 5).unwrap());
    let (evaluator, keys, top) = (Evaluator::new(&context), relinearisation(&cipher), params.max_level());
    let mut workspace = Workspace::new(&context, 0..=top, 1).unwrap();
    // On the unit circle, where nothing fades.
    let mut x: Vec<_> = (0..encoder.slots()).map(|i| Complex::unit(i * 37 % 4096, 4096)).collect();
    let mut a = encrypt(&cipher, &encoder, &x, top);
    let mut bound = slot_bound(&params, FRESH, a.scale);
    for level in (1..=top).rev() {
        let square = evaluator.square(&a).unwrap();
        let square = evaluator.relinearise(&square, &keys, &mut workspace).unwrap();
        let next = evaluator.rescale_with(&square, &mut workspace).unwrap();
        bound = 2.0 * bound
            + bound * bound
            + slot_bound(&params, switching(&params, level), square.scale)
            + slot_bound(&params, rounding(params.degree(), 1), next.scale);
        (a, x) = (next, x.iter().map(|&x| x * x).collect());
        let error = worst(&decrypt(&cipher, &encoder, &a), &x);
        assert!(error < bound && error > bound / 256.0, "level {level}: {error:e} {bound:e}");
    }
    // Six squarings lose six bits, and the noise of the first steps weighs most.
    assert!(bound < 2f64.powi(-23), "{bound:e}");
    assert!(evaluator.square(&a).is_err());
}

fn rotations_are_summed<B: Backend>(backend: B, params: Params, level: usize) {
    let context = Context::new(backend, params.clone()).unwrap();
    let (cipher, encoder) = (cipher(&context), SlotEncoder::new(params.degree(), 5).unwrap());
    let evaluator = Evaluator::new(&context);
    let count = encoder.slots();
    let x = slots(2, 2 * count);
    let a = encrypt(&cipher, &encoder, &x, level);
    let mut workspace = Workspace::new(&context, level..=level, 2).unwrap();
    let all = [0, 1, 8, -3, 500];
    let elements = encoder.group().elements(all).unwrap();
    let mut keys =
        EvaluationKeys::from_keys(&context, &cipher.galois_keys(&elements, level).unwrap()).unwrap();
    for steps in [&all[..], &[0], &[8, 8], &[]] {
        let found = evaluator.sum_of_rotations(&a, steps, &keys, &mut workspace).unwrap();
        let expected = steps.iter().fold(vec![Complex::default(); x.len()], |sum, &step| {
            sum.into_iter().zip(rotated(&x, count, step)).map(|(a, b)| a + b).collect()
        });
        let terms = steps.len() as f64 + 1.0;
        let bound = terms * slot_bound(&params, FRESH + 2.0 * switching(&params, level), a.scale);
        let error = worst(&decrypt(&cipher, &encoder, &found), &expected);
        assert!(error < bound, "{steps:?}: {error:e} {bound:e}");
    }
    // One rotation is that of the definition, bit for bit: dividing commutes with what is a multiple of P.
    let alone = evaluator.sum_of_rotations(&a, &[-3], &keys, &mut workspace).unwrap();
    let rotation = evaluator.rotate(&a, -3, &keys, &mut workspace).unwrap();
    assert!(residues(&context, &alone) == residues(&context, &rotation));
    keys.remove(encoder.group().element(8).unwrap());
    let error = evaluator.sum_of_rotations(&a, &all, &keys, &mut workspace).unwrap_err().to_string();
    assert!(
        error.contains("sum of rotations: there is no key") && error.contains("rotation by 8"),
        "{error}"
    );
    let error = evaluator.sum_of_rotations(&a, &[1, count as i64], &keys, &mut workspace).unwrap_err();
    assert_eq!(error.to_string(), format!("rotation by {count} is beyond the {count} slots"));
}

#[test]
fn sums_of_rotations() {
    for params in sets() {
        rotations_are_summed(Cpu::sequential(), params.clone(), params.max_level() - 1);
    }
}

#[test]
fn sums_of_rotations_on_a_strict_backend() {
    rotations_are_summed(Opaque::new(Cpu::sequential()), params(2048, &[50, 40, 40], &[50], 3, 40), 2);
}
