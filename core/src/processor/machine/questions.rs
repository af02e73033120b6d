//! Questions that an operator, the API and the simulator's traces ask: plain functions over the machine's state.

use crate::id::{Bucket, ObjectKey};
use crate::intake::LaneKey;
use crate::model::ObjectRef;
use crate::processor::copy::Stage;
use crate::processor::parked::Parked;
use crate::processor::work::Work;
use crate::request::Side;
use crate::rules::Rules;
use crate::time::{Instant, WallTime};

use super::SiteProcessor;

impl<R: Rules> SiteProcessor<R> {
    /// What the processor knows of `key`: the versions in its lane, in order. Empty when nothing is known of it.
    pub fn explain(&self, bucket: &Bucket, key: &ObjectKey) -> Vec<Explanation> {
        let lane = LaneKey::new(bucket, key);
        let is_asked = |work: &Work| work.object.bucket == *bucket && work.object.key == *key;
        let running = self.intake.lanes.running(&lane).filter(|work| is_asked(work));
        let running = running.map(|work| Self::explanation(work, true));
        let recording = self
            .recordings
            .values()
            .filter(|recording| recording.closed_lane.is_some() && is_asked(&recording.work))
            .map(|recording| Self::explanation(&recording.work, true));
        let waiting = self.intake.lanes.waiting(&lane).filter(|work| is_asked(work));
        let waiting = waiting.map(|work| Self::explanation(work, false));
        let parked = self.parked.values().flat_map(Parked::iter);
        let parked = parked.filter(|record| record.object.bucket == *bucket && record.object.key == *key);
        let parked = parked.map(|record| Explanation {
            object: record.object.clone(),
            doing: Doing::Parked { reason: record.reason.clone(), next: record.next },
            attempts: record.attempts,
        });
        running.into_iter().chain(recording).chain(waiting).chain(parked).collect()
    }

    fn explanation(work: &Work, active: bool) -> Explanation {
        let job = work.job.as_ref();
        let doing = match job {
            Some(job) if !active || job.wait_until().is_some() => Doing::Waiting {
                until: job.wait_until(),
                trouble: job.trouble().map(|(side, reason)| (side, reason.to_owned())),
            },
            Some(job) => Doing::Copying { stage: job.stage() },
            None if active => Doing::Recording,
            None => Doing::Waiting { until: None, trouble: None },
        };
        Explanation { object: work.object.clone(), doing, attempts: job.map_or(0, |job| job.attempts()) }
    }

    /// Counts for the operator.
    pub fn summary(&self) -> Summary {
        Summary {
            running: self.intake.lanes.running_len(),
            waiting: self.intake.lanes.waiting_len(),
            recording: self.recordings.len(),
            parked: self.parked.values().map(Parked::len).sum(),
            partitions: self.parked.len(),
            paused: self.paused,
            target_reachable: self.breaker.is_closed(),
            bytes_held: self.budget.used(),
            leaked: self.leaked,
            late_removed: self.late_removed,
        }
    }
}

/// What the processor is doing about one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The version.
    pub object: ObjectRef,
    /// What happens to it.
    pub doing: Doing,
    /// Attempts so far.
    pub attempts: u32,
}

/// What happens to one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is being copied.
    Copying {
        /// The stage of the copy.
        stage: Stage,
    },
    /// Its ending is being written down.
    Recording,
    /// It waits for its turn, or for the next attempt.
    Waiting {
        /// When the next attempt is due.
        until: Option<Instant>,
        /// What went wrong last, and where.
        trouble: Option<(Side, String)>,
    },
    /// It is parked.
    Parked {
        /// Why.
        reason: String,
        /// When it is tried again.
        next: Option<WallTime>,
    },
}

/// What the processor holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Copies under way.
    pub running: usize,
    /// Entries in lanes that wait.
    pub waiting: usize,
    /// Endings being written down.
    pub recording: usize,
    /// Parked entries that are tried again by themselves.
    pub parked: usize,
    /// Partitions owned.
    pub partitions: usize,
    /// Whether the operator paused the site.
    pub paused: bool,
    /// Whether the target is asked freely.
    pub target_reachable: bool,
    /// Bytes of the budget that are out.
    pub bytes_held: u64,
    /// Parts written in vain that were left to an audit.
    pub leaked: u64,
    /// Versions that landed late at a target that mints ids and were removed (decision D11).
    pub late_removed: u64,
}
