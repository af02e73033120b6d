//! The metrics topic: what processes of the installation count, ours and upstream's, is added up in the stats store under
//! the keys that the API reads (replication reference 4.8, appendix C).
//!
//! A count may be added twice after a crash, as upstream's; while the store is away nothing is lost, the topic waits.

use std::sync::Arc;

use backbeat_backends::clock::WallClock;
use backbeat_backends::queue::Message;
use backbeat_backends::stats::Stats;
use backbeat_core::model::MetricKind;
use serde_json::{Map, Value};

use super::insistence::{Doubt, insist};
use super::reading::Work;
use crate::driver::counters::Additions;

/// The extension whose messages are ours; others have consumers of their own.
const EXTENSION: &str = "crr";

/// Adds up what the metrics topic says. Its group is `<metrics.groupIdPrefix>-crr`.
#[derive(Debug)]
pub struct MetricsWork<S> {
    stats: Arc<S>,
    clock: WallClock,
}

impl<S: Stats> MetricsWork<S> {
    /// Adds to `stats`. A count belongs to the interval in which it is consumed, as upstream's does.
    pub fn new(stats: Arc<S>, clock: WallClock) -> Self {
        Self { stats, clock }
    }
}

impl<S: Stats> Work for MetricsWork<S> {
    async fn work(&self, messages: &[Message]) {
        let mut additions = Additions::default();
        let now = self.clock.now();
        for message in messages {
            match Count::parse(message.payload.as_deref().unwrap_or_default()) {
                Ok(None) => {}
                Ok(Some(Count { kind, site, ops, bytes, object: None })) => {
                    additions.site(kind, &site, ops, bytes, now);
                }
                Ok(Some(Count { kind, site, bytes, object: Some(object), .. })) => {
                    additions.object(kind, &site, &object, bytes, now);
                }
                Err(reason) => {
                    let (slot, offset) = (&message.slot, message.offset.0);
                    tracing::error!(%slot, offset, reason, "metrics message passed over");
                }
            }
        }
        for (key, delta, life) in additions.into_sums() {
            let added = insist("counting", Doubt::GiveUp, || self.stats.add(&key, delta, life)).await;
            if let Err(refusal) = added {
                tracing::warn!(key, delta, code = %refusal.code, "count not written");
            }
        }
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    kind: MetricKind,
    site: String,
    ops: i64,
    bytes: i64,
    /// `<bucket>:<key>:<version>` of messages about one object.
    object: Option<String>,
}

impl Count {
    /// Reads a message. Nothing if it is none of ours, an error if nobody can know what it says.
    fn parse(payload: &[u8]) -> Result<Option<Self>, &'static str> {
        let message: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|_| "it is no JSON object")?;
        let text = |name: &str| message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("extension") != Some(EXTENSION) {
            return Ok(None);
        }
        let kind = match text("type") {
            Some("queued") => MetricKind::Queued,
            Some("completed") => MetricKind::Completed,
            Some("failed") => MetricKind::Failed,
            Some("pendingOnly") => MetricKind::PendingOnly,
            _ => return Err("its type is unknown"),
        };
        let site = text("site").ok_or("it names no site")?.to_owned();
        let number = |name: &str| match message.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => whole(value).map(Some).ok_or("its numbers are none"),
        };
        let (ops, bytes) = (number("ops")?, number("bytes")?.unwrap_or(0));
        let object = match (text("bucketName"), text("objectKey"), text("versionId")) {
            (Some(bucket), Some(key), Some(version)) => Some(format!("{bucket}:{key}:{version}")),
            // About an object without versions. Its site is counted by another message, which has operations.
            (Some(_), Some(_), None) if ops.is_none() => return Ok(None),
            _ => None,
        };
        Ok(Some(Self { kind, site, ops: ops.unwrap_or(0), bytes, object }))
    }
}

/// A number, also one that was written as text or with a fraction of nothing.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").unwrap_or(&text).parse().ok()
        }
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::{Membership, start};
    use crate::driver::Publisher;
    use crate::driver::counters::Counters;
    use crate::metrics::Registry;
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Queue as _, Record, TopicSpec};
    use backbeat_backends::stats::memory::MemoryStats;
    use backbeat_core::call::Ending;
    use backbeat_core::id::{Site, Topic};
    use backbeat_core::model::SiteMetric;
    use backbeat_core::time::WallTime;
    use std::time::Duration;

    fn count(json: &str) -> Option<Count> {
        Count::parse(json.as_bytes()).expect("it can be read")
    }

    #[test]
    fn messages_of_upstream_are_read_as_upstream_reads_them() {
        let site = count(
            r#"{"timestamp":1795193367014,"ops":1,"bytes":1000,"extension":"crr","type":"queued","site":"sf"}"#,
        );
        let expected =
            Count { kind: MetricKind::Queued, site: "sf".into(), ops: 1, bytes: 1000, object: None };
        assert_eq!(site, Some(expected));
        let object = count(
            r#"{"timestamp":1,"bytes":1000,"extension":"crr","type":"completed","site":"sf","bucketName":"b","objectKey":"one","versionId":"39"}"#,
        );
        assert_eq!(object.and_then(|count| count.object).as_deref(), Some("b:one:39"));
        let without_version = r#"{"bytes":5,"extension":"crr","type":"completed","site":"sf","bucketName":"b","objectKey":"one"}"#;
        assert_eq!(count(without_version), None, "the site's bytes would count twice");
        assert_eq!(count(r#"{"extension":"ingestion","type":"x"}"#), None);
        let negative = count(r#"{"ops":-1,"bytes":"7","extension":"crr","type":"pendingOnly","site":"sf"}"#);
        assert_eq!(negative.map(|count| (count.ops, count.bytes)), Some((-1, 7)));
        for unreadable in ["", "[]", r#"{"extension":"crr","type":"lost","site":"sf"}"#] {
            assert!(Count::parse(unreadable.as_bytes()).is_err(), "{unreadable}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_is_counted_and_what_cannot_be_read_blocks_nothing() {
        let clock = WallClock::tokio(WallTime::from_millis(1_700_000_400_000));
        let queue = Arc::new(MemoryQueue::new(clock.clone()));
        queue.create_topic(&TopicSpec::new("metrics")).await;
        let stats = Arc::new(MemoryStats::new(clock.clone()));
        let publisher = Publisher::new(Arc::clone(&queue), Registry::default());
        let membership = Membership {
            group: "backbeat-metrics-group-crr".into(),
            topics: vec!["metrics".into()],
            drain_max: Duration::from_secs(10),
            paused: None,
        };
        let work = MetricsWork::new(Arc::clone(&stats), clock.clone());
        let (handle, task) =
            start(&*queue, membership, work, Registry::default()).await.expect("the topic is there");
        let topic = Topic::from("metrics");
        for poison in ["", "null", "{\"extension\":\"crr\"}"] {
            assert_eq!(publisher.publish(&topic, Record::unkeyed(poison)).await, Ending::Applied(()));
        }
        let (counters, counting) = Counters::publishing(publisher.clone(), topic.clone(), clock);
        for _ in 0..30 {
            counters.count(SiteMetric::of_site(MetricKind::Queued, Site::from("paris"), 1, 10));
        }
        counters.count(SiteMetric::of_site(MetricKind::Completed, Site::from("paris"), 1, 10));
        drop(counters);
        counting.await.expect("no panic");
        let object = r#"{"bytes":6,"extension":"crr","type":"completed","site":"paris","bucketName":"b","objectKey":"k","versionId":"v"}"#;
        assert_eq!(publisher.publish(&topic, Record::unkeyed(object)).await, Ending::Applied(()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
        let keys = [
            "paris:bb:crr:ops:requests:1700000400000",
            "paris:bb:crr:bytes:requests:1700000400000",
            "paris:bb:crr:opsdone:requests:1700000400000",
            "paris:bb:crr:opspending",
            "paris:bb:crr:bytespending",
            "paris:b:k:v:bb:crr:object:bytesdone:requests:1700000400000",
        ];
        let Ending::Applied(values) = stats.values(&keys).await else { panic!("stats in memory answer") };
        let values: Vec<_> = values.into_iter().flatten().collect();
        assert_eq!(values, ["30", "300", "1", "29", "290", "6"]);
    }
}
