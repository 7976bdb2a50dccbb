//! (h) Keys from published decryptions.
//!
//! A CKKS decryption is the message with the noise still in it: `c0 + c1 s`, an exact linear equation in the secret s.
//! Whoever sees the ciphertext and that value at full precision divides, `s = (p - c0) / c1` (Li and Micciancio, Eurocrypt
//! 2021, ePrint 2020/1533). The scheme stays IND-CPA secure; it is not IND-CPA-D secure. Decoding to slots does not help while the
//! floats determine the polynomial, nor does trimming: logits of the `linear` preset are exact equations modulo 2^r, and
//! a full reply is N of them. What helps is to publish less: rounded values, or values with a flood that is 2^40 times the noise
//! (Li, Micciancio, Schultz and Sorrell, Crypto 2022, ePrint 2022/816), as shares of threshold decryption carry it.
//!
//! Sees: the server, or another party, that knows the ciphertexts and is shown decryptions. Succeeds: if every coefficient of the
//! key is right; a key that is not ternary is given up, and zeros are guessed. Keys and noise come from the operating
//! system, as always, so that rows are not seeded; a key is recovered whole or not at all.

use std::time::Instant;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::fft::Complex;
use arras_ckks::integers::{decode_integers, encode_integers};
use arras_ckks::sampling::Sampler;
use arras_ckks::threshold::{self, accumulate, combine, flooding_bits};
use arras_ckks::{Ciphertext, Context, Plaintext, Slots};
use arras_cpu::Cpu;
use arras_fit::ridge;
use arras_heads::layout::{Groups, Layout};
use arras_heads::{Head, LinearHead, ModelCard, Preset, Reply};
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Poly, Seed};
use arras_rounds::agreement::Agreement;
use arras_secret::threshold::{KeyShare, Request, decryption_share};
use arras_secret::{Cipher, SecretKey};
use arras_wire::bits;
use arras_wire::frame::{self, Kind};

use crate::statistics::{Better, paired};
use crate::{Attack, Error, Finding, Random, Result, Rows, Verdict};

/// The key from one ciphertext and its published decryption: `(p - c0) / c1` modulo the first prime, centred. It is the
/// key if [`is_small`]; of flooded or rounded values it is noise.
///
/// # Errors
/// Other than two components, a mask without inverse (probability N/q), a failing device.
pub fn from_plaintext<B: Backend>(
    context: &Context<B>,
    ciphertext: &Ciphertext<B>,
    published: &Plaintext<B>,
) -> Result<Vec<i64>> {
    let [body, mask] = ciphertext.components.as_slice() else {
        return Err(Error::invalid("ciphertext", format!("{} components", ciphertext.components.len())));
    };
    divide(context, &published.poly, Some(body), mask)
}

/// The key from decoded slots: encoding them again rounds to the polynomial that was decrypted.
///
/// # Errors
/// As [`from_plaintext`]; slots that do not encode.
pub fn from_slots<B: Backend>(
    context: &Context<B>,
    encoder: &SlotEncoder,
    ciphertext: &Ciphertext<B>,
    published: &[Complex],
) -> Result<Vec<i64>> {
    let level = ciphertext.level();
    let again = encoder.encode(context, published, encoder.slots(), ciphertext.scale, level)?;
    from_plaintext(context, ciphertext, &again)
}

/// `(a - b) / c` in the ring modulo the first prime, as centred coefficients.
pub(crate) fn divide<B: Backend>(
    context: &Context<B>,
    a: &Poly<B, Evaluation>,
    b: Option<&Poly<B, Evaluation>>,
    c: &Poly<B, Evaluation>,
) -> Result<Vec<i64>> {
    let first = LimbSet::single(0);
    let modulus = context.params().ring().modulus(0);
    let down = |poly: &Poly<B, Evaluation>| -> Result<Vec<u64>> {
        let mut words = vec![0; context.params().degree()];
        let view = poly.view().range(0..1).and_then(|view| view.with_limbs(first));
        context.backend().download(context.queue(), &view?, &mut words)?;
        Ok(words)
    };
    let (mut words, divisor) = (down(a)?, down(c)?);
    if let Some(b) = b {
        words.iter_mut().zip(down(b)?).for_each(|(a, b)| *a = modulus.sub(*a, b));
    }
    if divisor.contains(&0) {
        return Err(Error::invalid("mask", "has no inverse"));
    }
    words.iter_mut().zip(divisor).for_each(|(a, c)| *a = modulus.mul(*a, modulus.inverse(c)));
    let mut poly: Poly<B, Evaluation> = context.allocate(first, 1)?;
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    backend.upload(queue, &mut poly.view_mut(), &words)?;
    let mut poly: Poly<B, Coefficient> = poly.retag();
    backend.intt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
    backend.download(queue, &poly.view(), &mut words)?;
    Ok(words.into_iter().map(|word| modulus.centre(word)).collect())
}

/// The key from the published logits of a full reply in layout transposed: N images of one class are the equations
/// `c1' s = phase - c0'` modulo `2^bits` in the ring. `None` if no class has a mask with an inverse, which is so for half of all
/// masks each, if the reply has no full piece, or if what comes out is no key.
///
/// # Errors
/// Bytes of the reply that are damaged.
pub fn from_logits(reply: &Reply, published: &[f64]) -> Result<Option<Vec<i64>>> {
    let (degree, width, unit) = (reply.groups.degree, reply.bits, reply.unit());
    let row = bits::packed_len(degree, width);
    let unpack = |bytes: &[u8]| -> Result<Vec<u64>> {
        let mut words = vec![0; degree];
        bits::unpack(bytes, width, &mut words)
            .map_err(|problem| arras_wire::Error::field("coefficients", problem))?;
        Ok(words)
    };
    for (piece, packed) in reply.pieces().filter(|(piece, _)| piece.images == degree) {
        let rows = packed.logits.chunks_exact(row).zip(packed.masks.chunks_exact(row));
        for (class, (body, mask)) in rows.enumerate() {
            let Some(inverse) = inverse(&unpack(mask)?) else { continue };
            let right: Vec<u64> = unpack(body)?
                .into_iter()
                .enumerate()
                .map(|(image, word)| {
                    let logit = published[(piece.first_image + image) * reply.classes + class];
                    ((logit / unit).round_ties_even() as i64 as u64).wrapping_sub(word)
                })
                .collect();
            let shift = 64 - width;
            let key: Vec<i64> =
                product(&inverse, &right).into_iter().map(|word| (word << shift) as i64 >> shift).collect();
            return Ok(is_small(&key, 1).then_some(key));
        }
    }
    Ok(None)
}

/// Negacyclic product modulo 2^64.
fn product(a: &[u64], b: &[u64]) -> Vec<u64> {
    let degree = a.len();
    let mut out = vec![0_u64; degree];
    for (i, &x) in a.iter().enumerate() {
        let (wrapped, rest) = out.split_at_mut(i);
        rest.iter_mut().zip(b).for_each(|(out, &y)| *out = out.wrapping_add(x.wrapping_mul(y)));
        wrapped
            .iter_mut()
            .zip(&b[degree - i..])
            .for_each(|(out, &y)| *out = out.wrapping_sub(x.wrapping_mul(y)));
    }
    out
}

/// The inverse in `Z[X] / (X^N + 1)` modulo 2^64, N a power of two; `None` if the sum of the coefficients is even.
///
/// `a(X) a(-X)` has even powers only, which halves the degree until a number is left:
/// `a^-1 = a(-X) (a(X) a(-X))^-1`.
fn inverse(a: &[u64]) -> Option<Vec<u64>> {
    if let [number] = *a {
        // Newton's iteration doubles the right bits, 3 of which are right at the start.
        let steps = (0..5).fold(number, |x, _| x.wrapping_mul(2_u64.wrapping_sub(number.wrapping_mul(x))));
        return (number & 1 == 1).then(|| vec![steps]);
    }
    let conjugate: Vec<u64> =
        a.iter().enumerate().map(|(i, &x)| if i % 2 == 1 { x.wrapping_neg() } else { x }).collect();
    let norm: Vec<u64> = product(a, &conjugate).into_iter().step_by(2).collect();
    let spread = inverse(&norm)?.into_iter().flat_map(|x| [x, 0]).collect::<Vec<_>>();
    Some(product(&conjugate, &spread))
}

/// Whether all coefficients are within a bound: what tells a key from noise, without knowing it.
#[must_use]
pub fn is_small(coefficients: &[i64], bound: i64) -> bool {
    coefficients.iter().all(|x| x.abs() <= bound)
}

/// The coefficients of a key, from the two bits each of its file.
fn coefficients(key: &SecretKey) -> Result<Vec<i64>> {
    let bytes = key.to_bytes();
    let payload = frame::decode(&bytes, Kind::SecretKey, 1 << 20)?.payload;
    let digits = |&byte: &u8| (0..4).map(move |i| i64::from(byte >> (2 * i) & 3) - 1);
    Ok(payload.iter().skip(key.id().len()).flat_map(digits).collect())
}

/// What an attack on a key came to.
struct Case {
    seen: &'static str,
    party: &'static str,
    protection: String,
    truth: Vec<i64>,
    /// Nothing if the attacker gave up.
    found: Option<Vec<i64>>,
}

impl Case {
    /// What was found counts if it is within the bound of a key; else zeros are guessed, as without the attack.
    fn finding(self, text: &str, started: Instant, seed: u64) -> Result<Finding> {
        let right = |guess: i64, truth: i64| f64::from(u8::from(guess == truth));
        let plain: Vec<f64> = self.truth.iter().map(|&truth| right(0, truth)).collect();
        let values: Vec<f64> = match &self.found {
            Some(found) => {
                found.iter().zip(&self.truth).map(|(&found, &truth)| right(found, truth)).collect()
            }
            None => plain.clone(),
        };
        let score = paired(&values, &plain, Better::Higher, seed)?;
        let mut row = Finding::new(Attack::Key, self.seen, self.party, &self.protection, seed)
            .score("coefficients", score)
            .parameter("degree", self.truth.len())
            .judged(true, text);
        if score.value == 1.0 {
            row.verdict = Verdict::Recovered;
        }
        Ok(Finding { victims: 1, seconds: started.elapsed().as_secs_f64(), ..row })
    }
}

/// A key that was found, if it is one.
fn accepted(found: Vec<i64>, bound: i64) -> Option<Vec<i64>> {
    is_small(&found, bound).then_some(found)
}

/// Decryptions of one ciphertext of preset `linear-hidden`, published as a polynomial or as slots, bare, rounded and flooded.
///
/// # Errors
/// A failing device; no randomness.
pub fn of_ciphertexts(seed: u64) -> Result<Vec<Finding>> {
    let preset = Preset::named(Preset::HIDING)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let encoder = SlotEncoder::new(preset.params.degree(), Slots::GENERATOR)?;
    let mut random = Random::new("arras/1 audit key", &[seed]);
    let values: Vec<Complex> = (0..encoder.slots()).map(|_| Complex::new(random.normal(), 0.0)).collect();
    let plaintext =
        encoder.encode(&context, &values, encoder.slots(), 2f64.powi(40), preset.params.max_level())?;
    let ciphertext = cipher.encrypt(&plaintext)?;
    let truth = coefficients(&key)?;
    let row = |seen, protection: &str, text, found: &dyn Fn() -> Result<Vec<i64>>| {
        let started = Instant::now();
        let (truth, found) = (truth.clone(), accepted(found()?, 1));
        Case { seen, party: "server", protection: protection.to_owned(), truth, found }
            .finding(text, started, seed)
    };
    let published = cipher.decrypt(&ciphertext)?;
    let slots = encoder.decode(&context, &published)?;
    let rounded: Vec<Complex> =
        slots.iter().map(|z| Complex::new(decimals(z.re, 3), decimals(z.im, 3))).collect();
    let bits = flooding_bits(1);
    let flooded = cipher.decrypt(&ciphertext)?;
    let flooded = add_flood(&context, flooded, bits)?;
    Ok(vec![
        row("a decrypted polynomial", "none", "one division gives the key", &|| {
            from_plaintext(&context, &ciphertext, &published)
        })?,
        row("decrypted slots in f64", "none", "the slots round back to the polynomial", &|| {
            from_slots(&context, &encoder, &ciphertext, &slots)
        })?,
        row("decrypted slots", "rounded to 3 decimals", "what was rounded off is missing", &|| {
            from_slots(&context, &encoder, &ciphertext, &rounded)
        })?,
        row(
            "a decrypted polynomial",
            &format!("flood of 2^{bits}"),
            "the flood is divided as well",
            &|| from_plaintext(&context, &ciphertext, &flooded),
        )?,
    ])
}

/// A number rounded to some decimals.
fn decimals(value: f64, places: i32) -> f64 {
    let unit = 10_f64.powi(places);
    (value * unit).round() / unit
}

/// Adds integers uniform in `[-2^bits, 2^bits)` to the coefficients of a polynomial.
fn add_flood<B: Backend>(
    context: &Context<B>,
    mut published: Plaintext<B>,
    bits: u32,
) -> Result<Plaintext<B>> {
    let (ring, limbs, degree) = (context.params().ring(), published.poly.limbs(), context.params().degree());
    let mut sampler = Sampler::from_os()?;
    let flood: Vec<i128> = (0..degree).map(|_| sampler.uniform(bits)).collect();
    let residues =
        limbs.iter().flat_map(|limb| flood.iter().map(move |&x| ring.modulus(limb).reduce_signed(x)));
    let mut poly: Poly<B, Coefficient> = context.allocate(limbs, 1)?;
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    backend.upload(queue, &mut poly.view_mut(), &residues.collect::<Vec<_>>())?;
    let mut poly: Poly<B, Evaluation> = poly.retag();
    backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
    accumulate(context, &mut published.poly, &poly)?;
    Ok(published)
}

/// The key from one value that was published again and again, each time with a fresh flood: the mean of `4^bits` copies
/// or so is the value. Why a flood is drawn once per ciphertext, or is 2^40 times the noise.
///
/// # Errors
/// A failing device; no randomness.
pub fn of_repeated_publications(bits: u32, copies: u32, seed: u64) -> Result<Finding> {
    let started = Instant::now();
    let preset = Preset::named(Preset::DEFAULT)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let degree = preset.params.degree();
    let values: Vec<i64> = (0..degree as i64).collect();
    let ciphertext = cipher.encrypt(&encode_integers(&context, &values, preset.params.spec().scale_bits)?)?;
    // What is published is `exact + flood`; the sum of the floods is all that matters of the copies.
    let exact = cipher.decrypt(&ciphertext)?;
    let mut sampler = Sampler::from_os()?;
    let mean = |sampler: &mut Sampler| {
        // Uniform on -2^b .. 2^b - 1 has the mean -1/2.
        let sum: i128 = (0..copies).map(|_| 2 * sampler.uniform(bits) + 1).sum();
        (sum as f64 / (2.0 * f64::from(copies))).round() as i128
    };
    let rest: Vec<i128> = (0..degree).map(|_| mean(&mut sampler)).collect();
    let modulus = preset.params.ring().modulus(0);
    let words: Vec<u64> = rest.iter().map(|&x| modulus.reduce_signed(x)).collect();
    let mut poly: Poly<Cpu, Coefficient> = context.allocate(exact.poly.limbs(), 1)?;
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    backend.upload(queue, &mut poly.view_mut(), &words)?;
    let mut poly: Poly<Cpu, Evaluation> = poly.retag();
    backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
    let mut published = exact;
    accumulate(&context, &mut published.poly, &poly)?;
    let found = accepted(from_plaintext(&context, &ciphertext, &published)?, 1);
    let case = Case {
        seen: "one polynomial published repeatedly",
        party: "server",
        protection: format!("flood of 2^{bits}, fresh each time"),
        truth: coefficients(&key)?,
        found,
    };
    Ok(case.finding("the mean of the copies is the polynomial", started, seed)?.parameter("copies", copies))
}

/// Logits of a full batch, as the product decrypts them, published at several precisions.
///
/// # Errors
/// A failing device; no randomness; sixteen replies without a usable mask (probability 2^-48).
pub fn of_logits(seed: u64) -> Result<Vec<Finding>> {
    let preset = Preset::named(Preset::DEFAULT)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let key = SecretKey::generate(&preset.params)?;
    let cipher = Cipher::new(&context, &key)?;
    let degree = preset.params.degree();
    let rows = Rows::synthetic(seed, degree, 16, 3);
    let groups = Groups::new(Layout::Transposed, degree, rows.dimension, degree)?;
    let bounds = preset.bounds_of(&rows.values, rows.dimension)?;
    let server = LinearHead::new(&context, &trained(&rows)?, bounds)?;
    let started = Instant::now();
    for _ in 0..16 {
        let reply = server.classify(&cipher.encrypt_features(groups, &rows.values, None)?)?;
        let logits = cipher.decrypt_logits(&reply)?;
        let Some(found) = from_logits(&reply, &logits)? else { continue };
        let truth = coefficients(&key)?;
        let row = |seen, protection: &str, text, found| {
            let protection = protection.to_owned();
            Case { seen, party: "server", protection, truth: truth.clone(), found }
                .finding(text, started, seed)
        };
        let single: Vec<f64> = logits.iter().map(|&logit| f64::from(logit as f32)).collect();
        let rounded: Vec<f64> = logits.iter().map(|&logit| decimals(logit, 4)).collect();
        return Ok(vec![
            row(
                "logits of 2048 images in f64",
                "none",
                "trimmed logits are exact equations in the key",
                Some(found),
            )?,
            row(
                "logits of 2048 images",
                "rounded to f32",
                "the equations are no longer exact",
                from_logits(&reply, &single)?,
            )?,
            row(
                "logits of 2048 images",
                "rounded to 4 decimals",
                "the equations are no longer exact",
                from_logits(&reply, &rounded)?,
            )?,
        ]);
    }
    Err(Error::invalid("replies", "none has a mask with an inverse"))
}

/// A ridge head of some rows.
pub(crate) fn trained(rows: &Rows) -> Result<Head> {
    let fit = ridge::fit(&rows.problem(), Some(1.0))?;
    Ok(Head {
        weight: fit.weight.iter().map(|&w| w as f32).collect(),
        bias: fit.bias.iter().map(|&b| b as f32).collect(),
        classes: (0..rows.class_count).map(|class| class.to_string()).collect(),
        card: ModelCard::default(),
    })
}

/// The sum of all parties' keys from a threshold decryption: by a receiver that is told the sum of the uploads. With the exact phase
/// of the sum, which no share holder gives away; with the shares that they do give; with the integers that the receiver
/// makes of them.
///
/// # Errors
/// A failing device; no randomness.
pub fn of_threshold_decryption(seed: u64) -> Result<Vec<Finding>> {
    const PARTIES: u32 = 3;
    const POINTS: [u32; 2] = [1, 2];
    let format = small_agreement(PARTIES).format()?;
    let context = Context::new(Cpu::sequential(), format.params.clone())?;
    let common: Seed = Sampler::from_os()?.bytes();
    let mut mask = context.allocate(format.params.limbs(), 1)?;
    let label = threshold::common(common);
    context.backend().expand_seed(context.queue(), context.tables(), &mut mask.view_mut(), &[label])?;
    let messages = (0..format.params.degree() as i64).map(|i| i * 7919 % 100_003).collect::<Vec<_>>();
    let message = encode_integers(&context, &messages, format.scale_bits)?;

    let (mut truth, mut shares) = (vec![0; format.params.degree()], Vec::<KeyShare>::new());
    let mut sums: Option<(Poly<Cpu, Evaluation>, Plaintext<Cpu>)> = None;
    for _ in 0..PARTIES {
        let key = SecretKey::generate(&format.params)?;
        let cipher = Cipher::new(&context, &key)?;
        truth.iter_mut().zip(coefficients(&key)?).for_each(|(sum, x)| *sum += x);
        let dealt = key.share(POINTS.len() as u32, PARTIES)?;
        match shares.as_mut_slice() {
            [] => shares = dealt,
            held => held.iter_mut().zip(&dealt).try_for_each(|(sum, share)| sum.add(share))?,
        }
        let upload = cipher.upload(common, &message)?;
        let whole = Ciphertext {
            components: vec![copy(&context, &upload)?, copy(&context, &mask)?],
            scale: message.scale,
            seed: None,
        };
        let phase = cipher.decrypt(&whole)?;
        match &mut sums {
            None => sums = Some((upload, phase)),
            Some((uploads, phases)) => {
                accumulate(&context, uploads, &upload)?;
                accumulate(&context, &mut phases.poly, &phase.poly)?;
            }
        }
    }
    let (uploads, exact) = sums.ok_or_else(|| Error::invalid("parties", "none"))?;

    let receiver = SecretKey::generate(&format.params)?;
    let receiver = Cipher::new(&context, &receiver)?;
    let public = receiver.public_key()?;
    let request = Request { seed: common, polynomials: 1, points: &POINTS, uploads: PARTIES };
    let given =
        shares.iter().take(POINTS.len()).map(|share| decryption_share(&context, share, &request, &public));
    let total = combine(&context, &uploads, given.collect::<arras_secret::Result<_>>()?, message.scale)?;
    let flooded = receiver.decrypt(&total)?;
    let integers =
        decode_integers(&context, &flooded, messages.len(), format.scale_bits, format.noise_bound())?;
    let rounded = encode_integers(&context, &integers, format.scale_bits)?;

    let row = |seen, protection: &str, text, published: &Plaintext<Cpu>| {
        let started = Instant::now();
        let found = accepted(divide(&context, &published.poly, Some(&uploads), &mask)?, PARTIES.into());
        let (truth, protection) = (truth.clone(), protection.to_owned());
        Case { seen, party: "receiver with coordinator", protection, truth, found }
            .finding(text, started, seed)
    };
    let flood = format!("flood of 2^{} in each share", format.flooding_bits());
    Ok(vec![
        row(
            "the exact phase of a sum",
            "none",
            "the sum of all keys, which opens every upload together",
            &exact,
        )?,
        row("a threshold decryption", &flood, "the flood is divided as well", &flooded)?,
        row(
            "the integers of a sum",
            "rounded to integers",
            "the noise that was rounded off is missing",
            &rounded,
        )?,
    ])
}

fn copy<B: Backend>(context: &Context<B>, poly: &Poly<B, Evaluation>) -> Result<Poly<B, Evaluation>> {
    let mut out = context.allocate(poly.limbs(), poly.batch())?;
    context.backend().copy(context.queue(), &mut out.view_mut(), &poly.view())?;
    Ok(out)
}

fn small_agreement(parties: u32) -> Agreement {
    Agreement {
        name: "audit".to_owned(),
        epoch: 1,
        backbone: "audit".to_owned(),
        dimension: 4,
        classes: vec!["0".to_owned(), "1".to_owned()],
        row_bound: 1.0,
        rows: 1000,
        parties,
        threshold: 2,
        quorum: 3,
        receiver: "party-001".to_owned(),
        projection: None,
        privacy: None,
    }
}

/// The rows of the report.
///
/// # Errors
/// What the product refuses.
pub fn findings(seed: u64) -> Result<Vec<Finding>> {
    let mut findings = of_ciphertexts(seed)?;
    findings.extend(of_logits(seed)?);
    findings.push(of_repeated_publications(3, 4096, seed)?);
    findings.extend(of_threshold_decryption(seed)?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use arras_ckks::encoder::encode_coefficients;

    use super::*;

    fn values(row: &Finding) -> (f64, bool) {
        (row.scores["coefficients"].value, row.scores["coefficients"].gains())
    }

    /// Rows without protection give the key, all others nothing.
    fn judge(rows: &[Finding]) {
        for row in rows {
            let expected = match row.protection.as_str() {
                "none" => Verdict::Recovered,
                _ => Verdict::NoAdvantage,
            };
            assert_eq!(row.verdict, expected, "{} {}: {:?}", row.seen, row.protection, values(row));
        }
        assert!(rows.iter().any(|row| row.protection == "none"));
    }

    #[test]
    fn bare_decryptions_give_the_key_and_flooded_or_rounded_ones_do_not() -> Result<()> {
        let rows = of_ciphertexts(1)?;
        assert_eq!(rows.len(), 4);
        judge(&rows);
        Ok(())
    }

    #[test]
    fn logits_in_full_precision_give_the_key() -> Result<()> {
        let rows = of_logits(1)?;
        assert_eq!(rows.len(), 3);
        judge(&rows);
        Ok(())
    }

    #[test]
    fn shares_are_flooded_and_exact_phases_would_give_all_keys() -> Result<()> {
        let rows = of_threshold_decryption(1)?;
        assert_eq!(rows.len(), 3);
        judge(&rows);
        Ok(())
    }

    #[test]
    fn small_floods_average_out() -> Result<()> {
        assert_eq!(of_repeated_publications(3, 4096, 1)?.verdict, Verdict::Recovered);
        assert_eq!(of_repeated_publications(20, 256, 1)?.verdict, Verdict::NoAdvantage);
        Ok(())
    }

    /// Not only the coefficients: what was found opens another query of the same client.
    #[test]
    fn a_recovered_key_reads_what_was_encrypted_before() -> Result<()> {
        let preset = Preset::named("linear")?;
        let context = Context::new(Cpu::sequential(), preset.params.clone())?;
        let key = SecretKey::generate(&preset.params)?;
        let cipher = Cipher::new(&context, &key)?;
        let secret: Vec<f64> = (0..100).map(|i| f64::from(i) / 8.0).collect();
        let earlier = cipher.encrypt(&encode_coefficients(&context, &secret, 100, 20, 0)?)?;
        let shown = cipher.encrypt(&encode_coefficients(&context, &[1.0], 1, 20, 0)?)?;
        let found = from_plaintext(&context, &shown, &cipher.decrypt(&shown)?)?;
        let mut payload = key.id().to_vec();
        payload.extend(
            found.chunks(4).map(|four| four.iter().rev().fold(0, |byte, &x| byte << 2 | (x + 1) as u8)),
        );
        let file = frame::encode(Kind::SecretKey, &preset.params.fingerprint(), &payload);
        let stolen = SecretKey::from_bytes(&file, &preset.params)?;
        let read = Cipher::new(&context, &stolen)?.decrypt(&earlier)?;
        let read = arras_ckks::encoder::decode_coefficients(&context, &read, 100)?;
        assert!(read.iter().zip(&secret).all(|(a, b)| (a - b).abs() < 1e-4));
        Ok(())
    }

    #[test]
    fn inverses_modulo_powers_of_two_are_inverses() {
        let mut random = Random::new("test", &[]);
        let mut a: Vec<u64> = (0..64).map(|_| random.word()).collect();
        // An odd sum of coefficients.
        a[0] ^= 1 ^ a.iter().fold(0, |sum, x| sum ^ x) & 1;
        let one: Vec<u64> = (0..64).map(|i| u64::from(i == 0)).collect();
        assert_eq!(product(&a, &inverse(&a).unwrap()), one);
        a[5] = a[5].wrapping_add(1);
        assert!(inverse(&a).is_none());
    }
}
