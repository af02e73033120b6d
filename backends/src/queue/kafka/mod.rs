//! The queue in Kafka, through librdkafka (decisions D5 to D7).
//!
//! What differs from the queues of one process, and follows from what Kafka is: a topic keeps messages for a time, not
//! until they are consumed (what was deleted before it was read is named, [`ConsumerEvent::Gone`]); members join and
//! partitions change hands while others work, so that messages may come between a join elsewhere and the revocation
//! here; and [`Retention::Newest`] is the cluster's own retention.
//!
//! Nothing here blocks a thread of the runtime: clients are asked on threads for that, polled on threads of their own,
//! and ended on others. Making a client, which [`Queue::producer`] does, starts threads and asks nobody.

mod commits;
mod config;
mod consumer;
mod context;
mod member;
mod outcome;
mod producer;
mod reading;
mod reaper;
mod security;
mod start;
mod table;
mod taking;
mod topics;

pub use config::KafkaConfig;
pub use consumer::KafkaConsumer;
pub(crate) use context::Asking;
pub(crate) use outcome::question_ended;
use outcome::write_ended;
pub use producer::KafkaProducer;
pub(crate) use reaper::bury;
pub use security::{KafkaSecurity, KafkaUser, SaslMechanism};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Epoch, Offset, Topic};
use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset as Place;
use tokio::time::timeout;

use self::member::Subscription;
use self::producer::PartitionCounts;
use self::topics::{Topics, Wanted, unknown};
#[cfg(doc)]
use super::{ConsumerEvent, Retention};
use super::{Group, Positions, Queue, QueueError, Slot, TopicSpec};

/// How long a broker is waited for before it is looked what went wrong.
const REACH_WAIT: Duration = Duration::from_millis(200);

/// A queue in Kafka. Clones share their clients.
#[derive(Clone)]
pub struct KafkaQueue {
    shared: Arc<Shared>,
    /// How long messages of its producers wait for others to go with them.
    linger: Duration,
}

struct Shared {
    config: KafkaConfig,
    /// Taken out when the queue is dropped.
    asking: Option<Arc<Asked>>,
    counts: Arc<PartitionCounts>,
}

/// What is asked on threads that may block.
struct Asked {
    config: KafkaConfig,
    topics: Topics,
    readers: Mutex<BTreeMap<Group, Arc<BaseConsumer<Asking>>>>,
}

impl KafkaQueue {
    /// A queue in the cluster of `config`.
    ///
    /// # Errors
    /// If a setting cannot be used, or no broker answers.
    pub async fn open(config: KafkaConfig) -> Result<Self, QueueError> {
        config.check()?;
        let for_clients = config.clone();
        let open = move || -> Result<Asked, QueueError> {
            let config = for_clients;
            let failed = |error| QueueError::Storage(format!("kafka at {}: {error}", config.hosts));
            let asking: BaseConsumer<Asking> =
                config.asking().create_with_context(Asking::default()).map_err(failed)?;
            reach(&config, &asking)?;
            let admin = config.asking().create_with_context(Asking::default()).map_err(failed)?;
            let topics = Topics { admin, asking, answer_time_max: config.answer_time_max };
            Ok(Asked { config, topics, readers: Mutex::default() })
        };
        let asked = blocking(open).await?;
        let shared = Shared { config, asking: Some(Arc::new(asked)), counts: Arc::default() };
        Ok(Self { shared: Arc::new(shared), linger: Duration::ZERO })
    }

    /// The same queue for somebody who publishes in bulk: messages of its producers wait so long for others to go with them.
    #[must_use]
    pub fn lingering(&self, linger: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), linger }
    }

    /// Commits for a group that has no members now, so that whoever joins it goes on at `upto`. `Refused(Fenced)` if it has
    /// members: the place is theirs. Not for groups that this process is a member of.
    pub async fn commit_for(&self, group: &Group, slot: &Slot, upto: Offset) -> Ending<()> {
        let (group, name, slot) = (group.clone(), self.name(&slot.topic), slot.clone());
        let committing = self.ask(move |asked| asked.commit_for(&group, &name, &slot, upto));
        // The client takes longer to give up, if no broker answers.
        timeout(self.shared.config.answer_time_max, committing).await.unwrap_or(Ending::Unknown)
    }

    fn name(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.shared.config.topic_prefix)
    }

    /// Asks on a thread that may block.
    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Asked) -> T + Send + 'static) -> T {
        let asked = self.shared.asking.clone().expect("only a drop takes it");
        let ask = move || {
            // What the client says by itself comes into the log only if somebody listens.
            listen(&asked.topics.asking);
            question(&asked)
        };
        blocking(ask).await
    }

    /// Looks at a topic, and remembers how many partitions it has.
    async fn look(&self, topic: &Topic) -> Result<topics::Described, Refusal> {
        let name = self.name(topic);
        if !super::is_topic_name(&name) {
            return Err(unknown(&name));
        }
        let described = {
            let name = name.clone();
            self.ask(move |asked| asked.topics.describe(&name)).await?
        };
        Ok(described)
    }
}

impl Queue for KafkaQueue {
    type Producer = KafkaProducer;
    type Consumer = KafkaConsumer;

    async fn create_topic(&self, spec: &TopicSpec) -> Ending<()> {
        let (name, spec) = (self.name(&spec.topic), spec.clone());
        let (wanted_name, partitions) = (name.clone(), spec.partitions);
        let ending = self
            .ask(move |asked| {
                // Without its prefix it is no name either.
                let has_name = !spec.topic.as_str().is_empty() && !matches!(spec.topic.as_str(), "." | "..");
                let name = if has_name { wanted_name.as_str() } else { "" };
                let wanted = Wanted { name, partitions: spec.partitions, retention: spec.retention };
                asked.topics.ensure(&asked.config, &wanted)
            })
            .await;
        if matches!(ending, Ending::Applied(())) {
            self.shared.counts.expect(&name, partitions);
        }
        ending
    }

    async fn partitions(&self, topic: &Topic) -> Ending<u32> {
        match self.look(topic).await {
            Ok(described) => Ending::Applied(described.partitions),
            Err(refusal) => Ending::Refused(refusal),
        }
    }

    fn producer(&self) -> KafkaProducer {
        KafkaProducer::new(&self.shared.config, self.linger, &self.shared.counts)
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<KafkaConsumer, QueueError> {
        let mut counted: Vec<(Topic, u32)> = Vec::new();
        for topic in topics {
            let described = self.look(topic).await.map_err(|refusal| {
                if refusal.kind == RefusalKind::NotFound {
                    QueueError::UnknownTopic(topic.clone())
                } else {
                    QueueError::Storage(refusal.code)
                }
            })?;
            if described.is_compacted {
                return Err(QueueError::Compacted(topic.clone()));
            }
            super::count_topic(&mut counted, topic, described.partitions)?;
        }
        let partitions = counted.first().map_or(0, |(_, partitions)| *partitions);
        let subscription = Subscription {
            client: self.shared.config.consuming(group.as_str(), partitions),
            topics: counted.iter().map(|(topic, _)| (self.name(topic), topic.clone())).collect(),
            partitions,
            drain_time_max: self.shared.config.drain_time_max,
            answer_time_max: self.shared.config.answer_time_max,
        };
        KafkaConsumer::join(group, subscription).await
    }

    async fn positions(&self, group: &Group, slot: &Slot) -> Ending<Positions> {
        let (group, name, slot) = (group.clone(), self.name(&slot.topic), slot.clone());
        self.ask(move |asked| asked.positions(&group, &name, &slot)).await
    }

    async fn half_aged(&self, topic: &Topic) -> Ending<Option<Vec<Offset>>> {
        let name = self.name(topic);
        match self.ask(move |asked| asked.topics.half_aged(&name)).await {
            Ok(offsets) => Ending::Applied(offsets),
            Err(refusal) => Ending::Refused(refusal),
        }
    }

    async fn read_compacted(&self, slot: &Slot) -> Ending<Vec<(Bytes, Bytes)>> {
        match self.look(&slot.topic).await {
            Err(refusal) => return Ending::Refused(refusal),
            Ok(found) if !found.is_compacted || slot.partition.0 >= found.partitions => {
                let code = format!("NotCompacted: {slot}");
                return Ending::Refused(Refusal::new(RefusalKind::Invalid, code));
            }
            Ok(_) => {}
        }
        let (name, partition, place) = (self.name(&slot.topic), wire_partition(slot), slot.to_string());
        let read = self.ask(move |asked| table::read(&asked.config, &asked.topics, &name, partition)).await;
        match read {
            Ok(newest) => Ending::Applied(newest),
            Err(error) => Ending::Refused(question_ended(&error, &place)),
        }
    }
}

impl Asked {
    fn positions(&self, group: &Group, name: &str, slot: &Slot) -> Ending<Positions> {
        match self.topics.partitions(name) {
            Err(refusal) => return Ending::Refused(refusal),
            Ok(partitions) if slot.partition.0 >= partitions => {
                return Ending::Refused(unknown(&slot.to_string()));
            }
            Ok(_) => {}
        }
        let ask = || -> KafkaResult<Positions> {
            let (partition, time_max) = (wire_partition(slot), self.config.answer_time_max);
            let (begin, end) = self.topics.bounds(name, partition)?;
            let mut places = TopicPartitionList::with_capacity(1);
            places.add_partition(name, partition);
            let committed = self.reader(group)?.committed_offsets(places, time_max)?;
            let committed = committed.elements().first().and_then(|element| match element.offset() {
                Place::Offset(offset) => Some(start::offset(offset)),
                Place::Beginning | Place::End | Place::Stored | Place::Invalid | Place::OffsetTail(_) => None,
            });
            Ok(Positions { begin: start::offset(begin), end: start::offset(end), committed })
        };
        match ask() {
            Ok(positions) => Ending::Applied(positions),
            Err(error) => Ending::Refused(question_ended(&error, &format!("positions of {slot}"))),
        }
    }

    fn commit_for(&self, group: &Group, name: &str, slot: &Slot, upto: Offset) -> Ending<()> {
        let commit = || -> KafkaResult<()> {
            let mut places = TopicPartitionList::with_capacity(1);
            let offset = Place::Offset(i64::try_from(upto.0).unwrap_or(i64::MAX));
            places.add_partition_offset(name, wire_partition(slot), offset)?;
            self.reader(group)?.commit(&places, CommitMode::Sync)
        };
        match commit() {
            Ok(()) => Ending::Applied(()),
            Err(error) => match error.rdkafka_error_code() {
                Some(code) => write_ended(code, &format!("group {group}, {slot}")),
                None => Ending::Unknown,
            },
        }
    }

    /// A client that asks and writes the offsets of a group.
    fn reader(&self, group: &Group) -> KafkaResult<Arc<BaseConsumer<Asking>>> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = readers.get(group) {
            return Ok(Arc::clone(reader));
        }
        let mut config = self.config.reading(group.as_str());
        // What a commit waits for, and a thread with it, while nobody answers.
        let patience = self.config.answer_time_max.as_millis().to_string();
        config.set("socket.timeout.ms", &patience).set("session.timeout.ms", &patience);
        let reader: BaseConsumer<Asking> = config.create_with_context(Asking::default())?;
        let reader = Arc::new(reader);
        readers.insert(group.clone(), Arc::clone(&reader));
        Ok(reader)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(asked) = self.asking.take() {
            bury(asked, |_| {});
        }
    }
}

/// Hears what the client says by itself, as far as it waits.
fn listen(client: &BaseConsumer<Asking>) {
    const LINES_MAX: usize = 100;
    for _ in 0..LINES_MAX {
        drop(client.poll(Duration::ZERO));
    }
}

/// Waits until a broker answers; blocks.
fn reach(config: &KafkaConfig, asking: &BaseConsumer<Asking>) -> Result<(), QueueError> {
    let until = Instant::now() + config.answer_time_max;
    loop {
        if asking.client().fetch_cluster_id(REACH_WAIT).is_some() {
            return Ok(());
        }
        listen(asking);
        let heard = asking.context().heard();
        let is_late = Instant::now() >= until;
        match heard.distrust {
            // The others may trust us, unless there are no others.
            Some(why) if heard.is_alone || is_late => {
                let told = format!(
                    "kafka at {}: {why}; look at the authorities, the certificate, the user and the password",
                    config.hosts
                );
                return Err(QueueError::Denied(told));
            }
            None if is_late => {
                let silence = format!(
                    "kafka at {}: no broker answers within {:?}, look at the hosts and at them",
                    config.hosts, config.answer_time_max
                );
                return Err(QueueError::Storage(silence));
            }
            Some(_) | None => {}
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn wire_partition(slot: &Slot) -> i32 {
    i32::try_from(slot.partition.0).unwrap_or(i32::MAX)
}

/// The epoch of a new assignment: larger than every earlier one of this process, and, as far as clocks go, of others.
/// The generation that fences commits is the broker's, which the client does not show.
fn next_epoch() -> Epoch {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now =
        SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    let next = |last: u64| Some(last.max(now) + 1);
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
    Epoch(last.max(now) + 1)
}
