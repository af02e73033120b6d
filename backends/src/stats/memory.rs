//! Stats in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backbeat_core::call::{Ending, Refusal};
use backbeat_core::time::{Span, WallTime};
use bytes::Bytes;
use tokio::sync::broadcast;

use super::table::StatsTable;
use super::{ScoreRange, Scored, Stats, Subscription};
use crate::clock::WallClock;

/// Messages that a slow listener may be behind before it misses some.
const CHANNEL_DEPTH: usize = 256;

/// Who listens to which channel, inside one process.
#[derive(Debug, Default)]
pub(crate) struct Channels(Mutex<BTreeMap<String, broadcast::Sender<Bytes>>>);

impl Channels {
    pub(crate) fn publish(&self, channel: &str, message: Bytes) {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unheard = channels.get(channel).is_some_and(|listeners| listeners.send(message).is_err());
        if unheard {
            channels.remove(channel);
        }
    }

    pub(crate) fn subscribe(&self, channel: &str) -> Subscription {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners =
            channels.entry(channel.to_owned()).or_insert_with(|| broadcast::channel(CHANNEL_DEPTH).0);
        Subscription::new(listeners.subscribe())
    }
}

/// A stats store in memory; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryStats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: WallClock,
    table: Mutex<StatsTable>,
    channels: Channels,
}

impl MemoryStats {
    /// An empty store whose keys expire by `clock`.
    pub fn new(clock: WallClock) -> Self {
        Self(Arc::new(Inner { clock, table: Mutex::default(), channels: Channels::default() }))
    }

    fn table(&self) -> (MutexGuard<'_, StatsTable>, WallTime) {
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.0.clock.now();
        table.sweep(now);
        (table, now)
    }
}

fn ending<T>(result: Result<T, Refusal>) -> Ending<T> {
    match result {
        Ok(value) => Ending::Applied(value),
        Err(refusal) => Ending::Refused(refusal),
    }
}

impl Stats for MemoryStats {
    async fn add(&self, key: &str, delta: i64, life: Option<Span>) -> Ending<i64> {
        let (mut table, now) = self.table();
        ending(table.add(key, delta, life, now))
    }

    async fn values(&self, keys: &[&str]) -> Ending<Vec<Option<Bytes>>> {
        let (table, _) = self.table();
        ending(keys.iter().map(|key| table.value(key)).collect())
    }

    async fn set(&self, key: &str, value: Bytes, life: Option<Span>) -> Ending<()> {
        let (mut table, now) = self.table();
        table.set(key, value, life, now);
        Ending::Applied(())
    }

    async fn set_if_absent(&self, key: &str, value: Bytes, life: Option<Span>) -> Ending<bool> {
        let (mut table, now) = self.table();
        let absent = table.entry(key).is_none();
        if absent {
            table.set(key, value, life, now);
        }
        Ending::Applied(absent)
    }

    async fn delete(&self, key: &str) -> Ending<bool> {
        Ending::Applied(self.table().0.delete(key))
    }

    async fn sorted_add(&self, key: &str, entry: Scored, life: Option<Span>) -> Ending<()> {
        let (mut table, now) = self.table();
        ending(table.sorted_add(key, entry, life, now))
    }

    async fn sorted_range(&self, key: &str, range: ScoreRange) -> Ending<Vec<Scored>> {
        ending(self.table().0.sorted_range(key, range))
    }

    async fn sorted_score(&self, key: &str, member: &str) -> Ending<Option<i64>> {
        ending(self.table().0.sorted_score(key, member))
    }

    async fn sorted_count(&self, key: &str) -> Ending<u64> {
        ending(self.table().0.sorted_count(key))
    }

    async fn sorted_remove(&self, key: &str, member: &str) -> Ending<bool> {
        ending(self.table().0.sorted_remove(key, member))
    }

    async fn publish(&self, channel: &str, message: Bytes) -> Ending<()> {
        self.0.channels.publish(channel, message);
        Ending::Applied(())
    }

    async fn subscribe(&self, channel: &str) -> Ending<Subscription> {
        Ending::Applied(self.0.channels.subscribe(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::conformance::{StatsHarness, TestClock};

    struct Memory(TestClock, MemoryStats);

    impl Memory {
        fn new() -> Self {
            let clock = TestClock::default();
            let stats = MemoryStats::new(clock.clock());
            Self(clock, stats)
        }
    }

    impl StatsHarness for Memory {
        type Stats = MemoryStats;

        fn stats(&self) -> &MemoryStats {
            &self.1
        }

        async fn pass(&self, span: Span) {
            self.0.pass(span);
        }
    }

    crate::stats_conformance!(memory, Memory::new());
}
