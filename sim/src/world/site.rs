//! Target sites.
//!
//! Contract relied on:
//! - Metadata is written and read atomically per version; a read sees the last write that was applied.
//! - A conditional write (`Absent`, `Tag`) compares and writes atomically; another state refuses it (`Conflict`).
//! - A request may arrive twice, and late. A write that was refused is not carried out later: copies of it that are still on
//!   their way are refused, too.
//! - Version ids given by the writer are kept. What readers of the latest version see is the newest version written with its id.
//! - `versionId=null` names the null version. One that is there under an id is rewritten in its place. Otherwise the write takes the
//!   place of the latest version, **whatever is there** (wire reference 1.6), until a version covers it.
//! - A part is stored under a key of its own before its metadata names it. Replacing a version's metadata deletes the parts
//!   that the old metadata named and the new one does not.
//! - The acknowledgement of a part carries the digest of the bytes stored. They may be damaged: the digest tells.
//! - Stricter than the real thing: a metadata write with `keep_data` over nothing is always refused (`NotFound`).

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::model::{Location, ObjectMd, RawJson, VersionRef};
use backbeat_core::request::Condition;
use backbeat_core::request::minting::TargetKind;
use smol_str::SmolStr;

use super::minting_site::MintingSite;
use crate::checkers::Blob;
use crate::ids::{KeyId, ProcId, VerId};
use crate::names::INFINITE_ID;

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
    /// What readers of the latest version of each key see.
    latest: Vec<Option<VerId>>,
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
    /// What it holds if it mints version ids; then nothing of the above but its troubles counts.
    pub minting: Option<MintingSite>,
}

impl TargetSite {
    /// An empty site.
    pub fn new(kind: TargetKind, keys: usize) -> Self {
        let minting = match kind {
            TargetKind::KeepsVersions => None,
            TargetKind::MintsVersions { conditional } => Some(MintingSite::new(conditional)),
        };
        Self {
            minting,
            versions: Vec::new(),
            latest: vec![None; keys],
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

    /// What readers of the latest version of a key see.
    pub fn latest(&self, key: KeyId) -> Option<VerId> {
        self.latest[key.index()]
    }

    /// Stores the bytes of a part and returns its index.
    pub fn store(&mut self, version: VerId, digest: SmolStr, by: ProcId) -> usize {
        self.blobs.push(Blob { version, digest, by, alive: true });
        self.blobs.len() - 1
    }

    /// The index of the part that a location names, if it is one of ours.
    pub fn blob_index(&self, location: &Location) -> Option<usize> {
        let index: usize = location.key.parse().ok()?;
        (index < self.blobs.len()).then_some(index)
    }

    /// Carries out a metadata write to a version, which the request names as `named`. Gives what was stored, and the version's
    /// metadata before, if it was applied.
    pub fn write(
        &mut self,
        (key, version, named): (KeyId, VerId, &VersionRef),
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Ending<(ObjectMd, Option<ObjectMd>)> {
        let before = self.version(version).cloned();
        // A null version without an id cannot be found under one.
        let found = before.as_ref().filter(|md| named.id().is_none() || md.version_id().is_some());
        if !holds(condition, found) {
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
        let md = self.place(key, version, named, md);
        self.versions[version.index()] = Some(md.clone());
        Ending::Applied((md, before))
    }

    /// Finds the place of a version among those of its key, and gives its metadata the members that say so.
    fn place(&mut self, key: KeyId, version: VerId, named: &VersionRef, md: ObjectMd) -> ObjectMd {
        let latest = self.latest[key.index()];
        let is_null = RawJson::bool(true);
        if named.id().is_none() {
            let stored = self.version(version).and_then(ObjectMd::version_id).cloned();
            let Some(id) = stored else {
                self.latest[key.index()] = Some(version);
                return md.without_member("versionId").with_members(&[("isNull", is_null)]);
            };
            return md.with_members(&[("versionId", RawJson::string(id.as_str())), ("isNull", is_null)]);
        }
        if let Some(covered) = latest.filter(|latest| *latest != version)
            && let Some(old) = self.version(covered).filter(|old| old.version_id().is_none())
        {
            let id = RawJson::string(INFINITE_ID);
            self.versions[covered.index()] = Some(old.with_members(&[("versionId", id)]));
        }
        self.latest[key.index()] = latest.max(Some(version));
        md
    }
}

/// Whether a conditional write may go ahead over `stored`.
pub fn holds(condition: Option<&Condition>, stored: Option<&ObjectMd>) -> bool {
    match (condition, stored) {
        (None, _) => true,
        (Some(Condition::Absent), stored) => stored.is_none(),
        (Some(Condition::Tag(tag)), Some(stored)) => stored.state_tag() == **tag,
        (Some(Condition::Tag(_)), None) => false,
    }
}
