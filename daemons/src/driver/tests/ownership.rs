//! Populators of several instances, of which one owns the journal.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use backbeat_backends::coordination::memory::{MemoryCoordination, MemorySession};
use backbeat_backends::coordination::{Coordination as _, Lifetime, NodePath};
use backbeat_core::populator::StopReason;
use backbeat_core::provisioning::Config;
use bytes::Bytes;
use tokio::sync::watch;

use super::applied;
use super::bench::Bench;
use crate::driver::provisioning::{self, ProvisioningHandle, ProvisioningNodes, Provisions};
use crate::driver::{Ownership, PositionNodes};

const PATH: &str = "/queue-populator";

/// One instance of those that share one journal.
struct Instance {
    list: watch::Receiver<Provisions>,
    session: Arc<Mutex<Weak<MemorySession>>>,
    _handle: ProvisioningHandle,
}

impl Instance {
    /// `sessions` is how often it can reach the store.
    fn start(bench: &Bench, sessions: usize) -> Self {
        let (store, session) = (bench.coordination.clone(), Arc::new(Mutex::new(Weak::new())));
        let (latest, left) = (Arc::clone(&session), Mutex::new(sessions));
        let open = move || {
            let opened = open(&store, &left);
            if let Some(session) = &opened {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(session);
            }
            async move { opened.map_or_else(|| Err("cut off"), Ok) }
        };
        let nodes = ProvisioningNodes::new(PATH).expect("a valid path");
        let (handle, list) = provisioning::start(Config::default(), nodes, open, bench.clock.clone());
        Self { list, session, _handle: handle }
    }

    async fn claim(&mut self) -> Ownership {
        self.list.wait_for(|owned| !owned.is_empty()).await.expect("it runs").claims()[0].clone()
    }

    async fn expire(&mut self) {
        self.list.mark_unchanged();
        let session = self.session.lock().expect("nobody panics with it").upgrade();
        session.expect("it has a session").expire();
        self.list.changed().await.expect("it runs");
        assert!(self.list.borrow().is_empty());
    }
}

fn open(store: &MemoryCoordination, left: &Mutex<usize>) -> Option<Arc<MemorySession>> {
    let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
    *left = left.checked_sub(1)?;
    Some(Arc::new(store.connect()))
}

fn nodes(claim: Ownership) -> PositionNodes {
    PositionNodes::new(PATH, "raft_1").expect("a valid path").owned_by(claim)
}

/// The stored position, as others read it.
async fn position(session: &MemorySession) -> u64 {
    let node = NodePath::new(&format!("{PATH}{PATH}/logState/raft_1/logOffset")).expect("a valid path");
    let data = applied(session.read(&node).await).data;
    String::from_utf8_lossy(&data).parse().expect("a number")
}

/// Its populator reads and publishes as if nothing had happened, through a session that still works.
#[tokio::test(start_paused = true)]
async fn a_populator_whose_instance_lost_the_journal_never_moves_its_position() {
    let bench = Bench::new().await;
    let observer = bench.coordination.connect();
    let provision = NodePath::new(&format!("{PATH}/raft-id-dispatcher/provisions/1")).expect("a valid path");
    applied(observer.create(&provision, Bytes::new(), Lifetime::Durable).await);

    let mut first = Instance::start(&bench, 1);
    let (populator, first_task) = bench.populator_at(nodes(first.claim().await));
    bench.world.put("before", "v1");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let summary = populator.summary().await.expect("it runs");
    assert_eq!((summary.queued, summary.saved), (1, summary.end));
    let before = position(&observer).await;

    first.expire().await;
    bench.world.put("after", "v2");
    assert_eq!(first_task.await.expect("no panic"), Some(StopReason::Fenced));
    assert_eq!(position(&observer).await, before, "it published, and saved nothing");

    let mut second = Instance::start(&bench, usize::MAX);
    let (populator, _second_task) = bench.populator_at(nodes(second.claim().await));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let summary = populator.summary().await.expect("it runs");
    assert_eq!((summary.queued, summary.saved), (1, summary.end), "what was published, once more");
    assert!(position(&observer).await > before);
}

/// Two that both believe to own it, for want of news: the second to save is told by the version.
#[tokio::test(start_paused = true)]
async fn of_two_populators_with_a_true_claim_one_goes_on() {
    let bench = Bench::new().await;
    let observer = bench.coordination.connect();
    let provision = NodePath::new(&format!("{PATH}/raft-id-dispatcher/provisions/1")).expect("a valid path");
    applied(observer.create(&provision, Bytes::new(), Lifetime::Durable).await);
    let mut instance = Instance::start(&bench, 1);
    let claim = instance.claim().await;
    let (_first, first_task) = bench.populator_at(nodes(claim.clone()));
    let (_second, second_task) = bench.populator_at(nodes(claim));
    bench.world.put("key", "v1");
    let stopped = tokio::select! {
        stopped = first_task => stopped,
        stopped = second_task => stopped,
    };
    assert_eq!(stopped.expect("no panic"), Some(StopReason::Fenced));
}
