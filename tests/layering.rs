//! What reaches what: the server no secret and no vision transformer, and every crate only those below it.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use support::{Refusal, cargo, reached, trial};

/// The order of CONTRIBUTING.md, from the ground up: a crate may depend on crates of earlier rows only.
const LAYERS: [&[&str]; 9] = [
    &["arras-rns", "arras-wire"],
    &["arras-cpu", "arras-cuda"],
    // Runs the kernels of the backend for its tests; nobody depends on it.
    &["arras-cuda-host"],
    // Transformers know nothing of encryption; on a GPU they share its backend.
    &["arras-ckks", "arras-vit"],
    &["arras-heads", "arras-rounds"],
    &["arras-secret", "arras-fit", "arras-serve"],
    &["arras-federated", "arras-measure"],
    &["arras-audit"],
    &["arras"],
];

/// What a server must not contain, as the beginnings of package names.
const CLIENT_ONLY: [&str; 5] = ["arras-secret ", "arras-vit ", "arras-fit ", "arras-federated ", "candle"];
/// What only the command `arras` contains: what measures, and what attacks.
const COMMAND_ONLY: [&str; 2] = ["arras-measure ", "arras-audit "];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the root package reaches with the given features alone.
fn with_features(features: &str) -> Result<BTreeSet<String>, Refusal> {
    reached(root(), &["--locked", "--package", "arras", "--no-default-features", "--features", features])
}

fn client_only(packages: &BTreeSet<String>) -> Vec<&String> {
    packages.iter().filter(|package| CLIENT_ONLY.iter().any(|start| package.starts_with(start))).collect()
}

/// The features `server` alone, which is how `arras-server` is built for a server.
fn server() -> Trial {
    trial("a server reaches no secret and no vision transformer", with_features("server"), |packages| {
        if !packages.iter().any(|package| package.starts_with("arras-heads ")) {
            return Err(format!("no heads in {packages:?}"));
        }
        let found = client_only(&packages);
        if found.is_empty() { Ok(()) } else { Err(format!("reaches {found:?}")) }
    })
}

/// The names looked for are those that a client has: a crate that was renamed would otherwise go unseen.
fn client() -> Trial {
    trial("a client reaches all of them", with_features("client"), |packages| {
        let found = client_only(&packages);
        let missing =
            CLIENT_ONLY.iter().find(|start| !found.iter().any(|package| package.starts_with(*start)));
        missing.map_or(Ok(()), |start| Err(format!("no {start}* in {packages:?}")))
    })
}

/// Measuring and attacking are for the command: neither a server nor whoever embeds arras takes them along.
fn measuring() -> Trial {
    let features = ["server", "client", "cli"].map(with_features).into_iter().collect::<Result<Vec<_>, _>>();
    trial("measuring and attacking come with the command alone", features, |packages| {
        for name in COMMAND_ONLY {
            let reached =
                |packages: &BTreeSet<String>| packages.iter().any(|package| package.starts_with(name));
            let found: Vec<bool> = packages.iter().map(reached).collect();
            if found != [false, false, true] {
                return Err(format!("{name}in server, client, cli: {found:?}"));
            }
        }
        Ok(())
    })
}

/// Every normal dependency of a workspace member on another leads to an earlier layer.
fn direction() -> Trial {
    let answer = cargo(root(), &["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    trial("dependencies point in one direction", answer, |text| {
        let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
        let mut checked = 0;
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let name = package["name"].as_str().unwrap_or_default();
            let own = layer(name).ok_or_else(|| format!("{name} has no place in LAYERS"))?;
            for dependency in package["dependencies"].as_array().into_iter().flatten() {
                let other = dependency["name"].as_str().unwrap_or_default();
                // Dependencies of tests may point upwards; they are of kind `dev`.
                if !dependency["kind"].is_null() || !(other == "arras" || other.starts_with("arras-")) {
                    continue;
                }
                let below = layer(other).ok_or_else(|| format!("{other} has no place in LAYERS"))?;
                if below >= own {
                    return Err(format!("{name} depends on {other}"));
                }
                checked += 1;
            }
        }
        (checked > 0).then_some(()).ok_or_else(|| "no dependency was looked at".into())
    })
}

fn main() -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), vec![server(), client(), measuring(), direction()])
        .exit_code()
}
