//! A journal in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backbeat_core::call::Ending;
use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::model::LogRecord;
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use tokio::sync::watch;

use super::Journal;

/// A journal in memory; clones share it. Its first record is number 1.
#[derive(Clone, Debug)]
pub struct MemoryJournal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    epoch: JournalEpoch,
    oldest: Seq,
    records: VecDeque<Arc<LogRecord>>,
}

impl State {
    fn end(&self) -> Seq {
        Seq(self.oldest.0 + self.records.len() as u64)
    }

    fn batch(&self, from: Seq, limit: usize) -> Batch {
        let skip = from.0.checked_sub(self.oldest.0).and_then(|skip| usize::try_from(skip).ok());
        let kept = self.records.iter().skip(skip.unwrap_or(usize::MAX)).take(limit);
        let records: Vec<(Seq, Arc<LogRecord>)> = (from.0..).map(Seq).zip(kept.cloned()).collect();
        let next = records.last().map_or(from, |(seq, _)| seq.next());
        Batch { records, next, end: self.end(), epoch: self.epoch, oldest: self.oldest }
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new(JournalEpoch(1))
    }
}

impl MemoryJournal {
    /// An empty journal with this identity.
    pub fn new(epoch: JournalEpoch) -> Self {
        let state = State { epoch, oldest: Seq(1), records: VecDeque::new() };
        Self(Arc::new(Inner { state: Mutex::new(state), changes: watch::Sender::default() }))
    }

    /// Adds a record, and gives its number.
    pub fn append(&self, record: LogRecord) -> Seq {
        let mut state = self.state();
        let seq = state.end();
        state.records.push_back(Arc::new(record));
        drop(state);
        self.changed();
        seq
    }

    /// Forgets everything before `oldest`.
    pub fn truncate(&self, oldest: Seq) {
        let mut state = self.state();
        while state.oldest < oldest && state.records.pop_front().is_some() {
            state.oldest = state.oldest.next();
        }
        drop(state);
        self.changed();
    }

    /// Begins another life: empty, with another identity.
    pub fn replace(&self, epoch: JournalEpoch) {
        *self.state() = State { epoch, oldest: Seq(1), records: VecDeque::new() };
        self.changed();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Journal for MemoryJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        let deadline = tokio::time::Instant::now() + Duration::from_micros(wait.as_micros());
        loop {
            let mut changes = self.0.changes.subscribe();
            let batch = {
                let state = self.state();
                state.batch(from.unwrap_or(state.end()), if from.is_some() { limit } else { 0 })
            };
            // Waits only where there is nothing to say: at the very end.
            if from != Some(batch.end) {
                return Ending::Applied(batch);
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(changed) => changed.expect("the journal is there"),
                Err(_) => return Ending::Applied(batch),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::conformance::{JournalHarness, ReplacedJournalHarness};

    impl JournalHarness for MemoryJournal {
        type Journal = Self;

        fn journal(&self) -> &Self {
            self
        }

        async fn append(&self, record: LogRecord) {
            Self::append(self, record);
        }

        async fn truncate(&self, oldest: Seq) {
            Self::truncate(self, oldest);
        }
    }

    impl ReplacedJournalHarness for MemoryJournal {
        type Journal = Self;

        async fn before(&self, record: LogRecord) -> &Self {
            Self::append(self, record);
            self
        }

        async fn after(&self) -> &Self {
            Self::replace(self, JournalEpoch(2));
            self
        }
    }

    crate::journal_conformance!(memory, MemoryJournal::default());
    crate::replaced_journal_conformance!(memory_replaced, MemoryJournal::default());
}
