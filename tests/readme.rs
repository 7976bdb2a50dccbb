//! The measured table in the README is the one that the records give.

use std::path::Path;
use std::process::ExitCode;

use arras_measure::record::read_all;
use arras_measure::table::{BEGIN, END, table, with_table};
use libtest_mimic::{Arguments, Trial};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> Trial {
    let name = "the README shows the records";
    let Ok(readme) = std::fs::read_to_string(root().join("README.md")) else {
        let reason = "there is no README.md";
        return Trial::test(format!("{name} ({reason})"), move || Err(reason.into())).with_ignored_flag(true);
    };
    Trial::test(name, move || {
        let records = read_all(&root().join("records")).map_err(|error| error.to_string())?;
        let expected =
            with_table(&readme, &table(&records)).map_err(|error| format!("README.md: {error}"))?;
        if readme == expected {
            return Ok(());
        }
        Err(format!(
            "README.md differs from records/ between {BEGIN} and {END}: `cargo run --example records -- table` renews it"
        )
        .into())
    })
}

fn records() -> Trial {
    Trial::test("there are records, and they are sound", || {
        let records = read_all(&root().join("records")).map_err(|error| error.to_string())?;
        if records.is_empty() { Err("records/ is empty".into()) } else { Ok(()) }
    })
}

fn main() -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), vec![readme(), records()]).exit_code()
}
