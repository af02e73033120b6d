//! How topics, messages and commits lie in the tables of the store.

use backbeat_core::id::{Offset, Partition, Topic};
use backbeat_core::time::WallTime;
use bytes::Bytes;

use crate::embedded::Table;
use crate::queue::local::Stored;
use crate::queue::{Group, Retention, Slot, TopicSpec};

/// Topic name to what it is.
pub(super) const TOPICS: Table = Table("queue-topics");
/// Topic name, NUL, group name: the group reads the topic.
pub(super) const GROUPS: Table = Table("queue-groups");
/// Slot to its first offset and the one after its last.
pub(super) const BOUNDS: Table = Table("queue-bounds");
/// Slot and offset to the message.
pub(super) const MESSAGES: Table = Table("queue-messages");
/// Slot and group name to the committed offset.
pub(super) const COMMITS: Table = Table("queue-commits");
/// Slot and message key to the newest payload, in compacted topics.
pub(super) const LATEST: Table = Table("queue-latest");

/// A row to write, or to remove if it has no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Change {
    pub(super) fn put(table: Table, key: Vec<u8>, value: impl Into<Vec<u8>>) -> Self {
        Self { table, key, value: Some(value.into()) }
    }

    pub(super) fn remove(table: Table, key: Vec<u8>) -> Self {
        Self { table, key, value: None }
    }
}

/// A message on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) key: Option<Bytes>,
    pub(super) payload: Option<Bytes>,
    pub(super) timestamp: WallTime,
}

impl Message {
    pub(super) fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(self.bytes() + 14);
        row.extend_from_slice(&self.timestamp.as_millis().to_be_bytes());
        row.push(u8::from(self.key.is_some()) | u8::from(self.payload.is_some()) << 1);
        let key = self.key.as_deref().unwrap_or_default();
        row.extend_from_slice(&u32::try_from(key.len()).expect("keys are bounded").to_be_bytes());
        row.extend_from_slice(key);
        row.extend_from_slice(self.payload.as_deref().unwrap_or_default());
        row
    }
}

/// The message of a row, or nothing if it is not one.
pub(super) fn decode_message(key: &[u8], row: Vec<u8>) -> Option<Stored> {
    let offset = Offset(u64::from_be_bytes(*key.last_chunk()?));
    let row = Bytes::from(row);
    let timestamp = WallTime::from_millis(i64::from_be_bytes(*row.first_chunk()?));
    let flags = *row.get(8)?;
    let key_end = 13 + usize::try_from(u32::from_be_bytes(row.get(9..13)?.try_into().ok()?)).ok()?;
    if flags > 3 || row.len() < key_end {
        return None;
    }
    let key = (flags & 1 == 1).then(|| row.slice(13..key_end));
    let payload = (flags & 2 == 2).then(|| row.slice(key_end..));
    Some(Stored { offset, key, payload, timestamp })
}

pub(super) fn slot_key(slot: &Slot) -> Vec<u8> {
    let topic = slot.topic.as_str().as_bytes();
    let mut key = Vec::with_capacity(topic.len() + 13);
    key.extend_from_slice(topic);
    key.push(0);
    key.extend_from_slice(&slot.partition.0.to_be_bytes());
    key
}

/// The slot that a key begins with, and what follows.
pub(super) fn decode_slot(key: &[u8]) -> Option<(Slot, &[u8])> {
    let (topic, rest) = split_topic(key)?;
    let (partition, rest) = rest.split_first_chunk()?;
    Some((Slot::new(&topic, Partition(u32::from_be_bytes(*partition))), rest))
}

/// The topic that a key begins with, and what follows its NUL.
pub(super) fn split_topic(key: &[u8]) -> Option<(Topic, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    Some((Topic::from(std::str::from_utf8(&key[..end]).ok()?), &key[end + 1..]))
}

pub(super) fn offset_key(slot: &Slot, offset: Offset) -> Vec<u8> {
    let mut key = slot_key(slot);
    key.extend_from_slice(&offset.0.to_be_bytes());
    key
}

pub(super) fn latest_key(slot: &Slot, message_key: &[u8]) -> Vec<u8> {
    let mut key = slot_key(slot);
    key.extend_from_slice(message_key);
    key
}

pub(super) fn commit_key(slot: &Slot, group: &Group) -> Vec<u8> {
    latest_key(slot, group.as_str().as_bytes())
}

pub(super) fn group_key(topic: &Topic, group: &Group) -> Vec<u8> {
    [topic.as_str().as_bytes(), &[0], group.as_str().as_bytes()].concat()
}

pub(super) fn encode_spec(spec: &TopicSpec) -> Vec<u8> {
    let (kind, count) = match spec.retention {
        Retention::UntilConsumed => (0_u8, 0),
        Retention::Newest(count) => (1, count),
        Retention::LatestPerKey => (2, 0),
    };
    [spec.partitions.to_be_bytes().as_slice(), &[kind], &count.to_be_bytes()].concat()
}

pub(super) fn decode_spec(topic: Topic, row: &[u8]) -> Option<TopicSpec> {
    let (partitions, row) = row.split_first_chunk()?;
    let (kind, row) = row.split_first()?;
    let count = u64::from_be_bytes(row.try_into().ok()?);
    let retention = match kind {
        0 => Retention::UntilConsumed,
        1 => Retention::Newest(count),
        2 => Retention::LatestPerKey,
        _ => return None,
    };
    Some(TopicSpec { topic, partitions: u32::from_be_bytes(*partitions), retention })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_their_rows() {
        let timestamp = WallTime::from_millis(-7);
        for (key, payload) in
            [(None, None), (Some(""), Some("")), (Some("key"), None), (None, Some("payload"))]
        {
            let (key, payload) = (key.map(Bytes::from), payload.map(Bytes::from));
            let message = Message { key: key.clone(), payload: payload.clone(), timestamp };
            let row_key = offset_key(&Slot::new(&Topic::from("t"), Partition(3)), Offset(258));
            let stored = decode_message(&row_key, message.encode());
            assert_eq!(stored, Some(Stored { offset: Offset(258), key, payload, timestamp }));
        }
        assert_eq!(decode_message(&[0; 8], vec![0; 12]), None);
    }

    #[test]
    fn keys_of_slots_are_taken_apart_again() {
        let slot = Slot::new(&Topic::from("topic"), Partition(0x0102));
        assert_eq!(decode_slot(&commit_key(&slot, &Group::from("group"))), Some((slot, b"group".as_slice())));
        assert_eq!(decode_slot(b"topic"), None);
    }

    #[test]
    fn offsets_sort_as_numbers() {
        let slot = Slot::new(&Topic::from("topic"), Partition(0));
        assert!(offset_key(&slot, Offset(255)) < offset_key(&slot, Offset(256)));
    }

    #[test]
    fn specs_survive_their_rows() {
        for retention in [Retention::UntilConsumed, Retention::Newest(9), Retention::LatestPerKey] {
            let spec = TopicSpec::new("t").kept(retention).partitioned(7);
            assert_eq!(decode_spec(Topic::from("t"), &encode_spec(&spec)), Some(spec));
        }
    }
}
