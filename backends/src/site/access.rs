//! Who may sign requests.

use super::admission;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::headers::header;
use super::metadata::Site;
use super::uri::query;
use crate::timestamp;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::validation::{AwsNameValidation, NameValidation};
use s3s::{S3Request, S3Result, TrailingHeaders, s3_error};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// What an `Authorization` header with a signature of version 2 starts with.
const VERSION_2: &str = "AWS ";
/// How far a request's clock may be off, as in S3.
pub(super) const SKEW_MAX: Duration = Duration::from_mins(15);

/// A signature of version 2 is good for as long as its date is near; what is older was overheard, perhaps. The protocol
/// library looks at the dates of version 4, and at the end of what is presigned, but not at this one.
pub(super) fn check_date(headers: &HeaderMap, now: SystemTime) -> Outcome<()> {
    let authorization = headers.get("authorization").map(HeaderValue::as_bytes);
    if !authorization.is_some_and(|value| value.starts_with(VERSION_2.as_bytes())) {
        return Ok(());
    }
    // Of the two dates the signature covers this one if it is there; of dates that come twice it may cover none.
    let name = if headers.contains_key("x-amz-date") { "x-amz-date" } else { "date" };
    let is_single = headers.get_all(name).iter().count() == 1;
    let said = header(headers, name).filter(|_| is_single).and_then(timestamp::parse_date);
    let said = said.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))).ok_or_else(|| {
        let message = "AWS authentication requires a valid Date or x-amz-date header";
        Refusal::access_denied().with_message(message)
    })?;
    check_skew(said, now)
}

/// Refuses what was signed by a clock that is too far off.
pub(super) fn check_skew(said: SystemTime, now: SystemTime) -> Outcome<()> {
    let skew = now.duration_since(said).unwrap_or_else(|ahead| ahead.duration());
    if skew > SKEW_MAX { Err(Refusal::time_too_skewed()) } else { Ok(()) }
}

/// Which headers a signature covers.
enum Covered {
    /// The `x-amz-` ones.
    Version2,
    Named(Vec<String>),
    /// It is a form, whose policy says so.
    Policy,
}

fn covered_headers(uri: &Uri, headers: &HeaderMap) -> Outcome<Covered> {
    // In the order in which the protocol library looks for a signature: what it did not look at proves nothing.
    let in_query = |wanted: &str| query(uri).find(|(name, _)| name == wanted);
    if in_query("Signature").is_some() {
        return Ok(Covered::Version2);
    }
    let authorization = header(headers, "authorization");
    let is_presigned = in_query("X-Amz-Signature").is_some();
    let list = match authorization.filter(|value| !is_presigned || value.starts_with(VERSION_2)) {
        Some(authorization) if authorization.starts_with(VERSION_2) => return Ok(Covered::Version2),
        Some(authorization) => {
            let fields = authorization
                .strip_prefix("AWS4-HMAC-SHA256")
                .ok_or_else(|| Refusal::invalid_argument().with_message("Unsupported Authorization Type"))?;
            let list = fields.split(',').find_map(|field| field.trim().strip_prefix("SignedHeaders="));
            list.map(str::to_owned)
        }
        None => in_query("X-Amz-SignedHeaders").map(|(_, list)| list),
    };
    let names = |list: String| Covered::Named(list.split(';').map(str::to_ascii_lowercase).collect());
    Ok(list.map_or(Covered::Policy, names))
}

/// What a form says is signed in its policy, which allows an upload and no internal request.
pub(super) fn check_internal(method: &Method, uri: &Uri, headers: &HeaderMap) -> Outcome<()> {
    let is_form = |value: &HeaderValue| {
        value.as_bytes().trim_ascii_start().to_ascii_lowercase().starts_with(b"multipart/form-data")
    };
    if method == Method::POST && headers.get_all("content-type").iter().any(is_form) {
        return Err(Refusal::access_denied());
    }
    check_signed_headers(uri, headers)
}

/// A header that changes what a request does must be covered by its signature.
pub(super) fn check_signed_headers(uri: &Uri, headers: &HeaderMap) -> Outcome<()> {
    let covered = covered_headers(uri, headers)?;
    let is_covered = |name: &str| match &covered {
        Covered::Version2 => name.starts_with("x-amz-"),
        Covered::Named(names) => names.iter().any(|signed| signed == name),
        Covered::Policy => true,
    };
    let is_uncovered = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        // What is beyond ASCII cannot be signed in the same way by all clients.
        let is_foreign_text = name.starts_with("x-amz-meta-") && value.to_str().is_err();
        !is_foreign_text && (name.starts_with("x-amz-") || name.starts_with("x-scal-"))
            // The protocol library holds it against the body.
            && name != "x-amz-content-sha256"
            && !is_covered(name)
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
        assert_eq!(check("AWS a:b", "/b/k", "x-scal-version-id"), Err("AccessDenied"));
        assert_eq!(check("", "/b/k?Signature=a", "x-amz-tagging"), Ok(()));
        assert_eq!(check("", "/b/k?Signature=a", "x-scal-version-id"), Err("AccessDenied"));
        assert_eq!(check("AWS2-HMAC-SHA1 Credential=a/b", "/b/k", "x-amz-acl"), Err("InvalidArgument"));
        let presigned = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl";
        assert_eq!(check("", presigned, "x-amz-acl"), Ok(()));
        assert_eq!(check("", presigned, "x-amz-tagging"), Err("AccessDenied"));
        // What is not looked at when the signature is checked covers nothing.
        let presigned = "/b/k?X-Amz-SignedHeaders=host&X-Amz-Signature=1";
        assert_eq!(check(v4, presigned, "x-amz-acl"), Err("AccessDenied"));
        let v4 = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-scal-version-id, Signature=c";
        assert_eq!(check(v4, "/b/k?Signature=a", "x-scal-version-id"), Err("AccessDenied"));
    }

    #[test]
    fn signatures_of_version_2_age() {
        // Fri, 20 Nov 2026 16:38:25 GMT
        let now = UNIX_EPOCH + Duration::from_secs(1_795_192_705);
        let check = |dates: &[(&'static str, &'static str)], now| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static("AWS a:b"));
            for (name, value) in dates {
                headers.append(*name, HeaderValue::from_static(value));
            }
            check_date(&headers, now).map_err(|refusal| (refusal.status.as_u16(), refusal.code))
        };
        let at = "Fri, 20 Nov 2026 16:38:25 GMT";
        let (denied, skewed) = (Err((403, "AccessDenied")), Err((403, "RequestTimeTooSkewed")));
        for clock in [now, now + SKEW_MAX, now - SKEW_MAX] {
            assert_eq!(check(&[("date", at)], clock), Ok(()));
            assert_eq!(check(&[("x-amz-date", at)], clock), Ok(()));
        }
        for clock in [now + SKEW_MAX + Duration::from_secs(1), now - SKEW_MAX - Duration::from_secs(1)] {
            assert_eq!(check(&[("date", at)], clock), skewed);
            assert_eq!(check(&[("x-amz-date", "20261120T163825Z")], clock), skewed);
        }
        assert_eq!(check(&[], now), denied);
        assert_eq!(check(&[("date", "today")], now), denied);
        assert_eq!(check(&[("x-amz-date", "")], now), denied);
        assert_eq!(check(&[("date", "Thu, 01 Jan 1970 00:00:00 GMT")], now), skewed);
        // The date that counts is the one that is signed.
        let old = "Tue, 27 Mar 2007 19:36:42 +0000";
        assert_eq!(check(&[("date", old), ("x-amz-date", at)], now), Ok(()));
        assert_eq!(check(&[("date", at), ("x-amz-date", old)], now), skewed);
        assert_eq!(check(&[("date", at), ("date", at)], now), denied);
        assert_eq!(check(&[("date", at), ("x-amz-date", at), ("x-amz-date", at)], now), denied);
        // Other signatures are looked at elsewhere.
        assert!(check_date(&HeaderMap::new(), now).is_ok());
    }
}
