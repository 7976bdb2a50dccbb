//! (c) Images from plain CLS tokens, by a decoder fitted on the attacker's own images.
//!
//! What the server of the published system would see if nothing were encrypted, and what everybody sees who holds the
//! decryption key. The decoder is [`regression`](crate::regression); beside pictures it is asked for names: an attacker
//! that holds candidates computes their tokens and looks for the nearest.

use crate::scene::{Inverted, Scene, Seen};
use crate::{Attack, Finding, Result};

/// Runs the attack: `own[i]` is the token of the attacker's picture i, `victims[i]` that of victim i.
///
/// # Errors
/// Tokens of different lengths or numbers.
pub fn run(scene: &Scene<'_>, own: &[Vec<f32>], victims: &[Vec<f32>]) -> Result<(Finding, Inverted)> {
    let seen = Seen { own: own.to_vec(), victims: victims.to_vec(), candidates: victims.to_vec() };
    let inverted = scene.invert(&seen)?;
    let row = (Attack::Decoder, "CLS tokens", "whoever holds tokens or the key", "none");
    Ok((scene.finding(row, &inverted), inverted))
}
