//! 6. A key that nobody holds whole: three parties add up their numbers, and one of them reads the sum.
//!
//! Every party has a secret of its own and deals shares of it to the others before anything is encrypted. Uploads to one
//! round use a common mask, so that they add up to a ciphertext under the sum of the secrets. That sum key never exists
//! anywhere: two of the three parties each turn their share of it into a flooded share of the decryption, encrypted for the
//! receiver, and no number but the sum comes out.
//!
//! This is the bare arithmetic. Who may see which sum, and that nobody answers twice, is a matter of rules; `federated` has
//! them, and the command `arras federated` uses nothing else.
//!
//! Run it with `cargo run --example 06_shared_key`.

use std::error::Error;

use arras::ckks::integers::{decode_integers, encode_integers};
use arras::ckks::threshold::{self, accumulate, combine};
use arras::ckks::{Context, Params, Security, Spec};
use arras::cpu::Cpu;
use arras::rns::prime::shifted_primes;
use arras::secret::threshold::{KeyShare, Request, decryption_share};
use arras::secret::{Cipher, SecretKey};

const DEGREE: usize = 4096;
const PARTIES: u32 = 3;
const THRESHOLD: u32 = 2;
/// Integers are multiplied by 2^52, far above what the flooding reaches.
const SCALE_BITS: u32 = 52;

fn main() -> Result<(), Box<dyn Error>> {
    let spec = Spec {
        degree: DEGREE,
        moduli: shifted_primes(49, DEGREE, 2, &[])?,
        special: Vec::new(),
        digits: 1,
        scale_bits: 20,
        security: Security::Classical128,
    };
    let context = Context::new(Cpu::sequential(), Params::new(spec)?)?;

    // Before the round: keys, and their shares dealt out. Party j adds up the shares that it got.
    let generate = |_| SecretKey::generate(context.params());
    let secrets = (0..PARTIES).map(generate).collect::<Result<Vec<_>, _>>()?;
    let dealt = secrets.iter().map(|key| key.share(THRESHOLD, PARTIES)).collect::<Result<Vec<_>, _>>()?;
    let held = added_by_point(dealt)?;

    // The round: everybody uploads once, under the mask of this round. The coordinator adds; it holds no key.
    let seed = [6; 32];
    let numbers = |party: usize| (0..8).map(|i| ((party as i64 + 1) << 20) - 1000 * i).collect::<Vec<i64>>();
    let mut sum = None;
    for (party, secret) in secrets.iter().enumerate() {
        let message = encode_integers(&context, &numbers(party), SCALE_BITS)?;
        let upload = Cipher::new(&context, secret)?.upload(seed, &message)?;
        match &mut sum {
            None => sum = Some(upload),
            Some(sum) => accumulate(&context, sum, &upload)?,
        }
    }
    let sum = sum.ok_or("no uploads")?;

    // Parties 1 and 3 answer, for the receiver's eyes only.
    let receiver_key = SecretKey::generate(context.params())?;
    let receiver = Cipher::new(&context, &receiver_key)?;
    let public = receiver.public_key()?;
    let points = [1, 3];
    let request = Request { seed, polynomials: 1, points: &points, uploads: PARTIES };
    let answer = |&point: &u32| decryption_share(&context, &held[point as usize - 1], &request, &public);
    let shares = points.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    let noise = threshold::noise_bound(DEGREE, PARTIES, points.len() as u32);
    let total = combine(&context, &sum, shares, 1.0)?;
    let found = decode_integers(&context, &receiver.decrypt(&total)?, 8, SCALE_BITS, noise)?;
    let expected: Vec<i64> =
        (0..8).map(|i| (0..PARTIES as usize).map(|party| numbers(party)[i]).sum()).collect();
    println!("the sum, exactly: {found:?}");
    println!("noise hidden by flooding of 2^{} per share", threshold::flooding_bits(PARTIES));
    assert_eq!(found, expected);

    // One share alone leaves residues that no noise explains: an error, not a wrong number.
    let alone = Request { points: &[2], ..request };
    let refused = decryption_share(&context, &held[1], &alone, &public)?;
    let total = combine(&context, &sum, vec![refused], 1.0)?;
    let refusal = decode_integers(&context, &receiver.decrypt(&total)?, 8, SCALE_BITS, noise);
    println!("one share: {}", refusal.as_ref().map_or_else(ToString::to_string, |_| "decrypted".into()));
    assert!(refusal.is_err());
    Ok(())
}

/// What each party holds of the sum of all secrets.
fn added_by_point(dealt: Vec<Vec<KeyShare>>) -> Result<Vec<KeyShare>, Box<dyn Error>> {
    let mut dealt = dealt.into_iter();
    let mut held = dealt.next().ok_or("no shares")?;
    for shares in dealt {
        for (held, share) in held.iter_mut().zip(&shares) {
            held.add(share)?;
        }
    }
    Ok(held)
}
