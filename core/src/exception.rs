//! Exception records: why an entry is parked, how often it was tried and when it is tried again (decision D6).

use crate::id::{Site, UploadId};
use crate::model::{Encryption, Location, ObjectRef};
use crate::time::WallTime;

/// The state of a parked entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionState {
    /// Another attempt is under way through a replay topic, or follows at `next`.
    Deferred,
    /// Nothing wrong with the copy itself: something outside must change first. Tried again at `next`.
    Held,
    /// The attempts are used up: waits for an explicit retry. With `next`: its status may not be published yet; whoever owns the
    /// entry then tries it again.
    Failed,
    /// Being copied: what was stored so far is in [`ExceptionRecord::deposit`]. Looked at again at `next`, should its owner die.
    Copying,
    /// Settled: the record is deleted (a tombstone in the compacted topic).
    Resolved,
}

/// One record of the exceptions topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionRecord {
    /// The site concerned.
    pub site: Site,
    /// The version concerned.
    pub object: ObjectRef,
    /// What it waits for.
    pub state: ExceptionState,
    /// Why, as a stable word (`BadRole`, `DstBucketNotFound`, `TargetUnavailable`, ...). Empty on a tombstone.
    pub reason: String,
    /// Attempts so far.
    pub attempts: u32,
    /// The first attempt.
    pub first: WallTime,
    /// The last attempt.
    pub last: WallTime,
    /// The next attempt, if one is planned.
    pub next: Option<WallTime>,
    /// What was stored at the target for a copy that is not finished.
    pub deposit: Option<Box<DepositNote>>,
}

/// What was stored at a target for a large version, so that the next owner can go on from there (decision D10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositNote {
    /// The content that it is of: the version's `content-md5`.
    pub content: String,
    /// The upload that holds it, at targets that mint version ids.
    pub upload: Option<UploadId>,
    /// The parts, at targets that keep version ids.
    pub parts: Vec<NotedPart>,
    /// How the target encrypted them.
    pub encryption: Encryption,
}

/// One part in a [`DepositNote`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedPart {
    /// Its number, starting at 1.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex MD5 of its bytes.
    pub digest: String,
    /// Where the target put it.
    pub location: Location,
}

impl ExceptionRecord {
    /// The record's key in the compacted topic: `<site>/<bucket>/<key>/<versionId>` (decision D6).
    pub fn key(&self) -> String {
        record_key(&self.site, &self.object)
    }
}

/// The key of the record of `object` at `site`.
pub fn record_key(site: &Site, object: &ObjectRef) -> String {
    let version = object.version.query().unwrap_or_default();
    [site.as_str(), object.bucket.as_str(), object.key.as_str(), &version].join("/")
}
