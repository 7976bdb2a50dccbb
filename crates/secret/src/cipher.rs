//! A secret key on a backend.

use arras_ckks::{Ciphertext, Context, Plaintext, bytes, small};
use arras_heads::query::KeyId;
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Poly, Purpose, SeedLabel};
use zeroize::Zeroizing;

use crate::sampling::SecretRng;
use crate::{Error, Result, SecretKey};

/// Encrypts and decrypts under one secret key, which it holds in the evaluation domain on the backend. The memory is
/// overwritten, in queue order, when this is dropped.
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

/// A public encryption key: an encryption of zero under the secret key.
#[derive(Debug)]
pub struct PublicKey<B: Backend>(Ciphertext<B>);

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
        let coefficients =
            Zeroizing::new(key.coefficients().iter().map(|&x| small::float(x)).collect::<Vec<_>>());
        let limbs = context.params().ring().limbs();
        let mut secret = small::upload(context, limbs, coefficients.len(), &coefficients)?.retag();
        context.backend().ntt(context.queue(), context.tables(), &mut secret.view_mut(), Input::InPlace)?;
        Ok(Self { context, id: key.id(), secret })
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
    /// [`Error::Randomness`], or a failing device.
    pub fn encrypt(&self, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        self.encrypt_with(
            Some(plaintext),
            plaintext.poly.limbs(),
            plaintext.poly.batch(),
            Purpose::Ciphertext,
        )
    }

    /// A public key for this secret.
    ///
    /// # Errors
    /// [`Error::Randomness`], or a failing device.
    pub fn public_key(&self) -> Result<PublicKey<B>> {
        self.encrypt_with(None, self.context.params().limbs(), 1, Purpose::PublicKey).map(PublicKey)
    }

    fn encrypt_with(
        &self,
        plaintext: Option<&Plaintext<B>>,
        limbs: LimbSet,
        batch: usize,
        purpose: Purpose,
    ) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let mut rng = SecretRng::from_os()?;
        let label = SeedLabel { seed: rng.bytes(), purpose, object: 0, polynomial: 0 };
        let mask = self.mask(label, limbs, batch)?;
        // a s - e first: the noise is as likely as its negative.
        let mut body = noise(self.context, &mut rng, limbs, batch)?;
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

impl<B: Backend> PublicKey<B> {
    /// Public-key encryption: u (b, a) + (m + e0, e1) with u ternary.
    ///
    /// # Errors
    /// [`Error::Randomness`], or a failing device.
    pub fn encrypt(&self, context: &Context<B>, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let (limbs, batch) = (plaintext.poly.limbs(), plaintext.poly.batch());
        let mut rng = SecretRng::from_os()?;
        let mut blinding = Zeroizing::new(vec![0; batch * context.params().degree()]);
        rng.ternary(&mut blinding, small::float);
        let mut u = small::upload(context, limbs, context.params().degree(), &blinding)?.retag();
        backend.ntt(queue, tables, &mut u.view_mut(), Input::InPlace)?;
        let components = self.0.components.iter().map(|component| {
            let mut out = noise(context, &mut rng, limbs, batch)?;
            let key = component.view().with_limbs(limbs)?.repeat(batch);
            backend.multiply_accumulate(queue, tables, &mut out.view_mut(), &u.view(), &key)?;
            Ok(out)
        });
        let mut components = components.collect::<Result<Vec<_>>>()?;
        backend.wipe(queue, u.buffer_mut())?;
        backend.add(queue, tables, &mut components[0].view_mut(), Input::InPlace, &plaintext.poly.view())?;
        Ok(Ciphertext { components, scale: plaintext.scale, seed: None })
    }

    /// The key as the contents of a file.
    ///
    /// # Errors
    /// A failing device.
    pub fn to_bytes(&self, context: &Context<B>) -> Result<Vec<u8>> {
        Ok(bytes::encode_public_key(context, &self.0)?)
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`Error::Ckks`] if the bytes are damaged or belong to other parameters.
    pub fn from_bytes(context: &Context<B>, bytes: &[u8]) -> Result<Self> {
        Ok(Self(bytes::decode_public_key(context, bytes)?))
    }
}

/// Fresh noise in the evaluation domain.
pub(crate) fn noise<B: Backend>(
    context: &Context<B>,
    rng: &mut SecretRng,
    limbs: LimbSet,
    batch: usize,
) -> Result<Poly<B, Evaluation>> {
    let degree = context.params().degree();
    let mut noise = Zeroizing::new(vec![0; batch * degree]);
    rng.noise(&mut noise, small::float);
    let mut poly = small::upload(context, limbs, degree, &noise)?.retag();
    context.backend().ntt(context.queue(), context.tables(), &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}
