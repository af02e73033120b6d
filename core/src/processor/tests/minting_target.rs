//! A target that mints version ids, in memory, for the bench.

use std::collections::BTreeMap;

use super::bench::refused;
use crate::call::{Ending, RefusalKind};
use crate::id::{MintedId, ObjectKey, UploadId};
use crate::model::{Location, ObjectMd, ObjectRef};
use crate::request::minting::{
    Copies, CurrentIs, Minted, MintingReply, MintingRequest, TargetVersion, UploadedPart, marker_of,
};
use crate::request::{MovedPart, PartMove};

#[derive(Debug)]
struct Upload {
    key: ObjectKey,
    object: ObjectRef,
    md: ObjectMd,
    parts: BTreeMap<u32, UploadedPart>,
}

#[derive(Debug, Default)]
pub(super) struct MintingTarget {
    /// Oldest first.
    pub(super) versions: Vec<(ObjectKey, TargetVersion)>,
    uploads: BTreeMap<String, Upload>,
    minted: u32,
    /// As Ceph 16: a version that comes of an upload has no tags, whatever the upload was begun with.
    pub(super) loses_tags_of_uploads: bool,
}

impl MintingTarget {
    fn current(&self, key: &ObjectKey) -> Option<&TargetVersion> {
        self.versions.iter().rev().find(|(other, _)| other == key).map(|(_, version)| version)
    }

    fn holds(&self, key: &ObjectKey, condition: Option<&CurrentIs>) -> bool {
        let object = self.current(key).filter(|current| !current.is_delete_marker);
        match condition {
            None => true,
            Some(CurrentIs::Absent) => object.is_none(),
            Some(CurrentIs::Etag(etag)) => object.is_some_and(|current| current.etag == *etag),
        }
    }

    pub(super) fn mint(&mut self, object: &ObjectRef, md: &ObjectMd, etag: &str) -> Minted {
        self.minted += 1;
        let id: MintedId = format!("minted-{}", self.minted).into();
        let is_delete_marker = md.is_delete_marker();
        let version = TargetVersion {
            id: id.clone(),
            marker: (!is_delete_marker).then(|| marker_of(&object.version)),
            etag: etag.into(),
            size: md.content_length(),
            is_delete_marker,
            tags: md.tags(),
        };
        self.versions.push((object.key.clone(), version));
        Minted { id, etag: etag.to_owned() }
    }

    /// What readers of the key see, newest first: `version tag`, or `deleted`.
    pub(super) fn history(&self, key: &str) -> Vec<String> {
        let of_key = self.versions.iter().rev().filter(|(other, _)| other.as_str() == key);
        of_key
            .map(|(_, version)| match &version.marker {
                Some(marker) => {
                    let id = marker.raw().unwrap_or_default();
                    format!("{id} {}", version.tags.get("t").map_or("", String::as_str))
                }
                None if version.is_delete_marker => "deleted".to_owned(),
                None => "foreign".to_owned(),
            })
            .collect()
    }

    pub(super) fn open_uploads(&self) -> Vec<&str> {
        self.uploads.keys().map(String::as_str).collect()
    }

    pub(super) fn begin(&mut self, object: &ObjectRef, md: &ObjectMd) -> UploadId {
        self.minted += 1;
        let id = format!("upload-{}", self.minted);
        let upload = Upload {
            key: object.key.clone(),
            object: object.clone(),
            md: md.clone(),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        id.into()
    }

    pub(super) fn store_part(&mut self, part: &PartMove) -> Ending<MovedPart> {
        let upload = part.upload.as_ref().expect("a part of an upload");
        let Some(upload) = self.uploads.get_mut(upload.as_str()) else {
            return refused(RefusalKind::NotFound, "NoSuchUpload");
        };
        let stored = UploadedPart { number: part.number, size: part.size, etag: part.digest.to_string() };
        upload.parts.insert(part.number, stored);
        let location = Location::stored(&part.digest, "");
        Ending::Applied(MovedPart::new(location, part.digest.clone()))
    }

    pub(super) fn call(&mut self, request: MintingRequest) -> MintingReply {
        match request {
            MintingRequest::FindCopies { object, known, depth } => {
                let of_key = || self.versions.iter().rev().filter(|(key, _)| *key == object.key);
                let depth = usize::try_from(depth).expect("small");
                let found = |id: &MintedId| of_key().find(|(_, version)| version.id == *id);
                let copies = Copies {
                    newest_first: of_key().take(depth).map(|(_, version)| version.clone()).collect(),
                    complete: of_key().count() <= depth,
                    known: known.as_ref().and_then(found).map(|(_, version)| version.clone()),
                };
                MintingReply::Found(Ending::Applied(copies.into()))
            }
            MintingRequest::PutObject(put) => MintingReply::Put {
                side: crate::request::Side::Target,
                ending: if self.holds(&put.to.key, put.condition.as_ref()) {
                    Ending::Applied(self.mint(&put.to, &put.md, &put.digest))
                } else {
                    refused(RefusalKind::Conflict, "PreconditionFailed")
                },
            },
            MintingRequest::DeleteObject { object, condition } => {
                MintingReply::Minted(if self.holds(&object.key, condition.as_ref()) {
                    let md = ObjectMd::parse(r#"{"isDeleteMarker":true}"#).expect("valid");
                    Ending::Applied(self.mint(&object, &md, ""))
                } else {
                    refused(RefusalKind::Conflict, "PreconditionFailed")
                })
            }
            MintingRequest::ListUploads { object } => {
                let of_key = self.uploads.iter().filter(|(_, upload)| upload.key == object.key);
                MintingReply::Uploads(Ending::Applied(of_key.map(|(id, _)| id.as_str().into()).collect()))
            }
            MintingRequest::CreateUpload { object, md } => {
                MintingReply::Created(Ending::Applied(self.begin(&object, &md)))
            }
            MintingRequest::ListParts { upload, .. } => {
                MintingReply::Parts(match self.uploads.get(upload.as_str()) {
                    Some(upload) => Ending::Applied(upload.parts.values().cloned().collect()),
                    None => refused(RefusalKind::NotFound, "NoSuchUpload"),
                })
            }
            MintingRequest::CompleteUpload { object, upload, parts, condition } => {
                if !self.holds(&object.key, condition.as_ref()) {
                    return MintingReply::Minted(refused(RefusalKind::Conflict, "PreconditionFailed"));
                }
                let Some(upload) = self.uploads.remove(upload.as_str()) else {
                    return MintingReply::Minted(refused(RefusalKind::NotFound, "NoSuchUpload"));
                };
                let named = upload.parts.values().map(|part| (part.number, part.etag.clone()));
                assert!(named.eq(parts.iter().cloned()), "{parts:?} of {:?}", upload.parts);
                let etag = upload.md.content_md5().to_owned();
                let minted = self.mint(&upload.object, &upload.md, &etag);
                if self.loses_tags_of_uploads
                    && let Some((_, version)) = self.versions.last_mut()
                {
                    version.tags.clear();
                }
                MintingReply::Minted(Ending::Applied(minted))
            }
            MintingRequest::AbortUpload { upload, .. } => {
                self.uploads.remove(upload.as_str());
                MintingReply::Done(Ending::Applied(()))
            }
            MintingRequest::WriteTags { id, tags, .. } => {
                let version = self.versions.iter_mut().find(|(_, version)| version.id == id);
                MintingReply::Done(match version {
                    Some((_, version)) => {
                        version.tags = tags;
                        Ending::Applied(())
                    }
                    None => refused(RefusalKind::NotFound, "NoSuchVersion"),
                })
            }
            MintingRequest::DeleteVersion { id, .. } => {
                self.versions.retain(|(_, version)| version.id != id);
                MintingReply::Done(Ending::Applied(()))
            }
            MintingRequest::ReadCurrent { .. } => panic!("the source is asked which version is current"),
        }
    }
}

pub(super) fn describe(request: &MintingRequest) -> String {
    match request {
        MintingRequest::FindCopies { object, depth, .. } => format!("find {} {depth}", object.key),
        MintingRequest::ReadCurrent { object } => format!("current {}", object.key),
        MintingRequest::PutObject(put) => format!("put {}", put.to.key),
        MintingRequest::ListUploads { .. } => "list uploads".to_owned(),
        MintingRequest::CreateUpload { .. } => "create upload".to_owned(),
        MintingRequest::ListParts { upload, .. } => format!("list parts {upload}"),
        MintingRequest::CompleteUpload { upload, .. } => format!("complete {upload}"),
        MintingRequest::AbortUpload { upload, .. } => format!("abort {upload}"),
        MintingRequest::WriteTags { id, .. } => format!("tag {id}"),
        MintingRequest::DeleteObject { object, .. } => format!("delete {}", object.key),
        MintingRequest::DeleteVersion { id, .. } => format!("remove {id}"),
    }
}
