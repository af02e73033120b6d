//! Who gets what: groups, commits, and partitions that change hands.

use std::collections::{BTreeMap, BTreeSet};

use backbeat_core::call::RefusalKind;
use backbeat_core::id::{Epoch, Offset, Partition, Topic};

use super::{
    QueueHarness, assignment, commit, event, fill, message, messages, number, numbers, quiet, revocation,
    shared_out, subscribe, with_topic,
};
use crate::conformance::{applied, refused};
use crate::queue::{Consumer, ConsumerEvent, Group, PARTITIONS_DEFAULT, Queue, QueueError, Slot, TopicSpec};

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
    assert_eq!(revocation(&first).await.0, taken.epoch);
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
    let [(epoch, mine), (_, theirs)] = shared_out([&first, &second], PARTITIONS_DEFAULT as usize).await;
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
    let mut taken = messages(&first, 5).await;
    let second = subscribe(&queue, "group", &topic).await;
    let (epoch, partitions, more) = revocation(&first).await;
    taken.extend(more);
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
    assert_eq!(revocation(&first).await.0, epoch);
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
    revocation(&slow).await;
    let (epoch, partitions) = assignment(&second).await;
    assert!(epoch > taken.epoch);
    assert_eq!(partitions.len(), PARTITIONS_DEFAULT as usize, "the slow member owns nothing");
    let late = slow.commit(taken.epoch, &taken.slot, taken.offset.next()).await;
    assert_eq!(refused(late), RefusalKind::Fenced);
    assert_eq!(number(&message(&second).await), 0, "what the slow member did not commit comes again");
    assert!(matches!(event(&slow).await, ConsumerEvent::Lost { epoch, .. } if epoch == taken.epoch));
    let [both, _] = shared_out([&slow, &second], PARTITIONS_DEFAULT as usize).await;
    assert_eq!(both.1.len(), 2);
}

/// A member that leaves is not waited for.
pub async fn leaving_hands_the_partitions_over(harness: &impl QueueHarness) {
    let (queue, topic) = with_topic(harness).await;
    let first = subscribe(&queue, "group", &topic).await;
    let second = subscribe(&queue, "group", &topic).await;
    let [ones, twos] = shared_out([&first, &second], PARTITIONS_DEFAULT as usize).await;
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
    let owned = shared_out([&first, &second, &third], topics.len() * PARTITIONS_DEFAULT as usize).await;
    let mut owner: BTreeMap<Partition, usize> = BTreeMap::new();
    let mut slots = 0;
    for (index, (_, partitions)) in owned.into_iter().enumerate() {
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
