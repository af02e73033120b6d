//! What the API tells people and the command line, in its own JSON.

use serde::{Deserialize, Serialize};

/// How replication is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The populator.
    pub populator: Populator,
    /// Outcomes that wait to be written to the source.
    pub outcomes_waiting: u64,
    /// Every target site.
    pub sites: Vec<SiteStatus>,
}

/// The populator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Populator {
    /// Whether it runs.
    pub running: bool,
    /// The next journal record to read.
    pub position: u64,
    /// The position that is stored.
    pub saved: u64,
    /// Journal records that were not read yet.
    pub behind: u64,
    /// Messages that are being published.
    pub in_flight: u64,
    /// Entries queued since the start.
    pub queued: u64,
    /// Entries that could not be read since the start.
    pub unreadable: u64,
    /// How often the journal had lost records before they were queued, since the start.
    #[serde(default)]
    pub losses: u64,
}

/// One target site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Its name.
    pub site: String,
    /// Whether its processor runs.
    pub running: bool,
    /// Whether an operator paused it.
    pub paused: bool,
    /// Whether the target is asked freely; false while it is left alone because it failed.
    pub reachable: bool,
    /// Messages of its topics that are not settled.
    pub pending: u64,
    /// Copies under way.
    pub copying: u64,
    /// Versions that are tried again by themselves, at a known time.
    pub deferred: u64,
    /// Versions that wait for something outside to change.
    pub held: u64,
    /// Versions whose attempts are used up: `failed retry` queues them again.
    pub failed: u64,
    /// Operations completed within 24 hours.
    pub completed24h: u64,
    /// Bytes of operations completed within 24 hours.
    pub completed_bytes24h: u64,
    /// Final failures within 24 hours.
    pub failures24h: u64,
    /// Age in seconds of the oldest message that is not settled.
    pub lag_seconds: f64,
}

/// A parked version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// The site.
    pub site: String,
    /// The bucket.
    pub bucket: String,
    /// The object key.
    pub key: String,
    /// The version, as S3 clients see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// `deferred`, `held` or `failed`.
    pub state: String,
    /// Why, as a stable word.
    pub reason: String,
    /// Attempts so far.
    pub attempts: u32,
    /// The first attempt.
    pub first: String,
    /// The last attempt.
    pub last: String,
    /// The next attempt, if one is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What is known of one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The bucket.
    pub bucket: String,
    /// The object key.
    pub key: String,
    /// The version, as S3 clients see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The overall status at the source; empty if no rule asks for replication.
    pub status: String,
    /// Each site that the version is to be copied to.
    pub sites: Vec<SiteExplanation>,
    /// Parts that could not be asked.
    pub unknown: Vec<String>,
}

/// What is known of one version and one site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteExplanation {
    /// The site.
    pub site: String,
    /// Its status at the source.
    pub status: String,
    /// What happens now, for people.
    pub doing: String,
    /// The exception record, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Parked>,
}

/// One version to retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Retry {
    /// The bucket.
    pub bucket: String,
    /// The object key.
    pub key: String,
    /// The version, as S3 clients see it; absent for objects without versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The site.
    pub storage_class: String,
    /// Queue it even if no failure is recorded.
    #[serde(default)]
    pub force_retry: bool,
}

/// One version that was queued again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Retried {
    /// The bucket.
    pub bucket: String,
    /// The object key.
    pub key: String,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The site.
    pub storage_class: String,
    /// Bytes of the object.
    pub size: u64,
    /// When it was written.
    pub last_modified: String,
    /// `PENDING`.
    pub replication_status: String,
}
