//! The queue in Kafka.

use anyhow::Result;
use backbeat::driver::Aging;
use backbeat::metrics::Registry;
use backbeat_backends::conformance::{applied, refused, run};
use backbeat_backends::queue::conformance::{DRAIN_LIMIT, DurableQueueHarness, QueueHarness};
use backbeat_backends::queue::kafka::{KafkaConfig, KafkaConsumer, KafkaProducer, KafkaQueue};
use backbeat_backends::queue::partitioner::partition_of;
use backbeat_backends::queue::{
    Consumer as _, ConsumerEvent, Group, Message, Positions, Producer as _, Queue, QueueError, Record, Slot,
    TopicSpec,
};
use backbeat_backends::{durable_queue_conformance, queue_conformance};
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Offset, Partition, Topic};
use backbeat_tests::services::{OwnKafka, Services, unique};
use backbeat_tests::suite::Test;
use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Cases of the port's suite that ask for more than Kafka promises, and why. They are not run.
const NOT_PROMISED: [(&str, &str); 1] = [(
    "kafka::a_full_partition_does_not_starve_another",
    "600 messages come with one answer of a broker, before it is asked about another partition: see \
     kafka::a_long_partition_does_not_starve_a_short_one for what is promised",
)];

/// A broker that does not answer for so long is none, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let address = services.address("KAFKA");
    let place = address.clone().unwrap_or_default();
    let make = || {
        let place = place.clone();
        move || std::future::ready(Fresh(place))
    };
    let make_one = || {
        let place = place.clone();
        move || std::future::ready(One(config(&place, &unique())))
    };
    let mut cases = queue_conformance!(conformance_list, kafka, make());
    cases.extend(durable_queue_conformance!(conformance_list, kafka, make_one()));
    for (name, why) in NOT_PROMISED {
        assert!(cases.iter().any(|(case, _)| *case == name), "there is no case {name} to leave out: {why}");
    }
    cases.retain(|(name, _)| NOT_PROMISED.iter().all(|(left_out, _)| left_out != name));
    let mut tests = crate::conformance(cases, &address);
    for (name, test) in [
        ("kafka::a_key_goes_where_upstreams_producer_sends_it", partitioner as fn(String)),
        ("kafka::what_retention_has_eaten_is_named_at_the_start", gone_at_the_start),
        ("kafka::what_retention_has_eaten_is_named_while_reading", gone_while_reading),
        ("kafka::a_backlog_that_comes_near_its_retention_is_told", aging),
        ("kafka::a_topic_that_grew_is_neither_written_nor_read", grown),
        ("kafka::a_message_that_its_topic_does_not_take_is_refused", narrow_topic),
        ("kafka::an_owner_that_takes_its_time_gets_everything_once_in_order", slow_owner),
        ("kafka::a_long_partition_does_not_starve_a_short_one", long_and_short),
        ("kafka::a_static_member_that_restarts_moves_no_partition", static_member),
    ] {
        let place = place.clone();
        tests.push(Test::new(name, address.clone(), move || {
            test(place);
            Ok(())
        }));
    }
    tests.push(Test::new(
        "kafka::a_broker_that_is_killed_and_comes_back_loses_nothing",
        address,
        killed_broker,
    ));
    tests.push(Test::new("kafka::a_cluster_that_is_not_there_is_named", Ok::<(), String>(()), || {
        nobody_there();
        Ok(())
    }));
    tests
}

/// Topics of its own, and a group that hears of a rebalance soon.
pub(crate) fn config(address: &str, prefix: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(address);
    config.topic_prefix = format!("{prefix}.");
    config.answer_time_max = PATIENCE;
    config.delivery_time_max = PATIENCE * 2;
    config.drain_time_max = DRAIN_LIMIT;
    config.properties.insert("heartbeat.interval.ms".to_owned(), "100".to_owned());
    config
}

pub(crate) async fn open(config: KafkaConfig) -> Grouped {
    let prefix = config.topic_prefix.clone();
    Grouped { queue: KafkaQueue::open(config).await.expect("the broker is there"), prefix }
}

/// A queue whose groups are its own too: those of Kafka are the cluster's.
pub(crate) struct Grouped {
    queue: KafkaQueue,
    prefix: String,
}

impl Grouped {
    fn group(&self, group: &Group) -> Group {
        Group::from(format!("{}{group}", self.prefix))
    }
}

impl Queue for Grouped {
    type Producer = KafkaProducer;
    type Consumer = KafkaConsumer;

    async fn create_topic(&self, spec: &TopicSpec) -> Ending<()> {
        self.queue.create_topic(spec).await
    }

    async fn partitions(&self, topic: &Topic) -> Ending<u32> {
        self.queue.partitions(topic).await
    }

    fn producer(&self) -> KafkaProducer {
        self.queue.producer()
    }

    async fn subscribe(&self, group: &Group, topics: &[Topic]) -> Result<KafkaConsumer, QueueError> {
        self.queue.subscribe(&self.group(group), topics).await
    }

    async fn positions(&self, group: &Group, slot: &Slot) -> Ending<Positions> {
        self.queue.positions(&self.group(group), slot).await
    }

    async fn half_aged(&self, topic: &Topic) -> Ending<Option<Vec<Offset>>> {
        self.queue.half_aged(topic).await
    }

    async fn read_compacted(&self, slot: &Slot) -> Ending<Vec<(Bytes, Bytes)>> {
        self.queue.read_compacted(slot).await
    }
}

/// Makes queues that have nothing in common.
struct Fresh(String);

impl QueueHarness for Fresh {
    type Queue = Grouped;

    async fn queue(&self) -> Grouped {
        open(config(&self.0, &unique())).await
    }
}

/// Opens one queue again and again.
struct One(KafkaConfig);

impl DurableQueueHarness for One {
    type Queue = Grouped;

    async fn open(&self) -> Grouped {
        open(self.0.clone()).await
    }
}

const TOPIC: &str = "backbeat-replication";

/// A queue with one topic of one partition, its name on the wire, and the slot.
async fn with_one_partition(address: &str) -> (Grouped, String, Slot) {
    let queue = open(config(address, &unique())).await;
    applied(queue.create_topic(&TopicSpec::new(TOPIC).partitioned(1)).await);
    let name = format!("{}{TOPIC}", queue.prefix);
    (queue, name, Slot::new(&Topic::from(TOPIC), Partition(0)))
}

async fn subscribe(queue: &Grouped) -> KafkaConsumer {
    queue.subscribe(&Group::from("group"), &[Topic::from(TOPIC)]).await.expect("the topic is there")
}

/// The next event; whatever is revoked is released.
async fn event(consumer: &KafkaConsumer) -> ConsumerEvent {
    let event = consumer.next().await.expect("the consumer works");
    if let ConsumerEvent::Revoked { epoch, .. } = event {
        consumer.release(epoch);
    }
    event
}

async fn message(consumer: &KafkaConsumer) -> Message {
    loop {
        if let ConsumerEvent::Message(message) = event(consumer).await {
            return message;
        }
    }
}

fn number(message: &Message) -> u32 {
    let payload = message.payload.as_ref().expect("it has a payload");
    let text = payload.split(|byte| *byte == b' ').next().expect("there is a first word");
    std::str::from_utf8(text).expect("it is text").parse().expect("it is a number")
}

/// Publishes numbered messages of about `bytes` in one go, and waits for all. What they say is noise: what compresses well
/// is read ahead in one piece, however much it is.
async fn fill(producer: &KafkaProducer, numbers: std::ops::Range<u32>, bytes: usize) {
    let sent: Vec<_> = numbers
        .map(|number| {
            let letters: String =
                noise(number, bytes).into_iter().map(|byte| char::from(b'0' + byte % 64)).collect();
            let text = format!("{number} {letters}");
            producer.publish(&Topic::from(TOPIC), Record::unkeyed(text).at(Partition(0)))
        })
        .collect();
    for publish in sent {
        applied(publish.await);
    }
}

pub(crate) fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", address).create().expect("a client can be made")
}

/// Deletes what is before these offsets of partitions.
pub(crate) async fn delete_before(address: &str, topic: &str, offsets: &[(i32, i64)]) {
    let mut places = TopicPartitionList::new();
    for &(partition, offset) in offsets {
        let offset = rdkafka::Offset::Offset(offset);
        places.add_partition_offset(topic, partition, offset).expect("it is a place");
    }
    admin(address).delete_records(&places, &AdminOptions::new()).await.expect("the broker deletes");
}

/// The time of so many days ago, as messages have it.
pub(crate) fn days_ago(days: i64) -> i64 {
    const DAY_MS: i64 = 24 * 3_600_000;
    let now = std::time::UNIX_EPOCH.elapsed().expect("it is later");
    i64::try_from(now.as_millis()).expect("it fits") - days * DAY_MS
}

fn aging(address: String) {
    const FOR_EVER: &str = "kept";
    run(async {
        let mut config = config(&address, &unique());
        config.retention = Some(Duration::from_hours(10 * 24));
        let queue = Arc::new(open(config).await);
        applied(queue.create_topic(&TopicSpec::new(TOPIC).partitioned(2)).await);
        let for_ever = format!("{}{FOR_EVER}", queue.prefix);
        let topic = NewTopic::new(&for_ever, 1, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let made = admin(&address).create_topics([&topic], &AdminOptions::new()).await;
        assert!(made.expect("the broker answers").iter().all(Result::is_ok));

        let producer: ThreadedProducer<_> =
            ClientConfig::new().set("bootstrap.servers", address).create().expect("a producer can be made");
        let name = format!("{}{TOPIC}", queue.prefix);
        for (topic, partition, days) in [(&name, 0, 6), (&name, 0, 4), (&name, 1, 4), (&for_ever, 0, 400)] {
            let record = BaseRecord::<str, _>::to(topic).partition(partition);
            let record = record.payload("x").timestamp(days_ago(days));
            producer.send(record).map_err(|(error, _)| error).expect("there is room");
        }
        producer.flush(PATIENCE).expect("the broker answers");
        let young = applied(queue.half_aged(&Topic::from(TOPIC)).await);
        assert_eq!(young, Some(vec![Offset(1), Offset(0)]));
        assert_eq!(applied(queue.half_aged(&Topic::from(FOR_EVER)).await), None);

        let (group, metrics) = (Group::from("group"), Registry::default());
        let topics = vec![Topic::from(TOPIC), Topic::from(FOR_EVER)];
        let mut aging = Aging::new(Arc::clone(&queue), group, topics, metrics.clone());
        let old = Slot::new(&Topic::from(TOPIC), Partition(0));
        assert_eq!(aging.look().await, std::slice::from_ref(&old));
        assert_eq!(aging.look().await, [], "it is said once");
        let shown = |partition: u32| {
            let text = metrics.encode();
            let mut lines = text.lines().filter(|line| line.contains("backlog_past_half_retention{"));
            let line = lines.find(|line| line.contains(&format!("partition=\"{partition}\"")));
            line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
        };
        assert_eq!((shown(0).as_deref(), shown(1).as_deref()), (Some("1"), Some("0")));

        let consumer = subscribe(&queue).await;
        let epoch = loop {
            if let ConsumerEvent::Assigned { epoch, .. } = event(&consumer).await {
                break epoch;
            }
        };
        applied(consumer.commit(epoch, &old, Offset(1)).await);
        assert_eq!(aging.look().await, []);
        assert_eq!(shown(0).as_deref(), Some("0"));
    });
}

/// What was said about a message that was refused.
async fn refusal(publish: impl Future<Output = Ending<(Partition, Offset)>>) -> Refusal {
    match publish.await {
        Ending::Refused(refusal) => refusal,
        Ending::Applied(place) => panic!("it was published: {place:?}"),
        Ending::Unknown => panic!("nobody knows"),
    }
}

/// Bytes that cannot be compressed, others for every `seed`.
fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 + u64::from(seed);
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..count).map(step).collect()
}

/// Says where each key went.
struct Where(std::sync::Mutex<BTreeMap<Vec<u8>, i32>>);

impl rdkafka::ClientContext for Where {}

impl rdkafka::producer::ProducerContext for Where {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): ()) {
        let message = result.as_ref().expect("it is delivered");
        let key = message.key().expect("it has a key").to_vec();
        self.0.lock().expect("nobody panicked").insert(key, message.partition());
    }
}

fn partitioner(address: String) {
    const PARTITIONS: u32 = 7;
    run(async move {
        let queue = open(config(&address, &unique())).await;
        applied(queue.create_topic(&TopicSpec::new(TOPIC).partitioned(PARTITIONS)).await);
        let name = format!("{}{TOPIC}", queue.prefix);
        let keys: Vec<String> =
            (0..200).map(|index| format!("bucket-{}/päth%2F {index}", index % 3)).collect();
        let theirs: ThreadedProducer<Where> = ClientConfig::new()
            .set("bootstrap.servers", &address)
            .set("partitioner", "consistent_random")
            .create_with_context(Where(std::sync::Mutex::default()))
            .expect("a producer can be made");
        for key in &keys {
            theirs
                .send(BaseRecord::to(&name).key(key).payload("x"))
                .map_err(|(error, _)| error)
                .expect("it is queued");
        }
        rdkafka::producer::Producer::flush(&theirs, PATIENCE).expect("all is delivered");
        let context = rdkafka::producer::Producer::context(&theirs);
        while context.0.lock().expect("nobody panicked").len() < keys.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let producer = queue.producer();
        for key in keys {
            let (ours, _) =
                applied(producer.publish(&Topic::from(TOPIC), Record::keyed(key.clone(), "x")).await);
            let theirs = context.0.lock().expect("nobody panicked")[key.as_bytes()];
            assert_eq!(i64::from(ours.0), i64::from(theirs), "{key}");
            assert_eq!(ours, partition_of(key.as_bytes(), PARTITIONS), "{key}");
        }
    });
}

fn gone_at_the_start(address: String) {
    run(async move {
        let (queue, name, slot) = with_one_partition(&address).await;
        fill(&queue.producer(), 0..10, 0).await;
        let first = subscribe(&queue).await;
        let taken = message(&first).await;
        applied(first.commit(taken.epoch, &slot, Offset(3)).await);
        first.leave().await;
        delete_before(&address, &name, &[(0, 7)]).await;
        let second = subscribe(&queue).await;
        let ConsumerEvent::Assigned { epoch, partitions } = event(&second).await else {
            panic!("no assignment")
        };
        assert_eq!(partitions, [(slot.clone(), Offset(7))]);
        let gone = ConsumerEvent::Gone { epoch, slot: slot.clone(), from: Offset(3), upto: Offset(7) };
        assert_eq!(event(&second).await, gone);
        assert_eq!(number(&message(&second).await), 7);
        // A group that never was here has missed nothing: it begins with the oldest message.
        let other = queue.subscribe(&Group::from("other"), &[Topic::from(TOPIC)]).await.expect("it is there");
        assert!(matches!(event(&other).await, ConsumerEvent::Assigned { .. }));
        assert_eq!(number(&message(&other).await), 7);
    });
}

fn gone_while_reading(address: String) {
    const COUNT: u32 = 6_000;
    run(async move {
        let (queue, name, slot) = with_one_partition(&address).await;
        fill(&queue.producer(), 0..COUNT, 8_000).await;
        let consumer = subscribe(&queue).await;
        // More waits for this owner than is read ahead; meanwhile all but the last ten messages are deleted.
        assert_eq!(number(&message(&consumer).await), 0);
        delete_before(&address, &name, &[(0, i64::from(COUNT) - 10)]).await;
        let mut next = 1;
        let (from, upto) = loop {
            match event(&consumer).await {
                ConsumerEvent::Message(message) => {
                    assert_eq!(number(&message), next);
                    next += 1;
                }
                ConsumerEvent::Gone { slot: gone, from, upto, .. } => {
                    assert_eq!(gone, slot);
                    break (from, upto);
                }
                other @ (ConsumerEvent::Assigned { .. }
                | ConsumerEvent::Revoked { .. }
                | ConsumerEvent::Lost { .. }) => {
                    panic!("unexpected: {other:?}")
                }
            }
        };
        assert_eq!(upto, Offset(u64::from(COUNT) - 10));
        assert!(from < upto && from >= Offset(u64::from(next)), "{from:?} {next}");
        // What had been read before still comes, everything behind the gap after it.
        let mut numbers = Vec::new();
        while numbers.last() != Some(&(COUNT - 1)) {
            numbers.push(number(&message(&consumer).await));
        }
        let expected = (u64::from(next)..from.0).chain(upto.0..u64::from(COUNT));
        assert!(numbers.into_iter().map(u64::from).eq(expected), "{next} {from:?} {upto:?}");
    });
}

fn grown(address: String) {
    run(async move {
        let (queue, name, _) = with_one_partition(&address).await;
        let consumer = subscribe(&queue).await;
        assert!(matches!(event(&consumer).await, ConsumerEvent::Assigned { .. }));
        let grown = NewPartitions::new(&name, 3);
        admin(&address).create_partitions([&grown], &AdminOptions::new()).await.expect("the topic grows");
        let error = loop {
            match consumer.next().await {
                Ok(ConsumerEvent::Revoked { epoch, .. }) => consumer.release(epoch),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let topic = Topic::from(TOPIC);
        assert_eq!(error, QueueError::PartitionsChanged { topic: topic.clone(), expected: 1, found: 3 });
        let refused_one = refusal(queue.producer().publish(&topic, Record::keyed("key", "x"))).await;
        assert_eq!(refused_one.kind, RefusalKind::Invalid);
        assert!(refused_one.code.contains("had 1 partitions"), "{}", refused_one.code);
        // Told otherwise: a process that starts with the new number.
        let prefix = queue.prefix.trim_end_matches('.').to_owned();
        let again = open(config(&address, &prefix)).await;
        assert_eq!(
            refused(again.create_topic(&TopicSpec::new(TOPIC).partitioned(1)).await),
            RefusalKind::Conflict
        );
        applied(again.create_topic(&TopicSpec::new(TOPIC).partitioned(3)).await);
        applied(again.producer().publish(&topic, Record::keyed("key", "x")).await);
        subscribe(&again).await.leave().await;
    });
}

fn narrow_topic(address: String) {
    run(async move {
        let queue = open(config(&address, &unique())).await;
        let name = format!("{}{TOPIC}", queue.prefix);
        // As somebody else makes it: with the cluster's own limit, 1 MiB.
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        admin(&address).create_topics([&topic], &AdminOptions::new()).await.expect("the topic is made");
        applied(queue.create_topic(&TopicSpec::new(TOPIC).partitioned(1)).await);
        let producer = queue.producer();
        let (topic, bytes) = (Topic::from(TOPIC), noise(0, 2_000_000));
        let too_large = refusal(producer.publish(&topic, Record::keyed("key", bytes))).await;
        assert_eq!(too_large.kind, RefusalKind::TooLarge);
        assert!(too_large.code.contains(&name) && too_large.code.contains("2000003"), "{}", too_large.code);
        let far_too_large = refusal(producer.publish(&topic, Record::keyed("key", vec![0; 5_000_020]))).await;
        assert_eq!(far_too_large.kind, RefusalKind::TooLarge);
        for part in [name.as_str(), "5000023", "5000020"] {
            assert!(far_too_large.code.contains(part), "{}", far_too_large.code);
        }
        applied(queue.producer().publish(&topic, Record::keyed("key", "small")).await);
    });
}

fn slow_owner(address: String) {
    const COUNT: u32 = 12_000;
    run(async move {
        let (queue, _, slot) = with_one_partition(&address).await;
        let producer = queue.producer();
        fill(&producer, 0..COUNT / 2, 1_500).await;
        let consumer = subscribe(&queue).await;
        for expected in 0..COUNT {
            if expected == COUNT / 3 {
                consumer.pause(std::slice::from_ref(&slot));
                fill(&producer, COUNT / 2..COUNT, 1_500).await;
                consumer.resume(std::slice::from_ref(&slot));
            }
            let message = message(&consumer).await;
            assert_eq!((number(&message), message.offset), (expected, Offset(u64::from(expected))));
        }
    });
}

fn long_and_short(address: String) {
    const COUNT: u32 = 20_000;
    run(async move {
        let queue = open(config(&address, &unique())).await;
        let topic = Topic::from(TOPIC);
        applied(queue.create_topic(&TopicSpec::new(TOPIC).partitioned(2)).await);
        let producer = queue.producer();
        fill(&producer, 0..COUNT, 200).await;
        applied(producer.publish(&topic, Record::unkeyed("0").at(Partition(1))).await);
        let consumer = subscribe(&queue).await;
        let mut before = 0;
        while message(&consumer).await.slot.partition == Partition(0) {
            before += 1;
            assert!(before < COUNT, "it came last");
        }
    });
}

fn static_member(address: String) {
    run(async move {
        let prefix = unique();
        let named = |name: &str| {
            let mut config = config(&address, &prefix);
            config.member = Some(name.to_owned());
            config
        };
        let (one, two) = (open(named("one")).await, open(named("two")).await);
        applied(one.create_topic(&TopicSpec::new(TOPIC)).await);
        let first = subscribe(&one).await;
        let second = subscribe(&two).await;
        let (mut mine, mut theirs) = (0, 0);
        while mine != 2 || theirs != 2 {
            let (member, event) = tokio::select! {
                event = event(&first) => (&mut mine, event),
                event = event(&second) => (&mut theirs, event),
            };
            if let ConsumerEvent::Assigned { partitions, .. } = event {
                *member = partitions.len();
            }
        }
        first.leave().await;
        let again = subscribe(&one).await;
        let restarted = async {
            loop {
                if let ConsumerEvent::Assigned { partitions, .. } = event(&again).await {
                    return partitions.len();
                }
            }
        };
        tokio::select! {
            biased;
            other = event(&second) => panic!("the other member hears of it: {other:?}"),
            own = restarted => assert_eq!(own, 2),
        }
    });
}

/// In the middle of publishing and consuming.
fn killed_broker() -> Result<()> {
    const COUNT: u32 = 4_000;
    let broker = OwnKafka::start()?;
    let address = broker.address();
    run(async move {
        let (queue, _, slot) = with_one_partition(&address).await;
        let producer = queue.producer();
        let consumer = subscribe(&queue).await;
        let publishing = tokio::spawn(async move {
            let mut under_way = std::collections::VecDeque::new();
            for number in 0..COUNT {
                let record = Record::keyed("one", number.to_string());
                under_way.push_back(producer.publish(&Topic::from(TOPIC), record));
                if under_way.len() == 100 {
                    applied(under_way.pop_front().expect("there are many").await);
                }
            }
            for publish in under_way {
                applied(publish.await);
            }
        });
        let (mut broker, mut broker_back) = (Some(broker), None);
        let (mut next, mut began) = (0, false);
        let mut commits = 0;
        while next < COUNT {
            match event(&consumer).await {
                // What was not committed comes again, and nothing is left out.
                ConsumerEvent::Assigned { partitions, .. } => {
                    let start = u32::try_from(partitions[0].1.0).expect("it is small");
                    assert!(start <= next, "{start} {next}");
                    (next, began) = (start, true);
                }
                ConsumerEvent::Message(message) => {
                    assert!(began);
                    assert_eq!(number(&message), next);
                    next += 1;
                    if next % 100 == 0 {
                        let ending = consumer.commit(message.epoch, &slot, message.offset.next()).await;
                        commits += u32::from(matches!(ending, Ending::Applied(())));
                    }
                }
                ConsumerEvent::Revoked { .. } | ConsumerEvent::Lost { .. } => began = false,
                gone @ ConsumerEvent::Gone { .. } => panic!("lost: {gone:?}"),
            }
            if next == COUNT / 4
                && let Some(mut broker) = broker.take()
            {
                broker.kill().expect("it is killed");
                broker_back = Some(tokio::task::spawn_blocking(move || {
                    std::thread::sleep(Duration::from_millis(500));
                    broker.resume().expect("it starts again");
                    broker
                }));
            }
        }
        publishing.await.expect("all is published");
        assert!(commits > 0);
        let positions = applied(queue.positions(&Group::from("group"), &slot).await);
        assert_eq!(positions.end, Offset(u64::from(COUNT)), "nothing is there twice");
        drop(broker_back.expect("it was killed").await.expect("it came back"));
    });
    Ok(())
}

fn nobody_there() {
    run(async {
        let mut config = KafkaConfig::new("127.0.0.1:1");
        config.answer_time_max = Duration::from_millis(300);
        let error = KafkaQueue::open(config).await.err().expect("nobody answers").to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
        let mut config = KafkaConfig::new("127.0.0.1:1");
        config.properties.insert("compression.type".to_owned(), "none".to_owned());
        let error = KafkaQueue::open(config).await.err().expect("it is refused").to_string();
        assert!(error.contains("compression.type"), "{error}");
    });
}
