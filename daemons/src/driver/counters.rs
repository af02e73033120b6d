//! Counts what happens to each site, for the keys that the API of existing installations reads (replication reference
//! appendix C): added up in the stats store, or published on the metrics topic for whoever consumes that
//! ([`crate::consumers`]). Counters may be lost in a crash; statuses are kept elsewhere.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::clock::WallClock;
use backbeat_backends::queue::{Queue, Record};
use backbeat_backends::stats::Stats;
use backbeat_core::call::Ending;
use backbeat_core::id::{Site, Topic};
use backbeat_core::model::{MetricKind, ObjectRef, SiteMetric};
use backbeat_core::time::{Span, WallTime};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::publisher::Publisher;

/// Counts that wait to be written. When the store cannot keep up, further ones are dropped and reported.
const WAITING_MAX: usize = 10_000;

/// How long counts are summed up before they are published as one message.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// How long an interval's counters stay.
pub const COUNTER_LIFE: Span = Span::from_secs(86_400);

/// The length of an interval.
pub const INTERVAL_MS: i64 = 300_000;

/// The name of the counter of one interval: `<site>:<base>:requests:<start of the interval>`.
pub fn interval_key(site: &str, base: &str, at: WallTime) -> String {
    let start = at.as_millis().div_euclid(INTERVAL_MS) * INTERVAL_MS;
    format!("{site}:{base}:requests:{start}")
}

/// What is added to which counter, and how long that one stays.
#[derive(Debug, Default)]
pub struct Additions(BTreeMap<String, (i64, Option<Span>)>);

impl Additions {
    /// Operations and bytes of a site. Either may be negative.
    pub fn site(&mut self, kind: MetricKind, site: &str, ops: i64, bytes: i64, now: WallTime) {
        let (interval, pending): (Option<[&str; 2]>, i64) = match kind {
            MetricKind::Queued => (Some(["bb:crr:ops", "bb:crr:bytes"]), 1),
            MetricKind::Completed => (Some(["bb:crr:opsdone", "bb:crr:bytesdone"]), -1),
            MetricKind::Failed => (Some(["bb:crr:opsfail", "bb:crr:bytesfail"]), -1),
            MetricKind::PendingOnly => (None, 1),
        };
        if let Some([ops_base, bytes_base]) = interval {
            self.add(interval_key(site, ops_base, now), ops, Some(COUNTER_LIFE));
            self.add(interval_key(site, bytes_base, now), bytes, Some(COUNTER_LIFE));
        }
        self.add(format!("{site}:bb:crr:opspending"), ops.saturating_mul(pending), None);
        self.add(format!("{site}:bb:crr:bytespending"), bytes.saturating_mul(pending), None);
    }

    /// Bytes of one object, named as `<bucket>:<key>:<version>`: how far its copy is. What failed is not counted.
    pub fn object(&mut self, kind: MetricKind, site: &str, object: &str, bytes: i64, now: WallTime) {
        let base = match kind {
            MetricKind::Queued => "bb:crr:object:bytes",
            MetricKind::Completed => "bb:crr:object:bytesdone",
            MetricKind::Failed | MetricKind::PendingOnly => return,
        };
        self.add(interval_key(&format!("{site}:{object}"), base, now), bytes, Some(COUNTER_LIFE));
    }

    fn add(&mut self, key: String, delta: i64, life: Option<Span>) {
        let sum = self.0.entry(key).or_insert((0, life));
        sum.0 = sum.0.saturating_add(delta);
    }

    /// The counters, each once.
    pub fn into_sums(self) -> impl Iterator<Item = (String, i64, Option<Span>)> {
        self.0.into_iter().map(|(key, (delta, life))| (key, delta, life))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Takes counts and brings them to where they are counted in the background, summed up.
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
                for (key, delta, life) in additions(&batch, clock.now()).into_sums() {
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

    /// Starts the task that publishes on the metrics topic, as other processes of the installation do (replication
    /// reference 4.8); it ends when the last clone of this is dropped, after a last attempt to publish what there is.
    ///
    /// Counts of a second are one message for each site and kind. What cannot be published is published later, with
    /// what was counted meanwhile.
    pub fn publishing<Q: Queue>(
        publisher: Publisher<Q>,
        topic: Topic,
        clock: WallClock,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (counts, waiting) = mpsc::channel(WAITING_MAX);
        let publishing = PublishedCounts {
            publisher,
            topic,
            clock,
            waiting,
            sums: BTreeMap::new(),
            due: None,
            under_way: None,
        };
        (Self { counts }, tokio::spawn(publishing.run()))
    }

    /// Counts.
    pub fn count(&self, metric: SiteMetric) {
        if let Err(error) = self.counts.try_send(metric) {
            tracing::warn!(%error, "count dropped");
        }
    }
}

/// The additions that `batch` amounts to.
fn additions(batch: &[SiteMetric], now: WallTime) -> Additions {
    let mut additions = Additions::default();
    for metric in batch {
        let (site, ops, bytes) =
            (metric.site.as_str(), signed(metric.ops.unwrap_or(0)), signed(metric.bytes));
        match &metric.object {
            None => additions.site(metric.kind, site, ops, bytes, now),
            Some(object) => {
                let version = object.version.query().unwrap_or_default();
                let object = format!("{}:{}:{version}", object.bucket, object.key);
                additions.object(metric.kind, site, &object, bytes, now);
            }
        }
    }
    additions
}

/// What is counted together: one message.
type Subject = (MetricKind, Site, Option<ObjectRef>);

/// Operations and bytes.
type Sums = BTreeMap<Subject, (Option<u64>, u64)>;

fn add(sums: &mut Sums, subject: Subject, (ops, bytes): (Option<u64>, u64)) {
    let sum = sums.entry(subject).or_default();
    sum.0 = match (sum.0, ops) {
        (Some(sum), Some(ops)) => Some(sum.saturating_add(ops)),
        (sum, ops) => sum.or(ops),
    };
    sum.1 = sum.1.saturating_add(bytes);
}

struct PublishedCounts<Q: Queue> {
    publisher: Publisher<Q>,
    topic: Topic,
    clock: WallClock,
    waiting: mpsc::Receiver<SiteMetric>,
    sums: Sums,
    /// When they are published.
    due: Option<Instant>,
    /// Being published; gives what was not.
    under_way: Option<Pin<Box<dyn Future<Output = Sums> + Send>>>,
}

impl<Q: Queue> PublishedCounts<Q> {
    async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let is_idle = self.under_way.is_none();
            tokio::select! {
                count = self.waiting.recv_many(&mut batch, WAITING_MAX) => {
                    if count == 0 {
                        break;
                    }
                    for metric in batch.drain(..) {
                        let numbers = (metric.ops, metric.bytes);
                        add(&mut self.sums, (metric.kind, metric.site, metric.object), numbers);
                    }
                    self.due.get_or_insert(Instant::now() + PUBLISH_INTERVAL);
                }
                () = until(self.due), if is_idle => self.publish(),
                unpublished = ended(&mut self.under_way) => self.published(unpublished),
            }
        }
        if self.under_way.is_some() {
            let unpublished = ended(&mut self.under_way).await;
            self.published(unpublished);
        }
        self.publish();
        let lost = ended(&mut self.under_way).await;
        if !lost.is_empty() {
            tracing::warn!(topic = %self.topic, messages = lost.len(), "counts not published");
        }
    }

    fn publish(&mut self) {
        self.due = None;
        let sums = std::mem::take(&mut self.sums);
        let now = self.clock.now();
        let sending = sums.into_iter().map(|(subject, numbers)| {
            let (kind, site, object) = subject.clone();
            let metric = SiteMetric { kind, site, ops: numbers.0, bytes: numbers.1, object };
            let sending = self.publisher.publish(&self.topic, Record::unkeyed(metric.to_message(now)));
            async move { (sending.await, subject, numbers) }
        });
        let sending = join_all(sending);
        self.under_way = Some(Box::pin(async move {
            let mut unpublished = Sums::new();
            for (ending, subject, numbers) in sending.await {
                // What may have been published is not repeated.
                if let Ending::Refused(refusal) = ending {
                    tracing::debug!(code = %refusal.code, "count not published yet");
                    add(&mut unpublished, subject, numbers);
                }
            }
            unpublished
        }));
    }

    fn published(&mut self, unpublished: Sums) {
        self.under_way = None;
        for (subject, numbers) in unpublished {
            add(&mut self.sums, subject, numbers);
            self.due.get_or_insert(Instant::now() + PUBLISH_INTERVAL);
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What is not published of what is under way; waits for ever if nothing is.
async fn ended(under_way: &mut Option<Pin<Box<dyn Future<Output = Sums> + Send>>>) -> Sums {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Consumer as _, ConsumerEvent, TopicSpec};

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
        let sums = additions(&batch, WallTime::from_millis(600_001)).0;
        let value = |key: &str| sums.get(key).map(|(sum, _)| *sum);
        assert_eq!(value("paris:bb:crr:ops:requests:600000"), Some(3));
        assert_eq!(value("paris:bb:crr:bytesdone:requests:600000"), Some(10));
        assert_eq!(value("paris:bb:crr:opsfail:requests:600000"), Some(1));
        assert_eq!(value("paris:bb:crr:opspending"), Some(2));
        assert_eq!(value("paris:bb:crr:bytespending"), Some(20));
        assert_eq!(sums["paris:bb:crr:opspending"].1, None, "pending counters never expire");
    }

    /// The messages that come within ten seconds.
    async fn published(queue: &MemoryQueue) -> Vec<String> {
        let consumer =
            queue.subscribe(&"group".into(), &[Topic::from("metrics")]).await.expect("it is there");
        let mut messages = Vec::new();
        while let Ok(event) = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await {
            if let ConsumerEvent::Message(message) = event.expect("the queue works") {
                assert_eq!(message.key, None);
                let payload = message.payload.expect("it has a payload");
                messages.push(String::from_utf8(payload.to_vec()).expect("it is text"));
            }
        }
        messages.sort();
        messages
    }

    #[tokio::test(start_paused = true)]
    async fn counts_of_a_second_are_published_as_one_message_even_if_the_topic_comes_late() {
        let clock = WallClock::tokio(WallTime::from_millis(1_700_000_000_000));
        let queue = Arc::new(MemoryQueue::new(clock.clone()));
        let publisher = Publisher::new(Arc::clone(&queue), Registry::default());
        let (counters, task) = Counters::publishing(publisher, "metrics".into(), clock);
        let count = |kind, bytes| counters.count(SiteMetric::of_site(kind, Site::from("paris"), 1, bytes));
        (0..500).for_each(|_| count(MetricKind::Completed, 10));
        count(MetricKind::Queued, 7);
        // Between two attempts to publish the first ones.
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        (0..500).for_each(|_| count(MetricKind::Completed, 10));
        assert_eq!(queue.create_topic(&TopicSpec::new("metrics")).await, Ending::Applied(()));
        tokio::time::sleep(Duration::from_secs(5)).await;
        count(MetricKind::Failed, 3);
        drop(counters);
        task.await.expect("no panic");
        let messages = published(&queue).await;
        assert_eq!(messages.len(), 3, "{messages:?}");
        let ends = [
            r#","ops":1,"bytes":7,"extension":"crr","type":"queued","site":"paris"}"#,
            r#","ops":1000,"bytes":10000,"extension":"crr","type":"completed","site":"paris"}"#,
            r#","ops":1,"bytes":3,"extension":"crr","type":"failed","site":"paris"}"#,
        ];
        for end in ends {
            assert!(messages.iter().any(|message| message.ends_with(end)), "{end} {messages:?}");
        }
    }
}
