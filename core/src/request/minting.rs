//! Requests to targets that mint version ids: plain S3, and clouds behind a CloudServer (decision D11).
//!
//! Such a target gives every version an id of its own. What a copy is a copy of says its marker, the user metadata member
//! `x-amz-meta-scal-version-id` that upstream writes too; delete markers carry none. A version's bytes and user metadata never
//! change; its tags can be replaced.

use std::collections::BTreeMap;
use std::convert::Infallible;

use smol_str::SmolStr;

use crate::call::Ending;
use crate::id::{MintedId, UploadId};
use crate::model::{ObjectMd, ObjectRef, VersionRef};
use crate::time::Span;

use super::Side;

/// What kind of target a site is (decision D11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetKind {
    /// A version written with an id has that id, and its metadata is one document: CloudServer and its like.
    #[default]
    KeepsVersions,
    /// The target gives every version an id of its own.
    MintsVersions {
        /// Whether puts, completions of uploads and deletions may name the current version that they expect (`If-Match`,
        /// `If-None-Match`). Elsewhere a request that travels for long can add a version, and the copy that meets it removes it.
        conditional: bool,
    },
}

impl TargetKind {
    /// Whether an older version may be written after a newer one without becoming what readers see (decision D5).
    pub const fn keeps_versions(self) -> bool {
        matches!(self, Self::KeepsVersions)
    }
}

/// The current version that a conditional request expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentIs {
    /// There is none, or it is a delete marker (`If-None-Match: *`).
    Absent,
    /// It is an object with this entity tag (`If-Match`). Two versions may have the same one.
    Etag(String),
}

/// The marker that a copy of `version` carries: `null` for whatever has no id.
pub fn marker_of(version: &VersionRef) -> VersionRef {
    match version {
        VersionRef::Version(id) => VersionRef::Version(id.clone()),
        VersionRef::Null | VersionRef::Unversioned => VersionRef::Null,
    }
}

/// A version at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetVersion {
    /// The id that the target gave it.
    pub id: MintedId,
    /// The source version that it is a copy of; `None` for delete markers and for what this engine did not write.
    pub marker: Option<VersionRef>,
    /// Its entity tag, without quotes; empty for a delete marker.
    pub etag: SmolStr,
    /// Bytes.
    pub size: u64,
    /// Whether it is a delete marker.
    pub is_delete_marker: bool,
    /// Its tags: filled in for copies of the version that was looked for.
    pub tags: BTreeMap<String, String>,
}

/// What a look at a key of the target found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// The versions of the key, newest first, as many as were asked for.
    pub newest_first: Vec<TargetVersion>,
    /// Whether these are all.
    pub complete: bool,
    /// The version with the id that was asked for besides, if it exists; delete markers may be left out.
    pub known: Option<TargetVersion>,
}

/// One whole object on its way from the source to the target, in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPut {
    /// The version to read.
    pub from: ObjectRef,
    /// Where the copy goes; its version is the marker.
    pub to: ObjectRef,
    /// The document whose user metadata, content headers and tags the copy gets.
    pub md: ObjectMd,
    /// Bytes; nothing is read from the source if there are none.
    pub size: u64,
    /// Lower-case hex MD5 that the bytes must have: announced to the target, which refuses others.
    pub digest: String,
    /// The current version that the put expects.
    pub condition: Option<CurrentIs>,
    /// How long the whole put may take before it counts as [`Ending::Unknown`].
    pub deadline: Span,
}

/// A part that an upload holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedPart {
    /// Its number, starting at 1.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// Its entity tag, without quotes: the lower-case hex MD5 of its bytes where the target does not encrypt.
    pub etag: String,
}

/// A version that the target made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The id that the target gave it.
    pub id: MintedId,
    /// Its entity tag, without quotes; empty for a delete marker, and where the target does not tell.
    pub etag: String,
}

/// A request to a target that mints version ids. In every [`ObjectRef`] bucket and key are the target's and the version is the
/// marker, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintingRequest {
    /// Look for copies of a version: the newest `depth` versions of the key, and one more by its id. A version's marker, entity
    /// tag and size never change: what was seen of an id once may be remembered.
    FindCopies {
        /// Which key, and which version is looked for.
        object: ObjectRef,
        /// An id that the version is known to have had.
        known: Option<MintedId>,
        /// How many versions to look at.
        depth: u32,
    },
    /// Ask the **source** which version of a key is current. The bucket and key are the source's.
    ReadCurrent {
        /// Which key.
        object: ObjectRef,
    },
    /// Write a whole object with its metadata and tags.
    PutObject(Box<ObjectPut>),
    /// The open uploads of exactly this key that this engine's own identity began.
    ListUploads {
        /// Which key.
        object: ObjectRef,
    },
    /// Begin an upload with its marker, metadata and tags; the version may come without the tags.
    CreateUpload {
        /// Which key and marker.
        object: ObjectRef,
        /// The document whose user metadata, content headers and tags the copy gets.
        md: ObjectMd,
    },
    /// The parts that an open upload holds.
    ListParts {
        /// Which key.
        object: ObjectRef,
        /// Which upload.
        upload: UploadId,
    },
    /// Make a version of the parts of an upload.
    CompleteUpload {
        /// Which key and marker.
        object: ObjectRef,
        /// Which upload.
        upload: UploadId,
        /// Numbers and entity tags, in order of the numbers.
        parts: Vec<(u32, String)>,
        /// The current version that the completion expects.
        condition: Option<CurrentIs>,
    },
    /// Drop an upload and its parts. One that is not there is dropped already.
    AbortUpload {
        /// Which key.
        object: ObjectRef,
        /// Which upload.
        upload: UploadId,
    },
    /// Replace the tags of one version; none removes them all.
    WriteTags {
        /// Which key.
        object: ObjectRef,
        /// Which version of it.
        id: MintedId,
        /// The tags it has from now on.
        tags: BTreeMap<String, String>,
    },
    /// Delete without naming a version: the target makes a delete marker.
    DeleteObject {
        /// Which key, for which version.
        object: ObjectRef,
        /// The current version that the deletion expects.
        condition: Option<CurrentIs>,
    },
    /// Remove one version for good. One that is not there is removed already.
    DeleteVersion {
        /// Which key.
        object: ObjectRef,
        /// Which version of it.
        id: MintedId,
    },
}

/// How a [`MintingRequest`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintingReply {
    /// To `FindCopies`.
    Found(Ending<Box<Copies>>),
    /// To `ReadCurrent`: the version, delete markers included; refused with `NotFound` if the key has none.
    Current(Ending<VersionRef>),
    /// To `PutObject`. A refusal says which side refused.
    Put {
        /// Who refused; without meaning otherwise.
        side: Side,
        /// How the put ended.
        ending: Ending<Minted>,
    },
    /// To `CompleteUpload` and `DeleteObject`.
    Minted(Ending<Minted>),
    /// To `ListUploads`.
    Uploads(Ending<Vec<UploadId>>),
    /// To `CreateUpload`.
    Created(Ending<UploadId>),
    /// To `ListParts`.
    Parts(Ending<Vec<UploadedPart>>),
    /// To `AbortUpload`, `WriteTags` and `DeleteVersion`.
    Done(Ending<()>),
}

impl MintingRequest {
    /// A reply of the right kind that says that the request was not applied, or that nobody knows.
    pub fn not_applied(&self, ending: Ending<Infallible>) -> MintingReply {
        fn of<T>(ending: Ending<Infallible>) -> Ending<T> {
            ending.map(|never| match never {})
        }
        match self {
            Self::FindCopies { .. } => MintingReply::Found(of(ending)),
            Self::ReadCurrent { .. } => MintingReply::Current(of(ending)),
            Self::PutObject(_) => MintingReply::Put { side: Side::Target, ending: of(ending) },
            Self::ListUploads { .. } => MintingReply::Uploads(of(ending)),
            Self::CreateUpload { .. } => MintingReply::Created(of(ending)),
            Self::ListParts { .. } => MintingReply::Parts(of(ending)),
            Self::CompleteUpload { .. } | Self::DeleteObject { .. } => MintingReply::Minted(of(ending)),
            Self::AbortUpload { .. } | Self::WriteTags { .. } | Self::DeleteVersion { .. } => {
                MintingReply::Done(of(ending))
            }
        }
    }

    /// The transfer that the request is, if bytes are streamed for it.
    pub fn transfer(&self) -> Option<&ObjectPut> {
        if let Self::PutObject(put) = self {
            Some(put).filter(|put| put.size > 0).map(|put| &**put)
        } else {
            None
        }
    }

    /// The side that the request goes to; a put goes to both.
    pub const fn side(&self) -> Side {
        match self {
            Self::ReadCurrent { .. } => Side::Source,
            Self::FindCopies { .. }
            | Self::PutObject(_)
            | Self::ListUploads { .. }
            | Self::CreateUpload { .. }
            | Self::ListParts { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortUpload { .. }
            | Self::WriteTags { .. }
            | Self::DeleteObject { .. }
            | Self::DeleteVersion { .. } => Side::Target,
        }
    }
}
