//! The site processor: takes the messages of one site from the queue and makes that site equal to the source, one
//! version of a key at a time.
//!
//! [`SiteProcessor`] owns partitions, lanes and the durable order of steps; a [`copy::CopyJob`] inside it knows how one
//! version is copied. Bytes move outside: the driver streams each [`crate::request::PartMove`].

pub mod copy;
mod facts;
mod machine;
mod parked;
#[cfg(test)]
mod tests;
mod work;

pub use machine::{Config, Doing, Explanation, SiteProcessor, Summary};

use crate::call::Ending;
use crate::exception::ExceptionRecord;
use crate::id::{EffectId, Epoch, Offset, Partition, TopicPartition};
use crate::model::{Message, ObjectEntry};
use crate::request::{SiteReply, SiteRequest};
use crate::time::Instant;

/// What the processor is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Partitions were assigned: partition *p* of every topic, each with the offset to start from.
    Assigned {
        /// The assignment.
        epoch: Epoch,
        /// Partition and start offset per topic, in the order of the topic list.
        partitions: Vec<(Partition, Vec<Offset>)>,
    },
    /// Partitions are to be given back. The machine drains until `deadline`, then answers with [`Effect::Release`].
    Revoked {
        /// The assignment that ends.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
        /// When they are taken away whatever is still running.
        deadline: Instant,
    },
    /// Partitions are gone already (session lost): nothing can be committed any more.
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
    /// To [`Effect::PublishStatus`], [`Effect::PutException`].
    Published {
        /// The effect this answers.
        id: EffectId,
        /// Whether every in-sync replica has it.
        ending: Ending<()>,
    },
    /// To [`Effect::LoadExceptions`].
    ExceptionsLoaded {
        /// The effect this answers.
        id: EffectId,
        /// This site's live records of the partition.
        ending: Ending<Vec<ExceptionRecord>>,
    },
    /// To [`Effect::Commit`].
    Committed {
        /// The effect this answers.
        id: EffectId,
        /// Refused with `Fenced` when the assignment is over.
        ending: Ending<()>,
    },
    /// The operator's word.
    Control(Control),
    /// A timer is due.
    Timer,
}

/// What an operator can say to a running processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Start nothing new; what runs ends normally.
    Pause,
    /// Go on.
    Resume,
    /// Hold requests to the target whatever its health (`Some(true)`), let them through whatever its health
    /// (`Some(false)`), or decide by its health (`None`).
    ForceBreaker(Option<bool>),
}

/// What the processor asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A request to a site.
    Call {
        /// Answer with this id.
        id: EffectId,
        /// The request.
        request: SiteRequest,
    },
    /// Publish a status message (keyed by the entry's canonical key) on the status topic.
    PublishStatus {
        /// Answer with this id.
        id: EffectId,
        /// The entry in completed or failed form, with its site.
        entry: Box<ObjectEntry>,
    },
    /// Write a record to the exceptions topic, in the partition of the object's canonical key.
    PutException {
        /// Answer with this id.
        id: EffectId,
        /// The record; its state says whether it is a tombstone.
        record: Box<ExceptionRecord>,
    },
    /// Read this site's live exception records of a partition.
    LoadExceptions {
        /// Answer with this id.
        id: EffectId,
        /// The partition.
        partition: Partition,
    },
    /// Commit: everything below `upto` is settled.
    Commit {
        /// Answer with this id.
        id: EffectId,
        /// The assignment this is done under.
        epoch: Epoch,
        /// Which partition of which topic.
        from: TopicPartition,
        /// First offset that is not settled.
        upto: Offset,
    },
    /// Open or close the flow of messages of a partition (all topics). Messages already under way may still arrive.
    Flow {
        /// The partition.
        partition: Partition,
        /// Whether messages may come.
        open: bool,
    },
    /// The partitions of an ending assignment are drained: they may be taken away.
    Release {
        /// The assignment.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
    },
}
