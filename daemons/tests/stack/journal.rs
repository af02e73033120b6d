//! The source's journal, read by another process.

use crate::harness::{Server, start};
use backbeat_backends::journal::Journal as _;
use backbeat_backends::journal::bucketd::{BucketdConfig, BucketdJournal};
use backbeat_core::call::Ending;
use backbeat_core::id::Seq;
use backbeat_core::time::Span;

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_has_a_port_of_its_own_and_does_not_outlive_the_stack() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stack = start(directory.path()).await;
    let address = stack.addresses().journal.expect("it was asked for").to_string();
    let journal = BucketdJournal::new(BucketdConfig::new(address, 1));
    let source = Server::at(stack.addresses().source);
    source.make_bucket("photos").await;
    source.put("photos", "one.jpg", "hello").await;
    let Ending::Applied(batch) = journal.read(Some(Seq(1)), 1_000, Span::ZERO).await else {
        panic!("the journal is served");
    };
    let keys = batch.records.iter().flat_map(|(_, record)| &record.entries);
    assert!(keys.filter_map(|entry| entry.key.as_deref()).any(|key| key.starts_with("one.jpg\0")));
    // A reader that waits keeps nobody from stopping.
    let (waited, stopped) = tokio::join!(journal.read(Some(batch.end), 10, Span::from_secs(3_600)), async {
        tokio::task::yield_now().await;
        stack.shutdown().await
    });
    assert!(stopped.is_ok(), "{stopped:?}");
    assert!(!matches!(waited, Ending::Applied(_)), "{waited:?}");
}
