//! The internal routes, against requests and answers captured on CloudServer.

use crate::harness::{Client, Server, at};
use backbeat_backends::http::{Body, Request};
use http::Method;
use serde_json::{Value, json};

const CAPTURES: &str = include_str!("../captures/captures-replication-routes.json");

/// The captured pair that is described so.
fn captured(description: &str) -> Value {
    let all: Value = serde_json::from_str(CAPTURES).unwrap();
    let found = all["captures"].as_array().unwrap().iter().find(|pair| pair["description"] == description);
    found.unwrap_or_else(|| panic!("no capture {description:?}")).clone()
}

/// The capture's request to this bucket, with other query parameters if given.
fn request(pair: &Value, bucket: &str, version: Option<&str>, body: Option<String>) -> Request {
    let captured = &pair["request"];
    let method = captured["method"].as_str().unwrap().parse::<Method>().unwrap();
    let path = captured["path"].as_str().unwrap().replace("cap-1795192705", bucket);
    let mut request = Request::new(method, path);
    for (name, value) in captured["query"].as_object().unwrap() {
        let value = version.filter(|_| name == "versionId").unwrap_or(value.as_str().unwrap());
        request = request.query(name, value);
    }
    for (name, value) in captured["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    request.body(Body::full(body.unwrap_or_else(|| captured["body"].as_str().unwrap().to_owned())))
}

fn account(server: &Server, pair: &Value) -> Client {
    match pair["request"]["account"].as_str().unwrap() {
        "accessKey1" => server.client.clone(),
        "accessKey2" => server.client.with("accessKey2", "verySecretKey2"),
        "replicationKey1" => server.service(),
        "lifecycleKey1" => server.client.with("lifecycleKey1", "lifecycleSecretKey1"),
        other => panic!("account {other}"),
    }
}

/// Members whose values are made by each server for itself.
fn without_own(document: &str) -> Value {
    let mut md: Value = serde_json::from_str(document).unwrap();
    assert_eq!(md["microVersionId"].as_str().map(str::len), Some(16), "{document}");
    let members = md.as_object_mut().unwrap();
    members.remove("microVersionId");
    for own in ["last-modified", "creation-time", "versionId", "uploadId"] {
        if let Some(value) = members.get_mut(own) {
            *value = Value::from(own);
        }
    }
    for location in members["location"].as_array_mut().into_iter().flatten() {
        location["key"] = Value::from("key");
    }
    md
}

/// The names of the members in their order.
fn names(document: &str) -> Vec<String> {
    let text = document.strip_prefix('{').unwrap();
    let (mut depth, mut names, mut at) = (0, Vec::new(), 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let end = at + 1 + text[at + 1..].find('"').unwrap();
                if depth == 0 && bytes.get(end + 1) == Some(&b':') {
                    names.push(text[at + 1..end].to_owned());
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    names.retain(|name| name != "microVersionId");
    names
}

#[track_caller]
fn same_document(ours: &str, theirs: &str) {
    let mut theirs_plain: Value = serde_json::from_str(theirs).unwrap();
    theirs_plain["microVersionId"] = Value::from("0123456789abcdef");
    assert_eq!(without_own(ours), without_own(&theirs_plain.to_string()));
    assert_eq!(names(ours), names(theirs));
}

/// The captured bucket with its objects; answers their version ids.
async fn captured_bucket(server: &Server, bucket: &str) -> std::collections::BTreeMap<&'static str, String> {
    let client = &server.client;
    client.bucket(bucket, true).await;
    client.replicate(bucket).await.expect(200);
    let mut ids = std::collections::BTreeMap::new();
    let put = |path: &str| at(Method::PUT, &format!("/{bucket}/{path}"));
    let plain = put("plain.txt")
        .header("cache-control", "max-age=3")
        .header("content-disposition", "attachment")
        .header("content-encoding", "identity")
        .header("content-type", "text/plain")
        .header("x-amz-meta-color", "blue")
        .body(Body::full("hello lab"));
    ids.insert("plain", client.send(plain).await.expect(200).version());
    let tagged =
        put("tagged é.txt").header("x-amz-tagging", "env=prod&k%C3%A9=v%2B1").body(Body::full("tagged body"));
    ids.insert("tagged", client.send(tagged).await.expect(200).version());
    ids.insert("zero", client.put(&format!("/{bucket}/zero"), "").await.expect(200).version());
    ids.insert("todelete", client.put(&format!("/{bucket}/todelete"), "x").await.expect(200).version());
    ids.insert("dm", client.delete(&format!("/{bucket}/todelete")).await.expect(204).version());
    ids
}

async fn document(client: &Client, pair: &Value, bucket: &str, version: &str) -> String {
    let answer = client.send(request(pair, bucket, Some(version), None)).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()["Body"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn metadata_of_new_versions_is_what_cloudserver_writes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let ids = captured_bucket(&server, "cap").await;
    for (kind, version) in &ids {
        let pair = captured(&format!("metadata of {kind}"));
        let ours = document(&server.service(), &pair, "cap", version).await;
        let theirs = pair["response"]["bodyJson"]["Body"].as_str().unwrap();
        if *kind == "tagged" {
            // The captured body is not in the capture: only its digest differs.
            let ours: Value = serde_json::from_str(&ours).unwrap();
            let theirs: Value = serde_json::from_str(theirs).unwrap();
            assert_eq!((&ours["tags"], &ours["key"]), (&theirs["tags"], &theirs["key"]));
        } else {
            same_document(&ours, theirs);
        }
    }
    for description in [
        "metadata of the owner account key",
        "metadata with the lifecycle service account",
        "metadata without versionId: current version",
    ] {
        let pair = captured(description);
        account(&server, &pair).send(request(&pair, "cap", Some(&ids["plain"]), None)).await.expect(200);
    }
    for description in [
        "metadata with another account",
        "metadata of a missing key",
        "metadata of a missing bucket",
        "metadata with an invalid version id",
        "metadata without object key",
        "unknown resource type",
        "metadata PUT: not JSON",
        "metadata PUT METADATA-only on a missing object",
    ] {
        let pair = captured(description);
        let version = (!description.contains("invalid version")).then_some(ids["plain"].as_str());
        let answer = account(&server, &pair).send(request(&pair, "cap", version, None)).await;
        let expected = &pair["response"];
        assert_eq!(u64::from(answer.status.as_u16()), expected["status"], "{description}: {}", answer.text());
        let (mut ours, mut theirs) = (answer.json(), expected["bodyJson"].clone());
        assert_eq!(ours["requestId"].as_str().unwrap().len(), 20, "{description}");
        (ours["requestId"], theirs["requestId"]) = (Value::Null, Value::Null);
        assert_eq!(ours, theirs, "{description}");
        assert_eq!(answer.header("server"), Some("S3 Server"), "{description}");
    }
    server.stop().await;
}

#[tokio::test]
async fn status_writes_and_tag_changes_are_what_cloudserver_stores() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let ids = captured_bucket(&server, "cap").await;
    let (service, plain) = (server.service(), ids["plain"].as_str());
    let pair = captured("metadata of plain");
    let mut md: Value = serde_json::from_str(&document(&service, &pair, "cap", plain).await).unwrap();
    md["replicationInfo"]["status"] = json!("COMPLETED");
    md["replicationInfo"]["backends"][0]["status"] = json!("COMPLETED");
    md["originOp"] = json!("s3:Replication:OperationCompletedReplication");
    let put = captured("metadata PUT: status COMPLETED on the source");
    let answer = service.send(request(&put, "cap", Some(plain), Some(md.to_string()))).await.expect(200);
    assert_eq!(answer.json(), json!({ "versionId": md["versionId"] }));
    let stored = document(&service, &pair, "cap", plain).await;
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), md);
    let head = server.client.head("/cap/plain.txt").await.expect(200);
    let theirs = captured("HEAD of a COMPLETED object");
    for name in ["Accept-Ranges", "Content-Length", "ETag", "Content-Type", "x-amz-replication-status"] {
        assert_eq!(head.header(name), theirs["response"]["headers"][name].as_str(), "{name}");
    }
    assert_eq!(head.version(), plain);

    let tags = "<Tagging><TagSet><Tag><Key>late</Key><Value>1</Value></Tag></TagSet></Tagging>";
    server.client.put(&format!("/cap/plain.txt?tagging&versionId={plain}"), tags).await.expect(200);
    let tagged = captured("metadata after PutObjectTagging on a COMPLETED object");
    let theirs = tagged["response"]["bodyJson"]["Body"].as_str().unwrap();
    let ours = document(&service, &tagged, "cap", plain).await;
    assert_eq!(without_own(&ours), without_own(&with_micro(theirs)));
    server.client.delete("/cap/plain.txt?tagging").await.expect(204);
    let untagged = captured("metadata after DeleteObjectTagging");
    let theirs = untagged["response"]["bodyJson"]["Body"].as_str().unwrap();
    let ours = document(&service, &untagged, "cap", plain).await;
    assert_eq!(without_own(&ours), without_own(&with_micro(theirs)));
    server.stop().await;
}

fn with_micro(document: &str) -> String {
    let mut md: Value = serde_json::from_str(document).unwrap();
    md["microVersionId"] = Value::from("0123456789abcdef");
    md.to_string()
}

#[tokio::test]
async fn a_replica_arrives_as_captured() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("dst-bucket", true).await;
    for description in [
        "data PUT with a wrong md5",
        "data PUT with base64 md5",
        "data PUT without canonical id",
        "data PUT without md5",
        "data PUT to a missing bucket",
        "batchdelete malformed",
    ] {
        let pair = captured(description);
        let answer = service.send(request(&pair, "", None, None)).await;
        assert_eq!(u64::from(answer.status.as_u16()), pair["response"]["status"], "{description}");
        let (mut ours, mut theirs) = (answer.json(), pair["response"]["bodyJson"].clone());
        (ours["requestId"], theirs["requestId"]) = (Value::Null, Value::Null);
        assert_eq!(ours, theirs, "{description}");
    }
    let zero = service.send(request(&captured("data PUT zero bytes"), "", None, None)).await.expect(200);
    assert_eq!(zero.json()[0]["key"].as_str().unwrap().len(), 40);
    let data =
        service.send(request(&captured("data PUT on the destination"), "", None, None)).await.expect(200);
    assert_eq!(data.json()[0]["dataStoreName"], "us-east-1");
    assert_eq!(server.site.unattached_data().unwrap(), 2);

    let put = captured("metadata PUT of a replica on the destination");
    let theirs = put["request"]["body"].as_str().unwrap();
    let refused = service.send(request(&put, "", None, None)).await;
    refused.refused_json(424, "LocationNotFound");
    let body = with_key(theirs, data.json()[0]["key"].as_str().unwrap());
    let answer = service.send(request(&put, "", None, Some(body.clone()))).await.expect(200);
    assert_eq!(answer.json(), put["response"]["bodyJson"]);
    assert_eq!(server.site.unattached_data().unwrap(), 1);
    let read = captured("metadata of the replica");
    let stored = service.send(request(&read, "", None, None)).await.expect(200).json();
    let stored: Value = serde_json::from_str(stored["Body"].as_str().unwrap()).unwrap();
    assert_eq!(stored, serde_json::from_str::<Value>(&body).unwrap());
    let got = client.send(request(&captured("GET of the replica"), "", None, None)).await.expect(200);
    assert_eq!((got.text(), got.header("x-amz-replication-status")), ("hello lab", Some("REPLICA")));

    // Only metadata: location and encryption of the stored version stay.
    let update = captured("metadata PUT METADATA-only on the replica");
    service.send(request(&update, "", None, None)).await.expect(200);
    let stored = client.metadata("/dst-bucket/plain.txt").await;
    assert_eq!(stored["location"][0]["key"], data.json()[0]["key"]);
    assert_eq!(stored["tags"], json!({"a": "1"}));
    assert_eq!(client.get("/dst-bucket/plain.txt").await.text(), "hello lab");

    // Other bytes for the same version: the old ones go.
    let again = service.send(request(&captured("data PUT without v2"), "", None, None)).await.expect(200);
    let body = with_key(theirs, again.json()[0]["key"].as_str().unwrap());
    service.send(request(&put, "", None, Some(body.clone()))).await.expect(200);
    service.send(request(&put, "", None, Some(body))).await.expect(200);
    assert_eq!(client.get("/dst-bucket/plain.txt").await.text(), "hello lab");

    let marker = captured("metadata PUT of a delete marker replica");
    service.send(request(&marker, "", None, None)).await.expect(200);
    client.get("/dst-bucket/todelete").await.refused(404, "NoSuchKey");

    // Data in use stays, other data goes, unknown keys are fine.
    let locations = json!({"Locations": [
        {"key": again.json()[0]["key"], "dataStoreName": "us-east-1"},
        {"key": zero.json()[0]["key"], "dataStoreName": "us-east-1"},
        {"key": data.json()[0]["key"], "dataStoreName": "us-east-1"},
    ]});
    let deleted = service.post("/_/backbeat/batchdelete", locations.to_string()).await.expect(200);
    assert_eq!(deleted.text(), "null");
    service.post("/_/backbeat/batchdelete/dst-bucket/k", "{\"Locations\":[]}").await.expect(200);
    assert_eq!(client.get("/dst-bucket/plain.txt").await.text(), "hello lab");
    assert_eq!(server.site.unattached_data().unwrap(), 0);
    server.stop().await;
}

fn with_key(document: &str, key: &str) -> String {
    let mut md: Value = serde_json::from_str(document).unwrap();
    md["location"][0]["key"] = Value::from(key);
    md.to_string()
}

#[tokio::test]
async fn an_older_replica_does_not_cover_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("source", true).await;
    client.bucket("target", true).await;
    let mut documents = Vec::new();
    for body in ["", ""] {
        let version = client.put("/source/key", body).await.expect(200).version();
        let mut md = client.metadata("/source/key").await;
        md["replicationInfo"]["status"] = json!("REPLICA");
        documents.push((version, md));
    }
    for (version, md) in documents.iter().rev() {
        service
            .put(&format!("/_/backbeat/metadata/target/key?versionId={version}"), md.to_string())
            .await
            .expect(200);
    }
    assert_eq!(client.head("/target/key").await.version(), documents[1].0);
    assert_eq!(client.get("/target?versions").await.elements("VersionId").len(), 2);
    assert_eq!(client.metadata("/target/key").await["versionId"], documents[1].1["versionId"]);
    server.stop().await;
}

#[tokio::test]
async fn null_versions_are_written_by_their_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let (client, service) = (&server.client, server.service());
    client.bucket("bucket", false).await;
    client.put("/bucket/old", "old").await.expect(200);
    client.versioning("bucket", "Enabled").await.expect(200);
    let path = "/_/backbeat/metadata/bucket/old?versionId=null";
    let mut md = client.metadata("/bucket/old?versionId=null").await;
    assert_eq!(md["versionId"], Value::Null);
    md["replicationInfo"]["status"] = json!("COMPLETED");
    assert_eq!(service.put(path, md.to_string()).await.expect(200).text(), "null");
    let stored = client.metadata("/bucket/old?versionId=null").await;
    assert_eq!(
        (&stored["isNull"], &stored["replicationInfo"]["status"]),
        (&json!(true), &json!("COMPLETED"))
    );
    assert_eq!(client.get("/bucket/old").await.text(), "old");
    client.put("/bucket/old", "new").await.expect(200);
    let covered = client.metadata("/bucket/old?versionId=null").await;
    assert_eq!(covered["versionId"], "99999999999999999999RG001  ");
    let answer = service.put(path, covered.to_string()).await.expect(200);
    assert_eq!(answer.json()["versionId"], "99999999999999999999RG001  ");
    assert_eq!(client.get("/bucket/old").await.text(), "new");
    assert_eq!(client.get("/bucket/old?versionId=null").await.text(), "old");
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_answered_without_a_signature() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let ids = captured_bucket(&server, "cap").await;
    let unsigned = |method: &Method, path: &str| server.client.send(at(method.clone(), path).unsigned());
    for path in ["/", "/cap", "/cap/plain.txt", "/cap?replication", "/cap?versions", "/cap/plain.txt?tagging"]
    {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE] {
            let answer = unsigned(&method, path).await;
            let refused = answer.status.is_client_error() || answer.status.as_u16() == 501;
            assert!(refused, "{method} {path}: {}", answer.status);
        }
        unsigned(&Method::GET, path).await.refused(403, "AccessDenied");
    }
    let internal = [
        "/_/backbeat/metadata/cap/plain.txt",
        "/_/backbeat/data/cap/plain.txt",
        "/_/backbeat/batchdelete",
        "/_/backbeat/batchdelete/cap/plain.txt",
        "/_/backbeat/multiplebackenddata/cap/k?operation=putobject",
        "/_/backbeat/multiplebackenddata/cap/k?operation=putpart",
        "/_/backbeat/multiplebackenddata/cap/k?operation=initiatempu",
        "/_/backbeat/multiplebackenddata/cap/k?operation=completempu",
        "/_/backbeat/multiplebackenddata/cap/k?operation=puttagging",
        "/_/backbeat/multiplebackenddata/cap/k?operation=deleteobject",
        "/_/backbeat/multiplebackenddata/cap/k?operation=deleteobjecttagging",
        "/_/backbeat/multiplebackenddata/cap/k?operation=abortmpu",
        "/_/backbeat/multiplebackendmetadata/cap/k",
        "/_/backbeat/lifecycle/cap?list-type=current",
        "/_/backbeat/expiration/cap/plain.txt",
        "/_/backbeat/index/cap",
        "/_/backbeat/api/metrics/crr/all",
        "/_/metadata/default/bucket/cap",
        "/_/backbeat/nothing",
        "/_/backbeat/",
    ];
    for path in internal {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
            let answer = unsigned(&method, path).await.refused_json(403, "AccessDenied");
            assert_eq!(answer.json()["message"], "Access Denied");
            let forged = server.client.with("replicationKey1", "wrong");
            let answer = forged.send(at(method.clone(), path)).await;
            answer.refused_json(403, "SignatureDoesNotMatch");
            let unknown = server.client.with("nobody", "wrong");
            unknown.send(at(method, path)).await.refused_json(403, "InvalidAccessKeyId");
        }
    }
    unsigned(&Method::GET, "/_/healthcheck").await.expect(403);
    let path = format!("/_/backbeat/metadata/cap/plain.txt?versionId={}", ids["plain"]);
    let wrong = server.client.with("replicationKey1", "wrong").get(&path).await;
    let wrong = wrong.refused_json(403, "SignatureDoesNotMatch");
    assert_eq!(
        wrong.json()["message"],
        captured("metadata with a wrong secret")["response"]["bodyJson"]["message"]
    );
    let unknown =
        server.client.with("unknownkey", "x").get(&path).await.refused_json(403, "InvalidAccessKeyId");
    assert_eq!(
        unknown.json()["message"],
        captured("metadata unknown access key")["response"]["bodyJson"]["message"]
    );
    server.stop().await;
}

#[tokio::test]
async fn replication_configurations_are_judged_as_captured() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("cap", false).await;
    for description in [
        "GET replication before any is set",
        "PUT replication before versioning is enabled",
        "GET versioning (never set)",
        "PUT replication",
        "GET replication",
        "GET replication as the replication service account",
        "PUT replication with an unknown site",
    ] {
        if description == "PUT replication" {
            server.client.versioning("cap", "Enabled").await.expect(200);
        }
        let pair = captured(description);
        let answer = account(&server, &pair).send(request(&pair, "cap", None, None)).await;
        let expected = &pair["response"];
        assert_eq!(u64::from(answer.status.as_u16()), expected["status"], "{description}");
        let text = expected["bodyText"].as_str().unwrap();
        if text.contains("<Error>") {
            let theirs = text.split("<Resource>").next().unwrap().split("<Error>").nth(1).unwrap();
            let ours = answer.text().replace("&apos;", "'");
            assert!(ours.contains(theirs), "{description}: {ours}");
        } else if !description.contains("versioning") {
            assert_eq!(answer.text(), text, "{description}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn keys_of_the_full_length_have_internal_routes_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("long", true).await;
    for key in ["x".repeat(1024), format!("{}x", "長".repeat(341))] {
        let version = server.client.put(&format!("/long/{key}"), "abc").await.expect(200).version();
        let path = |route: &str| format!("/_/backbeat/{route}/long/{key}");
        let read = || Request::new(Method::GET, path("metadata")).query("versionId", &version);
        let document =
            server.service().send(read()).await.expect(200).json()["Body"].as_str().unwrap().to_owned();
        let write = Request::new(Method::PUT, path("metadata")).query("versionId", &version);
        server.service().send(write.body(Body::full(document))).await.expect(200);
        let data =
            Request::new(Method::PUT, path("data")).query("v2", "").header("x-scal-canonical-id", "abc");
        let data = data.header("content-md5", "900150983cd24fb0d6963f7d28e17f72").body(Body::full("abc"));
        server.service().send(data).await.expect(200);

        let forged = server.client.with("replicationKey1", "wrong");
        forged.send(read()).await.refused_json(403, "SignatureDoesNotMatch");
        server.client.with("unknownkey", "x").send(read()).await.refused_json(403, "InvalidAccessKeyId");
        server.client.send(read().unsigned()).await.expect(400);
    }
    server.stop().await;
}
