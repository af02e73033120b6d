//! Coordination in ZooKeeper.

use crate::{populator, provisioning};
use anyhow::{Context as _, Result, ensure};
use backbeat_backends::conformance::{applied, refused, run};
use backbeat_backends::coordination::conformance::CoordinationHarness;
use backbeat_backends::coordination::zookeeper::{ConnectError, ZooKeeperConfig, ZooKeeperSession};
use backbeat_backends::coordination::{Coordination as _, Expect, Lifetime, NodePath};
use backbeat_backends::coordination_conformance;
use backbeat_backends::credentials::Secret;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_tests::relay::Relay;
use backbeat_tests::services::{Services, unique};
use backbeat_tests::suite::Test;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A ZooKeeper that does not answer for so long is none, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let address = services.address("ZOOKEEPER");
    let place = address.clone().unwrap_or_default();
    let make = || {
        let place = place.clone();
        async move || Folder::at(&place)
    };
    let cases = coordination_conformance!(conformance_list, zookeeper, make());
    let mut tests = crate::conformance(cases, &address);
    for (name, test) in [
        ("zookeeper::a_member_whose_session_expired_registers_again", members as fn(&str)),
        ("zookeeper::a_session_that_the_server_does_not_hear_of_ends", silence),
        ("zookeeper::a_session_survives_a_lost_connection", connection),
        ("zookeeper::a_missing_server_is_named", missing),
        ("zookeeper::a_missing_folder_is_made_only_if_asked_for", folder),
        (
            "zookeeper::a_populator_whose_session_expired_is_fenced_and_its_successor_goes_on",
            populator::session,
        ),
        (
            "zookeeper::a_populator_whose_instance_lost_the_journal_never_moves_its_position",
            populator::ownership,
        ),
        ("zookeeper::instances_share_provisions_as_in_the_examples_of_upstream", provisioning::examples),
        ("zookeeper::an_instance_that_falls_silent_is_replaced_within_its_session", provisioning::silence),
        ("zookeeper::instances_whose_sessions_expired_share_again", provisioning::expiry),
        ("zookeeper::nodes_of_a_user_are_closed_to_others", digest),
    ] {
        let place = place.clone();
        tests.push(Test::new(name, address.clone(), move || {
            test(&place);
            Ok(())
        }));
    }
    tests
}

fn config(connection: String) -> ZooKeeperConfig {
    let mut config = ZooKeeperConfig::new(connection);
    config.answer_time_max = PATIENCE;
    config
}

pub(crate) fn path(text: &str) -> NodePath {
    NodePath::new(text).expect("the path is valid")
}

pub(crate) async fn open(config: &ZooKeeperConfig) -> ZooKeeperSession {
    ZooKeeperSession::connect(config).await.expect("the server is there")
}

/// A folder of its own on the shared server, and for every session a link of its own.
pub(crate) struct Folder {
    pub(crate) address: String,
    pub(crate) config: ZooKeeperConfig,
    links: Mutex<BTreeMap<i64, Arc<Relay>>>,
}

impl Folder {
    pub(crate) fn at(address: &str) -> Self {
        let mut config = config(format!("{address}/{}/below", unique()));
        config.makes_namespace = true;
        Self { address: address.to_owned(), config, links: Mutex::default() }
    }

    /// The same folder with sessions of a second, the shortest that the server allows.
    fn with_short_sessions(address: &str) -> Self {
        let mut folder = Self::at(address);
        folder.config.session_time = Duration::from_secs(1);
        folder
    }

    fn link(&self, session: &ZooKeeperSession) -> Arc<Relay> {
        let links = self.links.lock().expect("nobody panics with it");
        Arc::clone(links.get(&session.id()).expect("this harness made the session"))
    }
}

impl CoordinationHarness for Folder {
    type Session = ZooKeeperSession;

    async fn connect(&self) -> ZooKeeperSession {
        let relay = Relay::to(&self.address).await.expect("loopback has ports");
        let mut config = self.config.clone();
        config.connection = config.connection.replace(&self.address, relay.address());
        let session = open(&config).await;
        self.links.lock().expect("nobody panics with it").insert(session.id(), Arc::new(relay));
        session
    }

    /// The server ends the session while its owner is cut off; the owner learns of it when it comes back.
    async fn expire(&self, session: &ZooKeeperSession) {
        let link = self.link(session);
        link.cut();
        end_session(&self.address, session.id(), &link.first_words()).await.expect("the server is there");
        link.heal();
    }
}

/// Ends a session over a connection that nobody else knows of: takes it up with what the server answered to its owner,
/// and asks to close it.
pub(crate) async fn end_session(address: &str, id: i64, answer: &[u8]) -> Result<()> {
    // Length, version of the protocol, time-out, id, and the password with its length.
    let known = answer.get(12..40).context("the server's answer came whole")?;
    ensure!(known[..8] == id.to_be_bytes(), "the answer belongs to another session");
    let mut stream = TcpStream::connect(address).await?;
    let mut opening = Vec::new();
    // Version of the protocol, last change seen, time-out.
    opening.extend_from_slice(&0_i32.to_be_bytes());
    opening.extend_from_slice(&0_i64.to_be_bytes());
    opening.extend_from_slice(&30_000_i32.to_be_bytes());
    opening.extend_from_slice(known);
    // Not satisfied with a server that only reads.
    opening.push(0);
    stream.write_all(&frame(&opening)).await?;
    let taken = read_frame(&mut stream).await?;
    ensure!(taken.get(8..16) == Some(&known[..8]), "the server does not know the session");
    // The number of the request, and what is asked for: close.
    let close = [1_i32.to_be_bytes(), (-11_i32).to_be_bytes()].concat();
    stream.write_all(&frame(&close)).await?;
    read_frame(&mut stream).await?;
    Ok(())
}

fn frame(content: &[u8]) -> Vec<u8> {
    let length = i32::try_from(content.len()).expect("it is short");
    [&length.to_be_bytes(), content].concat()
}

async fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(stream.read_i32().await?)?];
    stream.read_exact(&mut content).await?;
    Ok(content)
}

fn members(address: &str) {
    let folder = Folder::at(address);
    run(async {
        let observer = folder.connect().await;
        let member = path("/members/one");
        let first = folder.connect().await;
        applied(first.create(&member, Bytes::from_static(b"first"), Lifetime::Session).await);
        folder.expire(&first).await;
        first.expired().await;
        // The server ended the session before it told: the place is free.
        assert_eq!(refused(observer.read(&member).await), RefusalKind::NotFound);
        let second = folder.connect().await;
        applied(second.create(&member, Bytes::from_static(b"second"), Lifetime::Session).await);
        assert_eq!(applied(observer.read(&member).await).data, Bytes::from_static(b"second"));
        let late = first.delete(&member, Expect::Any).await;
        assert_eq!(refused(late), RefusalKind::Fenced);
        drop(first);
        assert_eq!(applied(observer.children(&path("/members")).await), ["one"]);
    });
}

/// Nobody ends the session: the server has not heard of it for its time.
fn silence(address: &str) {
    let folder = Folder::with_short_sessions(address);
    run(async {
        let mut patient = folder.config.clone();
        patient.session_time = PATIENCE;
        let observer = open(&patient).await;
        let (members, member) = (path("/members"), path("/members/one"));
        let first = loop {
            let session = folder.connect().await;
            match session.create(&member, Bytes::from_static(b"first"), Lifetime::Session).await {
                Ending::Applied(_) => break session,
                // A machine that stalls for a second ends a session of a second.
                ending @ (Ending::Refused(_) | Ending::Unknown) => eprintln!("once more: {ending:?}"),
            }
        };
        let mut watch = applied(observer.watch(&members).await);
        let link = folder.link(&first);
        link.silence();
        // It learns of it from its own clock: nobody can tell it.
        first.expired().await;
        assert_eq!(refused(first.read(&member).await), RefusalKind::Fenced);
        while !applied(observer.children(&members).await).is_empty() {
            watch.changed().await;
        }
        let second = open(&patient).await;
        applied(second.create(&member, Bytes::from_static(b"second"), Lifetime::Session).await);
        // What the first one comes back to is over.
        link.heal();
        assert_eq!(refused(first.write(&member, Bytes::new(), Expect::Any).await), RefusalKind::Fenced);
        assert_eq!(applied(observer.read(&member).await).data, Bytes::from_static(b"second"));
    });
}

/// A lost connection is not a lost session.
fn connection(address: &str) {
    let folder = Folder::at(address);
    run(async {
        let observer = folder.connect().await;
        let member = path("/members/one");
        let session = folder.connect().await;
        applied(session.create(&member, Bytes::new(), Lifetime::Session).await);
        let mut watch = applied(session.watch(&path("/state")).await);
        let link = folder.link(&session);
        link.cut();
        // A change of which it can only learn when it is back.
        applied(observer.create(&path("/state"), Bytes::new(), Lifetime::Durable).await);
        link.heal();
        watch.changed().await;
        // The connection may be on its way; what is asked meanwhile is answered once it is there, or was not done.
        loop {
            match session.read(&path("/state")).await {
                Ending::Applied(_) => break,
                Ending::Refused(refusal) if refusal.kind == RefusalKind::Unavailable => {}
                ending @ (Ending::Refused(_) | Ending::Unknown) => panic!("{ending:?}"),
            }
        }
        applied(observer.read(&member).await);
        applied(session.delete(&member, Expect::Any).await);
    });
}

/// The line that an operator reads.
fn missing(address: &str) {
    run(async {
        let relay = Relay::to(address).await.expect("loopback has ports");
        relay.cut();
        let mut config = ZooKeeperConfig::new(format!("{}/backbeat", relay.address()));
        config.answer_time_max = Duration::from_millis(300);
        let error = ZooKeeperSession::connect(&config).await.expect_err("nobody is there");
        let message = error.to_string();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{message}");
        assert!(message.contains(relay.address()) && message.contains("300ms"), "{message}");
    });
}

fn folder(address: &str) {
    let mut config = config(format!("{address}/{}", unique()));
    run(async {
        let node = path("/node");
        let without = open(&config).await;
        let made = without.create(&node, Bytes::new(), Lifetime::Durable).await;
        assert_eq!(refused(made), RefusalKind::NotFound);
        config.makes_namespace = true;
        let with = open(&config).await;
        applied(with.create(&node, Bytes::new(), Lifetime::Durable).await);
        applied(without.read(&node).await);
        let root = open(&ZooKeeperConfig::new(address)).await;
        let (_, name) = config.connection.split_once('/').expect("the folder has a name");
        applied(root.read(&path(&format!("/{name}/node"))).await);
    });
}

fn digest(address: &str) {
    let folder = format!("{address}/{}", unique());
    let as_user = |user: &str, password: &str| {
        let mut config = config(folder.clone());
        config.makes_namespace = true;
        config.digest = Some((user.to_owned(), Secret::new(password)));
        assert!(!format!("{config:?}").contains(password));
        config
    };
    run(async {
        let node = path("/node");
        let owner = open(&as_user("owner", "open-sesame")).await;
        applied(owner.create(&node, Bytes::from_static(b"x"), Lifetime::Durable).await);
        let stranger = open(&config(folder.clone())).await;
        assert_eq!(refused(stranger.read(&node).await), RefusalKind::Denied);
        assert_eq!(refused(stranger.write(&node, Bytes::new(), Expect::Any).await), RefusalKind::Denied);
        let wrong = open(&as_user("owner", "shut-sesame")).await;
        assert_eq!(refused(wrong.read(&node).await), RefusalKind::Denied);
        assert_eq!(applied(owner.read(&node).await).data, Bytes::from_static(b"x"));
    });
}
