//! Buckets and objects as S3 clients use them.

use crate::harness::{Server, at, replication_xml};
use backbeat_backends::http::Body;
use http::Method;

#[tokio::test]
async fn buckets_are_created_listed_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.head("/first").await.expect(404);
    client.put("/first", "").await.expect(200);
    client.put("/second", "").await.expect(200);
    client.put("/first", "").await.refused(409, "BucketAlreadyOwnedByYou");
    client.with("accessKey2", "verySecretKey2").put("/first", "").await.refused(409, "BucketAlreadyExists");
    client.put("/Wrong_Name", "").await.refused(400, "InvalidBucketName");
    client.head("/first").await.expect(200);
    client.with("accessKey2", "verySecretKey2").head("/first").await.expect(403);
    assert_eq!(client.get("/").await.expect(200).elements("Name"), ["first", "second"]);
    client.get("/first?location").await.expect(200);
    client.put("/first/key", "x").await.expect(200);
    client.delete("/first").await.refused(409, "BucketNotEmpty");
    client.delete("/first/key").await.expect(204);
    client.delete("/first").await.expect(204);
    client.get("/first").await.refused(404, "NoSuchBucket");
    server.stop().await;
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    let put = at(Method::PUT, "/bucket/a key/with é+%.txt")
        .header("content-type", "text/plain")
        .header("cache-control", "max-age=3")
        .header("content-disposition", "attachment")
        .header("content-encoding", "aws-chunked,identity")
        .header("expires", "Thu, 01 Dec 2030 16:00:00 GMT")
        .header("x-amz-meta-color", "blue")
        .header("x-amz-meta-name", "é")
        .header("content-md5", "/chGfFW+0FMDvLlun56OAg==")
        .body(Body::full("hello lab"));
    let put = client.send(put).await.expect(200);
    assert_eq!(put.header("etag"), Some("\"fdc8467c55bed05303bcb96e9f9e8e02\""));
    assert_eq!(put.header("x-amz-version-id"), None);
    for answer in
        [client.get("/bucket/a key/with é+%.txt").await, client.head("/bucket/a key/with é+%.txt").await]
    {
        let answer = answer.expect(200);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("cache-control"), Some("max-age=3"));
        assert_eq!(answer.header("content-disposition"), Some("attachment"));
        assert_eq!(answer.header("content-encoding"), Some("identity"));
        assert_eq!(answer.header("expires"), Some("Thu, 01 Dec 2030 16:00:00 GMT"));
        assert_eq!(answer.header("x-amz-meta-color"), Some("blue"));
        assert_eq!(answer.header("x-amz-meta-name"), Some("é"));
        assert_eq!(answer.header("content-length"), Some("9"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("etag"), put.header("etag"));
        assert!(answer.header("last-modified").unwrap().ends_with("GMT"));
        assert!(answer.header("x-amz-request-id").is_some());
    }
    assert_eq!(client.get("/bucket/a key/with é+%.txt").await.text(), "hello lab");
    client.put("/bucket/plain", "x").await.expect(200);
    let plain = client.head("/bucket/plain").await.expect(200);
    assert_eq!(plain.header("content-type"), Some("binary/octet-stream"));
    client.put("/bucket/empty", "").await.expect(200);
    let empty = client.get("/bucket/empty").await.expect(200);
    assert_eq!((empty.bytes(), empty.header("content-length")), (&b""[..], Some("0")));
    client.get("/bucket/none").await.refused(404, "NoSuchKey");
    client.get("/none/key").await.refused(404, "NoSuchBucket");
    server.stop().await;
}

#[tokio::test]
async fn digests_that_do_not_match_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    let put = |name: &str, value: &str| {
        client.send(at(Method::PUT, "/bucket/key").header(name, value).body(Body::full("hello lab")))
    };
    put("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==").await.refused(400, "BadDigest");
    put("content-md5", "nonsense").await.refused(400, "InvalidDigest");
    put("x-amz-checksum-crc32", "AAAAAA==").await.refused(400, "BadDigest");
    put("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        .await
        .refused(400, "BadDigest");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    let incoming = directory.path().join("data").join("incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
    put("x-amz-checksum-sha256", "j8a6unmg1gs33uYSzMHsCW71LbqMsKJKZFHov7Dk12E=").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn ranges_and_conditions_are_honoured() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    client.put("/bucket/key", body.clone()).await.expect(200);
    let range = |range: &str| client.send(at(Method::GET, "/bucket/key").header("range", range));
    let part = range("bytes=65000-200000").await.expect(206);
    assert_eq!(part.bytes(), &body[65_000..=200_000]);
    assert_eq!(part.header("content-range"), Some("bytes 65000-200000/800000"));
    assert_eq!(range("bytes=-10").await.expect(206).bytes(), &body[799_990..]);
    assert_eq!(range("bytes=799999-").await.expect(206).bytes(), &body[799_999..]);
    range("bytes=800000-").await.refused(416, "InvalidRange");
    let etag = client.head("/bucket/key").await.header("etag").unwrap().to_owned();
    let with = |name: &str, value: &str| client.send(at(Method::GET, "/bucket/key").header(name, value));
    with("if-match", &etag).await.expect(200);
    with("if-match", "\"other\"").await.refused(412, "PreconditionFailed");
    with("if-none-match", &etag).await.expect(304);
    with("if-modified-since", "Thu, 01 Dec 2011 16:00:00 GMT").await.expect(200);
    with("if-unmodified-since", "Thu, 01 Dec 2011 16:00:00 GMT").await.refused(412, "PreconditionFailed");
    let create = || at(Method::PUT, "/bucket/new").header("if-none-match", "*").body(Body::full("x"));
    client.send(create()).await.expect(200);
    client.send(create()).await.refused(412, "PreconditionFailed");
    server.stop().await;
}

#[tokio::test]
async fn listings_page_through_keys_and_common_prefixes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    for key in ["a", "b/1", "b/2", "b/sub/3", "c", "d", "é"] {
        for _ in 0..3 {
            client.put(&format!("/bucket/{key}"), "x").await.expect(200);
        }
    }
    client.delete("/bucket/d").await.expect(204);
    assert_eq!(
        client.get("/bucket?list-type=2").await.elements("Key"),
        ["a", "b/1", "b/2", "b/sub/3", "c", "é"]
    );
    let grouped = client.get("/bucket?list-type=2&delimiter=/").await;
    assert_eq!(grouped.elements("Key"), ["a", "c", "é"]);
    assert_eq!(grouped.elements("Prefix"), ["", "b/"]);
    let inner = client.get("/bucket?list-type=2&delimiter=/&prefix=b/").await;
    assert_eq!(inner.elements("Key"), ["b/1", "b/2"]);
    let mut keys = Vec::new();
    let mut token = String::new();
    loop {
        let page = client.get(&format!("/bucket?list-type=2&max-keys=2{token}")).await.expect(200);
        keys.extend(page.elements("Key"));
        if page.element("IsTruncated") == "false" {
            break;
        }
        token = format!("&continuation-token={}", page.element("NextContinuationToken"));
    }
    assert_eq!(keys, ["a", "b/1", "b/2", "b/sub/3", "c", "é"]);
    let page = client.get("/bucket?delimiter=/&max-keys=2").await;
    assert_eq!((page.elements("Key"), page.element("NextMarker")), (vec!["a".to_owned()], "b/".to_owned()));
    let page = client.get("/bucket?delimiter=/&max-keys=2&marker=b/").await;
    assert_eq!(page.elements("Key"), ["c", "é"]);
    server.stop().await;
}

#[tokio::test]
async fn tags_are_kept_and_limited() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let put = at(Method::PUT, "/bucket/key")
        .header("x-amz-tagging", "env=prod&k%C3%A9=v%2B1")
        .body(Body::full("x"));
    client.send(put).await.expect(200);
    let tags = client.get("/bucket/key?tagging").await.expect(200);
    assert_eq!(
        (tags.elements("Key"), tags.elements("Value")),
        (vec!["env".into(), "ké".into()], vec!["prod".into(), "v+1".into()])
    );
    let tagging = |tags: &[(&str, &str)]| {
        let tag = |(key, value): &(&str, &str)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
        let tags = tags.iter().map(tag).collect::<Vec<String>>().concat();
        format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")
    };
    client.put("/bucket/key?tagging", tagging(&[("late", "1")])).await.expect(200);
    assert_eq!(client.get("/bucket/key?tagging").await.elements("Key"), ["late"]);
    assert_eq!(client.get("/bucket/key").await.header("x-amz-tagging-count"), Some("1"));
    client.put("/bucket/key?tagging", tagging(&[("a", "1"), ("a", "2")])).await.refused(400, "InvalidTag");
    client.put("/bucket/none?tagging", tagging(&[("a", "1")])).await.refused(404, "NoSuchKey");
    client.delete("/bucket/key?tagging").await.expect(204);
    assert!(client.get("/bucket/key?tagging").await.elements("Key").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_replicated_bucket_marks_writes_pending_and_keeps_its_versioning() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    client.replicate("bucket").await.refused(400, "InvalidRequest");
    client.versioning("bucket", "Enabled").await.expect(200);
    client.replicate("bucket").await.expect(200);
    client.versioning("bucket", "Suspended").await.refused(409, "InvalidBucketState");
    client
        .put("/bucket?replication", replication_xml("arn:aws:iam::1:role/x", "nosite"))
        .await
        .refused(400, "MalformedXML");
    client.put("/bucket/key", "x").await.expect(200);
    assert_eq!(client.head("/bucket/key").await.header("x-amz-replication-status"), Some("PENDING"));
    let service = server.service();
    service.put("/bucket/service", "x").await.expect(200);
    assert_eq!(service.head("/bucket/service").await.header("x-amz-replication-status"), None);
    // A replica is passed on only once its owner changes it.
    let mut replica = client.metadata("/bucket/key").await;
    replica["replicationInfo"]["status"] = "REPLICA".into();
    let version = client.head("/bucket/key").await.version();
    let path = format!("/_/backbeat/metadata/bucket/key?versionId={version}");
    service.put(&path, replica.to_string()).await.expect(200);
    assert_eq!(client.head("/bucket/key").await.header("x-amz-replication-status"), Some("REPLICA"));
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    client.put("/bucket/key?tagging", tags).await.expect(200);
    let tagged = client.metadata("/bucket/key").await["replicationInfo"].clone();
    assert_eq!((&tagged["status"], &tagged["content"]), (&"PENDING".into(), &vec!["METADATA"].into()));
    // One role stands for both sides.
    client.put("/bucket?replication", replication_xml("arn:aws:iam::12:role/one", "sf")).await.expect(200);
    let roles = client.get("/bucket?replication").await.element("Role");
    assert_eq!(roles, "arn:aws:iam::12:role/one,arn:aws:iam::12:role/one");
    client.delete("/bucket?replication").await.expect(204);
    client.get("/bucket?replication").await.refused(404, "ReplicationConfigurationNotFoundError");
    client.versioning("bucket", "Suspended").await.expect(200);
    client.replicate("bucket").await.refused(400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn several_deletions_go_in_one_request() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    for key in ["a", "b", "c"] {
        client.put(&format!("/bucket/{key}"), "x").await.expect(200);
    }
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    let answer = client.post("/bucket?delete", body).await.expect(200);
    assert_eq!(answer.elements("Key"), ["a", "b"]);
    assert_eq!(client.get("/bucket?list-type=2").await.elements("Key"), ["c"]);
    server.stop().await;
}
