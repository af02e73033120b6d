//! The status processor: takes outcomes from the status topic and records them on the source object, exactly for the
//! revision that they speak for (decisions D2 and D3).

mod machine;
#[cfg(test)]
mod tests;

pub use machine::{Config, Stage, StatusProcessor, Summary};

use crate::call::Ending;
use crate::exception::ExceptionRecord;
use crate::id::{EffectId, Epoch, Offset, Partition, Topic, TopicPartition};
use crate::model::{FailureRecord, GcAction, Message, ObjectEntry, SiteMetric};
use crate::request::{SiteReply, SiteRequest};
use crate::time::Instant;

/// What the status processor is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Partitions of the status topic were assigned, each with the offset to start from.
    Assigned {
        /// The assignment.
        epoch: Epoch,
        /// Partition and start offset; the list of offsets has one element.
        partitions: Vec<(Partition, Vec<Offset>)>,
    },
    /// Partitions are to be given back until `deadline`.
    Revoked {
        /// The assignment that ends.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
        /// When they are taken away whatever is still running.
        deadline: Instant,
    },
    /// Partitions are gone already.
    Lost {
        /// The assignment that ended.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
    },
    /// A message was read.
    Message {
        /// The assignment under which it was read.
        epoch: Epoch,
        /// Where it was read.
        from: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// The parsed message.
        message: Message,
    },
    /// To [`Effect::Call`].
    Replied {
        /// The effect this answers.
        id: EffectId,
        /// How it ended.
        reply: SiteReply,
    },
    /// To [`Effect::Publish`] and [`Effect::PutException`].
    Published {
        /// The effect this answers.
        id: EffectId,
        /// Whether every in-sync replica has it.
        ending: Ending<()>,
    },
    /// To [`Effect::Commit`].
    Committed {
        /// The effect this answers.
        id: EffectId,
        /// Refused with `Fenced` when the assignment is over.
        ending: Ending<()>,
    },
    /// A timer is due.
    Timer,
}

/// A message that the status processor publishes.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// On a replay topic: another attempt for one site.
    Replay {
        /// The replay topic.
        topic: Topic,
        /// The entry in retry form; it carries the replays left.
        entry: Box<ObjectEntry>,
    },
    /// On the replication topic: the stored revision is not the one that was copied, so it is queued again for one site.
    Requeue {
        /// The stored entry in retry form, with its site.
        entry: Box<ObjectEntry>,
    },
    /// On the failed topic: the record that fills the retry API's list (replication reference 4.9).
    Failed {
        /// The record.
        record: FailureRecord,
    },
    /// On the garbage collection topic (replication reference 6.5).
    Gc {
        /// The action.
        action: Box<GcAction>,
    },
}

/// What the status processor asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A request to the source site.
    Call {
        /// Answer with this id.
        id: EffectId,
        /// The request.
        request: SiteRequest,
    },
    /// Publish a message.
    Publish {
        /// Answer with this id.
        id: EffectId,
        /// The message.
        outgoing: Outgoing,
    },
    /// Write a record to the exceptions topic.
    PutException {
        /// Answer with this id.
        id: EffectId,
        /// The record; its state says whether it is a tombstone.
        record: Box<ExceptionRecord>,
    },
    /// Add to the site's counters. Not answered: counters may be lost, statuses may not.
    Count(SiteMetric),
    /// Commit: everything below `upto` is settled.
    Commit {
        /// Answer with this id.
        id: EffectId,
        /// The assignment this is done under.
        epoch: Epoch,
        /// Which partition.
        from: TopicPartition,
        /// First offset that is not settled.
        upto: Offset,
    },
    /// Open or close the flow of messages of a partition.
    Flow {
        /// The partition.
        partition: Partition,
        /// Whether messages may come.
        open: bool,
    },
    /// The partitions of an ending assignment are drained.
    Release {
        /// The assignment.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
    },
}
