//! Buckets: found, changed, created.

use super::attributes::{Acl, BucketInfo, Versioning, VersioningStatus};
use super::changes::{Changes, Records};
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use backbeat_core::model::{METASTORE, MPU_BUCKET_PREFIX, USERS_BUCKET, USERS_BUCKET_SEPARATOR};

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
