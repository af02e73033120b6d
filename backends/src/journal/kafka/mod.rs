//! One partition of a change stream in Kafka: what source connectors of Kafka Connect write of a MongoDB (wire reference
//! 4.4, extensions reference E.8).
//!
//! Positions are offsets. They are the caller's: nothing is committed to a group here, so that a position is stored when
//! what was read up to it is acknowledged, and not before. What retention deleted before it was read is history lost, a
//! partition that ends before the position one that went back, as of a topic that was deleted and made again. The epoch
//! is that of the cluster and the topic: offsets of others mean nothing here.

mod document;
mod ordered;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::model::LogRecord;
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use futures_util::FutureExt as _;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::Journal;
use crate::queue::kafka::{Asking, KafkaConfig, blocking, bury, question_ended};

/// Records given at once, at most.
const RECORDS_MAX: usize = 1_000;
/// How often it is looked up how far the partition reaches, while it is read.
const END_TIME: Duration = Duration::from_secs(10);
/// The group that the client names. It has no members and commits nothing.
const READER: &str = "backbeat-journal-reader";

/// Where a change stream is.
#[derive(Clone, Debug)]
pub struct KafkaJournalConfig {
    /// The cluster.
    pub cluster: KafkaConfig,
    /// The topic, as it is on the wire: the cluster's prefix is not for it.
    pub topic: String,
    /// The partition.
    pub partition: u32,
}

/// A partition of a change stream.
pub struct KafkaJournal {
    config: KafkaJournalConfig,
    reader: Mutex<Reader>,
}

type Client = StreamConsumer<Asking>;

#[derive(Default)]
struct Reader {
    /// Made when it is first needed.
    client: Option<Arc<Client>>,
    epoch: Option<JournalEpoch>,
    /// What the client gives next. None while it is read: whoever is cancelled leaves it unknown.
    at: Option<Seq>,
    /// One past the newest record, and when it was looked up.
    end: Option<(Seq, Instant)>,
}

/// What the brokers have of a partition.
struct Bounds {
    oldest: Seq,
    end: Seq,
}

impl fmt::Debug for KafkaJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaJournal").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Display for KafkaJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of topic {} in kafka", self.config.partition, self.config.topic)
    }
}

impl Drop for KafkaJournal {
    fn drop(&mut self) {
        if let Some(client) = self.reader.get_mut().client.take() {
            bury(client, |_| {});
        }
    }
}

impl KafkaJournal {
    /// The partition that `config` names. Nothing is asked yet.
    pub fn new(config: KafkaJournalConfig) -> Self {
        Self { config, reader: Mutex::default() }
    }

    fn client(&self, reader: &mut Reader) -> KafkaResult<Arc<Client>> {
        if let Some(client) = &reader.client {
            return Ok(Arc::clone(client));
        }
        let client: Client = self.config.cluster.following(READER).create_with_context(Asking::default())?;
        Ok(Arc::clone(reader.client.insert(Arc::new(client))))
    }

    /// The partition's number as Kafka wants it.
    fn partition(&self) -> i32 {
        i32::try_from(self.config.partition).unwrap_or(i32::MAX)
    }

    async fn bounds(&self, client: &Arc<Client>) -> KafkaResult<Bounds> {
        let (client, topic, partition) = (Arc::clone(client), self.config.topic.clone(), self.partition());
        let time_max = self.config.cluster.answer_time_max;
        let asked = blocking(move || client.fetch_watermarks(&topic, partition, time_max)).await;
        asked.map(|(oldest, end)| Bounds { oldest: seq(oldest), end: seq(end) })
    }

    /// Which cluster and which topic offsets belong to.
    async fn epoch(&self, reader: &mut Reader, client: &Arc<Client>) -> KafkaResult<JournalEpoch> {
        if let Some(epoch) = reader.epoch {
            return Ok(epoch);
        }
        let (client, time_max) = (Arc::clone(client), self.config.cluster.answer_time_max);
        let cluster = blocking(move || client.client().fetch_cluster_id(time_max)).await;
        let silent = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let cluster = cluster.ok_or(silent)?;
        let epoch = super::embedded::epoch_of(&format!("{cluster}/{}", self.config.topic));
        Ok(*reader.epoch.insert(epoch))
    }

    /// Makes the client give what is at `from` next.
    fn go_to(&self, client: &Client, from: Seq) -> KafkaResult<()> {
        let mut place = TopicPartitionList::with_capacity(1);
        let offset = Offset::Offset(i64::try_from(from.0).unwrap_or(i64::MAX));
        place.add_partition_offset(&self.config.topic, self.partition(), offset)?;
        client.assign(&place)
    }

    /// The record of a message. One that cannot be read has no entries: the document is named in the log, as nothing of it
    /// is known that could be repaired.
    fn record(&self, message: &BorrowedMessage<'_>) -> LogRecord {
        let timestamp = message.timestamp().to_millis().and_then(|at| u64::try_from(at).ok());
        match document::record(message.payload().unwrap_or_default(), timestamp) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(journal = %self, offset = message.offset(), %error, "a message is no document of a change stream and is passed over");
                LogRecord { timestamp: None, db: "".into(), entries: Vec::new() }
            }
        }
    }

    /// What is there now, or comes until `deadline`.
    async fn look(
        &self,
        reader: &mut Reader,
        from: Option<Seq>,
        limit: usize,
        deadline: Instant,
    ) -> KafkaResult<Batch> {
        let client = self.client(reader)?;
        let epoch = self.epoch(reader, &client).await?;
        let empty = |next, Bounds { oldest, end }| Batch { records: Vec::new(), next, end, epoch, oldest };
        let Some(from) = from else {
            let bounds = self.bounds(&client).await?;
            return Ok(empty(bounds.end, bounds));
        };
        // While the future is under way nobody knows what the client gives next.
        let at = reader.at.take();
        let mut records = Vec::new();
        if at == Some(from) {
            self.take(&client, &mut records, limit)?;
        }
        if records.is_empty() {
            let bounds = self.bounds(&client).await?;
            reader.end = Some((bounds.end, Instant::now()));
            if bounds.oldest > from || bounds.end < from {
                return Ok(empty(from, bounds));
            }
            if at != Some(from) || bounds.end > from {
                self.go_to(&client, from)?;
            }
            // What is there is given, however long that takes; what is not is waited for.
            let patience = Instant::now() + self.config.cluster.answer_time_max;
            let mut until = if bounds.end > from { deadline.max(patience) } else { deadline };
            while records.is_empty() {
                match timeout_at(until, client.recv()).await {
                    Ok(Ok(message)) => self.add(&message, &mut records),
                    // The offsets up to the end are not records: they belong to transactions.
                    Ok(Err(KafkaError::PartitionEOF(_))) => until = deadline,
                    Ok(Err(error)) if is_passing(&error) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) if until > deadline => {
                        return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
                    }
                    Err(_) => {
                        reader.at = Some(from);
                        return Ok(empty(from, Bounds { end: from, oldest: bounds.oldest.min(from) }));
                    }
                }
            }
            self.take(&client, &mut records, limit)?;
        }
        let next = records.last().map_or(from, |(seq, _)| seq.next());
        let end = match reader.end {
            Some((end, at)) if end > next && at.elapsed() < END_TIME => end,
            Some((_, at)) if at.elapsed() < END_TIME && records.len() < limit => next,
            Some(_) | None => {
                let end = self.bounds(&client).await?.end;
                reader.end = Some((end, Instant::now()));
                end.max(next)
            }
        };
        reader.at = Some(next);
        Ok(Batch { records, next, end, epoch, oldest: from })
    }

    fn add(&self, message: &BorrowedMessage<'_>, records: &mut Vec<(Seq, Arc<LogRecord>)>) {
        records.push((seq(message.offset()), Arc::new(self.record(message))));
    }

    /// Takes what the client has already.
    fn take(
        &self,
        client: &Client,
        records: &mut Vec<(Seq, Arc<LogRecord>)>,
        limit: usize,
    ) -> KafkaResult<()> {
        while records.len() < limit {
            match client.recv().now_or_never() {
                Some(Ok(message)) => self.add(&message, records),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_passing(&error) => {}
                // Those before it can be worked on.
                Some(Err(error)) if records.is_empty() => return Err(error),
                Some(Err(_)) | None => break,
            }
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) -> Ending<Batch> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut) => Ending::Unknown,
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
                let told = format!("{self}: there is no such partition");
                Ending::Refused(Refusal::new(RefusalKind::Unavailable, told))
            }
            Some(_) | None => Ending::Refused(question_ended(error, &self.to_string())),
        }
    }
}

fn seq(offset: i64) -> Seq {
    Seq(u64::try_from(offset).unwrap_or(0))
}

/// What the client tries again by itself.
fn is_passing(error: &KafkaError) -> bool {
    const PASSING: [RDKafkaErrorCode; 5] = [
        RDKafkaErrorCode::AllBrokersDown,
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::LeaderNotAvailable,
        RDKafkaErrorCode::NotLeaderForPartition,
        RDKafkaErrorCode::Resolve,
    ];
    error.rdkafka_error_code().is_some_and(|code| PASSING.contains(&code))
}

/// The place that was to be read is not there any more.
fn is_gone(error: &KafkaError) -> bool {
    const GONE: [RDKafkaErrorCode; 2] =
        [RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::AutoOffsetReset];
    error.rdkafka_error_code().is_some_and(|code| GONE.contains(&code))
}

impl Journal for KafkaJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        let deadline = Instant::now() + Duration::from_micros(wait.as_micros());
        let limit = limit.clamp(1, RECORDS_MAX);
        let mut reader = self.reader.lock().await;
        let mut looked = self.look(&mut reader, from, limit, deadline).await;
        if looked.as_ref().is_err_and(is_gone) {
            // The brokers say now from where to where the partition is.
            looked = self.look(&mut reader, from, limit, deadline).await;
        }
        match looked {
            Ok(batch) => Ending::Applied(batch),
            Err(error) => self.failed(&error),
        }
    }
}
