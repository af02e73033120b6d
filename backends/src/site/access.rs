//! Who may sign requests.

use super::admission;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::validation::{AwsNameValidation, NameValidation};
use s3s::{S3Request, S3Result, s3_error};
use std::sync::Arc;

/// The accounts of the site, as the signature check asks for them.
pub(super) struct Accounts(pub(super) Arc<Site>);

#[async_trait::async_trait]
impl S3Auth for Accounts {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.account(access_key) {
            Some(account) => Ok(SecretKey::from(account.secret_key.clone())),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS access key Id you provided does not exist in our records."
            )),
        }
    }
}

/// Who signed a request.
pub(super) fn signer<T>(site: &Site, request: &S3Request<T>) -> Outcome<Account> {
    let key = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
    key.and_then(|key| site.account(key)).cloned().ok_or(Refusal::access_denied())
}

#[async_trait::async_trait]
impl S3Access for Accounts {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        Ok(admission::admit(&self.0, context.method(), context.uri(), context.headers())?)
    }
}

/// The name in place of a bucket in the paths of the internal routes.
pub(super) const INTERNAL: &str = "_";

/// Bucket names as AWS has them, and the one that the internal routes use.
pub(super) struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        name == INTERNAL || AwsNameValidation::new().validate_bucket_name(name)
    }
}
