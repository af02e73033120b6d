//! The queue port: keyed messages in partitioned topics, consumed by groups.
//!
//! The port promises what Kafka promises and nothing more: a message is delivered at least once to every group, in
//! order within its partition; each group has its own committed offsets; an assignment that was replaced can no longer
//! commit. There are no transactions across topics, and none with any other port (decision D14).

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
mod group;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod local;
pub mod memory;
pub mod partitioner;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use backbeat_core::call::Ending;
use backbeat_core::id::{Epoch, Offset, Partition, Topic};
use backbeat_core::time::WallTime;
use bytes::Bytes;

/// The number of partitions of a topic unless configured otherwise (decision D14).
pub const PARTITIONS_DEFAULT: u32 = 4;

/// The largest message (key and payload together, bytes) that a queue accepts (replication reference 10.7).
pub const MESSAGE_BYTES_MAX: usize = 5_000_020;

/// The name of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Arc<str>);

impl Group {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Group {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The topic.
    pub topic: Topic,
    /// The partition of it.
    pub partition: Partition,
}

impl Slot {
    /// Partition `partition` of `topic`.
    pub fn new(topic: &Topic, partition: Partition) -> Self {
        Self { topic: topic.clone(), partition }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition.0)
    }
}

/// How long a topic keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// A message stays until every group that ever subscribed has committed past it, and while no group has. A service
    /// that keeps messages for a time keeps them so long, and tells who comes too late ([`ConsumerEvent::Gone`]).
    UntilConsumed,
    /// As [`Retention::UntilConsumed`] once there is a group; at most this many messages a partition while there is none.
    Newest(u64),
    /// Compacted: the newest message of each key stays, a message without payload removes its key. Such a topic is read
    /// with [`Queue::read_compacted`] and cannot be subscribed to.
    LatestPerKey,
}

/// What a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub topic: Topic,
    /// How many partitions it has; never changes, because it decides where a key goes.
    pub partitions: u32,
    /// How long it keeps messages.
    pub retention: Retention,
}

impl TopicSpec {
    /// A topic of [`PARTITIONS_DEFAULT`] partitions that keeps messages until they are consumed.
    pub fn new(topic: impl Into<Topic>) -> Self {
        Self { topic: topic.into(), partitions: PARTITIONS_DEFAULT, retention: Retention::UntilConsumed }
    }

    /// The same topic, kept differently.
    pub fn kept(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The same topic with another number of partitions.
    pub fn partitioned(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it goes: this partition, or, when absent, the one that [`partitioner::partition_of`] gives for the key.
    /// Messages with neither are spread over the partitions in turn.
    pub partition: Option<Partition>,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The payload; absent in a message that removes its key from a compacted topic.
    pub payload: Option<Bytes>,
}

impl Record {
    /// A message with a key.
    pub fn keyed(key: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self { partition: None, key: Some(key.into()), payload: Some(payload.into()) }
    }

    /// A message without a key.
    pub fn unkeyed(payload: impl Into<Bytes>) -> Self {
        Self { partition: None, key: None, payload: Some(payload.into()) }
    }

    /// A message that removes `key` from a compacted topic.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { partition: None, key: Some(key.into()), payload: None }
    }

    /// The same message, sent to `partition` whatever its key.
    pub fn at(mut self, partition: Partition) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Key and payload together.
    fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len)
    }
}

/// A message as a consumer receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The assignment under which it was delivered.
    pub epoch: Epoch,
    /// Where it was.
    pub slot: Slot,
    /// Its position. Positions grow within a partition, not always by one.
    pub offset: Offset,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its payload.
    pub payload: Option<Bytes>,
    /// When it was published.
    pub timestamp: WallTime,
}

/// What happens to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// The consumer now owns these partitions (perhaps none); each is read from the offset beside it: the committed
    /// one, else the oldest message there is. Nothing is paused.
    Assigned {
        /// Names the assignment; larger than every earlier one of the group.
        epoch: Epoch,
        /// What it owns and where each begins.
        partitions: Vec<(Slot, Offset)>,
    },
    /// The assignment is to end. No further message of it will be delivered; commits are still accepted until
    /// [`Consumer::release`], which the owner calls as soon as it has drained.
    Revoked {
        /// The assignment.
        epoch: Epoch,
        /// All its partitions.
        partitions: Vec<Slot>,
    },
    /// The assignment ended without consent: the drain took too long, or the session was lost. Others may already be
    /// working on these partitions; commits are refused. The consumer joins its group again by itself.
    Lost {
        /// The assignment.
        epoch: Epoch,
        /// All its partitions.
        partitions: Vec<Slot>,
    },
    /// Messages of a partition of the current assignment were deleted before they were read: all of `from..upto` (if
    /// `upto` is not larger, the topic was made again). Reading goes on with `upto`; what they said has to be found
    /// again elsewhere.
    Gone {
        /// The assignment.
        epoch: Epoch,
        /// The partition.
        slot: Slot,
        /// What should have been read next.
        from: Offset,
        /// What is read next.
        upto: Offset,
    },
    /// A message of a partition of the current assignment.
    Message(Message),
}

/// What a group knows of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The oldest message there is, or the end if there is none.
    pub begin: Offset,
    /// The offset that the next message will have.
    pub end: Offset,
    /// What the group has committed, if it ever did.
    pub committed: Option<Offset>,
}

/// Why a queue cannot be used as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A topic does not exist.
    #[error("topic {0} does not exist: create it first")]
    UnknownTopic(Topic),
    /// The topics of one subscription do not have the same number of partitions (decision D5).
    #[error(
        "topics {first} ({first_partitions} partitions) and {second} ({second_partitions}) must have the same number of partitions to be consumed together"
    )]
    PartitionCounts {
        /// A topic.
        first: Topic,
        /// Its partitions.
        first_partitions: u32,
        /// One that differs.
        second: Topic,
        /// Its partitions.
        second_partitions: u32,
    },
    /// A compacted topic cannot be subscribed to.
    #[error("topic {0} is compacted: read it as a table")]
    Compacted(Topic),
    /// A topic has another number of partitions than it had: keys are in other places now, their order is not kept.
    #[error("topic {topic} has {found} partitions, and had {expected}: start again with the new number")]
    PartitionsChanged {
        /// The topic.
        topic: Topic,
        /// What it had.
        expected: u32,
        /// What it has.
        found: u32,
    },
    /// The consumer has left its group.
    #[error("the consumer has left its group")]
    Left,
    /// The queue and this process do not trust each other: certificates, user or password. The message says which.
    #[error("{0}")]
    Denied(String),
    /// The storage below failed or holds something that it did not write; the message names file and place.
    #[error("queue storage: {0}")]
    Storage(String),
}

/// Publishes messages.
///
/// **Order.** A message takes its place when `publish` is *called*, not when the future is polled: calls made one after
/// another by one task land in that order in their partition even if they are awaited together, as long as all of them
/// end as `Applied`. After any other ending the order of what follows is not promised: drop the producer and make
/// another one (decision D8).
///
/// **Endings.** `Applied`: the message is as durable as the queue makes messages, and will be delivered. `Refused`:
/// it is not in the queue and never will be (`TooLarge`, `NotFound` for an unknown topic, `Invalid` for a partition that
/// does not exist, `Unavailable` for storage that could not take it). `Unknown`: it may or may not be. Dropping the future withdraws nothing.
pub trait Producer: Send + Sync + 'static {
    /// Publishes `record` to `topic`.
    fn publish(
        &self,
        topic: &Topic,
        record: Record,
    ) -> impl Future<Output = Ending<(Partition, Offset)>> + Send + 'static + use<Self>;
}

/// One member of a consumer group.
///
/// One task calls `next` again and again, whatever else it does: a member that does not is treated as gone once a
/// rebalance waits for it. The other methods may be called from anywhere at any time. Dropping a consumer without
/// `leave` is a crash: its partitions go to others and what it did not commit is delivered again.
///
/// Partition *p* of every subscribed topic belongs to the same member (range assignment, decision D5).
pub trait Consumer: Send + Sync + 'static {
    /// The next event. Cancel safe: a dropped call takes nothing with it. Rebalance events come before messages; no
    /// partition with messages waits for ever behind another one.
    fn next(&self) -> impl Future<Output = Result<ConsumerEvent, QueueError>> + Send;

    /// Commits that everything of `slot` below `upto` is done. The last commit counts, even if lower. `Refused(Fenced)`
    /// when `epoch` is not the current assignment or `slot` is not part of it.
    fn commit(&self, epoch: Epoch, slot: &Slot, upto: Offset) -> impl Future<Output = Ending<()>> + Send;

    /// Says that the revoked assignment `epoch` is drained: from now on others may own its partitions. Ignored if
    /// `epoch` is not being revoked.
    fn release(&self, epoch: Epoch);

    /// Stops the delivery of these partitions until [`Consumer::resume`] or the next assignment. What is meant is the
    /// assignment that `next` told of last; partitions that are not in it are ignored. When it returns, no later `next` delivers
    /// a message of them under it.
    fn pause(&self, slots: &[Slot]);

    /// Continues where [`Consumer::pause`] stopped: nothing is skipped, nothing is delivered twice for it.
    fn resume(&self, slots: &[Slot]);

    /// Leaves the group. Drain and commit first: what is not committed is delivered to another member.
    fn leave(&self) -> impl Future<Output = ()> + Send;
}

/// A queue.
pub trait Queue: Send + Sync + 'static {
    /// Its producers.
    type Producer: Producer;
    /// Its consumers.
    type Consumer: Consumer;

    /// Makes sure that a topic exists. `Refused(Conflict)` if it exists with another number of partitions or is
    /// compacted where the other is not, `Refused(Invalid)` for a name that Kafka does not allow.
    fn create_topic(&self, spec: &TopicSpec) -> impl Future<Output = Ending<()>> + Send;

    /// How many partitions a topic has; `Refused(NotFound)` if it does not exist.
    fn partitions(&self, topic: &Topic) -> impl Future<Output = Ending<u32>> + Send;

    /// A new producer.
    fn producer(&self) -> Self::Producer;

    /// A new member of `group`, subscribed to `topics`. Every member of a group subscribes to the same topics.
    fn subscribe(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> impl Future<Output = Result<Self::Consumer, QueueError>> + Send;

    /// Where a partition begins and ends, and what `group` has committed: the arithmetic of lag.
    fn positions(&self, group: &Group, slot: &Slot) -> impl Future<Output = Ending<Positions>> + Send;

    /// For each partition of a topic that deletes messages by their age, the first one that is younger than half of the age at
    /// which they go; the end, if there is none. A group that has not done what is before it is in danger of losing it.
    /// Nothing, if messages of the topic do not go by age.
    fn half_aged(&self, topic: &Topic) -> impl Future<Output = Ending<Option<Vec<Offset>>>> + Send {
        let _ = topic;
        std::future::ready(Ending::Applied(None))
    }

    /// The newest payload of every key of one partition of a compacted topic, in key order, keys without payload left
    /// out. Reads everything that was acknowledged before the call.
    fn read_compacted(&self, slot: &Slot) -> impl Future<Output = Ending<Vec<(Bytes, Bytes)>>> + Send;
}

/// What Kafka takes for the name of a topic.
fn is_topic_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(is_allowed)
}

/// Adds a topic to those of one subscription, once; all must have the same number of partitions.
fn count_topic(counted: &mut Vec<(Topic, u32)>, topic: &Topic, partitions: u32) -> Result<(), QueueError> {
    if let Some((first, first_partitions)) = counted.first()
        && *first_partitions != partitions
    {
        return Err(QueueError::PartitionCounts {
            first: first.clone(),
            first_partitions: *first_partitions,
            second: topic.clone(),
            second_partitions: partitions,
        });
    }
    if !counted.iter().any(|(known, _)| known == topic) {
        counted.push((topic.clone(), partitions));
    }
    Ok(())
}
