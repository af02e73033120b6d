//! How messages reach a consumer: waiting, giving up waiting, and pausing.

use std::collections::BTreeSet;
use std::time::Duration;

use backbeat_core::id::Partition;
use futures_util::future::join_all;

use super::{
    QueueHarness, assignment, commit, fill, message, messages, number, numbers, quiet, revocation, subscribe,
    with_topic,
};
use crate::conformance::applied;
use crate::queue::{Consumer, ConsumerEvent, Producer, Queue, Record, Slot};

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

/// What was taken before a pause is finished and committed during it.
pub async fn what_is_paused_can_be_committed(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    fill(&queue, &topic, 0, 0..5).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    let taken = messages(&consumer, 3).await;
    consumer.pause(&[Slot::new(&topic, Partition(0))]);
    commit(&consumer, &taken[2]).await;
    drop(consumer);
    let next = subscribe(&queue, "group", &topic).await;
    assert_eq!(numbers(&messages(&next, 2).await), [3, 4]);
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
    revocation(&first).await;
    first.release(epoch);
    let (ones, twos) = tokio::join!(assignment(&first), assignment(&second));
    let owner = if ones.1.iter().any(|(slot, _)| slot.partition == Partition(0)) { &first } else { &second };
    assert_eq!(twos.1.len(), 2);
    assert_eq!(number(&message(owner).await), 0);
}

/// Whoever reads ahead stops somewhere. A partition of which so much waited that it did, when the assignment ended, is read
/// on under the next one.
pub async fn a_partition_that_was_full_is_read_under_the_next_assignment(harness: &impl QueueHarness) {
    const COUNT: u32 = 1_500;
    let (queue, topic) = with_topic(harness).await;
    let producer = queue.producer();
    let record = |number: u32| Record::unkeyed(number.to_string()).at(Partition(0));
    for ending in join_all((0..COUNT).map(|number| producer.publish(&topic, record(number)))).await {
        applied(ending);
    }
    let first = subscribe(&queue, "group", &topic).await;
    let (epoch, partitions) = assignment(&first).await;
    first.pause(&partitions.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>());
    quiet(&first).await;
    let second = subscribe(&queue, "group", &topic).await;
    revocation(&first).await;
    first.release(epoch);
    tokio::join!(assignment(&first), assignment(&second));
    second.leave().await;
    let mut seen = BTreeSet::new();
    while seen.len() < COUNT as usize {
        seen.insert(number(&message(&first).await));
    }
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

/// Racing `next` against something else loses no message.
pub async fn a_cancelled_next_takes_nothing_with_it(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let consumer = subscribe(&queue, "group", &topic).await;
    assignment(&consumer).await;
    let producer = queue.producer();
    let mut taken = Vec::new();
    for number in 0..30_u32 {
        let publish = producer.publish(&topic, Record::keyed("one", number.to_string()));
        tokio::select! {
            biased;
            next = consumer.next() => match next.expect("the consumer works") {
                ConsumerEvent::Message(message) => taken.push(message),
                ConsumerEvent::Assigned { .. }
                | ConsumerEvent::Revoked { .. }
                | ConsumerEvent::Lost { .. }
                | ConsumerEvent::Gone { .. } => panic!("nothing else happens"),
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
