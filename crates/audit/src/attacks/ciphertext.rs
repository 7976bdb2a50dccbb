//! (e) Images from bytes of ciphertexts: the control.
//!
//! The attacker gets more than a server has: as many pairs of picture and ciphertext as it has pictures of its own, under
//! the very key of the victims. An attack that gained here would have found a fault in the encryption or in what stands
//! in the clear beside it. One that gains nothing says only that the encryption is not broken by the same means that
//! work on tokens; it says nothing about what is decrypted later. Encryption draws from the operating system, so that
//! these rows, alone of all, differ from run to run.

use arras_ckks::Context;
use arras_cpu::Cpu;
use arras_heads::{Groups, Layout, Preset};
use arras_secret::{Cipher, SecretKey};

use crate::scene::{Inverted, Scene, Seen};
use crate::{Attack, Error, Finding, Result};

/// The bytes of a request of one image for each token, as a client sends it, all under one fresh key.
///
/// # Errors
/// Tokens beyond the bounds of the preset, no randomness.
pub fn requests(tokens: &[Vec<f32>], key: &Key) -> Result<Vec<Vec<u8>>> {
    let failed = |error: &dyn std::fmt::Display| Error::invalid("encryption", error.to_string());
    let context = Context::new(key.backend.clone(), key.preset.params.clone()).map_err(|e| failed(&e))?;
    let cipher = Cipher::new(&context, &key.secret).map_err(|e| failed(&e))?;
    tokens
        .iter()
        .map(|token| {
            let groups = Groups::new(Layout::Dot, key.preset.params.degree(), token.len(), 1);
            let groups = groups.map_err(|e| failed(&e))?;
            let query = cipher.encrypt_features(groups, token, None).map_err(|e| failed(&e))?;
            Ok(query.to_bytes())
        })
        .collect()
}

/// A fresh key of the default preset.
///
/// ```
/// use arras_audit::attacks::ciphertext::{Key, requests};
///
/// // The same token twice under one key.
/// let found = requests(&vec![vec![0.5; 768]; 2], &Key::new()?)?;
/// assert_eq!(found[0].len(), found[1].len());
/// assert_ne!(found[0], found[1]);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[expect(missing_debug_implementations, reason = "holds a secret key")]
pub struct Key {
    backend: Cpu,
    preset: &'static Preset,
    secret: SecretKey,
}

impl Key {
    /// Draws a key.
    ///
    /// # Errors
    /// No randomness, no threads.
    pub fn new() -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::invalid("encryption", error.to_string());
        let preset = Preset::named(Preset::DEFAULT).map_err(|e| failed(&e))?;
        let secret = SecretKey::generate(&preset.params).map_err(|e| failed(&e))?;
        Ok(Self { backend: Cpu::with_threads(1).map_err(|e| failed(&e))?, preset, secret })
    }
}

/// Runs the control on the tokens that the other attacks see in the clear.
///
/// # Errors
/// Tokens beyond the bounds of the preset, no randomness.
pub fn run(scene: &Scene<'_>, own: &[Vec<f32>], victims: &[Vec<f32>]) -> Result<(Finding, Inverted)> {
    let key = Key::new()?;
    let rows = |tokens: &[Vec<f32>]| -> Result<Vec<Vec<f32>>> {
        let as_row = |bytes: Vec<u8>| bytes.into_iter().map(|byte| f32::from(byte) / 255.0).collect();
        Ok(requests(tokens, &key)?.into_iter().map(as_row).collect())
    };
    // The candidates are encrypted anew: the attacker has no other way to compare.
    let seen = Seen { own: rows(own)?, victims: rows(victims)?, candidates: rows(victims)? };
    let bytes = seen.victims.first().map_or(0, Vec::len);
    let inverted = scene.invert(&seen)?;
    let row = (Attack::Ciphertext, "requests, byte by byte", "server", "CKKS");
    let finding =
        scene.finding(row, &inverted).parameter("bytes", bytes).parameter("preset", key.preset.name);
    Ok((finding, inverted))
}
