//! The embedded stack: a source site, target sites, the queue, the machines and the API, in one process and on loopback.
//!
//! Everything is under one data directory: `source` and `targets/<name>` hold a site each, `engine` what the machines
//! keep. What was acknowledged survives the end of the process, however it ends.

mod ports;
mod pruning;
mod site;
mod sites;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::embedded::{EmbeddedCoordination, EmbeddedSession};
use backbeat_backends::embedded::{Closed, Store, StoreOptions};
use backbeat_backends::journal::embedded::EmbeddedJournal;
use backbeat_backends::objects::SitePair;
use backbeat_backends::queue::embedded::EmbeddedQueue;
use backbeat_backends::queue::{Group, PARTITIONS_DEFAULT, Queue};
use backbeat_backends::stats::embedded::EmbeddedStats;
use backbeat_core::call::Ending;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::api::{self, Daemons, Operator, SiteDaemon};
use crate::config::settings::{self, DRAIN_MAX};
use crate::config::{Config, Locations};
use crate::directory::{Backups, Layout};
use crate::driver::counters::Counters;
use crate::driver::populator::{self, PopulatorHandle, PopulatorPorts};
use crate::driver::processor::{self, ProcessorHandle, ProcessorPorts};
use crate::driver::status::{self, StatusHandle, StatusPorts, StatusTopics};
use crate::driver::{Clock, PositionNodes, ProcessorObserver, Publisher, StatusObserver};
use crate::metrics::Registry;
use crate::running;
pub use site::Client;
use site::Reach;
pub use sites::SitesAlone;
use sites::{Ports, Sites, TargetSite};

/// The access key of every site.
pub const ACCESS_KEY: &str = "backbeat-dev";
/// The secret key of every site.
pub const SECRET_KEY: &str = "backbeat-dev-secret";
/// The region of every site.
pub const REGION: &str = "us-east-1";

/// The identity of the source's journal in the coordination store.
const LOG_ID: &str = "embedded_source";

/// Bytes of database pages that the engine's store keeps in memory.
const ENGINE_CACHE_BYTES: usize = 8 << 20;

/// Time that everything together has to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// The processors, the status processor and the API read and write the source through this.
type Source = SitePair<Client, Client>;
/// What the API works with.
pub type StackOperator = Operator<EmbeddedQueue, EmbeddedStats, EmbeddedSession, Source>;

/// One target site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in replication configurations; without one it is called after its port, `site-<port>`.
    pub name: Option<String>,
    /// Its port; 0 takes any that is free.
    pub port: u16,
}

/// How to start a stack.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The port of the source; 0 takes any that is free.
    pub source_port: u16,
    /// The target sites.
    pub targets: Vec<Target>,
    /// The port of the API and the web page; 0 takes any that is free.
    pub api_port: u16,
    /// The port on which others read the source's journal, without a signature; 0 takes any that is free. None: nobody
    /// does, but over the source's S3.
    pub journal_port: Option<u16>,
    /// The configuration of the machines.
    pub config: Config,
}

/// Where a stack answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The source's S3.
    pub source: SocketAddr,
    /// Name and S3 of each target, in the order in which they were configured.
    pub targets: Vec<(String, SocketAddr)>,
    /// The API and the web page, unless the sites are alone.
    pub api: Option<SocketAddr>,
    /// The source's journal in the form of bucketd's raft log.
    pub journal: Option<SocketAddr>,
}

/// A running stack.
pub struct Stack {
    addresses: Addresses,
    to_source: Reach,
    /// In the order of the addresses.
    to_targets: Vec<Reach>,
    operator: Arc<StackOperator>,
    populator: PopulatorHandle,
    processors: Vec<ProcessorHandle>,
    status: StatusHandle,
    /// The machines. They end first, while the sites still answer.
    machines: JoinSet<Result<()>>,
    /// What the machines need: sites and API.
    servers: JoinSet<Result<()>>,
    /// Counts and prunes; nothing waits for it.
    background: Vec<JoinHandle<()>>,
    stop_servers: watch::Sender<bool>,
    /// The stores: what was stopped may still be letting go of them.
    stores: Vec<Closed>,
}

impl Stack {
    /// Starts everything, and returns once it answers.
    pub async fn start(config: StackConfig) -> Result<Self> {
        let ports = Ports::take(config.source_port, &config.targets, config.journal_port).await?;
        let (api_listener, api_address) = ports::listen(config.api_port, "the API").await?;

        let layout = Layout::open(&config.data_dir)?;
        let limits = settings::site_limits(&config.config);
        let (stop_servers, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let api = Some(api_address);
        let sites = Sites::open(ports, &layout, &limits, api, &stopped, &mut servers).await?;
        let to_source = sites.to_source.clone();

        let wall = WallClock::system();
        let engine = layout.engine();
        let opened = wall.clone();
        let (store, queue, coordination, stats) = tokio::task::spawn_blocking(move || -> Result<_> {
            let options = StoreOptions { cache_bytes: ENGINE_CACHE_BYTES, ..StoreOptions::default() };
            let store = Store::open_with(&engine, options)?;
            let queue = EmbeddedQueue::open(store.clone(), opened.clone())?;
            let coordination = EmbeddedCoordination::open(store.clone())?;
            Ok((store.clone(), queue, coordination, EmbeddedStats::open(store, opened)?))
        })
        .await?
        .context("cannot open the engine's store")?;
        let (queue, stats) = (Arc::new(queue), Arc::new(stats));
        let coordination = Arc::new(coordination.connect());

        let topics = settings::topics(&config.config);
        for spec in topics.specs() {
            let created = queue.create_topic(&spec).await;
            ensure!(
                matches!(created, Ending::Applied(())),
                "topic {} cannot be created: {created:?}; was the data directory made with another configuration?",
                spec.topic
            );
        }

        let metrics = Registry::default();
        let clock = Clock::start(wall.clone());
        let (counters, counting) = Counters::start(Arc::clone(&stats), wall.clone());
        let source_pair: Arc<Source> = Arc::new(SitePair::new(to_source.client(), to_source.client()));
        let publisher = Publisher::new(Arc::clone(&queue), metrics.clone());
        let replication = config.config.replication();
        let mut machines = JoinSet::new();

        let status_group = Group::from(replication.replication_status_processor.group_id.as_str());
        let ports = StatusPorts {
            queue: Arc::clone(&queue),
            publisher: publisher.clone(),
            sites: Arc::clone(&source_pair),
            topics: StatusTopics::from(&topics),
            partitions: PARTITIONS_DEFAULT,
            group: status_group.clone(),
            observer: StatusObserver::new(metrics.clone(), counters.clone()),
        };
        let (status, task) = status::start(
            settings::status(&replication, &Locations::default()),
            ports,
            clock.clone(),
            DRAIN_MAX,
        )
        .await?;
        machines.spawn(async move { task.await?.context("the status processor ended") });

        let mut processors = Vec::new();
        let mut site_daemons = Vec::new();
        for TargetSite { name, reach } in &sites.targets {
            let group = Group::from(format!("{}-{name}", replication.queue_processor.group_id));
            let ports = ProcessorPorts {
                queue: Arc::clone(&queue),
                publisher: publisher.clone(),
                sites: Arc::new(SitePair::new(to_source.client(), reach.client())),
                topics: topics.consumed_by_sites(),
                status_topic: topics.status.clone(),
                exceptions_topic: topics.exceptions.clone(),
                partitions: PARTITIONS_DEFAULT,
                group: group.clone(),
                observer: ProcessorObserver::new(
                    name.clone(),
                    topics.replication.as_str(),
                    group.as_str(),
                    metrics.clone(),
                ),
            };
            let machine = settings::processor(&replication, name, site::OWNER_ID, site::OWNER_NAME);
            let is_paused = api::is_paused(&*coordination, name.as_str())
                .await
                .with_context(|| format!("cannot learn whether the site {name} is paused"))?;
            if is_paused {
                tracing::info!(site = %name, "still paused");
            }
            let (handle, task) =
                processor::start(machine, is_paused, ports, clock.clone(), DRAIN_MAX).await?;
            let ended = format!("the processor of site {name} ended");
            machines.spawn(async move { task.await?.context(ended) });
            processors.push(handle.clone());
            site_daemons.push(SiteDaemon { site: name.clone(), group, handle });
        }

        let zookeeper_path =
            config.config.value("/queuePopulator/zookeeperPath").and_then(|path| path.as_str());
        let ports = PopulatorPorts {
            journal: Arc::new(EmbeddedJournal::new(sites.journal.clone())),
            queue: Arc::clone(&queue),
            coordination: Arc::clone(&coordination),
            nodes: PositionNodes::new(zookeeper_path.unwrap_or("/queue-populator"), LOG_ID)?,
            sites: Arc::clone(&source_pair),
            topic: topics.replication.clone(),
            log_name: "embedded-log",
            counters: counters.clone(),
            metrics: metrics.clone(),
        };
        let (populator, task) = populator::start(
            settings::populator(&config.config, &Locations::default()),
            ports,
            clock.clone(),
            DRAIN_MAX,
        );
        machines.spawn(async move {
            match task.await? {
                None => Ok(()),
                Some(reason) => Err(anyhow!("the populator stopped: {reason:?}")),
            }
        });

        let addresses = sites.addresses(api);
        let stores = sites.closed().chain([store.closed()]).collect();
        let to_targets = sites.targets.into_iter().map(|target| target.reach).collect();
        let backups = Backups::new(layout, store, sites.opened);
        let (journal, reader) = (sites.journal, populator.clone());
        let forget = async move |below, count| journal.prune(below, count).await;
        let needed = async move || Some(reader.summary().await?.saved.0);
        let pruning = tokio::spawn(pruning::prune_forever(forget, backups.pruning(), pruning::LOOK, needed));

        let daemons = Daemons {
            sites: site_daemons,
            status: status.clone(),
            status_group,
            populator: populator.clone(),
        };
        let operator = Arc::new(Operator {
            queue,
            publisher,
            stats,
            coordination,
            source: source_pair,
            current: Arc::new(to_source.signed()),
            daemons,
            topics,
            partitions: PARTITIONS_DEFAULT,
            clock: wall,
            counters,
            metrics,
            backups,
        });
        let serving = api::serve(api_listener, Arc::clone(&operator), stopped);
        servers.spawn(async move { serving.await.context("the API ended") });
        Ok(Self {
            addresses,
            to_source,
            to_targets,
            operator,
            populator,
            processors,
            status,
            machines,
            servers,
            background: vec![counting, pruning],
            stop_servers,
            stores,
        })
    }

    /// Where it answers.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The source and a target as the processor of that target reaches them; nothing if no target has this name.
    pub fn sites(&self, target: &str) -> Option<SitePair<Client, Client>> {
        let index = self.addresses.targets.iter().position(|(name, _)| name == target)?;
        Some(SitePair::new(self.to_source.client(), self.to_targets[index].client()))
    }

    /// What the API offers, in process.
    pub fn operator(&self) -> &Arc<StackOperator> {
        &self.operator
    }

    /// Waits for something to end that should not have, and says what it was.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = running::failed(&mut self.machines) => error,
            error = running::failed(&mut self.servers) => error,
        }
    }

    /// Stops reading, waits for what is under way, saves positions, then closes the ports and the stores: the data
    /// directory may be opened again once this returns. A clone of the operator must be gone by then.
    pub async fn shutdown(mut self) -> Result<()> {
        let stopping = async {
            self.populator.shut_down().await;
            for processor in &self.processors {
                processor.shut_down().await;
            }
            self.status.shut_down().await;
            running::ended(&mut self.machines).await?;
            self.stop_servers.send_replace(true);
            running::ended(&mut self.servers).await?;
            // What counts has been handed over; nothing else holds it any more.
            drop(self.operator);
            for task in std::mem::take(&mut self.background) {
                task.abort();
                // It ends as cancelled, and with it goes what it held of the stores.
                task.await.unwrap_or_default();
            }
            for store in self.stores {
                store.wait().await;
            }
            anyhow::Ok(())
        };
        running::in_time(STOP_TIME_MAX, "the stack", stopping).await
    }
}
