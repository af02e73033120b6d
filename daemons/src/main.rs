//! The binary `backbeat`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use backbeat::cli::{filter, version_id};

/// Asynchronous replication for S3 object storage.
#[derive(Parser)]
#[command(name = "backbeat", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Subcommand)]
enum Command {
    Filter(filter::Filter),
    VersionId(version_id::VersionIdCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Filter(filter) => filter.run(),
        Command::VersionId(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("backbeat: {error:#}");
        ExitCode::FAILURE
    })
}
