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
use crate::consumer::{QueueEffect, QueueEvent};
use crate::exception::ExceptionRecord;
use crate::id::{EffectId, Partition};
use crate::model::ObjectEntry;
use crate::request::{SiteReply, SiteRequest};

/// What the processor is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// News of the queue that it consumes from.
    Queue(QueueEvent),
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
        request: Box<SiteRequest>,
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
    /// A request to the queue that it consumes from.
    Queue(QueueEffect),
}
