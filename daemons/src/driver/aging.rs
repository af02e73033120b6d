//! Warns of backlogs that retention comes close to: a topic may delete messages by their age, whether they are done or not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::queue::{Group, Positions, Queue, Slot};
use backbeat_core::call::Ending;
use backbeat_core::id::{Partition, Topic};

use crate::metrics::Registry;
use crate::metrics::names;

/// Looks how old the backlogs of one group are.
pub struct Aging<Q> {
    queue: Arc<Q>,
    group: Group,
    topics: Vec<Topic>,
    metrics: Registry,
    /// The partitions whose oldest message that is not done has lived for half of its time.
    late: BTreeSet<Slot>,
}

impl<Q: Queue> Aging<Q> {
    /// For what `group` consumes. Any number of its members may look: they see the same.
    pub fn new(queue: Arc<Q>, group: Group, topics: Vec<Topic>, metrics: Registry) -> Self {
        Self { queue, group, topics, metrics, late: BTreeSet::new() }
    }

    /// Looks again and again. It never ends: run it as a task, and abort that to end it.
    pub async fn run(mut self, interval: Duration) {
        loop {
            self.look().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Looks once. Gives the partitions that it warned of: those that have become late since the last time.
    pub async fn look(&mut self) -> Vec<Slot> {
        let mut warned = Vec::new();
        for topic in self.topics.clone() {
            let Ending::Applied(Some(young)) = self.queue.half_aged(&topic).await else { continue };
            for (partition, young) in (0..).map(Partition).zip(young) {
                let slot = Slot::new(&topic, partition);
                let asked = self.queue.positions(&self.group, &slot).await;
                let Ending::Applied(Positions { begin, end, committed }) = asked else { continue };
                let next = committed.unwrap_or(begin).max(begin);
                if self.judge(&slot, next < young.min(end)) {
                    warned.push(slot);
                }
            }
        }
        warned
    }

    /// Notes whether a partition is late. Says whether it has become so.
    fn judge(&mut self, slot: &Slot, is_late: bool) -> bool {
        let partition = slot.partition.0.to_string();
        let labels =
            [("topic", slot.topic.as_str()), ("partition", &*partition), ("group", self.group.as_str())];
        self.metrics.set(&names::BACKLOG_AGING, &labels, if is_late { 1.0 } else { 0.0 });
        let group = &self.group;
        if !is_late {
            if self.late.remove(slot) {
                tracing::info!(%slot, %group, "the backlog is younger again than half of the topic's retention");
            }
            return false;
        }
        let has_become = self.late.insert(slot.clone());
        if has_become {
            tracing::warn!(%slot, %group, "the oldest message of the backlog has passed half of the topic's retention.ms: see why it waits, or raise that");
        }
        has_become
    }
}
