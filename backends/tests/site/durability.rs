//! What survives: crashes, full disks, slow clients.

use crate::harness::{Server, at};
use backbeat_backends::embedded::{DiskFaults, StoreOptions};
use backbeat_backends::http::Body;
use http::Method;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Copies a data directory as a crash would leave it. Files that go while it is read are gone.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), &target) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_objects_survive_a_crash_and_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = server.client.clone();
    client.bucket("bucket", true).await;
    let commits = server.site.commits();
    let puts = (0..64).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            client.put(&format!("/bucket/key-{number}"), vec![number; 1000]).await.expect(200);
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    let commits = server.site.commits() - commits;
    assert!(commits < 48, "{commits} commits for 64 objects");
    // The process is still running: nothing was closed or flushed for the copy.
    let crashed = tempfile::tempdir().unwrap();
    copy(directory.path(), crashed.path());
    // An unfinished write, and a finished one that no commit mentions.
    std::fs::write(crashed.path().join("data/incoming/half"), "x").unwrap();
    let lost = "ab".repeat(20);
    std::fs::write(crashed.path().join("data/ab").join(&lost), "x").unwrap();
    let reopened = Server::start(crashed.path()).await;
    for number in 0..64_u8 {
        let answer = reopened.client.get(&format!("/bucket/key-{number}")).await.expect(200);
        assert_eq!(answer.bytes(), vec![number; 1000]);
    }
    assert!(!crashed.path().join("data/ab").join(&lost).exists());
    assert!(!crashed.path().join("data/incoming/half").exists());
    reopened.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn version_ids_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = "z".repeat(60);
    for _ in 0..3 {
        let server = Server::start(directory.path()).await;
        server.client.put("/bucket", "").await;
        server.client.versioning("bucket", "Enabled").await.expect(200);
        for _ in 0..3 {
            let version = server.client.put("/bucket/key", "").await.expect(200).version();
            assert!(version < last, "{version} is not newer than {last}");
            last = version;
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let faults = DiskFaults::new();
    let options = StoreOptions { faults: Some(Arc::clone(&faults)), ..StoreOptions::default() };
    let server = Server::start_with(directory.path(), options).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.put("/bucket/before", "kept").await.expect(200);
    faults.fill_after(0);
    let refused = client.put("/bucket/during", "x").await.refused(503, "ServiceUnavailable");
    assert!(refused.text().contains("space"), "{}", refused.text());
    faults.heal();
    client.put("/bucket/after", "x").await.expect(200);
    assert_eq!(client.get("/bucket/before").await.text(), "kept");
    client.get("/bucket/during").await.refused(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test]
async fn slow_clients_hold_up_nobody_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", false).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(client.signed.endpoint()).await.unwrap();
        stream.write_all(b"PUT /bucket/slow HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        slow.push(stream);
    }
    // A body that never ends: a megabyte is announced, a tenth of it comes.
    let (sender, receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(1);
    // Too many for memory.
    sender.send(bytes::Bytes::from(vec![7; 100 << 10])).await.unwrap();
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(http_body::Frame::data(chunk)), receiver))
    });
    let body = Body::stream(1 << 20, http_body_util::StreamBody::new(stream));
    let stuck = client.send(at(Method::PUT, "/bucket/stuck").body(body));
    let others = async {
        for number in 0..20 {
            client.put(&format!("/bucket/{number}"), "x").await.expect(200);
        }
    };
    tokio::select! {
        _ = stuck => panic!("an upload without its body was answered"),
        others = tokio::time::timeout(Duration::from_secs(20), others) => others.unwrap(),
    }
    drop(sender);
    client.get("/bucket/stuck").await.refused(404, "NoSuchKey");
    let incoming = directory.path().join("data/incoming");
    let gone = async {
        while std::fs::read_dir(&incoming).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(server.site.data_bytes(), 20);
    drop(slow);
    server.stop().await;
}

#[tokio::test]
async fn heads_of_requests_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let mut stream = tokio::net::TcpStream::connect(server.client.signed.endpoint()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-large: ").await.unwrap();
    let large = vec![b'x'; 100 << 10];
    // The server may close before it has read everything.
    stream.write_all(&large).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.client.get("/").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn a_site_is_opened_once_and_served_on_loopback_only() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let second = backbeat_backends::site::Site::open(crate::harness::config(directory.path())).await;
    assert!(second.unwrap_err().to_string().contains("in use"));
    let everywhere = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let served = backbeat_backends::site::serve(Arc::clone(&server.site), everywhere, async {}).await;
    assert_eq!(served.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    server.stop().await;
}
