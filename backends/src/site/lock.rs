//! Object lock on the S3 surface: the configuration of a bucket, retention and legal hold of versions.

use super::access;
use super::attributes::{BucketInfo, DefaultLock, DefaultRule, Lock, Mode, Retention, lock};
use super::bucket;
use super::changes::Changes;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::replication::Operation;
use super::revision;
use super::versioning::{self, Wanted};
use crate::timestamp::iso;
use backbeat_core::model::{ObjectMd, RawJson};
use s3s::dto::{
    GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput,
    ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    ObjectLockRetention, ObjectLockRetentionMode, PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
    PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput, PutObjectRetentionInput,
    PutObjectRetentionOutput,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

pub(super) fn configuration(
    site: &Site,
    request: &S3Request<GetObjectLockConfigurationInput>,
) -> Outcome<S3Response<GetObjectLockConfigurationOutput>> {
    let account = access::signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    if !bucket.object_lock_enabled {
        return Err(Refusal::no_lock_configuration());
    }
    let rule = bucket.object_lock_configuration.and_then(|default| default.rule).map(DefaultRule::shown);
    let enabled = Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED));
    Ok(S3Response::new(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(ObjectLockConfiguration { object_lock_enabled: enabled, rule }),
    }))
}

pub(super) async fn put_configuration(
    site: &Arc<Site>,
    request: S3Request<PutObjectLockConfigurationInput>,
) -> Outcome<S3Response<PutObjectLockConfigurationOutput>> {
    let account = access::signer(site, &request)?;
    let rule = DefaultRule::parse(request.input.object_lock_configuration.ok_or(Refusal::malformed_xml())?)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        if !bucket.object_lock_enabled {
            return Err(Refusal::versioning_bound()
                .with_message("Object Lock configuration cannot be enabled on existing buckets"));
        }
        bucket.object_lock_configuration = Some(DefaultLock { rule });
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

/// The protection of a version of a bucket that has object lock.
fn of_version<T>(
    site: &Site,
    request: &S3Request<T>,
    name: &str,
    key: &str,
    version_id: Option<&str>,
) -> Outcome<Lock> {
    let account = access::signer(site, request)?;
    let wanted = Wanted::parse(version_id)?;
    site.read(|txn| {
        let bucket = bucket::open(txn, name, &account)?;
        let md = versioning::object(txn, name, key, &wanted)?;
        if !bucket.object_lock_enabled {
            return Err(lock::no_configuration());
        }
        Ok(Lock::of(&md))
    })
}

pub(super) fn retention(
    site: &Site,
    request: &S3Request<GetObjectRetentionInput>,
) -> Outcome<S3Response<GetObjectRetentionOutput>> {
    let input = &request.input;
    let lock = of_version(site, request, &input.bucket, &input.key, input.version_id.as_deref())?;
    let (mode, retain_until_date, _) = lock.shown();
    let mode = mode.ok_or(Refusal::no_object_lock())?;
    let mode = Some(ObjectLockRetentionMode::from_static(mode));
    Ok(S3Response::new(GetObjectRetentionOutput {
        retention: Some(ObjectLockRetention { mode, retain_until_date }),
    }))
}

pub(super) fn legal_hold(
    site: &Site,
    request: &S3Request<GetObjectLegalHoldInput>,
) -> Outcome<S3Response<GetObjectLegalHoldOutput>> {
    let input = &request.input;
    let lock = of_version(site, request, &input.bucket, &input.key, input.version_id.as_deref())?;
    let (_, _, status) = lock.shown();
    if status.is_none() {
        return Err(Refusal::no_object_lock());
    }
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold: Some(ObjectLockLegalHold { status }) }))
}

/// Changes the protection of a version: a new revision of its metadata, to be replicated as such.
async fn change<T, F>(
    site: &Arc<Site>,
    request: &S3Request<T>,
    (name, key, version_id): (String, String, Option<String>),
    operation: Operation,
    change: F,
) -> Outcome<()>
where
    F: FnOnce(&mut Changes<'_, '_>, &ObjectMd) -> Outcome<ObjectMd> + Send + 'static,
{
    let account = access::signer(site, request)?;
    let change = move |changes: &mut Changes<'_, '_>, bucket: &BucketInfo, md: &ObjectMd| {
        if !bucket.object_lock_enabled {
            return Err(lock::no_configuration());
        }
        change(changes, md)
    };
    revision::change(site, account, (name, key), version_id.as_deref(), operation, change).await.map(drop)
}

pub(super) async fn put_retention(
    site: &Arc<Site>,
    mut request: S3Request<PutObjectRetentionInput>,
) -> Outcome<S3Response<PutObjectRetentionOutput>> {
    let asked = request.input.retention.take().ok_or(Refusal::malformed_xml())?;
    let to = match (asked.mode, asked.retain_until_date) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode = Mode::parse(mode.as_str()).ok_or(Refusal::malformed_xml())?;
            let until_ms = lock::milliseconds(&until).ok_or(Refusal::malformed_xml())?;
            Some(Retention { mode, until_ms })
        }
        (Some(_), None) | (None, Some(_)) => return Err(Refusal::malformed_xml()),
    };
    let may_bypass = lock::may_bypass(&request.headers);
    let input = &request.input;
    let place = (input.bucket.clone(), input.key.clone(), input.version_id.clone());
    change(site, &request, place, Operation::PutRetention, move |changes, md| {
        if to.is_some_and(|to| to.until_ms <= changes.now_ms) {
            return Err(
                Refusal::invalid_argument().with_message("The retain until date must be in the future!")
            );
        }
        Lock::of(md).check_change(to, changes.now_ms, may_bypass)?;
        Ok(match to {
            Some(to) => md
                .with_member("retentionMode", &RawJson::string(to.mode.as_str()))?
                .with_member("retentionDate", &RawJson::string(&iso(to.until_ms)))?,
            None => md.without_member("retentionMode").without_member("retentionDate"),
        })
    })
    .await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

pub(super) async fn put_legal_hold(
    site: &Arc<Site>,
    request: S3Request<PutObjectLegalHoldInput>,
) -> Outcome<S3Response<PutObjectLegalHoldOutput>> {
    let input = &request.input;
    let asked = input.legal_hold.as_ref().and_then(|hold| hold.status.as_ref());
    let text = match asked.map(ObjectLockLegalHoldStatus::as_str) {
        Some("ON") => "true",
        Some("OFF") => "false",
        Some(_) | None => return Err(Refusal::malformed_xml()),
    };
    let place = (input.bucket.clone(), input.key.clone(), input.version_id.clone());
    change(site, &request, place, Operation::PutLegalHold, move |_, md| {
        let flag = RawJson::parse(text).map_err(|_| Refusal::internal())?;
        Ok(md.with_member("legalHold", &flag)?)
    })
    .await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}
