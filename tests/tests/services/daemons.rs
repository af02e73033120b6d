//! The production daemons as processes, in peace: what they need, what they follow while they run, how they end.

use crate::change_stream::producer;
use crate::kafka::{admin, days_ago};
use anyhow::{Context as _, Result, ensure};
use backbeat::driver::counters::{INTERVAL_MS, interval_key};
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY};
use backbeat_backends::clock::WallClock;
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::coordination::zookeeper::{ZooKeeperConfig, ZooKeeperSession};
use backbeat_backends::coordination::{Coordination as _, Lifetime, NodePath};
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use backbeat_backends::stats::Stats as _;
use backbeat_backends::stats::redis::{RedisAddress, RedisConfig, RedisPlace, RedisStats};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::time::WallTime;
use backbeat_tests::dev::{Addresses, Place};
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::services::{OwnKafka, OwnRedis, Services, quiet_port, unique};
use backbeat_tests::suite::Test;
use bytes::Bytes;
use http::Method;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::FutureRecord;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long anything may take on the slowest machine.
pub(crate) const TIME_MAX: Duration = Duration::from_mins(2);

const BUCKET: &str = "photos";
pub(crate) const LIST: &str = "/extensions/replication/destination/bootstrapList";

/// Where the services are that daemons need, or what is missing.
pub(crate) fn places(services: &Services) -> Result<Places, String> {
    Ok(Places {
        kafka: services.address("KAFKA")?,
        zookeeper: services.address("ZOOKEEPER")?,
        redis: services.address("REDIS")?,
    })
}

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let places = places(services);
    let test = |name, test: fn(&Places) -> Result<()>| {
        let known = places.clone();
        Test::new(name, places.clone(), move || {
            test(&known.clone().unwrap_or_else(|missing| panic!("{missing}")))
        })
    };
    vec![
        test("daemons::a_missing_service_is_named_in_one_line", missing),
        test("daemons::what_cannot_be_served_is_refused_by_its_key", refused),
        test("daemons::a_backlog_that_comes_near_its_retention_is_warned_of", near_retention),
        test("daemons::sites_are_added_and_resumed_while_they_run", follow),
        test("daemons::a_populator_without_a_journal_waits_and_is_well", idle),
        test("daemons::they_end_well_though_the_broker_is_away", without_broker),
    ]
}

/// Sites, and a fleet between them that shares nothing with another test.
pub(crate) struct System {
    _directory: tempfile::TempDir,
    _sites: backbeat_tests::process::Process,
    pub(crate) addresses: Addresses,
    pub(crate) fleet: Fleet,
    /// ZooKeeper, with the folder of this fleet.
    pub(crate) zookeeper: String,
}

impl System {
    pub(crate) fn start(places: &Places) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut place = Place::new(directory.path()).with_sites_alone();
        let sites = place.start_ready()?;
        let addresses = place.addresses()?.clone();
        let name = unique();
        let zookeeper = format!("{}/{name}", places.zookeeper);
        let places = Places { zookeeper: zookeeper.clone(), ..places.clone() };
        let fleet = Fleet::new(directory.path(), &addresses, &places, &format!("{name}-"))?;
        Ok(Self { _directory: directory, _sites: sites, addresses, fleet, zookeeper })
    }
}

/// Runs a daemon that must not start, and gives its exit code and what it said. The client of Kafka, in threads of its own, may
/// still say something after the reason.
pub(crate) fn fails(fleet: &Fleet, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = fleet.run(arguments)?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn missing(places: &Places) -> Result<()> {
    /// Nobody listens there.
    const NOWHERE: &str = "127.0.0.1:1";
    let mut system = System::start(places)?;
    system.fleet.configure("/zookeeper/connectionString", json!(NOWHERE))?;
    let (code, line) = fails(&system.fleet, &["queue-populator"])?;
    ensure!(code == Some(5) && line.contains("no ZooKeeper answered at 127.0.0.1:1"), "{code:?}: {line}");
    system.fleet.configure("/zookeeper/connectionString", json!(system.zookeeper))?;
    system.fleet.configure("/kafka/hosts", json!(NOWHERE))?;
    let (code, line) = fails(&system.fleet, &["replication-status-processor"])?;
    ensure!(code == Some(5) && line.contains("127.0.0.1:1: no broker answers"), "{code:?}: {line}");
    Ok(())
}

fn refused(places: &Places) -> Result<()> {
    let mut system = System::start(places)?;
    let mut expect = |pointer: &str, value: Value, arguments: &[&str], wanted: &str| -> Result<()> {
        let before = system.fleet.value(pointer);
        system.fleet.configure(pointer, value)?;
        let (code, line) = fails(&system.fleet, arguments)?;
        ensure!(code == Some(2) && line.contains(wanted), "{pointer}: {code:?}: {line}");
        system.fleet.configure(pointer, before)
    };
    let processor = &["queue-processor"];
    expect(
        "/replicationGroupId",
        json!("RG001  "),
        &["queue-processor", "paris"],
        "backbeat-replication-replay-0",
    )?;
    expect(
        "/replicationGroupId",
        json!("RG001  "),
        &["queue-processor", "--site", "rome"],
        "has no site rome",
    )?;
    let cloud = json!([{"site": "aws", "type": "aws_s3"}]);
    expect(LIST, cloud, processor, "site aws is of type aws_s3")?;
    expect("/kafka/tls", json!({"ca": "nowhere.pem"}), processor, "kafka.tls.ca: ")?;
    let user = json!({"mechanism": "PLAIN", "username": "someone"});
    expect("/kafka/sasl", user, processor, "kafka.sasl.password: missing")?;
    let role = json!({"type": "role", "vault": {"host": "v", "port": 1}});
    expect("/extensions/replication/source/auth", role, processor, "source.auth.type: role")?;
    expect("/extensions/replication/source/s3", json!({}), processor, "missing field `host`")?;
    let account = json!({"type": "account", "account": "nobody"});
    expect("/extensions/replication/source/auth", account, processor, "no account is named \"nobody\"")?;
    expect("/queuePopulator/logSource", json!("mongo"), &["queue-populator"], "logSource: mongo")
}

/// The site is paused, so that what is queued waits.
fn near_retention(places: &Places) -> Result<()> {
    const TEN_DAYS_MS: &str = "864000000";
    let mut system = System::start(places)?;
    system.fleet.configure("/kafka/backlogMetrics", json!({"intervalS": 1}))?;
    let zookeeper = ZooKeeperConfig { makes_namespace: true, ..ZooKeeperConfig::new(&*system.zookeeper) };
    let mut warned = Ok(());
    let warn = async {
        let session = ZooKeeperSession::connect(&zookeeper).await?;
        let node = NodePath::new("/backbeat/replication/state/paris")?;
        applied(session.create(&node, Bytes::from_static(b"{\"paused\":true}"), Lifetime::Durable).await);
        let name = format!("{}backbeat-replication", system.fleet.topic_prefix());
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("retention.ms", TEN_DAYS_MS);
        let made = admin(&places.kafka).create_topics([&topic], &AdminOptions::new()).await?;
        ensure!(made.iter().all(Result::is_ok), "{made:?}");
        let record = FutureRecord::<str, _>::to(&name).payload("x").partition(0).timestamp(days_ago(6));
        producer(&places.kafka).send(record, TIME_MAX).await.map_err(|(error, _)| error)?;

        let processor = system.fleet.start_ready(&["queue-processor", "--site", "paris"])?;
        let until = Instant::now() + TIME_MAX;
        loop {
            let log = std::fs::read_to_string(system.fleet.log())?;
            let line = log.lines().find(|line| line.contains("has passed half of the topic's retention.ms"));
            if let Some(line) = line {
                ensure!(line.contains("backbeat-replication") && line.contains("WARN"), "{line}");
                break;
            }
            ensure!(Instant::now() < until, "nothing is said of the backlog");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Fleet::terminate(processor)
    };
    run(async { warned = warn.await });
    warned
}

/// Nobody has made a raft session yet.
fn idle(places: &Places) -> Result<()> {
    let mut system = System::start(places)?;
    let port = quiet_port()?;
    system.fleet.configure("/queuePopulator/bucketd/raftSessions", json!([]))?;
    system.fleet.configure("/queuePopulator/probeServer", json!({"port": port}))?;
    let populator = system.fleet.start_ready(&["queue-populator"])?;
    let mut waited = Ok(());
    let wait = async {
        let probe = Client::at(&format!("127.0.0.1:{port}"));
        for path in ["/_/live", "/_/ready"] {
            let answer = probe.ask(Request::new(Method::GET, path).unsigned()).await?;
            ensure!(answer.status().is_success() && answer.body() == "OK", "{path}: {answer:?}");
        }
        Fleet::terminate(populator)
    };
    run(async { waited = wait.await });
    waited
}

fn without_broker(places: &Places) -> Result<()> {
    let mut broker = OwnKafka::start()?;
    let system = System::start(&Places { kafka: broker.address(), ..places.clone() })?;
    let mut ended = Ok(());
    let end = async {
        let source = Client::at(&system.addresses.source);
        source.make_bucket(BUCKET).await?;
        Client::at(&system.addresses.targets[0].1).make_bucket(BUCKET).await?;
        source.replicate(BUCKET, "paris").await?;
        let daemons = system.fleet.start_ready(&["run", "--all"])?;
        source.put(&format!("/{BUCKET}/first"), None, "hello").await?;
        source.wait_for(&format!("/{BUCKET}/first"), "COMPLETED").await?;
        broker.kill()?;
        // What is written now cannot be queued.
        source.put(&format!("/{BUCKET}/second"), None, "hello").await?;
        Fleet::terminate(daemons)?;
        source.wait_for(&format!("/{BUCKET}/second"), "PENDING").await
    };
    run(async { ended = end.await });
    ended
}

/// A client of one site.
pub(crate) struct Client(SignedClient);

impl Client {
    pub(crate) fn at(address: &str) -> Self {
        Self(SignedClient::new(address, Credentials::new(ACCESS_KEY, SECRET_KEY), REGION))
    }

    pub(crate) fn over(client: SignedClient) -> Self {
        Self(client)
    }

    async fn ask(&self, request: Request) -> Result<http::Response<Bytes>> {
        self.0.fetch(request, TIME_MAX, 1 << 20).await.context("no answer")
    }

    pub(crate) async fn put(&self, path: &str, query: Option<&str>, body: &str) -> Result<()> {
        let mut request = Request::new(Method::PUT, path).body(Body::full(body.to_owned()));
        if let Some(query) = query {
            request = request.query(query, "");
        }
        let answer = self.ask(request).await?;
        ensure!(answer.status().is_success(), "{path}: {answer:?}");
        Ok(())
    }

    pub(crate) async fn make_bucket(&self, name: &str) -> Result<()> {
        let path = format!("/{name}");
        self.put(&path, None, "").await?;
        let versioning = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
        self.put(&path, Some("versioning"), versioning).await
    }

    /// Has everything in a bucket replicated to the bucket of the same name at `sites`.
    pub(crate) async fn replicate(&self, bucket: &str, sites: &str) -> Result<()> {
        let rules = format!(
            "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Role>arn:aws:iam::000000000000:role/backbeat</Role><Rule><ID>r</ID><Status>Enabled</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::{bucket}</Bucket><StorageClass>{sites}</StorageClass></Destination></Rule></ReplicationConfiguration>"
        );
        self.put(&format!("/{bucket}"), Some("replication"), &rules).await
    }

    /// The replication status of an object, `none` if it has none; nothing if there is no object.
    async fn status(&self, path: &str) -> Result<Option<String>> {
        let answer = self.ask(Request::new(Method::HEAD, path)).await?;
        let status = answer.headers().get("x-amz-replication-status");
        let status = status.and_then(|status| status.to_str().ok()).unwrap_or("none");
        Ok(answer.status().is_success().then(|| status.to_owned()))
    }

    pub(crate) async fn wait_for(&self, path: &str, wanted: &str) -> Result<()> {
        let until = Instant::now() + TIME_MAX;
        loop {
            let status = self.status(path).await?;
            if status.as_deref() == Some(wanted) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{path} is {status:?} and does not become {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn follow(places: &Places) -> Result<()> {
    let redis = OwnRedis::start(&[])?;
    let places = &Places { redis: format!("127.0.0.1:{}", redis.port()), ..places.clone() };
    let mut system = System::start(places)?;
    let all = system.fleet.value(LIST);
    let tokyo_alone: Vec<Value> =
        all.as_array().into_iter().flatten().filter(|site| site["site"] == "tokyo").cloned().collect();
    system.fleet.configure(LIST, json!(&tokyo_alone))?;
    system.fleet.configure("/kafka/partitions", json!(1))?;
    let place = RedisAddress { host: "127.0.0.1".to_owned(), port: redis.port() };
    let zookeeper = ZooKeeperConfig { makes_namespace: true, ..ZooKeeperConfig::new(&*system.zookeeper) };
    let mut followed = Ok(());
    let follow = async {
        let redis = RedisStats::new(RedisConfig::new(RedisPlace::Server(place)));
        let session = ZooKeeperSession::connect(&zookeeper).await?;
        let node = NodePath::new("/backbeat/replication/state/paris")?;
        // Paused before it exists: as somebody left it.
        applied(session.create(&node, Bytes::from_static(b"{\"paused\":true}"), Lifetime::Durable).await);

        let source = Client::at(&system.addresses.source);
        let targets: Vec<Client> =
            system.addresses.targets.iter().map(|(_, address)| Client::at(address)).collect();
        let [paris, tokyo] = &targets[..] else { anyhow::bail!("there are two targets") };
        for target in &targets {
            target.make_bucket(BUCKET).await?;
        }
        source.make_bucket(BUCKET).await?;
        source.replicate(BUCKET, "paris,tokyo").await?;

        let daemons = system.fleet.start_ready(&["run", "--all"])?;
        let first = format!("/{BUCKET}/first");
        source.put(&first, None, "hello").await?;
        tokyo.wait_for(&first, "REPLICA").await?;
        ensure!(paris.status(&first).await?.is_none(), "paris is not served yet");

        // It is added, and begins paused.
        system.fleet.configure(LIST, all)?;
        let second = format!("/{BUCKET}/second");
        source.put(&second, None, "hello").await?;
        tokyo.wait_for(&second, "REPLICA").await?;
        let listeners = Instant::now() + TIME_MAX;
        loop {
            // Whoever serves paris listens to its channel.
            let message = Bytes::from_static(b"{\"action\":\"resumeService\"}");
            applied(redis.publish("backbeat-replication-paris", message).await);
            let state: Value = serde_json::from_slice(&applied(session.read(&node).await).data)?;
            if state["paused"] == false {
                break;
            }
            ensure!(paris.status(&second).await?.is_none(), "paris is paused");
            ensure!(Instant::now() < listeners, "nobody resumes paris");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for path in [&first, &second] {
            paris.wait_for(path, "REPLICA").await?;
            source.wait_for(path, "COMPLETED").await?;
        }

        // What was done is counted where upstream's API looks for it.
        let until = Instant::now() + TIME_MAX;
        loop {
            let now = WallClock::system().now().as_millis();
            let times = [now, now - INTERVAL_MS].map(WallTime::from_millis);
            let keys = times.map(|time| interval_key("paris", "bb:crr:opsdone", time));
            let values = applied(redis.values(&[&*keys[0], &*keys[1]]).await);
            let count = |value: &Option<Bytes>| -> u64 {
                value.as_ref().and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
            };
            if values.iter().map(count).sum::<u64>() == 2 {
                break;
            }
            ensure!(Instant::now() < until, "operations done for paris: {values:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }

        // It is taken away, and nothing of it stays; how far the others are is written when they end.
        system.fleet.configure(LIST, json!(tokyo_alone))?;
        let topic = format!("{}backbeat-replication", system.fleet.topic_prefix());
        let until = Instant::now() + TIME_MAX;
        let is_gone = async |node: &NodePath| matches!(session.read(node).await, Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound);
        while !(is_gone(&node).await
            && is_gone(&backlog(&topic, "consumers/backbeat-replication-group-paris")?).await)
        {
            ensure!(Instant::now() < until, "paris was taken away");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Fleet::terminate(daemons)?;
        let end = applied(session.read(&backlog(&topic, "topic")?).await).data;
        let tokyo =
            applied(session.read(&backlog(&topic, "consumers/backbeat-replication-group-tokyo")?).await);
        ensure!(tokyo.data == end && end != "0", "{:?} of {end:?}", tokyo.data);
        Ok(())
    };
    run(async { followed = follow.await });
    followed
}

/// A node below those of the first partition of a topic that says how far somebody is.
fn backlog(topic: &str, below: &str) -> Result<NodePath> {
    Ok(NodePath::new(&format!("/backbeat/run/kafka-backlog-metrics/{topic}/0/{below}"))?)
}
