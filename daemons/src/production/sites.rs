//! The clients of the sites that are configured.

use std::sync::Arc;

use backbeat_backends::http::{Credentials, SignedClient, Transport};
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_backends::objects::s3::{S3Settings, S3Site, ServerSideEncryption};
use backbeat_backends::objects::{MintingPair, SitePair, TimeLimits};
use backbeat_core::request::minting::TargetKind;
use backbeat_core::request::{SiteReply, SiteRequest};

use super::login::{Login, SiteCredentials, login};
use super::services::Services;
use super::{StartError, secrets};
use crate::config::{self, BootstrapSite, Config, Destination, Encryption, S3_SITE, Source};
use crate::driver::Sites;

/// The region that requests are signed for where none is configured: CloudServer does not compare it.
pub(super) const REGION: &str = "us-east-1";

/// The key of the certificates towards the source and what belongs to it (replication reference 8.4).
pub(crate) const SOURCE_CERTIFICATES: &str = "internalCertFilePaths";

/// The key of the certificates towards the destinations.
pub(crate) const CERTIFICATES: &str = "certFilePaths";

/// How daemons reach a site.
pub(crate) type Client = CloudServer<SiteCredentials>;

/// The source.
pub(crate) struct SourceSite {
    endpoint: String,
    transport: Transport,
    login: Login,
}

impl SourceSite {
    /// The source as configured.
    pub(crate) async fn configured(config: &Config) -> Result<Self, StartError> {
        const KEY: &str = "extensions.replication.source";
        let source: Source = config.section(KEY)?;
        let transport = secrets::transport(config, source.transport, SOURCE_CERTIFICATES)?;
        let login = login(config, &format!("{KEY}.auth"), &source.auth).await?;
        Ok(Self { endpoint: source.s3.endpoint(), transport, login })
    }

    /// Where it is, `host:port`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        client(&self.transport, std::slice::from_ref(&self.endpoint), &self.login)
    }

    /// For machines that work with the source alone.
    pub(super) fn alone(&self) -> Arc<SitePair<Client, Client>> {
        Arc::new(SitePair::new(self.client(), self.client()))
    }
}

/// Where copies go.
pub(super) struct Destinations {
    /// Who writes there.
    pub(super) login: Login,
    configured: config::Transport,
    transport: Transport,
}

/// The source and one destination.
pub(super) enum Pair {
    /// It keeps version ids: CloudServer and its like.
    Keeping(SitePair<Client, Client>),
    /// It mints version ids: plain S3.
    Minting(Box<MintingPair<Client, SiteCredentials>>),
}

impl Sites for Pair {
    async fn call(&self, request: SiteRequest) -> SiteReply {
        match self {
            Self::Keeping(pair) => pair.call(request).await,
            Self::Minting(pair) => pair.call(request).await,
        }
    }
}

impl Destinations {
    /// The key of their section.
    pub(super) const KEY: &str = "extensions.replication.destination";

    /// The destinations as configured.
    pub(super) async fn configured(services: &Services) -> Result<Self, StartError> {
        let destination: Destination = services.config.section(Self::KEY)?;
        Ok(Self {
            configured: destination.transport,
            transport: secrets::transport(&services.config, destination.transport, CERTIFICATES)?,
            login: login(&services.config, &format!("{}.auth", Self::KEY), &destination.auth).await?,
        })
    }

    /// One of them beside the source.
    pub(super) async fn pair(
        &self,
        config: &Config,
        source: &SourceSite,
        site: &BootstrapSite,
    ) -> Result<Pair, StartError> {
        if target_kind(site).keeps_versions() {
            let endpoints = site.endpoints(self.configured.port_default());
            return Ok(Pair::Keeping(SitePair::new(
                source.client(),
                client(&self.transport, &endpoints, &self.login),
            )));
        }
        let options = &site.s3;
        let (configured, transport) = match options.transport {
            Some(configured) => (configured, secrets::transport(config, configured, CERTIFICATES)?),
            None => (self.configured, self.transport.clone()),
        };
        let login = match &options.auth {
            Some(auth) => {
                login(config, &format!("{}.bootstrapList: {}: auth", Self::KEY, site.site), auth).await?
            }
            None => self.login.clone(),
        };
        let region = options.region.as_deref().unwrap_or(REGION);
        let servers = clients(&transport, &site.endpoints(configured.port_default()), region);
        let encryption = options.server_side_encryption.clone();
        let settings = S3Settings {
            storage_class: options.storage_class.clone(),
            encryption: encryption
                .map(|Encryption { algorithm, kms_key_id }| ServerSideEncryption { algorithm, kms_key_id }),
        };
        let target = S3Site::over(servers, Arc::clone(&login.credentials), TimeLimits::default(), settings);
        Ok(Pair::Minting(Box::new(MintingPair::new(source.client(), target))))
    }
}

/// What kind of target a site is.
pub(super) fn target_kind(site: &BootstrapSite) -> TargetKind {
    match site.kind.as_deref() {
        Some(S3_SITE) => TargetKind::MintsVersions { conditional: site.s3.conditional_writes },
        Some(_) | None => TargetKind::KeepsVersions,
    }
}

/// Clients that sign with whatever the adapters' credentials are at the time.
fn clients(transport: &Transport, endpoints: &[String], region: &str) -> Vec<SignedClient> {
    let client =
        |endpoint: &String| SignedClient::over(transport, endpoint, Credentials::new("", ""), region);
    endpoints.iter().map(client).collect()
}

fn client(transport: &Transport, endpoints: &[String], login: &Login) -> Client {
    let servers = clients(transport, endpoints, REGION);
    CloudServer::over(servers, Arc::clone(&login.credentials), TimeLimits::default())
}
