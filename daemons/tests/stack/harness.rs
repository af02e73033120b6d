//! A stack in a directory of its own, and a client of its sites.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use backbeat::config::Config;
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY, Stack, StackConfig, Target};
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::Value;

/// How long anything may take.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Answers are small, but for objects.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Starts a stack in `dir` with two targets, `paris` and `tokyo`, on free ports.
pub(crate) async fn start(dir: &Path) -> Stack {
    let target = |name: &str| Target { name: Some(name.to_owned()), port: 0 };
    let config = StackConfig {
        data_dir: dir.to_owned(),
        source_port: 0,
        targets: vec![target("paris"), target("tokyo")],
        api_port: 0,
        journal_port: Some(0),
        config: Config::load(None, []).expect("the defaults are valid"),
    };
    Stack::start(config).await.expect("the stack starts")
}

/// A client of one server.
pub(crate) struct Server(SignedClient);

impl Server {
    pub(crate) fn at(address: SocketAddr) -> Self {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY);
        Self(SignedClient::new(address.to_string(), credentials, REGION))
    }

    pub(crate) async fn send(&self, request: Request) -> Response<Bytes> {
        self.0.fetch(request, TIME_MAX, ANSWER_BYTES_MAX).await.expect("the server answers")
    }

    pub(crate) async fn ok(&self, request: Request) -> Response<Bytes> {
        let answer = self.send(request).await;
        assert!(answer.status().is_success(), "{} {:?}", answer.status(), answer.body());
        answer
    }

    pub(crate) async fn json(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut request = Request::new(Method::GET, path).unsigned();
        for (name, value) in query {
            request = request.query(*name, *value);
        }
        let answer = self.send(request).await;
        serde_json::from_slice(answer.body()).expect("the API answers in JSON")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::new(Method::POST, path).unsigned().body(Body::full(body.to_string()));
        let answer = self.send(request).await;
        (answer.status(), serde_json::from_slice(answer.body()).expect("the API answers in JSON"))
    }

    pub(crate) async fn make_bucket(&self, bucket: &str) {
        self.ok(Request::new(Method::PUT, format!("/{bucket}"))).await;
        self.enable_versioning(bucket).await;
    }

    pub(crate) async fn enable_versioning(&self, bucket: &str) {
        let body = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
        let path = format!("/{bucket}");
        self.ok(Request::new(Method::PUT, path).query("versioning", "").body(Body::full(body))).await;
    }

    pub(crate) async fn replicate(&self, bucket: &str, to: &str, sites: &str) {
        let body = format!(
            "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Role>arn:aws:iam::000000000000:role/backbeat</Role><Rule><ID>r</ID><Status>Enabled</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::{to}</Bucket><StorageClass>{sites}</StorageClass></Destination></Rule></ReplicationConfiguration>"
        );
        let path = format!("/{bucket}");
        self.ok(Request::new(Method::PUT, path).query("replication", "").body(Body::full(body))).await;
    }

    /// Writes an object, and gives its version id.
    pub(crate) async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> String {
        let request = Request::new(Method::PUT, format!("/{bucket}/{key}")).body(Body::full(bytes));
        let answer = self.ok(request).await;
        let version = answer.headers().get("x-amz-version-id").expect("the bucket keeps versions");
        version.to_str().expect("ids are ASCII").to_owned()
    }

    pub(crate) async fn get(&self, bucket: &str, key: &str, version: &str) -> Response<Bytes> {
        self.send(Request::new(Method::GET, format!("/{bucket}/{key}")).query("versionId", version)).await
    }

    pub(crate) async fn status_of(&self, bucket: &str, key: &str, version: &str) -> String {
        let request = Request::new(Method::HEAD, format!("/{bucket}/{key}")).query("versionId", version);
        let answer = self.ok(request).await;
        let status = answer.headers().get("x-amz-replication-status");
        status.map(|status| status.to_str().expect("a word").to_owned()).unwrap_or_default()
    }

    /// Waits until a version has this status.
    pub(crate) async fn settle(&self, bucket: &str, key: &str, version: &str, wanted: &str) {
        let settled = async {
            while self.status_of(bucket, key, version).await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = tokio::time::timeout(TIME_MAX, settled).await;
        let status = self.status_of(bucket, key, version).await;
        assert!(settled.is_ok(), "{key} is {status}, not {wanted}");
    }
}
