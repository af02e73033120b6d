//! A part on its way between two sites in memory, and who is to blame when it does not arrive.

use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{ObjectRef, Owner, VersionId, VersionRef};
use backbeat_core::time::Span;

use super::*;
use crate::objects::conformance::{document, md5_hex, version};
use crate::objects::memory::MemorySite;

fn pair() -> SitePair<MemorySite, MemorySite> {
    let pair = SitePair::new(MemorySite::new("source"), MemorySite::new("target"));
    pair.source.create_bucket("bucket", Versioning::Enabled);
    pair.target.create_bucket("replicas", Versioning::Enabled);
    pair
}

fn object() -> ObjectRef {
    ObjectRef::new("bucket", "key", VersionRef::Version(version(1)))
}

fn part(number: u32, bytes: &[u8]) -> PartMove {
    PartMove {
        from: object(),
        number,
        size: bytes.len() as u64,
        digest: md5_hex(bytes).into(),
        to_bucket: Bucket::from("replicas"),
        to_key: ObjectKey::from("key"),
        owner: Owner::new("owner", "Lisa"),
        upload: None,
        deadline: Span::from_secs(10),
    }
}

async fn store(site: &MemorySite, parts: &[&[u8]]) {
    let md = document("key", &version(1), parts, &site.put_data(parts));
    let written = site.write_metadata(&object(), &md, None, false).await;
    assert_eq!(written, Ending::Applied(()));
}

async fn moved(pair: &SitePair<MemorySite, MemorySite>, part: PartMove) -> (Side, Ending<MovedPart>) {
    let reply = pair.call(SiteRequest::MovePart(part.into())).await;
    let SiteReply::Moved { side, ending } = reply else { panic!("another reply: {reply:?}") };
    (side, ending)
}

fn kind(ending: Ending<MovedPart>) -> RefusalKind {
    match ending {
        Ending::Refused(refusal) => refusal.kind,
        Ending::Applied(_) | Ending::Unknown => panic!("not refused: {ending:?}"),
    }
}

#[tokio::test]
async fn a_part_arrives_with_its_digest() {
    let pair = pair();
    store(&pair.source, &[b"first", b"second"]).await;
    let (_, ending) = moved(&pair, part(2, b"second")).await;
    let Ending::Applied(stored) = ending else { panic!("{ending:?}") };
    assert_eq!(stored.digest, md5_hex(b"second"));
    assert_eq!(pair.target.data(&stored.location.key).as_deref(), Some(b"second".as_slice()));
}

#[tokio::test]
async fn a_source_that_is_gone_is_the_sources_refusal() {
    let pair = pair();
    let (side, ending) = moved(&pair, part(1, b"first")).await;
    assert_eq!((side, kind(ending)), (Side::Source, RefusalKind::NotFound));
}

#[tokio::test]
async fn bytes_that_changed_at_the_source_are_not_the_targets_fault() {
    let pair = pair();
    store(&pair.source, &[b"first"]).await;
    let (side, ending) =
        moved(&pair, PartMove { digest: md5_hex(b"other").into(), ..part(1, b"first") }).await;
    assert_eq!((side, kind(ending)), (Side::Source, RefusalKind::BadDigest));
    let (side, ending) = moved(&pair, part(1, b"longer than it")).await;
    assert_eq!((side, kind(ending)), (Side::Source, RefusalKind::BadDigest));
    assert_eq!(pair.target.data_count(), 0);
}

#[tokio::test]
async fn a_missing_target_bucket_is_the_targets_refusal() {
    let pair = pair();
    store(&pair.source, &[b"first"]).await;
    let (side, ending) =
        moved(&pair, PartMove { to_bucket: Bucket::from("none"), ..part(1, b"first") }).await;
    assert_eq!((side, kind(ending)), (Side::Target, RefusalKind::BucketNotFound));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_the_sources_refusal() {
    let pair = pair();
    store(&pair.source, &[b"first"]).await;
    pair.source.break_reads_after(Some(2));
    let (side, ending) = moved(&pair, part(1, b"first")).await;
    assert_eq!((side, kind(ending)), (Side::Source, RefusalKind::Unavailable));
    assert_eq!(pair.target.data_count(), 0);
}

#[tokio::test]
async fn a_target_bucket_has_to_keep_versions() {
    let pair = pair();
    pair.target.create_bucket("plain", Versioning::Never);
    let check = |bucket: &str| pair.call(SiteRequest::CheckBucket { bucket: Bucket::from(bucket) });
    assert_eq!(check("replicas").await, SiteReply::Bucket(Ending::Applied(())));
    for (bucket, expected) in
        [("plain", RefusalKind::BucketUnversioned), ("none", RefusalKind::BucketNotFound)]
    {
        let reply = check(bucket).await;
        let SiteReply::Bucket(Ending::Refused(refusal)) = reply else { panic!("{bucket}: {reply:?}") };
        assert_eq!(refusal.kind, expected);
    }
}

#[test]
fn versions_of_the_tests_are_ordered() {
    assert!(VersionId::as_str(&version(2)) < version(1).as_str(), "newer ids sort first");
}
