//! Sums of rotations.

use arras_rns::backend::Backend;
use arras_rns::{Input, Poly};

use super::Evaluator;
use super::keyed::{Part, parts};
use crate::{Ciphertext, EvaluationKeys, Result, Workspace};

impl<B: Backend> Evaluator<'_, B> {
    /// The sum of rotations of the same ciphertexts: slot j of the result is the sum of the slots `j + r`, r being each of
    /// `steps`. Digits are raised once, and the sum is divided by the special primes once, so that further rotations cost
    /// products with keys alone.
    ///
    /// # Errors
    /// As [`rotate`](Self::rotate).
    pub fn sum_of_rotations(
        &self,
        a: &Ciphertext<B>,
        steps: &[i64],
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        const NAME: &str = "sum of rotations";
        let elements = steps.iter().map(|&step| self.slots.element(step)).collect::<Result<Vec<_>>>()?;
        let [c0, c1]: [Part<'_, B>; 2] = parts(NAME, a, a.limbs())?;
        let keys = self.galois_keys(NAME, a, &elements, keys)?;
        let space = workspace.space(NAME, self.context, a)?;
        let (backend, queue, tables) = self.parts();
        let (params, limbs, batch) = (self.context.params(), a.limbs(), a.batch());
        let (ring, special) = (params.ring(), params.special_limbs());
        // P times the parts: what is summed is P times what it stands for.
        let factors: Vec<u64> = limbs.iter().map(|limb| ring.product_mod(special, limb)).collect();
        let multiple = |part: &Part<'_, B>| -> Result<_> {
            let mut out = self.context.allocate(limbs, batch)?;
            backend.scale_add(queue, tables, &mut out.view_mut(), part.clone().into(), &factors, None)?;
            Ok(out)
        };
        let multiples = [multiple(&c0)?, multiple(&c1)?];
        let all = limbs.union(special);
        let extended = || -> Result<[Poly<B, _>; 2]> {
            Ok([self.context.allocate(all, batch)?, self.context.allocate(all, batch)?])
        };
        let [mut total, mut image] = [extended()?, extended()?];
        for total in &mut total {
            backend.wipe(queue, total.buffer_mut())?;
        }
        if keys.iter().any(Option::is_some) {
            backend.mod_up(queue, tables, &mut space.plan, &c1)?;
        }
        for (&element, key) in elements.iter().zip(keys) {
            let Some(key) = key else {
                for (total, multiple) in total.iter_mut().zip(&multiples) {
                    let mut total = total.view_mut().with_limbs(limbs)?;
                    backend.add(queue, tables, &mut total, Input::InPlace, &multiple.view())?;
                }
                continue;
            };
            backend.gadget_product(queue, tables, &mut space.plan, key)?;
            let (_, [first, _]) = space.plan.gadget_operands()?;
            backend.add(
                queue,
                tables,
                &mut first.with_limbs(limbs)?,
                Input::InPlace,
                &multiples[0].view(),
            )?;
            for ((total, image), sum) in total.iter_mut().zip(&mut image).zip(space.plan.sums()?) {
                backend.automorphism(queue, tables, &mut image.view_mut(), &sum, element)?;
                backend.add(queue, tables, &mut total.view_mut(), Input::InPlace, &image.view())?;
            }
        }
        let (_, down) = space.plan.mod_down_operands()?;
        let components = total.iter().map(|total| {
            let mut out = self.context.allocate(limbs, batch)?;
            backend.mod_down(queue, tables, down, &mut out.view_mut(), &total.view())?;
            Ok(out)
        });
        Ok(Ciphertext { components: components.collect::<Result<_>>()?, scale: a.scale, seed: None })
    }
}
