//! Requests with headers that S3 takes and the protocol library does not: entity tags of any signs without quotes, ranges and times
//! that are none and count as not given (RFC 9110, sections 13.1.3 and 14.2), user metadata that comes in several headers
//! of one name.
//!
//! The headers are part of what is signed, so that the request goes through the library twice: as it came, which checks
//! its signature, and then in words that the library takes.

use super::access::{Names, Verified, check_signed_headers};
use super::admission;
use super::error::Refusal;
use super::internal::InternalRoutes;
use super::metadata::Site;
use super::s3::Surface;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use s3s::dto::{ETagCondition, Range, Timestamp, TimestampFormat};
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::sync::Arc;

const TAGS: [&str; 4] =
    ["if-match", "if-none-match", "x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match"];
const TIMES: [&str; 4] = [
    "if-modified-since",
    "if-unmodified-since",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
];
const USER_METADATA: &str = "x-amz-meta-";

/// The routes of the site beside the operations of the protocol library.
pub(super) struct Routes {
    internal: InternalRoutes,
    site: Arc<Site>,
    /// The operations for who is known already.
    operations: S3Service,
}

impl Routes {
    pub(super) fn new(site: &Arc<Site>) -> Self {
        let mut operations = S3ServiceBuilder::new(Surface(Arc::clone(site)));
        operations.set_validation(Names);
        Self {
            internal: InternalRoutes(Arc::clone(site)),
            site: Arc::clone(site),
            operations: operations.build(),
        }
    }
}

#[async_trait::async_trait]
impl S3Route for Routes {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, extensions: &mut Extensions) -> bool {
        self.internal.is_match(method, uri, headers, extensions) || (!is_form(headers) && is_foreign(headers))
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let mut extensions = Extensions::new();
        if self.internal.is_match(&request.method, &request.uri, &request.headers, &mut extensions) {
            return self.internal.call(request).await;
        }
        check_signed_headers(&request.uri, &request.headers)?;
        admission::admit(&self.site, &request.method, &request.uri, &request.headers)?;
        let credentials = request.credentials.ok_or_else(|| S3Error::from(Refusal::access_denied()))?;
        let mut again = Request::new(request.input);
        *again.method_mut() = request.method;
        *again.uri_mut() = without_signature(&request.uri);
        *again.headers_mut() = in_plain_words(request.headers);
        *again.extensions_mut() = request.extensions;
        let verified = Verified { access_key: credentials.access_key, trailers: request.trailing_headers };
        again.extensions_mut().insert(verified);
        let response = self.operations.call(again).await.map_err(|error| {
            tracing::error!(?error, "the protocol library failed");
            S3Error::new(S3ErrorCode::InternalError)
        })?;
        let (head, body) = response.into_parts();
        let mut answer = S3Response::with_headers(body, head.headers);
        answer.status = Some(head.status);
        answer.extensions = head.extensions;
        Ok(answer)
    }
}

/// Forms carry what they say in their body.
fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data"))
}

fn is_tag(value: &HeaderValue) -> bool {
    ETagCondition::parse_http_header(value.as_bytes()).is_ok()
}

fn is_time(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| Timestamp::parse(TimestampFormat::HttpDate, text).is_ok())
}

fn is_range(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| Range::parse(text).is_ok())
}

/// The names of user metadata that come more than once.
fn repeated(headers: &HeaderMap) -> impl Iterator<Item = &HeaderName> {
    let is_repeated = |name: &&HeaderName| {
        name.as_str().starts_with(USER_METADATA) && headers.get_all(*name).iter().count() > 1
    };
    headers.keys().filter(is_repeated)
}

/// True if the protocol library would refuse a header that S3 takes.
fn is_foreign(headers: &HeaderMap) -> bool {
    let says = |names: &[&str], is_fine: fn(&HeaderValue) -> bool| {
        names.iter().any(|name| headers.get(*name).is_some_and(|value| !is_fine(value)))
    };
    says(&TAGS, is_tag)
        || says(&TIMES, is_time)
        || says(&["range"], is_range)
        || repeated(headers).next().is_some()
}

/// The headers as the protocol library takes them, without the signature.
fn in_plain_words(mut headers: HeaderMap) -> HeaderMap {
    for name in TAGS {
        let Some(value) = headers.get(name).filter(|value| !is_tag(value)) else { continue };
        let quoted = [b"\"", value.as_bytes().trim_ascii(), b"\""].concat();
        if let Ok(quoted) = HeaderValue::from_bytes(&quoted) {
            headers.insert(name, quoted);
        }
    }
    for name in TIMES {
        if headers.get(name).is_some_and(|value| !is_time(value)) {
            headers.remove(name);
        }
    }
    if headers.get("range").is_some_and(|value| !is_range(value)) {
        headers.remove("range");
    }
    for name in repeated(&headers).cloned().collect::<Vec<_>>() {
        let values: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b","[..])) {
            headers.insert(name, joined);
        }
    }
    headers.remove("authorization");
    headers
}

/// A target without the parameters of a presigned one.
fn without_signature(uri: &Uri) -> Uri {
    const SIGNATURE: [&str; 10] = [
        "AWSAccessKeyId=",
        "Expires=",
        "Signature=",
        "X-Amz-Algorithm=",
        "X-Amz-Credential=",
        "X-Amz-Date=",
        "X-Amz-Expires=",
        "X-Amz-Security-Token=",
        "X-Amz-Signature=",
        "X-Amz-SignedHeaders=",
    ];
    let Some(query) = uri.query() else { return uri.clone() };
    let is_kept = |parameter: &&str| !SIGNATURE.iter().any(|name| parameter.starts_with(name));
    let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
    let target =
        if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), kept.join("&")) };
    // A part of what was a target is one.
    target.parse().unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_what_the_library_would_refuse_goes_the_long_way() {
        for fine in [
            &[("if-match", "\"a\"")][..],
            &[("if-none-match", "*")],
            &[("if-modified-since", "Fri, 20 Nov 2026 16:38:25 GMT")],
            &[("range", "bytes=0-1")],
            &[("x-amz-meta-a", "1"), ("x-amz-meta-b", "1")],
        ] {
            assert!(!is_foreign(&headers(fine)), "{fine:?}");
        }
        for (foreign, plain) in [
            (&[("if-match", "a_b")][..], &[("if-match", "\"a_b\"")][..]),
            (
                &[("x-amz-copy-source-if-none-match", "a_2")],
                &[("x-amz-copy-source-if-none-match", "\"a_2\"")],
            ),
            (&[("if-modified-since", "yesterday")], &[]),
            (&[("range", "bytes=5-2")], &[]),
            (&[("range", "lines=1-2")], &[]),
            (&[("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")], &[("x-amz-meta-a", "1,2")]),
        ] {
            assert!(is_foreign(&headers(foreign)), "{foreign:?}");
            let mut signed = headers(foreign);
            signed.insert("authorization", HeaderValue::from_static("AWS4-HMAC-SHA256 x"));
            assert_eq!(in_plain_words(signed), headers(plain), "{foreign:?}");
        }
    }

    #[test]
    fn the_signature_of_a_presigned_target_goes_and_nothing_else() {
        let without = |target: &str| without_signature(&target.parse().unwrap()).to_string();
        let signed =
            "/b/k?versionId=1&X-Amz-Algorithm=A&X-Amz-Signature=b&x-id=GetObject&X-Amz-SignedHeaders=host";
        assert_eq!(without(signed), "/b/k?versionId=1&x-id=GetObject");
        assert_eq!(without("/b/k?X-Amz-Date=1"), "/b/k");
        assert_eq!(without("/b/k?AWSAccessKeyId=a&versionId=1&Expires=2&Signature=b"), "/b/k?versionId=1");
        assert_eq!(without("/b/a%20b"), "/b/a%20b");
    }
}
