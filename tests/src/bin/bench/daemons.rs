//! The production daemons over real Kafka, ZooKeeper and Redis: one after the other between sites that are stubs, and all
//! together between embedded sites with nothing to do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY};
use backbeat_backends::credentials::Credentials as Keys;
use backbeat_backends::credentials::account::StaticCredentials;
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use backbeat_backends::objects::SitePair;
use backbeat_backends::objects::TimeLimits;
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_core::model::{ObjectRef, VersionId, VersionRef};
use backbeat_tests::dev::{Addresses, Place};
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::services::{Services, unique};
use backbeat_tests::stub::{BUCKET, Metadata, Stub};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Response};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::MetadataTopic;
use serde_json::json;

use super::{ANSWER_MAX, BATCH_TIME_MAX, CONCURRENCY, TIME_MAX};

const SITE: &str = "paris";
/// How often a stage is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Each daemon alone with `objects` objects of 4 KiB to work off.
pub(crate) async fn stages(objects: u64) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let line = Line::new(directory.path(), Stub::start(objects, 4 << 10, Metadata::Usual).await?)?;
    let stub = &line.stub;
    println!(
        "{}",
        json!({"objects": objects, "object_bytes": 4 << 10, "metadata_bytes": stub.metadata_bytes()})
    );
    let replication = line.topic("backbeat-replication");
    line.stage("queue-populator", "entries", objects, || line.messages(&replication)).await?;
    let before = stub.requests();
    line.stage("queue-processor", "objects", objects, || Ok(stub.copied())).await?;
    println!("{}", json!({"requests_per_object": rate(stub.requests() - before, objects as f64)}));
    let status = line.topic("backbeat-replication-status");
    ensure!(line.messages(&status)? >= objects, "the processor said less than it did");
    line.stage("replication-status-processor", "statuses", objects, || Ok(stub.marked())).await.map(drop)
}

/// What the processors need of memory while so many messages wait: the populator queues them all, then each processor works for a while.
pub(crate) async fn backlog(entries: u64, metadata: Metadata) -> Result<()> {
    /// Enough for what is read ahead to be as much as it gets.
    const DONE: u64 = 100_000;
    let directory = tempfile::tempdir()?;
    let line = Line::new(directory.path(), Stub::start(entries, 4 << 10, metadata).await?)?;
    println!("{}", json!({"entries": entries, "metadata_bytes": line.stub.metadata_bytes()}));
    let replication = line.topic("backbeat-replication");
    line.stage("queue-populator", "entries", entries, || line.messages(&replication)).await?;
    let count = entries.min(DONE);
    line.stage("queue-processor", "objects", count, || Ok(line.stub.copied())).await?;
    line.stage("replication-status-processor", "statuses", count, || Ok(line.stub.marked())).await.map(drop)
}

/// A site processor with objects of 64 MiB, and a bare loop that makes the same requests, in turns.
pub(crate) async fn large() -> Result<()> {
    const OBJECTS: u64 = 48;
    const BYTES: usize = 64 << 20;
    for round in 0..4 {
        let mut took = [Duration::ZERO; 2];
        for turn in 0..2 {
            let stub = Stub::start(OBJECTS, BYTES, Metadata::Usual).await?;
            let is_bare = (round + turn) % 2 == 0;
            took[usize::from(is_bare)] = if is_bare {
                bare(&stub, OBJECTS).await?
            } else {
                let directory = tempfile::tempdir()?;
                let line = Line::new(directory.path(), stub)?;
                let replication = line.topic("backbeat-replication");
                line.stage("queue-populator", "entries", OBJECTS, || line.messages(&replication)).await?;
                line.stage("queue-processor", "objects", OBJECTS, || Ok(line.stub.copied())).await?
            };
        }
        let [engine, bare] = took.map(|time| OBJECTS as f64 * 64.0 / time.as_secs_f64());
        println!(
            "{}",
            json!({"round": round, "bare_mib_per_s": bare, "engine_mib_per_s": engine, "engine_to_bare": engine / bare})
        );
    }
    Ok(())
}

/// All daemons with nothing to do: what they use, and from a change to COMPLETED.
pub(crate) async fn idle() -> Result<()> {
    const LOOK_S: u32 = 30;
    let directory = tempfile::tempdir()?;
    let mut place = Place::new(directory.path()).with_sites_alone();
    let sites = place.start_ready()?;
    let addresses = place.addresses()?.clone();
    let services = Services::find(&NAMES);
    let fleet = fleet(directory.path(), &addresses, &services)?;
    let daemons = DAEMONS.map(|name| Ok((name, fleet.start_ready(&[name])?)));
    let daemons = daemons.into_iter().collect::<Result<Vec<_>>>()?;
    let client =
        |address: &String| SignedClient::new(address, Credentials::new(ACCESS_KEY, SECRET_KEY), REGION);
    let source = client(&addresses.source);
    let (site, target) = addresses.targets.first().context("a target")?;
    prepare(&source, &client(target), site).await?;
    let mut times = Vec::new();
    for number in 0..120 {
        let path = format!("/{BUCKET}/object-{number}");
        ask(&source, Request::new(Method::PUT, &path).body(Body::full(vec![b'x'; 4 << 10]))).await?;
        let since = Instant::now();
        while status(&source, &path).await? != "COMPLETED" {
            ensure!(since.elapsed() < BATCH_TIME_MAX, "{path} does not get COMPLETED");
        }
        times.push(since.elapsed());
    }
    // The first ones find everything cold.
    let mut times = times.split_off(20);
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
    println!("{}", json!({"objects": times.len(), "p50_ms": at(50), "p90_ms": at(90), "p99_ms": at(99)}));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = daemons.iter().map(|(_, daemon)| daemon.processor_s()).collect::<Result<Vec<_>>>()?;
    tokio::time::sleep(Duration::from_secs(LOOK_S.into())).await;
    for ((name, daemon), before) in daemons.iter().zip(before) {
        let percent = (daemon.processor_s()? - before) * 100.0 / f64::from(LOOK_S);
        println!(
            "{}",
            json!({"daemon": name, "memory_mib": daemon.memory("VmRSS:")? >> 20, "core_percent": percent})
        );
    }
    daemons.into_iter().try_for_each(|(_, daemon)| Fleet::terminate(daemon))?;
    sites.kill()
}

/// The requests of a site processor for each object, without queue and machine; how long they took.
async fn bare(stub: &Stub, objects: u64) -> Result<Duration> {
    let client = |address: &String| {
        let keys = Arc::new(StaticCredentials::new(Keys::lasting(ACCESS_KEY, SECRET_KEY)));
        CloudServer::new(std::slice::from_ref(address), REGION, keys, TimeLimits::default())
    };
    let pair = Arc::new(SitePair::new(client(&stub.source), client(&stub.target)));
    let since = Instant::now();
    let copies = (1..=objects).map(|number| {
        let pair = Arc::clone(&pair);
        tokio::spawn(async move {
            let (key, version) = Stub::version(number);
            let version = VersionRef::Version(VersionId::from_hex(&hex::encode(version))?);
            super::copy(&pair, &SITE.into(), &ObjectRef::new(BUCKET, &*key, version)).await
        })
    });
    let mut copies = stream::iter(copies).buffer_unordered(CONCURRENCY);
    while let Some(copied) = copies.next().await {
        copied.context("a copy panicked")??;
    }
    ensure!(stub.copied() == objects, "{} of {objects} arrived", stub.copied());
    Ok(since.elapsed())
}

/// Buckets that keep versions at both ends, and a rule between them.
async fn prepare(source: &SignedClient, target: &SignedClient, site: &str) -> Result<()> {
    const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let put = || Request::new(Method::PUT, format!("/{BUCKET}"));
    for place in [source, target] {
        ask(place, put()).await?;
        ask(place, put().query("versioning", "").body(Body::full(ENABLED))).await?;
    }
    let rules = Stub::rules(site);
    ask(source, put().query("replication", "").body(Body::full(rules))).await.map(drop)
}

async fn ask(place: &SignedClient, request: Request) -> Result<Response<Bytes>> {
    let what = request.describe();
    let answer = place.fetch(request, TIME_MAX, ANSWER_MAX).await?;
    ensure!(answer.status().is_success(), "{what}: {}", answer.status());
    Ok(answer)
}

async fn status(source: &SignedClient, path: &str) -> Result<String> {
    let answer = ask(source, Request::new(Method::HEAD, path)).await?;
    let status = answer.headers().get("x-amz-replication-status");
    Ok(status.map(|status| status.to_str().map(str::to_owned)).transpose()?.unwrap_or_default())
}

const NAMES: [&str; 3] = ["KAFKA", "ZOOKEEPER", "REDIS"];
const DAEMONS: [&str; 3] = ["queue-populator", "queue-processor", "replication-status-processor"];

/// A fleet that shares nothing with what ran before.
fn fleet(folder: &Path, sites: &Addresses, services: &Services) -> Result<Fleet> {
    let address = |name| services.address(name).map_err(anyhow::Error::msg);
    let name = unique();
    let places = Places {
        kafka: address("KAFKA")?,
        zookeeper: format!("{}/{name}", address("ZOOKEEPER")?),
        redis: address("REDIS")?,
    };
    Fleet::new(folder, sites, &places, &format!("{name}-"))
}

/// The daemons in a line, of which one runs at a time.
struct Line {
    fleet: Fleet,
    prefix: String,
    kafka: BaseConsumer,
    stub: Stub,
    _services: Services,
}

impl Line {
    fn new(folder: &Path, stub: Stub) -> Result<Self> {
        let services = Services::find(&NAMES);
        let sites = Addresses {
            source: stub.source.clone(),
            targets: vec![(SITE.to_owned(), stub.target.clone())],
            api: None,
            journal: Some(stub.journal.clone()),
        };
        let fleet = fleet(folder, &sites, &services)?;
        let address = services.address("KAFKA").map_err(anyhow::Error::msg)?;
        let kafka = ClientConfig::new().set("bootstrap.servers", address).create()?;
        Ok(Self { prefix: fleet.topic_prefix().to_owned(), fleet, kafka, stub, _services: services })
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Messages that a topic holds.
    fn messages(&self, topic: &str) -> Result<u64> {
        let metadata = self.kafka.fetch_metadata(Some(topic), TIME_MAX)?;
        let partitions = metadata.topics().first().map(MetadataTopic::partitions).unwrap_or_default();
        let mut messages = 0;
        for partition in partitions {
            let (_, end) = self.kafka.fetch_watermarks(topic, partition.id(), TIME_MAX)?;
            messages += u64::try_from(end)?;
        }
        Ok(messages)
    }

    /// Lets a daemon work until `done` says that all of it is done; from the first of it to the last.
    async fn stage(
        &self,
        daemon: &str,
        unit: &str,
        count: u64,
        done: impl Fn() -> Result<u64>,
    ) -> Result<Duration> {
        // Ten thousand a second on the slowest machine.
        let time_max = BATCH_TIME_MAX + Duration::from_secs(count / 10_000);
        let (stub, until) = (&self.stub, Instant::now() + time_max);
        let requests = stub.requests();
        let process = self.fleet.start(&[daemon])?;
        // What it takes to find the services and to become a member of a group is not counted.
        while stub.requests() == requests {
            ensure!(Instant::now() < until, "{daemon} asks nothing");
            tokio::time::sleep(LOOK).await;
        }
        let (since, processor_s, before) = (Instant::now(), process.processor_s()?, done()?);
        loop {
            let so_far = done()?;
            if so_far >= count {
                break;
            }
            ensure!(Instant::now() < until, "{daemon} did {so_far} of {count}");
            tokio::time::sleep(LOOK).await;
        }
        let (took, processor_s) = (since.elapsed(), process.processor_s()? - processor_s);
        let done = count - before;
        println!(
            "{}",
            json!({
                "daemon": daemon, format!("{unit}_per_s"): rate(done, took.as_secs_f64()),
                "processor_s_per_1000": processor_s * 1_000.0 / done.max(1) as f64,
                "peak_mib": process.memory("VmHWM:")? >> 20,
            })
        );
        Fleet::terminate(process)?;
        Ok(took)
    }
}

fn rate(count: u64, per: f64) -> f64 {
    count as f64 / per
}
