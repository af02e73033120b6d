//! Files: the configuration, accounts, and the embedded store.

use crate::tolerance;
use backbeat::config::Config;
use backbeat_backends::embedded::{
    DATABASE_FILE, KeyRange, Read as _, Store, StoreError, StoreOptions, Table,
};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{LazyLock, Once};

fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("there is room for a scratch folder")
}

/// A configuration file, and environment variables after its last NUL. What is accepted can be used and shown.
pub fn configuration(data: &[u8]) {
    thread_local!(static FOLDER: tempfile::TempDir = scratch());
    FOLDER.with(|folder| {
        let mut parts = data.split(|byte| *byte == 0);
        let file = folder.path().join("config.json");
        fs::write(&file, parts.next().unwrap_or_default()).expect("the scratch folder is there");
        let environment = parts.filter_map(|part| {
            let (name, value) = std::str::from_utf8(part).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        match Config::load(Some(&file), environment) {
            Ok(config) => {
                config.replication();
                config.entries();
                config.to_json();
            }
            Err(error) => drop(error.to_string()),
        }
    });
}

const TABLES: [Table; 2] = [Table("first"), Table("second")];

/// A database file with some of its bytes exchanged, or another file altogether: opening and reading it ends with what was
/// stored or with an error, never with other values.
pub fn embedded_files(data: &[u8]) {
    // Damaged pages make the database panic, which the store takes for damage: only what leaves the store counts.
    static QUIET: Once = Once::new();
    static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(make_database);
    QUIET.call_once(|| tolerance::tolerate("redb"));
    let folder = scratch();
    let path = folder.path().to_owned();
    drop(Store::open(&path).expect("a new store can be opened"));
    damage(&path.join(DATABASE_FILE), &WHOLE, data);
    tolerance::run(move || read_all(&path));
}

/// Each change: three bytes of offset, one of length, the new bytes. A length of 255 cuts the file there.
fn damage(file: &Path, whole: &[u8], changes: &[u8]) {
    fs::write(file, whole).expect("the scratch folder is there");
    let open = OpenOptions::new().write(true).open(file).expect("the file is there");
    let mut rest = changes;
    while let [a, b, c, length, tail @ ..] = rest {
        let offset = u64::from_be_bytes([0, 0, 0, 0, 0, *a, *b, *c]) % whole.len() as u64;
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        if *length == u8::MAX {
            open.set_len(offset).expect("the file is there");
        } else {
            open.write_all_at(bytes, offset).expect("the file is there");
        }
        rest = tail;
    }
}

fn value(number: u32) -> Vec<u8> {
    format!("value {number} ").repeat(usize::try_from(number % 40).expect("small")).into_bytes()
}

/// A small store's database file.
fn make_database() -> Vec<u8> {
    let folder = scratch();
    let store = Store::open(folder.path()).expect("a new store can be opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    for step in 0..8_u32 {
        let written = store.write(move |txn| {
            for number in step * 8..step * 8 + 8 {
                txn.put(
                    TABLES[usize::try_from(number % 2).expect("small")],
                    number.to_be_bytes(),
                    value(number),
                );
            }
            Ok::<_, StoreError>(())
        });
        runtime.block_on(written).expect("a new store can be written");
    }
    let file = store.file().to_owned();
    drop(store);
    fs::read(file).expect("the file is there")
}

fn read_all(path: &Path) {
    let options = StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() };
    let store = match Store::open_with(path, options) {
        Ok(store) => store,
        Err(error) => return drop(error.to_string()),
    };
    for table in TABLES {
        match store.read(|txn| txn.range(table, &KeyRange::all(), 1000)) {
            Ok(rows) => {
                for (key, found) in rows {
                    let number = u32::from_be_bytes(key.try_into().expect("a key that was stored"));
                    assert_eq!(found, value(number), "a value that was never stored");
                }
            }
            Err(error) => drop(error.to_string()),
        }
    }
}
