//! Commands of the binary, one file each.

mod client;
mod completion;
mod config;
#[cfg(feature = "services")]
mod daemon;
mod data;
mod demo;
mod dev;
mod exit;
mod explain;
mod failed;
pub mod filter;
mod lines;
mod pause;
#[cfg(feature = "services")]
mod replication;
mod signals;
mod status;
pub mod version_id;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use exit::{Exit, Failure};

/// What a failure on standard error begins with.
const SAYS: &str = "backbeat: ";

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
    Demo(demo::Arguments),
    Dev(dev::Arguments),
    /// Read the source's journals and queue what is to be replicated.
    #[cfg(feature = "services")]
    #[command(after_help = "Example:\n  backbeat queue-populator --config conf/config.json")]
    QueuePopulator,
    #[cfg(feature = "services")]
    QueueProcessor(daemon::QueueProcessor),
    /// Record outcomes at the source.
    #[cfg(feature = "services")]
    #[command(after_help = "Example:\n  backbeat replication-status-processor --config conf/config.json")]
    ReplicationStatusProcessor,
    #[cfg(feature = "services")]
    Run(daemon::Run),
    #[cfg(feature = "services")]
    Replication(replication::Arguments),
    Status(status::Arguments),
    Lag(status::LagArguments),
    Explain(explain::Arguments),
    Failed(failed::Arguments),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Data(data::Arguments),
    Config(config::Arguments),
    Filter(filter::Filter),
    VersionId(version_id::VersionIdCommand),
    Completion(completion::Arguments),
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    backbeat_backends::embedded::name_damaged_files();
    let Cli { global, command } = Cli::parse();
    let ended = match command {
        Command::Demo(arguments) => demo::run(arguments, &global).map(ExitCode::from),
        Command::Dev(arguments) => dev::run(&arguments, &global).map(ExitCode::from),
        #[cfg(feature = "services")]
        Command::QueuePopulator => daemon::queue_populator(&global).map(ExitCode::from),
        #[cfg(feature = "services")]
        Command::QueueProcessor(arguments) => arguments.run(&global).map(ExitCode::from),
        #[cfg(feature = "services")]
        Command::ReplicationStatusProcessor => {
            daemon::replication_status_processor(&global).map(ExitCode::from)
        }
        #[cfg(feature = "services")]
        Command::Run(arguments) => arguments.run(&global).map(ExitCode::from),
        #[cfg(feature = "services")]
        Command::Replication(arguments) => replication::run(&arguments, &global).map(ExitCode::from),
        Command::Status(arguments) => status::run(&arguments, &global).map(ExitCode::from),
        Command::Lag(arguments) => status::lag(&arguments, &global).map(ExitCode::from),
        Command::Explain(arguments) => explain::run(&arguments, &global).map(ExitCode::from),
        Command::Failed(arguments) => failed::run(&arguments, &global).map(ExitCode::from),
        Command::Pause(arguments) => pause::pause(&arguments, &global).map(ExitCode::from),
        Command::Resume(arguments) => pause::resume(&arguments, &global).map(ExitCode::from),
        Command::Data(arguments) => data::run(&arguments, &global).map(ExitCode::from),
        Command::Config(arguments) => config::run(&arguments, &global).map(ExitCode::from),
        Command::Filter(filter) => filter.run().map_err(Failure::from),
        Command::VersionId(command) => command.run().map_err(Failure::from),
        Command::Completion(arguments) => completion::run(&arguments).map(ExitCode::from),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("{SAYS}{failure}");
        failure.exit.into()
    })
}

/// The runtime of a command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Starts writing log lines to standard error, from `level` on; `RUST_LOG` overrides it.
fn start_logging(level: &str) {
    crate::logging::start(level);
}
