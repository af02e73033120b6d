//! The log source `kafka`: the partitions of a topic that source connectors of Kafka Connect write the changes of a MongoDB to
//! (extensions reference E.8).
//!
//! Upstream's populators read it as a consumer group. Its offsets are where a partition is begun whose position was never stored
//! here, and they follow the stored positions, so that upstream's populators can be put back.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::journal::kafka::{KafkaJournal, KafkaJournalConfig};
use backbeat_backends::queue::kafka::{KafkaConfig, KafkaQueue};
use backbeat_backends::queue::{Group, Positions, Queue as _, Slot};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Offset, Partition, Seq, Topic};
use backbeat_core::populator::Bootstrap;
use tokio::sync::watch;
use tokio::time::timeout;

use super::StartError;
use super::services::Services;
use crate::config::{self, QueuePopulator};

/// Extensions whose parts of upstream's populator read the log, too.
const OTHERS: [&str; 3] = ["ingestion", "lifecycle", "notification"];
/// Keeps some of the configured extensions only, as a list with commas (extensions reference 0).
const KEPT: &str = "BACKBEAT_QUEUEPOPULATOR_EXTENSIONS";
/// The least time between two commits for upstream's group; what upstream reads again is what moved meanwhile.
const COMMIT_PAUSE: Duration = Duration::from_secs(5);
/// Offsets that are not committed again are forgotten by the brokers, after a day at the earliest.
const COMMIT_AGAIN: Duration = Duration::from_hours(1);

/// The topic of an installation.
pub(super) struct ChangeStream {
    cluster: KafkaConfig,
    /// The cluster, for names without the prefix of our own topics.
    queue: Arc<KafkaQueue>,
    names: Names,
    /// Whether the offsets of the group are about replication alone.
    is_alone: bool,
    /// How much upstream reads at once, and may have committed before it was queued.
    again: u64,
    /// Its partitions at the start.
    pub(super) partitions: u32,
}

/// What upstream calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    topic: Topic,
    group: Group,
    log: String,
}

impl Names {
    /// The names that a process of upstream uses which populates for replication, alone or for others, too.
    fn of(section: &config::ChangeStream, is_alone: bool) -> Self {
        let own = is_alone.then_some(&section.replication);
        let name = |own: Option<&Option<String>>, all: &String| own.cloned().flatten().unwrap_or(all.clone());
        Self {
            topic: Topic::from(name(own.map(|own| &own.topic), &section.topic)),
            group: Group::from(name(own.map(|own| &own.consumer_group_id), &section.consumer_group_id)),
            log: name(own.map(|own| &own.log_name), &section.log_name),
        }
    }

    /// What a partition is called where it is shared out.
    fn provision(&self, partition: u32) -> String {
        format!("{}_{partition}", self.log)
    }

    /// The partition that is called so, unless none is.
    fn partition(&self, provision: &str) -> Option<u32> {
        let partition = provision.strip_prefix(&self.log)?.strip_prefix('_')?.parse().ok()?;
        (provision == self.provision(partition)).then_some(partition)
    }
}

/// Whether upstream's populator, with the extensions that are `configured` and of those the ones that are `kept`, populates for
/// replication alone.
fn is_alone(configured: impl Fn(&str) -> bool, kept: Option<&str>) -> bool {
    let is_kept = |name: &str| kept.is_none_or(|kept| kept.split(',').any(|kept| kept.trim() == name));
    !OTHERS.iter().any(|other| configured(other) && is_kept(other))
}

impl ChangeStream {
    /// What the configuration names, looked at.
    pub(super) async fn configured(
        services: &Services,
        section: &QueuePopulator,
    ) -> Result<Self, StartError> {
        let stream: config::ChangeStream = match &section.kafka {
            Some(stream) => stream.clone(),
            None => services.config.section("queuePopulator.kafka")?,
        };
        let kept = std::env::var(KEPT).ok().filter(|kept| !kept.is_empty());
        let configured = |name: &str| services.config.value(&format!("/extensions/{name}")).is_some();
        let is_alone = is_alone(configured, kept.as_deref());
        let names = Names::of(&stream, is_alone);
        // The prefix is for topics of the daemons (replication reference 10.2).
        let cluster = KafkaConfig { topic_prefix: String::new(), ..services.kafka.clone() };
        let queue = if services.kafka.topic_prefix.is_empty() {
            Arc::clone(&services.queue)
        } else {
            Arc::new(KafkaQueue::open(cluster.clone()).await?)
        };
        let topic = &names.topic;
        let unavailable =
            |why: String| Err(StartError::Unavailable(format!("queuePopulator.kafka.topic: {why}")));
        let partitions = match queue.partitions(topic).await {
            Ending::Applied(count) => count,
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
                let why = format!(
                    "there is no topic {topic}, which source connectors write: see to its name or to them"
                );
                return unavailable(why);
            }
            Ending::Refused(refusal) => return unavailable(refusal.code),
            Ending::Unknown => return unavailable(format!("kafka does not answer about topic {topic}")),
        };
        if is_alone {
            tracing::info!(%topic, partitions, group = %names.group, "the change stream is read");
        } else {
            tracing::warn!(
                %topic, partitions, group = %names.group,
                "the change stream is read; upstream's group reads it for other extensions, too, so its offsets stay as they are",
            );
        }
        Ok(Self { cluster, queue, names, is_alone, again: section.batch_max_read, partitions })
    }

    /// How many partitions the topic has now. Nothing: it cannot be told.
    pub(super) async fn partitions_now(&self) -> Option<u32> {
        match self.queue.partitions(&self.names.topic).await {
            Ending::Applied(count) => Some(count),
            Ending::Refused(_) | Ending::Unknown => None,
        }
    }

    /// What a partition is called where it is shared out.
    pub(super) fn provision(&self, partition: u32) -> String {
        self.names.provision(partition)
    }

    /// The partition that is called so, unless none is.
    pub(super) fn partition(&self, provision: &str) -> Option<u32> {
        self.names.partition(provision)
    }

    pub(super) fn journal(&self, partition: u32) -> KafkaJournal {
        let (cluster, topic) = (self.cluster.clone(), self.names.topic.to_string());
        KafkaJournal::new(KafkaJournalConfig { cluster, topic, partition })
    }

    fn slot(&self, partition: u32) -> Slot {
        Slot::new(&self.names.topic, Partition(partition))
    }

    /// Where a partition is begun whose position was never stored here: behind upstream's group, or as `configured` if that has
    /// committed nothing. Nothing: it cannot be told now.
    pub(super) async fn bootstrap(&self, partition: u32, configured: Bootstrap) -> Option<Bootstrap> {
        let slot = self.slot(partition);
        let reason = match self.queue.positions(&self.names.group, &slot).await {
            Ending::Applied(Positions { committed: None, .. }) => return Some(configured),
            Ending::Applied(Positions { committed: Some(offset), .. }) => {
                return Some(Bootstrap::Behind { reader: Seq(offset.0), again: self.again });
            }
            Ending::Refused(refusal) => refusal.code,
            Ending::Unknown => "no answer".to_owned(),
        };
        tracing::warn!(%slot, group = %self.names.group, reason, "what upstream's group committed cannot be told; asking again");
        None
    }

    /// Commits for upstream's group what is `saved` of a partition, and never more, until the populator has ended. Whether that
    /// works changes nothing here.
    pub(super) async fn commit_behind(&self, partition: u32, mut saved: watch::Receiver<Seq>) {
        if !self.is_alone {
            return;
        }
        let (group, slot) = (&self.names.group, self.slot(partition));
        let mut works = true;
        loop {
            let changed = timeout(COMMIT_AGAIN, saved.changed()).await;
            let is_last =
                matches!(changed, Ok(Err(_))) || timeout(COMMIT_PAUSE, ended(&mut saved)).await.is_ok();
            let upto = saved.borrow_and_update().0;
            if upto > 0 {
                let ending = self.queue.commit_for(group, &slot, Offset(upto)).await;
                let works_now = matches!(ending, Ending::Applied(()));
                match ending {
                    Ending::Applied(()) if works => {}
                    Ending::Applied(()) => tracing::info!(%slot, %group, "upstream's group follows again"),
                    Ending::Refused(_) | Ending::Unknown if !works => {}
                    Ending::Refused(refusal) if refusal.kind == RefusalKind::Fenced => tracing::warn!(
                        %slot, %group,
                        "upstream's group has members: its offsets are theirs, and everything is queued twice; end them",
                    ),
                    Ending::Refused(refusal) => tracing::warn!(
                        %slot, %group, reason = refusal.code,
                        "upstream's group does not follow: put back, it would read again what was queued since",
                    ),
                    Ending::Unknown => tracing::warn!(
                        %slot, %group, reason = "no answer",
                        "upstream's group does not follow: put back, it would read again what was queued since",
                    ),
                }
                works = works_now;
            }
            if is_last {
                return;
            }
        }
    }
}

/// Waits until nobody moves a position any more.
async fn ended(saved: &mut watch::Receiver<Seq>) {
    while saved.changed().await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(section: &str, is_alone: bool) -> [String; 3] {
        let section = serde_json::from_str(section).expect("a section");
        let Names { topic, group, log } = Names::of(&section, is_alone);
        [topic.to_string(), group.to_string(), log]
    }

    #[test]
    fn names_are_those_that_a_process_of_upstream_uses() {
        let usual = ["backbeat-oplog", "backbeat-oplog-consumer-id", "s3-recordlog"].map(str::to_owned);
        assert_eq!(names("{}", true), usual);
        let section = r#"{"topic":"t","consumerGroupId":"g","logName":"l",
            "replication":{"topic":"own","consumerGroupId":"own-group"},"lifecycle":{"topic":"other"}}"#;
        assert_eq!(names(section, true), ["own", "own-group", "l"].map(str::to_owned));
        assert_eq!(names(section, false), ["t", "g", "l"].map(str::to_owned));
    }

    #[test]
    fn the_group_is_replication_s_unless_others_populate_in_the_same_process() {
        let configured = |name: &str| name == "lifecycle";
        assert!(is_alone(|_| false, None));
        assert!(!is_alone(configured, None));
        assert!(is_alone(configured, Some("replication")));
        assert!(!is_alone(configured, Some("replication, lifecycle")));
    }

    #[test]
    fn partitions_are_shared_out_under_names_with_the_log_s() {
        let section = serde_json::from_str("{}").expect("a section");
        let names = Names::of(&section, true);
        assert_eq!(names.provision(12), "s3-recordlog_12");
        assert_eq!(names.partition("s3-recordlog_12"), Some(12));
        for other in ["12", "s3-recordlog_", "s3-recordlog_012", "s3-recordlog_x", "other_12"] {
            assert_eq!(names.partition(other), None, "{other}");
        }
    }
}
