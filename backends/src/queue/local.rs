//! The queue of one process: groups, delivery and pauses over any [`Log`].
//!
//! The memory adapter and the embedded adapter differ only in the log below. Everything a consumer can observe of
//! assignment, order, pause and fencing is here.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Epoch, Offset, Partition, Topic};
use backbeat_core::time::WallTime;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::group::{GroupState, MemberId, Notice};
use super::partitioner::partition_of;
use super::{
    Consumer, ConsumerEvent, Group, MESSAGE_BYTES_MAX, Message, Positions, Producer, Queue, QueueError,
    Record, Retention, Slot, TopicSpec, count_topic, is_topic_name,
};
use crate::clock::WallClock;

/// How long a rebalance waits for an owner to drain, unless configured otherwise.
pub const DRAIN_LIMIT_DEFAULT: Duration = Duration::from_secs(30);

/// Messages read from the log at once, at most.
const FETCH_MESSAGES: usize = 64;

/// A message as a log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its position.
    pub offset: Offset,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its payload.
    pub payload: Option<Bytes>,
    /// When it was published.
    pub timestamp: WallTime,
}

/// Partitions with messages in them, and what groups committed: the storage below a [`LocalQueue`].
///
/// `append` and `commit` take their place when they are called; what their futures report is durable by then. A message
/// is visible to `bounds` and `fetch` only once it is durable, and in order. Offsets of a partition never restart.
pub trait Log: Send + Sync + 'static {
    /// Told whenever something new became visible.
    fn changes(&self) -> &watch::Sender<u64>;
    /// Makes a topic.
    fn create(&self, spec: &TopicSpec) -> impl Future<Output = Ending<()>> + Send;
    /// What a topic is, if it exists.
    fn spec(&self, topic: &Topic) -> Option<TopicSpec>;
    /// Remembers that a group reads these topics, so that they keep what it has not committed.
    fn register(&self, group: &Group, topics: &[Topic]) -> impl Future<Output = Ending<()>> + Send;
    /// Adds a message to a partition that exists.
    fn append(
        &self,
        slot: Slot,
        key: Option<Bytes>,
        payload: Option<Bytes>,
        timestamp: WallTime,
    ) -> impl Future<Output = Ending<Offset>> + Send + 'static + use<Self>;
    /// The oldest offset there is, and the one after the newest.
    fn bounds(&self, slot: &Slot) -> (Offset, Offset);
    /// Up to `limit` messages from `from` on, in order; bounded in bytes too, but never empty if there is one.
    fn fetch(
        &self,
        slot: &Slot,
        from: Offset,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Stored>, QueueError>> + Send;
    /// Records what a group has done.
    fn commit(
        &self,
        group: &Group,
        slot: &Slot,
        upto: Offset,
    ) -> impl Future<Output = Ending<()>> + Send + 'static + use<Self>;
    /// What a group has committed.
    fn committed(&self, group: &Group, slot: &Slot) -> Option<Offset>;
    /// The newest payload of each key of a partition of a compacted topic.
    fn compacted(&self, slot: &Slot) -> impl Future<Output = Ending<Vec<(Bytes, Bytes)>>> + Send;
}

struct Shared<L> {
    log: L,
    clock: WallClock,
    drain_limit: Duration,
    groups: Mutex<BTreeMap<Group, GroupState>>,
    members: AtomicU64,
    turn: AtomicU32,
}

impl<L: Log> Shared<L> {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<Group, GroupState>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.log.changes().send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A queue of one process over the log `L`.
pub struct LocalQueue<L>(Arc<Shared<L>>);

impl<L> Clone for LocalQueue<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Log> LocalQueue<L> {
    /// A queue over `log` that stamps messages by `clock` and waits `drain_limit` for owners when it rebalances.
    pub fn over(log: L, clock: WallClock, drain_limit: Duration) -> Self {
        Self(Arc::new(Shared {
            log,
            clock,
            drain_limit,
            groups: Mutex::new(BTreeMap::new()),
            members: AtomicU64::new(0),
            turn: AtomicU32::new(0),
        }))
    }
}

impl<L: Log> Queue for LocalQueue<L> {
    type Producer = LocalProducer<L>;
    type Consumer = LocalConsumer<L>;

    async fn create_topic(&self, spec: &TopicSpec) -> Ending<()> {
        if spec.partitions == 0 {
            return Ending::Refused(Refusal::new(RefusalKind::Invalid, "NoPartitions"));
        }
        if !is_topic_name(spec.topic.as_str()) {
            return Ending::Refused(Refusal::new(RefusalKind::Invalid, "InvalidTopicName"));
        }
        if let Some(existing) = self.0.log.spec(&spec.topic) {
            let compacted = |spec: &TopicSpec| spec.retention == Retention::LatestPerKey;
            if existing.partitions != spec.partitions || compacted(&existing) != compacted(spec) {
                return Ending::Refused(Refusal::new(RefusalKind::Conflict, "TopicExists"));
            }
        }
        self.0.log.create(spec).await
    }

    async fn partitions(&self, topic: &Topic) -> Ending<u32> {
        match self.0.log.spec(topic) {
            Some(spec) => Ending::Applied(spec.partitions),
            None => Ending::Refused(unknown_topic()),
        }
    }

    fn producer(&self) -> LocalProducer<L> {
        LocalProducer(Arc::clone(&self.0))
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<LocalConsumer<L>, QueueError> {
        let mut counted: Vec<(Topic, u32)> = Vec::new();
        for topic in topics {
            let spec = self.0.log.spec(topic).ok_or_else(|| QueueError::UnknownTopic(topic.clone()))?;
            if spec.retention == Retention::LatestPerKey {
                return Err(QueueError::Compacted(topic.clone()));
            }
            count_topic(&mut counted, topic, spec.partitions)?;
        }
        match self.0.log.register(group, topics).await {
            Ending::Applied(()) => {}
            Ending::Refused(refusal) => return Err(QueueError::Storage(refusal.code)),
            Ending::Unknown => {
                return Err(QueueError::Storage("the subscription could not be recorded".to_owned()));
            }
        }
        let member = MemberId(self.0.members.fetch_add(1, Ordering::Relaxed));
        self.0.groups().entry(group.clone()).or_insert_with(|| GroupState::new(self.0.drain_limit)).join(
            member,
            counted,
            Instant::now(),
        );
        self.0.changed();
        Ok(LocalConsumer {
            shared: Arc::clone(&self.0),
            group: group.clone(),
            member,
            reading: Mutex::new(Reading::default()),
        })
    }

    async fn positions(&self, group: &Group, slot: &Slot) -> Ending<Positions> {
        if self.0.log.spec(&slot.topic).is_none_or(|spec| slot.partition.0 >= spec.partitions) {
            return Ending::Refused(unknown_topic());
        }
        let (begin, end) = self.0.log.bounds(slot);
        Ending::Applied(Positions { begin, end, committed: self.0.log.committed(group, slot) })
    }

    async fn read_compacted(&self, slot: &Slot) -> Ending<Vec<(Bytes, Bytes)>> {
        match self.0.log.spec(&slot.topic) {
            None => Ending::Refused(unknown_topic()),
            Some(spec)
                if spec.retention != Retention::LatestPerKey || slot.partition.0 >= spec.partitions =>
            {
                Ending::Refused(Refusal::new(RefusalKind::Invalid, "NotCompacted"))
            }
            Some(_) => self.0.log.compacted(slot).await,
        }
    }
}

fn unknown_topic() -> Refusal {
    Refusal::new(RefusalKind::NotFound, "UnknownTopicOrPartition")
}

/// The producer of a [`LocalQueue`].
pub struct LocalProducer<L>(Arc<Shared<L>>);

impl<L: Log> LocalProducer<L> {
    fn partition(&self, topic: &Topic, record: &Record) -> Result<Partition, Refusal> {
        let spec = self.0.log.spec(topic).ok_or_else(unknown_topic)?;
        if record.bytes() > MESSAGE_BYTES_MAX {
            return Err(Refusal::new(RefusalKind::TooLarge, "MessageTooLarge"));
        }
        if spec.retention == Retention::LatestPerKey && record.key.is_none() {
            return Err(Refusal::new(RefusalKind::Invalid, "KeyRequired"));
        }
        match (record.partition, &record.key) {
            (Some(partition), _) if partition.0 < spec.partitions => Ok(partition),
            (Some(_), _) => Err(Refusal::new(RefusalKind::Invalid, "UnknownPartition")),
            (None, Some(key)) => Ok(partition_of(key, spec.partitions)),
            (None, None) => Ok(Partition(self.0.turn.fetch_add(1, Ordering::Relaxed) % spec.partitions)),
        }
    }
}

impl<L: Log> Producer for LocalProducer<L> {
    fn publish(
        &self,
        topic: &Topic,
        record: Record,
    ) -> impl Future<Output = Ending<(Partition, Offset)>> + Send + 'static + use<L> {
        let placed = self.partition(topic, &record).map(|partition| {
            let slot = Slot::new(topic, partition);
            (partition, self.0.log.append(slot, record.key, record.payload, self.0.clock.now()))
        });
        async move {
            match placed {
                Ok((partition, append)) => append.await.map(|offset| (partition, offset)),
                Err(refusal) => Ending::Refused(refusal),
            }
        }
    }
}

/// One partition as its owner reads it.
struct Lane {
    slot: Slot,
    fetch_from: Offset,
    buffer: VecDeque<Stored>,
    paused: bool,
}

#[derive(Default)]
struct Reading {
    lanes: Vec<Lane>,
    turn: usize,
}

impl Reading {
    fn assign(&mut self, partitions: &[(Slot, Offset)]) {
        self.lanes = partitions
            .iter()
            .map(|(slot, start)| Lane {
                slot: slot.clone(),
                fetch_from: *start,
                buffer: VecDeque::new(),
                paused: false,
            })
            .collect();
        self.turn = 0;
    }

    fn set_paused(&mut self, slots: &[Slot], paused: bool) {
        for lane in self.lanes.iter_mut().filter(|lane| slots.contains(&lane.slot)) {
            lane.paused = paused;
        }
    }
}

/// What the consumer does next.
enum Step {
    Tell(ConsumerEvent),
    Fetch { slot: Slot, from: Offset, end: Offset },
    Wait(Option<Instant>),
}

/// The consumer of a [`LocalQueue`].
pub struct LocalConsumer<L: Log> {
    shared: Arc<Shared<L>>,
    group: Group,
    member: MemberId,
    reading: Mutex<Reading>,
}

impl<L: Log> LocalConsumer<L> {
    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Result<Step, QueueError> {
        let now = Instant::now();
        let mut groups = self.shared.groups();
        let group =
            groups.get_mut(&self.group).filter(|group| group.has(self.member)).ok_or(QueueError::Left)?;
        if group.expire(now) {
            self.shared.changed();
        }
        if let Some(notice) = group.take_notice(self.member, now) {
            self.shared.changed();
            return Ok(Step::Tell(self.tell(notice)));
        }
        let deadline = group.deadline();
        let Some(epoch) = group.delivering(self.member) else { return Ok(Step::Wait(deadline)) };
        Ok(self.read(epoch).unwrap_or(Step::Wait(deadline)))
    }

    fn tell(&self, notice: Notice) -> ConsumerEvent {
        let mut reading = self.reading();
        match notice {
            Notice::Assigned { epoch, slots } => {
                let start = |slot: Slot| {
                    let (begin, _) = self.shared.log.bounds(&slot);
                    let offset = self.shared.log.committed(&self.group, &slot).unwrap_or(begin).max(begin);
                    (slot, offset)
                };
                let partitions: Vec<(Slot, Offset)> = slots.into_iter().map(start).collect();
                reading.assign(&partitions);
                ConsumerEvent::Assigned { epoch, partitions }
            }
            Notice::Revoked { epoch, slots } => {
                reading.assign(&[]);
                ConsumerEvent::Revoked { epoch, partitions: slots }
            }
            Notice::Lost { epoch, slots } => {
                reading.assign(&[]);
                ConsumerEvent::Lost { epoch, partitions: slots }
            }
        }
    }

    fn read(&self, epoch: Epoch) -> Option<Step> {
        let mut reading = self.reading();
        let (turn, count) = (reading.turn, reading.lanes.len());
        for index in (0..count).map(|step| (turn + step) % count) {
            let lane = &mut reading.lanes[index];
            if lane.paused {
                continue;
            }
            if let Some(Stored { offset, key, payload, timestamp }) = lane.buffer.pop_front() {
                let message = Message { epoch, slot: lane.slot.clone(), offset, key, payload, timestamp };
                reading.turn = index + 1;
                return Some(Step::Tell(ConsumerEvent::Message(message)));
            }
            let (_, end) = self.shared.log.bounds(&lane.slot);
            if lane.fetch_from < end {
                return Some(Step::Fetch { slot: lane.slot.clone(), from: lane.fetch_from, end });
            }
        }
        None
    }

    /// Takes in what was fetched, unless the lane has changed hands meanwhile.
    fn keep(&self, slot: &Slot, from: Offset, end: Offset, fetched: Vec<Stored>) {
        let mut reading = self.reading();
        let lane = reading.lanes.iter_mut().find(|lane| lane.slot == *slot && lane.fetch_from == from);
        if let Some(lane) = lane.filter(|lane| lane.buffer.is_empty()) {
            lane.fetch_from = fetched.last().map_or(end, |last| last.offset.next());
            lane.buffer.extend(fetched);
        }
    }
}

impl<L: Log> Consumer for LocalConsumer<L> {
    async fn next(&self) -> Result<ConsumerEvent, QueueError> {
        loop {
            // Subscribed before looking, so that no change falls between the look and the wait.
            let mut changes = self.shared.log.changes().subscribe();
            match self.step()? {
                Step::Tell(event) => return Ok(event),
                Step::Fetch { slot, from, end } => {
                    let fetched = self.shared.log.fetch(&slot, from, FETCH_MESSAGES).await?;
                    self.keep(&slot, from, end, fetched);
                }
                Step::Wait(deadline) => {
                    let expired = async {
                        match deadline {
                            Some(deadline) => tokio::time::sleep_until(deadline).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        changed = changes.changed() => changed.expect("the log outlives its consumers"),
                        () = expired => {}
                    }
                }
            }
        }
    }

    async fn commit(&self, epoch: Epoch, slot: &Slot, upto: Offset) -> Ending<()> {
        let commit = {
            let groups = self.shared.groups();
            let allowed =
                groups.get(&self.group).is_some_and(|group| group.may_commit(self.member, epoch, slot));
            if !allowed {
                return Ending::Refused(Refusal::new(RefusalKind::Fenced, "IllegalGeneration"));
            }
            // Placed under the lock: no commit of an old owner comes after one of its successor.
            self.shared.log.commit(&self.group, slot, upto)
        };
        commit.await
    }

    fn release(&self, epoch: Epoch) {
        if let Some(group) = self.shared.groups().get_mut(&self.group) {
            group.release(self.member, epoch);
        }
        self.shared.changed();
    }

    fn pause(&self, slots: &[Slot]) {
        self.reading().set_paused(slots, true);
    }

    fn resume(&self, slots: &[Slot]) {
        self.reading().set_paused(slots, false);
        self.shared.changed();
    }

    async fn leave(&self) {
        self.depart();
    }
}

impl<L: Log> LocalConsumer<L> {
    fn depart(&self) {
        let now = Instant::now();
        let left =
            self.shared.groups().get_mut(&self.group).is_some_and(|group| group.leave(self.member, now));
        if left {
            self.reading().assign(&[]);
            self.shared.changed();
        }
    }
}

impl<L: Log> Drop for LocalConsumer<L> {
    fn drop(&mut self) {
        self.depart();
    }
}
