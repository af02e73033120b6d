//! How to reach a Kafka cluster, and what the clients of it are told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::security::KafkaSecurity;
use crate::queue::{MESSAGE_BYTES_MAX, QueueError};

/// Properties that the promises of the adapter rest on, and those that it has fields for: nobody else sets them.
const OWN_PROPERTIES: [&str; 22] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.rack",
    "compression.codec",
    "compression.type",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "session.timeout.ms",
];

/// Messages that are read ahead of all partitions of one topic together, as far as the bounds for each allow that.
const READ_AHEAD: Share = Share { all: 4_000, least: 200, most: 1_000 };

/// Likewise KiB, and the fetch that passes the bound.
const READ_AHEAD_KIB: Share = Share { all: 16_384, least: 256, most: 2_048 };

/// What partitions share.
struct Share {
    all: u32,
    /// The least for each of them: what a busy one gives until the next fetch.
    least: u32,
    most: u32,
}

impl Share {
    fn of_each(&self, partitions: u32) -> String {
        self.all.checked_div(partitions).unwrap_or(self.most).clamp(self.least, self.most).to_string()
    }
}

/// What the client counts besides key and payload when it looks at the size of a message, bytes, and a little more.
const FRAME_BYTES: usize = 512;

/// A Kafka cluster as one process uses it.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Some of its brokers, `host:port,host:port`.
    pub hosts: String,
    /// Stands before every topic name on the wire, and nowhere else (`KAFKA_TOPIC_PREFIX`, replication reference 10.2).
    pub topic_prefix: String,
    /// Copies of each partition of topics that are created; the cluster's own number if absent.
    pub replication_factor: Option<u16>,
    /// How long topics that are created keep messages, read or not; the cluster's own time if absent. Compacted topics
    /// keep the newest of each key for ever.
    pub retention: Option<Duration>,
    /// The largest message, key and payload together, bytes (`kafka.maxRequestSize`).
    pub message_bytes_max: usize,
    /// When a message that is not acknowledged counts as unknown. Shorter than the patience of whoever publishes: a
    /// message that was given up must not arrive behind its own repetition.
    pub delivery_time_max: Duration,
    /// How long a question about topics, offsets or the like may take.
    pub answer_time_max: Duration,
    /// Without a sign of life for so long, a member is out of its group.
    pub session_time_max: Duration,
    /// How long the owner of revoked partitions may take to release them.
    pub drain_time_max: Duration,
    /// The name of this member in its groups (static membership): a restart within the session time moves no partition.
    /// Two processes must never have the same. A member without one is new after each restart.
    pub member: Option<String>,
    /// The rack of this process (`kafka.site`): messages are read from a follower there, if there is one.
    pub rack: Option<String>,
    /// How brokers are spoken to.
    pub security: KafkaSecurity,
    /// Further properties of librdkafka, by its names.
    pub properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The cluster that these brokers belong to, everything else as usual.
    pub fn new(hosts: impl Into<String>) -> Self {
        Self {
            hosts: hosts.into(),
            topic_prefix: String::new(),
            replication_factor: None,
            retention: None,
            message_bytes_max: MESSAGE_BYTES_MAX,
            delivery_time_max: Duration::from_secs(25),
            answer_time_max: Duration::from_secs(10),
            session_time_max: Duration::from_secs(45),
            drain_time_max: Duration::from_secs(30),
            member: None,
            rack: None,
            security: KafkaSecurity::default(),
            properties: BTreeMap::new(),
        }
    }

    /// Says what cannot be used as it is.
    pub(super) fn check(&self) -> Result<(), QueueError> {
        if let Some(own) = self.properties.keys().find(|name| OWN_PROPERTIES.contains(&name.as_str())) {
            return Err(QueueError::Storage(format!(
                "the Kafka property {own} cannot be set by hand: remove it"
            )));
        }
        self.security.check(self.properties.keys())
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.hosts)
            .set("client.id", "backbeat")
            .set("allow.auto.create.topics", "false")
            // A broker that restarts is back within seconds: it is not left alone for longer.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            // How soon a changed topic is noticed.
            .set("topic.metadata.refresh.interval.ms", "5000");
        self.security.apply(&mut client);
        client
    }

    /// With what was set by hand, last: nothing that promises rest on is among it.
    fn with_properties(&self, mut client: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
    }

    /// For a client that asks, and neither publishes nor is a member of a group.
    pub(super) fn asking(&self) -> ClientConfig {
        self.with_properties(self.client())
    }

    /// For a client that publishes (replication reference 10.7, and idempotence), whose messages wait so long for others to go with
    /// them. Without that batches form by themselves while earlier ones are on their way: most are one message.
    pub(super) fn publishing(&self, linger: Duration) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            // Of batches of one message, at higher levels preparing the tables takes longer than all the rest.
            .set("compression.level", "1")
            .set("message.max.bytes", (self.message_bytes_max + FRAME_BYTES).to_string())
            .set("message.timeout.ms", millis(self.delivery_time_max))
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("sticky.partitioning.linger.ms", "0")
            .set("linger.ms", linger.as_millis().to_string())
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144");
        self.with_properties(client)
    }

    /// For a client that reads offsets and messages in the name of `group` without being a member of it.
    pub(super) fn reading(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error");
        self.with_properties(client)
    }

    /// For a client that follows a partition in the name of `group` without being a member of it: as [`Self::reading`], but
    /// what is read ahead is bounded.
    pub(crate) fn following(&self, group: &str) -> ClientConfig {
        let mut client = self.reading(group);
        client
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.message.max.bytes", "1048576");
        self.with_properties(client)
    }

    /// For a member of `group` that reads topics of so many partitions (replication reference 10.2, except that commits and
    /// start positions are explicit).
    pub(super) fn consuming(&self, group: &str, partitions: u32) -> ClientConfig {
        let mut client = self.client();
        // A rebalance is heard of with a heartbeat.
        let heartbeat = (self.session_time_max / 3).min(Duration::from_secs(3));
        // The time that a broker waits for members in a rebalance.
        let poll_time_max = (self.drain_time_max * 2).max(Duration::from_mins(5)).max(self.session_time_max);
        client
            .set("group.id", group)
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            // What is gone is named, never jumped over.
            .set("auto.offset.reset", "error")
            .set("session.timeout.ms", millis(self.session_time_max))
            .set("heartbeat.interval.ms", millis(heartbeat))
            .set("max.poll.interval.ms", millis(poll_time_max))
            .set("metadata.max.age.ms", "15000")
            // There is one fetch at a time: one that waits for partitions that are at their end keeps all others waiting.
            .set("fetch.wait.max.ms", "100")
            // How soon a partition is looked at again that had enough: its default of a second is longer than that lasts.
            .set("fetch.queue.backoff.ms", "20")
            // What is read ahead of each partition is bounded: the backlog stays in Kafka. Bytes on the wire are compressed.
            .set("queued.min.messages", READ_AHEAD.of_each(partitions))
            .set("queued.max.messages.kbytes", READ_AHEAD_KIB.of_each(partitions))
            .set("fetch.message.max.bytes", "65536");
        if let Some(member) = &self.member {
            client.set("group.instance.id", member);
        }
        if let Some(rack) = &self.rack {
            client.set("client.rack", rack);
        }
        self.with_properties(client)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of the properties the names alone: passwords are among them.
        f.debug_struct("KafkaConfig")
            .field("hosts", &self.hosts)
            .field("topic_prefix", &self.topic_prefix)
            .field("member", &self.member)
            .field("security", &self.security)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_promises_rest_on_cannot_be_set_by_hand() {
        let mut config = KafkaConfig::new("localhost:9092");
        config.properties.insert("sasl.username".to_owned(), "someone".to_owned());
        assert_eq!(config.check(), Ok(()));
        config.properties.insert("enable.idempotence".to_owned(), "false".to_owned());
        let error = config.check().expect_err("it is refused").to_string();
        assert!(error.contains("enable.idempotence"), "{error}");
    }

    #[test]
    fn passwords_are_never_shown() {
        let mut config = KafkaConfig::new("localhost:9092");
        config.properties.insert("sasl.password".to_owned(), "open-sesame".to_owned());
        assert!(!format!("{config:?}").contains("sesame"));
    }

    #[test]
    fn a_broker_waits_longer_for_a_member_than_its_owner_may_drain() {
        let mut config = KafkaConfig::new("localhost:9092");
        config.drain_time_max = Duration::from_mins(4);
        assert_eq!(config.consuming("group", 1).get("max.poll.interval.ms"), Some("480000"));
    }

    #[test]
    fn more_partitions_read_ahead_less_each() {
        let config = KafkaConfig::new("localhost:9092");
        let ahead = |partitions, name| {
            let client = config.consuming("group", partitions);
            client.get(name).map(str::to_owned).unwrap_or_default()
        };
        let messages = [0, 1, 4, 10, 100].map(|partitions| ahead(partitions, "queued.min.messages"));
        assert_eq!(messages, ["1000", "1000", "1000", "400", "200"]);
        let kib = [1, 16, 100].map(|partitions| ahead(partitions, "queued.max.messages.kbytes"));
        assert_eq!(kib, ["2048", "1024", "256"]);
    }
}
