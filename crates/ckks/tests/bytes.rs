//! Parameters, ciphertexts and public keys as bytes: golden files, which are also the corpus of the fuzzing, and hostile
//! ones. `ARRAS_BLESS=1` writes files that are missing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use arras_ckks::bytes::{
    decode_ciphertext, decode_params, decode_public_key, decode_switching_key, encode_ciphertext,
    encode_params, encode_public_key, encode_switching_key, labels,
};
use arras_ckks::{
    Ciphertext, Context, Params, Security, Spec, SwitchingKey, fuzz_one, small_params, small_params_with_keys,
};
use arras_cpu::Cpu;
use arras_rns::{Backend, Evaluation, Poly, Purpose, SeedLabel};
use arras_wire::corpus::{SplitMix64, drive, is_golden};
use arras_wire::frame::{self, Kind};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn context() -> Context<Cpu> {
    Context::new(Cpu::sequential(), small_params().unwrap()).unwrap()
}

fn params(moduli: &[u64], special: &[u64], scale_bits: u32) -> Params {
    let (moduli, special, security) = (moduli.to_vec(), special.to_vec(), Security::Classical128);
    let degree = if moduli.len() == 1 { 2048 } else { 8192 };
    Params::new(Spec { degree, digits: moduli.len(), moduli, special, scale_bits, security }).unwrap()
}

/// Repeatable residues in every component; the second is expanded if there is a seed.
fn ciphertext(
    count: usize,
    level: usize,
    batch: usize,
    scale: f64,
    seed: Option<SeedLabel>,
) -> Ciphertext<Cpu> {
    let (context, mut rng) = (context(), SplitMix64::new(batch as u64));
    let (params, limbs) = (context.params(), context.params().limbs_at(level));
    let components = (0..count).map(|component| {
        let mut poly: Poly<Cpu, Evaluation> = context.allocate(limbs, batch).unwrap();
        let (backend, queue) = (context.backend(), context.queue());
        if let Some(label) = seed.filter(|_| component == 1) {
            let labels = labels(label, batch);
            backend.expand_seed(queue, context.tables(), &mut poly.view_mut(), &labels).unwrap();
        } else {
            let moduli =
                (0..batch).flat_map(|_| limbs.iter()).map(|limb| params.ring().modulus(limb).value());
            let rows = moduli.flat_map(|q| vec![q; params.degree()]);
            let words: Vec<u64> = rows.map(|q| rng.below(q as usize) as u64).collect();
            backend.upload(queue, &mut poly.view_mut(), &words).unwrap();
        }
        poly
    });
    Ciphertext { components: components.collect(), scale, seed }
}

fn label(purpose: Purpose, object: u64) -> Option<SeedLabel> {
    Some(SeedLabel { seed: std::array::from_fn(|i| i as u8), purpose, object, polynomial: 0 })
}

fn context_with_keys() -> Context<Cpu> {
    Context::new(Cpu::sequential(), small_params_with_keys().unwrap()).unwrap()
}

/// A key with repeatable residues: it switches to nothing.
fn switching_key(element: usize, level: usize) -> SwitchingKey<Cpu> {
    let (context, mut rng) = (context_with_keys(), SplitMix64::new(element as u64));
    let params = context.params();
    let (limbs, digits) = (params.key_limbs(level), params.digits_at(level).len());
    let moduli = (0..digits).flat_map(|_| limbs.iter()).map(|limb| params.ring().modulus(limb).value());
    let rows = moduli.flat_map(|q| vec![q; params.degree()]);
    let words: Vec<u64> = rows.map(|q| rng.below(q as usize) as u64).collect();
    let mut body = context.allocate(limbs, digits).unwrap();
    context.backend().upload(context.queue(), &mut body.view_mut(), &words).unwrap();
    SwitchingKey::new(params, element, level, std::array::from_fn(|i| i as u8), body).unwrap()
}

fn words(poly: &Poly<Cpu, Evaluation>) -> Vec<u64> {
    let (context, mut words) = (context(), vec![0; poly.extent().words()]);
    context.backend().download(context.queue(), &poly.view(), &mut words).unwrap();
    words
}

#[test]
fn the_format_has_not_changed() {
    let context = context();
    let linear = params(&[562_941_363_486_721], &[], 19);
    let chain = params(&[1_125_899_906_629_633, 70_368_743_587_841], &[1_125_899_906_826_241], 40);
    let ciphertext_bytes = |sent: Ciphertext<Cpu>| encode_ciphertext(&context, &sent).unwrap();
    for (name, encoded) in [
        ("params-linear.bin", encode_params(&linear)),
        ("params-chain.bin", encode_params(&chain)),
        ("ciphertext-full.bin", ciphertext_bytes(ciphertext(2, 1, 2, 16.0, None))),
        ("ciphertext-seeded.bin", ciphertext_bytes(ciphertext(2, 0, 3, 8.5, label(Purpose::Ciphertext, 5)))),
        ("ciphertext-three.bin", ciphertext_bytes(ciphertext(3, 1, 1, 256.0, None))),
        (
            "public-key.bin",
            encode_public_key(&context, &ciphertext(2, 1, 1, 1.0, label(Purpose::PublicKey, 0))).unwrap(),
        ),
        (
            "relinearisation-key.bin",
            encode_switching_key(&context_with_keys(), &switching_key(0, 1)).unwrap(),
        ),
        ("galois-key.bin", encode_switching_key(&context_with_keys(), &switching_key(5, 0)).unwrap()),
    ] {
        assert!(is_golden(&corpus(), name, &encoded).unwrap(), "{name}");
        fuzz_one(&encoded);
    }
}

/// The sizes that docs/formats.md gives.
#[test]
fn sizes_are_those_of_the_specification() {
    let context = context();
    let len = |sent: Ciphertext<Cpu>| encode_ciphertext(&context, &sent).unwrap().len() - 56;
    // 16 residues of 97 take 14 bytes, of 193 16 bytes.
    assert_eq!(len(ciphertext(2, 1, 2, 16.0, None)), 18 + 2 * 2 * (14 + 16));
    assert_eq!(len(ciphertext(3, 0, 1, 16.0, None)), 18 + 3 * 14);
    assert_eq!(len(ciphertext(2, 0, 3, 8.5, label(Purpose::Ciphertext, 5))), 18 + 44 + 3 * 14);
    // Of 257, nine bits: 18 bytes. A key at level 1 has two digits over three primes, at level 0 one over two.
    let len = |key| encode_switching_key(&context_with_keys(), &key).unwrap().len() - 56;
    assert_eq!(len(switching_key(0, 1)), 40 + 2 * (14 + 16 + 18));
    assert_eq!(len(switching_key(5, 0)), 40 + 14 + 18);
    let params = encode_params(context.params());
    assert_eq!(params.len() - 56, 21 + 8 * 2);
    assert_eq!(&params[16..48], blake3::hash(&params[48..params.len() - 8]).as_bytes());
}

#[test]
fn what_is_decoded_is_what_was_encoded() {
    let seed = label(Purpose::Ciphertext, u64::MAX - 3);
    let sent = ciphertext(2, 1, 3, 16.0, seed);
    let found = decode_ciphertext(&context(), &encode_ciphertext(&context(), &sent).unwrap()).unwrap();
    assert_eq!((found.scale, found.seed, found.batch(), found.level()), (16.0, seed, 3, 1));
    assert!(found.components.iter().zip(&sent.components).all(|(a, b)| words(a) == words(b)));
}

#[test]
fn keys_are_what_was_encoded() {
    let context = context_with_keys();
    let sent = switching_key(31, 1);
    let found = decode_switching_key(&context, &encode_switching_key(&context, &sent).unwrap()).unwrap();
    assert_eq!((found.element(), found.level(), found.seed()), (31, 1, sent.seed()));
    assert_eq!(words(found.body()), words(sent.body()));
    assert_eq!(words(&found.masks(&context).unwrap()), words(&sent.masks(&context).unwrap()));
    // The mask of digit 1 is the expansion that docs/seed-expansion.md names.
    let label = SeedLabel { seed: *sent.seed(), purpose: Purpose::EvaluationKey, object: 31, polynomial: 1 };
    assert_eq!(found.labels()[1], label);
}

#[test]
fn hostile_keys_are_refused_with_the_field() {
    let context = context_with_keys();
    let whole = encode_switching_key(&context, &switching_key(5, 1)).unwrap();
    let payload = &whole[48..whole.len() - 8];
    let message = |payload: &[u8]| {
        let framed = frame::encode(Kind::EvaluationKeys, &context.params().fingerprint(), payload);
        decode_switching_key(&context, &framed).unwrap_err().to_string()
    };
    for (at, bytes, expected) in [
        (0, &4u32.to_le_bytes()[..], "field 'element': 4, expected 0, or odd and below 32"),
        (0, &33u32.to_le_bytes(), "field 'element': 33, expected 0"),
        (4, &2u32.to_le_bytes(), "field 'level': 2 is outside 0..=1"),
        (40, &[0xff], "unpack: residue at index 0 is out of range"),
    ] {
        let mut payload = payload.to_vec();
        payload[at..at + bytes.len()].copy_from_slice(bytes);
        let message = message(&payload);
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
    assert!(message(&[payload, &[0; 3]].concat()).starts_with("field 'end': 3 unread bytes"));
    assert!(message(&payload[..60]).starts_with("field 'residues': truncated: 96 bytes"));
    assert!((0..payload.len()).all(|length| !message(&payload[..length]).is_empty()));
    // Other parameters: the same primes, but none of them special.
    let error = decode_switching_key(&self::context(), &whole).unwrap_err().to_string();
    assert!(error.contains("other parameters"), "{error}");
    let framed = frame::encode(Kind::EvaluationKeys, &self::context().params().fingerprint(), payload);
    let error = decode_switching_key(&self::context(), &framed).unwrap_err().to_string();
    assert!(error.contains("no special primes"), "{error}");
}

#[test]
fn no_mutant_breaks_an_invariant() {
    let report = drive(&corpus(), 1, Duration::from_secs(2), fuzz_one).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.entries >= 6 && report.runs > 1000, "{report:?}");
}

#[test]
fn hostile_bytes_are_refused_with_the_field() {
    let context = context();
    let fingerprint = context.params().fingerprint();
    let whole = encode_ciphertext(&context, &ciphertext(2, 1, 1, 16.0, None)).unwrap();
    let payload = &whole[48..whole.len() - 8];
    for (at, bytes, expected) in [
        // A million ciphertexts, of which nothing is there: refused before memory is taken.
        (0, &(1u32 << 20).to_le_bytes()[..], "field 'residues': truncated: 31457280 bytes"),
        (0, &u32::MAX.to_le_bytes(), "field 'ciphertexts': 4294967295 is outside 1..=1048576"),
        (0, &[0; 4], "field 'ciphertexts': 0 is outside"),
        (4, &2u32.to_le_bytes(), "field 'level': 2 is outside 0..=1"),
        (8, &f64::NAN.to_le_bytes(), "field 'scale': NaN is not finite"),
        (8, &0.5f64.to_le_bytes(), "field 'scale': is below 1"),
        (16, &[1], "field 'components': 1, expected 2 or 3"),
        (17, &[2], "field 'seeded': 2 is outside"),
        (17, &[1], "field 'residues'"),
        (18, &[0xff], "unpack: residue at index 0 is out of range"),
    ] {
        let mut payload = payload.to_vec();
        payload[at..at + bytes.len()].copy_from_slice(bytes);
        let framed = frame::encode(Kind::Ciphertexts, &fingerprint, &payload);
        let message = decode_ciphertext(&context, &framed).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
    let message = |error: arras_ckks::Error| error.to_string();
    let other = frame::encode(Kind::Ciphertexts, &frame::Fingerprint([1; 32]), payload);
    assert!(message(decode_ciphertext(&context, &other).unwrap_err()).contains("other parameters"));
    assert!(message(decode_public_key(&context, &whole).unwrap_err()).contains("expected a public key"));
    let low = encode_public_key(&context, &ciphertext(2, 0, 1, 1.0, None)).unwrap();
    assert!(message(decode_public_key(&context, &low).unwrap_err()).contains("highest level"));
    // Unchecked parameters do not come in from outside, nor those whose fingerprint is wrong.
    assert!(message(decode_params(&encode_params(context.params())).unwrap_err()).contains("security"));
    let bytes = encode_params(&params(&[562_941_363_486_721], &[], 19));
    let forged = frame::encode(Kind::Parameters, &fingerprint, &bytes[48..bytes.len() - 8]);
    assert!(message(decode_params(&forged).unwrap_err()).contains("fingerprint"));
}
