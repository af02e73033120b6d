//! The bytes of objects, small ones and large ones: both are read, kept, counted, found damaged and removed alike.

use crate::harness::{Answer, Client, Server, at, config};
use backbeat_backends::embedded::{FORMAT_FILE, KeyRange, Read as _, Store, StoreError, Table};
use backbeat_backends::http::Body;
use backbeat_backends::site::{Limits, check};
use http::Method;
use md5::{Digest, Md5};
use std::path::Path;

/// The largest size that lies in the store.
const SMALL_MAX: usize = 32 << 10;
/// What is stored of each size.
const SIZES: [usize; 5] = [1, 1000, SMALL_MAX, SMALL_MAX + 1, 200_000];

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 31 + size) % 251).unwrap()).collect()
}

fn path(size: usize) -> String {
    format!("/bucket/of-{size}")
}

async fn put_all(client: &Client) {
    for size in SIZES {
        client.put(&path(size), content(size)).await.expect(200);
    }
}

async fn read_all(client: &Client) {
    for size in SIZES {
        assert_eq!(client.get(&path(size)).await.expect(200).bytes(), content(size), "of {size}");
    }
}

fn bytes_of_all() -> u64 {
    SIZES.iter().sum::<usize>() as u64
}

/// Files with the bytes of objects.
fn files(site: &Path) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(site.join("data")).unwrap();
    folders
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

/// Bytes of a replica, as the engine writes them. Answers their data key.
pub(crate) async fn put_data(server: &Server, bytes: Vec<u8>) -> String {
    let request = at(Method::PUT, "/_/backbeat/data/bucket/replica?v2")
        .header("x-scal-canonical-id", "x")
        .header("content-md5", hex::encode(Md5::digest(&bytes)));
    let answer = server.service().send(request.body(Body::full(bytes))).await.expect(200);
    answer.json()[0]["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn small_objects_take_one_commit_and_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    let before = server.site.commits();
    server.client.put("/bucket/small", content(SMALL_MAX)).await.expect(200);
    assert_eq!(server.site.commits() - before, 1);
    let data = put_data(&server, content(4096)).await;
    assert_eq!(server.site.commits() - before, 1, "it waits for its metadata");
    put_metadata(&server, &data, 4096).await.expect(200);
    // The empty object that its metadata is made of has one, too.
    assert_eq!(server.site.commits() - before, 3);
    assert_eq!(files(directory.path()), Vec::<std::path::PathBuf>::new());
    server.client.put("/bucket/large", content(SMALL_MAX + 1)).await.expect(200);
    assert_eq!(files(directory.path()).len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn objects_of_every_size_are_read_whole_and_in_ranges() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    put_all(client).await;
    read_all(client).await;
    for size in SIZES.into_iter().filter(|size| *size > 100) {
        let range = |range: String| client.send(at(Method::GET, &path(size)).header("range", range));
        let content = content(size);
        assert_eq!(range("bytes=7-99".into()).await.expect(206).bytes(), &content[7..100]);
        assert_eq!(range("bytes=-10".into()).await.expect(206).bytes(), &content[size - 10..]);
        assert_eq!(range(format!("bytes={}-", size - 1)).await.expect(206).bytes(), &content[size - 1..]);
        range(format!("bytes={size}-")).await.refused(416, "InvalidRange");
    }
    server.stop().await;
}

#[tokio::test]
async fn objects_of_every_size_survive_restarts_and_crashes() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let server = Server::start(&original).await;
    server.client.bucket("bucket", true).await;
    for size in SIZES {
        server.client.put(&path(size), content(size)).await.expect(200);
        // As another machine finds it after a power cut: nothing was closed for the copy.
        let crashed = directory.path().join(format!("crashed-{size}"));
        crate::durability::copy(&original, &crashed);
        let reopened = Server::start(&crashed).await;
        for earlier in SIZES.into_iter().filter(|earlier| *earlier <= size) {
            assert_eq!(reopened.client.get(&path(earlier)).await.expect(200).bytes(), content(earlier));
        }
        reopened.stop().await;
        assert_eq!(check(&crashed).unwrap().problems, []);
    }
    server.stop().await;
    let server = Server::start(&original).await;
    read_all(&server.client).await;
    assert_eq!(server.site.data_bytes(), bytes_of_all());
    server.stop().await;
}

#[tokio::test]
async fn refused_uploads_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    for size in SIZES {
        let put = |name: &str, value: &str| {
            let request = at(Method::PUT, &path(size)).header(name, value);
            client.send(request.body(Body::full(content(size))))
        };
        put("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==").await.refused(400, "BadDigest");
        put("if-match", "\"00000000000000000000000000000000\"").await.expect(404);
        let late = at(Method::PUT, &format!("{}?partNumber=1&uploadId=none", path(size)));
        client.send(late.body(Body::full(content(size)))).await.refused(404, "NoSuchUpload");
        assert_eq!((files(directory.path()), server.site.data_bytes()), (Vec::new(), 0), "of {size}");
    }
    server.stop().await;
}

#[tokio::test]
async fn copies_have_data_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    put_all(client).await;
    for size in SIZES {
        let copy = at(Method::PUT, &format!("/bucket/copy-{size}"))
            .header("x-amz-copy-source", path(size))
            .header("x-amz-checksum-algorithm", "SHA256");
        let copied = client.send(copy).await.expect(200);
        assert!(!copied.elements("ChecksumSHA256").is_empty());
    }
    assert_eq!(server.site.data_bytes(), 2 * bytes_of_all());
    for size in SIZES {
        client.delete(&path(size)).await.expect(204);
        assert_eq!(client.get(&format!("/bucket/copy-{size}")).await.expect(200).bytes(), content(size));
    }
    assert_eq!(server.site.data_bytes(), bytes_of_all());
    server.stop().await;
    assert_eq!(check(directory.path()).unwrap().problems, []);
}

/// The metadata of an empty object, with other data, as a version of another key.
async fn put_metadata(server: &Server, data_key: &str, size: usize) -> Answer {
    let client = &server.client;
    let version = client.put("/bucket/empty", "").await.expect(200).version();
    let mut md = client.metadata(&format!("/bucket/empty?versionId={version}")).await;
    let content = content(size);
    let md5 = hex::encode(Md5::digest(&content));
    md["content-length"] = size.into();
    md["content-md5"] = md5.clone().into();
    md["location"] = serde_json::json!([{
        "key": data_key, "size": size, "start": 0, "dataStoreName": "us-east-1", "dataStoreETag": format!("1:{md5}"),
    }]);
    let path = format!("/_/backbeat/metadata/bucket/replica?versionId={version}");
    server.service().put(&path, md.to_string()).await
}

async fn batch_delete(server: &Server, keys: &[String]) {
    let locations: Vec<String> =
        keys.iter().map(|key| format!("{{\"key\":\"{key}\",\"dataStoreName\":\"us-east-1\"}}")).collect();
    let body = format!("{{\"Locations\":[{}]}}", locations.join(","));
    server.service().post("/_/backbeat/batchdelete/bucket/replica", body).await.expect(200);
}

#[tokio::test]
async fn data_that_waits_for_its_metadata_is_kept_until_it_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    let mut keys = Vec::new();
    for size in SIZES {
        keys.push(put_data(&server, content(size)).await);
    }
    let found = |server: &Server| (server.site.unattached_data().unwrap(), server.site.data_bytes());
    assert_eq!(found(&server), (SIZES.len() as u64, bytes_of_all()));
    let (kept, deleted) = keys.split_at(1);
    batch_delete(&server, deleted).await;
    assert_eq!(found(&server), (1, SIZES[0] as u64));
    batch_delete(&server, kept).await;
    assert_eq!(found(&server), (0, 0));
    assert_eq!(files(directory.path()), Vec::<std::path::PathBuf>::new());
    server.stop().await;
}

#[tokio::test]
async fn small_data_waits_for_its_metadata_in_memory_unless_it_is_too_much() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    let lost = put_data(&server, content(1000)).await;
    let large = put_data(&server, content(SMALL_MAX + 1)).await;
    server.stop().await;
    let server = Server::start(directory.path()).await;
    let found = |server: &Server| (server.site.unattached_data().unwrap(), server.site.data_bytes());
    assert_eq!(found(&server), (1, SMALL_MAX as u64 + 1), "only the large one was durable");
    put_metadata(&server, &lost, 1000).await.refused_json(424, "LocationNotFound");
    batch_delete(&server, &[large]).await;

    // 8 MiB of small pieces are too much: half of them go to the store.
    let first = put_data(&server, content(SMALL_MAX)).await;
    for _ in 0..255 {
        put_data(&server, content(SMALL_MAX)).await;
    }
    assert_eq!(found(&server), (256, 256 * SMALL_MAX as u64));
    server.stop().await;
    let server = Server::start(directory.path()).await;
    let (count, bytes) = found(&server);
    assert!((100..=156).contains(&count), "{count}");
    assert_eq!(bytes, count * SMALL_MAX as u64);
    put_metadata(&server, &first, SMALL_MAX).await.expect(200);
    assert_eq!(found(&server), (count - 1, bytes));
    assert_eq!(server.client.get("/bucket/replica").await.expect(200).bytes(), content(SMALL_MAX));
    server.stop().await;
    assert_eq!(check(directory.path()).unwrap().problems, []);
}

#[tokio::test]
async fn the_quota_counts_data_of_every_size_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { data_bytes_max: Some(bytes_of_all()), ..Limits::default() };
    let limited = || {
        let mut config = config(directory.path());
        config.limits = limits.clone();
        config
    };
    let server = Server::start_configured(limited()).await;
    server.client.bucket("bucket", false).await;
    put_all(&server.client).await;
    server.client.put("/bucket/more", "x").await.refused(403, "QuotaExceeded");
    server.stop().await;
    let server = Server::start_configured(limited()).await;
    let client = &server.client;
    client.put("/bucket/more", "x").await.refused(403, "QuotaExceeded");
    for size in [SMALL_MAX, SMALL_MAX + 1] {
        client.delete(&path(size)).await.expect(204);
        client.put("/bucket/more", content(size)).await.expect(200);
        client.put("/bucket/again", "x").await.refused(403, "QuotaExceeded");
        client.delete("/bucket/more").await.expect(204);
        client.put(&path(size), content(size)).await.expect(200);
    }
    server.stop().await;
}

/// Makes of a closed site what a version of this program left that kept all data in files.
async fn into_format_1(site: &Path) {
    let (data, bytes) = (Table("site-data"), Table("site-bytes"));
    let store = Store::open(site).unwrap();
    let small = store.read(|txn| txn.range(bytes, &KeyRange::all(), usize::MAX)).unwrap();
    for (key, content) in &small {
        let name = std::str::from_utf8(key).unwrap();
        std::fs::write(site.join("data").join(&name[..2]).join(name), content).unwrap();
    }
    let written = store.write(move |txn| {
        for (key, _) in small {
            let row = txn.get(data, &key)?.unwrap();
            // The mark and the size.
            txn.put(data, key.clone(), &row[5..]);
            txn.delete(bytes, key);
        }
        Ok::<_, StoreError>(())
    });
    written.await.unwrap();
    std::fs::write(site.join(FORMAT_FILE), "backbeat embedded store 1\n").unwrap();
}

#[tokio::test]
async fn a_site_of_format_1_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let format = || std::fs::read_to_string(directory.path().join(FORMAT_FILE)).unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", false).await;
    put_all(&server.client).await;
    server.stop().await;
    into_format_1(directory.path()).await;
    assert_eq!(files(directory.path()).len(), SIZES.len());

    // Who only looks takes nothing over.
    let checked = check(directory.path()).unwrap();
    assert_eq!((checked.problems, checked.files), (Vec::new(), SIZES.len() as u64));
    assert_eq!(format(), "backbeat embedded store 1\n");
    let server = Server::start(directory.path()).await;
    assert_eq!(format(), "backbeat embedded store 2\n");
    read_all(&server.client).await;
    assert_eq!(server.site.data_bytes(), bytes_of_all());
    // What is written from now on is as in any other directory, and the rest goes as it would have gone.
    let small = path(1000);
    server.client.put(&small, content(1000)).await.expect(200);
    assert_eq!(files(directory.path()).len(), SIZES.len() - 1);
    read_all(&server.client).await;
    for size in SIZES {
        server.client.delete(&path(size)).await.expect(204);
    }
    assert_eq!((files(directory.path()).len(), server.site.data_bytes()), (0, 0));
    server.stop().await;
}
