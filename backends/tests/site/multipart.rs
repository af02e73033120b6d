//! Multipart uploads.

use crate::harness::{Client, Server, at};
use backbeat_backends::http::Body;
use http::Method;

const PART: usize = 5 << 20;

async fn start(client: &Client, path: &str) -> String {
    let create = at(Method::POST, &format!("{path}?uploads"))
        .header("content-type", "application/x-thing")
        .header("x-amz-meta-m", "1")
        .header("x-amz-tagging", "t=1");
    client.send(create).await.expect(200).element("UploadId")
}

async fn part(client: &Client, path: &str, upload: &str, number: u32, body: Vec<u8>) -> String {
    let answer = client.put(&format!("{path}?partNumber={number}&uploadId={upload}"), body).await.expect(200);
    answer.header("etag").unwrap().to_owned()
}

fn list(parts: &[(u32, &str)]) -> String {
    let part = |(number, etag): &(u32, &str)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let parts: Vec<String> = parts.iter().map(part).collect();
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.concat())
}

#[tokio::test]
async fn parts_become_one_object() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.replicate("bucket").await.expect(200);
    let path = "/bucket/mpu/big.bin";
    let upload = start(client, path).await;
    let (first, last) = (vec![1; PART], vec![2; 1000]);
    let replaced = part(client, path, &upload, 2, vec![9; PART]).await;
    let two = part(client, path, &upload, 2, first.clone()).await;
    let seven = part(client, path, &upload, 7, last.clone()).await;
    part(client, path, &upload, 8, vec![8; 10]).await;

    let parts = client.get(&format!("{path}?uploadId={upload}&max-parts=2")).await.expect(200);
    assert_eq!(parts.elements("PartNumber"), ["2", "7"]);
    assert_eq!(
        (parts.element("IsTruncated"), parts.element("NextPartNumberMarker")),
        ("true".into(), "7".into())
    );
    let uploads = client.get("/bucket?uploads").await.expect(200);
    assert_eq!((uploads.element("UploadId"), uploads.element("Key")), (upload.clone(), "mpu/big.bin".into()));

    let complete = format!("{path}?uploadId={upload}");
    client.post(&complete, list(&[(2, &replaced), (7, &seven)])).await.refused(400, "InvalidPart");
    client.post(&complete, list(&[(7, &seven), (2, &two)])).await.refused(400, "InvalidPartOrder");
    client.post(&complete, list(&[(2, &two), (8, &seven)])).await.refused(400, "InvalidPart");
    let done = client.post(&complete, list(&[(2, &two), (7, &seven)])).await.expect(200);
    let etag = done.element("ETag").replace("&quot;", "");
    assert!(etag.trim_matches('"').ends_with("-2"), "{etag}");
    let again = client.post(&complete, list(&[(2, &two), (7, &seven)])).await.expect(200);
    assert_eq!(again.element("ETag"), done.element("ETag"));

    let whole = client.get(path).await.expect(200);
    assert_eq!(whole.bytes(), [first.clone(), last.clone()].concat());
    assert_eq!(whole.header("content-type"), Some("application/x-thing"));
    assert_eq!(whole.header("x-amz-meta-m"), Some("1"));
    let second = client.get(&format!("{path}?partNumber=2")).await.expect(206);
    assert_eq!((second.bytes(), second.header("x-amz-mp-parts-count")), (&last[..], Some("2")));
    client.get(&format!("{path}?partNumber=3")).await.refused(416, "InvalidPartNumber");
    let across = at(Method::GET, path).header("range", format!("bytes={}-{}", PART - 2, PART + 1));
    assert_eq!(client.send(across).await.expect(206).bytes(), [1, 1, 2, 2]);

    let md = client.metadata(path.strip_prefix('/').map(|path| format!("/{path}")).unwrap().as_str()).await;
    assert_eq!(md["content-md5"], etag.trim_matches('"'));
    assert_eq!(md["originOp"], "s3:ObjectCreated:CompleteMultipartUpload");
    assert_eq!(md["uploadId"], upload.as_str());
    assert_eq!(md["creation-time"], md["last-modified"]);
    assert_eq!(md["tags"]["t"], "1");
    let numbers: Vec<_> = md["location"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["dataStoreETag"].as_str().unwrap()[..2].to_owned())
        .collect();
    assert_eq!(numbers, ["1:", "2:"]);
    assert_eq!(md["location"][1]["start"], PART);
    assert_eq!(md["replicationInfo"]["content"], serde_json::json!(["DATA", "METADATA"]));
    assert!(client.get("/bucket?uploads").await.elements("UploadId").is_empty());
    // The replaced part and the one that was not listed are gone.
    let folders = std::fs::read_dir(directory.path().join("data")).unwrap();
    let files: usize = folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum();
    assert_eq!((files, server.site.data_bytes()), (1, (first.len() + last.len()) as u64));
    server.stop().await;
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    let upload = start(client, "/bucket/key").await;
    let small = part(client, "/bucket/key", &upload, 1, vec![1; 10]).await;
    let other = part(client, "/bucket/key", &upload, 2, vec![2; 10]).await;
    let at_upload = format!("/bucket/key?uploadId={upload}");
    client.post(&at_upload, list(&[(1, &small), (2, &other)])).await.refused(400, "EntityTooSmall");
    client.delete(&at_upload).await.expect(204);
    client.delete(&at_upload).await.refused(404, "NoSuchUpload");
    client.get(&at_upload).await.refused(404, "NoSuchUpload");
    let late = at(Method::PUT, &format!("/bucket/key?partNumber=1&uploadId={upload}")).body(Body::full("x"));
    client.send(late).await.refused(404, "NoSuchUpload");
    client.delete("/bucket").await.expect(204);
    server.stop().await;
}
