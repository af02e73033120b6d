//! The section `extensions.replication` as the daemons use it (replication reference 11.6).

use backbeat_core::parts::RetryPolicy;
use backbeat_core::time::Span;
use serde::Deserialize;

/// The section. What a configuration leaves out comes from the embedded defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// The replication topic.
    pub topic: String,
    /// The topic of the data mover's requests; none if empty.
    #[serde(default)]
    pub data_mover_topic: Option<String>,
    /// The status topic.
    pub replication_status_topic: String,
    /// The topic of final failures.
    pub replication_failed_topic: String,
    /// Whether final failures are recorded.
    #[serde(default = "yes")]
    pub monitor_replication_failures: bool,
    /// The replay topics, in configured order.
    #[serde(default)]
    pub replay_topics: Vec<ReplayTopic>,
    /// The site processors.
    pub queue_processor: QueueProcessor,
    /// The status processor.
    pub replication_status_processor: StatusProcessor,
    /// The lanes.
    pub lane: Lane,
}

fn yes() -> bool {
    true
}

/// A replay topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayTopic {
    /// Its name.
    pub topic_name: String,
    /// How many attempts go through it.
    pub retries: u32,
}

/// `queueProcessor`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueProcessor {
    /// What the names of the consumer groups begin with.
    pub group_id: String,
    /// Copies under way at once.
    pub concurrency: usize,
    /// Parts of one version under way at once.
    #[serde(rename = "mpuPartsConcurrency")]
    pub parts_concurrency: usize,
    /// When copies are given up, by type of site.
    #[serde(default)]
    pub retry: RetryBySite,
}

/// `queueProcessor.retry`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RetryBySite {
    /// For sites that keep version ids.
    pub scality: Option<Retry>,
}

/// `replicationStatusProcessor`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusProcessor {
    /// The consumer group.
    pub group_id: String,
    /// Objects worked on at once.
    pub concurrency: usize,
    /// The waits between attempts.
    pub retry: Option<Retry>,
}

/// `lane`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    /// Entries of one key that wait in its lane.
    pub max_queued: usize,
}

/// A retry block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Retries before giving up.
    pub max_retries: Option<u32>,
    /// Seconds before giving up.
    #[serde(rename = "timeoutS")]
    pub timeout_s: Option<f64>,
    /// The waits.
    pub backoff: Backoff,
}

/// The waits between attempts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// The first, in milliseconds.
    pub min: Option<f64>,
    /// The longest, in milliseconds.
    pub max: Option<f64>,
    /// How much each is randomised, as a fraction.
    pub jitter: Option<f64>,
    /// What each is multiplied by for the next.
    pub factor: Option<f64>,
}

impl Retry {
    /// The policy that this block describes, with upstream's defaults for what it leaves out.
    pub fn policy(&self) -> RetryPolicy {
        let permille = |fraction: f64| whole(fraction * 1_000.0).try_into().unwrap_or(u32::MAX);
        let millis = |millis: f64| Span::from_millis(whole(millis));
        RetryPolicy {
            retries_max: Some(self.max_retries.unwrap_or(5)),
            timeout: millis(self.timeout_s.unwrap_or(300.0) * 1_000.0),
            delay_min: millis(self.backoff.min.unwrap_or(1_000.0)),
            delay_max: millis(self.backoff.max.unwrap_or(300_000.0)),
            factor_permille: permille(self.backoff.factor.unwrap_or(1.5)),
            jitter_permille: permille(self.backoff.jitter.unwrap_or(0.1)),
        }
    }
}

/// The nearest whole number, nothing below zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floats saturate when cast")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_block_becomes_a_policy() {
        let block: Retry = serde_json::from_str(r#"{"maxRetries":2,"timeoutS":1.5,"backoff":{"factor":2}}"#)
            .expect("a valid block");
        let policy = block.policy();
        assert_eq!((policy.retries_max, policy.timeout), (Some(2), Span::from_millis(1_500)));
        assert_eq!((policy.factor_permille, policy.jitter_permille), (2_000, 100));
        assert_eq!(policy.delay_min, Span::from_millis(1_000));
    }
}
