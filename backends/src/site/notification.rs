//! Notification configurations of buckets.

use super::access::signer;
use super::attributes::Notification;
use super::bucket;
use super::error::Outcome;
use super::metadata::Site;
use s3s::dto::{
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput,
    PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

pub(super) fn of_bucket(
    site: &Site,
    request: &S3Request<GetBucketNotificationConfigurationInput>,
) -> Outcome<S3Response<GetBucketNotificationConfigurationOutput>> {
    let account = signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    let queues = bucket.notification_configuration.unwrap_or_default().shown();
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
        queue_configurations: Some(queues),
        ..GetBucketNotificationConfigurationOutput::default()
    }))
}

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutBucketNotificationConfigurationInput>,
) -> Outcome<S3Response<PutBucketNotificationConfigurationOutput>> {
    let account = signer(site, &request)?;
    let notification = Notification::parse(request.input.notification_configuration)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        bucket.notification_configuration = Some(notification);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
}
