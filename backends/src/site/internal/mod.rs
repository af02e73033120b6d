//! The internal routes of the replication engine (wire reference 1), and the replication configuration of buckets.
//!
//! Every request is signed; the protocol library has verified that before it gets here. This file decides which route
//! answers; each route is a file of its own.

mod admin;
mod answer;
mod batch_delete;
mod condition;
mod configuration;
mod data;
mod expiration;
mod lifecycle;
mod metadata;
mod multiple_backend;
mod proxy;
mod request;

pub(super) use answer::{JsonRefusal, error_json, json_error};

use super::access::{INTERNAL, check_internal};
use super::admission;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::uri::{BACKBEAT, METADATA, parameter};
use crate::http::form_decode;
use http::{Extensions, HeaderMap, Method, Uri};
use request::Target;
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};
use std::sync::Arc;

/// Request header: which stored state a metadata write may replace.
pub(super) const IF_REVISION: &str = "x-backbeat-if-revision";
/// Response header: the stored state that metadata was read in.
pub(super) const REVISION: &str = "x-backbeat-revision";

/// The routes.
pub(super) struct InternalRoutes(pub(super) Arc<Site>);

#[async_trait::async_trait]
impl S3Route for InternalRoutes {
    fn is_match(&self, _: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        is_internal(uri) || replication_bucket(uri).is_some()
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let signer = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        let account = signer.and_then(|access_key| self.0.account(access_key)).cloned();
        let Some(account) = account else { return Err(Refusal::access_denied().into()) };
        check_internal(&request.method, &request.uri, &request.headers)?;
        if let Some(bucket) = replication_bucket(&request.uri) {
            return Ok(configuration::answer(&self.0, &bucket, request, &account).await?);
        }
        if request.uri.path().starts_with(METADATA) {
            let answered = admin::answer(&self.0, &request, &account).await;
            return Ok(answered.unwrap_or_else(|refusal| json_error(&refusal)));
        }
        if !request.uri.path().starts_with(BACKBEAT) {
            let error = Refusal { code: "InvalidURI", ..Refusal::invalid_argument() };
            return Err(error.with_message("Couldn't parse the specified URI.").into());
        }
        Ok(self.backbeat(request, &account).await.unwrap_or_else(|refusal| json_error(&refusal)))
    }
}

/// Paths that upstream dispatches before it looks for a bucket.
fn is_internal(uri: &Uri) -> bool {
    uri.path()
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(INTERNAL))
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The bucket of `/{bucket}?replication`.
fn replication_bucket(uri: &Uri) -> Option<String> {
    parameter(uri, "replication")?;
    let path = uri.path().strip_prefix('/')?;
    let bucket = path.strip_suffix('/').unwrap_or(path);
    (!bucket.is_empty() && !bucket.contains('/')).then(|| form_decode(bucket))
}

impl InternalRoutes {
    async fn backbeat(&self, request: S3Request<Body>, account: &Account) -> Outcome<S3Response<Body>> {
        let site = &self.0;
        admission::admit(site, &request.method, &request.uri, &request.headers)?;
        let target = Target::of(&request.uri);
        if target.kind == "api" {
            return proxy::forward(site, request).await;
        }
        let needs_key = matches!(
            target.kind.as_str(),
            "metadata" | "data" | "multiplebackenddata" | "multiplebackendmetadata" | "expiration"
        );
        let needs_bucket = needs_key || matches!(target.kind.as_str(), "lifecycle" | "index");
        if needs_bucket && target.bucket.is_empty() || needs_key && target.key.is_empty() {
            return Err(Refusal::method_not_allowed());
        }
        match (request.method.as_str(), target.kind.as_str()) {
            ("GET", "metadata") => metadata::read(site, &request, &target, account),
            ("PUT", "metadata") => metadata::write(site, request, target, account).await,
            ("PUT", "data") => data::write(site, request, &target, account).await,
            ("POST", "batchdelete") => batch_delete::delete(site, request, &target).await,
            ("PUT" | "POST" | "DELETE", "multiplebackenddata") => {
                multiple_backend::data(site, request, &target, account).await
            }
            ("GET", "multiplebackendmetadata") => multiple_backend::metadata(site, &request).await,
            ("GET", "lifecycle") => lifecycle::list(site, &request, &target, account),
            ("DELETE", "expiration") => expiration::expire(site, &request, target, account).await,
            ("GET" | "POST", "index") => Err(index(&request)),
            _ => Err(Refusal::method_not_allowed()),
        }
    }
}

/// Indexes are an affair of MongoDB: the file back end has none.
fn index(request: &S3Request<Body>) -> Refusal {
    let operation = parameter(&request.uri, "operation");
    if request.method == Method::POST && !matches!(operation.as_deref(), Some("add" | "delete")) {
        return Refusal::bad_request("").with_message("BadRequest");
    }
    Refusal::not_implemented()
}

/// Parses one input in every way that requests are parsed in here.
#[cfg(feature = "fuzzing")]
pub(super) fn parsers(data: &[u8]) {
    if let Ok(md) = metadata::parse_document(data) {
        assert!(metadata::parse_document(md.to_json().as_bytes()).is_ok(), "what is written can be read");
    }
    batch_delete::parse(data).map(drop).unwrap_or_default();
    multiple_backend::parts(data).map(drop).unwrap_or_default();
    let Ok(text) = std::str::from_utf8(data) else { return };
    condition::Condition::parse(text).map(drop).unwrap_or_default();
    multiple_backend::seconds(text);
    form_decode(text);
    if let Ok(uri) = text.parse::<Uri>() {
        let target = Target::of(&uri);
        assert!(!target.kind.contains('/') && !target.bucket.contains('/'));
        super::uri::query(&uri).count();
        request::wanted(&uri).map(drop).unwrap_or_default();
        replication_bucket(&uri);
    }
}
