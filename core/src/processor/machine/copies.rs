//! Copies under way: what starts, what they ask for, and what the target's answers say about its health.

use crate::call::Ending;
use crate::exception::ExceptionState;
use crate::id::EffectId;
use crate::intake::LaneKey;
use crate::parts::Permit;
use crate::processor::Effect;
use crate::processor::copy::{Context, CopyJob};
use crate::request::minting::TargetKind;
use crate::request::{SiteReply, SiteRequest};
use crate::rules::Rules;

use super::{CallOwner, PART_WINDOW, SiteProcessor, Timer};

impl<R: Rules> SiteProcessor<R> {
    pub(super) fn start_work(&mut self) {
        self.intake.lanes.wake(self.now.mono);
        while !self.paused
            && self.intake.lanes.ready_len() > 0
            && self.intake.lanes.running_len() < self.config.concurrency
        {
            let permit = match self.breaker.allow(self.now.mono) {
                Permit::Wait(until) => {
                    self.timers.set(Timer::Breaker, until);
                    return;
                }
                permit @ (Permit::Go | Permit::Probe(_)) => permit,
            };
            let Some(lane) = self.intake.lanes.start_next_key() else {
                self.breaker.withdrawn(permit);
                return;
            };
            let work = self.intake.lanes.running_mut(&lane).expect("it was just started");
            work.permit = Some(permit);
            if work.job.is_none() {
                let mut job = CopyJob::new(work.object.clone(), work.destination.clone());
                let parked = self.parked.get(&work.partition).filter(|parked| !parked.is_empty());
                let noted = parked.and_then(|parked| parked.waiting(&work.object));
                let noted = noted.filter(|record| record.state == ExceptionState::Copying);
                if let Some(deposit) = noted.and_then(|record| record.deposit.as_deref()) {
                    job.inherit(deposit.clone());
                }
                if let TargetKind::MintsVersions { conditional } = self.config.copy.target {
                    let from_note =
                        work.record.as_ref().is_some_and(|record| record.state == ExceptionState::Copying);
                    let failed = noted.is_none() && parked.is_some_and(|parked| parked.knows(&work.object));
                    job.mint(conditional, work.is_retry && !from_note || failed);
                }
                work.job = Some(Box::new(job));
            }
            self.with_job(lane, CopyJob::resume);
            self.advance(lane);
        }
    }

    /// Runs `step` on the copy in `lane`, if one runs there.
    pub(super) fn with_job(&mut self, lane: LaneKey, step: impl FnOnce(&mut CopyJob, &mut Context<'_, R>)) {
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        let Some(job) = work.job.as_deref_mut() else { return };
        let mut context = Context {
            now: self.now.mono,
            rules: &self.rules,
            ids: &mut self.ids,
            config: &self.config.copy,
            is_probe: matches!(work.permit, Some(Permit::Probe(_))),
        };
        step(job, &mut context);
    }

    /// Carries out what the copy in `lane` asks for, as far as that needs nobody else, and takes its ending.
    pub(super) fn advance(&mut self, lane: LaneKey) {
        while let Some((id, request)) =
            self.intake.lanes.running_mut(&lane).and_then(|work| work.job.as_mut()?.poll_request())
        {
            if let Some(reply) = self.known(&request) {
                self.with_job(lane, |job, context| job.reply(id, reply, context));
                continue;
            }
            self.calls.insert(id, CallOwner::Copy(lane));
            if let Some(size) = bytes_moved_by(&request) {
                let bytes = size.min(PART_WINDOW);
                self.budget.ask(id, bytes);
                self.moves_bytes.insert(id, bytes);
                self.moves_waiting.insert(id, request);
            } else {
                self.effects.push_back(Effect::Call { id, request });
            }
        }
        self.grant_moves();
        self.listen_to_target(lane);
        self.note(lane);
        let Some(job) = self.intake.lanes.running(&lane).and_then(|work| work.job.as_ref()) else { return };
        if job.outcome().is_some() {
            // A note that lands after the record of the ending would bring the copy back.
            if !self.is_noting(lane) {
                self.conclude(lane);
            }
        } else if let Some(at) = job.wait_until() {
            if let Some(permit) = self.intake.lanes.running_mut(&lane).and_then(|work| work.permit.take()) {
                self.breaker.withdrawn(permit);
            }
            self.intake.lanes.release_to_front(&lane, at);
        }
    }

    pub(super) fn grant_moves(&mut self) {
        while let Some(id) = self.budget.granted() {
            let request = self.moves_waiting.remove(id).expect("what is granted was waiting");
            self.effects.push_back(Effect::Call { id, request });
        }
    }

    /// An answer from memory.
    pub(super) fn known(&self, request: &SiteRequest) -> Option<SiteReply> {
        let (now, ttl) = (self.now.mono, self.config.facts_ttl);
        match request {
            SiteRequest::ReadRules { bucket } => {
                self.facts.rules(now, ttl, bucket).map(|rules| SiteReply::Rules(Ending::Applied(rules)))
            }
            SiteRequest::CheckBucket { bucket } => {
                self.facts.is_target_ready(now, ttl, bucket).then_some(SiteReply::Bucket(Ending::Applied(())))
            }
            SiteRequest::ReadMetadata { .. }
            | SiteRequest::WriteMetadata { .. }
            | SiteRequest::MovePart(_)
            | SiteRequest::DeleteData { .. }
            | SiteRequest::Minting(_) => None,
        }
    }

    pub(super) fn replied(&mut self, id: EffectId, reply: SiteReply) {
        if let Some(bytes) = self.moves_bytes.remove(id) {
            self.budget.give_back(bytes);
            self.grant_moves();
        }
        match self.calls.remove(id) {
            None => {}
            Some(CallOwner::Ghost(lane)) => self.intake.lanes.unblock(&lane),
            Some(CallOwner::Copy(lane)) => {
                self.learn(lane, &reply);
                self.with_job(lane, |job, context| job.reply(id, reply, context));
                self.advance(lane);
            }
        }
    }

    pub(super) fn learn(&mut self, lane: LaneKey, reply: &SiteReply) {
        match reply {
            SiteReply::Rules(Ending::Applied(rules)) => {
                let bucket = self.intake.lanes.running(&lane).map(|work| work.object.bucket.clone());
                if let Some(bucket) = bucket {
                    self.facts.learn_rules(self.now.mono, bucket, rules.clone());
                }
            }
            SiteReply::Bucket(Ending::Applied(())) => {
                let target = self
                    .intake
                    .lanes
                    .running(&lane)
                    .and_then(|work| work.job.as_ref()?.destination().cloned());
                if let Some(bucket) = target {
                    self.facts.learn_target(self.now.mono, bucket);
                }
            }
            SiteReply::Rules(_)
            | SiteReply::Bucket(_)
            | SiteReply::Metadata(_)
            | SiteReply::Written(_)
            | SiteReply::Moved { .. }
            | SiteReply::Deleted(_)
            | SiteReply::Minting(_) => {}
        }
    }

    pub(super) fn listen_to_target(&mut self, lane: LaneKey) {
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        let Some(heard) = work.job.as_mut().and_then(|job| job.take_heard_from_target()) else { return };
        let Some(permit) = work.permit else { return };
        if heard {
            self.breaker.succeeded(permit, self.now.mono);
        } else {
            self.breaker.failed(permit, self.now.mono);
        }
        // A probe is answered once; what the same copy hears next is ordinary news.
        if matches!(permit, Permit::Probe(_)) {
            work.permit = Some(Permit::Go);
        }
    }
}

/// The bytes that a request streams from the source to the target; `None` if it is a control call.
fn bytes_moved_by(request: &SiteRequest) -> Option<u64> {
    match request {
        SiteRequest::MovePart(part) => Some(part.size),
        SiteRequest::Minting(request) => request.transfer().map(|put| put.size),
        SiteRequest::ReadMetadata { .. }
        | SiteRequest::WriteMetadata { .. }
        | SiteRequest::DeleteData { .. }
        | SiteRequest::ReadRules { .. }
        | SiteRequest::CheckBucket { .. } => None,
    }
}
