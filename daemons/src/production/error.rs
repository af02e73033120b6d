//! Why daemons do not start.

use backbeat_backends::coordination::zookeeper::ConnectError;
use backbeat_backends::credentials::account::AccountError;
use backbeat_backends::queue::QueueError;
use backbeat_backends::tls::TlsError;

use crate::config::ConfigError;

/// Why daemons do not start. Each message is one line, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// Something that is needed and this process do not trust each other: certificates, users, passwords.
    #[error("{0}")]
    Denied(String),
    /// Something that is needed does not answer, or not as it should. It may later.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<AccountError> for StartError {
    fn from(error: AccountError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<ConnectError> for StartError {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::Invalid { .. } => {
                Self::Configuration(format!("zookeeper.connectionString: {message}"))
            }
            ConnectError::Denied { .. } | ConnectError::Distrust { .. } => Self::Denied(message),
            ConnectError::Unreachable { .. } | ConnectError::Failed { .. } => Self::Unavailable(message),
        }
    }
}

impl From<QueueError> for StartError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Denied(message) => Self::Denied(message),
            QueueError::UnknownTopic(_)
            | QueueError::PartitionCounts { .. }
            | QueueError::Compacted(_)
            | QueueError::PartitionsChanged { .. }
            | QueueError::Left
            | QueueError::Storage(_) => Self::Unavailable(error.to_string()),
        }
    }
}
