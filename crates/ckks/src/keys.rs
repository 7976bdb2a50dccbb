//! Keys that switch a ciphertext from one secret to another: for products and for automorphisms.
//!
//! A [`SwitchingKey`] is what travels: its masks are the expansion of a seed. [`EvaluationKeys`] hold keys prepared for a
//! backend, one by one, and say which are there. `docs/evaluator.md` has the formulas.

use std::collections::BTreeMap;

use arras_rns::backend::Backend;
use arras_rns::{Evaluation, Poly, Purpose, Seed, SeedLabel};
use arras_wire::frame::Fingerprint;

use crate::slots::inverse_element;
use crate::{Context, Error, Params, Result, Slots};

/// The element under which a relinearisation key is kept.
pub const RELINEARISATION: usize = 0;

/// A gadget encryption of another secret s' under s, as it is made and sent: digit i is
/// `(P g_i s' + e_i - a_i s, a_i)`, where `g_i` is 1 modulo the primes of digit i and 0 modulo the others. For Galois
/// element g, s' is `s(X^g)`; for relinearisation it is `s^2`.
///
/// ```
/// use arras_ckks::bytes::{decode_switching_key, encode_switching_key};
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
///
/// # let q = arras_rns::prime::ntt_primes(45, 64, 4, &[])?;
/// # let (moduli, special) = (q[1..].to_vec(), vec![q[0]]);
/// # let spec = Spec { degree: 64, moduli, special, digits: 3, scale_bits: 40, security: Security::Unchecked };
/// # let context = Context::new(Cpu::sequential(), Params::insecure(spec)?)?;
/// # let secret = SecretKey::generate(context.params())?;
/// # let cipher = Cipher::new(&context, &secret)?;
/// // For X -> X^5, up to level 1: a polynomial for each of two digits, over two primes and the special one.
/// let key = cipher.galois_key(5, 1)?;
/// assert_eq!((key.element(), key.level()), (5, 1));
/// assert_eq!((key.body().batch(), key.body().limbs().len()), (2, 3));
///
/// let bytes = encode_switching_key(&context, &key)?;
/// let received = decode_switching_key(&context, &bytes)?;
/// assert_eq!((received.element(), received.seed()), (5, key.seed()));
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct SwitchingKey<B: Backend> {
    fingerprint: Fingerprint,
    element: usize,
    level: usize,
    seed: Seed,
    body: Poly<B, Evaluation>,
}

impl<B: Backend> SwitchingKey<B> {
    /// A key from its parts: the polynomials `P g_i s' + e_i - a_i s`, one per digit, over the primes of `level` and the
    /// special ones; `a_i` is the expansion of label i of [`labels`](Self::labels).
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Error::Count`] or [`Error::Ring`] if the polynomials have another shape.
    pub fn new(
        params: &Params,
        element: usize,
        level: usize,
        seed: Seed,
        body: Poly<B, Evaluation>,
    ) -> Result<Self> {
        Self::check(params, element, level)?;
        check_digits(params, level, &body)?;
        Ok(Self { fingerprint: params.fingerprint(), element, level, seed, body })
    }

    /// Whether there can be such a key.
    ///
    /// # Errors
    /// [`Error::Count`] if the element is neither 0 nor odd and below 2N; [`Error::LevelsExhausted`] if there is no such
    /// level; [`Error::Params`] if there are no special primes.
    pub fn check(params: &Params, element: usize, level: usize) -> Result<()> {
        check_element(params, element)?;
        if level > params.max_level() {
            let (needed, level) = (level, params.max_level());
            return Err(Error::LevelsExhausted { operation: "switching key", needed, level });
        }
        if params.special_limbs().is_empty() {
            let problem = "is empty: there can be no evaluation keys".into();
            return Err(Error::Params { field: "special", problem });
        }
        Ok(())
    }

    /// The Galois element, [`RELINEARISATION`] if it is the relinearisation key.
    pub fn element(&self) -> usize {
        self.element
    }

    /// The highest level at which it can be used.
    pub fn level(&self) -> usize {
        self.level
    }

    /// The fingerprint of its parameters.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The public seed of the masks.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// One polynomial per digit.
    pub fn body(&self) -> &Poly<B, Evaluation> {
        &self.body
    }

    /// The labels that the masks are expanded from, one per digit.
    pub fn labels(&self) -> Vec<SeedLabel> {
        mask_labels(self.seed, self.element, self.body.batch())
    }

    /// The masks, one polynomial per digit.
    ///
    /// # Errors
    /// [`Error::Ring`] if the device fails.
    pub fn masks(&self, context: &Context<B>) -> Result<Poly<B, Evaluation>> {
        let mut masks = context.allocate(self.body.limbs(), self.body.batch())?;
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        backend.expand_seed(queue, tables, &mut masks.view_mut(), &self.labels())?;
        Ok(masks)
    }
}

/// A key as products want it, entries `2 digit + component`. That of element g is permuted by `X -> X^(1/g)`, so that the
/// automorphism can be applied once to the result in place of every digit.
fn prepare<B: Backend>(
    context: &Context<B>,
    element: usize,
    body: &Poly<B, Evaluation>,
    masks: &Poly<B, Evaluation>,
) -> Result<B::Prepared> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut entries = context.allocate(body.limbs(), 2 * body.batch())?;
    for digit in 0..body.batch() {
        for (component, part) in [body, masks].into_iter().enumerate() {
            let (at, part) = (2 * digit + component, part.view().range(digit..digit + 1)?);
            let mut entry = entries.view_mut().range(at..at + 1)?;
            if element == RELINEARISATION {
                backend.copy(queue, &mut entry, &part)?;
            } else {
                let inverse = inverse_element(element, context.params().degree());
                backend.automorphism(queue, tables, &mut entry, &part, inverse)?;
            }
        }
    }
    Ok(backend.prepare(queue, tables, &entries.view())?)
}

/// One polynomial per digit, over the primes of `level` and the special ones.
fn check_digits<B: Backend>(params: &Params, level: usize, part: &Poly<B, Evaluation>) -> Result<()> {
    const OPERATION: &str = "switching key";
    let (found, expected) =
        ((part.limbs(), part.extent().degree), (params.key_limbs(level), params.degree()));
    if found != expected {
        return Err(arras_rns::Error::shape(OPERATION, "limbs and degree", found, expected).into());
    }
    let (found, digits) = (part.batch(), params.digits_at(level).len());
    if found == digits {
        return Ok(());
    }
    Err(Error::Count { operation: OPERATION, what: "digits", found, expected: digits.to_string() })
}

/// 0, or odd and below 2N.
pub(crate) fn check_element(params: &Params, element: usize) -> Result<()> {
    let end = 2 * params.degree();
    if element == RELINEARISATION || (element < end && !element.is_multiple_of(2)) {
        return Ok(());
    }
    let expected = format!("0, or odd and below {end}");
    Err(Error::Count { operation: "switching key", what: "the Galois element", found: element, expected })
}

/// The labels of the masks of a key: purpose evaluation key, object the element, polynomial the digit.
pub fn mask_labels(seed: Seed, element: usize, digits: usize) -> Vec<SeedLabel> {
    let label =
        |polynomial| SeedLabel { seed, purpose: Purpose::EvaluationKey, object: element as u64, polynomial };
    (0..digits as u32).map(label).collect()
}

/// Keys of one parameter set, prepared for a backend. Each is added by itself.
///
/// ```
/// use arras_ckks::evaluator::Evaluator;
/// use arras_ckks::{EvaluationKeys, Workspace};
/// # use arras_ckks::Slots;
/// # use arras_ckks::encoder::SlotEncoder;
/// # use arras_ckks::fft::Complex;
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
///
/// # let q = arras_rns::prime::ntt_primes(45, 64, 4, &[])?;
/// # let (moduli, special) = (q[1..].to_vec(), vec![q[0]]);
/// # let spec = Spec { degree: 64, moduli, special, digits: 3, scale_bits: 40, security: Security::Unchecked };
/// # let context = Context::new(Cpu::sequential(), Params::insecure(spec)?)?;
/// # let secret = SecretKey::generate(context.params())?;
/// # let cipher = Cipher::new(&context, &secret)?;
/// # let (encoder, scale) = (SlotEncoder::new(64, Slots::GENERATOR)?, context.params().scale());
/// # let numbers: Vec<Complex> = (0..32).map(|j| Complex::new(f64::from(j), 0.0)).collect();
/// # let x = cipher.encrypt(&encoder.encode(&context, &numbers, 32, scale, 2)?)?;
/// let evaluator = Evaluator::new(&context);
/// let by_one = evaluator.slots().element(1)?;
/// let keys = EvaluationKeys::from_keys(&context, &cipher.galois_keys(&[by_one], 2)?)?;
/// let mut workspace = Workspace::new(&context, 2..=2, 1)?;
/// // `x` encrypts j in slot j.
/// let turned = evaluator.rotate(&x, 1, &keys, &mut workspace)?;
/// let decrypted = encoder.decode(&context, &cipher.decrypt(&turned)?)?;
/// assert!((decrypted[3].re - 4.0).abs() < 1e-6);
///
/// let refused = evaluator.rotate(&x, 2, &keys, &mut workspace).unwrap_err();
/// assert!(refused.to_string().ends_with("no key for the Galois element 25 (rotation by 2)"));
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct EvaluationKeys<B: Backend> {
    params: Params,
    keys: BTreeMap<usize, Key<B>>,
}

#[derive(Debug)]
struct Key<B: Backend> {
    level: usize,
    prepared: B::Prepared,
}

impl<B: Backend> EvaluationKeys<B> {
    /// No keys yet.
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), keys: BTreeMap::new() }
    }

    /// Several keys.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn from_keys<'k>(
        context: &Context<B>,
        keys: impl IntoIterator<Item = &'k SwitchingKey<B>>,
    ) -> Result<Self> {
        let mut all = Self::new(context.params());
        keys.into_iter().try_for_each(|key| all.insert(context, key))?;
        Ok(all)
    }

    /// Expands the masks of a key and prepares it; replaces the key of the same element, if there is one.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the key or the context belongs to other parameters, [`Error::Ring`] if the device fails.
    pub fn insert(&mut self, context: &Context<B>, key: &SwitchingKey<B>) -> Result<()> {
        let expected = self.params.fingerprint();
        same_parameters("evaluation keys", "key", key.fingerprint, expected)?;
        same_parameters("evaluation keys", "context", context.params().fingerprint(), expected)?;
        let prepared = prepare(context, key.element, &key.body, &key.masks(context)?)?;
        self.keys.insert(key.element, Key { level: key.level, prepared });
        Ok(())
    }

    /// Prepares a key whose masks are no expansion of a seed, such as one that another library made: the polynomials
    /// `P g_i s' + e_i - a_i s` and `a_i`, one per digit, over the primes of `level` and the special ones. Replaces the key
    /// of the same element, if there is one.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the context belongs to other parameters; otherwise as [`SwitchingKey::new`].
    pub fn insert_unseeded(
        &mut self,
        context: &Context<B>,
        element: usize,
        level: usize,
        body: &Poly<B, Evaluation>,
        masks: &Poly<B, Evaluation>,
    ) -> Result<()> {
        let (found, expected) = (context.params().fingerprint(), self.params.fingerprint());
        same_parameters("evaluation keys", "context", found, expected)?;
        SwitchingKey::<B>::check(&self.params, element, level)?;
        check_digits(&self.params, level, body)?;
        check_digits(&self.params, level, masks)?;
        let prepared = prepare(context, element, body, masks)?;
        self.keys.insert(element, Key { level, prepared });
        Ok(())
    }

    /// Takes a key out, to free its memory; whether it was there.
    pub fn remove(&mut self, element: usize) -> bool {
        self.keys.remove(&element).is_some()
    }

    /// The parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The Galois elements that there are keys for, in ascending order; first [`RELINEARISATION`], if it is there.
    pub fn elements(&self) -> impl Iterator<Item = usize> + '_ {
        self.keys.keys().copied()
    }

    /// The highest level at which the key of `element` can be used, if it is there.
    pub fn level(&self, element: usize) -> Option<usize> {
        self.keys.get(&element).map(|key| key.level)
    }

    /// Those of `elements` that there is no key for at `level`; element 1 needs none.
    pub fn missing<'e>(&'e self, elements: &'e [usize], level: usize) -> impl Iterator<Item = usize> + 'e {
        let lacks = move |element: &usize| {
            *element != 1 && self.level(*element).is_none_or(|available| available < level)
        };
        elements.iter().copied().filter(lacks)
    }

    /// That the keys belong to a parameter set and each of `needed`, elements with levels, is there.
    ///
    /// # Errors
    /// [`Error::Parameters`]; [`Error::MissingGaloisKey`], [`Error::MissingRelinearisationKey`] or [`Error::KeyLevel`] for
    /// the first key that is missing or ends at too low a level.
    pub fn require(
        &self,
        operation: &'static str,
        params: &Params,
        needed: &BTreeMap<usize, usize>,
    ) -> Result<()> {
        let expected = params.fingerprint();
        same_parameters(operation, "set of evaluation keys", self.params.fingerprint(), expected)?;
        let slots = Slots::standard(params);
        needed.iter().try_for_each(|(&element, &level)| self.get(operation, slots, element, level).map(drop))
    }

    /// The prepared key of an element, for use at `level`.
    pub(crate) fn get(
        &self,
        operation: &'static str,
        slots: Slots,
        element: usize,
        level: usize,
    ) -> Result<&B::Prepared> {
        match self.keys.get(&element) {
            Some(key) if key.level >= level => Ok(&key.prepared),
            Some(key) => Err(Error::KeyLevel { operation, element, key: key.level, level }),
            None if element == RELINEARISATION => Err(Error::MissingRelinearisationKey { operation }),
            None => Err(Error::MissingGaloisKey { operation, element, meaning: meaning(slots, element) }),
        }
    }
}

/// What an element does to the slots, in words.
fn meaning(slots: Slots, element: usize) -> String {
    let minus = slots.conjugation() + 1 - element;
    match (slots.rotation(element), slots.rotation(minus)) {
        (Some(steps), _) => format!("rotation by {steps}"),
        (None, Some(0)) => "conjugation".into(),
        (None, Some(steps)) => format!("conjugation and rotation by {steps}"),
        (None, None) => "no automorphism of these slots".into(),
    }
}

pub(crate) fn same_parameters(
    operation: &'static str,
    what: &'static str,
    found: Fingerprint,
    expected: Fingerprint,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (Box::new(found), Box::new(expected));
    Err(Error::Parameters { operation, what, found, expected })
}
