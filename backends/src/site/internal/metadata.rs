//! Metadata of single versions, read and written whole (wire reference 1.5, 1.6).

use super::answer::json;
use super::condition::Condition;
use super::request::{Target, header, wanted};
use super::{IF_REVISION, REVISION};
use crate::site::attributes::{BucketInfo, VersioningStatus};
use crate::site::bucket;
use crate::site::changes::Changes;
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::receive;
use crate::site::versioning::{self, Wanted};
use backbeat_core::model::{Location, ObjectMd, RawJson, VersionId};
use http::{HeaderValue, StatusCode};
use s3s::{Body, S3Request, S3Response};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Largest metadata document: 10,000 parts fit several times.
const METADATA_BYTES_MAX: usize = 16 << 20;

pub(super) fn read(
    site: &Site,
    request: &S3Request<Body>,
    target: &Target,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    let wanted = wanted(&request.uri)?;
    let md = site.read(|txn| {
        bucket::open(txn, &target.bucket, account)?;
        versioning::lookup(txn, &target.bucket, &target.key, &wanted)
    })?;
    let md = md.ok_or(Refusal::object_not_found())?;
    let body = format!("{{\"Body\":{}}}", serde_json::Value::from(md.to_json()));
    let mut response = json(StatusCode::OK, body);
    let tag = HeaderValue::from_str(&md.state_tag().to_string()).map_err(|_| Refusal::internal())?;
    response.headers.insert(REVISION, tag);
    Ok(response)
}

pub(super) async fn write(
    site: &Site,
    request: S3Request<Body>,
    target: Target,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    let wanted = wanted(&request.uri)?;
    let condition = header(&request.headers, IF_REVISION).map(Condition::parse).transpose()?;
    let keeps_data = header(&request.headers, "x-scal-replication-content") == Some("METADATA");
    // The bucket is looked at before the body is read, and again when it is written.
    site.read(|txn| bucket::open(txn, &target.bucket, account))?;
    let body = receive::collect(request.input, METADATA_BYTES_MAX).await?;
    let md = parse_document(&body)?;
    let account = account.clone();
    let data_store_name = site.config().data_store_name.clone();
    let written = site.write(move |changes| {
        let bucket = bucket::open(changes, &target.bucket, &account)?;
        let stored = versioning::lookup(changes, &bucket.name, &target.key, &wanted)?;
        if let Some(condition) = condition {
            condition.check(stored.as_ref())?;
        }
        MetadataWrite { bucket, key: target.key, wanted, stored, keeps_data, data_store_name }
            .apply(changes, md)
    });
    let body = match written.await? {
        Some(id) => format!("{{\"versionId\":{}}}", serde_json::Value::from(id.as_str())),
        None => "null".to_owned(),
    };
    Ok(json(StatusCode::OK, body))
}

/// The document of a metadata write: JSON with a `replicationInfo` (wire reference 1.6, step 3).
pub(super) fn parse_document(body: &[u8]) -> Outcome<ObjectMd> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(rename = "replicationInfo", borrow)]
        replication: &'a RawValue,
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::malformed_post())?;
    let shape: Shape<'_> = serde_json::from_str(text).map_err(|_| Refusal::malformed_post())?;
    if !shape.replication.get().starts_with('{') {
        return Err(Refusal::malformed_post());
    }
    ObjectMd::parse(text).map_err(|_| Refusal::malformed_post())
}

/// One metadata write, inside its commit.
struct MetadataWrite {
    bucket: BucketInfo,
    key: String,
    wanted: Wanted,
    stored: Option<ObjectMd>,
    /// Location and encryption stay those of the stored version.
    keeps_data: bool,
    data_store_name: String,
}

impl MetadataWrite {
    /// Answers the id that the version was written under, if it was written as a version (wire reference 1.6).
    fn apply(self, changes: &mut Changes<'_, '_>, md: ObjectMd) -> Outcome<Option<VersionId>> {
        let (bucket, key) = (self.bucket.name.as_str(), self.key.as_str());
        let mut md = md;
        if self.keeps_data {
            let stored = self.stored.as_ref().ok_or(Refusal::object_not_found())?;
            md = with_data_of(&md, stored);
        } else {
            self.attach(changes, &md)?;
        }
        let stored_id = self.stored.as_ref().and_then(ObjectMd::version_id).cloned();
        let master = versioning::master(changes, bucket, key)?;
        match (&self.wanted, stored_id) {
            (Wanted::Version(id), _) => {
                versioning::put_version(changes, bucket, key, &md, id)?;
                self.discard_old(changes, &md);
                Ok(Some(id.clone()))
            }
            (Wanted::Null, Some(id)) => {
                md = md.with_member("versionId", &RawJson::string(id.as_str()))?;
                versioning::rewrite(changes, bucket, key, &versioning::with_flag(&md, "isNull")?)?;
                self.discard_old(changes, &md);
                Ok(Some(id))
            }
            (Wanted::Null, None) => {
                md = versioning::with_flag(&md.without_member("versionId"), "isNull")?;
                self.discard_covered(changes, master.as_ref(), &md)?;
                if self.bucket.versioning() == Some(VersioningStatus::Suspended) {
                    let md = versioning::put_null_master(changes, bucket, key, &md)?;
                    return Ok(md.version_id().cloned());
                }
                versioning::put_master(changes, bucket, key, &md)?;
                Ok(None)
            }
            (Wanted::Current, _) => {
                self.discard_covered(changes, master.as_ref(), &md)?;
                versioning::put_master(changes, bucket, key, &md)?;
                Ok(None)
            }
        }
    }

    /// Takes the data that the document mentions. Data of this site that is not there any more is refused: the
    /// version would not be readable.
    fn attach(&self, changes: &mut Changes<'_, '_>, md: &ObjectMd) -> Outcome<()> {
        let is_kept = |location: &Location| {
            self.stored
                .as_ref()
                .is_some_and(|stored| stored.locations().iter().any(|old| old.key == location.key))
        };
        for location in md.locations() {
            if *location.data_store_name != *self.data_store_name || is_kept(location) {
                continue;
            }
            if changes.data_owner(&location.key)?.is_none() {
                return Err(Refusal::location_not_found());
            }
            changes.attach(&location.key, &self.bucket.name, &self.key)?;
        }
        Ok(())
    }

    /// Data that the new document of the same version does not mention any more (wire reference 1.6, step 7).
    fn discard_old(&self, changes: &mut Changes<'_, '_>, md: &ObjectMd) {
        let Some(stored) = &self.stored else { return };
        if self.keeps_data || md.locations().is_empty() {
            return;
        }
        let is_new = |old: &Location| md.locations().iter().all(|new| new.key != old.key);
        if stored.locations().iter().all(is_new) {
            versioning::discard_data(changes, stored);
        }
    }

    /// Data of a null or unversioned master that a plain write replaces. Upstream leaks it.
    fn discard_covered(
        &self,
        changes: &mut Changes<'_, '_>,
        master: Option<&versioning::Master>,
        md: &ObjectMd,
    ) -> Outcome<()> {
        let Some(versioning::Master::Object(old)) = master else { return Ok(()) };
        let has_own_key = match old.version_id() {
            Some(id) => versioning::version(changes, &self.bucket.name, &self.key, id)?.is_some(),
            None => false,
        };
        if versioning::is_null(old) && !has_own_key {
            for location in old.locations() {
                if md.locations().iter().all(|new| new.key != location.key) {
                    changes.discard(&location.key);
                }
            }
        }
        Ok(())
    }
}

fn with_data_of(md: &ObjectMd, stored: &ObjectMd) -> ObjectMd {
    md.with_location(stored.locations().to_vec()).with_encryption(&stored.encryption())
}
