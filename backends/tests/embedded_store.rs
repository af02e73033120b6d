//! The embedded store against a failing disk: what was acknowledged stays, what was refused is not there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use backbeat_backends::embedded::{
    DATABASE_FILE, DiskFaults, FORMAT_FILE, KeyRange, Read, Store, StoreError, StoreOptions, Table,
};
use futures_util::FutureExt as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const T: Table = Table("things");

async fn put(store: &Store, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let (key, value) = (key.as_bytes().to_vec(), value.to_vec());
    store
        .write(move |txn| {
            txn.put(T, key, value);
            Ok(())
        })
        .await
}

fn get(store: &Store, key: &str) -> Option<Vec<u8>> {
    store.read(|txn| txn.get(T, key.as_bytes())).unwrap()
}

fn with_faults(directory: &Path) -> (Store, Arc<DiskFaults>) {
    let faults = DiskFaults::new();
    let options = StoreOptions { faults: Some(Arc::clone(&faults)), ..StoreOptions::default() };
    (Store::open_with(directory, options).unwrap(), faults)
}

/// A copy of a data directory as another machine would find it after a power cut now.
fn copy_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in [DATABASE_FILE, FORMAT_FILE] {
        fs::copy(directory.join(file), copy.path().join(file)).unwrap();
    }
    copy
}

#[tokio::test]
async fn acknowledged_writes_survive_a_crash_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for round in 0..20 {
        put(&store, &format!("key-{round}"), &[round; 100]).await.unwrap();
        let copy = copy_of(directory.path());
        let reopened = Store::open(copy.path()).unwrap();
        for earlier in 0..=round {
            assert_eq!(get(&reopened, &format!("key-{earlier}")), Some(vec![earlier; 100]), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_closed_once_nobody_holds_it_and_may_be_opened_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..20_u8 {
        let store = Store::open(directory.path()).unwrap();
        put(&store, "key", &[round]).await.unwrap();
        let closed = store.closed();
        assert_eq!(closed.file(), store.file());
        assert!(closed.clone().wait().now_or_never().is_none(), "it is open");
        let (other, writing) = (store.clone(), Arc::new(tokio::sync::Notify::new()));
        let begun = Arc::clone(&writing);
        let task = tokio::spawn(async move {
            begun.notify_one();
            for more in 0..10 {
                put(&other, "more", &[more]).await.unwrap();
            }
        });
        writing.notified().await;
        drop(store);
        closed.wait().await;
        Store::open(directory.path()).expect("nobody has it");
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let writers: Vec<_> = (0..100)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &format!("key-{writer}"), b"value").await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(store.writes(), 100);
    assert!(store.commits() < 50, "{} commits for 100 writers", store.commits());
    assert_eq!(store.read(|txn| txn.range(T, &KeyRange::all(), 1000)).unwrap().len(), 100);
}

#[tokio::test]
async fn a_thread_may_hold_a_store_until_its_very_end() {
    thread_local!(static HELD: std::cell::RefCell<Option<Store>> = const { std::cell::RefCell::new(None) });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let thread = std::thread::spawn(move || {
        // Known to the thread before anything that opening a store leaves there, it is dropped after that.
        HELD.set(None);
        let store = Store::open(&path).unwrap();
        assert_eq!(get(&store, "key"), None);
        let closed = store.closed();
        HELD.set(Some(store));
        closed
    });
    thread.join().unwrap().wait().await;
    Store::open(directory.path()).expect("nobody has it");
}

#[tokio::test]
async fn a_refused_closure_leaves_nothing_and_the_others_of_its_group_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let refused = store.write(|txn| {
        txn.put(T, *b"refused", *b"x");
        Err::<(), _>(StoreError::Closed { file: "the closure said so".into() })
    });
    let panicked = store.write(|txn| {
        txn.put(T, *b"panicked", *b"x");
        assert!(txn.get(T, b"panicked")?.is_none(), "this closure panics");
        Ok::<(), StoreError>(())
    });
    let (refused, kept, panicked) = tokio::join!(refused, put(&store, "kept", b"x"), panicked);
    assert!(matches!(refused, Err(StoreError::Closed { .. })));
    assert!(matches!(panicked, Err(StoreError::Panicked { .. })));
    kept.unwrap();
    assert_eq!(get(&store, "refused"), None);
    assert_eq!(get(&store, "panicked"), None);
    assert_eq!(get(&store, "kept"), Some(b"x".to_vec()));
}

#[tokio::test]
async fn closures_see_what_was_written_before_them_in_the_same_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let increments: Vec<_> = (0..50)
        .map(|_| {
            store.write(|txn| {
                let count = txn.get(T, b"count")?.map_or(0, |bytes| bytes[0]);
                txn.put(T, *b"count", [count + 1]);
                Ok::<_, StoreError>(count)
            })
        })
        .collect();
    let mut seen = Vec::new();
    for increment in futures_util::future::join_all(increments).await {
        seen.push(increment.unwrap());
    }
    assert_eq!(seen, (0..50).collect::<Vec<u8>>());
    assert_eq!(get(&store, "count"), Some(vec![50]));
}

#[tokio::test]
async fn what_is_to_be_done_after_a_write_is_done_whoever_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = with_faults(directory.path());
    let put = |key: &'static str| {
        let (tell, told) = tokio::sync::oneshot::channel();
        let written = store.write_then(
            move |txn| {
                txn.put(T, key.as_bytes(), *b"x");
                Ok::<_, StoreError>(7)
            },
            move |value, outcome| {
                tell.send(outcome.is_ok()).unwrap_or_default();
                value + 1
            },
        );
        (written, told)
    };
    let (written, told) = put("waited for");
    assert_eq!(written.await.unwrap(), 8);
    assert!(told.await.unwrap());
    let (written, told) = put("given up");
    // It is queued, and its caller goes.
    assert!(Box::pin(written).now_or_never().is_none_or(|written| written.is_ok()));
    assert!(told.await.unwrap());
    assert_eq!(get(&store, "given up"), Some(b"x".to_vec()));
    faults.fill_after(0);
    let (written, told) = put("refused");
    written.await.unwrap_err();
    assert!(!told.await.unwrap());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_works_again_after_space_returns() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = with_faults(directory.path());
    put(&store, "before", b"kept").await.unwrap();
    for after in 0..12 {
        faults.fill_after(after);
        let key = format!("during-{after}");
        match put(&store, &key, &vec![7; 3 << 20]).await {
            Ok(()) => {
                faults.heal();
                assert_eq!(get(&store, &key).map(|value| value.len()), Some(3 << 20));
            }
            Err(error) => {
                assert!(
                    matches!(error, StoreError::Full { .. } | StoreError::Unknown { .. }),
                    "after {after} writes: {error}"
                );
                faults.heal();
                put(&store, "after", b"works").await.unwrap();
                if error.is_definite() {
                    assert_eq!(get(&store, &key), None);
                }
            }
        }
        assert_eq!(get(&store, "before"), Some(b"kept".to_vec()));
    }
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = with_faults(directory.path());
    put(&store, "before", b"kept").await.unwrap();
    faults.limit_length(fs::metadata(directory.path().join(DATABASE_FILE)).unwrap().len());
    let error = put(&store, "large", &vec![7; 64 << 20]).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains(DATABASE_FILE), "{error}");
    assert_eq!(get(&store, "before"), Some(b"kept".to_vec()));
    put(&store, "small", b"fits").await.unwrap();
    faults.heal();
    put(&store, "large", &vec![7; 64 << 20]).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_is_never_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = with_faults(directory.path());
    put(&store, "before", b"kept").await.unwrap();
    faults.fail_sync();
    put(&store, "during", b"x").await.unwrap_err();
    faults.heal();
    assert_eq!(get(&store, "before"), Some(b"kept".to_vec()));
    put(&store, "after", b"works").await.unwrap();
}

#[tokio::test]
async fn readers_open_the_file_again_without_waiting_for_a_writer() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = with_faults(directory.path());
    put(&store, "before", b"kept").await.unwrap();
    faults.fill_after(0);
    let error = put(&store, "during", b"x").await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    faults.heal();
    assert_eq!(get(&store, "before"), Some(b"kept".to_vec()));
    assert_eq!(get(&store, "during"), None);
}

#[tokio::test]
async fn a_write_torn_by_a_power_cut_loses_nothing_acknowledged() {
    for after in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let (store, faults) = with_faults(directory.path());
        for number in 0..5 {
            put(&store, &format!("key-{number}"), &[number; 5000]).await.unwrap();
        }
        faults.tear_after(after);
        let torn = put(&store, "torn", &vec![9; 50_000]).await;
        let copy = copy_of(directory.path());
        let reopened = Store::open(copy.path()).unwrap();
        for number in 0..5 {
            assert_eq!(get(&reopened, &format!("key-{number}")), Some(vec![number; 5000]), "after {after}");
        }
        if torn.is_ok() {
            assert_eq!(get(&reopened, "torn"), Some(vec![9; 50_000]));
        }
    }
}

#[tokio::test]
async fn a_file_that_lost_its_tail_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for number in 0..50 {
        put(&store, &format!("key-{number}"), &vec![number; 50_000]).await.unwrap();
    }
    let copy = copy_of(directory.path());
    let file = copy.path().join(DATABASE_FILE);
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
    let error = Store::open(copy.path()).unwrap_err();
    assert!(error.to_string().contains(DATABASE_FILE), "{error}");
}

#[tokio::test]
async fn a_corrupted_record_is_named_and_its_neighbours_are_readable() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = Store::open(directory.path()).unwrap();
        put(&store, "good", &vec![1; 20_000]).await.unwrap();
        put(&store, "rotten", &vec![2; 20_000]).await.unwrap();
    }
    let file = directory.path().join(DATABASE_FILE);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(1000).position(|window| window == [2; 1000]).unwrap();
    bytes[at + 100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(get(&store, "good"), Some(vec![1; 20_000]));
    let error = store.read(|txn| txn.get(T, b"rotten")).unwrap_err();
    let StoreError::Corrupt { table, key, .. } = &error else { panic!("{error}") };
    assert_eq!((table.as_str(), key.as_str()), ("things", "rotten"));
    assert!(error.to_string().contains(DATABASE_FILE), "{error}");
}

#[test]
fn a_directory_belongs_to_one_store_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    drop(store);
    Store::open(directory.path()).unwrap();
}

#[test]
fn an_unknown_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    fs::write(directory.path().join(FORMAT_FILE), "backbeat embedded store 99\n").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("backbeat embedded store 99"), "{error}");
    fs::remove_file(directory.path().join(FORMAT_FILE)).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::UnknownFormat { .. }), "{error}");
}
