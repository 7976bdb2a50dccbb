use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;

fn head(class_count: usize, dimension: usize) -> Head {
    let value = |index: usize| ((index * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0;
    Head {
        weight: (0..class_count * dimension).map(value).collect(),
        bias: (0..class_count).map(value).collect(),
        classes: (0..class_count).map(|class| format!("class \"{class}\" é")).collect(),
        card: ModelCard {
            data_hash: Some("ab".repeat(32)),
            counts: vec![7; class_count],
            l2: Some(0.5),
            condition_number: Some(1.5e11),
            fingerprint: None,
            metrics: BTreeMap::from([("accuracy".to_owned(), 0.75)]),
            created_with: "arras 0.1.0".to_owned(),
        },
    }
}

/// A file as another tool writes it.
fn foreign(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn message(bytes: &[u8]) -> String {
    let message = Head::from_bytes("h.safetensors", bytes).unwrap_err().to_string();
    assert!(message.starts_with("h.safetensors: ") && !message.contains('\n'), "{message}");
    message
}

#[test]
fn every_size_survives_a_round_trip_and_the_bytes_are_reproducible() {
    for (class_count, dimension) in
        [(1, 1), (2, 1), (1, 5), (5, 768), (17, 1_000), (MAX_CLASSES, 2), (1, MAX_DIMENSION)]
    {
        let head = head(class_count, dimension);
        let bytes = head.to_bytes("h").unwrap();
        let again = Head::from_bytes("h", &bytes).unwrap();
        assert_eq!(again, head);
        assert_eq!(again.to_bytes("h").unwrap(), bytes);
        assert_eq!((again.class_count(), again.dimension()), (class_count, dimension));
    }
}

#[test]
fn heads_are_written_and_read_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.safetensors");
    head(2, 3).write(&path).unwrap();
    assert_eq!(Head::read(&path).unwrap(), head(2, 3));
    let mut bad = head(2, 3);
    bad.weight[0] = f32::NAN;
    assert!(bad.write(&path).is_err());
    assert_eq!(Head::read(&path).unwrap(), head(2, 3));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::write(&path, b"nonsense").unwrap();
    assert!(Head::read(&path).unwrap_err().to_string().contains("head.safetensors: header: "));
    assert!(Head::read(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
}

/// If this fails the format has changed: heads that users have must still load.
#[test]
fn the_file_is_what_it_was() {
    let golden = include_bytes!("golden.safetensors");
    assert_eq!(Head::from_bytes("golden", golden).unwrap(), head(2, 3));
    assert_eq!(head(2, 3).to_bytes("golden").unwrap(), golden);
}

#[test]
fn what_is_written_is_a_plain_safetensors_file() {
    let head = head(3, 4);
    let bytes = head.to_bytes("h").unwrap();
    let archive = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(archive.tensor("weight").unwrap().shape(), [3, 4]);
    assert_eq!(archive.tensor("bias").unwrap().shape(), [3]);
    assert_eq!(bytes.len() % 4, 0);
}

#[test]
fn heads_of_other_tools_load_in_every_floating_point_type() {
    let weight = [1.5_f32, -2.0, 0.25, 8.0, 0.0, -0.5];
    let bias = [0.5_f32, -1.0];
    let as_f16 =
        |x: &[f32]| x.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>();
    let as_bf16 =
        |x: &[f32]| x.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>();
    let as_f32 = |x: &[f32]| x.iter().flat_map(|&v| v.to_le_bytes()).collect::<Vec<u8>>();
    let as_f64 = |x: &[f32]| x.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect::<Vec<u8>>();
    for (dtype, w, b) in [
        (Dtype::F16, as_f16(&weight), as_f16(&bias)),
        (Dtype::BF16, as_bf16(&weight), as_bf16(&bias)),
        (Dtype::F32, as_f32(&weight), as_f32(&bias)),
        (Dtype::F64, as_f64(&weight), as_f64(&bias)),
    ] {
        let bytes = foreign(&[("weight", dtype, &[2, 3], w), ("bias", dtype, &[2], b)]);
        let head = Head::from_bytes("h", &bytes).unwrap();
        assert_eq!(head.weight, weight);
        assert_eq!(head.bias, bias);
        assert_eq!(head.classes, ["0", "1"]);
        assert_eq!(head.card, ModelCard::default());
    }
}

#[test]
fn logits_are_the_affine_map() {
    let head = Head { weight: vec![1.0, 2.0, 3.0, 4.0], bias: vec![10.0, 20.0], ..head(2, 2) };
    assert_eq!(head.logits(&[1.0, 0.0, 0.5, -1.0]), [11.0, 23.0, 8.5, 17.5]);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = head(3, 5).to_bytes("h").unwrap();
    for length in 0..bytes.len() {
        message(&bytes[..length]);
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    message(&longer);
}

#[test]
fn no_flipped_bit_panics_or_slips_a_bad_head_through() {
    let bytes = head(3, 5).to_bytes("h").unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fuzz_one(&flipped);
    }
    fuzz_one(b"");
    fuzz_one(&[0xff; 64]);
}

#[test]
fn errors_name_the_file_the_tensor_and_the_reason() {
    let zeros = |count: usize| vec![0_u8; count * 4];
    let both = |w: &[usize], b: &[usize]| {
        foreign(&[
            ("weight", Dtype::F32, w, zeros(w.iter().product())),
            ("bias", Dtype::F32, b, zeros(b.iter().product())),
        ])
    };
    let cases = [
        (both(&[2, 3], &[3]), "bias: shape [3], not [2]"),
        (both(&[6], &[2]), "weight: shape [6], not [C, D]"),
        (both(&[0, 3], &[0]), "weight: shape [0, 3] is outside"),
        (both(&[1, MAX_DIMENSION + 1], &[1]), "weight: shape [1, 65537] is outside"),
        (both(&[MAX_CLASSES + 1, 1], &[MAX_CLASSES + 1]), "weight: shape [4097, 1] is outside"),
        (foreign(&[("weight", Dtype::F32, &[1, 1], zeros(1))]), "bias: no such tensor"),
        (foreign(&[("bias", Dtype::F32, &[1], zeros(1))]), "weight: no such tensor"),
        (
            foreign(&[("weight", Dtype::I32, &[1, 1], zeros(1)), ("bias", Dtype::F32, &[1], zeros(1))]),
            "weight: type I32 is not",
        ),
        (u64::MAX.to_le_bytes().repeat(2), "header: states 18446744073709551615 bytes"),
        (b"not a container at all".to_vec(), "header: "),
        (Vec::new(), "header: the file has only 0 bytes"),
    ];
    for (bytes, expected) in cases {
        let message = message(&bytes);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_named_by_place() {
    let words = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        let bytes = foreign(&[
            ("weight", Dtype::F64, &[2, 3], words(&[0.0, 0.0, 0.0, 0.0, 0.0, bad])),
            ("bias", Dtype::F64, &[2], words(&[0.0, 0.0])),
        ]);
        assert!(message(&bytes).contains("weight[1, 2]: "));
    }
    let mut bad = head(2, 2);
    bad.bias[1] = f32::NAN;
    assert!(bad.to_bytes("h").unwrap_err().to_string().contains("bias: value 1"));
    let mut bad = head(2, 2);
    bad.card.metrics.insert("auc".to_owned(), f64::NAN);
    assert!(bad.to_bytes("h").unwrap_err().to_string().contains("card.auc"));
}

#[test]
fn class_names_are_distinct_bounded_and_as_many_as_classes() {
    for (classes, expected) in [
        (vec!["a".to_owned()], "classes: 1 names for 2"),
        (vec!["a".to_owned(), "a".to_owned()], "classes[1]: \"a\" occurs twice"),
        (vec!["a".to_owned(), String::new()], "classes[1]: a name has"),
        (vec!["a\n".to_owned(), "b".to_owned()], "classes[0]: a name has"),
        (vec!["x".repeat(2_000), "b".to_owned()], "classes[0]: a name has"),
    ] {
        let message = Head { classes, ..head(2, 2) }.to_bytes("h").unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
