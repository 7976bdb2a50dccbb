use super::*;

fn npy(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut header = dictionary.to_owned();
    header.push('\n');
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn dictionary(descr: &str, fortran_order: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}")
}

const NUMBERS: [f32; 6] = [1.0, -2.0, 0.5, 4.0, 0.25, -8.0];

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn error_of(bytes: &[u8], format: Format) -> String {
    let message = from_bytes("x", bytes, format).unwrap_err().to_string();
    assert!(message.starts_with("x: ") && !message.contains('\n'), "{message}");
    message
}

#[test]
fn arrays_of_every_type_order_and_version_are_the_same_features() {
    let f64s: Vec<u8> = NUMBERS.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
    let f16s: Vec<u8> = NUMBERS.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
    let columns_first = [1.0, 4.0, -2.0, 0.25, 0.5, -8.0];
    for version in [1, 2, 3] {
        for (descr, fortran, data) in [
            ("<f4", "False", f32_bytes(&NUMBERS)),
            ("<f8", "False", f64s.clone()),
            ("<f2", "False", f16s.clone()),
            ("<f4", "True", f32_bytes(&columns_first)),
        ] {
            let bytes = npy(version, &dictionary(descr, fortran, "(2, 3)"), &data);
            let features = from_bytes("x", &bytes, Format::Npy).unwrap();
            assert_eq!((features.rows(), features.dimension), (2, 3));
            assert_eq!(features.values, NUMBERS);
            assert_eq!(features.names, ["0", "1"]);
        }
    }
    let row = npy(1, &dictionary("<f4", "False", "(6,)"), &f32_bytes(&NUMBERS));
    assert_eq!(from_bytes("x", &row, Format::Npy).unwrap().rows(), 1);
    let double_quotes =
        npy(1, r#"{"shape":(3,2),"descr":"<f4","fortran_order":False}"#, &f32_bytes(&NUMBERS));
    assert_eq!(from_bytes("x", &double_quotes, Format::Npy).unwrap().dimension, 2);
}

#[test]
fn broken_arrays_are_refused_by_field() {
    let data = f32_bytes(&NUMBERS);
    let with = |descr: &str, fortran: &str, shape: &str| npy(1, &dictionary(descr, fortran, shape), &data);
    let mut bad_number = data.clone();
    bad_number[16..20].copy_from_slice(&f32::NAN.to_le_bytes());
    for (bytes, expected) in [
        (with(">f4", "False", "(2, 3)"), "descr: \">f4\""),
        (with("|O", "False", "(2, 3)"), "descr: \"|O\""),
        (with("<i8", "False", "(3,)"), "descr: \"<i8\""),
        (with("<f4", "Maybe", "(2, 3)"), "fortran_order: "),
        (with("<f4", "False", "(2, 3, 1)"), "shape: 3 dimensions"),
        (with("<f4", "False", "()"), "shape: 0 dimensions"),
        (with("<f4", "False", "(2, -3)"), "shape: is not"),
        (with("<f4", "False", "(2, 2)"), "data: 24 bytes"),
        (with("<f4", "False", "(99999999999, 99999999999)"), "data: 24 bytes"),
        (with("<f4", "False", "(999999999999999999999999, 2)"), "shape: is not"),
        (
            npy(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", &data),
            "descr: a record",
        ),
        (npy(1, "{'descr': '<f4', 'shape': (2, 3)}", &data), "fortran_order: missing"),
        (npy(1, &dictionary("<f4", "False", "(2, 3)"), &bad_number), "row 1 (1), column 1 is NaN"),
        (npy(9, &dictionary("<f4", "False", "(2, 3)"), &data), "version: "),
        (b"PK\x03\x04".to_vec(), "magic: "),
        (Vec::new(), "magic: "),
    ] {
        let message = error_of(&bytes, Format::Npy);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn no_truncation_or_flipped_bit_of_an_array_panics() {
    let bytes = npy(1, &dictionary("<f4", "False", "(2, 3)"), &f32_bytes(&NUMBERS));
    for length in 0..bytes.len() {
        error_of(&bytes[..length], Format::Npy);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        crate::fuzz::fuzz_one(&flipped);
    }
}

#[test]
fn tables_load_with_and_without_header_names_and_labels() {
    let plain = Features { dimension: 2, values: vec![1.0, 2.0, 3.5, -4.0], ..Features::default() };
    let names = Some(["a.png", "b.png"].map(String::from).to_vec());
    let labels = Some(["x", "y"].map(String::from).to_vec());
    let numbered = Some(numbered_names(2));
    for (table, names, labels) in [
        ("1,2\n3.5,-4e0\n", &numbered, &None),
        ("u,v\n1,2\n3.5,-4\n", &numbered, &None),
        ("\u{feff}file,u,v\r\na.png,1,2\r\nb.png, 3.5 ,-4\r\n", &names, &None),
        ("file,0,1,label\na.png,1,2,x\nb.png,3.5,-4,y\n", &names, &labels),
        ("a.png,1,2,x\nb.png,3.5,-4,y", &names, &labels),
        ("1,2,\"x\"\n3.5,-4,\"y\"\n", &numbered, &labels),
        ("label,u,v,file\nx,1,2,a.png\ny,3.5,-4,b.png\n", &names, &labels),
    ] {
        let expected = Features { names: names.clone().unwrap(), labels: labels.clone(), ..plain.clone() };
        assert_eq!(from_bytes("x", table.as_bytes(), Format::Csv).unwrap(), expected, "{table}");
    }
    let grouped = from_csv("x", b"group,u\np1,1\np2,2\n").unwrap();
    assert_eq!(grouped.groups.unwrap(), ["p1", "p2"]);
}

#[test]
fn broken_tables_are_refused_by_line_and_column() {
    for (table, expected) in [
        ("u,v\n1,2\n3,abc\n", "line 3, column 2: \"abc\" is not a number"),
        ("u,v\n1,2\n\n3,\n", "line 4, column 2: \"\" is not a number"),
        ("1,2\n3,nan\n", "line 2, column 2: \"nan\" is not finite"),
        ("1,2\n3,1e39\n", "line 2, column 2: \"1e39\" is not finite"),
        ("1,2\n3\n", "line 2: 1 cells, not 2"),
        ("file,u\n,1\n", "line 2, column 1: is empty"),
        ("file,u\na,1\na,2\n", "names: \"a\" occurs twice"),
        ("u,v\n", "cls: no rows"),
        ("file,label\na,x\n", "cls: 0 features per row"),
        ("", "csv: the table is empty"),
    ] {
        let message = error_of(table.as_bytes(), Format::Csv);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    assert!(error_of(b"1,2\n\xff,3\n", Format::Csv).contains("csv: "));
    assert!(error_of(b"\xff,3\n1,2\n", Format::Csv).contains("csv: "));
}

#[test]
fn labels_are_matched_by_name_or_taken_in_order() {
    let names = ["b/1.png", "a/2.png"].map(String::from);
    for table in [
        "file,label\na/2.png,tumour\nb/1.png,normal\nother.png,normal\n",
        "Label,site,File\ntumour,1,a/2.png\nnormal,2,b/1.png\n",
        "a/2.png,tumour\nb/1.png,normal\n",
        "normal\ntumour\n",
        "label\nnormal\ntumour\n",
    ] {
        assert_eq!(
            column_for(&names, "l", table.as_bytes(), "label").unwrap(),
            ["normal", "tumour"],
            "{table}"
        );
    }
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let names = ["a", "b"].map(String::from);
    for (table, expected) in [
        ("file,label\na,x\n", "l: file: no row for \"b\""),
        ("file,label\na,x\na,y\nb,x\n", "l: line 3: \"a\" occurs twice"),
        ("file,class\na,x\nb,y\n", "l: header: needs the columns file and label"),
        ("a,b,c\n1,2,3\n", "l: header: needs"),
        ("x\ny\nz\n", "l: label: 3 lines for 2 rows"),
        ("x,\n", "l: line 1, column 2: is empty"),
        ("", "l: label: the table is empty"),
        ("x\ny,z\n", "l: line 2: 2 cells"),
    ] {
        let message = column_for(&names, "l", table.as_bytes(), "label").unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn labels_and_groups_are_attached_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("both.csv");
    std::fs::write(&table, "file,group,label\n1,p,x\n0,q,y\n").unwrap();
    let mut features = from_csv("x", b"1,2\n3,4\n").unwrap();
    attach_labels(&mut features, &table).unwrap();
    attach_groups(&mut features, &table).unwrap();
    assert_eq!(features.labels.unwrap(), ["y", "x"]);
    assert_eq!(features.groups.unwrap(), ["q", "p"]);
}

#[test]
fn the_extension_chooses_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.CSV"), "1,2\n").unwrap();
    assert_eq!(import(&at("a.CSV")).unwrap().dimension, 2);
    std::fs::write(at("a.npy"), npy(1, &dictionary("<f4", "False", "(2, 3)"), &f32_bytes(&NUMBERS))).unwrap();
    assert_eq!(import(&at("a.npy")).unwrap().rows(), 2);
    Features::write(&import(&at("a.npy")).unwrap(), &at("a.safetensors")).unwrap();
    assert_eq!(import(&at("a.safetensors")).unwrap().values, NUMBERS);
    assert!(import(&at("a.pt")).unwrap_err().to_string().contains("a.pt: extension: not one of"));
    assert!(import(&at("none.csv")).unwrap_err().to_string().contains("none.csv: "));
}
