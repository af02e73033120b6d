//! What `queuePopulator.logSource` names: the journals that populators share, and what each of them is called (replication
//! reference 2.1).

use backbeat_backends::coordination::InvalidPath;
use backbeat_backends::http::Transport;
use backbeat_backends::journal::Journal;
use backbeat_backends::journal::bucketd::{BucketdConfig, BucketdJournal};
use backbeat_backends::journal::dmd::{DmdConfig, DmdJournal};
use backbeat_backends::journal::kafka::KafkaJournal;
use backbeat_core::call::Ending;
use backbeat_core::id::{Provision, Seq};
use backbeat_core::populator::{Batch, Bootstrap};
use backbeat_core::time::Span;
use tokio::sync::watch;

use super::change_stream::ChangeStream;
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
    /// The partitions of a change stream in Kafka.
    Kafka(Box<ChangeStream>),
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
    Kafka(Box<KafkaJournal>),
}

impl Journal for AnyJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        match self {
            Self::Bucketd(journal) => journal.read(from, limit, wait).await,
            Self::Dmd(journal) => journal.read(from, limit, wait).await,
            Self::Kafka(journal) => journal.read(from, limit, wait).await,
        }
    }
}

impl LogSource {
    /// What the configuration names.
    pub(super) async fn configured(
        services: &Services,
        section: &QueuePopulator,
    ) -> Result<Self, StartError> {
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
            "kafka" => Ok(Self::Kafka(Box::new(ChangeStream::configured(services, section).await?))),
            "mongo" => Err(StartError::Configuration(
                "queuePopulator.logSource: mongo is not supported: it needs a field of the oplog that recent \
                 MongoDB servers do not have"
                    .to_owned(),
            )),
            other => Err(StartError::Configuration(format!(
                "queuePopulator.logSource: {other} is not supported: use bucketd, dmd or kafka"
            ))),
        }
    }

    /// What metrics call it.
    pub(super) fn log_name(&self) -> &'static str {
        match self {
            Self::Bucketd { .. } => "raft-log",
            Self::Dmd(_) => "bucket-file",
            Self::Kafka(_) => "kafka-log",
        }
    }

    /// The nodes that its journals are shared through. Upstream shares raft sessions only: a populator of upstream beside
    /// one of ours would read the same other journal.
    pub(super) fn nodes(&self, zookeeper_path: &str) -> Result<ProvisioningNodes, InvalidPath> {
        match self {
            Self::Bucketd { .. } => ProvisioningNodes::new(zookeeper_path),
            Self::Dmd(_) => ProvisioningNodes::of(zookeeper_path, "dmd-dispatcher"),
            Self::Kafka(_) => ProvisioningNodes::of(zookeeper_path, "kafka-dispatcher"),
        }
    }

    /// The journals that are put among those to be shared out.
    pub(super) fn provisions(&self) -> Vec<String> {
        match self {
            Self::Bucketd { sessions, .. } => sessions.iter().map(u32::to_string).collect(),
            Self::Dmd(config) => vec![config.log_name.clone()],
            Self::Kafka(stream) => (0..stream.partitions).map(|number| stream.provision(number)).collect(),
        }
    }

    /// All of them as they are now, where there may be more than there were at the start.
    pub(super) async fn more_provisions(&self) -> Vec<String> {
        match self {
            Self::Bucketd { .. } | Self::Dmd(_) => Vec::new(),
            Self::Kafka(stream) => {
                let count = stream.partitions_now().await.unwrap_or(stream.partitions);
                (stream.partitions..count).map(|number| stream.provision(number)).collect()
            }
        }
    }

    /// Whether all that happens to an object is in one journal, in order, so that what status writes overwrite shows there. Events
    /// without a document have another key in a change stream than those with one.
    pub(super) fn tells_overwritten(&self) -> bool {
        match self {
            Self::Bucketd { .. } | Self::Dmd(_) => true,
            Self::Kafka(_) => false,
        }
    }

    /// Where the journal that `provision` stands for is begun if its position was never stored, here or by upstream. Nothing: it
    /// cannot be told now.
    pub(super) async fn bootstrap(&self, provision: &Provision, configured: Bootstrap) -> Option<Bootstrap> {
        match self {
            Self::Bucketd { .. } | Self::Dmd(_) => Some(configured),
            Self::Kafka(stream) => match stream.partition(provision.as_str()) {
                Some(partition) => stream.bootstrap(partition, configured).await,
                None => Some(configured),
            },
        }
    }

    /// Tells upstream what is `saved` of a journal, where that is not the position itself, until the populator has ended.
    pub(super) async fn follow(&self, provision: &Provision, saved: watch::Receiver<Seq>) {
        match self {
            Self::Bucketd { .. } | Self::Dmd(_) => {}
            Self::Kafka(stream) => {
                if let Some(partition) = stream.partition(provision.as_str()) {
                    stream.commit_behind(partition, saved).await;
                }
            }
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
            Self::Kafka(stream) => {
                let partition = stream.partition(name)?;
                let journal = AnyJournal::Kafka(Box::new(stream.journal(partition)));
                Some(Source { journal, log_id: format!("kafka_{name}") })
            }
        }
    }
}
