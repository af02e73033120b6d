//! Buckets on the S3 surface: made, looked at, listed, deleted; their place and their versioning.

use super::access::{INTERNAL, signer};
use super::attributes::{Acl, BucketInfo, Of, Versioning, VersioningStatus};
use super::bucket;
use super::changes::{Changes, Records};
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::multipart;
use super::placeholder::Placeholder;
use crate::timestamp::timestamp;
use backbeat_core::model::{METASTORE, USERS_BUCKET, USERS_BUCKET_SEPARATOR};
use s3s::dto::{
    Bucket, BucketVersioningStatus, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
    PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

/// Buckets of one answer at most, where an answer is asked for in pages.
const BUCKETS_MAX: usize = 10_000;
/// Rows read at once.
const PAGE: usize = 256;

/// The bucket that a request names, if its signer may use it.
pub(super) fn open<T>(site: &Site, request: &S3Request<T>, name: &str) -> Outcome<BucketInfo> {
    let account = signer(site, request)?;
    site.read(|txn| bucket::open(txn, name, &account))
}

pub(super) async fn create(
    site: &Arc<Site>,
    request: S3Request<CreateBucketInput>,
) -> Outcome<S3Response<CreateBucketOutput>> {
    let account = signer(site, &request)?;
    let acl = Acl::asked(site, &request.headers, Of::Bucket)?;
    let has_lock = request.input.object_lock_enabled_for_bucket == Some(true);
    let name = request.input.bucket;
    if name == INTERNAL {
        return Err(Refusal { code: "InvalidBucketName", ..Refusal::invalid_argument() }
            .with_message("The specified bucket is not valid."));
    }
    let location = site.config().data_store_name.clone();
    let output = CreateBucketOutput { location: Some(format!("/{name}")) };
    site.write(move |changes| bucket::create(changes, &name, &account, &location, acl, has_lock)).await?;
    Ok(S3Response::new(output))
}

pub(super) fn head(
    site: &Arc<Site>,
    request: &S3Request<HeadBucketInput>,
) -> Outcome<S3Response<HeadBucketOutput>> {
    open(site, request, &request.input.bucket)?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(site.config().data_store_name.clone()),
        ..HeadBucketOutput::default()
    }))
}

pub(super) fn list(
    site: &Arc<Site>,
    request: S3Request<ListBucketsInput>,
) -> Outcome<S3Response<ListBucketsOutput>> {
    let account = signer(site, &request)?;
    let input = &request.input;
    let asked = input.max_buckets.map(usize::try_from).transpose().ok().flatten();
    let max = match (input.max_buckets, asked) {
        (None, _) => usize::MAX,
        (Some(_), Some(max)) if (1..=BUCKETS_MAX).contains(&max) => max,
        (Some(_), _) => {
            let message = "Argument max-buckets must be an integer between 1 and 10000";
            return Err(Refusal::invalid_argument().with_message(message));
        }
    };
    let prefix = input.prefix.as_deref().unwrap_or_default();
    // A continuation token is the last name of the page before.
    let after = input.continuation_token.as_deref().unwrap_or_default();
    let mut found = site.read(|txn| bucket::list(txn, &account.canonical_id))?;
    found.retain(|(name, _)| name.starts_with(prefix) && name.as_str() > after);
    let is_truncated = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| is_truncated).map(|(name, _)| name.clone());
    let buckets = found.into_iter().map(|(name, created)| Bucket {
        name: Some(name),
        creation_date: timestamp(&created),
        ..Bucket::default()
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        owner: Some(Owner { id: Some(account.canonical_id), display_name: Some(account.display_name) }),
        continuation_token: next,
        prefix: request.input.prefix,
    }))
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

/// Removes a bucket without objects. Its uploads in progress are aborted, as upstream does it.
fn remove(changes: &mut Changes<'_, '_>, mut bucket: BucketInfo) -> Outcome<()> {
    let uploads = bucket::uploads_of(&bucket.name);
    for key in placeholders(changes, &bucket.name)? {
        changes.delete(&bucket.name, &key)?;
    }
    multipart::abort_all(changes, &bucket.name)?;
    if changes.value(METASTORE, &uploads)?.is_some() {
        changes.delete(METASTORE, &uploads)?;
    }
    bucket.deleted = true;
    bucket::update(changes, &bucket)?;
    changes.delete(USERS_BUCKET, &format!("{}{USERS_BUCKET_SEPARATOR}{}", bucket.owner, bucket.name))?;
    changes.delete(METASTORE, &bucket.name)
}

pub(super) async fn delete(
    site: &Arc<Site>,
    request: S3Request<DeleteBucketInput>,
) -> Outcome<S3Response<DeleteBucketOutput>> {
    let account = signer(site, &request)?;
    let name = request.input.bucket;
    site.write(move |changes| {
        let bucket = bucket::open(changes, &name, &account)?;
        remove(changes, bucket)
    })
    .await?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub(super) fn location(
    site: &Arc<Site>,
    request: &S3Request<GetBucketLocationInput>,
) -> Outcome<S3Response<GetBucketLocationOutput>> {
    let bucket = open(site, request, &request.input.bucket)?;
    // The default region is spelled as nothing.
    let location = bucket.location_constraint.filter(|location| location != "us-east-1");
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: location.map(Into::into) }))
}

pub(super) fn versioning(
    site: &Arc<Site>,
    request: &S3Request<GetBucketVersioningInput>,
) -> Outcome<S3Response<GetBucketVersioningOutput>> {
    let bucket = open(site, request, &request.input.bucket)?;
    let status = bucket.versioning().map(|status| match status {
        VersioningStatus::Enabled => BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED),
        VersioningStatus::Suspended => BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED),
    });
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
}

pub(super) async fn put_versioning(
    site: &Arc<Site>,
    request: S3Request<PutBucketVersioningInput>,
) -> Outcome<S3Response<PutBucketVersioningOutput>> {
    let asked = request.input.versioning_configuration.status.as_ref();
    let status = match asked.map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => VersioningStatus::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => VersioningStatus::Suspended,
        Some(_) | None => return Err(Refusal::malformed_xml()),
    };
    let account = signer(site, &request)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        if status == VersioningStatus::Suspended && bucket.replication_configuration.is_some() {
            return Err(Refusal::versioning_bound());
        }
        if status == VersioningStatus::Suspended && bucket.object_lock_enabled {
            return Err(Refusal::versioning_bound().with_message(
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
            ));
        }
        bucket.versioning_configuration = Some(Versioning { status });
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}
