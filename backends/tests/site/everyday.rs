//! What people do every day and other suites found missing (`tests/clients/versitygw.txt`).

use crate::harness::{Client, Server, at};
use backbeat_backends::http::Body;
use http::Method;

async fn get(client: &Client, path: &str, name: &str, value: &str) -> crate::harness::Answer {
    client.send(at(Method::GET, path).header(name, value)).await
}

#[tokio::test]
async fn a_bucket_goes_once_its_versions_are_gone_and_takes_its_uploads_along() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    for key in ["a", "b"] {
        let version = client.put(&format!("/bucket/{key}"), "x").await.version();
        let marker = client.delete(&format!("/bucket/{key}")).await.version();
        client.delete("/bucket").await.refused(409, "BucketNotEmpty");
        client.delete(&format!("/bucket/{key}?versionId={version}")).await.expect(204);
        client.delete(&format!("/bucket/{key}?versionId={marker}")).await.expect(204);
    }
    let upload = client.post("/bucket/c?uploads", "").await.expect(200).element("UploadId");
    let part = format!("/bucket/c?partNumber=1&uploadId={upload}");
    client.put(&part, "part").await.expect(200);
    client.delete("/bucket").await.expect(204);
    // Nothing is left of the keys and the upload in a bucket of the same name.
    client.bucket("bucket", true).await;
    assert!(client.get("/bucket?versions").await.expect(200).elements("Key").is_empty());
    client.put(&part, "part").await.refused(404, "NoSuchUpload");
    server.stop().await;
}

#[tokio::test]
async fn buckets_are_listed_in_pages_and_by_their_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    for name in ["a-one", "b-one", "b-two", "c-one"] {
        client.bucket(name, false).await;
    }
    let page = client.get("/?max-buckets=2&prefix=b").await.expect(200);
    assert_eq!(page.elements("Name"), ["b-one", "b-two"]);
    assert!(page.elements("ContinuationToken").is_empty());
    let page = client.get("/?max-buckets=3").await.expect(200);
    assert_eq!(page.elements("Name"), ["a-one", "b-one", "b-two"]);
    let rest =
        client.get(&format!("/?continuation-token={}", page.element("ContinuationToken"))).await.expect(200);
    assert_eq!(rest.elements("Name"), ["c-one"]);
    client.get("/?max-buckets=0").await.refused(400, "InvalidArgument");
    server.stop().await;
}

#[tokio::test]
async fn headers_that_are_none_count_as_not_given_and_tags_need_no_quotes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    let etag = client.put("/bucket/key", "0123456789").await.expect(200).header("etag").unwrap().to_owned();
    let plain = etag.trim_matches('"');
    for range in ["bytes=abc", "bytes=7-3", "lines=1-2", "bytes=,", "bytes=1-2,4-5"] {
        let whole = get(client, "/bucket/key", "range", range).await.expect(200);
        assert_eq!((whole.text(), whole.header("content-range")), ("0123456789", None), "{range}");
    }
    assert_eq!(get(client, "/bucket/key", "range", "bytes=7-").await.expect(206).text(), "789");
    get(client, "/bucket/key", "range", "bytes=10-").await.refused(416, "InvalidRange");
    get(client, "/bucket/key", "if-match", plain).await.expect(200);
    get(client, "/bucket/key", "if-match", "other").await.refused(412, "PreconditionFailed");
    get(client, "/bucket/key", "if-none-match", plain).await.expect(304);
    get(client, "/bucket/key", "if-modified-since", "yesterday").await.expect(200);
    let put = |name: &'static str, value: &str| {
        let request = at(Method::PUT, "/bucket/key").header(name, value).body(Body::full("changed"));
        async move { client.send(request).await }
    };
    put("if-match", "other").await.refused(412, "PreconditionFailed");
    put("if-none-match", plain).await.refused(501, "NotImplemented");
    put("if-match", plain).await.expect(200);
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "changed");
    // The long way has the same doors: nobody else gets through it.
    let stranger = server.client.with("accessKey2", "verySecretKey2");
    get(&stranger, "/bucket/key", "range", "bytes=abc").await.refused(403, "AccessDenied");
    let unsigned = at(Method::GET, "/bucket/key").header("range", "bytes=abc").unsigned();
    client.send(unsigned).await.refused(403, "AccessDenied");
    let unsigned =
        at(Method::GET, "/bucket/key").header("if-match", plain).header("authorization", "x").unsigned();
    assert!(client.send(unsigned).await.status.is_client_error());
    server.stop().await;
}

#[tokio::test]
async fn answers_say_what_s3_says() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let body = Body::full("123456789");
    client
        .send(at(Method::PUT, "/bucket/key").header("x-amz-checksum-crc32", "y/Q5Jg==").body(body))
        .await
        .expect(200);
    let head = client.send(at(Method::HEAD, "/bucket/key").header("range", "bytes=0-1")).await.expect(206);
    assert_eq!(head.header("content-range"), Some("bytes 0-1/9"));
    assert_eq!(head.header("content-type"), Some("binary/octet-stream"));
    let head = client.head("/bucket/key?response-cache-control=no-cache").await.expect(200);
    assert_eq!(head.header("cache-control"), Some("no-cache"));
    for listing in ["/bucket", "/bucket?list-type=2", "/bucket?versions"] {
        let listing = client.get(listing).await.expect(200);
        assert_eq!(listing.element("ChecksumAlgorithm"), "CRC32");
        assert_eq!(listing.element("ChecksumType"), "FULL_OBJECT");
    }
    let upload = client.post("/bucket/mpu?uploads", "").await.expect(200).element("UploadId");
    let part = client.put(&format!("/bucket/mpu?partNumber=1&uploadId={upload}"), "part").await.expect(200);
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").unwrap()
    );
    let done = client.post(&format!("/bucket/mpu?uploadId={upload}"), list).await.expect(200);
    assert_eq!(done.element("Location"), format!("http://{}/bucket/mpu", client.signed.endpoint()));
    client.get("/bucket/none?partNumber=0").await.refused(400, "InvalidArgument");
    client.get("/bucket/none?retention").await.refused(404, "NoSuchKey");
    server.stop().await;
}
