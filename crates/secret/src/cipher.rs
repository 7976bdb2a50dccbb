//! A secret key on a backend.

use arras_ckks::{Ciphertext, Context, Plaintext, bytes};
use arras_heads::query::KeyId;
use arras_rns::backend::Quantise;
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
        let coefficients = Zeroizing::new(key.coefficients().iter().map(|&x| float(x)).collect::<Vec<_>>());
        let limbs = context.params().ring().limbs();
        let mut secret = upload_small(context, limbs, coefficients.len(), &coefficients)?.retag();
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
    /// [`Error::Randomness`], or a failing device.
    pub fn encrypt(&self, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        let mut rng = SecretRng::from_os()?;
        let label = SeedLabel { seed: rng.bytes(), purpose: Purpose::Ciphertext, object: 0, polynomial: 0 };
        let (limbs, batch) = (plaintext.poly.limbs(), plaintext.poly.batch());
        self.encrypt_under(label, &mut rng, Some(plaintext), limbs, batch)
    }

    /// A public key for this secret.
    ///
    /// # Errors
    /// [`Error::Randomness`], or a failing device.
    pub fn public_key(&self) -> Result<PublicKey<B>> {
        let mut rng = SecretRng::from_os()?;
        let label = SeedLabel { seed: rng.bytes(), purpose: Purpose::PublicKey, object: 0, polynomial: 0 };
        self.encrypt_under(label, &mut rng, None, self.context.params().limbs(), 1).map(PublicKey)
    }

    /// (m + e - a s, a) with a expanded from the label. No two messages may ever meet the same key and label: their
    /// difference would be public.
    pub(crate) fn encrypt_under(
        &self,
        label: SeedLabel,
        rng: &mut SecretRng,
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

impl<B: Backend> PublicKey<B> {
    /// A key from its body and mask, one polynomial each over all limbs of Q.
    pub(crate) fn from_components(components: Vec<Poly<B, Evaluation>>, seed: Option<SeedLabel>) -> Self {
        Self(Ciphertext { components, scale: 1.0, seed })
    }

    /// Public-key encryption: u (b, a) + (m + e0, e1) with u ternary.
    ///
    /// # Errors
    /// [`Error::Randomness`], or a failing device.
    pub fn encrypt(&self, context: &Context<B>, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let (limbs, batch) = (plaintext.poly.limbs(), plaintext.poly.batch());
        let mut rng = SecretRng::from_os()?;
        let mut blinding = Zeroizing::new(vec![0; batch * context.params().degree()]);
        rng.ternary(&mut blinding, float);
        let mut u = upload_small(context, limbs, context.params().degree(), &blinding)?.retag();
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
    let mut small = Zeroizing::new(vec![0; batch * degree]);
    rng.noise(&mut small, float);
    let mut poly = upload_small(context, limbs, degree, &small)?.retag();
    context.backend().ntt(context.queue(), context.tables(), &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}

/// The bit pattern of a float: what [`upload_small`] takes.
pub(crate) fn float(x: i8) -> u64 {
    f64::from(x).to_bits()
}

/// Residues of small integers given as floats, `row` of them per polynomial; the other coefficients are 0. One number per
/// coefficient goes to the backend, which makes it a residue of every limb.
pub(crate) fn upload_small<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    row: usize,
    small: &[u64],
) -> Result<Poly<B, Coefficient>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let mut poly = context.allocate(limbs, small.len() / row)?;
    let mut buffer = backend.allocate(queue, small.len())?;
    backend.write(queue, &mut buffer, 0, small)?;
    let how = Quantise { first: 0, batch_stride: row, coefficient_stride: 1, count: row, scale_bits: 0 };
    backend.quantise(queue, tables, &mut poly.view_mut(), &buffer, how)?;
    backend.wipe(queue, &mut buffer)?;
    Ok(poly)
}
