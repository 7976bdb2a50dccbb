//! The invariants of this crate's decoders, and of the server behind them, for any bytes.

use std::sync::LazyLock;

use arras_ckks::Context;
use arras_cpu::Cpu;

use crate::{Head, LinearHead, ModelCard, Preset, Query, Reply, Result};

static CONTEXTS: LazyLock<Vec<Context<Cpu>>> = LazyLock::new(|| {
    let contexts = Preset::all().iter().map(|preset| Context::new(Cpu::sequential(), preset.params.clone()));
    contexts.collect::<std::result::Result<_, _>>().unwrap_or_default()
});

/// A head of three features and two classes, at every preset.
static SERVERS: LazyLock<Vec<LinearHead<'static, Cpu>>> = LazyLock::new(|| {
    let head = Head {
        weight: vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125],
        bias: vec![1.0, -0.5],
        classes: vec!["a".into(), "b".into()],
        card: ModelCard::default(),
    };
    let servers = CONTEXTS.iter().zip(Preset::all());
    let servers = servers.map(|(context, preset)| LinearHead::new(context, &head, preset.bounds));
    servers.collect::<Result<_>>().unwrap_or_default()
});

/// Decodes `data` in every way this crate knows, and answers it if it is a query for a head of three features.
///
/// # Panics
/// When a decoder or the server panics, or bytes are accepted that are not the encoding of what they decode to.
pub fn fuzz_one(data: &[u8]) {
    crate::head::fuzz_one(data);
    if let Some(query) = check(data, Query::from_bytes(data), Query::to_bytes) {
        assert_eq!(SERVERS.len(), Preset::all().len());
        for server in SERVERS.iter() {
            // Residues are checked here and not before.
            if let Ok(reply) = server.classify(&query) {
                let bytes = reply.to_bytes();
                check(&bytes, Reply::from_bytes(&bytes), Reply::to_bytes);
            }
        }
    }
    check(data, Reply::from_bytes(data), Reply::to_bytes);
}

fn check<T>(data: &[u8], decoded: Result<T>, encode: impl Fn(&T) -> Vec<u8>) -> Option<T> {
    match &decoded {
        Ok(found) => assert!(encode(found) == data, "one value, one encoding"),
        Err(error) => assert!(!error.to_string().contains('\n'), "one line: {error}"),
    }
    decoded.ok()
}
