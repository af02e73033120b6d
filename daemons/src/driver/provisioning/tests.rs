//! Instances over coordination in memory, under paused time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::memory::{MemoryCoordination, MemorySession};
use backbeat_backends::coordination::{Expect, Lifetime, NodePath};
use backbeat_core::provisioning::{self, Share};
use backbeat_core::time::WallTime;
use bytes::Bytes;

use super::*;
use crate::driver::tests::applied;

/// A store, and instances that share what is in it.
struct Fleet {
    store: MemoryCoordination,
    observer: MemorySession,
    nodes: ProvisioningNodes,
    clock: Clock,
}

/// An instance, and the sessions it opens.
struct Instance {
    handle: ProvisioningHandle,
    list: watch::Receiver<Provisions>,
    session: Arc<Mutex<Weak<MemorySession>>>,
}

impl Fleet {
    async fn with_provisions(count: u32) -> Self {
        let store = MemoryCoordination::new();
        let observer = store.connect();
        let nodes = ProvisioningNodes::new("/queue-populator").expect("a valid path");
        for number in 0..count {
            let provision = nodes.provisions().child(&number.to_string()).expect("a valid path");
            applied(observer.create(&provision, Bytes::new(), Lifetime::Durable).await);
        }
        let clock = Clock::start(WallClock::tokio(WallTime::from_millis(1)));
        Self { store, observer, nodes, clock }
    }

    fn start(&self) -> Instance {
        let session = Arc::new(Mutex::new(Weak::new()));
        let (store, latest) = (self.store.clone(), Arc::clone(&session));
        let open = move || {
            let session = Arc::new(store.connect());
            *latest.lock().expect("nobody panics with it") = Arc::downgrade(&session);
            async move { Ok::<_, Infallible>(session) }
        };
        let (handle, list) = start(Config::default(), self.nodes.clone(), open, self.clock.clone());
        Instance { handle, list, session }
    }

    async fn children(&self, name: &str) -> Vec<String> {
        let path = format!("/queue-populator/raft-id-dispatcher/{name}");
        applied(self.observer.children(&NodePath::new(&path).expect("a valid path")).await)
    }
}

impl Instance {
    async fn owns(&mut self, count: usize) -> Provisions {
        let owned = self.list.wait_for(|owned| owned.claims().len() == count);
        owned.await.expect("it runs").clone()
    }

    /// The store ends its session, and it notices.
    async fn expire(&mut self) {
        self.list.mark_unchanged();
        let session = self.session.lock().expect("nobody panics with it").upgrade();
        session.expect("it has a session").expire();
        self.list.changed().await.expect("it runs");
    }
}

#[test]
fn nodes_lie_where_upstream_looks_for_them() {
    let nodes = |path: &str| ProvisioningNodes::new(path).map(|nodes| nodes.provisions().to_string());
    assert_eq!(nodes("/queue-populator").unwrap(), "/queue-populator/raft-id-dispatcher/provisions");
    assert_eq!(nodes("/a/b/").unwrap(), "/a/b/raft-id-dispatcher/provisions");
    assert_eq!(nodes("").unwrap(), "/raft-id-dispatcher/provisions");
    assert!(nodes("queue-populator").is_err());
}

#[tokio::test(start_paused = true)]
async fn instances_share_and_one_that_leaves_is_replaced_at_once() {
    let fleet = Fleet::with_provisions(8).await;
    let mut first = fleet.start();
    first.owns(8).await;
    let mut second = fleet.start();
    let (one, two) = (first.owns(4).await, second.owns(4).await);
    let mut all: Vec<String> = one.names().chain(two.names()).map(ToString::to_string).collect();
    all.sort();
    assert_eq!(all, fleet.children("provisions").await);
    assert_eq!(fleet.children("leaders").await, ["leader0000000000", "leader0000000001"]);
    for name in fleet.children("owners").await {
        assert!(name.len() == 12 && name.bytes().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    }
    for claim in one.claims() {
        applied(claim.check(&fleet.observer).await);
    }
    let before = fleet.clock.now().mono;
    first.handle.leave().await;
    assert_eq!(fleet.children("leaders").await, ["leader0000000001"]);
    assert!(first.list.borrow().is_empty());
    second.owns(8).await;
    assert_eq!(fleet.clock.now().mono, before, "at once");
    // Its list is closed.
    while first.list.changed().await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_takes_everything_away_until_the_next_one() {
    let fleet = Fleet::with_provisions(2).await;
    let mut only = fleet.start();
    let before = only.owns(2).await;
    only.expire().await;
    assert!(only.list.borrow().is_empty(), "nothing is owned at once");
    let after = only.owns(2).await;
    assert_eq!(fleet.children("leaders").await, ["leader0000000001"]);
    assert_ne!(before, after, "the claims are others");
    for (old, new) in before.claims().iter().zip(after.claims()) {
        assert_eq!(old.provision(), new.provision());
        applied(new.check(&fleet.observer).await);
        let refused = old.check(&fleet.observer).await;
        assert!(matches!(refused, Ending::Refused(refusal) if refusal.kind == RefusalKind::Fenced));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_leaves() {
    let fleet = Fleet::with_provisions(1).await;
    let mut only = fleet.start();
    only.owns(1).await;
    drop(only.handle);
    while only.list.changed().await.is_ok() {}
    assert!(fleet.children("owners").await.is_empty() && fleet.children("leaders").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_reached_is_tried_until_it_can() {
    let fleet = Fleet::with_provisions(3).await;
    let (store, is_there) = (fleet.store.clone(), Arc::new(AtomicBool::new(false)));
    let open = {
        let is_there = Arc::clone(&is_there);
        move || {
            let session = if is_there.load(Ordering::Relaxed) { Ok(store.connect()) } else { Err("nobody") };
            async move { session }
        }
    };
    let (_handle, mut list) = start(Config::default(), fleet.nodes.clone(), open, fleet.clock.clone());
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(list.borrow().is_empty());
    is_there.store(true, Ordering::Relaxed);
    list.wait_for(|owned| owned.claims().len() == 3).await.expect("it runs");
}

/// Upstream's instances make the same nodes, without data, and read the same lists.
#[tokio::test(start_paused = true)]
async fn an_instance_of_upstream_leads_and_is_led() {
    let fleet = Fleet::with_provisions(4).await;
    let upstream = fleet.store.connect();
    let base = NodePath::new("/queue-populator/raft-id-dispatcher").expect("a valid path");
    let owners = base.child("owners").expect("a valid path");
    let prefix = base.child("leaders").and_then(|leaders| leaders.child("leader")).expect("a valid path");
    let owner = owners.child("0123456789ab").expect("a valid path");
    applied(upstream.create_numbered(&prefix, Bytes::new()).await);
    applied(upstream.create(&owner, Bytes::new(), Lifetime::Session).await);

    let mut ours = fleet.start();
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert_eq!(applied(fleet.observer.read(&owner).await).data, Bytes::new(), "ours does not lead");
    let names = fleet.children("owners").await;
    let name = names.iter().find(|name| *name != owner.name()).expect("ours is an owner");
    let own = owners.child(name).expect("a valid path");
    applied(upstream.write(&own, Bytes::from(r#"["3","1"]"#), Expect::Any).await);
    let owned = ours.owns(2).await;
    assert_eq!(owned.names().map(Provision::as_str).collect::<Vec<_>>(), ["3", "1"]);

    // It goes, another one comes, and now ours leads.
    upstream.close().await;
    ours.owns(4).await;
    let upstream = fleet.store.connect();
    applied(upstream.create(&owner, Bytes::new(), Lifetime::Session).await);
    applied(upstream.create_numbered(&prefix, Bytes::new()).await);
    ours.owns(2).await;
    let share = applied(upstream.read(&owner).await).data;
    assert_eq!(provisioning::decode(&share).map(|share| share.len()), Some(2));
}

/// More than are written at once, one of them gone, one dealt to by somebody else meanwhile.
#[tokio::test(start_paused = true)]
async fn a_share_of_a_member_that_is_gone_is_passed_over_and_one_that_changed_is_refused() {
    let fleet = Fleet::with_provisions(50).await;
    let mut members = Vec::new();
    for _ in 0..25 {
        members.push(Membership::join(fleet.store.connect(), fleet.nodes.clone()).await.expect("it joins"));
    }
    let shares = async || {
        let sight = applied(members[0].look().await);
        let provisioning::Fleet { owners, provisions } = sight.fleet.expect("the first one leads");
        let dealt = provisioning::deal(owners.len(), &provisions);
        let shares = owners.into_iter().zip(dealt);
        shares
            .map(|(owner, provisions)| Share { member: owner.member, version: owner.version, provisions })
            .collect::<Vec<_>>()
    };
    let planned = shares().await;
    let gone = members.last().expect("there are many");
    gone.session.close().await;
    applied(members[0].deal(planned.clone()).await);
    for member in &members[..24] {
        assert_eq!(applied(member.look().await).own.len(), 2);
    }
    let late = members[0].deal(planned).await;
    assert!(matches!(late, Ending::Refused(refusal) if refusal.kind == RefusalKind::Conflict));
    assert_eq!(shares().await.len(), 24);
    let others = applied(members[1].look().await);
    assert!(others.is_member && others.fleet.is_none());
}

/// What no store should do: the node of an owner is deleted under it.
#[tokio::test(start_paused = true)]
async fn who_lost_its_node_joins_again() {
    let fleet = Fleet::with_provisions(1).await;
    let mut only = fleet.start();
    only.owns(1).await;
    let [name] = &fleet.children("owners").await[..] else { panic!("it is the only one") };
    let path = format!("/queue-populator/raft-id-dispatcher/owners/{name}");
    only.list.mark_unchanged();
    applied(fleet.observer.delete(&NodePath::new(&path).expect("a valid path"), Expect::Any).await);
    only.list.changed().await.expect("it runs");
    assert!(only.list.borrow().is_empty());
    only.owns(1).await;
    assert_ne!(fleet.children("owners").await.first(), Some(name));
}
