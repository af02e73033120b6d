//! Versions, delete markers, null versions.

use crate::harness::Server;

#[tokio::test]
async fn versions_hide_each_other_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let first = client.put("/bucket/key", "first").await.expect(200).version();
    let second = client.put("/bucket/key", "second").await.expect(200).version();
    assert!(second < first, "newer ids sort first");
    assert_eq!(client.get("/bucket/key").await.text(), "second");
    assert_eq!(client.get(&format!("/bucket/key?versionId={first}")).await.text(), "first");
    let marker = client.delete("/bucket/key").await.expect(204);
    assert_eq!(marker.header("x-amz-delete-marker"), Some("true"));
    let hidden = client.get("/bucket/key").await.refused(404, "NoSuchKey");
    assert_eq!(hidden.header("x-amz-delete-marker"), Some("true"));
    let by_id = client.get(&format!("/bucket/key?versionId={}", marker.version())).await;
    by_id.refused(405, "MethodNotAllowed");

    let listed = client.get("/bucket?versions").await.expect(200);
    assert_eq!(listed.elements("IsLatest").iter().filter(|latest| *latest == "true").count(), 1);
    let mut ids = listed.elements("VersionId");
    ids.sort();
    let mut expected = vec![marker.version(), second.clone(), first.clone()];
    expected.sort();
    assert_eq!(ids, expected);

    let unmarked = client.delete(&format!("/bucket/key?versionId={}", marker.version())).await.expect(204);
    assert_eq!(unmarked.header("x-amz-delete-marker"), Some("true"));
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "second");
    client.delete(&format!("/bucket/key?versionId={second}")).await.expect(204);
    assert_eq!(client.get("/bucket/key").await.text(), "first");
    client.delete(&format!("/bucket/key?versionId={second}")).await.expect(204);
    client.get(&format!("/bucket/key?versionId={second}")).await.refused(404, "NoSuchVersion");
    client.get("/bucket/key?versionId=garbage").await.refused(400, "InvalidArgument");
    client.delete(&format!("/bucket/key?versionId={first}")).await.expect(204);
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    assert!(client.get("/bucket?versions").await.elements("VersionId").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn data_of_versions_that_are_gone_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    let files = || {
        let folders = std::fs::read_dir(directory.path().join("data")).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum::<usize>()
    };
    client.bucket("versioned", true).await;
    client.bucket("plain", false).await;
    // What is small lies in no file.
    for (length, each) in [(1, 0), (100 << 10, 1)] {
        let data = |count: usize| (count * each, (count * length) as u64);
        let found = || (files(), server.site.data_bytes());
        for _ in 0..3 {
            client.put("/plain/key", vec![b'x'; length]).await.expect(200);
        }
        assert_eq!(found(), data(1));
        let first = client.put("/versioned/key", vec![b'x'; length]).await.version();
        let second = client.put("/versioned/key", vec![b'x'; length]).await.version();
        assert_eq!(found(), data(3));
        client.delete(&format!("/versioned/key?versionId={first}")).await.expect(204);
        client.delete("/plain/key").await.expect(204);
        assert_eq!(found(), data(1));
        client.delete(&format!("/versioned/key?versionId={second}")).await.expect(204);
        assert_eq!(found(), data(0));
    }
    server.stop().await;
}

#[tokio::test]
async fn null_versions_keep_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    client.put("/bucket/key", "unversioned").await.expect(200);
    client.versioning("bucket", "Enabled").await.expect(200);
    assert_eq!(client.get("/bucket/key").await.version(), "null");
    let version = client.put("/bucket/key", "version").await.version();
    assert_eq!(client.get("/bucket/key?versionId=null").await.text(), "unversioned");
    client.versioning("bucket", "Suspended").await.expect(200);
    assert_eq!(client.put("/bucket/key", "suspended").await.version(), "null");
    assert_eq!(client.get("/bucket/key").await.text(), "suspended");
    assert_eq!(client.get("/bucket/key?versionId=null").await.text(), "suspended");
    assert_eq!(client.get(&format!("/bucket/key?versionId={version}")).await.text(), "version");
    client.put("/bucket/key", "again").await.expect(200);
    let listed = client.get("/bucket?versions").await;
    assert_eq!(listed.elements("VersionId"), ["null".to_owned(), version.clone()]);
    let marker = client.delete("/bucket/key").await.expect(204);
    assert_eq!(marker.version(), "null");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    client.delete("/bucket/key?versionId=null").await.expect(204);
    assert_eq!(client.get("/bucket/key").await.text(), "version");
    server.stop().await;
}

#[tokio::test]
async fn version_listings_page_without_loss() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    client.put("/bucket/null", "x").await.expect(200);
    client.versioning("bucket", "Enabled").await.expect(200);
    let mut expected = 1;
    for key in ["a", "b/1", "null", "z"] {
        for _ in 0..4 {
            client.put(&format!("/bucket/{key}"), "x").await.expect(200);
            expected += 1;
        }
    }
    for max in [1, 2, 3, 7] {
        let mut found = Vec::new();
        let mut markers = String::new();
        loop {
            let page = client.get(&format!("/bucket?versions&max-keys={max}{markers}")).await.expect(200);
            found.extend(page.elements("Key").into_iter().zip(page.elements("VersionId")));
            if page.element("IsTruncated") == "false" {
                break;
            }
            let (key, version) = (page.element("NextKeyMarker"), page.element("NextVersionIdMarker"));
            markers = format!("&key-marker={key}&version-id-marker={version}");
        }
        let total = found.len();
        found.sort();
        found.dedup();
        assert_eq!((total, found.len()), (expected, expected), "pages of {max}");
    }
    server.stop().await;
}
