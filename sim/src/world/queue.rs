//! The queue: topics with partitions.
//!
//! Contract relied on:
//! - A message acknowledged stays. Messages of one process to one partition are appended in the order in which they were
//!   sent, unless they are lost; after a failed delivery a populator's producer delivers nothing more (`gapless`).
//! - A message whose acknowledgement is lost may be there or not. Whoever sends it again makes a second message.
//! - Messages of a partition are read in order. A message is read again only after a new assignment.
//! - The exceptions topic is compacted: a reader of a partition gets the last record of each key, tombstones left out.
//! - Messages about one object are in the same partition of every topic.

use std::collections::BTreeMap;

use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::Offset;
use backbeat_core::model::Message;

use crate::checkers::Facts;
use crate::ids::Topic;

/// One message of a topic.
#[derive(Clone, Debug)]
pub struct Record {
    /// What consumers get.
    pub message: Message,
    /// What checkers know about it.
    pub facts: Facts,
}

/// One partition of a topic.
#[derive(Debug, Default)]
pub struct PartitionLog {
    /// The messages; the index is the offset.
    pub records: Vec<Record>,
    /// Takes and gives nothing before this time.
    pub down_until: u64,
    /// Gives nothing before this time.
    pub stalled_until: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    partitions: usize,
    replays: usize,
    /// Replication, replays in their order, status: by topic and partition.
    logs: Vec<PartitionLog>,
    /// Live exception records per partition.
    pub exceptions: Vec<BTreeMap<String, ExceptionRecord>>,
}

impl Queue {
    /// An empty queue with `replays` replay topics and as many partitions each.
    pub fn new(partitions: usize, replays: usize) -> Self {
        let logs = (0..(2 + replays) * partitions).map(|_| PartitionLog::default()).collect();
        Self { partitions, replays, logs, exceptions: vec![BTreeMap::new(); partitions] }
    }

    fn index(&self, topic: Topic, partition: usize) -> usize {
        let topic = match topic {
            Topic::Replication => 0,
            Topic::Replay(index) => 1 + usize::from(index),
            Topic::Status => 1 + self.replays,
            Topic::Failed | Topic::Gc | Topic::Exceptions => panic!("{topic:?} has no log of messages"),
        };
        topic * self.partitions + partition
    }

    /// One partition of a topic that holds messages.
    pub fn log(&self, topic: Topic, partition: usize) -> &PartitionLog {
        &self.logs[self.index(topic, partition)]
    }

    /// One partition of a topic that holds messages.
    pub fn log_mut(&mut self, topic: Topic, partition: usize) -> &mut PartitionLog {
        let index = self.index(topic, partition);
        &mut self.logs[index]
    }

    /// Appends a message and returns its offset.
    pub fn append(&mut self, topic: Topic, partition: usize, record: Record) -> Offset {
        let log = self.log_mut(topic, partition);
        log.records.push(record);
        Offset(log.records.len() as u64 - 1)
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Writes an exception record.
    pub fn put_exception(&mut self, partition: usize, record: &ExceptionRecord) {
        let live = &mut self.exceptions[partition];
        if record.state == ExceptionState::Resolved {
            live.remove(&record.key());
        } else {
            live.insert(record.key(), record.clone());
        }
    }
}
