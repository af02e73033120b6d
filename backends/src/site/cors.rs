//! Which pages of other origins may use a bucket from a browser: the rules of a bucket, and the answers to browsers.

use super::access::signer;
use super::attributes::{CorsRule, METHODS};
use super::bucket;
use super::error::{Outcome, Refusal};
use super::headers::{header, insert};
use super::metadata::Site;
use http::{Method, Request, Response, StatusCode, Uri};
use s3s::dto::{
    DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput, GetBucketCorsOutput,
    PutBucketCorsInput, PutBucketCorsOutput,
};
use s3s::{Body, S3Request, S3Response};
use std::sync::Arc;

const NOT_ALLOWED: &str = "CORSResponse: This CORS request is not allowed. This is usually because the evalution of \
    Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by \
    the resource's CORS spec.";

/// The rules of the bucket that a path is in.
fn rules(site: &Site, uri: &Uri) -> Option<Vec<CorsRule>> {
    let name = uri.path().trim_start_matches('/').split('/').next()?;
    site.read(|txn| bucket::find(txn, name)).ok()??.cors
}

/// A request of a browser as far as its answer depends on the rules.
pub(super) struct FromPage {
    origin: String,
    method: Method,
    uri: Uri,
}

impl FromPage {
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let origin = header(request.headers(), "origin")?.to_owned();
        Some(Self { origin, method: request.method().clone(), uri: request.uri().clone() })
    }

    /// Tells the browser whether the page may see the answer.
    pub(super) fn allow(&self, site: &Site, response: &mut Response<Body>) {
        for rule in rules(site, &self.uri).unwrap_or_default() {
            if let Some(pattern) = rule.allows(&self.origin, self.method.as_str(), &[]) {
                rule.answer(pattern, &self.origin, &[], response.headers_mut());
                return;
            }
        }
    }
}

/// The answer to a browser that asks before it sends a request.
pub(super) fn preflight<B>(site: &Site, request: &Request<B>) -> Outcome<Response<Body>> {
    let bad = |message: String| Refusal::bad_request("").with_message(message);
    let headers = request.headers();
    let origin = header(headers, "origin")
        .filter(|origin| !origin.is_empty())
        .ok_or_else(|| bad("Insufficient information. Origin request header needed.".into()))?;
    let method = header(headers, "access-control-request-method").unwrap_or_default();
    if !METHODS.contains(&method) {
        return Err(bad(format!("Invalid Access-Control-Request-Method: {method}")));
    }
    let asked: Vec<String> = header(headers, "access-control-request-headers")
        .unwrap_or("")
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let forbidden = |message: &'static str| Refusal {
        code: "AccessForbidden",
        status: StatusCode::FORBIDDEN,
        message: message.into(),
    };
    let rules = rules(site, request.uri())
        .ok_or_else(|| forbidden("CORSResponse: CORS is not enabled for this bucket."))?;
    for rule in rules {
        if let Some(pattern) = rule.allows(origin, method, &asked) {
            let mut response = Response::new(Body::empty());
            rule.answer(pattern, origin, &asked, response.headers_mut());
            insert(response.headers_mut(), "content-length", Some("0"));
            return Ok(response);
        }
    }
    Err(forbidden(NOT_ALLOWED))
}

pub(super) fn of_bucket(
    site: &Site,
    request: &S3Request<GetBucketCorsInput>,
) -> Outcome<S3Response<GetBucketCorsOutput>> {
    let account = signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    let rules = bucket.cors.ok_or(Refusal::no_such_cors())?;
    let rules = rules.into_iter().map(CorsRule::shown).collect();
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
}

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutBucketCorsInput>,
) -> Outcome<S3Response<PutBucketCorsOutput>> {
    let account = signer(site, &request)?;
    let rules = CorsRule::parse_all(request.input.cors_configuration.cors_rules)?;
    bucket::change(site, account, request.input.bucket, move |bucket| {
        bucket.cors = Some(rules);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(super) async fn delete(
    site: &Arc<Site>,
    request: S3Request<DeleteBucketCorsInput>,
) -> Outcome<S3Response<DeleteBucketCorsOutput>> {
    let account = signer(site, &request)?;
    bucket::change(site, account, request.input.bucket, |bucket| {
        bucket.cors = None;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}
