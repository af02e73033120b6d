//! The bytes of objects. Small ones lie in the site's store, so that they become durable in the commit of what mentions
//! them, together with those of other writers; larger ones in a file each.
//!
//! Bytes belong to an object only once a metadata commit says so. Those that no commit mentions are gone: with the value
//! that holds them, or when the site opens next.

mod files;
mod row;
mod used;
mod waiting;

pub(super) use files::Hold;
pub(super) use row::{BYTES, DATA, DataOwner, DataRow, Place};

use super::metadata::SiteError;
use crate::embedded::{KeyRange, Read, Store, StoreError, WriteTxn};
use bytes::{Bytes, BytesMut};
use files::{DataFiles, NewFile, Unmentioned};
use md5::{Digest, Md5};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::task::JoinHandle;
use used::{Counted, Used};
use waiting::Waiting;

/// The folder of data files in the data directory.
const FOLDER: &str = "data";
/// Data of at most so many bytes is small. An upload keeps no more in memory, 32 MiB for all connections of a site; and
/// beyond it the two disk syncs of a file cost less than writing the bytes does.
pub(super) const SMALL_MAX: usize = 32 << 10;
/// Bytes read from a file at once.
const CHUNK: usize = 64 << 10;

/// The data of one site.
#[derive(Clone, Debug)]
pub(super) struct DataStore {
    store: Store,
    files: DataFiles,
    waiting: Waiting,
}

/// Data that is being received. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub(super) struct Incoming {
    files: DataFiles,
    md5: Md5,
    counted: Counted,
    gathered: Gathered,
}

#[derive(Debug)]
enum Gathered {
    Memory(Vec<u8>),
    File(NewFile),
}

/// Data that is all there and that no commit mentions yet: dropped, it leaves nothing. If it is large it is durable.
#[derive(Debug)]
pub(super) struct Stored {
    key: String,
    counted: Counted,
    lies: Lies,
}

#[derive(Debug)]
enum Lies {
    Memory(Bytes),
    File(Unmentioned),
}

/// Bytes of one data key that are being read.
#[derive(Debug)]
pub(super) enum Reader {
    /// All of them.
    Memory(Bytes),
    /// As many of a file.
    File(File, u64),
}

/// What one write does with data. Nothing is so before the write is durable.
#[derive(Debug)]
pub(super) struct DataChanges {
    waiting: Waiting,
    added: Vec<Stored>,
    /// Keys and sizes of what waited in memory and lies in the store now.
    admitted: Vec<(String, u64)>,
    /// Keys of files that nothing mentions any more.
    superfluous: Vec<String>,
    /// Bytes in the store that nothing mentions any more.
    freed: u64,
}

/// What the commits know about data.
#[derive(Debug, Default)]
struct Known {
    files: BTreeSet<String>,
    bytes_in_store: u64,
}

/// Random hexadecimal digits from the operating system.
pub(super) fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// True if a text is a data key of this site: 40 hexadecimal digits.
fn is_data_key(key: &str) -> bool {
    key.len() == 40 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A new key for data in the store. Those of one time lie side by side, so that a commit touches few pages.
fn key_in_store() -> io::Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Ok(format!("{}{}", hex::encode(&ms.to_be_bytes()[2..]), random_hex::<14>()?))
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
        Incoming {
            files: self.files.clone(),
            md5: Md5::new(),
            counted: Counted::new(self.files.used(), 0),
            gathered: Gathered::Memory(Vec::new()),
        }
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
        DataChanges {
            waiting: self.waiting.clone(),
            added: Vec::new(),
            admitted: Vec::new(),
            superfluous: Vec::new(),
            freed: 0,
        }
    }

    /// What makes the data changes of a write true once its outcome is known. It does not hold the store.
    pub(super) fn settlement(&self) -> Settlement {
        Settlement(self.files.clone())
    }
}

/// Makes the data changes of writes true.
pub(super) struct Settlement(DataFiles);

impl Settlement {
    /// Keeps what a durable write has added, and removes what it made superfluous: answers what to wait for. After a
    /// refused one the data that it was for goes; after one with an unknown outcome everything stays until the site opens
    /// next and knows.
    pub(super) fn settle(
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
    /// Takes data in. Until it is attached it waits for its metadata.
    pub(super) fn add(&mut self, txn: &mut WriteTxn<'_>, mut stored: Stored) {
        let bytes = match &mut stored.lies {
            Lies::File(_) => None,
            Lies::Memory(bytes) => Some(std::mem::take(bytes)),
        };
        put(txn, &stored.key, bytes);
        self.added.push(stored);
    }

    /// What the store says about data; what waits in memory is admitted to it first. Nothing if there is no such data.
    pub(super) fn row(
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
    pub(super) fn attach(txn: &mut WriteTxn<'_>, data_key: &str, owner: DataOwner) -> Result<(), StoreError> {
        let place =
            txn.get(DATA, data_key.as_bytes())?.map_or(Place::File, |row| DataRow::decode(&row).place);
        txn.put(DATA, data_key, DataRow { place, owner }.encode());
        Ok(())
    }

    /// Forgets data; its bytes go with this write, or when it is durable.
    pub(super) fn discard(&mut self, txn: &mut WriteTxn<'_>, data_key: &str) {
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

impl Incoming {
    /// Appends bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.counted.add(bytes.len() as u64);
        match &mut self.gathered {
            Gathered::Memory(gathered) if gathered.len() + bytes.len() <= SMALL_MAX => {
                gathered.extend_from_slice(bytes);
            }
            Gathered::Memory(gathered) => {
                let mut file = self.files.create().await?;
                file.write(gathered).await?;
                file.write(bytes).await?;
                self.gathered = Gathered::File(file);
            }
            Gathered::File(file) => file.write(bytes).await?,
        }
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.counted.bytes()
    }

    /// Lower-case hexadecimal MD5 of the bytes so far.
    pub(super) fn md5(&self) -> String {
        hex::encode(self.md5.clone().finalize())
    }

    /// Ends it; what is large is made durable.
    pub(super) async fn finish(self) -> io::Result<Stored> {
        let (key, lies) = match self.gathered {
            Gathered::Memory(bytes) => (key_in_store()?, Lies::Memory(bytes.into())),
            Gathered::File(file) => {
                let (key, unmentioned) = file.finish().await?;
                (key, Lies::File(unmentioned))
            }
        };
        Ok(Stored { key, counted: self.counted, lies })
    }
}

impl Stored {
    /// Its data key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Begins to read it.
    pub(super) async fn read(&self, data: &DataStore) -> io::Result<Reader> {
        match &self.lies {
            Lies::Memory(bytes) => Ok(Reader::Memory(bytes.clone())),
            Lies::File(_) => Ok(Reader::File(data.files.read(&self.key).await?, self.counted.bytes())),
        }
    }

    /// It is mentioned: the bytes stay.
    fn keep(self) {
        self.counted.keep();
        if let Lies::File(unmentioned) = self.lies {
            unmentioned.keep();
        }
    }
}

impl Reader {
    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Self::File(_, 0) => Ok(None),
            Self::File(file, left) => {
                let wanted = usize::try_from((*left).min(CHUNK as u64)).unwrap_or(CHUNK);
                let mut chunk = BytesMut::with_capacity(wanted);
                let read = file.take(wanted as u64).read_buf(&mut chunk).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= read as u64;
                Ok(Some(chunk.freeze()))
            }
        }
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

    const SIZES: [usize; 4] = [0, 9, SMALL_MAX, SMALL_MAX + 1];

    fn open(directory: &Path) -> DataStore {
        DataStore::open(Store::open(directory).unwrap(), directory).unwrap()
    }

    async fn stored(data: &DataStore, size: usize) -> Stored {
        let mut incoming = data.receive();
        for chunk in vec![7; size].chunks(1000) {
            incoming.write(chunk).await.unwrap();
        }
        assert_eq!(incoming.size(), size as u64);
        assert_eq!(incoming.md5(), hex::encode(Md5::digest(vec![7; size])));
        // What is in memory is bounded.
        assert_eq!(matches!(incoming.gathered, Gathered::Memory(_)), size <= SMALL_MAX);
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
