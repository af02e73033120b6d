//! The journal of a site: every metadata change in the order in which it was committed.

use crate::embedded::{KeyRange, Read, Store, StoreError, Table};
use crate::timestamp::{iso, system_ms};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::watch;

/// The journal: sequence number, big-endian, to the record's JSON.
pub(super) const JOURNAL: Table = Table("site-journal");
/// Single values of the site.
pub(super) const META: Table = Table("site");

/// In [`META`]: random text fixed at creation.
pub(super) const EPOCH: &[u8] = b"epoch";
/// In [`META`]: the sequence number of the next journal record.
pub(super) const NEXT: &[u8] = b"journal-next";

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A value was written.
    Put,
    /// The key was removed.
    Del,
}

/// One key change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// The key, with its version suffix.
    pub key: String,
    /// The value as JSON text; none for a removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// One record as CloudServer's metadata daemon hands it out: exactly one entry (wire reference 4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// When it was committed, ISO 8601.
    pub timestamp: String,
    /// The bucket, or one of the internal ones.
    pub db: String,
    /// The changes.
    pub entries: Vec<JournalEntry>,
}

/// Neighbouring records as they are stored.
#[derive(Debug)]
pub(super) struct JournalPart {
    /// The number of the first of them; they count on from there.
    pub(super) first: u64,
    /// The number of the last record of the journal, 0 if there was none yet.
    pub(super) last: u64,
    /// The number of the oldest one that is kept, one past `last` if there is none.
    pub(super) oldest: u64,
    /// Their JSON texts.
    pub(super) records: Vec<Vec<u8>>,
}

/// Reads the journal of a site. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
    epoch: String,
    end: watch::Receiver<u64>,
}

impl Journal {
    pub(super) fn open(store: Store, end: watch::Receiver<u64>) -> Result<Self, StoreError> {
        let epoch = store.read(|txn| txn.get(META, EPOCH))?.unwrap_or_default();
        let epoch = String::from_utf8_lossy(&epoch).into_owned();
        Ok(Self { store, epoch, end })
    }

    /// Random text fixed when the data directory was created: positions of another epoch mean nothing here.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The sequence number of the last record; 0 if there is none. Numbers start at 1 and have no gaps.
    ///
    /// # Errors
    /// The store's.
    pub fn end(&self) -> Result<u64, StoreError> {
        self.store.read(|txn| last_sequence(txn))
    }

    /// How many records it holds: those that nobody pruned yet.
    ///
    /// # Errors
    /// The store's.
    pub fn length(&self) -> Result<u64, StoreError> {
        self.store.read(|txn| {
            let first = txn.range(JOURNAL, &KeyRange::all(), 1)?.pop();
            let first = first.and_then(|(key, _)| key.try_into().ok()).map(u64::from_be_bytes);
            Ok(first.map_or(0, |first| (last_sequence(txn).unwrap_or(first) + 1).saturating_sub(first)))
        })
    }

    /// At most `limit` records from number `from` on (0 and 1 are the beginning), with their numbers.
    ///
    /// # Errors
    /// The store's.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, JournalRecord)>, StoreError> {
        let rows = self.store.read(|txn| txn.range(JOURNAL, &KeyRange::from(&from.to_be_bytes()), limit))?;
        rows.into_iter()
            .map(|(key, value)| {
                let damaged = || StoreError::Damaged {
                    file: self.store.file().into(),
                    message: format!("journal record {} cannot be read", key.escape_ascii()),
                };
                let sequence = key.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
                Ok((sequence, serde_json::from_slice(&value).map_err(|_| damaged())?))
            })
            .collect()
    }

    /// Records from number `from` on as they are stored, without a gap between them: at most `limit`, and none after the
    /// one that makes them more than `bytes_max`.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn part(&self, from: u64, limit: usize, bytes_max: usize) -> Result<JournalPart, StoreError> {
        const STEP: usize = 64;
        let number = |key: &[u8]| {
            key.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Damaged {
                file: self.store.file().into(),
                message: format!("journal record {} has no number", key.escape_ascii()),
            })
        };
        self.store.read(|txn| {
            let last = last_sequence(txn)?;
            let oldest = txn.range(JOURNAL, &KeyRange::all(), 1)?.pop();
            let oldest = oldest.map_or(Ok(last + 1), |(key, _)| number(&key))?;
            let mut part = JournalPart { first: from.max(oldest), last, oldest, records: Vec::new() };
            let mut bytes = 0;
            while part.records.len() < limit && bytes <= bytes_max {
                let next = part.first + part.records.len() as u64;
                let step = STEP.min(limit - part.records.len());
                let rows = txn.range(JOURNAL, &KeyRange::from(&next.to_be_bytes()), step)?;
                let is_all = rows.len() < step;
                for (key, record) in rows {
                    let number = number(&key)?;
                    if part.records.is_empty() {
                        part.first = number;
                    }
                    if number != part.first + part.records.len() as u64 || bytes > bytes_max {
                        return Ok(part);
                    }
                    bytes += record.len();
                    part.records.push(record);
                }
                if is_all {
                    break;
                }
            }
            Ok(part)
        })
    }

    /// The number of the first record that is not older than `age`, one past the last if there is none. A clock that went back
    /// makes it a number among those around that age.
    ///
    /// # Errors
    /// The store's.
    pub fn first_younger_than(&self, age: Duration) -> Result<u64, StoreError> {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.first_since(&iso(system_ms().saturating_sub(age_ms)))
    }

    fn first_since(&self, since: &str) -> Result<u64, StoreError> {
        self.store.read(|txn| {
            let mut high = last_sequence(txn)? + 1;
            let first = txn.range(JOURNAL, &KeyRange::all(), 1)?.pop();
            let mut low = first.and_then(|(key, _)| key.try_into().ok()).map_or(high, u64::from_be_bytes);
            while low < high {
                let middle = low.midpoint(high);
                let record = txn.get(JOURNAL, &middle.to_be_bytes())?;
                let record = record.and_then(|json| serde_json::from_slice::<JournalRecord>(&json).ok());
                // Times of one form are in the order of their texts. What cannot be read is taken for young: it stays.
                if record.is_some_and(|record| record.timestamp.as_str() < since) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            Ok(low)
        })
    }

    /// Forgets records before number `below`, the oldest first and at most `count` of them, in one commit that it shares
    /// with other writers. The numbers of the others stay. Answers how many of those before `below` are still there.
    ///
    /// # Errors
    /// The store's.
    pub async fn prune(&self, below: u64, count: u64) -> Result<u64, StoreError> {
        self.store
            .write(move |txn| {
                let below = below.min(last_sequence(txn)? + 1);
                let oldest = txn.range(JOURNAL, &KeyRange::all(), 1)?.pop();
                let oldest =
                    oldest.and_then(|(key, _)| key.try_into().ok()).map_or(below, u64::from_be_bytes);
                let until = below.min(oldest.saturating_add(count));
                if oldest < until {
                    txn.delete_range(JOURNAL, KeyRange::between(&[], &until.to_be_bytes()));
                }
                Ok(below.saturating_sub(until))
            })
            .await
    }

    /// A journal without its site, and the way to tell of its records.
    #[cfg(test)]
    pub(crate) fn scratch(store: Store, epoch: &str) -> (Self, watch::Sender<u64>) {
        let (told, end) = watch::channel(0);
        (Self { store, epoch: epoch.to_owned(), end }, told)
    }

    /// Adds a record to a journal without its site.
    #[cfg(test)]
    pub(crate) async fn append(&self, told: &watch::Sender<u64>, record: JournalRecord) {
        let written = self.store.write(move |txn| {
            let number = last_sequence(txn)? + 1;
            txn.put(META, NEXT, (number + 1).to_be_bytes());
            txn.put(
                JOURNAL,
                number.to_be_bytes(),
                serde_json::to_vec(&record).expect("texts can be written"),
            );
            Ok::<_, StoreError>(number)
        });
        told.send_replace(written.await.expect("the store is there"));
    }

    /// Tells when records were added; its value is the number of the last one that this process committed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.end.clone()
    }
}

/// The number of the last record.
pub(super) fn last_sequence(txn: &impl Read) -> Result<u64, StoreError> {
    let next = txn.get(META, NEXT)?.and_then(|bytes| bytes.try_into().ok()).map_or(1, u64::from_be_bytes);
    Ok(next - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{DATABASE_FILE, DiskFaults, FORMAT_FILE, StoreOptions};
    use proptest::prelude::*;
    use std::path::Path;
    use tempfile::TempDir;

    fn record(number: u64) -> JournalRecord {
        let entry = JournalEntry { kind: EntryKind::Del, key: format!("key-{number}"), value: None };
        JournalRecord { timestamp: String::new(), db: "bucket".into(), entries: vec![entry] }
    }

    /// The numbers of the records there are. Each is the one that was written with that number.
    fn numbers(journal: &Journal) -> Vec<u64> {
        let records = journal.read(0, usize::MAX).expect("the store is there");
        assert!(records.iter().all(|(number, read)| *read == record(*number)));
        records.into_iter().map(|(number, _)| number).collect()
    }

    /// The journal as another machine would find it after a power cut now.
    fn after_a_crash(directory: &Path) -> (Journal, TempDir) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        for file in [DATABASE_FILE, FORMAT_FILE] {
            std::fs::copy(directory.join(file), copy.path().join(file)).expect("the file is there");
        }
        (Journal::scratch(Store::open(copy.path()).expect("the store opens"), "epoch").0, copy)
    }

    #[derive(Clone, Debug)]
    enum Doing {
        Append(u64),
        Prune { below: u64, count: u64 },
        Crash,
    }

    fn doing() -> impl Strategy<Value = Doing> {
        prop_oneof![
            3 => (1..40u64).prop_map(Doing::Append),
            3 => (0..160u64, 0..30u64).prop_map(|(below, count)| Doing::Prune { below, count }),
            1 => Just(Doing::Crash),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn a_pruned_journal_is_the_end_of_what_was_written(doings in prop::collection::vec(doing(), 1..10)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let mut directory = tempfile::tempdir().expect("a temporary directory");
                let store = Store::open(directory.path()).expect("the store opens");
                let (mut journal, told) = Journal::scratch(store, "epoch");
                let (mut oldest, mut next) = (1, 1);
                for doing in doings {
                    match doing {
                        Doing::Append(count) => for _ in 0..count {
                            journal.append(&told, record(next)).await;
                            next += 1;
                        },
                        Doing::Prune { below, count } => {
                            let below = below.min(next);
                            let until = below.min(oldest + count).max(oldest);
                            let left = journal.prune(below, count).await.expect("the store is there");
                            prop_assert_eq!(left, below.saturating_sub(until));
                            oldest = until;
                        }
                        Doing::Crash => (journal, directory) = after_a_crash(directory.path()),
                    }
                    prop_assert_eq!(numbers(&journal), (oldest..next).collect::<Vec<_>>());
                    prop_assert_eq!(journal.length().expect("the store is there"), next - oldest);
                    prop_assert_eq!(journal.end().expect("the store is there"), next - 1);
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_power_cut_while_pruning_leaves_the_end_of_the_journal() {
        const RECORDS: u64 = 300;
        const PIECE: u64 = 40;
        for writes in (0..).step_by(3) {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let faults = DiskFaults::new();
            let options = StoreOptions { faults: Some(faults.clone()), ..StoreOptions::default() };
            let store = Store::open_with(directory.path(), options).expect("the store opens");
            let (journal, _told) = Journal::scratch(store.clone(), "epoch");
            let filled = store.write(|txn| {
                for number in 1..=RECORDS {
                    let json = serde_json::to_vec(&record(number)).expect("texts can be written");
                    txn.put(JOURNAL, number.to_be_bytes(), json);
                }
                txn.put(META, NEXT, (RECORDS + 1).to_be_bytes());
                Ok::<_, StoreError>(())
            });
            filled.await.expect("the store is there");
            faults.tear_after(writes);
            let mut acknowledged = 1;
            while let Ok(left) = journal.prune(RECORDS, PIECE).await {
                acknowledged = RECORDS - left;
                if left == 0 {
                    break;
                }
            }
            let (found, _copy) = after_a_crash(directory.path());
            let left = numbers(&found);
            let oldest = left[0];
            assert_eq!(left, (oldest..=RECORDS).collect::<Vec<_>>(), "cut after {writes} writes");
            let is_boundary = (oldest - 1).is_multiple_of(PIECE) || oldest == RECORDS;
            assert!(is_boundary, "a piece goes as a whole, or not at all: {oldest}");
            assert!(oldest >= acknowledged, "{acknowledged} was acknowledged, {oldest} is there");
            // What is left goes as if nothing had happened.
            assert_eq!(found.prune(RECORDS, u64::MAX).await.expect("the store is there"), 0);
            assert_eq!(numbers(&found), [RECORDS]);
            if acknowledged == RECORDS {
                // So many writes were needed: there is nothing later to be struck.
                assert!(writes > 0);
                return;
            }
        }
    }

    #[tokio::test]
    async fn records_are_found_by_their_age() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("the store opens");
        let (journal, told) = Journal::scratch(store.clone(), "epoch");
        assert_eq!(journal.first_since("2026").expect("the store is there"), 1);
        for number in 1..=20 {
            let timestamp = iso(1_000 * (number / 2));
            journal.append(&told, JournalRecord { timestamp, ..record(number) }).await;
        }
        for pruned in [0, 7] {
            journal.prune(pruned, u64::MAX).await.expect("the store is there");
            for seconds in 0..=12 {
                let first = journal.first_since(&iso(1_000 * seconds)).expect("the store is there");
                assert_eq!(first, (2 * seconds).clamp(pruned.max(1), 21), "{seconds} s, pruned to {pruned}");
            }
        }
        let old = journal.first_younger_than(Duration::from_hours(1)).expect("the store is there");
        assert_eq!(old, 21, "all of them are of 1970");
        let all = journal.first_younger_than(Duration::MAX).expect("the store is there");
        assert_eq!(all, 7, "nothing is older than that");
    }

    #[tokio::test]
    async fn writers_get_in_between_two_pieces() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("the store opens");
        let (journal, told) = Journal::scratch(store.clone(), "epoch");
        for number in 1..=30 {
            journal.append(&told, record(number)).await;
        }
        assert_eq!(journal.prune(31, 10).await.expect("the store is there"), 20);
        journal.append(&told, record(31)).await;
        assert_eq!(journal.prune(31, 10).await.expect("the store is there"), 10);
        assert_eq!(numbers(&journal), (21..=31).collect::<Vec<_>>());
        // Beyond the end there is nothing to forget, and new records get the next numbers.
        assert_eq!(journal.prune(u64::MAX, u64::MAX).await.expect("the store is there"), 0);
        journal.append(&told, record(32)).await;
        assert_eq!(numbers(&journal), [32]);
    }
}
