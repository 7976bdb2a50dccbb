//! Plaintexts and ciphertexts.

use arras_rns::{Backend, Evaluation, LimbSet, Poly, SeedLabel};

/// Encoded numbers in the evaluation domain, not encrypted.
#[derive(Debug)]
pub struct Plaintext<B: Backend> {
    /// One polynomial per row of values.
    pub poly: Poly<B, Evaluation>,
    /// What the numbers were multiplied by.
    pub scale: f64,
}

/// Encrypted numbers: component i is multiplied by the i-th power of the secret key. A batch of one is a single
/// ciphertext.
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
