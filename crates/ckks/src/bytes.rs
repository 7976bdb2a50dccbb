//! Parameters, ciphertexts and keys as bytes. The layout is described in `docs/formats.md`.

use arras_rns::backend::Backend;
use arras_rns::{Evaluation, LimbSet, Packing, Poly, Purpose, SeedLabel};
use arras_wire::frame::{self, Kind};
use arras_wire::{Reader, Writer, bits};

use crate::keys::{check_element, same_parameters};
use crate::{Ciphertext, Context, Params, Result, Security, Spec, SwitchingKey};

/// Largest number of primes that a parameter set on the wire may have.
const MAX_PRIMES: u32 = 128;
/// Largest payload of ciphertexts, or of a key, that is read.
pub const MAX_CIPHERTEXT_BYTES: u64 = 1 << 32;
/// Largest number of ciphertexts in one file.
const MAX_BATCH: u32 = 1 << 20;

/// The canonical bytes of a parameter set: what its fingerprint is taken over.
pub(crate) fn encode_spec(spec: &Spec) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(spec.security as u8);
    w.u32(spec.degree as u32);
    w.u32(spec.scale_bits);
    w.u32(spec.digits as u32);
    for primes in [&spec.moduli, &spec.special] {
        w.u32(primes.len() as u32);
        primes.iter().for_each(|&q| w.u64(q));
    }
    w.into_bytes()
}

/// A parameter set as a file.
pub fn encode_params(params: &Params) -> Vec<u8> {
    frame::encode(Kind::Parameters, &params.fingerprint(), &encode_spec(params.spec()))
}

/// Reads [`encode_params`]. A set whose policy is [`Security::Unchecked`] is refused here.
///
/// # Errors
/// Whatever is wrong with the frame, a field, or the parameters themselves.
pub fn decode_params(bytes: &[u8]) -> Result<Params> {
    let frame = frame::decode(bytes, Kind::Parameters, 1 << 16)?;
    let mut r = Reader::new(frame.payload);
    let number = r.u8("security policy")?;
    let security = Security::from_number(number)
        .ok_or_else(|| arras_wire::Error::invalid("security policy", format!("{number} is unknown")))?;
    let degree = r.u32("degree")? as usize;
    let scale_bits = r.u32("scale bits")?;
    let digits = r.u32("digits")? as usize;
    let mut primes = |field| -> Result<Vec<u64>> {
        let count = r.count(field, MAX_PRIMES, 8)?;
        Ok((0..count).map(|_| r.u64(field)).collect::<arras_wire::Result<_>>()?)
    };
    let (moduli, special) = (primes("moduli")?, primes("special primes")?);
    r.finish()?;
    let params = Params::new(Spec { degree, moduli, special, digits, scale_bits, security })?;
    frame.require(&params.fingerprint())?;
    Ok(params)
}

/// A batch of ciphertexts as a file. A mask that is the expansion of a seed travels as the seed.
///
/// # Errors
/// [`crate::Error::Ring`] if the device fails.
pub fn encode_ciphertext<B: Backend>(context: &Context<B>, ciphertext: &Ciphertext<B>) -> Result<Vec<u8>> {
    encode(context, ciphertext, Kind::Ciphertexts)
}

/// A public key, which is an encryption of zero, as a file.
///
/// # Errors
/// [`crate::Error::Ring`] if the device fails.
pub fn encode_public_key<B: Backend>(context: &Context<B>, key: &Ciphertext<B>) -> Result<Vec<u8>> {
    encode(context, key, Kind::PublicKey)
}

fn encode<B: Backend>(context: &Context<B>, ciphertext: &Ciphertext<B>, kind: Kind) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    w.count("ciphertexts", ciphertext.batch(), MAX_BATCH)?;
    w.u32(ciphertext.level() as u32);
    w.f64(ciphertext.scale);
    w.u8(ciphertext.components.len() as u8);
    w.flag(ciphertext.seed.is_some());
    let seeded = if let Some(label) = ciphertext.seed {
        w.array(&label.seed);
        w.u64(label.object);
        w.u32(label.polynomial);
        1
    } else {
        usize::MAX
    };
    for (i, component) in ciphertext.components.iter().enumerate() {
        if i != seeded {
            write_poly(context, component, &mut w)?;
        }
    }
    Ok(frame::encode(kind, &context.params().fingerprint(), w.as_bytes()))
}

/// Polynomials over all limbs of Q, packed, without a header: parts of larger messages.
///
/// # Errors
/// [`crate::Error::Ring`] if the device fails.
pub fn encode_polys<B: Backend>(context: &Context<B>, polys: &Poly<B, Evaluation>) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    write_poly(context, polys, &mut w)?;
    Ok(w.into_bytes())
}

/// Reads `batch` polynomials of [`encode_polys`].
///
/// # Errors
/// Missing or trailing bytes, a residue that is not below its modulus; a failing device.
pub fn decode_polys<B: Backend>(
    context: &Context<B>,
    bytes: &[u8],
    batch: usize,
) -> Result<Poly<B, Evaluation>> {
    let mut r = Reader::new(bytes);
    let polys = read_poly(context, context.params().limbs(), batch, &mut r)?;
    r.finish()?;
    Ok(polys)
}

fn write_poly<B: Backend>(context: &Context<B>, poly: &Poly<B, Evaluation>, w: &mut Writer) -> Result<()> {
    let degree = context.params().degree();
    let mut words = vec![0; poly.extent().words()];
    context.backend().download(context.queue(), &poly.view(), &mut words)?;
    let limbs = (0..poly.batch()).flat_map(|_| poly.limbs().iter());
    for (row, limb) in words.chunks_exact(degree).zip(limbs) {
        w.residues("residues", row, context.params().ring().modulus(limb).value())?;
    }
    Ok(())
}

/// Reads [`encode_ciphertext`], with every length checked before memory is taken.
///
/// # Errors
/// Whatever is wrong with the frame or a field; parameters other than the context's.
pub fn decode_ciphertext<B: Backend>(context: &Context<B>, bytes: &[u8]) -> Result<Ciphertext<B>> {
    let frame = frame::decode(bytes, Kind::Ciphertexts, MAX_CIPHERTEXT_BYTES)?;
    frame.require(&context.params().fingerprint())?;
    decode(context, frame.payload, Purpose::Ciphertext)
}

/// Reads [`encode_public_key`].
///
/// # Errors
/// As [`decode_ciphertext`], and if it is not one pair of polynomials at the highest level.
pub fn decode_public_key<B: Backend>(context: &Context<B>, bytes: &[u8]) -> Result<Ciphertext<B>> {
    let frame = frame::decode(bytes, Kind::PublicKey, MAX_CIPHERTEXT_BYTES)?;
    frame.require(&context.params().fingerprint())?;
    let key = decode(context, frame.payload, Purpose::PublicKey)?;
    if key.batch() != 1 || key.components.len() != 2 || key.limbs() != context.params().limbs() {
        return Err(arras_wire::Error::invalid("public key", "is not one pair at the highest level").into());
    }
    Ok(key)
}

/// A switching key as a file: its masks travel as a seed.
///
/// # Errors
/// [`Error::Parameters`](crate::Error::Parameters) if the key belongs to other parameters than the context,
/// [`Error::Ring`](crate::Error::Ring) if the device fails.
pub fn encode_switching_key<B: Backend>(context: &Context<B>, key: &SwitchingKey<B>) -> Result<Vec<u8>> {
    let fingerprint = context.params().fingerprint();
    same_parameters("encode", "key", key.fingerprint(), fingerprint)?;
    let mut w = Writer::new();
    w.u32(key.element() as u32);
    w.u32(key.level() as u32);
    w.array(key.seed());
    write_poly(context, key.body(), &mut w)?;
    Ok(frame::encode(Kind::EvaluationKeys, &fingerprint, w.as_bytes()))
}

/// Reads [`encode_switching_key`], with every length checked before memory is taken.
///
/// # Errors
/// Whatever is wrong with the frame or a field; parameters other than the context's, or without special primes.
pub fn decode_switching_key<B: Backend>(context: &Context<B>, bytes: &[u8]) -> Result<SwitchingKey<B>> {
    let params = context.params();
    let frame = frame::decode(bytes, Kind::EvaluationKeys, MAX_CIPHERTEXT_BYTES)?;
    frame.require(&params.fingerprint())?;
    let mut r = Reader::new(frame.payload);
    let element = r.u32("element")? as usize;
    if check_element(params, element).is_err() {
        let problem = format!("{element}, expected 0, or odd and below {}", 2 * params.degree());
        return Err(arras_wire::Error::invalid("element", problem).into());
    }
    if params.special_limbs().is_empty() {
        return Err(arras_wire::Error::invalid("element", "the parameters have no special primes").into());
    }
    let level = r.u32_in("level", 0..=params.max_level() as u32)? as usize;
    let seed = r.array("seed")?;
    let (limbs, digits) = (params.key_limbs(level), params.digits_at(level).len());
    let body = read_poly(context, limbs, digits, &mut r)?;
    r.finish()?;
    context.backend().synchronize(context.queue())?;
    SwitchingKey::new(params, element, level, seed, body)
}

/// Packed rows of `batch` polynomials. The bytes have to be there before memory for their residues is taken.
fn read_poly<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    batch: usize,
    r: &mut Reader<'_>,
) -> Result<Poly<B, Evaluation>> {
    let (ring, degree) = (context.params().ring(), context.params().degree());
    let row = |limb| bits::packed_len(degree, ring.modulus(limb).bits());
    let packed = r.bytes("residues", limbs.iter().map(row).sum::<usize>() * batch)?;
    let mut poly = context.allocate(limbs, batch)?;
    let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
    let packing = Packing::ByPolynomial { coefficients: degree };
    backend.unpack(queue, tables, &mut poly.view_mut(), packing, packed)?;
    Ok(poly)
}

fn decode<B: Backend>(context: &Context<B>, payload: &[u8], purpose: Purpose) -> Result<Ciphertext<B>> {
    let params = context.params();
    let mut r = Reader::new(payload);
    let batch = r.u32_in("ciphertexts", 1..=MAX_BATCH)? as usize;
    let level = r.u32_in("level", 0..=params.max_level() as u32)? as usize;
    let scale = r.finite_f64("scale")?;
    if scale < 1.0 {
        return Err(arras_wire::Error::invalid("scale", "is below 1").into());
    }
    let count = usize::from(r.u8("components")?);
    if !(2..=3).contains(&count) {
        return Err(arras_wire::Error::invalid("components", format!("{count}, expected 2 or 3")).into());
    }
    let seed = if r.flag("seeded")? {
        if count != 2 {
            return Err(arras_wire::Error::invalid("seeded", "a seed belongs to two components").into());
        }
        let (seed, object) = (r.array("seed")?, r.u64("object id")?);
        if object.checked_add(batch as u64).is_none() {
            return Err(arras_wire::Error::invalid("object id", "leaves no room for the batch").into());
        }
        Some(SeedLabel { seed, purpose, object, polynomial: r.u32("polynomial")? })
    } else {
        None
    };
    let limbs = params.limbs_at(level);
    let mut components = Vec::with_capacity(count);
    for i in 0..count {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        match seed.filter(|_| i == 1) {
            Some(label) => {
                let mut poly = context.allocate(limbs, batch)?;
                backend.expand_seed(queue, tables, &mut poly.view_mut(), &labels(label, batch))?;
                components.push(poly);
            }
            None => components.push(read_poly(context, limbs, batch, &mut r)?),
        }
    }
    r.finish()?;
    context.backend().synchronize(context.queue())?;
    Ok(Ciphertext { components, scale, seed })
}

/// The labels of a batch whose first mask has label `first`.
pub fn labels(first: SeedLabel, batch: usize) -> Vec<SeedLabel> {
    (0..batch as u64).map(|i| SeedLabel { object: first.object.wrapping_add(i), ..first }).collect()
}
