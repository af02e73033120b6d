//! `replication-status-processor`.

use std::sync::Arc;

use anyhow::{Context, Result};
use backbeat_backends::queue::Group;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::services::Services;
use super::sites::SourceSite;
use super::{StartError, probes, told};
use crate::config::settings::{self, DRAIN_MAX};
use crate::driver::status::{self, StatusHandle, StatusPorts, StatusTopics};
use crate::driver::{Aging, StatusObserver};
use crate::probe::{Trouble, TroubleStatus};

pub(super) async fn start(
    services: &Arc<Services>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(), StartError> {
    let source = SourceSite::configured(&services.config).await?;
    let group = Group::from(services.replication.replication_status_processor.group_id.as_str());
    let (queue, topics) = (Arc::clone(&services.queue), vec![services.topics.status.clone()]);
    let aging = Aging::new(queue, group.clone(), topics, services.metrics.clone());
    let ports = StatusPorts {
        queue: Arc::clone(&services.queue),
        publisher: services.publisher.clone(),
        sites: source.alone(),
        topics: StatusTopics::from(&services.topics),
        partitions: services.partitions,
        group,
        observer: StatusObserver::new(services.metrics.clone(), services.counters.clone()),
    };
    let machine = settings::status(&services.replication, &services.locations);
    let (handle, mut task) = status::start(machine, ports, services.clock.clone(), DRAIN_MAX).await?;
    let probes = services.config.value("/extensions/replication/replicationStatusProcessor/probeServer");
    probes::serve(services, probes, stopped, tasks, |_| {
        let handle = handle.clone();
        move || troubles(handle.clone())
    })
    .await?;
    let stop = told(stopped.clone());
    let interval = services.backlog.1;
    tasks.spawn(async move {
        tokio::select! {
            () = aging.run(interval) => {}
            ended = &mut task => return ended?.context("the status processor ended"),
            () = stop => handle.shut_down().await,
        }
        task.await?.context("the status processor did not end well")
    });
    Ok(())
}

async fn troubles(handle: StatusHandle) -> Vec<Trouble> {
    match handle.ask(|_, _| ()).await {
        Some(()) => Vec::new(),
        None => vec![Trouble::consumer(TroubleStatus::NotReady)],
    }
}
