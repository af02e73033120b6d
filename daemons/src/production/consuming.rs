//! The consumers without a machine, as parts of daemons.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use backbeat_backends::queue::Group;
use backbeat_core::id::Topic;
use tokio::sync::watch;

use super::StartError;
use super::services::Services;
use crate::config::settings::DRAIN_MAX;
use crate::consumers::{self, Membership, Work};

/// Joins `group` and does `work` with what comes on `topic`, but nothing new while `paused`. The future runs until
/// `stop` resolves, or until the queue cannot be read any more.
pub(super) async fn consuming<W: Work, F: Future<Output = ()> + Send + 'static>(
    services: &Services,
    group: Group,
    topic: Topic,
    paused: Option<watch::Receiver<bool>>,
    work: W,
    stop: F,
) -> Result<impl Future<Output = Result<()>> + Send + use<W, F>, StartError> {
    let what = format!("the consumer of topic {topic}");
    let drain_max = Duration::from_micros(DRAIN_MAX.as_micros());
    let membership = Membership { group, topics: vec![topic], drain_max, paused };
    let (handle, mut task) =
        consumers::start(&*services.queue, membership, work, services.metrics.clone()).await?;
    Ok(async move {
        tokio::select! {
            ended = &mut task => return ended?.with_context(|| format!("{what} ended")),
            () = stop => handle.shut_down(),
        }
        task.await?.with_context(|| format!("{what} did not end well"))
    })
}
