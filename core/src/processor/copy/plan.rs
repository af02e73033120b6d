//! What a copy reads before it writes, what it concludes from that, and the write itself.

use std::sync::Arc;

use crate::call::{Ending, RefusalKind};
use crate::id::Bucket;
use crate::model::{Location, ObjectMd, OverallStatus, SiteStatus};
use crate::request::{BucketRules, Side};
use crate::rules::{AfterUnknown, Rules};

use super::deposit::Deposit;
use super::permission::Permission;
use super::{Context, CopyConfig, CopyJob, Outcome, RESTARTS_MAX, Settled, Stage};

impl CopyJob {
    pub(super) fn scouted<R: Rules>(&mut self, ending: Ending<ObjectMd>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(md) => {
                self.destination = destination_of(&md);
                if self.destination.is_some() {
                    self.stage = Stage::ReadingRules;
                } else {
                    self.end(Outcome::Settled(Settled::NotRequested));
                }
            }
            Ending::Refused(refusal) => self.source_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Source, "SourceTimeout", None, context),
        }
    }

    pub(super) fn rules_read<R: Rules>(
        &mut self,
        ending: Ending<Arc<BucketRules>>,
        context: &mut Context<'_, R>,
    ) {
        match ending {
            Ending::Applied(configuration) => {
                self.configuration = Some(configuration);
                self.stage = if self.bucket_checked { Stage::ReadingTarget } else { Stage::CheckingBucket };
            }
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
                self.fail("ReplicationConfigurationNotFoundError");
            }
            Ending::Refused(refusal) => self.source_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Source, "SourceTimeout", None, context),
        }
    }

    pub(super) fn bucket_checked<R: Rules>(&mut self, ending: Ending<()>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(()) => {
                self.heard_from_target = Some(true);
                self.bucket_checked = true;
                self.stage = Stage::ReadingTarget;
            }
            Ending::Refused(refusal) => self.target_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Target, "TargetTimeout", None, context),
        }
    }

    pub(super) fn target_read<R: Rules>(&mut self, ending: Ending<ObjectMd>, context: &mut Context<'_, R>) {
        self.target = match ending {
            Ending::Applied(md) => Some(md),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => None,
            Ending::Refused(refusal) => return self.target_refused(&refusal, context),
            Ending::Unknown => return self.troubled(Side::Target, "TargetTimeout", None, context),
        };
        self.heard_from_target = Some(true);
        self.stage = Stage::ReadingSource;
    }

    pub(super) fn source_read<R: Rules>(&mut self, ending: Ending<ObjectMd>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(md) => self.plan(md, context),
            Ending::Refused(refusal) => self.source_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Source, "SourceTimeout", None, context),
        }
    }

    /// Decides what the target needs, knowing both sides.
    fn plan<R: Rules>(&mut self, md: ObjectMd, context: &mut Context<'_, R>) {
        self.source = Some(md.clone());
        if !context.rules.is_replicable(&md) {
            return self.end(Outcome::Settled(Settled::NotRequested));
        }
        match md.replication().site_status(&context.config.site) {
            None => return self.end(Outcome::Settled(Settled::NotRequested)),
            // A client may write the same content again after another one: then a late outcome of the first copy can be
            // recorded on the third revision while the target shows the second. Only a target that shows something else
            // proves that; one that shows nothing was emptied on purpose.
            Some(SiteStatus::Completed) if self.shows(&md) => {
                return self.end(Outcome::Settled(Settled::AlreadyCompleted));
            }
            Some(_) => {}
        }
        if let Some(reason) = self.verdict.take() {
            return self.fail(&reason);
        }
        if destination_of(&md) != self.destination {
            self.destination = destination_of(&md);
            self.bucket_checked = false;
            return self.look_again(context);
        }
        match self.permission(&md) {
            Permission::Granted => {}
            Permission::Withdrawn => return self.fail("ReplicationDisabled"),
            Permission::BadRole => return self.end(Outcome::Held { reason: "BadRole".to_owned() }),
        }
        if self.minting.is_some() {
            return self.plan_minted(&md, context);
        }
        if self.target.as_ref().is_some_and(|target| target.fingerprint() == md.fingerprint()) {
            return self.end(Outcome::Copied { source: md, bytes: self.bytes_moved, minted: None });
        }
        let layout = md.part_layout().to_vec();
        self.keep_data =
            !layout.is_empty() && self.target.as_ref().is_some_and(|target| has_data_of(target, &md));
        if self.keep_data || layout.is_empty() {
            self.abandon_deposit();
            return self.prepare_write(context.config);
        }
        if layout.iter().any(|part| part.md5.is_empty()) {
            return self.fail("MissingPartDigest");
        }
        if self.deposit.layout != layout {
            self.abandon_deposit();
            self.deposit.layout = layout;
        }
        self.adopt_parts(context.rules);
        self.stage = Stage::Moving;
        self.plan_parts(context.config);
        self.parts_settled(context);
    }

    /// Whether the target, as it was read, shows `md` or nothing at all.
    fn shows(&self, md: &ObjectMd) -> bool {
        if self.minting.is_some() {
            return self.is_shown_at_minting(md);
        }
        self.target.as_ref().is_none_or(|target| target.fingerprint() == md.fingerprint())
    }

    /// Makes the document that the target gets (replication reference 4.3 and 4.4).
    pub(super) fn prepare_write(&mut self, config: &CopyConfig) {
        let source = self.source.as_ref().expect("the source was read before the write is made");
        let locations = if self.keep_data {
            Vec::new()
        } else {
            let place = |location: Location| {
                let stored = location.part_number().and_then(|number| self.deposit.parts.get(&number));
                stored.map_or_else(|| location.clone(), |stored| location.stored_at(stored))
            };
            source.reduced_locations().into_iter().map(place).collect()
        };
        let replication = source
            .replication()
            .with_site_status(&config.site, SiteStatus::Replica)
            .with_status(OverallStatus::Replica);
        let replica = source.replica(replication, &config.owner, locations);
        // Where the target keeps its data, it keeps what it says of its encryption, too.
        self.write = Some(replica.with_encryption(&self.deposit.encryption));
        self.stage = Stage::Writing;
    }

    pub(super) fn written<R: Rules>(&mut self, ending: Ending<()>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(()) => self.copied(),
            Ending::Refused(refusal)
                if matches!(refusal.kind, RefusalKind::Conflict | RefusalKind::NotFound) =>
            {
                self.heard_from_target = Some(true);
                if refusal.kind == RefusalKind::NotFound {
                    // The data that the document names is not there any more: it has to be moved again.
                    self.abandon_deposit();
                }
                self.look_again(context);
            }
            Ending::Refused(refusal) => self.target_refused(&refusal, context),
            Ending::Unknown => match context.rules.after_unknown() {
                AfterUnknown::TryAgain => {
                    self.deposit.write_unknown = true;
                    self.troubled(Side::Target, "TargetTimeout", None, context);
                }
                AfterUnknown::AssumeApplied => self.copied(),
                AfterUnknown::AssumeRefused => self.fail("TargetTimeout"),
            },
        }
    }

    pub(super) fn copied(&mut self) {
        self.heard_from_target = Some(true);
        self.deposit = Deposit::default();
        let source = self.source.clone().expect("the source was read before the write");
        self.end(Outcome::Copied { source, bytes: self.bytes_moved, minted: None });
    }

    /// Reads both sides again: one of them is not what it was.
    pub(super) fn look_again<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        self.restarts += 1;
        self.stage = if self.bucket_checked { Stage::ReadingTarget } else { Stage::CheckingBucket };
        if self.restarts > RESTARTS_MAX {
            self.restarts = 0;
            self.troubled(Side::Target, "Contention", None, context);
        }
    }

    /// Ends as FAILED, for the source revision that was read last; one is read if there is none yet.
    pub(super) fn fail(&mut self, reason: &str) {
        if let Some(source) = self.source.clone() {
            self.end(Outcome::Failed { reason: reason.to_owned(), source });
        } else {
            self.verdict = Some(reason.to_owned());
            self.stage = Stage::ReadingSource;
        }
    }

    /// Ends; first the data that was written in vain is looked after.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.abandon_deposit();
        self.abandon_inherited_upload();
        let left = self.has_left_noted();
        self.ending = Some(outcome);
        self.stage = match &self.minting {
            Some(minting) if minting.is_swept() => Stage::Ended,
            Some(_) => Stage::Sweeping,
            None if self.abandoned.is_empty() && !left => Stage::Ended,
            None => Stage::Proving,
        };
    }
}

/// The target bucket that a document names, if it names one.
pub(in crate::processor) fn destination_of(md: &ObjectMd) -> Option<Bucket> {
    Some(md.replication().destination_bucket()).filter(|bucket| !bucket.as_str().is_empty()).cloned()
}

/// Whether `target` holds the bytes of `source`, part by part.
fn has_data_of(target: &ObjectMd, source: &ObjectMd) -> bool {
    !target.is_delete_marker()
        && target.content_md5() == source.content_md5()
        && target.content_length() == source.content_length()
        && target.part_layout() == source.part_layout()
}
