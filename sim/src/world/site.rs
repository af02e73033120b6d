//! Target sites.
//!
//! Contract relied on:
//! - Metadata is written and read atomically per version; a read sees the last write that was applied.
//! - A conditional write (`Absent`, `Tag`) compares and writes atomically; another state refuses it (`Conflict`).
//! - A request may arrive twice, and late. A write that was refused is not carried out later: copies of it that are still on
//!   their way are refused, too.
//! - Version ids given by the writer are kept. What readers of the latest version see is the newest version.
//! - A part is stored under a key of its own before its metadata names it. Replacing a version's metadata deletes the parts
//!   that the old metadata named and the new one does not.
//! - The acknowledgement of a part carries the digest of the bytes stored. They may be damaged: the digest tells.
//! - Stricter than the real thing: a metadata write with `keep_data` over nothing is always refused (`NotFound`).

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::model::{Location, ObjectMd};
use backbeat_core::request::Condition;

use super::ids::VerId;

/// One stored part.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The version whose bytes these are.
    pub version: VerId,
    /// The digest of the bytes as stored.
    pub digest: String,
    /// Whether they are still there.
    pub alive: bool,
}

/// Whether the target bucket takes replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketState {
    /// It does.
    Ready,
    /// There is no such bucket.
    Missing,
    /// It keeps no versions.
    Unversioned,
}

/// A target site.
#[derive(Debug)]
pub struct TargetSite {
    versions: Vec<Option<ObjectMd>>,
    /// Parts; the location key of a part is its index as text.
    pub blobs: Vec<Blob>,
    /// The bucket it replicates into.
    pub bucket: BucketState,
    /// Answers nothing before this time.
    pub down_until: u64,
    /// Refuses everything before this time, asking to slow down.
    pub throttled_until: u64,
    /// Refuses credentials before this time.
    pub expired_until: u64,
    /// When the bucket is ready again.
    pub bucket_until: u64,
    /// Whether it never comes back.
    pub dead_for_ever: bool,
}

impl TargetSite {
    /// An empty site.
    pub fn new() -> Self {
        Self {
            versions: Vec::new(),
            blobs: Vec::new(),
            bucket: BucketState::Ready,
            down_until: 0,
            throttled_until: 0,
            expired_until: 0,
            bucket_until: 0,
            dead_for_ever: false,
        }
    }

    /// The metadata of a version.
    pub fn version(&self, version: VerId) -> Option<&ObjectMd> {
        self.versions.get(version.index())?.as_ref()
    }

    /// Stores the bytes of a part and returns its index.
    pub fn store(&mut self, version: VerId, digest: String) -> usize {
        self.blobs.push(Blob { version, digest, alive: true });
        self.blobs.len() - 1
    }

    /// The index of the part that a location names, if it is one of ours.
    pub fn blob_index(&self, location: &Location) -> Option<usize> {
        let index: usize = location.key.parse().ok()?;
        (index < self.blobs.len()).then_some(index)
    }

    /// Carries out a metadata write. Gives what was stored, and the version's metadata before, if it was applied.
    pub fn write(
        &mut self,
        version: VerId,
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Ending<(ObjectMd, Option<ObjectMd>)> {
        let before = self.version(version).cloned();
        if !holds(condition, before.as_ref()) {
            return Ending::Refused(Refusal::new(RefusalKind::Conflict, "PreconditionFailed"));
        }
        let md = if keep_data {
            let Some(before) = &before else {
                return Ending::Refused(Refusal::new(RefusalKind::NotFound, "ObjNotFound"));
            };
            md.with_location(before.locations().to_vec())
        } else {
            md.clone()
        };
        if let Some(before) = &before {
            for old in before.locations() {
                if md.locations().iter().all(|new| new.key != old.key)
                    && let Some(index) = self.blob_index(old)
                {
                    self.blobs[index].alive = false;
                }
            }
        }
        if self.versions.len() <= version.index() {
            self.versions.resize(version.index() + 1, None);
        }
        self.versions[version.index()] = Some(md.clone());
        Ending::Applied((md, before))
    }
}

impl Default for TargetSite {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a conditional write may go ahead over `stored`.
pub fn holds(condition: Option<&Condition>, stored: Option<&ObjectMd>) -> bool {
    match (condition, stored) {
        (None, _) => true,
        (Some(Condition::Absent), stored) => stored.is_none(),
        (Some(Condition::Tag(tag)), Some(stored)) => stored.state_tag() == *tag,
        (Some(Condition::Tag(_)), None) => false,
    }
}
