//! The topics of one replication pipeline.

use backbeat_backends::queue::{Retention, TopicSpec};
use backbeat_core::id::Topic;

/// Failed messages that are kept while nobody consumes them.
const FAILED_KEPT: u64 = 10_000;

/// The topics of one replication pipeline.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Changes to replicate.
    pub replication: Topic,
    /// Further attempts, in configured order.
    pub replays: Vec<Topic>,
    /// Outcomes.
    pub status: Topic,
    /// Final failures.
    pub failed: Topic,
    /// Data to delete.
    pub gc: Topic,
    /// Parked entries, compacted.
    pub exceptions: Topic,
}

impl Topics {
    /// What a site processor consumes.
    pub fn consumed_by_sites(&self) -> Vec<Topic> {
        [&self.replication].into_iter().chain(&self.replays).cloned().collect()
    }

    /// How they are made.
    pub fn specs(&self) -> Vec<TopicSpec> {
        let plain = [&self.replication, &self.status, &self.gc].into_iter().chain(&self.replays);
        let kept = |topic: &Topic, retention| TopicSpec::new(topic.clone()).kept(retention);
        plain
            .map(|topic| TopicSpec::new(topic.clone()))
            .chain([
                kept(&self.failed, Retention::Newest(FAILED_KEPT)),
                kept(&self.exceptions, Retention::LatestPerKey),
            ])
            .collect()
    }
}
