//! One metadata write: keys of pseudo databases, each change of which is also a record of the journal, in the same commit.

use super::error::Outcome;
use super::journal::{EntryKind, JournalEntry, JournalRecord, last_sequence};
use super::timestamp::{iso, system_ms};
use crate::embedded::{KeyRange, Read, StoreError, Table, WriteTxn};
use backbeat_core::model::VersionId;

/// Metadata: `<db> NUL <key>` to JSON text. Databases are buckets and CloudServer's internal ones.
pub(super) const RECORDS: Table = Table("site-metadata");
/// The journal: sequence number, big-endian, to the record's JSON.
pub(super) const JOURNAL: Table = Table("site-journal");
/// Single values of the site.
pub(super) const META: Table = Table("site");
/// Data keys that a commit knows: the object they belong to, or nothing while they wait for their metadata.
pub(super) const DATA: Table = Table("site-data");
/// Placeholders to repair: due time in milliseconds, big-endian, then the metadata key.
pub(super) const REPAIRS: Table = Table("site-repairs");

/// In [`META`]: random text fixed at creation.
pub(super) const EPOCH: &[u8] = b"epoch";
/// In [`META`]: the sequence number of the next journal record.
pub(super) const NEXT: &[u8] = b"journal-next";
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

/// What is known about a data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DataOwner {
    /// Nothing.
    Unknown,
    /// Its metadata has not come yet.
    Awaited,
    /// The object that it belongs to, or belonged to.
    Object { bucket: String, key: String },
}

/// The change set of one write.
pub(super) struct Changes<'a, 'txn> {
    txn: &'a mut WriteTxn<'txn>,
    next: u64,
    /// Milliseconds since the epoch: the time of this write.
    pub(super) now_ms: u64,
    group: String,
    /// Data keys that this write has made superfluous.
    removed: Vec<String>,
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
    pub(super) fn begin(txn: &'a mut WriteTxn<'txn>, group: &str) -> Result<Self, StoreError> {
        let next = last_sequence(&*txn)? + 1;
        Ok(Self { txn, next, now_ms: system_ms(), group: group.into(), removed: Vec::new() })
    }

    /// Closes the journal; answers its last number and the data keys to remove.
    pub(super) fn finish(self) -> (u64, Vec<String>) {
        if last_sequence(&*self.txn).is_ok_and(|last| last + 1 != self.next) {
            self.txn.put(META, NEXT, self.next.to_be_bytes());
        }
        (self.next - 1, self.removed)
    }

    /// The time of this write as metadata spells it.
    pub(super) fn now(&self) -> String {
        iso(self.now_ms)
    }

    /// The group of this site's version ids.
    pub(super) fn group(&self) -> &str {
        &self.group
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
        Ok(VersionId::new(ms, rank, &self.group, &count.to_string()))
    }

    /// Notes that a data key belongs to an object.
    pub(super) fn attach(&mut self, data_key: &str, bucket: &str, key: &str) {
        self.txn.put(DATA, data_key, record_key(bucket, key));
    }

    /// Notes a data key that waits for its metadata.
    pub(super) fn await_metadata(&mut self, data_key: &str) {
        self.txn.put(DATA, data_key, Vec::new());
    }

    /// What is known about a data key.
    pub(super) fn data_owner(&self, data_key: &str) -> Result<DataOwner, StoreError> {
        let Some(owner) = self.txn.get(DATA, data_key.as_bytes())? else { return Ok(DataOwner::Unknown) };
        let owner = String::from_utf8_lossy(&owner).into_owned();
        Ok(match owner.split_once('\0') {
            Some((bucket, key)) => DataOwner::Object { bucket: bucket.to_owned(), key: key.to_owned() },
            None => DataOwner::Awaited,
        })
    }

    /// Forgets a data key; its file goes once this write is durable.
    pub(super) fn discard(&mut self, data_key: &str) {
        self.txn.delete(DATA, data_key);
        self.removed.push(data_key.into());
    }

    /// The raw transaction, for what is no metadata.
    pub(super) fn raw(&mut self) -> &mut WriteTxn<'txn> {
        self.txn
    }
}
