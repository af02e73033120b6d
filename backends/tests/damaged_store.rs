//! The embedded store over a database file whose bytes were changed. The database panics over some of that: the store takes
//! it for damage, names the file, and the process goes on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use backbeat_backends::embedded::{
    DATABASE_FILE, FORMAT_FILE, KeyRange, Read, Row, Store, StoreError, StoreOptions, Table,
};
use std::fs;
use std::path::Path;

const FIRST: Table = Table("first");
const SECOND: Table = Table("second");
const ROWS: u32 = 400;
const PAGE_BYTES: usize = 4096;
const SEEDS: u64 = 120;

/// Numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:05}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    format!("value {number} ").repeat(usize::try_from(number % 50).unwrap()).into_bytes()
}

/// The database file of a store in use: several commits, pages that are free again, two tables.
async fn whole(directory: &Path) -> Vec<u8> {
    let store = Store::open(directory).unwrap();
    for from in (0..ROWS).step_by(50) {
        let written = store.write(move |txn| {
            for number in from..from + 50 {
                txn.put(if number % 2 == 0 { FIRST } else { SECOND }, key(number), value(number));
            }
            Ok::<_, StoreError>(())
        });
        written.await.unwrap();
    }
    let (file, closed) = (store.file().to_owned(), store.closed());
    drop(store);
    closed.wait().await;
    fs::read(file).unwrap()
}

/// A data directory with that database file.
fn directory_with(bytes: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    assert!(directory.path().join(FORMAT_FILE).exists());
    fs::write(directory.path().join(DATABASE_FILE), bytes).unwrap();
    directory
}

/// The bytes with a few places changed: single bits, or a stretch of noise. Pages at the front say where all others are.
fn damaged(whole: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=numbers.below(6) {
        let reach = if numbers.below(3) == 0 { PAGE_BYTES } else { bytes.len() };
        let at = numbers.below(reach);
        if numbers.below(2) == 0 {
            bytes[at] ^= 1 << numbers.below(8);
        } else {
            let end = (at + 1 + numbers.below(64)).min(bytes.len());
            bytes[at..end].fill_with(|| numbers.next().to_le_bytes()[0]);
        }
    }
    bytes
}

/// What the uses of damaged files came to.
#[derive(Debug, Default)]
struct Seen {
    opening: u32,
    reading: u32,
    writing: u32,
    records: u32,
    other: u32,
    fine: u32,
}

impl Seen {
    /// Whoever cannot be served is told that the file is damaged, and which one it is.
    fn note<T>(&mut self, result: Result<T, StoreError>, what: &str) -> Option<T> {
        let error = match result {
            Ok(value) => {
                self.fine += 1;
                return Some(value);
            }
            Err(error) => error,
        };
        assert!(error.to_string().contains(DATABASE_FILE), "{what}: {error}");
        if let StoreError::Damaged { message, .. } = &error {
            match message.as_str() {
                "opening it panicked" => self.opening += 1,
                "reading it panicked" => self.reading += 1,
                "writing it panicked" => self.writing += 1,
                _ => self.other += 1,
            }
        } else if matches!(error, StoreError::Corrupt { .. }) {
            self.records += 1;
        } else {
            // A page that lies behind the end of the file, and what comes after that: the disk's word.
            assert!(matches!(error, StoreError::Io { .. }), "{what}: {error:?}");
            self.other += 1;
        }
        None
    }
}

fn expect_stored(rows: Vec<Row>, what: &str) {
    for (found, bytes) in rows {
        let number = std::str::from_utf8(&found).ok().and_then(|key| key.strip_prefix("key-"));
        let number = number.and_then(|digits| digits.parse::<u32>().ok());
        assert_eq!(Some(bytes), number.map(value), "{what}: a value that was never stored");
    }
}

async fn use_all(store: &Store, seen: &mut Seen, what: &str) {
    for table in [FIRST, SECOND] {
        let rows = store.read(|txn| txn.range(table, &KeyRange::all(), usize::MAX));
        if let Some(rows) = seen.note(rows, what) {
            expect_stored(rows, what);
        }
        let last = store.read(|txn| txn.last(table, &KeyRange::prefix(b"key-")));
        if let Some(last) = seen.note(last, what) {
            expect_stored(last.into_iter().collect(), what);
        }
        // A write that looks first, and one that does not.
        for number in [0, 101] {
            let looks = store.write(move |txn| {
                let found = txn.get(table, &key(number))?;
                txn.put(table, key(number), found.unwrap_or_else(|| value(number)));
                Ok::<_, StoreError>(())
            });
            seen.note(looks.await, what);
            let blind = store.write(move |txn| {
                txn.put(table, key(number), value(number));
                Ok::<_, StoreError>(())
            });
            seen.note(blind.await, what);
        }
        for number in 0..ROWS {
            let found = store.read(|txn| txn.get(table, &key(number)));
            if let Some(Some(found)) = seen.note(found, what) {
                assert_eq!(found, value(number), "{what}: a value that was never stored");
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused_by_name_and_the_process_goes_on() {
    let origin = tempfile::tempdir().unwrap();
    let whole = whole(origin.path()).await;
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let what = format!("seed {seed}");
        let directory = directory_with(&damaged(&whole, &mut Numbers(seed)));
        let options = StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() };
        let Some(store) = seen.note(Store::open_with(directory.path(), options), &what) else { continue };
        use_all(&store, &mut seen, &what).await;
        let closed = store.closed();
        drop(store);
        closed.wait().await;
    }
    // The database did panic, in each of these.
    assert!(seen.opening > 0 && seen.reading > 0 && seen.writing > 0, "{seen:?}");
    assert!(seen.records > 0 && seen.fine > 0, "{seen:?}");

    // The process goes on: a file that is whole is served as ever.
    let mut seen = Seen::default();
    let directory = directory_with(&whole);
    let store = Store::open(directory.path()).unwrap();
    use_all(&store, &mut seen, "the whole file").await;
    assert_eq!((seen.reading, seen.writing, seen.records, seen.other), (0, 0, 0, 0), "{seen:?}");
}
