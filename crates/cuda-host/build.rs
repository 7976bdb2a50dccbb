//! Compiles every `kernels/**/*.cu` with the host's C++ compiler. Where there is none, or it is not one that can, the
//! crate builds all the same and says why it has no kernels.
//!
//! `ARRAS_HOST_SANITIZE=1` adds address and undefined-behaviour sanitizers; `scripts/host-sanitize` shows how to run that.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const KERNELS: &str = "../../kernels";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=ARRAS_HOST_SANITIZE");
    for folder in [KERNELS, "cpp", "broken"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut sources = Vec::new();
    visit(Path::new(KERNELS), &mut sources)?;
    write_images(&sources)?;
    let mut broken = Vec::new();
    visit(Path::new("broken"), &mut broken)?;

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .include(format!("{KERNELS}/include"))
        .include(KERNELS)
        .include("cpp");
    // Address arithmetic and rounding as on a GPU.
    build.flags(["-ffp-contract=off", "-fno-strict-aliasing"]).flag_if_supported("-Wno-unknown-pragmas");
    let sanitize = env::var_os("ARRAS_HOST_SANITIZE").is_some_and(|value| value == "1");
    if sanitize {
        build.flags([
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
            "-g1",
        ]);
    }
    let compiled = objects(&build, sources.iter().chain(&broken)).and_then(|objects| {
        // All of it: nothing but their registration refers to the kernels.
        build.file("cpp/host.cpp").objects(objects).link_lib_modifier("+whole-archive");
        build.try_compile("arras_host_kernels").map_err(|error| error.to_string())
    });
    match compiled {
        Ok(()) => println!("cargo::rustc-cfg=host_kernels"),
        Err(error) => {
            let reason = error.lines().next().unwrap_or("no reason given").to_owned();
            println!("cargo::warning=no kernels on the host: {reason}");
            println!("cargo::rustc-env=ARRAS_HOST_KERNELS_MISSING={reason}");
        }
    }
    if sanitize {
        println!("cargo::rustc-link-lib=dylib=asan");
        println!("cargo::rustc-link-lib=dylib=ubsan");
        for library in ["libasan.so", "libubsan.so"] {
            let found =
                build.get_compiler().to_command().arg(format!("-print-file-name={library}")).output()?;
            let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
            if let Some(folder) = path.parent() {
                println!("cargo::rustc-link-search=native={}", folder.display());
            }
        }
    }
    Ok(())
}

/// All `.cu` files below a folder, in order of name.
fn visit(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            visit(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            found.push(path);
        }
    }
    Ok(())
}

/// Writes the list of image names.
fn write_images(sources: &[PathBuf]) -> io::Result<()> {
    let mut list = String::from("&[");
    for source in sources {
        let name = source.with_extension("");
        let name = name.strip_prefix(KERNELS).unwrap_or(&name).to_string_lossy().replace('\\', "/");
        let _ = write!(list, "Image {{ name: {name:?}, bytes: &[] }}, ");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("images.rs"), list + "]")
}

/// Compiles the kernels one by one: a compiler does not take `.cu` for C++ by its name, so each is included by a file of ours.
fn objects<'s>(
    build: &cc::Build,
    sources: impl Iterator<Item = &'s PathBuf>,
) -> Result<Vec<PathBuf>, String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut wrapped = build.clone();
    let mut names = Vec::new();
    for (index, source) in sources.enumerate() {
        let absolute = fs::canonicalize(source).map_err(|error| format!("{}: {error}", source.display()))?;
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let wrapper = out.join(format!("{index}_{name}.cpp"));
        fs::write(&wrapper, format!("#include {absolute:?}\n")).map_err(|error| error.to_string())?;
        names.push(wrapper);
    }
    wrapped.files(names);
    wrapped.try_compile_intermediates().map_err(|error| error.to_string())
}
