//! The status processor: takes outcomes from the status topic and records them on the source object, exactly for the
//! revision that they speak for (decisions D2 and D3).

mod machine;
mod requeues;
#[cfg(test)]
mod tests;

pub use machine::{Config, Stage, StatusProcessor, Summary};

use crate::call::Ending;
use crate::consumer::{QueueEffect, QueueEvent};
use crate::exception::ExceptionRecord;
use crate::id::{EffectId, Topic};
use crate::model::{FailureRecord, GcAction, ObjectEntry, SiteMetric};
use crate::request::{SiteReply, SiteRequest};

/// What the status processor is told.
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
    /// To [`Effect::Publish`] and [`Effect::PutException`].
    Published {
        /// The effect this answers.
        id: EffectId,
        /// Whether every in-sync replica has it.
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
        record: Box<FailureRecord>,
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
        request: Box<SiteRequest>,
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
    Count(Box<SiteMetric>),
    /// A request to the queue that it consumes from.
    Queue(QueueEffect),
}
