//! Copies under way: what starts, what they ask for, and what the target's answers say about its health.

use crate::call::Ending;
use crate::exception::ExceptionState;
use crate::id::EffectId;
use crate::intake::LaneKey;
use crate::parts::{Breaker, Permit};
use crate::processor::Effect;
use crate::processor::copy::{Context, CopyJob};
use crate::request::minting::TargetKind;
use crate::request::{SiteReply, SiteRequest};
use crate::rules::Rules;
use crate::time::Instant;

use super::{CallOwner, PART_WINDOW, SiteProcessor, Timer};

/// What a copy is told.
pub(super) enum News {
    /// It may start, or go on after a wait.
    MayGoOn,
    /// A request was answered.
    Replied(EffectId, SiteReply),
    /// A note of it was written down, or may have been.
    Noted,
}

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
            self.advance(lane, News::MayGoOn);
        }
    }

    /// Tells the copy in `lane`, if one runs there, its news; carries out what it asks for then, as far as that needs nobody
    /// else, and takes its ending.
    pub(super) fn advance(&mut self, lane: LaneKey, news: News) {
        let was_noting = self.is_noting(lane);
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        let Some(job) = work.job.as_deref_mut() else { return };
        let mut context = Context {
            now: self.now.mono,
            rules: &self.rules,
            ids: &mut self.ids,
            config: &self.config.copy,
            is_probe: matches!(work.permit, Some(Permit::Probe(_))),
        };
        match news {
            News::MayGoOn => job.resume(&mut context),
            News::Replied(id, reply) => job.reply(id, reply, &mut context),
            News::Noted => {}
        }
        while let Some((id, request)) = job.poll_request() {
            if let Some(reply) = self.facts.answer(self.now.mono, self.config.facts_ttl, &request) {
                job.reply(id, reply, &mut context);
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
        if let Some(heard) = job.take_heard_from_target() {
            listen_to_target(&mut self.breaker, &mut work.permit, heard, self.now.mono);
        }
        let note = if was_noting { None } else { job.poll_note() };
        let has_ended = job.outcome().is_some();
        let wait_until = job.wait_until().filter(|_| !has_ended);
        if wait_until.is_some()
            && let Some(permit) = work.permit.take()
        {
            self.breaker.withdrawn(permit);
        }
        self.grant_moves();
        let is_noting = was_noting || note.is_some();
        if let Some(note) = note {
            self.note(lane, note);
        }
        // A note that lands after the record of the ending would bring the copy back.
        if has_ended && !is_noting {
            self.conclude(lane);
        } else if let Some(at) = wait_until {
            self.intake.lanes.release_to_front(&lane, at);
        }
    }

    pub(super) fn grant_moves(&mut self) {
        while let Some(id) = self.budget.granted() {
            let request = self.moves_waiting.remove(id).expect("what is granted was waiting");
            self.effects.push_back(Effect::Call { id, request });
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
                self.advance(lane, News::Replied(id, reply));
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
}

/// What the target's answer to a copy with this permit says about its health.
fn listen_to_target(breaker: &mut Breaker, permit: &mut Option<Permit>, heard: bool, now: Instant) {
    let Some(given) = *permit else { return };
    if heard {
        breaker.succeeded(given, now);
    } else {
        breaker.failed(given, now);
    }
    // A probe is answered once; what the same copy hears next is ordinary news.
    if matches!(given, Permit::Probe(_)) {
        *permit = Some(Permit::Go);
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
