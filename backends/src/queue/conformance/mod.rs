//! The contract of the queue port as code: every adapter passes these cases.
//!
//! Here are the harness, the list of the cases and the steps that they are made of; the cases are in files by what they ask.

mod flow;
mod groups;
mod publishing;
mod restarts;
mod topics;

pub use flow::*;
pub use groups::*;
pub use publishing::*;
pub use restarts::*;
pub use topics::*;

use std::future::Future;
use std::time::Duration;

use backbeat_core::id::{Epoch, Offset, Partition, Topic};
use futures_util::future::select_all;

use super::{Consumer, ConsumerEvent, Group, Message, Producer, Queue, Record, Slot, TopicSpec};
use crate::conformance::applied;

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
        $crate::queue_conformance!(conformance_cases, $adapter, $harness);
    };
    ($stamp:ident, $adapter:ident, $harness:expr) => {
        $crate::$stamp! { $adapter, $harness, queue;
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
            what_is_paused_can_be_committed,
            a_paused_partition_does_not_hold_up_another,
            a_new_assignment_is_not_paused,
            a_partition_that_was_full_is_read_under_the_next_assignment,
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
        $crate::durable_queue_conformance!(conformance_cases, $adapter, $harness);
    };
    ($stamp:ident, $adapter:ident, $harness:expr) => {
        $crate::$stamp! { $adapter, $harness, queue;
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
            ConsumerEvent::Lost { .. } | ConsumerEvent::Gone { .. } | ConsumerEvent::Message(_) => {}
        }
    }
}

/// Takes events until a revocation, and says what came before it: a join is heard of when it is heard of, and messages
/// may come until then.
async fn revocation(consumer: &impl Consumer) -> (Epoch, Vec<Slot>, Vec<Message>) {
    let mut before = Vec::new();
    loop {
        match event(consumer).await {
            ConsumerEvent::Revoked { epoch, partitions } => return (epoch, partitions, before),
            ConsumerEvent::Message(message) => before.push(message),
            other @ (ConsumerEvent::Assigned { .. }
            | ConsumerEvent::Lost { .. }
            | ConsumerEvent::Gone { .. }) => {
                panic!("expected a revocation, got {other:?}")
            }
        }
    }
}

/// Drives members until every one of them owns something and all together own `slots` partitions: members that join
/// one after another may see assignments in between.
async fn shared_out<C: Consumer, const N: usize>(
    consumers: [&C; N],
    slots: usize,
) -> [(Epoch, Vec<(Slot, Offset)>); N] {
    let mut owned = [const { (Epoch(0), Vec::new()) }; N];
    while owned.iter().any(|(_, own)| own.is_empty())
        || owned.iter().map(|(_, own)| own.len()).sum::<usize>() != slots
    {
        let next = consumers.iter().map(|consumer| Box::pin(event(*consumer)));
        let (event, index, _) = select_all(next).await;
        let own = &mut owned[index];
        match event {
            ConsumerEvent::Assigned { epoch, partitions } => *own = (epoch, partitions),
            ConsumerEvent::Revoked { epoch, .. } => {
                own.1.clear();
                consumers[index].release(epoch);
            }
            ConsumerEvent::Lost { .. } => own.1.clear(),
            ConsumerEvent::Gone { .. } | ConsumerEvent::Message(_) => {}
        }
    }
    owned
}

/// The next message; assignments pass, a revocation is released.
async fn message(consumer: &impl Consumer) -> Message {
    loop {
        match event(consumer).await {
            ConsumerEvent::Message(message) => return message,
            ConsumerEvent::Revoked { epoch, .. } => consumer.release(epoch),
            ConsumerEvent::Lost { .. } | ConsumerEvent::Gone { .. } | ConsumerEvent::Assigned { .. } => {}
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
