//! Everything a client, an engineer or a newcomer does.

use std::process::ExitCode;

use arras::cli::program::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(unix)]
    if let Err(error) = arguments.settle_threads() {
        return arras::cli::finish(Err(error));
    }
    arguments.run()
}
