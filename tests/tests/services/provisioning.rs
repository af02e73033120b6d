//! Populator instances that share journals through ZooKeeper, and lose each other.

use crate::zookeeper::{Folder, end_session, open, path};
use backbeat::driver::provisioning::{self, ProvisioningHandle, ProvisioningNodes, Provisions};
use backbeat::driver::{Clock, Ownership};
use backbeat_backends::clock::WallClock;
use backbeat_backends::conformance::{applied, refused, run};
use backbeat_backends::coordination::zookeeper::{ConnectError, ZooKeeperSession};
use backbeat_backends::coordination::{Coordination as _, Lifetime};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::Provision;
use backbeat_core::provisioning::Config;
use backbeat_tests::relay::Relay;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const ZOOKEEPER_PATH: &str = "/queue-populator";

/// As in the examples of upstream.
const PROVISIONS: usize = 8;

/// Longer than anything takes but for a session's end.
pub(crate) const SESSION: Duration = Duration::from_secs(30);

/// Of those who are going to be silent. A machine that stalls for longer ends such a session early, and its owner joins
/// again: no test minds.
const SHORT_SESSION: Duration = Duration::from_secs(3);

/// Instances that share what is in one folder.
pub(crate) struct Fleet {
    folder: Folder,
    pub(crate) observer: ZooKeeperSession,
    nodes: ProvisioningNodes,
    clock: Clock,
}

/// An instance, with a link of its own.
pub(crate) struct Instance {
    handle: ProvisioningHandle,
    list: watch::Receiver<Provisions>,
    relay: Relay,
    session: Arc<Mutex<i64>>,
    address: String,
}

impl Fleet {
    pub(crate) async fn with_provisions(address: &str, count: usize) -> Self {
        let folder = Folder::at(address);
        let observer = open(&folder.config).await;
        let nodes = ProvisioningNodes::new(ZOOKEEPER_PATH).expect("the path is valid");
        for number in 1..=count {
            let provision = nodes.provisions().child(&number.to_string()).expect("the path is valid");
            applied(observer.create(&provision, Bytes::new(), Lifetime::Durable).await);
        }
        Self { folder, observer, nodes, clock: Clock::start(WallClock::system()) }
    }

    pub(crate) async fn another_session(&self) -> ZooKeeperSession {
        open(&self.folder.config).await
    }

    pub(crate) async fn start(&self, session_time: Duration) -> Instance {
        let address = self.folder.address.clone();
        let relay = Relay::to(&address).await.expect("loopback has ports");
        let mut config = self.folder.config.clone();
        config.connection = config.connection.replace(&address, relay.address());
        config.session_time = session_time;
        let session = Arc::new(Mutex::new(0));
        let latest = Arc::clone(&session);
        let open = move || {
            let (config, latest) = (config.clone(), Arc::clone(&latest));
            async move {
                let session = ZooKeeperSession::connect(&config).await?;
                *latest.lock().expect("nobody panics with it") = session.id();
                Ok::<_, ConnectError>(session)
            }
        };
        let (handle, list) =
            provisioning::start(Config::default(), self.nodes.clone(), open, self.clock.clone());
        Instance { handle, list, relay, session, address }
    }

    /// Waits until everything is dealt exactly once among these, in shares of these sizes, and written so.
    async fn shared(&self, instances: &[&Instance], sizes: &[usize]) {
        let mut all: Vec<Provision> =
            (1..=PROVISIONS).map(|number| Provision::from(number.to_string())).collect();
        all.sort();
        loop {
            let claims: Vec<Vec<Ownership>> =
                instances.iter().map(|instance| instance.list.borrow().claims().to_vec()).collect();
            let mut dealt: Vec<usize> = claims.iter().map(Vec::len).collect();
            dealt.sort_unstable();
            let mut names: Vec<Provision> =
                claims.iter().flatten().map(|claim| claim.provision().clone()).collect();
            names.sort();
            if dealt == sizes && names == all && self.are_true(claims.iter().flatten()).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn are_true(&self, claims: impl Iterator<Item = &Ownership>) -> bool {
        for claim in claims {
            match claim.check(&self.observer).await {
                Ending::Applied(()) => {}
                Ending::Refused(refusal) if refusal.kind == RefusalKind::Fenced => return false,
                ending @ (Ending::Refused(_) | Ending::Unknown) => panic!("{ending:?}"),
            }
        }
        true
    }
}

impl Instance {
    /// Waits for a claim, and gives it.
    pub(crate) async fn claim(&mut self) -> Ownership {
        let owned = self.list.wait_for(|owned| !owned.is_empty()).await;
        owned.expect("it runs").claims()[0].clone()
    }

    /// Waits until it knows that it owns nothing.
    async fn owns_nothing(&mut self) {
        self.list.wait_for(Provisions::is_empty).await.expect("it runs");
    }

    /// Cuts its link, and has the server end its session.
    pub(crate) async fn cut_off(&self) {
        self.relay.cut();
        let session = *self.session.lock().expect("nobody panics with it");
        end_session(&self.address, session, &self.relay.first_words()).await.expect("the server is there");
    }
}

pub(crate) fn examples(address: &str) {
    run(async {
        let fleet = Fleet::with_provisions(address, PROVISIONS).await;
        let first = fleet.start(SESSION).await;
        fleet.shared(&[&first], &[8]).await;
        let second = fleet.start(SESSION).await;
        fleet.shared(&[&first, &second], &[4, 4]).await;
        let third = fleet.start(SESSION).await;
        fleet.shared(&[&first, &second, &third], &[2, 3, 3]).await;
        let mut others = Vec::new();
        for _ in 0..7 {
            others.push(fleet.start(SESSION).await);
        }
        let everybody: Vec<&Instance> = [&first, &second, &third].into_iter().chain(&others).collect();
        fleet.shared(&everybody, &[0, 0, 1, 1, 1, 1, 1, 1, 1, 1]).await;

        // Those who leave are replaced at once, the leader, too.
        let before = Instant::now();
        for leaving in [first].into_iter().chain(others) {
            leaving.handle.leave().await;
        }
        fleet.shared(&[&second, &third], &[4, 4]).await;
        second.handle.leave().await;
        fleet.shared(&[&third], &[8]).await;
        assert!(before.elapsed() < SESSION, "no session had to end by itself");
        third.handle.leave().await;
        for name in ["leaders", "owners"] {
            let nodes = path(&format!("{ZOOKEEPER_PATH}/raft-id-dispatcher/{name}"));
            assert!(applied(fleet.observer.children(&nodes).await).is_empty(), "{name}");
        }
    });
}

/// As of a process that is killed or a machine that is gone: nobody closes the session.
pub(crate) fn silence(address: &str) {
    run(async {
        let fleet = Fleet::with_provisions(address, PROVISIONS).await;
        // It comes first, so it leads.
        let mut silent = fleet.start(SHORT_SESSION).await;
        fleet.shared(&[&silent], &[8]).await;
        let (second, third) = (fleet.start(SESSION).await, fleet.start(SESSION).await);
        fleet.shared(&[&silent, &second, &third], &[2, 3, 3]).await;
        let claim = silent.claim().await;
        silent.relay.silence();
        fleet.shared(&[&second, &third], &[4, 4]).await;
        // It knows from its own clock, and what it claimed is not true any more.
        silent.owns_nothing().await;
        assert_eq!(refused(claim.check(&fleet.observer).await), RefusalKind::Fenced);
        // Cut first: what it said while nobody listened is not said later.
        silent.relay.cut();
        silent.relay.heal();
        fleet.shared(&[&silent, &second, &third], &[2, 3, 3]).await;
        // This time it does not lead.
        silent.relay.silence();
        fleet.shared(&[&second, &third], &[4, 4]).await;
    });
}

/// The server ends sessions of owners that are alive: the leader's, then all at once.
pub(crate) fn expiry(address: &str) {
    run(async {
        let fleet = Fleet::with_provisions(address, PROVISIONS).await;
        let mut first = fleet.start(SESSION).await;
        fleet.shared(&[&first], &[8]).await;
        let second = fleet.start(SESSION).await;
        fleet.shared(&[&first, &second], &[4, 4]).await;
        let claim = first.claim().await;
        first.cut_off().await;
        fleet.shared(&[&second], &[8]).await;
        assert_eq!(refused(claim.check(&fleet.observer).await), RefusalKind::Fenced);
        first.relay.heal();
        fleet.shared(&[&first, &second], &[4, 4]).await;
        first.cut_off().await;
        second.cut_off().await;
        first.relay.heal();
        second.relay.heal();
        fleet.shared(&[&first, &second], &[4, 4]).await;
    });
}
