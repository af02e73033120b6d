//! Requests to target sites that mint version ids.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::MintedId;
use backbeat_core::model::ObjectMd;
use backbeat_core::request::minting::{
    Copies, CurrentIs, Minted, MintingReply, MintingRequest, ObjectPut, TargetVersion,
};
use backbeat_core::request::{MovedPart, PartMove, Side, SiteReply};
use backbeat_core::rules::Rules;
use smol_str::SmolStr;

use super::World;
use super::minting_site::{MintedVersion, MintingSite};
use crate::checkers::Seen;
use crate::content::Content;
use crate::faults::Fault;
use crate::ids::{KeyId, SiteId, VerId};
use crate::marks::Mark;
use crate::names::version_of;

fn refused<T>(kind: RefusalKind, code: &str) -> Ending<T> {
    Ending::Refused(Refusal::new(kind, code))
}

/// The version that a request changes at its target; looks, uploads and removals of what landed late change none.
pub(super) fn changed_by(request: &MintingRequest) -> Option<VerId> {
    match request {
        MintingRequest::PutObject(put) => Some(version_of(&put.from)),
        MintingRequest::CompleteUpload { object, .. }
        | MintingRequest::WriteTags { object, .. }
        | MintingRequest::DeleteObject { object, .. } => Some(version_of(object)),
        MintingRequest::FindCopies { .. }
        | MintingRequest::ReadCurrent { .. }
        | MintingRequest::ListUploads { .. }
        | MintingRequest::CreateUpload { .. }
        | MintingRequest::ListParts { .. }
        | MintingRequest::AbortUpload { .. }
        | MintingRequest::DeleteVersion { .. } => None,
    }
}

/// Whether a reply refuses something that would have changed the target.
pub(super) fn is_refused_write(reply: &MintingReply) -> bool {
    matches!(
        reply,
        MintingReply::Put { ending: Ending::Refused(_), .. }
            | MintingReply::Minted(Ending::Refused(_))
            | MintingReply::Done(Ending::Refused(_))
    )
}

impl<R: Rules> World<R> {
    fn site(&mut self, site: SiteId) -> &mut MintingSite {
        self.targets[site.index()].minting.as_mut().expect("the site mints ids")
    }

    fn key_of(&self, version: VerId) -> KeyId {
        self.source.versions[version.index()].key
    }

    /// The source says which version of a key is current.
    pub(super) fn current_at_source(&self, version: VerId) -> MintingReply {
        let key = self.key_of(version);
        MintingReply::Current(match self.source.existing(key).last() {
            Some(current) => Ending::Applied(self.source.versions[current.index()].object.version.clone()),
            None => refused(RefusalKind::NotFound, "NoSuchKey"),
        })
    }

    /// What a site that mints ids does. `stray`: nobody who owns the key's partition waits for the answer.
    pub(super) fn serve_minting(
        &mut self,
        site: SiteId,
        request: &MintingRequest,
        stray: bool,
    ) -> MintingReply {
        match request {
            MintingRequest::FindCopies { object, known, depth } => MintingReply::Found(Ending::Applied(
                self.find_copies(site, version_of(object), known.as_ref(), *depth).into(),
            )),
            MintingRequest::PutObject(put) => self.put_object(site, put, stray),
            MintingRequest::ListUploads { object } => {
                let key = self.key_of(version_of(object));
                let minting = self.targets[site.index()].minting.as_ref().expect("the site mints ids");
                let open = minting.uploads_of(&self.source, key);
                if !open.is_empty() {
                    self.marks.hit(Mark::UploadFound);
                }
                MintingReply::Uploads(Ending::Applied(
                    open.into_iter().map(|id| id.to_string().into()).collect(),
                ))
            }
            MintingRequest::CreateUpload { object, md } => {
                let id = self.site(site).begin(version_of(object), md.clone());
                MintingReply::Created(Ending::Applied(id.to_string().into()))
            }
            MintingRequest::ListParts { upload, .. } => {
                self.marks.hit(Mark::UploadResumed);
                MintingReply::Parts(self.site(site).parts(upload.as_str()))
            }
            MintingRequest::CompleteUpload { object, upload, parts, condition } => {
                MintingReply::Minted(self.complete_upload(
                    site,
                    version_of(object),
                    upload.as_str(),
                    parts,
                    condition.as_ref(),
                    stray,
                ))
            }
            MintingRequest::AbortUpload { upload, .. } => {
                self.site(site).abort(upload.as_str());
                MintingReply::Done(Ending::Applied(()))
            }
            MintingRequest::WriteTags { object, id, tags } => {
                let version = version_of(object);
                let key = self.key_of(version);
                let id: u32 = id.as_str().parse().expect("ids are the site's");
                let tagged = self.site(site).tag(key, id, tags, stray).map(|tagged| tagged.md.clone());
                let Some(md) = tagged else {
                    return MintingReply::Done(refused(RefusalKind::NotFound, "NoSuchVersion"));
                };
                let content = Content::plain(&md);
                self.marks.hit(Mark::TagsReplaced);
                self.see(&Seen::Retagged { site, version, id, content, stray });
                MintingReply::Done(Ending::Applied(()))
            }
            MintingRequest::DeleteObject { object, condition } => {
                let version = version_of(object);
                let key = self.key_of(version);
                if !self.site(site).holds(key, condition.as_ref()) {
                    self.marks.hit(Mark::MintingConflict);
                    return MintingReply::Minted(refused(RefusalKind::Conflict, "PreconditionFailed"));
                }
                let md = ObjectMd::parse(r#"{"isDeleteMarker":true}"#).expect("valid JSON");
                MintingReply::Minted(Ending::Applied(self.mint(
                    site,
                    (version, Content::plain(&md)),
                    &md,
                    condition.as_ref(),
                    stray,
                )))
            }
            MintingRequest::DeleteVersion { object, id } => {
                let key = self.key_of(version_of(object));
                let id: u32 = id.as_str().parse().expect("ids are the site's");
                if self.site(site).remove(key, id) {
                    self.marks.hit(Mark::LateRemoved);
                    self.see(&Seen::Unminted { site, key, id });
                }
                MintingReply::Done(Ending::Applied(()))
            }
            MintingRequest::ReadCurrent { .. } => panic!("{request:?} does not go to a target"),
        }
    }

    fn find_copies(&mut self, site: SiteId, wanted: VerId, known: Option<&MintedId>, depth: u32) -> Copies {
        let key = self.key_of(wanted);
        let minting = self.targets[site.index()].minting.as_ref().expect("the site mints ids");
        let versions = minting.versions(key);
        let shown = |version: &MintedVersion| minting.shown(&self.source, version, wanted);
        let depth = usize::try_from(depth).expect("small");
        let newest_first: Vec<TargetVersion> = versions.iter().rev().take(depth).map(shown).collect();
        let known =
            known.and_then(|id| versions.iter().find(|version| version.id.to_string() == id.as_str()));
        if newest_first.iter().any(|version| {
            version.marker.as_ref() == Some(&self.source.versions[wanted.index()].object.version)
        }) {
            self.marks.hit(Mark::MarkerFound);
        }
        let complete = versions.len() <= depth;
        Copies { newest_first, complete, known: known.map(shown) }
    }

    fn put_object(&mut self, site: SiteId, put: &ObjectPut, stray: bool) -> MintingReply {
        let version = version_of(&put.from);
        let at = |side, ending| MintingReply::Put { side, ending };
        if put.size > 0 {
            if let Some(refusal) = self.source_refusal() {
                return at(Side::Source, Ending::Refused(refusal));
            }
            if self.source.md(version).is_none() {
                self.marks.hit(Mark::GoneAtSource);
                return at(Side::Source, refused(RefusalKind::NotFound, "NoSuchKey"));
            }
            if self.strikes(Fault::Truncated) {
                return at(Side::Source, refused(RefusalKind::Unavailable, "IncompleteBody"));
            }
            if self.strikes(Fault::TargetBadDigest) || self.strikes(Fault::BitFlip) {
                self.marks.hit(Mark::CorruptCaught);
                return at(Side::Target, refused(RefusalKind::BadDigest, "BadDigest"));
            }
        }
        let key = self.key_of(version);
        if !self.site(site).holds(key, put.condition.as_ref()) {
            self.marks.hit(Mark::MintingConflict);
            return at(Side::Target, refused(RefusalKind::Conflict, "PreconditionFailed"));
        }
        let asked = (version, Content::plain(&put.md));
        let minted = self.mint(site, asked, &put.md, put.condition.as_ref(), stray);
        at(Side::Target, Ending::Applied(minted))
    }

    fn complete_upload(
        &mut self,
        site: SiteId,
        version: VerId,
        upload: &str,
        parts: &[(u32, String)],
        condition: Option<&CurrentIs>,
        stray: bool,
    ) -> Ending<Minted> {
        let key = self.key_of(version);
        if !self.site(site).holds(key, condition) {
            self.marks.hit(Mark::MintingConflict);
            return refused(RefusalKind::Conflict, "PreconditionFailed");
        }
        match self.site(site).complete(upload, parts) {
            Ending::Applied(done) => {
                self.marks.hit(Mark::UploadCompleted);
                Ending::Applied(self.mint(site, (done.version, done.asked), &done.md, condition, stray))
            }
            Ending::Refused(refusal) => Ending::Refused(refusal),
            Ending::Unknown => Ending::Unknown,
        }
    }

    fn mint(
        &mut self,
        site: SiteId,
        (version, asked): (VerId, Content),
        md: &ObjectMd,
        condition: Option<&CurrentIs>,
        stray: bool,
    ) -> Minted {
        let key = self.key_of(version);
        let etag = md.content_md5().to_owned();
        // A condition that other versions meet, too, or none at all, cannot refuse what comes late.
        let vague = self.is_vague(site, key, condition, md);
        let excused = stray && vague;
        let id = self.site(site).mint(key, version, md.clone(), excused);
        self.see(&Seen::Minted { site, key, version, id, md, asked, stray: excused });
        Minted { id: id.to_string().into(), etag }
    }

    /// Whether the condition of a request may hold though the target has changed since it was sent.
    fn is_vague(&self, site: SiteId, key: KeyId, condition: Option<&CurrentIs>, md: &ObjectMd) -> bool {
        let minting = self.targets[site.index()].minting.as_ref().expect("the site mints ids");
        match condition {
            _ if !minting.conditional => true,
            // A deletion of nothing has no state to name.
            None => md.is_delete_marker(),
            Some(CurrentIs::Absent) => minting.versions(key).iter().any(|it| it.md.is_delete_marker()),
            Some(CurrentIs::Etag(etag)) => {
                let same = minting.versions(key).iter().filter(|it| it.md.content_md5() == etag).count();
                same > 1 || md.content_md5() == etag
            }
        }
    }

    /// A part of an upload arrives with these bytes.
    pub(super) fn store_upload_part(&mut self, site: SiteId, part: &PartMove, digest: SmolStr) -> SiteReply {
        let upload = part.upload.clone().expect("a part of an upload");
        let stored = self.site(site).store_part(upload.as_str(), part.number, part.size, digest.to_string());
        let location = backbeat_core::model::Location::stored(&digest, "");
        SiteReply::Moved { side: Side::Target, ending: stored.map(|()| MovedPart::new(location, digest)) }
    }
}
