//! `/_/backbeat/api/...`: the engine's own API, for whoever reaches only the site (wire reference 1.13).

use crate::http::{Body as Sent, Request};
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::receive;
use crate::site::uri::{BACKBEAT, query};
use http::header::CONTENT_TYPE;
use s3s::{Body, S3Request, S3Response};
use std::time::Duration;

const REQUEST_BYTES_MAX: usize = 1 << 20;
const ANSWER_BYTES_MAX: usize = 16 << 20;
const TIME_MAX: Duration = Duration::from_secs(30);

/// Hands a request on, without its signature, and its answer back.
pub(super) async fn forward(site: &Site, request: S3Request<Body>) -> Outcome<S3Response<Body>> {
    let api = site.api().ok_or(Refusal::method_not_allowed())?;
    let rest = request.uri.path()[BACKBEAT.len()..].strip_prefix("api").unwrap_or_default();
    let path = crate::http::form_decode(&format!("/_{rest}"));
    let mut forwarded = Request::new(request.method, path).unsigned();
    for (name, value) in query(&request.uri) {
        forwarded = forwarded.query(name, value);
    }
    if let Some(kind) = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        forwarded = forwarded.header(CONTENT_TYPE.as_str(), kind);
    }
    let body = receive::collect(request.input, REQUEST_BYTES_MAX).await?;
    let answered = api.fetch(forwarded.body(Sent::full(body)), TIME_MAX, ANSWER_BYTES_MAX).await;
    let answered = answered.map_err(|error| {
        tracing::warn!(%error, "the API could not be asked");
        Refusal::service_unavailable()
    })?;
    let (head, body) = answered.into_parts();
    let mut response = S3Response::with_status(Body::from(body), head.status);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers.insert(CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}
