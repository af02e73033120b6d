//! A populator as it runs on a machine of its own: it reads the journal of a source over HTTP, keeps its position in
//! ZooKeeper, and loses its session there.

use crate::provisioning::{Fleet, SESSION};
use crate::zookeeper::{Folder, open, path};
use backbeat::config::Config;
use backbeat::driver::counters::Counters;
use backbeat::driver::populator::{self, PopulatorHandle, PopulatorPorts};
use backbeat::driver::{Clock, PositionNodes};
use backbeat::metrics::Registry;
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY, Stack, StackConfig, Target};
use backbeat_backends::clock::WallClock;
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::coordination::Coordination as _;
use backbeat_backends::coordination::conformance::CoordinationHarness as _;
use backbeat_backends::coordination::zookeeper::ZooKeeperSession;
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use backbeat_backends::journal::bucketd::{BucketdConfig, BucketdJournal};
use backbeat_backends::queue::memory::MemoryQueue;
use backbeat_backends::queue::{Group, Queue as _, Slot, TopicSpec};
use backbeat_backends::stats::memory::MemoryStats;
use backbeat_core::id::{Partition, Topic};
use backbeat_core::model::FilterConfig;
use backbeat_core::populator::{AfterLoss, Bootstrap, Config as PopulatorConfig, StopReason, Summary};
use backbeat_core::time::Span;
use http::Method;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Objects that are written before the session ends, and as many after.
const OBJECTS: u64 = 20;
const TIME_MAX: Duration = Duration::from_mins(1);
const BUCKET: &str = "photos";
const TOPIC: &str = "replication";

/// A populator with everything it has, but for the session.
struct Machine {
    stack: Stack,
    queue: Arc<MemoryQueue>,
    counters: Counters,
    clock: Clock,
}

impl Machine {
    async fn start(directory: &std::path::Path) -> Self {
        let stack = Stack::start(StackConfig {
            data_dir: directory.to_owned(),
            source_port: 0,
            targets: vec![Target { name: Some("paris".to_owned()), port: 0 }],
            api_port: 0,
            journal_port: Some(0),
            config: Config::load(None, std::iter::empty()).expect("the defaults are valid"),
        })
        .await
        .expect("the stack starts");
        let wall = WallClock::system();
        let queue = Arc::new(MemoryQueue::new(wall.clone()));
        applied(queue.create_topic(&TopicSpec::new(TOPIC)).await);
        let (counters, _) = Counters::start(Arc::new(MemoryStats::new(wall.clone())), wall.clone());
        Self { stack, queue, counters, clock: Clock::start(wall) }
    }

    fn populate(
        &self,
        session: &Arc<ZooKeeperSession>,
        nodes: PositionNodes,
    ) -> (PopulatorHandle, JoinHandle<Option<StopReason>>) {
        let config = PopulatorConfig {
            filter: FilterConfig::default(),
            batch_max: 7,
            in_flight_max: 1_000,
            wait: Span::from_secs(30),
            save_interval: Span::from_millis(50),
            save_records: 10_000,
            retry_delay: Span::from_millis(100),
            bootstrap: Bootstrap::Oldest,
            after_cut: AfterLoss::Stop,
            after_replaced: AfterLoss::Stop,
            watch: None,
        };
        let address = self.stack.addresses().journal.expect("it was asked for").to_string();
        let ports = PopulatorPorts {
            journal: Arc::new(BucketdJournal::new(BucketdConfig::new(address, 1))),
            queue: Arc::clone(&self.queue),
            coordination: Arc::clone(session),
            nodes,
            sites: Arc::new(self.stack.sites("paris").expect("it was configured")),
            topic: Topic::from(TOPIC),
            log_name: "raft-log",
            counters: self.counters.clone(),
            metrics: Registry::default(),
        };
        populator::start(config, ports, self.clock.clone(), Span::from_secs(10))
    }

    async fn send(&self, request: Request) {
        let source = self.stack.addresses().source.to_string();
        let client = SignedClient::new(source, Credentials::new(ACCESS_KEY, SECRET_KEY), REGION);
        let answer = client.fetch(request, TIME_MAX, 1 << 20).await.expect("the source answers");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn make_bucket(&self) {
        let path = format!("/{BUCKET}");
        self.send(Request::new(Method::PUT, &*path)).await;
        let versioning = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
        let body = Body::full(versioning);
        self.send(Request::new(Method::PUT, &*path).query("versioning", "").body(body)).await;
        let rules = "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Role>arn:aws:iam::000000000000:role/backbeat</Role><Rule><ID>r</ID><Status>Enabled</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::copies</Bucket><StorageClass>paris</StorageClass></Destination></Rule></ReplicationConfiguration>";
        self.send(Request::new(Method::PUT, &*path).query("replication", "").body(Body::full(rules))).await;
    }

    async fn put(&self, name: &str) {
        for number in 0..OBJECTS {
            let path = format!("/{BUCKET}/{name}-{number}");
            self.send(Request::new(Method::PUT, path).body(Body::full("hello"))).await;
        }
    }

    /// Messages in the topic.
    async fn queued(&self) -> u64 {
        let mut sum = 0;
        for partition in 0..TopicSpec::new(TOPIC).partitions {
            let slot = Slot::new(&Topic::from(TOPIC), Partition(partition));
            sum += applied(self.queue.positions(&Group::from("nobody"), &slot).await).end.0;
        }
        sum
    }
}

fn nodes() -> PositionNodes {
    PositionNodes::new("/queue-populator", "raft_1").expect("a valid path")
}

/// The stored position, where upstream's populator looks for it and as it writes it.
async fn position(session: &ZooKeeperSession) -> u64 {
    let node = path("/queue-populator/queue-populator/logState/raft_1/logOffset");
    let data = applied(session.read(&node).await).data;
    String::from_utf8_lossy(&data).parse().expect("decimal text")
}

/// What the populator says of itself, once `is_wanted` likes it.
async fn summary(populator: &PopulatorHandle, is_wanted: impl Fn(&Summary) -> bool) -> Summary {
    loop {
        let summary = populator.summary().await.expect("it runs");
        if is_wanted(&summary) {
            return summary;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn session(address: &str) {
    let folder = Folder::at(address);
    let directory = tempfile::tempdir().expect("a temporary directory");
    run(async {
        let machine = Machine::start(directory.path()).await;
        machine.make_bucket().await;
        let first = Arc::new(folder.connect().await);
        let (populator, task) = machine.populate(&first, nodes());
        machine.put("before").await;
        // The making of a bucket is queued, too.
        let before = summary(&populator, |at| at.queued == OBJECTS + 1 && at.saved == at.end).await;
        let observer = open(&folder.config).await;
        assert!(position(&observer).await >= before.saved.0);

        folder.expire(&first).await;
        machine.put("after").await;
        assert_eq!(task.await.expect("no panic"), Some(StopReason::Fenced));
        let published = machine.queued().await;
        assert!(published > OBJECTS, "{published}");

        let second = Arc::new(folder.connect().await);
        let (populator, task) = machine.populate(&second, nodes());
        let after = summary(&populator, |at| at.queued == OBJECTS && at.saved == at.end).await;
        assert_eq!(machine.queued().await, published + OBJECTS, "everything since the last position, again");
        populator.shut_down().await;
        assert_eq!(task.await.expect("no panic"), None);
        assert!(after.saved > before.saved);
        machine.stack.shutdown().await.expect("a clean end");
    });
}

/// Its session with the owner node is over and it does not know; the one that its position is saved through goes on.
pub(crate) fn ownership(address: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    run(async {
        let machine = Machine::start(directory.path()).await;
        machine.make_bucket().await;
        let fleet = Fleet::with_provisions(address, 1).await;
        let mut first = fleet.start(SESSION).await;
        let claim = first.claim().await;
        let session = Arc::new(fleet.another_session().await);
        let (populator, task) = machine.populate(&session, nodes().owned_by(claim));
        machine.put("before").await;
        summary(&populator, |at| at.queued == OBJECTS + 1 && at.saved == at.end).await;

        first.cut_off().await;
        let before = position(&fleet.observer).await;
        machine.put("after").await;
        assert_eq!(task.await.expect("no panic"), Some(StopReason::Fenced));
        let published = machine.queued().await;
        assert!(published > OBJECTS + 1, "it published: {published}");
        assert_eq!(position(&fleet.observer).await, before, "it saved nothing");

        let mut second = fleet.start(SESSION).await;
        let claim = second.claim().await;
        let (populator, task) = machine.populate(&session, nodes().owned_by(claim));
        summary(&populator, |at| at.queued >= OBJECTS && at.saved == at.end).await;
        populator.shut_down().await;
        assert_eq!(task.await.expect("no panic"), None);
        assert!(position(&fleet.observer).await > before);
        machine.stack.shutdown().await.expect("a clean end");
    });
}
