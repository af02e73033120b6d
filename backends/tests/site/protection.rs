//! Object lock and access control lists.

use crate::harness::{BART, Client, Server, at};
use backbeat_backends::http::Body;
use backbeat_backends::site::JournalRecord;
use http::Method;
use serde_json::Value;

const FAR: &str = "2099-01-01T00:00:00.000Z";
const FARTHER: &str = "2100-01-01T00:00:00.000Z";

async fn locked(server: &Server, name: &str) {
    let create = at(Method::PUT, &format!("/{name}")).header("x-amz-bucket-object-lock-enabled", "true");
    server.client.send(create).await.expect(200);
}

fn retention(mode: &str, until: &str) -> String {
    format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>")
}

async fn delete_bypassing(client: &Client, path: &str) -> crate::harness::Answer {
    client.send(at(Method::DELETE, path).header("x-amz-bypass-governance-retention", "true")).await
}

fn last(server: &Server) -> Vec<(String, Value)> {
    let end = server.site.journal().end().unwrap();
    let records = server.site.journal().read(end - 1, 2).unwrap();
    let entry = |(_, record): (u64, JournalRecord)| {
        let entry = record.entries.into_iter().next().unwrap();
        (entry.key, serde_json::from_str(&entry.value.unwrap()).unwrap())
    };
    records.into_iter().map(entry).collect()
}

#[tokio::test]
async fn a_locked_bucket_is_versioned_for_good_and_has_a_default() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    locked(&server, "locked").await;
    client.bucket("plain", true).await;
    assert_eq!(client.get("/locked?versioning").await.element("Status"), "Enabled");
    client.versioning("locked", "Suspended").await.refused(409, "InvalidBucketState");
    client.get("/plain?object-lock").await.refused(404, "ObjectLockConfigurationNotFoundError");
    let document = |inner: &str| {
        format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{inner}</ObjectLockConfiguration>"
        )
    };
    let rule = |inner: &str| document(&format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"));
    let put = |bucket: &str, body: String| {
        client.send(at(Method::PUT, &format!("/{bucket}?object-lock")).body(Body::full(body)))
    };
    put("plain", document("")).await.refused(409, "InvalidBucketState");
    for wrong in [
        "<Mode>GOVERNANCE</Mode>",
        "<Mode>STRICT</Mode><Days>1</Days>",
        "<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>",
    ] {
        put("locked", rule(wrong)).await.refused(400, "MalformedXML");
    }
    put("locked", rule("<Mode>GOVERNANCE</Mode><Days>0</Days>")).await.refused(400, "InvalidArgument");
    assert!(client.get("/locked?object-lock").await.expect(200).elements("Rule").is_empty());
    client.put("/locked/before", "x").await.expect(200);
    put("locked", rule("<Mode>GOVERNANCE</Mode><Days>2</Days>")).await.expect(200);
    let stored = client.get("/locked?object-lock").await.expect(200);
    assert_eq!((stored.element("Mode"), stored.element("Days")), ("GOVERNANCE".into(), "2".into()));
    assert_eq!(client.head("/locked/before").await.header("x-amz-object-lock-mode"), None);
    client.put("/locked/after", "x").await.expect(200);
    let head = client.head("/locked/after").await;
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
    assert!(head.header("x-amz-object-lock-retain-until-date").is_some());
    let lock = at(Method::PUT, "/plain/key").header("x-amz-object-lock-legal-hold", "ON");
    client.send(lock.body(Body::full("x"))).await.refused(400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn a_protected_version_stays() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    locked(&server, "bucket").await;
    client.replicate("bucket").await.expect(200);
    let put = at(Method::PUT, "/bucket/key")
        .header("x-amz-object-lock-mode", "GOVERNANCE")
        .header("x-amz-object-lock-retain-until-date", FAR)
        .header("x-amz-object-lock-legal-hold", "ON");
    let version = client.send(put.body(Body::full("x"))).await.expect(200).version();
    let md = client.metadata("/bucket/key").await;
    assert_eq!(
        (&md["retentionMode"], &md["retentionDate"], &md["legalHold"]),
        (&"GOVERNANCE".into(), &FAR.into(), &true.into())
    );
    let path = format!("/bucket/key?versionId={version}");
    client.delete(&path).await.refused(403, "AccessDenied");
    delete_bypassing(client, &path).await.refused(403, "AccessDenied");
    let hold = |status: &str| format!("<LegalHold><Status>{status}</Status></LegalHold>");
    client.put("/bucket/key?legal-hold", hold("MAYBE")).await.refused(400, "MalformedXML");
    client.put("/bucket/key?legal-hold", hold("OFF")).await.expect(200);
    assert_eq!(client.get("/bucket/key?legal-hold").await.expect(200).element("Status"), "OFF");
    let written = last(&server);
    assert!(written[0].0.contains('\0') && !written[1].0.contains('\0'), "version first, then master");
    assert_eq!(written[0].1["replicationInfo"]["status"], "PENDING");
    assert_eq!(written[0].1["replicationInfo"]["content"], serde_json::json!(["METADATA"]));
    assert_eq!(written[0].1["originOp"], "s3:ObjectCreated:Put", "the previous value stays");

    client.delete(&path).await.refused(403, "AccessDenied");
    client
        .put("/bucket/key?retention", retention("GOVERNANCE", "2098-01-01T00:00:00Z"))
        .await
        .refused(403, "AccessDenied");
    client
        .put("/bucket/key?retention", retention("GOVERNANCE", "2001-01-01T00:00:00Z"))
        .await
        .refused(400, "InvalidArgument");
    client.put("/bucket/key?retention", retention("STRICT", FAR)).await.refused(400, "MalformedXML");
    client.put("/bucket/key?retention", retention("COMPLIANCE", FARTHER)).await.refused(403, "AccessDenied");
    let stricter =
        at(Method::PUT, "/bucket/key?retention").header("x-amz-bypass-governance-retention", "true");
    client.send(stricter.body(Body::full(retention("COMPLIANCE", FARTHER)))).await.expect(200);
    let stored = client.get("/bucket/key?retention").await.expect(200);
    assert_eq!(
        (stored.element("Mode"), stored.element("RetainUntilDate")),
        ("COMPLIANCE".into(), FARTHER.into())
    );
    delete_bypassing(client, &path).await.refused(403, "AccessDenied");
    let body = format!("<Delete><Object><Key>key</Key><VersionId>{version}</VersionId></Object></Delete>");
    let several = client.post("/bucket?delete", body).await.expect(200);
    assert_eq!(several.element("Code"), "AccessDenied");

    // A marker hides it, and takes nothing away.
    let marker = client.delete("/bucket/key").await.expect(204).version();
    client.delete(&format!("/bucket/key?versionId={marker}")).await.expect(204);

    let governed = at(Method::PUT, "/bucket/other")
        .header("x-amz-object-lock-mode", "GOVERNANCE")
        .header("x-amz-object-lock-retain-until-date", FAR);
    let governed = client.send(governed.body(Body::full("x"))).await.expect(200).version();
    let path = format!("/bucket/other?versionId={governed}");
    client.delete(&path).await.refused(403, "AccessDenied");
    delete_bypassing(client, &path).await.expect(204);
    client.put("/bucket/none", "x").await.expect(200);
    client.get("/bucket/none?retention").await.refused(404, "NoSuchObjectLockConfiguration");
    client.get("/bucket/none?legal-hold").await.refused(404, "NoSuchObjectLockConfiguration");
    client.bucket("plain", true).await;
    client.put("/plain/key", "x").await.expect(200);
    client.put("/plain/key?legal-hold", hold("ON")).await.refused(400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn an_expiration_respects_dates_and_protection() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    let lifecycle = client.with("lifecycleKey1", "lifecycleSecretKey1");
    locked(&server, "bucket").await;
    let governed = at(Method::PUT, "/bucket/governed")
        .header("x-amz-object-lock-mode", "GOVERNANCE")
        .header("x-amz-object-lock-retain-until-date", FAR);
    let governed = client.send(governed.body(Body::full("governed"))).await.expect(200).version();
    let held = at(Method::PUT, "/bucket/held").header("x-amz-object-lock-legal-hold", "ON");
    let held = client.send(held.body(Body::full("held"))).await.expect(200).version();
    for (key, version) in [("governed", governed), ("held", held)] {
        let path = format!("/_/backbeat/expiration/bucket/{key}?versionId={version}");
        lifecycle.delete(&path).await.refused_json(403, "AccessDenied");
        let bypassing = delete_bypassing(&lifecycle, &path).await;
        bypassing.refused_json(403, "AccessDenied");
        let kept = client.get(&format!("/bucket/{key}?versionId={version}")).await.expect(200);
        assert_eq!(kept.text(), key);
    }

    let version = client.put("/bucket/key", "x").await.expect(200).version();
    for target in ["key".to_owned(), format!("key?versionId={version}")] {
        let expire = |date: &str| {
            let path = format!("/_/backbeat/expiration/bucket/{target}");
            lifecycle.send(at(Method::DELETE, &path).header("if-unmodified-since", date))
        };
        expire("Thu, 01 Dec 2011 16:00:00 GMT").await.refused_json(412, "PreconditionFailed");
        assert_eq!(client.get(&format!("/bucket/{target}")).await.expect(200).text(), "x");
        assert_eq!(expire("Thu, 01 Dec 2095 16:00:00 GMT").await.expect(200).text(), "{}");
        client.get("/bucket/key").await.refused(404, "NoSuchKey");
    }
    client.get(&format!("/bucket/key?versionId={version}")).await.refused(404, "NoSuchVersion");
    server.stop().await;
}

#[tokio::test]
async fn lists_are_kept_as_cloudserver_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.replicate("bucket").await.expect(200);
    client.put("/bucket/key", "x").await.expect(200);
    let private = client.get("/bucket/key?acl").await.expect(200);
    assert_eq!(
        (private.elements("Permission"), private.elements("ID")),
        (vec!["FULL_CONTROL".to_owned()], vec![BART.to_owned(); 2])
    );

    let canned = |name: &str| at(Method::PUT, "/bucket/key?acl").header("x-amz-acl", name);
    client.send(canned("public")).await.refused(400, "InvalidArgument");
    client.put("/bucket/key?acl", "").await.refused(400, "MissingSecurityHeader");
    client.send(canned("public-read")).await.expect(200);
    let written = last(&server);
    assert!(written[0].0.contains('\0') && !written[1].0.contains('\0'), "version first, then master");
    let acl = serde_json::json!({"Canned": "public-read", "FULL_CONTROL": [], "WRITE_ACP": [], "READ": [], "READ_ACP": []});
    assert_eq!((&written[1].1["acl"], &written[1].1["originOp"]), (&acl, &"s3:ObjectAcl:Put".into()));
    assert_eq!(
        written[1].1["replicationInfo"]["content"],
        serde_json::json!(["DATA", "METADATA"]),
        "left as it was"
    );
    let shown = client.get("/bucket/key?acl").await;
    assert_eq!(shown.elements("Permission"), ["FULL_CONTROL", "READ"]);
    assert_eq!(shown.element("URI"), "http://acs.amazonaws.com/groups/global/AllUsers");
    let end = server.site.journal().end().unwrap();
    client.send(canned("public-read")).await.expect(200);
    assert_eq!(server.site.journal().end().unwrap(), end, "a list that changes nothing is not written");

    let lisa = format!("{}f", &BART[..BART.len() - 1]);
    let grant = at(Method::PUT, "/bucket/granted").header(
        "x-amz-grant-read",
        format!("id=\"{lisa}\", uri=\"http://acs.amazonaws.com/groups/global/AuthenticatedUsers\""),
    );
    client.send(grant.body(Body::full("x"))).await.expect(200);
    assert_eq!(client.metadata("/bucket/granted").await["acl"]["READ"].as_array().unwrap().len(), 2);
    let header =
        |name: &str, value: &str| client.send(at(Method::PUT, "/bucket/key?acl").header(name, value));
    header("x-amz-grant-read", "id=\"nobody\"").await.refused(400, "InvalidArgument");
    header("x-amz-grant-read", "nobody").await.refused(400, "InvalidArgument");
    header("x-amz-grant-read", "emailAddress=\"a@b\"").await.refused(400, "UnresolvableGrantByEmailAddress");
    let both = canned("private").header("x-amz-grant-read", format!("id=\"{lisa}\""));
    client.send(both).await.refused(400, "InvalidRequest");

    let xsi = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let document = |owner: &str, permission: &str| {
        format!(
            "<AccessControlPolicy><Owner><ID>{owner}</ID></Owner><AccessControlList><Grant><Grantee {xsi} xsi:type=\"CanonicalUser\">\
         <ID>{lisa}</ID></Grantee><Permission>{permission}</Permission></Grant></AccessControlList></AccessControlPolicy>"
        )
    };
    for path in ["/bucket/key?acl", "/bucket?acl"] {
        client.put(path, document(&lisa, "READ")).await.refused(403, "AccessDenied");
        client.put(path, document(BART, "DANCE")).await.refused(400, "MalformedACLError");
        client.put(path, document(BART, "WRITE_ACP")).await.expect(200);
        assert_eq!(client.get(path).await.elements("Permission"), ["WRITE_ACP"]);
    }
    let bucket = at(Method::PUT, "/logs").header("x-amz-acl", "log-delivery-write");
    client.send(bucket).await.expect(200);
    assert_eq!(client.get("/logs?acl").await.elements("Permission"), ["FULL_CONTROL", "WRITE", "READ_ACP"]);
    // A list grants nothing here.
    client.with("accessKey2", "verySecretKey2").get("/bucket/key").await.refused(403, "AccessDenied");
    server.stop().await;
}
