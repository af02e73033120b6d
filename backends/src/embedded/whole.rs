//! Everything in a store at once: checking every record, and copying a snapshot while the store is in use.

use super::directory::{Directory, OlderFormat};
use super::record;
use super::transaction::ReadTxn;
use super::{Store, StoreError};
use redb::{Database, TableDefinition, TableHandle as _};
use std::path::Path;

/// Rows of one transaction of a copy.
const ROWS_MAX: usize = 10_000;
/// Their bytes, with one row more: bounds what a copy keeps in memory.
const BYTES_MAX: usize = 4 << 20;

/// Table, key and stored form of a record.
type Sealed = (String, Vec<u8>, Vec<u8>);

type VisitSealed<'a> = dyn FnMut(&str, &[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// One record of a store.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its table.
    pub table: &'a str,
    /// Its key.
    pub key: &'a [u8],
    /// Its value; nothing if it does not match its checksum.
    pub value: Option<&'a [u8]>,
}

impl ReadTxn<'_> {
    /// Shows every record of every table, damaged ones too.
    ///
    /// # Errors
    /// The file is damaged beyond single records.
    pub fn visit_all(&self, visit: &mut dyn FnMut(Record<'_>)) -> Result<(), StoreError> {
        self.visit_sealed(&mut |table, key, sealed| {
            visit(Record { table, key, value: record::unseal(table, key, sealed) });
            Ok(())
        })
    }

    /// Shows every record as it is stored.
    fn visit_sealed(&self, visit: &mut VisitSealed<'_>) -> Result<(), StoreError> {
        let failed = |error: redb::Error| StoreError::database(self.file, error);
        for handle in self.txn.list_tables().map_err(|error| failed(error.into()))? {
            let table = handle.name();
            let rows = self
                .txn
                .open_table(TableDefinition::<&[u8], &[u8]>::new(table))
                .map_err(|error| failed(error.into()))?;
            for row in rows.range::<&[u8]>(..).map_err(|error| failed(error.into()))? {
                let (key, sealed) = row.map_err(|error| failed(error.into()))?;
                visit(table, key.value(), sealed.value())?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Copies a snapshot of the store to another directory, while it is in use. Answers the number of records. Blocks
    /// as long as that takes; writers do not wait for it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] at the first record that does not match its checksum: damage is not copied. Otherwise
    /// what the disk says.
    pub fn copy_to(&self, path: &Path) -> Result<u64, StoreError> {
        let directory = Directory::open(path, OlderFormat::TakeOver)?;
        let file = directory.database();
        let failed = |error: redb::Error| StoreError::database(&file, error);
        let database = Database::create(&file).map_err(|error| failed(error.into()))?;
        let mut copied = 0_u64;
        let mut waiting: Vec<Sealed> = Vec::new();
        let mut waiting_bytes = 0;
        let flush = |waiting: &mut Vec<Sealed>| -> Result<(), StoreError> {
            let txn = database.begin_write().map_err(|error| failed(error.into()))?;
            let mut rows = waiting.drain(..).peekable();
            while let Some((table, ..)) = rows.peek() {
                let table = table.clone();
                let mut into = txn
                    .open_table(TableDefinition::<&[u8], &[u8]>::new(&table))
                    .map_err(|error| failed(error.into()))?;
                while let Some((_, key, sealed)) = rows.next_if(|(of, ..)| *of == table) {
                    into.insert(key.as_slice(), sealed.as_slice()).map_err(|error| failed(error.into()))?;
                }
            }
            drop(rows);
            txn.commit().map_err(|error| failed(error.into()))
        };
        self.read(|txn| {
            txn.visit_sealed(&mut |table, key, sealed| {
                if record::unseal(table, key, sealed).is_none() {
                    return Err(StoreError::Corrupt {
                        file: self.file().into(),
                        table: table.to_owned(),
                        key: key.escape_ascii().to_string(),
                    });
                }
                copied += 1;
                waiting.push((table.to_owned(), key.to_vec(), sealed.to_vec()));
                waiting_bytes += key.len() + sealed.len();
                if waiting.len() < ROWS_MAX && waiting_bytes < BYTES_MAX {
                    return Ok(());
                }
                waiting_bytes = 0;
                flush(&mut waiting)
            })
        })?;
        flush(&mut waiting)?;
        drop(database);
        directory.sync()?;
        Ok(copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{DATABASE_FILE, Read as _, Table};

    const TABLE: Table = Table("things");

    async fn store_with(directory: &Path, count: u32) -> Store {
        let store = Store::open(directory).unwrap();
        let written = store.write(move |txn| {
            for number in 0..count {
                txn.put(TABLE, number.to_be_bytes(), format!("value {number}"));
            }
            Ok::<_, StoreError>(())
        });
        written.await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_copy_holds_the_snapshot_and_opens_like_the_original() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_with(&directory.path().join("a"), 3).await;
        let copy = directory.path().join("b");
        // One more than was written: the number of the last commit is a record too.
        assert_eq!(store.copy_to(&copy).unwrap(), 4);
        let later = store.write(|txn| {
            txn.put(TABLE, 0_u32.to_be_bytes(), "later");
            Ok::<_, StoreError>(())
        });
        later.await.unwrap();
        let copy = Store::open(&copy).unwrap();
        let value = copy.read(|txn| txn.get(TABLE, &0_u32.to_be_bytes())).unwrap();
        assert_eq!(value.unwrap(), b"value 0");
    }

    #[tokio::test]
    async fn a_damaged_record_is_shown_and_not_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let file = path.join(DATABASE_FILE);
        drop(store_with(&path, 40).await);
        let mut bytes = std::fs::read(&file).unwrap();
        let places: Vec<usize> = bytes
            .windows(8)
            .enumerate()
            .filter(|(_, bytes)| *bytes == b"value 17")
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at + 6] = b'9';
        }
        std::fs::write(&file, bytes).unwrap();
        let store = Store::open(&path).unwrap();
        let mut damaged = Vec::new();
        let visited = store.read(|txn| {
            txn.visit_all(&mut |record| {
                if record.value.is_none() {
                    damaged.push((record.table.to_owned(), record.key.to_vec()));
                }
            })
        });
        visited.unwrap();
        assert_eq!(damaged, [("things".to_owned(), 17_u32.to_be_bytes().to_vec())]);
        assert!(matches!(store.copy_to(&directory.path().join("b")), Err(StoreError::Corrupt { .. })));
    }
}
