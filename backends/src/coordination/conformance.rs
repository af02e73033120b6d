//! The contract of the coordination port as code: every adapter passes these cases.

use std::future::Future;
use std::time::Duration;

use backbeat_core::call::{Ending, RefusalKind};
use bytes::Bytes;

use super::{Coordination, Expect, Lifetime, NodePath, NodeVersion};
use crate::conformance::{applied, refused};

/// Makes sessions with one store, empty at the beginning of a case.
pub trait CoordinationHarness {
    /// The adapter.
    type Session: Coordination;
    /// A new session.
    fn connect(&self) -> impl Future<Output = Self::Session>;
    /// Makes the store end a session against its owner's will.
    fn expire(&self, session: &Self::Session) -> impl Future<Output = ()>;
}

/// Makes sessions with a store that survives its process.
pub trait DurableCoordinationHarness {
    /// The adapter.
    type Session: Coordination;
    /// Opens the one store of this harness and a session with it. The earlier one has been dropped.
    fn open(&self) -> impl Future<Output = Self::Session>;
}

/// Stamps out the suite for one adapter: as tests, or by another macro (`conformance_list`).
#[macro_export]
macro_rules! coordination_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::coordination_conformance! { conformance_cases, $adapter, $harness }
    };
    ($stamp:ident, $adapter:ident, $harness:expr) => {
        $crate::$stamp! { $adapter, $harness, coordination;
            a_created_node_is_read_back,
            a_missing_node_is_not_found,
            missing_parents_are_made,
            a_node_is_created_once,
            a_write_with_a_stale_version_is_refused,
            every_write_changes_the_version,
            a_stale_delete_is_refused_and_a_deleted_node_is_gone,
            a_node_with_children_is_not_deleted,
            children_are_direct_and_sorted,
            of_many_creators_one_wins,
            of_many_conditional_writers_none_is_lost,
            ephemeral_nodes_end_with_their_session,
            an_ephemeral_node_has_no_children,
            numbers_rise_and_are_never_given_twice,
            numbered_nodes_end_with_their_session,
            an_expired_session_is_fenced_and_told,
            a_watch_made_before_the_change_is_never_missed,
            a_watch_sees_children_and_creation,
        }
    };
}

/// Stamps out the cases about restarts for one durable adapter.
#[macro_export]
macro_rules! durable_coordination_conformance {
    ($adapter:ident, $harness:expr) => {
        $crate::conformance_cases! { $adapter, $harness, coordination;
            durable_nodes_survive_a_restart_and_ephemeral_ones_do_not,
        }
    };
}

fn path(text: &str) -> NodePath {
    NodePath::new(text).expect("the path is valid")
}

fn data(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn create(session: &impl Coordination, at: &str, text: &str) -> NodeVersion {
    applied(session.create(&path(at), data(text), Lifetime::Durable).await)
}

/// Read after write, across sessions.
pub async fn a_created_node_is_read_back(harness: &impl CoordinationHarness) {
    let (one, two) = (harness.connect().await, harness.connect().await);
    let version = create(&one, "/offset", "42").await;
    let node = applied(two.read(&path("/offset")).await);
    assert_eq!((node.data, node.version), (data("42"), version));
}

/// Every operation on a node that is not there says so.
pub async fn a_missing_node_is_not_found(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    let at = path("/none");
    assert_eq!(refused(session.read(&at).await), RefusalKind::NotFound);
    assert_eq!(refused(session.write(&at, data("x"), Expect::Any).await), RefusalKind::NotFound);
    assert_eq!(refused(session.delete(&at, Expect::Any).await), RefusalKind::NotFound);
    assert_eq!(refused(session.children(&at).await), RefusalKind::NotFound);
}

/// The log offset node lies deep (replication reference 2.3).
pub async fn missing_parents_are_made(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    create(&session, "/queue-populator/logState/raft_1/logOffset", "7").await;
    assert_eq!(applied(session.read(&path("/queue-populator/logState")).await).data, Bytes::new());
    create(&session, "/queue-populator/logState/raft_2/logOffset", "8").await;
    let logs = applied(session.children(&path("/queue-populator/logState")).await);
    assert_eq!(logs, ["raft_1", "raft_2"]);
}

/// A second creation does not touch the first one's data.
pub async fn a_node_is_created_once(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    create(&session, "/node", "first").await;
    let again = session.create(&path("/node"), data("second"), Lifetime::Durable).await;
    assert_eq!(refused(again), RefusalKind::Conflict);
    assert_eq!(applied(session.read(&path("/node")).await).data, data("first"));
}

/// A writer that was overtaken is told, and changes nothing (decision D8).
pub async fn a_write_with_a_stale_version_is_refused(harness: &impl CoordinationHarness) {
    let (one, two) = (harness.connect().await, harness.connect().await);
    let stale = create(&one, "/offset", "1").await;
    applied(two.write(&path("/offset"), data("2"), Expect::Version(stale)).await);
    let late = one.write(&path("/offset"), data("1"), Expect::Version(stale)).await;
    assert_eq!(refused(late), RefusalKind::Conflict);
    assert_eq!(applied(one.read(&path("/offset")).await).data, data("2"));
    applied(one.write(&path("/offset"), data("3"), Expect::Any).await);
}

/// Even one that writes the same data.
pub async fn every_write_changes_the_version(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    let first = create(&session, "/node", "same").await;
    let second = applied(session.write(&path("/node"), data("same"), Expect::Version(first)).await);
    assert_ne!(first, second);
    assert_eq!(applied(session.read(&path("/node")).await).version, second);
}

/// Deletion honours the version.
pub async fn a_stale_delete_is_refused_and_a_deleted_node_is_gone(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    let stale = create(&session, "/node", "1").await;
    let current = applied(session.write(&path("/node"), data("2"), Expect::Any).await);
    assert_eq!(refused(session.delete(&path("/node"), Expect::Version(stale)).await), RefusalKind::Conflict);
    applied(session.delete(&path("/node"), Expect::Version(current)).await);
    assert_eq!(refused(session.read(&path("/node")).await), RefusalKind::NotFound);
    create(&session, "/node", "again").await;
}

/// No orphans.
pub async fn a_node_with_children_is_not_deleted(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    create(&session, "/state/site", "{}").await;
    assert_eq!(refused(session.delete(&path("/state"), Expect::Any).await), RefusalKind::Conflict);
    applied(session.delete(&path("/state/site"), Expect::Any).await);
    applied(session.delete(&path("/state"), Expect::Any).await);
}

/// Names that are prefixes of each other do not mix.
pub async fn children_are_direct_and_sorted(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    for at in ["/a/z", "/a/b", "/a/b/deep", "/ab/other", "/a-b", "/a/é"] {
        create(&session, at, "").await;
    }
    assert_eq!(applied(session.children(&path("/a")).await), ["b", "z", "é"]);
    assert!(applied(session.children(&path("/a/z")).await).is_empty());
}

/// The owner node: one instance gets it.
pub async fn of_many_creators_one_wins(harness: &impl CoordinationHarness) {
    let mut winners = 0;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(harness.connect().await);
    }
    for session in &sessions {
        match session.create(&path("/owner"), data("me"), Lifetime::Session).await {
            Ending::Applied(_) => winners += 1,
            Ending::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::Conflict),
            Ending::Unknown => panic!("the ending is unknown"),
        }
    }
    assert_eq!(winners, 1);
}

/// Read, add one, write if unchanged: the sum is right.
pub async fn of_many_conditional_writers_none_is_lost(harness: &impl CoordinationHarness) {
    const WRITERS: u32 = 4;
    const EACH: u32 = 10;
    let first = harness.connect().await;
    create(&first, "/count", "0").await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let session = harness.connect().await;
        writers.push(tokio::spawn(async move {
            let at = path("/count");
            let mut done = 0;
            while done < EACH {
                let node = applied(session.read(&at).await);
                let count: u32 = std::str::from_utf8(&node.data).expect("text").parse().expect("a number");
                let next = data(&(count + 1).to_string());
                match session.write(&at, next, Expect::Version(node.version)).await {
                    Ending::Applied(_) => done += 1,
                    Ending::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::Conflict),
                    Ending::Unknown => panic!("the ending is unknown"),
                }
            }
        }));
    }
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    assert_eq!(applied(first.read(&path("/count")).await).data, data(&(WRITERS * EACH).to_string()));
}

/// Closing, dropping and expiry all do it; durable nodes stay.
pub async fn ephemeral_nodes_end_with_their_session(harness: &impl CoordinationHarness) {
    let observer = harness.connect().await;
    let (closed, dropped, expired) =
        (harness.connect().await, harness.connect().await, harness.connect().await);
    for (name, session) in [("closed", &closed), ("dropped", &dropped), ("expired", &expired)] {
        let at = path(&format!("/members/{name}"));
        applied(session.create(&at, data(name), Lifetime::Session).await);
    }
    create(&closed, "/kept", "").await;
    assert_eq!(applied(observer.children(&path("/members")).await), ["closed", "dropped", "expired"]);
    closed.close().await;
    harness.expire(&expired).await;
    drop(dropped);
    let mut watch = applied(observer.watch(&path("/members")).await);
    while !applied(observer.children(&path("/members")).await).is_empty() {
        watch.changed().await;
    }
    applied(observer.read(&path("/kept")).await);
}

/// They would outlive their parent.
pub async fn an_ephemeral_node_has_no_children(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    applied(session.create(&path("/member"), data(""), Lifetime::Session).await);
    let below = session.create(&path("/member/below"), data(""), Lifetime::Durable).await;
    assert_eq!(refused(below), RefusalKind::Invalid);
}

/// Candidates line up in the order in which they came; one that left does not give its place to the next.
pub async fn numbers_rise_and_are_never_given_twice(harness: &impl CoordinationHarness) {
    let (one, two) = (harness.connect().await, harness.connect().await);
    let prefix = path("/line/of/candidate");
    let mut given = Vec::new();
    for session in [&one, &two, &one] {
        given.push(applied(session.create_numbered(&prefix, data("x")).await));
        // Another parent counts for itself, and what is not numbered stands in nobody's way.
        applied(session.create_numbered(&path("/other/candidate"), data("")).await);
    }
    applied(two.delete(&given[2], Expect::Any).await);
    create(&two, "/line/of/bystander", "").await;
    given.push(applied(two.create_numbered(&prefix, data("x")).await));
    for at in &given {
        let digits = at.as_str().strip_prefix(prefix.as_str()).expect("the name begins as asked");
        assert!(digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit()), "{at}");
    }
    assert!(given.is_sorted_by(|earlier, later| earlier < later), "{given:?}");
    let names = applied(one.children(&path("/line/of")).await);
    assert_eq!(names, ["bystander", given[0].name(), given[1].name(), given[3].name()]);
    assert_eq!(applied(two.read(&given[0]).await).data, data("x"));
    applied(one.create(&path("/single"), data(""), Lifetime::Session).await);
    let below = one.create_numbered(&path("/single/candidate"), data("")).await;
    assert_eq!(refused(below), RefusalKind::Invalid);
}

/// Who leads is known to be gone.
pub async fn numbered_nodes_end_with_their_session(harness: &impl CoordinationHarness) {
    let (leader, next) = (harness.connect().await, harness.connect().await);
    let prefix = path("/leaders/leader");
    applied(leader.create_numbered(&prefix, data("")).await);
    let second = applied(next.create_numbered(&prefix, data("")).await);
    let mut watch = applied(next.watch(&path("/leaders")).await);
    harness.expire(&leader).await;
    assert_eq!(refused(leader.create_numbered(&prefix, data("")).await), RefusalKind::Fenced);
    loop {
        let names = applied(next.children(&path("/leaders")).await);
        if names == [second.name()] {
            break;
        }
        watch.changed().await;
    }
}

/// A zombie cannot write through an old session.
pub async fn an_expired_session_is_fenced_and_told(harness: &impl CoordinationHarness) {
    let session = harness.connect().await;
    create(&session, "/offset", "1").await;
    let told = tokio::time::timeout(Duration::from_millis(50), session.expired()).await;
    assert!(told.is_err(), "told too early");
    harness.expire(&session).await;
    session.expired().await;
    let late = session.write(&path("/offset"), data("2"), Expect::Any).await;
    assert_eq!(refused(late), RefusalKind::Fenced);
    assert_eq!(refused(session.read(&path("/offset")).await), RefusalKind::Fenced);
    let next = harness.connect().await;
    assert_eq!(applied(next.read(&path("/offset")).await).data, data("1"));
}

/// Watch, read, wait: no gap.
pub async fn a_watch_made_before_the_change_is_never_missed(harness: &impl CoordinationHarness) {
    let (one, two) = (harness.connect().await, harness.connect().await);
    create(&one, "/state", "0").await;
    let mut watch = applied(two.watch(&path("/state")).await);
    applied(one.write(&path("/state"), data("1"), Expect::Any).await);
    watch.changed().await;
    assert_eq!(applied(two.read(&path("/state")).await).data, data("1"));
    let ((), written) = tokio::join!(watch.changed(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        one.write(&path("/state"), data("2"), Expect::Any).await
    });
    applied(written);
}

/// Membership is watched on the parent; a node can be watched before it exists.
pub async fn a_watch_sees_children_and_creation(harness: &impl CoordinationHarness) {
    let (one, two) = (harness.connect().await, harness.connect().await);
    let mut watch = applied(two.watch(&path("/members")).await);
    create(&one, "/members", "").await;
    watch.changed().await;
    let mut watch = applied(two.watch(&path("/members")).await);
    applied(one.create(&path("/members/a"), data(""), Lifetime::Session).await);
    watch.changed().await;
    let mut watch = applied(two.watch(&path("/members")).await);
    drop(one);
    watch.changed().await;
}

/// Sessions do not survive, their nodes neither.
pub async fn durable_nodes_survive_a_restart_and_ephemeral_ones_do_not(
    harness: &impl DurableCoordinationHarness,
) {
    let version = {
        let session = harness.open().await;
        create(&session, "/deep/offset", "1").await;
        create(&session, "/deep/deleted", "1").await;
        applied(session.delete(&path("/deep/deleted"), Expect::Any).await);
        applied(session.create(&path("/deep/owner"), data("me"), Lifetime::Session).await);
        applied(session.write(&path("/deep/offset"), data("2"), Expect::Any).await)
    };
    let session = harness.open().await;
    let node = applied(session.read(&path("/deep/offset")).await);
    assert_eq!((node.data, node.version), (data("2"), version));
    assert_eq!(applied(session.children(&path("/deep")).await), ["offset"]);
    applied(session.write(&path("/deep/offset"), data("3"), Expect::Version(version)).await);
}
