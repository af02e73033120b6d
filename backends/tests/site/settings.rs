//! What a bucket is told and tells again: lifecycle, notification, tags, CORS; and the listings' markers and spellings.

use crate::harness::{Answer, Client, Server, at};
use backbeat_backends::http::Body;
use http::Method;
use serde_json::{Value, json};

fn attributes(server: &Server) -> Value {
    let end = server.site.journal().end().unwrap();
    let record = server.site.journal().read(end, 1).unwrap().remove(0).1;
    assert_eq!(record.db, "__metastore");
    serde_json::from_str(record.entries[0].value.as_deref().unwrap()).unwrap()
}

#[tokio::test]
async fn lifecycle_rules_are_kept_in_upstreams_form_and_come_back_in_s3s() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.get("/bucket?lifecycle").await.refused(404, "NoSuchLifecycleConfiguration");
    let document = |rules: &str| format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
    let put =
        |rules: &str| client.send(at(Method::PUT, "/bucket?lifecycle").body(Body::full(document(rules))));
    let rule = |inner: &str| format!("<Rule><ID>a</ID><Status>Enabled</Status>{inner}</Rule>");
    let days = "<Expiration><Days>3</Days></Expiration>";
    let both = "<Filter><And><Prefix>logs/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>";
    let first = rule(&format!(
        "{both}{days}<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration>\
         <Transition><Days>1</Days><StorageClass>sf</StorageClass></Transition>"
    ));
    let second = "<Rule><ID>b</ID><Status>Disabled</Status><Prefix></Prefix><AbortIncompleteMultipartUpload>\
                  <DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>";
    put(&format!("{first}{second}")).await.expect(200);
    let expected = json!({"rules": [
        {"ruleID": "a", "ruleStatus": "Enabled",
         "filter": {"rulePrefix": "logs/", "tags": [{"key": "k", "val": "v"}]},
         "actions": [
            {"actionName": "Expiration", "days": 3},
            {"actionName": "NoncurrentVersionExpiration", "days": 2, "newerNoncurrentVersions": 0},
            {"actionName": "Transition", "transition": [{"days": 1, "storageClass": "sf"}]},
         ]},
        {"ruleID": "b", "ruleStatus": "Disabled", "prefix": "",
         "actions": [{"actionName": "AbortIncompleteMultipartUpload", "days": 7}]},
    ]});
    assert_eq!(attributes(&server)["lifecycleConfiguration"], expected);
    let shown = client.get("/bucket?lifecycle").await.expect(200);
    assert_eq!(shown.elements("ID"), ["a", "b"]);
    assert_eq!(shown.elements("Days"), ["3", "1"]);
    assert_eq!(
        (shown.element("StorageClass"), shown.element("DaysAfterInitiation")),
        ("sf".into(), "7".into())
    );

    let filter = "<Filter><Prefix></Prefix></Filter>";
    let with = |inner: &str| rule(&format!("{filter}{inner}"));
    for (wrong, status, code) in [
        (String::new(), 400, "MalformedXML"),
        (rule(days), 400, "MalformedXML"),
        (with(""), 400, "InvalidRequest"),
        (with("<Expiration><Days>0</Days></Expiration>"), 400, "InvalidArgument"),
        (with("<Expiration><Date>2030-01-01T03:00:00Z</Date></Expiration>"), 400, "InvalidArgument"),
        (
            with("<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"),
            400,
            "MalformedXML",
        ),
        (format!("{0}{0}", with(days)), 400, "InvalidArgument"),
        (
            rule(&format!("<Filter><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></Filter>{days}")),
            501,
            "NotImplemented",
        ),
    ] {
        put(&wrong).await.refused(status, code);
    }
    client.delete("/bucket?lifecycle").await.expect(204);
    client.get("/bucket?lifecycle").await.refused(404, "NoSuchLifecycleConfiguration");
    server.stop().await;
}

#[tokio::test]
async fn notifications_and_tags_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    assert!(client.get("/bucket?notification").await.expect(200).elements("Queue").is_empty());
    let queue = |arn: &str, event: &str| {
        let body = format!(
            "<NotificationConfiguration><QueueConfiguration><Id>q</Id><Queue>{arn}</Queue><Event>{event}</Event><Filter>\
             <S3Key><FilterRule><Name>prefix</Name><Value>img/</Value></FilterRule></S3Key></Filter>\
             </QueueConfiguration></NotificationConfiguration>"
        );
        client.send(at(Method::PUT, "/bucket?notification").body(Body::full(body)))
    };
    queue("arn:aws:sqs:::x", "s3:ObjectCreated:*").await.refused(400, "MalformedXML");
    queue("arn:scality:bucketnotif:::target1", "s3:Reduced:*").await.refused(400, "MalformedXML");
    queue("arn:scality:bucketnotif:::target1", "s3:ObjectCreated:*").await.expect(200);
    let expected = json!({"queueConfig": [{
        "id": "q", "events": ["s3:ObjectCreated:*"], "queueArn": "arn:scality:bucketnotif:::target1",
        "filterRules": [{"name": "Prefix", "value": "img/"}],
    }]});
    assert_eq!(attributes(&server)["notificationConfiguration"], expected);
    assert_eq!(
        client.get("/bucket?notification").await.element("Queue"),
        "arn:scality:bucketnotif:::target1"
    );
    client.put("/bucket?notification", "<NotificationConfiguration/>").await.expect(200);
    assert_eq!(attributes(&server)["notificationConfiguration"], json!({}));

    client.get("/bucket?tagging").await.refused(404, "NoSuchTagSet");
    let tags = "<Tagging><TagSet><Tag><Key>team</Key><Value>a</Value></Tag></TagSet></Tagging>";
    client.put("/bucket?tagging", tags).await.expect(200);
    assert_eq!(attributes(&server)["tags"], json!([{"Key": "team", "Value": "a"}]));
    assert_eq!(client.get("/bucket?tagging").await.element("Value"), "a");
    client.delete("/bucket?tagging").await.expect(204);
    client.get("/bucket?tagging").await.refused(404, "NoSuchTagSet");
    server.stop().await;
}

/// A request that nobody signed, as a browser sends it before its own.
async fn ask(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = at(Method::OPTIONS, path).unsigned();
    client.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

#[tokio::test]
async fn browsers_are_told_what_other_origins_may_do() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    client.put("/bucket/key", "x").await.expect(200);
    client.get("/bucket?cors").await.refused(404, "NoSuchCORSConfiguration");
    let put = |inner: &str| {
        let body = format!("<CORSConfiguration><CORSRule>{inner}</CORSRule></CORSConfiguration>");
        client.send(at(Method::PUT, "/bucket?cors").body(Body::full(body)))
    };
    put("<AllowedMethod>DANCE</AllowedMethod><AllowedOrigin>*</AllowedOrigin>")
        .await
        .refused(400, "InvalidRequest");
    put("<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*.*</AllowedOrigin>")
        .await
        .refused(400, "InvalidRequest");
    let asks = |origin: &'static str, method: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", "x-amz-date, Authorization"),
        ];
        async move { ask(client, "/bucket/key", &headers).await }
    };
    assert_eq!(asks("http://page1.example", "GET").await.status, 403);
    put("<AllowedMethod>GET</AllowedMethod><AllowedOrigin>http://page*.example</AllowedOrigin><AllowedHeader>*</AllowedHeader>\
         <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds>")
        .await
        .expect(200);
    assert_eq!(client.get("/bucket?cors").await.expect(200).element("AllowedOrigin"), "http://page*.example");
    let allowed = asks("http://page1.example", "GET").await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://page1.example"));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("x-amz-date, authorization"));
    assert_eq!(allowed.header("access-control-max-age"), Some("60"));
    for (origin, method) in [("http://page1.example", "PUT"), ("http://other.example", "GET")] {
        assert_eq!(asks(origin, method).await.status, 403, "{origin} {method}");
    }
    assert_eq!(ask(client, "/bucket/key", &[]).await.status, 400);
    let read = client
        .send(at(Method::GET, "/bucket/key").header("origin", "http://page1.example"))
        .await
        .expect(200);
    assert_eq!(read.header("access-control-allow-origin"), Some("http://page1.example"));
    assert_eq!(read.header("access-control-expose-headers"), Some("ETag"));
    assert_eq!(client.get("/bucket/key").await.header("access-control-allow-origin"), None);
    // Without a signature there is an answer to the browser and nothing else.
    assert_eq!(ask(client, "/_/backbeat/metadata/bucket/key", &[]).await.status, 403);
    client.delete("/bucket?cors").await.expect(204);
    assert_eq!(asks("http://page1.example", "GET").await.status, 403);
    server.stop().await;
}

#[tokio::test]
async fn listings_spell_keys_as_asked_and_take_every_marker() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    for key in ["a b/1", "a b/2", "c+d", "é"] {
        client.put(&format!("/bucket/{key}"), "x").await.expect(200);
    }
    for call in ["list-type=2&", "", "versions&"] {
        let page = client.get(&format!("/bucket?{call}encoding-type=url&delimiter=/")).await.expect(200);
        assert_eq!(page.elements("Key"), ["c%2Bd", "%C3%A9"], "{call}");
        assert!(page.elements("Prefix").contains(&"a%20b/".to_owned()), "{call}");
        assert_eq!(page.element("EncodingType"), "url");
        client.get(&format!("/bucket?{call}encoding-type=morse")).await.refused(400, "InvalidArgument");
        client.get(&format!("/bucket?{call}max-keys=-1")).await.refused(400, "InvalidArgument");
        let none = client.get(&format!("/bucket?{call}max-keys=0")).await.expect(200);
        assert_eq!((none.elements("Key").len(), none.element("IsTruncated")), (0, "false".into()));
    }
    assert_eq!(client.get("/bucket?list-type=2&start-after=a b/1").await.elements("Key").len(), 3);
    assert_eq!(client.get("/bucket?marker=a b/2").await.elements("Key"), ["c+d", "é"]);
    assert_eq!(
        client.get("/bucket?versions&key-marker=c+d").await.elements("Key"),
        Vec::<String>::from(["é".into()])
    );
    client.get("/bucket?list-type=2&continuation-token=zz").await.refused(400, "InvalidArgument");
    client.get("/bucket?versions&version-id-marker=null").await.refused(400, "InvalidArgument");

    let mut begun = Vec::new();
    for key in ["dir/1", "dir/1", "dir/2", "x y", "z"] {
        let answer = client.send(at(Method::POST, &format!("/bucket/{key}?uploads"))).await.expect(200);
        begun.push((key.to_owned(), answer.element("UploadId")));
    }
    begun.sort();
    let mut found = Vec::new();
    let mut marker = String::new();
    loop {
        let page = client.get(&format!("/bucket?uploads&max-uploads=2{marker}")).await.expect(200);
        found.extend(page.elements("Key").into_iter().zip(page.elements("UploadId")));
        if page.element("IsTruncated") == "false" {
            break;
        }
        marker = format!(
            "&key-marker={}&upload-id-marker={}",
            page.element("NextKeyMarker"),
            page.element("NextUploadIdMarker")
        );
    }
    assert_eq!(found, begun);
    let grouped = client.get("/bucket?uploads&delimiter=/&encoding-type=url").await.expect(200);
    assert_eq!(
        (grouped.elements("Key"), grouped.element("Prefix")),
        (vec!["x%20y".into(), "z".into()], "dir/".into())
    );
    let first = client.get("/bucket?uploads&delimiter=/&max-uploads=1").await;
    assert_eq!((first.element("Prefix"), first.element("NextKeyMarker")), ("dir/".into(), "dir/".into()));
    let rest = client.get("/bucket?uploads&delimiter=/&max-uploads=9&key-marker=dir/").await;
    assert_eq!((rest.elements("Key").len(), rest.elements("Prefix").len()), (2, 0));
    server.stop().await;
}
