//! A compacted partition read from its begin to its end: the newest payload of each key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;

use super::config::KafkaConfig;
use super::context::Asking;
use super::topics::Topics;

/// The group that such reads are made in. It has no members and commits nothing.
const READER: &str = "backbeat-table-reader";

/// Reads a partition; blocks. `Err` if it comes to no end because brokers say nothing for too long.
pub(super) fn read(
    config: &KafkaConfig,
    topics: &Topics,
    topic: &str,
    partition: i32,
) -> KafkaResult<Vec<(Bytes, Bytes)>> {
    let client: BaseConsumer<Asking> = config.reading(READER).create_with_context(Asking::default())?;
    // What was acknowledged before is below this end.
    let (begin, end) = topics.bounds(topic, partition)?;
    let mut newest = BTreeMap::new();
    if begin >= end {
        return Ok(Vec::new());
    }
    let mut place = TopicPartitionList::with_capacity(1);
    place.add_partition_offset(topic, partition, Offset::Offset(begin))?;
    client.assign(&place)?;
    let mut silent_since = Instant::now();
    loop {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                silent_since = Instant::now();
                if let Some(key) = message.key().map(Bytes::copy_from_slice) {
                    match message.payload() {
                        Some(payload) => newest.insert(key, Bytes::copy_from_slice(payload)),
                        None => newest.remove(&key),
                    };
                }
                if message.offset() + 1 >= end {
                    break;
                }
            }
            // The last messages may have been compacted away.
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) if silent_since.elapsed() > config.answer_time_max => return Err(error),
            None if silent_since.elapsed() > config.answer_time_max => {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(newest.into_iter().collect())
}
