//! What a write changes about data, in its commit; and what becomes true of it once the outcome of that commit is known.

use super::files::DataFiles;
use super::receiving::{Lies, Stored};
use super::row::{BYTES, DATA, DataOwner, DataRow, Place};
use super::waiting::Waiting;
use crate::embedded::{Read, StoreError, WriteTxn};
use bytes::Bytes;
use tokio::task::JoinHandle;

/// What one write does with data. Nothing is so before the write is durable.
#[derive(Debug)]
pub(in crate::site) struct DataChanges {
    waiting: Waiting,
    added: Vec<Stored>,
    /// Keys and sizes of what waited in memory and lies in the store now.
    admitted: Vec<(String, u64)>,
    /// Keys of files that nothing mentions any more.
    superfluous: Vec<String>,
    /// Bytes in the store that nothing mentions any more.
    freed: u64,
}

/// Makes the data changes of writes true.
pub(in crate::site) struct Settlement(pub(super) DataFiles);

/// Writes bytes and the row of data that nothing mentions yet.
fn put(txn: &mut WriteTxn<'_>, key: &str, bytes: Option<Bytes>) -> DataRow {
    let place = match bytes {
        None => Place::File,
        Some(bytes) => {
            let size = u32::try_from(bytes.len()).expect("large data lies in files");
            txn.put(BYTES, key, Vec::from(bytes));
            Place::Store(size)
        }
    };
    let row = DataRow { place, owner: DataOwner::Awaited };
    txn.put(DATA, key, row.encode());
    row
}

impl DataChanges {
    /// None so far; `waiting` is what may be admitted.
    pub(super) fn new(waiting: Waiting) -> Self {
        Self { waiting, added: Vec::new(), admitted: Vec::new(), superfluous: Vec::new(), freed: 0 }
    }

    /// Takes data in. Until it is attached it waits for its metadata.
    pub(in crate::site) fn add(&mut self, txn: &mut WriteTxn<'_>, mut stored: Stored) {
        let bytes = match &mut stored.lies {
            Lies::File(_) => None,
            Lies::Memory(bytes) => Some(std::mem::take(bytes)),
        };
        put(txn, &stored.key, bytes);
        self.added.push(stored);
    }

    /// What the store says about data; what waits in memory is admitted to it first. Nothing if there is no such data.
    pub(in crate::site) fn row(
        &mut self,
        txn: &mut WriteTxn<'_>,
        data_key: &str,
    ) -> Result<Option<DataRow>, StoreError> {
        if let Some(row) = txn.get(DATA, data_key.as_bytes())? {
            return Ok(Some(DataRow::decode(&row)));
        }
        let Some(bytes) = self.waiting.get(data_key) else { return Ok(None) };
        self.admitted.push((data_key.to_owned(), bytes.len() as u64));
        Ok(Some(put(txn, data_key, Some(bytes))))
    }

    /// Notes that data belongs to an object.
    pub(in crate::site) fn attach(
        txn: &mut WriteTxn<'_>,
        data_key: &str,
        owner: DataOwner,
    ) -> Result<(), StoreError> {
        let place =
            txn.get(DATA, data_key.as_bytes())?.map_or(Place::File, |row| DataRow::decode(&row).place);
        txn.put(DATA, data_key, DataRow { place, owner }.encode());
        Ok(())
    }

    /// Forgets data; its bytes go with this write, or when it is durable.
    pub(in crate::site) fn discard(&mut self, txn: &mut WriteTxn<'_>, data_key: &str) {
        let place = match txn.get(DATA, data_key.as_bytes()) {
            Ok(None) => return,
            Ok(Some(row)) => Some(DataRow::decode(&row).place),
            // The row is damaged: the data lies here or there.
            Err(_) => None,
        };
        txn.delete(DATA, data_key);
        match place {
            Some(Place::Store(size)) => {
                txn.delete(BYTES, data_key);
                self.freed += u64::from(size);
            }
            Some(Place::File) => self.superfluous.push(data_key.into()),
            None => {
                txn.delete(BYTES, data_key);
                self.superfluous.push(data_key.into());
            }
        }
    }
}

impl Settlement {
    /// Keeps what a durable write has added, and removes what it made superfluous: answers what to wait for. After a
    /// refused one the data that it was for goes; after one with an unknown outcome everything stays until the site opens
    /// next and knows.
    pub(in crate::site) fn settle(
        self,
        changes: DataChanges,
        outcome: Result<(), &StoreError>,
    ) -> Option<JoinHandle<()>> {
        if outcome.is_err_and(StoreError::is_definite) {
            return None;
        }
        for stored in changes.added {
            stored.keep();
        }
        if outcome.is_err() {
            return None;
        }
        for (key, size) in changes.admitted {
            match changes.waiting.take(&key) {
                Some(counted) => counted.keep(),
                // Another write of the same commit has admitted it, too, and a third had removed it in between.
                None => self.0.used().more(size),
            }
        }
        self.0.used().less(changes.freed);
        self.0.remove(changes.superfluous)
    }
}
