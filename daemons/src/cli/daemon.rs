//! The production daemons as commands: one process each, or several in one.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::signals::Signals;
use super::{Exit, Failure, Global, config};
use crate::config::Config;
use crate::logging::LogFilter;
use crate::production::{Daemon, Running, Selection, StartError};

/// Copy what is queued to the sites of the bootstrap list.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat queue-processor --config conf/config.json
  backbeat queue-processor --config conf/config.json --site paris --site tokyo
  backbeat queue-processor --config conf/config.json backbeat-replication-replay-0")]
pub(super) struct QueueProcessor {
    /// Serve this site only; may be given several times.
    #[arg(long, value_name = "SITE")]
    site: Vec<String>,
    /// Serve this replay topic only, beside processors that leave replay topics alone.
    #[arg(value_name = "REPLAY_TOPIC")]
    replay_topic: Option<String>,
}

/// Run several daemons in one process.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat run --config conf/config.json --all
  backbeat run --config conf/config.json queue-processor replication-status-processor")]
pub(super) struct Run {
    /// All of them.
    #[arg(long, conflicts_with = "daemons", required_unless_present = "daemons")]
    all: bool,
    /// These.
    #[arg(value_name = "DAEMON")]
    daemons: Vec<Name>,
}

/// The daemons that `run` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    QueuePopulator,
    QueueProcessor,
    ReplicationStatusProcessor,
}

/// The sites of the environment, if no other are named.
fn selection(sites: &[String], replay_topic: Option<String>) -> Selection {
    let mut sites = sites.to_vec();
    if sites.is_empty() {
        sites.extend(std::env::var("BOOTSTRAP_SITE_NAME").ok().filter(|site| !site.is_empty()));
    }
    Selection { sites, replay_topic }
}

pub(super) fn queue_populator(global: &Global) -> Result<Exit, Failure> {
    serve(global, &[Daemon::QueuePopulator])
}

pub(super) fn replication_status_processor(global: &Global) -> Result<Exit, Failure> {
    serve(global, &[Daemon::ReplicationStatusProcessor])
}

impl QueueProcessor {
    pub(super) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        serve(global, &[Daemon::QueueProcessor(selection(&self.site, self.replay_topic.clone()))])
    }
}

impl Run {
    pub(super) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut names = if self.all { Name::value_variants().to_vec() } else { self.daemons.clone() };
        let mut seen = Vec::new();
        names.retain(|name| {
            let is_new = !seen.contains(name);
            seen.push(*name);
            is_new
        });
        let daemon = |name| match name {
            Name::QueuePopulator => Daemon::QueuePopulator,
            Name::QueueProcessor => Daemon::QueueProcessor(selection(&[], None)),
            Name::ReplicationStatusProcessor => Daemon::ReplicationStatusProcessor,
        };
        serve(global, &names.into_iter().map(daemon).collect::<Vec<_>>())
    }
}

/// Runs daemons until SIGINT or SIGTERM.
fn serve(global: &Global, daemons: &[Daemon]) -> Result<Exit, Failure> {
    let config = config::load(global)?;
    let log = config::log(&config);
    super::runtime()?.block_on(until_told(config, log, daemons, global.json))
}

async fn until_told(config: Config, log: LogFilter, daemons: &[Daemon], json: bool) -> Result<Exit, Failure> {
    let mut signals = Signals::caught()?;
    let started = tokio::select! {
        started = Running::start(config, log, daemons) => started,
        () = signals.next() => return Ok(Exit::Done),
    };
    let mut running = started.map_err(|error| {
        let exit = match error {
            StartError::Configuration(_) => Exit::Usage,
            StartError::Denied(_) => Exit::NotPermitted,
            StartError::Unavailable(_) => Exit::Temporary,
        };
        Failure::new(exit, error)
    })?;
    tracing::info!("ready");
    if json {
        println!("{}", json!({"ready": true, "pid": std::process::id()}));
    }
    signals.unless(running.failed()).await?;
    running.shut_down().await.context("did not stop cleanly; nothing acknowledged is lost")?;
    Ok(Exit::Done)
}
