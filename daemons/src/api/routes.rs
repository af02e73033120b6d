//! The routes: upstream's under `/_/` and `/_/backbeat/api/`, our own under `/api/v1/` (API reference 1.3, 1.4).

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use backbeat_backends::coordination::Coordination;
use backbeat_backends::http::{form_decode, percent_decode};
use backbeat_backends::queue::Queue;
use backbeat_backends::stats::Stats;
use serde::Deserialize;
use serde_json::json;

use super::call::{ApiError, Call, json_of};
use super::crr;
use super::operator::{Operator, OperatorError};
use super::report::Retry;
use crate::directory::BackupError;
use crate::driver::Sites;

/// The web page: one file, nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// The type of the text form of metrics.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn text(kind: &'static str, body: impl Into<String>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

/// Answers one request.
pub(super) async fn answer<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Arc<Operator<Q, S, C, O>>,
    method: Method,
    uri: &Uri,
    body: Bytes,
) -> Response {
    let path = uri.path();
    let query = query_of(uri.query().unwrap_or(""));
    let call = |rest: &str| {
        let segments = rest.split('/').filter(|segment| !segment.is_empty());
        Call { method: method.clone(), segments: segments.map(percent_decode).collect(), query, body }
    };
    let upstream = path.strip_prefix("/_/backbeat/api/").or_else(|| path.strip_prefix("/_/"));
    let answered = match (path, upstream, path.strip_prefix("/api/v1/")) {
        ("/", ..) if method == Method::GET => Ok(text("text/html; charset=utf-8", PAGE)),
        ("/metrics", ..) if method == Method::GET => Ok(text(METRICS_TYPE, operator.metrics.encode())),
        (_, Some(rest), _) => match probe(operator, &method, rest).await {
            Some(probed) => probed,
            None => crr::answer(operator, call(rest), path).await,
        },
        (_, _, Some(rest)) => ours(operator, call(rest), path).await,
        _ => Err(ApiError::no_route(path)),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

/// Probes and metrics.
async fn probe<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Arc<Operator<Q, S, C, O>>,
    method: &Method,
    rest: &str,
) -> Option<Result<Response, ApiError>> {
    let answer = match rest {
        "live" | "ready" | "health/liveness" | "health/readiness" => {
            let problems = crr::problems(operator).await;
            if problems.is_empty() {
                text("text/plain", "OK")
            } else {
                (StatusCode::INTERNAL_SERVER_ERROR, json_of(&problems)).into_response()
            }
        }
        "monitoring/metrics" => text(METRICS_TYPE, operator.metrics.encode()),
        "healthcheck" => match crr::healthcheck(operator).await {
            Ok(health) => json_of(&health),
            Err(error) => error.into_response(),
        },
        _ => return None,
    };
    if *method != Method::GET {
        let description = "The specified method is not allowed against this resource.";
        return Some(Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", description)));
    }
    Some(Ok(answer))
}

/// Our own routes, which the command line and the web page use.
async fn ours<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Arc<Operator<Q, S, C, O>>,
    call: Call,
    path: &str,
) -> Result<Response, ApiError> {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", ["status"]) => Ok(json_of(&operator.status().await?)),
        ("GET", ["explain"]) => {
            let needed = |name: &str| {
                call.parameter(name)
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| OperatorError::Invalid(format!("the query parameter {name} is missing")))
            };
            let version = call.parameter("versionId").filter(|version| !version.is_empty());
            Ok(json_of(&operator.explain(needed("bucket")?, needed("key")?, version).await?))
        }
        ("GET", ["failed"]) => {
            let all = call.parameter("all") == Some("true");
            Ok(json_of(&operator.parked(call.parameter("site"), all).await?))
        }
        ("POST", ["failed", "retry"]) => {
            let retries: Vec<Retry> = serde_json::from_slice(&call.body).map_err(|error| {
                OperatorError::Invalid(format!("the body must be a list of versions: {error}"))
            })?;
            Ok(json_of(&operator.retry(&retries).await?))
        }
        ("POST", [action @ ("pause" | "resume"), site]) => {
            operator.set_paused(site, *action == "pause").await?;
            Ok(json_of(&json!({})))
        }
        ("POST", ["backup"]) => {
            let asked: Backup = serde_json::from_slice(&call.body).map_err(|error| {
                OperatorError::Invalid(format!("the body must name a directory: {error}"))
            })?;
            let written = operator.backups.write(asked.directory).await.map_err(|error| {
                let text = error.to_string();
                if matches!(error, BackupError::Place { .. }) {
                    OperatorError::Invalid(text)
                } else {
                    OperatorError::Unavailable(text)
                }
            })?;
            Ok(json_of(&written))
        }
        _ => Err(ApiError::no_route(path)),
    }
}

/// Where a copy of the data directory is to be made.
#[derive(Deserialize)]
struct Backup {
    directory: PathBuf,
}

/// The pairs of a query string, decoded.
fn query_of(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (form_decode(name), form_decode(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_forms() {
        assert_eq!(
            query_of("key=a+b%2B&x&versionId="),
            [("key", "a b+"), ("x", ""), ("versionId", "")].map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
    }
}
