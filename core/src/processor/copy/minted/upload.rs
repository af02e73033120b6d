//! Multipart uploads: one for a version, found again by whoever owns the version next, and none left behind (decision D10).

use std::mem;

use crate::call::{Ending, RefusalKind};
use crate::id::UploadId;
use crate::model::{Location, ObjectMd};
use crate::request::Side;
use crate::request::minting::{MintingReply, MintingRequest, UploadedPart};
use crate::rules::Rules;

use super::super::{Context, CopyJob, Stage};

/// The uploads that concern a copy.
#[derive(Clone, Debug, Default)]
pub(in crate::processor::copy) struct Uploads {
    /// The one that this copy fills.
    own: Option<UploadId>,
    /// It was begun by this copy and without tags.
    untagged: bool,
    /// The upload is another owner's: which parts it holds is not known yet.
    unread: bool,
    /// Whether the open uploads of the key were asked for.
    listed: bool,
    /// Uploads that nobody completes any more.
    aborting: Vec<UploadId>,
    /// Every part is there; the target is looked at once more before the upload is completed.
    filled: bool,
}

impl Uploads {
    pub(super) fn own(&self) -> Option<UploadId> {
        self.own.clone()
    }

    /// Whether the version that is being written is certain to get the tags of `md`: not if it comes from an upload and there are
    /// any. The upload may have been begun with others, and some servers (Ceph 16) lose those that it was begun with.
    pub(super) fn has_tags_of(&self, md: &ObjectMd) -> bool {
        self.own.is_none() || (self.untagged && md.tags().is_empty())
    }

    /// The upload became a version.
    pub(super) fn completed(&mut self) {
        self.own = None;
        self.unread = false;
        self.filled = false;
    }

    /// Whether uploads are left to abort.
    pub(in crate::processor::copy) fn is_swept(&self) -> bool {
        self.aborting.is_empty()
    }
}

impl CopyJob {
    /// The upload that parts belong to.
    pub(in crate::processor::copy) fn upload(&self) -> Option<UploadId> {
        self.minting.as_ref().and_then(|minting| minting.uploads.own())
    }

    /// Nobody will complete the upload that this copy filled.
    pub(in crate::processor::copy) fn abandon_upload(&mut self) {
        if let Some(minting) = self.minting.as_deref_mut() {
            minting.uploads.filled = false;
            minting.uploads.unread = false;
            minting.uploads.aborting.extend(minting.uploads.own.take());
        }
    }

    /// The upload is not there any more.
    pub(in crate::processor::copy) fn upload_lost(&mut self) {
        self.minting().uploads.completed();
        self.deposit.parts.clear();
    }

    /// Goes on towards a filled upload: others of the key are aborted, one is begun, parts are moved.
    pub(super) fn plan_upload<R: Rules>(&mut self, context: &mut Context<'_, R>) {
        let uploads = &mut self.minting().uploads;
        if !uploads.listed || !uploads.aborting.is_empty() || uploads.own.is_none() || uploads.unread {
            self.stage = Stage::Preparing;
            return;
        }
        if mem::take(&mut uploads.filled) {
            self.stage = Stage::Writing;
            return;
        }
        self.stage = Stage::Moving;
        self.plan_parts(context.config);
        self.parts_settled(context);
    }

    /// Every part is there. Moving them took its time: the target is looked at once more.
    pub(in crate::processor::copy) fn upload_filled(&mut self) {
        self.minting().uploads.filled = true;
        self.stage = Stage::ReadingTarget;
    }

    pub(super) fn upload_request(&self) -> MintingRequest {
        let uploads = &self.minting.as_deref().expect("the target mints version ids").uploads;
        let object = self.target_object();
        if let Some(upload) = uploads.aborting.last() {
            return MintingRequest::AbortUpload { object, upload: upload.clone() };
        }
        if !uploads.listed {
            return MintingRequest::ListUploads { object };
        }
        if let Some(upload) = uploads.own.clone() {
            return MintingRequest::ListParts { object, upload };
        }
        MintingRequest::CreateUpload { object, md: self.read_source().clone() }
    }

    /// Takes the reply to a request about uploads.
    pub(super) fn upload_prepared<R: Rules>(&mut self, reply: MintingReply, context: &mut Context<'_, R>) {
        match reply {
            MintingReply::Done(ending) => self.upload_aborted(&ending),
            MintingReply::Uploads(Ending::Applied(open)) => {
                let own = self.upload();
                let inherited = self.inherited_upload().filter(|_| own.is_none());
                let uploads = &mut self.minting().uploads;
                uploads.listed = true;
                if let Some(upload) = inherited.filter(|upload| open.contains(upload)) {
                    uploads.own = Some(upload);
                    uploads.untagged = false;
                    uploads.unread = true;
                }
                uploads.aborting =
                    open.into_iter().filter(|upload| uploads.own.as_ref() != Some(upload)).collect();
                self.heard_from_target = Some(true);
            }
            MintingReply::Parts(Ending::Applied(parts)) => {
                self.minting().uploads.unread = false;
                self.keep_parts(parts, context.rules);
                self.heard_from_target = Some(true);
            }
            MintingReply::Parts(Ending::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
                self.upload_lost();
            }
            MintingReply::Created(Ending::Applied(upload)) => {
                self.note_upload(upload.clone(), context.config);
                let untagged = self.read_source().tags().is_empty();
                let uploads = &mut self.minting().uploads;
                uploads.own = Some(upload);
                uploads.untagged = untagged;
                uploads.filled = false;
                self.deposit.parts.clear();
                self.heard_from_target = Some(true);
            }
            // It may have been begun: the next listing finds it.
            MintingReply::Created(Ending::Unknown) => {
                self.minting().uploads.listed = false;
                return self.troubled(Side::Target, "TargetTimeout", None, context);
            }
            MintingReply::Uploads(Ending::Unknown) | MintingReply::Parts(Ending::Unknown) => {
                return self.troubled(Side::Target, "TargetTimeout", None, context);
            }
            MintingReply::Uploads(Ending::Refused(refusal))
            | MintingReply::Parts(Ending::Refused(refusal))
            | MintingReply::Created(Ending::Refused(refusal)) => {
                return self.target_refused(&refusal, context);
            }
            MintingReply::Found(_)
            | MintingReply::Current(_)
            | MintingReply::Put { .. }
            | MintingReply::Minted(_) => panic!("the reply is not about uploads"),
        }
        if self.stage == Stage::Preparing {
            self.plan_upload(context);
        } else if self.minting().uploads.is_swept() {
            self.stage = Stage::Ended;
        }
    }

    /// Keeps the parts of an upload that are the source's; the others are moved again.
    fn keep_parts<R: Rules>(&mut self, parts: Vec<UploadedPart>, rules: &R) {
        for part in parts {
            let wanted = self.deposit.layout.iter().find(|wanted| wanted.number == part.number);
            let matches = wanted.is_some_and(|wanted| wanted.size == part.size && *wanted.md5 == *part.etag);
            if wanted.is_some() && rules.keeps_noted_part(matches) {
                self.deposit.parts.insert(part.number, Location::stored(&part.etag, ""));
            }
        }
    }

    /// At the end of a copy: an upload that an earlier owner began is not left behind.
    pub(in crate::processor::copy) fn abandon_inherited_upload(&mut self) {
        if self.minting.is_some()
            && let Some(upload) = self.inherited_upload()
        {
            self.minting().uploads.aborting.push(upload);
        }
    }

    /// An upload that may be left behind is counted and left to the bucket's own rules.
    fn upload_aborted(&mut self, ending: &Ending<()>) {
        self.minting().uploads.aborting.pop();
        let left = match ending {
            Ending::Applied(()) => false,
            Ending::Refused(refusal) => refusal.kind != RefusalKind::NotFound,
            Ending::Unknown => true,
        };
        self.leaked += u32::from(left);
    }
}
