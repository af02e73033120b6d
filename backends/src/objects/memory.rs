//! A site in memory: keeps version ids, honours conditions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{Location, ObjectMd, ObjectRef, VersionRef};
use backbeat_core::request::{BucketRules, Condition, MovedPart};
use bytes::Bytes;
use futures_util::stream;

use super::body::{BodyError, ByteStream};
use super::{BucketState, Capabilities, DataWrite, ObjectSite, PartRange, Versioning};

/// Bytes of one chunk of a part that is read.
const CHUNK_BYTES: usize = 64 << 10;

/// The largest part that this site stores.
const PART_BYTES_MAX: usize = 1 << 30;

/// A site in memory; clones share it.
#[derive(Clone, Debug)]
pub struct MemorySite(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<Bucket, BucketContent>,
    data: BTreeMap<String, Bytes>,
    data_keys: u64,
    broken_after: Option<u64>,
}

#[derive(Debug)]
struct BucketContent {
    versioning: Versioning,
    rules: BucketRules,
    /// By key and by the `versionId` of metadata calls.
    versions: BTreeMap<(ObjectKey, String), ObjectMd>,
}

fn refusal(kind: RefusalKind, code: &str) -> Refusal {
    Refusal::new(kind, code)
}

fn ending<T>(result: Result<T, Refusal>) -> Ending<T> {
    match result {
        Ok(value) => Ending::Applied(value),
        Err(refusal) => Ending::Refused(refusal),
    }
}

fn place(object: &ObjectRef) -> (ObjectKey, String) {
    (object.key.clone(), object.version.metadata_query())
}

impl State {
    fn bucket(&mut self, bucket: &Bucket) -> Result<&mut BucketContent, Refusal> {
        self.buckets.get_mut(bucket).ok_or_else(|| refusal(RefusalKind::BucketNotFound, "NoSuchBucket"))
    }

    fn metadata(&mut self, object: &ObjectRef) -> Result<ObjectMd, Refusal> {
        let versions = &self.bucket(&object.bucket)?.versions;
        let named = versions.get(&place(object));
        // The null version may lie under an id.
        let is_null = |(place, md): &(&(ObjectKey, String), &ObjectMd)| place.0 == object.key && md.is_null();
        let found = match object.version {
            VersionRef::Version(_) => named,
            VersionRef::Null | VersionRef::Unversioned => {
                named.or_else(|| versions.iter().find(is_null).map(|(_, md)| md))
            }
        };
        found.cloned().ok_or_else(|| refusal(RefusalKind::NotFound, "ObjNotFound"))
    }

    fn current(&mut self, bucket: &Bucket, key: &ObjectKey) -> Result<VersionRef, Refusal> {
        let versions = &self.bucket(bucket)?.versions;
        let of_key = versions.iter().filter(|((found, _), _)| found == key).map(|(_, md)| md);
        // Ids sort newest first; whatever has none is older than all that have one.
        let newest = of_key.min_by_key(|md| md.version_id().map_or("~", |id| id.as_str()).to_owned());
        newest.map(ObjectMd::version_ref).ok_or_else(|| refusal(RefusalKind::NotFound, "NoSuchKey"))
    }

    fn store(&mut self, site: &str, bytes: Bytes) -> Location {
        self.data_keys += 1;
        let key = format!("{site}-{}", self.data_keys);
        self.data.insert(key.clone(), bytes);
        Location::stored(&key, site)
    }

    /// The bytes of the pieces of a part, joined.
    fn bytes(&self, pieces: impl Iterator<Item = Location>) -> Result<Bytes, Refusal> {
        let mut joined = Vec::new();
        for piece in pieces {
            let bytes = self.data.get(&*piece.key);
            joined.extend_from_slice(bytes.ok_or_else(|| refusal(RefusalKind::NotFound, "NoSuchKey"))?);
        }
        Ok(joined.into())
    }

    fn part(&mut self, object: &ObjectRef, part: PartRange) -> Result<Bytes, Refusal> {
        let md = self.metadata(object)?;
        if md.is_delete_marker() {
            return Err(refusal(RefusalKind::Invalid, "MethodNotAllowed"));
        }
        let invalid = || refusal(RefusalKind::Invalid, "InvalidRange");
        match part {
            PartRange::Part(1) if md.locations().is_empty() => Ok(Bytes::new()),
            PartRange::Part(number) => {
                let of_part = |piece: &&Location| piece.part_number().unwrap_or(1) == number;
                let pieces: Vec<Location> = md.locations().iter().filter(of_part).cloned().collect();
                if pieces.is_empty() { Err(invalid()) } else { self.bytes(pieces.into_iter()) }
            }
            PartRange::Bytes(range) => {
                let all = self.bytes(md.locations().iter().cloned())?;
                let start = usize::try_from(range.start).map_err(|_| invalid())?;
                let end =
                    usize::try_from(range.end).map_or(all.len(), |end| end.saturating_add(1).min(all.len()));
                if start < end { Ok(all.slice(start..end)) } else { Err(invalid()) }
            }
        }
    }

    fn write(
        &mut self,
        object: &ObjectRef,
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Result<(), Refusal> {
        let bucket = self.bucket(&object.bucket)?;
        if bucket.versioning == Versioning::Never {
            return Err(refusal(RefusalKind::BucketUnversioned, "InvalidBucketState"));
        }
        let stored = bucket.versions.get(&place(object)).cloned();
        let holds = match (condition, &stored) {
            (None, _) | (Some(Condition::Absent), None) => true,
            (Some(Condition::Tag(tag)), Some(stored)) => stored.state_tag() == **tag,
            (Some(Condition::Absent), Some(_)) | (Some(Condition::Tag(_)), None) => false,
        };
        if !holds {
            return Err(refusal(RefusalKind::Conflict, "PreconditionFailed"));
        }
        let mut written = md.clone();
        if keep_data {
            let stored = stored.as_ref().ok_or_else(|| refusal(RefusalKind::NotFound, "ObjNotFound"))?;
            written =
                written.with_location(stored.locations().to_vec()).with_encryption(&stored.encryption());
        }
        let kept: Vec<_> = written.locations().iter().map(|piece| piece.key.clone()).collect();
        bucket.versions.insert(place(object), written);
        for piece in stored.iter().flat_map(ObjectMd::locations).filter(|piece| !kept.contains(&piece.key)) {
            self.data.remove(&*piece.key);
        }
        Ok(())
    }
}

impl MemorySite {
    /// An empty site; its data locations carry `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Arc::new(Inner { name: name.into(), state: Mutex::default() }))
    }

    /// Makes a bucket, or changes whether it keeps versions.
    pub fn create_bucket(&self, bucket: impl Into<Bucket>, versioning: Versioning) {
        let fresh = BucketContent { versioning, rules: BucketRules::default(), versions: BTreeMap::new() };
        self.state().buckets.entry(bucket.into()).or_insert(fresh).versioning = versioning;
    }

    /// Sets the replication configuration of a bucket that exists.
    pub fn set_rules(&self, bucket: &Bucket, rules: BucketRules) {
        if let Some(bucket) = self.state().buckets.get_mut(bucket) {
            bucket.rules = rules;
        }
    }

    /// Removes a version, as a client would.
    pub fn remove(&self, object: &ObjectRef) {
        if let Some(bucket) = self.state().buckets.get_mut(&object.bucket) {
            bucket.versions.remove(&place(object));
        }
    }

    /// Stores parts, and gives their locations in order.
    pub fn put_data(&self, parts: &[&[u8]]) -> Vec<Location> {
        let mut state = self.state();
        parts.iter().map(|part| state.store(&self.0.name, Bytes::copy_from_slice(part))).collect()
    }

    /// The bytes at a data key.
    pub fn data(&self, key: &str) -> Option<Bytes> {
        self.state().data.get(key).cloned()
    }

    /// How many data keys there are.
    pub fn data_count(&self) -> usize {
        self.state().data.len()
    }

    /// Lets reads break off after so many bytes, until called with `None`.
    pub fn break_reads_after(&self, bytes: Option<u64>) {
        self.state().broken_after = bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectSite for MemorySite {
    fn capabilities(&self) -> Capabilities {
        Capabilities { keeps_version_ids: true, conditional_metadata_writes: true }
    }

    async fn read_metadata(&self, object: &ObjectRef) -> Ending<ObjectMd> {
        ending(self.state().metadata(object))
    }

    async fn write_metadata(
        &self,
        object: &ObjectRef,
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Ending<()> {
        ending(self.state().write(object, md, condition, keep_data))
    }

    async fn read_part(&self, object: &ObjectRef, part: PartRange) -> Ending<ByteStream> {
        let mut state = self.state();
        let broken_after = state.broken_after;
        ending(state.part(object, part).map(|bytes| {
            let size = bytes.len() as u64;
            let whole = broken_after.map_or(bytes.len(), |after| {
                usize::try_from(after).map_or(bytes.len(), |after| after.min(bytes.len()))
            });
            let starts = (0..whole).step_by(CHUNK_BYTES);
            let chunk = move |start: usize| Ok(bytes.slice(start..(start + CHUNK_BYTES).min(whole)));
            let broken = broken_after.map(|_| Err(BodyError::Broken("the source broke off".to_owned())));
            ByteStream::new(size, stream::iter(starts.map(chunk).chain(broken)))
        }))
    }

    async fn write_data(&self, write: DataWrite, bytes: ByteStream) -> Ending<MovedPart> {
        if let Err(refusal) = self.state().bucket(&write.bucket) {
            return Ending::Refused(refusal);
        }
        let announced = bytes.size();
        let (bytes, meter) = bytes.metered();
        let collected = tokio::time::timeout(write.time_max, bytes.collect(PART_BYTES_MAX)).await;
        let Ok(Ok(bytes)) = collected else { return Ending::Unknown };
        let digest = meter.md5();
        if digest != write.md5 || announced != write.size {
            return Ending::Refused(refusal(RefusalKind::BadDigest, "BadDigest"));
        }
        let location = self.state().store(&self.0.name, bytes);
        Ending::Applied(MovedPart::new(location, digest))
    }

    async fn delete_data(&self, _bucket: &Bucket, _key: &ObjectKey, locations: &[Location]) -> Ending<()> {
        let mut state = self.state();
        for location in locations {
            state.data.remove(&*location.key);
        }
        Ending::Applied(())
    }

    async fn current_version(&self, bucket: &Bucket, key: &ObjectKey) -> Ending<VersionRef> {
        ending(self.state().current(bucket, key))
    }

    async fn bucket_rules(&self, bucket: &Bucket) -> Ending<BucketRules> {
        ending(self.state().bucket(bucket).map(|bucket| bucket.rules.clone()))
    }

    async fn bucket_state(&self, bucket: &Bucket) -> Ending<BucketState> {
        ending(self.state().bucket(bucket).map(|bucket| BucketState { versioning: bucket.versioning }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::conformance::ObjectsHarness;

    impl ObjectsHarness for MemorySite {
        type Site = Self;

        fn site(&self) -> &Self {
            self
        }

        async fn create_bucket(&self, bucket: &str, versioning: Versioning) {
            Self::create_bucket(self, bucket, versioning);
        }

        async fn set_rules(&self, bucket: &str, rules: BucketRules) {
            Self::set_rules(self, &Bucket::from(bucket), rules);
        }
    }

    crate::objects_conformance!(memory, MemorySite::new("memory"));
}
