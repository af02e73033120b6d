//! Data directories with damaged database files, as the command line sees them. The database ends the process over some
//! damage; whoever checks a directory hears all the same which file it is.

use backbeat_backends::embedded::{DATABASE_FILE, FORMAT_FILE, Store, StoreError, Table};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TABLES: [Table; 2] = [Table("first"), Table("second")];

/// What is done to pages that the database reads when it closes a file: where, and the bytes. Found by the fuzz target
/// `embedded_files`; each of them made the database panic while a panic cleaned up.
const DAMAGE: [(usize, &[u8]); 3] =
    [(0x6001, &[0x00, 0x24]), (0x6003, &[0x06, 0x06]), (0x6005, &[0x00, 0x24])];

async fn store_in(folder: &Path) {
    let store = Store::open(folder).expect("a new store can be opened");
    for step in 0..8_u32 {
        let written = store.write(move |txn| {
            for number in step * 8..step * 8 + 8 {
                let value = format!("value {number} ").repeat(usize::try_from(number % 40).expect("small"));
                txn.put(
                    TABLES[usize::try_from(number % 2).expect("small")],
                    number.to_be_bytes(),
                    value.into_bytes(),
                );
            }
            Ok::<_, StoreError>(())
        });
        written.await.expect("a new store can be written");
    }
    let closed = store.closed();
    drop(store);
    closed.wait().await;
}

/// A data directory with a whole store for the engine, and one with these bytes for the source.
async fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a folder");
    store_in(&directory.path().join("engine")).await;
    store_in(&directory.path().join("source")).await;
    fs::write(directory.path().join(FORMAT_FILE), "backbeat data directory 2\n").expect("room for a file");
    let file = directory.path().join("source").join(DATABASE_FILE);
    (directory, file)
}

fn check(directory: &Path) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backbeat"));
    let output = command.args(["data", "check", "--json", "--data-dir"]).arg(directory).output();
    let output = output.expect("the binary is there");
    let told = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, told)
}

/// What is wrong is told, with this file and no other; answers the text.
fn expect_named(directory: &Path, file: &Path, what: &str) -> String {
    let (output, told) = check(directory);
    assert_eq!(output.status.code(), Some(3), "{what}: {output:?}");
    let problems = told["problems"].as_array().cloned().unwrap_or_default();
    let named: Vec<_> =
        problems.iter().filter(|found| found["file"] == file.to_string_lossy().as_ref()).collect();
    assert!(!named.is_empty() && named.len() == problems.len(), "{what}: {told}");
    // The other store was looked at.
    assert!(told["records"].as_u64() >= Some(64), "{what}: {told}");
    told["problems"].to_string()
}

#[tokio::test]
async fn a_check_survives_damage_that_ends_the_process_of_the_database() {
    let (directory, file) = directory().await;
    let whole = fs::read(&file).expect("the file is there");
    let (output, told) = check(directory.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(told["problems"], Value::Array(Vec::new()), "{told}");
    for (at, bytes) in DAMAGE {
        let mut damaged = whole.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&file, &damaged).expect("room for a file");
        let what = format!("{bytes:x?} at {at:#x}");
        let told = expect_named(directory.path(), &file, &what);
        assert!(told.contains("reading it ends the process"), "{what} no longer does that: {told}");

        // The process that ended named the file last.
        fs::write(&file, &damaged).expect("room for a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_backbeat"));
        let output = command.args(["data", "check-store"]).arg(directory.path().join("source")).output();
        let output = output.expect("the binary is there");
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.starts_with("thread caused non-unwinding panic"));
        let named = format!("backbeat: {} is damaged", file.display());
        assert!(last.is_some_and(|last| last.starts_with(&named)), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_or_too_short_is_damage_too() {
    let (directory, file) = directory().await;
    let whole = fs::read(&file).expect("the file is there");
    for (what, bytes) in
        [("another file", &b"something else"[..]), ("a short file", &whole[..whole.len() / 3])]
    {
        fs::write(&file, bytes).expect("room for a file");
        expect_named(directory.path(), &file, what);
    }
}
