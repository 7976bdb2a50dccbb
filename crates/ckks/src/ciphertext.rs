//! Plaintexts and ciphertexts.

use arras_rns::{Backend, Evaluation, LimbSet, Poly, SeedLabel};

/// Encoded numbers in the evaluation domain, not encrypted.
///
/// ```
/// use arras_ckks::encoder::{decode_coefficients, encode_coefficients};
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
///
/// # let q = arras_rns::prime::ntt_primes(45, 64, 4, &[])?;
/// # let (moduli, special) = (q[1..].to_vec(), vec![q[0]]);
/// # let spec = Spec { degree: 64, moduli, special, digits: 3, scale_bits: 40, security: Security::Unchecked };
/// # let context = Context::new(Cpu::sequential(), Params::insecure(spec)?)?;
/// // Two rows of two numbers, so two polynomials, at scale 2^30 and level 1.
/// let plaintext = encode_coefficients(&context, &[1.5, -2.0, 3.25, 0.0], 2, 30, 1)?;
/// assert_eq!((plaintext.poly.batch(), plaintext.poly.limbs().len()), (2, 2));
/// assert_eq!(plaintext.scale, 2f64.powi(30));
/// assert_eq!(decode_coefficients(&context, &plaintext, 2)?, [1.5, -2.0, 3.25, 0.0]);
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Debug)]
pub struct Plaintext<B: Backend> {
    /// One polynomial per row of values.
    pub poly: Poly<B, Evaluation>,
    /// What the numbers were multiplied by.
    pub scale: f64,
}

/// Encrypted numbers: component i is multiplied by the i-th power of the secret key. A batch of one is a single
/// ciphertext.
///
/// ```
/// use arras_ckks::Ciphertext;
/// use arras_ckks::bytes::encode_ciphertext;
/// # use arras_ckks::encoder::encode_coefficients;
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
/// let message = encode_coefficients(&context, &[1.5, -2.0], 2, 40, 2)?;
/// let ciphertext = cipher.encrypt(&message)?;
/// assert_eq!((ciphertext.components.len(), ciphertext.level(), ciphertext.batch()), (2, 2, 1));
/// // Component 1 is the expansion of a seed, which travels in its place.
/// let seeded = encode_ciphertext(&context, &ciphertext)?;
/// let whole = encode_ciphertext(&context, &Ciphertext { seed: None, ..ciphertext })?;
/// assert!(3 * seeded.len() < 2 * whole.len());
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct Ciphertext<B: Backend> {
    /// Two components, or three after a product.
    pub components: Vec<Poly<B, Evaluation>>,
    /// What the encoded numbers are multiplied by.
    pub scale: f64,
    /// The label of the first polynomial's mask (component 1), if it is still the expansion of a seed; that of
    /// polynomial i has the object id increased by i.
    pub seed: Option<SeedLabel>,
}

impl<B: Backend> Ciphertext<B> {
    /// The limbs of every component.
    pub fn limbs(&self) -> LimbSet {
        self.components.first().map_or(LimbSet::EMPTY, Poly::limbs)
    }

    /// The level: one less than the number of limbs.
    pub fn level(&self) -> usize {
        self.limbs().len().saturating_sub(1)
    }

    /// Number of ciphertexts in the batch.
    pub fn batch(&self) -> usize {
        self.components.first().map_or(0, Poly::batch)
    }
}
