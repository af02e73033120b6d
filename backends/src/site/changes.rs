//! One metadata write: keys of pseudo databases, each change of which is also a record of the journal, in the same commit.

use super::config::SiteConfig;
use super::data::{DataChanges, DataOwner, Stored};
use super::error::Outcome;
use super::journal::{EntryKind, JOURNAL, JournalEntry, JournalRecord, META, NEXT, last_sequence};
use crate::embedded::{KeyRange, Read, StoreError, Table, WriteTxn};
use crate::timestamp::{iso, system_ms};
use backbeat_core::model::VersionId;

/// Metadata: `<db> NUL <key>` to JSON text. Databases are buckets and CloudServer's internal ones.
pub(super) const RECORDS: Table = Table("site-metadata");
/// Placeholders to repair: due time in milliseconds, big-endian, then the metadata key.
pub(super) const REPAIRS: Table = Table("site-repairs");

/// In [`META`]: the last time a version id was made of, its rank in that millisecond and the count of ids.
const CLOCK: &[u8] = b"version-clock";

fn record_key(db: &str, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(db.len() + 1 + key.len());
    bytes.extend_from_slice(db.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// Reading metadata, the same in a snapshot and inside a write.
pub(super) trait Records {
    /// The value of a key.
    fn value(&self, db: &str, key: &str) -> Result<Option<String>, StoreError>;

    /// At most `limit` keys that start with `prefix` and are not less than `from`, with their values.
    fn values(
        &self,
        db: &str,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError>;
}

impl<T: Read> Records for T {
    fn value(&self, db: &str, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.get(RECORDS, &record_key(db, key))?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn values(
        &self,
        db: &str,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let range = KeyRange::prefix_from(&record_key(db, prefix), &record_key(db, from));
        let rows = self.range(RECORDS, &range, limit)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(rows.into_iter().map(|(key, value)| (text(&key[db.len() + 1..]), text(&value))).collect())
    }
}

/// The change set of one write.
pub(super) struct Changes<'a, 'txn> {
    txn: &'a mut WriteTxn<'txn>,
    next: u64,
    /// Milliseconds since the epoch: the time of this write.
    pub(super) now_ms: u64,
    config: &'a SiteConfig,
    data: DataChanges,
}

impl Records for Changes<'_, '_> {
    fn value(&self, db: &str, key: &str) -> Result<Option<String>, StoreError> {
        Records::value(&*self.txn, db, key)
    }

    fn values(
        &self,
        db: &str,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        Records::values(&*self.txn, db, prefix, from, limit)
    }
}

impl<'a, 'txn> Changes<'a, 'txn> {
    pub(super) fn begin(
        txn: &'a mut WriteTxn<'txn>,
        config: &'a SiteConfig,
        data: DataChanges,
    ) -> Result<Self, StoreError> {
        let next = last_sequence(&*txn)? + 1;
        Ok(Self { txn, next, now_ms: system_ms(), config, data })
    }

    /// Closes the journal; answers its last number and what is done with data.
    pub(super) fn finish(self) -> (u64, DataChanges) {
        if last_sequence(&*self.txn).is_ok_and(|last| last + 1 != self.next) {
            self.txn.put(META, NEXT, self.next.to_be_bytes());
        }
        (self.next - 1, self.data)
    }

    /// The time of this write as metadata spells it.
    pub(super) fn now(&self) -> String {
        iso(self.now_ms)
    }

    /// What the site was told.
    pub(super) fn config(&self) -> &'a SiteConfig {
        self.config
    }

    /// The group of this site's version ids.
    pub(super) fn group(&self) -> &'a str {
        &self.config.replication_group
    }

    pub(super) fn put(&mut self, db: &str, key: &str, value: String) -> Outcome<()> {
        self.txn.put(RECORDS, record_key(db, key), value.clone());
        self.record(db, JournalEntry { kind: EntryKind::Put, key: key.into(), value: Some(value) })
    }

    pub(super) fn delete(&mut self, db: &str, key: &str) -> Outcome<()> {
        self.txn.delete(RECORDS, record_key(db, key));
        self.record(db, JournalEntry { kind: EntryKind::Del, key: key.into(), value: None })
    }

    fn record(&mut self, db: &str, entry: JournalEntry) -> Outcome<()> {
        let record = JournalRecord { timestamp: self.now(), db: db.into(), entries: vec![entry] };
        let json = serde_json::to_vec(&record).map_err(|_| super::error::Refusal::internal())?;
        self.txn.put(JOURNAL, self.next.to_be_bytes(), json);
        self.next += 1;
        Ok(())
    }

    /// A version id newer than every one this site has made, whatever the clock does and across restarts. Its info is
    /// the count of ids, as CloudServer's (observed page).
    pub(super) fn mint(&mut self) -> Result<VersionId, StoreError> {
        let stored = self.txn.get(META, CLOCK)?.unwrap_or_default();
        let number = |at: usize| {
            stored.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
        };
        let (last_ms, last_rank) = (number(0).unwrap_or(0), number(8).unwrap_or(0));
        let count = number(16).map_or(0, |count| count + 1);
        let (ms, rank) = if self.now_ms > last_ms { (self.now_ms, 0) } else { (last_ms, last_rank + 1) };
        // The format holds a million ids a millisecond.
        let (ms, rank) = if rank > 999_998 { (ms + 1, 0) } else { (ms, rank) };
        let clock: Vec<u8> = [ms, rank, count].iter().flat_map(|number| number.to_be_bytes()).collect();
        self.txn.put(META, CLOCK, clock);
        let rank = u32::try_from(rank).unwrap_or(999_998);
        Ok(VersionId::new(ms, rank, self.group(), &count.to_string()))
    }

    /// Takes data in. Until it is attached it waits for its metadata.
    pub(super) fn add_data(&mut self, stored: Stored) {
        self.data.add(self.txn, stored);
    }

    /// Notes that data belongs to an object.
    pub(super) fn attach(&mut self, data_key: &str, bucket: &str, key: &str) -> Result<(), StoreError> {
        let owner = DataOwner::Object { bucket: bucket.to_owned(), key: key.to_owned() };
        DataChanges::attach(self.txn, data_key, owner)
    }

    /// Whom data belongs to; nothing if there is none.
    pub(super) fn data_owner(&mut self, data_key: &str) -> Result<Option<DataOwner>, StoreError> {
        Ok(self.data.row(self.txn, data_key)?.map(|row| row.owner))
    }

    /// Forgets data: it goes with this write.
    pub(super) fn discard(&mut self, data_key: &str) {
        self.data.discard(self.txn, data_key);
    }

    /// The raw transaction, for what is no metadata.
    pub(super) fn raw(&mut self) -> &mut WriteTxn<'txn> {
        self.txn
    }
}
