//! The contract of the stats port as code: every adapter passes these cases.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::time::{Span, WallTime};
use bytes::Bytes;

use super::{Heard, ScoreRange, Scored, Stats};
use crate::clock::WallClock;
use crate::conformance::{applied, refused};

/// Gives one store, empty at the beginning of a case.
pub trait StatsHarness {
    /// The adapter.
    type Stats: Stats + Clone;
    /// The store.
    fn stats(&self) -> &Self::Stats;
    /// Lets this much time pass for the store.
    fn pass(&self, span: Span) -> impl Future<Output = ()>;
}

/// Gives one store that survives its process.
pub trait DurableStatsHarness {
    /// The adapter.
    type Stats: Stats;
    /// Opens the one store of this harness. The earlier one has been dropped.
    fn open(&self) -> impl Future<Output = Self::Stats>;
    /// Lets this much time pass for the store.
    fn pass(&self, span: Span) -> impl Future<Output = ()>;
}

/// A clock that moves when told to.
#[derive(Clone, Debug, Default)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// The clock to give to an adapter.
    pub fn clock(&self) -> WallClock {
        let time = Arc::clone(&self.0);
        WallClock::new(move || {
            let millis = i64::try_from(time.load(Ordering::SeqCst)).expect("tests do not last that long");
            WallTime::from_millis(1_700_000_000_000 + millis)
        })
    }

    /// Moves it on.
    pub fn pass(&self, span: Span) {
        self.0.fetch_add(span.as_millis(), Ordering::SeqCst);
    }
}

/// Stamps out the suite for one adapter: as tests, or by another macro (`conformance_list`).
#[macro_export]
macro_rules! stats_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::stats_conformance! { conformance_cases, $adapter, $harness }
    };
    ($stamp:ident, $adapter:ident, $harness:expr) => {
        $crate::$stamp! { $adapter, $harness, stats;
            counters_add_up,
            concurrent_additions_are_all_counted,
            a_counter_expires_and_begins_again,
            a_value_is_read_back_until_it_expires,
            a_lock_is_taken_once,
            a_deleted_key_is_gone,
            a_sorted_set_is_in_score_order,
            a_range_of_scores_includes_its_ends,
            pages_of_a_sorted_set_meet_without_gap,
            adding_a_member_again_moves_it,
            the_expiry_of_a_set_is_that_of_its_first_addition,
            the_last_member_takes_the_set_with_it,
            a_key_is_one_kind_of_thing,
            a_message_reaches_those_who_listen_now,
            a_slow_listener_learns_that_it_missed_something,
        }
    };
}

/// Stamps out the cases about restarts for one durable adapter.
#[macro_export]
macro_rules! durable_stats_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases! { $adapter, $harness, stats;
            everything_survives_a_restart_and_still_expires,
        }
    };
}

/// Lives are long: the stores of a suite may have clocks of their own, and machines may be slow.
fn minutes(count: u64) -> Span {
    Span::from_secs(count * 60)
}

fn scored(member: &str, score: i64) -> Scored {
    Scored { member: member.to_owned(), score }
}

async fn add_all(stats: &impl Stats, key: &str, entries: &[(&str, i64)]) {
    for (member, score) in entries {
        applied(stats.sorted_add(key, scored(member, *score), None).await);
    }
}

fn members(entries: &[Scored]) -> Vec<&str> {
    entries.iter().map(|entry| entry.member.as_str()).collect()
}

async fn value(stats: &impl Stats, key: &str) -> Option<Bytes> {
    applied(stats.values(&[key]).await).remove(0)
}

/// Up and down, and read as text.
pub async fn counters_add_up(harness: &impl StatsHarness) {
    let stats = harness.stats();
    assert_eq!(applied(stats.add("site:bb:crr:opspending", 3, None).await), 3);
    assert_eq!(applied(stats.add("site:bb:crr:opspending", -5, None).await), -2);
    let values = applied(stats.values(&["site:bb:crr:opspending", "none"]).await);
    assert_eq!(values, [Some(Bytes::from_static(b"-2")), None]);
}

/// No addition is lost.
pub async fn concurrent_additions_are_all_counted(harness: &impl StatsHarness) {
    let adders: Vec<_> = (0..8)
        .map(|_| {
            let stats = harness.stats().clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    applied(stats.add("count", 1, None).await);
                }
            })
        })
        .collect();
    for adder in adders {
        adder.await.expect("the adder ends");
    }
    assert_eq!(value(harness.stats(), "count").await, Some(Bytes::from_static(b"400")));
}

/// Interval counters live for a day.
pub async fn a_counter_expires_and_begins_again(harness: &impl StatsHarness) {
    let stats = harness.stats();
    applied(stats.add("ops", 1, Some(minutes(10))).await);
    harness.pass(minutes(6)).await;
    assert_eq!(applied(stats.add("ops", 1, Some(minutes(10))).await), 2);
    harness.pass(minutes(6)).await;
    assert_eq!(applied(stats.add("ops", 1, None).await), 3, "the second addition prolonged it");
    harness.pass(minutes(5)).await;
    assert_eq!(value(stats, "ops").await, None);
    assert_eq!(applied(stats.add("ops", 1, None).await), 1);
}

/// Values with and without a life; setting again replaces both.
pub async fn a_value_is_read_back_until_it_expires(harness: &impl StatsHarness) {
    let stats = harness.stats();
    applied(stats.set("short", Bytes::from_static(b"\x00\xff"), Some(minutes(2))).await);
    applied(stats.set("long", Bytes::from_static(b"x"), Some(minutes(2))).await);
    applied(stats.set("long", Bytes::from_static(b"y"), None).await);
    assert_eq!(value(stats, "short").await, Some(Bytes::from_static(b"\x00\xff")));
    harness.pass(minutes(3)).await;
    assert_eq!(value(stats, "short").await, None);
    assert_eq!(value(stats, "long").await, Some(Bytes::from_static(b"y")));
}

/// Two retries of one entry do not run at once.
pub async fn a_lock_is_taken_once(harness: &impl StatsHarness) {
    let stats = harness.stats();
    let key = "b:k:v:site:processingFailures";
    let take =
        |stats| async move { Stats::set_if_absent(stats, key, Bytes::from_static(b"true"), None).await };
    let (one, two) = tokio::join!(take(stats), take(stats));
    assert!(applied(one) ^ applied(two));
    applied(stats.delete(key).await);
    assert!(applied(stats.set_if_absent(key, Bytes::new(), Some(minutes(1))).await));
    harness.pass(minutes(2)).await;
    assert!(applied(take(stats).await), "an expired lock is free");
}

/// Whatever it was.
pub async fn a_deleted_key_is_gone(harness: &impl StatsHarness) {
    let stats = harness.stats();
    applied(stats.add("counter", 1, None).await);
    add_all(stats, "set", &[("a", 1)]).await;
    assert!(applied(stats.delete("counter").await));
    assert!(applied(stats.delete("set").await));
    assert!(!applied(stats.delete("set").await));
    assert_eq!(value(stats, "counter").await, None);
    assert_eq!(applied(stats.sorted_count("set").await), 0);
}

/// Equal scores by member.
pub async fn a_sorted_set_is_in_score_order(harness: &impl StatsHarness) {
    let stats = harness.stats();
    add_all(stats, "failed", &[("c", 5), ("b", 7), ("a", 7), ("d", -3)]).await;
    let all = applied(stats.sorted_range("failed", ScoreRange::ALL).await);
    assert_eq!(members(&all), ["d", "c", "a", "b"]);
    let back =
        applied(stats.sorted_range("failed", ScoreRange { descending: true, ..ScoreRange::ALL }).await);
    assert_eq!(members(&back), ["b", "a", "c", "d"]);
    assert!(applied(stats.sorted_range("none", ScoreRange::ALL).await).is_empty());
}

/// Both ends count.
pub async fn a_range_of_scores_includes_its_ends(harness: &impl StatsHarness) {
    let stats = harness.stats();
    add_all(stats, "failed", &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]).await;
    let range = ScoreRange { score_min: 2, score_max: 3, ..ScoreRange::ALL };
    assert_eq!(members(&applied(stats.sorted_range("failed", range).await)), ["b", "c"]);
}

/// Pagination borders: together the pages are the set.
pub async fn pages_of_a_sorted_set_meet_without_gap(harness: &impl StatsHarness) {
    let stats = harness.stats();
    let names: Vec<String> = (0..7).map(|index| format!("m{index}")).collect();
    for (name, score) in names.iter().zip([1, 1, 1, 2, 2, 3, 3]) {
        applied(stats.sorted_add("failed", scored(name, score), None).await);
    }
    for descending in [false, true] {
        let mut seen = Vec::new();
        for page in 0..4 {
            let range = ScoreRange { descending, skip: page * 3, limit: 3, ..ScoreRange::ALL };
            let part = applied(stats.sorted_range("failed", range).await);
            assert_eq!(part.len(), [3, 3, 1, 0][page]);
            seen.extend(part.into_iter().map(|entry| entry.member));
        }
        if descending {
            seen.reverse();
        }
        assert_eq!(seen, names);
    }
}

/// A member is in a set once.
pub async fn adding_a_member_again_moves_it(harness: &impl StatsHarness) {
    let stats = harness.stats();
    add_all(stats, "failed", &[("a", 1), ("b", 2), ("a", 3)]).await;
    assert_eq!(applied(stats.sorted_count("failed").await), 2);
    assert_eq!(applied(stats.sorted_score("failed", "a").await), Some(3));
    assert_eq!(applied(stats.sorted_score("failed", "c").await), None);
    assert_eq!(members(&applied(stats.sorted_range("failed", ScoreRange::ALL).await)), ["b", "a"]);
}

/// The failed set of an hour ends a day later, however much is added (replication reference 6.6).
pub async fn the_expiry_of_a_set_is_that_of_its_first_addition(harness: &impl StatsHarness) {
    let stats = harness.stats();
    let life = Some(minutes(10));
    applied(stats.sorted_add("hour", scored("a", 1), life).await);
    harness.pass(minutes(6)).await;
    applied(stats.sorted_add("hour", scored("b", 2), life).await);
    assert_eq!(applied(stats.sorted_count("hour").await), 2);
    harness.pass(minutes(5)).await;
    assert_eq!(applied(stats.sorted_count("hour").await), 0);
    applied(stats.sorted_add("hour", scored("c", 3), life).await);
    harness.pass(minutes(9)).await;
    assert_eq!(applied(stats.sorted_count("hour").await), 1, "a new set has a new life");
}

/// And with it its expiry and its kind.
pub async fn the_last_member_takes_the_set_with_it(harness: &impl StatsHarness) {
    let stats = harness.stats();
    applied(stats.sorted_add("set", scored("a", 1), Some(minutes(5))).await);
    assert!(applied(stats.sorted_remove("set", "a").await));
    assert!(!applied(stats.sorted_remove("set", "a").await));
    applied(stats.add("set", 1, None).await);
    harness.pass(minutes(6)).await;
    assert_eq!(value(stats, "set").await, Some(Bytes::from_static(b"1")));
}

/// Mixing kinds is refused and changes nothing.
pub async fn a_key_is_one_kind_of_thing(harness: &impl StatsHarness) {
    let stats = harness.stats();
    add_all(stats, "set", &[("a", 1)]).await;
    applied(stats.add("counter", 1, None).await);
    assert_eq!(refused(stats.add("set", 1, None).await), RefusalKind::Conflict);
    assert_eq!(refused(stats.sorted_add("counter", scored("a", 1), None).await), RefusalKind::Conflict);
    assert_eq!(refused(stats.sorted_count("counter").await), RefusalKind::Conflict);
    assert_eq!(applied(stats.sorted_count("set").await), 1);
}

/// Not earlier messages, not other channels; every listener.
pub async fn a_message_reaches_those_who_listen_now(harness: &impl StatsHarness) {
    let stats = harness.stats();
    let channel = "backbeat-replication-site";
    applied(stats.publish(channel, Bytes::from_static(b"early")).await);
    let mut one = applied(stats.subscribe(channel).await);
    let mut two = applied(stats.subscribe(channel).await);
    let mut other = applied(stats.subscribe("backbeat-replication-other").await);
    applied(stats.publish(channel, Bytes::from_static(b"{\"action\":\"pauseService\"}")).await);
    applied(stats.publish(channel, Bytes::from_static(b"second")).await);
    for listener in [&mut one, &mut two] {
        assert_eq!(
            listener.next().await,
            Heard::Message(Bytes::from_static(b"{\"action\":\"pauseService\"}"))
        );
        assert_eq!(listener.next().await, Heard::Message(Bytes::from_static(b"second")));
    }
    let silence = tokio::time::timeout(Duration::from_millis(50), other.next()).await;
    assert!(silence.is_err(), "heard {silence:?}");
}

/// Memory for listeners is bounded, and loss is told.
pub async fn a_slow_listener_learns_that_it_missed_something(harness: &impl StatsHarness) {
    let stats = harness.stats();
    let mut listener = applied(stats.subscribe("channel").await);
    for index in 0..2_000 {
        let told: Ending<()> = stats.publish("channel", Bytes::from(index.to_string())).await;
        applied(told);
    }
    let mut heard = 0_u64;
    let mut missed = 0_u64;
    while heard + missed < 2_000 {
        match listener.next().await {
            Heard::Message(_) => heard += 1,
            Heard::Missed(count) => missed += count,
            Heard::Closed => panic!("the store is there"),
        }
    }
    assert_eq!(heard + missed, 2_000);
}

/// Counters, values, sets, and when they end.
pub async fn everything_survives_a_restart_and_still_expires(harness: &impl DurableStatsHarness) {
    {
        let stats = harness.open().await;
        applied(stats.add("counter", 5, None).await);
        applied(stats.add("expiring", 5, Some(minutes(10))).await);
        applied(stats.set("value", Bytes::from_static(b"v"), None).await);
        applied(stats.set("deleted", Bytes::from_static(b"v"), None).await);
        applied(stats.delete("deleted").await);
        applied(stats.sorted_add("set", scored("a", 1), Some(minutes(20))).await);
        add_all(&stats, "set", &[("b", 2), ("c", 3)]).await;
        applied(stats.sorted_remove("set", "b").await);
    }
    harness.pass(minutes(11)).await;
    {
        let stats = harness.open().await;
        assert_eq!(applied(stats.add("counter", 1, None).await), 6);
        assert_eq!(value(&stats, "expiring").await, None);
        assert_eq!(value(&stats, "deleted").await, None);
        assert_eq!(value(&stats, "value").await, Some(Bytes::from_static(b"v")));
        assert_eq!(members(&applied(stats.sorted_range("set", ScoreRange::ALL).await)), ["a", "c"]);
        assert!(applied(stats.set_if_absent("expiring", Bytes::new(), None).await));
    }
    harness.pass(minutes(10)).await;
    let stats = harness.open().await;
    assert_eq!(applied(stats.sorted_count("set").await), 0);
    assert_eq!(value(&stats, "counter").await, Some(Bytes::from_static(b"6")));
    assert_eq!(value(&stats, "expiring").await, Some(Bytes::new()));
}
