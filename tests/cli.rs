//! The commands as a user runs them: the whole road through files, and every file that can be handed over, damaged.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

const ARRAS: &str = env!("CARGO_BIN_EXE_arras");
const SERVER: &str = env!("CARGO_BIN_EXE_arras-server");

fn run_in(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).arg("--quiet").current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that has to succeed; its JSON.
fn json_of(folder: &Path, program: &str, arguments: &[&str]) -> Value {
    let output = run_in(folder, program, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// Runs a command that has to fail with one line that contains all of `expected`, and leave no `output` behind.
fn refused(folder: &Path, program: &str, arguments: &[&str], expected: &[&str], output: &str) {
    let result = run_in(folder, program, arguments);
    let message = text(&result.stderr);
    assert!(matches!(result.status.code(), Some(1 | 2)), "{arguments:?}: {:?}, {message}", result.status);
    assert!(message.starts_with("error: ") && message.lines().count() == 1, "{arguments:?}: {message}");
    for part in expected {
        assert!(message.contains(part), "{arguments:?}: '{part}' is not in: {message}");
    }
    assert!(!folder.join(output).exists(), "{arguments:?} left {output} behind");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        names.into_iter().all(|name| !name.contains("tmp")),
        "{arguments:?} left a temporary file behind"
    );
}

/// A folder in which the whole road has been walked once.
fn road() -> &'static Path {
    static ROAD: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = ROAD.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        let walk = |program, arguments: &[&str]| json_of(&path, program, arguments);
        walk(ARRAS, &["tiles", "-o", "tiles", "--per-class", "9", "--seed", "1", "--patients", "3"]);
        walk(ARRAS, &["embed", "tiles", "--random", "1", "-o", "cls.safetensors"]);
        walk(ARRAS, &["fit", "--features", "cls.safetensors", "-o", "head.safetensors"]);
        walk(ARRAS, &["keygen", "-o", "keys"]);
        walk(ARRAS, &["encrypt", "--keys", "keys", "--features", "cls.safetensors", "-o", "ct.arras"]);
        walk(SERVER, &["classify", "--head", "head.safetensors", "--input", "ct.arras", "-o", "reply.arras"]);
        walk(ARRAS, &["decrypt", "--keys", "keys", "--input", "reply.arras", "-o", "logits.safetensors"]);
        (folder, path)
    });
    path
}

/// A copy of the road's files in a folder of its own.
fn copy_of_road() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cls.safetensors", "head.safetensors", "ct.arras", "reply.arras"] {
        fs::copy(road().join(name), folder.path().join(name)).unwrap();
    }
    fs::create_dir(folder.path().join("keys")).unwrap();
    for name in ["keys/secret", "keys/public"] {
        fs::copy(road().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Sets of classes in folders of their own, as LC25000 has them: JPEG, two levels, groups beside the outer folders.
#[test]
fn classes_of_a_nested_data_set_are_its_last_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json_of(
        path,
        ARRAS,
        &["tiles", "-o", "t", "--per-class", "12", "--seed", "3", "--patients", "6", "--size", "48"],
    );
    let places = [
        ("glandular", "lung_image_sets/lung_aca", "lungaca"),
        ("scattered", "lung_image_sets/lung_n", "lungn"),
        ("solid", "colon_image_sets/colon_n", "colonn"),
    ];
    let mut groups = "file,group\n".to_owned();
    for (class, place, name) in places {
        fs::create_dir_all(path.join("set").join(place)).unwrap();
        for index in 0..12 {
            let tile = image::open(path.join(format!("t/{class}/{class}-{index:05}.png"))).unwrap();
            let file = format!("{place}/{name}{}.jpeg", index + 1);
            tile.into_rgb8().save(path.join("set").join(&file)).unwrap();
            groups += &format!("{file},patient-{}\n", index % 6);
        }
    }
    fs::write(path.join("set/groups.csv"), groups).unwrap();
    let embed = ["embed", "set", "--random", "1", "-o", "cls.safetensors"];
    let report = json_of(path, ARRAS, &embed);
    assert_eq!(report["classes"], serde_json::json!(["colon_image_sets", "lung_image_sets"]));
    let report = json_of(path, ARRAS, &[&embed[..], &["--class-folder", "last"]].concat());
    assert_eq!(report["classes"], serde_json::json!(["colon_n", "lung_aca", "lung_n"]));
    assert_eq!((report["images"].as_u64(), report["grouped"].as_bool()), (Some(36), Some(true)));
    // Six groups of six, of which some judge: whole groups.
    let report = json_of(path, ARRAS, &["fit", "--features", "cls.safetensors", "-o", "head.safetensors"]);
    assert!(report.to_string().contains("lung_aca"), "{report}");
}

#[test]
fn files_and_one_process_give_the_same_decisions() {
    let folder = road();
    let infer = ["infer", "tiles", "--random", "1", "--head", "head.safetensors", "--predictions", "out.csv"];
    let report = json_of(folder, ARRAS, &infer);
    assert_eq!((report["images"].as_u64(), report["disagreements"].as_u64()), (Some(27), Some(0)));
    for field in
        ["accuracy_clear", "accuracy_encrypted", "logit_bound", "max_abs_logit_difference", "budget_ms"]
    {
        assert!(report[field].is_f64(), "{field}: {report}");
    }
    for stage in ["decode", "vit", "encode", "encrypt", "server", "decrypt"] {
        assert!(report["stages_ms"][stage].as_f64().unwrap() > 0.0, "{stage}");
    }
    for scope in ["single", "amortised"] {
        assert!(report["encrypted_inference_ms"][scope].as_f64().unwrap() > 0.0, "{scope}");
    }
    assert!(report["max_abs_logit_difference"].as_f64() <= report["logit_bound"].as_f64());
    assert!(report["upload_bytes_per_image"].as_f64().unwrap() <= 4900.0);
    // The logits that travelled through files, against the predictions of the one process.
    let bytes = fs::read(folder.join("logits.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let shape: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert_eq!(shape["logits"]["shape"], serde_json::json!([27, 3]));
    let logits: Vec<f32> =
        bytes[8 + header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut predictions = csv::Reader::from_path(folder.join("out.csv")).unwrap();
    let bound = 2.0 * report["logit_bound"].as_f64().unwrap() as f32;
    for (record, logits) in predictions.records().zip(logits.chunks_exact(3)) {
        let record = record.unwrap();
        for (class, logit) in logits.iter().enumerate() {
            let score: f32 = record[5 + class].parse().unwrap();
            assert!((score - logit).abs() <= bound, "{}: {score} against {logit}", &record[0]);
        }
    }
    let metrics = json_of(folder, ARRAS, &["evaluate", "out.csv"]);
    assert_eq!(metrics["accuracy"]["value"], report["accuracy_encrypted"]);
    assert_eq!(metrics["bootstrap"]["by_group"], true);
}

#[cfg(unix)]
#[test]
fn the_secret_key_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |name: &str| fs::metadata(road().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys"), mode("keys/secret")), (0o700, 0o600));
    refused(road(), ARRAS, &["keygen", "-o", "keys"], &["keys/secret", "never overwritten"], "nothing");
}

#[test]
fn damaged_frames_are_refused_by_name() {
    type Case = (&'static str, &'static str, &'static [&'static str]);
    let cases: [Case; 3] = [
        (
            "ct.arras",
            SERVER,
            &["classify", "--head", "head.safetensors", "--input", "ct.arras", "-o", "none"],
        ),
        ("reply.arras", ARRAS, &["decrypt", "--keys", "keys", "--input", "reply.arras", "-o", "none"]),
        ("keys/secret", ARRAS, &["decrypt", "--keys", "keys", "--input", "reply.arras", "-o", "none"]),
    ];
    let folder = copy_of_road();
    for (name, program, arguments) in cases {
        let whole = fs::read(folder.path().join(name)).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        let mut huge = whole.clone();
        huge[8..16].fill(0xff);
        let mut later = whole.clone();
        later[4] = 0xff;
        let longer = [&whole[..], &[0]].concat();
        let kinds: [(&str, &[u8]); 8] = [
            ("empty", &[]),
            ("truncated", &whole[..whole.len() - 1]),
            ("a header only", &whole[..40]),
            ("flipped", &flipped),
            ("a huge length", &huge),
            ("a later version", &later),
            ("longer", &longer),
            ("of another kind", b"\x89PNG\r\n\x1a\n and so on"),
        ];
        for (kind, bytes) in kinds {
            println!("{name} {kind}");
            fs::write(folder.path().join(name), bytes).unwrap();
            refused(folder.path(), program, arguments, &[name], "none");
        }
        fs::remove_file(folder.path().join(name)).unwrap();
        refused(folder.path(), program, arguments, &[name], "none");
        fs::write(folder.path().join(name), whole).unwrap();
    }
}

#[test]
fn what_does_not_belong_together_is_refused_with_the_numbers() {
    let folder = copy_of_road();
    let path = folder.path();
    let classify = |head: &'static str| ["classify", "--head", head, "--input", "ct.arras", "-o", "none"];
    json_of(path, ARRAS, &["keygen", "--preset", "linear-wide", "-o", "wide"]);
    json_of(path, ARRAS, &["keygen", "-o", "other"]);
    let wrong_key = ["decrypt", "--keys", "other", "--input", "reply.arras", "-o", "none"];
    refused(path, ARRAS, &wrong_key, &["reply.arras", "encrypted under key"], "none");
    refused(
        path,
        ARRAS,
        &["decrypt", "--keys", "wide", "--input", "reply.arras", "-o", "none"],
        &["reply.arras"],
        "none",
    );
    fs::write(path.join("iris.csv"), "a,b,label\n1,2,x\n3,4,y\n5,7,x\n2,2,y\n").unwrap();
    json_of(path, ARRAS, &["import", "iris.csv", "-o", "iris.safetensors"]);
    json_of(
        path,
        ARRAS,
        &["fit", "--features", "iris.safetensors", "--l2", "1", "-o", "iris-head.safetensors"],
    );
    refused(path, SERVER, &classify("iris-head.safetensors"), &["ct.arras", "2 features", "768"], "none");
    refused(path, SERVER, &classify("ct.arras"), &["ct.arras"], "none");
    refused(path, SERVER, &classify("missing.safetensors"), &["missing.safetensors"], "none");
    json_of(
        path,
        ARRAS,
        &["embed", road().join("tiles").to_str().unwrap(), "--random", "2", "-o", "other.safetensors"],
    );
    json_of(
        path,
        ARRAS,
        &["encrypt", "--keys", "keys", "--features", "other.safetensors", "-o", "other.arras"],
    );
    let other = ["classify", "--head", "head.safetensors", "--input", "other.arras", "-o", "none"];
    refused(path, SERVER, &other, &["other.arras", "backbone"], "none");
    let tiles = road().join("tiles");
    let infer = ["infer", tiles.to_str().unwrap(), "--random", "2", "--head", "head.safetensors"];
    refused(path, ARRAS, &infer, &["head.safetensors", "backbone"], "none");
}

#[test]
fn features_beyond_the_bounds_are_refused_by_row() {
    let folder = copy_of_road();
    let path = folder.path();
    let encrypt = ["encrypt", "--keys", "keys", "--features", "big.safetensors", "-o", "none"];
    fs::write(path.join("big.csv"), "1,2\n3,-17\n").unwrap();
    json_of(path, ARRAS, &["import", "big.csv", "-o", "big.safetensors"]);
    refused(path, ARRAS, &encrypt, &["big.safetensors", "row 1", "feature 1", "-17", "16"], "none");
    for (contents, expected) in
        [("1,2\n3,nan\n", "line 2"), ("1,2\n3\n", "line 2"), ("", "bad.csv"), ("1,2\n3,inf\n", "line 2")]
    {
        fs::write(path.join("bad.csv"), contents).unwrap();
        refused(path, ARRAS, &["import", "bad.csv", "-o", "none"], &["bad.csv", expected], "none");
    }
}

#[test]
fn damaged_tensors_are_refused_by_name() {
    let folder = copy_of_road();
    let path = folder.path();
    for (name, arguments) in [
        ("cls.safetensors", ["fit", "--features", "cls.safetensors", "-o", "none"].as_slice()),
        (
            "head.safetensors",
            &["classify", "--head", "head.safetensors", "--input", "ct.arras", "-o", "none"],
        ),
    ] {
        let whole = fs::read(path.join(name)).unwrap();
        let mut huge = whole.clone();
        huge[..8].fill(0xff);
        let mut nan = whole.clone();
        let end = nan.len();
        nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        for bytes in
            [&[][..], &whole[..7], &whole[..whole.len() - 1], &huge, &nan, b"not a tensor file at all"]
        {
            fs::write(path.join(name), bytes).unwrap();
            refused(path, ARRAS, arguments, &[name], "none");
        }
        fs::write(path.join(name), whole).unwrap();
    }
}

#[test]
fn a_server_is_not_given_secrets() {
    let folder = copy_of_road();
    let path = folder.path();
    fs::copy(path.join("ct.arras"), path.join("keys/ct.arras")).unwrap();
    for program in [SERVER, ARRAS] {
        let beside = ["classify", "--head", "head.safetensors", "--input", "keys/ct.arras", "-o", "none"];
        refused(path, program, &beside, &["keys/secret"], "none");
        let folder = ["classify", "--head", "head.safetensors", "--input", "keys", "-o", "none"];
        refused(path, program, &folder, &["keys/secret"], "none");
    }
}

#[test]
fn one_bad_image_is_reported_and_the_rest_classified() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images/mixed");
    fs::create_dir_all(&images).unwrap();
    let tiles = road().join("tiles/solid");
    let mut count = 0;
    for entry in fs::read_dir(tiles).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), images.join(entry.file_name())).unwrap();
        count += 1;
    }
    fs::write(images.join("broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    fs::write(images.join("empty.jpg"), b"").unwrap();
    fs::write(images.join("notes.txt"), b"not an image and not looked at").unwrap();
    let head = road().join("head.safetensors");
    let arguments = [
        "infer",
        "images",
        "--random",
        "1",
        "--head",
        head.to_str().unwrap(),
        "--predictions",
        "out.csv",
        "--json",
    ];
    let output = run_in(folder.path(), ARRAS, &arguments);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["images"], count);
    let failed = report["failed"].to_string();
    assert!(failed.contains("broken.png") && failed.contains("empty.jpg"), "{failed}");
    assert_eq!(fs::read_to_string(folder.path().join("out.csv")).unwrap().lines().count(), 1 + count);
}

#[test]
fn devices_that_are_not_there_are_an_error() {
    let gpu = if cfg!(feature = "cuda") { "there is no CUDA device" } else { "feature `cuda`" };
    for (device, expected) in [("cuda:999", gpu), ("cuda:x", "expected `cpu`"), ("tpu", "expected `cpu`")] {
        let measuring = [["bench", "none"].as_slice(), &["budget", "none"]];
        for command in
            [["demo"].as_slice(), &["selftest"], &["keygen", "-o", "none"]].into_iter().chain(measuring)
        {
            let arguments = [command, &["--device", device]].concat();
            refused(road(), ARRAS, &arguments, &[device, expected], "none");
        }
    }
}

#[cfg(unix)]
#[test]
fn unwritable_folders_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = copy_of_road();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(locked.join("probe"), b"").is_ok() {
        // Running as a user whom permissions do not bind; a missing folder fails for everyone.
        fs::remove_file(locked.join("probe")).unwrap();
        fs::remove_dir(&locked).unwrap();
    }
    let encrypt = ["encrypt", "--keys", "keys", "--features", "cls.safetensors", "-o", "locked/ct.arras"];
    refused(folder.path(), ARRAS, &encrypt, &["locked/ct.arras"], "locked/ct.arras");
}

#[test]
fn an_interrupted_embedding_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let tiles = road().join("tiles");
    let embed = ["embed", tiles.to_str().unwrap(), "--random", "1", "-o", "cls.safetensors"];
    // What a run leaves behind when it is stopped: some of the rows, under the name of the unfinished file.
    fs::copy(road().join("cls.safetensors"), folder.path().join("cls.safetensors.partial")).unwrap();
    let report = json_of(folder.path(), ARRAS, &embed);
    assert_eq!(report["resumed"], 27);
    assert!(!folder.path().join("cls.safetensors.partial").exists());
    let (again, first) = (folder.path().join("cls.safetensors"), road().join("cls.safetensors"));
    assert_eq!(fs::read(again).unwrap(), fs::read(first).unwrap());
    fs::copy(road().join("cls.safetensors"), folder.path().join("cls.safetensors.partial")).unwrap();
    let other = ["embed", tiles.to_str().unwrap(), "--random", "2", "-o", "cls.safetensors"];
    refused(folder.path(), ARRAS, &other, &["cls.safetensors.partial", "another backbone"], "none");
}

#[test]
fn an_output_never_replaces_an_input() {
    let folder = copy_of_road();
    let encrypt = ["encrypt", "--keys", "keys", "--features", "cls.safetensors", "-o"];
    for input in ["keys/secret", "keys/../keys/public", "cls.safetensors"] {
        let before = fs::read(folder.path().join(input)).unwrap();
        let arguments = [encrypt.as_slice(), &[input]].concat();
        refused(folder.path(), ARRAS, &arguments, &[input, "refusing to replace"], "none");
        assert_eq!(fs::read(folder.path().join(input)).unwrap(), before);
    }
}

#[test]
fn bad_outputs_and_groups_are_refused_before_the_long_work() {
    let folder = copy_of_road();
    // A backbone that is not there is found out only after the output: the order is what is tested.
    let embed = ["embed", "tiles", "--model", "none", "-o", "no/such/cls.safetensors"];
    fs::create_dir_all(folder.path().join("tiles")).unwrap();
    let tile = fs::read_dir(road().join("tiles/solid")).unwrap().next().unwrap().unwrap().path();
    fs::copy(tile, folder.path().join("tiles/one.png")).unwrap();
    refused(folder.path(), ARRAS, &embed, &["no/such/cls.safetensors", "cannot create"], "none");
    fs::write(folder.path().join("tiles/groups.csv"), "file,group\nother.png,1\n").unwrap();
    let embed = ["embed", "tiles", "--model", "none", "-o", "new.safetensors"];
    refused(folder.path(), ARRAS, &embed, &["groups.csv", "one.png"], "new.safetensors");
}

#[test]
fn help_version_doctor_and_manuals() {
    let folder = tempfile::tempdir().unwrap();
    let version = text(&run_in(folder.path(), ARRAS, &["--version"]).stdout);
    assert!(
        version.starts_with("arras 0.") && version.contains("commit") && version.contains("features"),
        "{version}"
    );
    let doctor = json_of(folder.path(), ARRAS, &["doctor"]);
    assert_eq!(doctor["devices"][0]["available"], true);
    assert_eq!(doctor["devices"][1]["available"], false);
    for (kind, name) in [("man", "arras.1"), ("completions", "arras.bash")] {
        assert!(run_in(folder.path(), ARRAS, &["docs", kind, "-o", "docs"]).status.success());
        assert!(folder.path().join("docs").join(name).exists());
    }
    assert_eq!(run_in(folder.path(), ARRAS, &["nonsense"]).status.code(), Some(2));
}

/// `arras doctor | true`: who reads no further is no error, and nothing is said about it.
#[test]
fn a_reader_may_leave_early() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_arras")).arg("doctor").stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("panicked"));
}

#[test]
fn bench_measures_what_it_is_asked_for_and_compare_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |rest: &[&str]| run_in(folder.path(), ARRAS, &[&["bench"], rest].concat());
    let names = text(&bench(&["--list", "--degrees", "4096"]).stdout);
    assert!(names.lines().any(|name| name == "ntt/forward/n=4096/limbs=3/q=45"), "{names}");
    assert!(!names.contains("n=8192"), "{names}");

    let quick =
        ["bench", "one.json", "--quick", "--degrees", "4096", "--limbs", "1", "--filter", "pointwise/add"];
    let record = json_of(folder.path(), ARRAS, &quick);
    let measured = &record["benchmarks"][0];
    assert_eq!(measured["id"], "pointwise/add/n=4096/limbs=1/q=50");
    assert_eq!(measured["work"]["read"], 2 * 8 * 4096);
    assert_eq!(measured["samples"].as_array().unwrap().len(), 10);
    assert!(measured["floor"]["memory"].as_f64().unwrap() > 0.0);
    let kept: Value = serde_json::from_slice(&fs::read(folder.path().join("one.json")).unwrap()).unwrap();
    assert_eq!(kept, record);

    let report = json_of(folder.path(), ARRAS, &["compare", "one.json", "one.json"]);
    assert_eq!(report["comparisons"][0]["ratio"]["value"], 1.0);
    // A record whose times are half as long again.
    let slower = |samples: &mut Value| {
        for sample in samples.as_array_mut().unwrap() {
            *sample = (1.5 * sample.as_f64().unwrap()).into();
        }
    };
    let mut other = record.clone();
    slower(&mut other["benchmarks"][0]["samples"]);
    for field in ["median", "p95"] {
        let value = &mut other["benchmarks"][0]["summary"][field];
        *value = (1.5 * value.as_f64().unwrap()).into();
    }
    fs::write(folder.path().join("two.json"), other.to_string()).unwrap();
    let output = run_in(folder.path(), ARRAS, &["compare", "one.json", "two.json"]);
    assert!(text(&output.stdout).contains("1 cases: "), "{}", text(&output.stdout));
    let ratio = json_of(folder.path(), ARRAS, &["compare", "two.json", "one.json"]);
    let value = ratio["comparisons"][0]["ratio"]["value"].as_f64().unwrap();
    assert!((value - 1.0 / 1.5).abs() < 1e-9, "{value}");

    refused(folder.path(), ARRAS, &["bench"], &["records"], "records");
    refused(folder.path(), ARRAS, &["bench", "--filter", "nothing", "--quick"], &["--list"], "records");
    refused(folder.path(), ARRAS, &["bench", "--sweep", "none.toml"], &["none.toml"], "records");
    fs::write(folder.path().join("bad.json"), "{}").unwrap();
    refused(folder.path(), ARRAS, &["compare", "one.json", "bad.json"], &["bad.json", "schema"], "records");
}

#[test]
fn blocks_of_a_record_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let block = [
        "bench",
        "one.json",
        "--append",
        "--quick",
        "--degrees",
        "4096",
        "--limbs",
        "1",
        "--filter",
        "pointwise/add/",
    ];
    let rounds =
        |kept: &Value| (kept["benchmarks"][0]["blocks"].clone(), kept["benchmarks"][0]["rounds"].clone());
    for count in 1..=2 {
        json_of(folder.path(), ARRAS, &block);
        let kept: Value = serde_json::from_slice(&fs::read(folder.path().join("one.json")).unwrap()).unwrap();
        assert_eq!(rounds(&kept), (count.into(), (5 * count).into()));
    }
}

#[test]
fn the_budget_is_a_waterfall_and_the_report_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let record = json_of(folder.path(), ARRAS, &["budget", "b.json", "--batch", "2", "--seconds", "0"]);
    let waterfalls = record["waterfalls"].as_array().unwrap();
    assert_eq!(waterfalls.len(), 4);
    for waterfall in waterfalls {
        let stages = waterfall["stages"].as_array().unwrap();
        let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
        for name in
            ["decode", "preprocess", "ViT", "encode", "encrypt", "serialise", "product", "trim", "decrypt"]
        {
            assert!(names.contains(&name), "{name}");
        }
        let by_rotations = waterfall["parameters"]["layout"] == "rotations";
        for stage in stages {
            let samples = stage["samples"].as_array().unwrap();
            let scopes = stage["scopes"].as_array().unwrap().len();
            match stage["name"].as_str().unwrap() {
                "decode" => assert_eq!(scopes, 0),
                "preprocess" | "ViT" => assert_eq!(scopes, 1),
                "key switch, rescale" => assert_eq!(samples.is_empty(), !by_rotations),
                "product" => assert!(samples.iter().all(|sample| sample.as_f64().unwrap() > 0.0)),
                _ => (),
            }
            assert_eq!(samples.is_empty(), stage.get("missing").is_some(), "{stage}");
        }
        assert_eq!(waterfall["once"].as_array().unwrap().len(), if by_rotations { 3 } else { 2 });
        assert_eq!(waterfall["parameters"]["key bytes"].as_u64().unwrap() > 0, by_rotations);
    }
    for source in ["nvml", "rapl"] {
        assert!(record["telemetry"]["sources"][source].is_string());
    }
    let report = json_of(folder.path(), ARRAS, &["report", "b.json", "-o", "report.html"]);
    assert_eq!(report["records"], 1);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("key switch, rescale") && page.contains("no record has ceilings"), "{page}");
    refused(folder.path(), ARRAS, &["report", "b.json", "-o", "b.json"], &["refusing to replace"], "none");
    refused(folder.path(), ARRAS, &["report", "none.json", "-o", "x.html"], &["none.json"], "x.html");
    refused(folder.path(), ARRAS, &["budget", "no/b.json"], &["no/b.json"], "no");
}

#[test]
fn profiles_need_no_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let profile = json_of(folder.path(), ARRAS, &["profile", "--arch", "sm_80"]);
    let kernels = profile["kernels"].as_array().unwrap();
    let named = |name: &str| kernels.iter().find(|kernel| kernel["name"] == name).unwrap();
    assert!(named("arras_ntt_whole_13_shifted")["registers"].as_u64().unwrap() > 32);
    if cfg!(feature = "cuda") {
        let operations = profile["operations"].as_array().unwrap();
        let launches = |start: &str| {
            let found = operations.iter().find(|one| one["name"].as_str().unwrap().starts_with(start));
            found.unwrap_or_else(|| panic!("{start}"))["launches"].as_u64().unwrap()
        };
        assert_eq!((launches("ntt, N = 8192"), launches("ntt, N = 16384")), (1, 2));
        assert!(launches("rotate, n=8192") > 3 && launches("classify, preset linear, layout dot") > 3);
        assert!(named("arras_ntt_whole_13_shifted")["occupancy"].as_f64().unwrap() > 0.0);
    } else {
        assert!(profile["missing"].as_str().unwrap().contains("feature `cuda`"));
    }
    refused(folder.path(), ARRAS, &["profile", "--arch", "sm_70"], &["sm_70", "sm_90"], "none");
}

#[test]
fn a_hidden_layer_goes_the_whole_road_in_both_layouts() {
    let folder = copy_of_road();
    let path = folder.path();
    let fit =
        ["fit", "--features", "cls.safetensors", "--hidden", "8", "--seed", "1", "-o", "mlp.safetensors"];
    assert_eq!(json_of(path, ARRAS, &fit)["hidden"], 8);
    for (preset, layout) in [("mlp-rotations", "rotations"), ("mlp", "slots")] {
        let keys = format!("keys-{layout}");
        json_of(path, ARRAS, &["keygen", "--preset", preset, "-o", &keys]);
        let shape = ["--hidden", "8", "--classes", "3"];
        let encrypt = ["encrypt", "--keys", &keys, "--features", "cls.safetensors", "-o", "mlp.arras"];
        assert_eq!(json_of(path, ARRAS, &[&encrypt[..], &shape].concat())["layout"], layout);
        let classify =
            ["classify", "--head", "mlp.safetensors", "--input", "mlp.arras", "-o", "mlp-reply.arras"];
        if layout == "rotations" {
            refused(
                path,
                SERVER,
                &classify,
                &["mlp.safetensors", "evaluation keys, none"],
                "mlp-reply.arras",
            );
            let made =
                json_of(path, ARRAS, &[&["keys", "--keys", &keys, "-o", "evaluation"], &shape[..]].concat());
            let element = made["keys"][1]["element"].as_u64().unwrap();
            let file = format!("evaluation/galois-{element}");
            assert_eq!(
                fs::metadata(path.join(&file)).unwrap().len(),
                made["keys"][1]["bytes"].as_u64().unwrap()
            );
            let with_keys = [&classify[..], &["--evaluation", "evaluation"]].concat();
            let kept = fs::read(path.join(&file)).unwrap();
            fs::remove_file(path.join(&file)).unwrap();
            let missing = format!("the Galois element {element}");
            refused(path, SERVER, &with_keys, &[&file, &missing], "mlp-reply.arras");
            fs::write(path.join(&file), &kept[..kept.len() / 2]).unwrap();
            refused(path, SERVER, &with_keys, &[&file, "truncated"], "mlp-reply.arras");
            fs::copy(path.join("evaluation/relinearisation"), path.join(&file)).unwrap();
            refused(path, SERVER, &with_keys, &[&file, "holds the key of element 0"], "mlp-reply.arras");
            fs::write(path.join(&file), kept).unwrap();
            json_of(path, SERVER, &with_keys);
        } else {
            refused(
                path,
                SERVER,
                &[&classify[..], &["--hide-model"]].concat(),
                &["mlp.arras", "no room to hide"],
                "mlp-reply.arras",
            );
            json_of(path, SERVER, &classify);
        }
        let output = format!("{layout}.safetensors");
        json_of(path, ARRAS, &["decrypt", "--keys", &keys, "--input", "mlp-reply.arras", "-o", &output]);
        fs::remove_file(path.join("mlp-reply.arras")).unwrap();
    }
    let logits = |name: &str| -> Vec<f32> {
        let bytes = fs::read(path.join(name)).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let (rotations, slots) = (logits("rotations.safetensors"), logits("slots.safetensors"));
    assert_eq!((rotations.len(), slots.len()), (81, 81));
    let worst = rotations.iter().zip(&slots).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.5, "{worst}");
}

#[test]
fn heads_are_hidden_on_demand() {
    let folder = copy_of_road();
    let path = folder.path();
    json_of(path, ARRAS, &["keygen", "--hide-model", "-o", "hiding"]);
    json_of(
        path,
        ARRAS,
        &["encrypt", "--keys", "hiding", "--features", "cls.safetensors", "-o", "hidden.arras"],
    );
    let classify = [
        "classify",
        "--head",
        "head.safetensors",
        "--input",
        "hidden.arras",
        "--hide-model",
        "-o",
        "hidden-reply.arras",
    ];
    assert_eq!(json_of(path, SERVER, &classify)["hidden_model"], true);
    let decrypt =
        ["decrypt", "--keys", "hiding", "--input", "hidden-reply.arras", "-o", "hidden.safetensors"];
    assert!(json_of(path, ARRAS, &decrypt)["logit_bound"].as_f64().unwrap() < 1e-2);
    let open =
        ["classify", "--head", "head.safetensors", "--input", "ct.arras", "--hide-model", "-o", "none"];
    refused(path, SERVER, &open, &["ct.arras", "preset 'linear' has no room to hide the head"], "none");
}

#[test]
fn plans_compare_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let few = json_of(folder.path(), ARRAS, &["plan", "--hidden", "64", "--images", "8"]);
    let plans = few["plans"].as_array().unwrap();
    assert_eq!((plans.len(), plans[0]["layout"].as_str()), (3, Some("rotations")));
    assert_eq!(
        plans[0]["keys"].as_u64().unwrap(),
        plans[0]["galois_elements"].as_array().unwrap().len() as u64 + 1
    );
    for plan in plans {
        for field in ["upload_bytes", "reply_bytes", "key_bytes", "server_ms", "link_ms"] {
            assert!(plan[field].is_number(), "{field}");
        }
    }
    let probe = json_of(folder.path(), ARRAS, &["plan", "--images", "2048"]);
    let layouts: Vec<_> =
        probe["plans"].as_array().unwrap().iter().map(|plan| plan["layout"].clone()).collect();
    assert_eq!((layouts.len(), layouts[0].as_str()), (4, Some("transposed")));
    let hidden = json_of(folder.path(), ARRAS, &["plan", "--images", "512", "--hide-model"]);
    assert!(hidden["plans"][0]["upload_bytes"].as_u64().unwrap() / 512 <= 9_800);
}
