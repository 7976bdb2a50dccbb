//! The invariants of the decoders that a key's owner runs, for any bytes.

use std::sync::LazyLock;

use arras_ckks::{Context, Params, bytes, small_params};
use arras_cpu::Cpu;
use arras_heads::{Preset, Reply};
use arras_wire::frame::{self, Kind};

use crate::{Cipher, PublicKey, Result, SecretKey};

/// The presets' parameters, and small ones for ciphertexts.
static CONTEXTS: LazyLock<Vec<Context<Cpu>>> = LazyLock::new(|| {
    let presets = Preset::all().iter().map(|preset| preset.params.clone());
    let params = presets.chain(small_params().ok());
    params.filter_map(|params| Context::new(Cpu::sequential(), params).ok()).collect()
});

static CIPHERS: LazyLock<Vec<Cipher<'static, Cpu>>> = LazyLock::new(|| {
    let ciphers = CONTEXTS.iter().map(|context| Cipher::new(context, &key(context.params())?));
    ciphers.collect::<Result<_>>().unwrap_or_default()
});

/// The key 0, -1, 0, 1, 0, -1, 0, 1, ..: runs are repeatable, and no randomness has to be injected for it. Its id is that
/// of the replies in the corpus, so that they are decrypted.
fn key(params: &Params) -> Result<SecretKey> {
    let payload = [&b"a key id"[..], &vec![0b10_01_00_01; params.degree() / 4]].concat();
    SecretKey::from_bytes(&frame::encode(Kind::SecretKey, &params.fingerprint(), &payload), params)
}

/// Decodes `data` as a secret key, a public key, a ciphertext and a reply, and uses what comes out.
///
/// # Panics
/// When something panics, or a decoder accepts bytes that are not the encoding of what it returns.
pub fn fuzz_one(data: &[u8]) {
    assert_eq!(CIPHERS.len(), Preset::all().len() + 1);
    let reply = Reply::from_bytes(data);
    for cipher in CIPHERS.iter() {
        let context = cipher.context();
        if let Ok(key) = SecretKey::from_bytes(data, context.params()) {
            assert!(key.to_bytes()[..] == *data);
        }
        if let Ok(key) = PublicKey::from_bytes(context, data) {
            assert!(key.to_bytes(context).is_ok_and(|bytes| bytes == data));
        }
        if let Ok(ciphertext) = bytes::decode_ciphertext(context, data) {
            assert!(cipher.decrypt(&ciphertext).is_ok());
        }
        if let Ok(reply) = &reply
            && let Ok(logits) = cipher.decrypt_logits(reply)
        {
            assert_eq!(logits.len(), reply.groups.images * reply.classes);
            assert!(logits.iter().all(|logit| logit.is_finite()));
        }
    }
}
