//! Keys that nobody holds whole. The scheme and its public half are described in [`arras_ckks::threshold`].
//!
//! Secure against parties that follow the protocol and keep what they see, fewer than t of them pooling it. Three rules keep
//! it so, and nothing here can enforce them; the crates `rounds` and `federated` do:
//! - a key and a mask meet one message only: an upload is made once, stored, and sent again from there;
//! - a share is made for one accepted set per mask, fixed before the first share;
//! - an accepted set is large enough that its sum gives nobody away.

use arras_ckks::{Ciphertext, Context, Params, Plaintext, threshold};
use arras_rns::seed::Seed;
use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly};
use arras_wire::{Reader, Writer};
use zeroize::Zeroizing;

use crate::{Cipher, Error, PublicKey, Result, SecretKey};
use arras_ckks::sampling::Sampler;

/// One party's share of a key, `f_i(j)` with residues modulo every prime of Q, or a sum of such shares for one j. Overwritten when
/// dropped; has no `Debug` output beyond its point.
///
/// ```
/// use arras_secret::SecretKey;
/// use arras_secret::threshold::KeyShare;
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
///
/// # let moduli = arras_rns::prime::ntt_primes(45, 64, 2, &[])?;
/// # let spec =
/// #     Spec { degree: 64, moduli, special: vec![], digits: 1, scale_bits: 40, security: Security::Unchecked };
/// # let params = Params::insecure(spec)?;
/// # let context = Context::new(Cpu::sequential(), params)?;
/// // Each party shares its key among three, so that any two can decrypt what is added up under the sum of the keys.
/// let keys = [SecretKey::generate(context.params())?, SecretKey::generate(context.params())?];
/// let (ours, theirs) = (keys[0].share(2, 3)?, keys[1].share(2, 3)?);
/// let sent = theirs[0].to_bytes()?;
/// let mut sum = KeyShare::from_bytes(&sent, context.params())?;
/// sum.add(&ours[0])?;
/// assert_eq!(sum.point(), 1);
///
/// let refused = sum.add(&ours[1]).unwrap_err();
/// assert_eq!(refused.to_string(), "points: a share for 2 added to one for 1");
/// # Ok::<(), arras_secret::Error>(())
/// ```
pub struct KeyShare {
    params: Params,
    point: u32,
    /// `[limb][N]`, coefficient domain.
    residues: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyShare(point {}, parameters {})", self.point, self.params.fingerprint())
    }
}

impl SecretKey {
    /// Shares of this key for the points 1 to `parties`, any `threshold` of which give it back and fewer nothing.
    ///
    /// # Errors
    /// [`Error::Ckks`] unless `1 <= threshold <= parties <=` [`threshold::MAX_PARTIES`]; [`arras_ckks::Error::Randomness`].
    pub fn share(&self, threshold: u32, parties: u32) -> Result<Vec<KeyShare>> {
        if threshold == 0 || threshold > parties || parties > threshold::MAX_PARTIES {
            let problem =
                format!("{threshold} of {parties}, with at most {} parties", threshold::MAX_PARTIES);
            return Err(arras_ckks::Error::Points { problem }.into());
        }
        let params = self.params();
        let mut rng = Sampler::from_os()?;
        let words = params.limbs().len() * params.degree();
        let random: Vec<_> = (1..threshold).map(|_| uniform(params, &mut rng)).collect();
        let secret = self.residues();
        let of_point = |point: u32| {
            let mut residues = Zeroizing::new(vec![0; words]);
            // Horner's rule, from the highest coefficient of f down to the secret.
            for coefficients in random.iter().rev().chain([&secret]) {
                for_each_residue(params, &mut residues, |q, i, value| {
                    q.add(q.mul(value, u64::from(point)), coefficients[i])
                });
            }
            KeyShare { params: params.clone(), point, residues }
        };
        Ok((1..=parties).map(of_point).collect())
    }

    /// The coefficients modulo every prime of Q, `[limb][N]`.
    fn residues(&self) -> Zeroizing<Vec<u64>> {
        let params = self.params();
        let mut residues = Zeroizing::new(vec![0; params.limbs().len() * params.degree()]);
        let coefficients = self.coefficients();
        for_each_residue(params, &mut residues, |q, i, _| {
            let x = i64::from(coefficients[i % coefficients.len()]);
            // Adds q where x is negative, without a branch.
            x.wrapping_add((x >> 63) & q.value() as i64) as u64
        });
        residues
    }
}

/// Replaces each word of `[limb][N]` by a function of its modulus, its index and itself.
fn for_each_residue(params: &Params, words: &mut [u64], f: impl Fn(arras_rns::Modulus, usize, u64) -> u64) {
    let degree = params.degree();
    for (row, limb) in params.limbs().iter().enumerate() {
        let q = params.ring().modulus(limb);
        for (i, word) in words[row * degree..][..degree].iter_mut().enumerate() {
            *word = f(q, row * degree + i, *word);
        }
    }
}

/// Uniform residues, from 128 bits each.
fn uniform(params: &Params, rng: &mut Sampler) -> Zeroizing<Vec<u64>> {
    let mut words = Zeroizing::new(vec![0; params.limbs().len() * params.degree()]);
    let degree = params.degree();
    for (row, limb) in params.limbs().iter().enumerate() {
        let q = params.ring().modulus(limb);
        words[row * degree..][..degree]
            .iter_mut()
            .for_each(|word| *word = q.reduce(u128::from_le_bytes(rng.bytes())));
    }
    words
}

impl KeyShare {
    /// The party it is for, from 1.
    pub fn point(&self) -> u32 {
        self.point
    }

    /// Adds the same party's share of another key: the share of the sum of the keys.
    ///
    /// # Errors
    /// Another point or other parameters.
    pub fn add(&mut self, other: &KeyShare) -> Result<()> {
        let (ours, theirs) = (self.params.fingerprint(), other.params.fingerprint());
        if ours != theirs {
            return Err(Error::Parameters { key: theirs, context: ours });
        }
        if self.point != other.point {
            let problem = format!("a share for {} added to one for {}", other.point, self.point);
            return Err(arras_ckks::Error::Points { problem }.into());
        }
        for_each_residue(&self.params, &mut self.residues, |q, i, value| q.add(value, other.residues[i]));
        Ok(())
    }

    /// The share as part of a message that only its party can read.
    ///
    /// # Errors
    /// None in practice: residues are below their moduli.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let mut w = Writer::with_capacity(4 + self.residues.len() * 8);
        w.u32(self.point);
        let rows = self.residues.chunks_exact(self.params.degree());
        for (row, limb) in rows.zip(self.params.limbs().iter()) {
            w.residues("key share", row, self.params.ring().modulus(limb).value())?;
        }
        Ok(Zeroizing::new(w.into_bytes()))
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// Missing or trailing bytes, a residue that is not below its modulus, a point that is none.
    pub fn from_bytes(bytes: &[u8], params: &Params) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let point = r.u32_in("point", 1..=threshold::MAX_PARTIES)?;
        let degree = params.degree();
        let mut residues = Zeroizing::new(vec![0; params.limbs().len() * degree]);
        for (row, limb) in residues.chunks_exact_mut(degree).zip(params.limbs().iter()) {
            r.residues_into("key share", params.ring().modulus(limb).value(), row)?;
        }
        r.finish()?;
        Ok(Self { params: params.clone(), point, residues })
    }
}

impl<B: Backend> Cipher<'_, B> {
    /// `m + e - a s` with masks a expanded from a seed that other parties use too: what a party uploads. The same key and
    /// seed must never meet a second message.
    ///
    /// # Errors
    /// [`arras_ckks::Error::Randomness`], or a failing device.
    pub fn upload(&self, seed: Seed, message: &Plaintext<B>) -> Result<Poly<B, Evaluation>> {
        let mut rng = Sampler::from_os()?;
        let (limbs, batch) = (message.poly.limbs(), message.poly.batch());
        let mut ciphertext =
            self.encrypt_under(threshold::common(seed), &mut rng, Some(message), limbs, batch)?;
        Ok(ciphertext.components.swap_remove(0))
    }

    /// `e - a s`: this party's share of a collective public key. As an upload of zero, and under the same rule.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub fn public_key_share(&self, seed: Seed) -> Result<Poly<B, Evaluation>> {
        let mut rng = Sampler::from_os()?;
        let limbs = self.context().params().limbs();
        let mut ciphertext = self.encrypt_under(threshold::common(seed), &mut rng, None, limbs, 1)?;
        Ok(ciphertext.components.swap_remove(0))
    }
}

/// What share is asked for.
///
/// ```
/// use arras_ckks::integers::{decode_integers, encode_integers};
/// use arras_ckks::threshold::{accumulate, combine, noise_bound};
/// use arras_secret::threshold::{Request, decryption_share};
/// # use arras_secret::{Cipher, SecretKey};
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
///
/// # let moduli = arras_rns::prime::ntt_primes(45, 64, 2, &[])?;
/// # let spec =
/// #     Spec { degree: 64, moduli, special: vec![], digits: 1, scale_bits: 40, security: Security::Unchecked };
/// # let params = Params::insecure(spec)?;
/// # let context = Context::new(Cpu::sequential(), params)?;
/// # let new = || SecretKey::generate(context.params());
/// # let (first, second, receiver) = (new()?, new()?, new()?);
/// # let receiver = Cipher::new(&context, &receiver)?;
/// # let public = receiver.public_key()?;
/// // Two parties upload numbers at scale 2^55 under masks from one seed.
/// let (seed, scale_bits) = ([7; 32], 55);
/// let upload = |key, numbers: &[i64]| {
///     Cipher::new(&context, key)?.upload(seed, &encode_integers(&context, numbers, scale_bits)?)
/// };
/// let mut sum = upload(&first, &[5, -1])?;
/// accumulate(&context, &mut sum, &upload(&second, &[2, 10])?)?;
///
/// // Each decrypts for the receiver, with its share of the sum of the keys.
/// let request = Request { seed, polynomials: 1, points: &[1, 2], uploads: 2 };
/// let (mut shares, others) = (first.share(2, 2)?, second.share(2, 2)?);
/// shares.iter_mut().zip(&others).try_for_each(|(share, other)| share.add(other))?;
/// let answers = shares.iter().map(|share| decryption_share(&context, share, &request, &public));
/// let total = combine(&context, &sum, answers.collect::<Result<_, _>>()?, 1.0)?;
/// let noise = noise_bound(64, 2, 2);
/// assert_eq!(decode_integers(&context, &receiver.decrypt(&total)?, 2, scale_bits, noise)?, [7, 9]);
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The seed of the masks.
    pub seed: Seed,
    /// Number of polynomials in each upload.
    pub polynomials: usize,
    /// The points of the t parties that decrypt, this one's among them.
    pub points: &'a [u32],
    /// Number of uploads in the sum.
    pub uploads: u32,
}

/// One party's flooded share of the decryption of a sum, encrypted under the receiver's public key.
///
/// # Errors
/// Points that are none or do not hold the share's own; [`arras_ckks::Error::Randomness`]; a failing device.
pub fn decryption_share<B: Backend>(
    context: &Context<B>,
    share: &KeyShare,
    request: &Request<'_>,
    receiver: &PublicKey<B>,
) -> Result<Ciphertext<B>> {
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let (params, batch) = (context.params(), request.polynomials);
    let limbs = params.limbs();
    let factors = threshold::lagrange(params.ring(), limbs, request.points, share.point)?;
    let mut weighted = share.residues.clone();
    let degree = params.degree();
    for_each_residue(params, &mut weighted, |q, i, value| q.mul(value, factors[i / degree]));

    let mut key: Poly<B, Coefficient> = context.allocate(limbs, 1)?;
    backend.upload(queue, &mut key.view_mut(), &weighted)?;
    let mut key = key.retag();
    backend.ntt(queue, tables, &mut key.view_mut(), Input::InPlace)?;
    let mut mask = context.allocate(limbs, batch)?;
    let labels = arras_ckks::bytes::labels(threshold::common(request.seed), batch);
    backend.expand_seed(queue, tables, &mut mask.view_mut(), &labels)?;
    let mut partial = flooding(context, batch, threshold::flooding_bits(request.uploads))?;
    backend.multiply_accumulate(
        queue,
        tables,
        &mut partial.view_mut(),
        &mask.view(),
        &key.view().repeat(batch),
    )?;
    backend.wipe(queue, key.buffer_mut())?;
    let mut message = Plaintext { poly: partial, scale: 1.0 };
    let encrypted = receiver.encrypt(context, &message);
    backend.wipe(queue, message.poly.buffer_mut())?;
    Ok(encrypted?)
}

/// Integers uniform in `[-2^bits, 2^bits)`, in the evaluation domain.
fn flooding<B: Backend>(context: &Context<B>, batch: usize, bits: u32) -> Result<Poly<B, Evaluation>> {
    let params = context.params();
    let (degree, limbs) = (params.degree(), params.limbs());
    let mut rng = Sampler::from_os()?;
    let mut words = Zeroizing::new(vec![0u64; batch * limbs.len() * degree]);
    for poly in words.chunks_exact_mut(limbs.len() * degree) {
        for i in 0..degree {
            let integer = u64::from_le_bytes(rng.bytes()) >> (63 - bits);
            for (row, limb) in limbs.iter().enumerate() {
                let q = params.ring().modulus(limb);
                poly[row * degree + i] = q.sub(reduce(q, integer), q.reduce(1 << bits));
            }
        }
    }
    let mut poly: Poly<B, Coefficient> = context.allocate(limbs, batch)?;
    context.backend().upload(context.queue(), &mut poly.view_mut(), &words)?;
    let mut poly = poly.retag();
    context.backend().ntt(context.queue(), context.tables(), &mut poly.view_mut(), Input::InPlace)?;
    Ok(poly)
}

/// `x mod q` in the same time for every x: an estimate of the quotient that is at most two too small, then two subtractions that
/// always happen.
fn reduce(q: arras_rns::Modulus, x: u64) -> u64 {
    let estimate = (u128::from(x) * u128::from(u64::MAX / q.value())) >> 64;
    let mut r = x.wrapping_sub((estimate as u64).wrapping_mul(q.value()));
    for _ in 0..2 {
        let (difference, borrow) = r.overflowing_sub(q.value());
        r = difference.wrapping_add(q.value() & u64::from(borrow).wrapping_neg());
    }
    r
}

#[cfg(test)]
mod tests;
