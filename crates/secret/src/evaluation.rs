//! Keys that let a server multiply and rotate. They are public, but only a secret key can make them.

use arras_ckks::keys::{RELINEARISATION, mask_labels};
use arras_ckks::{Context, SwitchingKey};
use arras_rns::{Backend, Evaluation, Input, LimbSet, Poly, View};

use crate::{Cipher, Result};
use arras_ckks::sampling::{Sampler, noise};

/// Polynomials from which the secret follows: overwritten, in queue order, when dropped.
struct Wiped<'c, B: Backend> {
    context: &'c Context<B>,
    poly: Poly<B, Evaluation>,
}

impl<'c, B: Backend> Wiped<'c, B> {
    fn allocate(context: &'c Context<B>, limbs: LimbSet, batch: usize) -> Result<Self> {
        Ok(Self { context, poly: context.allocate(limbs, batch)? })
    }
}

impl<B: Backend> Drop for Wiped<'_, B> {
    fn drop(&mut self) {
        // A device that cannot wipe has failed as a whole; there is nothing left to report it to.
        let _ = self.context.backend().wipe(self.context.queue(), self.poly.buffer_mut());
    }
}

impl<B: Backend> Cipher<'_, B> {
    /// The key that brings products of two ciphertexts back to two components, for use up to `level`.
    ///
    /// # Errors
    /// [`Error::Ckks`](crate::Error::Ckks) if there is no such level or there are no special primes;
    /// [`arras_ckks::Error::Randomness`], or a failing device.
    pub fn relinearisation_key(&self, level: usize) -> Result<SwitchingKey<B>> {
        self.switching_key(RELINEARISATION, level)
    }

    /// The key for `X -> X^element`, for use up to `level`. [`Slots`](arras_ckks::Slots) knows the element of a rotation.
    ///
    /// # Errors
    /// As [`relinearisation_key`](Self::relinearisation_key), and if the element is even or not below 2N.
    pub fn galois_key(&self, element: usize, level: usize) -> Result<SwitchingKey<B>> {
        if element == RELINEARISATION {
            let end = 2 * self.context().params().degree();
            return Err(
                arras_rns::Error::shape("Galois key", "element", 0, format!("odd and below {end}")).into()
            );
        }
        self.switching_key(element, level)
    }

    /// The key of an element, or for [`RELINEARISATION`] that of products: what a plan lists.
    ///
    /// # Errors
    /// As [`relinearisation_key`](Self::relinearisation_key), and if the element is even or not below 2N.
    pub fn evaluation_key(&self, element: usize, level: usize) -> Result<SwitchingKey<B>> {
        self.switching_key(element, level)
    }

    /// Keys for several elements.
    ///
    /// # Errors
    /// As [`galois_key`](Self::galois_key).
    pub fn galois_keys(&self, elements: &[usize], level: usize) -> Result<Vec<SwitchingKey<B>>> {
        elements.iter().map(|&element| self.galois_key(element, level)).collect()
    }

    /// Digit i is `P g_i s' + e_i - a_i s`, the gadget `g_i` being 1 modulo the primes of digit i and 0 modulo the others,
    /// under a seed of its own.
    fn switching_key(&self, element: usize, level: usize) -> Result<SwitchingKey<B>> {
        let context = self.context();
        let (params, backend, queue, tables) =
            (context.params(), context.backend(), context.queue(), context.tables());
        SwitchingKey::<B>::check(params, element, level)?;
        let (limbs, digits) = (params.key_limbs(level), params.digits_at(level));
        let mut rng = Sampler::from_os()?;
        let seed = rng.bytes();
        let mut body = noise(context, &mut rng, limbs, digits.len())?;
        let mut product = Wiped::allocate(context, limbs, digits.len())?;
        let secret = self.secret(limbs, digits.len())?;
        let labels = mask_labels(seed, element, digits.len());
        backend.expand_seed(queue, tables, &mut product.poly.view_mut(), &labels)?;
        backend.multiply(queue, tables, &mut product.poly.view_mut(), Input::InPlace, &secret)?;
        backend.sub(queue, tables, &mut body.view_mut(), Input::InPlace, &product.poly.view())?;
        let source = self.source(element, params.limbs_at(level))?;
        for (i, &digit) in digits.iter().enumerate() {
            let mut part = body.view_mut().range(i..i + 1)?.with_limbs(digit)?;
            let message = source.poly.view().with_limbs(digit)?;
            backend.add(queue, tables, &mut part, Input::InPlace, &message)?;
        }
        Ok(SwitchingKey::new(params, element, level, seed, body)?)
    }

    /// `P s'`, for s' the square of the secret or its image under `X -> X^element`.
    fn source(&self, element: usize, limbs: LimbSet) -> Result<Wiped<'_, B>> {
        let context = self.context();
        let (params, backend, queue, tables) =
            (context.params(), context.backend(), context.queue(), context.tables());
        let secret: View<'_, B, Evaluation> = self.secret(limbs, 1)?;
        let mut source = Wiped::allocate(context, limbs, 1)?;
        let mut out = source.poly.view_mut();
        if element == RELINEARISATION {
            backend.multiply(queue, tables, &mut out, secret.clone().into(), &secret)?;
        } else {
            backend.automorphism(queue, tables, &mut out, &secret, element)?;
        }
        let ring = params.ring();
        let special: Vec<u64> =
            limbs.iter().map(|limb| ring.product_mod(params.special_limbs(), limb)).collect();
        backend.scale_add(queue, tables, &mut out, Input::InPlace, &special, None)?;
        drop(out);
        Ok(source)
    }
}
