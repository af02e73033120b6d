//! Tags of objects and of buckets.

use super::access::signer;
use super::attributes::{BucketTag, tags};
use super::bucket;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::object::{shown_version, tags_json};
use super::replication::Operation;
use super::revision;
use super::versioning::{self, Wanted};
use backbeat_core::model::RawJson;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutBucketTaggingInput, PutBucketTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

pub(super) fn of_object(
    site: &Site,
    request: &S3Request<GetObjectTaggingInput>,
) -> Outcome<S3Response<GetObjectTaggingOutput>> {
    let account = signer(site, request)?;
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let (is_versioned, md) = site.read(|txn| {
        let bucket = bucket::open(txn, &input.bucket, &account)?;
        Ok((bucket.is_versioned(), versioning::object(txn, &input.bucket, &input.key, &wanted)?))
    })?;
    let tag_set =
        md.tags().into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: shown_version(is_versioned, &md) }))
}

/// A change of tags: a new revision of a version, to be replicated as metadata.
async fn change(
    site: &Arc<Site>,
    account: Account,
    place: (String, String),
    version_id: Option<String>,
    tags: Option<Vec<(String, String)>>,
) -> Outcome<Option<String>> {
    let tags_text = RawJson::parse(&tags_json(tags.as_deref().unwrap_or_default()))
        .map_err(|_| Refusal::invalid_tag())?;
    let (operation, origin_op) = if tags.is_some() {
        (Operation::PutTagging, "s3:ObjectTagging:Put")
    } else {
        (Operation::DeleteTagging, "s3:ObjectTagging:Delete")
    };
    revision::change(site, account, place, version_id.as_deref(), operation, move |_, _, md| {
        Ok(md.with_member("tags", &tags_text)?.with_origin_op(origin_op))
    })
    .await
}

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutObjectTaggingInput>,
) -> Outcome<S3Response<PutObjectTaggingOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let tags = input.tagging.tag_set.into_iter();
    let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
    let tags = tags::check(tags)?;
    let version_id = change(site, account, (input.bucket, input.key), input.version_id, Some(tags)).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete(
    site: &Arc<Site>,
    request: S3Request<DeleteObjectTaggingInput>,
) -> Outcome<S3Response<DeleteObjectTaggingOutput>> {
    let account = signer(site, &request)?;
    let input = request.input;
    let version_id = change(site, account, (input.bucket, input.key), input.version_id, None).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

pub(super) fn of_bucket(
    site: &Site,
    request: &S3Request<GetBucketTaggingInput>,
) -> Outcome<S3Response<GetBucketTaggingOutput>> {
    let account = signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    if bucket.tags.is_empty() {
        return Err(Refusal::no_such_tags());
    }
    let shown = |tag: BucketTag| Tag { key: Some(tag.key), value: Some(tag.value) };
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: bucket.tags.into_iter().map(shown).collect() }))
}

pub(super) async fn put_of_bucket(
    site: &Arc<Site>,
    request: S3Request<PutBucketTaggingInput>,
) -> Outcome<S3Response<PutBucketTaggingOutput>> {
    let account = signer(site, &request)?;
    let tags = request.input.tagging.tag_set.into_iter();
    let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
    let tags = tags::check_of_bucket(tags)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        bucket.tags = tags.into_iter().map(|(key, value)| BucketTag { key, value }).collect();
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) async fn delete_of_bucket(
    site: &Arc<Site>,
    request: S3Request<DeleteBucketTaggingInput>,
) -> Outcome<S3Response<DeleteBucketTaggingOutput>> {
    let account = signer(site, &request)?;
    bucket::change(site, account, request.input.bucket, |bucket| {
        bucket.tags.clear();
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}
