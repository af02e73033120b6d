//! The journal: the records of CloudServer's log, in its order.

use crate::harness::{BART, Server};
use backbeat_backends::site::{EntryKind, JournalRecord};
use serde_json::Value;

const RECORDS: &str = include_str!("../captures/captures-record-log.json");

/// What a record is, without what each server makes for itself.
fn shape(record: &JournalRecord) -> String {
    let entry = &record.entries[0];
    let db = if record.db.starts_with("mpuShadowBucket") { "mpuShadowBucket" } else { &record.db };
    let kind = if entry.kind == EntryKind::Put { "put" } else { "del" };
    let (key, version) = entry.key.split_once('\0').map_or((entry.key.as_str(), ""), |(key, _)| (key, "#"));
    let value = entry.value.as_deref().unwrap_or("");
    let note = [
        ("isPHD\": true", "!placeholder"),
        ("\"isNull\":true", "!null"),
        ("\"nullVersionId\"", "!covers-null"),
    ];
    let notes: String = note.iter().filter(|(mark, _)| value.contains(mark)).map(|(_, note)| *note).collect();
    format!("{db} {kind} {key}{version}{notes}")
}

fn captured(from: u64, to: u64) -> Vec<String> {
    let all: Value = serde_json::from_str(RECORDS).unwrap();
    let records = all["records"].as_array().unwrap().iter();
    let wanted = records.filter(|record| (from..=to).contains(&record["seq"].as_u64().unwrap()));
    wanted.map(|record| shape(&serde_json::from_value(record["record"].clone()).unwrap())).collect()
}

fn written(server: &Server, from: u64) -> Vec<String> {
    let records = server.site.journal().read(from, 1000).unwrap();
    for (at, (sequence, record)) in records.iter().enumerate() {
        assert_eq!(*sequence, from + at as u64, "numbers have no gaps");
        assert_eq!(record.entries.len(), 1);
    }
    records.iter().map(|(_, record)| shape(record)).collect()
}

#[tokio::test]
async fn records_come_in_the_order_of_cloudserver() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    let journal = server.site.journal();
    assert_eq!(journal.end().unwrap(), 0);
    client.bucket("src-bucket", true).await;
    client.replicate("src-bucket").await.expect(200);
    let users = format!("users..bucket put {BART}..|..src-bucket");
    let expected = [
        "__metastore put users..bucket",
        "__metastore put src-bucket",
        &users,
        "__metastore put src-bucket",
        "__metastore put src-bucket",
        "__metastore put src-bucket",
    ];
    assert_eq!(written(&server, 1), expected);

    // A versioned put: master first. A metadata write: version first.
    let from = journal.end().unwrap() + 1;
    client.put("/src-bucket/plain.txt", "hello lab").await.expect(200);
    assert_eq!(written(&server, from), captured(8, 9));
    let from = journal.end().unwrap() + 1;
    let md = client.metadata("/src-bucket/plain.txt").await;
    let version = client.head("/src-bucket/plain.txt").await.version();
    let path = format!("/_/backbeat/metadata/src-bucket/plain.txt?versionId={version}");
    server.service().put(&path, md.to_string()).await.expect(200);
    let swapped = captured(37, 38).into_iter().map(|shape| shape.replace("cap-1795192705", "src-bucket"));
    assert_eq!(written(&server, from), swapped.collect::<Vec<_>>());
    let from = journal.end().unwrap() + 1;
    client.delete("/src-bucket/plain.txt?tagging").await.expect(204);
    assert_eq!(written(&server, from).len(), 2);
    assert!(written(&server, from)[0].ends_with("plain.txt#"));
    server.stop().await;
}

#[tokio::test]
async fn null_versions_are_logged_as_captured() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    let bucket = "nv-1795192824";
    client.bucket(bucket, false).await;
    let journal = server.site.journal();
    let end = || journal.end().unwrap() + 1;
    let from = end();
    client.put("/nv-1795192824/plain", "v1").await.expect(200);
    assert_eq!(written(&server, from), captured(59, 59));
    client.versioning(bucket, "Enabled").await.expect(200);
    let from = end();
    client.put("/nv-1795192824/plain", "v2").await.expect(200);
    assert_eq!(written(&server, from), captured(61, 65));
    client.versioning(bucket, "Suspended").await.expect(200);
    let from = end();
    client.put("/nv-1795192824/plain", "null").await.expect(200);
    client.delete("/nv-1795192824/plain?versionId=null").await.expect(204);
    client.delete("/nv-1795192824/plain").await.expect(204);
    assert_eq!(written(&server, from), captured(67, 71));
    server.stop().await;
}

#[tokio::test]
async fn deleting_the_last_version_leaves_a_placeholder_that_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let version = client.put("/bucket/gone", "x").await.version();
    let first = client.put("/bucket/back", "first").await.version();
    let second = client.put("/bucket/back", "second").await.version();
    let mut watch = server.site.journal().watch();
    let from = server.site.journal().end().unwrap() + 1;
    let before = std::time::Instant::now();
    client.delete(&format!("/bucket/gone?versionId={version}")).await.expect(204);
    client.delete(&format!("/bucket/back?versionId={second}")).await.expect(204);
    client.get("/_/backbeat/metadata/bucket/gone").await.refused_json(404, "ObjNotFound");
    let back = client.metadata(&format!("/bucket/back?versionId={first}")).await;
    assert_eq!(client.metadata("/bucket/back").await, back);
    assert_eq!(
        written(&server, from),
        [
            "bucket del gone#",
            "bucket put gone!placeholder",
            "bucket del back#",
            "bucket put back!placeholder"
        ]
    );
    let placeholder = server.site.journal().read(from + 1, 1).unwrap().remove(0).1;
    let value = placeholder.entries[0].value.clone().unwrap();
    assert!(value.starts_with("{ \"isPHD\": true, \"versionId\": \""), "{value}");
    let repaired = async {
        while server.site.journal().end().unwrap() < from + 5 {
            watch.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(2), repaired).await.unwrap();
    // The clock of the site counts whole milliseconds.
    assert!(before.elapsed() >= std::time::Duration::from_millis(14_999), "{:?}", before.elapsed());
    // What is due in the same millisecond is repaired in the order of the keys.
    let mut repairs = written(&server, from + 4);
    repairs.sort();
    assert_eq!(repairs, ["bucket del gone", "bucket put back"]);
    assert_eq!(client.get("/bucket/back").await.version(), first);
    server.stop().await;
}

#[tokio::test]
async fn positions_and_epoch_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    server.client.put("/bucket/key", "x").await.expect(200);
    let (epoch, end) = (server.site.journal().epoch().to_owned(), server.site.journal().end().unwrap());
    let before = server.site.journal().read(0, 1000).unwrap();
    assert_eq!(server.site.journal().read(end + 1, 10).unwrap(), []);
    assert_eq!(server.site.journal().read(3, 2).unwrap()[0].0, 3);
    server.stop().await;
    let server = Server::start(directory.path()).await;
    assert_eq!((server.site.journal().epoch(), server.site.journal().end().unwrap()), (epoch.as_str(), end));
    assert_eq!(server.site.journal().read(1, 1000).unwrap(), before);
    assert_eq!(epoch.len(), 32);
    let mut watch = server.site.journal().watch();
    assert_eq!(*watch.borrow_and_update(), end);
    server.client.put("/bucket/key", "x").await.expect(200);
    assert_eq!(*watch.borrow_and_update(), end + 2);
    server.stop().await;
}
