//! What a profiler sees: every operation as a range, by a tool that is compiled here. Needs `--features arras-cuda/ranges`; without it the
//! trials are reported as ignored.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use arras_cuda::nvtx;
use arras_cuda_host::HostOptions;
use arras_rns::{Backend, Coefficient, Input, LimbSet, ModDownPlan, Poly, Ring, prime};
use libtest_mimic::{Arguments, Failed, Trial};

/// In a process of its own, because a tool stays for as long as a process.
const TOOL: &str = "ARRAS_TEST_TOOL";

type Outcome<T> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Some operations, composed ones among them.
fn work() -> Outcome<()> {
    let backend = support::cuda(HostOptions::default()).map_err(text)?;
    let ring = Ring::new(64, &prime::ntt_primes(40, 64, 3, &[]).map_err(text)?).map_err(text)?;
    let queue = backend.queue().map_err(text)?;
    let run = || {
        let tables = backend.tables(&queue, &ring)?;
        let mut x: Poly<_, Coefficient> = Poly::allocate(&backend, &queue, &ring, ring.limbs(), 1)?;
        backend.wipe(&queue, x.buffer_mut())?;
        let mut x = x.retag();
        backend.ntt(&queue, &tables, &mut x.view_mut(), Input::InPlace)?;
        let (kept, dropped) = (LimbSet::range(0..2), LimbSet::single(2));
        let mut plan = ModDownPlan::new(&backend, &queue, &tables, kept, dropped, 1)?;
        let mut out = Poly::allocate(&backend, &queue, &ring, kept, 1)?;
        backend.mod_down(&queue, &tables, &mut plan, &mut out.view_mut(), &x.view())?;
        let mut words = vec![0; out.extent().words()];
        backend.download(&queue, &out.view(), &mut words)
    };
    run().map_err(text)
}

/// What the tool printed, of `work` in another process.
fn seen() -> Result<(), Failed> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let tool = folder.join("libfake_profiler.so");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_profiler.c");
    let mut command = Command::new(&compiler);
    command.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&tool).arg(source);
    let compiled = command.output()?;
    if !compiled.status.success() {
        return Err(String::from_utf8_lossy(&compiled.stderr).into_owned().into());
    }
    let output = Command::new(std::env::current_exe()?).env(TOOL, &tool).output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{printed}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let names: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("push ")).collect();
    let (pushes, pops) = (names.len(), printed.lines().filter(|line| line.starts_with("pop")).count());
    if pushes != pops {
        return Err(format!("{pushes} ranges begin, {pops} end").into());
    }
    for name in ["tables", "wipe", "ntt", "converter", "mod_down", "download"] {
        if !names.contains(&&*format!("0 {}{name}", nvtx::PREFIX)) {
            return Err(format!("no outermost range {name} in:\n{printed}").into());
        }
    }
    // Parts of a composed operation lie inside it.
    match names.iter().any(|name| name.starts_with("1 ")) {
        true => Ok(()),
        false => Err(format!("no range inside another:\n{printed}").into()),
    }
}

fn main() -> ExitCode {
    if let Some(tool) = std::env::var_os(TOOL) {
        let outcome = nvtx::connect(Path::new(&tool)).and_then(|()| work());
        return outcome.map_or_else(
            |error| {
                eprintln!("{error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let name = "every operation is a range";
    let lacking = match nvtx::connect(Path::new("/no/such/library")) {
        Err(reason) if reason.contains("ranges") => Some(reason),
        _ => None,
    };
    match lacking {
        Some(reason) => {
            let ignored = Trial::test(format!("{name} ({reason})"), || Ok(())).with_ignored_flag(true);
            libtest_mimic::run(&Arguments::from_args(), vec![ignored]).exit_code()
        }
        None => support::run(vec![Trial::test(name, seen)]),
    }
}
