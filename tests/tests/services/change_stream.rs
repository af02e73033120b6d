//! Change streams in Kafka as a journal.

use crate::kafka::{admin, delete_before};
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::journal::Journal as _;
use backbeat_backends::journal::conformance::{JournalHarness, ReplacedJournalHarness};
use backbeat_backends::journal::kafka::{KafkaJournal, KafkaJournalConfig};
use backbeat_backends::queue::kafka::KafkaConfig;
use backbeat_backends::{journal_conformance, replaced_journal_conformance};
use backbeat_core::id::Seq;
use backbeat_core::model::LogRecord;
use backbeat_core::time::Span;
use backbeat_tests::services::{Services, unique};
use backbeat_tests::suite::Test;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use std::time::Duration;

const TIME_MAX: Duration = Duration::from_mins(2);

/// The time of the records of the port's suite, 2026-11-20T10:00:00.000Z.
const RECORD_TIME_MS: i64 = 1_795_168_800_000;

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let address = services.address("KAFKA");
    let place = address.clone().unwrap_or_default();
    let (one, two) = (place.clone(), place.clone());
    let make = || {
        let place = one.clone();
        move || Stream::new(place)
    };
    let make_two = || {
        let place = two.clone();
        move || async { Two(Stream::new(place.clone()).await, Stream::new(place).await) }
    };
    let mut cases = journal_conformance!(conformance_list, change_stream, make());
    cases.extend(replaced_journal_conformance!(conformance_list, change_stream, make_two()));
    let mut tests = crate::conformance(cases, &address);
    tests.push(Test::new("change_stream::history_that_goes_while_it_is_read_is_told", address, || {
        gone(place);
        Ok(())
    }));
    tests
}

/// A topic of its own, and one partition of it as a journal.
struct Stream {
    topic: String,
    address: String,
    producer: FutureProducer,
    journal: KafkaJournal,
}

impl Stream {
    async fn new(address: String) -> Self {
        let topic = make_topic(&address, 1).await;
        let cluster = KafkaConfig::new(address.as_str());
        let journal = KafkaJournal::new(KafkaJournalConfig { cluster, topic: topic.clone(), partition: 0 });
        Self { producer: producer(&address), topic, address, journal }
    }
}

/// A topic for documents, with a name of its own.
pub(crate) async fn make_topic(address: &str, partitions: i32) -> String {
    let name = format!("{}-oplog", unique());
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let made =
        admin(address).create_topics([&topic], &AdminOptions::new()).await.expect("the broker answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    name
}

pub(crate) fn producer(address: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("linger.ms", "0");
    config.create().expect("a producer can be made")
}

async fn write(producer: &FutureProducer, topic: &str, document: &Value) {
    write_to(producer, topic, 0, document).await;
}

/// Writes a document as a source connector does.
pub(crate) async fn write_to(producer: &FutureProducer, topic: &str, partition: i32, document: &Value) {
    let payload = document.to_string();
    let record = FutureRecord::<str, _>::to(topic).payload(&payload);
    let record = record.partition(partition).timestamp(RECORD_TIME_MS);
    producer.send(record, TIME_MAX).await.map_err(|(error, _)| error).expect("it is written");
}

/// The document that a key with this value leaves when it is written for the first time.
pub(crate) fn document(bucket: &str, key: &str, value: &Value) -> Value {
    json!({"operationType": "insert", "ns": {"db": "metadata", "coll": bucket}, "documentKey": {"_id": key},
        "fullDocument": {"_id": key, "value": value}})
}

impl JournalHarness for Stream {
    type Journal = KafkaJournal;

    fn journal(&self) -> &KafkaJournal {
        &self.journal
    }

    async fn append(&self, record: LogRecord) {
        let entry = &record.entries[0];
        let value = entry.value.as_ref().expect("it has one").text();
        let value = serde_json::from_str(value).expect("JSON");
        let document = document(record.db.as_str(), entry.key.as_deref().expect("it has one"), &value);
        write(&self.producer, &self.topic, &document).await;
    }

    async fn truncate(&self, oldest: Seq) {
        let oldest = i64::try_from(oldest.0).expect("small");
        delete_before(&self.address, &self.topic, &[(0, oldest)]).await;
    }
}

/// Two topics: the second one takes the place of the first.
struct Two(Stream, Stream);

impl ReplacedJournalHarness for Two {
    type Journal = KafkaJournal;

    async fn before(&self, record: LogRecord) -> &KafkaJournal {
        self.0.append(record).await;
        &self.0.journal
    }

    async fn after(&self) -> &KafkaJournal {
        &self.1.journal
    }
}

fn gone(address: String) {
    const COUNT: u64 = 30;
    run(async move {
        let stream = Stream::new(address).await;
        for number in 0..COUNT {
            write(&stream.producer, &stream.topic, &document("b", &format!("k{number}"), &json!({}))).await;
        }
        let read =
            async |from: u64| applied(stream.journal.read(Some(Seq(from)), 10, Span::from_secs(60)).await);
        let first = read(0).await;
        assert!((1..=10).contains(&first.records.len()), "{first:?}");
        assert_eq!(first.end, Seq(COUNT));
        stream.truncate(Seq(25)).await;
        // What the client has read ahead may still come; then it is told, and nothing is jumped over.
        let mut next = first.next.0;
        let told = loop {
            let batch = read(next).await;
            assert!(batch.records.iter().zip(next..).all(|((seq, _), wanted)| seq.0 == wanted), "{batch:?}");
            if batch.records.is_empty() {
                break batch;
            }
            next = batch.next.0;
            if next >= 25 {
                break applied(stream.journal.read(Some(Seq(3)), 10, Span::ZERO).await);
            }
        };
        assert_eq!((told.records.len(), told.oldest, told.end), (0, Seq(25), Seq(COUNT)));
        assert_eq!(read(25).await.records[0].0, Seq(25));
    });
}
