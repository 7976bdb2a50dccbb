//! The invariants of this crate's decoders, and of the server behind them, for any bytes.

use std::sync::LazyLock;

use arras_ckks::{Context, EvaluationKeys, SwitchingKey};
use arras_cpu::Cpu;

use crate::{
    Classifier, Head, Layout, Mlp, Model, ModelCard, Preset, Query, Reply, Result, RotationsPlan, Shape,
};

static CONTEXTS: LazyLock<Vec<Context<Cpu>>> = LazyLock::new(|| {
    let contexts = Preset::all().iter().map(|preset| Context::new(Cpu::sequential(), preset.params.clone()));
    contexts.collect::<std::result::Result<_, _>>().unwrap_or_default()
});

/// A head of three features and two classes at every preset and layout, with a hidden layer where a preset is for one.
static SERVERS: LazyLock<Vec<Classifier<'static, Cpu>>> = LazyLock::new(|| {
    let presets = CONTEXTS.iter().zip(Preset::all());
    let pairs = presets
        .flat_map(|(context, preset)| preset.layouts.iter().map(move |layout| (context, preset, *layout)));
    let servers = pairs.map(|(context, preset, layout)| {
        let model = fuzzed_model(preset);
        let keys = (layout == Layout::Rotations).then(|| blank_keys(context, &model)).transpose()?;
        Classifier::new(context, &model, layout, preset.bounds, keys)
    });
    servers.collect::<Result<_>>().unwrap_or_default()
});

/// The head that [`fuzz_one`] serves at a preset.
pub fn fuzzed_model(preset: &Preset) -> Model {
    let classes = || vec!["adenoma".into(), "other".into()];
    let card = ModelCard { l2: Some(0.5), created_with: "arras".into(), ..ModelCard::default() };
    let head = |weight, bias| Head { weight, bias, classes: classes(), card };
    if preset.name.starts_with("mlp") {
        let output = head(vec![1.0, -0.5, 0.25, 2.0], vec![1.0, -0.5]);
        return Mlp { weight: vec![0.5, -1.0, 0.25, 0.0, 1.0, -0.125], bias: vec![0.5, -1.0], output }.into();
    }
    head(vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], vec![1.0, -0.5]).into()
}

/// Keys without a secret: for a server as good as others, and the same everywhere.
///
/// # Errors
/// None in practice.
pub fn blank_keys(context: &Context<Cpu>, model: &Model) -> Result<EvaluationKeys<Cpu>> {
    let params = context.params();
    let mut keys = EvaluationKeys::new(params);
    for (element, level) in RotationsPlan::new(params, Shape::of(model))?.keys()? {
        let digits = params.digits_at(level).len();
        let mut body = context.allocate(params.key_limbs(level), digits)?;
        let words = vec![1; body.extent().words()];
        arras_rns::Backend::upload(context.backend(), context.queue(), &mut body.view_mut(), &words)?;
        keys.insert(context, &SwitchingKey::new(params, element, level, [7; 32], body)?)?;
    }
    Ok(keys)
}

/// Decodes `data` in every way this crate knows, and answers it if it is a query for a head of three features.
///
/// # Panics
/// When a decoder or the server panics, or bytes are accepted that are not the encoding of what they decode to.
pub fn fuzz_one(data: &[u8]) {
    crate::head::fuzz_one(data);
    if let Some(query) = check(data, Query::from_bytes(data), Query::to_bytes) {
        assert_eq!(SERVERS.len(), Preset::all().iter().map(|preset| preset.layouts.len()).sum::<usize>());
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
