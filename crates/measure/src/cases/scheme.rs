//! Encoding, encryption, keys, and every public operation of the evaluator. What they compute is decrypted and compared.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::hint::black_box;

use arras_ckks::encoder::{SlotEncoder, decode_coefficients, encode_coefficients};
use arras_ckks::evaluator::{Basis, Evaluator, LinearTransform, Polynomial};
use arras_ckks::fft::Complex;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Params, Plaintext, Workspace};
use arras_rns::Backend;
use arras_rns::testkit::oracle;
use arras_secret::{Cipher, PublicKey, SecretKey};

use super::rig::{beyond, ensure, in_turn};
use super::ring::{butterflies, division, extension, key_switch_work};
use super::{Group, Made, Ready, Visitor, Wanted};
use crate::device::Device;
use crate::random::SplitMix;
use crate::record::Work;
use crate::sweep::Set;
use crate::{Error, Result};

const WORD: u64 = 8;
/// The rotations that there are keys for.
const ROTATIONS: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Offsets of the diagonals of the linear transform: with 8 baby steps, one giant step.
const DIAGONALS: [i64; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
/// Slots that are summed.
const SUMMED: usize = 8;
/// Largest error of a slot: far above the noise of any set, far below what a wrong operation leaves.
const TOLERANCE: f64 = 1.0 / 1024.0;
/// The polynomial, which takes two levels.
const COEFFICIENTS: [f64; 4] = [0.25, -0.5, 0.125, 0.5];

type Make<B> = for<'f, 'c> fn(&'f Scheme<'c, B>) -> Result<Made<'f>>;

/// A case of every parameter set with enough levels.
pub(super) struct Entry<B: Backend> {
    name: &'static str,
    /// The public operations that it times, as `Type::method` or `function`.
    pub(super) covers: &'static [&'static str],
    levels: usize,
    what: &'static str,
    make: Make<B>,
}

/// All of them.
pub(super) fn entries<B: Backend>() -> Vec<Entry<B>> {
    macro_rules! entries {
        ($($levels:literal $name:literal [$($covered:literal),*] $what:literal $make:expr;)*) => {
            vec![$(Entry {
                name: $name, covers: &[$($covered),*], levels: $levels, what: $what, make: $make
            }),*]
        };
    }
    entries![
        0 "ckks/encode" ["SlotEncoder::encode"] "encoding N/2 slots" encode;
        0 "ckks/decode" ["SlotEncoder::decode"] "decoding N/2 slots" decode;
        0 "ckks/encode_coefficients" ["encode_coefficients"] "encoding N coefficients" encode_all;
        0 "ckks/decode_coefficients" ["decode_coefficients"] "decoding N coefficients" decode_all;
        0 "secret/generate" ["SecretKey::generate"] "generating a secret key" generate;
        0 "secret/public_key" ["Cipher::public_key"] "making a public key" public_key;
        0 "secret/relinearisation_key" ["Cipher::relinearisation_key"] "making a relinearisation key" relinearisation_key;
        0 "secret/galois_key" ["Cipher::galois_key"] "making a rotation key" galois_key;
        0 "secret/encrypt/symmetric" ["Cipher::encrypt"] "encryption with the secret key" encrypt_symmetric;
        0 "secret/encrypt/public" ["PublicKey::encrypt"] "encryption with the public key" encrypt_public;
        0 "secret/decrypt" ["Cipher::decrypt"] "decryption" decrypt;
        0 "ckks/keys/insert" ["EvaluationKeys::insert"] "expanding and preparing a rotation key" insert_key;
        0 "ckks/add" ["add"] "sum" add;
        0 "ckks/sub" ["sub"] "difference" sub;
        0 "ckks/negate" ["negate"] "negation" negate;
        0 "ckks/add_plain" ["add_plain"] "sum with a plaintext" add_plain;
        0 "ckks/add_scalar" ["add_scalar"] "sum with a number" add_scalar;
        1 "ckks/multiply_plain" ["multiply_plain"] "product with a plaintext" multiply_plain;
        1 "ckks/multiply_scalar" ["multiply_scalar"] "product with a number" multiply_scalar;
        1 "ckks/inner_product/terms=8" ["inner_product"] "inner product with 8 plaintexts" inner_product;
        1 "ckks/rescale" ["rescale"] "division by a prime, its constants made anew" rescale;
        1 "ckks/rescale_with" ["rescale_with"] "division by a prime" rescale_with;
        1 "ckks/drop_to_level" ["drop_to_level"] "dropping a prime" drop_to_level;
        1 "ckks/multiply" ["multiply"] "product" multiply;
        1 "ckks/square" ["square"] "square" square;
        1 "ckks/relinearise" ["relinearise"] "relinearisation" relinearise;
        0 "ckks/rotate" ["rotate"] "rotation" rotate;
        0 "ckks/rotate_hoisted/count=8" ["rotate_hoisted"] "8 hoisted rotations" rotate_hoisted;
        0 "ckks/conjugate" ["conjugate"] "conjugation" conjugate;
        0 "ckks/automorphism" ["automorphism"] "automorphism" automorphism;
        0 "ckks/inner_sum/count=8" ["inner_sum"] "sum of 8 slots" inner_sum;
        1 "ckks/transform/diagonals=12" ["transform"] "matrix of 12 diagonals" transform;
        2 "ckks/evaluate/degree=3" ["evaluate"] "polynomial of degree 3" evaluate;
    ]
}

/// The cases of one parameter set.
pub(super) struct SchemeGroup<B: Backend> {
    set: Set,
    entries: Vec<Entry<B>>,
}

impl<B: Backend> SchemeGroup<B> {
    pub(super) fn new(set: Set) -> Self {
        let mut entries = entries();
        entries.retain(|entry: &Entry<B>| entry.levels < set.moduli.len());
        Self { set, entries }
    }

    fn name(&self, entry: &Entry<B>) -> String {
        format!("{}/{}", entry.name, self.set.name())
    }

    fn ready<'f>(&self, entry: &Entry<B>, scheme: &'f Scheme<'_, B>) -> Result<Ready<'f, B>> {
        let name = self.name(entry);
        let made = (entry.make)(scheme).map_err(|error| match error {
            Error::Wrong { problem, .. } => Error::wrong(name.clone(), problem),
            other => other,
        })?;
        let Set { degree, moduli, special, digits, scale } = &self.set;
        let parameters = BTreeMap::from([
            ("degree".to_owned(), (*degree).into()),
            ("moduli".to_owned(), moduli.clone().into()),
            ("special".to_owned(), special.clone().into()),
            ("digits".to_owned(), (*digits).into()),
            ("scale".to_owned(), (*scale).into()),
        ]);
        let (limbs, special) = (moduli.len(), special.len());
        Ok(Ready {
            what: format!("{}: degree {degree}, {limbs} + {special} primes, {digits} digits", entry.what),
            name,
            parameters,
            items: made.items,
            work: made.work,
            footprint: made.footprint,
            headline: false,
            on: (scheme.context.backend(), scheme.context.queue()),
            run: made.run,
        })
    }
}

impl<D: Device> Group<D> for SchemeGroup<D::Backend> {
    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| self.name(entry)).collect()
    }

    fn visit(&self, device: &D, wanted: Wanted<'_>, visitor: Visitor<'_, D::Backend>) -> Result<()> {
        let params = self.set.params()?;
        let context = Context::new(device.backend()?, params.clone())?;
        let cipher = Cipher::new(&context, &SecretKey::generate(&params)?)?;
        let scheme = Scheme::new(&context, &cipher, device.cache())?;
        let wanted = self.entries.iter().filter(|entry| wanted(&self.name(entry)));
        let mut ready = wanted.map(|entry| self.ready(entry, &scheme)).collect::<Result<Vec<_>>>()?;
        visitor(&mut ready)
    }
}

/// What the cases of one parameter set work with.
pub(super) struct Scheme<'c, B: Backend> {
    context: &'c Context<B>,
    cipher: &'c Cipher<'c, B>,
    evaluator: Evaluator<'c, B>,
    encoder: SlotEncoder,
    /// The encrypted slots.
    x: Vec<Complex>,
    y: Vec<Complex>,
    a: Ciphertext<B>,
    b: Ciphertext<B>,
    cache: u64,
    keys: OnceCell<EvaluationKeys<B>>,
    workspace: OnceCell<RefCell<Workspace<B>>>,
}

impl<'c, B: Backend> Scheme<'c, B> {
    fn new(context: &'c Context<B>, cipher: &'c Cipher<'c, B>, cache: u64) -> Result<Self> {
        let encoder = SlotEncoder::new(context.params().degree(), 5)?;
        let mut rng = SplitMix(3);
        let mut slots = || -> Vec<Complex> {
            (0..encoder.slots()).map(|_| Complex::new(rng.unit(), rng.unit()).scale(0.7)).collect()
        };
        let (x, y) = (slots(), slots());
        let params = context.params();
        let encrypt = |values: &[Complex]| -> Result<Ciphertext<B>> {
            let plain = encoder.encode(context, values, values.len(), params.scale(), params.max_level())?;
            Ok(cipher.encrypt(&plain)?)
        };
        let (a, b) = (encrypt(&x)?, encrypt(&y)?);
        let evaluator = Evaluator::new(context);
        let (keys, workspace) = (OnceCell::new(), OnceCell::new());
        Ok(Self { context, cipher, evaluator, encoder, x, y, a, b, cache, keys, workspace })
    }

    fn params(&self) -> &'c Params {
        self.context.params()
    }

    fn top(&self) -> usize {
        self.params().max_level()
    }

    fn limbs(&self) -> usize {
        self.top() + 1
    }

    fn degree(&self) -> usize {
        self.params().degree()
    }

    fn encode(&self, values: &[Complex]) -> Result<Plaintext<B>> {
        let (scale, row) = (self.params().scale(), self.encoder.slots());
        Ok(self.encoder.encode(self.context, values, row, scale, self.top())?)
    }

    /// The keys for relinearisation, conjugation and [`ROTATIONS`]: made when they are first needed.
    fn keys(&self) -> Result<&EvaluationKeys<B>> {
        if self.keys.get().is_none() {
            let slots = self.evaluator.slots();
            let mut elements = slots.elements(ROTATIONS)?;
            elements.push(slots.conjugation());
            let mut keys = EvaluationKeys::new(self.params());
            keys.insert(self.context, &self.cipher.relinearisation_key(self.top())?)?;
            for element in elements {
                keys.insert(self.context, &self.cipher.galois_key(element, self.top())?)?;
            }
            // It was empty.
            let _ = self.keys.set(keys);
        }
        self.keys.get().ok_or_else(|| Error::field("keys", "are not there"))
    }

    fn workspace(&self) -> Result<&RefCell<Workspace<B>>> {
        if self.workspace.get().is_none() {
            // No case goes more than two levels down, and each level takes as much memory as a key.
            let levels = self.top().saturating_sub(2)..=self.top();
            let workspace = Workspace::new(self.context, levels, 1)?;
            let _ = self.workspace.set(RefCell::new(workspace));
        }
        self.workspace.get().ok_or_else(|| Error::field("workspace", "is not there"))
    }

    fn duplicate(&self, a: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        let components = a.components.iter().map(|component| {
            let mut copy = self.context.allocate(component.limbs(), component.batch())?;
            let (backend, queue) = (self.context.backend(), self.context.queue());
            backend.copy(queue, &mut copy.view_mut(), &component.view())?;
            Ok(copy)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale: a.scale, seed: None })
    }

    /// Decrypts and compares slot by slot.
    fn decrypts(&self, found: &Ciphertext<B>, expected: impl Fn(usize) -> Complex) -> Result<()> {
        let plain = self.cipher.decrypt(found)?;
        self.close(&self.encoder.decode(self.context, &plain)?, expected)
    }

    fn close(&self, found: &[Complex], expected: impl Fn(usize) -> Complex) -> Result<()> {
        let slots = self.encoder.slots();
        ensure(found.len() == slots, || format!("{} slots", found.len()))?;
        for (j, &z) in found.iter().enumerate() {
            let error = z - expected(j);
            let error = error.re.hypot(error.im);
            ensure(error <= TOLERANCE, || format!("slot {j}: an error of {error:e}"))?;
        }
        Ok(())
    }

    /// Bytes of so many rows.
    fn rows(&self, rows: usize) -> u64 {
        WORD * (rows * self.degree()) as u64
    }

    fn work(&self, read: usize, written: usize, multiplications: u64) -> Work {
        Work { multiplications, ..Work::moving(self.rows(read), self.rows(written)) }
    }

    /// A key switch of one component, its result added to two others.
    fn switched(&self) -> Work {
        let (limbs, special) = (self.limbs(), self.params().special_limbs().len());
        let mut work =
            key_switch_work(self.degree(), limbs, special, &self.params().digits_at(self.top()), 1);
        work.read += self.rows(limbs);
        work
    }
}

/// Work whose operands stay where they are.
fn hot<'f>(work: Work, run: impl FnMut() -> Result<()> + 'f) -> Made<'f> {
    let footprint = work.read + work.written;
    Made { work, footprint, items: (1, "ciphertext"), run: Box::new(run) }
}

// --- encoding -------------------------------------------------------------------------------------------------------

fn encode<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let plain = s.encode(&s.x)?;
    let coefficients = decode_coefficients(s.context, &plain, s.degree())?;
    // Some slots by definition: the values at zeta^(5^j).
    let mut exponent = 1;
    for j in 0..s.encoder.slots() {
        if j % (s.encoder.slots() / 4 + 1) == 1 {
            let angle = |i: usize| PI * (i * exponent % (2 * s.degree())) as f64 / s.degree() as f64;
            let terms = coefficients.iter().enumerate();
            let value = terms.fold(Complex::default(), |sum, (i, &c)| {
                sum + Complex::new(angle(i).cos(), angle(i).sin()).scale(c)
            });
            let error = value - s.x[j];
            ensure(error.re.hypot(error.im) < TOLERANCE, || format!("slot {j}: {value:?}"))?;
        }
        exponent = exponent * 5 % (2 * s.degree());
    }
    let work = s.work(1, s.limbs(), butterflies(s.degree(), s.limbs()));
    Ok(hot(work, move || {
        black_box(s.encode(&s.x)?);
        Ok(())
    }))
}

fn decode<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let plain = s.encode(&s.x)?;
    s.close(&s.encoder.decode(s.context, &plain)?, |j| s.x[j])?;
    let work = s.work(s.limbs(), 1, butterflies(s.degree(), s.limbs()));
    Ok(hot(work, move || {
        black_box(s.encoder.decode(s.context, &plain)?);
        Ok(())
    }))
}

fn real<B: Backend>(s: &Scheme<'_, B>) -> Vec<f64> {
    s.x.iter().flat_map(|z| [z.re, z.im]).collect()
}

fn encode_all<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let (values, bits) = (real(s), s.params().spec().scale_bits);
    let encode = move || encode_coefficients(s.context, &values, s.degree(), bits, s.top());
    let (plain, values) = (encode()?, real(s));
    let mut words = vec![0; plain.poly.extent().words()];
    s.context.backend().download(s.context.queue(), &plain.poly.view(), &mut words)?;
    for (limb, row) in words.chunks_exact(s.degree()).enumerate() {
        let q = s.params().ring().modulus(limb).value();
        let found = oracle::intt(row, s.params().ring().root(limb), q);
        let expected = values
            .iter()
            .map(|x| oracle::signed(oracle::quantise(x.to_bits(), bits as i32).unwrap_or(i64::MIN), q));
        ensure(expected.eq(found), || format!("limb {limb}: other residues"))?;
    }
    let work = s.work(1, s.limbs(), butterflies(s.degree(), s.limbs()));
    Ok(hot(work, move || {
        black_box(encode()?);
        Ok(())
    }))
}

fn decode_all<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let (values, bits) = (real(s), s.params().spec().scale_bits);
    let plain = encode_coefficients(s.context, &values, s.degree(), bits, s.top())?;
    let found = decode_coefficients(s.context, &plain, s.degree())?;
    let worst = found.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    ensure(worst <= 1.0 / s.params().scale(), || format!("an error of {worst:e}"))?;
    let work = s.work(s.limbs(), 1, butterflies(s.degree(), s.limbs()));
    Ok(hot(work, move || {
        black_box(decode_coefficients(s.context, &plain, s.degree())?);
        Ok(())
    }))
}

// --- keys and encryption --------------------------------------------------------------------------------------------

fn generate<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let other = SecretKey::generate(s.params())?;
    let cipher = Cipher::new(s.context, &other)?;
    let plain = cipher.decrypt(&cipher.encrypt(&s.encode(&s.x)?)?)?;
    s.close(&s.encoder.decode(s.context, &plain)?, |j| s.x[j])?;
    Ok(hot(Work::default(), move || {
        black_box(SecretKey::generate(s.params())?);
        Ok(())
    }))
}

fn public_key<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let key: PublicKey<B> = s.cipher.public_key()?;
    s.decrypts(&key.encrypt(s.context, &s.encode(&s.x)?)?, |j| s.x[j])?;
    let limbs = s.limbs();
    let work = s.work(limbs, 2 * limbs, butterflies(s.degree(), limbs) + (s.degree() * limbs) as u64);
    Ok(hot(work, move || {
        black_box(s.cipher.public_key()?);
        Ok(())
    }))
}

/// What making a switching key has to do.
fn key_work<B: Backend>(s: &Scheme<'_, B>) -> Work {
    let limbs = s.params().key_limbs(s.top()).len();
    let digits = s.params().digits_at(s.top()).len();
    let multiplications = butterflies(s.degree(), digits * limbs) + (digits * limbs * s.degree()) as u64;
    s.work(limbs, digits * limbs, multiplications)
}

fn relinearisation_key<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let key = s.cipher.relinearisation_key(s.top())?;
    let keys = EvaluationKeys::from_keys(s.context, [&key])?;
    let product = s.evaluator.multiply(&s.a, &s.b)?;
    let two = s.evaluator.relinearise(&product, &keys, &mut s.workspace()?.borrow_mut())?;
    s.decrypts(&two, |j| s.x[j] * s.y[j])?;
    Ok(hot(key_work(s), move || {
        black_box(s.cipher.relinearisation_key(s.top())?);
        Ok(())
    }))
}

fn galois_key<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let element = s.evaluator.slots().element(1)?;
    let key = s.cipher.galois_key(element, s.top())?;
    let keys = EvaluationKeys::from_keys(s.context, [&key])?;
    let turned = s.evaluator.rotate(&s.a, 1, &keys, &mut s.workspace()?.borrow_mut())?;
    s.decrypts(&turned, |j| s.x[(j + 1) % s.x.len()])?;
    Ok(hot(key_work(s), move || {
        black_box(s.cipher.galois_key(element, s.top())?);
        Ok(())
    }))
}

fn insert_key<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let key = s.cipher.galois_key(s.evaluator.slots().element(1)?, s.top())?;
    let keys = EvaluationKeys::from_keys(s.context, [&key])?;
    let turned = s.evaluator.rotate(&s.a, 1, &keys, &mut s.workspace()?.borrow_mut())?;
    s.decrypts(&turned, |j| s.x[(j + 1) % s.x.len()])?;
    let rows = s.params().key_limbs(s.top()).len() * s.params().digits_at(s.top()).len();
    Ok(hot(s.work(rows, 2 * rows, 0), move || {
        black_box(EvaluationKeys::from_keys(s.context, [&key])?);
        Ok(())
    }))
}

fn encrypt_symmetric<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let plain = s.encode(&s.x)?;
    s.decrypts(&s.cipher.encrypt(&plain)?, |j| s.x[j])?;
    let limbs = s.limbs();
    let multiplications = butterflies(s.degree(), limbs) + (s.degree() * limbs) as u64;
    Ok(hot(s.work(2 * limbs, 2 * limbs, multiplications), move || {
        black_box(s.cipher.encrypt(&plain)?);
        Ok(())
    }))
}

fn encrypt_public<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let (plain, key) = (s.encode(&s.x)?, s.cipher.public_key()?);
    s.decrypts(&key.encrypt(s.context, &plain)?, |j| s.x[j])?;
    let limbs = s.limbs();
    let multiplications = butterflies(s.degree(), 3 * limbs) + (2 * s.degree() * limbs) as u64;
    Ok(hot(s.work(3 * limbs, 2 * limbs, multiplications), move || {
        black_box(key.encrypt(s.context, &plain)?);
        Ok(())
    }))
}

fn decrypt<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    s.decrypts(&s.a, |j| s.x[j])?;
    let limbs = s.limbs();
    Ok(hot(s.work(3 * limbs, limbs, (s.degree() * limbs) as u64), move || {
        black_box(s.cipher.decrypt(&s.a)?);
        Ok(())
    }))
}

// --- without keys ---------------------------------------------------------------------------------------------------

/// An operation that memory bounds, on ciphertexts beyond the caches. Of `operands` ciphertexts it reads as many, besides
/// `rows` rows of other operands, and writes one.
fn streamed<'f, B: Backend>(
    s: &'f Scheme<'_, B>,
    (operands, multiplies): (usize, bool),
    rows: usize,
    work: impl Fn(&[Ciphertext<B>]) -> Result<Ciphertext<B>> + 'f,
    expected: impl Fn(Complex, Complex) -> Complex,
) -> Result<Made<'f>> {
    let limbs = s.limbs();
    let bytes = s.rows((operands + 1) * 2 * limbs);
    let sets = beyond(s.cache, bytes, || {
        [&s.a, &s.b][..operands].iter().map(|operand| s.duplicate(operand)).collect::<Result<Vec<_>>>()
    })?;
    s.decrypts(&work(&sets[0])?, |j| expected(s.x[j], s.y[j]))?;
    let multiplications = if multiplies { (2 * limbs * s.degree()) as u64 } else { 0 };
    let counted = s.work(operands * 2 * limbs + rows, 2 * limbs, multiplications);
    let footprint = sets.len() as u64 * bytes;
    let run = in_turn(sets, move |set| {
        black_box(work(set)?);
        Ok(())
    });
    Ok(Made { work: counted, footprint, items: (1, "ciphertext"), run })
}

fn add<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    streamed(s, (2, false), 0, |of| Ok(s.evaluator.add(&of[0], &of[1])?), |x, y| x + y)
}

fn sub<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    streamed(s, (2, false), 0, |of| Ok(s.evaluator.sub(&of[0], &of[1])?), |x, y| x - y)
}

fn negate<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    streamed(s, (1, false), 0, |of| Ok(s.evaluator.negate(&of[0])?), |x, _| x.scale(-1.0))
}

fn add_plain<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let plain = s.encode(&s.y)?;
    let work = move |of: &[Ciphertext<B>]| Ok(s.evaluator.add_plain(&of[0], &plain)?);
    streamed(s, (1, false), s.limbs(), work, |x, y| x + y)
}

fn add_scalar<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let work = |of: &[Ciphertext<B>]| Ok(s.evaluator.add_scalar(&of[0], 0.375)?);
    streamed(s, (1, false), 0, work, |x, _| x + Complex::new(0.375, 0.0))
}

fn multiply_plain<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let plain = s.encode(&s.y)?;
    let work = move |of: &[Ciphertext<B>]| Ok(s.evaluator.multiply_plain(&of[0], &plain)?);
    streamed(s, (1, true), s.limbs(), work, |x, y| x * y)
}

fn multiply_scalar<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let work = |of: &[Ciphertext<B>]| Ok(s.evaluator.multiply_scalar(&of[0], 0.375, s.params().scale())?);
    streamed(s, (1, true), 0, work, |x, _| x.scale(0.375))
}

fn drop_to_level<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let work = |of: &[Ciphertext<B>]| Ok(s.evaluator.drop_to_level(&of[0], s.top() - 1)?);
    let made = streamed(s, (1, false), 0, work, |x, _| x)?;
    Ok(Made { work: s.work(2 * s.top(), 2 * s.top(), 0), ..made })
}

fn inner_product<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    const TERMS: usize = 8;
    let values: Vec<Complex> = s.y.iter().copied().cycle().take(TERMS * s.y.len()).collect();
    let plain = s.encode(&values)?;
    let (backend, queue, tables) = (s.context.backend(), s.context.queue(), s.context.tables());
    let prepared = backend.prepare(queue, tables, &plain.poly.view())?;
    let operands = (0..TERMS).map(|_| s.duplicate(&s.a)).collect::<Result<Vec<_>>>()?;
    let run = move || {
        let operands: Vec<&Ciphertext<B>> = operands.iter().collect();
        s.evaluator.inner_product(&operands, &prepared, plain.scale)
    };
    s.decrypts(&run()?, |j| (s.x[j] * s.y[j]).scale(TERMS as f64))?;
    let limbs = s.limbs();
    let multiplications = (TERMS * 2 * limbs * s.degree()) as u64;
    Ok(hot(s.work(TERMS * 3 * limbs, 2 * limbs, multiplications), move || {
        black_box(run()?);
        Ok(())
    }))
}

/// A product, to be rescaled, and what it decrypts to.
fn product<B: Backend>(s: &Scheme<'_, B>) -> Result<Ciphertext<B>> {
    Ok(s.evaluator.multiply_plain(&s.a, &s.encode(&s.y)?)?)
}

fn rescale_work<B: Backend>(s: &Scheme<'_, B>) -> Work {
    let limbs = s.limbs();
    s.work(2 * limbs, 2 * (limbs - 1), 2 * division(s.degree(), limbs - 1, 1))
}

fn rescale<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let product = product(s)?;
    s.decrypts(&s.evaluator.rescale(&product)?, |j| s.x[j] * s.y[j])?;
    Ok(hot(rescale_work(s), move || {
        black_box(s.evaluator.rescale(&product)?);
        Ok(())
    }))
}

fn rescale_with<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let (product, workspace) = (product(s)?, s.workspace()?);
    let run = move || s.evaluator.rescale_with(&product, &mut workspace.borrow_mut());
    s.decrypts(&run()?, |j| s.x[j] * s.y[j])?;
    Ok(hot(rescale_work(s), move || {
        black_box(run()?);
        Ok(())
    }))
}

fn multiply<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    s.decrypts(&s.evaluator.multiply(&s.a, &s.b)?, |j| s.x[j] * s.y[j])?;
    let limbs = s.limbs();
    Ok(hot(s.work(4 * limbs, 3 * limbs, (4 * limbs * s.degree()) as u64), move || {
        black_box(s.evaluator.multiply(&s.a, &s.b)?);
        Ok(())
    }))
}

fn square<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    s.decrypts(&s.evaluator.square(&s.a)?, |j| s.x[j] * s.x[j])?;
    let limbs = s.limbs();
    Ok(hot(s.work(2 * limbs, 3 * limbs, (3 * limbs * s.degree()) as u64), move || {
        black_box(s.evaluator.square(&s.a)?);
        Ok(())
    }))
}

// --- with keys ------------------------------------------------------------------------------------------------------

/// An operation with keys and a workspace.
fn keyed<'f, B: Backend>(
    s: &'f Scheme<'_, B>,
    work: Work,
    operation: impl Fn(&EvaluationKeys<B>, &mut Workspace<B>) -> arras_ckks::Result<Ciphertext<B>> + 'f,
    expected: impl Fn(usize) -> Complex,
) -> Result<Made<'f>> {
    let (keys, workspace) = (s.keys()?, s.workspace()?);
    let run = move || operation(keys, &mut workspace.borrow_mut());
    s.decrypts(&run()?, expected)?;
    Ok(hot(work, move || {
        black_box(run()?);
        Ok(())
    }))
}

fn relinearise<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let product = s.evaluator.multiply(&s.a, &s.b)?;
    let mut work = s.switched();
    work.read += s.rows(s.limbs());
    keyed(s, work, move |k, w| s.evaluator.relinearise(&product, k, w), |j| s.x[j] * s.y[j])
}

fn rotate<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let turned = |j: usize| s.x[(j + 1) % s.x.len()];
    keyed(s, s.switched(), |k, w| s.evaluator.rotate(&s.a, 1, k, w), turned)
}

fn conjugate<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    keyed(s, s.switched(), |k, w| s.evaluator.conjugate(&s.a, k, w), |j| s.x[j].conjugate())
}

fn automorphism<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let element = s.evaluator.slots().element(3)?;
    let turned = |j: usize| s.x[(j + 3) % s.x.len()];
    keyed(s, s.switched(), move |k, w| s.evaluator.automorphism(&s.a, element, k, w), turned)
}

fn rotate_hoisted<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let (keys, workspace) = (s.keys()?, s.workspace()?);
    let run = move || s.evaluator.rotate_hoisted(&s.a, &ROTATIONS, keys, &mut workspace.borrow_mut());
    for (found, steps) in run()?.iter().zip(ROTATIONS) {
        s.decrypts(found, |j| s.x[(j + steps as usize) % s.x.len()])?;
    }
    let (limbs, special) = (s.limbs(), s.params().special_limbs().len());
    let digits = s.params().digits_at(s.top());
    let once = extension(s.degree(), &digits, limbs, special);
    let (one, count) = (s.switched(), ROTATIONS.len() as u64);
    let work = Work {
        read: count * one.read,
        written: count * one.written,
        multiplications: once + count * (one.multiplications - once),
        ..Work::default()
    };
    let made = hot(work, move || {
        black_box(run()?);
        Ok(())
    });
    Ok(Made { items: (count, "rotation"), ..made })
}

fn inner_sum<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let one = s.switched();
    let count = u64::from(SUMMED.ilog2());
    let work = Work {
        read: count * one.read,
        written: count * one.written,
        multiplications: count * one.multiplications,
        ..Work::default()
    };
    let sum = |j: usize| (0..SUMMED).fold(Complex::default(), |sum, i| sum + s.x[(j + i) % s.x.len()]);
    keyed(s, work, |k, w| s.evaluator.inner_sum(&s.a, SUMMED, 1, k, w), sum)
}

fn transform<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let slots = s.x.len();
    let diagonal = move |offset: i64, j: usize| s.y[(j + 17 * offset as usize) % slots].scale(0.25);
    let diagonals = DIAGONALS.map(|offset| (offset, (0..slots).map(|j| diagonal(offset, j)).collect()));
    let scale = s.params().ring().modulus(s.top()).value() as f64;
    let matrix =
        LinearTransform::new(s.context, &s.encoder, &BTreeMap::from(diagonals), scale, s.top(), Some(8))?;
    let (limbs, special) = (s.limbs(), s.params().special_limbs().len());
    let all = limbs + special;
    let digits = s.params().digits_at(s.top());
    let (steps, giants) = (matrix.plan().rotations().len() as u64, 1);
    let once = extension(s.degree(), &digits, limbs, special);
    let key = (2 * digits.len() * all * s.degree()) as u64;
    let work = Work {
        read: s.rows(2 * limbs + DIAGONALS.len() * all) + steps * WORD * key,
        written: s.rows(2 * limbs),
        multiplications: (1 + giants) * once
            + steps * key
            + (2 * DIAGONALS.len() * all * s.degree()) as u64
            + (2 + giants) * division(s.degree(), limbs, special),
        ..Work::default()
    };
    let expected = |j: usize| {
        DIAGONALS.iter().fold(Complex::default(), |sum, &offset| {
            sum + diagonal(offset, j) * s.x[(j + offset as usize) % slots]
        })
    };
    keyed(s, work, move |k, w| s.evaluator.transform(&s.a, &matrix, k, w), expected)
}

fn evaluate<'f, B: Backend>(s: &'f Scheme<'_, B>) -> Result<Made<'f>> {
    let polynomial = Polynomial::new(Basis::Power, COEFFICIENTS.to_vec())?;
    let expected = |j: usize| {
        let step = |sum: Complex, &c: &f64| sum * s.x[j] + Complex::new(c, 0.0);
        COEFFICIENTS.iter().rev().fold(Complex::default(), step)
    };
    // Two products and their relinearisation, the second one level lower.
    let one = s.switched();
    let work = Work { multiplications: 2 * one.multiplications, ..Work::moving(2 * one.read, one.written) };
    keyed(s, work, move |k, w| s.evaluator.evaluate(&s.a, &polynomial, k, w), expected)
}

#[cfg(test)]
mod tests {
    use arras_rns::LimbSet;

    use super::*;

    #[test]
    fn a_key_switch_is_counted_as_the_documentation_says() {
        // One prime per digit, one special: L + L (L + 1 - 1) rows up, 2 (1 + L) rows down.
        let (degree, limbs) = (1usize << 13, 3usize);
        let digits: Vec<LimbSet> = (0..limbs).map(LimbSet::single).collect();
        let work = key_switch_work(degree, limbs, 1, &digits, 1);
        let rows = limbs + limbs * limbs + 2 * (1 + limbs);
        assert_eq!(rows, 20);
        let products = 2 * limbs * (limbs + 1) * degree;
        let conversions = limbs * degree * (1 + limbs) + 2 * (degree * (1 + limbs) + degree * limbs);
        let expected = butterflies(degree, rows) + (products + conversions) as u64;
        assert_eq!(work.multiplications, expected);
        assert_eq!(work.read, 8 * (limbs * degree + products) as u64);
    }
}
