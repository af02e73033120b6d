//! The clients of the sites that are configured.

use std::sync::Arc;

use backbeat_backends::http::{Credentials, SignedClient, Transport};
use backbeat_backends::objects::SitePair;
use backbeat_backends::objects::cloudserver::{CloudServer, TimeLimits};

use super::login::{Login, SiteCredentials, login};
use super::services::Services;
use super::{StartError, secrets};
use crate::config::{BootstrapSite, Destination, Source};

/// The region that requests are signed for: the servers do not compare it.
pub(super) const REGION: &str = "us-east-1";

/// The key of the certificates towards the source and what belongs to it (replication reference 8.4).
pub(super) const SOURCE_CERTIFICATES: &str = "internalCertFilePaths";

/// How daemons reach a site.
pub(super) type Client = CloudServer<SiteCredentials>;

/// The source.
pub(super) struct SourceSite {
    endpoint: String,
    transport: Transport,
    login: Login,
}

impl SourceSite {
    /// The source as configured.
    pub(super) async fn configured(services: &Services) -> Result<Self, StartError> {
        const KEY: &str = "extensions.replication.source";
        let source: Source = services.config.section(KEY)?;
        let transport = secrets::transport(&services.config, source.transport, SOURCE_CERTIFICATES)?;
        let login = login(&services.config, &format!("{KEY}.auth"), &source.auth).await?;
        Ok(Self { endpoint: source.s3.endpoint(), transport, login })
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
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
    transport: Transport,
    port_default: u16,
}

impl Destinations {
    /// The key of their section.
    pub(super) const KEY: &str = "extensions.replication.destination";

    /// The destinations as configured.
    pub(super) async fn configured(services: &Services) -> Result<Self, StartError> {
        let destination: Destination = services.config.section(Self::KEY)?;
        Ok(Self {
            transport: secrets::transport(&services.config, destination.transport, "certFilePaths")?,
            port_default: destination.transport.port_default(),
            login: login(&services.config, &format!("{}.auth", Self::KEY), &destination.auth).await?,
        })
    }

    /// A client of one of them.
    pub(super) fn client(&self, site: &BootstrapSite) -> Client {
        client(&self.transport, &site.endpoints(self.port_default), &self.login)
    }
}

fn client(transport: &Transport, endpoints: &[String], login: &Login) -> Client {
    // The adapter signs with what its credentials are at the time.
    let server =
        |endpoint: &String| SignedClient::over(transport, endpoint, Credentials::new("", ""), REGION);
    CloudServer::over(
        endpoints.iter().map(server).collect(),
        Arc::clone(&login.credentials),
        TimeLimits::default(),
    )
}
