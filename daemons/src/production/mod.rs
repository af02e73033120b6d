//! The production daemons: the same drivers as in the embedded stack, over Kafka, ZooKeeper, Redis and the sites of a
//! `config.json` as existing installations have it.
//!
//! A process runs one daemon or several. They share their connections and their registry of metrics, and end together.

mod bootstrap;
mod change_stream;
mod consuming;
mod error;
mod log_source;
mod login;
mod populator;
mod probes;
mod processor;
mod secrets;
mod selection;
mod services;
mod sites;
mod status;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Config;
use crate::logging::LogFilter;
use crate::running;

pub use error::StartError;
pub(crate) use secrets::transport;
pub use selection::Selection;
use services::Services;
pub(crate) use services::locations;
pub(crate) use sites::{CERTIFICATES, SOURCE_CERTIFICATES, SourceSite};

/// Time that everything together has to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(45);

/// Time that the last counts have to be published. Without a broker they never are.
const COUNTING_TIME_MAX: Duration = Duration::from_secs(5);

/// A daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Reads journals and queues what is to be replicated.
    QueuePopulator,
    /// Copies to sites.
    QueueProcessor(Selection),
    /// Records outcomes.
    ReplicationStatusProcessor,
}

/// Daemons that run.
pub struct Running {
    tasks: JoinSet<Result<()>>,
    /// Publishes counts until everything that counts is gone.
    counting: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Starts `daemons`, and returns once they work. Operators change `log` while they run.
    ///
    /// # Errors
    /// [`StartError`], which says what is missing.
    pub async fn start(config: Config, log: LogFilter, daemons: &[Daemon]) -> Result<Self, StartError> {
        for daemon in daemons {
            if let Daemon::QueueProcessor(selection) = daemon {
                selection.check(&config)?;
            }
        }
        let (services, counting) = Services::connect(config, log).await?;
        let services = Arc::new(services);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for daemon in daemons {
            match daemon {
                Daemon::QueuePopulator => populator::start(&services, &stopped, &mut tasks).await?,
                Daemon::QueueProcessor(selection) => {
                    processor::start(&services, selection.clone(), &stopped, &mut tasks).await?;
                }
                Daemon::ReplicationStatusProcessor => status::start(&services, &stopped, &mut tasks).await?,
            }
        }
        Ok(Self { tasks, counting, stop })
    }

    /// Waits for something to end that should not have, and says what it was.
    pub async fn failed(&mut self) -> anyhow::Error {
        running::failed(&mut self.tasks).await
    }

    /// Stops reading, waits for what is under way, flushes, commits, leaves the groups and ends.
    ///
    /// # Errors
    /// Something did not stop, or not in time: what was not committed is done again by whoever comes next.
    pub async fn shut_down(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let stopping = async {
            running::ended(&mut self.tasks).await?;
            if let Ok(ended) = tokio::time::timeout(COUNTING_TIME_MAX, &mut self.counting).await {
                ended?;
            } else {
                tracing::warn!("the last counts were not published in time");
                self.counting.abort();
            }
            anyhow::Ok(())
        };
        running::in_time(STOP_TIME_MAX, "the daemons", stopping).await
    }
}

/// Resolves when everything is to stop.
async fn told(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means stop, too.
    stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}
