//! Everything a client, an engineer or a newcomer does.

use std::process::ExitCode;

use arras::cli::program::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    Arguments::parse().run()
}
