//! Populators as processes that read a change stream in Kafka: shared between two of them, taken over from upstream's group, and
//! handed back to it.

use crate::change_stream::{document, make_topic, producer, write_to};
use crate::daemons::{System, fails, places};
use crate::kafka::{admin, delete_before};
use anyhow::{Context as _, Result, bail, ensure};
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::coordination::zookeeper::{ZooKeeperConfig, ZooKeeperSession};
use backbeat_backends::coordination::{Coordination as _, NodePath};
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::services::Services;
use backbeat_tests::suite::Test;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::FutureProducer;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(100);
const BUCKET: &str = "photos";

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let known = places(services);
    let test = |name, test: fn(&Places) -> Result<()>| {
        let places = known.clone();
        Test::new(name, known.clone(), move || {
            test(&places.clone().unwrap_or_else(|missing| panic!("{missing}")))
        })
    };
    vec![
        test("change_stream::two_populators_share_its_partitions_and_one_succeeds_the_other", shared),
        test("change_stream::it_is_begun_behind_upstreams_group_and_handed_back_to_it", handed_over),
        test("change_stream::what_cannot_be_read_is_named_with_its_key", named),
    ]
}

/// A fleet whose source is a change stream of its own, with whoever writes it and looks.
struct Stream {
    system: System,
    kafka: String,
    topic: String,
    group: String,
    producer: FutureProducer,
}

impl Stream {
    async fn start(places: &Places, partitions: i32) -> Result<Self> {
        let mut system = System::start(places)?;
        let topic = make_topic(&places.kafka, partitions).await;
        let group = format!("{topic}-group");
        system.fleet.configure("/queuePopulator/logSource", json!("kafka"))?;
        let section = json!({"topic": topic, "consumerGroupId": group});
        system.fleet.configure("/queuePopulator/kafka", section)?;
        Ok(Self { system, kafka: places.kafka.clone(), producer: producer(&places.kafka), topic, group })
    }

    async fn session(&self) -> Result<ZooKeeperSession> {
        let place = &*self.system.zookeeper;
        let config = ZooKeeperConfig { makes_namespace: true, ..ZooKeeperConfig::new(place) };
        Ok(ZooKeeperSession::connect(&config).await?)
    }

    /// Writes documents that are to be replicated, with these numbers in their keys.
    async fn write(&self, partition: i32, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let value = json!({"versionId": "v1", "replicationInfo": {"status": "PENDING",
                "backends": [{"site": "paris", "status": "PENDING", "dataStoreVersionId": ""}],
                "content": ["METADATA"], "storageClass": "paris"}});
            let key = format!("\u{7f}Vk{partition}.{number}\0v1");
            write_to(&self.producer, &self.topic, partition, &document(BUCKET, &key, &value)).await;
        }
    }

    /// How often each key is queued.
    fn queued(&self) -> Result<BTreeMap<String, u32>> {
        let topic = format!("{}backbeat-replication", self.system.fleet.topic_prefix());
        let client: BaseConsumer = self.client("nobody")?;
        let metadata = client.fetch_metadata(Some(&topic), TIME_MAX)?;
        let mut keys = BTreeMap::new();
        for partition in metadata.topics()[0].partitions() {
            let (oldest, end) = client.fetch_watermarks(&topic, partition.id(), TIME_MAX)?;
            let mut place = TopicPartitionList::new();
            place.add_partition_offset(&topic, partition.id(), Offset::Offset(oldest))?;
            client.assign(&place)?;
            let mut next = oldest;
            while next < end {
                let message = message(&client)?;
                next = message.offset() + 1;
                let key = String::from_utf8(message.key().context("it has a key")?.to_vec())?;
                *keys.entry(key).or_default() += 1;
            }
        }
        Ok(keys)
    }

    /// Waits until these numbers of these partitions are queued, each once, and nothing else.
    async fn wait_for(&self, wanted: &Numbers) -> Result<()> {
        self.wait_for_more(&BTreeMap::new(), wanted).await
    }

    /// Waits until these numbers of these partitions are queued, each once, and besides them only what was queued `before`, as often
    /// as it was.
    async fn wait_for_more(&self, before: &BTreeMap<String, u32>, wanted: &Numbers) -> Result<()> {
        let mut wanted: BTreeMap<String, u32> = keys(wanted).map(|key| (key, 1)).collect();
        wanted.extend(before.clone());
        let is_wanted = async || {
            let queued = self.queued()?;
            Ok((queued == wanted, queued))
        };
        wait(&wanted, is_wanted).await
    }

    /// Waits until these numbers of these partitions are queued, and nothing else.
    async fn wait_for_all(&self, wanted: &Numbers) -> Result<()> {
        let wanted: BTreeSet<String> = keys(wanted).collect();
        let is_wanted = async || {
            let queued = self.queued()?;
            Ok((queued.keys().eq(&wanted), queued))
        };
        wait(&wanted, is_wanted).await
    }

    fn client(&self, group: &str) -> Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka).set("group.id", group);
        // As upstream's populator.
        config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        Ok(config.create()?)
    }

    /// What upstream's group has committed, by partition.
    fn committed(&self) -> Result<BTreeMap<i32, i64>> {
        let client = self.client(&self.group)?;
        let metadata = client.fetch_metadata(Some(&self.topic), TIME_MAX)?;
        let mut places = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            places.add_partition(&self.topic, partition.id());
        }
        let committed = client.committed_offsets(places, TIME_MAX)?;
        let offset = |place: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            Some((place.partition(), place.offset().to_raw().filter(|offset| *offset >= 0)?))
        };
        Ok(committed.elements().into_iter().filter_map(offset).collect())
    }

    /// Commits as upstream's group.
    fn commit(&self, partition: i32, offset: i64) -> Result<()> {
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        Ok(self.client(&self.group)?.commit(&place, CommitMode::Sync)?)
    }
}

/// Partitions, and the numbers in the keys of their documents.
type Numbers = [(i32, std::ops::Range<u32>)];

fn keys(numbers: &Numbers) -> impl Iterator<Item = String> {
    let key = |partition, number| format!("{BUCKET}%2Fk{partition}.{number}");
    numbers
        .iter()
        .flat_map(move |(partition, numbers)| numbers.clone().map(move |number| key(*partition, number)))
}

/// Waits until what is queued is what is wanted.
async fn wait<F>(wanted: &impl Debug, look: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<(bool, BTreeMap<String, u32>)>>,
{
    let until = Instant::now() + TIME_MAX;
    loop {
        let (done, queued) = look().await?;
        if done {
            return Ok(());
        }
        ensure!(Instant::now() < until, "queued is {queued:?}, not {wanted:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The next message; what else there is to say comes before.
fn message(client: &BaseConsumer) -> Result<OwnedMessage> {
    let until = Instant::now() + TIME_MAX;
    while Instant::now() < until {
        if let Some(message) = client.poll(LOOK) {
            return Ok(message?.detach());
        }
    }
    bail!("no message comes")
}

/// Waits until `look` says yes.
async fn until<F: Future<Output = Result<bool>>>(what: &str, look: impl Fn() -> F) -> Result<()> {
    let until = Instant::now() + TIME_MAX;
    while !look().await? {
        ensure!(Instant::now() < until, "not yet: {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn position_of(partition: i32) -> Result<NodePath> {
    let log = format!("kafka_s3-recordlog_{partition}");
    Ok(NodePath::new(&format!("/queue-populator/queue-populator/logState/{log}/logOffset"))?)
}

/// Waits until the position of a partition is stored.
async fn stored(session: &ZooKeeperSession, partition: i32, position: u64) -> Result<()> {
    let node = position_of(partition)?;
    let is_stored = async || {
        let read = session.read(&node).await;
        let data = read.map(|node| String::from_utf8_lossy(&node.data).into_owned());
        Ok(data == backbeat_core::call::Ending::Applied(position.to_string()))
    };
    until(&format!("partition {partition} is at {position}"), is_stored).await
}

/// How many partitions each populator has.
async fn shares(session: &ZooKeeperSession) -> Result<Vec<usize>> {
    let owners = NodePath::new("/queue-populator/kafka-dispatcher/owners")?;
    let mut shares = Vec::new();
    for owner in applied(session.children(&owners).await) {
        let data = applied(session.read(&owners.child(&owner)?).await).data;
        shares.push(serde_json::from_slice::<Vec<Value>>(&data)?.len());
    }
    shares.sort_unstable();
    Ok(shares)
}

fn shared(places: &Places) -> Result<()> {
    let mut done = Ok(());
    let share = async {
        let mut stream = Stream::start(places, 2).await?;
        let fleet = &stream.system.fleet;
        let one = fleet.start_ready(&["queue-populator"])?;
        let other = fleet.start_ready(&["queue-populator"])?;
        let session = stream.session().await?;
        until("each has a partition", async || Ok(shares(&session).await? == [1, 1])).await?;

        for partition in [0, 1] {
            stream.write(partition, 0..10).await;
        }
        // Until the first hears that it has lost a partition, both may queue what is written there.
        stream.wait_for_all(&[(0, 0..10), (1, 0..10)]).await?;
        for partition in [0, 1] {
            stored(&session, partition, 10).await?;
        }

        one.kill()?;
        let before = stream.queued()?;
        for partition in [0, 1] {
            stream.write(partition, 10..20).await;
        }
        stream.wait_for_more(&before, &[(0, 10..20), (1, 10..20)]).await?;

        // A partition that comes later.
        let more = [NewPartitions::new(&stream.topic, 3)];
        let more = admin(&stream.kafka).create_partitions(&more, &AdminOptions::new()).await?;
        ensure!(more.iter().all(Result::is_ok), "{more:?}");
        // One that knows of it.
        stream.producer = producer(&stream.kafka);
        stream.write(2, 0..5).await;
        stream.wait_for_more(&before, &[(0, 10..20), (1, 10..20), (2, 0..5)]).await?;

        Fleet::terminate(other)?;
        let committed = stream.committed()?;
        ensure!(committed == BTreeMap::from([(0, 20), (1, 20), (2, 5)]), "{committed:?}");
        anyhow::Ok(())
    };
    run(async { done = share.await });
    done
}

fn handed_over(places: &Places) -> Result<()> {
    let mut done = Ok(());
    let hand_over = async {
        let mut stream = Stream::start(places, 3).await?;
        stream.system.fleet.configure("/queuePopulator/batchMaxRead", json!(4))?;
        for partition in [0, 1, 2] {
            stream.write(partition, 0..10).await;
        }
        // Upstream's group was in the middle of one partition, too late in another, and not yet at the third.
        stream.commit(1, 6)?;
        stream.commit(0, 1)?;
        delete_before(&stream.kafka, &stream.topic, &[(0, 3)]).await;

        let fleet = &stream.system.fleet;
        let populator = fleet.start_ready(&["queue-populator"])?;
        let wanted = [(0, 3..10), (1, 2..10), (2, 0..10)];
        stream.wait_for(&wanted).await?;
        let session = stream.session().await?;
        for partition in [0, 1, 2] {
            stored(&session, partition, 10).await?;
        }
        let lost = NodePath::new("/queue-populator/queue-populator/logState/kafka_s3-recordlog_0/logLost")?;
        let lost = String::from_utf8(applied(session.read(&lost).await).data.to_vec())?;
        ensure!(lost.contains('1') && lost.contains('3'), "{lost}");
        Fleet::terminate(populator)?;
        let committed = stream.committed()?;
        ensure!(committed == BTreeMap::from([(0, 10), (1, 10), (2, 10)]), "{committed:?}");

        // Upstream is put back: it reads what is new, and nothing else.
        stream.write(1, 10..11).await;
        let upstream = stream.client(&stream.group)?;
        upstream.subscribe(&[&stream.topic])?;
        let first = message(&upstream)?;
        ensure!((first.partition(), first.offset()) == (1, 10), "{first:?}");

        // Ours goes on beside it all the same, and says so.
        let populator = fleet.start_ready(&["queue-populator"])?;
        let wanted = [(0, 3..10), (1, 2..11), (2, 0..10)];
        stream.wait_for(&wanted).await?;
        let polled = || drop(upstream.poll(Duration::ZERO));
        until("it is said that the group has members", async || {
            polled();
            Ok(std::fs::read_to_string(fleet.log())?.contains("upstream's group has members"))
        })
        .await?;
        stored(&session, 1, 11).await?;
        Fleet::terminate(populator)?;
        let committed = stream.committed()?;
        ensure!(committed == BTreeMap::from([(0, 10), (1, 10), (2, 10)]), "{committed:?}");
        anyhow::Ok(())
    };
    run(async { done = hand_over.await });
    done
}

fn named(places: &Places) -> Result<()> {
    let mut system = System::start(places)?;
    let populator = &["queue-populator"];
    system.fleet.configure("/queuePopulator/logSource", json!("kafka"))?;
    let (code, line) = fails(&system.fleet, populator)?;
    ensure!(code == Some(2) && line.contains("queuePopulator.kafka: missing"), "{code:?}: {line}");
    system.fleet.configure("/queuePopulator/kafka", json!({"topic": ""}))?;
    let (code, line) = fails(&system.fleet, populator)?;
    ensure!(code == Some(2) && line.contains("queuePopulator.kafka.topic: must be text"), "{code:?}: {line}");
    let nowhere = format!("{}nowhere", system.fleet.topic_prefix());
    system.fleet.configure("/queuePopulator/kafka", json!({"replication": {"topic": nowhere}}))?;
    let (code, line) = fails(&system.fleet, populator)?;
    let wanted = format!("queuePopulator.kafka.topic: there is no topic {nowhere}");
    ensure!(code == Some(5) && line.contains(&wanted), "{code:?}: {line}");
    Ok(())
}
