//! (k) Images from logits: what is left of a picture in the answer that a client sends on, or that leaks from it.

use arras_heads::Head;

use crate::scene::{Inverted, Scene, Seen};
use crate::{Attack, Error, Finding, Result};

/// Runs the attack with a head of the tokens' dimension.
///
/// # Errors
/// Tokens of another length than the head's.
pub fn run(
    scene: &Scene<'_>,
    head: &Head,
    own: &[Vec<f32>],
    victims: &[Vec<f32>],
) -> Result<(Finding, Inverted)> {
    let logits = |tokens: &[Vec<f32>]| -> Result<Vec<Vec<f32>>> {
        if tokens.iter().any(|token| token.len() != head.dimension()) {
            return Err(Error::invalid("tokens", "not as long as the head's rows"));
        }
        Ok(tokens.iter().map(|token| head.logits(token)).collect())
    };
    let seen = Seen { own: logits(own)?, victims: logits(victims)?, candidates: logits(victims)? };
    let inverted = scene.invert(&seen)?;
    let what = format!("{} logits", head.class_count());
    let row = (Attack::Logits, what.as_str(), "whoever is shown the logits", "none");
    Ok((scene.finding(row, &inverted), inverted))
}
