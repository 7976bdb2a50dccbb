//! Products of ciphertexts and automorphisms.

use arras_rns::backend::Backend;
use arras_rns::switching::Image;
use arras_rns::{Evaluation, Input, LimbSet, Poly, View};

use super::{Evaluator, same_batch, same_level};
use crate::keys::{RELINEARISATION, same_parameters};
use crate::workspace::Space;
use crate::{Ciphertext, Error, EvaluationKeys, Result, Workspace};

/// A component at a level that may be lower than its own.
pub(super) type Part<'a, B> = View<'a, B, Evaluation>;

impl<B: Backend> Evaluator<'_, B> {
    /// `a * b`, with three components; the scales multiply. Sums of such products can be relinearised at once.
    ///
    /// # Errors
    /// [`Error::Levels`]; [`Error::Count`] if the batches differ or an operand has three components itself;
    /// [`Error::ScaleTooLarge`].
    pub fn multiply(&self, a: &Ciphertext<B>, b: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        same_level("multiply", a, b.level())?;
        self.multiply_at(a.level(), a, b)
    }

    /// [`multiply`](Self::multiply) of what the operands are at `level`, which neither is below.
    pub(super) fn multiply_at(
        &self,
        level: usize,
        a: &Ciphertext<B>,
        b: &Ciphertext<B>,
    ) -> Result<Ciphertext<B>> {
        const NAME: &str = "multiply";
        same_batch(NAME, b.batch(), a.batch())?;
        let scale = a.scale * b.scale;
        self.scale_fits(NAME, scale, level)?;
        let limbs = self.context.params().limbs_at(level);
        let ([a0, a1], [b0, b1]) = (parts(NAME, a, limbs)?, parts(NAME, b, limbs)?);
        let (backend, queue, tables) = self.parts();
        let mut middle = self.product(&a0, &b1)?;
        backend.multiply_accumulate(queue, tables, &mut middle.view_mut(), &a1, &b0)?;
        Ok(Ciphertext {
            components: vec![self.product(&a0, &b0)?, middle, self.product(&a1, &b1)?],
            scale,
            seed: None,
        })
    }

    /// `a * a`, as [`multiply`](Self::multiply).
    ///
    /// # Errors
    /// As [`multiply`](Self::multiply).
    pub fn square(&self, a: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        self.multiply(a, a)
    }

    fn product(&self, a: &Part<'_, B>, b: &Part<'_, B>) -> Result<Poly<B, Evaluation>> {
        let (backend, queue, tables) = self.parts();
        let mut out = self.context.allocate(a.limbs(), a.batch())?;
        backend.multiply(queue, tables, &mut out.view_mut(), a.clone().into(), b)?;
        Ok(out)
    }

    /// From three components to two: the part that belongs to the square of the secret is switched to the secret.
    ///
    /// # Errors
    /// [`Error::MissingRelinearisationKey`], [`Error::KeyLevel`], [`Error::WorkspaceLevel`]; [`Error::Parameters`] if keys
    /// or workspace belong to other parameters; [`Error::Count`] if there are not three components, or the batch exceeds
    /// the workspace's.
    pub fn relinearise(
        &self,
        a: &Ciphertext<B>,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        const NAME: &str = "relinearise";
        let [c0, c1, c2] = parts(NAME, a, a.limbs())?;
        let key = self.key(NAME, a, RELINEARISATION, keys)?;
        let plan = &mut workspace.space(NAME, self.context, a)?.plan;
        let (backend, queue, tables) = self.parts();
        let [mut first, mut second] = self.two(a)?;
        let [mut to_first, mut to_second] = [first.view_mut(), second.view_mut()];
        backend.key_switch(queue, tables, plan, key, [&mut to_first, &mut to_second], &c2)?;
        backend.add(queue, tables, &mut to_first, Input::InPlace, &c0)?;
        backend.add(queue, tables, &mut to_second, Input::InPlace, &c1)?;
        drop((to_first, to_second));
        Ok(Ciphertext { components: vec![first, second], scale: a.scale, seed: None })
    }

    /// Memory for two components like those of `a`.
    pub(super) fn two(&self, a: &Ciphertext<B>) -> Result<[Poly<B, Evaluation>; 2]> {
        Ok([self.context.allocate(a.limbs(), a.batch())?, self.context.allocate(a.limbs(), a.batch())?])
    }

    /// Rotates the slots: slot j of the result is slot `j + steps` modulo N/2 of the operand.
    ///
    /// # Errors
    /// [`Error::Rotation`] if `steps` is not between `-N/2` and `N/2`; [`Error::MissingGaloisKey`], which names the element
    /// and the rotation; otherwise as [`relinearise`](Self::relinearise), two components being expected.
    pub fn rotate(
        &self,
        a: &Ciphertext<B>,
        steps: i64,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        self.apply("rotate", a, self.slots.element(steps)?, keys, workspace)
    }

    /// Several rotations of the same ciphertexts. The extension of the digits, the larger part of the work, is done once
    /// (Halevi and Shoup, ePrint 2018/244); the results are those of [`rotate`](Self::rotate), bit for bit.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn rotate_hoisted(
        &self,
        a: &Ciphertext<B>,
        steps: &[i64],
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Vec<Ciphertext<B>>> {
        let elements = steps.iter().map(|&steps| self.slots.element(steps)).collect::<Result<Vec<_>>>()?;
        self.apply_all("rotate", a, &elements, keys, workspace)
    }

    /// Conjugates every slot.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn conjugate(
        &self,
        a: &Ciphertext<B>,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        self.apply("conjugate", a, self.slots.conjugation(), keys, workspace)
    }

    /// `X -> X^element` on the encrypted polynomials, `element` being odd and below 2N.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn automorphism(
        &self,
        a: &Ciphertext<B>,
        element: usize,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        self.apply("automorphism", a, element, keys, workspace)
    }

    /// Sums `count` slots that are `stride` apart: slot j of the result is the sum of the slots `j + i stride`, i from 0 to
    /// `count - 1`. Takes the rotations that [`inner_sum_rotations`] lists.
    ///
    /// # Errors
    /// [`Error::Count`] if `count` is 0; [`Error::Rotation`] if the sum reaches beyond the slots; otherwise as
    /// [`rotate`](Self::rotate).
    pub fn inner_sum(
        &self,
        a: &Ciphertext<B>,
        count: usize,
        stride: usize,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        const NAME: &str = "inner_sum";
        if count == 0 {
            return Err(Error::Count {
                operation: NAME,
                what: "slots",
                found: 0,
                expected: "1 or more".into(),
            });
        }
        let steps = |slots: usize| i64::try_from(slots.saturating_mul(stride)).unwrap_or(i64::MAX);
        self.slots.element(steps(count - 1))?;
        // `block` sums 2^k slots; `sum` those of the lower bits of `count`, and `summed` counts them.
        let mut block = self.duplicate(a)?;
        let (mut sum, mut summed): (Option<Ciphertext<B>>, _) = (None, 0);
        for k in 0..count.ilog2() + 1 {
            if k > 0 {
                let rotated = self.rotate(&block, steps(1 << (k - 1)), keys, workspace)?;
                block = self.add(&block, &rotated)?;
            }
            if count >> k & 1 == 1 {
                sum = Some(match sum {
                    None => self.duplicate(&block)?,
                    Some(sum) => {
                        let rotated = self.rotate(&block, steps(summed), keys, workspace)?;
                        self.add(&sum, &rotated)?
                    }
                });
                summed += 1 << k;
            }
        }
        sum.ok_or(Error::Count { operation: NAME, what: "slots", found: 0, expected: "1 or more".into() })
    }

    pub(super) fn duplicate(&self, a: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        let (backend, queue, _) = self.parts();
        self.map(a, a.scale, |out, x| Ok(backend.copy(queue, &mut out.view_mut(), &x.view())?))
    }

    /// The key of an element at the level of `a`.
    pub(super) fn key<'k>(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        element: usize,
        keys: &'k EvaluationKeys<B>,
    ) -> Result<&'k B::Prepared> {
        let (found, expected) = (keys.params().fingerprint(), self.context.params().fingerprint());
        same_parameters(operation, "set of evaluation keys", found, expected)?;
        keys.get(operation, self.slots, element, a.level())
    }

    /// The keys of several automorphisms; the identity takes none.
    pub(super) fn galois_keys<'k>(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        elements: &[usize],
        keys: &'k EvaluationKeys<B>,
    ) -> Result<Vec<Option<&'k B::Prepared>>> {
        let end = 2 * self.context.params().degree();
        let key = |&element: &usize| match element {
            1 => Ok(None),
            _ if element.is_multiple_of(2) || element >= end => {
                let expected = format!("odd and below {end}");
                Err(Error::Count { operation, what: "the Galois element", found: element, expected })
            }
            _ => self.key(operation, a, element, keys).map(Some),
        };
        elements.iter().map(key).collect()
    }

    fn apply(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        element: usize,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        let mut all = self.apply_all(operation, a, &[element], keys, workspace)?;
        let none = Error::Count { operation, what: "automorphisms", found: 0, expected: "1".into() };
        all.pop().ok_or(none)
    }

    /// Several automorphisms of the same ciphertexts.
    fn apply_all(
        &self,
        operation: &'static str,
        a: &Ciphertext<B>,
        elements: &[usize],
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Vec<Ciphertext<B>>> {
        let [c0, c1] = parts(operation, a, a.limbs())?;
        let needed = self.galois_keys(operation, a, elements, keys)?;
        let space = workspace.space(operation, self.context, a)?;
        let (backend, queue, tables) = self.parts();
        let hoisted = needed.iter().flatten().count() > 1;
        if hoisted {
            backend.mod_up(queue, tables, &mut space.plan, &c1)?;
        }
        let image = |(&element, key): (&usize, Option<&B::Prepared>)| {
            let Some(key) = key else { return self.duplicate(a) };
            let Space { plan, switched: [first, second], .. } = &mut *space;
            let room = [first.view_mut().range(0..a.batch())?, second.view_mut().range(0..a.batch())?];
            let d = (!hoisted).then(|| c1.clone());
            let image = Image { element, c0: c0.clone(), d, room };
            let [mut first, mut second] = self.two(a)?;
            let [mut to_first, mut to_second] = [first.view_mut(), second.view_mut()];
            let out = [&mut to_first, &mut to_second];
            backend.key_switch_automorphism(queue, tables, plan, key, out, image)?;
            drop((to_first, to_second));
            Ok(Ciphertext { components: vec![first, second], scale: a.scale, seed: None })
        };
        elements.iter().zip(needed).map(image).collect()
    }
}

/// Exactly `COUNT` components, at the level that has `limbs`.
pub(super) fn parts<'a, B: Backend, const COUNT: usize>(
    operation: &'static str,
    a: &'a Ciphertext<B>,
    limbs: LimbSet,
) -> Result<[Part<'a, B>; COUNT]> {
    let found = a.components.len();
    let views = a.components.iter().map(|component| Ok(component.view().with_limbs(limbs)?));
    let wrong = |_| Error::Count { operation, what: "components", found, expected: COUNT.to_string() };
    views.collect::<Result<Vec<_>>>()?.try_into().map_err(wrong)
}

/// The rotations that [`Evaluator::inner_sum`] takes for `count` slots `stride` apart.
pub fn inner_sum_rotations(count: usize, stride: usize) -> Vec<i64> {
    let steps = |slots: usize| i64::try_from(slots.saturating_mul(stride)).unwrap_or(i64::MAX);
    let mut rotations = Vec::new();
    let mut summed = 0;
    for k in 0..count.checked_ilog2().map_or(0, |k| k + 1) {
        if k > 0 {
            rotations.push(steps(1 << (k - 1)));
        }
        if count >> k & 1 == 1 {
            if summed > 0 {
                rotations.push(steps(summed));
            }
            summed += 1 << k;
        }
    }
    rotations
}
