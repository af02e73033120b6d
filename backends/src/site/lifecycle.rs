//! Lifecycle configurations of buckets. Carrying them out is a matter of the lifecycle extension, which reads them here.

use super::access::signer;
use super::attributes::Lifecycle;
use super::bucket;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use s3s::dto::{
    DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

pub(super) fn of_bucket(
    site: &Site,
    request: &S3Request<GetBucketLifecycleConfigurationInput>,
) -> Outcome<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let account = signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    let stored = bucket.lifecycle_configuration.ok_or(Refusal::no_such_lifecycle())?;
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(stored.shown()),
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> Outcome<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let account = signer(site, &request)?;
    let asked = request.input.lifecycle_configuration.ok_or(Refusal::malformed_xml())?.rules;
    // As upstream: transitions go to the sites that replication knows.
    let endpoints = &site.config().replication_endpoints;
    let classes: Vec<String> = endpoints.iter().map(|endpoint| endpoint.site.clone()).collect();
    let lifecycle = Lifecycle::parse(asked, &classes)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        bucket.lifecycle_configuration = Some(lifecycle);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

pub(super) async fn delete(
    site: &Arc<Site>,
    request: S3Request<DeleteBucketLifecycleInput>,
) -> Outcome<S3Response<DeleteBucketLifecycleOutput>> {
    let account = signer(site, &request)?;
    bucket::change(site, account, request.input.bucket, |bucket| {
        bucket.lifecycle_configuration = None;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
}
