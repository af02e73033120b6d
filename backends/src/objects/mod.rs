//! The objects port: versions of objects at one site, their metadata and their bytes.

mod answer;
mod body;
pub mod cloudserver;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod memory;
pub mod s3;
mod servers;
#[cfg(test)]
mod tests;
mod transfer;

use std::future::Future;
use std::time::Duration;

use backbeat_core::call::Ending;
use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{ByteRange, Location, ObjectMd, ObjectRef, VersionRef};
use backbeat_core::request::{BucketRules, Condition, MovedPart};

pub(crate) use answer::state as bucket_state;
pub use body::{BodyError, ByteStream};
pub use servers::TimeLimits;
pub use transfer::{MintingPair, SitePair};

/// What a site can do beyond the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// A version written with an id has that id. Elsewhere the site mints ids (decision D11).
    pub keeps_version_ids: bool,
    /// Conditions of metadata writes are honoured. Elsewhere they are ignored (decision D3).
    pub conditional_metadata_writes: bool,
}

/// Which bytes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartRange {
    /// The part with this number, counted from 1: part 1 of an object written in one piece is all of it.
    Part(u32),
    /// A range of bytes.
    Bytes(ByteRange),
}

/// A part to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataWrite {
    /// The bucket it is for.
    pub bucket: Bucket,
    /// The key it is for.
    pub key: ObjectKey,
    /// How many bytes it has.
    pub size: u64,
    /// Lower-case hex MD5 that the bytes must have.
    pub md5: String,
    /// Canonical id of the account that will own it.
    pub owner: String,
    /// How long all of it may take.
    pub time_max: Duration,
}

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It never did.
    Never,
    /// It does.
    Enabled,
    /// It did; new objects are null versions.
    Suspended,
}

/// What a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// Whether it keeps versions.
    pub versioning: Versioning,
}

/// A site.
///
/// **Refusals** are the same everywhere: `BucketNotFound` for the bucket, `NotFound` for everything else that is not
/// there (any other 404), `BucketUnversioned` for a write into a bucket that does not keep versions, if the site looks
/// (ask with [`ObjectSite::bucket_state`]),
/// `Conflict` when a condition does not hold, `Denied`, `ExpiredCredentials`, `Throttled`, `Unavailable` (also: no
/// connection), `BadDigest`, `InvalidState` (archived), `TooLarge`, `Invalid` for the rest and for answers that cannot
/// be understood. After a refusal nothing was written. `Unknown`: no answer, or one cut short, after the request
/// may have been sent: a write may have happened, or happen later.
///
/// Every call ends within a time of the adapter's, and may be dropped at any time; a dropped write may still happen.
pub trait ObjectSite: Send + Sync + 'static {
    /// What the site can do, as far as is known by now.
    fn capabilities(&self) -> Capabilities;

    /// The metadata of one version, delete markers included. Reads what was written before.
    fn read_metadata(&self, object: &ObjectRef) -> impl Future<Output = Ending<ObjectMd>> + Send;

    /// Stores the metadata of one version; the same write again changes nothing. Data locations of an overwritten version
    /// that the new document does not mention may be deleted by the site.
    ///
    /// With `keep_data` the version must exist (`NotFound`) and keeps its locations and encryption whatever `md` says.
    /// `condition` is checked against what is stored, in the same step as the write, where the site can do that.
    fn write_metadata(
        &self,
        object: &ObjectRef,
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> impl Future<Output = Ending<()>> + Send;

    /// Opens the bytes of a part; the stream says how many there are. A stream that breaks off ends with an error.
    fn read_part(
        &self,
        object: &ObjectRef,
        part: PartRange,
    ) -> impl Future<Output = Ending<ByteStream>> + Send;

    /// Stores a part that no metadata mentions yet. Applied only if all its bytes arrived and had the digest; the answer
    /// holds the digest of the bytes that were sent. `BadDigest` if they had another one.
    fn write_data(
        &self,
        write: DataWrite,
        bytes: ByteStream,
    ) -> impl Future<Output = Ending<MovedPart>> + Send;

    /// Deletes data that no metadata mentions; what is not there is deleted already.
    fn delete_data(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        locations: &[Location],
    ) -> impl Future<Output = Ending<()>> + Send;

    /// Which version of a key is current, delete markers included. `NotFound` also if there is no such bucket.
    fn current_version(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
    ) -> impl Future<Output = Ending<VersionRef>> + Send;

    /// The replication configuration of a bucket; empty if it has none.
    fn bucket_rules(&self, bucket: &Bucket) -> impl Future<Output = Ending<BucketRules>> + Send;

    /// What a bucket is.
    fn bucket_state(&self, bucket: &Bucket) -> impl Future<Output = Ending<BucketState>> + Send;
}
