//! Which pages of other origins may use a bucket from a browser: the rules of a bucket, and the answers to browsers.

use super::access::signer;
use super::bucket;
use super::error::{Outcome, Refusal};
use super::headers::{header, insert};
use super::metadata::Site;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use s3s::dto::{
    CORSRule, DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput, GetBucketCorsOutput,
    PutBucketCorsInput, PutBucketCorsOutput,
};
use s3s::{Body, S3Request, S3Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const RULES_MAX: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
const NOT_ALLOWED: &str = "CORSResponse: This CORS request is not allowed. This is usually because the evalution of \
    Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by \
    the resource's CORS spec.";

/// A rule as the attributes of a bucket keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CorsRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    allowed_methods: Vec<String>,
    allowed_origins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_headers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expose_headers: Option<Vec<String>>,
}

/// A pattern with at most one `*` for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

impl CorsRule {
    fn parse(asked: CORSRule) -> Outcome<Self> {
        if asked.allowed_methods.is_empty() || asked.allowed_origins.is_empty() {
            return Err(Refusal::malformed_xml());
        }
        if let Some(method) = asked.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str()))
        {
            return Err(Refusal::invalid_request(format!(
                "Found unsupported HTTP method in CORS config. Unsupported method is \"{method}\""
            )));
        }
        let several = |text: &&String| text.matches('*').count() > 1;
        if let Some(origin) = asked.allowed_origins.iter().find(several) {
            let message = format!("AllowedOrigin \"{origin}\" can not have more than one wildcard.");
            return Err(Refusal::invalid_request(message));
        }
        if let Some(name) = asked.allowed_headers.iter().flatten().find(several) {
            let message = format!("AllowedHeader \"{name}\" can not have more than one wildcard.");
            return Err(Refusal::invalid_request(message));
        }
        if asked.max_age_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(Refusal::malformed_xml());
        }
        Ok(Self {
            id: asked.id,
            allowed_methods: asked.allowed_methods,
            allowed_origins: asked.allowed_origins,
            allowed_headers: asked.allowed_headers,
            max_age_seconds: asked.max_age_seconds,
            expose_headers: asked.expose_headers,
        })
    }

    fn shown(self) -> CORSRule {
        CORSRule {
            allowed_headers: self.allowed_headers,
            allowed_methods: self.allowed_methods,
            allowed_origins: self.allowed_origins,
            expose_headers: self.expose_headers,
            id: self.id,
            max_age_seconds: self.max_age_seconds,
        }
    }

    /// The origin pattern that lets a request through.
    fn allows(&self, origin: &str, method: &str, headers: &[String]) -> Option<&str> {
        let pattern = self.allowed_origins.iter().find(|pattern| matches(pattern, origin))?;
        let knows = |name: &String| {
            let known = self.allowed_headers.iter().flatten();
            known.into_iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name))
        };
        let is_allowed =
            self.allowed_methods.iter().any(|known| known == method) && headers.iter().all(knows);
        is_allowed.then_some(pattern.as_str())
    }

    fn answer(&self, pattern: &str, origin: &str, asked: &[String], headers: &mut HeaderMap) {
        if pattern == "*" {
            insert(headers, "access-control-allow-origin", Some("*"));
        } else {
            insert(headers, "access-control-allow-origin", Some(origin));
            insert(headers, "access-control-allow-credentials", Some("true"));
        }
        insert(headers, "access-control-allow-methods", Some(&self.allowed_methods.join(", ")));
        if !asked.is_empty() {
            insert(headers, "access-control-allow-headers", Some(&asked.join(", ")));
        }
        let exposed = self.expose_headers.as_ref().map(|names| names.join(", "));
        insert(
            headers,
            "access-control-expose-headers",
            exposed.as_deref().filter(|names| !names.is_empty()),
        );
        let age = self.max_age_seconds.map(|seconds| seconds.to_string());
        insert(headers, "access-control-max-age", age.as_deref());
        insert(headers, "vary", Some(VARY));
    }
}

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
    let asked = request.input.cors_configuration.cors_rules;
    if asked.is_empty() {
        return Err(Refusal::malformed_xml());
    }
    if asked.len() > RULES_MAX {
        let message = "The number of CORS rules should not exceed allowed limit of 100 rules.";
        return Err(Refusal::invalid_request(message));
    }
    let rules: Vec<CorsRule> = asked.into_iter().map(CorsRule::parse).collect::<Outcome<_>>()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stands_for_any_text() {
        assert!(matches("*", "http://a"));
        assert!(matches("http://*.example", "http://www.example"));
        assert!(matches("http://a", "http://a"));
        assert!(!matches("http://a", "http://b"));
        assert!(!matches("ab*ba", "aba"));
    }
}
