//! The contract of the journal port as code: every adapter passes these cases.

use std::future::Future;
use std::time::Duration;

use backbeat_core::id::{Bucket, Seq};
use backbeat_core::model::{LogEntry, LogRecord};
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;

use super::Journal;
use crate::conformance::applied;

/// Gives one journal and plays its source. Records of its own, of buckets that a case did not name, are left out by the
/// cases.
pub trait JournalHarness {
    /// The adapter.
    type Journal: Journal;
    /// The journal.
    fn journal(&self) -> &Self::Journal;
    /// Makes a record appear.
    fn append(&self, record: LogRecord) -> impl Future<Output = ()>;
    /// Makes everything before `oldest` disappear.
    fn truncate(&self, oldest: Seq) -> impl Future<Output = ()>;
}

/// Gives one journal, and the one that took its place.
pub trait ReplacedJournalHarness {
    /// The adapter.
    type Journal: Journal;
    /// The first journal, with one more record.
    fn before(&self, record: LogRecord) -> impl Future<Output = &Self::Journal>;
    /// The journal that took its place, empty.
    fn after(&self) -> impl Future<Output = &Self::Journal>;
}

/// Stamps out the suite for one adapter.
#[macro_export]
macro_rules! journal_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::journal_conformance! { conformance_cases, $adapter, $harness }
    };
    ($stamp:ident, $adapter:ident, $harness:expr) => {
        $crate::$stamp! { $adapter, $harness, journal;
            records_come_back_in_order_as_they_were_written,
            reading_again_gives_the_same,
            pages_meet_without_gap,
            the_end_is_told_without_records,
            an_empty_read_stays_where_it_is,
            a_waiting_read_is_answered_by_a_record,
            a_cancelled_wait_takes_nothing_with_it,
            a_reader_behind_a_writer_sees_every_record_once,
            lost_history_is_told,
        }
    };
}

/// Stamps out the cases about a journal that takes the place of another.
#[macro_export]
macro_rules! replaced_journal_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::replaced_journal_conformance! { conformance_cases, $adapter, $harness }
    };
    ($stamp:ident, $adapter:ident, $harness:expr) => {
        $crate::$stamp! { $adapter, $harness, journal;
            another_journal_has_another_epoch,
        }
    };
}

const NO_WAIT: Span = Span::ZERO;

fn record(number: u32) -> LogRecord {
    LogRecord {
        timestamp: Some("2026-11-20T10:00:00.000Z".into()),
        db: Bucket::from("bucket"),
        entries: vec![LogEntry::put(format!("key-{number}\0version"), format!("{{\"n\":{number}}}"))],
    }
}

async fn read(harness: &impl JournalHarness, from: Seq, limit: usize) -> Batch {
    applied(harness.journal().read(Some(from), limit, NO_WAIT).await)
}

async fn end(harness: &impl JournalHarness) -> Seq {
    applied(harness.journal().read(None, 1, NO_WAIT).await).end
}

async fn fill(harness: &impl JournalHarness, numbers: std::ops::Range<u32>) -> Seq {
    let start = end(harness).await;
    for number in numbers {
        harness.append(record(number)).await;
    }
    start
}

fn keys(batch: &Batch) -> Vec<String> {
    let entries = batch.records.iter().flat_map(|(_, record)| &record.entries);
    entries.filter_map(|entry| entry.key.as_deref().map(str::to_owned)).collect()
}

fn expected(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("key-{number}\0version")).collect()
}

/// Nothing is changed on the way.
pub async fn records_come_back_in_order_as_they_were_written(harness: &impl JournalHarness) {
    let start = fill(harness, 0..3).await;
    let batch = read(harness, start, 10).await;
    let records: Vec<LogRecord> = batch.records.iter().map(|(_, record)| LogRecord::clone(record)).collect();
    assert_eq!(records, [record(0), record(1), record(2)]);
    assert!(batch.records.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(batch.records[0].0, start);
    assert_eq!((batch.next, batch.end), (batch.records[2].0.next(), batch.records[2].0.next()));
}

/// A rewind finds what was there.
pub async fn reading_again_gives_the_same(harness: &impl JournalHarness) {
    let start = fill(harness, 0..5).await;
    assert_eq!(read(harness, start, 3).await, read(harness, start, 3).await);
    let middle = read(harness, start, 2).await.next;
    assert_eq!(keys(&read(harness, middle, 10).await), expected(2..5));
}

/// `next` is the place of the next page.
pub async fn pages_meet_without_gap(harness: &impl JournalHarness) {
    let mut from = fill(harness, 0..7).await;
    let mut seen = Vec::new();
    for size in [3, 3, 1, 0] {
        let page = read(harness, from, 3).await;
        assert_eq!(page.records.len(), size);
        seen.extend(keys(&page));
        from = page.next;
    }
    assert_eq!(seen, expected(0..7));
    assert_eq!(from, end(harness).await);
}

/// Bootstrap asks for the end only.
pub async fn the_end_is_told_without_records(harness: &impl JournalHarness) {
    let before = end(harness).await;
    fill(harness, 0..4).await;
    let told = applied(harness.journal().read(None, 10, NO_WAIT).await);
    assert!(told.records.is_empty());
    assert_eq!((told.next, told.end), (told.end, Seq(before.0 + 4)));
    assert!(told.oldest <= before);
}

/// Nothing new is not an error and moves nothing, with and without waiting.
pub async fn an_empty_read_stays_where_it_is(harness: &impl JournalHarness) {
    fill(harness, 0..2).await;
    let at = end(harness).await;
    for wait in [NO_WAIT, Span::from_millis(30)] {
        let batch = applied(harness.journal().read(Some(at), 10, wait).await);
        assert!(batch.records.is_empty());
        assert_eq!((batch.next, batch.end), (at, at));
    }
}

/// Long before its wait is over.
pub async fn a_waiting_read_is_answered_by_a_record(harness: &impl JournalHarness) {
    let at = end(harness).await;
    let wait = Span::from_secs(3_600);
    let (batch, ()) = tokio::join!(harness.journal().read(Some(at), 10, wait), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        harness.append(record(1)).await;
    });
    assert_eq!(keys(&applied(batch)), expected(1..2));
}

/// The driver races reads against other things.
pub async fn a_cancelled_wait_takes_nothing_with_it(harness: &impl JournalHarness) {
    let at = end(harness).await;
    let wait = harness.journal().read(Some(at), 10, Span::from_secs(3_600));
    assert!(tokio::time::timeout(Duration::from_millis(20), wait).await.is_err());
    harness.append(record(0)).await;
    assert_eq!(keys(&read(harness, at, 10).await), expected(0..1));
}

/// No record appears behind a position that was read already.
pub async fn a_reader_behind_a_writer_sees_every_record_once(harness: &impl JournalHarness) {
    const COUNT: u32 = 60;
    let start = end(harness).await;
    let write = async {
        for number in 0..COUNT {
            harness.append(record(number)).await;
            tokio::task::yield_now().await;
        }
    };
    let follow = async {
        let (mut from, mut seen) = (start, Vec::new());
        while seen.len() < COUNT as usize {
            let batch = applied(harness.journal().read(Some(from), 7, Span::from_secs(10)).await);
            seen.extend(keys(&batch));
            from = batch.next;
        }
        seen
    };
    let ((), seen) = tokio::join!(write, follow);
    assert_eq!(seen, expected(0..COUNT));
}

/// A reader that was away for too long learns it, and is given nothing that it could take for complete.
pub async fn lost_history_is_told(harness: &impl JournalHarness) {
    let start = fill(harness, 0..6).await;
    let oldest = Seq(start.0 + 4);
    harness.truncate(oldest).await;
    let batch = read(harness, start, 10).await;
    assert_eq!((batch.records.len(), batch.next, batch.oldest), (0, start, oldest));
    assert_eq!(keys(&read(harness, oldest, 10).await), expected(4..6));
    let told = applied(harness.journal().read(None, 1, NO_WAIT).await);
    assert_eq!(told.oldest, oldest);
}

/// Positions of another life are not mixed up, and a journal that went back is not waited for.
pub async fn another_journal_has_another_epoch(harness: &impl ReplacedJournalHarness) {
    let mut before = None;
    for number in 0..3 {
        let told = applied(harness.before(record(number)).await.read(None, 1, NO_WAIT).await);
        assert!(before.is_none_or(|epoch| epoch == told.epoch));
        before = Some(told.epoch);
    }
    let journal = harness.after().await;
    let far = applied(journal.read(Some(Seq(100)), 10, Span::from_secs(3_600)).await);
    assert_ne!(before, Some(far.epoch));
    assert!(far.records.is_empty() && far.end < far.next, "{far:?}");
}
