//! Answers of the internal routes: JSON, errors too (wire reference 0.3).

use crate::site::error::Refusal;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use s3s::{Body, S3Response};
use serde::Serialize;

/// A body that is JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> S3Response<Body> {
    let body = body.into();
    let mut response = S3Response::with_status(Body::empty(), status);
    response.headers.insert("content-type", HeaderValue::from_static("application/json"));
    response.headers.insert("content-length", body.len().into());
    response.output = Body::from(body);
    response
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    code: &'a str,
    message: &'a str,
    resource: Option<()>,
    #[serde(rename = "requestId")]
    request_id: &'a str,
}

/// The JSON form of an error (wire reference 0.3). The request id is filled in where the response leaves the server.
pub(crate) fn error_json(code: &str, message: &str, request_id: &str) -> String {
    serde_json::to_string(&ErrorEnvelope { code, message, resource: None, request_id }).unwrap_or_default()
}

/// A refusal on its way out: the server writes the body, once it knows the request id.
#[derive(Clone, Debug)]
pub(crate) struct JsonRefusal(pub(crate) Refusal);

pub(crate) fn json_error(refusal: &Refusal) -> S3Response<Body> {
    let mut response = S3Response::with_status(Body::empty(), refusal.status);
    response.extensions.insert(JsonRefusal(refusal.clone()));
    response
}
