//! What the tests of several adapters share: an embedded site, over loopback or within the process.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::cloudserver::CloudServer;
use super::{TimeLimits, Versioning};
use crate::credentials::Credentials;
use crate::credentials::account::StaticCredentials;
use crate::embedded::Closed;
use crate::http::{Body, Request, SignedClient, passage};
use crate::site::{Account, Entrances, Limits, ReplicationEndpoint, Site, SiteConfig, serve};

pub(super) const OWNER: &str = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";

pub(super) fn keys() -> Credentials {
    Credentials::lasting("accessKey1", "verySecretKey1")
}

pub(super) fn limits() -> TimeLimits {
    TimeLimits { call: Duration::from_secs(10), chunk: Duration::from_secs(5) }
}

/// A site that is reached over the network, or within the process.
pub(super) struct Served {
    pub(super) adapter: CloudServer<StaticCredentials>,
    pub(super) client: SignedClient,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) serving: JoinHandle<std::io::Result<()>>,
    pub(super) closed: Closed,
    pub(super) _directory: TempDir,
}

impl Served {
    pub(super) async fn over_network() -> Self {
        Self::start(|listener, endpoint| {
            (SignedClient::new(endpoint, (&keys()).into(), "us-east-1"), listener.into())
        })
        .await
    }

    pub(super) async fn in_process() -> Self {
        let (passage, door) = passage();
        Self::start(|listener, endpoint| {
            let client = SignedClient::in_process(passage, endpoint, (&keys()).into(), "us-east-1");
            (client, (listener, door).into())
        })
        .await
    }

    async fn start(open: impl FnOnce(TcpListener, String) -> (SignedClient, Entrances)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let account = Account {
            access_key: keys().access_key,
            secret_key: keys().secret_key.expose().to_owned(),
            canonical_id: OWNER.to_owned(),
            display_name: "owner".to_owned(),
        };
        let endpoint = ReplicationEndpoint { site: "target".to_owned(), cloud_type: None, is_default: true };
        let site = Site::open(SiteConfig {
            name: "source".to_owned(),
            data_dir: directory.path().to_owned(),
            accounts: vec![account],
            replication_endpoints: vec![endpoint],
            replication_group: "RG001".to_owned(),
            data_store_name: "us-east-1".to_owned(),
            locations: Vec::new(),
            api: None,
            limits: Limits::default(),
        });
        let site = site.await.expect("the site opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let endpoint = listener.local_addr().expect("an address").to_string();
        let (client, entrances) = open(listener, endpoint);
        let (stop, stopped) = oneshot::channel();
        let closed = site.closed();
        let serving = tokio::spawn(serve(site, entrances, async { drop(stopped.await) }));
        let credentials = Arc::new(StaticCredentials::new(keys()));
        let adapter = CloudServer::over(vec![client.clone()], credentials, limits());
        Self { adapter, client, stop, serving, closed, _directory: directory }
    }

    pub(super) async fn put(&self, path: &str, query: Option<&str>, body: String) {
        let request = Request::new(Method::PUT, path).body(Body::full(body));
        let request = query.into_iter().fold(request, |request, name| request.query(name, ""));
        let answer = self.client.fetch(request, Duration::from_secs(10), 1 << 20).await.expect("an answer");
        assert!(answer.status().is_success(), "{path} {query:?}: {:?}", answer.body());
    }

    /// Makes a bucket as a client would.
    pub(super) async fn create_bucket(&self, bucket: &str, versioning: Versioning) {
        let path = format!("/{bucket}");
        self.put(&path, None, String::new()).await;
        let states: &[&str] = match versioning {
            Versioning::Never => &[],
            Versioning::Enabled => &["Enabled"],
            Versioning::Suspended => &["Enabled", "Suspended"],
        };
        for state in states {
            let document =
                format!("<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>");
            self.put(&path, Some("versioning"), document).await;
        }
    }
}
