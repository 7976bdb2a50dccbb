//! Queries, replies and heads as bytes: golden files, which are also the corpus of the fuzzing, and hostile ones.
//! `ARRAS_BLESS=1` writes files that are missing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use arras_ckks::{Ciphertext, Context, EvaluationKeys, PublicKey};
use arras_cpu::Cpu;
use arras_heads::{
    Classifier, Groups, Head, Layout, LinearHead, Mlp, Model, ModelCard, Preset, Query, Reply, blank_keys,
    fuzz_one, fuzzed_model,
};
use arras_rns::{Backend, Purpose, SeedLabel};
use arras_wire::bits;
use arras_wire::corpus::{SplitMix64, drive, is_golden};
use arras_wire::frame::{self, Kind};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Of the shape that `fuzz_one` classifies.
fn head() -> Head {
    Head {
        weight: vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125],
        bias: vec![1.0, -0.5],
        classes: vec!["adenoma".into(), "other".into()],
        card: ModelCard { l2: Some(0.5), created_with: "arras".into(), ..ModelCard::default() },
    }
}

/// A query of repeatable residues: for the server it is as good as an encrypted one.
fn query(preset: &str, layout: Layout, images: usize, backbone: Option<[u8; 32]>) -> Query {
    let preset = Preset::named(preset).unwrap();
    let groups = Groups::new(layout, preset.params.degree(), 3, images).unwrap();
    let mut rng = SplitMix64::new(images as u64);
    let mut body = Vec::new();
    for piece in groups.pieces() {
        let (rows, values) = piece.packing.extent(piece.polynomials);
        for _ in 0..rows {
            for limb in preset.params.limbs().iter() {
                let q = preset.params.ring().modulus(limb).value();
                let row: Vec<u64> = (0..values).map(|_| rng.below(q as usize) as u64).collect();
                bits::pack_below(&row, q, &mut body).unwrap();
            }
        }
    }
    Query::new(preset, groups, preset.bounds, backbone, std::array::from_fn(|i| i as u8), *b"a key id", body)
        .unwrap()
}

fn answer(query: &Query) -> Reply {
    try_answer(query).unwrap()
}

fn try_answer(query: &Query) -> arras_heads::Result<Reply> {
    let preset = query.preset();
    let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
    let model = fuzzed_model(preset);
    let layout = query.groups.layout;
    let keys = (layout == Layout::Rotations).then(|| blank_keys(&context, &model).unwrap());
    Classifier::new(&context, &model, layout, preset.bounds, keys)?.classify(query)
}

/// The last part of the road of a hidden head: a public key without a secret, in a query of its preset.
fn hidden() -> Query {
    let preset = Preset::named("linear-hidden").unwrap();
    let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
    let label = SeedLabel { seed: [5; 32], purpose: Purpose::PublicKey, object: 0, polynomial: 0 };
    let mut components = vec![];
    for labels in [SeedLabel { object: 1, ..label }, label] {
        let mut poly = context.allocate(preset.params.limbs(), 1).unwrap();
        context
            .backend()
            .expand_seed(context.queue(), context.tables(), &mut poly.view_mut(), &[labels])
            .unwrap();
        components.push(poly);
    }
    let key = PublicKey::new(Ciphertext { components, scale: 1.0, seed: Some(label) });
    query("linear-hidden", Layout::Dot, 2, None).with_public_key(key.to_bytes(&context).unwrap()).unwrap()
}

#[test]
fn the_format_has_not_changed() {
    let dot = query("linear", Layout::Dot, 684, None);
    let transposed = query("linear-compact", Layout::Transposed, 5, Some([9; 32]));
    let slots = query("mlp", Layout::Slots, 5, None);
    let rotations = query("mlp-rotations", Layout::Rotations, 3, None);
    let hidden = hidden();
    // What hides the head is random.
    fuzz_one(&answer(&hidden).to_bytes());
    for (name, encoded) in [
        ("query-dot.bin", dot.to_bytes()),
        ("query-transposed.bin", transposed.to_bytes()),
        ("reply-dot.bin", answer(&dot).to_bytes()),
        ("reply-transposed.bin", answer(&transposed).to_bytes()),
        ("head.safetensors", head().to_bytes("head").unwrap()),
        ("query-slots.bin", slots.to_bytes()),
        ("query-rotations.bin", rotations.to_bytes()),
        ("query-hidden.bin", hidden.to_bytes()),
        ("reply-slots.bin", answer(&slots).to_bytes()),
        ("reply-rotations.bin", answer(&rotations).to_bytes()),
        ("mlp.safetensors", fuzzed_model(slots.preset()).to_bytes("head").unwrap()),
    ] {
        assert!(is_golden(&corpus(), name, &encoded).unwrap(), "{name}");
        fuzz_one(&encoded);
    }
}

#[test]
fn no_mutant_breaks_an_invariant() {
    let report = drive(&corpus(), 1, Duration::from_secs(2), fuzz_one).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.entries >= 5 && report.runs > 200, "{report:?}");
}

/// Bytes to overwrite, with their places.
type Changes<'a> = &'a [(usize, &'a [u8])];

/// Overwrites bytes of a payload.
fn with(framed: &[u8], kind: Kind, changes: Changes) -> Vec<u8> {
    let frame = frame::decode(framed, kind, 1 << 30).unwrap();
    let mut payload = frame.payload.to_vec();
    for (at, bytes) in changes {
        payload[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    frame::encode(kind, &frame.fingerprint, &payload)
}

#[test]
fn hostile_queries_are_refused_with_the_field() {
    let query = query("linear", Layout::Dot, 4, None).to_bytes();
    let (many, nan, negative) = ((1u32 << 20).to_le_bytes(), f32::NAN.to_le_bytes(), (-1.0f32).to_le_bytes());
    let (wide, wider) = (65536u32.to_le_bytes(), 3000u32.to_le_bytes());
    let cases: [(Changes, &str); 10] = [
        (&[(0, &[4])], "field 'layout': 4 is unknown"),
        (&[(0, &[2])], "layout slots is not among those of preset 'linear': dot and transposed"),
        (&[(1, &[0; 4])], "field 'features': 0 is outside 1..=65536"),
        (&[(1, &wider)], "the number of features is 3000, expected 1 to 2048"),
        (&[(5, &[255; 4])], "field 'images': 4294967295 is outside"),
        // A million images of 65536 features: 420 GB that are not there.
        (&[(0, &[1]), (1, &wide), (5, &many)], "field 'residues': truncated: 42090"),
        (&[(9, &nan)], "field 'x_max': NaN is not a positive number"),
        (&[(13, &negative)], "field 'norm_max': -1 is not a positive number"),
        (&[(17, &[7])], "field 'backbone given': 7 is outside"),
        (&[(17, &[1])], "field 'residues': truncated"),
    ];
    for (changes, expected) in cases {
        let bytes = with(&query, Kind::EncryptedFeatures, changes);
        let message = Query::from_bytes(&bytes).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
    let foreign = frame::encode(Kind::EncryptedFeatures, &frame::Fingerprint([1; 32]), &[]);
    assert!(Query::from_bytes(&foreign).unwrap_err().to_string().contains("no preset"));
}

#[test]
fn hostile_replies_are_refused_with_the_field() {
    let reply = answer(&query("linear", Layout::Dot, 4, None)).to_bytes();
    let (many, classes, more) = ((1u32 << 20).to_le_bytes(), 4096u32.to_le_bytes(), 4097u32.to_le_bytes());
    let (infinite, negative) = (f64::INFINITY.to_le_bytes(), (-1.0f64).to_le_bytes());
    let cases: [(Changes, &str); 8] = [
        (&[(9, &[0; 4])], "field 'classes': 0 is outside 1..=4096"),
        (&[(9, &more)], "field 'classes': 4097 is outside"),
        (&[(5, &many), (9, &classes)], "field 'coefficients': truncated"),
        (&[(0, &[1]), (5, &many), (9, &classes)], "field 'coefficients': truncated"),
        (&[(13, &[0; 4])], "field 'weight scale': 0 is outside"),
        (&[(17, &[35])], "field 'bits': 35 is not in 24..=34"),
        (&[(18, &infinite)], "field 'logit bound': inf is not finite"),
        (&[(18, &negative)], "field 'logit bound': is negative"),
    ];
    for (changes, expected) in cases {
        let message = Reply::from_bytes(&with(&reply, Kind::Reply, changes)).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let query = query("linear", Layout::Transposed, 2, None);
    let (reply, query) = (answer(&query).to_bytes(), query.to_bytes());
    assert!((0..query.len()).all(|length| Query::from_bytes(&query[..length]).is_err()));
    assert!((0..reply.len()).step_by(37).all(|length| Reply::from_bytes(&reply[..length]).is_err()));
    // Also when the frame is whole and the payload is not.
    let frame = frame::decode(&query, Kind::EncryptedFeatures, 1 << 20).unwrap();
    for length in 0..frame.payload.len() {
        let cut = frame::encode(Kind::EncryptedFeatures, &frame.fingerprint, &frame.payload[..length]);
        assert!(Query::from_bytes(&cut).is_err(), "{length}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused_with_the_numbers() {
    let linear = Preset::named("linear").unwrap();
    let context = Context::new(Cpu::sequential(), linear.params.clone()).unwrap();
    let mut owned = head();
    owned.card.fingerprint = Some("09".repeat(32));
    let server = LinearHead::new(&context, &owned, linear.bounds).unwrap();
    let refused = |query: &Query| server.classify(query).unwrap_err().to_string();

    let mut wide = query("linear", Layout::Dot, 4, None);
    wide.bounds.norm_max = 65.0;
    assert_eq!(refused(&wide), "the query's norm_max is 65, the head was prepared for at most 64");
    wide.bounds.x_max = 17.0;
    assert_eq!(refused(&wide), "the query's x_max is 17, the head was prepared for at most 16");
    let foreign = query("linear", Layout::Dot, 4, Some([8; 32]));
    assert!(refused(&foreign).contains("backbone 0909090909090909, these come from 0808080808080808"));
    assert!(server.classify(&query("linear", Layout::Dot, 4, Some([9; 32]))).is_ok());
    let error = refused(&query("linear-wide", Layout::Dot, 4, None));
    assert_eq!(error, "made for preset 'linear-wide', expected 'linear'");

    let groups = Groups::new(Layout::Dot, 2048, 4, 1).unwrap();
    let new = |groups, body| Query::new(linear, groups, linear.bounds, None, [0; 32], [0; 8], body);
    assert_eq!(refused(&new(groups, vec![0; 25]).unwrap()), "the head takes 3 features, the query has 4");
    let short = new(groups, vec![0; 24]).unwrap_err().to_string();
    assert_eq!(short, "the number of packed bytes is 24, expected 25");
    let other = new(Groups::new(Layout::Dot, 1024, 4, 1).unwrap(), vec![0; 25]).unwrap_err().to_string();
    assert_eq!(other, "the ring degree is 1024, expected 2048");
    // A residue that is not below the modulus is noticed where it is used.
    let four = Head { weight: vec![1.0; 4], bias: vec![0.0], classes: vec!["a".into()], ..head() };
    let server = LinearHead::new(&context, &four, linear.bounds).unwrap();
    let error = server.classify(&new(groups, [vec![0xff; 24], vec![0x0f]].concat()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not below 562941363486721"), "{error}");
}

#[test]
fn hostile_queries_and_replies_in_slots_are_refused_with_the_field() {
    let slots = query("mlp", Layout::Slots, 5, None);
    let rotations = query("mlp-rotations", Layout::Rotations, 3, None);
    let (many, wide) = ((1u32 << 20).to_le_bytes(), 4097u32.to_le_bytes());
    let cases: [(&Query, Changes, &str); 5] = [
        (&slots, &[(0, &[0])], "layout dot is not among those of preset 'mlp': slots"),
        (&slots, &[(1, &[255, 255, 0, 0])], "field 'residues': truncated"),
        (&slots, &[(5, &many)], "field 'residues': truncated"),
        (&rotations, &[(1, &wide)], "the number of features is 4097, expected 1 to 4096"),
        (&rotations, &[(5, &many)], "field 'residues': truncated"),
    ];
    for (query, changes, expected) in cases {
        let bytes = with(&query.to_bytes(), Kind::EncryptedFeatures, changes);
        let message = Query::from_bytes(&bytes).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
    let (slots, rotations) = (answer(&slots).to_bytes(), answer(&rotations).to_bytes());
    let (five, small, nan) = (5u32.to_le_bytes(), 0.5f64.to_le_bytes(), f64::NAN.to_le_bytes());
    let cases: [(&[u8], Changes, &str); 6] = [
        (&slots, &[(13, &nan)], "field 'scale': NaN is not finite"),
        (&slots, &[(13, &small)], "field 'scale': is below 1"),
        (&slots, &[(21, &[4])], "field 'components': 4 is not in 2..=3"),
        (&slots, &[(22, &[49])], "field 'bits': 49 is not in 24..=48"),
        (&rotations, &[(9, &five)], "field 'classes': 5 do not fit the 4 slots of an image"),
        (&rotations, &[(21, &[3])], "field 'components': 3 is not in 2..=2"),
    ];
    for (reply, changes, expected) in cases {
        let message = Reply::from_bytes(&with(reply, Kind::Reply, changes)).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
}

#[test]
fn hidden_heads_take_a_public_key_and_others_none() {
    let bare = query("linear-hidden", Layout::Dot, 2, None);
    assert!(bare.public_key().is_empty() && Query::from_bytes(&bare.to_bytes()).unwrap() == bare);
    let error = try_answer(&bare).unwrap_err().to_string();
    assert_eq!(error, "public key: the query has none, and the preset hides heads under it");
    let mut damaged = hidden().public_key().to_vec();
    damaged[100] ^= 1;
    let error = try_answer(&bare.clone().with_public_key(damaged).unwrap()).unwrap_err().to_string();
    assert!(error.contains("check"), "{error}");
    let open = query("linear", Layout::Dot, 2, None);
    let error = open.with_public_key(vec![1]).unwrap_err().to_string();
    assert_eq!(error, "public key: the preset does not hide heads");
    assert!(bare.with_public_key(vec![0; (1 << 20) + 1]).is_err());
    // Each answer is blinded anew: nothing but the header is the same.
    let [a, b] = [(), ()].map(|()| answer(&hidden()).to_bytes());
    let same = a[80..].iter().zip(&b[80..]).filter(|(a, b)| a == b).count();
    assert!(same < a.len() / 100, "{same} of {}", a.len());
}

#[test]
fn layouts_and_heads_that_do_not_belong_together_are_refused() {
    let named = |name| Preset::named(name).unwrap();
    let context = |name| Context::new(Cpu::sequential(), named(name).params.clone()).unwrap();
    let [linear, slots, rotations, paper] = ["linear", "mlp", "mlp-rotations", "paper"].map(context);
    let hidden = fuzzed_model(named("mlp"));
    let bounds = named("mlp").bounds;
    let refused = |context, model: &Model, layout, keys| {
        Classifier::new(context, model, layout, bounds, keys).unwrap_err().to_string()
    };
    let message = refused(&linear, &hidden, Layout::Dot, None);
    assert_eq!(message, "layout dot serves linear heads only, this one has a hidden layer of 2 units");
    assert!(refused(&linear, &hidden, Layout::Slots, None).contains("not among those of preset 'linear'"));
    assert!(refused(&rotations, &hidden, Layout::Rotations, None).contains("none were given"));
    // The paper's chain has a level too few for a hidden layer.
    let keys = blank_keys(&rotations, &hidden).unwrap();
    let message = refused(&paper, &hidden, Layout::Rotations, Some(keys));
    assert_eq!(message, "head by rotations: needs level 3, the ciphertext is at level 2");
    // Keys of other parameters, a missing key, a key that ends too low.
    let probe = fuzzed_model(named("paper"));
    let foreign = blank_keys(&paper, &probe).unwrap();
    assert!(refused(&rotations, &hidden, Layout::Rotations, Some(foreign)).contains("belongs to parameters"));
    let mut keys = blank_keys(&rotations, &hidden).unwrap();
    let element = keys.elements().nth(1).unwrap();
    keys.remove(element);
    let message = refused(&rotations, &hidden, Layout::Rotations, Some(keys));
    assert!(message.contains(&format!("no key for the Galois element {element} (rotation by ")), "{message}");
    let mut keys = blank_keys(&rotations, &hidden).unwrap();
    keys.remove(0);
    let message = refused(&rotations, &hidden, Layout::Rotations, Some(keys));
    assert_eq!(message, "head by rotations: there is no relinearisation key");
    // Too many units for the slots of an image, and logits beyond every scale.
    let Model::Mlp(mlp) = hidden.clone() else { panic!("no hidden layer") };
    let wide = Mlp {
        weight: vec![0.1; 3 * 5],
        bias: vec![0.0; 5],
        output: Head { weight: vec![0.1; 10], ..mlp.output.clone() },
    };
    let message =
        refused(&rotations, &wide.into(), Layout::Rotations, Some(EvaluationKeys::new(rotations.params())));
    assert_eq!(
        message,
        "the number of hidden units is 5, expected 1 to 4, the slots of an image of 3 features"
    );
    let large = Mlp { weight: mlp.weight.iter().map(|w| w * 1e6).collect(), ..mlp };
    let message = refused(&slots, &large.clone().into(), Layout::Slots, None);
    assert!(
        message.contains("bits for the weights of both layers") && message.contains("at least 12"),
        "{message}"
    );
    let keys = Some(blank_keys(&rotations, &hidden).unwrap());
    let message = refused(&rotations, &large.into(), Layout::Rotations, keys);
    assert!(message.starts_with("squares of hidden units: up to"), "{message}");
    // A query of another layout than the head was prepared for.
    let server =
        Classifier::new(&linear, &fuzzed_model(named("linear")), Layout::Dot, named("linear").bounds, None);
    assert!(server.unwrap().classify(&query("linear", Layout::Transposed, 2, None)).is_ok());
    let keys = blank_keys(&paper, &probe).unwrap();
    let server = Classifier::new(&paper, &probe, Layout::Rotations, bounds, Some(keys)).unwrap();
    let message = server.classify(&query("paper", Layout::Slots, 2, None)).unwrap_err().to_string();
    assert_eq!(message, "the head was prepared for layout rotations, the query has layout slots");
}

#[test]
fn heads_with_a_hidden_layer_are_read_strictly() {
    let model = fuzzed_model(Preset::named("mlp").unwrap());
    let bytes = model.to_bytes("h").unwrap();
    assert_eq!(Model::from_bytes("h", &bytes).unwrap(), model);
    let error = Head::from_bytes("h", &bytes).unwrap_err().to_string();
    assert_eq!(error, "h: hidden.weight: is not part of a linear head");
    let renamed = |from: &str, to: &str| {
        let text = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[text..text + from.len()].copy_from_slice(to.as_bytes());
        Model::from_bytes("h", &bytes).unwrap_err().to_string()
    };
    assert_eq!(renamed("square", "squash"), "h: activation: 'squash' is not 'square'");
    assert_eq!(renamed("activation", "activatiom"), "h: activation: is missing, expected 'square'");
    assert!(
        renamed("hidden.bias", "hidden.bia5").contains("hidden.bias: is missing or its shape is not [2]")
    );
    let Model::Mlp(mlp) = model else { panic!("no hidden layer") };
    let nan = Mlp { bias: vec![f32::NAN, 0.0], ..mlp.clone() };
    assert_eq!(nan.to_bytes("h").unwrap_err().to_string(), "h: hidden.bias: value 0 is NaN, not finite");
    let wrong = Mlp { output: Head { weight: vec![0.0; 6], ..mlp.output.clone() }, ..mlp };
    assert_eq!(wrong.to_bytes("h").unwrap_err().to_string(), "h: weight: takes 3 hidden units, there are 2");
}
