//! What a signature is good for: how long, for which headers, on which routes.

use crate::harness::{Client, Server};
use base64_simd::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing here may take longer.
const TIME_MAX: Duration = Duration::from_mins(1);
const KEY: &str = "accessKey1";
const SECRET: &str = "verySecretKey1";
const PAST: &str = "Tue, 27 Mar 2007 19:36:42 +0000";
const FUTURE: &str = "Sun, 27 Mar 2107 19:36:42 GMT";

/// What the site answers to a request with these header lines.
pub(crate) async fn answer(client: &Client, method: &str, target: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(client.signed.endpoint()).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(TIME_MAX, stream.read_to_end(&mut bytes)).await.expect("the site hangs up").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The time by the site's own clock, as it writes it.
pub(crate) async fn now(client: &Client) -> String {
    let answer = answer(client, "GET", "/", "", "").await;
    let lines = answer.lines().find_map(|line| line.strip_prefix("date: "));
    lines.unwrap_or_else(|| panic!("no date in {answer}")).to_owned()
}

fn signature(text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode_to_string(mac.finalize().into_bytes())
}

/// A site with an object at `/bucket/key`, and the directory that it lives in.
async fn site_with_object() -> (TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.client.bucket("bucket", true).await;
    server.client.put("/bucket/key", "hello").await.expect(200);
    (directory, server)
}

/// Header lines with a signature of version 2, whose date is in the header of that name.
pub(crate) fn signed(method: &str, resource: &str, name: &str, date: &str) -> String {
    let (plain, amz) = if name == "date" { (date, String::new()) } else { ("", format!("{name}:{date}\n")) };
    let made = signature(&format!("{method}\n\n\n{plain}\n{amz}{resource}"));
    format!("authorization: AWS {KEY}:{made}\r\n{name}: {date}\r\n")
}

/// A presigned target of version 2 that is good until `expires`, in seconds since the epoch.
fn presigned(path: &str, expires: u64) -> String {
    let made = signature(&format!("GET\n\n\n{expires}\n{path}"));
    let made = made.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("{path}?AWSAccessKeyId={KEY}&Expires={expires}&Signature={made}")
}

#[track_caller]
fn expect(answer: &str, status: u16, text: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(text), "no {text} in {answer}");
}

#[tokio::test]
async fn signatures_of_version_2_age_on_every_route() {
    let (_directory, server) = site_with_object().await;
    let client = &server.client;
    let now = now(client).await;
    // Method, target, and what of the target is signed.
    let routes = [
        ("GET", "/", "/"),
        ("GET", "/bucket", "/bucket"),
        ("GET", "/bucket/key", "/bucket/key"),
        ("GET", "/bucket?replication", "/bucket?replication"),
        ("DELETE", "/bucket?replication", "/bucket?replication"),
        ("GET", "/_/metadata/admin/raft_sessions", "/_/metadata/admin/raft_sessions"),
        ("GET", "/_/backbeat/metadata/bucket/key", "/_/backbeat/metadata/bucket/key"),
        ("PUT", "/_/backbeat/metadata/bucket/key", "/_/backbeat/metadata/bucket/key"),
        ("PUT", "/_/backbeat/data/bucket/key?v2", "/_/backbeat/data/bucket/key"),
        ("POST", "/_/backbeat/batchdelete", "/_/backbeat/batchdelete"),
        ("POST", "/_/backbeat/batchdelete/bucket/key", "/_/backbeat/batchdelete/bucket/key"),
        ("PUT", "/_/backbeat/multiplebackenddata/bucket/key", "/_/backbeat/multiplebackenddata/bucket/key"),
        ("POST", "/_/backbeat/multiplebackenddata/bucket/key", "/_/backbeat/multiplebackenddata/bucket/key"),
        (
            "DELETE",
            "/_/backbeat/multiplebackenddata/bucket/key",
            "/_/backbeat/multiplebackenddata/bucket/key",
        ),
        (
            "GET",
            "/_/backbeat/multiplebackendmetadata/bucket/key",
            "/_/backbeat/multiplebackendmetadata/bucket/key",
        ),
        ("GET", "/_/backbeat/lifecycle/bucket", "/_/backbeat/lifecycle/bucket"),
        ("DELETE", "/_/backbeat/expiration/bucket/key", "/_/backbeat/expiration/bucket/key"),
        ("GET", "/_/backbeat/index/bucket", "/_/backbeat/index/bucket"),
        ("POST", "/_/backbeat/index/bucket?operation=add", "/_/backbeat/index/bucket"),
        ("GET", "/_/backbeat/api/metrics", "/_/backbeat/api/metrics"),
    ];
    for (method, target, resource) in routes {
        for name in ["date", "x-amz-date"] {
            for date in [PAST, FUTURE] {
                let refused = answer(client, method, target, &signed(method, resource, name, date), "").await;
                expect(&refused, 403, "RequestTimeTooSkewed");
                let is_json = target.starts_with("/_/");
                assert_eq!(refused.contains("content-type: application/json"), is_json, "{refused}");
            }
        }
        let undated = signed(method, resource, "x-none", "");
        expect(&answer(client, method, target, &undated, "").await, 403, "AccessDenied");
        // The same request of today is somebody's.
        let fresh = signed(method, resource, "date", &now);
        let taken = answer(client, method, target, &fresh, "").await;
        for code in ["RequestTimeTooSkewed", "AccessDenied", "SignatureDoesNotMatch"] {
            let is_own = code == "AccessDenied" && target.starts_with("/_/backbeat/");
            assert!(is_own || !taken.contains(code), "{method} {target}: {taken}");
        }
    }
    // A key that takes the other way to the internal routes.
    let long = format!("/_/backbeat/metadata/bucket/{}", "k".repeat(1024));
    for date in [PAST, now.as_str()] {
        let lines = signed("GET", &long, "date", date) + "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n";
        let refused = answer(client, "GET", &long, &lines, "").await;
        expect(&refused, 403, if date == PAST { "RequestTimeTooSkewed" } else { "AccessDenied" });
    }
    // A date that is not the one that is signed.
    let moved = signed("GET", "/bucket/key", "date", PAST).replace(PAST, &now);
    expect(&answer(client, "GET", "/bucket/key", &moved, "").await, 403, "SignatureDoesNotMatch");
    server.stop().await;
}

#[tokio::test]
async fn presigned_targets_of_version_2_end_when_they_say() {
    let (_directory, server) = site_with_object().await;
    let client = &server.client;
    let open = presigned("/bucket/key", 4_000_000_000);
    expect(&answer(client, "GET", &open, "", "").await, 200, "hello");
    // Only the end counts, and headers that the protocol library would not take do not matter.
    let old = format!("date: {PAST}\r\nif-none-match: a_b\r\n");
    expect(&answer(client, "GET", &open, &old, "").await, 200, "hello");
    let past = presigned("/bucket/key", 1_175_139_620);
    expect(&answer(client, "GET", &past, "", "").await, 403, "AccessDenied");
    let longer = past.replace("1175139620", "4000000000");
    expect(&answer(client, "GET", &longer, "", "").await, 403, "SignatureDoesNotMatch");
    server.stop().await;
}

#[tokio::test]
async fn what_a_signature_does_not_cover_is_refused() {
    let (_directory, server) = site_with_object().await;
    let client = &server.client;
    let now = now(client).await;
    let own = "x-scal-version-id: 1\r\n";
    for path in ["/bucket/key", "/_/backbeat/metadata/bucket/key", "/bucket?replication"] {
        let lines = signed("GET", path, "date", &now) + own;
        expect(&answer(client, "GET", path, &lines, "").await, 403, "AccessDenied");
    }
    // A presigned target beside a header that pretends to have signed more.
    let open = presigned("/bucket/key", 4_000_000_000);
    let pretended = format!(
        "authorization: AWS4-HMAC-SHA256 Credential=a, SignedHeaders=x-scal-version-id, Signature=b\r\n{own}"
    );
    expect(&answer(client, "GET", &open, &pretended, "").await, 403, "AccessDenied");
    server.stop().await;
}

#[tokio::test]
async fn a_form_that_was_allowed_is_no_internal_request() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let client = &server.client;
    client.bucket("bucket", true).await;
    let policy = STANDARD.encode_to_string(
        r#"{"expiration":"2096-01-01T00:00:00Z","conditions":[{"bucket":"bucket"},["starts-with","$key",""]]}"#,
    );
    let made = signature(&policy);
    let fields = [("key", "key"), ("AWSAccessKeyId", KEY), ("policy", &policy), ("signature", &made)];
    let fields = fields.map(|(name, value)| {
        format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    let mut body = fields.concat();
    body += "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--x--\r\n";
    let form = "content-type: multipart/form-data; boundary=x\r\n";
    expect(&answer(client, "POST", "/bucket", form, &body).await, 204, "");
    for target in [
        "/_/backbeat/batchdelete",
        "/_/backbeat/multiplebackenddata/bucket/key?operation=initiatempu",
        "/_/backbeat/index/bucket?operation=add",
    ] {
        expect(&answer(client, "POST", target, form, &body).await, 403, "AccessDenied");
    }
    server.stop().await;
}
