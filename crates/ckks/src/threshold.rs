//! Combining what holders of key shares hand out: the public half of threshold decryption.
//!
//! Parties 1 to N hold keys s_i, and Shamir shares (1979) of each other's keys modulo every prime: party j has f_i(j) of a
//! polynomial f_i of degree t - 1 with f_i(0) = s_i. For a set A of uploads (b_i, a) with a common a, the key of their sum is
//! `S = sum over A of s_i`, and `sum over A of f_i(j)` is party j's share of it. Any t parties D recover
//! `a S = sum over j in D of lambda_j a sum over A of f_i(j)`, `lambda_j = product over m in D, m != j of m / (m - j)`.
//! Each term is handed out flooded and encrypted under the receiver's public key (public key switching: Mouchet,
//! Troncoso-Pastoriza, Bossuat and Hubaux, PETS 2021, section 4.4), so that only the receiver sees the sum.

use arras_rns::{Backend, Evaluation, Input, LimbSet, Poly, Purpose, Ring, Seed, SeedLabel};

use crate::{Ciphertext, Context, Error, PublicKey, Result};

/// Most parties that hold shares.
pub const MAX_PARTIES: u32 = 1000;

/// Bits of flooding beyond the noise that it hides.
pub const FLOODING_MARGIN: u32 = 40;
/// Largest magnitude of one coefficient of fresh noise.
const NOISE: u64 = 21;

/// log2 of the flooding that hides the noise of `uploads` added ciphertexts: each share adds integers uniform in
/// `[-2^bits, 2^bits)`, at least `2^40` times the largest noise.
pub const fn flooding_bits(uploads: u32) -> u32 {
    FLOODING_MARGIN + (NOISE * uploads as u64).next_power_of_two().trailing_zeros()
}

/// Largest error of a decrypted sum: the noise of the uploads, the flooding of the shares, and the noise of encrypting the
/// shares under the receiver's key, `N * 21 * 2 + 21` each.
pub fn noise_bound(degree: usize, uploads: u32, shares: u32) -> f64 {
    let of_share = f64::from(flooding_bits(uploads)).exp2() + (2 * degree + 1) as f64 * NOISE as f64;
    NOISE as f64 * f64::from(uploads) + of_share * f64::from(shares)
}

/// `lambda_j` at 0 for the point `own` among `points`, for each of the limbs.
///
/// # Errors
/// [`Error::Points`] unless `points` are distinct numbers from 1 to [`MAX_PARTIES`], `own` among them.
pub fn lagrange(ring: &Ring, limbs: LimbSet, points: &[u32], own: u32) -> Result<Vec<u64>> {
    check_points(points)?;
    if !points.contains(&own) {
        return Err(Error::Points { problem: format!("{own} is not one of {points:?}") });
    }
    let others = || points.iter().filter(|&&point| point != own);
    let of_limb = |limb| {
        let q = ring.modulus(limb);
        let difference = |point: u32| q.reduce_signed(i128::from(point) - i128::from(own));
        let numerator = others().fold(1, |product, &point| q.mul(product, u64::from(point)));
        let denominator = others().fold(1, |product, &point| q.mul(product, difference(point)));
        q.mul(numerator, q.inverse(denominator))
    };
    Ok(limbs.iter().map(of_limb).collect())
}

/// Refuses points that share out nothing: zero would be the secret itself.
fn check_points(points: &[u32]) -> Result<()> {
    let mut sorted = points.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let in_range = sorted.iter().all(|point| (1..=MAX_PARTIES).contains(point));
    if points.is_empty() || sorted.len() != points.len() || !in_range {
        let problem = format!("{points:?} are not distinct numbers from 1 to {MAX_PARTIES}");
        return Err(Error::Points { problem });
    }
    Ok(())
}

/// Adds another party's polynomials: uploads under a common mask, or shares of a public key.
///
/// # Errors
/// Another shape, or a failing device.
pub fn accumulate<B: Backend>(
    context: &Context<B>,
    sum: &mut Poly<B, Evaluation>,
    other: &Poly<B, Evaluation>,
) -> Result<()> {
    Ok(context.backend().add(
        context.queue(),
        context.tables(),
        &mut sum.view_mut(),
        Input::InPlace,
        &other.view(),
    )?)
}

/// The sum of uploads and the shares of its key, as a ciphertext under the receiver's key.
///
/// # Errors
/// [`Error::Count`] without shares, or if one does not have two components; another shape; a failing device.
pub fn combine<B: Backend>(
    context: &Context<B>,
    sum: &Poly<B, Evaluation>,
    shares: Vec<Ciphertext<B>>,
    scale: f64,
) -> Result<Ciphertext<B>> {
    let refuse = |what, found, expected: &str| {
        Err(Error::Count { operation: "combine", what, found, expected: expected.to_owned() })
    };
    if let Some(share) = shares.iter().find(|share| share.components.len() != 2) {
        return refuse("the number of components", share.components.len(), "2");
    }
    let mut shares = shares.into_iter();
    let Some(mut total) = shares.next() else {
        return refuse("the number of shares", 0, "at least 1");
    };
    accumulate(context, &mut total.components[0], sum)?;
    for share in shares {
        for (total, component) in total.components.iter_mut().zip(&share.components) {
            accumulate(context, total, component)?;
        }
    }
    Ok(Ciphertext { components: total.components, scale, seed: None })
}

/// The label of the masks of the uploads to one attempt of one round, from the seed that its parties agreed on.
pub fn common(seed: Seed) -> SeedLabel {
    SeedLabel { seed, purpose: Purpose::CommonRandomString, object: 0, polynomial: 0 }
}

/// The public key of the sum of the keys whose shares, one polynomial each, were added up.
///
/// # Errors
/// [`Error::Count`] if the sum is not a single polynomial; a failing device.
pub fn collective_key<B: Backend>(
    context: &Context<B>,
    seed: Seed,
    sum: Poly<B, Evaluation>,
) -> Result<PublicKey<B>> {
    if sum.batch() != 1 {
        let expected = "1".to_owned();
        let what = "the number of polynomials";
        return Err(Error::Count { operation: "collective key", what, found: sum.batch(), expected });
    }
    let mut mask = context.allocate(sum.limbs(), 1)?;
    context.backend().expand_seed(
        context.queue(),
        context.tables(),
        &mut mask.view_mut(),
        &[common(seed)],
    )?;
    Ok(PublicKey::new(Ciphertext { components: vec![sum, mask], scale: 1.0, seed: Some(common(seed)) }))
}
