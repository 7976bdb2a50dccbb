//! Tells the program which commit it was built from and, with feature `cuda`, compiles the kernels.
//!
//! This is the only caller of nvcc: each `kernels/**/*.cu` becomes one compressed image in `OUT_DIR/images` with machine
//! code for every architecture of [`ARCHITECTURES`] and PTX for later ones. `ARRAS_CUDA_IMAGES` stands in for nvcc: a
//! folder of such images, or `none` for a build that is only type-checked. No GPU and no driver is needed or asked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

/// Compute capabilities with machine code of their own; the last one's PTX serves those after it.
const ARCHITECTURES: [u32; 3] = [80, 89, 90];

/// The file beside the images that holds the hash of the headers they were compiled with.
const ABI: &str = "abi";

/// What both sides of a launch have to agree on: `arras_cuda::abi::HEADERS`.
const HEADERS: [&str; 4] = ["include/abi.h", "include/fast.h", "include/vit.h", "measure/measure.h"];

/// What every kernel is compiled with. A spill is a warning of ptxas and so, like every warning, an error.
const FLAGS: [&str; 11] = [
    "-fatbin",
    "-std=c++17",
    "-O3",
    "-lineinfo",
    "--compress-mode=size",
    "-Werror=all-warnings",
    "-Xptxas=--warn-on-spills",
    "-Xptxas=--warn-on-local-memory-usage",
    "-Xptxas=--warning-as-error",
    "-Xcompiler=-Wall",
    "-Ikernels/include",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let (short, source) = commit().unwrap_or_else(|| ("unknown".into(), "unknown".into()));
    println!("cargo::rustc-env=ARRAS_COMMIT={short}");
    println!("cargo::rustc-env=ARRAS_SOURCE={source}");
    if env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(message) = kernel_images()
    {
        for line in message.lines().filter(|line| !line.trim().is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

/// The abbreviated commit of the checkout, with a `+` if tracked files differ from it, and for records the whole one, when
/// it was made, and `clean` or `dirty`; nothing in a packaged source tree.
fn commit() -> Option<(String, String)> {
    if !Path::new(".git").exists() {
        return None;
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let short = git(&["rev-parse", "--short=12", "HEAD"])? + if clean { "" } else { "+" };
    let state = if clean { "clean" } else { "dirty" };
    Some((short, format!("{} {state}", git(&["show", "--no-patch", "--format=%H %ct", "HEAD"])?)))
}

/// Writes `OUT_DIR/images.rs`: all images by the name of their kernel file, such as `ntt/forward`, and the hash of the
/// structures that they were compiled with.
fn kernel_images() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=ARRAS_CUDA_IMAGES");
    // A folder stands for all that is in it, files that come later included.
    println!("cargo::rerun-if-changed=kernels");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let sources = Sources::read(Path::new("kernels"))?;
    let folder = match env::var("ARRAS_CUDA_IMAGES") {
        Ok(none) if none == "none" => return write_list(&out, "0", &[]),
        Ok(folder) => fs::canonicalize(&folder).map_err(|e| format!("ARRAS_CUDA_IMAGES={folder}: {e}"))?,
        Err(_) => {
            let folder = out.join("images");
            Nvcc::find()?.compile_all(&sources, &folder)?;
            let headers = HEADERS.map(|header| read(&Path::new("kernels").join(header)));
            let headers: Vec<_> = headers.into_iter().collect::<Result<_, _>>()?;
            write(&folder.join(ABI), &format!("{:#018x}", fnv1a(&headers.concat())))?;
            folder
        }
    };
    let images: Vec<(String, PathBuf)> =
        sources.names().map(|name| (name.to_owned(), folder.join(name).with_extension("fatbin"))).collect();
    for (_, image) in &images {
        println!("cargo::rerun-if-changed={}", image.display());
        if !image.is_file() {
            return Err(format!("{}: no such kernel image", image.display()));
        }
    }
    let abi = folder.join(ABI);
    println!("cargo::rerun-if-changed={}", abi.display());
    let hash = String::from_utf8(read(&abi)?).map_err(|e| format!("{}: {e}", abi.display()))?;
    write_list(&out, hash.trim(), &images)
}

fn write_list(out: &Path, abi: &str, images: &[(String, PathBuf)]) -> Result<(), String> {
    let mut list = format!("arras_cuda::Images {{ abi: {abi}, images: &[\n");
    for (name, path) in images {
        writeln!(list, "    arras_cuda::Image {{ name: {name:?}, bytes: include_bytes!({path:?}) }},")
            .map_err(|e| e.to_string())?;
    }
    list.push_str("] }\n");
    write(&out.join("images.rs"), &list)
}

/// The kernel files, in order of name, and what they share.
struct Sources {
    kernels: Vec<(String, PathBuf)>,
    /// Text of all headers: a kernel may include any of them.
    headers: Vec<u8>,
}

impl Sources {
    fn read(root: &Path) -> Result<Self, String> {
        let mut sources = Self { kernels: Vec::new(), headers: Vec::new() };
        sources.visit(root, root)?;
        Ok(sources)
    }

    fn visit(&mut self, root: &Path, folder: &Path) -> Result<(), String> {
        let failed = |e| format!("{}: {e}", folder.display());
        let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed)?.collect();
        let mut paths: Vec<PathBuf> =
            entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
            match extension.as_str() {
                _ if path.is_dir() => self.visit(root, &path)?,
                "cu" => {
                    let name = path.with_extension("");
                    let name = name.strip_prefix(root).map_err(|e| e.to_string())?;
                    let name = name.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))?;
                    self.kernels.push((name.replace('\\', "/"), path));
                }
                "h" | "cuh" => self.headers.extend(read(&path)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|(name, _)| name.as_str())
    }
}

struct Nvcc {
    program: PathBuf,
    version: String,
}

impl Nvcc {
    /// The compiler of `NVCC`, of the toolkit in `CUDA_HOME` or `CUDA_PATH`, of the search path, or of the usual place.
    fn find() -> Result<Self, String> {
        for name in
            ["NVCC", "CUDA_HOME", "CUDA_PATH", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"]
        {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
        let places = env::var_os("NVCC")
            .map(PathBuf::from)
            .into_iter()
            .chain(toolkits.map(|folder| Path::new(&folder).join("bin/nvcc")))
            .chain(["nvcc".into(), "/usr/local/cuda/bin/nvcc".into()]);
        for program in places {
            if let Ok(output) = Command::new(&program).arg("--version").output()
                && output.status.success()
            {
                return Ok(Self { program, version: String::from_utf8_lossy(&output.stdout).into_owned() });
            }
        }
        Err("feature `cuda` needs nvcc, and there is none: `. scripts/cuda-env` fetches one (no root, no GPU) and \
             exports what the build reads; ARRAS_CUDA_IMAGES=DIR takes prebuilt images, =none builds without"
            .into())
    }

    /// Compiles what changed with as many processes as Cargo runs jobs: some files at a time, some architectures of each.
    fn compile_all(&self, sources: &Sources, folder: &Path) -> Result<(), String> {
        let jobs = variable("NUM_JOBS")?.parse().unwrap_or(1);
        let threads = usize::min(jobs, ARCHITECTURES.len() + 1);
        let queue = Mutex::new(sources.kernels.iter());
        let work = || -> Result<(), String> {
            while let Some((name, source)) = queue.lock().map_err(|e| e.to_string())?.next() {
                self.compile(source, &folder.join(name).with_extension("fatbin"), &sources.headers, threads)?;
            }
            Ok(())
        };
        let results: Vec<Result<(), String>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.div_ceil(threads)).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join());
            joined.map(|result| result.unwrap_or_else(|_| Err("a compiling thread failed".into()))).collect()
        });
        let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
    }

    fn compile(&self, source: &Path, image: &Path, headers: &[u8], threads: usize) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(FLAGS).args(code_flags()).arg("-o").arg(image).arg(source);
        let hooks = ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"].map(env::var_os);
        let options = format!("{command:?}{hooks:?}{}", self.version);
        let stamp = format!("{:016x}", fnv1a(&[options.as_bytes(), headers, &read(source)?].concat()));
        let stamp_file = image.with_extension("stamp");
        if image.is_file() && fs::read_to_string(&stamp_file).is_ok_and(|kept| kept == stamp) {
            return Ok(());
        }
        if let Some(folder) = image.parent() {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        command.arg(format!("--threads={threads}"));
        let output = command.output().map_err(|e| format!("{}: {e}", self.program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            return Err(format!("{}: nvcc refuses it\n{text}", source.display()));
        }
        write(&stamp_file, &stamp)
    }
}

fn code_flags() -> impl Iterator<Item = String> {
    let machine = ARCHITECTURES.iter().map(|a| format!("-gencode=arch=compute_{a},code=sm_{a}"));
    let later = ARCHITECTURES.last().map(|a| format!("-gencode=arch=compute_{a},code=compute_{a}"));
    machine.chain(later)
}

/// 64-bit FNV-1a. Of the headers, one after the other, it is `arras_cuda::abi::HASH`.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
