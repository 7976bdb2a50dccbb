//! `NvidiaDriver` against a driver library that is missing, too old, faulty, or that works in host memory.
//!
//! Each trial runs in a process of its own, because a process opens the driver library once. What only a GPU shows is
//! tested by the conformance of the backend.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use arras_cuda::driver::{Driver, Launch};
use arras_cuda::{DriverError, NvidiaDriver};
use libtest_mimic::{Arguments, Failed, Trial};

/// Says which scenario a child process plays.
const SCENARIO: &str = "ARRAS_TEST_SCENARIO";

/// Name, behaviour of the library, and what has to happen.
type Scenario = (&'static str, &'static str, fn() -> Result<(), String>);

const SCENARIOS: [Scenario; 8] = [
    ("a stub of the toolkit is no driver", "stub", || {
        expect(
            NvidiaDriver::count(),
            |e| matches!(e, DriverError::NoDriver { reason } if reason.contains("stub")),
        )
    }),
    ("an old driver is refused with both versions", "old", || {
        let old = |e: &DriverError| *e == DriverError::DriverTooOld { found: 12_040, required: 13_000 };
        expect(NvidiaDriver::open(0), old)?;
        expect(NvidiaDriver::count(), old)
    }),
    ("a driver without devices says so", "none", || {
        expect(NvidiaDriver::open(0), |e| *e == DriverError::NoDevice { ordinal: 0, count: 0 })
    }),
    ("a device that is not there is counted", "well", || {
        expect(NvidiaDriver::open(1), |e| *e == DriverError::NoDevice { ordinal: 1, count: 1 })
    }),
    ("out of memory tells the size", "full", || {
        let driver = open()?;
        let stream = driver.stream().map_err(text)?;
        expect(driver.allocate(&stream, 77), |e| matches!(e, DriverError::OutOfMemory { requested: 77, .. }))
    }),
    ("a fault of a kernel means that the device is lost", "lost", || {
        doubled().map_or_else(
            |e| if e.contains("DeviceLost") { Ok(()) } else { Err(e) },
            |()| Err("the launch succeeded".into()),
        )
    }),
    ("an image without code for the device names both", "architecture", || {
        expect(open()?.load("ntt/forward", b"image"), |e| {
            *e == DriverError::WrongArchitecture { found: (9, 0), image: "ntt/forward".into() }
        })
    }),
    ("memory, copies, launches and graphs work", "well", doubled),
];

fn main() -> ExitCode {
    if let Ok(scenario) = env::var(SCENARIO) {
        let play = SCENARIOS.iter().find(|(name, ..)| *name == scenario).map(|(.., play)| play);
        return match play.map(|play| play()) {
            Some(Ok(())) => ExitCode::SUCCESS,
            outcome => {
                eprintln!("{outcome:?}");
                ExitCode::FAILURE
            }
        };
    }
    let required = env::var_os("ARRAS_REQUIRE_HOST_KERNELS").is_some();
    let folder = library();
    let trials = SCENARIOS.iter().map(|&(name, mood, _)| match &folder {
        Ok(folder) => {
            let folder = folder.path().to_owned();
            Trial::test(name, move || child(name, mood, &folder))
        }
        Err(reason) if required => {
            let reason = reason.clone();
            Trial::test(name, move || Err(Failed::from(reason)))
        }
        Err(reason) => {
            let body = reason.clone();
            Trial::test(format!("{name} ({reason})"), move || Err(body.into())).with_ignored_flag(true)
        }
    });
    let mut trials: Vec<Trial> = trials.collect();
    trials.push(missing_driver());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Compiles the library that pretends.
fn library() -> Result<tempfile::TempDir, String> {
    let toolkit = ["CUDA_HOME", "CUDA_PATH"].into_iter().find_map(env::var_os).ok_or("no CUDA toolkit")?;
    let headers = PathBuf::from(toolkit).join("include");
    let folder = tempfile::tempdir().map_err(text)?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_driver.c");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(folder.path().join("libcuda.so.1"))
        .arg("-isystem")
        .arg(headers)
        .arg(source)
        .output()
        .map_err(|e| format!("{compiler}: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(folder)
}

fn child(name: &str, mood: &str, folder: &Path) -> Result<(), Failed> {
    let output = Command::new(env::current_exe()?)
        .env(SCENARIO, name)
        .env("FAKE_CUDA", mood)
        .env("LD_LIBRARY_PATH", folder)
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

/// On a machine that has a driver, the one trial that cannot be played.
fn missing_driver() -> Trial {
    let name = "a machine without a driver gets an error that names the library";
    match NvidiaDriver::count() {
        Err(DriverError::NoDriver { reason }) => {
            Trial::test(name, move || if reason.contains("libcuda") { Ok(()) } else { Err(reason.into()) })
        }
        other => {
            Trial::test(format!("{name} (there is a driver: {other:?})"), || Err("there is a driver".into()))
                .with_ignored_flag(true)
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open() -> Result<NvidiaDriver, String> {
    NvidiaDriver::open(0).map_err(text)
}

fn expect<T: std::fmt::Debug>(
    result: Result<T, DriverError>,
    is: impl Fn(&DriverError) -> bool,
) -> Result<(), String> {
    match result {
        Err(error) if is(&error) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Data goes up through staging, is doubled by a launch and by a graph, and comes back; the source is changed at once, and
/// is larger than what staging holds.
fn doubled() -> Result<(), String> {
    let driver = open()?;
    let of = |error: DriverError| format!("{error:?}");
    let (stream, other) = (driver.stream().map_err(of)?, driver.stream().map_err(of)?);
    let mut words: Vec<u64> = (0..(20 << 20) / 8).collect();
    let bytes = words.len() * 8;
    let device = driver.allocate(&stream, bytes).map_err(of)?;
    let memory = driver.memory().map_err(of)?;
    assert_eq!((memory.free, memory.total), ((1 << 30) - bytes as u64, 1 << 30));
    // SAFETY: all addresses lie in the allocation, and one stream orders everything.
    unsafe { driver.upload(&stream, device, bytemuck::cast_slice(&words)) }.map_err(of)?;
    words.fill(0);

    let module = driver.load("test", b"image").map_err(of)?;
    expect(driver.load("test", b"nonsense"), |e| e.to_string().contains("line 1: nonsense"))?;
    expect(driver.function(&module, "thrice"), |e| matches!(e, DriverError::MissingKernel { .. }))?;
    let function = driver.function(&module, "twice").map_err(of)?;
    driver.function_info(&function).map_err(of)?;
    driver.allow_shared(&function, 200 << 10).map_err(of)?;
    let launch = Launch { grid: [1, 1, 1], threads: 32, shared: 0 };
    let arguments = [device.0, words.len() as u64];
    let arguments: &[u8] = bytemuck::cast_slice(&arguments);
    // SAFETY: refused, because the kernel takes more.
    expect(unsafe { driver.launch(&stream, &function, launch, &arguments[..8]) }, |e| {
        e.to_string().contains("8 bytes of arguments, it takes 16")
    })?;
    // SAFETY: the kernel's structure, with an address of that many words.
    unsafe { driver.launch(&stream, &function, launch, arguments) }.map_err(of)?;

    driver.begin_capture(&stream).map_err(of)?;
    // SAFETY: as above; the upload is refused.
    unsafe {
        driver.launch(&stream, &function, launch, arguments).map_err(of)?;
        expect(driver.upload(&stream, device, &[0; 8]), |e| e.to_string().contains("page-locked"))?;
    }
    let graph = driver.end_capture(&stream).map_err(of)?;
    // SAFETY: as above.
    unsafe { driver.launch_graph(&stream, &graph) }.map_err(of)?;

    let event = driver.event(true).map_err(of)?;
    driver.record(&stream, &event).map_err(of)?;
    driver.wait(&other, &event).map_err(of)?;
    driver.synchronize_event(&event).map_err(of)?;
    assert_eq!(driver.elapsed(&event, &event).map_err(of)?.as_micros(), 500);

    let mut pinned = driver.pinned(16).map_err(of)?;
    let mut found = vec![0u64; words.len()];
    // SAFETY: all addresses lie in the allocation; the page-locked memory is read after the stream was waited for.
    unsafe {
        driver.download_pinned(&stream, &mut pinned, 8..16, device.offset(bytes - 8)).map_err(of)?;
        expect(driver.upload_pinned(&stream, device, &pinned, 8..17), |e| e.to_string().contains("outside"))?;
        driver.download(&stream, bytemuck::cast_slice_mut(&mut found), device).map_err(of)?;
        driver.free(&stream, device).map_err(of)?;
    }
    assert_eq!(pinned.as_ref()[8..], (4 * (words.len() as u64 - 1)).to_le_bytes());
    assert!(found.iter().zip(0u64..).all(|(&word, i)| word == 4 * i));
    assert_eq!(driver.memory().map_err(of)?.free, 1 << 30);
    Ok(())
}
