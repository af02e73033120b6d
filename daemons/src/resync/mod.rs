//! Replicating existing versions once more: what is older than its rule, what a queue lost, what was given up, what a site lost.
//!
//! The versions of a bucket are listed, and those that are meant are written PENDING at the source. That makes a record of each
//! in the journal, which the populator reads like any other: they go the way of every change, and overtake none. Versions of
//! one key are written in the order in which they were made.

mod place;
mod walk;
mod work;

use std::collections::BTreeMap;

use backbeat_core::call::{Refusal, RefusalKind};
use backbeat_core::id::Bucket;
use backbeat_core::model::{Resync, Standing};
use backbeat_core::time::WallTime;
use serde::{Deserialize, Serialize};

pub use place::{Place, PlaceError};
pub use work::Work;

use crate::patience::MayPass;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The bucket at the source.
    pub bucket: Bucket,
    /// Keys that begin so.
    pub prefix: String,
    /// Which versions, for which site.
    pub resync: Resync,
    /// Only versions that were last modified before.
    pub before: Option<WallTime>,
    /// Count, and change nothing.
    pub is_dry: bool,
    /// Keys that are worked on at once.
    pub concurrency: usize,
}

/// Versions and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Versions, delete markers included.
    pub versions: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.versions += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn merge(&mut self, other: Self) {
        self.versions += other.versions;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What was found so far, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// Versions that were looked at.
    pub seen: u64,
    /// Those that were queued, or would be, by how far they were at the site.
    pub queued: BTreeMap<String, Count>,
    /// Those that are not meant, by how far they are at the site.
    pub left: BTreeMap<String, Count>,
    /// Those that no rule asks to be at the site.
    pub no_rule: u64,
    /// Copies of versions elsewhere.
    pub replicas: u64,
    /// Those in cold locations, from which nothing is replicated.
    pub cold: u64,
    /// Those that were modified too late.
    pub later: u64,
    /// Those that were gone when it was their turn.
    pub gone: u64,
    /// Those that could not be read, or kept changing.
    pub failed: u64,
}

impl Tally {
    /// All that was queued, or would be.
    pub fn queued_in_all(&self) -> Count {
        let mut all = Count::default();
        self.queued.values().for_each(|count| all.merge(*count));
        all
    }

    fn note(&mut self, seen: &Seen) {
        self.seen += 1;
        match seen {
            Seen::Queued(standing, bytes) => {
                self.queued.entry(standing.name().to_owned()).or_default().add(*bytes);
            }
            Seen::Left(standing, bytes) => {
                self.left.entry(standing.name().to_owned()).or_default().add(*bytes);
            }
            Seen::NoRule => self.no_rule += 1,
            Seen::Replica => self.replicas += 1,
            Seen::Cold => self.cold += 1,
            Seen::Later => self.later += 1,
            Seen::Gone => self.gone += 1,
            Seen::Failed => self.failed += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.seen += other.seen;
        for (all, others) in [(&mut self.queued, other.queued), (&mut self.left, other.left)] {
            for (standing, count) in others {
                all.entry(standing).or_default().merge(count);
            }
        }
        self.no_rule += other.no_rule;
        self.replicas += other.replicas;
        self.cold += other.cold;
        self.later += other.later;
        self.gone += other.gone;
        self.failed += other.failed;
    }
}

/// What became of one version.
enum Seen {
    Queued(Standing, u64),
    Left(Standing, u64),
    NoRule,
    Replica,
    Cold,
    Later,
    Gone,
    Failed,
}

/// Why the work ended early.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {trouble}")]
pub struct ResyncError {
    /// What was being done.
    pub doing: String,
    /// What went wrong.
    pub trouble: Trouble,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The source refused.
    #[error("the source answered {}", .0.code)]
    Refused(Refusal),
    /// The source did not answer.
    #[error("the source did not answer")]
    NoAnswer,
    /// The version changed before it was written.
    #[error("the version changed before it was written")]
    Changed,
    /// The bucket has no replication configuration.
    #[error("the bucket has no replication configuration")]
    NoRules,
    /// A rule names no site.
    #[error("a rule of the bucket names no site, and it is not known which one the source takes for that")]
    NoDefault,
    /// Where it is cannot be kept.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl MayPass for Trouble {
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.kind.is_transient(),
            Self::NoAnswer | Self::Changed => true,
            Self::NoRules | Self::NoDefault | Self::Place(_) => false,
        }
    }
}

impl Trouble {
    fn is(&self, kind: RefusalKind) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.kind == kind)
    }

    /// Whether it is about one version, and says nothing of others.
    fn is_of_one_version(&self) -> bool {
        matches!(self, Self::Changed) || self.is(RefusalKind::Invalid) || self.is(RefusalKind::TooLarge)
    }
}
