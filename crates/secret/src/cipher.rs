//! A secret key on a backend.

use arras_ckks::{Ciphertext, Context, Plaintext, PublicKey, bytes};
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
        let secret = upload_small(
            context,
            context.params().ring().limbs(),
            key.coefficients().len(),
            key.coefficients(),
        )?;
        let mut secret = secret.retag();
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
        self.encrypt_with(None, self.context.params().limbs(), 1, Purpose::PublicKey).map(PublicKey::new)
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
        let mut body = noise(self.context, &mut rng, limbs, batch)?;
        let mut product = self.context.allocate(limbs, batch)?;
        let secret = self.secret(limbs, batch)?;
        backend.multiply(queue, tables, &mut product.view_mut(), mask.view().into(), &secret)?;
        backend.sub(queue, tables, &mut body.view_mut(), Input::InPlace, &product.view())?;
        // With the public mask, the product alone gives the secret.
        backend.wipe(queue, product.buffer_mut())?;
        if let Some(plaintext) = plaintext {
            backend.add(queue, tables, &mut body.view_mut(), Input::InPlace, &plaintext.poly.view())?;
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
        if let Some(highest) = components.next() {
            backend.copy(queue, &mut poly.view_mut(), &highest.view())?;
        }
        for component in components {
            backend.multiply(queue, tables, &mut poly.view_mut(), Input::InPlace, &secret)?;
            backend.add(queue, tables, &mut poly.view_mut(), Input::InPlace, &component.view())?;
        }
        Ok(Plaintext { poly, scale: ciphertext.scale })
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
    let mut small = Zeroizing::new(vec![0; batch * degree]);
    small.iter_mut().for_each(|e| *e = rng.noise());
    let mut poly = upload_small(context, limbs, degree, &small)?.retag();
    context.backend().ntt(context.queue(), context.tables(), &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}

/// Residues of small integers, `row` of them per polynomial; the other coefficients are 0.
pub(crate) fn upload_small<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    row: usize,
    small: &[i8],
) -> Result<Poly<B, Coefficient>> {
    let (ring, degree) = (context.params().ring(), context.params().degree());
    let mut words = Zeroizing::new(vec![0u64; small.len() / row * limbs.len() * degree]);
    let mut rows = words.chunks_exact_mut(degree);
    for small in small.chunks_exact(row) {
        for (limb, words) in limbs.iter().zip(&mut rows) {
            let q = ring.modulus(limb).value();
            for (word, &x) in words.iter_mut().zip(small) {
                // Adds q where x is negative, without a branch.
                *word = i64::from(x).wrapping_add((i64::from(x) >> 63) & q as i64) as u64;
            }
        }
    }
    let mut poly = context.allocate(limbs, small.len() / row)?;
    context.backend().upload(context.queue(), &mut poly.view_mut(), &words)?;
    Ok(poly)
}
