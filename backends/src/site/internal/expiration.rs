//! Deletion on behalf of lifecycle (wire reference 1.11): what S3's DeleteObject does, under origins of its own.

use super::answer::json;
use super::request::{Target, header, wanted};
use crate::site::attributes::Lock;
use crate::site::bucket;
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::object::NewObject;
use crate::site::revision;
use crate::site::versioning::{self, Wanted};
use backbeat_core::model::ObjectMd;
use http::{HeaderMap, StatusCode};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{Body, S3Request, S3Response};

/// Deletes a version, or covers the current one with a delete marker that belongs to the caller.
pub(super) async fn expire(
    site: &Site,
    request: &S3Request<Body>,
    target: Target,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    let wanted = wanted(&request.uri)?;
    let dates = Dates::of(&request.headers)?;
    let origin_op = "s3:LifecycleExpiration:DeleteMarkerCreated";
    let marker = NewObject::marker(account, target.key, origin_op, &site.config().data_store_name)?;
    let account = account.clone();
    site.write(move |changes| {
        let bucket = bucket::open(changes, &target.bucket, &account)?;
        let key = marker.key.as_str();
        let stored = versioning::lookup(changes, &bucket.name, key, &wanted)?;
        if let Some(stored) = &stored {
            dates.check(stored)?;
        }
        if wanted == Wanted::Current && bucket.is_versioned() {
            revision::store(changes, &bucket, &marker, &account)?;
            return Ok(());
        }
        let stored = stored.ok_or_else(|| wanted.missing())?;
        Lock::of(&stored).check_delete(changes.now_ms, false)?;
        versioning::remove(changes, &bucket.name, key, &wanted)?;
        Ok(())
    })
    .await?;
    Ok(json(StatusCode::OK, "{}"))
}

/// The conditions of the request on the time of the last change, in seconds since the epoch.
struct Dates {
    modified_since: Option<Timestamp>,
    unmodified_since: Option<Timestamp>,
}

impl Dates {
    fn of(headers: &HeaderMap) -> Outcome<Self> {
        let date = |name: &str| {
            header(headers, name)
                .map(|text| {
                    Timestamp::parse(TimestampFormat::HttpDate, text).map_err(|_| Refusal::invalid_argument())
                })
                .transpose()
        };
        Ok(Self {
            modified_since: date("if-modified-since")?,
            unmodified_since: date("if-unmodified-since")?,
        })
    }

    fn check(&self, stored: &ObjectMd) -> Outcome<()> {
        let Ok(changed) = Timestamp::parse(TimestampFormat::DateTime, stored.last_modified()) else {
            return Ok(());
        };
        if self.unmodified_since.as_ref().is_some_and(|since| changed > *since) {
            return Err(Refusal::precondition_failed());
        }
        if self.modified_since.as_ref().is_some_and(|since| changed <= *since) {
            return Err(Refusal::not_modified());
        }
        Ok(())
    }
}
