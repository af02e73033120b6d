//! Who may sign requests.

use super::admission;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::headers::header;
use super::internal::query;
use super::metadata::Site;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::validation::{AwsNameValidation, NameValidation};
use s3s::{S3Request, S3Result, TrailingHeaders, s3_error};
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

/// Who signed a request that the protocol library gets a second time, in words that it takes, and what comes behind its
/// body.
#[derive(Clone)]
pub(super) struct Verified {
    pub(super) access_key: String,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// Who signed a request.
pub(super) fn signer<T>(site: &Site, request: &S3Request<T>) -> Outcome<Account> {
    let verified = request.extensions.get::<Verified>().map(|verified| verified.access_key.as_str());
    let signed = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
    let key = signed.or(verified);
    key.and_then(|key| site.account(key)).cloned().ok_or(Refusal::access_denied())
}

/// What comes behind the body of a request.
pub(super) fn trailers<T>(request: &S3Request<T>) -> Option<TrailingHeaders> {
    let verified = || request.extensions.get::<Verified>()?.trailers.clone();
    request.trailing_headers.clone().or_else(verified)
}

/// The names of the headers that a signature covers; none if it is a form, whose policy says what it covers.
fn signed_headers(uri: &Uri, headers: &HeaderMap) -> Outcome<Option<Vec<String>>> {
    let list = match header(headers, "authorization") {
        // Signatures of version 2 cover all headers of ours.
        Some(authorization) if authorization.starts_with("AWS ") => None,
        Some(authorization) => {
            let fields = authorization
                .strip_prefix("AWS4-HMAC-SHA256")
                .ok_or_else(|| Refusal::invalid_argument().with_message("Unsupported Authorization Type"))?;
            let list = fields.split(',').find_map(|field| field.trim().strip_prefix("SignedHeaders="));
            list.map(str::to_owned)
        }
        None => query(uri).find(|(name, _)| name == "X-Amz-SignedHeaders").map(|(_, list)| list),
    };
    Ok(list.map(|list| list.split(';').map(str::to_ascii_lowercase).collect()))
}

/// A header that changes what a request does must be covered by its signature.
pub(super) fn check_signed_headers(uri: &Uri, headers: &HeaderMap) -> Outcome<()> {
    let Some(signed) = signed_headers(uri, headers)? else { return Ok(()) };
    let is_uncovered = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        // What is beyond ASCII cannot be signed in the same way by all clients.
        let is_foreign_text = name.starts_with("x-amz-meta-") && value.to_str().is_err();
        !is_foreign_text && (name.starts_with("x-amz-") || name.starts_with("x-scal-"))
            // The protocol library holds it against the body.
            && name != "x-amz-content-sha256"
            && !signed.iter().any(|signed| signed == name)
    };
    if headers.iter().any(is_uncovered) {
        let message = "There were headers present in the request which were not signed";
        return Err(Refusal::access_denied().with_message(message));
    }
    Ok(())
}

#[async_trait::async_trait]
impl S3Access for Accounts {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        check_signed_headers(context.uri(), context.headers())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_what_changes_a_request() {
        let check = |authorization: &'static str, target: &str, name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("1"));
            if !authorization.is_empty() {
                headers.insert("authorization", HeaderValue::from_static(authorization));
            }
            check_signed_headers(&target.parse().unwrap(), &headers).map_err(|refusal| refusal.code)
        };
        let v4 = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-acl, Signature=c";
        assert_eq!(check(v4, "/b/k", "x-amz-acl"), Ok(()));
        assert_eq!(check(v4, "/b/k", "user-agent"), Ok(()));
        assert_eq!(check(v4, "/b/k", "x-amz-tagging"), Err("AccessDenied"));
        assert_eq!(check("AWS a:b", "/b/k", "x-amz-tagging"), Ok(()));
        assert_eq!(check("AWS2-HMAC-SHA1 Credential=a/b", "/b/k", "x-amz-acl"), Err("InvalidArgument"));
        let presigned = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl";
        assert_eq!(check("", presigned, "x-amz-acl"), Ok(()));
        assert_eq!(check("", presigned, "x-amz-tagging"), Err("AccessDenied"));
    }
}
