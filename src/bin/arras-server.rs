//! The server: classifies what it cannot read. Built with feature `server` alone it links no code that handles a secret
//! key; `tests/layering.rs` proves it.

use std::process::ExitCode;

use arras::cli::federated::coordinate;
use arras::cli::{self, Common, classify};
use clap::{Parser, Subcommand};

/// Classifies encrypted features without any key: sees neither image, token nor logits.
#[derive(Parser)]
#[command(name = "arras-server", version = cli::VERSION, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Classify encrypted features
    Classify(classify::Classify),
    /// Coordinate federated rounds
    Coordinate(coordinate::Coordinate),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::start(&arguments.common);
    cli::finish(match arguments.command {
        Command::Classify(command) => command.run(&arguments.common),
        Command::Coordinate(command) => command.run(&arguments.common),
    })
}
