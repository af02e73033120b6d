//! What a topic keeps: compaction, retention, positions.

use backbeat_core::call::RefusalKind;
use backbeat_core::id::{Partition, Topic};
use bytes::Bytes;

use super::{
    QueueHarness, TOPIC, assignment, commit, fill, message, messages, number, numbers, subscribe, with_topic,
};
use crate::conformance::{applied, refused};
use crate::queue::{
    Group, PARTITIONS_DEFAULT, Producer, Queue, QueueError, Record, Retention, Slot, TopicSpec,
};

/// The exceptions topic: the newest record of each key, removed by a tombstone, read back at once (decision D6).
pub async fn a_compacted_topic_keeps_the_newest_payload_of_each_key(harness: &impl QueueHarness) {
    let queue = harness.queue().await;
    let topic = Topic::from("backbeat-replication-exceptions");
    applied(queue.create_topic(&TopicSpec::new(topic.as_str()).kept(Retention::LatestPerKey)).await);
    let producer = queue.producer();
    let home = Partition(2);
    for (key, payload) in [("site/b/k1/", "1"), ("site/b/k2/", "1"), ("site/b/k1/", "2"), ("site/b/k3/", "1")]
    {
        applied(producer.publish(&topic, Record::keyed(key, payload).at(home)).await);
    }
    applied(producer.publish(&topic, Record::tombstone("site/b/k2/").at(home)).await);
    applied(producer.publish(&topic, Record::keyed("site/b/k1/", "elsewhere").at(Partition(0))).await);
    let latest = applied(queue.read_compacted(&Slot::new(&topic, home)).await);
    let expected = [("site/b/k1/", "2"), ("site/b/k3/", "1")];
    assert_eq!(latest, expected.map(|(key, payload)| (Bytes::from(key), Bytes::from(payload))));
    let empty = applied(queue.read_compacted(&Slot::new(&topic, Partition(3))).await);
    assert!(empty.is_empty());
}

/// A compacted topic is a table, not a stream.
pub async fn a_compacted_topic_cannot_be_subscribed_to(harness: &impl QueueHarness) {
    let queue = harness.queue().await;
    let topic = Topic::from("exceptions");
    applied(queue.create_topic(&TopicSpec::new("exceptions").kept(Retention::LatestPerKey)).await);
    let error = queue.subscribe(&Group::from("group"), std::slice::from_ref(&topic)).await.err();
    assert_eq!(error, Some(QueueError::Compacted(topic.clone())));
    let unkeyed = queue.producer().publish(&topic, Record::unkeyed("x")).await;
    assert_eq!(refused(unkeyed), RefusalKind::Invalid);
    applied(queue.create_topic(&TopicSpec::new(TOPIC)).await);
    let stream = queue.read_compacted(&Slot::new(&Topic::from(TOPIC), Partition(0))).await;
    assert_eq!(refused(stream), RefusalKind::Invalid);
}

/// Lag is arithmetic on begin, committed and end.
pub async fn positions_tell_the_lag(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let group = Group::from("group");
    let slot = Slot::new(&topic, Partition(0));
    let before = applied(queue.positions(&group, &slot).await);
    assert_eq!((before.begin, before.committed), (before.end, None));
    fill(&queue, &topic, 0, 0..5).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    let taken = messages(&consumer, 5).await;
    commit(&consumer, &taken[1]).await;
    let after = applied(queue.positions(&group, &slot).await);
    assert_eq!(after.end.0 - before.end.0, 5);
    assert_eq!(after.committed, Some(taken[2].offset));
    let outside = queue.positions(&group, &Slot::new(&topic, Partition(PARTITIONS_DEFAULT))).await;
    assert_eq!(refused(outside), RefusalKind::NotFound);
}

/// Daemons create what they need at start, whoever starts first.
pub async fn creating_a_topic_twice_is_fine_unless_it_differs(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..1).await;
    applied(queue.create_topic(&TopicSpec::new(TOPIC)).await);
    assert_eq!(applied(queue.partitions(&topic).await), PARTITIONS_DEFAULT);
    let wider = queue.create_topic(&TopicSpec::new(TOPIC).partitioned(8)).await;
    assert_eq!(refused(wider), RefusalKind::Conflict);
    let compacted = queue.create_topic(&TopicSpec::new(TOPIC).kept(Retention::LatestPerKey)).await;
    assert_eq!(refused(compacted), RefusalKind::Conflict);
    assert_eq!(refused(queue.partitions(&Topic::from("none")).await), RefusalKind::NotFound);
    for name in ["", "..", "a b", "a/b", "a\0b"] {
        assert_eq!(
            refused(queue.create_topic(&TopicSpec::new(name)).await),
            RefusalKind::Invalid,
            "{name:?}"
        );
    }
    let consumer = subscribe(&queue, "group", &topic).await;
    assert_eq!(number(&message(&consumer).await), 0);
}

/// A group that lags keeps its messages, however far another one is.
pub async fn consumed_messages_are_let_go_only_when_every_group_has_them(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let slow = subscribe(&queue, "slow", &topic).await;
    assignment(&slow).await;
    let fast = subscribe(&queue, "fast", &topic).await;
    fill(&queue, &topic, 0, 0..50).await;
    let taken = messages(&fast, 50).await;
    commit(&fast, &taken[49]).await;
    let late = messages(&slow, 50).await;
    assert_eq!(numbers(&late), (0..50).collect::<Vec<_>>());
    drop(slow);
    let again = subscribe(&queue, "slow", &topic).await;
    assert_eq!(number(&message(&again).await), 0);
}
