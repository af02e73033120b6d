//! Coordination in ZooKeeper.

use anyhow::Result;
use backbeat_backends::conformance::{applied, refused, run};
use backbeat_backends::coordination::conformance::CoordinationHarness;
use backbeat_backends::coordination::zookeeper::{ZooKeeperConfig, ZooKeeperSession};
use backbeat_backends::coordination::{Coordination as _, Expect, Lifetime, NodePath};
use backbeat_backends::coordination_conformance;
use backbeat_backends::credentials::Secret;
use backbeat_core::call::RefusalKind;
use backbeat_tests::services::{Services, unique};
use backbeat_tests::suite::Test;
use bytes::Bytes;
use std::time::Duration;

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
    let mut tests: Vec<Test> = cases
        .into_iter()
        .map(|(name, case)| {
            Test::new(name, address.clone(), move || {
                case();
                Ok(())
            })
        })
        .collect();
    for (name, test) in [
        ("zookeeper::a_member_whose_session_expired_registers_again", members as fn(&str) -> Result<()>),
        ("zookeeper::a_missing_folder_is_made_only_if_asked_for", folder),
        ("zookeeper::nodes_of_a_user_are_closed_to_others", digest),
    ] {
        let place = place.clone();
        tests.push(Test::new(name, address.clone(), move || test(&place)));
    }
    tests
}

fn config(connection: String) -> ZooKeeperConfig {
    let mut config = ZooKeeperConfig::new(connection);
    config.answer_time_max = PATIENCE;
    config
}

fn path(text: &str) -> NodePath {
    NodePath::new(text).expect("the path is valid")
}

async fn open(config: &ZooKeeperConfig) -> ZooKeeperSession {
    ZooKeeperSession::connect(config).await.expect("the server is there")
}

/// A folder of its own on the shared server.
struct Folder(ZooKeeperConfig);

impl Folder {
    fn at(address: &str) -> Self {
        let mut config = config(format!("{address}/{}/below", unique()));
        config.makes_namespace = true;
        Self(config)
    }
}

impl CoordinationHarness for Folder {
    type Session = ZooKeeperSession;

    async fn connect(&self) -> ZooKeeperSession {
        open(&self.0).await
    }

    async fn expire(&self, session: &ZooKeeperSession) {
        session.expire(&self.0.connection).await.expect("the server is there");
    }
}

fn members(address: &str) -> Result<()> {
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
    Ok(())
}

fn folder(address: &str) -> Result<()> {
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
    Ok(())
}

fn digest(address: &str) -> Result<()> {
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
        assert_eq!(
            refused(stranger.write(&node, Bytes::new(), Expect::Any).await),
            RefusalKind::Denied
        );
        let wrong = open(&as_user("owner", "shut-sesame")).await;
        assert_eq!(refused(wrong.read(&node).await), RefusalKind::Denied);
        assert_eq!(applied(owner.read(&node).await).data, Bytes::from_static(b"x"));
    });
    Ok(())
}
