//! Two sites in memory, and the drivers over memory adapters under paused time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::memory::{MemoryCoordination, MemorySession};
use backbeat_backends::journal::memory::MemoryJournal;
use backbeat_backends::queue::memory::MemoryQueue;
use backbeat_backends::queue::{Group, Queue, QueueError, Retention, TopicSpec};
use backbeat_backends::stats::memory::MemoryStats;
use backbeat_core::IntakeLimits;
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{JournalEpoch, Topic};
use backbeat_core::model::{
    FilterConfig, Location, LogEntry, LogRecord, ObjectMd, ObjectRef, Owner, StatusConfig, version_key,
};
use backbeat_core::parts::{BreakerPolicy, RetryPolicy};
use backbeat_core::processor::copy::CopyConfig;
use backbeat_core::request::minting::TargetKind;
use backbeat_core::request::{BucketRules, Condition, MovedPart, Side, SiteReply, SiteRequest};
use backbeat_core::time::{Span, WallTime};
use backbeat_core::{populator as core_populator, processor as core_processor, status as core_status};
use tokio::task::JoinHandle;

use crate::driver::counters::Counters;
use crate::driver::populator::{self, PopulatorHandle, PopulatorPorts};
use crate::driver::processor::{self, ProcessorHandle, ProcessorPorts};
use crate::driver::status::{self, StatusHandle, StatusPorts, StatusTopics};
use crate::driver::{Clock, PositionNodes, ProcessorObserver, Publisher, Sites, StatusObserver};
use crate::metrics::Registry;

pub(super) const PARTITIONS: u32 = 4;
pub(super) const DRAIN: Span = Span::from_secs(20);

/// Two sites. Writes at the source appear in the journal, as they do at a real one.
#[derive(Default)]
pub(super) struct World {
    source: Mutex<BTreeMap<ObjectRef, ObjectMd>>,
    target: Mutex<BTreeMap<ObjectRef, ObjectMd>>,
    journal: Mutex<Option<MemoryJournal>>,
    /// Requests to the target that still fail, and how.
    pub(super) target_troubles: Mutex<Vec<RefusalKind>>,
    /// How long a part takes.
    pub(super) part_time: Mutex<Duration>,
    /// Metadata writes at the target: a version written twice shows here.
    pub(super) target_writes: Mutex<Vec<ObjectRef>>,
}

impl World {
    /// A client writes a version.
    pub(super) fn put(&self, key: &str, version: &str) -> ObjectRef {
        let md = source_md(key, version);
        let object = ObjectRef::new("bucket", key, md.version_ref());
        self.write(&object, md);
        object
    }

    /// What the source stores of a version.
    pub(super) fn stored(&self, object: &ObjectRef) -> ObjectMd {
        self.source.lock().expect("no test panics with it")[object].clone()
    }

    /// What the target stores of a version.
    pub(super) fn copy(&self, object: &ObjectRef) -> ObjectMd {
        let copy = ObjectRef { bucket: "copies".into(), ..object.clone() };
        self.target.lock().expect("no test panics with it")[&copy].clone()
    }

    /// Writes over whatever the source stores, as a site does that does not compare.
    pub(super) fn write(&self, object: &ObjectRef, md: ObjectMd) {
        let key = version_key(&object.key, object.version.raw().expect("versions here have ids"));
        let entry = LogEntry::put(key, md.to_json());
        let record = LogRecord { timestamp: None, db: object.bucket.clone(), entries: vec![entry] };
        self.source.lock().expect("no test panics with it").insert(object.clone(), md);
        if let Some(journal) = &*self.journal.lock().expect("no test panics with it") {
            journal.append(record);
        }
    }

    /// The overall status at the source.
    pub(super) fn status(&self, object: &ObjectRef) -> String {
        self.source.lock().expect("no test panics with it")[object].replication().status().as_str().to_owned()
    }

    pub(super) fn has_copy(&self, object: &ObjectRef) -> bool {
        let copy = ObjectRef { bucket: "copies".into(), ..object.clone() };
        self.target.lock().expect("no test panics with it").contains_key(&copy)
    }

    /// Waits until every object has `status`.
    pub(super) async fn settle(&self, objects: &[ObjectRef], status: &str) {
        let settled = async {
            while objects.iter().any(|object| self.status(object) != status) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(10), settled).await.expect("everything settles in time");
    }

    fn trouble(&self) -> Option<Refusal> {
        let kind = self.target_troubles.lock().expect("no test panics with it").pop()?;
        Some(Refusal::new(kind, "Trouble"))
    }
}

fn source_md(key: &str, version: &str) -> ObjectMd {
    let text = format!(
        r#"{{"owner-id":"o","content-length":3,"content-md5":"md5-{version}","last-modified":"2024-01-01T00:00:00.000Z","key":"{key}","versionId":"{version}","location":[{{"key":"src-{version}","start":0,"size":3,"dataStoreName":"here","dataStoreETag":"1:md5-{version}"}}],"replicationInfo":{{"status":"PENDING","backends":[{{"site":"paris","status":"PENDING","dataStoreVersionId":""}}],"content":["DATA","METADATA"],"destination":"arn:aws:s3:::copies","storageClass":"paris","role":"arn:aws:iam::1:role/a,arn:aws:iam::2:role/b","storageType":"","dataStoreVersionId":"","isNFS":null}}}}"#
    );
    ObjectMd::parse(&text).expect("valid metadata")
}

impl Sites for World {
    async fn call(&self, request: SiteRequest) -> SiteReply {
        tokio::time::sleep(Duration::from_millis(3)).await;
        match request {
            SiteRequest::ReadMetadata { side, object } => {
                if side == Side::Target
                    && let Some(refusal) = self.trouble()
                {
                    return SiteReply::Metadata(Ending::Refused(refusal));
                }
                let site = if side == Side::Source { &self.source } else { &self.target };
                let found = site.lock().expect("no test panics with it").get(&object).cloned();
                SiteReply::Metadata(found.map_or_else(
                    || Ending::Refused(Refusal::new(RefusalKind::NotFound, "ObjNotFound")),
                    Ending::Applied,
                ))
            }
            SiteRequest::WriteMetadata { side, object, md, condition, .. } => {
                let site = if side == Side::Source { &self.source } else { &self.target };
                let stored = site.lock().expect("no test panics with it").get(&object).cloned();
                let holds = match (condition, stored) {
                    (None, _) | (Some(Condition::Absent), None) => true,
                    (Some(Condition::Tag(tag)), Some(stored)) => stored.state_tag() == *tag,
                    (Some(_), _) => false,
                };
                if !holds {
                    let refusal = Refusal::new(RefusalKind::Conflict, "PreconditionFailed");
                    return SiteReply::Written(Ending::Refused(refusal));
                }
                if side == Side::Source {
                    self.write(&object, md);
                } else {
                    self.target_writes.lock().expect("no test panics with it").push(object.clone());
                    self.target.lock().expect("no test panics with it").insert(object, md);
                }
                SiteReply::Written(Ending::Applied(()))
            }
            SiteRequest::MovePart(part) => {
                let time = *self.part_time.lock().expect("no test panics with it");
                tokio::time::sleep(time).await;
                let location = Location::stored("copied", "there");
                let moved = MovedPart::new(location, part.digest.clone());
                SiteReply::Moved { side: Side::Target, ending: Ending::Applied(moved) }
            }
            SiteRequest::DeleteData { .. } => SiteReply::Deleted(Ending::Applied(())),
            SiteRequest::ReadRules { .. } => {
                let rules = BucketRules {
                    roles: vec!["arn:aws:iam::1:role/a".to_owned(), "arn:aws:iam::2:role/b".to_owned()],
                    prefixes: vec![String::new()],
                };
                SiteReply::Rules(Ending::Applied(rules.into()))
            }
            SiteRequest::CheckBucket { .. } => SiteReply::Bucket(Ending::Applied(())),
            SiteRequest::Minting(_) => panic!("the targets of this bench keep version ids"),
        }
    }
}

type Task<T> = JoinHandle<T>;

/// Everything but the processors and the populator, which tests start and stop.
pub(super) struct Bench {
    pub(super) world: Arc<World>,
    pub(super) queue: Arc<MemoryQueue>,
    pub(super) coordination: MemoryCoordination,
    pub(super) stats: Arc<MemoryStats>,
    pub(super) journal: MemoryJournal,
    pub(super) clock: Clock,
    pub(super) metrics: Registry,
    counters: Counters,
}

pub(super) fn group() -> Group {
    Group::from("group-paris")
}

impl Bench {
    pub(super) async fn new() -> Self {
        let wall = WallClock::tokio(WallTime::from_millis(1_700_000_000_000));
        let queue = Arc::new(MemoryQueue::new(wall.clone()));
        for topic in ["replication", "replay", "status", "failed", "gc"] {
            queue.create_topic(&TopicSpec::new(topic)).await;
        }
        queue.create_topic(&TopicSpec::new("exceptions").kept(Retention::LatestPerKey)).await;
        let journal = MemoryJournal::new(JournalEpoch(9));
        let world = Arc::new(World::default());
        *world.journal.lock().expect("nobody else has it") = Some(journal.clone());
        let stats = Arc::new(MemoryStats::new(wall.clone()));
        let (counters, _) = Counters::start(Arc::clone(&stats), wall.clone());
        let clock = Clock::start(wall);
        let coordination = MemoryCoordination::new();
        let metrics = Registry::default();
        Self { world, queue, coordination, stats, journal, clock, metrics, counters }
    }

    pub(super) fn populator(&self) -> (PopulatorHandle, Task<Option<backbeat_core::populator::StopReason>>) {
        self.populator_at(PositionNodes::new("/queue-populator", "test").expect("a valid path"))
    }

    pub(super) fn populator_at(
        &self,
        nodes: PositionNodes,
    ) -> (PopulatorHandle, Task<Option<backbeat_core::populator::StopReason>>) {
        let config = core_populator::Config {
            filter: FilterConfig::default(),
            batch_max: 100,
            in_flight_max: 1_000,
            wait: Span::from_secs(30),
            save_interval: Span::from_secs(1),
            save_records: 10_000,
            retry_delay: Span::from_secs(1),
            bootstrap: core_populator::Bootstrap::Oldest,
            after_cut: core_populator::AfterLoss::GoOn,
            after_replaced: core_populator::AfterLoss::Stop,
            watch: Some(core_populator::WatchLimits {
                versions_max: 100,
                lookback: 1_000,
                restorations_max: 10,
            }),
        };
        let ports: PopulatorPorts<_, _, MemorySession, _> = PopulatorPorts {
            journal: Arc::new(self.journal.clone()),
            queue: Arc::clone(&self.queue),
            coordination: Arc::new(self.coordination.connect()),
            nodes,
            sites: Arc::clone(&self.world),
            topic: Topic::from("replication"),
            log_name: "memory",
            counters: self.counters.clone(),
            metrics: self.metrics.clone(),
        };
        populator::start(config, ports, self.clock.clone(), DRAIN)
    }

    pub(super) async fn processor(&self) -> (ProcessorHandle, Task<Result<(), QueueError>>) {
        self.processor_of_site(false).await
    }

    pub(super) async fn processor_of_site(
        &self,
        is_paused: bool,
    ) -> (ProcessorHandle, Task<Result<(), QueueError>>) {
        let retry = RetryPolicy { retries_max: Some(2), ..RetryPolicy::CLASS_DEFAULT };
        let config = core_processor::Config {
            copy: CopyConfig {
                target: TargetKind::KeepsVersions,
                look_depth: 100,
                site: "paris".into(),
                owner: Owner::new("owner", "Owner"),
                retry,
                parts_max: 4,
                part_deadline: Span::from_secs(60),
                noted_size_min: u64::MAX,
                note_interval: u64::MAX,
            },
            concurrency: 10,
            intake: IntakeLimits { read_ahead_max: 100, lane_max: 32 },
            parked_max: 100,
            bytes_max: 48 << 20,
            hold_delay: Span::from_secs(60),
            facts_ttl: Span::from_secs(10),
            exceptions_refresh: Span::from_secs(60),
            replays_max: 1,
            breaker: BreakerPolicy::default(),
            publish_delay: Span::from_secs(1),
        };
        let ports = ProcessorPorts {
            queue: Arc::clone(&self.queue),
            publisher: Publisher::new(Arc::clone(&self.queue), self.metrics.clone()),
            sites: Arc::clone(&self.world),
            topics: vec![Topic::from("replication"), Topic::from("replay")],
            status_topic: Topic::from("status"),
            exceptions_topic: Topic::from("exceptions"),
            partitions: PARTITIONS,
            group: group(),
            observer: ProcessorObserver::new("paris".into(), "replication", "g", self.metrics.clone()),
        };
        let started = processor::start(config, is_paused, ports, self.clock.clone(), DRAIN).await;
        started.expect("the group can be joined")
    }

    pub(super) async fn status(&self) -> (StatusHandle, Task<Result<(), QueueError>>) {
        let config = core_status::Config {
            decision: StatusConfig {
                replay_topics: vec![Topic::from("replay")],
                monitor_failures: true,
                transient_locations: BTreeSet::new(),
            },
            concurrency: 10,
            intake: IntakeLimits { read_ahead_max: 100, lane_max: 32 },
            retry: RetryPolicy::CLASS_DEFAULT,
            requeues_max: 3,
            hold_delay: Span::from_secs(60),
        };
        let ports = StatusPorts {
            queue: Arc::clone(&self.queue),
            publisher: Publisher::new(Arc::clone(&self.queue), self.metrics.clone()),
            sites: Arc::clone(&self.world),
            topics: StatusTopics {
                status: Topic::from("status"),
                replication: Topic::from("replication"),
                failed: Topic::from("failed"),
                gc: Topic::from("gc"),
                exceptions: Topic::from("exceptions"),
            },
            partitions: PARTITIONS,
            group: Group::from("group"),
            observer: StatusObserver::new(self.metrics.clone(), self.counters.clone()),
        };
        status::start(config, ports, self.clock.clone(), DRAIN).await.expect("the group can be joined")
    }
}
