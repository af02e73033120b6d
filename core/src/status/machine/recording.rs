//! An outcome on its way into the source's metadata: what is stored is read, decided on and written under a condition.

use std::collections::VecDeque;

use crate::call::{Ending, MetadataRefused};
use crate::exception::{ExceptionRecord, ExceptionState};
use crate::id::EffectId;
use crate::intake::LaneKey;
use crate::model::{ObjectEntry, ObjectMd, SiteStatus, StatusAction, StatusPlan, decide_status};
use crate::parts::Retry;
use crate::request::{Side, SiteReply, SiteRequest};
use crate::rules::{AfterUnknown, Rules};
use crate::status::{Effect, Outgoing};

use super::{Stage, StatusProcessor, Step};

impl<R: Rules> StatusProcessor<R> {
    pub(super) fn read(&mut self, lane: LaneKey) {
        if let Some(work) = self.intake.lanes.running_mut(&lane) {
            work.stage = Stage::Reading;
            work.retry.get_or_insert_with(|| Retry::new(self.now.mono));
        }
        self.emit(lane, |id, work| Effect::Call {
            id,
            request: Box::new(SiteRequest::ReadMetadata { side: Side::Source, object: work.object.clone() }),
        });
    }

    pub(super) fn replied(&mut self, id: EffectId, reply: SiteReply) {
        if let Some((lane, again)) = self.ghosts.remove(id) {
            if let Some(outgoing) = again {
                let id = self.ids.next();
                self.effects.push_back(Effect::Publish { id, outgoing });
            }
            return self.intake.lanes.unblock(&lane);
        }
        let Some(lane) = self.owners.remove(id) else { return };
        match reply {
            SiteReply::Metadata(Ending::Applied(stored)) => self.decide(lane, &stored),
            SiteReply::Written(Ending::Applied(())) => self.written(lane),
            SiteReply::Metadata(Ending::Refused(refusal)) | SiteReply::Written(Ending::Refused(refusal)) => {
                match refusal.kind.of_metadata() {
                    MetadataRefused::Gone => self.finish(lane),
                    MetadataRefused::Changed => {
                        self.summary.conflicts += 1;
                        self.read(lane);
                    }
                    MetadataRefused::Later => self.wait(lane, refusal.kind.retry_after()),
                }
            }
            SiteReply::Metadata(Ending::Unknown) => self.wait(lane, None),
            SiteReply::Written(Ending::Unknown) => match self.rules.after_unknown() {
                AfterUnknown::TryAgain => self.wait(lane, None),
                AfterUnknown::AssumeApplied => self.written(lane),
                AfterUnknown::AssumeRefused => self.finish(lane),
            },
            SiteReply::Moved { .. }
            | SiteReply::Deleted(_)
            | SiteReply::Rules(_)
            | SiteReply::Bucket(_)
            | SiteReply::Minting(_) => {
                panic!("the status processor asked for metadata only");
            }
        }
    }

    /// Knows both the outcome and what is stored: decides what to write and what follows.
    fn decide(&mut self, lane: LaneKey, stored: &ObjectMd) {
        if !self.rules.is_replicable(stored) {
            // The version became somebody else's replica after the copy: nothing is recorded on it (I5).
            return self.finish(lane);
        }
        let Some(work) = self.intake.lanes.running(&lane) else { return };
        let report = &work.report;
        let is_other = work.entry.md().revision() != stored.revision();
        let plan = if is_other && self.rules.speaks_for(work.entry.md(), stored) {
            let replication = stored.replication().with_site_status(&report.site, report.status.clone());
            let entry = work.entry.with_md(stored.with_replication(replication));
            decide_status(report, &entry, stored, &self.config.decision, self.now.wall)
        } else {
            decide_status(report, &work.entry, stored, &self.config.decision, self.now.wall)
        };
        self.carry_out(lane, stored, plan);
    }

    fn carry_out(&mut self, lane: LaneKey, stored: &ObjectMd, plan: StatusPlan) {
        let failure = plan.failure.map(|record| Step::Publish(Outgoing::Failed { record: Box::new(record) }));
        let gc = plan.gc.map(|action| Step::Publish(Outgoing::Gc { action: Box::new(action) }));
        // Whoever sets a site back to PENDING also queues its work: the work that came with the request may be done already when
        // an owner that was paused, or a second reading of the message, sets the site back once more.
        let work = self.asked_again(lane, stored).map(|entry| Step::Publish(Outgoing::Requeue { entry }));
        let steps: VecDeque<Step> = failure.into_iter().chain(gc).chain(work).collect();
        match plan.action {
            StatusAction::NoChange(_) => self.publish(lane, steps),
            StatusAction::Replay { topic, entry } => {
                self.publish(lane, VecDeque::from([Step::Publish(Outgoing::Replay { topic, entry })]));
            }
            StatusAction::Republish(entry) => {
                self.summary.mismatched += 1;
                let steps = self.requeue(lane, *entry);
                self.publish(lane, steps);
            }
            StatusAction::Write(right) => {
                let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
                work.steps = steps;
                work.stage = Stage::Writing;
                work.metric = plan.metric;
                let md = self.rules.status_write(right, work.entry.md(), stored);
                let condition = self.rules.status_condition(stored.state_tag());
                self.emit(lane, |id, work| Effect::Call {
                    id,
                    request: Box::new(SiteRequest::WriteMetadata {
                        side: Side::Source,
                        object: work.object.clone(),
                        md,
                        condition,
                        keep_data: false,
                    }),
                });
            }
        }
    }

    /// The work of a report that sets its site back to PENDING.
    fn asked_again(&self, lane: LaneKey, stored: &ObjectMd) -> Option<Box<ObjectEntry>> {
        let work = self.intake.lanes.running(&lane)?;
        let site = &work.report.site;
        if work.report.status != SiteStatus::Pending || stored.replication().site_status(site).is_none() {
            return None;
        }
        let mut entry = work.entry.with_md(stored.clone()).to_retry(site);
        entry.site = Some(site.clone());
        Some(Box::new(entry))
    }

    /// The stored revision is not the one that was copied: it is queued again, a few times; then the version is held
    /// (decision D2).
    fn requeue(&mut self, lane: LaneKey, mut again: ObjectEntry) -> VecDeque<Step> {
        let Some(work) = self.intake.lanes.running(&lane) else { return VecDeque::new() };
        if !self.rules.requeues_other_revision() {
            return VecDeque::new();
        }
        let (object, site) = (work.object.clone(), work.report.site.clone());
        let count = self.requeues.count((object.clone(), site.clone()));
        if count <= self.config.requeues_max {
            again.site = Some(site);
            return VecDeque::from([Step::Publish(Outgoing::Requeue { entry: Box::new(again) })]);
        }
        let record = ExceptionRecord {
            site,
            object,
            state: ExceptionState::Held,
            reason: "RevisionUnstable".to_owned(),
            attempts: count,
            first: self.now.wall,
            last: self.now.wall,
            next: Some(self.now.wall_after(self.config.hold_delay)),
            deposit: None,
        };
        VecDeque::from([Step::Exception(Box::new(record))])
    }

    fn written(&mut self, lane: LaneKey) {
        self.summary.written += 1;
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        let version = (work.object.clone(), work.report.site.clone());
        if let Some(metric) = work.metric.take() {
            self.effects.push_back(Effect::Count(Box::new(metric)));
        }
        let steps = std::mem::take(&mut work.steps);
        self.requeues.forget(&version);
        self.publish(lane, steps);
    }
}
