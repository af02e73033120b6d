//! Copies made by the server: what they take from the source, what from the request, and what they refuse.

use crate::harness::{Answer, Client, Server, at};
use backbeat_backends::http::{Body, Request};
use http::Method;
use serde_json::Value;

fn copy(to: &str, source: &str) -> Request {
    at(Method::PUT, to).header("x-amz-copy-source", source)
}

async fn put_source(client: &Client) -> Answer {
    let put = at(Method::PUT, "/bucket/plain.txt")
        .header("content-type", "text/plain")
        .header("cache-control", "max-age=3")
        .header("x-amz-meta-color", "blue")
        .header("x-amz-tagging", "a=1")
        .header("x-amz-website-redirect-location", "/elsewhere");
    client.send(put.body(Body::full("hello lab"))).await.expect(200)
}

#[tokio::test]
async fn a_copy_has_the_document_of_cloudserver_and_data_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.replicate("bucket").await.expect(200);
    let version = put_source(client).await.version();
    let answer = client.send(copy("/bucket/copied.txt", "/bucket/plain.txt")).await.expect(200);
    assert_eq!(answer.element("ETag"), "\"fdc8467c55bed05303bcb96e9f9e8e02\"");
    assert!(answer.element("LastModified").ends_with('Z'));
    assert_eq!(answer.header("x-amz-copy-source-version-id"), Some(version.as_str()));
    let copied = client.metadata("/bucket/copied.txt").await;
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    // Seen in the record log of CloudServer; the micro version id is this site's own.
    let captured: Value = serde_json::from_str(include_str!("../captures/captures-record-log.json")).unwrap();
    let records = captured["records"].as_array().unwrap();
    let record = records.iter().find(|record| record["seq"] == 35).unwrap();
    let theirs: Value =
        serde_json::from_str(record["record"]["entries"][0]["value"].as_str().unwrap()).unwrap();
    let mut ours = names(&copied);
    ours.retain(|name| name != "microVersionId");
    let mut expected = names(&theirs);
    // Not sent here.
    expected.retain(|name| !["content-disposition", "content-encoding"].contains(&name.as_str()));
    assert_eq!(ours, expected);
    assert_eq!(copied["originOp"], "s3:ObjectCreated:Copy");
    assert_eq!(copied["replicationInfo"], theirs["replicationInfo"]);
    assert_eq!(copied["x-amz-meta-color"], "blue");
    assert_eq!(copied["tags"]["a"], "1");
    assert_eq!(copied["x-amz-website-redirect-location"], "");
    assert_ne!(
        copied["location"][0]["key"],
        client.metadata("/bucket/plain.txt").await["location"][0]["key"]
    );
    client.delete(&format!("/bucket/plain.txt?versionId={version}")).await.expect(204);
    assert_eq!(client.get("/bucket/copied.txt").await.expect(200).text(), "hello lab");
    server.stop().await;
}

#[tokio::test]
async fn directives_say_what_is_copied_and_what_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    put_source(client).await;
    let source = "bucket/plain.txt";
    let replaced = copy("/bucket/replaced", source)
        .header("x-amz-metadata-directive", "REPLACE")
        .header("content-type", "text/other")
        .header("x-amz-meta-size", "small");
    client.send(replaced).await.expect(200);
    let head = client.head("/bucket/replaced").await;
    assert_eq!(head.header("content-type"), Some("text/other"));
    assert_eq!(head.header("x-amz-meta-size"), Some("small"));
    assert_eq!((head.header("x-amz-meta-color"), head.header("cache-control")), (None, None));
    assert_eq!(client.get("/bucket/replaced?tagging").await.elements("Key"), ["a"]);
    let retagged = copy("/bucket/retagged", source)
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-tagging", "b=2");
    client.send(retagged).await.expect(200);
    assert_eq!(client.get("/bucket/retagged?tagging").await.elements("Key"), ["b"]);
    assert_eq!(client.head("/bucket/retagged").await.header("x-amz-meta-color"), Some("blue"));
    for name in ["x-amz-metadata-directive", "x-amz-tagging-directive"] {
        client.send(copy("/bucket/x", source).header(name, "MERGE")).await.refused(400, "InvalidArgument");
    }

    // To itself: only with a change.
    client.send(copy("/bucket/plain.txt", source)).await.refused(400, "InvalidRequest");
    let changed = copy("/bucket/plain.txt", source).header("x-amz-metadata-directive", "REPLACE");
    client.send(changed).await.expect(200);
    let head = client.get("/bucket/plain.txt").await.expect(200);
    assert_eq!((head.text(), head.header("x-amz-meta-color")), ("hello lab", None));
    server.stop().await;
}

#[tokio::test]
async fn a_source_is_named_by_version_and_guarded_by_conditions() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let first = client.put("/bucket/a key+é", "first").await;
    let etag = first.header("etag").unwrap().to_owned();
    let first = first.version();
    client.put("/bucket/a key+é", "second").await.expect(200);
    let source = "bucket/a%20key%2B%C3%A9";
    let back = client.send(copy("/bucket/a key+é", &format!("{source}?versionId={first}"))).await.expect(200);
    assert_eq!(back.header("x-amz-copy-source-version-id"), Some(first.as_str()));
    assert_eq!(client.get("/bucket/a key+é").await.text(), "first");
    assert_eq!(client.get("/bucket?versions").await.elements("VersionId").len(), 3);

    let with = |name: &str, value: &str| client.send(copy("/bucket/to", source).header(name, value));
    let (past, other) = ("Thu, 01 Dec 2011 16:00:00 GMT", "\"other\"");
    with("x-amz-copy-source-if-match", other).await.refused(412, "PreconditionFailed");
    with("x-amz-copy-source-if-none-match", &etag).await.refused(412, "PreconditionFailed");
    with("x-amz-copy-source-if-unmodified-since", past).await.refused(412, "PreconditionFailed");
    with("x-amz-copy-source-if-modified-since", "Thu, 01 Dec 2050 16:00:00 GMT")
        .await
        .refused(412, "PreconditionFailed");
    with("x-amz-copy-source-if-match", &etag).await.expect(200);
    with("if-none-match", "*").await.refused(412, "PreconditionFailed");

    let marker = client.delete("/bucket/a key+é").await.version();
    client.send(copy("/bucket/to", source)).await.refused(404, "NoSuchKey");
    let marked = format!("{source}?versionId={marker}");
    client.send(copy("/bucket/to", &marked)).await.refused(400, "InvalidRequest");
    client.send(copy("/bucket/to", "bucket/none")).await.refused(404, "NoSuchKey");
    client.send(copy("/bucket/to", "none/key")).await.refused(404, "NoSuchBucket");
    client.send(copy("/none/to", &format!("{source}?versionId={first}"))).await.refused(404, "NoSuchBucket");
    client.send(copy("/bucket/to", &format!("{source}?versionId=x"))).await.refused(400, "InvalidArgument");
    let stranger = client.with("accessKey2", "verySecretKey2");
    stranger.bucket("lisa", false).await;
    let theft = copy("/lisa/to", &format!("{source}?versionId={first}"));
    stranger.send(theft).await.refused(403, "AccessDenied");
    server.stop().await;
}

#[tokio::test]
async fn parts_are_copied_from_ranges_of_objects() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let body: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    client.put("/bucket/source", body.clone()).await.expect(200);
    let start = at(Method::POST, "/bucket/to?uploads").header("x-amz-checksum-algorithm", "CRC32C");
    let upload = client.send(start).await.expect(200).element("UploadId");
    let part = |number: u32, range: &'static str| {
        let to = format!("/bucket/to?partNumber={number}&uploadId={upload}");
        client.send(copy(&to, "bucket/source").header("x-amz-copy-source-range", range))
    };
    let first = part(1, "bytes=0-5242879").await.expect(200);
    let second = part(2, "bytes=5242880-7999999").await.expect(200);
    assert!(!second.element("ChecksumCRC32C").is_empty());
    part(3, "bytes=0-8000000").await.refused(400, "InvalidArgument");
    part(3, "bytes=3-2").await.refused(400, "InvalidArgument");
    part(10_001, "bytes=0-1").await.refused(400, "InvalidArgument");
    let listed = |number: u32, part: &Answer| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", part.element("ETag"))
    };
    let parts = [listed(1, &first), listed(2, &second)].concat();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.post(&format!("/bucket/to?uploadId={upload}"), document).await.expect(200);
    assert_eq!(client.get("/bucket/to").await.expect(200).bytes(), body);

    // A copy of an object of parts keeps its parts and its tag.
    client.send(copy("/bucket/again", "bucket/to")).await.expect(200);
    let (to, again) = (client.head("/bucket/to").await, client.head("/bucket/again").await);
    assert_eq!(to.header("etag"), again.header("etag"));
    let part = client.get("/bucket/again?partNumber=2").await.expect(206);
    assert_eq!(part.bytes(), &body[5_242_880..]);
    server.stop().await;
}
