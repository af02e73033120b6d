//! Measures the embedded stack and prints one line of JSON a figure; `docs/performance.md` says what the figures mean.
//!
//! Every comparison is made in one run on one machine: the engine against a bare loop that makes the same requests for each
//! object, in the same order, with as many objects at once, but has no journal, queue, lanes or ledger.

mod daemons;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use backbeat::config::Config;
use backbeat::stack::{ACCESS_KEY, Client, REGION, SECRET_KEY, Stack, StackConfig, Target};
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use backbeat_backends::objects::{ObjectSite, SitePair};
use backbeat_core::call::Ending;
use backbeat_core::id::{Bucket, Site};
use backbeat_core::model::{
    Decision, FilterConfig, LogRecord, ObjectMd, ObjectRef, OverallStatus, Owner, SiteStatus, VersionId,
    VersionRef, decide,
};
use backbeat_core::request::{Condition, PartMove, Side, SiteReply, SiteRequest};
use backbeat_core::time::Span;
use backbeat_tests::backlog::Backlog;
use backbeat_tests::dev::{Addresses, Place};
use backbeat_tests::process::processor_s;
use backbeat_tests::stub::Metadata;
use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

/// The same as in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SITE: &str = "site";
const TIME_MAX: Duration = Duration::from_mins(1);
const ANSWER_MAX: usize = 16 << 20;
/// Objects copied at once: what `queueProcessor.concurrency` is by default.
const CONCURRENCY: usize = 10;
/// How long the engine may take for one batch.
const BATCH_TIME_MAX: Duration = Duration::from_mins(5);

type Pair = SitePair<Client, Client>;

/// A running stack with one target, and clients of it.
struct Bench {
    stack: Stack,
    source: SignedClient,
    target: SignedClient,
    api: SignedClient,
    pair: Arc<Pair>,
    _data: tempfile::TempDir,
}

fn main() -> Result<()> {
    let what = std::env::args().nth(1).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match what.as_str() {
        "throughput" => runtime.block_on(throughput()),
        "latency" => runtime.block_on(latency()),
        "filter" => filter(),
        "rclone" => runtime.block_on(against_rclone()),
        "engine" => runtime.block_on(engine_alone()),
        "idle" => {
            let entries = std::env::args().nth(2).map_or(Ok(1_000_000), |count| count.parse());
            runtime.block_on(idle(entries.context("not a number of entries")?))
        }
        "daemons" => {
            let objects = std::env::args().nth(2).map_or(Ok(100_000), |count| count.parse());
            runtime.block_on(daemons::stages(objects.context("not a number of objects")?))
        }
        "daemons-backlog" => {
            let entries = std::env::args().nth(2).map_or(Ok(1_000_000), |count| count.parse());
            let metadata = match std::env::args().nth(3).as_deref() {
                None => Metadata::Usual,
                Some("short") => Metadata::Short,
                Some(other) => bail!("metadata are `short` or as usual, not {other:?}"),
            };
            runtime.block_on(daemons::backlog(entries.context("not a number of entries")?, metadata))
        }
        "daemons-large" => runtime.block_on(daemons::large()),
        "daemons-idle" => runtime.block_on(daemons::idle()),
        _ => bail!(
            "usage: bench throughput | latency | filter | rclone | engine | idle [ENTRIES] | daemons [OBJECTS] | daemons-backlog [ENTRIES [short]] | daemons-large | daemons-idle"
        ),
    }
}

/// What the populator does with a journal record on one core: parse it, decide, write the message.
fn filter() -> Result<()> {
    const RECORDS: u32 = 200_000;
    let value = json!({
        "owner-display-name": "account", "owner-id": "7".repeat(64), "content-length": 4096,
        "content-type": "application/octet-stream", "content-md5": "d41d8cd98f00b204e9800998ecf8427e",
        "x-amz-version-id": "null", "x-amz-server-version-id": "", "x-amz-storage-class": "STANDARD",
        "x-amz-server-side-encryption": "", "x-amz-website-redirect-location": "",
        "acl": {"Canned": "private", "FULL_CONTROL": [], "WRITE_ACP": [], "READ": [], "READ_ACP": []}, "key": "",
        "location": [{"key": "0123456789abcdef0123456789abcdef01234567", "size": 4096, "start": 0,
            "dataStoreName": "us-east-1", "dataStoreType": "file", "dataStoreETag": "1:d41d8cd98f00b204e9800998ecf8427e"}],
        "isDeleteMarker": false, "tags": {"team": "storage"},
        "replicationInfo": {"status": "PENDING", "backends": [
            {"site": "paris", "status": "PENDING", "dataStoreVersionId": ""},
            {"site": "tokyo", "status": "PENDING", "dataStoreVersionId": ""}],
            "content": ["DATA", "METADATA"], "destination": "arn:aws:s3:::photos-copy", "storageClass": "paris,tokyo",
            "role": "arn:aws:iam::root:role/backbeat,arn:aws:iam::root:role/backbeat", "storageType": "",
            "dataStoreVersionId": ""},
        "dataStoreName": "us-east-1", "originOp": "s3:ObjectCreated:Put", "last-modified": "2026-11-20T16:26:15.045Z",
        "md-model-version": 6, "x-amz-meta-camera": "a camera", "versionId": "98200000000000999999RG001  ",
    });
    let value = value.to_string();
    let entry = json!({"type": "put", "key": "photos/2026/object-000001\u{0}98200000000000999999RG001  ", "value": value});
    let record =
        json!({"timestamp": "2026-11-20T16:26:15.045Z", "db": "photos", "entries": [entry]}).to_string();
    let config = FilterConfig::default();
    for _ in 0..5 {
        let since = Instant::now();
        let mut written = 0;
        for _ in 0..RECORDS {
            let record = LogRecord::parse(std::hint::black_box(&record))?;
            for entry in record.populator_entries() {
                if let Decision::Publish(_) = decide(&entry, &config) {
                    written += std::hint::black_box(entry.message()).len();
                }
            }
        }
        ensure!(written > 0, "nothing was queued");
        let rate = f64::from(RECORDS) / since.elapsed().as_secs_f64();
        println!("{}", json!({"metadata_bytes": value.len(), "entries_per_s": rate}));
    }
    Ok(())
}

/// The engine against the bare loop, small objects and large ones, in turns.
async fn throughput() -> Result<()> {
    let mut bench = Bench::start().await?;
    for (size, count, rounds) in [(4 << 10, 1_000, 5), (16 << 20, 16, 5)] {
        for round in 0..rounds {
            // In turns, and who begins changes: neither has the warmer caches.
            let (bare, engine) = if round % 2 == 0 {
                let bare = bench.bare_loop(size, count, round).await?;
                (bare, bench.engine(size, count, round).await?)
            } else {
                let engine = bench.engine(size, count, round).await?;
                (bench.bare_loop(size, count, round).await?, engine)
            };
            let rate = |time: Duration| f64::from(count) / time.as_secs_f64();
            println!(
                "{}",
                json!({
                    "object_bytes": size, "objects": count, "round": round,
                    "bare_objects_per_s": rate(bare), "engine_objects_per_s": rate(engine),
                    "engine_to_bare": bare.as_secs_f64() / engine.as_secs_f64(),
                })
            );
        }
    }
    bench.stop().await
}

/// The engine against `rclone sync` between the same two sites, in turns.
async fn against_rclone() -> Result<()> {
    const OBJECTS: u32 = 10_000;
    const BYTES: usize = 4 << 10;
    let mut bench = Bench::start().await?;
    for round in 0..4 {
        let ((rclone, again), engine) = if round % 2 == 0 {
            let rclone = bench.rclone(BYTES, OBJECTS, round).await?;
            (rclone, bench.engine(BYTES, OBJECTS, round).await?)
        } else {
            let engine = bench.engine(BYTES, OBJECTS, round).await?;
            (bench.rclone(BYTES, OBJECTS, round).await?, engine)
        };
        let rate = |time: Duration| f64::from(OBJECTS) / time.as_secs_f64();
        println!(
            "{}",
            json!({
                "object_bytes": BYTES, "objects": OBJECTS, "round": round,
                "rclone_objects_per_s": rate(rclone), "engine_objects_per_s": rate(engine),
                "engine_to_rclone": rclone.as_secs_f64() / engine.as_secs_f64(),
                "rclone_again_ms": u64::try_from(again.as_millis())?,
            })
        );
    }
    bench.stop().await
}

/// The engine alone with small objects, for a profile.
async fn engine_alone() -> Result<()> {
    const OBJECTS: u32 = 10_000;
    let bench = Bench::start().await?;
    for round in 0..4 {
        let bucket = format!("alone-{round}");
        bench.fill(&bucket, 4 << 10, OBJECTS).await?;
        let before = processor_s(std::process::id())?;
        let rate = f64::from(OBJECTS) / bench.release().await?.as_secs_f64();
        let processor = (processor_s(std::process::id())? - before) / f64::from(OBJECTS / 1_000);
        println!("{}", json!({"engine_objects_per_s": rate, "processor_s_per_1000": processor}));
    }
    bench.stop().await
}

/// Memory and processor time of `backbeat dev` as a process: with nothing to do, while `entries` wait, and at work again.
async fn idle(entries: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut place = Place::with_site_names_of_ports(directory.path());
    let dev = place.start_ready()?;
    let mut backlog = Backlog::prepare(place.addresses()?).await?;
    let mib = |name: &str| anyhow::Ok(dev.memory(name)? >> 20);
    // The journal is still being pruned for a while after the last change.
    let quiet = async || -> Result<u64> {
        let since = Instant::now();
        loop {
            let before = dev.processor_s()?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            if dev.processor_s()? - before < 0.05 {
                return Ok(since.elapsed().as_secs());
            }
            ensure!(since.elapsed() < BATCH_TIME_MAX, "the process does not come to rest");
        }
    };
    let look = async |phase: &str, waiting: u64| -> Result<()> {
        const LOOK_S: u32 = 30;
        let before = dev.processor_s()?;
        tokio::time::sleep(Duration::from_secs(LOOK_S.into())).await;
        let percent = (dev.processor_s()? - before) * 100.0 / f64::from(LOOK_S);
        println!(
            "{}",
            json!({
                "phase": phase, "waiting": waiting, "memory_mib": mib("VmRSS:")?, "peak_mib": mib("VmHWM:")?,
                "core_percent": percent,
            })
        );
        Ok(())
    };
    look("idle", 0).await?;
    backlog.tell("pause").await?;
    let since = Instant::now();
    let steps = 10;
    for step in 1..=steps {
        backlog.grow(entries / steps).await?;
        println!(
            "{}",
            json!({
                "phase": "growing", "markers": entries / steps * step, "seconds": since.elapsed().as_secs(),
                "memory_mib": mib("VmRSS:")?, "peak_mib": mib("VmHWM:")?,
            })
        );
    }
    backlog.queued(u64::from(entries / steps * steps)).await?;
    let queued_s = since.elapsed().as_secs();
    println!("{}", json!({"phase": "queued", "seconds": queued_s, "at_rest_after_s": quiet().await?}));
    look("waiting", backlog.pending().await?).await?;
    backlog.tell("resume").await?;
    look("at work", backlog.pending().await?).await?;
    backlog.tell("pause").await?;
    println!("{}", json!({"phase": "paused", "at_rest_after_s": quiet().await?}));
    look("waiting again", backlog.pending().await?).await?;
    dev.kill()
}

/// From the answer to a put until the source says COMPLETED, one object at a time.
async fn latency() -> Result<()> {
    let bench = Bench::start().await?;
    bench.bucket("latency").await?;
    bench.replicate("latency").await?;
    let mut times = Vec::new();
    for number in 0..220 {
        let version = bench.put("latency", &format!("object-{number}"), 4 << 10).await?;
        let since = Instant::now();
        while !bench.is_completed("latency", &format!("object-{number}"), &version).await? {
            ensure!(since.elapsed() < BATCH_TIME_MAX, "object-{number} does not get COMPLETED");
        }
        times.push(since.elapsed());
    }
    // The first ones find everything cold.
    let mut times = times.split_off(20);
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
    println!("{}", json!({"objects": times.len(), "p50_ms": at(50), "p90_ms": at(90), "p99_ms": at(99)}));
    bench.stop().await
}

impl Bench {
    async fn start() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let stack = Stack::start(StackConfig {
            data_dir: data.path().to_owned(),
            source_port: 0,
            targets: vec![Target { name: Some(SITE.to_owned()), port: 0 }],
            api_port: 0,
            journal_port: None,
            config: Config::load(None, std::iter::empty())?,
        })
        .await?;
        let addresses = stack.addresses().clone();
        let signed =
            |endpoint: String| SignedClient::new(endpoint, Credentials::new(ACCESS_KEY, SECRET_KEY), REGION);
        // What the bare loop asks goes the same way as what the engine asks.
        let pair = Arc::new(stack.sites(SITE).context("the target is not there")?);
        Ok(Self {
            stack,
            source: signed(addresses.source.to_string()),
            target: signed(addresses.targets[0].1.to_string()),
            api: signed(addresses.api.context("a stack has an API")?.to_string()),
            pair,
            _data: data,
        })
    }

    async fn stop(self) -> Result<()> {
        self.stack.shutdown().await
    }

    /// Replicates `count` objects with the engine; returns how long it took.
    async fn engine(&mut self, size: usize, count: u32, round: u32) -> Result<Duration> {
        let bucket = format!("engine-{size}-{round}");
        self.fill(&bucket, size, count).await?;
        self.release().await
    }

    /// Lets the engine work off what is queued; returns how long it took.
    async fn release(&self) -> Result<Duration> {
        let since = Instant::now();
        self.tell("resume").await?;
        self.settled(BATCH_TIME_MAX).await?;
        Ok(since.elapsed())
    }

    /// Copies `count` objects with `rclone sync`; returns how long it took, and how long the same command takes when
    /// nothing has changed since.
    async fn rclone(&mut self, size: usize, count: u32, round: u32) -> Result<(Duration, Duration)> {
        let bucket = format!("rclone-{size}-{round}");
        self.bucket(&bucket).await?;
        let puts = (0..count).map(|number| {
            let (bench, bucket) = (&*self, &bucket);
            async move { bench.put(bucket, &format!("object-{number:06}"), size).await }
        });
        let put: Vec<_> = stream::iter(puts).buffer_unordered(CONCURRENCY).collect().await;
        put.into_iter().collect::<Result<Vec<_>>>()?;
        let addresses = self.stack.addresses();
        let addresses = Addresses {
            source: addresses.source.to_string(),
            targets: vec![(SITE.to_owned(), addresses.targets[0].1.to_string())],
            api: addresses.api.map(|api| api.to_string()),
            journal: None,
        };
        let mut rclone = std::process::Command::new("rclone");
        rclone.args(["sync", &format!("SOURCE:{bucket}"), &format!("{}:{bucket}", SITE.to_uppercase())]);
        // As many at once as the engine has; nothing is looked up that is known.
        let at_once = CONCURRENCY.to_string();
        rclone.args(["--transfers", &at_once, "--checkers", &at_once]);
        rclone.args(["--fast-list", "--s3-no-check-bucket", "--quiet"]);
        backbeat_tests::client::without_own_settings(&mut rclone);
        rclone.envs(backbeat_tests::client::environment(&addresses));
        tokio::task::spawn_blocking(move || {
            let mut timed = || -> Result<Duration> {
                let since = Instant::now();
                let status = rclone.status().context("failed to start rclone")?;
                ensure!(status.success(), "rclone ended with {status}");
                Ok(since.elapsed())
            };
            Ok((timed()?, timed()?))
        })
        .await?
    }

    /// Replicates `count` objects without the engine; returns how long it took.
    async fn bare_loop(&mut self, size: usize, count: u32, round: u32) -> Result<Duration> {
        let bucket = format!("bare-{size}-{round}");
        let versions = self.fill(&bucket, size, count).await?;
        let since = Instant::now();
        let copies = versions.into_iter().map(|object| {
            let pair = Arc::clone(&self.pair);
            tokio::spawn(async move {
                let site = SITE.into();
                copy(&pair, &site, &object).await?;
                complete(&pair, &site, &object).await
            })
        });
        let mut copies = stream::iter(copies).buffer_unordered(CONCURRENCY);
        while let Some(copied) = copies.next().await {
            copied.context("a copy panicked")??;
        }
        let took = since.elapsed();
        // The engine finds nothing to do.
        self.tell("resume").await?;
        self.settled(BATCH_TIME_MAX).await?;
        Ok(took)
    }

    /// Writes `count` objects while the site is paused, and waits until all of them are queued.
    async fn fill(&self, bucket: &str, size: usize, count: u32) -> Result<Vec<ObjectRef>> {
        self.bucket(bucket).await?;
        self.replicate(bucket).await?;
        // What the configuration of the bucket made is not counted below.
        self.settled(BATCH_TIME_MAX).await?;
        self.tell("pause").await?;
        let puts = (0..count).map(|number| {
            let key = format!("object-{number:06}");
            async move {
                let id = self.put(bucket, &key, size).await?;
                let version = VersionRef::Version(VersionId::decode(&id)?);
                anyhow::Ok(ObjectRef { bucket: bucket.into(), key: key.as_str().into(), version })
            }
        });
        let objects: Vec<_> = stream::iter(puts).buffer_unordered(CONCURRENCY).collect().await;
        let objects = objects.into_iter().collect::<Result<Vec<_>>>()?;
        let since = Instant::now();
        loop {
            let status = self.status().await?;
            let queued = status["sites"][0]["pending"].as_u64().unwrap_or_default();
            if queued >= u64::from(count) {
                return Ok(objects);
            }
            ensure!(
                since.elapsed() < BATCH_TIME_MAX,
                "only {queued} of {count} objects are queued: {status}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the site and the status processor have nothing left.
    async fn settled(&self, time_max: Duration) -> Result<()> {
        let since = Instant::now();
        loop {
            let status = self.status().await?;
            let site = &status["sites"][0];
            let left = [&site["pending"], &site["copying"], &status["outcomesWaiting"]];
            let left: u64 = left.into_iter().filter_map(Value::as_u64).sum();
            ensure!(site["failed"] == 0 && site["held"] == 0, "something failed: {status}");
            if left == 0 {
                return Ok(());
            }
            ensure!(since.elapsed() < time_max, "still at work: {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn status(&self) -> Result<Value> {
        let request = Request::new(Method::GET, "/api/v1/status").unsigned();
        let answer = self.api.fetch(request, TIME_MAX, ANSWER_MAX).await?;
        Ok(serde_json::from_slice(answer.body())?)
    }

    async fn tell(&self, action: &str) -> Result<()> {
        let request = Request::new(Method::POST, format!("/api/v1/{action}/{SITE}")).unsigned();
        let answer = self.api.fetch(request, TIME_MAX, ANSWER_MAX).await?;
        ensure!(answer.status().is_success(), "{action}: {}", answer.status());
        Ok(())
    }

    async fn bucket(&self, bucket: &str) -> Result<()> {
        const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        for site in [&self.source, &self.target] {
            ask(site, Request::new(Method::PUT, format!("/{bucket}"))).await?;
            let request = Request::new(Method::PUT, format!("/{bucket}")).query("versioning", "");
            ask(site, request.body(Body::full(ENABLED))).await?;
        }
        Ok(())
    }

    async fn replicate(&self, bucket: &str) -> Result<()> {
        let rules = format!(
            "<ReplicationConfiguration><Role>arn:aws:iam::root:role/b,arn:aws:iam::root:role/b</Role><Rule><ID>all</ID>\
             <Status>Enabled</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::{bucket}</Bucket>\
             <StorageClass>{SITE}</StorageClass></Destination></Rule></ReplicationConfiguration>"
        );
        let request = Request::new(Method::PUT, format!("/{bucket}")).query("replication", "");
        ask(&self.source, request.body(Body::full(rules))).await.map(drop)
    }

    /// Puts an object; returns its version id.
    async fn put(&self, bucket: &str, key: &str, size: usize) -> Result<String> {
        let request = Request::new(Method::PUT, format!("/{bucket}/{key}"));
        let headers = ask(&self.source, request.body(Body::full(vec![7; size]))).await?;
        Ok(headers.get("x-amz-version-id").context("no version id")?.to_str()?.to_owned())
    }

    async fn is_completed(&self, bucket: &str, key: &str, version: &str) -> Result<bool> {
        let request = Request::new(Method::HEAD, format!("/{bucket}/{key}")).query("versionId", version);
        let headers = ask(&self.source, request).await?;
        Ok(headers.get("x-amz-replication-status").is_some_and(|status| status == "COMPLETED"))
    }
}

async fn ask(site: &SignedClient, request: Request) -> Result<http::HeaderMap> {
    let what = request.describe();
    let answer = site.fetch(request, TIME_MAX, ANSWER_MAX).await?;
    ensure!(answer.status().is_success(), "{what}: {} {:?}", answer.status(), answer.body());
    Ok(answer.headers().clone())
}

/// One object as the engine copies it: target metadata, source metadata, data, target metadata; then the source's again for
/// its status, and the status.
async fn copy<S: ObjectSite, T: ObjectSite>(
    pair: &SitePair<S, T>,
    site: &Site,
    object: &ObjectRef,
) -> Result<()> {
    let read = |side| SiteRequest::ReadMetadata { side, object: object.clone() };
    let SiteReply::Metadata(Ending::Refused(_)) = pair.call(read(Side::Target)).await else {
        bail!("the target has {object:?} already");
    };
    let SiteReply::Metadata(Ending::Applied(source)) = pair.call(read(Side::Source)).await else {
        bail!("the source does not show {object:?}");
    };
    let mut locations = source.reduced_locations();
    for (part, location) in source.part_layout().iter().zip(&mut locations) {
        let part = PartMove {
            from: object.clone(),
            number: part.number,
            size: part.size,
            digest: part.md5.clone(),
            to_bucket: Bucket::clone(&object.bucket),
            to_key: object.key.clone(),
            owner: Owner::new(source.owner_id(), ""),
            upload: None,
            deadline: Span::from_secs(60),
        };
        let SiteReply::Moved { ending: Ending::Applied(moved), .. } =
            pair.call(SiteRequest::MovePart(part.into())).await
        else {
            bail!("the data of {object:?} does not move");
        };
        *location = location.stored_at(&moved.location);
    }
    let replica = source.replication().with_site_status(site, SiteStatus::Replica);
    let replica =
        source.with_replication(replica.with_status(OverallStatus::Replica)).with_location(locations);
    let write = write(Side::Target, object, replica, Condition::Absent);
    let SiteReply::Written(Ending::Applied(())) = pair.call(write).await else {
        bail!("the target does not take the metadata of {object:?}");
    };
    Ok(())
}

/// Records at the source that `object` was copied, with the requests that the status processor makes for it.
async fn complete(pair: &Pair, site: &Site, object: &ObjectRef) -> Result<()> {
    let read = SiteRequest::ReadMetadata { side: Side::Source, object: object.clone() };
    let SiteReply::Metadata(Ending::Applied(stored)) = pair.call(read).await else {
        bail!("the source does not show {object:?} again");
    };
    let done = stored.replication().with_site_status(site, SiteStatus::Completed).with_computed_status();
    let condition = Condition::tag(stored.state_tag());
    let write = write(Side::Source, object, stored.with_replication(done), condition);
    let SiteReply::Written(Ending::Applied(())) = pair.call(write).await else {
        bail!("the source does not take the status of {object:?}");
    };
    Ok(())
}

fn write(side: Side, object: &ObjectRef, md: ObjectMd, condition: Condition) -> SiteRequest {
    SiteRequest::WriteMetadata {
        side,
        object: object.clone(),
        md,
        condition: Some(condition),
        keep_data: false,
    }
}
