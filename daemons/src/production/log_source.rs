//! What `queuePopulator.logSource` names: the journals that populators share, and what each of them is called (replication
//! reference 2.1).

use backbeat_backends::coordination::InvalidPath;
use backbeat_backends::http::Transport;
use backbeat_backends::journal::Journal;
use backbeat_backends::journal::bucketd::{BucketdConfig, BucketdJournal};
use backbeat_backends::journal::dmd::{DmdConfig, DmdJournal};
use backbeat_core::call::Ending;
use backbeat_core::id::{Provision, Seq};
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;

use super::services::Services;
use super::sites::SOURCE_CERTIFICATES;
use super::{StartError, secrets};
use crate::config::{Bucketd, Dmd, QueuePopulator};
use crate::driver::provisioning::ProvisioningNodes;

/// The journals of an installation.
pub(super) enum LogSource {
    /// Raft sessions, read from bucketd. Upstream's populators share them, too.
    Bucketd {
        /// `host:port`.
        endpoint: String,
        /// How it is spoken to.
        transport: Transport,
        /// Sessions that are put among those to be shared out.
        sessions: Vec<u32>,
    },
    /// The one record log of a metadata daemon.
    Dmd(DmdConfig),
}

/// One journal.
pub(super) struct Source {
    pub(super) journal: AnyJournal,
    /// The folder that its position is in.
    pub(super) log_id: String,
}

/// A journal of any kind.
pub(super) enum AnyJournal {
    Bucketd(Box<BucketdJournal>),
    Dmd(Box<DmdJournal>),
}

impl Journal for AnyJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        match self {
            Self::Bucketd(journal) => journal.read(from, limit, wait).await,
            Self::Dmd(journal) => journal.read(from, limit, wait).await,
        }
    }
}

impl LogSource {
    /// What the configuration names.
    pub(super) fn configured(services: &Services, section: &QueuePopulator) -> Result<Self, StartError> {
        match section.log_source.as_str() {
            "bucketd" => {
                let bucketd: Bucketd = match &section.bucketd {
                    Some(bucketd) => bucketd.clone(),
                    None => services.config.section("queuePopulator.bucketd")?,
                };
                let transport =
                    secrets::transport(&services.config, bucketd.transport, SOURCE_CERTIFICATES)?;
                let endpoint = format!("{}:{}", bucketd.host, bucketd.port);
                Ok(Self::Bucketd { endpoint, transport, sessions: bucketd.raft_sessions })
            }
            "dmd" => {
                let dmd: Dmd = match &section.dmd {
                    Some(dmd) => dmd.clone(),
                    None => services.config.section("queuePopulator.dmd")?,
                };
                let endpoint = format!("{}:{}", dmd.host, dmd.port);
                Ok(Self::Dmd(DmdConfig::new(endpoint, dmd.log_name)))
            }
            "mongo" => Err(StartError::Configuration(
                "queuePopulator.logSource: mongo is not supported: it needs a field of the oplog that recent \
                 MongoDB servers do not have"
                    .to_owned(),
            )),
            other => Err(StartError::Configuration(format!(
                "queuePopulator.logSource: {other} is not supported: use bucketd or dmd"
            ))),
        }
    }

    /// What metrics call it.
    pub(super) fn log_name(&self) -> &'static str {
        match self {
            Self::Bucketd { .. } => "raft-log",
            Self::Dmd(_) => "bucket-file",
        }
    }

    /// The nodes that its journals are shared through. Upstream shares raft sessions only: a populator of upstream beside
    /// one of ours would read the same other journal.
    pub(super) fn nodes(&self, zookeeper_path: &str) -> Result<ProvisioningNodes, InvalidPath> {
        match self {
            Self::Bucketd { .. } => ProvisioningNodes::new(zookeeper_path),
            Self::Dmd(_) => ProvisioningNodes::of(zookeeper_path, "dmd-dispatcher"),
        }
    }

    /// The journals that are put among those to be shared out.
    pub(super) fn provisions(&self) -> Vec<String> {
        match self {
            Self::Bucketd { sessions, .. } => sessions.iter().map(u32::to_string).collect(),
            Self::Dmd(config) => vec![config.log_name.clone()],
        }
    }

    /// The journal that `provision` stands for, unless it stands for none.
    pub(super) fn journal(&self, provision: &Provision) -> Option<Source> {
        let name = provision.as_str();
        match self {
            Self::Bucketd { endpoint, transport, .. } => {
                let session: u32 = name.parse().ok()?;
                let journal = BucketdJournal::new(BucketdConfig {
                    transport: transport.clone(),
                    ..BucketdConfig::new(endpoint.as_str(), session)
                });
                Some(Source {
                    journal: AnyJournal::Bucketd(Box::new(journal)),
                    log_id: format!("raft_{session}"),
                })
            }
            Self::Dmd(config) if name == config.log_name => {
                let journal = AnyJournal::Dmd(Box::new(DmdJournal::new(config.clone())));
                Some(Source { journal, log_id: format!("bucketFile_{name}") })
            }
            Self::Dmd(_) => None,
        }
    }
}
