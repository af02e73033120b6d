//! The words of replication: statuses, their algebra (invariant I5), and what a change carries.

use std::fmt;
use std::sync::Arc;

use super::Backend;

/// How far replication to one site is. The wire never says that one is running (invariant I5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiteStatus {
    /// Work is to be done.
    Pending,
    /// The site acknowledged data and metadata.
    Completed,
    /// The site was given up; only an explicit retry brings it back.
    Failed,
    /// This copy is itself the replica.
    Replica,
    /// Anything else found in a document; empty where there was none.
    Other(Arc<str>),
}

impl SiteStatus {
    /// The status as written in metadata.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Replica => "REPLICA",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for SiteStatus {
    fn from(text: &str) -> Self {
        match text {
            "PENDING" => Self::Pending,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "REPLICA" => Self::Replica,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for SiteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status of a version over all of its sites.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverallStatus {
    /// The version is not replicated.
    #[default]
    None,
    /// The source asks for replication: the only status that the populator queues.
    Pending,
    /// Some site is still to be done, and the engine knows.
    Processing,
    /// Every site is done.
    Completed,
    /// Some site was given up.
    Failed,
    /// This version is a replica; it is never replicated again.
    Replica,
    /// Anything else found in a document.
    Other(Arc<str>),
}

impl OverallStatus {
    /// The status as written in metadata.
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Pending => "PENDING",
            Self::Processing => "PROCESSING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Replica => "REPLICA",
            Self::Other(text) => text,
        }
    }

    /// The status that the engine writes for the given sites (invariant I5): any FAILED makes FAILED, else any PENDING makes
    /// PROCESSING, else COMPLETED. Never PENDING, which would queue the object again.
    pub fn of(backends: &[Backend]) -> Self {
        let any = |status: &SiteStatus| backends.iter().any(|backend| backend.status == *status);
        if any(&SiteStatus::Failed) {
            Self::Failed
        } else if any(&SiteStatus::Pending) {
            Self::Processing
        } else {
            Self::Completed
        }
    }
}

impl From<&str> for OverallStatus {
    fn from(text: &str) -> Self {
        match text {
            "" => Self::None,
            "PENDING" => Self::Pending,
            "PROCESSING" => Self::Processing,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "REPLICA" => Self::Replica,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for OverallStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The overall status that the engine writes: see [`OverallStatus::of`].
pub fn overall_of(backends: &[Backend]) -> OverallStatus {
    OverallStatus::of(backends)
}

/// What kind of change has to be carried over (wire reference 2.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentFlag {
    /// Bytes.
    Data,
    /// Metadata: in every replicated operation.
    Metadata,
    /// Tags were put (sent to cloud sites only).
    PutTagging,
    /// Tags were removed (sent to cloud sites only).
    DeleteTagging,
    /// The object came from a multipart upload (cloud sites only).
    Multipart,
    /// Anything else.
    Other(Arc<str>),
}

impl ContentFlag {
    /// The flag as written in metadata.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Data => "DATA",
            Self::Metadata => "METADATA",
            Self::PutTagging => "PUT_TAGGING",
            Self::DeleteTagging => "DELETE_TAGGING",
            Self::Multipart => "MPU",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for ContentFlag {
    fn from(text: &str) -> Self {
        match text {
            "DATA" => Self::Data,
            "METADATA" => Self::Metadata,
            "PUT_TAGGING" => Self::PutTagging,
            "DELETE_TAGGING" => Self::DeleteTagging,
            "MPU" => Self::Multipart,
            other => Self::Other(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SiteStatus::{Completed, Failed, Pending};
    use super::*;

    #[test]
    fn the_overall_status_follows_the_sites() {
        let with = |statuses: &[SiteStatus]| {
            let backends: Vec<Backend> =
                statuses.iter().map(|status| Backend::new("s".into(), status.clone())).collect();
            overall_of(&backends)
        };
        assert_eq!(with(&[]), OverallStatus::Completed);
        assert_eq!(with(&[Completed, Completed]), OverallStatus::Completed);
        assert_eq!(with(&[Completed, Pending]), OverallStatus::Processing);
        assert_eq!(with(&[Failed, Pending, Completed]), OverallStatus::Failed);
    }

    #[test]
    fn words_survive_and_unknown_ones_too() {
        for word in ["", "PENDING", "PROCESSING", "COMPLETED", "FAILED", "REPLICA", "odd"] {
            assert_eq!(OverallStatus::from(word).as_str(), word);
            assert_eq!(SiteStatus::from(word).as_str(), word);
        }
        for word in ["DATA", "METADATA", "PUT_TAGGING", "DELETE_TAGGING", "MPU", "PUT_ACL"] {
            assert_eq!(ContentFlag::from(word).as_str(), word);
        }
    }
}
