//! What clients write, inside the commit: a new version, or a new revision of a version that is there. Either asks for
//! the replication that the bucket's rules name.

use super::attributes::BucketInfo;
use super::bucket;
use super::changes::Changes;
use super::conditions::WriteCondition;
use super::config::Account;
use super::data::Stored;
use super::error::Outcome;
use super::metadata::Site;
use super::object::{NewObject, shown_version};
use super::random::random_hex;
use super::replication::{self, Asked, Operation};
use super::versioning::{self, Wanted};
use backbeat_core::model::{ObjectMd, RawJson};

/// A whole object on its way into a bucket.
pub(super) struct Write {
    pub(super) bucket: String,
    pub(super) account: Account,
    pub(super) condition: WriteCondition,
    pub(super) object: NewObject,
    /// The data that the object's locations name.
    pub(super) data: Vec<Stored>,
}

/// What a write made.
pub(super) struct Written {
    /// The version id that the client sees, in a bucket that ever had versioning.
    pub(super) version_id: Option<String>,
    pub(super) md: ObjectMd,
}

impl Write {
    /// Stores the object with its data, if the account may, the condition holds and the bucket takes its lock.
    pub(super) async fn commit(mut self, site: &Site) -> Outcome<Written> {
        site.write(move |changes| {
            let bucket = bucket::open(changes, &self.bucket, &self.account)?;
            self.condition.check(versioning::current(changes, &bucket.name, &self.object.key)?.as_ref())?;
            self.object.lock = bucket.lock(self.object.lock, changes.now_ms)?;
            for stored in self.data {
                changes.add_data(stored);
            }
            let md = store(changes, &bucket, &self.object, &self.account)?;
            Ok(Written { version_id: shown_version(bucket.is_versioned(), &md), md })
        })
        .await
    }
}

/// Stores a new version in an open bucket.
pub(super) fn store(
    changes: &mut Changes<'_, '_>,
    bucket: &BucketInfo,
    object: &NewObject,
    account: &Account,
) -> Outcome<ObjectMd> {
    let asked = Asked {
        key: &object.key,
        is_metadata_only: object.size == 0,
        operation: object.upload_id.is_some().then_some(Operation::Multipart),
        existing: None,
        account: (!object.is_made_of_stored()).then_some(account),
    };
    let rules = bucket.replication_configuration.as_ref();
    let info = replication::info(rules, &changes.config().replication_endpoints, asked);
    versioning::store(changes, bucket, object, info)
}

/// Changes the metadata of a version: a new revision, to be replicated as such. Answers the version id that the client
/// sees.
pub(super) async fn change<F>(
    site: &Site,
    account: Account,
    (name, key): (String, String),
    version_id: Option<&str>,
    operation: Operation,
    change: F,
) -> Outcome<Option<String>>
where
    F: FnOnce(&mut Changes<'_, '_>, &BucketInfo, &ObjectMd) -> Outcome<ObjectMd> + Send + 'static,
{
    let wanted = Wanted::parse(version_id)?;
    let micro_version_id = RawJson::string(&random_hex::<8>()?);
    site.write(move |changes| {
        let bucket = bucket::open(changes, &name, &account)?;
        let md = versioning::object(changes, &name, &key, &wanted)?;
        let mut changed = change(changes, &bucket, &md)?.with_member("microVersionId", &micro_version_id)?;
        let asked = Asked {
            key: &key,
            is_metadata_only: true,
            operation: Some(operation),
            existing: Some(&md),
            account: None,
        };
        let rules = bucket.replication_configuration.as_ref();
        if let Some(info) = replication::info(rules, &changes.config().replication_endpoints, asked) {
            changed = changed.with_replication(info);
        }
        versioning::rewrite(changes, &name, &key, &changed)?;
        Ok(shown_version(bucket.is_versioned(), &changed))
    })
    .await
}
