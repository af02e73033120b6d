//! `queue-processor`: a processor for each site of the bootstrap list. The list may change meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use backbeat_backends::queue::Group;
use backbeat_backends::queue::kafka::KafkaQueue;
use backbeat_core::call::Ending;
use backbeat_core::id::{Site, Topic};
use backbeat_core::processor::{Control, Event};
use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::bootstrap::Bootstrap;
use super::consuming::consuming;
use super::selection::Selection;
use super::services::{Coordination, Services};
use super::sites::{Destinations, SourceSite, target_kind};
use super::{StartError, probes, told};
use crate::config::BootstrapSite;
use crate::config::settings::{self, DRAIN_MAX};
use crate::consumers::DataMoverWork;
use crate::driver::processor::{self, ProcessorHandle, ProcessorPorts};
use crate::driver::{Aging, BacklogNodes, ProcessorObserver};
use crate::pause::{self, PausePlace};
use crate::probe::{Trouble, TroubleStatus};

/// How often the list is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A processor that runs.
struct Running {
    site: BootstrapSite,
    task: JoinHandle<Result<()>>,
    /// Ends the task, with everything that belongs to it.
    stop: watch::Sender<bool>,
    backlog: Arc<BacklogNodes<KafkaQueue, Coordination>>,
}

/// The processors that run, as probes see them.
type Handles = Arc<Mutex<BTreeMap<String, ProcessorHandle>>>;

/// Starts and stops processors.
struct Processors {
    services: Arc<Services>,
    source: SourceSite,
    destinations: Destinations,
    topics: Vec<Topic>,
    /// The replay topic, if only one is served.
    replay_topic: Option<String>,
    running: BTreeMap<String, Running>,
    handles: Handles,
}

pub(super) async fn start(
    services: &Arc<Services>,
    selection: Selection,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(), StartError> {
    let topics = match &selection.replay_topic {
        Some(topic) => vec![Topic::from(topic.as_str())],
        None => services.topics.consumed_by_sites(),
    };
    let replay_topic = selection.replay_topic.clone();
    let mut list = Bootstrap::new(selection);
    let wanted = list.configured(&services.config)?;
    let mut processors = Processors {
        services: Arc::clone(services),
        source: SourceSite::configured(&services.config).await?,
        destinations: Destinations::configured(services).await?,
        topics,
        replay_topic,
        running: BTreeMap::new(),
        handles: Handles::default(),
    };
    let probes = services.config.value("/extensions/replication/queueProcessor/probeServer");
    probes::serve(services, probes, stopped, tasks, |site| {
        let (handles, site) = (Arc::clone(&processors.handles), site.map(str::to_owned));
        move || troubles(Arc::clone(&handles), site.clone())
    })
    .await?;
    if wanted.is_empty() {
        tracing::warn!("there is no site to copy to; waiting for one in {}.bootstrapList", Destinations::KEY);
    }
    for site in wanted {
        processors.start(site).await?;
    }
    let stop = told(stopped.clone());
    tasks.spawn(async move { processors.supervise(list, stop).await });
    Ok(())
}

impl Processors {
    async fn start(&mut self, configured: BootstrapSite) -> Result<(), StartError> {
        let services = &self.services;
        let site = Site::from(configured.site.as_str());
        let group = Group::from(format!("{}-{site}", services.replication.queue_processor.group_id));
        let ports = ProcessorPorts {
            queue: Arc::clone(&services.queue),
            publisher: services.publisher.clone(),
            sites: Arc::new(self.destinations.pair(&services.config, &self.source, &configured).await?),
            topics: self.topics.clone(),
            status_topic: services.topics.status.clone(),
            exceptions_topic: services.topics.exceptions.clone(),
            partitions: services.partitions,
            group: group.clone(),
            observer: ProcessorObserver::new(
                site.clone(),
                self.topics[0].as_str(),
                group.as_str(),
                services.metrics.clone(),
            ),
        };
        let place = self.pause_place(&configured.site)?;
        let (stats, clock) = (Arc::clone(&services.stats), services.wall.clone());
        let (paused, following) = pause::follow(place, Arc::clone(&services.coordination), stats, clock)
            .await
            .map_err(|error| StartError::Unavailable(error.to_string()))?;
        let is_paused = *paused.borrow();
        let owner = &self.destinations.login.account;
        let mut machine =
            settings::processor(&services.replication, &site, &owner.canonical_id, &owner.display_name);
        machine.copy.target = target_kind(&configured);
        let (handle, mut processing) =
            processor::start(machine, is_paused, ports, services.clock.clone(), DRAIN_MAX).await?;
        let (stop, stopped) = watch::channel(false);
        let (base, interval) = services.backlog.clone();
        let backlog = Arc::new(BacklogNodes {
            queue: Arc::clone(&services.queue),
            coordination: Arc::clone(&services.coordination),
            base,
            topic_prefix: services.kafka.topic_prefix.clone(),
            group: group.clone(),
            topics: self.topics.clone(),
            partitions: services.partitions,
        });
        let (queue, metrics) = (Arc::clone(&services.queue), services.metrics.clone());
        let aging = Aging::new(queue, group.clone(), self.topics.clone(), metrics);
        // The data mover's requests are for who serves the replication topic.
        let moving = match &services.data_mover_topic {
            Some(topic) if self.replay_topic.is_none() => {
                let work =
                    DataMoverWork::new(site.clone(), services.publisher.clone(), services.wall.clone());
                let (topic, paused, stop) = (topic.clone(), Some(paused.clone()), told(stopped.clone()));
                Some(consuming(services, group, topic, paused, work, stop).await?)
            }
            Some(_) | None => None,
        };
        tracing::info!(%site, servers = ?configured.servers, paused = is_paused, "copying to the site");
        self.handles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(configured.site.clone(), handle.clone());
        let (machine, nodes) = (handle, Arc::clone(&backlog));
        let task = tokio::spawn(async move {
            let obeying = obey(paused, is_paused, machine.clone());
            let moving = async {
                match moving {
                    Some(moving) => moving.await,
                    None => told(stopped.clone()).map(Ok).await,
                }
            };
            let copying = async {
                tokio::select! {
                    ended = &mut processing => return ended?.context("the processor ended"),
                    () = obeying => {}
                    () = backlog.run(interval) => {}
                    () = aging.run(interval) => {}
                    () = told(stopped.clone()) => machine.shut_down().await,
                }
                let ended = processing.await?.context("the processor did not end well");
                backlog.publish_last().await;
                ended
            };
            let ended = tokio::try_join!(copying, moving);
            following.abort();
            ended.map(drop)
        });
        let running = Running { site: configured.clone(), task, stop, backlog: nodes };
        self.running.insert(configured.site, running);
        Ok(())
    }

    fn pause_place(&self, site: &str) -> Result<PausePlace, StartError> {
        let topic = self.services.topics.replication.as_str();
        let place = match &self.replay_topic {
            Some(replay) => PausePlace::of_replay(topic, replay, site),
            None => PausePlace::of_site(topic, site),
        };
        place.map_err(|error| {
            StartError::Configuration(format!("{}.bootstrapList: {error}", Destinations::KEY))
        })
    }

    /// Follows the list until told to stop.
    async fn supervise(mut self, mut list: Bootstrap, stop: impl Future<Output = ()>) -> Result<()> {
        tokio::pin!(stop);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                () = &mut stop => return self.stop_all().await,
                error = ended(&mut self.running) => return Err(error),
                _ = look.tick() => {
                    if let Some(wanted) = list.changed(&self.services.config).await {
                        self.follow(wanted).await?;
                    }
                }
            }
        }
    }

    async fn follow(&mut self, wanted: Vec<BootstrapSite>) -> Result<()> {
        let gone: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| !wanted.contains(&running.site))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let Some(running) = self.running.remove(&name) else { continue };
            tracing::info!(site = name, "the site is no longer as it was configured; its processor ends");
            running.stop.send_replace(true);
            running.task.await?.with_context(|| format!("site {name}"))?;
            self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            if wanted.iter().all(|site| site.site != name) {
                let place = self.pause_place(&name)?;
                if !matches!(pause::forget(&*self.services.coordination, &place).await, Ending::Applied(())) {
                    tracing::warn!(site = name, node = %place.node, "the state of the site could not be removed");
                }
                running.backlog.remove().await;
            }
        }
        for site in wanted {
            if !self.running.contains_key(&site.site) {
                let name = site.site.clone();
                self.start(site).await.with_context(|| format!("cannot copy to the new site {name}"))?;
            }
        }
        Ok(())
    }

    /// All at once: each has work to finish.
    async fn stop_all(self) -> Result<()> {
        for running in self.running.values() {
            running.stop.send_replace(true);
        }
        for (name, running) in self.running {
            running.task.await?.with_context(|| format!("site {name}"))?;
        }
        Ok(())
    }
}

/// Tells the machine what is paused and resumed.
async fn obey(mut paused: watch::Receiver<bool>, mut known: bool, machine: ProcessorHandle) {
    loop {
        let now = *paused.borrow_and_update();
        if now != known {
            let control = if now { Control::Pause } else { Control::Resume };
            machine.tell(Event::Control(control)).await;
            known = now;
        }
        if paused.changed().await.is_err() {
            // Nobody follows the state any more: all ends.
            std::future::pending::<()>().await;
        }
    }
}

/// The processors that do not work; of one site, if it is named.
async fn troubles(handles: Handles, site: Option<String>) -> Vec<Trouble> {
    let handles = handles.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut troubles = Vec::new();
    for (name, handle) in handles {
        if site.as_ref().is_none_or(|site| *site == name) && handle.ask(|_, _| ()).await.is_none() {
            troubles.push(Trouble::consumer(TroubleStatus::NotReady).of_site(name));
        }
    }
    troubles
}

/// The first processor that ends by itself.
async fn ended(running: &mut BTreeMap<String, Running>) -> anyhow::Error {
    if running.is_empty() {
        return std::future::pending().await;
    }
    let names: Vec<String> = running.keys().cloned().collect();
    let (ended, index, _) = select_all(running.values_mut().map(|running| &mut running.task)).await;
    let name = &names[index];
    match ended {
        Ok(Ok(())) => anyhow!("site {name}: the processor ended"),
        Ok(Err(error)) => error.context(format!("site {name}")),
        Err(panic) => anyhow!(panic).context(format!("the processor of site {name} panicked")),
    }
}
