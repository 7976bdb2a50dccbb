//! A secret key on a backend.

use arras_ckks::sampling::{Sampler, float, noise, small_polynomials};
use arras_ckks::{Ciphertext, Context, Plaintext, PublicKey, bytes};
use arras_heads::query::KeyId;
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Poly, Purpose, SeedLabel};
use zeroize::Zeroizing;

use crate::{Error, Result, SecretKey};

/// Encrypts and decrypts under one secret key, which it holds in the evaluation domain on the backend. The memory is
/// overwritten, in queue order, when this is dropped.
///
/// ```
/// use arras_ckks::encoder::{decode_coefficients, encode_coefficients};
/// use arras_secret::{Cipher, SecretKey};
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
///
/// # let moduli = arras_rns::prime::ntt_primes(45, 64, 2, &[])?;
/// # let spec =
/// #     Spec { degree: 64, moduli, special: vec![], digits: 1, scale_bits: 40, security: Security::Unchecked };
/// # let params = Params::insecure(spec)?;
/// # let context = Context::new(Cpu::sequential(), params)?;
/// let key = SecretKey::generate(context.params())?;
/// let cipher = Cipher::new(&context, &key)?;
/// let message = encode_coefficients(&context, &[1.5, -2.0], 2, 40, 1)?;
/// let decrypted = cipher.decrypt(&cipher.encrypt(&message)?)?;
/// // The noise remains: at most 21, at scale 2^40.
/// let found = decode_coefficients(&context, &decrypted, 2)?;
/// assert!((found[0] - 1.5).abs() < 2e-11 && (found[1] + 2.0).abs() < 2e-11);
/// # Ok::<(), arras_secret::Error>(())
/// ```
pub struct Cipher<'c, B: Backend> {
    context: &'c Context<B>,
    id: KeyId,
    secret: Poly<B, Evaluation>,
}

impl<B: Backend> std::fmt::Debug for Cipher<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cipher(parameters {})", self.context.params().fingerprint())
    }
}

impl<B: Backend> Drop for Cipher<'_, B> {
    fn drop(&mut self) {
        // A device that cannot wipe has failed as a whole; there is nothing left to report it to.
        let _ = self.context.backend().wipe(self.context.queue(), self.secret.buffer_mut());
    }
}

impl<'c, B: Backend> Cipher<'c, B> {
    /// Brings a key to the context's backend.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the key belongs to other parameters.
    pub fn new(context: &'c Context<B>, key: &SecretKey) -> Result<Self> {
        let (ours, theirs) = (context.params().fingerprint(), key.params().fingerprint());
        if ours != theirs {
            return Err(Error::Parameters { key: theirs, context: ours });
        }
        let coefficients = Zeroizing::new(key.coefficients().iter().map(|&x| float(x)).collect::<Vec<_>>());
        let limbs = context.params().ring().limbs();
        let mut secret = small_polynomials(context, limbs, coefficients.len(), &coefficients)?.retag();
        context.backend().ntt(context.queue(), context.tables(), &mut secret.view_mut(), Input::InPlace)?;
        Ok(Self { context, id: key.id(), secret })
    }

    /// A key that is not a [`SecretKey`], such as a sum of several.
    #[cfg(test)]
    pub(crate) fn for_tests(context: &'c Context<B>, secret: Poly<B, Coefficient>) -> Self {
        let mut secret = secret.retag();
        context
            .backend()
            .ntt(context.queue(), context.tables(), &mut secret.view_mut(), Input::InPlace)
            .unwrap();
        Self { context, id: KeyId::default(), secret }
    }

    /// The id of the key.
    pub fn key_id(&self) -> KeyId {
        self.id
    }

    /// The context.
    pub fn context(&self) -> &'c Context<B> {
        self.context
    }

    /// The secret in the evaluation domain, repeated over a batch.
    pub(crate) fn secret(&self, limbs: LimbSet, batch: usize) -> Result<arras_rns::View<'_, B, Evaluation>> {
        Ok(self.secret.view().with_limbs(limbs)?.repeat(batch))
    }

    /// Symmetric encryption: (m + e - a s, a) with a expanded from a fresh seed, so that half of the ciphertext travels
    /// as 32 bytes.
    ///
    /// # Errors
    /// [`arras_ckks::Error::Randomness`], or a failing device.
    pub fn encrypt(&self, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        let mut rng = Sampler::from_os()?;
        let label = SeedLabel { seed: rng.bytes(), purpose: Purpose::Ciphertext, object: 0, polynomial: 0 };
        let (limbs, batch) = (plaintext.poly.limbs(), plaintext.poly.batch());
        self.encrypt_under(label, &mut rng, Some(plaintext), limbs, batch)
    }

    /// A public key for this secret.
    ///
    /// # Errors
    /// [`arras_ckks::Error::Randomness`], or a failing device.
    pub fn public_key(&self) -> Result<PublicKey<B>> {
        let mut rng = Sampler::from_os()?;
        let label = SeedLabel { seed: rng.bytes(), purpose: Purpose::PublicKey, object: 0, polynomial: 0 };
        self.encrypt_under(label, &mut rng, None, self.context.params().limbs(), 1).map(PublicKey::new)
    }

    /// (m + e - a s, a) with a expanded from the label. No two messages may ever meet the same key and label: their
    /// difference would be public.
    pub(crate) fn encrypt_under(
        &self,
        label: SeedLabel,
        rng: &mut Sampler,
        plaintext: Option<&Plaintext<B>>,
        limbs: LimbSet,
        batch: usize,
    ) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let mask = self.mask(label, limbs, batch)?;
        // a s - e first: the noise is as likely as its negative.
        let mut body = noise(self.context, rng, limbs, batch)?;
        let secret = self.secret(limbs, batch)?;
        backend.multiply_accumulate(queue, tables, &mut body.view_mut(), &mask.view(), &secret)?;
        if let Some(plaintext) = plaintext {
            let ring = self.context.params().ring();
            let minus_one: Vec<u64> = limbs.iter().map(|limb| ring.modulus(limb).value() - 1).collect();
            let message = Some(plaintext.poly.view());
            backend.scale_add(
                queue,
                tables,
                &mut body.view_mut(),
                Input::InPlace,
                &minus_one,
                message.as_ref(),
            )?;
        } else {
            backend.negate(queue, tables, &mut body.view_mut(), Input::InPlace)?;
        }
        let scale = plaintext.map_or(1.0, |plaintext| plaintext.scale);
        Ok(Ciphertext { components: vec![body, mask], scale, seed: Some(label) })
    }

    /// The masks of a batch, expanded from the seed of `first`.
    pub(crate) fn mask(&self, first: SeedLabel, limbs: LimbSet, batch: usize) -> Result<Poly<B, Evaluation>> {
        let mut mask = self.context.allocate(limbs, batch)?;
        let labels = bytes::labels(first, batch);
        self.context.backend().expand_seed(
            self.context.queue(),
            self.context.tables(),
            &mut mask.view_mut(),
            &labels,
        )?;
        Ok(mask)
    }

    /// Overwrites polynomials with their products with the secret, in the coefficient domain. Whoever knows the
    /// polynomials can divide: the caller wipes the result.
    pub(crate) fn times_secret(&self, mut polys: Poly<B, Evaluation>) -> Result<Poly<B, Coefficient>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let secret = self.secret(polys.limbs(), polys.batch())?;
        backend.multiply(queue, tables, &mut polys.view_mut(), Input::InPlace, &secret)?;
        let mut product = polys.retag();
        backend.intt(queue, tables, &mut product.view_mut(), Input::InPlace)?;
        Ok(product)
    }

    /// c0 + c1 s + c2 s^2 + .., still carrying the noise. Publishing exact decryptions of CKKS reveals the key (Li and
    /// Micciancio, ePrint 2020/1533): keep them, or flood them first.
    ///
    /// # Errors
    /// A failing device.
    pub fn decrypt(&self, ciphertext: &Ciphertext<B>) -> Result<Plaintext<B>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let (limbs, batch) = (ciphertext.limbs(), ciphertext.batch());
        let secret = self.secret(limbs, batch)?;
        let mut poly: Poly<B, Evaluation> = self.context.allocate(limbs, batch)?;
        // Horner's rule, from the highest component down.
        let mut components = ciphertext.components.iter().rev();
        if let (Some(highest), next) = (components.next(), components.next()) {
            backend.copy(queue, &mut poly.view_mut(), &next.unwrap_or(highest).view())?;
            if next.is_some() {
                backend.multiply_accumulate(queue, tables, &mut poly.view_mut(), &highest.view(), &secret)?;
            }
        }
        for component in components {
            backend.multiply(queue, tables, &mut poly.view_mut(), Input::InPlace, &secret)?;
            backend.add(queue, tables, &mut poly.view_mut(), Input::InPlace, &component.view())?;
        }
        Ok(Plaintext { poly, scale: ciphertext.scale })
    }
}
