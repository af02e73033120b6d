//! The queue on the embedded store: durable, crash safe, for the daemons of one process.
//!
//! Everything that is written goes through one line: calls take their place in it when they are made, and a task takes
//! as many as there are into one write of the store. What consumers may see is what such a write has made durable.

mod rows;
mod state;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backbeat_core::call::Ending;
use backbeat_core::id::{Offset, Topic};
use backbeat_core::time::WallTime;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::rows::{Change, Message};
use self::state::State;
use super::local::{DRAIN_LIMIT_DEFAULT, LocalQueue, Log, Stored};
use super::{Group, QueueError, Slot, TopicSpec};
use crate::clock::WallClock;
use crate::embedded::{KeyRange, Read, Store, StoreError};

/// Time between the beginnings of two writes while there are always callers, at least. As Kafka's clients linger: under load
/// a write serves many, and who calls a queue at rest does not wait.
const PACE: Duration = Duration::from_millis(5);
/// Calls that share one write, at most.
const BATCH_CALLS: usize = 512;
/// Bytes of messages that share one write, about.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of messages fetched at once, about.
const FETCH_BYTES: usize = 1 << 20;
/// Messages read before their bytes are counted.
const FETCH_STEP: usize = 4;

/// A queue on the embedded store.
pub type EmbeddedQueue = LocalQueue<EmbeddedLog>;

impl EmbeddedQueue {
    /// The queue of a store.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: Store, clock: WallClock) -> Result<Self, StoreError> {
        Self::open_with_drain_limit(store, clock, DRAIN_LIMIT_DEFAULT)
    }

    /// The queue of a store; it waits `drain_limit` for the owners of revoked partitions.
    ///
    /// # Errors
    /// The store's.
    pub fn open_with_drain_limit(
        store: Store,
        clock: WallClock,
        drain_limit: Duration,
    ) -> Result<Self, StoreError> {
        Ok(Self::over(EmbeddedLog::open(store)?, clock, drain_limit))
    }
}

/// The log of an [`EmbeddedQueue`].
#[derive(Debug)]
pub struct EmbeddedLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// What is durable.
    state: Mutex<State>,
    line: Mutex<Line>,
    changes: watch::Sender<u64>,
}

/// Calls that wait to be written.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Call>,
    is_moving: bool,
    /// A write ended without our learning how: what is durable has to be read again before the next one.
    is_stale: bool,
}

#[derive(Debug)]
enum Call {
    Append { slot: Slot, message: Message, reply: oneshot::Sender<Ending<Offset>> },
    Commit { group: Group, slot: Slot, upto: Offset, reply: oneshot::Sender<Ending<()>> },
    Create { spec: TopicSpec, reply: oneshot::Sender<Ending<()>> },
    Register { group: Group, topics: Vec<Topic>, reply: oneshot::Sender<Ending<()>> },
}

impl Call {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { message, .. } => message.bytes(),
            Self::Commit { .. } | Self::Create { .. } | Self::Register { .. } => 0,
        }
    }

    /// Carries it out on the state, notes what has to be written, and says what to answer then.
    fn plan(self, state: &mut State, changes: &mut Vec<Change>) -> Answer {
        match self {
            Self::Append { slot, message, reply } => {
                Answer::Offset(reply, state.append(&slot, &message, changes))
            }
            Self::Commit { group, slot, upto, reply } => {
                state.commit(group, &slot, upto, changes);
                Answer::Done(reply)
            }
            Self::Create { spec, reply } => {
                state.create(spec, changes);
                Answer::Done(reply)
            }
            Self::Register { group, topics, reply } => {
                state.register(&group, &topics, changes);
                Answer::Done(reply)
            }
        }
    }

    /// Answers that nothing was written.
    fn refuse(self, error: StoreError) {
        match self {
            Self::Append { reply, .. } => Answer::Offset(reply, Offset(0)),
            Self::Commit { reply, .. } | Self::Create { reply, .. } | Self::Register { reply, .. } => {
                Answer::Done(reply)
            }
        }
        .give(Err(error));
    }
}

/// Who to tell what, once the write has ended. Callers that stopped waiting are not told.
enum Answer {
    Offset(oneshot::Sender<Ending<Offset>>, Offset),
    Done(oneshot::Sender<Ending<()>>),
}

impl Answer {
    fn give(self, written: Result<(), StoreError>) {
        let ending = written.map_or_else(StoreError::into_ending, Ending::Applied);
        match self {
            Self::Offset(reply, offset) => drop(reply.send(ending.map(|()| offset))),
            Self::Done(reply) => drop(reply.send(ending)),
        }
    }
}

impl EmbeddedLog {
    fn open(store: Store) -> Result<Self, StoreError> {
        let state = Mutex::new(store.read(|txn| State::load(txn, store.file()))?);
        Ok(Self(Arc::new(Inner { store, state, line: Mutex::default(), changes: watch::Sender::default() })))
    }

    /// Takes a place in the line. Must be called inside a tokio runtime.
    fn enqueue<T: Send + 'static, C: FnOnce(oneshot::Sender<Ending<T>>) -> Call>(
        &self,
        call: C,
    ) -> impl Future<Output = Ending<T>> + Send + 'static + use<T, C> {
        let (reply, answer) = oneshot::channel();
        let mut line = self.0.line();
        line.waiting.push_back(call(reply));
        if !line.is_moving {
            line.is_moving = true;
            tokio::spawn(Mover { inner: Arc::clone(&self.0), has_ended: false }.run());
        }
        drop(line);
        // Without an answer the mover was stopped in the middle: the write may be there.
        async move { answer.await.unwrap_or(Ending::Unknown) }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that moves the line while there is one.
struct Mover {
    inner: Arc<Inner>,
    has_ended: bool,
}

impl Drop for Mover {
    /// Stopped in the middle, by the end of its runtime: whoever calls next starts another one.
    fn drop(&mut self) {
        if !self.has_ended {
            self.inner.line().is_moving = false;
        }
    }
}

impl Mover {
    async fn run(mut self) {
        while let Some((batch, is_stale)) = self.take() {
            let next = Instant::now() + PACE;
            self.write(batch, is_stale).await;
            if !self.inner.line().waiting.is_empty() {
                tokio::time::sleep_until(next).await;
            }
        }
    }

    fn take(&mut self) -> Option<(Vec<Call>, bool)> {
        let mut line = self.inner.line();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_CALLS
            && bytes < BATCH_BYTES
            && let Some(call) = line.waiting.pop_front()
        {
            bytes += call.bytes();
            batch.push(call);
        }
        if batch.is_empty() {
            // Under the lock, so that the next caller knows to start another one.
            line.is_moving = false;
            self.has_ended = true;
            return None;
        }
        // Until this write has ended, whatever happens to this task.
        Some((batch, std::mem::replace(&mut line.is_stale, true)))
    }

    async fn write(&self, batch: Vec<Call>, is_stale: bool) {
        let inner = &self.inner;
        if is_stale {
            // Inside a write, because that is what opens the database again after a disk error.
            let file = inner.store.file().to_owned();
            match inner.store.write(move |txn| State::load(txn, &file)).await {
                Ok(loaded) => *inner.state() = loaded,
                Err(error) => return batch.into_iter().for_each(|call| call.refuse(error.clone())),
            }
        }
        let mut next = inner.state().clone();
        let mut changes = Vec::new();
        let answers: Vec<Answer> = batch.into_iter().map(|call| call.plan(&mut next, &mut changes)).collect();
        let written = inner
            .store
            .write(move |txn| {
                for Change { table, key, value } in changes {
                    match value {
                        Some(value) => txn.put(table, key, value),
                        None => txn.delete(table, key),
                    }
                }
                Ok::<_, StoreError>(())
            })
            .await;
        if written.is_ok() {
            *inner.state() = next;
        }
        inner.line().is_stale = written.as_ref().is_err_and(|error| !error.is_definite());
        inner.changes.send_modify(|count| *count = count.wrapping_add(1));
        for answer in answers {
            answer.give(written.clone());
        }
    }
}

impl Log for EmbeddedLog {
    fn changes(&self) -> &watch::Sender<u64> {
        &self.0.changes
    }

    async fn create(&self, spec: &TopicSpec) -> Ending<()> {
        if self.spec(&spec.topic).as_ref() == Some(spec) {
            return Ending::Applied(());
        }
        self.enqueue(|reply| Call::Create { spec: spec.clone(), reply }).await
    }

    fn spec(&self, topic: &Topic) -> Option<TopicSpec> {
        self.0.state().spec(topic).cloned()
    }

    async fn register(&self, group: &Group, topics: &[Topic]) -> Ending<()> {
        self.enqueue(|reply| Call::Register { group: group.clone(), topics: topics.to_vec(), reply }).await
    }

    fn append(
        &self,
        slot: Slot,
        key: Option<Bytes>,
        payload: Option<Bytes>,
        timestamp: WallTime,
    ) -> impl Future<Output = Ending<Offset>> + Send + 'static + use<> {
        let message = Message { key, payload, timestamp };
        self.enqueue(|reply| Call::Append { slot, message, reply })
    }

    fn bounds(&self, slot: &Slot) -> (Offset, Offset) {
        self.0.state().bounds(slot).unwrap_or_default()
    }

    async fn fetch(&self, slot: &Slot, from: Offset, limit: usize) -> Result<Vec<Stored>, QueueError> {
        let storage = |error: StoreError| QueueError::Storage(error.to_string());
        let (_, end) = self.bounds(slot);
        let mut found: Vec<Stored> = Vec::new();
        let mut bytes = 0;
        while found.len() < limit && bytes < FETCH_BYTES {
            let next = found.last().map_or(from, |last| last.offset.next());
            let range = KeyRange::between(&rows::offset_key(slot, next), &rows::offset_key(slot, end));
            let step = FETCH_STEP.min(limit - found.len());
            let read = self.0.store.read(|txn| txn.range(rows::MESSAGES, &range, step)).map_err(storage)?;
            let is_last = read.len() < step;
            for (key, row) in read {
                bytes += row.len();
                let message = rows::decode_message(&key, row).ok_or_else(|| {
                    let file = self.0.store.file().display();
                    QueueError::Storage(format!("message {} in {file} cannot be read", key.escape_ascii()))
                })?;
                found.push(message);
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    fn commit(
        &self,
        group: &Group,
        slot: &Slot,
        upto: Offset,
    ) -> impl Future<Output = Ending<()>> + Send + 'static + use<> {
        let (group, slot) = (group.clone(), slot.clone());
        self.enqueue(move |reply| Call::Commit { group, slot, upto, reply })
    }

    fn committed(&self, group: &Group, slot: &Slot) -> Option<Offset> {
        self.0.state().committed(group, slot)
    }

    async fn compacted(&self, slot: &Slot) -> Ending<Vec<(Bytes, Bytes)>> {
        let prefix = rows::slot_key(slot);
        let range = KeyRange::prefix(&prefix);
        let read = self.0.store.read::<_, StoreError>(|txn| txn.range(rows::LATEST, &range, usize::MAX));
        let table = |found: Vec<(Vec<u8>, Vec<u8>)>| {
            found
                .into_iter()
                .map(|(key, row)| (Bytes::from(key).slice(prefix.len()..), Bytes::from(row)))
                .collect()
        };
        read.map_or_else(StoreError::into_ending, |found| Ending::Applied(table(found)))
    }
}

#[cfg(test)]
mod tests;
