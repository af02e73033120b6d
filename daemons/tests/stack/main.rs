//! The embedded stack from outside: S3 on one side, S3 on the other, and the API beside them.

mod harness;
mod journal;
mod process;
#[cfg(feature = "services")]
mod resync;

use backbeat_backends::http::{Body, Request};
use backbeat_backends::objects::ObjectSite;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::model::{ObjectRef, VersionId, VersionRef};
use harness::{Server, start};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// The explanation of one version, once `is_wanted` likes it.
async fn explained(api: &Server, key: &str, version: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let query = [("bucket", "photos"), ("key", key), ("versionId", version)];
    for _ in 0..600 {
        let told = api.json("/api/v1/explain", &query).await;
        if is_wanted(&told) {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}", api.json("/api/v1/explain", &query).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_arrives_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    let targets: Vec<Server> = addresses.targets.iter().map(|(_, address)| Server::at(*address)).collect();
    source.make_bucket("photos").await;
    for target in &targets {
        target.make_bucket("copies").await;
    }
    source.replicate("photos", "copies", "paris,tokyo").await;
    let mut written = Vec::new();
    for number in 0..40_u8 {
        let key = format!("dir {}/k\u{e9}y", number % 10);
        let bytes = vec![number; usize::from(number) * 1_000];
        written.push((source.put("photos", &key, bytes.clone()).await, key, bytes));
    }
    for (version, key, bytes) in &written {
        source.settle("photos", key, version, "COMPLETED").await;
        for target in &targets {
            let copy = target.get("copies", key, version).await;
            assert_eq!(&copy.body()[..], &bytes[..], "{key} {version}");
            assert_eq!(target.status_of("copies", key, version).await, "REPLICA");
        }
    }
    let (version, key, _) = &written[7];
    let told = explained(&api, key, version, |told| told["status"] == "COMPLETED").await;
    assert_eq!(told["sites"][0]["site"], "paris");
    assert!(told["sites"][0]["doing"].as_str().is_some_and(|text| text.starts_with("done")));
    let status = api.json("/api/v1/status", &[]).await;
    assert_eq!(status["populator"]["running"], true);
    assert_eq!(status["sites"][1]["failed"], 0);
    stack.shutdown().await.expect("a clean end");

    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    for (version, key, _) in &written {
        assert_eq!(source.status_of("photos", key, version).await, "COMPLETED");
    }
    let again = source.put("photos", "after", "restart").await;
    source.settle("photos", "after", &again, "COMPLETED").await;
    let status = api.json("/api/v1/status", &[]).await;
    assert_eq!(status["populator"]["queued"], 1, "nothing was queued twice: {status}");
    let metrics = api.send(Request::new(Method::GET, "/metrics").unsigned()).await;
    let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
    assert!(metrics.contains("s3_replication_status_changed_total"), "{metrics}");
    stack.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_within_the_process_hold_no_stack_up_and_reach_nothing_afterwards() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let source = Server::at(stack.addresses().source);
    source.make_bucket("photos").await;
    let version = source.put("photos", "a", "bytes").await;
    assert!(stack.sites("nowhere").is_none());
    let sites = stack.sites("paris").expect("there is a site of this name");
    let version = VersionRef::Version(VersionId::decode(&version).expect("a version id"));
    let object = ObjectRef::new("photos", "a", version);
    let Ending::Applied(md) = sites.source().read_metadata(&object).await else {
        panic!("the source does not show what was written");
    };
    assert_eq!(md.content_length(), 5);
    stack.shutdown().await.expect("a clean end");
    for ending in [sites.source().read_metadata(&object).await, sites.target().read_metadata(&object).await] {
        let Ending::Refused(refusal) = ending else { panic!("{ending:?} after the end") };
        assert_eq!(refusal.kind, RefusalKind::Unavailable);
    }
    start(dir.path()).await.shutdown().await.expect("nothing holds the data directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_listed_with_its_reason_and_can_be_retried() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    let target = Server::at(addresses.targets[0].1);
    source.make_bucket("photos").await;
    source.replicate("photos", "missing", "paris").await;
    let version = source.put("photos", "a", "bytes").await;
    source.settle("photos", "a", &version, "FAILED").await;
    let failed = api.json("/api/v1/failed", &[]).await;
    assert_eq!(failed[0]["reason"], "DstBucketNotFound", "{failed}");
    assert_eq!(failed[0]["versionId"], version.as_str());
    let listed = api.json("/_/crr/failed", &[("sitename", "paris")]).await;
    assert_eq!(listed["Versions"][0]["Key"], "a", "{listed}");
    explained(&api, "a", &version, |told| told["sites"][0]["record"]["state"] == "failed").await;

    target.make_bucket("missing").await;
    let retry = json!([{"Bucket": "photos", "Key": "a", "VersionId": version, "StorageClass": "paris"}]);
    let (status, queued) = api.post("/_/backbeat/api/crr/failed", retry.clone()).await;
    assert!(status.is_success(), "{queued}");
    assert_eq!(queued[0]["ReplicationStatus"], "PENDING", "{queued}");
    source.settle("photos", "a", &version, "COMPLETED").await;
    let mut left = api.json("/api/v1/failed", &[("all", "true")]).await;
    for _ in 0..100 {
        if left == json!([]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        left = api.json("/api/v1/failed", &[("all", "true")]).await;
    }
    assert_eq!(left, json!([]), "the record is gone");
    let (_, queued) = api.post("/_/crr/failed", retry).await;
    assert_eq!(queued, json!([]), "what did not fail is not queued");
    stack.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_whose_version_is_gone_is_struck_off_the_list_when_it_is_retried() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    source.make_bucket("photos").await;
    source.replicate("photos", "missing", "paris").await;
    let version = source.put("photos", "a", "bytes").await;
    source.settle("photos", "a", &version, "FAILED").await;
    explained(&api, "a", &version, |told| told["sites"][0]["record"]["state"] == "failed").await;
    let removal = Request::new(Method::DELETE, "/photos/a").query("versionId", &version);
    source.ok(removal).await;
    let retry = json!([{"Bucket": "photos", "Key": "a", "VersionId": version, "StorageClass": "paris"}]);
    let (status, queued) = api.post("/_/crr/failed", retry).await;
    assert!(status.is_success(), "{queued}");
    assert_eq!(queued, json!([]), "there is nothing to copy");
    assert_eq!(api.json("/api/v1/failed", &[("all", "true")]).await, json!([]));
    assert_eq!(api.json("/_/crr/failed", &[("sitename", "paris")]).await["Versions"], json!([]));
    stack.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_bucket_without_versions_fails_the_entry_and_the_web_page_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    let target = Server::at(addresses.targets[1].1);
    target.ok(Request::new(Method::PUT, "/plain")).await;
    source.make_bucket("photos").await;
    source.replicate("photos", "plain", "tokyo").await;
    let version = source.put("photos", "a", "bytes").await;
    source.settle("photos", "a", &version, "FAILED").await;
    let failed = api.json("/api/v1/failed", &[("site", "tokyo")]).await;
    assert_eq!(failed[0]["reason"], "DstBucketUnversioned", "{failed}");
    let (status, told) = api.post("/_/crr/pause/nowhere", json!({})).await;
    assert_eq!((status.as_u16(), &told["RouteNotFound"]), (404, &json!(true)));
    let page = api.ok(Request::new(Method::GET, "/").unsigned()).await;
    assert!(page.headers()["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/html")));
    for probe in ["/_/live", "/_/ready"] {
        assert_eq!(&api.ok(Request::new(Method::GET, probe).unsigned()).await.body()[..], b"OK");
    }
    stack.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_site_stays_paused_over_a_restart_and_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    source.make_bucket("photos").await;
    for (_, address) in &addresses.targets {
        Server::at(*address).make_bucket("copies").await;
    }
    source.replicate("photos", "copies", "paris,tokyo").await;
    api.post("/_/crr/pause/paris", json!({})).await;
    assert_eq!(api.json("/_/crr/status", &[]).await, json!({"paris": "disabled", "tokyo": "enabled"}));
    let version = source.put("photos", "a", "bytes").await;
    source.settle("photos", "a", &version, "PROCESSING").await;
    explained(&api, "a", &version, |told| told["sites"][1]["status"] == "COMPLETED").await;
    stack.shutdown().await.expect("a clean end");

    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let (source, api) = (Server::at(addresses.source), Server::at(addresses.api.expect("a stack has one")));
    let status = api.json("/api/v1/status", &[]).await;
    assert_eq!(status["sites"][0]["paused"], true, "{status}");
    assert_eq!(source.status_of("photos", "a", &version).await, "PROCESSING");
    api.post("/_/crr/resume/paris", json!({})).await;
    source.settle("photos", "a", &version, "COMPLETED").await;
    assert_eq!(api.json("/_/crr/status/paris", &[]).await, json!({"paris": "enabled"}));
    stack.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_older_than_versioning_arrives_below_what_covers_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(dir.path()).await;
    let addresses = stack.addresses().clone();
    let source = Server::at(addresses.source);
    let targets: Vec<Server> = addresses.targets.iter().map(|(_, address)| Server::at(*address)).collect();
    for target in &targets {
        target.make_bucket("copies").await;
    }
    source.ok(Request::new(Method::PUT, "/photos")).await;
    for key in ["covered", "bare"] {
        let old = Request::new(Method::PUT, format!("/photos/{key}")).body(Body::full("old"));
        source.ok(old).await;
    }
    source.enable_versioning("photos").await;
    source.replicate("photos", "copies", "paris,tokyo").await;
    let newer = source.put("photos", "covered", "newer").await;
    source.settle("photos", "covered", &newer, "COMPLETED").await;
    // Nothing has asked for the old ones yet: a change of tags does.
    for key in ["covered", "bare"] {
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
        let tag = Request::new(Method::PUT, format!("/photos/{key}")).query("tagging", "");
        source.ok(tag.query("versionId", "null").body(Body::full(tags))).await;
        source.settle("photos", key, "null", "COMPLETED").await;
    }
    let above = source.put("photos", "bare", "above").await;
    source.settle("photos", "bare", &above, "COMPLETED").await;
    for target in &targets {
        for (key, latest) in [("covered", "newer"), ("bare", "above")] {
            assert_eq!(&target.get("copies", key, "null").await.body()[..], b"old", "{key}");
            let current = target.ok(Request::new(Method::GET, format!("/copies/{key}"))).await;
            assert_eq!(&current.body()[..], latest.as_bytes(), "{key}");
        }
    }
    stack.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_nobody_waits_for_is_made_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let stack = start(&dir.path().join("data")).await;
    let addresses = stack.addresses().clone();
    let api = addresses.api.expect("a stack has one");
    let source = Server::at(addresses.source);
    source.make_bucket("photos").await;
    for number in 0..200 {
        source.put("photos", &format!("key-{number}"), vec![7; 20_000]).await;
    }
    let copy = dir.path().join("copy");
    let body = json!({ "directory": copy }).to_string();
    let mut connection = tokio::net::TcpStream::connect(api).await.expect("the API is there");
    let head =
        format!("POST /api/v1/backup HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n", api, body.len());
    connection.write_all((head + &body).as_bytes()).await.expect("the API reads");
    let partial = dir.path().join("copy.partial");
    // Its client goes away once it has begun.
    for _ in 0..6000 {
        if partial.is_dir() || copy.is_dir() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(connection);
    for _ in 0..6000 {
        if copy.is_dir() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(copy.is_dir() && !partial.exists(), "the copy was given up");
    stack.shutdown().await.expect("a clean end");
}
