//! The suite against an embedded site, over loopback and within the process, and what happens when servers do not answer.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;

use super::*;
use crate::conformance::{applied, refused};
use crate::credentials::account::StaticCredentials;
use crate::credentials::{Credentials, CredentialsError};
use crate::http::passage;
use crate::objects::conformance::{ObjectsHarness, md5_hex};
use crate::objects::tests::{OWNER, Served, keys, limits};
use crate::objects::{BodyError, Versioning};

fn adapter(endpoints: &[String]) -> CloudServer<StaticCredentials> {
    CloudServer::new(endpoints, "us-east-1", Arc::new(StaticCredentials::new(keys())), limits())
}

impl ObjectsHarness for Served {
    type Site = CloudServer<StaticCredentials>;

    fn site(&self) -> &CloudServer<StaticCredentials> {
        &self.adapter
    }

    async fn create_bucket(&self, bucket: &str, versioning: Versioning) {
        Served::create_bucket(self, bucket, versioning).await;
    }

    async fn set_rules(&self, bucket: &str, rules: BucketRules) {
        let rule = |(number, prefix): (usize, &String)| {
            let prefix = prefix.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            format!(
                "<Rule><ID>rule-{number}</ID><Prefix>{prefix}</Prefix><Status>Enabled</Status>\
                 <Destination><Bucket>arn:aws:s3:::replicas</Bucket><StorageClass>target</StorageClass>\
                 </Destination></Rule>"
            )
        };
        let listed: String = rules.prefixes.iter().enumerate().map(rule).collect();
        let role = rules.roles.join(",");
        let document =
            format!("<ReplicationConfiguration><Role>{role}</Role>{listed}</ReplicationConfiguration>");
        self.put(&format!("/{bucket}"), Some("replication"), document).await;
    }
}

crate::objects_conformance!(served_embedded_site, Served::over_network().await);
crate::objects_conformance!(embedded_site_in_process, Served::in_process().await);

#[tokio::test]
async fn a_site_that_has_stopped_is_not_reached_and_its_store_is_closed() {
    for served in [Served::over_network().await, Served::in_process().await] {
        served.create_bucket("bucket", Versioning::Enabled).await;
        let Served { adapter, client, stop, serving, closed, _directory } = served;
        // A connection is open and idle: it does not hold the site up.
        stop.send(()).expect("the site is served");
        serving.await.expect("serving does not panic").expect("serving ends well");
        let request = Request::new(Method::GET, "/bucket");
        let error =
            client.fetch(request, Duration::from_secs(10), 1 << 20).await.expect_err("nobody answers");
        assert!(error.is_definite(), "{error}");
        assert_eq!(refused(adapter.read_metadata(&object()).await), RefusalKind::Unavailable);
        tokio::time::timeout(Duration::from_mins(1), closed.wait()).await.expect("nothing holds the store");
    }
}

#[tokio::test]
async fn a_site_that_stops_before_it_answers_leaves_the_ending_unknown() {
    let (passage, door) = passage();
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    door.open(Arc::new(move |_| {
        asked.send(()).expect("somebody listens");
        Box::pin(std::future::pending())
    }));
    let client = SignedClient::in_process(passage, "site:80", (&keys()).into(), "us-east-1");
    let adapter = CloudServer::over(vec![client], Arc::new(StaticCredentials::new(keys())), limits());
    let gone = async {
        was_asked.recv().await.expect("something is asked");
        drop(door);
    };
    let object = object();
    let (ending, ()) = tokio::join!(adapter.read_metadata(&object), gone);
    assert_eq!(ending, Ending::Unknown);
}

#[tokio::test]
async fn an_answer_says_how_the_data_is_encrypted() {
    const KMS: &[(&str, &str)] = &[
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key-1"),
    ];
    for headers in [KMS, &[]] {
        let (passage, door) = passage();
        door.open(Arc::new(move |request| {
            Box::pin(async move {
                request.into_body().collect().await.expect("a whole body");
                let mut answer = Response::builder();
                for (name, value) in headers {
                    answer = answer.header(*name, *value);
                }
                let body = Full::new(Bytes::from_static(br#"[{"key":"k1","dataStoreName":"here"}]"#));
                answer.body(body.map_err(|never| match never {}).boxed_unsync()).expect("a valid answer")
            })
        }));
        let client = SignedClient::in_process(passage, "site:80", (&keys()).into(), "us-east-1");
        let adapter = CloudServer::over(vec![client], Arc::new(StaticCredentials::new(keys())), limits());
        let write = DataWrite {
            bucket: "bucket".into(),
            key: "key".into(),
            owner: OWNER.to_owned(),
            size: 5,
            md5: md5_hex(b"hello"),
            time_max: Duration::from_secs(10),
        };
        let moved = applied(adapter.write_data(write, ByteStream::full(&b"hello"[..])).await);
        let kms = Encryption {
            algorithm: "aws:kms".to_owned(),
            kms_key_id: "key-1".to_owned(),
            customer_algorithm: String::new(),
        };
        assert_eq!(moved.encryption.map(|it| *it), (!headers.is_empty()).then_some(kms));
    }
}

/// A server that takes connections and says `answer`, or nothing.
async fn mute(answer: Option<&'static str>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let endpoint = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4_096];
                // Whatever was asked.
                drop(stream.read(&mut head).await);
                match answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => std::future::pending().await,
                }
            });
        }
    });
    endpoint
}

fn object() -> ObjectRef {
    ObjectRef::new("bucket", "key", VersionRef::Null)
}

/// Without a body nobody knows why: expired keys look like that.
#[tokio::test]
async fn a_head_that_is_answered_with_400_says_nothing_about_the_version() {
    let endpoint =
        mute(Some("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
    let ending = adapter(&[endpoint]).current_version(&"bucket".into(), &"key".into()).await;
    assert_eq!(refused(ending), RefusalKind::ExpiredCredentials);
}

async fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn without_a_connection_nothing_was_done() {
    let site = adapter(&[free_port().await]);
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::Unavailable);
}

#[tokio::test]
async fn a_silent_server_leaves_the_ending_unknown() {
    let limits = TimeLimits { call: Duration::from_millis(100), chunk: Duration::from_millis(100) };
    let credentials = Arc::new(StaticCredentials::new(keys()));
    let site = CloudServer::new(&[mute(None).await], "us-east-1", credentials, limits);
    assert_eq!(site.read_metadata(&object()).await, Ending::Unknown);
    assert!(matches!(site.read_part(&object(), PartRange::Part(1)).await, Ending::Unknown));
    let write = DataWrite {
        bucket: Bucket::from("bucket"),
        key: ObjectKey::from("key"),
        size: 1,
        md5: md5_hex(b"x"),
        owner: OWNER.to_owned(),
        time_max: Duration::from_millis(100),
    };
    assert_eq!(site.write_data(write, ByteStream::full("x")).await, Ending::Unknown);
}

#[tokio::test]
async fn bytes_that_stop_coming_end_the_stream() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    let site = adapter(&[mute(Some(answer)).await]);
    let stream = applied(site.read_part(&object(), PartRange::Part(1)).await);
    assert!(matches!(stream.collect(100).await, Err(BodyError::Broken(_))));
}

#[tokio::test]
async fn an_answer_that_is_no_metadata_is_invalid() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"Body\":\"{\"}";
    let site = adapter(&[mute(Some(answer)).await]);
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::Invalid);
}

#[tokio::test]
async fn the_next_server_is_asked_after_a_failure() {
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{\"code\":\"ObjNotFound\"}";
    let site = adapter(&[free_port().await, mute(Some(answer)).await]);
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::Unavailable);
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::NotFound);
}

/// Gives other keys after each rejection.
struct Renewing(AtomicUsize);

impl CredentialSource for Renewing {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        Ok(Credentials::lasting(format!("key-{}", self.0.load(Ordering::Relaxed)), "secret"))
    }

    async fn reject(&self, _rejected: &Credentials) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn expired_credentials_are_rejected_at_their_source() {
    let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 23\r\n\r\n{\"code\":\"ExpiredToken\"}";
    let source = Arc::new(Renewing(AtomicUsize::new(0)));
    let site = CloudServer::new(
        &[mute(Some(answer)).await],
        "us-east-1",
        Arc::clone(&source),
        TimeLimits::default(),
    );
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::ExpiredCredentials);
    assert_eq!(source.0.load(Ordering::Relaxed), 1);
}

/// What a site refuses to one key it may grant to another: each is shown once.
#[tokio::test]
async fn a_refusal_is_answered_by_other_credentials_once() {
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 29\r\n\r\n{\"code\":\"InvalidAccessKeyId\"}";
    let source = Arc::new(Renewing(AtomicUsize::new(0)));
    let servers = [mute(Some(answer)).await];
    let site = CloudServer::new(&servers, "us-east-1", Arc::clone(&source), TimeLimits::default());
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::ExpiredCredentials);
    assert_eq!(refused(site.read_metadata(&object()).await), RefusalKind::Denied);
    assert_eq!(source.0.load(Ordering::Relaxed), 1, "not asked again and again");
    // Keys that stay what they are were what they should be.
    assert_eq!(refused(adapter(&servers).read_metadata(&object()).await), RefusalKind::Denied);
}
