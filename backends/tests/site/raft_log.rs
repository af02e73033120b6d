//! The journal over the site's own port, as CloudServer hands on bucketd's raft log, read by the journal's adapter.

use crate::harness::Server;
use backbeat_backends::http::{Credentials, Request};
use backbeat_backends::journal::Journal as _;
use backbeat_backends::journal::bucketd::{BucketdConfig, BucketdJournal};
use backbeat_backends::journal::embedded::EmbeddedJournal;
use backbeat_backends::site::raft_log::SESSION;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::Seq;
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use http::Method;
use std::time::Duration;

const LOG: &str = "/_/metadata/admin/raft_sessions/1/log";

#[track_caller]
fn applied(ending: Ending<Batch>) -> Batch {
    match ending {
        Ending::Applied(batch) => batch,
        ending @ (Ending::Refused(_) | Ending::Unknown) => panic!("{ending:?}"),
    }
}

fn journal(server: &Server, access_key: &str, secret_key: &str) -> BucketdJournal {
    let mut config = BucketdConfig::new(server.client.signed.endpoint(), SESSION);
    config.signer = Some((Credentials::new(access_key, secret_key), "us-east-1".to_owned()));
    BucketdJournal::new(config)
}

#[tokio::test]
async fn another_process_reads_what_this_one_reads() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    let within = EmbeddedJournal::new(server.site.journal().clone());
    let remote = journal(&server, "replicationKey1", "replicationSecretKey1");
    for number in 0..20 {
        server.client.put(&format!("/bucket/key-{number}"), "hello \u{e9}\u{1f600}").await.expect(200);
    }
    let read = Seq(1);
    assert_eq!(
        applied(remote.read(Some(read), 1_000, Span::ZERO).await),
        applied(within.read(Some(read), 1_000, Span::ZERO).await),
        "positions and epochs are the same"
    );
    let end = applied(remote.read(None, 1, Span::ZERO).await).end;
    let (batch, ()) = tokio::join!(remote.read(Some(end), 10, Span::from_secs(3_600)), async {
        server.client.put("/bucket/later", "hello").await.expect(200);
    });
    assert_eq!(applied(batch).records.first().map(|(seq, _)| *seq), Some(end));
}

#[tokio::test]
async fn a_journal_is_for_services_and_the_owner() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    for (access_key, secret_key) in
        [("accessKey1", "verySecretKey1"), ("lifecycleKey1", "lifecycleSecretKey1")]
    {
        let journal = journal(&server, access_key, secret_key);
        assert!(!applied(journal.read(Some(Seq(1)), 10, Span::ZERO).await).records.is_empty());
    }
    let stranger = journal(&server, "accessKey2", "verySecretKey2");
    let refused = stranger.read(Some(Seq(1)), 10, Span::ZERO).await;
    assert!(
        matches!(&refused, Ending::Refused(refusal) if refusal.kind == RefusalKind::Denied),
        "{refused:?}"
    );
    let anonymous = Request::new(Method::GET, LOG).unsigned();
    let answer = server.client.signed.fetch(anonymous, Duration::from_secs(20), 1 << 20).await.unwrap();
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn other_routes_of_the_metadata_server_are_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    for (path, status) in [
        ("/_/metadata/admin/raft_sessions/1/bucket", 503),
        ("/_/metadata/admin/buckets/bucket/id", 503),
        ("/_/metadata/default/bucket/bucket", 503),
        ("/_/metadata/admin/raft_sessions/1/info", 501),
        ("/_/metadata/admin/raft_sessions/2/log", 404),
    ] {
        let request = Request::new(Method::GET, path);
        let answer = server.client.signed.fetch(request, Duration::from_secs(20), 1 << 20).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.body().starts_with(b"{\"code\":"), "{path}");
    }
}
