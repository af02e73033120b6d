//! A served site on a free port, and clients of it.

use backbeat_backends::embedded::StoreOptions;
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use backbeat_backends::site::{Account, Limits, ReplicationEndpoint, Site, SiteConfig, serve};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const BART: &str = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";
pub(crate) const ROLES: &str = "arn:aws:iam::123456789012:role/bb-src,arn:aws:iam::123456789012:role/bb-dst";
const TIME_MAX: Duration = Duration::from_secs(20);
const ANSWER_MAX: usize = 32 << 20;
/// After the last answer, how long letting go of everything may take.
const CLOSING_TIME_MAX: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub(crate) fn account(access_key: &str, secret_key: &str, canonical_id: &str, name: &str) -> Account {
    Account {
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        canonical_id: canonical_id.into(),
        display_name: name.into(),
    }
}

pub(crate) fn config(data_dir: &Path) -> SiteConfig {
    let lisa = format!("{}f", &BART[..BART.len() - 1]);
    let service = |name: &str| format!("http://acs.zenko.io/accounts/service/{name}");
    SiteConfig {
        name: "source".into(),
        data_dir: data_dir.into(),
        accounts: vec![
            account("accessKey1", "verySecretKey1", BART, "Bart"),
            account("accessKey2", "verySecretKey2", &lisa, "Lisa"),
            account("replicationKey1", "replicationSecretKey1", &service("replication"), "Replication"),
            account("lifecycleKey1", "lifecycleSecretKey1", &service("lifecycle"), "Lifecycle"),
        ],
        replication_endpoints: vec![ReplicationEndpoint {
            site: "sf".into(),
            cloud_type: None,
            is_default: true,
        }],
        replication_group: "RG001".into(),
        data_store_name: "us-east-1".into(),
        locations: Vec::new(),
        api: None,
        limits: Limits::default(),
    }
}

impl Server {
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, StoreOptions::default()).await
    }

    pub(crate) async fn start_with(data_dir: &Path, options: StoreOptions) -> Self {
        Self::start_as(config(data_dir), options).await
    }

    pub(crate) async fn start_configured(config: SiteConfig) -> Self {
        Self::start_as(config, StoreOptions::default()).await
    }

    async fn start_as(config: SiteConfig, options: StoreOptions) -> Self {
        let site = Site::open_with(config, options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(Arc::clone(&site), listener, async {
            stopped.await.ok();
        });
        let task = tokio::spawn(async move { serving.await.unwrap() });
        let keys = Credentials::new("accessKey1", "verySecretKey1");
        let client = Client { signed: SignedClient::new(endpoint, keys, "us-east-1") };
        Self { site, client, stop, task }
    }

    /// Stops serving and closes the site. What a test still holds of it keeps it open, and the test fails.
    pub(crate) async fn stop(self) {
        let Self { site, stop, task, .. } = self;
        stop.send(()).unwrap();
        task.await.unwrap();
        let closed = site.closed();
        drop(site);
        tokio::time::timeout(CLOSING_TIME_MAX, closed.wait()).await.expect("nothing holds the site");
    }

    pub(crate) fn service(&self) -> Client {
        self.client.with("replicationKey1", "replicationSecretKey1")
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) signed: SignedClient,
}

/// An answer with its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    response: Response<Bytes>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| std::str::from_utf8(value.as_bytes()).unwrap())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.response.body()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }

    /// The text of every element of that name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let parts = self.text().split(&open).skip(1);
        parts.map(|part| part.split(&close).next().unwrap().to_owned()).collect()
    }

    pub(crate) fn element(&self, name: &str) -> String {
        self.elements(name).into_iter().next().unwrap_or_else(|| panic!("no <{name}> in {}", self.text()))
    }

    pub(crate) fn version(&self) -> String {
        self.header("x-amz-version-id").unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(self.bytes()));
        self
    }

    /// An S3 error with its code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.element("Code"), code);
        answer
    }

    /// An error of the internal routes with its code.
    #[track_caller]
    pub(crate) fn refused_json(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["code"], code);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer
    }
}

impl Client {
    pub(crate) fn with(&self, access_key: &str, secret_key: &str) -> Self {
        Self { signed: self.signed.with_credentials(Credentials::new(access_key, secret_key)) }
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        let response = self.signed.fetch(request, TIME_MAX, ANSWER_MAX).await.unwrap();
        Answer { status: response.status(), response }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(at(Method::GET, path)).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(at(Method::HEAD, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(at(Method::DELETE, path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(at(Method::PUT, path).body(Body::full(body))).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(at(Method::POST, path).body(Body::full(body))).await
    }

    /// A new bucket; with versions if asked.
    pub(crate) async fn bucket(&self, name: &str, is_versioned: bool) {
        self.put(&format!("/{name}"), "").await.expect(200);
        if is_versioned {
            self.versioning(name, "Enabled").await.expect(200);
        }
    }

    pub(crate) async fn versioning(&self, name: &str, status: &str) -> Answer {
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        self.put(&format!("/{name}?versioning"), body).await
    }

    pub(crate) async fn replicate(&self, name: &str) -> Answer {
        self.put(&format!("/{name}?replication"), replication_xml(ROLES, "sf")).await
    }

    /// The stored metadata of a version.
    pub(crate) async fn metadata(&self, path: &str) -> serde_json::Value {
        let answer = self.get(&format!("/_/backbeat/metadata{path}")).await.expect(200);
        serde_json::from_str(answer.json()["Body"].as_str().unwrap()).unwrap()
    }
}

pub(crate) fn replication_xml(roles: &str, sites: &str) -> String {
    format!(
        "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Role>{roles}</Role><Rule>\
         <ID>r1</ID><Status>Enabled</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::dst-bucket</Bucket>\
         <StorageClass>{sites}</StorageClass></Destination></Rule></ReplicationConfiguration>"
    )
}

/// A request to a path with a query; names and values are plain text.
pub(crate) fn at(method: Method, path: &str) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    query.split('&').filter(|part| !part.is_empty()).fold(Request::new(method, path), |request, part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        request.query(name, value)
    })
}
