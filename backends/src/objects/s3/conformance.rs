//! What targets that mint version ids have to do, as code: the adapter passes these cases against every server that is tried.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Bucket, MintedId, UploadId};
use backbeat_core::model::{ObjectMd, ObjectRef, Owner, VersionRef};
use backbeat_core::request::PartMove;
use backbeat_core::request::minting::{
    Copies, CurrentIs, Minted, MintingReply, MintingRequest, ObjectPut, TargetVersion, UploadedPart,
};
use backbeat_core::time::Span;
use bytes::Bytes;
use futures_util::stream;
use http::Method;

use super::S3Site;
use crate::conformance::{applied, refused};
use crate::credentials::CredentialSource;
use crate::http::{Request, SignedClient};
use crate::objects::conformance::{md5_hex, version};
use crate::objects::{BodyError, ByteStream, Versioning};

/// Gives one target, without buckets at the beginning of a case.
pub trait S3Harness {
    /// Who asks.
    type Credentials: CredentialSource;
    /// The adapter.
    fn site(&self) -> &S3Site<Self::Credentials>;
    /// Another client of the site, with the same keys.
    fn client(&self) -> &SignedClient;
    /// The bucket of the case; made by [`Self::create_bucket`].
    fn bucket(&self) -> Bucket;
    /// Makes the bucket.
    fn create_bucket(&self, versioning: Versioning) -> impl Future<Output = ()>;
    /// Whether the site honours conditions of writes.
    fn is_conditional(&self) -> bool;
}

/// Stamps out the suite for one server.
#[macro_export]
macro_rules! s3_conformance {
    ($macro:ident, $adapter:ident, $harness:expr) => {
        $crate::$macro! { $adapter, $harness, objects::s3;
            a_copy_is_found_by_its_marker,
            copies_carry_what_the_source_says,
            an_empty_object_is_copied,
            versions_come_newest_first,
            no_more_is_looked_at_than_was_asked_for,
            keys_are_told_apart,
            a_version_is_found_by_its_id,
            a_wrong_digest_is_refused,
            a_stream_that_breaks_off_stores_nothing,
            tags_are_replaced,
            versions_are_removed_for_good,
            an_upload_becomes_a_version,
            parts_are_found_again,
            an_upload_that_is_gone_is_not_found,
            buckets_that_are_not_there_are_named,
            buckets_tell_whether_they_keep_versions,
            conditions_hold_or_nothing_happens,
        }
    };
}

const PART_BYTES: usize = 5 << 20;

fn document(bytes: &[u8], tags: &[(&str, &str)]) -> ObjectMd {
    let tags: BTreeMap<&str, &str> = tags.iter().copied().collect();
    let text = serde_json::json!({
        "content-length": bytes.len(),
        "content-md5": md5_hex(bytes),
        "content-type": "text/plain",
        "cache-control": "no-store",
        "x-amz-meta-color": "green",
        "x-amz-storage-class": "STANDARD",
        "tags": tags,
        "isDeleteMarker": false,
    });
    ObjectMd::parse(&text.to_string()).expect("a valid document")
}

fn place<H: S3Harness>(harness: &H, key: &str, number: u32) -> ObjectRef {
    ObjectRef::new(harness.bucket(), key, VersionRef::Version(version(number)))
}

fn object_put(to: &ObjectRef, md: &ObjectMd, digest: &str, condition: Option<CurrentIs>) -> ObjectPut {
    ObjectPut {
        from: to.clone(),
        to: to.clone(),
        md: md.clone(),
        size: md.content_length(),
        digest: digest.to_owned(),
        condition,
        deadline: Span::from_secs(30),
    }
}

async fn put_if<H: S3Harness>(
    harness: &H,
    to: &ObjectRef,
    bytes: &[u8],
    condition: Option<CurrentIs>,
) -> Ending<Minted> {
    let put = object_put(to, &document(bytes, &[("a", "b")]), &md5_hex(bytes), condition);
    harness.site().put_object(&put, ByteStream::full(bytes.to_vec())).await
}

async fn put<H: S3Harness>(harness: &H, to: &ObjectRef, bytes: &[u8]) -> Minted {
    applied(put_if(harness, to, bytes, None).await)
}

async fn find_as<H: S3Harness>(
    harness: &H,
    object: &ObjectRef,
    known: Option<MintedId>,
    depth: u32,
) -> Ending<Box<Copies>> {
    let request = MintingRequest::FindCopies { object: object.clone(), known, depth };
    let MintingReply::Found(ending) = harness.site().ask(&request).await else {
        panic!("not a list of copies")
    };
    ending
}

async fn find<H: S3Harness>(harness: &H, object: &ObjectRef) -> Copies {
    *applied(find_as(harness, object, None, 100).await)
}

async fn done<H: S3Harness>(harness: &H, request: MintingRequest) -> Ending<()> {
    let MintingReply::Done(ending) = harness.site().ask(&request).await else { panic!("not an end") };
    ending
}

async fn mint<H: S3Harness>(harness: &H, request: MintingRequest) -> Ending<Minted> {
    let MintingReply::Minted(ending) = harness.site().ask(&request).await else { panic!("not a version") };
    ending
}

async fn delete<H: S3Harness>(harness: &H, object: &ObjectRef) -> Minted {
    let request = MintingRequest::DeleteObject { object: object.clone(), condition: None };
    applied(mint(harness, request).await)
}

async fn uploads<H: S3Harness>(harness: &H, object: &ObjectRef) -> Vec<UploadId> {
    let MintingReply::Uploads(ending) =
        harness.site().ask(&MintingRequest::ListUploads { object: object.clone() }).await
    else {
        panic!("not uploads")
    };
    applied(ending)
}

async fn begin<H: S3Harness>(harness: &H, object: &ObjectRef, md: &ObjectMd) -> UploadId {
    let request = MintingRequest::CreateUpload { object: object.clone(), md: md.clone() };
    let MintingReply::Created(ending) = harness.site().ask(&request).await else { panic!("not an upload") };
    applied(ending)
}

async fn parts<H: S3Harness>(
    harness: &H,
    object: &ObjectRef,
    upload: &UploadId,
) -> Ending<Vec<UploadedPart>> {
    let request = MintingRequest::ListParts { object: object.clone(), upload: upload.clone() };
    let MintingReply::Parts(ending) = harness.site().ask(&request).await else { panic!("not parts") };
    ending
}

async fn put_part<H: S3Harness>(
    harness: &H,
    object: &ObjectRef,
    upload: &UploadId,
    number: u32,
    bytes: &Bytes,
) -> String {
    let part = PartMove {
        from: object.clone(),
        number,
        size: bytes.len() as u64,
        digest: md5_hex(bytes).into(),
        to_bucket: object.bucket.clone(),
        to_key: object.key.clone(),
        owner: Owner::new("", ""),
        upload: Some(upload.clone()),
        deadline: Span::from_secs(60),
    };
    let moved = applied(harness.site().put_part(&part, upload, ByteStream::full(bytes.clone())).await);
    assert_eq!(moved.digest, part.digest);
    moved.location.key.to_string()
}

fn markers(copies: &Copies) -> Vec<Option<VersionRef>> {
    copies.newest_first.iter().map(|version| version.marker.clone()).collect()
}

async fn enabled<H: S3Harness>(harness: &H) {
    harness.create_bucket(Versioning::Enabled).await;
}

/// What was written is there, with its marker, its tags and its digest; looking does not change it.
pub async fn a_copy_is_found_by_its_marker(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "dir/key", 1);
    assert_eq!(find(harness, &object).await, Copies { complete: true, ..Copies::default() });
    let minted = put(harness, &object, b"hello").await;
    assert_eq!(minted.etag, md5_hex(b"hello"));
    let expected = TargetVersion {
        id: minted.id.clone(),
        marker: Some(object.version.clone()),
        etag: md5_hex(b"hello").into(),
        size: 5,
        is_delete_marker: false,
        tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    };
    for _ in 0..2 {
        let found = find(harness, &object).await;
        assert_eq!((found.newest_first, found.complete), (vec![expected.clone()], true));
    }
    // Of copies of other versions the tags are not asked for.
    let found = find(harness, &place(harness, "dir/key", 2)).await;
    assert_eq!(found.newest_first, [TargetVersion { tags: BTreeMap::new(), ..expected }]);
}

/// Content headers, user metadata and the flags of a replica arrive, as another client sees them.
pub async fn copies_carry_what_the_source_says(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "a b+c%é/ü", 1);
    let minted = put(harness, &object, b"hello").await;
    let path = format!("/{}/{}", object.bucket, object.key);
    let request = Request::new(Method::GET, path).query("versionId", minted.id.as_str());
    let answer = harness.client().fetch(request, Duration::from_secs(30), 1 << 20).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200, "{:?}", answer.body());
    assert_eq!(answer.body().as_ref(), b"hello");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("cache-control", "no-store"),
        ("x-amz-meta-color", "green"),
        ("x-amz-meta-scal-replication-status", "REPLICA"),
        ("x-amz-meta-scal-version-id", &version(1).encode()),
    ] {
        assert_eq!(
            answer.headers().get(name).map(http::HeaderValue::as_bytes),
            Some(value.as_bytes()),
            "{name}"
        );
    }
}

/// Nothing but metadata.
pub async fn an_empty_object_is_copied(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "empty", 1);
    put(harness, &object, b"").await;
    let found = find(harness, &object).await;
    let version = &found.newest_first[0];
    assert_eq!((version.size, &*version.etag), (0, &*md5_hex(b"")));
    assert_eq!(version.marker, Some(object.version));
}

/// Objects and delete markers in the order in which they were made; what others wrote has no marker, and the null version's is
/// told as such.
pub async fn versions_come_newest_first(harness: &impl S3Harness) {
    enabled(harness).await;
    let first = place(harness, "key", 1);
    put(harness, &first, b"1").await;
    // Some sites list delete markers apart, so that only dates tell where they belong.
    let next_millisecond = || tokio::time::sleep(Duration::from_millis(2));
    next_millisecond().await;
    let deleted = delete(harness, &first).await;
    next_millisecond().await;
    let null = ObjectRef { version: VersionRef::Null, ..first.clone() };
    put(harness, &null, b"null").await;
    let request = Request::new(Method::PUT, format!("/{}/key", first.bucket));
    let request = request.header("x-amz-meta-scal-version-id", "not one of ours");
    let answer = harness.client().fetch(request, Duration::from_secs(30), 1 << 20).await;
    assert!(answer.expect("an answer").status().is_success());
    put(harness, &place(harness, "key", 2), b"2").await;
    let found = find(harness, &first).await;
    let second = Some(VersionRef::Version(version(2)));
    assert_eq!(markers(&found), [second, None, Some(VersionRef::Null), None, Some(first.version.clone())]);
    let is_marker: Vec<bool> = found.newest_first.iter().map(|version| version.is_delete_marker).collect();
    assert_eq!(is_marker, [false, false, false, true, false]);
    assert_eq!(found.newest_first[3].id, deleted.id);
    assert!(found.complete);
}

/// The newest so many, and whether there are others.
pub async fn no_more_is_looked_at_than_was_asked_for(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    for number in 1..=3 {
        put(harness, &place(harness, "key", number), b"x").await;
    }
    put(harness, &place(harness, "key/later", 9), b"x").await;
    for (depth, expected, complete) in
        [(2, vec![3, 2], false), (3, vec![3, 2, 1], true), (100, vec![3, 2, 1], true)]
    {
        let found = applied(find_as(harness, &object, None, depth).await);
        let expected: Vec<_> =
            expected.into_iter().map(|number| Some(VersionRef::Version(version(number)))).collect();
        assert_eq!((markers(&found), found.complete), (expected, complete), "{depth}");
    }
}

/// Keys that begin alike, and keys that are hard to write.
pub async fn keys_are_told_apart(harness: &impl S3Harness) {
    enabled(harness).await;
    let keys = ["a", "a/", "a/b", "a b", "a+b", "a%20b", "aé", "a&<\"'>", "a?x=y#z", "a//b", "a~b*c'(d)!"];
    for (number, key) in (1..).zip(keys) {
        put(harness, &place(harness, key, number), b"x").await;
    }
    for (number, key) in (1..).zip(keys) {
        let found = find(harness, &place(harness, key, number)).await;
        assert_eq!(markers(&found), [Some(VersionRef::Version(version(number)))], "{key}");
        assert!(found.complete, "{key}");
    }
}

/// Also when the look does not reach so far; an id of nothing is one of nothing.
pub async fn a_version_is_found_by_its_id(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let first = put(harness, &object, b"first").await;
    let deleted = delete(harness, &object).await;
    put(harness, &place(harness, "key", 2), b"second").await;
    let found = applied(find_as(harness, &object, Some(first.id.clone()), 1).await);
    assert_eq!(found.newest_first.len(), 1);
    let known = found.known.expect("the version is there");
    assert_eq!((known.id, known.marker, known.size), (first.id.clone(), Some(object.version.clone()), 5));
    assert_eq!(known.tags.get("a").map(String::as_str), Some("b"));
    let found = applied(find_as(harness, &object, Some(deleted.id), 1).await);
    // Not every site tells a delete marker by its id.
    assert!(found.known.is_none_or(|version| version.is_delete_marker));
    let request = MintingRequest::DeleteVersion { object: object.clone(), id: first.id.clone() };
    applied(done(harness, request).await);
    for id in [first.id, "no-such-version".into()] {
        let found = applied(find_as(harness, &object, Some(id), 1).await);
        assert_eq!(found.known, None);
    }
}

/// Bytes that are not those that were announced make no version.
pub async fn a_wrong_digest_is_refused(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let put = object_put(&object, &document(b"hello", &[]), &md5_hex(b"other"), None);
    let ending = harness.site().put_object(&put, ByteStream::full(&b"hello"[..])).await;
    assert_eq!(refused(ending), RefusalKind::BadDigest);
    assert_eq!(find(harness, &object).await.newest_first, []);
}

/// A source that breaks off leaves nothing behind.
pub async fn a_stream_that_breaks_off_stores_nothing(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let put = object_put(&object, &document(b"hello", &[]), &md5_hex(b"hello"), None);
    let broken = stream::iter([Ok(Bytes::from_static(b"he")), Err(BodyError::Broken("gone".to_owned()))]);
    let ending = harness.site().put_object(&put, ByteStream::new(5, broken)).await;
    assert!(!matches!(ending, Ending::Applied(_)), "{ending:?}");
    assert_eq!(find(harness, &object).await.newest_first, []);
}

/// All of them, down to none.
pub async fn tags_are_replaced(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let minted = put(harness, &object, b"hello").await;
    put(harness, &place(harness, "key", 2), b"newer").await;
    for tags in [&[("x", "1"), ("y+-=._:/@é", "2 3")][..], &[("y", "4")], &[]] {
        let tags: BTreeMap<String, String> =
            tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request =
            MintingRequest::WriteTags { object: object.clone(), id: minted.id.clone(), tags: tags.clone() };
        applied(done(harness, request).await);
        let found = find(harness, &object).await;
        assert_eq!(found.newest_first.last().map(|version| &version.tags), Some(&tags));
    }
    let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let request = MintingRequest::DeleteVersion { object: object.clone(), id: minted.id.clone() };
    applied(done(harness, request).await);
    let request = MintingRequest::WriteTags { object: object.clone(), id: minted.id, tags };
    assert_eq!(refused(done(harness, request).await), RefusalKind::NotFound);
}

/// Objects and delete markers; a second time changes nothing.
pub async fn versions_are_removed_for_good(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let minted = put(harness, &object, b"hello").await;
    let deleted = delete(harness, &object).await;
    for id in [deleted.id, minted.id] {
        let request = MintingRequest::DeleteVersion { object: object.clone(), id };
        applied(done(harness, request.clone()).await);
        let again = done(harness, request).await;
        let is_gone = match &again {
            Ending::Applied(()) => true,
            Ending::Refused(refusal) => refusal.kind == RefusalKind::NotFound,
            Ending::Unknown => false,
        };
        assert!(is_gone, "{again:?}");
    }
    assert_eq!(find(harness, &object).await.newest_first, []);
}

/// Begun with marker, metadata and tags, filled in any order, completed once.
pub async fn an_upload_becomes_a_version(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "a b+é", 1);
    let (first, last) = (Bytes::from(vec![1; PART_BYTES]), Bytes::from_static(b"the end"));
    let upload = begin(harness, &object, &document(&[&first[..], &last].concat(), &[("a", "b")])).await;
    assert_eq!(uploads(harness, &object).await, std::slice::from_ref(&upload));
    let last_etag = put_part(harness, &object, &upload, 2, &last).await;
    let first_etag = put_part(harness, &object, &upload, 1, &first).await;
    assert_eq!((&*first_etag, &*last_etag), (&*md5_hex(&first), &*md5_hex(&last)));
    assert_eq!(find(harness, &object).await.newest_first, []);
    let complete = MintingRequest::CompleteUpload {
        object: object.clone(),
        upload: upload.clone(),
        parts: vec![(1, first_etag), (2, last_etag)],
        condition: None,
    };
    let minted = applied(mint(harness, complete).await);
    assert_eq!(uploads(harness, &object).await, []);
    let found = find(harness, &object).await;
    let version = &found.newest_first[0];
    assert_eq!((&version.id, version.size), (&minted.id, (PART_BYTES + last.len()) as u64));
    assert_eq!(version.marker, Some(object.version.clone()));
    // Ceph tells none here.
    assert!(minted.etag.is_empty() || *version.etag == *minted.etag, "{minted:?}");
    assert!(version.etag.ends_with("-2"), "{}", version.etag);
    // Ceph 16 loses them, so that they are never relied upon; afterwards they can be written.
    let tags = document(b"", &[("a", "b")]).tags();
    assert!(version.tags.is_empty() || version.tags == tags, "{version:?}");
    let request = MintingRequest::WriteTags { object: object.clone(), id: minted.id, tags: tags.clone() };
    applied(done(harness, request).await);
    assert_eq!(find(harness, &object).await.newest_first[0].tags, tags);
}

/// By whoever goes on: numbers, sizes, digests.
pub async fn parts_are_found_again(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let md = document(b"", &[]);
    let upload = begin(harness, &object, &md).await;
    let other = begin(harness, &place(harness, "key/other", 1), &md).await;
    let bytes = Bytes::from(vec![7; PART_BYTES]);
    assert_eq!(applied(parts(harness, &object, &upload).await), []);
    put_part(harness, &object, &upload, 3, &bytes).await;
    put_part(harness, &object, &upload, 1, &Bytes::from_static(b"replaced")).await;
    put_part(harness, &object, &upload, 1, &bytes).await;
    let part = |number| UploadedPart { number, size: PART_BYTES as u64, etag: md5_hex(&bytes) };
    assert_eq!(applied(parts(harness, &object, &upload).await), [part(1), part(3)]);
    assert_eq!(uploads(harness, &object).await, std::slice::from_ref(&upload));
    let abort = MintingRequest::AbortUpload { object: object.clone(), upload };
    applied(done(harness, abort).await);
    assert_eq!(uploads(harness, &object).await, []);
    assert_eq!(uploads(harness, &place(harness, "key/other", 1)).await, [other]);
}

/// Aborted, or completed: nothing can be done with it any more.
pub async fn an_upload_that_is_gone_is_not_found(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let upload = begin(harness, &object, &document(b"", &[])).await;
    let etag = put_part(harness, &object, &upload, 1, &Bytes::from_static(b"hello")).await;
    let abort = MintingRequest::AbortUpload { object: object.clone(), upload: upload.clone() };
    applied(done(harness, abort).await);
    assert_eq!(refused(parts(harness, &object, &upload).await), RefusalKind::NotFound);
    let complete = MintingRequest::CompleteUpload {
        object: object.clone(),
        upload,
        parts: vec![(1, etag)],
        condition: None,
    };
    assert_eq!(refused(mint(harness, complete).await), RefusalKind::NotFound);
    assert_eq!(find(harness, &object).await.newest_first, []);
}

/// Whatever is asked of a bucket that does not exist.
pub async fn buckets_that_are_not_there_are_named(harness: &impl S3Harness) {
    let object = place(harness, "key", 1);
    let gone = RefusalKind::BucketNotFound;
    assert_eq!(refused(harness.site().bucket_state(&object.bucket).await), gone);
    assert_eq!(refused(find_as(harness, &object, None, 10).await), gone);
    assert_eq!(refused(put_if(harness, &object, b"hello", None).await), gone);
}

/// As the engine's own sites do.
pub async fn buckets_tell_whether_they_keep_versions(harness: &impl S3Harness) {
    harness.create_bucket(Versioning::Never).await;
    let bucket = harness.bucket();
    assert_eq!(applied(harness.site().bucket_state(&bucket).await).versioning, Versioning::Never);
}

/// Where conditions are honoured. Elsewhere they are not asked for.
pub async fn conditions_hold_or_nothing_happens(harness: &impl S3Harness) {
    enabled(harness).await;
    let object = place(harness, "key", 1);
    let etag = |bytes: &[u8]| Some(CurrentIs::Etag(md5_hex(bytes)));
    if !harness.is_conditional() {
        put(harness, &object, b"1").await;
        return;
    }
    assert_eq!(refused(put_if(harness, &object, b"1", etag(b"0")).await), RefusalKind::Conflict);
    applied(put_if(harness, &object, b"1", Some(CurrentIs::Absent)).await);
    assert_eq!(refused(put_if(harness, &object, b"2", Some(CurrentIs::Absent)).await), RefusalKind::Conflict);
    assert_eq!(refused(put_if(harness, &object, b"2", etag(b"0")).await), RefusalKind::Conflict);
    applied(put_if(harness, &object, b"2", etag(b"1")).await);
    let delete = |condition| MintingRequest::DeleteObject { object: object.clone(), condition };
    assert_eq!(refused(mint(harness, delete(etag(b"1"))).await), RefusalKind::Conflict);
    applied(mint(harness, delete(etag(b"2"))).await);
    applied(put_if(harness, &object, b"3", Some(CurrentIs::Absent)).await);
    let upload = begin(harness, &object, &document(b"4", &[])).await;
    let part = put_part(harness, &object, &upload, 1, &Bytes::from_static(b"4")).await;
    let complete = |condition| MintingRequest::CompleteUpload {
        object: object.clone(),
        upload: upload.clone(),
        parts: vec![(1, part.clone())],
        condition,
    };
    assert_eq!(refused(mint(harness, complete(Some(CurrentIs::Absent))).await), RefusalKind::Conflict);
    applied(mint(harness, complete(etag(b"3"))).await);
    assert_eq!(find(harness, &object).await.newest_first.len(), 5);
}
