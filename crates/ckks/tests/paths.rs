//! Every path of the slot transform gives the bits of the plain loops. A path that the processor lacks is reported as
//! ignored.

use arras_ckks::fft::paths;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trials = paths::NAMES.map(|name| {
        let missing = !paths::has(name);
        let reason = if missing { " [not on this processor]" } else { "" };
        Trial::test(format!("{name}: slot transform{reason}"), move || compare(name))
            .with_ignored_flag(missing)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}

fn compare(name: &str) -> Result<(), Failed> {
    paths::compare(name).map_err(|size| format!("{size} values differ").into())
}
