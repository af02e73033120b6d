//! Commands of the binary, one file each.

mod config;
mod exit;
pub mod filter;
mod lines;
pub mod version_id;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use exit::{Exit, Failure};

/// Asynchronous replication for S3 object storage.
#[derive(Parser)]
#[command(name = "backbeat", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// The configuration file (upstream's config.json). Without one the embedded defaults apply.
    #[arg(long, global = true, value_name = "FILE", env = "BACKBEAT_CONFIG_FILE")]
    pub config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Subcommand)]
enum Command {
    Config(config::Arguments),
    Filter(filter::Filter),
    VersionId(version_id::VersionIdCommand),
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let ended = match command {
        Command::Config(arguments) => config::run(&arguments, &global).map(ExitCode::from),
        Command::Filter(filter) => filter.run().map_err(Failure::from),
        Command::VersionId(command) => command.run().map_err(Failure::from),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("backbeat: {failure}");
        failure.exit.into()
    })
}
