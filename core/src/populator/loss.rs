//! Records that the journal no longer has although they were never queued (invariant I1: lost, perhaps, but never silently).

use crate::id::{JournalEpoch, Seq};

use super::Batch;

/// How often in a row a journal must say that it ends before the next record to read. A server that lags behind says so, too,
/// but not for long.
const WENT_BACK_READS: u32 = 10;

/// What a populator does about records that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterLoss {
    /// Stops, and says why. Somebody has to look first.
    Stop,
    /// Has the loss recorded durably, then goes on with what the journal has. What was lost has to be queued from a listing.
    GoOn,
}

/// How the journal lost records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossKind {
    /// It forgot the records before its oldest one.
    CutOff,
    /// It is another journal than the stored position belongs to.
    Replaced,
    /// It ends before the next record to read: it was put back to an earlier state.
    WentBack,
}

/// Records that cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The first record that may be lost, and its journal: everything before is queued.
    pub wanted: (Seq, JournalEpoch),
    /// Where reading goes on, and in which journal: everything from there on is read.
    pub resumes: (Seq, JournalEpoch),
}

impl Loss {
    /// How they were lost.
    pub fn kind(&self) -> LossKind {
        let ((wanted, before), (resumes, now)) = (self.wanted, self.resumes);
        if before != now {
            LossKind::Replaced
        } else if resumes > wanted {
            LossKind::CutOff
        } else {
            LossKind::WentBack
        }
    }
}

/// Looks for losses in what is read.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    ended_early: u32,
}

impl Lookout {
    /// Whether `batch`, read from `next` in the journal `epoch`, proves a loss. `queued` is what is known to be queued.
    pub(super) fn judge(
        &mut self,
        batch: &Batch,
        epoch: JournalEpoch,
        next: Seq,
        queued: Seq,
    ) -> Option<Loss> {
        let replaced = batch.epoch != epoch;
        self.ended_early = if batch.end < next && !replaced { self.ended_early + 1 } else { 0 };
        let went_back = self.ended_early >= WENT_BACK_READS;
        if went_back {
            self.ended_early = 0;
        }
        let resumes = match () {
            () if replaced || batch.oldest > next => batch.oldest,
            // What was written again since it went back has numbers that were read before.
            () if went_back => batch.end,
            () => return None,
        };
        Some(Loss { wanted: (queued, epoch), resumes: (resumes, batch.epoch) })
    }
}
