//! What survives the end of the process.

use backbeat_core::id::{Partition, Topic};
use bytes::Bytes;

use super::{DurableQueueHarness, TOPIC, commit, fill, message, messages, number, numbers, subscribe};
use crate::conformance::applied;
use crate::queue::{Group, PARTITIONS_DEFAULT, Producer, Queue, Record, Retention, Slot, TopicSpec};

/// What was acknowledged is there after a restart, and consumption goes on from the committed place.
pub async fn messages_and_commits_survive_a_restart(harness: &impl DurableQueueHarness) {
    let topic = Topic::from(TOPIC);
    {
        let queue = harness.open().await;
        applied(queue.create_topic(&TopicSpec::new(TOPIC)).await);
        fill(&queue, &topic, 0, 0..10).await;
        let consumer = subscribe(&queue, "group", &topic).await;
        let taken = messages(&consumer, 6).await;
        commit(&consumer, &taken[3]).await;
    }
    let queue = harness.open().await;
    assert_eq!(applied(queue.partitions(&topic).await), PARTITIONS_DEFAULT);
    let consumer = subscribe(&queue, "group", &topic).await;
    assert_eq!(numbers(&messages(&consumer, 6).await), [4, 5, 6, 7, 8, 9]);
    let other = subscribe(&queue, "other", &topic).await;
    fill(&queue, &topic, 0, 10..11).await;
    assert_eq!(number(&message(&consumer).await), 10);
    let first = number(&message(&other).await);
    assert!(first <= 4, "a new group begins with the oldest message there is, not with {first}");
}

/// Offsets never restart, even when everything was consumed and let go.
pub async fn offsets_go_on_after_a_restart(harness: &impl DurableQueueHarness) {
    let topic = Topic::from(TOPIC);
    let slot = Slot::new(&topic, Partition(0));
    let end = {
        let queue = harness.open().await;
        applied(queue.create_topic(&TopicSpec::new(TOPIC)).await);
        fill(&queue, &topic, 0, 0..10).await;
        let consumer = subscribe(&queue, "group", &topic).await;
        let taken = messages(&consumer, 10).await;
        commit(&consumer, &taken[9]).await;
        taken[9].offset.next()
    };
    let queue = harness.open().await;
    let record = Record::unkeyed("10").at(Partition(0));
    let (_, offset) = applied(queue.producer().publish(&topic, record).await);
    assert_eq!(offset, end);
    let positions = applied(queue.positions(&Group::from("group"), &slot).await);
    assert_eq!((positions.committed, positions.end), (Some(end), end.next()));
    let consumer = subscribe(&queue, "group", &topic).await;
    assert_eq!(number(&message(&consumer).await), 10);
}

/// Parked entries are not forgotten.
pub async fn a_compacted_topic_survives_a_restart(harness: &impl DurableQueueHarness) {
    let topic = Topic::from("exceptions");
    let slot = Slot::new(&topic, Partition(1));
    {
        let queue = harness.open().await;
        applied(queue.create_topic(&TopicSpec::new("exceptions").kept(Retention::LatestPerKey)).await);
        let producer = queue.producer();
        applied(producer.publish(&topic, Record::keyed("a", "1").at(Partition(1))).await);
        applied(producer.publish(&topic, Record::keyed("b", "1").at(Partition(1))).await);
        applied(producer.publish(&topic, Record::tombstone("a").at(Partition(1))).await);
    }
    let queue = harness.open().await;
    let latest = applied(queue.read_compacted(&slot).await);
    assert_eq!(latest, [(Bytes::from_static(b"b"), Bytes::from_static(b"1"))]);
}
