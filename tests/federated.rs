//! Federated training as four processes on loopback, what hostile requests meet, and what a killed process leaves.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use arras::fit::Features;
use arras::fit::split::Deal;
use serde_json::Value;
use tempfile::TempDir;

const ARRAS: &str = env!("CARGO_BIN_EXE_arras");
const SERVER: &str = env!("CARGO_BIN_EXE_arras-server");
const TOKEN: &str = "a token of sufficient length";
const NAMES: [&str; 3] = ["north", "river", "south"];
const CLASSES: [&str; 3] = ["glandular", "scattered", "solid"];
const DIMENSION: usize = 24;
/// What stands for a backbone: 64 hexadecimal digits.
const BACKBONE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Three classes around their means, rows in groups of three.
fn features(rows: usize, seed: u64) -> Features {
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let class = |row: usize| row / 3 % 3;
    let value = |row: usize, column: usize| if column % 3 == class(row) { 0.7 } else { 0.0 };
    Features {
        dimension: DIMENSION,
        values: (0..rows * DIMENSION)
            .map(|index| value(index / DIMENSION, index % DIMENSION) + 0.5 * number())
            .collect(),
        names: (0..rows).map(|row| format!("{seed}-{row}.png")).collect(),
        labels: Some((0..rows).map(|row| CLASSES[class(row)].to_owned()).collect()),
        groups: Some((0..rows).map(|row| format!("patient-{seed}-{}", row / 3)).collect()),
        fingerprint: Some(BACKBONE.to_owned()),
    }
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).arg("--quiet").current_dir(folder).output().unwrap()
}

fn json_of(folder: &Path, program: &str, arguments: &[&str]) -> Value {
    let output = run(folder, program, &[arguments, &["--json"]].concat());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with an agreement, keys, the list of parties, tokens and features of three parties.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let parts = arras::federated::local::deal(&features(270, 5), None, 3, Deal::Even, 0).unwrap();
    for (name, part) in NAMES.iter().zip(&parts) {
        part.write(&path.join(format!("{name}.safetensors"))).unwrap();
    }
    fs::write(path.join("tokens"), format!("{}\n", TOKEN.replace(' ', "-"))).unwrap();
    begin(path, 1);
    folder
}

/// The agreement of an epoch, and keys for it.
fn begin(path: &Path, epoch: u32) {
    let agreement = format!(
        "epoch = {epoch}\nname = \"three hospitals\"\nbackbone = \"{BACKBONE}\"\ndimension = {DIMENSION}\n\
         classes = {CLASSES:?}\nrow_bound = 10.0\nrows = 1000\nparties = 3\nthreshold = 2\nquorum = 3\n\
         receiver = \"river\"\n"
    );
    fs::write(path.join("agreement.toml"), agreement).unwrap();
    let mut parties = String::new();
    for name in NAMES {
        let arguments =
            ["federated", "init", "--name", name, "--agreement", "agreement.toml", "--state", name];
        let output = run(path, ARRAS, &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        parties += &String::from_utf8(output.stdout).unwrap();
    }
    fs::write(path.join("parties"), parties).unwrap();
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coordinator, and where it listens.
fn coordinator(folder: &Path, program: &str, address: &str) -> (Running, String) {
    let verb: &[&str] = if program == ARRAS { &["federated", "coordinator"] } else { &["coordinate"] };
    let mut child = Command::new(program)
        .args(verb)
        .args([
            "--agreement",
            "agreement.toml",
            "--state",
            "coordinator",
            "--tokens",
            "tokens",
            "--listen",
            address,
        ])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
    (Running(child), url)
}

fn join(folder: &Path, url: &str, name: &str) -> Running {
    let log = fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).unwrap();
    let child = Command::new(ARRAS)
        .args(["federated", "join", url, "--name", name, "--agreement", "agreement.toml", "--state", name])
        .args(["--parties", "parties", "--token", "tokens", "--features", &format!("{name}.safetensors")])
        .args(["-o", &format!("{name}-head.safetensors"), "--patience", "60"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Running(child)
}

fn finished(folder: &Path, name: &str, child: &mut Running) {
    let until = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            let log = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap();
            assert!(status.success(), "{name}: {log}");
            return;
        }
        assert!(Instant::now() < until, "{name} did not finish");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn three_parties_train_and_classify_under_their_own_keys() {
    let folder = prepared();
    let path = folder.path();
    let (_coordinator, url) = coordinator(path, SERVER, "127.0.0.1:0");
    let mut parties: Vec<Running> = NAMES.iter().map(|name| join(path, &url, name)).collect();
    for (name, child) in NAMES.iter().zip(&mut parties) {
        finished(path, name, child);
    }
    let heads: Vec<Vec<u8>> =
        NAMES.iter().map(|name| fs::read(path.join(format!("{name}-head.safetensors"))).unwrap()).collect();
    assert!(heads.iter().all(|head| *head == heads[0]));
    for name in NAMES {
        let ledger = json_of(path, ARRAS, &["federated", "ledger", "verify", name]);
        let events: Vec<&str> = ledger["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["event"].as_str().unwrap())
            .collect();
        assert_eq!(events.first(), Some(&"epoch"));
        assert_eq!(events.last(), Some(&"outcome"));
        assert_eq!(events.iter().filter(|event| **event == "contributed").count(), 2);
        let manifest = run(path, ARRAS, &["federated", "ledger", "manifest", name]).stdout;
        assert_eq!(String::from_utf8(manifest).unwrap().lines().count(), 90);
    }

    let held_out = features(90, 77);
    let (_, classes) = held_out.classes().unwrap();
    Features { labels: None, ..held_out }.write(&path.join("new.safetensors")).unwrap();
    for name in NAMES {
        let keys = format!("{name}-keys");
        json_of(path, ARRAS, &["keygen", "-o", &keys]);
        json_of(
            path,
            ARRAS,
            &["encrypt", "--keys", &keys, "--features", "new.safetensors", "-o", &format!("{name}.ct")],
        );
        let head = format!("{name}-head.safetensors");
        let (query, reply) = (format!("{name}.ct"), format!("{name}.reply"));
        json_of(path, SERVER, &["classify", "--head", &head, "--input", &query, "-o", &reply]);
        let logits = format!("{name}-logits.safetensors");
        json_of(path, ARRAS, &["decrypt", "--keys", &keys, "--input", &reply, "-o", &logits]);
        let logits = arras::fit::import::import(&path.join(logits)).unwrap();
        let predicted = logits.values.chunks_exact(3).map(arras::fit::metrics::argmax);
        let correct = predicted.zip(&classes).filter(|(predicted, class)| predicted == *class).count();
        assert!(correct >= 80, "{name}: {correct} of 90");
    }
}

#[test]
fn killed_processes_come_back_and_the_round_completes() {
    let folder = prepared();
    let path = folder.path();
    let (first, url) = coordinator(path, ARRAS, "127.0.0.1:0");
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let mut coordinator_process = Some(first);
    let mut parties: Vec<Running> = NAMES.iter().map(|name| join(path, &url, name)).collect();
    for (turn, pause) in [30, 90, 150, 60, 200, 120].into_iter().enumerate() {
        std::thread::sleep(Duration::from_millis(pause));
        let victim = turn % 4;
        if victim == 3 {
            // Dropping kills: SIGKILL on Unix.
            coordinator_process = None;
            coordinator_process.replace(coordinator(path, ARRAS, &address).0);
        } else {
            let name = NAMES[victim];
            let _ = parties[victim].0.kill();
            let _ = parties[victim].0.wait();
            parties[victim] = join(path, &url, name);
        }
    }
    for (name, child) in NAMES.iter().zip(&mut parties) {
        finished(path, name, child);
    }
    let heads: Vec<Vec<u8>> =
        NAMES.iter().map(|name| fs::read(path.join(format!("{name}-head.safetensors"))).unwrap()).collect();
    assert!(heads.iter().all(|head| *head == heads[0]));
    drop(coordinator_process);
}

#[test]
fn a_later_epoch_refuses_changed_data_and_a_revocation_is_kept() {
    let folder = prepared();
    let path = folder.path();
    let (first, url) = coordinator(path, SERVER, "127.0.0.1:0");
    let mut parties: Vec<Running> = NAMES.iter().map(|name| join(path, &url, name)).collect();
    for (name, child) in NAMES.iter().zip(&mut parties) {
        finished(path, name, child);
    }
    drop(first);

    // One image of south's is gone.
    let south = Features::read(&path.join("south.safetensors")).unwrap();
    south.select(&(1..south.rows()).collect::<Vec<_>>()).write(&path.join("south.safetensors")).unwrap();
    begin(path, 2);
    let (second, url) = coordinator(path, SERVER, "127.0.0.1:0");
    let mut parties: Vec<Running> = NAMES.iter().map(|name| join(path, &url, name)).collect();
    let until = Instant::now() + Duration::from_secs(180);
    while parties[2].0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "south goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = fs::read_to_string(path.join("south.log")).unwrap();
    assert!(log.contains("epoch 1 had an exact sum") && log.contains("differential privacy"), "{log}");
    drop((parties, second));
    let ledger = json_of(path, ARRAS, &["federated", "ledger", "verify", "south"]);
    assert_eq!(ledger["entries"].as_array().unwrap().last().unwrap()["event"], "refused");
    let ledger = json_of(path, ARRAS, &["federated", "ledger", "verify", "south", "--epoch", "1"]);
    assert_eq!(ledger["entries"].as_array().unwrap().last().unwrap()["event"], "outcome");

    let revoke =
        |member: &str| run(path, ARRAS, &["federated", "ledger", "revoke", "north", "--member", member]);
    assert!(!revoke("nobody").status.success());
    assert!(revoke("south").status.success());
    begin(path, 3);
    let (_third, url) = coordinator(path, SERVER, "127.0.0.1:0");
    let mut parties: Vec<Running> = NAMES.iter().map(|name| join(path, &url, name)).collect();
    while parties[0].0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "north goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = fs::read_to_string(path.join("north.log")).unwrap();
    assert!(log.contains("south was revoked"), "{log}");
}

/// Sends raw bytes; the answer's first line, or nothing if the connection was closed.
fn raw(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while !answer.contains(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn hostile_requests_get_a_clear_answer_and_harm_nobody() {
    let folder = prepared();
    let path = folder.path();
    let (_coordinator, url) = coordinator(path, SERVER, "127.0.0.1:0");
    let address = url.strip_prefix("http://").unwrap();
    let token = TOKEN.replace(' ', "-");
    let post = |token: &str, length: u64, body: &[u8]| {
        let head = format!(
            "POST /messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        raw(address, &[head.as_bytes(), body].concat())
    };
    assert!(post("wrong-token-of-some-length", 7, b"garbage").contains("401"));
    assert!(post(&token, 7, b"garbage").contains("400"));
    assert!(post(&token, 0, b"").contains("400"));
    assert!(post(&token, 10_000_000_000, b"a little of it").contains("413"));
    assert!(raw(address, b"GET /phase HTTP/1.1\r\nhost: x\r\n\r\n").contains("401"));
    assert!(raw(address, b"rubbish\r\n\r\n").contains("400"));
    let missing = format!("GET /nothing HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    assert!(raw(address, missing.as_bytes()).contains("404"));
    // Half a request is given up after a while; others are served meanwhile.
    let half = std::thread::spawn({
        let (address, token) = (address.to_owned(), token.clone());
        move || {
            let head = format!(
                "POST /messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 1000\r\n\r\nhalf"
            );
            raw(&address, head.as_bytes())
        }
    });
    let status = json_of(path, ARRAS, &["federated", "status", &url, "--token", "tokens"]);
    assert_eq!(status["phase"], "joining");
    let answer = half.join().unwrap();
    assert!(answer.is_empty() || answer.contains("40"), "{answer}");

    fs::write(path.join("bad-tokens"), "another-token-of-length\n").unwrap();
    let output = run(path, ARRAS, &["federated", "status", &url, "--token", "bad-tokens"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && message.contains("token") && message.lines().count() == 1,
        "{message}"
    );
}

#[test]
fn simulation_gives_the_numbers_and_refuses_what_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    features(270, 9).write(&path.join("f.safetensors")).unwrap();
    for split in ["even", "group", "dirichlet:1"] {
        let arguments = ["federated", "simulate", "f.safetensors", "--parties", "4", "--split", split];
        let report = json_of(path, ARRAS, &arguments);
        assert_eq!(report["sums_are_exact"], true);
        assert!(report["metrics"]["held_out_accuracy"].as_f64().unwrap() > 0.8, "{report}");
    }
    for (arguments, part) in [
        (&["--parties", "2"][..], "quorum"),
        (&["--epsilon", "1"], "row-bound"),
        (&["--parties", "4", "--split", "thirds"], "split"),
        (&["--parties", "4", "--project", "1000"], "projection"),
        (&["--parties", "200"], "clients"),
    ] {
        let all = [&["federated", "simulate", "f.safetensors"], arguments].concat();
        let output = run(path, ARRAS, &all);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(part), "{arguments:?}: {message}");
    }
    fs::write(path.join("ledger"), "tampered\n").unwrap();
    let output = run(path, ARRAS, &["federated", "ledger", "verify", "ledger"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1"));
}

/// The table in docs/federated.md: mean accuracy of what `federated sweep --json` wrote.
fn accuracy_table(records: &[Value]) -> String {
    let epsilon = |run: &Value| run["epsilon"].as_f64().map_or("exact".to_owned(), |value| value.to_string());
    let (mut columns, mut lines) = (Vec::new(), BTreeMap::<(u64, u64), Vec<String>>::new());
    for run in records.iter().flat_map(|record| record["runs"].as_array().unwrap()) {
        if !columns.contains(&epsilon(run)) {
            columns.push(epsilon(run));
        }
        let accuracy: Vec<f64> =
            run["accuracy"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let mean = accuracy.iter().sum::<f64>() / accuracy.len() as f64;
        let line = (run["rows_per_unit"].as_u64().unwrap(), run["project"].as_u64().unwrap());
        lines.entry(line).or_default().push(format!("{mean:.3}"));
    }
    let line = |((rows, dimensions), cells): (&(u64, u64), &Vec<String>)| {
        let unit = if *rows == 1 { "tile".into() } else { format!("patient of at most {rows} tiles") };
        format!("| {unit} | {dimensions} | {} |\n", cells.join(" | "))
    };
    let rows: String = lines.iter().map(line).collect();
    format!(
        "| unit | dimensions | {} |\n|---|{}\n{rows}",
        columns.join(" | "),
        "--:|".repeat(columns.len() + 1)
    )
}

#[test]
fn the_page_shows_the_recorded_accuracy_under_privacy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |dimensions: &str| -> Value {
        let file = root.join(format!("records/privacy/basis-{dimensions}.json"));
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    let expected = accuracy_table(&["32", "64", "128"].map(read));
    let page = fs::read_to_string(root.join("docs/federated.md")).unwrap();
    let (_, rest) = page.split_once("<!-- privacy:begin -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- privacy:end -->").unwrap();
    assert!(shown.trim() == expected.trim(), "docs/federated.md should show:\n{expected}");
}
