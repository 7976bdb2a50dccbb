//! Matrices times encrypted vectors of slots.

use std::collections::{BTreeMap, BTreeSet};

use arras_rns::backend::{Backend, PreparedView};
use arras_rns::{Evaluation, Input, Poly, View, ViewMut};
use arras_wire::frame::Fingerprint;

use super::Evaluator;
use super::keyed::{Part, parts};
use crate::encoder::SlotEncoder;
use crate::fft::Complex;
use crate::keys::same_parameters;
use crate::workspace::Space;
use crate::{Ciphertext, Context, Error, EvaluationKeys, Result, Workspace};

/// How the diagonals of a matrix are reached by baby steps and giant steps: the diagonal at offset `giant + baby`, giant
/// being a multiple of the number of baby steps, takes a rotation by each. It follows from the offsets alone, so that who
/// makes the keys need not know the matrix.
///
/// ```
/// use arras_ckks::evaluator::BabyGiant;
///
/// // Sixteen diagonals take six rotations, not fifteen.
/// let plan = BabyGiant::new(32, 0..16, Some(4))?;
/// assert_eq!((plan.babies(), plan.giants()), (vec![0, 1, 2, 3], vec![0, 4, 8, 12]));
/// assert_eq!(plan.rotations(), [1, 2, 3, 4, 8, 12]);
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BabyGiant {
    /// For each giant step, in ascending order, its baby steps.
    giants: BTreeMap<usize, BTreeSet<usize>>,
}

impl BabyGiant {
    /// A plan for matrices with diagonals at `offsets`, taken modulo the number of slots. The number of baby steps is
    /// `babies`, or the power of two for which baby rotations and twice the giant ones, each of which raises digits
    /// of its own, are fewest.
    ///
    /// # Errors
    /// [`Error::Count`] if there is no offset, no slot, or `babies` is 0.
    pub fn new(slots: usize, offsets: impl IntoIterator<Item = i64>, babies: Option<usize>) -> Result<Self> {
        let count = |what, found: usize| Error::Count {
            operation: "linear transform",
            what,
            found,
            expected: "1 or more".into(),
        };
        if slots == 0 {
            return Err(count("slots", 0));
        }
        let offsets: BTreeSet<usize> =
            offsets.into_iter().map(|offset| offset.rem_euclid(slots as i64) as usize).collect();
        if offsets.is_empty() || babies == Some(0) {
            return Err(count(if offsets.is_empty() { "diagonals" } else { "baby steps" }, 0));
        }
        let split = |width: usize| {
            let mut giants: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
            for &offset in &offsets {
                giants.entry(offset - offset % width).or_default().insert(offset % width);
            }
            Self { giants }
        };
        let widths = std::iter::successors(Some(1), |width| Some(2 * width)).take_while(|&w| w <= slots);
        let best = || widths.map(split).min_by_key(|plan| plan.babies().len() + 2 * plan.giants.len());
        let plan = babies.map(split).or_else(best);
        plan.ok_or_else(|| count("slots", 0))
    }

    /// The baby steps, in ascending order.
    pub fn babies(&self) -> Vec<usize> {
        let all: BTreeSet<_> = self.giants.values().flatten().copied().collect();
        all.into_iter().collect()
    }

    /// The giant steps, in ascending order.
    pub fn giants(&self) -> Vec<usize> {
        self.giants.keys().copied().collect()
    }

    /// The rotations that it takes a key for; [`Slots::elements`](crate::Slots::elements) gives their Galois elements.
    pub fn rotations(&self) -> Vec<i64> {
        let steps: BTreeSet<_> = self.babies().into_iter().chain(self.giants()).collect();
        steps.into_iter().filter(|&step| step != 0).map(|step| step as i64).collect()
    }

    /// Giant and baby step of every diagonal, in the order in which they are prepared.
    fn diagonals(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.giants.iter().flat_map(|(&giant, babies)| babies.iter().map(move |&baby| (giant, baby)))
    }
}

/// A matrix, encoded and prepared: slot j of the result is `sum_d diagonal_d[j] x[j + d]`, indices modulo the slots.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use arras_ckks::evaluator::{Evaluator, LinearTransform};
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
/// // 1 on the diagonal and 2 beside it; `x` encrypts j in slot j.
/// let diagonal = |value| vec![Complex::new(value, 0.0); 32];
/// let diagonals = BTreeMap::from([(0, diagonal(1.0)), (1, diagonal(2.0))]);
/// let prime = context.params().ring().modulus(2).value() as f64;
/// let matrix = LinearTransform::new(&context, &encoder, &diagonals, prime, 2, None)?;
/// let evaluator = Evaluator::new(&context);
/// let elements = evaluator.slots().elements(matrix.plan().rotations())?;
/// let keys = EvaluationKeys::from_keys(&context, &cipher.galois_keys(&elements, 2)?)?;
/// let mut workspace = Workspace::new(&context, 2..=2, 1)?;
/// let product = evaluator.transform(&x, &matrix, &keys, &mut workspace)?;
/// let decrypted = encoder.decode(&context, &cipher.decrypt(&evaluator.rescale(&product)?)?)?;
/// assert!((decrypted[3].re - (3.0 + 2.0 * 4.0)).abs() < 1e-6);
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct LinearTransform<B: Backend> {
    fingerprint: Fingerprint,
    plan: BabyGiant,
    prepared: B::Prepared,
    generator: usize,
    scale: f64,
    level: usize,
}

impl<B: Backend> LinearTransform<B> {
    /// Encodes diagonals, given by their offsets, for ciphertexts up to `level`. The scale of a result is multiplied by
    /// `scale`; the prime that is then divided away is a good choice. Offsets that are equal modulo the slots add up.
    ///
    /// # Errors
    /// [`Error::Count`] if there is no diagonal or one has not as many values as there are slots; otherwise as
    /// [`SlotEncoder::encode`] and [`BabyGiant::new`].
    pub fn new(
        context: &Context<B>,
        encoder: &SlotEncoder,
        diagonals: &BTreeMap<i64, Vec<Complex>>,
        scale: f64,
        level: usize,
        babies: Option<usize>,
    ) -> Result<Self> {
        let slots = encoder.slots();
        let mut sums: BTreeMap<usize, Vec<Complex>> = BTreeMap::new();
        for (offset, values) in diagonals {
            if values.len() != slots {
                let (operation, what) = ("linear transform", "values of a diagonal");
                let (found, expected) = (values.len(), slots.to_string());
                return Err(Error::Count { operation, what, found, expected });
            }
            let offset = offset.rem_euclid(slots as i64) as usize;
            let sum = sums.entry(offset).or_insert_with(|| vec![Complex::default(); slots]);
            sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum = *sum + value);
        }
        let plan = BabyGiant::new(slots, sums.keys().map(|&offset| offset as i64), babies)?;
        // The rotation by a giant step comes after the product: the diagonal is turned back by it.
        let turned = plan.diagonals().flat_map(|(giant, baby)| {
            let diagonal = &sums[&(giant + baby)];
            (0..slots).map(move |j| diagonal[(j + slots - giant) % slots])
        });
        let values: Vec<_> = turned.collect();
        let plaintext = encoder.encode_extended(context, &values, scale, level)?;
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        Ok(Self {
            fingerprint: context.params().fingerprint(),
            prepared: backend.prepare(queue, tables, &plaintext.poly.view())?,
            generator: encoder.group().generator(),
            plan,
            scale,
            level,
        })
    }

    /// Its steps, and the rotations it takes keys for.
    pub fn plan(&self) -> &BabyGiant {
        &self.plan
    }

    /// The highest level at which it can be used.
    pub fn level(&self) -> usize {
        self.level
    }

    /// What the scale of a ciphertext is multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

/// The element of a rotation and its key; that by 0 has none.
type Step<'k, B> = (usize, Option<&'k <B as Backend>::Prepared>);

/// Two polynomials over the primes of Q and P: P times a pair that still has to be divided.
type Extended<B> = [Poly<B, Evaluation>; 2];

impl<B: Backend> Evaluator<'_, B> {
    /// A matrix times the slots of every ciphertext of the batch, by baby and giant steps with double hoisting (Bossuat,
    /// Mouchet, Troncoso-Pastoriza and Hubaux, ePrint 2020/1203): the digits are raised once for all baby rotations and
    /// once for each giant one, products are summed before the special primes are divided away, and that happens
    /// once for each giant step and twice at the end. Scales multiply; rescale the result. For the time of the call it
    /// takes memory for two polynomials over Q and P per baby step, and eight more.
    ///
    /// # Errors
    /// [`Error::Levels`] if the matrix ends below the ciphertext's level; [`Error::Count`] if it was encoded for
    /// another generator; [`Error::ScaleTooLarge`]; otherwise as [`rotate`](Self::rotate).
    pub fn transform(
        &self,
        a: &Ciphertext<B>,
        matrix: &LinearTransform<B>,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        const NAME: &str = "linear transform";
        self.check_matrix(NAME, a, matrix)?;
        let scale = a.scale * matrix.scale;
        self.scale_fits(NAME, scale, a.level())?;
        let inputs: [Part<'_, B>; 2] = parts(NAME, a, a.limbs())?;
        let (babies, giants) = (matrix.plan.babies(), matrix.plan.giants());
        let baby_keys = self.step_keys(NAME, a, &babies, keys)?;
        let giant_keys = self.step_keys(NAME, a, &giants, keys)?;
        let space = workspace.space(NAME, self.context, a)?;
        let rotated = self.baby_rotations(&inputs, &baby_keys, space)?;

        let mut total = self.extended(a)?;
        let (backend, queue, tables) = self.parts();
        for sum in &mut total {
            backend.wipe(queue, sum.buffer_mut())?;
        }
        let [mut sums, mut image] = [self.extended(a)?, self.extended(a)?];
        let mut first = 0;
        for ((element, key), steps) in giant_keys.into_iter().zip(matrix.plan.giants.values()) {
            let terms: Vec<_> = steps.iter().filter_map(|step| babies.binary_search(step).ok()).collect();
            let right = PreparedView { prepared: &matrix.prepared, first, term_stride: 1, batch_stride: 0 };
            for (component, sum) in sums.iter_mut().enumerate() {
                let left: Vec<_> = terms.iter().map(|&term| rotated[term][component].view()).collect();
                backend.inner_product(queue, tables, &mut sum.view_mut(), &left, right)?;
            }
            first += terms.len();
            let addend = match key {
                None => &sums,
                Some(key) => {
                    self.giant_rotation(&sums, element, key, space, &mut image)?;
                    &image
                }
            };
            for (total, addend) in total.iter_mut().zip(addend) {
                backend.add(queue, tables, &mut total.view_mut(), Input::InPlace, &addend.view())?;
            }
        }
        let (_, down) = space.plan.mod_down_operands()?;
        let mut components = self.two(a)?;
        let mut out = ViewMut::concat(components.each_mut().map(Poly::view_mut))?;
        let total = total.each_ref().map(Poly::view);
        backend.mod_down(queue, tables, down, &mut out, &View::concat(&total)?)?;
        drop(out);
        Ok(Ciphertext { components: components.into(), scale, seed: None })
    }

    fn check_matrix(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        matrix: &LinearTransform<B>,
    ) -> Result<()> {
        let expected = self.context.params().fingerprint();
        same_parameters(operation, "matrix", matrix.fingerprint, expected)?;
        if a.level() > matrix.level {
            return Err(Error::Levels { operation, left: a.level(), right: matrix.level });
        }
        let (found, generator) = (matrix.generator, self.slots.generator());
        if found != generator {
            let (what, expected) = ("the generator of the matrix", generator.to_string());
            return Err(Error::Count { operation, what, found, expected });
        }
        Ok(())
    }

    fn extended(&self, a: &Ciphertext<B>) -> Result<Extended<B>> {
        let limbs = self.context.params().key_limbs(a.level());
        Ok([self.context.allocate(limbs, a.batch())?, self.context.allocate(limbs, a.batch())?])
    }

    /// Elements and keys of rotations by `steps`.
    fn step_keys<'k>(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        steps: &[usize],
        keys: &'k EvaluationKeys<B>,
    ) -> Result<Vec<Step<'k, B>>> {
        let elements =
            steps.iter().map(|&step| self.slots.element(step as i64)).collect::<Result<Vec<_>>>()?;
        let found = self.galois_keys(operation, a, &elements, keys)?;
        Ok(elements.into_iter().zip(found).collect())
    }

    /// P times every baby rotation: the sums of the key switch, with P times the first component, permuted.
    fn baby_rotations(
        &self,
        [c0, c1]: &[Part<'_, B>; 2],
        steps: &[Step<'_, B>],
        space: &mut Space<B>,
    ) -> Result<Vec<Extended<B>>> {
        let (backend, queue, tables) = self.parts();
        let (params, limbs, batch) = (self.context.params(), c0.limbs(), c0.batch());
        let (ring, special) = (params.ring(), params.special_limbs());
        let factors: Vec<u64> = limbs.iter().map(|limb| ring.product_mod(special, limb)).collect();
        let mut multiple = self.context.allocate(limbs, batch)?;
        backend.scale_add(queue, tables, &mut multiple.view_mut(), c0.clone().into(), &factors, None)?;
        if steps.iter().any(|(_, key)| key.is_some()) {
            backend.mod_up(queue, tables, &mut space.plan, c1)?;
        }
        let rotate = |&(element, key): &Step<'_, B>| {
            let all = limbs.union(special);
            let mut out = [self.context.allocate(all, batch)?, self.context.allocate(all, batch)?];
            let Some(key) = key else {
                for (out, input) in out.iter_mut().zip([c0, c1]) {
                    // P divides the result: there is nothing modulo the special primes.
                    backend.wipe(queue, out.buffer_mut())?;
                    let mut out = out.view_mut().with_limbs(limbs)?;
                    backend.scale_add(queue, tables, &mut out, input.clone().into(), &factors, None)?;
                }
                return Ok(out);
            };
            backend.gadget_product(queue, tables, &mut space.plan, key)?;
            let (_, [first, _]) = space.plan.gadget_operands()?;
            backend.add(queue, tables, &mut first.with_limbs(limbs)?, Input::InPlace, &multiple.view())?;
            let mut image = ViewMut::concat(out.each_mut().map(Poly::view_mut))?;
            backend.automorphism(queue, tables, &mut image, &View::concat(&space.plan.sums()?)?, element)?;
            drop(image);
            Ok(out)
        };
        steps.iter().map(rotate).collect()
    }

    /// P times the rotation of the pair that `sums` is P times of. Only the second component is divided by P.
    fn giant_rotation(
        &self,
        sums: &Extended<B>,
        element: usize,
        key: &B::Prepared,
        space: &mut Space<B>,
        image: &mut Extended<B>,
    ) -> Result<()> {
        let (backend, queue, tables) = self.parts();
        let [first, second] = sums;
        let mut divided = space.switched[0].view_mut().range(0..second.batch())?;
        let (_, down) = space.plan.mod_down_operands()?;
        backend.mod_down(queue, tables, down, &mut divided, &second.view())?;
        backend.mod_up(queue, tables, &mut space.plan, &divided.as_view())?;
        backend.gadget_product(queue, tables, &mut space.plan, key)?;
        let (_, [mut sum, _]) = space.plan.gadget_operands()?;
        backend.add(queue, tables, &mut sum, Input::InPlace, &first.view())?;
        drop(sum);
        let mut image = ViewMut::concat(image.each_mut().map(Poly::view_mut))?;
        Ok(backend.automorphism(queue, tables, &mut image, &View::concat(&space.plan.sums()?)?, element)?)
    }
}
