//! The populator: journal records in, queue messages out, and a saved position that never passes an unacknowledged one.

mod loss;
mod machine;
mod restore;
#[cfg(test)]
mod tests;
mod watch;

pub use loss::{AfterLoss, Loss, LossKind};
pub use machine::{Bootstrap, Config, Populator, Summary, WatchLimits};

use std::sync::Arc;

use crate::call::Ending;
use crate::id::{EffectId, JournalEpoch, Seq};
use crate::model::{LogRecord, ObjectRef, PopulatorEntry, Publish};
use crate::request::{SiteReply, SiteRequest};
use crate::time::Span;

/// What the populator is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The process became the owner of this journal; the machine starts.
    Started,
    /// Ownership was lost (session expired, partition handed on). The machine stops for good.
    OwnershipLost,
    /// To [`Effect::LoadPosition`]: what is stored, with the version to write against.
    PositionLoaded {
        /// The effect this answers.
        id: EffectId,
        /// The stored position; `None` inside when nothing was ever stored.
        ending: Ending<StoredPosition>,
    },
    /// To [`Effect::ReadJournal`].
    JournalRead {
        /// The effect this answers.
        id: EffectId,
        /// The records, in order.
        ending: Ending<Batch>,
    },
    /// To [`Effect::Publish`].
    Published {
        /// The effect this answers.
        id: EffectId,
        /// Whether every in-sync replica has it.
        ending: Ending<()>,
    },
    /// To [`Effect::SavePosition`]: the node's new version.
    PositionSaved {
        /// The effect this answers.
        id: EffectId,
        /// `Refused(Conflict)` or `Refused(Fenced)` means that somebody else owns the journal now.
        ending: Ending<u64>,
    },
    /// To [`Effect::RecordLoss`].
    LossRecorded {
        /// The effect this answers.
        id: EffectId,
        /// Whether it is written down.
        ending: Ending<()>,
    },
    /// To [`Effect::Call`].
    Replied {
        /// The effect this answers.
        id: EffectId,
        /// How it ended.
        reply: SiteReply,
    },
    /// A timer is due.
    Timer,
}

/// What is stored about the position, and the node version that the next write must name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredPosition {
    /// The next record to read and the journal it belongs to. `None`: never stored (bootstrap).
    pub position: Option<(Seq, JournalEpoch)>,
    /// Version of the node; writes are conditional on it.
    pub version: u64,
}

/// Records read from the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The records in journal order.
    pub records: Vec<(Seq, Arc<LogRecord>)>,
    /// Where the next read starts.
    pub next: Seq,
    /// One past the newest record of the journal.
    pub end: Seq,
    /// The journal's identity.
    pub epoch: JournalEpoch,
    /// The oldest record still there. Larger than what was asked for: history was lost.
    pub oldest: Seq,
}

/// What the populator asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read the stored position.
    LoadPosition {
        /// Answer with this id.
        id: EffectId,
    },
    /// Read records. With `wait`, answer when there is at least one record at or after `from`, or after that time.
    ReadJournal {
        /// Answer with this id.
        id: EffectId,
        /// First record wanted; `None` asks where the journal ends, without records.
        from: Option<Seq>,
        /// At most so many records.
        limit: usize,
        /// How long the source may wait for something new.
        wait: Span,
    },
    /// Publish a message on the replication topic.
    Publish {
        /// Answer with this id.
        id: EffectId,
        /// The producer to use. A new number means: drop the old producer with everything in it first (decision D8).
        producer: u64,
        /// The journal record it comes from.
        seq: Seq,
        /// The queue key and what is counted.
        publish: Publish,
        /// What to publish: [`PopulatorEntry::message`].
        entry: Box<PopulatorEntry>,
    },
    /// An entry could not be read and is passed over: it is to be recorded for people (decision D18). Not answered.
    Unreadable {
        /// The journal record it is in.
        seq: Seq,
        /// Why.
        reason: String,
    },
    /// Store the position if the node still has `version`.
    SavePosition {
        /// Answer with this id.
        id: EffectId,
        /// The next record to read.
        position: Seq,
        /// The journal it belongs to.
        epoch: JournalEpoch,
        /// The node version that this write replaces.
        version: u64,
    },
    /// Write down durably that records are lost. Writing the same loss twice is harmless.
    RecordLoss {
        /// Answer with this id.
        id: EffectId,
        /// What is lost.
        loss: Loss,
    },
    /// A status write overwrote what a client had written, or another status (decision D3): for people. Not answered.
    Overwritten {
        /// The journal record that shows it.
        seq: Seq,
        /// The version.
        object: ObjectRef,
    },
    /// A request to the source: what was overwritten is read and written back.
    Call {
        /// Answer with this id.
        id: EffectId,
        /// The request.
        request: Box<SiteRequest>,
    },
    /// Stopped: fenced by another owner, or the journal lost records. The driver reports it and starts over or exits.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

/// Why a populator stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Another populator owns the journal.
    Fenced,
    /// Ownership was given up or lost.
    OwnershipLost,
    /// Records are lost that were never queued, and the configuration says to stop.
    HistoryLost(Loss),
}
