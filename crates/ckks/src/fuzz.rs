//! The invariants of this crate's decoders, for any bytes.

use std::sync::LazyLock;

use arras_cpu::Cpu;

use crate::bytes::{
    decode_ciphertext, decode_params, decode_public_key, decode_switching_key, encode_ciphertext,
    encode_params, encode_public_key, encode_switching_key,
};
use crate::{Context, EvaluationKeys, Params, Result, Security, Spec};

/// Parameters so small that decoding takes microseconds: degree 16, the primes 97 and 193.
///
/// # Errors
/// None: the set is valid.
pub fn small_params() -> Result<Params> {
    Params::insecure(Spec {
        degree: 16,
        moduli: vec![97, 193],
        special: Vec::new(),
        digits: 1,
        scale_bits: 4,
        security: Security::Unchecked,
    })
}

/// The same with a digit per prime and the special prime 257: for evaluation keys.
///
/// # Errors
/// None: the set is valid.
pub fn small_params_with_keys() -> Result<Params> {
    Params::insecure(Spec { special: vec![257], digits: 2, ..small_params()?.spec().clone() })
}

static WITH_KEYS: LazyLock<Result<Context<Cpu>>> =
    LazyLock::new(|| Context::new(Cpu::sequential(), small_params_with_keys()?));

static CONTEXT: LazyLock<Result<Context<Cpu>>> =
    LazyLock::new(|| Context::new(Cpu::sequential(), small_params()?));

/// Decodes `data` in every way this crate knows.
///
/// # Panics
/// When a decoder panics, or accepts bytes that are not the encoding of what it returns.
pub fn fuzz_one(data: &[u8]) {
    check(data, decode_params(data), |params| Ok(encode_params(params)));
    assert!(CONTEXT.is_ok() && WITH_KEYS.is_ok());
    if let Ok(context) = &*WITH_KEYS {
        let decoded = decode_switching_key(context, data);
        if let Ok(key) = &decoded {
            assert!(EvaluationKeys::from_keys(context, [key]).is_ok());
        }
        check(data, decoded, |found| encode_switching_key(context, found));
    }
    if let Ok(context) = &*CONTEXT {
        check(data, decode_ciphertext(context, data), |found| encode_ciphertext(context, found));
        check(data, decode_public_key(context, data), |found| encode_public_key(context, found));
    }
}

fn check<T>(data: &[u8], decoded: Result<T>, encode: impl Fn(&T) -> Result<Vec<u8>>) {
    match decoded {
        Ok(found) => assert!(encode(&found).is_ok_and(|bytes| bytes == data), "one value, one encoding"),
        Err(error) => assert!(!error.to_string().contains('\n'), "one line: {error}"),
    }
}
