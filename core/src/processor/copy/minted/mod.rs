//! Copies to targets that mint version ids (decision D11).
//!
//! A copy goes round until there is nothing left to do: look at the target, read the source, take one step. A step removes
//! what landed late, writes the version, or replaces its tags. What the target cannot refuse on its own (tags; everything where
//! requests are not conditional) and what it may lose (the tags of an upload) is looked at once more afterwards, so that an owner that was paused past its lease finds what it
//! did and mends it.

mod order;
mod upload;

use crate::call::{Ending, Refusal, RefusalKind};
use crate::id::MintedId;
use crate::model::{ObjectMd, ObjectRef, SiteStatus, VersionRef};
use crate::request::Side;
use crate::request::minting::{
    Copies, CurrentIs, Minted, MintingReply, MintingRequest, ObjectPut, TargetVersion, marker_of,
};
use crate::rules::{AfterUnknown, OrderEvidence, Rules};

use super::parts::source_part_refused;
use super::{Context, CopyJob, Outcome, Stage};
use upload::Uploads;

/// What a copy to a target that mints ids knows besides.
#[derive(Clone, Debug)]
pub(super) struct Minting {
    conditional: bool,
    /// A newer version of the key may have been settled before this one: there is a record of an earlier failure.
    may_be_passed: bool,
    /// An id that the source's metadata gives for the copy, once it is worth asking for.
    known: Option<MintedId>,
    seen: Copies,
    /// Whether this version is the source's current one, if that was asked since the last look.
    is_current: Option<bool>,
    /// A write of this copy ended unknown: it may land later.
    doubt: bool,
    /// Delete markers that this copy made.
    markers: Vec<MintedId>,
    /// Versions that landed late and are to be removed.
    late: Vec<MintedId>,
    removed: u32,
    /// The version whose tags are replaced.
    tagging: Option<MintedId>,
    condition: Option<CurrentIs>,
    uploads: Uploads,
}

impl Minting {
    /// Whether nothing is left to abort.
    pub(super) fn is_swept(&self) -> bool {
        self.uploads.is_swept()
    }
}

impl CopyJob {
    /// Tells the copy that its target mints version ids. `may_be_passed`: there is a record of an earlier failure of this version,
    /// so that newer versions of the key may have been copied meanwhile.
    pub(in crate::processor) fn mint(&mut self, conditional: bool, may_be_passed: bool) {
        self.minting = Some(Box::new(Minting {
            conditional,
            may_be_passed,
            known: None,
            seen: Copies::default(),
            is_current: None,
            doubt: false,
            markers: Vec::new(),
            late: Vec::new(),
            removed: 0,
            tagging: None,
            condition: None,
            uploads: Uploads::default(),
        }));
    }

    /// Versions that landed late and were removed.
    pub fn late_removed(&self) -> u32 {
        self.minting.as_ref().map_or(0, |minting| minting.removed)
    }

    fn minting(&mut self) -> &mut Minting {
        self.minting.as_deref_mut().expect("the target mints version ids")
    }

    /// What the present stage asks for, if it is a stage of a target that mints ids.
    pub(super) fn minting_request<R: Rules>(&self, context: &Context<'_, R>) -> Option<MintingRequest> {
        let minting = self.minting.as_deref()?;
        let object = || self.target_object();
        match self.stage {
            Stage::ReadingTarget => Some(MintingRequest::FindCopies {
                object: object(),
                known: minting.known.clone(),
                depth: context.config.look_depth,
            }),
            Stage::ReadingCurrent => Some(MintingRequest::ReadCurrent { object: self.object.clone() }),
            Stage::Clearing => {
                let id = minting.late.last().cloned().expect("there is something to remove");
                Some(MintingRequest::DeleteVersion { object: object(), id })
            }
            Stage::Tagging => {
                let id = minting.tagging.clone().expect("the version to tag was found");
                Some(MintingRequest::WriteTags { object: object(), id, tags: self.read_source().tags() })
            }
            Stage::Preparing | Stage::Sweeping => Some(self.upload_request()),
            Stage::Writing => Some(self.minting_write(object(), context)),
            Stage::Scouting
            | Stage::ReadingRules
            | Stage::CheckingBucket
            | Stage::ReadingSource
            | Stage::Moving
            | Stage::Proving
            | Stage::Ended => None,
        }
    }

    fn read_source(&self) -> &ObjectMd {
        self.source.as_ref().expect("the source was read before the target is changed")
    }

    fn minting_write<R: Rules>(&self, object: ObjectRef, context: &Context<'_, R>) -> MintingRequest {
        let minting = self.minting.as_deref().expect("the target mints version ids");
        let condition = minting.condition.clone();
        let md = self.read_source();
        if md.is_delete_marker() {
            return MintingRequest::DeleteObject { object, condition };
        }
        if let Some(upload) = minting.uploads.own() {
            let parts = self.deposit.parts.iter().map(|(number, part)| (*number, part.key.to_string()));
            return MintingRequest::CompleteUpload { object, upload, parts: parts.collect(), condition };
        }
        let digest = self.deposit.layout.first().map_or(md.content_md5(), |part| &part.md5);
        MintingRequest::PutObject(Box::new(ObjectPut {
            from: self.object.clone(),
            to: object,
            size: md.content_length(),
            digest: digest.to_owned(),
            md: md.clone(),
            condition,
            deadline: context.config.part_deadline,
        }))
    }

    /// Takes the reply to a [`MintingRequest`].
    pub(super) fn minting_ended<R: Rules>(&mut self, reply: MintingReply, context: &mut Context<'_, R>) {
        match (self.stage, reply) {
            (Stage::ReadingTarget, MintingReply::Found(ending)) => self.found(ending, context),
            (Stage::ReadingCurrent, MintingReply::Current(ending)) => self.current_read(ending, context),
            (Stage::Clearing, MintingReply::Done(ending)) => self.cleared(&ending, context),
            (Stage::Tagging, MintingReply::Done(ending)) => self.tagged(&ending, context),
            (Stage::Writing, MintingReply::Put { side, ending }) => self.put(side, ending, context),
            (Stage::Writing, MintingReply::Minted(ending)) => self.minted(ending, context),
            (Stage::Preparing | Stage::Sweeping, reply) => self.upload_prepared(reply, context),
            (stage, reply) => panic!("reply {reply:?} does not belong to stage {stage:?}"),
        }
    }

    fn found<R: Rules>(&mut self, ending: Ending<Box<Copies>>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(copies) => {
                let minting = self.minting();
                minting.seen = *copies;
                minting.is_current = None;
                self.heard_from_target = Some(true);
                self.stage = Stage::ReadingSource;
            }
            Ending::Refused(refusal) => self.target_refused(&refusal, context),
            Ending::Unknown => self.troubled(Side::Target, "TargetTimeout", None, context),
        }
    }

    /// Whether COMPLETED, as the source says it of `md`, is all there is to say: nothing that the look found contradicts it.
    pub(super) fn is_shown_at_minting(&self, md: &ObjectMd) -> bool {
        let Some(minting) = self.minting.as_deref() else { return false };
        if md.is_delete_marker() {
            return true;
        }
        let marker = marker_of(&self.object.version);
        order::copy_of(&minting.seen, &marker, md).is_none_or(|copy| md.has_tags(&copy.tags))
    }

    /// Decides the next step, knowing both sides.
    pub(super) fn plan_minted<R: Rules>(&mut self, md: &ObjectMd, context: &mut Context<'_, R>) {
        let marker = marker_of(&self.object.version);
        let rules = context.rules;
        let minting = self.minting();
        let late = order::late(&minting.seen, &marker, &minting.markers, rules);
        if !late.is_empty() && rules.looks_after_minting() {
            minting.late = late;
            self.stage = Stage::Clearing;
            return;
        }
        if md.is_delete_marker() {
            return self.plan_marker(md, &marker, context);
        }
        if let Some(copy) = order::copy_of(&minting.seen, &marker, md).filter(|_| rules.looks_for_marker()) {
            let id = copy.id.clone();
            if md.has_tags(&copy.tags) {
                return self.copied_as(id);
            }
            minting.tagging = Some(id);
            self.stage = Stage::Tagging;
            return;
        }
        if self.looks_for_recorded(md, context) {
            return;
        }
        let minting = self.minting();
        let failed_before = md.replication().site_status(&context.config.site) == Some(&SiteStatus::Failed);
        let unclear = (minting.may_be_passed || failed_before)
            && minting.seen.newest_first.first().is_some_and(|current| current.is_delete_marker);
        if unclear && minting.is_current.is_none() {
            self.stage = Stage::ReadingCurrent;
            return;
        }
        let evidence = OrderEvidence {
            newer_at_target: order::oldest_newer(&minting.seen, &marker).is_some(),
            passed: unclear && minting.is_current != Some(true),
        };
        if !rules.may_become_current(evidence) {
            return self.fail("NewerVersionAtTarget");
        }
        self.write_minted(md, context);
    }

    /// A delete marker carries no marker of ours: it is told by its place. One delete marker at the target stands for all that
    /// follow one another at the source.
    fn plan_marker<R: Rules>(&mut self, md: &ObjectMd, marker: &VersionRef, context: &mut Context<'_, R>) {
        let is_marker = |version: &TargetVersion| version.is_delete_marker;
        let seen = &self.minting().seen;
        let oldest_newer = order::oldest_newer(seen, marker);
        let beneath = oldest_newer.map_or(0, |place| place + 1);
        if let Some(version) = seen.newest_first.get(beneath).filter(|version| is_marker(version)) {
            let id = version.id.clone();
            return self.copied_as(id);
        }
        if self.looks_for_recorded(md, context) {
            return;
        }
        let evidence = OrderEvidence { newer_at_target: oldest_newer.is_some(), passed: false };
        if !context.rules.may_become_current(evidence) {
            return self.fail("NewerVersionAtTarget");
        }
        self.write_minted(md, context);
    }

    /// Older than what a look reaches: the source may know which version it became. Returns whether that one is asked for.
    fn looks_for_recorded<R: Rules>(&mut self, md: &ObjectMd, context: &Context<'_, R>) -> bool {
        let minting = self.minting();
        let recorded =
            md.replication().backend(&context.config.site).map(|site| &*site.data_store_version_id);
        let Some(id) = recorded.filter(|id| !id.is_empty() && !minting.seen.complete) else { return false };
        if minting.known.as_ref().is_some_and(|known| known.as_str() == id) {
            return false;
        }
        minting.known = Some(id.into());
        self.stage = Stage::ReadingTarget;
        true
    }

    fn write_minted<R: Rules>(&mut self, md: &ObjectMd, context: &mut Context<'_, R>) {
        let current = self.minting().seen.newest_first.first();
        let right = match current {
            Some(version) if !version.is_delete_marker => Some(CurrentIs::Etag(version.etag.to_string())),
            // A deletion cannot name the absence of a version.
            _ if md.is_delete_marker() => None,
            _ => Some(CurrentIs::Absent),
        };
        let conditional = self.minting().conditional;
        self.minting().condition = context.rules.minting_condition(right.filter(|_| conditional));
        let layout = md.part_layout();
        if layout.iter().any(|part| part.md5.is_empty()) {
            return self.fail("MissingPartDigest");
        }
        if self.deposit.layout != layout {
            self.abandon_deposit();
            self.deposit.layout = layout.to_vec();
        }
        if self.deposit.layout.len() > 1 {
            self.plan_upload(context);
        } else {
            self.stage = Stage::Writing;
        }
    }

    fn current_read<R: Rules>(&mut self, ending: Ending<VersionRef>, context: &mut Context<'_, R>) {
        let current = match ending {
            Ending::Applied(version) => Some(version),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => None,
            Ending::Refused(refusal) => return self.source_refused(&refusal, context),
            Ending::Unknown => return self.troubled(Side::Source, "SourceTimeout", None, context),
        };
        let is_current = current.as_ref() == Some(&self.object.version);
        self.minting().is_current = Some(is_current);
        let md = self.read_source().clone();
        self.plan_minted(&md, context);
    }

    fn cleared<R: Rules>(&mut self, ending: &Ending<()>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Refused(refusal) if refusal.kind != RefusalKind::NotFound => {
                self.target_refused(refusal, context);
            }
            Ending::Unknown => self.troubled(Side::Target, "TargetTimeout", None, context),
            Ending::Applied(()) | Ending::Refused(_) => {
                self.heard_from_target = Some(true);
                let minting = self.minting();
                minting.late.pop();
                minting.removed += 1;
                if minting.late.is_empty() {
                    self.look_again(context);
                }
            }
        }
    }

    fn tagged<R: Rules>(&mut self, ending: &Ending<()>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(()) if !context.rules.looks_after_minting() => {
                let id = self.minting().tagging.take().expect("the version was found");
                self.copied_as(id);
            }
            Ending::Refused(refusal) if refusal.kind != RefusalKind::NotFound => {
                self.target_refused(refusal, context);
            }
            // Tags are replaced whatever they are: a newer revision may have come between.
            Ending::Applied(()) | Ending::Refused(_) => {
                self.heard_from_target = Some(true);
                self.look_again(context);
            }
            Ending::Unknown => self.unknown_at_target(context),
        }
    }

    fn put<R: Rules>(&mut self, side: Side, ending: Ending<Minted>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(minted) => {
                self.bytes_moved += self.read_source().content_length();
                let is_digest = minted.etag.len() == 32 && !minted.etag.contains('-');
                let expected = self.deposit.layout.first().map(|part| part.md5.clone()).unwrap_or_default();
                if is_digest && !expected.is_empty() && !context.rules.accepts_digest(&expected, &minted.etag)
                {
                    // Announced, and stored all the same: other bytes must not stay.
                    self.minting().late = vec![minted.id];
                    self.stage = Stage::Clearing;
                    return;
                }
                self.minted(Ending::Applied(minted), context);
            }
            Ending::Refused(refusal) if side == Side::Source => {
                self.stopped(source_part_refused(&refusal), context);
            }
            Ending::Refused(refusal) => self.minting_refused(&refusal, context),
            Ending::Unknown => self.unknown_at_target(context),
        }
    }

    fn minted<R: Rules>(&mut self, ending: Ending<Minted>, context: &mut Context<'_, R>) {
        match ending {
            Ending::Applied(minted) => {
                self.heard_from_target = Some(true);
                self.deposit.parts.clear();
                let source = self.read_source().clone();
                let is_marker = source.is_delete_marker();
                let minting = self.minting();
                let certain =
                    minting.condition.is_some() && !minting.doubt && minting.uploads.has_tags_of(&source);
                minting.uploads.completed();
                if is_marker {
                    minting.markers.push(minted.id.clone());
                }
                if certain || !context.rules.looks_after_minting() {
                    self.copied_as(minted.id);
                } else {
                    self.look_again(context);
                }
            }
            Ending::Refused(refusal) => self.minting_refused(&refusal, context),
            Ending::Unknown => self.unknown_at_target(context),
        }
    }

    fn minting_refused<R: Rules>(&mut self, refusal: &Refusal, context: &mut Context<'_, R>) {
        match refusal.kind {
            RefusalKind::Conflict => {
                self.heard_from_target = Some(true);
                self.look_again(context);
            }
            // The upload is gone or holds other parts than we were told: whatever became of it shows at the next look.
            RefusalKind::NotFound | RefusalKind::Invalid if self.minting().uploads.own().is_some() => {
                self.heard_from_target = Some(true);
                self.abandon_deposit();
                self.look_again(context);
            }
            RefusalKind::BadDigest => {
                let stop = self.target_part_refused(refusal);
                self.stopped(stop, context);
            }
            RefusalKind::NotFound
            | RefusalKind::BucketNotFound
            | RefusalKind::BucketUnversioned
            | RefusalKind::Denied
            | RefusalKind::ExpiredCredentials
            | RefusalKind::Throttled { .. }
            | RefusalKind::Unavailable
            | RefusalKind::InvalidState
            | RefusalKind::TooLarge
            | RefusalKind::Fenced
            | RefusalKind::Invalid => self.target_refused(refusal, context),
        }
    }

    fn unknown_at_target<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        match context.rules.after_unknown() {
            AfterUnknown::TryAgain => {
                self.minting().doubt = true;
                self.stage = Stage::ReadingTarget;
                self.troubled(Side::Target, "TargetTimeout", None, context);
            }
            AfterUnknown::AssumeApplied => self.copied_as("".into()),
            AfterUnknown::AssumeRefused => self.fail("TargetTimeout"),
        }
    }

    fn copied_as(&mut self, id: MintedId) {
        self.heard_from_target = Some(true);
        let source = self.read_source().clone();
        self.end(Outcome::Copied { source, bytes: self.bytes_moved, minted: Some(id) });
    }
}
