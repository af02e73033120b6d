//! The attributes of a bucket: the document that metadata keeps of it, and each of its configurations, as CloudServer writes
//! them. What clients ask for becomes a part of it, and is shown from it.

mod acl;
mod cors;
mod lifecycle;
pub(super) mod lock;
mod notification;
pub(super) mod tags;

use super::config::Account;
use super::error::{Outcome, Refusal};
use super::random::uuid;
use super::replication::ReplicationRules;
pub(super) use acl::{Acl, Of};
pub(super) use cors::{CorsRule, METHODS};
pub(super) use lifecycle::Lifecycle;
pub(super) use lock::{DefaultLock, DefaultRule, Lock, Mode, Retention};
pub(super) use notification::Notification;
use serde::{Deserialize, Serialize};
pub(super) use tags::BucketTag;

/// Version of the attributes document that upstream writes at the baseline.
const MODEL_VERSION: u32 = 16;

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum VersioningStatus {
    Enabled,
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Versioning {
    #[serde(rename = "Status")]
    pub(super) status: VersioningStatus,
}

/// The attributes of a bucket in the order in which upstream writes them. Members that this site never sets are nulls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BucketInfo {
    pub(super) acl: Acl,
    pub(super) name: String,
    pub(super) owner: String,
    pub(super) owner_display_name: String,
    pub(super) creation_date: String,
    md_bucket_model_version: u32,
    pub(super) transient: bool,
    pub(super) deleted: bool,
    server_side_encryption: Option<()>,
    pub(super) versioning_configuration: Option<Versioning>,
    pub(super) location_constraint: Option<String>,
    read_location_constraint: Option<String>,
    pub(super) cors: Option<Vec<CorsRule>>,
    pub(super) replication_configuration: Option<ReplicationRules>,
    pub(super) lifecycle_configuration: Option<Lifecycle>,
    bucket_policy: Option<()>,
    uid: String,
    #[serde(rename = "isNFS")]
    is_nfs: Option<bool>,
    ingestion: Option<()>,
    azure_info: Option<()>,
    pub(super) object_lock_enabled: bool,
    pub(super) object_lock_configuration: Option<DefaultLock>,
    pub(super) notification_configuration: Option<Notification>,
    pub(super) tags: Vec<BucketTag>,
    quota_max: u64,
}

impl BucketInfo {
    pub(super) fn new(
        name: &str,
        owner: (&str, &str),
        created: String,
        location: Option<String>,
    ) -> Outcome<Self> {
        Ok(Self {
            acl: Acl::private(Of::Bucket),
            name: name.into(),
            owner: owner.0.into(),
            owner_display_name: owner.1.into(),
            creation_date: created,
            md_bucket_model_version: MODEL_VERSION,
            transient: false,
            deleted: false,
            server_side_encryption: None,
            versioning_configuration: None,
            location_constraint: location,
            read_location_constraint: None,
            cors: None,
            replication_configuration: None,
            lifecycle_configuration: None,
            bucket_policy: None,
            uid: uuid()?,
            is_nfs: None,
            ingestion: None,
            azure_info: None,
            object_lock_enabled: false,
            object_lock_configuration: None,
            notification_configuration: None,
            tags: Vec::new(),
            quota_max: 0,
        })
    }

    pub(super) fn versioning(&self) -> Option<VersioningStatus> {
        self.versioning_configuration.map(|versioning| versioning.status)
    }

    pub(super) fn is_versioned(&self) -> bool {
        self.versioning_configuration.is_some()
    }

    /// What protects a new version: what was asked for, else the default of the bucket.
    pub(super) fn lock(&self, asked: Lock, now_ms: u64) -> Outcome<Lock> {
        if self.object_lock_enabled {
            return Ok(asked.or_default(self.object_lock_configuration, now_ms));
        }
        if asked == Lock::default() { Ok(asked) } else { Err(lock::no_configuration()) }
    }

    /// The bucket owner and services may do everything, others nothing: this site knows no grants.
    pub(super) fn authorize(&self, account: &Account) -> Outcome<()> {
        if account.canonical_id == self.owner || account.is_service() {
            Ok(())
        } else {
            Err(Refusal::access_denied())
        }
    }
}
