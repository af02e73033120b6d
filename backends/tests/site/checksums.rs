//! Checksums: given, checked, kept, returned.

use crate::harness::{Client, Server, at};
use backbeat_backends::http::Body;
use http::Method;
use std::fmt::Write as _;

/// Of `123456789`.
const KNOWN: [(&str, &str); 5] = [
    ("crc32", "y/Q5Jg=="),
    ("crc32c", "4waSgw=="),
    ("crc64nvme", "rosUhgp5mIg="),
    ("sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
    ("sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
];

#[tokio::test]
async fn every_kind_is_checked_kept_and_shown_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    for (kind, value) in KNOWN {
        let path = format!("/bucket/{kind}");
        let name = format!("x-amz-checksum-{kind}");
        let put = |body: &'static str, value: &str| {
            client.send(at(Method::PUT, &path).header(&name, value).body(Body::full(body)))
        };
        put("12345678_", value).await.refused(400, "BadDigest");
        put("123456789", "nonsense").await.refused(400, "InvalidRequest");
        put("123456789", "").await.refused(400, "InvalidRequest");
        client.get(&path).await.refused(404, "NoSuchKey");
        let answer = put("123456789", value).await.expect(200);
        assert_eq!(answer.header(&name), Some(value));
        for method in [Method::GET, Method::HEAD] {
            let asking = at(method.clone(), &path).header("x-amz-checksum-mode", "ENABLED");
            let answer = client.send(asking).await.expect(200);
            assert_eq!(answer.header(&name), Some(value), "{method}");
            assert_eq!(answer.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
            assert_eq!(client.send(at(method, &path)).await.header(&name), None);
        }
        // Of a piece of the object it would be wrong.
        let piece =
            at(Method::GET, &path).header("x-amz-checksum-mode", "ENABLED").header("range", "bytes=0-3");
        assert_eq!(client.send(piece).await.expect(206).header(&name), None);
        let attributes = at(Method::GET, &format!("{path}?attributes"))
            .header("x-amz-object-attributes", "Checksum,ObjectSize,ETag,StorageClass");
        let attributes = client.send(attributes).await.expect(200);
        assert_eq!(attributes.element(&format!("Checksum{}", kind.to_ascii_uppercase())), value);
        assert_eq!(attributes.element("ObjectSize"), "9");
    }
    let two = at(Method::PUT, "/bucket/two")
        .header("x-amz-checksum-crc32", KNOWN[0].1)
        .header("x-amz-checksum-sha1", KNOWN[3].1);
    client.send(two.body(Body::full("123456789"))).await.refused(400, "InvalidRequest");
    let bad = at(Method::GET, "/bucket/crc32?attributes").header("x-amz-object-attributes", "Color");
    client.send(bad).await.refused(400, "InvalidArgument");
    server.stop().await;
}

#[tokio::test]
async fn a_copy_takes_the_checksum_along_or_gets_another() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let put = at(Method::PUT, "/bucket/key").header("x-amz-checksum-crc32", KNOWN[0].1);
    client.send(put.body(Body::full("123456789"))).await.expect(200);
    let copy = |to: &str| at(Method::PUT, to).header("x-amz-copy-source", "bucket/key");
    let copied = client.send(copy("/bucket/same")).await.expect(200);
    assert_eq!(copied.element("ChecksumCRC32"), KNOWN[0].1);
    let other = copy("/bucket/other").header("x-amz-checksum-algorithm", "SHA256");
    assert_eq!(client.send(other).await.expect(200).element("ChecksumSHA256"), KNOWN[4].1);
    let unknown = copy("/bucket/other").header("x-amz-checksum-algorithm", "MD4");
    client.send(unknown).await.refused(400, "InvalidRequest");
    server.stop().await;
}

/// Uploads `a` and `b` parts of 5 MiB and 1 byte; answers the answer to the completion.
async fn upload(
    client: &Client,
    key: &str,
    algorithm: &str,
    kind: &str,
    whole: Option<&str>,
) -> crate::harness::Answer {
    let start = at(Method::POST, &format!("/bucket/{key}?uploads"))
        .header("x-amz-checksum-algorithm", algorithm)
        .header("x-amz-checksum-type", kind);
    let start = client.send(start).await.expect(200);
    assert_eq!(start.header("x-amz-checksum-algorithm"), Some(algorithm));
    assert_eq!(start.header("x-amz-checksum-type"), Some(kind));
    let id = start.element("UploadId");
    let element = format!("Checksum{algorithm}");
    let header = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
    let mut parts = String::new();
    for (number, body) in [(1, vec![b'a'; 5 << 20]), (2, vec![b'b'])] {
        let path = format!("/bucket/{key}?partNumber={number}&uploadId={id}");
        let part = client.put(&path, body).await.expect(200);
        let (etag, checksum) = (part.header("etag").unwrap(), part.header(&header).unwrap());
        write!(
            parts,
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><{element}>{checksum}</{element}></Part>"
        )
        .unwrap();
    }
    let listed = client.get(&format!("/bucket/{key}?uploadId={id}")).await.expect(200);
    assert_eq!(listed.elements(&element).len(), 2);
    assert_eq!(listed.element("ChecksumAlgorithm"), algorithm);
    let wrong = parts.replacen(&format!("<{element}>"), &format!("<{element}>AAAA"), 1);
    let complete = |parts: &str| {
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let mut request = at(Method::POST, &format!("/bucket/{key}?uploadId={id}"));
        if let Some(whole) = whole {
            request = request.header(&header, whole);
        }
        client.send(request.body(Body::full(document)))
    };
    complete(&wrong).await.refused(400, "InvalidPart");
    complete(&parts).await
}

#[tokio::test]
async fn parts_make_composite_checksums_and_full_ones() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let mut body = vec![b'a'; 5 << 20];
    body.push(b'b');
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME"] {
        let done = upload(client, algorithm, algorithm, "FULL_OBJECT", None).await.expect(200);
        let whole = done.element(&format!("Checksum{algorithm}"));
        assert_eq!(done.element("ChecksumType"), "FULL_OBJECT");
        // The same bytes in one piece are taken with the same checksum.
        let name = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
        let put = at(Method::PUT, "/bucket/plain").header(&name, &whole);
        client.send(put.body(Body::full(body.clone()))).await.expect(200);
        upload(client, "again", algorithm, "FULL_OBJECT", Some(&whole)).await.expect(200);
        let other = if algorithm == "CRC64NVME" { "AAAAAAAAAAA=" } else { "AAAAAA==" };
        upload(client, "wrong", algorithm, "FULL_OBJECT", Some(other)).await.refused(400, "BadDigest");
    }
    for algorithm in ["CRC32", "SHA1", "SHA256"] {
        let done = upload(client, algorithm, algorithm, "COMPOSITE", None).await.expect(200);
        assert!(done.element(&format!("Checksum{algorithm}")).ends_with("-2"));
        let name = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
        let asking =
            at(Method::HEAD, &format!("/bucket/{algorithm}")).header("x-amz-checksum-mode", "ENABLED");
        let head = client.send(asking).await;
        assert!(head.header(&name).unwrap().ends_with("-2"));
        assert_eq!(head.header("x-amz-checksum-type"), Some("COMPOSITE"));
    }
    let start = |algorithm: &str, kind: &str| {
        let request = at(Method::POST, "/bucket/x?uploads").header("x-amz-checksum-type", kind);
        client.send(if algorithm.is_empty() {
            request
        } else {
            request.header("x-amz-checksum-algorithm", algorithm)
        })
    };
    start("SHA256", "FULL_OBJECT").await.refused(400, "InvalidRequest");
    start("CRC64NVME", "COMPOSITE").await.refused(400, "InvalidRequest");
    start("", "COMPOSITE").await.refused(400, "InvalidRequest");
    let id = start("SHA256", "COMPOSITE").await.expect(200).element("UploadId");
    let mixed = at(Method::PUT, &format!("/bucket/x?partNumber=1&uploadId={id}"))
        .header("x-amz-checksum-crc32", KNOWN[0].1);
    client.send(mixed.body(Body::full("123456789"))).await.refused(400, "InvalidRequest");
    server.stop().await;
}
