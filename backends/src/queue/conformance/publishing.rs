//! What is published: its place, its order, and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use backbeat_core::call::RefusalKind;
use backbeat_core::id::{Partition, Topic};
use bytes::Bytes;

use super::{QueueHarness, message, messages, number, numbers, quiet, subscribe, with_topic};
use crate::conformance::{applied, refused};
use crate::queue::partitioner::partition_of;
use crate::queue::{MESSAGE_BYTES_MAX, PARTITIONS_DEFAULT, Producer, Queue, Record, Slot};

/// A message is delivered with its key, payload, place and a plausible offset.
pub async fn a_message_comes_back_as_it_was_published(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let key = "bucket%2Fkey%20with%20blank";
    let (partition, offset) =
        applied(queue.producer().publish(&topic, Record::keyed(key, "{\"a\":1}")).await);
    let consumer = subscribe(&queue, "group", &topic).await;
    let received = message(&consumer).await;
    assert_eq!(received.slot, Slot::new(&topic, partition));
    assert_eq!(received.offset, offset);
    assert_eq!(received.key, Some(Bytes::from(key)));
    assert_eq!(received.payload, Some(Bytes::from_static(b"{\"a\":1}")));
}

/// Every producer of the engine, ours or not, sends a key to the same partition.
pub async fn keys_go_to_the_partition_of_the_partitioner(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let producer = queue.producer();
    let mut used = BTreeSet::new();
    for index in 0..32 {
        let key = format!("bucket%2Fkey-{index}");
        let (partition, _) = applied(producer.publish(&topic, Record::keyed(key.clone(), "x")).await);
        assert_eq!(partition, partition_of(key.as_bytes(), PARTITIONS_DEFAULT));
        used.insert(partition);
    }
    assert_eq!(used.len(), PARTITIONS_DEFAULT as usize);
}

/// The exceptions topic is partitioned by another key than its own (decision D6).
pub async fn an_explicit_partition_wins_over_the_key(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    for partition in (0..PARTITIONS_DEFAULT).map(Partition) {
        let record = Record::keyed("one key", "x").at(partition);
        assert_eq!(applied(queue.producer().publish(&topic, record).await).0, partition);
    }
}

/// Messages without a key do not pile up in one partition.
pub async fn messages_without_key_are_spread(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let producer = queue.producer();
    let mut used = BTreeSet::new();
    for _ in 0..64 {
        used.insert(applied(producer.publish(&topic, Record::unkeyed("x")).await).0);
    }
    assert!(used.len() > 1, "all went to {used:?}");
}

/// Many publishers at once, each waiting for its acknowledgement: every key's messages arrive in the order published.
pub async fn concurrent_publishers_keep_the_order_of_each_key(harness: &impl QueueHarness) {
    const PUBLISHERS: u32 = 16;
    const EACH: u32 = 25;
    let (queue, topic) = with_topic(harness).await;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (producer, topic) = (queue.producer(), topic.clone());
            tokio::spawn(async move {
                for number in 0..EACH {
                    let record = Record::keyed(format!("key-{publisher}"), number.to_string());
                    applied(producer.publish(&topic, record).await);
                }
            })
        })
        .collect();
    let consumer = subscribe(&queue, "group", &topic).await;
    let mut by_key: BTreeMap<Bytes, Vec<u32>> = BTreeMap::new();
    for message in messages(&consumer, (PUBLISHERS * EACH) as usize).await {
        let number = number(&message);
        by_key.entry(message.key.expect("the message has a key")).or_default().push(number);
    }
    assert_eq!(by_key.len(), PUBLISHERS as usize);
    assert!(by_key.values().all(|numbers| *numbers == (0..EACH).collect::<Vec<_>>()), "{by_key:?}");
    for publisher in publishers {
        publisher.await.expect("the publisher ends");
    }
}

/// The order of calls counts, not the order of awaits.
pub async fn calls_made_in_order_land_in_order(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let producer = queue.producer();
    let mut sent: Vec<_> = (0..40)
        .map(|number: u32| producer.publish(&topic, Record::keyed("one", number.to_string())))
        .collect();
    sent.reverse();
    let mut offsets = Vec::new();
    for publish in sent {
        offsets.push(applied(publish.await).1);
    }
    assert!(offsets.is_sorted_by(|later, earlier| later > earlier), "{offsets:?}");
    let consumer = subscribe(&queue, "group", &topic).await;
    assert_eq!(numbers(&messages(&consumer, 40).await), (0..40).collect::<Vec<_>>());
}

/// Refusals are definite and named.
pub async fn what_cannot_be_published_is_refused(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let producer = queue.producer();
    let huge = Record::keyed("key", vec![0_u8; MESSAGE_BYTES_MAX]);
    assert_eq!(refused(producer.publish(&topic, huge).await), RefusalKind::TooLarge);
    let nowhere = producer.publish(&Topic::from("nowhere"), Record::unkeyed("x")).await;
    assert_eq!(refused(nowhere), RefusalKind::NotFound);
    let outside = Record::unkeyed("x").at(Partition(PARTITIONS_DEFAULT));
    assert_eq!(refused(producer.publish(&topic, outside).await), RefusalKind::Invalid);
    let large = Record::unkeyed(vec![7_u8; MESSAGE_BYTES_MAX]).at(Partition(0));
    applied(producer.publish(&topic, large).await);
    let consumer = subscribe(&queue, "group", &topic).await;
    assert_eq!(message(&consumer).await.payload.map(|payload| payload.len()), Some(MESSAGE_BYTES_MAX));
    quiet(&consumer).await;
}
