//! The contract of the objects port as code: every adapter passes these cases.

use std::future::Future;
use std::time::Duration;

use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{
    ByteRange, Encryption, Location, ObjectMd, ObjectRef, RawJson, VersionId, VersionRef,
};
use backbeat_core::request::{BucketRules, Condition, MovedPart};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use md5::{Digest, Md5};

use super::{BodyError, ByteStream, DataWrite, ObjectSite, PartRange, Versioning};
use crate::conformance::{applied, refused};

/// Gives one site, without buckets at the beginning of a case.
pub trait ObjectsHarness {
    /// The adapter.
    type Site: ObjectSite;
    /// The site.
    fn site(&self) -> &Self::Site;
    /// Makes a bucket as a client would.
    fn create_bucket(&self, bucket: &str, versioning: Versioning) -> impl Future<Output = ()>;
    /// Sets the replication configuration of a bucket: two roles, enabled prefixes.
    fn set_rules(&self, bucket: &str, rules: BucketRules) -> impl Future<Output = ()>;
}

/// Stamps out the suite for one adapter.
#[macro_export]
macro_rules! objects_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases! { $adapter, $harness, objects;
            metadata_is_read_back_as_it_was_written,
            what_is_not_there_is_named,
            parts_are_read_back_by_number_and_range,
            a_large_part_passes_through,
            an_empty_object_has_an_empty_part,
            a_wrong_digest_is_refused,
            a_stream_that_breaks_off_stores_nothing,
            a_condition_that_does_not_hold_writes_nothing,
            the_same_write_again_is_applied,
            of_many_conditional_writers_one_wins,
            metadata_alone_keeps_the_data,
            metadata_alone_needs_the_version,
            delete_markers_are_metadata,
            versions_do_not_mix,
            the_null_version_is_addressed_by_name,
            a_null_version_under_an_id_is_found_by_name,
            awkward_keys_are_kept_apart,
            deleting_data_twice_is_fine,
            the_current_version_is_told,
            the_replication_configuration_is_read,
            buckets_tell_whether_they_keep_versions,
        }
    };
}

const BUCKET: &str = "conformance-bucket";
const OWNER: &str = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";

/// The `number`th version id: the larger the number, the newer.
pub fn version(number: u32) -> VersionId {
    VersionId::new(1_700_000_000_000 + u64::from(number), 0, "RG001", "")
}

/// Lower-case hex MD5.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

/// A replica's document: `parts` stored at `locations`, in order.
pub fn document(key: &str, version: &VersionId, parts: &[&[u8]], locations: &[Location]) -> ObjectMd {
    assert_eq!(parts.len(), locations.len(), "a location for each part");
    let mut start = 0;
    let located: Vec<Location> = (1_u32..)
        .zip(parts.iter().zip(locations))
        .map(|(number, (part, stored))| {
            let size = part.len() as u64;
            let piece = Location::new("", start, size, "", number, &md5_hex(part)).stored_at(stored);
            start += size;
            piece
        })
        .collect();
    let text = serde_json::json!({
        "owner-display-name": "owner",
        "owner-id": OWNER,
        "content-length": start,
        "content-type": "text/plain",
        "content-md5": md5_hex(&parts.concat()),
        "last-modified": "2026-11-20T10:00:00.000Z",
        "x-amz-storage-class": "STANDARD",
        "x-amz-meta-color": "grün",
        "acl": {"Canned": "private", "FULL_CONTROL": [], "WRITE_ACP": [], "READ": [], "READ_ACP": []},
        "key": key,
        "location": null,
        "isDeleteMarker": false,
        "tags": {"a": "b"},
        "replicationInfo": {
            "status": "REPLICA", "backends": [], "content": ["DATA", "METADATA"], "destination": "",
            "storageClass": "", "role": "", "storageType": "", "dataStoreVersionId": "",
        },
        "dataStoreName": "us-east-1",
        "originOp": "s3:ObjectCreated:Put",
        "versionId": version.as_str(),
        "md-model-version": 6,
    });
    ObjectMd::parse(&text.to_string()).expect("a valid document").with_location(located)
}

fn object(key: &str, number: u32) -> ObjectRef {
    ObjectRef::new(BUCKET, key, VersionRef::Version(version(number)))
}

fn data_write(key: &str, bytes: &[u8]) -> DataWrite {
    DataWrite {
        bucket: Bucket::from(BUCKET),
        key: ObjectKey::from(key),
        size: bytes.len() as u64,
        md5: md5_hex(bytes),
        owner: OWNER.to_owned(),
        time_max: Duration::from_secs(20),
    }
}

async fn put_part(site: &impl ObjectSite, key: &str, bytes: &[u8]) -> MovedPart {
    let stored = applied(site.write_data(data_write(key, bytes), ByteStream::full(bytes.to_vec())).await);
    assert_eq!(stored.digest, md5_hex(bytes));
    stored
}

/// Stores a version as the engine does: its parts, then its metadata.
async fn put(site: &impl ObjectSite, key: &str, number: u32, parts: &[&[u8]]) -> ObjectMd {
    let mut locations = Vec::new();
    for part in parts {
        locations.push(*put_part(site, key, part).await.location);
    }
    let md = document(key, &version(number), parts, &locations);
    applied(site.write_metadata(&object(key, number), &md, None, false).await);
    md
}

async fn read(site: &impl ObjectSite, object: &ObjectRef, part: PartRange) -> Bytes {
    let stream = applied(site.read_part(object, part).await);
    stream.collect(64 << 20).await.expect("all bytes come")
}

async fn enabled(harness: &impl ObjectsHarness) {
    harness.create_bucket(BUCKET, Versioning::Enabled).await;
}

/// The locations as text: how a document spelled them before it was parsed does not count.
fn located(md: &ObjectMd) -> Vec<String> {
    md.locations().iter().map(|location| location.to_json().as_str().to_owned()).collect()
}

fn with_tag(md: &ObjectMd, value: &str) -> ObjectMd {
    let mut document: serde_json::Value = serde_json::from_str(&md.to_json()).expect("JSON");
    document["tags"] = serde_json::json!({ "tag": value });
    ObjectMd::parse(&document.to_string()).expect("a valid document")
}

/// Nothing that is compared between source and replica changes, and a part number finds its location.
pub async fn metadata_is_read_back_as_it_was_written(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let md = put(harness.site(), "key", 1, &[b"one", b"two"]).await;
    let stored = applied(harness.site().read_metadata(&object("key", 1)).await);
    assert_eq!(stored.fingerprint(), md.fingerprint());
    assert_eq!(stored.state_tag(), md.state_tag());
    assert_eq!(located(&stored), located(&md));
    assert_eq!(stored.owner_id(), OWNER);
}

/// Bucket or object: the engine acts differently.
pub async fn what_is_not_there_is_named(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    assert_eq!(refused(site.read_metadata(&object("none", 1)).await), RefusalKind::NotFound);
    assert_eq!(refused(site.read_part(&object("none", 1), PartRange::Part(1)).await), RefusalKind::NotFound);
    let md = put(site, "key", 1, &[b"x"]).await;
    assert_eq!(refused(site.read_metadata(&object("key", 2)).await), RefusalKind::NotFound);
    let elsewhere = ObjectRef { bucket: Bucket::from("no-such-bucket"), ..object("key", 1) };
    assert_eq!(refused(site.read_metadata(&elsewhere).await), RefusalKind::BucketNotFound);
    let write = site.write_metadata(&elsewhere, &md, None, false).await;
    assert_eq!(refused(write), RefusalKind::BucketNotFound);
    let write = DataWrite { bucket: elsewhere.bucket.clone(), ..data_write("key", b"x") };
    let write = site.write_data(write, ByteStream::full("x")).await;
    assert_eq!(refused(write), RefusalKind::BucketNotFound);
    assert_eq!(refused(site.bucket_state(&elsewhere.bucket).await), RefusalKind::BucketNotFound);
    assert_eq!(refused(site.bucket_rules(&elsewhere.bucket).await), RefusalKind::BucketNotFound);
}

/// The layout of a multipart upload is kept.
pub async fn parts_are_read_back_by_number_and_range(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    put(site, "key", 1, &[b"first part", b"second"]).await;
    let at = object("key", 1);
    assert_eq!(read(site, &at, PartRange::Part(1)).await, "first part");
    assert_eq!(read(site, &at, PartRange::Part(2)).await, "second");
    let range = PartRange::Bytes(ByteRange { start: 6, end: 12 });
    assert_eq!(read(site, &at, range).await, "partsec");
    let stream = applied(site.read_part(&at, PartRange::Part(2)).await);
    assert_eq!(stream.size(), 6, "the size is announced");
}

/// In chunks, both ways.
pub async fn a_large_part_passes_through(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let bytes: Vec<u8> =
        (0..9_000_000_u32).map(|index| index.to_le_bytes()[0] ^ index.to_le_bytes()[1]).collect();
    put(site, "large", 1, &[bytes.as_slice()]).await;
    let mut stream = applied(site.read_part(&object("large", 1), PartRange::Part(1)).await);
    let (mut chunks, mut digest) = (0, Md5::new());
    while let Some(chunk) = stream.next().await {
        digest.update(chunk.expect("all bytes come"));
        chunks += 1;
    }
    assert!(chunks > 1, "it came in one piece");
    assert_eq!(hex::encode(digest.finalize()), md5_hex(&bytes));
}

/// Zero bytes, no location.
pub async fn an_empty_object_has_an_empty_part(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    put(site, "empty", 1, &[]).await;
    assert_eq!(read(site, &object("empty", 1), PartRange::Part(1)).await, "");
}

/// The digest is checked before anything is acknowledged (invariant I4).
pub async fn a_wrong_digest_is_refused(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let write = DataWrite { md5: md5_hex(b"other"), ..data_write("key", b"these") };
    let write = harness.site().write_data(write, ByteStream::full("these")).await;
    assert_eq!(refused(write), RefusalKind::BadDigest);
}

/// A source that dies in the middle is no short object.
pub async fn a_stream_that_breaks_off_stores_nothing(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let bytes = vec![7_u8; 300_000];
    let first = Bytes::from(bytes[..100_000].to_vec());
    let chunks = stream::iter([Ok(first), Err(BodyError::Broken("gone".to_owned()))]);
    let broken = ByteStream::new(bytes.len() as u64, chunks);
    let ending = harness.site().write_data(data_write("key", &bytes), broken).await;
    assert!(!matches!(ending, Ending::Applied(_)), "{ending:?}");
    // The site is none the worse.
    put_part(harness.site(), "key", &bytes).await;
}

/// Lost updates are impossible where the site can compare (decision D3).
pub async fn a_condition_that_does_not_hold_writes_nothing(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let first = put(site, "key", 1, &[b"x"]).await;
    // Reading is how an adapter learns what the site can do.
    let at = object("key", 1);
    assert_eq!(applied(site.read_metadata(&at).await).state_tag(), first.state_tag());
    if !site.capabilities().conditional_metadata_writes {
        return;
    }
    let (second, third) = (with_tag(&first, "second"), with_tag(&first, "third"));
    let absent = site.write_metadata(&at, &second, Some(&Condition::Absent), false).await;
    assert_eq!(refused(absent), RefusalKind::Conflict);
    let first_tag = Condition::tag(first.state_tag());
    applied(site.write_metadata(&at, &second, Some(&first_tag), false).await);
    let stale = site.write_metadata(&at, &third, Some(&first_tag), false).await;
    assert_eq!(refused(stale), RefusalKind::Conflict);
    assert_eq!(applied(site.read_metadata(&at).await).state_tag(), second.state_tag());
    let missing = site.write_metadata(&object("other", 1), &first, Some(&first_tag), false).await;
    assert_eq!(refused(missing), RefusalKind::Conflict);
    let new = document("other", &version(1), &[], &[]);
    applied(site.write_metadata(&object("other", 1), &new, Some(&Condition::Absent), false).await);
}

/// After an unknown ending the same write is repeated with the same data keys (decision D4).
pub async fn the_same_write_again_is_applied(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let md = put(site, "key", 1, &[b"bytes"]).await;
    applied(site.write_metadata(&object("key", 1), &md, None, false).await);
    assert_eq!(read(site, &object("key", 1), PartRange::Part(1)).await, "bytes");
    assert_eq!(applied(site.read_metadata(&object("key", 1)).await).state_tag(), md.state_tag());
}

/// Compare and write are one step.
pub async fn of_many_conditional_writers_one_wins(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let first = put(site, "key", 1, &[]).await;
    applied(site.read_metadata(&object("key", 1)).await);
    if !site.capabilities().conditional_metadata_writes {
        return;
    }
    let condition = Condition::tag(first.state_tag());
    let documents: Vec<ObjectMd> = (0..8).map(|writer| with_tag(&first, &writer.to_string())).collect();
    let at = object("key", 1);
    let writes = documents.iter().map(|md| site.write_metadata(&at, md, Some(&condition), false));
    let endings = futures_util::future::join_all(writes).await;
    let winners: Vec<usize> =
        (0..8).filter(|writer| matches!(endings[*writer], Ending::Applied(()))).collect();
    assert_eq!(winners.len(), 1, "{endings:?}");
    let stored = applied(site.read_metadata(&at).await);
    assert_eq!(stored.state_tag(), documents[winners[0]].state_tag());
}

/// A change of tags does not move bytes.
pub async fn metadata_alone_keeps_the_data(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let md = put(site, "key", 1, &[b"bytes"]).await;
    let encryption = Encryption { algorithm: "AES256".to_owned(), ..Encryption::default() };
    let md = md.with_encryption(&encryption);
    applied(site.write_metadata(&object("key", 1), &md, None, false).await);
    let changed = with_tag(&md, "changed").with_location(Vec::new()).with_encryption(&Encryption::default());
    applied(site.write_metadata(&object("key", 1), &changed, None, true).await);
    let stored = applied(site.read_metadata(&object("key", 1)).await);
    assert_eq!((located(&stored), stored.encryption()), (located(&md), encryption));
    assert_eq!(stored.tags().get("tag").map(String::as_str), Some("changed"));
    assert_eq!(read(site, &object("key", 1), PartRange::Part(1)).await, "bytes");
}

/// Else the full copy is made.
pub async fn metadata_alone_needs_the_version(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let md = document("key", &version(1), &[], &[]);
    let write = harness.site().write_metadata(&object("key", 1), &md, None, true).await;
    assert_eq!(refused(write), RefusalKind::NotFound);
}

/// Written and read like anything else.
pub async fn delete_markers_are_metadata(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    put(site, "key", 1, &[b"bytes"]).await;
    let marker = document("key", &version(2), &[], &[]).to_json();
    let marker = marker.replace("\"isDeleteMarker\":false", "\"isDeleteMarker\":true");
    let marker = ObjectMd::parse(&marker).expect("a valid document");
    applied(site.write_metadata(&object("key", 2), &marker, None, false).await);
    assert!(applied(site.read_metadata(&object("key", 2)).await).is_delete_marker());
    assert_eq!(read(site, &object("key", 1), PartRange::Part(1)).await, "bytes");
}

/// In whatever order they are written.
pub async fn versions_do_not_mix(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    for number in [2, 1, 3] {
        put(site, "key", number, &[number.to_string().as_bytes()]).await;
    }
    for number in 1..=3 {
        assert_eq!(read(site, &object("key", number), PartRange::Part(1)).await, number.to_string());
        let stored = applied(site.read_metadata(&object("key", number)).await);
        assert_eq!(stored.version_id(), Some(&version(number)));
    }
}

/// `versionId=null`, also where there are versions with ids beside it.
pub async fn the_null_version_is_addressed_by_name(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let null = ObjectRef::new(BUCKET, "key", VersionRef::Null);
    assert_eq!(refused(site.read_metadata(&null).await), RefusalKind::NotFound);
    let text = document("key", &version(1), &[], &[]).to_json();
    let text = text.replace("\"versionId\":", "\"isNull\":true,\"versionId\":");
    let md = ObjectMd::parse(&text).expect("a valid document");
    applied(site.write_metadata(&null, &md, None, false).await);
    let stored = applied(site.read_metadata(&null).await);
    assert!(stored.is_null());
    put(site, "key", 2, &[b"newer"]).await;
    assert!(applied(site.read_metadata(&null).await).is_null());
}

/// A null version that is older than what is there is created under an id, and found by name.
pub async fn a_null_version_under_an_id_is_found_by_name(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let old = version(1);
    let mark = |md: ObjectMd, name: &str, value: RawJson| md.with_member(name, &value).expect("untyped");
    // What covers a null version says where that one is.
    let newer = put(site, "key", 2, &[b"newer"]).await;
    let newer = mark(newer, "nullVersionId", RawJson::string(old.as_str()));
    applied(site.write_metadata(&object("key", 2), &newer, None, false).await);
    let location = put_part(site, "key", b"older").await.location;
    let null = mark(document("key", &old, &[b"older"], &[*location]), "isNull", RawJson::bool(true));
    applied(site.write_metadata(&object("key", 1), &null, Some(&Condition::Absent), false).await);
    let by_name = ObjectRef::new(BUCKET, "key", VersionRef::Null);
    assert_eq!(applied(site.read_metadata(&by_name).await).version_id(), Some(&old));
    assert_eq!(read(site, &object("key", 2), PartRange::Part(1)).await, "newer");
}

/// Nothing in a key means anything to the transport.
pub async fn awkward_keys_are_kept_apart(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let keys = [
        "a b",
        "a+b",
        "a%20b",
        "a%2Bb",
        "a/b//c",
        "a?versionId=x",
        "a&b=c",
        "ä/日本語/🦀",
        "a#b",
        "a\"b'c",
        "..a",
        "~*()!",
    ];
    for key in keys {
        put(site, key, 1, &[key.as_bytes()]).await;
    }
    for key in keys {
        assert_eq!(read(site, &object(key, 1), PartRange::Part(1)).await, key);
        assert_eq!(applied(site.read_metadata(&object(key, 1)).await).text("key").as_deref(), Some(key));
    }
}

/// Clean-up after a failed copy is repeated without harm.
pub async fn deleting_data_twice_is_fine(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let stored = put_part(site, "key", b"orphan").await;
    let (bucket, key) = (Bucket::from(BUCKET), ObjectKey::from("key"));
    for _ in 0..2 {
        applied(site.delete_data(&bucket, &key, std::slice::from_ref(&*stored.location)).await);
    }
    applied(site.delete_data(&bucket, &key, &[]).await);
    put(site, "key", 1, &[b"bytes"]).await;
    assert_eq!(read(site, &object("key", 1), PartRange::Part(1)).await, "bytes");
}

/// Roles in order, prefixes of enabled rules; none without a configuration.
pub async fn the_replication_configuration_is_read(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let bucket = Bucket::from(BUCKET);
    assert_eq!(applied(harness.site().bucket_rules(&bucket).await), BucketRules::default());
    let rules = BucketRules {
        roles: ["arn:aws:iam::111111111111:role/source", "arn:aws:iam::222222222222:role/target"]
            .map(str::to_owned)
            .into(),
        prefixes: vec!["a&b/<c>".to_owned(), "photos/ é".to_owned()],
    };
    harness.set_rules(BUCKET, rules.clone()).await;
    assert_eq!(applied(harness.site().bucket_rules(&bucket).await), rules);
}

/// A target that does not is not written to.
pub async fn buckets_tell_whether_they_keep_versions(harness: &impl ObjectsHarness) {
    let site = harness.site();
    for (bucket, versioning) in [
        ("never-versioned", Versioning::Never),
        ("versioned", Versioning::Enabled),
        ("suspended", Versioning::Suspended),
    ] {
        harness.create_bucket(bucket, versioning).await;
        let state = applied(site.bucket_state(&Bucket::from(bucket)).await);
        assert_eq!(state.versioning, versioning, "{bucket}");
    }
    let unversioned = ObjectRef { bucket: Bucket::from("never-versioned"), ..object("key", 1) };
    let md = document("key", &version(1), &[], &[]);
    let write = site.write_metadata(&unversioned, &md, None, false).await;
    // Not every CloudServer looks at it: that is why the engine asks first.
    if let Ending::Refused(refusal) = write {
        assert_eq!(refusal.kind, RefusalKind::BucketUnversioned);
    }
}

/// The newest version is current, a delete marker as well as an object.
pub async fn the_current_version_is_told(harness: &impl ObjectsHarness) {
    enabled(harness).await;
    let site = harness.site();
    let (bucket, key) = (Bucket::from(BUCKET), ObjectKey::from("dir/a b+é"));
    assert_eq!(refused(site.current_version(&bucket, &key).await), RefusalKind::NotFound);
    put(site, key.as_str(), 2, &[b"second"]).await;
    put(site, key.as_str(), 1, &[b"first"]).await;
    let current = applied(site.current_version(&bucket, &key).await);
    assert_eq!(current, VersionRef::Version(version(2)));
    let marker = document(key.as_str(), &version(3), &[], &[])
        .with_member("isDeleteMarker", &RawJson::parse("true").expect("valid"))
        .expect("an untyped member");
    applied(site.write_metadata(&object(key.as_str(), 3), &marker, None, false).await);
    let current = applied(site.current_version(&bucket, &key).await);
    assert_eq!(current, VersionRef::Version(version(3)));
}
