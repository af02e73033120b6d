//! Upstream's routes: health, metrics of sites, failed versions, pause and resume (API reference 1.5 to 1.9, 4.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use backbeat_backends::coordination::Coordination;
use backbeat_backends::queue::Queue;
use backbeat_backends::stats::Stats;
use backbeat_core::call::Ending;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::call::{ApiError, Call, json_of};
use super::operator::{Operator, OperatorError};
use super::report::{Parked, Retry};
use crate::driver::Sites;
use crate::driver::counters::INTERVAL_MS;

/// Versions in one page of failed versions.
const PAGE_MAX: usize = 100;

/// What every refusal of a body begins with.
const MALFORMED: &str = "The body of your POST request is not well-formed";

/// A part that is not well.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    component: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
}

/// The parts of this process that are not well.
pub(super) async fn problems<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Arc<Operator<Q, S, C, O>>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |component, site| problems.push(Problem { component, status: "NOT_READY", site });
    if operator.daemons.populator.summary().await.is_none() {
        report("log reader", None);
    }
    for daemon in &operator.daemons.sites {
        if daemon.handle.ask(|_, _| ()).await.is_none() {
            report("Consumer", Some(daemon.site.as_str().to_owned()));
        }
    }
    if operator.daemons.status.ask(|_, _| ()).await.is_none() {
        report("Consumer", None);
    }
    problems
}

/// The health of the queue and of what is connected (API reference 4.1). One process is its own only replica.
pub(super) async fn healthcheck<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Arc<Operator<Q, S, C, O>>,
) -> Result<Value, ApiError> {
    let topic = operator.topics.replication.as_str();
    let Ending::Applied(count) = operator.queue.partitions(&operator.topics.replication).await else {
        let description = "We encountered an internal error. Please try again.";
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", description));
    };
    let partitions: Vec<Value> =
        (0..count).map(|id| json!({"id": id, "leader": 0, "replicas": [0], "isrs": [0]})).collect();
    Ok(json!({
        "topics": {topic: {"name": topic, "partitions": partitions}},
        "internalConnections": {
            "isrHealth": "ok",
            "zookeeper": {"status": "ok", "details": {"name": "SYNC_CONNECTED", "code": 3}},
            "kafkaProducer": {"status": "ok"},
        },
    }))
}

/// Answers a route of upstream's.
pub(super) async fn answer<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Arc<Operator<Q, S, C, O>>,
    call: Call,
    path: &str,
) -> Result<Response, ApiError> {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", ["metrics", "crr", site]) => metrics(operator, site, "all").await,
        ("GET", ["metrics", "crr", site, kind]) => metrics(operator, site, kind).await,
        ("GET", ["crr", "status"]) => paused(operator, "all").await,
        ("GET", ["crr", "status", site, ..]) => paused(operator, site).await,
        ("POST", ["crr", action @ ("pause" | "resume")]) => {
            set_paused(operator, "all", *action == "pause").await
        }
        ("POST", ["crr", action @ ("pause" | "resume"), site]) => {
            set_paused(operator, site, *action == "pause").await
        }
        ("GET", ["crr", "failed"]) => {
            let listed = listed(operator, call.parameter("sitename"), call.parameter("marker")).await?;
            Ok(json_of(&listed))
        }
        ("GET", ["crr", "failed", bucket, key @ ..]) if !key.is_empty() => {
            let key = key.join("/");
            let version = call.parameter("versionId").filter(|version| !version.is_empty());
            let mut failed = operator.parked(None, false).await?;
            failed.retain(|each| {
                each.bucket == *bucket && each.key == key && each.version_id.as_deref() == version
            });
            Ok(json_of(&page(&failed, None)))
        }
        ("POST", ["crr", "failed"]) => {
            let retries = retries_of(&call.body)?;
            Ok(json_of(&operator.retry(&retries).await?))
        }
        ("GET" | "POST" | "DELETE", _) => Err(ApiError::no_route(path)),
        _ => Err(ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        )),
    }
}

fn sites<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    site: &str,
) -> Result<Vec<String>, ApiError> {
    if site == "all" {
        return Ok(operator.site_names().map(|site| site.as_str().to_owned()).collect());
    }
    operator.daemon(site)?;
    Ok(vec![site.to_owned()])
}

async fn paused<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    site: &str,
) -> Result<Response, ApiError> {
    let mut states = BTreeMap::new();
    for site in sites(operator, site)? {
        let state = if operator.is_paused(&site).await? { "disabled" } else { "enabled" };
        states.insert(site, state);
    }
    Ok(json_of(&states))
}

async fn set_paused<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    site: &str,
    paused: bool,
) -> Result<Response, ApiError> {
    for site in sites(operator, site)? {
        operator.set_paused(&site, paused).await?;
    }
    Ok(json_of(&json!({})))
}

async fn metrics<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    site: &str,
    kind: &str,
) -> Result<Response, ApiError> {
    const KINDS: [&str; 5] = ["backlog", "completions", "failures", "throughput", "pending"];
    let sites = sites(operator, site)?;
    let mut answer = Map::new();
    for known in KINDS.into_iter().filter(|known| kind == "all" || kind == *known) {
        let (description, results) = match known {
            "backlog" | "pending" => {
                let [count, size] = pending(operator, &sites).await?;
                let description = if known == "backlog" {
                    "Number of incomplete replication operations (count) and number of incomplete bytes transferred (size)"
                } else {
                    "Number of pending replication operations (count) and bytes (size)"
                };
                (description, json!({"count": count, "size": size}))
            }
            "completions" => {
                let [count, size] = day(operator, &sites, ["bb:crr:opsdone", "bb:crr:bytesdone"]).await?;
                let description = "Number of completed replication operations (count) and number of bytes transferred (size) in the last 86400 seconds";
                (description, json!({"count": count, "size": size}))
            }
            "failures" => {
                let mut failed = operator.parked(None, false).await?;
                failed.retain(|each| sites.contains(&each.site));
                let description = "Number of failed replication operations (count) and bytes (size) in the last 86400 seconds";
                (description, json!({"count": failed.len(), "size": 0}))
            }
            _ => {
                let [count, size] = throughput(operator, &sites).await?;
                let description = "Current throughput for replication operations in ops/sec (count) and bytes/sec (size) in the last 900 seconds";
                (description, json!({"count": count, "size": size}))
            }
        };
        answer.insert(known.to_owned(), json!({"description": description, "results": results}));
    }
    if answer.is_empty() {
        return Err(ApiError::no_route(&format!("metrics/crr/{site}/{kind}")));
    }
    Ok(json_of(&answer))
}

/// Operations and bytes that were counted as queued and not yet as done, never below zero.
async fn pending<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    sites: &[String],
) -> Result<[i64; 2], OperatorError> {
    let mut sums = [0_i64; 2];
    for site in sites {
        let keys = [format!("{site}:bb:crr:opspending"), format!("{site}:bb:crr:bytespending")];
        let values = operator.stats.values(&[&keys[0], &keys[1]]).await;
        let values = super::operator::answered(values, "the counters")?;
        for (sum, value) in sums.iter_mut().zip(values) {
            let text = value.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
            *sum += text.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        }
    }
    Ok(sums.map(|sum| sum.max(0)))
}

async fn day<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    sites: &[String],
    bases: [&str; 2],
) -> Result<[u64; 2], OperatorError> {
    let mut sums = [0; 2];
    for site in sites {
        let [ops, bytes] = operator.day(site, bases).await?;
        sums = [sums[0] + ops, sums[1] + bytes];
    }
    Ok(sums)
}

/// The last 900 seconds: three intervals and what is left of a fourth (API reference 2.3).
async fn throughput<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    sites: &[String],
) -> Result<[String; 2], OperatorError> {
    let into = operator.clock.now().as_millis().rem_euclid(INTERVAL_MS);
    let left = (INTERVAL_MS - into) as f64 / INTERVAL_MS as f64;
    let mut rates = [0.0; 2];
    for site in sites {
        for (rate, base) in rates.iter_mut().zip(["bb:crr:opsdone", "bb:crr:bytesdone"]) {
            let newest = operator.intervals(site, base, 4).await?;
            let whole: u64 = newest.iter().take(3).sum();
            *rate += (whole as f64 + left * newest[3] as f64) / 900.0;
        }
    }
    Ok(rates.map(two_decimals))
}

/// Two decimals, ties away from zero as upstream's clients see them.
fn two_decimals(number: f64) -> String {
    format!("{:.2}", (number * 100.0 + 0.5).floor() / 100.0)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    versions: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<u64>,
}

/// One page of failed versions from `marker` on. Upstream's marker is a time; ours counts versions, which never repeats any.
fn page(failed: &[Parked], marker: Option<u64>) -> Page {
    let skip = usize::try_from(marker.unwrap_or(0)).unwrap_or(usize::MAX);
    let versions = failed.iter().skip(skip).take(PAGE_MAX).map(|each| {
        json!({"Bucket": each.bucket, "Key": each.key, "VersionId": each.version_id, "StorageClass": each.site,
            "LastModified": each.last, "Reason": each.reason})
    });
    let end = skip.saturating_add(PAGE_MAX);
    let is_truncated = failed.len() > end;
    Page { is_truncated, versions: versions.collect(), next_marker: is_truncated.then_some(end as u64) }
}

async fn listed<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    operator: &Operator<Q, S, C, O>,
    site: Option<&str>,
    marker: Option<&str>,
) -> Result<Page, ApiError> {
    let invalid = |description| ApiError::new(StatusCode::BAD_REQUEST, "InvalidQueryParameter", description);
    let marker = match marker.map(str::parse) {
        None => None,
        Some(Ok(marker)) => Some(marker),
        Some(Err(_)) => return Err(invalid("marker must be a number")),
    };
    match site {
        Some("") => Err(invalid("sitename must be a non-empty string")),
        Some(site) if operator.daemon(site).is_ok() => {
            Ok(page(&operator.parked(Some(site), false).await?, marker))
        }
        // As upstream: nothing is listed without a site, or for one that does not exist.
        Some(_) | None => Ok(page(&[], None)),
    }
}

/// The body of a retry, checked as upstream checks it.
fn retries_of(body: &[u8]) -> Result<Vec<Retry>, ApiError> {
    let malformed = |detail: &str| {
        ApiError::new(StatusCode::BAD_REQUEST, "MalformedPOSTRequest", format!("{MALFORMED}{detail}"))
    };
    let value: Value = serde_json::from_slice(body).map_err(|_| malformed(""))?;
    let items = value.as_array().filter(|items| !items.is_empty());
    let items = items.ok_or_else(|| malformed(": body must be a non-empty array"))?;
    if items.iter().any(|item| !item.is_object()) {
        return Err(malformed(": body must be an array of objects"));
    }
    for name in ["Bucket", "Key", "StorageClass"] {
        let usable =
            |item: &Value| item.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !items.iter().all(usable) {
            return Err(malformed(&format!(": {name} must be a non-empty string")));
        }
    }
    serde_json::from_value(value).map_err(|error| malformed(&format!(": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_refused_in_upstreams_words() {
        let refusal = |body: &str| match retries_of(body.as_bytes()) {
            Ok(_) => panic!("{body} is not usable"),
            Err(error) => format!("{error:?}"),
        };
        for body in ["", "{", "{}", "[]"] {
            assert!(refusal(body).contains(MALFORMED), "{body}");
        }
        assert!(refusal("[null]").contains("must be an array of objects"));
        assert!(
            refusal(r#"[{"Bucket":"b","Key":"","StorageClass":"s"}]"#).contains("Key must be a non-empty")
        );
        let usable = retries_of(br#"[{"Bucket":"b","Key":"k","StorageClass":"s","ForceRetry":true}]"#);
        assert!(usable.expect("usable")[0].force_retry);
    }

    #[test]
    fn rates_are_rounded_half_up() {
        assert_eq!(two_decimals(0.125), "0.13");
        assert_eq!(two_decimals(0.0), "0.00");
        assert_eq!(two_decimals(6990.506), "6990.51");
    }
}
