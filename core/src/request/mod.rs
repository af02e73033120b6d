//! What a machine asks of the source and target sites, and how the `objects` port answers.
//!
//! Bulk data never passes through a machine: [`SiteRequest::MovePart`] names a range and the driver streams it.

pub mod minting;

use std::sync::Arc;

use smol_str::SmolStr;

use crate::call::Ending;
use crate::id::{Bucket, ObjectKey, UploadId};
use crate::model::{Encryption, Location, ObjectMd, ObjectRef, Owner, StateTag};
use crate::time::Span;

use minting::{MintingReply, MintingRequest};

/// The end of the replication that a request goes to or a refusal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The site that took the client's write.
    Source,
    /// The site that receives the copy.
    Target,
}

/// The state that a conditional metadata write expects (decisions D3 and D4; header `x-backbeat-if-revision`).
///
/// Sites without conditional metadata writes ignore it: what remains there is a window of one round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The version must not exist.
    Absent,
    /// The stored version must carry exactly this tag.
    Tag(Box<StateTag>),
}

impl Condition {
    /// The stored version must carry exactly `tag`.
    pub fn tag(tag: StateTag) -> Self {
        Self::Tag(Box::new(tag))
    }
}

/// One part on its way from the source to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartMove {
    /// The version to read.
    pub from: ObjectRef,
    /// Part number at the source, starting at 1.
    pub number: u32,
    /// Bytes in the part.
    pub size: u64,
    /// Lower-case hex MD5 that the part's bytes must have.
    pub digest: SmolStr,
    /// Bucket to write into.
    pub to_bucket: Bucket,
    /// Key to write under.
    pub to_key: ObjectKey,
    /// The account that will own the copy.
    pub owner: Owner,
    /// The upload that the part belongs to, at targets that mint version ids; `None` stores it by itself.
    pub upload: Option<UploadId>,
    /// How long the whole move may take before it counts as [`Ending::Unknown`].
    pub deadline: Span,
}

/// What the target said about a part that it stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPart {
    /// Where the target put the bytes: key, data store name, encryption members. The key of a part of an upload is its entity
    /// tag.
    pub location: Box<Location>,
    /// Lower-case hex MD5 of the bytes as the target acknowledged them.
    pub digest: SmolStr,
    /// How the target encrypted them, if it did.
    pub encryption: Option<Box<Encryption>>,
}

impl MovedPart {
    /// A part that the target stored as it came.
    pub fn new(location: Location, digest: impl Into<SmolStr>) -> Self {
        Self { location: Box::new(location), digest: digest.into(), encryption: None }
    }
}

/// What the processor needs of a bucket's replication configuration (replication reference 5.8, R2 to R4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketRules {
    /// The roles named by the configuration: source first, target second.
    pub roles: Vec<String>,
    /// Key prefixes of the rules that are enabled.
    pub prefixes: Vec<String>,
}

/// A request to one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteRequest {
    /// Read the metadata of one version.
    ReadMetadata {
        /// Which site.
        side: Side,
        /// Which version.
        object: ObjectRef,
    },
    /// Write the metadata of one version.
    WriteMetadata {
        /// Which site.
        side: Side,
        /// Which version.
        object: ObjectRef,
        /// The document to store.
        md: ObjectMd,
        /// The state the write expects; `None` writes over whatever is there.
        condition: Option<Condition>,
        /// Keep the data and encryption members that are stored (`x-scal-replication-content: METADATA`).
        keep_data: bool,
    },
    /// Stream one part from the source to the target.
    MovePart(Arc<PartMove>),
    /// Delete data at the target that no metadata refers to.
    DeleteData {
        /// Bucket the data was written for.
        bucket: Bucket,
        /// Key the data was written for.
        key: ObjectKey,
        /// What to delete.
        locations: Vec<Location>,
    },
    /// Read the replication configuration of a source bucket.
    ReadRules {
        /// The bucket.
        bucket: Bucket,
    },
    /// Check that a target bucket exists and keeps versions.
    CheckBucket {
        /// The bucket.
        bucket: Bucket,
    },
    /// A request that only targets that mint version ids know.
    Minting(Box<MintingRequest>),
}

/// How a [`SiteRequest`] ended; the variants correspond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteReply {
    /// To `ReadMetadata`.
    Metadata(Ending<ObjectMd>),
    /// To `WriteMetadata`.
    Written(Ending<()>),
    /// To `MovePart`. A refusal says which side refused.
    Moved {
        /// Who refused; without meaning otherwise.
        side: Side,
        /// How the move ended.
        ending: Ending<MovedPart>,
    },
    /// To `DeleteData`.
    Deleted(Ending<()>),
    /// To `ReadRules`.
    Rules(Ending<Arc<BucketRules>>),
    /// To `CheckBucket`: refused with `BucketNotFound` or `BucketUnversioned` where it cannot take replicas.
    Bucket(Ending<()>),
    /// To `Minting`.
    Minting(MintingReply),
}
