//! The failed topic: final failures are put where the API of existing installations lists them, one sorted set for each
//! site and hour (replication reference 6.6).
//!
//! While the store is away the topic waits: a failure is not published again at its end, as upstream does after a while.
//! The sets are a view, the failures themselves are in the exceptions topic ([`super::Repair`]).

use std::sync::Arc;

use backbeat_backends::clock::WallClock;
use backbeat_backends::queue::Message;
use backbeat_backends::stats::{Scored, Stats};
use backbeat_core::call::Ending;
use backbeat_core::id::Site;
use backbeat_core::model::{FailureRecord, ObjectRef};
use backbeat_core::time::{Span, WallTime};
use serde::Deserialize;

use super::insistence::{Doubt, insist};
use super::reading::Work;

/// An hour, in milliseconds.
pub(super) const HOUR_MS: i64 = 3_600_000;

/// The sets that the API looks at: those of this hour and of so many before.
pub(super) const HOURS: i64 = 24;

/// Puts failures into their sets. Its group is `backbeat-retry-group`.
#[derive(Debug)]
pub struct FailureWork<S> {
    stats: Arc<S>,
    clock: WallClock,
}

impl<S: Stats> FailureWork<S> {
    /// The group that consumes the failed topic.
    pub const GROUP: &'static str = "backbeat-retry-group";

    /// Puts failures into `stats`.
    pub fn new(stats: Arc<S>, clock: WallClock) -> Self {
        Self { stats, clock }
    }
}

impl<S: Stats> Work for FailureWork<S> {
    async fn work(&self, messages: &[Message]) {
        for message in messages {
            let (slot, offset) = (&message.slot, message.offset.0);
            let stored: Stored = match serde_json::from_slice(message.payload.as_deref().unwrap_or_default())
            {
                Ok(stored) => stored,
                Err(error) => {
                    tracing::error!(%slot, offset, %error, "failure record passed over: it cannot be read");
                    continue;
                }
            };
            let record = FailureRecord { key: stored.key, member: stored.member, score: stored.score };
            let put =
                insist("listing failures", Doubt::Repeat, || put(&*self.stats, &record, self.clock.now()));
            if let Err(refusal) = put.await {
                tracing::error!(%slot, offset, code = %refusal.code, "failure record passed over: its set does not take it");
            }
        }
    }
}

/// A record as it is published.
#[derive(Deserialize)]
struct Stored {
    key: String,
    member: String,
    score: i64,
}

/// Puts a failure into its set.
pub(super) async fn put<S: Stats>(stats: &S, record: &FailureRecord, now: WallTime) -> Ending<()> {
    let scored = Scored { member: record.member.clone(), score: record.score };
    stats.sorted_add(&record.key, scored, Some(set_life(now))).await
}

/// Takes a version out of the set that it is in, as upstream does once it is queued again, and says whether it was in one.
pub async fn unlist<S: Stats>(stats: &S, site: &Site, object: &ObjectRef, now: WallTime) -> bool {
    for hours in 0..HOURS {
        let at = WallTime::from_millis(now.as_millis() - hours * HOUR_MS);
        let FailureRecord { key, member, .. } = FailureRecord::new(object, site, at);
        match stats.sorted_score(&key, &member).await {
            Ending::Applied(None) => {}
            Ending::Applied(Some(_)) => {
                return matches!(stats.sorted_remove(&key, &member).await, Ending::Applied(true));
            }
            Ending::Refused(_) | Ending::Unknown => return false,
        }
    }
    false
}

/// How long a set stays that is made now: whole seconds, until a day after the start of this hour.
fn set_life(now: WallTime) -> Span {
    let left = HOURS * HOUR_MS - now.as_millis().rem_euclid(HOUR_MS);
    Span::from_secs(u64::try_from(left).unwrap_or_default().div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::{Membership, start};
    use crate::driver::Publisher;
    use crate::metrics::Registry;
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Queue as _, Record, TopicSpec};
    use backbeat_backends::stats::ScoreRange;
    use backbeat_backends::stats::memory::MemoryStats;
    use backbeat_core::id::Topic;
    use backbeat_core::model::VersionRef;
    use std::time::Duration;

    #[test]
    fn a_set_stays_until_a_day_after_the_start_of_its_hour() {
        let life = |ms| set_life(WallTime::from_millis(ms)).as_millis();
        assert_eq!(life(1_727_784_000_000), 86_400_000);
        assert_eq!(life(1_727_784_000_001), 86_400_000, "rounded up to whole seconds");
        assert_eq!(life(1_727_787_599_999), 82_801_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_is_taken_out_of_the_hour_that_it_is_in() {
        let now = WallTime::from_millis(1_727_786_100_000);
        let stats = MemoryStats::new(WallClock::tokio(now));
        let (site, object) = (Site::from("paris"), ObjectRef::new("b", "k", VersionRef::Null));
        let failed = WallTime::from_millis(now.as_millis() - 5 * HOUR_MS);
        let record = FailureRecord::new(&object, &site, failed);
        assert_eq!(put(&stats, &record, now).await, Ending::Applied(()));
        assert!(!unlist(&stats, &"tokyo".into(), &object, now).await);
        assert!(unlist(&stats, &site, &object, now).await);
        assert_eq!(stats.sorted_count(&record.key).await, Ending::Applied(0));
        assert!(!unlist(&stats, &site, &object, now).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_listed_and_what_cannot_be_read_blocks_nothing() {
        let clock = WallClock::tokio(WallTime::from_millis(1_727_786_100_000));
        let queue = Arc::new(MemoryQueue::new(clock.clone()));
        queue.create_topic(&TopicSpec::new("failed")).await;
        let stats = Arc::new(MemoryStats::new(clock.clone()));
        let publisher = Publisher::new(Arc::clone(&queue), Registry::default());
        let topic = Topic::from("failed");
        // A set that is none.
        assert!(matches!(stats.add("taken", 1, None).await, Ending::Applied(1)));
        let key = "bb:crr:failed:paris:1727784000000";
        let record = |key: &str, member: &str, score| {
            FailureRecord { key: key.into(), member: member.into(), score }.to_message()
        };
        let messages = [
            "{}".to_owned(),
            record("taken", "b:k:v", 1),
            record(key, "b:k:v", 1_727_786_096_789),
            record(key, "b:k:v", 1_727_786_096_790),
            record(key, "b:a:b:", 1_727_786_096_788),
        ];
        for message in messages {
            let to_first = Record::unkeyed(message).at(backbeat_core::id::Partition(0));
            assert_eq!(publisher.publish(&topic, to_first).await, Ending::Applied(()));
        }
        let membership = Membership {
            group: FailureWork::<MemoryStats>::GROUP.into(),
            topics: vec![topic],
            drain_max: Duration::from_secs(10),
            paused: None,
        };
        let work = FailureWork::new(Arc::clone(&stats), clock);
        let (handle, task) =
            start(&*queue, membership, work, Registry::default()).await.expect("the topic is there");
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
        let Ending::Applied(listed) = stats.sorted_range(key, ScoreRange::ALL).await else {
            panic!("stats in memory answer")
        };
        let listed: Vec<_> = listed.into_iter().map(|entry| (entry.member, entry.score)).collect();
        let expected = [("b:a:b:", 1_727_786_096_788), ("b:k:v", 1_727_786_096_790)];
        assert_eq!(listed, expected.map(|(member, score)| (member.to_owned(), score)));
        tokio::time::sleep(Duration::from_hours(24)).await;
        assert_eq!(stats.sorted_count(key).await, Ending::Applied(0), "it expires");
    }
}
