//! The suites on the embedded queue, and what only it can show: bounded growth, disk faults, one commit for many.

use std::sync::Arc;

use backbeat_core::call::RefusalKind;
use backbeat_core::id::Partition;
use tempfile::TempDir;

use super::*;
use crate::conformance::{applied, refused};
use crate::embedded::{DiskFaults, StoreOptions};
use crate::queue::conformance::{DRAIN_LIMIT, DurableQueueHarness, QueueHarness};
use crate::queue::{Consumer, ConsumerEvent, Producer, Queue, Record, Retention};

struct Embedded(TempDir);

impl Embedded {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn store(&self, faults: Option<Arc<DiskFaults>>) -> Store {
        let options = StoreOptions { faults, ..StoreOptions::default() };
        Store::open_with(self.0.path(), options).expect("the store opens")
    }

    fn open(&self) -> EmbeddedQueue {
        let opened = EmbeddedQueue::open_with_drain_limit(self.store(None), WallClock::system(), DRAIN_LIMIT);
        opened.expect("the queue opens")
    }
}

impl QueueHarness for Embedded {
    type Queue = EmbeddedQueue;

    async fn queue(&self) -> EmbeddedQueue {
        self.open()
    }
}

impl DurableQueueHarness for Embedded {
    type Queue = EmbeddedQueue;

    async fn open(&self) -> EmbeddedQueue {
        // The task that wrote last may still be letting go of the store.
        loop {
            match Store::open(self.0.path()) {
                Ok(store) => {
                    return EmbeddedQueue::open_with_drain_limit(store, WallClock::system(), DRAIN_LIMIT)
                        .expect("the queue opens");
                }
                Err(StoreError::InUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

crate::queue_conformance!(embedded, Embedded::new());
crate::durable_queue_conformance!(embedded_restarts, Embedded::new());

fn topic() -> Topic {
    Topic::from("topic")
}

fn slot() -> Slot {
    Slot::new(&topic(), Partition(0))
}

fn record(number: u32) -> Record {
    Record::keyed("key", number.to_string()).at(Partition(0))
}

fn rows(queue_store: &Store) -> usize {
    let all =
        queue_store.read::<_, StoreError>(|txn| txn.range(rows::MESSAGES, &KeyRange::all(), usize::MAX));
    all.expect("the store can be read").len()
}

#[tokio::test]
async fn consumed_messages_leave_the_disk() {
    let harness = Embedded::new();
    let store = harness.store(None);
    let queue = EmbeddedQueue::open(store.clone(), WallClock::system()).expect("the queue opens");
    applied(queue.create_topic(&TopicSpec::new("topic")).await);
    let consumer = queue.subscribe(&Group::from("group"), &[topic()]).await.expect("subscribed");
    let ConsumerEvent::Assigned { epoch, .. } = consumer.next().await.expect("an event") else {
        panic!("no assignment")
    };
    for number in 0..100 {
        let (_, offset) = applied(queue.producer().publish(&topic(), record(number)).await);
        applied(consumer.commit(epoch, &slot(), offset.next()).await);
    }
    assert_eq!(rows(&store), 0);
    let positions = applied(queue.positions(&Group::from("group"), &slot()).await);
    assert_eq!((positions.begin, positions.end), (Offset(100), Offset(100)));
}

#[tokio::test]
async fn a_topic_that_nobody_reads_stays_small() {
    let harness = Embedded::new();
    let store = harness.store(None);
    let queue = EmbeddedQueue::open(store.clone(), WallClock::system()).expect("the queue opens");
    applied(queue.create_topic(&TopicSpec::new("topic").kept(Retention::Newest(10))).await);
    for number in 0..50 {
        applied(queue.producer().publish(&topic(), record(number)).await);
    }
    assert_eq!(rows(&store), 10);
}

#[tokio::test]
async fn calls_made_together_share_commits() {
    let harness = Embedded::new();
    let store = harness.store(None);
    let queue = EmbeddedQueue::open(store.clone(), WallClock::system()).expect("the queue opens");
    applied(queue.create_topic(&TopicSpec::new("topic")).await);
    let before = store.commits();
    let producer = queue.producer();
    let sent: Vec<_> = (0..500).map(|number| producer.publish(&topic(), record(number))).collect();
    for publish in sent {
        applied(publish.await);
    }
    assert!(store.commits() - before < 50, "{} commits for 500 messages", store.commits() - before);
}

#[tokio::test]
async fn a_full_disk_refuses_and_offsets_go_on_without_a_hole() {
    let harness = Embedded::new();
    let faults = Arc::new(DiskFaults::default());
    let store = harness.store(Some(Arc::clone(&faults)));
    let queue = EmbeddedQueue::open(store.clone(), WallClock::system()).expect("the queue opens");
    applied(queue.create_topic(&TopicSpec::new("topic")).await);
    let (_, first) = applied(queue.producer().publish(&topic(), record(0)).await);
    faults.limit_length(store.file().metadata().expect("a file").len());
    let large = Record::keyed("key", vec![1_u8; 4 << 20]).at(Partition(0));
    assert_eq!(refused(queue.producer().publish(&topic(), large).await), RefusalKind::Unavailable);
    faults.heal();
    let (_, second) = applied(queue.producer().publish(&topic(), record(1)).await);
    assert_eq!(second, first.next());
    let consumer = queue.subscribe(&Group::from("group"), &[topic()]).await.expect("subscribed");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let ConsumerEvent::Message(message) = consumer.next().await.expect("an event") {
            seen.push(message.offset);
        }
    }
    assert_eq!(seen, [first, second]);
}

#[tokio::test]
async fn after_a_failed_sync_no_acknowledged_message_is_lost_or_overwritten() {
    let harness = Embedded::new();
    let faults = Arc::new(DiskFaults::default());
    let store = harness.store(Some(Arc::clone(&faults)));
    let queue = EmbeddedQueue::open(store.clone(), WallClock::system()).expect("the queue opens");
    applied(queue.create_topic(&TopicSpec::new("topic")).await);
    let mut acknowledged = Vec::new();
    for number in 0..12 {
        if number % 4 == 3 {
            faults.fail_sync();
        }
        let ending = queue.producer().publish(&topic(), record(number)).await;
        faults.heal();
        match ending {
            Ending::Applied((_, offset)) => acknowledged.push((offset, number)),
            Ending::Refused(_) | Ending::Unknown => {}
        }
    }
    assert!(acknowledged.len() >= 9, "{acknowledged:?}");
    assert!(acknowledged.is_sorted_by(|a, b| a.0 < b.0), "{acknowledged:?}");
    let consumer = queue.subscribe(&Group::from("group"), &[topic()]).await.expect("subscribed");
    let mut seen = Vec::new();
    while seen.last() != acknowledged.last() {
        if let ConsumerEvent::Message(message) = consumer.next().await.expect("an event") {
            let payload = message.payload.expect("a payload");
            let number: u32 = std::str::from_utf8(&payload).expect("text").parse().expect("a number");
            seen.push((message.offset, number));
        }
    }
    assert!(acknowledged.iter().all(|message| seen.contains(message)), "{acknowledged:?} but {seen:?}");
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_named_with_its_file() {
    let harness = Embedded::new();
    let store = harness.store(None);
    let queue = EmbeddedQueue::open(store.clone(), WallClock::system()).expect("the queue opens");
    applied(queue.create_topic(&TopicSpec::new("topic")).await);
    let (_, offset) = applied(queue.producer().publish(&topic(), record(0)).await);
    let damage = store.write(move |txn| {
        txn.put(rows::MESSAGES, rows::offset_key(&slot(), offset), *b"garbage");
        Ok::<_, StoreError>(())
    });
    damage.await.expect("written");
    let consumer = queue.subscribe(&Group::from("group"), &[topic()]).await.expect("subscribed");
    assert!(matches!(consumer.next().await, Ok(ConsumerEvent::Assigned { .. })));
    let Err(QueueError::Storage(message)) = consumer.next().await else { panic!("it was delivered") };
    assert!(message.contains(&store.file().display().to_string()), "{message}");
}
