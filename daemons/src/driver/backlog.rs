//! How far a consumer group is, in nodes where others look for it (replication reference 10.8): for each partition of a topic its
//! end, and the position of the group.
//!
//! Those who look take nodes that were not written for two intervals for those of somebody gone, so all are written
//! again at every interval. The position is the committed one: what is under way counts as backlog.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::coordination::{Coordination, Expect, InvalidPath, Lifetime, NodePath};
use backbeat_backends::queue::{Group, Positions, Queue, Slot};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Offset, Partition, Topic};
use bytes::Bytes;

/// Where the nodes are unless configured otherwise (`kafka.backlogMetrics.zkPath`).
pub const BACKLOG_PATH_DEFAULT: &str = "/backbeat/run/kafka-backlog-metrics";

/// How long the last nodes of a group may take.
const LAST_TIME_MAX: Duration = Duration::from_secs(5);

/// Writes the nodes of one group. Any number of its members may: they write the same.
pub struct BacklogNodes<Q, C> {
    /// The queue.
    pub queue: Arc<Q>,
    /// Where the nodes are kept.
    pub coordination: Arc<C>,
    /// The node above all.
    pub base: NodePath,
    /// What the names of topics begin with on the wire.
    pub topic_prefix: String,
    /// The group.
    pub group: Group,
    /// What it consumes, by the names without the prefix.
    pub topics: Vec<Topic>,
    /// The partitions of each.
    pub partitions: u32,
}

impl<Q: Queue, C: Coordination> BacklogNodes<Q, C> {
    /// Writes the nodes again and again. It never ends.
    pub async fn run(&self, interval: Duration) {
        loop {
            self.publish().await;
            tokio::time::sleep(interval).await;
        }
    }

    /// Writes the nodes once. Partitions without a position of the group are left out; what cannot be written is left to the
    /// next time.
    pub async fn publish(&self) {
        for topic in &self.topics {
            for partition in 0..self.partitions {
                let slot = Slot::new(topic, Partition(partition));
                let Ending::Applied(Positions { end, committed: Some(position), .. }) =
                    self.queue.positions(&self.group, &slot).await
                else {
                    continue;
                };
                if let Err(reason) = self.write(&slot, end, position).await {
                    tracing::debug!(%slot, reason, "backlog not written");
                }
            }
        }
    }

    /// Writes the nodes a last time, as far as there is an answer soon: whoever reads them sees where the group ended.
    pub async fn publish_last(&self) {
        if tokio::time::timeout(LAST_TIME_MAX, self.publish()).await.is_err() {
            tracing::debug!(group = %self.group, "the last backlog was not written in time");
        }
    }

    /// Deletes the nodes of the group, which will not come back.
    pub async fn remove(&self) {
        for topic in &self.topics {
            for partition in 0..self.partitions {
                let slot = Slot::new(topic, Partition(partition));
                let node = self.consumer_of(&slot);
                // What is left is taken for somebody gone by those who look.
                if let Ok(node) = node
                    && let Ending::Unknown = self.coordination.delete(&node, Expect::Any).await
                {
                    tracing::debug!(%node, "backlog not deleted");
                }
            }
        }
    }

    async fn write(&self, slot: &Slot, end: Offset, position: Offset) -> Result<(), String> {
        let topic = self.place(slot).and_then(|place| place.child("topic"));
        for (node, offset) in [(topic, end), (self.consumer_of(slot), position)] {
            let node = node.map_err(|error| error.to_string())?;
            self.write_node(&node, offset).await?;
        }
        Ok(())
    }

    fn place(&self, slot: &Slot) -> Result<NodePath, InvalidPath> {
        let topic = self.base.child(&format!("{}{}", self.topic_prefix, slot.topic))?;
        topic.child(&slot.partition.0.to_string())
    }

    fn consumer_of(&self, slot: &Slot) -> Result<NodePath, InvalidPath> {
        self.place(slot)?.child("consumers")?.child(self.group.as_str())
    }

    async fn write_node(&self, node: &NodePath, offset: Offset) -> Result<(), String> {
        let data = Bytes::from(offset.0.to_string());
        let written = match self.coordination.write(node, data.clone(), Expect::Any).await {
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
                self.coordination.create(node, data, Lifetime::Durable).await
            }
            ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => ending,
        };
        match written {
            Ending::Applied(_) => Ok(()),
            // Another member was faster, with the same.
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Conflict => Ok(()),
            Ending::Refused(refusal) => Err(refusal.code),
            Ending::Unknown => Err("NoAnswer".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_backends::clock::WallClock;
    use backbeat_backends::coordination::memory::{MemoryCoordination, MemorySession};
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Consumer as _, ConsumerEvent, Producer as _, Record, TopicSpec};
    use backbeat_core::time::WallTime;

    async fn node(session: &MemorySession, path: &str) -> Option<String> {
        let path = NodePath::new(&format!("{BACKLOG_PATH_DEFAULT}{path}")).expect("a valid path");
        match session.read(&path).await {
            Ending::Applied(node) => Some(String::from_utf8_lossy(&node.data).into_owned()),
            Ending::Refused(_) | Ending::Unknown => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_and_positions_are_where_others_look_for_them() {
        let queue = Arc::new(MemoryQueue::new(WallClock::tokio(WallTime::from_millis(0))));
        queue.create_topic(&TopicSpec::new("mover").partitioned(2)).await;
        let (topic, group) = (Topic::from("mover"), Group::from("group-cold"));
        let producer = queue.producer();
        for _ in 0..3 {
            let record = Record::unkeyed("x").at(Partition(1));
            assert!(matches!(producer.publish(&topic, record).await, Ending::Applied(_)));
        }
        let session = Arc::new(MemoryCoordination::new().connect());
        let nodes = BacklogNodes {
            queue: Arc::clone(&queue),
            coordination: Arc::clone(&session),
            base: NodePath::new(BACKLOG_PATH_DEFAULT).expect("a valid path"),
            topic_prefix: "one.".to_owned(),
            group: group.clone(),
            topics: vec![topic.clone()],
            partitions: 2,
        };
        let nodes = Arc::new(nodes);
        let writer = Arc::clone(&nodes);
        let writing = tokio::spawn(async move { writer.run(Duration::from_mins(1)).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(node(&session, "/one.mover/1/topic").await, None, "the group has no position");
        let consumer = queue.subscribe(&group, std::slice::from_ref(&topic)).await.expect("it is there");
        let ConsumerEvent::Assigned { epoch, .. } = consumer.next().await.expect("the queue works") else {
            panic!("no assignment")
        };
        let slot = Slot::new(&topic, Partition(1));
        for upto in [1, 2] {
            assert_eq!(consumer.commit(epoch, &slot, Offset(upto)).await, Ending::Applied(()));
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(node(&session, "/one.mover/1/topic").await.as_deref(), Some("3"));
            let position = node(&session, "/one.mover/1/consumers/group-cold").await;
            assert_eq!(position, Some(upto.to_string()));
        }
        assert_eq!(node(&session, "/one.mover/0/topic").await, None);
        writing.abort();
        assert_eq!(consumer.commit(epoch, &slot, Offset(3)).await, Ending::Applied(()));
        nodes.publish_last().await;
        let position = "/one.mover/1/consumers/group-cold";
        assert_eq!(node(&session, position).await.as_deref(), Some("3"));
        nodes.remove().await;
        assert_eq!(node(&session, position).await, None);
        assert_eq!(node(&session, "/one.mover/1/topic").await.as_deref(), Some("3"), "others read that");
    }
}
