//! Stats on the embedded store: all of it in memory, and every change stored before it is acknowledged.
//!
//! What is stored for a key is what the key holds when the write runs, not what it held when the call was made: so the
//! order in which writes reach the store does not matter.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backbeat_core::call::{Ending, Refusal};
use backbeat_core::time::{Span, WallTime};
use bytes::Bytes;

use super::memory::Channels;
use super::table::{Entry, SortedSet, StatsTable, Thing};
use super::{ScoreRange, Scored, Stats, Subscription};
use crate::clock::WallClock;
use crate::embedded::{KeyRange, Read, Store, StoreError, Table, WriteTxn};

/// Key to kind, expiry and value; the members of sets lie apart.
const KEYS: Table = Table("stats");
/// Length of the key, key, member: the member's score.
const MEMBERS: Table = Table("stats-members");

/// A stats store on the embedded store; clones share it.
#[derive(Clone, Debug)]
pub struct EmbeddedStats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: WallClock,
    held: Arc<Mutex<Held>>,
    channels: Channels,
}

#[derive(Debug, Default)]
struct Held {
    table: StatsTable,
    /// Keys that have expired here and are still stored: the next change removes them.
    expired: Vec<String>,
}

/// What of a key has changed.
enum Dirty {
    /// Everything: its kind, its members.
    Whole(String),
    /// Its value.
    Value(String),
    /// One member of its set, and whether there is one.
    Member(String, String),
}

impl EmbeddedStats {
    /// The stats of a store; keys expire by `clock`.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: Store, clock: WallClock) -> Result<Self, StoreError> {
        let held = Held { table: load(&store)?, expired: Vec::new() };
        let held = Arc::new(Mutex::new(held));
        Ok(Self(Arc::new(Inner { store, clock, held, channels: Channels::default() })))
    }

    /// What there is now.
    fn held(&self) -> (MutexGuard<'_, Held>, WallTime) {
        let mut held = lock(&self.0.held);
        let now = self.0.clock.now();
        let gone = held.table.sweep(now);
        held.expired.extend(gone);
        (held, now)
    }

    /// Changes the table and waits until the change is durable.
    async fn change<T>(
        &self,
        change: impl FnOnce(&mut StatsTable, WallTime) -> Result<(T, Option<Dirty>), Refusal> + Send,
    ) -> Ending<T> {
        let (outcome, dirty) = {
            let (mut held, now) = self.held();
            let outcome = change(&mut held.table, now);
            let mut dirty: Vec<Dirty> = held.expired.drain(..).map(Dirty::Whole).collect();
            let outcome = outcome.map(|(value, changed)| {
                dirty.extend(changed);
                value
            });
            (outcome, dirty)
        };
        if !dirty.is_empty() {
            let held = Arc::clone(&self.0.held);
            let written = self.0.store.write(move |txn| {
                let held = lock(&held);
                dirty.iter().try_for_each(|dirty| write(txn, &held.table, dirty))
            });
            // It has happened, but a restart may forget it: neither refused nor applied.
            if written.await.is_err() {
                return Ending::Unknown;
            }
        }
        ending(outcome)
    }

    fn look<T>(&self, look: impl FnOnce(&StatsTable) -> Result<T, Refusal>) -> Ending<T> {
        ending(look(&self.held().0.table))
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ending<T>(result: Result<T, Refusal>) -> Ending<T> {
    match result {
        Ok(value) => Ending::Applied(value),
        Err(refusal) => Ending::Refused(refusal),
    }
}

fn members_prefix(key: &str) -> Vec<u8> {
    let length = u32::try_from(key.len()).expect("keys are short");
    [&length.to_be_bytes(), key.as_bytes()].concat()
}

fn member_key(key: &str, member: &str) -> Vec<u8> {
    [members_prefix(key).as_slice(), member.as_bytes()].concat()
}

/// Stores what a key holds now.
fn write(txn: &mut WriteTxn<'_>, table: &StatsTable, dirty: &Dirty) -> Result<(), StoreError> {
    let (Dirty::Whole(key) | Dirty::Value(key) | Dirty::Member(key, _)) = dirty;
    let entry = table.entry(key);
    match entry {
        Some(entry) => txn.put(KEYS, key.as_str(), encode(entry)),
        None => txn.delete(KEYS, key.as_str()),
    }
    let set = match entry.map(|entry| &entry.thing) {
        Some(Thing::Set(set)) => Some(set),
        Some(Thing::Counter(_) | Thing::Value(_)) | None => None,
    };
    match dirty {
        Dirty::Value(_) => {}
        Dirty::Member(_, member) => match set.and_then(|set| set.score(member)) {
            Some(score) => txn.put(MEMBERS, member_key(key, member), score.to_be_bytes()),
            None => txn.delete(MEMBERS, member_key(key, member)),
        },
        Dirty::Whole(_) => {
            for (row, _) in txn.range(MEMBERS, &KeyRange::prefix(&members_prefix(key)), usize::MAX)? {
                txn.delete(MEMBERS, row);
            }
            for entry in set.map(|set| set.range(ScoreRange::ALL)).unwrap_or_default() {
                txn.put(MEMBERS, member_key(key, &entry.member), entry.score.to_be_bytes());
            }
        }
    }
    Ok(())
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::new();
    let (kind, value): (u8, &[u8]) = match &entry.thing {
        Thing::Counter(count) => (0, &count.to_be_bytes()),
        Thing::Value(value) => (1, value),
        Thing::Set(_) => (2, &[]),
    };
    row.push(kind);
    // The largest time stands for none.
    row.extend_from_slice(&entry.expires.map_or(i64::MAX, WallTime::as_millis).to_be_bytes());
    row.extend_from_slice(value);
    row
}

fn decode(row: Vec<u8>) -> Option<Entry> {
    let row = Bytes::from(row);
    let expires = i64::from_be_bytes(row.get(1..9)?.try_into().ok()?);
    let value = row.slice(9..);
    let thing = match row[0] {
        0 => Thing::Counter(i64::from_be_bytes(value.as_ref().try_into().ok()?)),
        1 => Thing::Value(value),
        2 => Thing::Set(SortedSet::default()),
        _ => return None,
    };
    let expires = (expires != i64::MAX).then_some(WallTime::from_millis(expires));
    Some(Entry { thing, expires })
}

fn load(store: &Store) -> Result<StatsTable, StoreError> {
    let damaged = |key: &[u8]| StoreError::Damaged {
        file: store.file().into(),
        message: format!("stats key {} cannot be read", key.escape_ascii()),
    };
    store.read(|txn| {
        let mut table = StatsTable::default();
        for (key, row) in txn.range(KEYS, &KeyRange::all(), usize::MAX)? {
            let entry = decode(row).ok_or_else(|| damaged(&key))?;
            table.restore(String::from_utf8(key).map_err(|error| damaged(error.as_bytes()))?, entry);
        }
        for (row_key, row) in txn.range(MEMBERS, &KeyRange::all(), usize::MAX)? {
            let member = decode_member(&row_key, &row);
            let (key, entry) = member.ok_or_else(|| damaged(&row_key))?;
            table.restore_member(key, entry).ok_or_else(|| damaged(&row_key))?;
        }
        Ok(table)
    })
}

fn decode_member<'a>(key: &'a [u8], row: &[u8]) -> Option<(&'a str, Scored)> {
    let (length, rest) = key.split_first_chunk()?;
    let (key, member) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let member = std::str::from_utf8(member).ok()?.to_owned();
    Some((std::str::from_utf8(key).ok()?, Scored { member, score: i64::from_be_bytes(row.try_into().ok()?) }))
}

impl Stats for EmbeddedStats {
    async fn add(&self, key: &str, delta: i64, life: Option<Span>) -> Ending<i64> {
        let dirty = Dirty::Value(key.to_owned());
        self.change(|table, now| Ok((table.add(key, delta, life, now)?, Some(dirty)))).await
    }

    async fn values(&self, keys: &[&str]) -> Ending<Vec<Option<Bytes>>> {
        self.look(|table| keys.iter().map(|key| table.value(key)).collect())
    }

    async fn set(&self, key: &str, value: Bytes, life: Option<Span>) -> Ending<()> {
        // It may have been a set before.
        let dirty = Dirty::Whole(key.to_owned());
        self.change(|table, now| {
            table.set(key, value, life, now);
            Ok(((), Some(dirty)))
        })
        .await
    }

    async fn set_if_absent(&self, key: &str, value: Bytes, life: Option<Span>) -> Ending<bool> {
        self.change(|table, now| {
            if table.entry(key).is_some() {
                return Ok((false, None));
            }
            table.set(key, value, life, now);
            Ok((true, Some(Dirty::Value(key.to_owned()))))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Ending<bool> {
        self.change(|table, _| {
            let deleted = table.delete(key);
            Ok((deleted, deleted.then(|| Dirty::Whole(key.to_owned()))))
        })
        .await
    }

    async fn sorted_add(&self, key: &str, entry: Scored, life: Option<Span>) -> Ending<()> {
        let dirty = Dirty::Member(key.to_owned(), entry.member.clone());
        self.change(|table, now| Ok((table.sorted_add(key, entry, life, now)?, Some(dirty)))).await
    }

    async fn sorted_range(&self, key: &str, range: ScoreRange) -> Ending<Vec<Scored>> {
        self.look(|table| table.sorted_range(key, range))
    }

    async fn sorted_score(&self, key: &str, member: &str) -> Ending<Option<i64>> {
        self.look(|table| table.sorted_score(key, member))
    }

    async fn sorted_count(&self, key: &str) -> Ending<u64> {
        self.look(|table| table.sorted_count(key))
    }

    async fn sorted_remove(&self, key: &str, member: &str) -> Ending<bool> {
        self.change(|table, _| {
            let removed = table.sorted_remove(key, member)?;
            Ok((removed, removed.then(|| Dirty::Member(key.to_owned(), member.to_owned()))))
        })
        .await
    }

    async fn publish(&self, channel: &str, message: Bytes) -> Ending<()> {
        self.0.channels.publish(channel, message);
        Ending::Applied(())
    }

    async fn subscribe(&self, channel: &str) -> Ending<Subscription> {
        Ending::Applied(self.0.channels.subscribe(channel))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::conformance::applied;
    use crate::stats::conformance::{DurableStatsHarness, StatsHarness, TestClock};

    struct Embedded {
        clock: TestClock,
        stats: EmbeddedStats,
        _directory: TempDir,
    }

    impl Embedded {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let clock = TestClock::default();
            let store = Store::open(directory.path()).expect("the store opens");
            let stats = EmbeddedStats::open(store, clock.clock()).expect("the stats open");
            Self { clock, stats, _directory: directory }
        }
    }

    impl StatsHarness for Embedded {
        type Stats = EmbeddedStats;

        fn stats(&self) -> &EmbeddedStats {
            &self.stats
        }

        async fn pass(&self, span: Span) {
            self.clock.pass(span);
        }
    }

    struct Restarting(TestClock, TempDir);

    impl Restarting {
        fn new() -> Self {
            Self(TestClock::default(), tempfile::tempdir().expect("a temporary directory"))
        }
    }

    impl DurableStatsHarness for Restarting {
        type Stats = EmbeddedStats;

        async fn open(&self) -> EmbeddedStats {
            let store = Store::open(self.1.path()).expect("the store opens");
            EmbeddedStats::open(store, self.0.clock()).expect("the stats open")
        }

        async fn pass(&self, span: Span) {
            self.0.pass(span);
        }
    }

    crate::stats_conformance!(embedded, Embedded::new());
    crate::durable_stats_conformance!(embedded_restarts, Restarting::new());

    #[tokio::test]
    async fn what_has_expired_leaves_the_disk_with_the_next_change() {
        let harness = Embedded::new();
        let stats = &harness.stats;
        let life = Some(Span::from_secs(1));
        applied(stats.set("value", Bytes::from_static(b"v"), life).await);
        let entry = Scored { member: "a".to_owned(), score: 1 };
        applied(stats.sorted_add("set", entry, life).await);
        harness.clock.pass(Span::from_secs(2));
        assert_eq!(applied(stats.sorted_count("set").await), 0);
        applied(stats.add("other", 1, None).await);
        let rows = |table| {
            let all =
                stats.0.store.read::<_, StoreError>(|txn| txn.range(table, &KeyRange::all(), usize::MAX));
            all.expect("the store can be read").len()
        };
        assert_eq!((rows(KEYS), rows(MEMBERS)), (1, 0));
    }

    #[tokio::test]
    async fn a_set_that_was_deleted_and_made_again_has_only_its_new_members_after_a_restart() {
        let harness = Restarting::new();
        {
            let stats = harness.open().await;
            let add = |member: &str| {
                let entry = Scored { member: member.to_owned(), score: 1 };
                let stats = stats.clone();
                async move { applied(stats.sorted_add("set", entry, None).await) }
            };
            add("old").await;
            let ((), ()) = tokio::join!(async { assert!(applied(stats.delete("set").await)) }, add("new"));
        }
        let stats = harness.open().await;
        let members = applied(stats.sorted_range("set", ScoreRange::ALL).await);
        assert_eq!(members, [Scored { member: "new".to_owned(), score: 1 }]);
    }
}
