//! The contract of the queue port as code: every adapter passes these cases.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use backbeat_core::call::RefusalKind;
use backbeat_core::id::{Epoch, Offset, Partition, Topic};
use bytes::Bytes;

use super::partitioner::partition_of;
use super::{
    Consumer, ConsumerEvent, Group, MESSAGE_BYTES_MAX, Message, PARTITIONS_DEFAULT, Producer, Queue,
    QueueError, Record, Retention, Slot, TopicSpec,
};
use crate::conformance::{applied, refused};

/// How long the queues under test wait for an owner to drain: long enough for those that do, short enough to wait for.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Makes queues to test.
pub trait QueueHarness {
    /// The adapter.
    type Queue: Queue;
    /// An empty queue whose rebalances wait [`DRAIN_LIMIT`].
    fn queue(&self) -> impl Future<Output = Self::Queue>;
}

/// Makes queues that survive the end of their process.
pub trait DurableQueueHarness {
    /// The adapter.
    type Queue: Queue;
    /// Opens the one queue of this harness: the same messages and commits each time. The earlier one has been dropped.
    fn open(&self) -> impl Future<Output = Self::Queue>;
}

/// Stamps out the suite for one adapter.
#[macro_export]
macro_rules! queue_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases! { $adapter, $harness, queue;
            a_message_comes_back_as_it_was_published,
            keys_go_to_the_partition_of_the_partitioner,
            an_explicit_partition_wins_over_the_key,
            messages_without_key_are_spread,
            what_was_not_committed_is_delivered_again,
            what_was_committed_is_not_delivered_again,
            every_group_receives_everything,
            a_group_begins_with_the_oldest_message,
            a_commit_from_an_old_epoch_is_fenced,
            a_commit_to_a_foreign_partition_is_fenced,
            a_drained_member_hands_over_without_repetition,
            no_message_of_a_revoked_partition_is_delivered,
            a_member_that_does_not_drain_loses_its_partitions_and_comes_back,
            leaving_hands_the_partitions_over,
            the_same_partition_of_all_topics_has_one_owner,
            topics_of_unequal_partition_counts_cannot_be_consumed_together,
            pausing_loses_nothing,
            a_paused_partition_does_not_hold_up_another,
            a_new_assignment_is_not_paused,
            a_full_partition_does_not_starve_another,
            concurrent_publishers_keep_the_order_of_each_key,
            calls_made_in_order_land_in_order,
            a_cancelled_next_takes_nothing_with_it,
            next_waits_for_a_message,
            a_compacted_topic_keeps_the_newest_payload_of_each_key,
            a_compacted_topic_cannot_be_subscribed_to,
            what_cannot_be_published_is_refused,
            positions_tell_the_lag,
            creating_a_topic_twice_is_fine_unless_it_differs,
            consumed_messages_are_let_go_only_when_every_group_has_them,
        }
    };
}

/// Stamps out the cases about restarts for one durable adapter.
#[macro_export]
macro_rules! durable_queue_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases! { $adapter, $harness, queue;
            messages_and_commits_survive_a_restart,
            offsets_go_on_after_a_restart,
            a_compacted_topic_survives_a_restart,
        }
    };
}

const TOPIC: &str = "backbeat-replication";

async fn with_topic<H: QueueHarness>(harness: &H) -> (H::Queue, Topic) {
    let queue = harness.queue().await;
    applied(queue.create_topic(&TopicSpec::new(TOPIC)).await);
    (queue, Topic::from(TOPIC))
}

async fn subscribe<Q: Queue>(queue: &Q, group: &str, topic: &Topic) -> Q::Consumer {
    queue
        .subscribe(&Group::from(group), std::slice::from_ref(topic))
        .await
        .expect("an existing topic can be subscribed to")
}

async fn event(consumer: &impl Consumer) -> ConsumerEvent {
    consumer.next().await.expect("the consumer works")
}

/// Takes events until an assignment; releases what is revoked on the way.
async fn assignment(consumer: &impl Consumer) -> (Epoch, Vec<(Slot, Offset)>) {
    loop {
        match event(consumer).await {
            ConsumerEvent::Assigned { epoch, partitions } => return (epoch, partitions),
            ConsumerEvent::Revoked { epoch, .. } => consumer.release(epoch),
            ConsumerEvent::Lost { .. } | ConsumerEvent::Message(_) => {}
        }
    }
}

/// The next message; assignments pass, a revocation is released.
async fn message(consumer: &impl Consumer) -> Message {
    loop {
        match event(consumer).await {
            ConsumerEvent::Message(message) => return message,
            ConsumerEvent::Revoked { epoch, .. } => consumer.release(epoch),
            ConsumerEvent::Lost { .. } | ConsumerEvent::Assigned { .. } => {}
        }
    }
}

async fn messages(consumer: &impl Consumer, count: usize) -> Vec<Message> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        taken.push(message(consumer).await);
    }
    taken
}

async fn commit(consumer: &impl Consumer, message: &Message) {
    applied(consumer.commit(message.epoch, &message.slot, message.offset.next()).await);
}

/// Publishes numbered messages to one partition, one after another.
async fn fill(queue: &impl Queue, topic: &Topic, partition: u32, numbers: std::ops::Range<u32>) {
    let producer = queue.producer();
    for number in numbers {
        let record = Record::unkeyed(number.to_string()).at(Partition(partition));
        applied(producer.publish(topic, record).await);
    }
}

fn number(message: &Message) -> u32 {
    let payload = message.payload.as_ref().expect("the message has a payload");
    std::str::from_utf8(payload).expect("the payload is text").parse().expect("the payload is a number")
}

fn numbers(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(number).collect()
}

/// Nothing happens to the consumer for a moment.
async fn quiet(consumer: &impl Consumer) {
    let next = tokio::time::timeout(Duration::from_millis(150), consumer.next()).await;
    assert!(next.is_err(), "expected silence, got {next:?}");
}

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

/// A crashed consumer's uncommitted messages are delivered again, in order.
pub async fn what_was_not_committed_is_delivered_again(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 1, 0..6).await;
    let first = subscribe(&queue, "group", &topic).await;
    let taken = messages(&first, 6).await;
    commit(&first, &taken[1]).await;
    drop(first);
    let second = subscribe(&queue, "group", &topic).await;
    assert_eq!(numbers(&messages(&second, 4).await), [2, 3, 4, 5]);
}

/// A commit is the place where the next owner begins.
pub async fn what_was_committed_is_not_delivered_again(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..3).await;
    let first = subscribe(&queue, "group", &topic).await;
    let taken = messages(&first, 3).await;
    commit(&first, &taken[2]).await;
    first.leave().await;
    fill(&queue, &topic, 0, 3..4).await;
    let second = subscribe(&queue, "group", &topic).await;
    assert_eq!(number(&message(&second).await), 3);
    quiet(&second).await;
}

/// Groups do not take messages from each other.
pub async fn every_group_receives_everything(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let one = subscribe(&queue, "group-site-1", &topic).await;
    let two = subscribe(&queue, "group-site-2", &topic).await;
    fill(&queue, &topic, 2, 0..5).await;
    for consumer in [&one, &two] {
        let taken = messages(consumer, 5).await;
        assert_eq!(numbers(&taken), [0, 1, 2, 3, 4]);
        commit(consumer, &taken[4]).await;
    }
}

/// A group without commits misses nothing that is there.
pub async fn a_group_begins_with_the_oldest_message(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 3, 0..2).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    let (_, partitions) = assignment(&consumer).await;
    assert_eq!(partitions.len(), PARTITIONS_DEFAULT as usize);
    assert_eq!(numbers(&messages(&consumer, 2).await), [0, 1]);
}

/// After a takeover the old owner cannot move the group's offsets.
pub async fn a_commit_from_an_old_epoch_is_fenced(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..2).await;
    let first = subscribe(&queue, "group", &topic).await;
    let taken = message(&first).await;
    let second = subscribe(&queue, "group", &topic).await;
    assert!(matches!(event(&first).await, ConsumerEvent::Revoked { epoch, .. } if epoch == taken.epoch));
    first.release(taken.epoch);
    let (epoch, _) = assignment(&first).await;
    assert!(epoch > taken.epoch);
    let late = first.commit(taken.epoch, &taken.slot, taken.offset.next()).await;
    assert_eq!(refused(late), RefusalKind::Fenced);
    let positions = applied(queue.positions(&Group::from("group"), &taken.slot).await);
    assert_eq!(positions.committed, None);
    drop(second);
}

/// Even the current epoch commits only what it owns.
pub async fn a_commit_to_a_foreign_partition_is_fenced(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let first = subscribe(&queue, "group", &topic).await;
    let second = subscribe(&queue, "group", &topic).await;
    let (epoch, mine) = assignment(&first).await;
    let (_, theirs) = assignment(&second).await;
    assert_eq!(mine.len() + theirs.len(), PARTITIONS_DEFAULT as usize);
    let foreign = &theirs[0].0;
    assert_eq!(refused(first.commit(epoch, foreign, Offset(0)).await), RefusalKind::Fenced);
    assert_eq!(refused(first.commit(Epoch(epoch.0 + 1), &mine[0].0, Offset(0)).await), RefusalKind::Fenced);
}

/// Drain, commit, release: the successor begins exactly behind.
pub async fn a_drained_member_hands_over_without_repetition(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    for partition in 0..PARTITIONS_DEFAULT {
        fill(&queue, &topic, partition, 0..3).await;
    }
    let first = subscribe(&queue, "group", &topic).await;
    let taken = messages(&first, 5).await;
    let second = subscribe(&queue, "group", &topic).await;
    let ConsumerEvent::Revoked { epoch, partitions } = event(&first).await else {
        panic!("expected a revocation")
    };
    assert_eq!(partitions.len(), PARTITIONS_DEFAULT as usize);
    for message in &taken {
        commit(&first, message).await;
    }
    first.release(epoch);
    let mut seen: Vec<(Slot, Offset)> = taken.into_iter().map(|m| (m.slot, m.offset)).collect();
    let (_, firsts) = assignment(&first).await;
    let (_, seconds) = assignment(&second).await;
    assert_eq!((firsts.len(), seconds.len()), (2, 2));
    let left = |mine: &[(Slot, Offset)], seen: &[(Slot, Offset)]| {
        let done = seen.iter().filter(|(slot, _)| mine.iter().any(|(own, _)| own == slot)).count();
        mine.len() * 3 - done
    };
    for (consumer, mine) in [(&first, &firsts), (&second, &seconds)] {
        let rest = messages(consumer, left(mine, &seen)).await;
        seen.extend(rest.into_iter().map(|m| (m.slot, m.offset)));
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "something was delivered twice");
    assert_eq!(seen.len(), PARTITIONS_DEFAULT as usize * 3);
}

/// Between revocation and release there is silence.
pub async fn no_message_of_a_revoked_partition_is_delivered(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let first = subscribe(&queue, "group", &topic).await;
    let (epoch, _) = assignment(&first).await;
    fill(&queue, &topic, 0, 0..10).await;
    message(&first).await;
    let _second = subscribe(&queue, "group", &topic).await;
    assert!(matches!(event(&first).await, ConsumerEvent::Revoked { epoch: revoked, .. } if revoked == epoch));
    quiet(&first).await;
    first.release(epoch);
    assert!(matches!(event(&first).await, ConsumerEvent::Assigned { epoch: next, .. } if next > epoch));
}

/// The drain has a deadline; the one who misses it is fenced, told so, and a member again afterwards.
pub async fn a_member_that_does_not_drain_loses_its_partitions_and_comes_back(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..2).await;
    let slow = subscribe(&queue, "group", &topic).await;
    let taken = message(&slow).await;
    let second = subscribe(&queue, "group", &topic).await;
    assert!(matches!(event(&slow).await, ConsumerEvent::Revoked { .. }));
    let (epoch, partitions) = assignment(&second).await;
    assert!(epoch > taken.epoch);
    assert_eq!(partitions.len(), PARTITIONS_DEFAULT as usize, "the slow member owns nothing");
    let late = slow.commit(taken.epoch, &taken.slot, taken.offset.next()).await;
    assert_eq!(refused(late), RefusalKind::Fenced);
    assert_eq!(number(&message(&second).await), 0, "what the slow member did not commit comes again");
    assert!(matches!(event(&slow).await, ConsumerEvent::Lost { epoch, .. } if epoch == taken.epoch));
    let (both, _) = tokio::join!(assignment(&slow), assignment(&second));
    assert_eq!(both.1.len(), 2);
}

/// A member that leaves is not waited for.
pub async fn leaving_hands_the_partitions_over(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let first = subscribe(&queue, "group", &topic).await;
    let second = subscribe(&queue, "group", &topic).await;
    let (ones, twos) = tokio::join!(assignment(&first), assignment(&second));
    assert_eq!((ones.1.len(), twos.1.len()), (2, 2));
    first.leave().await;
    assert_eq!(assignment(&second).await.1.len(), PARTITIONS_DEFAULT as usize);
    assert_eq!(first.next().await, Err(QueueError::Left));
}

/// One consumer per site reads the main topic and the replay topics: FIFO per key rests on this (decision D5).
pub async fn the_same_partition_of_all_topics_has_one_owner(harness: &impl QueueHarness) {
    let queue = harness.queue().await;
    let topics = ["backbeat-replication", "backbeat-replication-replay-0", "backbeat-replication-replay-1"]
        .map(Topic::from);
    for topic in &topics {
        applied(queue.create_topic(&TopicSpec::new(topic.as_str())).await);
    }
    let group = Group::from("group");
    let first = queue.subscribe(&group, &topics).await.expect("equal partition counts");
    let second = queue.subscribe(&group, &topics).await.expect("equal partition counts");
    let third = queue.subscribe(&group, &topics).await.expect("equal partition counts");
    let owned = tokio::join!(assignment(&first), assignment(&second), assignment(&third));
    let mut owner: BTreeMap<Partition, usize> = BTreeMap::new();
    let mut slots = 0;
    for (index, (_, partitions)) in [owned.0, owned.1, owned.2].into_iter().enumerate() {
        for (slot, _) in partitions {
            slots += 1;
            assert_eq!(*owner.entry(slot.partition).or_insert(index), index, "{slot} has another owner");
        }
    }
    assert_eq!(slots, topics.len() * PARTITIONS_DEFAULT as usize);
}

/// Range assignment would silently split a key's partitions otherwise.
pub async fn topics_of_unequal_partition_counts_cannot_be_consumed_together(harness: &impl QueueHarness) {
    let queue = harness.queue().await;
    applied(queue.create_topic(&TopicSpec::new("a")).await);
    applied(queue.create_topic(&TopicSpec::new("b").partitioned(5)).await);
    let topics = [Topic::from("a"), Topic::from("b")];
    let error = queue.subscribe(&Group::from("group"), &topics).await.err().expect("refused");
    assert!(matches!(error, QueueError::PartitionCounts { .. }), "{error}");
    let unknown = queue.subscribe(&Group::from("group"), &[Topic::from("c")]).await.err();
    assert_eq!(unknown, Some(QueueError::UnknownTopic(Topic::from("c"))));
}

/// Pausing in the middle, with messages already read ahead, skips and repeats nothing.
pub async fn pausing_loses_nothing(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..20).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    let mut taken = messages(&consumer, 7).await;
    let slots = [Slot::new(&topic, Partition(0))];
    consumer.pause(&slots);
    quiet(&consumer).await;
    fill(&queue, &topic, 0, 20..30).await;
    quiet(&consumer).await;
    consumer.resume(&slots);
    taken.extend(messages(&consumer, 23).await);
    assert_eq!(numbers(&taken), (0..30).collect::<Vec<_>>());
    quiet(&consumer).await;
}

/// A pause is about its partitions only.
pub async fn a_paused_partition_does_not_hold_up_another(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    assignment(&consumer).await;
    consumer.pause(&[Slot::new(&topic, Partition(0))]);
    fill(&queue, &topic, 0, 0..3).await;
    fill(&queue, &topic, 1, 100..103).await;
    assert_eq!(numbers(&messages(&consumer, 3).await), [100, 101, 102]);
    quiet(&consumer).await;
    consumer.resume(&[Slot::new(&topic, Partition(0))]);
    assert_eq!(numbers(&messages(&consumer, 3).await), [0, 1, 2]);
}

/// A pause belongs to an assignment: whoever gets the partition next must pause it again.
pub async fn a_new_assignment_is_not_paused(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let first = subscribe(&queue, "group", &topic).await;
    let (epoch, partitions) = assignment(&first).await;
    first.pause(&partitions.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>());
    fill(&queue, &topic, 0, 0..1).await;
    quiet(&first).await;
    let second = subscribe(&queue, "group", &topic).await;
    assert!(matches!(event(&first).await, ConsumerEvent::Revoked { .. }));
    first.release(epoch);
    let (ones, twos) = tokio::join!(assignment(&first), assignment(&second));
    let owner = if ones.1.iter().any(|(slot, _)| slot.partition == Partition(0)) { &first } else { &second };
    assert_eq!(twos.1.len(), 2);
    assert_eq!(number(&message(owner).await), 0);
}

/// Messages of a short partition arrive while a long one is being read.
pub async fn a_full_partition_does_not_starve_another(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..600).await;
    fill(&queue, &topic, 3, 9_000..9_001).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    let taken = numbers(&messages(&consumer, 601).await);
    let place = taken.iter().position(|number| *number == 9_000).expect("it arrives");
    assert!(place < 600, "it came last");
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

/// Racing `next` against something else loses no message.
pub async fn a_cancelled_next_takes_nothing_with_it(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    assignment(&consumer).await;
    let mut taken = Vec::new();
    for number in 0..30_u32 {
        let publish = queue.producer().publish(&topic, Record::keyed("one", number.to_string()));
        tokio::select! {
            biased;
            next = consumer.next() => match next.expect("the consumer works") {
                ConsumerEvent::Message(message) => taken.push(message),
                ConsumerEvent::Assigned { .. } | ConsumerEvent::Revoked { .. } | ConsumerEvent::Lost { .. } => {
                    panic!("nothing else happens")
                }
            },
            () = tokio::task::yield_now() => {}
        }
        applied(publish.await);
    }
    let rest = messages(&consumer, 30 - taken.len()).await;
    taken.extend(rest);
    assert_eq!(numbers(&taken), (0..30).collect::<Vec<_>>());
}

/// An idle consumer is woken by a publish.
pub async fn next_waits_for_a_message(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    assignment(&consumer).await;
    let (received, ()) = tokio::join!(message(&consumer), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fill(&queue, &topic, 0, 7..8).await;
    });
    assert_eq!(number(&received), 7);
}

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
