//! A unit of work of the site processor: one version of a key, with everything that waits for its ending.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::exception::ExceptionRecord;
use crate::id::{Bucket, EffectId, Epoch, ObjectKey, Offset, Partition, TopicPartition};
use crate::intake::{Item, LaneKey};
use crate::model::{AccountId, ObjectEntry, ObjectRef};
use crate::parts::Permit;
use crate::processor::copy::{CopyJob, destination_of};
use crate::time::Instant;

/// One version that needs a look, and the messages that are settled with it.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) object: ObjectRef,
    pub(super) destination: Option<Bucket>,
    /// Every message that asked for this version; all are settled together.
    pub(super) offsets: SmallVec<[(TopicPartition, Offset); 1]>,
    /// Replays left as the message said; absent if it never failed.
    pub(super) replay_count: Option<i64>,
    pub(super) account_id: AccountId,
    /// The message came from a retry or a replay: there is an exception record to resolve.
    pub(super) is_retry: bool,
    /// The record this work comes from or adds to.
    pub(super) record: Option<ExceptionRecord>,
    pub(super) job: Option<Box<CopyJob>>,
    pub(super) permit: Option<Permit>,
}

impl Work {
    /// Work for an entry read from the queue.
    pub(super) fn of_entry(
        from: TopicPartition,
        epoch: Epoch,
        offset: Offset,
        entry: &ObjectEntry,
    ) -> Box<Self> {
        Box::new(Self {
            partition: from.partition,
            epoch,
            object: entry.object_ref(),
            destination: destination_of(entry.md()),
            offsets: SmallVec::from_elem((from, offset), 1),
            replay_count: entry.replay_count,
            account_id: entry.account_id.clone(),
            is_retry: entry.site.is_some() || entry.replay_count.is_some(),
            record: None,
            job: None,
            permit: None,
        })
    }

    /// Work for a parked entry whose time has come.
    pub(super) fn of_record(partition: Partition, epoch: Epoch, record: ExceptionRecord) -> Box<Self> {
        Box::new(Self {
            partition,
            epoch,
            object: record.object.clone(),
            destination: None,
            offsets: SmallVec::new(),
            replay_count: None,
            account_id: AccountId::Absent,
            is_retry: true,
            record: Some(record),
            job: None,
            permit: None,
        })
    }
}

impl Item for Work {
    fn partition(&self) -> Partition {
        self.partition
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn offsets(&self) -> &[(TopicPartition, Offset)] {
        &self.offsets
    }

    fn object(&self) -> (&Bucket, &ObjectKey) {
        (&self.object.bucket, &self.object.key)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.object.version == other.object.version
    }

    fn absorb(&mut self, other: Self) {
        self.offsets.extend(other.offsets);
        if let Some(job) = &mut self.job {
            job.source_may_have_changed();
        }
        self.is_retry |= other.is_retry;
        // A message that never failed has all its replays before it: the more generous count wins.
        self.replay_count = match (self.replay_count, other.replay_count) {
            (Some(mine), Some(others)) => Some(mine.max(others)),
            (None, _) | (_, None) => None,
        };
        self.record = self.record.take().or(other.record);
        self.destination = other.destination.or_else(|| self.destination.take());
        if other.account_id != AccountId::Absent {
            self.account_id = other.account_id;
        }
    }
}

/// One durable step on the way from an ending to a settled message.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Write an exception record or its tombstone.
    Exception(Box<ExceptionRecord>),
    /// Publish a status message.
    Status(Box<ObjectEntry>),
}

/// Work that ended and whose ending is being written down, in order.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    pub(super) work: Box<Work>,
    pub(super) steps: VecDeque<Step>,
    /// The lane that stays closed until this is done.
    pub(super) closed_lane: Option<LaneKey>,
    pub(super) in_flight: Option<EffectId>,
    pub(super) failures: u32,
    pub(super) again_at: Option<Instant>,
}
