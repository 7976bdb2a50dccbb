//! Operations on ciphertexts. Those that need no key stand here: sums, products with plaintexts and scalars, rescaling.
//! Products of ciphertexts, automorphisms, linear transforms and polynomials take [`EvaluationKeys`](crate::EvaluationKeys)
//! and a [`Workspace`].
//!
//! Scales and levels are carried along and checked; whatever does not fit is refused with the numbers.

mod keyed;
mod linear;
mod polynomial;
mod sum;

pub use keyed::inner_sum_rotations;
pub use linear::{BabyGiant, LinearTransform};
pub use polynomial::{Basis, Polynomial};

use arras_rns::backend::{Backend, PreparedView};
use arras_rns::{Evaluation, Input, LimbSet, ModDownPlan, Poly, View, ViewMut};

use crate::{Ciphertext, Context, Error, Plaintext, Result, Slots, Workspace};

/// Two scales count as equal if they differ by less than this factor: rescaling by primes close to a power of two makes
/// them drift, and an error of 2^-40 is below the noise of every parameter set.
const SCALE_TOLERANCE: f64 = 1.0 / (1u64 << 40) as f64;

/// Public operations of one [`Context`].
///
/// ```
/// use arras_ckks::evaluator::Evaluator;
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
/// // `x` encrypts j in slot j, at level 2 and scale 2^40.
/// let half = encoder.encode(&context, &[Complex::new(0.5, 0.0); 32], 32, scale, 2)?;
/// let evaluator = Evaluator::new(&context);
/// let product = evaluator.multiply_plain(&evaluator.add(&x, &x)?, &half)?;
/// let product = evaluator.rescale(&product)?;
/// assert_eq!(product.level(), 1);
/// let decrypted = encoder.decode(&context, &cipher.decrypt(&product)?)?;
/// assert!((decrypted[3].re - 3.0).abs() < 1e-6);
///
/// // The prime that was divided away has 45 bits.
/// let refused = evaluator.add(&product, &x).unwrap_err();
/// assert_eq!(refused.to_string(), "add: scales 2^35.000 and 2^40.000 differ");
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct Evaluator<'c, B: Backend> {
    context: &'c Context<B>,
    slots: Slots,
}

impl<'c, B: Backend> Evaluator<'c, B> {
    /// An evaluator on a context, whose rotations take the generator 5.
    pub fn new(context: &'c Context<B>) -> Self {
        Self { context, slots: Slots::standard(context.params()) }
    }

    /// An evaluator whose rotations take another generator: that of the encoder.
    ///
    /// # Errors
    /// [`Error::Count`] if the slots belong to another degree.
    pub fn with_slots(context: &'c Context<B>, slots: Slots) -> Result<Self> {
        let (found, degree) = (slots.count(), context.params().degree());
        if 2 * found != degree {
            let (operation, expected) = ("evaluator", (degree / 2).to_string());
            return Err(Error::Count { operation, what: "slots", found, expected });
        }
        Ok(Self { context, slots })
    }

    /// The context.
    pub fn context(&self) -> &'c Context<B> {
        self.context
    }

    /// Which automorphism moves which slot.
    pub fn slots(&self) -> Slots {
        self.slots
    }

    /// `a + b`.
    ///
    /// # Errors
    /// [`Error::Scales`], [`Error::Levels`], [`Error::Count`] if the batches differ.
    pub fn add(&self, a: &Ciphertext<B>, b: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        self.combine("add", a, b, false)
    }

    /// `a - b`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn sub(&self, a: &Ciphertext<B>, b: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        self.combine("sub", a, b, true)
    }

    fn combine(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        b: &Ciphertext<B>,
        subtract: bool,
    ) -> Result<Ciphertext<B>> {
        same_scale(operation, a.scale, b.scale)?;
        same_level(operation, a, b.level())?;
        same_batch(operation, a.batch(), b.batch())?;
        let (backend, queue, tables) = self.parts();
        let count = a.components.len().max(b.components.len());
        let components = (0..count).map(|i| {
            let mut out = self.context.allocate(a.limbs(), a.batch())?;
            match (a.components.get(i), b.components.get(i)) {
                (Some(x), Some(y)) if subtract => {
                    backend.sub(queue, tables, &mut out.view_mut(), x.view().into(), &y.view())?
                }
                (Some(x), Some(y)) => {
                    backend.add(queue, tables, &mut out.view_mut(), x.view().into(), &y.view())?
                }
                (None, Some(y)) if subtract => {
                    backend.negate(queue, tables, &mut out.view_mut(), y.view().into())?
                }
                (Some(x), None) | (None, Some(x)) => backend.copy(queue, &mut out.view_mut(), &x.view())?,
                (None, None) => {}
            }
            Ok(out)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale: a.scale, seed: None })
    }

    /// `-a`.
    ///
    /// # Errors
    /// [`Error::Ring`] if the device fails.
    pub fn negate(&self, a: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = self.parts();
        self.map(a, a.scale, |out, x| {
            Ok(backend.negate(queue, tables, &mut out.view_mut(), x.view().into())?)
        })
    }

    /// `a + plaintext`. A plaintext of one polynomial is added to every ciphertext of the batch.
    ///
    /// # Errors
    /// [`Error::Scales`], [`Error::Levels`], [`Error::Count`].
    pub fn add_plain(&self, a: &Ciphertext<B>, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        same_scale("add_plain", a.scale, plaintext.scale)?;
        let times = self.broadcast("add_plain", a, plaintext)?;
        let (backend, queue, tables) = self.parts();
        let mut out =
            self.map(a, a.scale, |out, x| Ok(backend.copy(queue, &mut out.view_mut(), &x.view())?))?;
        if let Some(first) = out.components.first_mut() {
            let addend = plaintext.poly.view().with_limbs(a.limbs())?.repeat(times);
            backend.add(queue, tables, &mut first.view_mut(), Input::InPlace, &addend)?;
        }
        Ok(Ciphertext { seed: a.seed, ..out })
    }

    /// `a * plaintext`; the scales multiply. A plaintext of one polynomial multiplies every ciphertext of the batch.
    ///
    /// # Errors
    /// [`Error::Levels`], [`Error::Count`], [`Error::ScaleTooLarge`] if the product cannot fit the modulus.
    pub fn multiply_plain(&self, a: &Ciphertext<B>, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        let scale = a.scale * plaintext.scale;
        self.scale_fits("multiply_plain", scale, a.level())?;
        let times = self.broadcast("multiply_plain", a, plaintext)?;
        let (backend, queue, tables) = self.parts();
        let factor = plaintext.poly.view().with_limbs(a.limbs())?.repeat(times);
        self.map(a, scale, |out, x| {
            Ok(backend.multiply(queue, tables, &mut out.view_mut(), x.view().into(), &factor)?)
        })
    }

    /// The inner product `sum_k a[k] * plaintext entry k` of several ciphertexts with prepared plaintexts of scale
    /// `prepared_scale`, with one reduction.
    ///
    /// # Errors
    /// [`Error::Count`] without ciphertexts, [`Error::Scales`], [`Error::Levels`], [`Error::ScaleTooLarge`].
    pub fn inner_product(
        &self,
        a: &[&Ciphertext<B>],
        prepared: &B::Prepared,
        prepared_scale: f64,
    ) -> Result<Ciphertext<B>> {
        const NAME: &str = "inner_product";
        let none =
            || Error::Count { operation: NAME, what: "ciphertexts", found: 0, expected: "1 or more".into() };
        let first = a.first().ok_or_else(none)?;
        for other in a {
            same_scale(NAME, first.scale, other.scale)?;
            same_level(NAME, first, other.level())?;
            let (found, expected) = (other.components.len(), first.components.len());
            if found != expected {
                let expected = expected.to_string();
                return Err(Error::Count { operation: NAME, what: "components", found, expected });
            }
        }
        let scale = first.scale * prepared_scale;
        self.scale_fits(NAME, scale, first.level())?;
        let (backend, queue, tables) = self.parts();
        let components = (0..first.components.len()).map(|i| {
            let mut out = self.context.allocate(first.limbs(), first.batch())?;
            let left: Vec<_> = a.iter().map(|ciphertext| ciphertext.components[i].view()).collect();
            let right = PreparedView { prepared, first: 0, term_stride: 1, batch_stride: 0 };
            backend.inner_product(queue, tables, &mut out.view_mut(), &left, right)?;
            Ok(out)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale, seed: None })
    }

    /// `a * round(value * scale)`: the scale is multiplied by `scale`, a power of two up to 2^62 keeps it exact.
    ///
    /// # Errors
    /// [`Error::Value`] if `value * scale` exceeds 2^62 or is not finite, [`Error::ScaleTooSmall`] if the scale is below
    /// 1, [`Error::ScaleTooLarge`].
    pub fn multiply_scalar(&self, a: &Ciphertext<B>, value: f64, scale: f64) -> Result<Ciphertext<B>> {
        self.multiply_scalar_at(a.level(), a, value, scale)
    }

    /// [`multiply_scalar`](Self::multiply_scalar) of what `a` is at `level`, which it is not below.
    fn multiply_scalar_at(
        &self,
        level: usize,
        a: &Ciphertext<B>,
        value: f64,
        scale: f64,
    ) -> Result<Ciphertext<B>> {
        let limit = (1u64 << 62) as f64;
        let scaled = (value * scale).round_ties_even();
        if scaled.is_nan() || scaled.abs() > limit {
            return Err(Error::Value { operation: "multiply_scalar", index: 0, value, limit: limit / scale });
        }
        scale_remains("multiply_scalar", scale)?;
        self.scale_fits("multiply_scalar", a.scale * scale, level)?;
        let (params, (backend, queue, tables)) = (self.context.params(), self.parts());
        let limbs = params.limbs_at(level);
        let residue = |limb| params.ring().modulus(limb).reduce_signed(scaled as i128);
        let scalars: Vec<u64> = limbs.iter().map(residue).collect();
        let components = a.components.iter().map(|x| {
            let (mut out, x) = (self.context.allocate(limbs, a.batch())?, x.view().with_limbs(limbs)?);
            backend.scale_add(queue, tables, &mut out.view_mut(), x.into(), &scalars, None)?;
            Ok(out)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale: a.scale * scale, seed: None })
    }

    /// Divides by the last prime of the chain and drops it; the scale is divided by that prime.
    ///
    /// # Errors
    /// [`Error::LevelsExhausted`] at level 0, [`Error::ScaleTooSmall`] if the scale is smaller than the prime.
    pub fn rescale(&self, a: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        let (keep, scale) = self.rescaled(a)?;
        let (backend, queue, tables) = self.parts();
        let drop = a.limbs().difference(keep);
        let mut plan = ModDownPlan::new(backend, queue, tables, keep, drop, a.components.len() * a.batch())?;
        self.divide(a, &mut plan, scale)
    }

    /// [`rescale`](Self::rescale) with the constants and memory of a workspace.
    ///
    /// # Errors
    /// As [`rescale`](Self::rescale); [`Error::WorkspaceLevel`].
    pub fn rescale_with(&self, a: &Ciphertext<B>, workspace: &mut Workspace<B>) -> Result<Ciphertext<B>> {
        let (_, scale) = self.rescaled(a)?;
        match &mut workspace.space("rescale", self.context, a)?.rescale {
            Some(plan) => self.divide(a, plan, scale),
            None => Err(Error::LevelsExhausted { operation: "rescale", needed: 1, level: 0 }),
        }
    }

    /// The limbs and the scale after rescaling.
    fn rescaled(&self, a: &Ciphertext<B>) -> Result<(LimbSet, f64)> {
        let (level, params) = (a.level(), self.context.params());
        if level == 0 {
            return Err(Error::LevelsExhausted { operation: "rescale", needed: 1, level });
        }
        let scale = a.scale / params.ring().modulus(level).value() as f64;
        scale_remains("rescale", scale)?;
        Ok((params.limbs_at(level - 1), scale))
    }

    fn divide(&self, a: &Ciphertext<B>, plan: &mut ModDownPlan<B>, scale: f64) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = self.parts();
        let room = a.components.iter().map(|_| self.context.allocate(plan.keep(), a.batch()));
        let mut components = room.collect::<Result<Vec<_>>>()?;
        let mut out = ViewMut::concat(components.iter_mut().map(Poly::view_mut))?;
        let input: Vec<_> = a.components.iter().map(Poly::view).collect();
        backend.mod_down(queue, tables, plan, &mut out, &View::concat(&input)?)?;
        drop(out);
        Ok(Ciphertext { components, scale, seed: None })
    }

    /// Drops primes without dividing: to a lower level at the same scale.
    ///
    /// # Errors
    /// [`Error::LevelsExhausted`] if the ciphertext is below `level` already, [`Error::ScaleTooLarge`].
    pub fn drop_to_level(&self, a: &Ciphertext<B>, level: usize) -> Result<Ciphertext<B>> {
        if level > a.level() {
            return Err(Error::LevelsExhausted {
                operation: "drop_to_level",
                needed: level,
                level: a.level(),
            });
        }
        self.scale_fits("drop_to_level", a.scale, level)?;
        let limbs = self.context.params().limbs_at(level);
        let components = a.components.iter().map(|x| {
            let mut out = self.context.allocate(limbs, a.batch())?;
            let kept = x.view().with_limbs(limbs)?;
            self.context.backend().copy(self.context.queue(), &mut out.view_mut(), &kept)?;
            Ok(out)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale: a.scale, seed: a.seed })
    }

    fn parts(&self) -> (&'c B, &'c B::Queue, &'c B::Tables) {
        (self.context.backend(), self.context.queue(), self.context.tables())
    }

    /// A ciphertext whose components `f` makes from those of `a`.
    fn map(
        &self,
        a: &Ciphertext<B>,
        scale: f64,
        f: impl Fn(&mut Poly<B, Evaluation>, &Poly<B, Evaluation>) -> Result<()>,
    ) -> Result<Ciphertext<B>> {
        let components = a.components.iter().map(|x| {
            let mut out = self.context.allocate(x.limbs(), x.batch())?;
            f(&mut out, x)?;
            Ok(out)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale, seed: None })
    }

    /// How often a plaintext has to be repeated to match the batch.
    fn broadcast(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        plaintext: &Plaintext<B>,
    ) -> Result<usize> {
        if !a.limbs().is_subset(plaintext.poly.limbs()) {
            let right = plaintext.poly.limbs().len().saturating_sub(1);
            return Err(Error::Levels { operation, left: a.level(), right });
        }
        match plaintext.poly.batch() {
            1 => Ok(a.batch()),
            batch => same_batch(operation, a.batch(), batch).map(|()| 1),
        }
    }

    /// A scale that leaves no room for even a message of 1 and its sign is a mistake.
    fn scale_fits(&self, operation: &'static str, scale: f64, level: usize) -> Result<()> {
        let modulus = self.context.params().log_modulus(level);
        if scale.log2() > modulus - 1.0 {
            return Err(Error::ScaleTooLarge { operation, scale: scale.log2(), modulus });
        }
        Ok(())
    }
}

/// Below a scale of 1 nothing is left of a message of 1.
fn scale_remains(operation: &'static str, scale: f64) -> Result<()> {
    if scale >= 1.0 { Ok(()) } else { Err(Error::ScaleTooSmall { operation, scale }) }
}

fn same_scale(operation: &'static str, left: f64, right: f64) -> Result<()> {
    if (left / right - 1.0).abs() <= SCALE_TOLERANCE {
        return Ok(());
    }
    Err(Error::Scales { operation, left: left.log2(), right: right.log2() })
}

fn same_level<B: Backend>(operation: &'static str, a: &Ciphertext<B>, right: usize) -> Result<()> {
    if a.level() == right { Ok(()) } else { Err(Error::Levels { operation, left: a.level(), right }) }
}

fn same_batch(operation: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Count { operation, what: "batch", found, expected: expected.to_string() })
}
