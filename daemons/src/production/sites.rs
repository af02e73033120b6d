//! The clients of the sites that are configured.

use std::sync::Arc;

use backbeat_backends::credentials::account::{Account, StaticCredentials};
use backbeat_backends::objects::SitePair;
use backbeat_backends::objects::cloudserver::{CloudServer, TimeLimits};

use super::StartError;
use super::services::Services;
use crate::config::{BootstrapSite, Destination, Source, Transport};

/// The region that requests are signed for: the servers do not compare it.
const REGION: &str = "us-east-1";

/// How daemons reach a site.
pub(super) type Client = CloudServer<StaticCredentials>;

/// The source.
pub(super) struct SourceSite {
    endpoint: String,
    account: Account,
}

impl SourceSite {
    /// The source as configured.
    pub(super) fn configured(services: &Services) -> Result<Self, StartError> {
        const KEY: &str = "extensions.replication.source";
        let source: Source = services.config.section(KEY)?;
        plain(source.transport, KEY)?;
        let account = services.account(&format!("{KEY}.auth"), &source.auth)?;
        Ok(Self { endpoint: source.s3.endpoint(), account })
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
        client(std::slice::from_ref(&self.endpoint), &self.account)
    }

    /// For machines that work with the source alone.
    pub(super) fn alone(&self) -> Arc<SitePair<Client, Client>> {
        Arc::new(SitePair::new(self.client(), self.client()))
    }
}

/// Where copies go.
pub(super) struct Destinations {
    /// Who writes there.
    pub(super) account: Account,
}

impl Destinations {
    /// The key of their section.
    pub(super) const KEY: &str = "extensions.replication.destination";

    /// The destinations as configured.
    pub(super) fn configured(services: &Services) -> Result<Self, StartError> {
        let destination: Destination = services.config.section(Self::KEY)?;
        plain(destination.transport, Self::KEY)?;
        Ok(Self { account: services.account(&format!("{}.auth", Self::KEY), &destination.auth)? })
    }

    /// A client of one of them.
    pub(super) fn client(&self, site: &BootstrapSite) -> Client {
        client(&site.endpoints(), &self.account)
    }
}

fn client(endpoints: &[String], account: &Account) -> Client {
    let credentials = Arc::new(StaticCredentials::new(account.credentials.clone()));
    CloudServer::new(endpoints, REGION, credentials, TimeLimits::default())
}

/// Refuses what is not built.
pub(super) fn plain(transport: Transport, key: &str) -> Result<(), StartError> {
    match transport {
        Transport::Http => Ok(()),
        Transport::Https => {
            Err(StartError::Configuration(format!("{key}.transport: https is not supported yet")))
        }
    }
}
