//! Requests that come seldom, on the internal routes: what CloudServer says to them, the embedded site says, too.

use crate::data::put_data;
use crate::harness::{Client, Server, account, at, config};
use crate::signatures;
use backbeat_backends::http::{Body, Credentials};
use backbeat_backends::site::CloudLocation;
use http::Method;
use serde_json::{Value, json};
use std::path::Path;

fn lifecycle(client: &Client) -> Client {
    client.with("lifecycleKey1", "lifecycleSecretKey1")
}

#[tokio::test]
async fn metadata_writes_say_what_they_are_about() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("bucket", true).await;
    let older = client.put("/bucket/key", "older").await.expect(200).version();
    let version = client.put("/bucket/key", "first").await.expect(200).version();
    let path = format!("/_/backbeat/metadata/bucket/key?versionId={version}");
    let md = client.metadata(&format!("/bucket/key?versionId={version}")).await;
    // An id without a text is none.
    assert_eq!(client.metadata("/bucket/key?versionId=").await, md);

    for replication in [None, Some(Value::Null), Some(json!([])), Some(json!("PENDING"))] {
        let mut wrong = md.clone();
        wrong.as_object_mut().unwrap().remove("replicationInfo");
        wrong.as_object_mut().unwrap().extend(replication.map(|value| ("replicationInfo".into(), value)));
        service.put(&path, wrong.to_string()).await.refused_json(400, "MalformedPOSTRequest");
    }
    assert_eq!(client.metadata("/bucket/key").await, md);

    // Only capital letters keep the data: anything else is a write of everything.
    let mut other = md.clone();
    other["location"][0]["key"] = put_data(&server, b"other".to_vec()).await.into();
    for (content, text) in [("METADATA", "first"), ("metadata", "other")] {
        let write = at(Method::PUT, &path).header("x-scal-replication-content", content);
        service.send(write.body(Body::full(other.to_string()))).await.expect(200);
        assert_eq!(client.get("/bucket/key").await.expect(200).text(), text, "{content}");
    }
    assert_eq!(server.site.data_bytes(), 10);

    // Bytes stay where the document names none: whoever moved them away deletes them.
    let mut moved = other.clone();
    moved["location"] = Value::Null;
    service.put(&path, moved.to_string()).await.expect(200);
    assert_eq!(client.metadata("/bucket/key").await["location"], Value::Null);
    assert_eq!(server.site.data_bytes(), 10);
    service.put(&path, other.to_string()).await.expect(200);
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "other");

    // Without a version it is about the master, and about no version.
    let before = client.get("/bucket?versions").await.expect(200).elements("VersionId");
    assert_eq!(before, [version.clone(), older]);
    let mut master = other.clone();
    master["x-amz-meta-of"] = "the master".into();
    let written = service.put("/_/backbeat/metadata/bucket/key", master.to_string()).await.expect(200);
    assert_eq!(written.text(), "null");
    assert_eq!(client.metadata("/bucket/key").await, master);
    assert_eq!(client.metadata(&format!("/bucket/key?versionId={version}")).await, other);
    assert_eq!(client.get("/bucket?versions").await.expect(200).elements("VersionId"), before);
    server.stop().await;
}

#[tokio::test]
async fn a_null_version_takes_no_id_from_its_document() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("bucket", true).await;
    client.put("/bucket/source", "").await.expect(200);
    let md = client.metadata("/bucket/source").await;
    let id = md["versionId"].as_str().unwrap();
    let write = |key: &str| {
        let path = format!("/_/backbeat/metadata/bucket/{key}?versionId=null");
        service.send(at(Method::PUT, &path).body(Body::full(md.to_string())))
    };
    let listed = async |key: &str| {
        let page = client.get(&format!("/bucket?versions&prefix={key}")).await.expect(200);
        page.elements("VersionId")
    };
    assert_eq!(write("enabled").await.expect(200).text(), "null");
    let stored = client.metadata("/bucket/enabled").await;
    assert_eq!((&stored["versionId"], &stored["isNull"]), (&Value::Null, &true.into()));
    assert_eq!(listed("enabled").await, ["null"]);

    client.versioning("bucket", "Suspended").await.expect(200);
    let answer = write("suspended").await.expect(200).json();
    let made = answer["versionId"].as_str().unwrap();
    // Newer ids sort first.
    assert!(made < id, "{made}, {id}");
    let stored = client.metadata("/bucket/suspended").await;
    assert_eq!((&stored["versionId"], &stored["isNull"]), (&made.into(), &true.into()));
    assert_eq!(listed("suspended").await, ["null"]);
    server.stop().await;
}

#[tokio::test]
async fn lifecycle_listings_say_no_and_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    let list = async |query: &str| lifecycle(client).get(&format!("/_/backbeat/lifecycle/{query}")).await;
    client.bucket("plain", false).await;
    client.bucket("bucket", true).await;
    for (key, date) in [("a", "2026-01-01T00:00:00.000Z"), ("b", "2024-01-01T00:00:00.000Z")] {
        let version = client.put(&format!("/bucket/{key}"), "").await.expect(200).version();
        let mut md = client.metadata(&format!("/bucket/{key}")).await;
        md["last-modified"] = date.into();
        let path = format!("/_/backbeat/metadata/bucket/{key}?versionId={version}");
        client.put(&path, md.to_string()).await.expect(200);
    }
    for kind in ["noncurrent", "orphan"] {
        let refused = list(&format!("plain?list-type={kind}")).await.refused_json(400, "InvalidRequest");
        assert_eq!(refused.json()["message"], "bucket is not versioned");
    }
    for kind in ["current", "noncurrent"] {
        let elsewhere = format!("bucket?list-type={kind}&excluded-data-store-name=nowhere");
        list(&elsewhere).await.refused_json(400, "InvalidLocationConstraint");
    }
    for kind in ["current", "noncurrent", "orphan"] {
        let none = list(&format!("bucket?list-type={kind}&max-keys=0")).await.expect(200).json();
        assert_eq!((&none["Contents"], &none["IsTruncated"]), (&json!([]), &false.into()), "{kind}");
    }

    // The first key spends what may be looked at, and is too new.
    let due = "bucket?list-type=current&before-date=2025-01-01T00:00:00.000Z\
               &max-scanned-lifecycle-listing-entries=1";
    let first = list(due).await.expect(200).json();
    assert_eq!((&first["Contents"], &first["IsTruncated"]), (&json!([]), &true.into()));
    let marker = first["NextMarker"].as_str().unwrap();
    let second = list(&format!("{due}&marker={marker}")).await.expect(200).json();
    assert_eq!((&second["Contents"][0]["Key"], &second["IsTruncated"]), (&"b".into(), &false.into()));
    server.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("bucket", true).await;
    client.put("/bucket/a key", "x").await.expect(200);

    // Of two headers that are missing, one is asked for first.
    let bare = service.put("/_/backbeat/data/bucket/key?v2", "x").await.refused_json(400, "BadRequest");
    let message = "bad request: missing x-scal-canonical-id header";
    assert_eq!(bare.json()["message"], message);

    // As long as an id, and none.
    for id in ["aJLWKz4Ko9IjBBgXKj5KQT2G9UHv0g7P", "wHtI53.S4ApsYLRI5VZZ3Iw.7ny4NgQz"] {
        let path = format!("/_/backbeat/metadata/bucket/a key?versionId={id}");
        service.get(&path).await.refused_json(400, "InvalidArgument");
        service.put(&path, "{}").await.refused_json(400, "InvalidArgument");
        client.get(&format!("/bucket/a key?versionId={id}")).await.refused(400, "InvalidArgument");
    }

    // A plus sign that is not escaped is a blank.
    let now = signatures::now(client).await;
    for (path, status) in [("a+key", 200), ("a%20key", 200), ("a%2Bkey", 404)] {
        let path = format!("/_/backbeat/metadata/bucket/{path}");
        let signed = signatures::signed("GET", &path, "date", &now);
        let answer = signatures::answer(client, "GET", &path, &signed, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }

    // There are no sessions: keys are good whatever token comes with them.
    let token = Some("no token of CloudServer's".to_owned());
    let keys = Credentials { session_token: token, ..Credentials::new("accessKey1", "verySecretKey1") };
    let session = Client { signed: client.signed.with_credentials(keys) };
    session.get("/_/backbeat/metadata/bucket/a key").await.expect(200);
    assert_eq!(session.get("/bucket/a key").await.expect(200).text(), "x");

    for method in [Method::PUT, Method::DELETE] {
        let index = at(method, "/_/backbeat/index/bucket?operation=add").body(Body::full("[]"));
        service.send(index).await.refused_json(405, "MethodNotAllowed");
    }
    // The site was told of no API that it could hand this on to.
    service.get("/_/backbeat/api/metrics/crr/all").await.refused_json(405, "MethodNotAllowed");
    server.stop().await;
}

/// A site with a bucket, and the cloud that is its location of that name: one bucket there, without versions.
async fn site_and_cloud(directory: &Path) -> (Server, Server) {
    let cloud = Server::start(&directory.join("cloud")).await;
    cloud.client.bucket("there", false).await;
    let mut config = config(&directory.join("site"));
    config.locations.push(CloudLocation {
        name: "cloud".into(),
        endpoint: cloud.client.signed.endpoint().to_owned(),
        bucket: "there".into(),
        access_key: "accessKey1".into(),
        secret_key: "verySecretKey1".into(),
        keeps_keys: true,
    });
    let server = Server::start_configured(config).await;
    server.client.bucket("bucket", true).await;
    (server, cloud)
}

#[tokio::test]
async fn batch_deletions_delete_what_they_name_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (server, cloud) = site_and_cloud(directory.path()).await;
    cloud.client.put("/there/key", "x").await.expect(200);
    let key = put_data(&server, b"data".to_vec()).await;
    let own = json!({ "Locations": [{ "key": key, "dataStoreName": "us-east-1" }] });
    let delete = |headers: &[(&'static str, &str)], body: String| {
        let request = at(Method::POST, "/_/backbeat/batchdelete/bucket/key").body(Body::full(body));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let client = server.service();
        async move { client.send(request).await }
    };

    for wrong in ["null", "{}", "x", "", "[]", "{\"Locations\":{}}"] {
        delete(&[], wrong.to_owned()).await.refused_json(400, "MalformedPOSTRequest");
    }
    assert_eq!(server.site.data_bytes(), 4);
    // The class of a site's own data is no cloud's.
    let class = [("x-scal-storage-class", "us-east-1")];
    assert_eq!(delete(&class, own.to_string()).await.expect(200).text(), "null");
    assert_eq!((server.site.data_bytes(), server.site.unattached_data().unwrap()), (0, 0));

    // What the cloud deletes is tagged for it, unless it changed or nobody says since when.
    let there = json!({ "Locations": [{ "key": "key", "dataStoreName": "cloud" }] }).to_string();
    let tags = [("x-scal-storage-class", "cloud"), ("x-scal-tags", "{\"scal-delete-marker\":\"true\"}")];
    for (date, answer, tagged) in [
        (None, "null", &[][..]),
        (Some("Thu, 01 Dec 2011 16:00:00 GMT"), "null", &[]),
        (Some("Thu, 01 Dec 2095 16:00:00 GMT"), "{}", &["scal-delete-marker"]),
    ] {
        let headers: Vec<_> =
            tags.into_iter().chain(date.map(|date| ("if-unmodified-since", date))).collect();
        assert_eq!(delete(&headers, there.clone()).await.expect(200).text(), answer, "{date:?}");
        assert_eq!(cloud.client.get("/there/key?tagging").await.expect(200).elements("Key"), tagged);
    }
    assert_eq!(cloud.client.get("/there/key").await.expect(200).text(), "x");
    server.stop().await;
    cloud.stop().await;
}

#[tokio::test]
async fn tags_are_removed_at_a_cloud_without_naming_a_source() {
    let directory = tempfile::tempdir().unwrap();
    let (server, cloud) = site_and_cloud(directory.path()).await;
    let tagged = at(Method::PUT, "/there/key").header("x-amz-tagging", "a=1").body(Body::full("x"));
    cloud.client.send(tagged).await.expect(200);
    let path = "/_/backbeat/multiplebackenddata/bucket/key?operation=deleteobjecttagging";
    let remove = at(Method::DELETE, path)
        .header("x-scal-storage-type", "aws_s3")
        .header("x-scal-storage-class", "cloud");
    assert_eq!(server.service().send(remove).await.expect(200).text(), "{}");
    assert!(cloud.client.get("/there/key?tagging").await.expect(200).elements("Key").is_empty());
    server.stop().await;
    cloud.stop().await;
}

#[tokio::test]
async fn of_all_services_only_ingestion_asks_for_replication() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    let ingestion = "http://acs.zenko.io/accounts/service/md-ingestion";
    config.accounts.push(account("ingestionKey1", "ingestionSecretKey1", ingestion, "Ingestion"));
    let server = Server::start_configured(config).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.replicate("bucket").await.expect(200);
    let status = async |path: &str| client.metadata(path).await["replicationInfo"]["status"].clone();
    client.with("ingestionKey1", "ingestionSecretKey1").put("/bucket/key", "x").await.expect(200);
    assert_eq!(status("/bucket/key").await, "PENDING");

    // What lifecycle covers with a marker is covered at the source alone.
    lifecycle(client).delete("/_/backbeat/expiration/bucket/key").await.expect(200);
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    assert_eq!(client.metadata("/bucket/key").await["isDeleteMarker"], true);
    assert_eq!(status("/bucket/key").await, "");
    client.delete("/bucket/key").await.expect(204);
    assert_eq!(status("/bucket/key").await, "PENDING");
    server.stop().await;
}
