//! Adds up what happens to each site in the stats store, under the keys that the API of existing installations reads
//! (replication reference appendix C). Counters may be lost in a crash; statuses are kept elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use backbeat_backends::clock::WallClock;
use backbeat_backends::stats::Stats;
use backbeat_core::call::Ending;
use backbeat_core::model::{MetricKind, SiteMetric};
use backbeat_core::time::{Span, WallTime};
use tokio::sync::mpsc;

/// Counts that wait to be written. When the store cannot keep up, further ones are dropped and reported.
const WAITING_MAX: usize = 10_000;

/// How long an interval's counters stay.
pub const COUNTER_LIFE: Span = Span::from_secs(86_400);

/// The length of an interval.
pub const INTERVAL_MS: i64 = 300_000;

/// The name of the counter of one interval: `<site>:<base>:requests:<start of the interval>`.
pub fn interval_key(site: &str, base: &str, at: WallTime) -> String {
    let start = at.as_millis().div_euclid(INTERVAL_MS) * INTERVAL_MS;
    format!("{site}:{base}:requests:{start}")
}

/// Takes counts and writes them down in the background, summed up.
#[derive(Clone, Debug)]
pub struct Counters {
    counts: mpsc::Sender<SiteMetric>,
}

impl Counters {
    /// Starts the task that writes to `stats`; it ends when the last clone of this is dropped.
    pub fn start<S: Stats>(stats: Arc<S>, clock: WallClock) -> (Self, tokio::task::JoinHandle<()>) {
        let (counts, mut waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, WAITING_MAX).await > 0 {
                for (key, (delta, life)) in sums(&batch, clock.now()) {
                    // What is not counted stays uncounted: an addition that may have happened is not repeated.
                    if !matches!(stats.add(&key, delta, life).await, Ending::Applied(_)) {
                        tracing::warn!(key, delta, "count not written");
                    }
                }
                batch.clear();
            }
        });
        (Self { counts }, task)
    }

    /// Counts.
    pub fn count(&self, metric: SiteMetric) {
        if let Err(error) = self.counts.try_send(metric) {
            tracing::warn!(%error, "count dropped");
        }
    }
}

/// The additions that `batch` amounts to.
fn sums(batch: &[SiteMetric], now: WallTime) -> BTreeMap<String, (i64, Option<Span>)> {
    let mut sums: BTreeMap<String, (i64, Option<Span>)> = BTreeMap::new();
    for metric in batch {
        let site = metric.site.as_str();
        let ops = i64::try_from(metric.ops.unwrap_or(0)).unwrap_or(i64::MAX);
        let bytes = i64::try_from(metric.bytes).unwrap_or(i64::MAX);
        let (interval, pending): (Option<[&str; 2]>, i64) = match metric.kind {
            MetricKind::Queued => (Some(["bb:crr:ops", "bb:crr:bytes"]), 1),
            MetricKind::Completed => (Some(["bb:crr:opsdone", "bb:crr:bytesdone"]), -1),
            MetricKind::Failed => (Some(["bb:crr:opsfail", "bb:crr:bytesfail"]), -1),
            MetricKind::PendingOnly => (None, 1),
        };
        let mut add = |key: String, delta: i64, life| {
            let sum = sums.entry(key).or_insert((0, life));
            sum.0 = sum.0.saturating_add(delta);
        };
        if let Some([ops_base, bytes_base]) = interval {
            add(interval_key(site, ops_base, now), ops, Some(COUNTER_LIFE));
            add(interval_key(site, bytes_base, now), bytes, Some(COUNTER_LIFE));
        }
        add(format!("{site}:bb:crr:opspending"), ops * pending, None);
        add(format!("{site}:bb:crr:bytespending"), bytes * pending, None);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_core::id::Site;

    #[test]
    fn counts_go_where_the_api_reads_them() {
        let site = Site::from("paris");
        let count = |kind, ops, bytes| SiteMetric::of_site(kind, site.clone(), ops, bytes);
        let batch = [
            count(MetricKind::Queued, 3, 30),
            count(MetricKind::Completed, 1, 10),
            count(MetricKind::Failed, 1, 7),
            count(MetricKind::PendingOnly, 1, 7),
        ];
        let sums = sums(&batch, WallTime::from_millis(600_001));
        let value = |key: &str| sums.get(key).map(|(sum, _)| *sum);
        assert_eq!(value("paris:bb:crr:ops:requests:600000"), Some(3));
        assert_eq!(value("paris:bb:crr:bytesdone:requests:600000"), Some(10));
        assert_eq!(value("paris:bb:crr:opsfail:requests:600000"), Some(1));
        assert_eq!(value("paris:bb:crr:opspending"), Some(2));
        assert_eq!(value("paris:bb:crr:bytespending"), Some(20));
        assert_eq!(sums["paris:bb:crr:opspending"].1, None, "pending counters never expire");
    }
}
