//! The bytes of objects. Small ones lie in the site's store, so that they become durable in the commit of what mentions
//! them, together with those of other writers; larger ones in a file each.
//!
//! Bytes belong to an object only once a metadata commit says so. Those that no commit mentions are gone: with the value
//! that holds them, or when the site opens next.
//!
//! Read in the order of a piece's life: how it is received ([`receiving`]), small ones perhaps to wait for their metadata
//! ([`waiting`]); what a write changes about it and how that settles ([`changes`]); what the store then says of it
//! ([`row`]); how it is read ([`reader`]). Beneath them lie the names ([`keys`]), the files ([`files`]), and the count of
//! bytes ([`used`]).

mod changes;
mod files;
mod keys;
mod reader;
mod receiving;
mod row;
mod used;
mod waiting;

pub(super) use changes::{DataChanges, Settlement};
pub(super) use files::Hold;
pub(super) use reader::Reader;
pub(super) use receiving::{Incoming, SMALL_MAX, Stored};
pub(super) use row::{BYTES, DATA, DataOwner, DataRow, Place};

use super::error::SiteError;
use crate::embedded::{KeyRange, Read, Store, StoreError};
use bytes::Bytes;
use files::DataFiles;
use keys::key_in_store;
use receiving::Lies;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::AsyncSeekExt;
use used::{Counted, Used};
use waiting::Waiting;

/// The folder of data files in the data directory.
const FOLDER: &str = "data";

/// The data of one site.
#[derive(Clone, Debug)]
pub(super) struct DataStore {
    store: Store,
    files: DataFiles,
    waiting: Waiting,
}

/// What the commits know about data.
#[derive(Debug, Default)]
struct Known {
    files: BTreeSet<String>,
    bytes_in_store: u64,
}

fn of_store(error: StoreError) -> io::Error {
    let is_damaged = matches!(error, StoreError::Corrupt { .. } | StoreError::Damaged { .. });
    io::Error::new(if is_damaged { io::ErrorKind::InvalidData } else { io::ErrorKind::Other }, error)
}

impl Known {
    fn of(store: &Store) -> Result<Self, StoreError> {
        let mut known = Self::default();
        store.read(|txn| {
            txn.visit(DATA, &KeyRange::all(), &mut |key, row| match DataRow::decode(row).place {
                Place::Store(size) => known.bytes_in_store += u64::from(size),
                Place::File => {
                    known.files.insert(String::from_utf8_lossy(key).into_owned());
                }
            })
        })?;
        Ok(known)
    }
}

impl DataStore {
    /// Opens, or creates, the data of a site in its directory, and removes files that no commit mentions.
    pub(super) fn open(store: Store, directory: &Path) -> Result<Self, SiteError> {
        let folder = directory.join(FOLDER);
        let of_folder = |error| SiteError::Data { folder: folder.clone(), error };
        let used = Used::default();
        let files = DataFiles::open(&folder, used.clone()).map_err(of_folder)?;
        let known = Known::of(&store)?;
        used.more(known.bytes_in_store);
        let swept = files.sweep(&known.files).map_err(of_folder)?;
        if swept > 0 {
            tracing::info!(swept, "removed data files that no commit mentions");
        }
        Ok(Self { store, files, waiting: Waiting::default() })
    }

    /// Bytes of all data, of what is being received too.
    pub(super) fn used(&self) -> u64 {
        self.files.used().bytes()
    }

    /// Keeps the files that are there now. Nothing if somebody else does so already.
    pub(super) fn hold(&self) -> Option<Hold> {
        self.files.hold()
    }

    /// Gives `directory`, which holds a copy of the store, the data that it mentions and does not hold. Answers the number
    /// of files and the bytes of all its data. The files must be held since before the copy was made.
    pub(super) fn complete_copy(&self, directory: &Path) -> Result<(u64, u64), SiteError> {
        let folder = directory.join(FOLDER);
        let of_folder = |error| SiteError::Data { folder: folder.clone(), error };
        let known = Known::of(&Store::open(directory)?)?;
        DataFiles::create_folders(&folder).map_err(of_folder)?;
        let mut bytes = known.bytes_in_store;
        for key in &known.files {
            bytes += self.files.link(key, &folder).map_err(of_folder)?;
        }
        DataFiles::sync_folders(&folder).map_err(of_folder)?;
        Ok((known.files.len() as u64, bytes))
    }

    /// Where the file of a data key lies in a site's directory, if it has one.
    pub(super) fn file_in(directory: &Path, key: &str) -> PathBuf {
        directory.join(FOLDER).join(key.get(..2).unwrap_or_default()).join(key)
    }

    /// Starts to receive data.
    pub(super) fn receive(&self) -> Incoming {
        Incoming::new(self.files.clone())
    }

    fn in_store(&self, key: &str) -> io::Result<Option<Bytes>> {
        let bytes = self.store.read(|txn| txn.get(BYTES, key.as_bytes())).map_err(of_store)?;
        Ok(bytes.map(Bytes::from))
    }

    /// Begins to read `length` bytes from `start` on.
    pub(super) async fn read(&self, key: &str, start: u64, length: u64) -> io::Result<Reader> {
        if let Some(bytes) = self.in_store(key)? {
            let place = |at: u64| usize::try_from(at).ok().filter(|at| *at <= bytes.len());
            let ends = place(start).zip(start.checked_add(length).and_then(place));
            let (start, end) = ends.ok_or(io::ErrorKind::UnexpectedEof)?;
            return Ok(Reader::Memory(bytes.slice(start..end)));
        }
        let mut file = self.files.read(key).await?;
        if start > 0 {
            file.seek(io::SeekFrom::Start(start)).await?;
        }
        Ok(Reader::File(file, length))
    }

    /// The same bytes again, under a key of their own. In the store only if they lie there and that is asked for: who
    /// copies much at once keeps nothing in memory.
    pub(super) async fn duplicate(&self, key: &str, may_lie_in_store: bool) -> io::Result<Stored> {
        let Some(bytes) = self.in_store(key)? else {
            let (key, unmentioned, size) = self.files.duplicate(key).await?;
            let counted = Counted::new(self.files.used(), size);
            return Ok(Stored { key, counted, lies: Lies::File(unmentioned) });
        };
        let counted = Counted::new(self.files.used(), bytes.len() as u64);
        if may_lie_in_store {
            return Ok(Stored { key: key_in_store()?, counted, lies: Lies::Memory(bytes) });
        }
        let mut file = self.files.create().await?;
        file.write(&bytes).await?;
        let (key, unmentioned) = file.finish().await?;
        Ok(Stored { key, counted, lies: Lies::File(unmentioned) })
    }

    /// Keeps small data in memory until its metadata comes. Answers the keys of what waits for too long and has to be
    /// [admitted](DataChanges::row) to the store now.
    ///
    /// # Errors
    /// The data, if it is not small.
    pub(super) fn wait_for_metadata(&self, stored: Stored) -> Result<Vec<String>, Stored> {
        match stored.lies {
            Lies::Memory(bytes) => Ok(self.waiting.add(stored.key, bytes, stored.counted)),
            Lies::File(_) => Err(stored),
        }
    }

    /// How many pieces wait in memory for their metadata.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.count()
    }

    /// What one write does with data.
    pub(super) fn changes(&self) -> DataChanges {
        DataChanges::new(self.waiting.clone())
    }

    /// What makes the data changes of a write true once its outcome is known. It does not hold the store.
    pub(super) fn settlement(&self) -> Settlement {
        Settlement(self.files.clone())
    }
}

/// What fuzz targets call: what a row of data in the store says, it says when it is written again.
#[cfg(feature = "fuzzing")]
pub(super) fn parsers(data: &[u8]) {
    let row = DataRow::decode(data);
    if row.place != Place::File {
        assert_eq!(DataRow::decode(&row.encode()), row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::WriteTxn;

    const SIZES: [usize; 4] = [0, 9, SMALL_MAX, SMALL_MAX + 1];

    fn open(directory: &Path) -> DataStore {
        DataStore::open(Store::open(directory).unwrap(), directory).unwrap()
    }

    async fn stored(data: &DataStore, size: usize) -> Stored {
        let mut incoming = data.receive();
        for chunk in vec![7; size].chunks(1000) {
            incoming.write(chunk).await.unwrap();
        }
        incoming.finish().await.unwrap()
    }

    async fn read(data: &DataStore, key: &str, start: u64, length: u64) -> io::Result<usize> {
        let mut reader = data.read(key, start, length).await?;
        let mut size = 0;
        while let Some(bytes) = reader.next().await? {
            size += bytes.len();
        }
        Ok(size)
    }

    async fn change<F>(data: &DataStore, change: F) -> Result<(), StoreError>
    where
        F: FnOnce(&mut DataChanges, &mut WriteTxn<'_>) -> Result<(), StoreError> + Send + 'static,
    {
        let (fresh, settlement) = (data.changes(), data.settlement());
        let changed = data.store.write_then(
            move |txn| {
                let mut changes = fresh;
                change(&mut changes, txn)?;
                Ok::<_, StoreError>(changes)
            },
            move |changes, outcome| settlement.settle(changes, outcome),
        );
        if let Some(removing) = changed.await? {
            removing.await.unwrap();
        }
        Ok(())
    }

    #[tokio::test]
    async fn data_stays_only_if_a_write_takes_it_in() {
        let directory = tempfile::tempdir().unwrap();
        let data = open(directory.path());
        for size in SIZES {
            let before = data.used();
            let dropped = stored(&data, size).await;
            let refused = stored(&data, size).await;
            let kept = stored(&data, size).await;
            assert_eq!(data.used(), before + 3 * size as u64);
            let keys = [&dropped, &refused, &kept].map(|stored| stored.key().to_owned());
            drop(dropped);
            let refusal = StoreError::Closed { file: "the closure said so".into() };
            change(&data, move |changes, txn| {
                changes.add(txn, refused);
                Err(refusal)
            })
            .await
            .unwrap_err();
            change(&data, move |changes, txn| {
                changes.add(txn, kept);
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(data.used(), before + size as u64);
            assert_eq!(read(&data, &keys[2], 0, size as u64).await.unwrap(), size);
            let beyond = read(&data, &keys[2], 0, size as u64 + 1).await.unwrap_err();
            assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
            for gone in &keys[..2] {
                assert_eq!(read(&data, gone, 0, 1).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            }
        }
        assert_eq!(data.read("../../etc/passwd", 0, 1).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn files_that_no_write_mentions_are_swept_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let data = open(directory.path());
        for size in SIZES {
            let kept = stored(&data, size).await;
            change(&data, move |changes, txn| {
                changes.add(txn, kept);
                Ok(())
            })
            .await
            .unwrap();
        }
        let used = data.used();
        let stray = "ab".repeat(20);
        let file = DataStore::file_in(directory.path(), &stray);
        std::fs::write(&file, "lost").unwrap();
        let closed = data.store.closed();
        drop(data);
        closed.wait().await;
        let data = open(directory.path());
        assert!(!file.exists());
        assert_eq!(data.used(), used);
    }

    #[tokio::test]
    async fn a_duplicate_outlives_its_original() {
        let directory = tempfile::tempdir().unwrap();
        let data = open(directory.path());
        for (size, may_lie_in_store) in [(9, true), (9, false), (SMALL_MAX + 1, true)] {
            let original = stored(&data, size).await;
            let key = original.key().to_owned();
            change(&data, move |changes, txn| {
                changes.add(txn, original);
                Ok(())
            })
            .await
            .unwrap();
            let copy = data.duplicate(&key, may_lie_in_store).await.unwrap();
            let is_in_store = size <= SMALL_MAX && may_lie_in_store;
            assert_eq!(matches!(copy.lies, Lies::Memory(_)), is_in_store);
            assert_eq!(data.used(), 2 * size as u64);
            let copied = copy.key().to_owned();
            assert_ne!(copied, key);
            change(&data, move |changes, txn| {
                changes.add(txn, copy);
                changes.discard(txn, &key);
                // Twice is as good as once.
                changes.discard(txn, &key);
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!((data.used(), read(&data, &copied, 2, 5).await.unwrap()), (size as u64, 5));
            change(&data, move |changes, txn| {
                changes.discard(txn, &copied);
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(data.used(), 0);
        }
        let missing = data.duplicate(&"ab".repeat(20), true).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
