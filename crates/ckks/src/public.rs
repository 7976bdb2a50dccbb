//! Public keys: whoever has one can encrypt, and can blind a ciphertext with a fresh encryption of zero.

use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Poly};
use zeroize::Zeroizing;

use crate::sampling::Sampler;
use crate::{Ciphertext, Context, Plaintext, Result, bytes};

/// A public encryption key: an encryption of zero under the secret key, at the highest level.
#[derive(Debug)]
pub struct PublicKey<B: Backend>(Ciphertext<B>);

impl<B: Backend> PublicKey<B> {
    /// A key from an encryption of zero: two components at the highest level.
    pub fn new(zero: Ciphertext<B>) -> Self {
        Self(zero)
    }

    /// Public-key encryption: u (b, a) + (m + e0, e1) with u ternary.
    ///
    /// # Errors
    /// [`crate::Error::Randomness`], or a failing device.
    pub fn encrypt(&self, context: &Context<B>, plaintext: &Plaintext<B>) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let mut out = self.zeros(context, plaintext.poly.limbs(), plaintext.poly.batch())?;
        if let Some(first) = out.components.first_mut() {
            backend.add(queue, tables, &mut first.view_mut(), Input::InPlace, &plaintext.poly.view())?;
        }
        Ok(Ciphertext { scale: plaintext.scale, ..out })
    }

    /// Fresh encryptions of zero: u (b, a) + (e0, e1) with u ternary.
    ///
    /// # Errors
    /// As [`encrypt`](Self::encrypt).
    pub fn zeros(&self, context: &Context<B>, limbs: LimbSet, batch: usize) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let mut sampler = Sampler::from_os()?;
        let mut small = Zeroizing::new(vec![0; batch * context.params().degree()]);
        sampler.ternary(&mut small);
        let mut u = small_polynomials(context, limbs, &small)?;
        let components = self.0.components.iter().map(|component| {
            sampler.noise(&mut small);
            let mut out = small_polynomials(context, limbs, &small)?;
            let key = component.view().with_limbs(limbs)?.repeat(batch);
            backend.multiply_accumulate(queue, tables, &mut out.view_mut(), &u.view(), &key)?;
            Ok(out)
        });
        let components = components.collect::<Result<Vec<_>>>()?;
        backend.wipe(queue, u.buffer_mut())?;
        Ok(Ciphertext { components, scale: 1.0, seed: None })
    }

    /// The key as the contents of a file.
    ///
    /// # Errors
    /// A failing device.
    pub fn to_bytes(&self, context: &Context<B>) -> Result<Vec<u8>> {
        bytes::encode_public_key(context, &self.0)
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`crate::Error::Wire`] if the bytes are damaged or belong to other parameters.
    pub fn from_bytes(context: &Context<B>, bytes: &[u8]) -> Result<Self> {
        Ok(Self(bytes::decode_public_key(context, bytes)?))
    }
}

/// Polynomials of small integers in the evaluation domain.
fn small_polynomials<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    small: &[i8],
) -> Result<Poly<B, Evaluation>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let (ring, degree) = (context.params().ring(), context.params().degree());
    let mut words = Zeroizing::new(Vec::with_capacity(small.len() * limbs.len()));
    for row in small.chunks_exact(degree) {
        for limb in limbs.iter() {
            let q = ring.modulus(limb).value();
            // Adds q where x is negative, without a branch.
            words.extend(row.iter().map(|&x| {
                let x = i64::from(x);
                x.wrapping_add((x >> 63) & q as i64) as u64
            }));
        }
    }
    let mut poly: Poly<B, Coefficient> = context.allocate(limbs, small.len() / degree)?;
    backend.upload(queue, &mut poly.view_mut(), &words)?;
    let mut poly = poly.retag();
    backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}
