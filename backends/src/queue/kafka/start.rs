//! Where an assignment begins, and what of it was deleted before it was read.

use std::time::Duration;

use backbeat_core::id::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::{ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset as Place;

/// Where one partition is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The name of the topic on the wire.
    pub(super) topic: String,
    /// The partition.
    pub(super) partition: i32,
    /// The first message to read.
    pub(super) at: Offset,
    /// What should have been read first, if that is gone: from there to `at`.
    pub(super) gone_from: Option<Offset>,
}

/// Where each of these partitions is to be read from: the committed offset, else the oldest message. Asks the brokers,
/// and blocks meanwhile.
pub(super) fn starts<C: ConsumerContext + 'static>(
    client: &StreamConsumer<C>,
    partitions: &TopicPartitionList,
    time_max: Duration,
) -> KafkaResult<Vec<Start>> {
    let committed = client.committed_offsets(partitions.clone(), time_max)?;
    let mut starts = Vec::with_capacity(committed.count());
    for element in committed.elements() {
        element.error()?;
        let committed = match element.offset() {
            Place::Offset(offset) => u64::try_from(offset).ok().map(Offset),
            Place::Beginning | Place::End | Place::Stored | Place::Invalid | Place::OffsetTail(_) => None,
        };
        let (begin, end) = bounds(client, element.topic(), element.partition(), time_max)?;
        let (at, gone_from) = resume(committed, begin, end);
        starts.push(Start {
            topic: element.topic().to_owned(),
            partition: element.partition(),
            at,
            gone_from,
        });
    }
    Ok(starts)
}

/// The oldest offset of a partition and the one after its newest.
pub(super) fn bounds<C: ConsumerContext + 'static>(
    client: &StreamConsumer<C>,
    topic: &str,
    partition: i32,
    time_max: Duration,
) -> KafkaResult<(Offset, Offset)> {
    let (begin, end) = client.fetch_watermarks(topic, partition, time_max)?;
    Ok((offset(begin), offset(end)))
}

/// Where reading goes on that should go on at `wanted`, and the lost place if that is another one. A place behind the
/// end is one of a topic that was deleted and made again: then everything there is has to be read.
pub(super) fn resume(wanted: Option<Offset>, begin: Offset, end: Offset) -> (Offset, Option<Offset>) {
    match wanted {
        Some(wanted) if wanted < begin || wanted > end => (begin, Some(wanted)),
        Some(wanted) => (wanted, None),
        None => (begin, None),
    }
}

/// An offset as Kafka writes it; negative ones mean none.
pub(super) fn offset(raw: i64) -> Offset {
    Offset(u64::try_from(raw).unwrap_or(0))
}

/// An offset as Kafka wants it.
pub(super) fn raw(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_group_begins_with_the_oldest_message() {
        assert_eq!(resume(None, Offset(40), Offset(50)), (Offset(40), None));
    }

    #[test]
    fn what_retention_has_eaten_is_named() {
        assert_eq!(resume(Some(Offset(10)), Offset(40), Offset(50)), (Offset(40), Some(Offset(10))));
        assert_eq!(resume(Some(Offset(40)), Offset(40), Offset(50)), (Offset(40), None));
        assert_eq!(resume(Some(Offset(50)), Offset(50), Offset(50)), (Offset(50), None));
    }

    #[test]
    fn a_topic_that_was_made_again_is_read_from_its_begin() {
        assert_eq!(resume(Some(Offset(90)), Offset(0), Offset(3)), (Offset(0), Some(Offset(90))));
    }
}
