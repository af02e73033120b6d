//! The queue in memory: for tests and simulation. It outlives the consumers and producers that use it, not the process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backbeat_core::call::Ending;
use backbeat_core::id::{Offset, Topic};
use backbeat_core::time::WallTime;
use bytes::Bytes;
use tokio::sync::watch;

use super::local::{DRAIN_LIMIT_DEFAULT, LocalQueue, Log, Stored};
use super::{Group, QueueError, Retention, Slot, TopicSpec};
use crate::clock::WallClock;

/// A queue in memory.
pub type MemoryQueue = LocalQueue<MemoryLog>;

impl MemoryQueue {
    /// An empty queue.
    pub fn new(clock: WallClock) -> Self {
        Self::with_drain_limit(clock, DRAIN_LIMIT_DEFAULT)
    }

    /// An empty queue that waits `drain_limit` for the owners of revoked partitions.
    pub fn with_drain_limit(clock: WallClock, drain_limit: Duration) -> Self {
        Self::over(MemoryLog::default(), clock, drain_limit)
    }
}

/// The log of a [`MemoryQueue`].
#[derive(Debug, Default)]
pub struct MemoryLog {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<Topic, TopicState>,
    committed: BTreeMap<(Group, Slot), Offset>,
}

#[derive(Debug)]
struct TopicState {
    spec: TopicSpec,
    groups: BTreeSet<Group>,
    partitions: Vec<PartitionState>,
}

#[derive(Debug, Default)]
struct PartitionState {
    begin: Offset,
    /// What is kept, contiguous from `begin`; empty in a compacted topic.
    messages: VecDeque<Stored>,
    end: Offset,
    latest: BTreeMap<Bytes, Bytes>,
}

impl PartitionState {
    fn drop_below(&mut self, keep_from: Offset) {
        while self.begin < keep_from && self.messages.pop_front().is_some() {
            self.begin = self.begin.next();
        }
    }
}

impl State {
    fn partition(&self, slot: &Slot) -> Option<&PartitionState> {
        self.topics.get(&slot.topic)?.partitions.get(slot.partition.0 as usize)
    }

    fn prune(&mut self, slot: &Slot) {
        let Some(topic) = self.topics.get_mut(&slot.topic) else { return };
        let committed =
            topic.groups.iter().map(|group| self.committed.get(&(group.clone(), slot.clone())).copied());
        let consumed = committed.min().flatten();
        let Some(partition) = topic.partitions.get_mut(slot.partition.0 as usize) else { return };
        match topic.spec.retention {
            Retention::Newest(count) if topic.groups.is_empty() => {
                partition.drop_below(Offset(partition.end.0.saturating_sub(count)));
            }
            Retention::Newest(_) | Retention::UntilConsumed => {
                partition.drop_below(consumed.unwrap_or_default());
            }
            Retention::LatestPerKey => partition.begin = partition.end,
        }
    }
}

impl MemoryLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn changes(&self) -> &watch::Sender<u64> {
        &self.changes
    }

    async fn create(&self, spec: &TopicSpec) -> Ending<()> {
        let mut state = self.state();
        let topic = state.topics.entry(spec.topic.clone()).or_insert_with(|| TopicState {
            spec: spec.clone(),
            groups: BTreeSet::new(),
            partitions: (0..spec.partitions).map(|_| PartitionState::default()).collect(),
        });
        topic.spec = spec.clone();
        Ending::Applied(())
    }

    fn spec(&self, topic: &Topic) -> Option<TopicSpec> {
        self.state().topics.get(topic).map(|topic| topic.spec.clone())
    }

    async fn register(&self, group: &Group, topics: &[Topic]) -> Ending<()> {
        let mut state = self.state();
        for topic in topics {
            if let Some(topic) = state.topics.get_mut(topic) {
                topic.groups.insert(group.clone());
            }
        }
        Ending::Applied(())
    }

    fn append(
        &self,
        slot: Slot,
        key: Option<Bytes>,
        payload: Option<Bytes>,
        timestamp: WallTime,
    ) -> impl Future<Output = Ending<Offset>> + Send + 'static + use<> {
        let mut state = self.state();
        let topic = state.topics.get_mut(&slot.topic).expect("the topic exists");
        let partition = topic.partitions.get_mut(slot.partition.0 as usize).expect("the partition exists");
        let offset = partition.end;
        partition.end = offset.next();
        if topic.spec.retention == Retention::LatestPerKey {
            let key = key.expect("messages of compacted topics have keys");
            match payload {
                Some(payload) => partition.latest.insert(key, payload),
                None => partition.latest.remove(&key),
            };
        } else {
            partition.messages.push_back(Stored { offset, key, payload, timestamp });
        }
        if topic.spec.retention != Retention::UntilConsumed {
            state.prune(&slot);
        }
        drop(state);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        std::future::ready(Ending::Applied(offset))
    }

    fn bounds(&self, slot: &Slot) -> (Offset, Offset) {
        self.state()
            .partition(slot)
            .map_or_else(Default::default, |partition| (partition.begin, partition.end))
    }

    async fn fetch(&self, slot: &Slot, from: Offset, limit: usize) -> Result<Vec<Stored>, QueueError> {
        let state = self.state();
        let Some(partition) = state.partition(slot) else { return Ok(Vec::new()) };
        let skip = usize::try_from(from.0.saturating_sub(partition.begin.0)).unwrap_or(usize::MAX);
        Ok(partition.messages.iter().skip(skip).take(limit).cloned().collect())
    }

    fn commit(
        &self,
        group: &Group,
        slot: &Slot,
        upto: Offset,
    ) -> impl Future<Output = Ending<()>> + Send + 'static + use<> {
        let mut state = self.state();
        state.committed.insert((group.clone(), slot.clone()), upto);
        state.prune(slot);
        std::future::ready(Ending::Applied(()))
    }

    fn committed(&self, group: &Group, slot: &Slot) -> Option<Offset> {
        self.state().committed.get(&(group.clone(), slot.clone())).copied()
    }

    async fn compacted(&self, slot: &Slot) -> Ending<Vec<(Bytes, Bytes)>> {
        let state = self.state();
        let latest = state.partition(slot).map(|partition| partition.latest.clone()).unwrap_or_default();
        Ending::Applied(latest.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::conformance::{DRAIN_LIMIT, QueueHarness};

    struct Memory;

    impl QueueHarness for Memory {
        type Queue = MemoryQueue;

        async fn queue(&self) -> MemoryQueue {
            MemoryQueue::with_drain_limit(WallClock::system(), DRAIN_LIMIT)
        }
    }

    crate::queue_conformance!(memory, Memory);
}
