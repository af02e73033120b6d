//! The embedded sites of the stack, and the clients that the machines reach them with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use backbeat_backends::credentials::Credentials;
use backbeat_backends::credentials::account::StaticCredentials;
use backbeat_backends::embedded::StoreOptions;
use backbeat_backends::http::{Credentials as Keys, SignedClient, passage};
use backbeat_backends::objects::TimeLimits;
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_backends::site::raft_log::serve_raft_log;
use backbeat_backends::site::{self, Account, Limits, ReplicationEndpoint, Site, SiteConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::directory::Layout;

/// The canonical id of the account that owns everything at every site.
pub(super) const OWNER_ID: &str = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";
/// The display name of that account.
pub(super) const OWNER_NAME: &str = "backbeat-dev";

/// Bytes of database pages that each site keeps in memory.
const SITE_CACHE_BYTES: usize = 4 << 20;

/// What the machines reach a site with.
pub type Client = CloudServer<StaticCredentials>;

/// A site that is open.
pub(super) struct RunningSite(Arc<Site>);

impl RunningSite {
    /// The source, which may replicate to `targets`; the first is the default.
    /// Its route to the API leads to `api`.
    pub(super) async fn source(
        layout: &Layout,
        targets: &[String],
        api: Option<SocketAddr>,
        limits: Limits,
    ) -> Result<Self> {
        let endpoints = targets.iter().enumerate().map(|(index, name)| ReplicationEndpoint {
            site: name.clone(),
            cloud_type: None,
            is_default: index == 0,
        });
        let mut config = config("source", &layout.source(), 0, endpoints.collect());
        config.api = api.map(|api| api.to_string());
        config.limits = limits;
        Self::open(config).await
    }

    /// The target `name`, the `index`th. Every site has a group id of its own in its version ids.
    pub(super) async fn target(layout: &Layout, name: &str, index: usize, limits: Limits) -> Result<Self> {
        let mut config = config(name, &layout.target(name), index + 1, Vec::new());
        // Nobody reads the journal of a target.
        config.limits = Limits { journal_records_max: None, ..limits };
        Self::open(config).await
    }

    /// The site itself.
    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.0)
    }

    async fn open(config: SiteConfig) -> Result<Self> {
        let options = StoreOptions { cache_bytes: SITE_CACHE_BYTES, ..StoreOptions::default() };
        Ok(Self(Site::open_with(config, options).await?))
    }

    pub(super) fn journal(&self) -> site::Journal {
        self.0.journal().clone()
    }

    /// Serves the journal of the site, in the form of bucketd's raft log, until told to stop.
    pub(super) fn serve_journal(
        &self,
        listener: TcpListener,
        mut stopped: watch::Receiver<bool>,
        servers: &mut JoinSet<Result<()>>,
    ) {
        let journal = self.journal();
        servers.spawn(async move {
            let stop = async move {
                stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
            };
            serve_raft_log(journal, listener, stop).await.context("the journal's port ended")
        });
    }

    /// Serves the site until told to stop, and says how the machines reach it.
    pub(super) fn serve(
        &self,
        listener: TcpListener,
        address: SocketAddr,
        mut stopped: watch::Receiver<bool>,
        servers: &mut JoinSet<Result<()>>,
    ) -> Reach {
        let site = Arc::clone(&self.0);
        let (passage, door) = passage();
        servers.spawn(async move {
            let ended = format!("the site {} ended", site.config().name);
            let stop = async move {
                // A sender that is gone means stop, too.
                stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
            };
            site::serve(site, (listener, door), stop).await.context(ended)
        });
        let keys = Keys::new(ACCESS_KEY, SECRET_KEY);
        Reach(SignedClient::in_process(passage, address.to_string(), keys, REGION))
    }
}

fn config(name: &str, data_dir: &Path, index: usize, endpoints: Vec<ReplicationEndpoint>) -> SiteConfig {
    SiteConfig {
        name: name.to_owned(),
        data_dir: data_dir.to_owned(),
        accounts: vec![Account {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            canonical_id: OWNER_ID.to_owned(),
            display_name: OWNER_NAME.to_owned(),
        }],
        replication_endpoints: endpoints,
        replication_group: format!("RG{:03}", index + 1),
        data_store_name: REGION.to_owned(),
        locations: Vec::new(),
        api: None,
        limits: Limits::default(),
    }
}

/// The way of the machines to a site: within the process, the requests are those that would go over the network. All clients
/// share their connections, and none of them keeps the site open.
#[derive(Clone)]
pub(super) struct Reach(SignedClient);

impl Reach {
    /// A client for the machines.
    pub(super) fn client(&self) -> Client {
        let credentials = Arc::new(StaticCredentials::new(Credentials::lasting(ACCESS_KEY, SECRET_KEY)));
        CloudServer::over(vec![self.0.clone()], credentials, TimeLimits::default())
    }

    /// A client for single requests.
    pub(super) fn signed(&self) -> SignedClient {
        self.0.clone()
    }
}
