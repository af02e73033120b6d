//! Topics: looked at before they are used, made where they are missing.

use std::time::{Duration, Instant, SystemTime};

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset as Place;

use super::config::KafkaConfig;
use super::context::Asking;
use super::outcome::question_ended;
use super::start;
use crate::queue::{Retention, is_topic_name};

/// What a batch needs besides a single message in it, bytes: headers, and what compression may add.
const BATCH_BYTES: usize = 64 << 10;

/// How long a new topic waits to be looked for again.
const LOOK_WAIT: Duration = Duration::from_millis(20);

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// Its partitions.
    pub(super) partitions: u32,
    /// Whether it is compacted.
    pub(super) is_compacted: bool,
    /// The largest batch that it takes, bytes.
    pub(super) batch_bytes_max: Option<usize>,
    /// The age at which messages are deleted, if they are.
    pub(super) age_max: Option<Duration>,
}

/// A topic as it should be.
pub(super) struct Wanted<'a> {
    /// Its name on the wire.
    pub(super) name: &'a str,
    /// Its partitions.
    pub(super) partitions: u32,
    /// How long it keeps messages.
    pub(super) retention: Retention,
}

/// The clients that ask about topics.
pub(super) struct Topics {
    pub(super) admin: AdminClient<Asking>,
    pub(super) asking: BaseConsumer<Asking>,
    pub(super) answer_time_max: Duration,
}

impl Topics {
    /// The number of partitions of a topic; blocks. Asks again while the answer is that brokers are about to change.
    pub(super) fn partitions(&self, name: &str) -> Result<u32, Refusal> {
        let until = Instant::now() + self.answer_time_max;
        loop {
            let passing = match self.asking.fetch_metadata(Some(name), self.answer_time_max) {
                Err(error) => return Err(question_ended(&error, &format!("topic {name}"))),
                Ok(metadata) => match metadata.topics().iter().find(|topic| topic.name() == name) {
                    None => return Err(unknown(name)),
                    Some(topic) => match topic.error().map(RDKafkaErrorCode::from) {
                        None if topic.partitions().iter().all(|partition| partition.leader() >= 0) => {
                            return Ok(u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX));
                        }
                        None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {
                            RDKafkaErrorCode::LeaderNotAvailable
                        }
                        Some(code) => {
                            return Err(question_ended(
                                &KafkaError::MetadataFetch(code),
                                &format!("topic {name}"),
                            ));
                        }
                    },
                },
            };
            if Instant::now() >= until {
                return Err(question_ended(&KafkaError::MetadataFetch(passing), &format!("topic {name}")));
            }
            std::thread::sleep(LOOK_WAIT);
        }
    }

    /// A topic as it is; blocks.
    pub(super) fn describe(&self, name: &str) -> Result<Described, Refusal> {
        let partitions = self.partitions(name)?;
        let options = AdminOptions::new().request_timeout(Some(self.answer_time_max));
        let resource = [ResourceSpecifier::Topic(name)];
        let answer = futures(self.admin.describe_configs(&resource, &options));
        let described = answer.map_err(|error| question_ended(&error, &format!("topic {name}")))?;
        let settings = match described.into_iter().next() {
            Some(Ok(settings)) => settings,
            Some(Err(code)) => {
                return Err(question_ended(&KafkaError::AdminOp(code), &format!("topic {name}")));
            }
            None => return Err(unknown(name)),
        };
        let value = |setting: &str| settings.get(setting).and_then(|entry| entry.value.clone());
        let policy = value("cleanup.policy");
        let has = |word: &str| policy.as_ref().is_some_and(|policy| policy.contains(word));
        // -1 is for ever.
        let age_max = value("retention.ms").and_then(|age| age.parse().ok()).map(Duration::from_millis);
        Ok(Described {
            partitions,
            is_compacted: has("compact"),
            age_max: age_max.filter(|_| has("delete")),
            batch_bytes_max: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
        })
    }

    /// Of each partition the first message that is younger than half of the age at which they are deleted, or the end; blocks.
    pub(super) fn half_aged(&self, name: &str) -> Result<Option<Vec<Offset>>, Refusal> {
        let described = self.describe(name)?;
        let Some(age_max) = described.age_max else { return Ok(None) };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let since = now.saturating_sub(age_max / 2).as_millis();
        let since = Place::Offset(i64::try_from(since).unwrap_or(i64::MAX));
        let ask = || -> KafkaResult<Vec<Offset>> {
            let mut times = TopicPartitionList::new();
            for partition in 0..i32::try_from(described.partitions).unwrap_or(i32::MAX) {
                times.add_partition_offset(name, partition, since)?;
            }
            let found = self.asking.offsets_for_times(times, self.answer_time_max)?;
            let mut offsets = Vec::with_capacity(found.count());
            for element in found.elements() {
                element.error()?;
                offsets.push(match element.offset() {
                    Place::Offset(offset) => start::offset(offset),
                    Place::Beginning | Place::End | Place::Stored | Place::Invalid | Place::OffsetTail(_) => {
                        start::offset(self.bounds(name, element.partition())?.1)
                    }
                });
            }
            Ok(offsets)
        };
        ask().map(Some).map_err(|error| question_ended(&error, &format!("topic {name}")))
    }

    /// Makes sure of a topic; blocks. One that is there is left as it is.
    pub(super) fn ensure(&self, config: &KafkaConfig, wanted: &Wanted<'_>) -> Ending<()> {
        let Wanted { name, partitions, retention } = *wanted;
        if partitions == 0 {
            return refused(RefusalKind::Invalid, format!("NoPartitions: topic {name}"));
        }
        if !is_topic_name(name) {
            return refused(RefusalKind::Invalid, format!("InvalidTopicName: {name:?}"));
        }
        match self.describe(name) {
            Ok(found) => return compare(config, wanted, &found),
            Err(refusal) if refusal.kind == RefusalKind::NotFound => {}
            Err(refusal) => return Ending::Refused(refusal),
        }
        match self.create(config, name, partitions, retention) {
            Ok(()) => self.wait_for(name),
            // Another process was faster.
            Err(RDKafkaErrorCode::TopicAlreadyExists) => match self.wait_for(name) {
                Ending::Applied(()) => match self.describe(name) {
                    Ok(found) => compare(config, wanted, &found),
                    Err(refusal) => Ending::Refused(refusal),
                },
                Ending::Refused(refusal) => Ending::Refused(refusal),
                Ending::Unknown => Ending::Unknown,
            },
            Err(code) if is_no_answer(code) => Ending::Unknown,
            Err(code) => {
                Ending::Refused(question_ended(&KafkaError::AdminOp(code), &format!("creating topic {name}")))
            }
        }
    }

    fn create(
        &self,
        config: &KafkaConfig,
        name: &str,
        partitions: u32,
        retention: Retention,
    ) -> Result<(), RDKafkaErrorCode> {
        let copies = config.replication_factor.map_or(-1, i32::from);
        let batch_bytes_max = (config.message_bytes_max + BATCH_BYTES).to_string();
        let retention_time = config.retention.map(|time| time.as_millis().to_string());
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut topic = NewTopic::new(name, count, TopicReplication::Fixed(copies))
            // What a cluster takes by itself, 1 MiB, is less than what is sent (replication reference 10.7).
            .set("max.message.bytes", &batch_bytes_max);
        match retention {
            Retention::LatestPerKey => topic = topic.set("cleanup.policy", "compact"),
            Retention::UntilConsumed | Retention::Newest(_) => {
                if let Some(time) = &retention_time {
                    topic = topic.set("retention.ms", time);
                }
            }
        }
        let options = AdminOptions::new()
            .request_timeout(Some(self.answer_time_max))
            .operation_timeout(Some(self.answer_time_max));
        let results = futures(self.admin.create_topics([&topic], &options))
            .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))?;
        results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| code))
    }

    /// The oldest offset of a partition and the one after its newest; blocks. Asks again while it has no leader.
    pub(super) fn bounds(&self, name: &str, partition: i32) -> KafkaResult<(i64, i64)> {
        const PASSING: [RDKafkaErrorCode; 3] = [
            RDKafkaErrorCode::LeaderNotAvailable,
            RDKafkaErrorCode::NotLeaderForPartition,
            RDKafkaErrorCode::BrokerTransportFailure,
        ];
        let until = Instant::now() + self.answer_time_max;
        loop {
            match self.asking.fetch_watermarks(name, partition, self.answer_time_max) {
                Err(error)
                    if error.rdkafka_error_code().is_some_and(|code| PASSING.contains(&code))
                        && Instant::now() < until =>
                {
                    std::thread::sleep(LOOK_WAIT);
                }
                answer => return answer,
            }
        }
    }

    /// Until the brokers know a topic that was made, and lead all of it.
    fn wait_for(&self, name: &str) -> Ending<()> {
        let until = Instant::now() + self.answer_time_max;
        loop {
            match self.describe(name) {
                Ok(found) => {
                    let is_led =
                        |partition| self.bounds(name, i32::try_from(partition).unwrap_or(-1)).is_ok();
                    let is_ready = (0..found.partitions).all(is_led);
                    return if is_ready { Ending::Applied(()) } else { Ending::Unknown };
                }
                Err(refusal) if refusal.kind == RefusalKind::NotFound && Instant::now() < until => {
                    std::thread::sleep(LOOK_WAIT);
                }
                Err(_) => return Ending::Unknown,
            }
        }
    }
}

fn compare(config: &KafkaConfig, wanted: &Wanted<'_>, found: &Described) -> Ending<()> {
    let Wanted { name, partitions, retention } = *wanted;
    if found.partitions != partitions {
        let code = format!("TopicExists: topic {name} has {} partitions, not {partitions}", found.partitions);
        return refused(RefusalKind::Conflict, code);
    }
    if found.is_compacted != (retention == Retention::LatestPerKey) {
        let is = if found.is_compacted { "is" } else { "is not" };
        let code = format!("TopicExists: topic {name} {is} compacted, against what is wanted");
        return refused(RefusalKind::Conflict, code);
    }
    let needed = config.message_bytes_max;
    if let Some(takes) = found.batch_bytes_max.filter(|takes| *takes < needed) {
        tracing::warn!(
            topic = name,
            takes,
            needed,
            "the topic's max.message.bytes is less than the largest message: messages above it will be refused, raise it"
        );
    }
    Ending::Applied(())
}

fn is_no_answer(code: RDKafkaErrorCode) -> bool {
    const SILENT: [RDKafkaErrorCode; 4] = [
        RDKafkaErrorCode::OperationTimedOut,
        RDKafkaErrorCode::RequestTimedOut,
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::Fail,
    ];
    SILENT.contains(&code)
}

fn refused(kind: RefusalKind, code: String) -> Ending<()> {
    Ending::Refused(Refusal::new(kind, code))
}

pub(super) fn unknown(name: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("UnknownTopicOrPartition: {name}"))
}

/// The result of a future that another thread completes.
fn futures<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_another_number_of_partitions_is_refused_with_both() {
        let wanted = Wanted { name: "topic", partitions: 4, retention: Retention::UntilConsumed };
        let found = Described { partitions: 5, is_compacted: false, batch_bytes_max: None, age_max: None };
        let Ending::Refused(refusal) = compare(&KafkaConfig::new(""), &wanted, &found) else {
            panic!("it is refused")
        };
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert_eq!(refusal.code, "TopicExists: topic topic has 5 partitions, not 4");
    }
}
