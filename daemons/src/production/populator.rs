//! `queue-populator`: a populator for each journal that this process has been given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use backbeat_backends::coordination::zookeeper::ZooKeeperSession;
use backbeat_backends::coordination::{Coordination as _, Lifetime, NodePath};
use backbeat_backends::journal::ahead::ReadAhead;
use backbeat_backends::queue::Group;
use backbeat_backends::stats::redis::RedisStats;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Provision, Topic};
use backbeat_core::populator::{self as machine, StopReason, WatchLimits};
use backbeat_core::provisioning::Config as Sharing;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::consuming::consuming;
use super::log_source::{LogSource, Source};
use super::services::Services;
use super::sites::SourceSite;
use super::{StartError, probes, told};
use crate::config::settings::{self, DRAIN_MAX};
use crate::config::{Bootstrap, QueuePopulator};
use crate::consumers::{FailureWork, MetricsWork, Repair, RepairSchedule};
use crate::driver::populator::{self, PopulatorHandle, PopulatorPorts};
use crate::driver::provisioning::{self, ProvisioningHandle, ProvisioningNodes, Provisions};
use crate::driver::{Ownership, PositionNodes};
use crate::probe::Trouble;

/// How long a populator that lost its journal to another one, or that cannot be started, waits before it looks again.
const AGAIN_DELAY: Duration = Duration::from_secs(1);

/// How often it is looked whether there are more journals.
const MORE_INTERVAL: Duration = Duration::from_secs(30);

/// What is remembered for a source that does not compare before it writes (decision D3).
const WATCH: WatchLimits = WatchLimits { versions_max: 10_000, lookback: 10_000, restorations_max: 10 };

/// How long a message waits for others to be sent with it: with thousands of them the broker and we have a fifth less to do.
const LINGER: Duration = Duration::from_millis(5);

/// The populators that run, by journal, as probes see them, too.
type Handles = Arc<Mutex<BTreeMap<Provision, PopulatorHandle>>>;

/// The journals that this process has been given.
struct Journals {
    services: Arc<Services>,
    source: SourceSite,
    zookeeper_path: String,
    log: Arc<LogSource>,
    config: machine::Config,
    /// The claims that the running populators act on.
    running: BTreeMap<Provision, Ownership>,
    handles: Handles,
    tasks: JoinSet<(Provision, Option<StopReason>)>,
}

pub(super) async fn start(
    services: &Arc<Services>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(), StartError> {
    let section: QueuePopulator = services.config.section("queuePopulator")?;
    let log = Arc::new(LogSource::configured(services, &section).await?);
    let mut config = settings::populator(&services.config, &services.locations);
    config.bootstrap = match section.bootstrap {
        Bootstrap::Oldest => machine::Bootstrap::Oldest,
        Bootstrap::End => machine::Bootstrap::End,
    };
    config.watch = log.tells_overwritten().then_some(WATCH);
    let journals = Journals {
        services: Arc::clone(services),
        source: SourceSite::configured(&services.config).await?,
        zookeeper_path: section.zookeeper_path,
        log,
        config,
        running: BTreeMap::new(),
        handles: Handles::default(),
        tasks: JoinSet::new(),
    };
    let nodes = nodes(services, &journals.zookeeper_path, &journals.log).await?;
    let probes = services.config.value("/queuePopulator/probeServer");
    probes::serve(services, probes, stopped, tasks, |_| {
        let (services, handles) = (Arc::clone(services), Arc::clone(&journals.handles));
        move || troubles(Arc::clone(&services), Arc::clone(&handles))
    })
    .await?;
    let zookeeper = services.zookeeper.clone();
    let open = move || {
        let zookeeper = zookeeper.clone();
        async move { ZooKeeperSession::connect(&zookeeper).await }
    };
    tasks.spawn(share_more(
        Arc::clone(services),
        nodes.clone(),
        Arc::clone(&journals.log),
        told(stopped.clone()),
    ));
    let (sharing, owned) = provisioning::start(Sharing::default(), nodes, open, services.clock.clone());
    tasks.spawn(journals.supervise(sharing, owned, told(stopped.clone())));
    keep_statistics(services, stopped, tasks).await
}

/// The nodes that populators share the journals through. Journals of the configuration are put among them.
async fn nodes(
    services: &Services,
    zookeeper_path: &str,
    log: &LogSource,
) -> Result<ProvisioningNodes, StartError> {
    let unusable = |error| StartError::Configuration(format!("queuePopulator.zookeeperPath: {error}"));
    let nodes = log.nodes(zookeeper_path).map_err(unusable)?;
    share(services, &nodes, log.provisions()).await?;
    Ok(nodes)
}

/// Puts journals among those to be shared out, as far as they are not there.
async fn share(
    services: &Services,
    nodes: &ProvisioningNodes,
    journals: Vec<String>,
) -> Result<(), StartError> {
    let unusable = |error| StartError::Configuration(format!("queuePopulator.zookeeperPath: {error}"));
    for journal in journals {
        let node = nodes.provisions().child(&journal).map_err(unusable)?;
        match services.coordination.create(&node, Bytes::new(), Lifetime::Durable).await {
            Ending::Applied(_) => tracing::info!(journal, "the journal is shared out from now on"),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Conflict => {}
            Ending::Refused(refusal) => {
                return Err(StartError::Unavailable(format!("node {node} cannot be made: {}", refusal.code)));
            }
            Ending::Unknown => {
                return Err(StartError::Unavailable(format!("zookeeper does not answer about node {node}")));
            }
        }
    }
    Ok(())
}

/// Puts journals that come later among those to be shared out, too, until `stop` resolves.
async fn share_more(
    services: Arc<Services>,
    nodes: ProvisioningNodes,
    log: Arc<LogSource>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(MORE_INTERVAL) => {}
        }
        let more = log.more_provisions().await;
        if let Err(error) = share(&services, &nodes, more).await {
            tracing::warn!(%error, "journals that came later are not shared out yet");
        }
    }
}

/// Consumes what all daemons say of what they did, and keeps it in Redis (replication reference section 1).
async fn keep_statistics(
    services: &Arc<Services>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(), StartError> {
    let (stats, clock) = (&services.stats, &services.wall);
    let group = Group::from(format!("{}-crr", services.counts.group_id_prefix));
    let topic = Topic::from(services.counts.topic.as_str());
    let work = MetricsWork::new(Arc::clone(stats), clock.clone());
    tasks.spawn(consuming(services, group, topic, None, work, told(stopped.clone())).await?);

    let (group, topic) = (Group::from(FailureWork::<RedisStats>::GROUP), services.topics.failed.clone());
    let work = FailureWork::new(Arc::clone(stats), clock.clone());
    tasks.spawn(consuming(services, group, topic, None, work, told(stopped.clone())).await?);

    if !services.replication.monitor_replication_failures {
        return Ok(());
    }
    let repair = Repair {
        queue: Arc::clone(&services.queue),
        exceptions_topic: services.topics.exceptions.clone(),
        partitions: services.partitions,
        stats: Arc::clone(stats),
        clock: clock.clone(),
    };
    let stop = told(stopped.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop => {}
            () = repair.run(RepairSchedule::default()) => {}
        }
        Ok(())
    });
    Ok(())
}

/// What is not well: ZooKeeper, or a populator that does not answer.
async fn troubles(services: Arc<Services>, handles: Handles) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let node = NodePath::new("/probe").expect("a path");
    let asked = services.coordination.read(&node).await;
    let is_there = matches!(&asked, Ending::Applied(_))
        || matches!(&asked, Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound);
    if !is_there {
        troubles.push(Trouble::zookeeper(0));
    }
    let handles = handles.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for handle in handles.into_values() {
        if handle.summary().await.is_none() {
            troubles.push(Trouble::log_reader(services.topics.replication.as_str()));
        }
    }
    troubles
}

impl Journals {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<Provision, PopulatorHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self, source: Source, claim: Ownership, bootstrap: machine::Bootstrap) -> Result<()> {
        let (services, provision) = (&self.services, claim.provision().clone());
        let ports = PopulatorPorts {
            journal: Arc::new(ReadAhead::new(source.journal)),
            queue: Arc::new(services.queue.lingering(LINGER)),
            coordination: Arc::clone(&services.coordination),
            nodes: PositionNodes::new(&self.zookeeper_path, &source.log_id)
                .context("queuePopulator.zookeeperPath")?
                .owned_by(claim.clone()),
            sites: self.source.alone(),
            topic: services.topics.replication.clone(),
            log_name: self.log.log_name(),
            counters: services.counters.clone(),
            metrics: services.metrics.clone(),
        };
        let config = machine::Config { bootstrap, ..self.config.clone() };
        let (handle, task) = populator::start(config, ports, services.clock.clone(), DRAIN_MAX);
        tracing::info!(journal = source.log_id, "reading the journal");
        let (log, saved) = (Arc::clone(&self.log), handle.saved());
        self.handles().insert(provision.clone(), handle);
        self.running.insert(provision.clone(), claim);
        self.tasks.spawn(async move {
            let (ended, ()) = tokio::join!(task, log.follow(&provision, saved));
            (provision, ended.ok().flatten())
        });
        Ok(())
    }

    /// Starts and stops populators, so that those run that are owned. One whose claim is another one now is started
    /// again once it has ended. Says whether it has started all it could.
    async fn follow(&mut self, owned: &Provisions) -> Result<bool> {
        let mut wanted = BTreeMap::new();
        for claim in owned.claims() {
            let provision = claim.provision();
            match self.log.journal(provision) {
                Some(source) => drop(wanted.insert(provision.clone(), (source, claim.clone()))),
                None => {
                    tracing::error!(%provision, "no journal of the log source has that name: nobody reads it");
                }
            }
        }
        let stopping: Vec<PopulatorHandle> = {
            let handles = self.handles();
            let gone = self.running.iter().filter(|&(journal, claim)| {
                wanted.get(journal).is_none_or(|(_, wanted): &(Source, Ownership)| wanted != claim)
            });
            gone.filter_map(|(journal, _)| handles.get(journal).cloned()).collect()
        };
        for handle in stopping {
            handle.shut_down().await;
        }
        for (journal, (source, claim)) in wanted {
            if !self.running.contains_key(&journal) {
                let Some(bootstrap) = self.log.bootstrap(&journal, self.config.bootstrap).await else {
                    return Ok(false);
                };
                self.start(source, claim, bootstrap)?;
            }
        }
        Ok(true)
    }

    async fn supervise(
        mut self,
        sharing: ProvisioningHandle,
        mut owned: watch::Receiver<Provisions>,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        tokio::pin!(stop);
        loop {
            let provisions = owned.borrow_and_update().clone();
            let is_done = tokio::select! {
                () = &mut stop => break,
                followed = self.follow(&provisions) => followed?,
            };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(AGAIN_DELAY), if !is_done => {}
                changed = owned.changed() => changed.context("the sharing of journals ended")?,
                Some(ended) = self.tasks.join_next() => {
                    let (journal, reason) = ended?;
                    self.handles().remove(&journal);
                    self.running.remove(&journal);
                    match reason {
                        None => tracing::info!(%journal, "the journal is read no more"),
                        Some(StopReason::HistoryLost(loss)) => {
                            bail!("the populator of journal {journal} stopped: {loss:?}")
                        }
                        Some(StopReason::Fenced | StopReason::OwnershipLost) => {
                            tracing::warn!(%journal, "another populator has the journal; looking again");
                            tokio::time::sleep(AGAIN_DELAY).await;
                        }
                    }
                }
            }
        }
        // Their positions can be saved only while the sessions are owned.
        let handles = std::mem::take(&mut *self.handles());
        for handle in handles.values() {
            handle.shut_down().await;
        }
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        sharing.leave().await;
        Ok(())
    }
}
