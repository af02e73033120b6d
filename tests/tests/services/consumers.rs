//! The consumers of topics that have no machine, and the pause of a site, over the real services.

use crate::zookeeper::{Folder, open};
use crate::{kafka, redis as redis_suite};
use anyhow::Result;
use backbeat::consumers::{
    DataMoverWork, FailureWork, Membership, MetricsWork, Repair, RepairSchedule, Work, start,
};
use backbeat::driver::counters::{COUNTER_LIFE, Counters, INTERVAL_MS, interval_key};
use backbeat::driver::{Publisher, exceptions};
use backbeat::metrics::Registry;
use backbeat::pause::{PausePlace, follow};
use backbeat_backends::clock::WallClock;
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::coordination::Coordination as _;
use backbeat_backends::coordination::conformance::CoordinationHarness as _;
use backbeat_backends::coordination::lasting::{Lasting, Sessions};
use backbeat_backends::coordination::zookeeper::ZooKeeperSession;
use backbeat_backends::queue::{Consumer, ConsumerEvent, Group, Queue, Record, Retention, Slot, TopicSpec};
use backbeat_backends::stats::redis::RedisStats;
use backbeat_backends::stats::{ScoreRange, Stats as _};
use backbeat_core::call::Ending;
use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::{Offset, Partition, Topic};
use backbeat_core::model::{FailureRecord, MetricKind, ObjectRef, SiteMetric, VersionRef};
use backbeat_core::time::WallTime;
use backbeat_tests::services::{OwnRedis, Services, redis_program, unique};
use backbeat_tests::suite::Test;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const PARTITIONS: u32 = 4;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let with_redis = |name: &str| services.address(name).and_then(|place| redis_program().map(|_| place));
    let (queue, tree) = (with_redis("KAFKA"), with_redis("ZOOKEEPER"));
    let kafka = services.address("KAFKA");
    let at_kafka = kafka.clone().unwrap_or_default();
    let (at_queue, at_tree) = (queue.clone().unwrap_or_default(), tree.clone().unwrap_or_default());
    vec![
        Test::new(
            "consumers::counts_and_failures_wait_for_redis_and_failures_survive_that_it_is_emptied",
            queue,
            move || counts_and_failures(&at_queue),
        ),
        Test::new(
            "consumers::the_data_mover_answers_within_the_group_of_its_sites_processor",
            kafka,
            move || {
                data_mover(&at_kafka);
                Ok(())
            },
        ),
        Test::new(
            "consumers::a_site_is_paused_and_resumed_through_the_real_node_and_channel",
            tree,
            move || paused_and_resumed(&at_tree),
        ),
    ]
}

fn now() -> WallTime {
    WallClock::system().now()
}

/// What an interval counter counts: the interval may have ended meanwhile.
async fn counted(stats: &RedisStats, base: &str) -> i64 {
    let before = WallTime::from_millis(now().as_millis() - INTERVAL_MS);
    let keys = [interval_key("paris", base, now()), interval_key("paris", base, before)];
    let values = applied(stats.values(&[&*keys[0], &*keys[1]]).await);
    let number = |value: Bytes| String::from_utf8_lossy(&value).parse::<i64>().expect("a number");
    values.into_iter().flatten().map(number).sum()
}

async fn consume<Q: Queue, W: Work>(
    queue: &Q,
    group: &str,
    topic: &str,
    work: W,
) -> impl Future<Output = ()> {
    let membership = Membership {
        group: group.into(),
        topics: vec![topic.into()],
        drain_max: Duration::from_secs(10),
        paused: None,
    };
    let (handle, task) =
        start(queue, membership, work, Registry::default()).await.expect("the topic is there");
    async move {
        assert!(handle.is_running());
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
    }
}

fn counts_and_failures(address: &str) -> Result<()> {
    let mut server = OwnRedis::start(&[])?;
    // Nothing is there when the consumers begin.
    server.kill()?;
    run(async {
        let queue = Arc::new(kafka::open(kafka::config(address, &unique())).await);
        for topic in ["metrics", "failed"] {
            applied(queue.create_topic(&TopicSpec::new(topic)).await);
        }
        let kept = TopicSpec::new("exceptions").kept(Retention::LatestPerKey);
        applied(queue.create_topic(&kept.partitioned(PARTITIONS)).await);
        let (wall, stats) = (WallClock::system(), Arc::new(RedisStats::new(redis_suite::config_of(&server))));
        let publisher = Publisher::new(Arc::clone(&queue), Registry::default());
        let metrics = MetricsWork::new(Arc::clone(&stats), wall.clone());
        let metrics_end = consume(&*queue, "backbeat-metrics-group-crr", "metrics", metrics).await;
        let failures = FailureWork::new(Arc::clone(&stats), wall.clone());
        let failures_end = consume(&*queue, "backbeat-retry-group", "failed", failures).await;

        let (counters, counting) =
            Counters::publishing(publisher.clone(), Topic::from("metrics"), wall.clone());
        for _ in 0..50 {
            counters.count(SiteMetric::of_site(MetricKind::Queued, "paris".into(), 1, 10));
            counters.count(SiteMetric::of_site(MetricKind::Completed, "paris".into(), 1, 10));
        }
        drop(counters);
        counting.await.expect("no panic");
        // As upstream's processors publish them, and something that nobody can read.
        let object = r#"{"timestamp":1795193366571,"bytes":1000,"extension":"crr","type":"completed","site":"paris","bucketName":"b","objectKey":"one","versionId":"3938"}"#;
        for message in [object, "what?"] {
            applied(publisher.publish(&Topic::from("metrics"), Record::unkeyed(message)).await);
        }
        let lost = ObjectRef::new("photos", "a:b", VersionRef::Null);
        let failure = FailureRecord::new(&lost, &"paris".into(), now());
        for message in ["{}".to_owned(), failure.to_message()] {
            applied(publisher.publish(&Topic::from("failed"), Record::unkeyed(message)).await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.resume().expect("it starts again");
        // A connection of its own: for a while after a failure nobody else's is tried again.
        let stats = Arc::new(RedisStats::new(redis_suite::config_of(&server)));
        while applied(stats.sorted_score(&failure.key, &failure.member).await) != Some(failure.score)
            || counted(&stats, "bb:crr:opsdone").await < 50
        {
            tokio::time::sleep(LOOK).await;
        }
        // Counts of the two kinds may come in batches of their own, and each batch is several additions.
        let of_object = async || {
            let back = |ms| WallTime::from_millis(now().as_millis() - ms);
            let key = |ms| interval_key("paris:b:one:3938", "bb:crr:object:bytesdone", back(ms));
            let values = applied(stats.values(&[&*key(0), &*key(INTERVAL_MS)]).await);
            values.into_iter().flatten().next()
        };
        let pending = async || applied(stats.values(&["paris:bb:crr:opspending"]).await).remove(0);
        while counted(&stats, "bb:crr:ops").await < 50
            || pending().await.as_deref() != Some(&b"0"[..])
            || of_object().await.as_deref() != Some(&b"1000"[..])
        {
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(counted(&stats, "bb:crr:bytesdone").await, 500, "bytes of objects are not the site's");
        metrics_end.await;
        failures_end.await;

        repaired(&queue, &publisher, &stats, &server, &lost).await;
    });
    Ok(())
}

/// The failure is a record of the exceptions topic: an emptied Redis has it again soon.
async fn repaired<Q: Queue>(
    queue: &Arc<Q>,
    publisher: &Publisher<Q>,
    stats: &Arc<RedisStats>,
    server: &OwnRedis,
    lost: &ObjectRef,
) {
    let at = now();
    let record = ExceptionRecord {
        site: "paris".into(),
        object: lost.clone(),
        state: ExceptionState::Failed,
        reason: "TargetUnavailable".to_owned(),
        attempts: 1,
        first: at,
        last: at,
        next: None,
        deposit: None,
    };
    let message = exceptions::to_message(&record, PARTITIONS);
    applied(publisher.publish(&Topic::from("exceptions"), message).await);
    let listed = FailureRecord::new(lost, &"paris".into(), at);
    let mut direct = redis_suite::direct(&format!("127.0.0.1:{}", server.port())).await;
    redis::cmd("FLUSHALL").query_async::<()>(&mut direct).await.expect("it is emptied");
    let is_listed = async || {
        let all = applied(stats.sorted_range(&listed.key, ScoreRange::ALL).await);
        all.iter().any(|entry| entry.member == listed.member)
    };
    assert!(!is_listed().await);
    let repair = Repair {
        queue: Arc::clone(queue),
        exceptions_topic: Topic::from("exceptions"),
        partitions: PARTITIONS,
        stats: Arc::clone(stats),
        clock: WallClock::system(),
    };
    let schedule = RepairSchedule { mark: Duration::from_millis(100), everything: Duration::from_hours(1) };
    let repairing = tokio::spawn(repair.run(schedule));
    for _ in 0..2 {
        while !is_listed().await {
            tokio::time::sleep(LOOK).await;
        }
        let life: i64 =
            redis::cmd("TTL").arg(&listed.key).query_async(&mut direct).await.expect("it answers");
        assert!(
            life > 0 && life <= i64::try_from(COUNTER_LIFE.as_millis()).expect("a day") / 1_000,
            "{life}"
        );
        redis::cmd("FLUSHALL").query_async::<()>(&mut direct).await.expect("it is emptied");
    }
    repairing.abort();
}

/// Reads and commits so many messages of a topic, whatever else its group reads. What is not committed because the group
/// changes comes again.
async fn read_all<C: Consumer>(consumer: &C, count: u64) {
    let mut done: BTreeMap<Slot, Offset> = BTreeMap::new();
    while done.values().map(|upto| upto.0).sum::<u64>() < count {
        match consumer.next().await.expect("the consumer works") {
            ConsumerEvent::Revoked { epoch, .. } => consumer.release(epoch),
            ConsumerEvent::Message(message) => {
                let upto = message.offset.next();
                if consumer.commit(message.epoch, &message.slot, upto).await == Ending::Applied(()) {
                    done.insert(message.slot, upto);
                }
            }
            ConsumerEvent::Assigned { .. } | ConsumerEvent::Lost { .. } => {}
            event @ ConsumerEvent::Gone { .. } => panic!("{event:?}"),
        }
    }
}

fn data_mover(address: &str) {
    const COUNT: u64 = 20;
    run(async {
        let queue = Arc::new(kafka::open(kafka::config(address, &unique())).await);
        for topic in ["replication", "mover", "results"] {
            applied(queue.create_topic(&TopicSpec::new(topic)).await);
        }
        let publisher = Publisher::new(Arc::clone(&queue), Registry::default());
        let group = Group::from("backbeat-replication-group-cold");
        let work = DataMoverWork::new("cold".into(), publisher.clone(), WallClock::system());
        let end = consume(&*queue, group.as_str(), "mover", work).await;
        let processor = queue.subscribe(&group, &["replication".into()]).await.expect("the topic is there");
        let results = queue.subscribe(&"results".into(), &["results".into()]).await.expect("it is there");
        for number in 0..COUNT {
            let key = format!("b/{number}");
            let request = format!(
                r#"{{"actionId":"{number}","action":"copyLocation","target":{{"bucket":"b","key":"{number}"}},"toLocation":"cold","resultsTopic":"results"}}"#
            );
            for (topic, message) in [("mover", request), ("replication", "{}".to_owned())] {
                applied(publisher.publish(&topic.into(), Record::keyed(key.clone(), message)).await);
            }
        }
        tokio::join!(read_all(&processor, COUNT), read_all(&results, COUNT));
        let committed = async |topic: &str| {
            let mut sum = 0;
            for partition in 0..PARTITIONS {
                let slot = Slot::new(&topic.into(), Partition(partition));
                let at = applied(queue.positions(&group, &slot).await);
                sum += at.committed.unwrap_or_default().0;
            }
            sum
        };
        while committed("mover").await < COUNT {
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(committed("replication").await, COUNT);
        processor.leave().await;
        end.await;
    });
}

async fn until(paused: &mut watch::Receiver<bool>, wanted: bool) {
    paused.wait_for(|paused| *paused == wanted).await.expect("it is followed");
}

/// Opens sessions, and keeps them at hand.
struct Remembering {
    folder: Arc<Folder>,
    opened: Arc<Mutex<Vec<Arc<ZooKeeperSession>>>>,
}

impl Sessions for Remembering {
    type Session = ZooKeeperSession;
    type Error = std::convert::Infallible;

    async fn open(&self) -> Result<Arc<ZooKeeperSession>, Self::Error> {
        let session = Arc::new(self.folder.connect().await);
        self.opened.lock().expect("nobody panicked").push(Arc::clone(&session));
        Ok(session)
    }
}

fn paused_and_resumed(address: &str) -> Result<()> {
    let mut server = OwnRedis::start(&[])?;
    let folder = Arc::new(Folder::at(address));
    run(async {
        let place = PausePlace::of_site("backbeat-replication", "paris").expect("a usable name");
        let others = RedisStats::new(redis_suite::config_of(&server));
        let order = async |message: &'static str| {
            applied(others.publish(&place.channel, Bytes::from_static(message.as_bytes())).await);
        };
        let observer = open(&folder.config).await;
        let stored = async || {
            let node = applied(observer.read(&place.node).await);
            String::from_utf8(node.data.to_vec()).expect("it is text")
        };
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let opener = Remembering { folder: Arc::clone(&folder), opened: Arc::clone(&sessions) };
        let Ok(lasting) = Lasting::open(opener).await;
        let stats = Arc::new(RedisStats::new(redis_suite::config_of(&server)));
        let followed = follow(place.clone(), Arc::new(lasting), stats, WallClock::system()).await;
        let (mut paused, _task) = followed.expect("the state is known");
        assert_eq!(stored().await, r#"{"paused":false}"#);
        order(r#"{"action":"pauseService"}"#).await;
        until(&mut paused, true).await;
        assert_eq!(stored().await, r#"{"paused":true,"scheduledResume":null}"#);
        order(r#"{"action":"resumeService","date":"2020-01-01T00:00:00.000Z"}"#).await;
        until(&mut paused, false).await;

        // Its session ends; what others write into the node is heard by the next one.
        let session = sessions.lock().expect("nobody panicked")[0].clone();
        folder.expire(&session).await;
        let data = Bytes::from_static(br#"{"paused":true}"#);
        let any = backbeat_backends::coordination::Expect::Any;
        applied(observer.write(&place.node, data, any).await);
        until(&mut paused, true).await;

        // Redis goes and comes back: nobody hears what is said meanwhile.
        server.kill().expect("it is killed");
        server.resume().expect("it starts again");
        while *paused.borrow() {
            let message = Bytes::from_static(br#"{"action":"resumeService"}"#);
            drop(others.publish(&place.channel, message).await);
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(stored().await, r#"{"paused":false,"scheduledResume":null}"#);
    });
    Ok(())
}
