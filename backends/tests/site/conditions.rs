//! Conditional metadata writes (decision D3).

use crate::harness::{Answer, Client, Server, at};
use backbeat_backends::http::Body;
use http::Method;
use serde_json::{Value, json};

async fn write(client: &Client, version: &str, md: &Value, condition: &str) -> Answer {
    let path = format!("/_/backbeat/metadata/bucket/key?versionId={version}");
    let request = at(Method::PUT, &path).header("x-backbeat-if-revision", condition);
    client.send(request.body(Body::full(md.to_string()))).await
}

async fn tag(client: &Client, version: &str) -> String {
    let answer =
        client.get(&format!("/_/backbeat/metadata/bucket/key?versionId={version}")).await.expect(200);
    answer.header("x-backbeat-revision").unwrap().to_owned()
}

#[tokio::test]
async fn a_write_replaces_only_the_state_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("bucket", true).await;
    client.replicate("bucket").await.expect(200);
    let version = client.put("/bucket/key", "x").await.version();
    let before = tag(&service, &version).await;
    let revision = before.split('-').next().unwrap();
    let mut md = client.metadata("/bucket/key").await;
    md["replicationInfo"]["status"] = json!("COMPLETED");
    md["replicationInfo"]["backends"][0]["status"] = json!("COMPLETED");
    write(&service, &version, &md, "none").await.refused_json(412, "PreconditionFailed");
    write(&service, &version, &md, "nonsense").await.refused_json(400, "InvalidArgument");
    write(&service, &version, &md, &before).await.expect(200);
    // The status is not part of the revision, but of the state.
    let after = tag(&service, &version).await;
    assert_eq!(after.split('-').next(), Some(revision));
    assert_ne!(after, before);
    write(&service, &version, &md, &before).await.refused_json(412, "PreconditionFailed");
    write(&service, &version, &md, revision).await.expect(200);

    // A client's change and its undo have revisions of their own.
    let tags = "<Tagging><TagSet></TagSet></Tagging>";
    client.put("/bucket/key?tagging", tags).await.expect(200);
    let changed = tag(&service, &version).await;
    assert_ne!(changed.split('-').next(), Some(revision));
    write(&service, &version, &md, revision).await.refused_json(412, "PreconditionFailed");
    assert_eq!(client.head("/bucket/key").await.header("x-amz-replication-status"), Some("PENDING"));
    server.stop().await;
}

#[tokio::test]
async fn of_two_first_writers_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("other", true).await;
    client.bucket("bucket", true).await;
    let version = client.put("/other/key", "").await.version();
    let md = client.metadata("/other/key").await;
    let writers = (0..8).map(|_| write(&service, &version, &md, "none"));
    let answers = futures_util::future::join_all(writers).await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1);
    assert!(answers.iter().all(|answer| matches!(answer.status.as_u16(), 200 | 412)));
    write(&service, &"0".repeat(31), &md, "none").await.refused_json(400, "InvalidArgument");
    server.stop().await;
}

#[tokio::test]
async fn concurrent_conditional_writers_lose_no_update() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("bucket", true).await;
    let version = client.put("/bucket/key", "").await.version();
    let mut md = client.metadata("/bucket/key").await;
    md["x-amz-meta-count"] = json!("0");
    write(&service, &version, &md, &tag(&service, &version).await).await.expect(200);
    let add = || async {
        loop {
            let path = format!("/_/backbeat/metadata/bucket/key?versionId={version}");
            let read = service.get(&path).await.expect(200);
            let state = read.header("x-backbeat-revision").unwrap().to_owned();
            let mut md: Value = serde_json::from_str(read.json()["Body"].as_str().unwrap()).unwrap();
            let count: u32 = md["x-amz-meta-count"].as_str().unwrap().parse().unwrap();
            md["x-amz-meta-count"] = json!((count + 1).to_string());
            if write(&service, &version, &md, &state).await.status == 200 {
                return;
            }
        }
    };
    futures_util::future::join_all((0..10).map(|_| add())).await;
    assert_eq!(client.metadata("/bucket/key").await["x-amz-meta-count"], "10");
    server.stop().await;
}
