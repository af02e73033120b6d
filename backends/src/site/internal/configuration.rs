//! The replication configuration of a bucket, whose XML upstream judges by rules of its own. Errors are XML here.

use crate::site::attributes::{BucketInfo, VersioningStatus};
use crate::site::bucket;
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::{receive, replication};
use http::{HeaderValue, StatusCode};
use s3s::{Body, S3Request, S3Response};

/// Largest replication configuration.
const CONFIGURATION_BYTES_MAX: usize = 1 << 20;

/// `?replication` of a bucket. Errors are XML here.
pub(super) async fn answer(
    site: &Site,
    bucket: &str,
    request: S3Request<Body>,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    match request.method.as_str() {
        "GET" => {
            let bucket = site.read(|txn| bucket::open(txn, bucket, account))?;
            let rules = bucket.replication_configuration.ok_or(Refusal::no_replication_configuration())?;
            let mut response = S3Response::new(Body::from(rules.to_xml()));
            response.headers.insert("content-type", HeaderValue::from_static("application/xml"));
            Ok(response)
        }
        "PUT" => {
            let body = receive::collect(request.input, CONFIGURATION_BYTES_MAX).await?;
            let rules = replication::ReplicationRules::parse(&body, &site.config().replication_endpoints)?;
            change_bucket(site, bucket, account, move |bucket| {
                if bucket.versioning() != Some(VersioningStatus::Enabled) {
                    return Err(Refusal::invalid_request(
                        "Versioning must be 'Enabled' on the bucket to apply a replication configuration",
                    ));
                }
                bucket.replication_configuration = Some(rules);
                Ok(())
            })
            .await?;
            Ok(S3Response::new(Body::empty()))
        }
        "DELETE" => {
            change_bucket(site, bucket, account, |bucket| {
                bucket.replication_configuration = None;
                Ok(())
            })
            .await?;
            Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
        }
        _ => Err(Refusal::method_not_allowed()),
    }
}

async fn change_bucket<F>(site: &Site, name: &str, account: &Account, change: F) -> Outcome<()>
where
    F: FnOnce(&mut BucketInfo) -> Outcome<()> + Send + 'static,
{
    let (name, account) = (name.to_owned(), account.clone());
    site.write(move |changes| {
        let mut bucket = bucket::open(changes, &name, &account)?;
        change(&mut bucket)?;
        bucket::update(changes, &bucket)
    })
    .await
}
