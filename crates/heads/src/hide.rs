//! Hiding a head in its replies.
//!
//! The components of a reply are combinations of masks that the client knows, with the weights as coefficients: component 1
//! gives them away, and so does, little by little, the noise `sum_j w_j e_j` of component 0, whose `e_j` the client
//! can compute. So the server adds
//!
//! - a fresh encryption of zero under the client's public key: component 1 gains `a u + e_1` with a secret ternary u and is,
//!   by the ring-LWE assumption, as good as uniform, and
//! - a flood, uniform below `2^40` times the bound on that noise, to every coefficient of component 0 that is sent.
//!
//! What remains visible are the logits at the precision of the flood. The reply is then divided by the second prime and
//! trimmed: both compute on what the client may see. The public key has to be honest: one made without a secret blinds
//! nothing. So the client is trusted to follow the protocol, as everywhere.

use arras_ckks::evaluator::Evaluator;
use arras_ckks::sampling::Sampler;
use arras_ckks::{Ciphertext, Context, PublicKey};
use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly, Positions};

use crate::{Error, Query, Result};

/// The public key of a query.
///
/// # Errors
/// [`Error::PublicKey`] without one; [`Error::Ckks`] if it is damaged or belongs to other parameters.
pub(crate) fn public_key<B: Backend>(context: &Context<B>, query: &Query) -> Result<PublicKey<B>> {
    if query.public_key().is_empty() {
        return Err(Error::PublicKey("the query has none, and the preset hides heads under it"));
    }
    Ok(PublicKey::from_bytes(context, query.public_key())?)
}

/// Blinds, floods below `2^flood_bits` at `positions`, and divides down to level 0.
pub(crate) fn hide<B: Backend>(
    context: &Context<B>,
    key: &PublicKey<B>,
    components: [Poly<B, Coefficient>; 2],
    flood_bits: u32,
    positions: Positions,
) -> Result<Vec<Poly<B, Evaluation>>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let [first, _] = &components;
    let (limbs, batch) = (first.limbs(), first.batch());
    let mut blinded = key.zeros(context, limbs, batch)?;
    let flood = flood(context, batch, flood_bits, positions)?;
    let [mut first, second] = components;
    backend.add(queue, tables, &mut first.view_mut(), Input::InPlace, &flood.view())?;
    for (component, answer) in blinded.components.iter_mut().zip([first, second]) {
        let mut answer: Poly<B, Evaluation> = answer.retag();
        backend.ntt(queue, tables, &mut answer.view_mut(), Input::InPlace)?;
        backend.add(queue, tables, &mut component.view_mut(), Input::InPlace, &answer.view())?;
    }
    // Scales are the budget's business; this one only has to be above the primes.
    let mut out =
        Ciphertext { scale: context.params().log_modulus(context.params().max_level()).exp2(), ..blinded };
    let evaluator = Evaluator::new(context);
    while out.level() > 0 {
        out = evaluator.rescale(&out)?;
    }
    Ok(out.components)
}

fn flood<B: Backend>(
    context: &Context<B>,
    batch: usize,
    bits: u32,
    positions: Positions,
) -> Result<Poly<B, Coefficient>> {
    let (params, limbs) = (context.params(), context.params().limbs());
    let (degree, ring) = (params.degree(), params.ring());
    let mut sampler = Sampler::from_os()?;
    let mut words = vec![0; batch * limbs.len() * degree];
    for polynomial in words.chunks_exact_mut(limbs.len() * degree) {
        for at in positions.iter() {
            let value = sampler.uniform(bits);
            for (limb, row) in limbs.iter().zip(polynomial.chunks_exact_mut(degree)) {
                row[at] = ring.modulus(limb).reduce_signed(value);
            }
        }
    }
    let mut poly = context.allocate(limbs, batch)?;
    context.backend().upload(context.queue(), &mut poly.view_mut(), &words)?;
    Ok(poly)
}
