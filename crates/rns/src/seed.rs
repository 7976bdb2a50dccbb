//! Public expansion of seeds into uniform polynomials. The full specification is `docs/seed-expansion.md`.
//!
//! Only *public* randomness comes from here: the mask `a` of a ciphertext or a key. Secrets are drawn elsewhere, from
//! the operating system.

use crate::Modulus;

/// 256 bits from which public polynomials are expanded.
pub type Seed = [u8; 32];

/// What an expanded polynomial is for; separates the streams of one seed.
///
/// See the example of [`SeedLabel`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// The mask of a symmetric ciphertext.
    Ciphertext = 0,
    /// The mask of a public encryption key.
    PublicKey = 1,
    /// The mask of an evaluation key.
    EvaluationKey = 2,
    /// A common random string of several parties.
    CommonRandomString = 3,
}

/// Names one uniform polynomial, once per prime of the chain.
///
/// ```
/// use arras_rns::{Modulus, Purpose, SeedLabel};
///
/// let label = SeedLabel { seed: [7; 32], purpose: Purpose::Ciphertext, object: 0, polynomial: 0 };
/// let q = Modulus::new(97)?;
/// let (mut sent, mut received) = ([0; 16], [0; 16]);
/// label.expand(q, &mut sent);
/// label.expand(q, &mut received);
/// assert_eq!(sent, received);
/// // The same seed gives something else for another purpose.
/// SeedLabel { purpose: Purpose::PublicKey, ..label }.expand(q, &mut received);
/// assert_ne!(sent, received);
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeedLabel {
    /// The public seed.
    pub seed: Seed,
    /// What the polynomial is for.
    pub purpose: Purpose,
    /// The object it belongs to, unique under a seed and purpose.
    pub object: u64,
    /// Which polynomial of the object.
    pub polynomial: u32,
}

impl SeedLabel {
    /// The message that is hashed for one prime: 60 bytes, so one BLAKE3 block.
    pub fn message(&self, modulus: Modulus) -> [u8; 60] {
        let mut message = [0; 60];
        message[..7].copy_from_slice(b"arras/1");
        message[7..39].copy_from_slice(&self.seed);
        message[39] = self.purpose as u8;
        message[40..48].copy_from_slice(&self.object.to_le_bytes());
        message[48..52].copy_from_slice(&self.polynomial.to_le_bytes());
        message[52..].copy_from_slice(&modulus.value().to_le_bytes());
        message
    }

    /// The bytes that a row is made of.
    pub fn stream(&self, modulus: Modulus) -> blake3::OutputReader {
        blake3::Hasher::new().update(&self.message(modulus)).finalize_xof()
    }

    /// Fills `row` with uniform residues: element i, in the bit-reversed order of the evaluation domain, is the i-th
    /// little-endian 128-bit chunk of the BLAKE3 output, reduced. The bias of a residue is at most q / 2^128.
    pub fn expand(&self, modulus: Modulus, row: &mut [u64]) {
        const CHUNK: usize = 64;
        let mut stream = self.stream(modulus);
        let mut bytes = [0u8; 16 * CHUNK];
        for part in row.chunks_mut(CHUNK) {
            let bytes = &mut bytes[..16 * part.len()];
            stream.fill(bytes);
            for (residue, chunk) in part.iter_mut().zip(bytes.as_chunks::<16>().0) {
                *residue = modulus.reduce(u128::from_le_bytes(*chunk));
            }
        }
    }
}
