//! Buckets: their attributes and what may be done with them.

use super::acl::{Acl, Of};
use super::changes::{Changes, Records};
use super::config::Account;
use super::cors::CorsRule;
use super::error::{Outcome, Refusal};
use super::lifecycle::Lifecycle;
use super::lock::DefaultLock;
use super::metadata::Site;
use super::multipart;
use super::notification::Notification;
use super::placeholder::Placeholder;
use super::random::uuid;
use super::replication::ReplicationRules;
use super::tags::BucketTag;
use backbeat_core::model::{METASTORE, MPU_BUCKET_PREFIX, USERS_BUCKET, USERS_BUCKET_SEPARATOR};
use serde::{Deserialize, Serialize};

/// Version of the attributes document that upstream writes at the baseline.
const MODEL_VERSION: u32 = 16;
/// Rows read at once.
const PAGE: usize = 256;

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
    transient: bool,
    deleted: bool,
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
    fn new(name: &str, owner: (&str, &str), created: String, location: Option<String>) -> Outcome<Self> {
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

    /// The bucket owner and services may do everything, others nothing: this site knows no grants.
    pub(super) fn authorize(&self, account: &Account) -> Outcome<()> {
        if account.canonical_id == self.owner || account.is_service() {
            Ok(())
        } else {
            Err(Refusal::access_denied())
        }
    }
}

/// The bucket, if `account` may use it.
pub(super) fn open(records: &impl Records, name: &str, account: &Account) -> Outcome<BucketInfo> {
    let bucket = find(records, name)?.ok_or(Refusal::no_such_bucket())?;
    bucket.authorize(account)?;
    Ok(bucket)
}

/// The bucket, unless it is one of the internal ones.
pub(super) fn find(records: &impl Records, name: &str) -> Outcome<Option<BucketInfo>> {
    if name == USERS_BUCKET || name.starts_with(MPU_BUCKET_PREFIX) {
        return Ok(None);
    }
    records.value(METASTORE, name)?.map(|json| parse(&json)).transpose()
}

/// The attributes in a stored record.
pub(super) fn parse(json: &str) -> Outcome<BucketInfo> {
    serde_json::from_str(json).map_err(|error| {
        tracing::error!(%error, "the attributes of a bucket cannot be read");
        Refusal::internal().with_message("A stored record is damaged.")
    })
}

/// Stores changed attributes.
pub(super) fn update(changes: &mut Changes<'_, '_>, bucket: &BucketInfo) -> Outcome<()> {
    let json = serde_json::to_string(bucket).map_err(|_| Refusal::internal())?;
    changes.put(METASTORE, &bucket.name, json)
}

/// Changes the attributes of a bucket that `account` may use.
pub(super) async fn change<F>(site: &Site, account: Account, name: String, change: F) -> Outcome<()>
where
    F: FnOnce(&mut BucketInfo) -> Outcome<()> + Send + 'static,
{
    site.write(move |changes| {
        let mut bucket = open(changes, &name, &account)?;
        change(&mut bucket)?;
        update(changes, &bucket)
    })
    .await
}

/// Makes sure that an internal bucket exists, as upstream logs it when it is first used.
fn ensure_internal(changes: &mut Changes<'_, '_>, name: &str, owner: (&str, &str)) -> Outcome<()> {
    if changes.value(METASTORE, name)?.is_none() {
        let bucket = BucketInfo::new(name, owner, changes.now(), None)?;
        update(changes, &bucket)?;
    }
    Ok(())
}

/// The internal bucket that holds the uploads in progress of `bucket`.
pub(super) fn uploads_of(bucket: &str) -> String {
    format!("{MPU_BUCKET_PREFIX}{bucket}")
}

/// Makes sure that the bucket of uploads exists.
pub(super) fn ensure_uploads(changes: &mut Changes<'_, '_>, bucket: &BucketInfo) -> Outcome<()> {
    ensure_internal(changes, &uploads_of(&bucket.name), (&bucket.owner, &bucket.owner_display_name))
}

/// Creates a bucket: marked transient first, then listed for its owner, then plain, as upstream logs it.
pub(super) fn create(
    changes: &mut Changes<'_, '_>,
    name: &str,
    owner: &Account,
    location: &str,
    acl: Option<Acl>,
    has_lock: bool,
) -> Outcome<()> {
    if let Some(bucket) = find(changes, name)? {
        return Err(if bucket.owner == owner.canonical_id {
            Refusal::bucket_owned()
        } else {
            Refusal::bucket_exists()
        });
    }
    ensure_internal(changes, USERS_BUCKET, ("admin", "admin"))?;
    let created = changes.now();
    let owner = (owner.canonical_id.as_str(), owner.display_name.as_str());
    let mut bucket = BucketInfo::new(name, owner, created.clone(), Some(location.into()))?;
    bucket.transient = true;
    if let Some(acl) = acl {
        bucket.acl = acl;
    }
    if has_lock {
        bucket.object_lock_enabled = true;
        bucket.versioning_configuration = Some(Versioning { status: VersioningStatus::Enabled });
    }
    update(changes, &bucket)?;
    let listed = format!("{{\"creationDate\":\"{created}\",\"ingestion\":null}}");
    changes.put(USERS_BUCKET, &format!("{}{USERS_BUCKET_SEPARATOR}{name}", owner.0), listed)?;
    bucket.transient = false;
    update(changes, &bucket)
}

/// The placeholders of a bucket that holds nothing else: what is left of keys whose last version was just deleted.
fn placeholders(changes: &Changes<'_, '_>, name: &str) -> Outcome<Vec<String>> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let from = keys.last().map_or_else(String::new, |key| format!("{key}\0"));
        let page = changes.values(name, "", &from, PAGE)?;
        let is_last = page.len() < PAGE;
        for (key, json) in page {
            // The versions of a key come after its master, which may stand before them as a placeholder.
            if Placeholder::parse(&json).is_none() {
                return Err(Refusal::bucket_not_empty());
            }
            keys.push(key);
        }
        if is_last {
            return Ok(keys);
        }
    }
}

/// Deletes a bucket without objects. Its uploads in progress are aborted, as upstream does it.
pub(super) fn delete(changes: &mut Changes<'_, '_>, mut bucket: BucketInfo) -> Outcome<()> {
    let uploads = uploads_of(&bucket.name);
    for key in placeholders(changes, &bucket.name)? {
        changes.delete(&bucket.name, &key)?;
    }
    multipart::abort_all(changes, &bucket.name)?;
    if changes.value(METASTORE, &uploads)?.is_some() {
        changes.delete(METASTORE, &uploads)?;
    }
    bucket.deleted = true;
    update(changes, &bucket)?;
    changes.delete(USERS_BUCKET, &format!("{}{USERS_BUCKET_SEPARATOR}{}", bucket.owner, bucket.name))?;
    changes.delete(METASTORE, &bucket.name)
}

/// The buckets of an account with their creation dates.
pub(super) fn list(records: &impl Records, owner: &str) -> Outcome<Vec<(String, String)>> {
    let prefix = format!("{owner}{USERS_BUCKET_SEPARATOR}");
    let mut found = Vec::new();
    for (key, _) in records.values(USERS_BUCKET, &prefix, &prefix, usize::MAX)? {
        if let Some(bucket) = find(records, &key[prefix.len()..])? {
            found.push((bucket.name, bucket.creation_date));
        }
    }
    Ok(found)
}
