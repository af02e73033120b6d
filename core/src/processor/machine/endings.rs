//! Endings: what has to be durable, and in which order, before the messages behind a copy are settled.

use std::collections::VecDeque;

use crate::call::Ending;
use crate::exception::{ExceptionRecord, ExceptionState};
use crate::id::EffectId;
use crate::intake::LaneKey;
use crate::model::{ObjectEntry, ObjectMd};
use crate::processor::Effect;
use crate::processor::copy::{Outcome, Settled};
use crate::processor::parked::Parked;
use crate::processor::work::{Recording, Step, Work};
use crate::rules::Rules;
use crate::time::WallTime;

use super::{SiteProcessor, Timer};

impl<R: Rules> SiteProcessor<R> {
    /// Takes the ending of the copy in `lane` and decides what has to be durable before its messages are settled.
    pub(super) fn conclude(&mut self, lane: LaneKey) {
        if self.waits_in_place(lane) {
            return;
        }
        let mut work = self.intake.lanes.finish(&lane);
        if let Some(permit) = work.permit.take() {
            self.breaker.withdrawn(permit);
        }
        let job = work.job.take().expect("what is concluded was a copy");
        self.leaked += u64::from(job.leaked());
        self.late_removed += u64::from(job.late_removed());
        let attempts = job.attempts();
        let outcome = job.outcome().cloned().expect("what is concluded has an outcome");
        let steps = match outcome {
            Outcome::Copied { source, minted, .. } => {
                let mut status = self.entry(&work, &source).to_completed(&self.config.copy.site);
                if let Some(id) = minted {
                    status = status.with_site_version_id(&self.config.copy.site, id.as_str());
                }
                status.site = Some(self.config.copy.site.clone());
                let mut steps = VecDeque::from([Step::Status(Box::new(status))]);
                steps.extend(self.tombstone(&work));
                steps
            }
            Outcome::Settled(
                Settled::Gone | Settled::AlreadyCompleted | Settled::NotRequested | Settled::Archived,
            ) => self.tombstone(&work).into_iter().collect(),
            Outcome::Failed { reason, source } => {
                let mut status = self.entry(&work, &source).to_failed(&self.config.copy.site);
                status.site = Some(self.config.copy.site.clone());
                status.replay_count =
                    if self.rules.defers(self.config.copy.target) { work.replay_count } else { Some(0) };
                let replays_left =
                    status.replay_count.is_none_or(|count| count > 0) && self.config.replays_max > 0;
                let state = if replays_left { ExceptionState::Deferred } else { ExceptionState::Failed };
                let record = self.exception(&work, state, reason, attempts, None);
                let mut steps = VecDeque::new();
                if !work.offsets.is_empty() {
                    // Nobody may show a failure that is not listed. But the partition may be lost, and its message settled by
                    // the next owner, before the status is out: until then the record says that the work is tried again.
                    let next = Some(self.now.wall_after(self.config.hold_delay));
                    steps.push_back(Step::Exception(Box::new(ExceptionRecord { next, ..record.clone() })));
                }
                steps.push_back(Step::Status(Box::new(status)));
                steps.push_back(Step::Exception(Box::new(record)));
                steps
            }
            Outcome::Held { .. } if !self.rules.parks_durably() => VecDeque::new(),
            Outcome::Held { reason } => {
                let next = self.now.wall_after(self.config.hold_delay);
                let record = self.exception(&work, ExceptionState::Held, reason, attempts, Some(next));
                VecDeque::from([Step::Exception(Box::new(record))])
            }
        };
        self.record(work, Some(lane), steps);
    }

    /// Holds a copy in its lane instead of parking it, where the target mints version ids or too much is parked already.
    pub(super) fn waits_in_place(&mut self, lane: LaneKey) -> bool {
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return true };
        let held = matches!(work.job.as_ref().and_then(|job| job.outcome()), Some(Outcome::Held { .. }));
        let being_parked = self.recordings.values().filter(|recording| {
            let first = recording.steps.front();
            recording.work.partition == work.partition
                && matches!(first, Some(Step::Exception(record)) if record.next.is_some())
        });
        let parked = self.parked.get(&work.partition).map_or(0, Parked::len) + being_parked.count();
        if !held || (self.rules.defers(self.config.copy.target) && parked < self.config.parked_max) {
            return false;
        }
        work.job = None;
        if let Some(permit) = work.permit.take() {
            self.breaker.withdrawn(permit);
        }
        self.intake.lanes.release_to_front(&lane, self.now.mono + self.config.hold_delay);
        true
    }

    pub(super) fn entry(&self, work: &Work, source: &ObjectMd) -> ObjectEntry {
        let mut entry = ObjectEntry::of(work.object.bucket.clone(), &work.object.key, source.clone());
        entry.site = Some(self.config.copy.site.clone());
        entry.replay_count = work.replay_count;
        entry.account_id.clone_from(&work.account_id);
        entry
    }

    pub(super) fn exception(
        &self,
        work: &Work,
        state: ExceptionState,
        reason: String,
        attempts: u32,
        next: Option<WallTime>,
    ) -> ExceptionRecord {
        let earlier = work.record.as_ref();
        ExceptionRecord {
            site: self.config.copy.site.clone(),
            object: work.object.clone(),
            state,
            reason,
            attempts: earlier.map_or(0, |record| record.attempts).saturating_add(attempts),
            first: earlier.map_or(self.now.wall, |record| record.first),
            last: self.now.wall,
            next,
            deposit: None,
        }
    }

    /// The step that deletes this version's exception record, if there may be one.
    pub(super) fn tombstone(&self, work: &Work) -> Option<Step> {
        if !work.is_retry && self.parked.get(&work.partition).is_none_or(Parked::is_empty) {
            return None;
        }
        let record = self.exception(work, ExceptionState::Resolved, String::new(), 0, None);
        let known = self.parked.get(&work.partition).is_some_and(|parked| parked.may_know(&work.object));
        (work.is_retry || known).then(|| Step::Exception(Box::new(record)))
    }

    /// Starts to write an ending down. `lane` stays closed until that is done.
    pub(super) fn record(&mut self, work: Box<Work>, lane: Option<LaneKey>, steps: VecDeque<Step>) {
        let number = self.recordings_next;
        self.recordings_next += 1;
        let closed_lane = lane.filter(|_| !steps.is_empty() && self.rules.holds_key_until_durable());
        if let Some(lane) = closed_lane {
            self.intake.lanes.block(lane);
        }
        let recording = Recording { work, steps, closed_lane, in_flight: None, failures: 0, again_at: None };
        self.recordings.insert(number, recording);
        self.next_step(number);
    }

    pub(super) fn next_step(&mut self, number: u64) {
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let Some(step) = recording.steps.front() else { return self.recorded(number) };
        let id = self.ids.next();
        let effect = match step {
            Step::Exception(record) => Effect::PutException { id, record: record.clone() },
            Step::Status(entry) => Effect::PublishStatus { id, entry: entry.clone() },
        };
        recording.in_flight = Some(id);
        self.publishes.insert(id, number);
        self.effects.push_back(effect);
    }

    pub(super) fn published(&mut self, id: EffectId, ending: &Ending<()>) {
        let Some(number) = self.publishes.remove(id) else { return self.noted(id, ending) };
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        if recording.in_flight.take_if(|in_flight| *in_flight == id).is_none() {
            return;
        }
        if matches!(ending, Ending::Applied(())) {
            if let Some(Step::Exception(record)) = recording.steps.pop_front() {
                let partition = recording.work.partition;
                self.note_parked(partition, *record);
            }
            self.next_step(number);
        } else {
            // Both kinds of message are idempotent: the same one is published again.
            recording.failures = recording.failures.saturating_add(1);
            let doublings = recording.failures.min(6);
            let at = self.now.mono + self.config.publish_delay.saturating_mul(1 << doublings);
            recording.again_at = Some(at);
            self.timers.set(Timer::Record(number), at);
        }
    }

    pub(super) fn recorded(&mut self, number: u64) {
        let Some(recording) = self.recordings.remove(&number) else { return };
        if let Some(lane) = recording.closed_lane {
            self.intake.lanes.unblock(&lane);
        }
        self.intake.settle(&self.rules, &recording.work);
    }
}
