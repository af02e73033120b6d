//! Publishing: idempotent, acknowledged by all replicas, without gaps.
//!
//! A message takes its place in the client's queue when `publish` is called. With `enable.gapless.guarantee` a message
//! that cannot be delivered ends the client: nothing that was published after it arrives before whoever published has
//! heard of the failure, and made another producer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Offset, Partition, Topic};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{
    BaseProducer, BaseRecord, PARTITION_UA, Partitioner, Producer as _, ProducerContext,
};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

use super::config::KafkaConfig;
use super::outcome::write_ended;
use super::{context, reaper, start};
use crate::queue::partitioner::partition_of;
use crate::queue::{Producer, Record};

/// How many partitions each topic has, as far as somebody asked: by its name on the wire.
#[derive(Default)]
pub(super) struct PartitionCounts(RwLock<BTreeMap<String, u32>>);

impl PartitionCounts {
    /// From now on `topic` is expected to have so many.
    pub(super) fn expect(&self, topic: &str, partitions: u32) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), partitions);
    }

    fn of(&self, topic: &str) -> Option<u32> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }
}

/// Where messages go: as librdkafka's `consistent_random` would send them, but nowhere once a topic has another number
/// of partitions than it had, because its keys would change places.
pub(super) struct Placing {
    counts: Arc<PartitionCounts>,
    turn: AtomicU32,
}

impl Partitioner for Placing {
    fn partition(&self, topic: &str, key: Option<&[u8]>, count: i32, _: impl Fn(i32) -> bool) -> i32 {
        let Some(count) = u32::try_from(count).ok().filter(|count| *count > 0) else { return PARTITION_UA };
        if self.counts.of(topic).is_some_and(|expected| expected != count) {
            // One that is not there: the message is refused at once, where an unassigned one would wait.
            return i32::try_from(count).unwrap_or(PARTITION_UA);
        }
        let partition = match key {
            Some(key) => partition_of(key, count).0,
            None => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        i32::try_from(partition).unwrap_or(PARTITION_UA)
    }
}

type Waiter = oneshot::Sender<Ending<(Partition, Offset)>>;

/// Hears how messages ended.
pub(super) struct Reports {
    placing: Placing,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        context::complain(&error, reason);
    }
}

impl ProducerContext<Placing> for Reports {
    type DeliveryOpaque = Box<Waiter>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiter: Box<Waiter>) {
        let ending = match result {
            Ok(message) => {
                let partition = Partition(u32::try_from(message.partition()).unwrap_or(u32::MAX));
                Ending::Applied((partition, start::offset(message.offset())))
            }
            Err((error, message)) => {
                let bytes = message.key_len() + message.payload_len();
                self.failed(error, message.topic(), bytes)
            }
        };
        // Whoever published may have gone.
        drop(waiter.send(ending));
    }

    fn get_custom_partitioner(&self) -> Option<&Placing> {
        Some(&self.placing)
    }
}

impl Reports {
    fn failed<T>(&self, error: &KafkaError, topic: &str, bytes: usize) -> Ending<T> {
        let Some(code) = error.rdkafka_error_code() else { return Ending::Unknown };
        let mut what = format!("topic {topic}, a message of {bytes} bytes");
        if code == RDKafkaErrorCode::MessageSizeTooLarge {
            what.push_str(" is more than its max.message.bytes: raise that");
        }
        if code == RDKafkaErrorCode::UnknownPartition
            && let Some(expected) = self.placing.counts.of(topic)
        {
            what = format!(
                "topic {topic} had {expected} partitions: start again with the number that it has now"
            );
        }
        let ending = write_ended(code, &what);
        tracing::warn!(topic, bytes, %error, "a message was not published");
        ending
    }
}

type Client = BaseProducer<Reports, Placing>;

/// How long events of a client are waited for at once. The wrapper of librdkafka spins through the last millisecond of that, which
/// with its own thread, and a tenth of a second, is a hundredth of a core for ever.
const POLL_TIME: Duration = Duration::from_millis(500);

/// Hands out what the client reports, on a thread of its own, for as long as anybody has the client.
fn polled(client: Arc<Client>) -> std::io::Result<Arc<Client>> {
    let watched = Arc::downgrade(&client);
    let poll = move || {
        while let Some(client) = watched.upgrade() {
            client.poll(POLL_TIME);
        }
    };
    thread::Builder::new().name("kafka-reports".to_owned()).spawn(poll)?;
    Ok(client)
}

/// A producer of Kafka.
pub struct KafkaProducer(Arc<Inner>);

struct Inner {
    client: Result<Arc<Client>, String>,
    topic_prefix: String,
    message_bytes_max: usize,
    delivery_time_max: Duration,
}

impl KafkaProducer {
    pub(super) fn new(config: &KafkaConfig, linger: Duration, counts: &Arc<PartitionCounts>) -> Self {
        let reports = Reports { placing: Placing { counts: Arc::clone(counts), turn: AtomicU32::new(0) } };
        let client = config.publishing(linger).create_with_context(reports);
        let client = client.map_err(|error| error.to_string());
        Self(Arc::new(Inner {
            client: client.and_then(|client| polled(Arc::new(client)).map_err(|error| error.to_string())),
            topic_prefix: config.topic_prefix.clone(),
            message_bytes_max: config.message_bytes_max,
            delivery_time_max: config.delivery_time_max,
        }))
    }
}

impl Inner {
    fn send(
        &self,
        topic: &Topic,
        record: &Record,
    ) -> Result<oneshot::Receiver<Ending<(Partition, Offset)>>, Ending<()>> {
        let refused = |kind, code: String| Err(Ending::Refused(Refusal::new(kind, code)));
        let name = format!("{}{topic}", self.topic_prefix);
        let (bytes, bytes_max) = (record.bytes(), self.message_bytes_max);
        if bytes > bytes_max {
            let code = format!(
                "MessageTooLarge: topic {name}, a message of {bytes} bytes, at most {bytes_max} are sent"
            );
            return refused(RefusalKind::TooLarge, code);
        }
        let client = match &self.client {
            Ok(client) => client,
            Err(error) => return refused(RefusalKind::Unavailable, format!("no Kafka client: {error}")),
        };
        let (waiter, ending) = oneshot::channel();
        let mut message: BaseRecord<'_, [u8], [u8], Box<Waiter>> =
            BaseRecord::with_opaque_to(&name, Box::new(waiter));
        if let Some(partition) = record.partition {
            let Ok(partition) = i32::try_from(partition.0) else {
                return refused(RefusalKind::Invalid, "UnknownPartition".to_owned());
            };
            message = message.partition(partition);
        }
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(payload) = &record.payload {
            message = message.payload(payload);
        }
        let Err((error, _)) = client.send(message) else { return Ok(ending) };
        // Whatever could not be queued will not be sent.
        match error.rdkafka_error_code().map(|code| write_ended::<()>(code, &format!("topic {name}"))) {
            Some(Ending::Refused(refusal)) => Err(Ending::Refused(refusal)),
            _ => refused(RefusalKind::Unavailable, format!("topic {name}: {error}")),
        }
    }
}

impl Producer for KafkaProducer {
    fn publish(
        &self,
        topic: &Topic,
        record: Record,
    ) -> impl Future<Output = Ending<(Partition, Offset)>> + Send + 'static + use<> {
        let sent = self.0.send(topic, &record);
        // What was published arrives even if nobody keeps the producer.
        let inner = Arc::clone(&self.0);
        async move {
            let ending = match sent {
                Ok(ending) => ending.await.unwrap_or(Ending::Unknown),
                Err(Ending::Refused(refusal)) => Ending::Refused(refusal),
                Err(Ending::Applied(()) | Ending::Unknown) => Ending::Unknown,
            };
            drop(inner);
            ending
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let client = std::mem::replace(&mut self.client, Err(String::new()));
        let time_max = self.delivery_time_max;
        if let Ok(client) = client {
            reaper::bury(client, move |client| {
                if let Err(error) = client.flush(time_max) {
                    tracing::warn!(%error, "messages of a producer that was dropped may be lost");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_another_number_of_partitions_gets_nothing() {
        let counts = Arc::new(PartitionCounts::default());
        let placing = Placing { counts: Arc::clone(&counts), turn: AtomicU32::new(0) };
        let key = Some(b"bucket%2Fkey".as_slice());
        let home = i32::try_from(partition_of(b"bucket%2Fkey", 4).0).expect("it is small");
        assert_eq!(placing.partition("topic", key, 4, |_| true), home);
        counts.expect("topic", 4);
        assert_eq!(placing.partition("topic", key, 4, |_| true), home);
        assert_eq!(placing.partition("topic", key, 5, |_| true), 5);
        assert_eq!(placing.partition("topic", None, 5, |_| true), 5);
    }

    #[test]
    fn messages_without_a_key_take_turns() {
        let placing = Placing { counts: Arc::default(), turn: AtomicU32::new(0) };
        let places: Vec<i32> = (0..4).map(|_| placing.partition("topic", None, 3, |_| true)).collect();
        assert_eq!(places, [0, 1, 2, 0]);
    }
}
