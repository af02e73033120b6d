//! Clients that are slow, broken, hostile or too many.

use crate::harness::{Client, Server, at, config};
use backbeat_backends::http::{Body, Request};
use backbeat_backends::site::Limits;
use http::Method;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing here may take longer.
const TIME_MAX: Duration = Duration::from_secs(30);

async fn limited(directory: &Path, limits: Limits) -> Server {
    let mut config = config(directory);
    config.limits = limits;
    let server = Server::start_configured(config).await;
    server.client.bucket("bucket", true).await;
    server
}

async fn connect(client: &Client) -> TcpStream {
    TcpStream::connect(client.signed.endpoint()).await.unwrap()
}

/// Everything that comes until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(TIME_MAX, stream.read_to_end(&mut bytes)).await.expect("the site hangs up");
    // A reset is an end, too.
    read.unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn short() -> Limits {
    let moment = Duration::from_millis(300);
    Limits {
        head_time_max: moment,
        body_silence_max: moment,
        answer_silence_max: moment,
        ..Limits::default()
    }
}

#[tokio::test]
async fn slow_and_silent_clients_are_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = limited(directory.path(), short()).await;
    let client = &server.client;
    client.put("/bucket/large", vec![7; 24 << 20]).await.expect(200);

    // Nothing at all, half a head, a whole answered request and then nothing.
    for sent in ["", "GET /bucket HTTP/1.1\r\nhost: a\r\nx-slow: ", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = connect(client).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    // A body that stops: refused, and nothing of it is kept.
    let before = server.site.unattached_data().unwrap();
    let silent =
        futures_util::stream::once(async { Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"abc")) });
    let silent = http_body_util::StreamBody::new(futures_util::StreamExt::chain(
        futures_util::StreamExt::map(silent, |bytes| bytes.map(http_body::Frame::data)),
        futures_util::stream::pending(),
    ));
    let request = at(Method::PUT, "/bucket/silent").body(Body::stream(10, Box::pin(silent)));
    let answer = timeout(TIME_MAX, client.signed.fetch(request, TIME_MAX, 1 << 20)).await.unwrap();
    if let Ok(answer) = answer {
        assert!(answer.status().is_client_error(), "{}", answer.status());
    }
    client.get("/bucket/silent").await.refused(404, "NoSuchKey");
    assert_eq!(server.site.unattached_data().unwrap(), before);

    // An answer that nobody takes: the site hangs up, and the connection is free again.
    let request = client.signed.send(at(Method::GET, "/bucket/large"), TIME_MAX).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let taken =
        http_body_util::BodyExt::collect(http_body_util::Limited::new(request.into_body(), 32 << 20)).await;
    assert!(taken.is_err(), "the answer was not cut off");
    client.get("/bucket/large").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn credentials_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = limited(directory.path(), Limits::default()).await;
    let presigned = |credential: &str, date: &str| {
        format!(
            "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}&X-Amz-Expires=60\
             &X-Amz-SignedHeaders=host&X-Amz-Signature=00"
        )
    };
    let day = "accessKey1%2F20261120%2Fus-east-1%2Fs3%2Faws4_request";
    for target in [
        // Found by fuzzing: a day that is no number ended the connection.
        presigned("accessKey1%2F2026112.%2Fus-east-1%2Fs3%2Faws4_request", "20261120T000000Z"),
        presigned(day, "20261120T000000Z"),
        presigned(day, "2026112.T000000Z"),
        presigned("accessKey1", "20261120T000000Z"),
        presigned("", ""),
    ] {
        let mut stream = connect(&server.client).await;
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{target}: {answer}");
    }
    for authorization in [
        "AWS4-HMAC-SHA256 Credential=accessKey1/2026112./us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=accessKey1/20001120/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00",
        "AWS4-HMAC-SHA256",
        "AWS accessKey1:",
        "AWS :",
        "Basic YTpi",
        "",
    ] {
        for target in ["/bucket/key", "/_/backbeat/metadata/bucket/key", "/_/backbeat/batchdelete"] {
            let mut stream = connect(&server.client).await;
            let request = format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: {authorization}\r\nx-amz-date: 20001120T000000Z\r\n\
                 x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = rest(stream).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{target}, {authorization}: {answer}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn half_closed_and_broken_connections_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let server = limited(directory.path(), Limits::default()).await;
    for sent in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PUT /bucket/k HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc",
        b"PUT /bucket/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
        b"PUT /bucket/k HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\ncontent-length: 11\r\n\r\nabc",
        b"PUT /bucket/k HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"PUT /bucket/k HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
    ] {
        let mut stream = connect(&server.client).await;
        stream.write_all(sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        let status = answer.get(9..12).unwrap_or("none");
        assert!(matches!(status, "none" | "400" | "403" | "411" | "501" | "505"), "{answer}");
    }
    // Whoever has said everything and closes its side is answered all the same.
    let mut stream = connect(&server.client).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let listed = server.client.get("/bucket?list-type=2").await.expect(200);
    assert!(listed.elements("Key").is_empty());
    assert_eq!(server.site.unattached_data().unwrap(), 0);
    server.stop().await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { head_bytes_max: 16 << 10, ..Limits::default() };
    let server = limited(directory.path(), limits).await;
    let client = &server.client;
    let fits = at(Method::GET, "/bucket").header("x-filler", "x".repeat(8 << 10));
    client.send(fits).await.expect(200);
    for (lines, length) in [(1, 32 << 10), (200, 200), (1000, 10)] {
        let mut head = vec!["GET /bucket HTTP/1.1\r\nhost: a\r\n".to_owned()];
        head.extend((0..lines).map(|line| format!("x-{line}: {}\r\n", "y".repeat(length))));
        let head = head.concat();
        let mut stream = connect(client).await;
        // The site may hang up while this is written.
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap_or_default();
        let answer = rest(stream).await;
        let status = answer.get(9..12).unwrap_or("none");
        assert!(matches!(status, "none" | "431" | "400" | "403"), "{answer}");
    }
    let long = format!("/bucket/{}", "k".repeat(20 << 10));
    let mut stream = connect(client).await;
    stream.write_all(format!("GET {long} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap_or_default();
    let answer = rest(stream).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    client.get("/bucket").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn wrong_lengths_and_digests_store_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = limited(directory.path(), Limits::default()).await;
    let (client, service) = (&server.client, server.service());
    let hello = "XUFAKrxLKna5cZ2REBfFkg==";
    let put =
        |name: &str, value: &str| at(Method::PUT, "/bucket/k").header(name, value).body(Body::full("hello"));
    client.send(put("content-md5", hello)).await.expect(200);
    client.delete("/bucket/k").await.expect(204);
    for (name, value, code) in [
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"),
        ("content-md5", "not base64", "InvalidDigest"),
        ("content-md5", "5d41402abc4b2a76b9719d911017c592", "InvalidDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAA", ""),
        ("x-amz-decoded-content-length", "99", ""),
        ("x-amz-decoded-content-length", "many", ""),
    ] {
        let answer = client.send(put(name, value)).await.expect(400);
        if !code.is_empty() {
            assert_eq!(answer.element("Code"), code, "{name}: {value}");
        }
    }
    client.get("/bucket/k").await.refused(404, "NoSuchKey");
    let data = |md5: &str| {
        let request = at(Method::PUT, "/_/backbeat/data/bucket/k?v2");
        request.header("x-scal-canonical-id", "x").header("content-md5", md5).body(Body::full("hello"))
    };
    for md5 in ["", "5d41402abc4b2a76b9719d911017c59", hello, "5D41402ABC4B2A76B9719D911017C592"] {
        service.send(data(md5)).await.refused_json(400, "BadDigest");
    }
    assert_eq!(server.site.unattached_data().unwrap(), 0);
    server.stop().await;
}

#[tokio::test]
async fn keys_are_names_and_never_paths() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let server = limited(&data_dir, Limits::default()).await;
    let client = &server.client;
    let keys = [
        "..",
        "../..",
        "../../etc/passwd",
        "a/../b",
        "/",
        "//",
        "a//b",
        "a/",
        ".",
        "./a",
        "%2e%2e/%2e%2e",
        "a b+c",
        "%00",
        "C:\\windows",
        "~",
        "é/长",
        "a?b#c",
        "_",
        "_/backbeat/metadata/bucket/x",
        "-rf",
        "\u{202e}txt",
    ];
    for key in keys {
        let path = format!("/bucket/{key}");
        let request = Request::new(Method::PUT, path.clone()).body(Body::full(format!("of {key}")));
        client.send(request).await.expect(200);
    }
    for key in keys {
        let request = Request::new(Method::GET, format!("/bucket/{key}"));
        assert_eq!(client.send(request).await.expect(200).text(), format!("of {key}"));
    }
    let listed = client.get("/bucket?list-type=2&encoding-type=url").await.expect(200).elements("Key");
    assert_eq!(listed.len(), keys.len());
    // Escapes that the client sends as they are, unsigned: no route is reached by a detour.
    for target in
        ["/bucket/..%2f..%2fx", "/%2e%2e/", "/bucket/%00", "/bucket/%zz", "/bucket/%c3%28", "/_/../bucket/k"]
    {
        let mut stream = connect(client).await;
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{target}: {answer}");
    }
    for key in ["k".repeat(1025), "\u{0}".to_owned(), "a\nb".to_owned()] {
        let answer =
            client.send(Request::new(Method::PUT, format!("/bucket/{key}")).body(Body::full("x"))).await;
        assert!(answer.status.is_client_error(), "{key:?}: {}", answer.status);
    }
    client.put(&format!("/bucket/{}", "k".repeat(1024)), "x").await.expect(200);
    for bucket in ["..", "a", "UPPER", "a_b", "192.168.0.1", "_", "-a", "a..b", &"b".repeat(64)] {
        let answer = client.put(&format!("/{bucket}"), "").await;
        assert!(!answer.status.is_success(), "{bucket}: {}", answer.status);
    }
    let outside: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
    server.stop().await;
}

#[tokio::test]
async fn more_connections_than_are_allowed_wait_for_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { connections_max: 64, ..short() };
    let server = limited(directory.path(), limits).await;
    let client = &server.client;
    // Far more than are allowed, and all of them silent.
    let mut idle = Vec::new();
    for _ in 0..1500 {
        match timeout(Duration::from_secs(2), TcpStream::connect(client.signed.endpoint())).await {
            Ok(Ok(stream)) => idle.push(stream),
            // The system's queue is full: they would wait there.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    assert!(idle.len() > 64, "{}", idle.len());
    let answered = timeout(TIME_MAX, client.get("/bucket")).await.expect("a turn comes");
    answered.expect(200);
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn quota_and_journal_refuse_what_adds_and_let_the_rest_through() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { data_bytes_max: Some(1000), ..Limits::default() };
    let server = limited(directory.path(), limits).await;
    let (client, service) = (&server.client, server.service());
    client.replicate("bucket").await.expect(200);
    let version = client.put("/bucket/a", vec![1; 900]).await.expect(200).version();
    client.put("/bucket/b", vec![2; 101]).await.refused(403, "QuotaExceeded");
    let data = at(Method::PUT, "/_/backbeat/data/bucket/k?v2").header("x-scal-canonical-id", "x");
    let data = data.header("content-md5", "00").body(Body::full(vec![3; 101]));
    service.send(data).await.refused_json(503, "ServiceUnavailable");
    // Reading, status writes and deletions go on, and what they free can be used.
    let md = client.metadata(&format!("/bucket/a?versionId={version}")).await;
    let path = format!("/_/backbeat/metadata/bucket/a?versionId={version}");
    service.put(&path, md.to_string()).await.expect(200);
    client.get("/bucket/a").await.expect(200);
    client.delete(&format!("/bucket/a?versionId={version}")).await.expect(204);
    client.put("/bucket/b", vec![2; 101]).await.expect(200);
    server.stop().await;

    // It counts what is there when it opens.
    let limits = Limits { data_bytes_max: Some(150), ..Limits::default() };
    let mut config = config(directory.path());
    config.limits = limits;
    let server = Server::start_configured(config.clone()).await;
    server.client.put("/bucket/c", vec![2; 60]).await.refused(403, "QuotaExceeded");
    server.stop().await;

    config.limits = Limits::default();
    let server = Server::start_configured(config.clone()).await;
    let records = server.site.journal().length().unwrap();
    server.stop().await;
    config.limits.journal_records_max = Some(records + 2);
    let server = Server::start_configured(config).await;
    server.client.put("/bucket/c", "c").await.expect(200);
    server.client.put("/bucket/d", "d").await.refused(503, "SlowDown");
    server.client.delete("/bucket/c").await.expect(204);
    let end = server.site.journal().end().unwrap();
    server.site.journal().prune(end, u64::MAX).await.unwrap();
    server.client.put("/bucket/d", "d").await.expect(200);
    server.stop().await;
}
