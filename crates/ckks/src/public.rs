//! Public keys: whoever has one can encrypt, and can blind a ciphertext with a fresh encryption of zero.

use arras_rns::{Backend, Input, LimbSet};

use crate::sampling::{Sampler, noise, ternary_polynomials};
use crate::{Ciphertext, Context, Plaintext, Result, bytes};

/// A public encryption key: an encryption of zero under the secret key, at the highest level.
///
/// ```
/// use arras_ckks::PublicKey;
/// use arras_ckks::encoder::{decode_coefficients, encode_coefficients};
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
/// // The owner of the secret publishes a key, with which others encrypt.
/// let bytes = cipher.public_key()?.to_bytes(&context)?;
/// let key = PublicKey::from_bytes(&context, &bytes)?;
/// let encrypted = key.encrypt(&context, &encode_coefficients(&context, &[1.5, -2.0], 2, 40, 2)?)?;
/// let decrypted = decode_coefficients(&context, &cipher.decrypt(&encrypted)?, 2)?;
/// assert!((decrypted[0] - 1.5).abs() < 1e-6 && (decrypted[1] + 2.0).abs() < 1e-6);
/// # Ok::<(), arras_secret::Error>(())
/// ```
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
        let mut u = ternary_polynomials(context, &mut sampler, limbs, batch)?;
        let components = self.0.components.iter().map(|component| {
            let mut out = noise(context, &mut sampler, limbs, batch)?;
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
