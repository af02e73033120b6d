//! Internal requests about the longest keys. The protocol library takes everything behind `/_/` for a key and refuses more
//! than 1,024 bytes of it, before it looks at routes; a key of the full length with its route in front is longer. The
//! signature of such requests is checked here, by making it again, and then they go where all internal requests go.

use super::access::check_skew;
use super::error::Refusal;
use super::metadata::Site;
use crate::timestamp;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, Request};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest key that the protocol library takes, in bytes after decoding.
const LIBRARY_KEY_BYTES_MAX: usize = 1024;
/// What these clients announce in place of a digest of the body; with a digest the library has to check the body.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// True for an internal request that the protocol library would refuse for its length alone. A body that is signed is left
/// to the library all the same, which says that the key is too long.
pub(super) fn is_long<B>(request: &Request<B>) -> bool {
    let key = request.uri().path().strip_prefix("/_/").unwrap_or_default();
    // An escape of three bytes stands for one.
    let bytes = key.len() - 2 * key.bytes().filter(|byte| *byte == b'%').count().min(key.len() / 3);
    bytes > LIBRARY_KEY_BYTES_MAX && header(request.headers(), "x-amz-content-sha256") == Some(UNSIGNED)
}

/// The access key that signed a request.
///
/// # Errors
/// As S3 answers: unknown key, another signature, a clock that is too far off.
pub(super) fn signer<B>(site: &Site, request: &Request<B>, now: SystemTime) -> Result<String, Refusal> {
    let headers = request.headers();
    let authorization = header(headers, "authorization").ok_or_else(Refusal::access_denied)?;
    let claim = Claim::parse(authorization).ok_or_else(Refusal::access_denied)?;
    let account = site.account(claim.access_key).ok_or_else(Refusal::invalid_access_key)?;
    let said = header(headers, "x-amz-date").and_then(timestamp::parse_basic);
    let time = said.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let time = time.ok_or_else(Refusal::access_denied)?;
    check_skew(time, now)?;
    let made = claim.sign(request, &account.secret_key, time).ok_or_else(Refusal::signature_mismatch)?;
    if !is_equal(made.as_bytes(), claim.signature.as_bytes()) {
        return Err(Refusal::signature_mismatch());
    }
    Ok(claim.access_key.to_owned())
}

/// What an `Authorization` header says.
struct Claim<'a> {
    access_key: &'a str,
    region: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    fn parse(authorization: &'a str) -> Option<Self> {
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256")?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let mut scope = field("Credential")?.split('/');
        let (access_key, _day, region) = (scope.next()?, scope.next()?, scope.next()?);
        if scope.next()? != "s3" || scope.next()? != "aws4_request" {
            return None;
        }
        let signed_headers = field("SignedHeaders")?.split(';').collect();
        Some(Self { access_key, region, signed_headers, signature: field("Signature")? })
    }

    /// The signature that the owner of the secret would make.
    fn sign<B>(&self, request: &Request<B>, secret_key: &str, time: SystemTime) -> Option<String> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        // What was signed is signed again, and nothing else.
        settings.excluded_headers = None;
        let identity =
            aws_credential_types::Credentials::new(self.access_key, secret_key, None, None, "site").into();
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("s3")
            .time(time)
            .settings(settings)
            .build()
            .ok()?
            .into();
        let host = header(request.headers(), "host")?;
        let target = format!("http://{host}{}", request.uri().path_and_query()?);
        let mut headers = Vec::new();
        for name in &self.signed_headers {
            headers.push((*name, header(request.headers(), name)?));
        }
        let method = request.method().as_str();
        let signable =
            SignableRequest::new(method, target, headers.into_iter(), SignableBody::UnsignedPayload).ok()?;
        Some(sign(signable, &params).ok()?.into_parts().1)
    }
}

/// Compares in a time that does not depend on where two texts differ.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right)) == 0
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_the_library_would_refuse_are_long() {
        let request = |key: &str, digest: &str| {
            let uri = format!("http://x/_/backbeat/metadata/b/{key}");
            Request::builder().uri(uri).header("x-amz-content-sha256", digest).body(()).unwrap()
        };
        assert!(!is_long(&request(&"a".repeat(1004), UNSIGNED)));
        assert!(is_long(&request(&"a".repeat(1005), UNSIGNED)));
        assert!(!is_long(&request(&"a".repeat(1005), "e3b0")));
        assert!(!is_long(&request(&"%E9%95%B7".repeat(334), UNSIGNED)));
        assert!(is_long(&request(&"%E9%95%B7".repeat(341), UNSIGNED)));
    }
}
