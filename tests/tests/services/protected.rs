//! Everything over TLS: Redis, ZooKeeper and sites behind doors with certificates, and the daemons between them.

use crate::daemons::{Client, fails};
use crate::kafka_security;
use crate::redis::config_of;
use anyhow::{Context as _, Result, ensure};
use backbeat::stack::{ACCESS_KEY, REGION, SECRET_KEY};
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::coordination::zookeeper::{ConnectError, ZooKeeperConfig, ZooKeeperSession};
use backbeat_backends::coordination::{Coordination as _, Lifetime, NodePath};
use backbeat_backends::credentials::Credentials;
use backbeat_backends::credentials::account::StaticCredentials;
use backbeat_backends::http::{ClientError, Request, SignedClient, Transport};
use backbeat_backends::objects::ObjectSite as _;
use backbeat_backends::objects::TimeLimits;
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_backends::stats::Stats as _;
use backbeat_backends::stats::redis::{RedisAddress, RedisPlace, RedisStats};
use backbeat_backends::tls::{IdentityFiles, Tls, TlsFiles};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::model::{ObjectRef, VersionRef};
use backbeat_tests::authority::{Authority, Issued};
use backbeat_tests::dev::Place;
use backbeat_tests::fleet::{Fleet, Places};
use backbeat_tests::services::{OwnRedis, OwnZookeeper, Services, redis_program};
use backbeat_tests::suite::Test;
use backbeat_tests::tls_relay::TlsRelay;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take on the slowest machine.
const TIME_MAX: Duration = Duration::from_mins(2);

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let zookeeper = services.address("ZOOKEEPER");
    let daemons_need = redis_program().and(zookeeper.clone()).and(services.address("KAFKA"));
    vec![
        Test::new("protected::redis_is_reached_by_whom_it_believes", redis_program(), redis),
        Test::new("protected::zookeeper_is_reached_by_whom_it_believes", zookeeper, zookeeper_sessions),
        Test::new("protected::daemons_do_their_work_over_tls_alone", daemons_need, daemons),
        Test::new("protected::sites_are_reached_by_whom_they_believe", Ok::<(), String>(()), sites),
    ]
}

/// Two authorities that know nothing of each other, and certificates.
struct Papers {
    _folder: tempfile::TempDir,
    ours: Authority,
    others: Authority,
    server: Issued,
    client: Issued,
    stranger: Issued,
}

impl Papers {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ours = Authority::new(folder.path(), "ours")?;
        let others = Authority::new(folder.path(), "others")?;
        let (server, client, stranger) =
            (ours.issue("server")?, ours.issue("client")?, others.issue("stranger")?);
        Ok(Self { _folder: folder, ours, others, server, client, stranger })
    }

    /// What a client has that is who it should be.
    fn right(&self) -> Result<Tls> {
        read(&self.ours, Some(&self.client))
    }

    /// Clients that are not let in or do not believe the server, with what that is called.
    fn wrong(&self) -> Result<[(Tls, &'static [&'static str]); 3]> {
        Ok([
            (read(&self.others, Some(&self.client))?, &["UnknownIssuer"]),
            // Servers of different libraries call it differently.
            (read(&self.ours, None)?, &["CertificateRequired", "BadCertificate", "HandshakeFailure"]),
            (
                read(&self.ours, Some(&self.stranger))?,
                &["UnknownCA", "BadCertificate", "CertificateUnknown", "DecryptError", "DecryptionError"],
            ),
        ])
    }
}

fn read(authority: &Authority, identity: Option<&Issued>) -> Result<Tls> {
    let identity =
        identity.map(|own| IdentityFiles { certificate: own.certificate.clone(), key: own.key.clone() });
    Ok(Tls::read(&TlsFiles { authorities: Some(authority.file()), identity })?)
}

fn says_one_of(told: &str, words: &[&str]) -> Result<()> {
    ensure!(words.iter().any(|word| told.contains(word)), "{told:?} says none of {words:?}");
    Ok(())
}

/// Runs `check`, and gives how it ended.
fn checked(check: impl Future<Output = Result<()>>) -> Result<()> {
    let mut ended = Ok(());
    run(async { ended = check.await });
    ended
}

fn redis() -> Result<()> {
    let papers = Papers::new()?;
    let server = OwnRedis::protected(&papers.server, &papers.ours)?;
    let stats = |tls: Tls| {
        let address = RedisAddress { host: "localhost".to_owned(), port: server.protected_port() };
        let mut config = config_of(&server);
        config.place = RedisPlace::Server(address);
        config.tls = Some(tls);
        RedisStats::new(config)
    };
    checked(async {
        let right = stats(papers.right()?);
        ensure!(applied(right.add("count", 2, None).await) == 2);
        let mut listener = applied(right.subscribe("channel").await);
        applied(right.publish("channel", Bytes::from_static(b"hello")).await);
        listener.next().await;
        for (tls, _) in papers.wrong()? {
            let ending = stats(tls).add("count", 1, None).await;
            ensure!(!matches!(ending, Ending::Applied(_)), "the door is open");
        }
        let Ending::Refused(refusal) = stats(read(&papers.others, None)?).add("count", 1, None).await else {
            anyhow::bail!("the server was believed")
        };
        ensure!(refusal.kind == RefusalKind::Unavailable, "{refusal:?}");
        says_one_of(&refusal.code, &["UnknownIssuer"])?;
        ensure!(applied(right.add("count", 1, None).await) == 3, "somebody else counted");
        Ok(())
    })
}

fn zookeeper_sessions() -> Result<()> {
    let papers = Papers::new()?;
    let server = OwnZookeeper::protected(&papers.server, &papers.ours)?;
    let config = |tls: Tls| {
        let mut config = ZooKeeperConfig::new(format!("{}/folder", server.protected_address()));
        config.makes_namespace = true;
        config.answer_time_max = Duration::from_secs(20);
        config.tls = Some(tls);
        config
    };
    checked(async {
        let session = ZooKeeperSession::connect(&config(papers.right()?)).await?;
        let node = NodePath::new("/node")?;
        applied(session.create(&node, Bytes::from_static(b"hello"), Lifetime::Session).await);
        ensure!(applied(session.read(&node).await).data.as_ref() == b"hello");
        session.close().await;
        for (tls, words) in papers.wrong()? {
            // Long enough for a server that would let us in, and not for the tests.
            let config = ZooKeeperConfig { answer_time_max: Duration::from_secs(3), ..config(tls) };
            let error = ZooKeeperSession::connect(&config).await.err().context("the door is open")?;
            ensure!(matches!(error, ConnectError::Distrust { .. }), "{error}");
            says_one_of(&error.to_string(), words)?;
        }
        Ok(())
    })
}

fn sites() -> Result<()> {
    let papers = Papers::new()?;
    let former = papers.ours.issue_expired("former")?;
    let directory = tempfile::tempdir()?;
    let mut place = Place::new(directory.path()).with_sites_alone();
    let _sites = place.start_ready()?;
    let source = place.addresses()?.source.clone();
    checked(async {
        let relay = TlsRelay::to(&source, &papers.server, Some(&papers.ours)).await?;
        let expired = TlsRelay::to(&source, &former, None).await?;
        let client = |address: &str, tls: Tls| {
            let keys = Credentials::lasting(ACCESS_KEY, SECRET_KEY);
            SignedClient::over(&Transport::Https(tls), address, (&keys).into(), REGION)
        };
        let list = |client: SignedClient| async move {
            client.fetch(Request::new(Method::GET, "/"), TIME_MAX, 1 << 20).await
        };
        let answer = list(client(relay.address(), papers.right()?)).await?;
        ensure!(answer.status().is_success(), "{answer:?}");
        for (tls, _) in papers.wrong()? {
            ensure!(list(client(relay.address(), tls)).await.is_err(), "the door is open");
        }
        // Servers that are not believed are never asked.
        let believers = [
            (relay.address(), read(&papers.others, Some(&papers.client))?, ["UnknownIssuer"]),
            (expired.address(), papers.right()?, ["expired"]),
        ];
        for (address, tls, words) in believers {
            let error = list(client(address, tls.clone())).await.err().context("the door is open")?;
            ensure!(matches!(error, ClientError::Distrust { .. }) && error.is_definite(), "{error}");
            says_one_of(&error.to_string(), &words)?;
            // A site that is not believed is one that is not there: nothing was done, and it is tried again.
            let keys = StaticCredentials::new(Credentials::lasting(ACCESS_KEY, SECRET_KEY));
            let site = CloudServer::over(vec![client(address, tls)], Arc::new(keys), TimeLimits::default());
            let object = ObjectRef::new("bucket", "key", VersionRef::Null);
            let Ending::Refused(refusal) = site.read_metadata(&object).await else {
                anyhow::bail!("the site was reached")
            };
            ensure!(refusal.kind == RefusalKind::Unavailable, "{refusal:?}");
            says_one_of(&refusal.code, &words)?;
        }
        Ok(())
    })
}

fn daemons() -> Result<()> {
    const BUCKET: &str = "photos";
    let papers = Papers::new()?;
    let kafka = kafka_security::with_passwords(&papers.server)?;
    let zookeeper = OwnZookeeper::protected(&papers.server, &papers.ours)?;
    let redis = OwnRedis::protected(&papers.server, &papers.ours)?;
    let directory = tempfile::tempdir()?;
    let mut place = Place::new(directory.path()).with_sites_alone();
    let _sites = place.start_ready()?;
    let plain = place.addresses()?.clone();

    let runtime = tokio::runtime::Runtime::new()?;
    let mut relays = Vec::new();
    let mut behind = |address: &str, clients| -> Result<String> {
        let relay = runtime.block_on(TlsRelay::to(address, &papers.server, clients))?;
        let address = relay.address().to_owned();
        relays.push(relay);
        Ok(address)
    };
    let mut sites = plain.clone();
    sites.source = behind(&plain.source, Some(&papers.ours))?;
    sites.journal =
        Some(behind(plain.journal.as_deref().context("there is a journal")?, Some(&papers.ours))?);
    for (_, address) in &mut sites.targets {
        *address = behind(address, None)?;
    }
    let places = Places {
        kafka: kafka.door(0)?,
        zookeeper: format!("{}/backbeat", zookeeper.protected_address()),
        redis: format!("localhost:{}", redis.protected_port()),
    };
    let mut fleet = Fleet::new(directory.path(), &sites, &places, "")?;
    let authority = json!({"ca": papers.ours.file()});
    let mutual =
        json!({"ca": papers.ours.file(), "cert": papers.client.certificate, "key": papers.client.key});
    std::fs::write(directory.path().join("password"), format!("{}\n", kafka_security::PASSWORD))?;
    let user =
        json!({"mechanism": "SCRAM-SHA-512", "username": kafka_security::USER, "passwordFile": "password"});
    for (pointer, value) in [
        ("/kafka/tls", &authority),
        ("/kafka/sasl", &user),
        ("/zookeeper/tls", &mutual),
        ("/redis/tls", &mutual),
        ("/certFilePaths", &authority),
        ("/internalCertFilePaths", &mutual),
        ("/extensions/replication/source/transport", &json!("https")),
        ("/extensions/replication/destination/transport", &json!("https")),
        ("/queuePopulator/bucketd/transport", &json!("https")),
    ] {
        fleet.configure(pointer, value.clone())?;
    }

    runtime.block_on(async {
        let source = Client::at(&plain.source);
        let targets: Vec<Client> = plain.targets.iter().map(|(_, address)| Client::at(address)).collect();
        for target in &targets {
            target.make_bucket(BUCKET).await?;
        }
        source.make_bucket(BUCKET).await?;
        source.replicate(BUCKET, "paris,tokyo").await?;
        let object = format!("/{BUCKET}/first");
        source.put(&object, None, "hello").await?;
        let daemons = fleet.start_ready(&["run", "--all"])?;
        for target in &targets {
            target.wait_for(&object, "REPLICA").await?;
        }
        source.wait_for(&object, "COMPLETED").await?;
        Fleet::terminate(daemons)
    })?;

    let wrong = json!({"mechanism": "PLAIN", "username": kafka_security::USER, "password": "wrong-word"});
    for (pointer, value, words) in [
        ("/kafka/sasl", wrong, &["uthentication failed"]),
        ("/kafka/tls", json!({"ca": papers.others.file()}), &["certificate verify failed"]),
        ("/zookeeper/tls", authority, &["no protected connection"]),
    ] {
        fleet.configure(pointer, value)?;
        let (code, line) = fails(&fleet, &["replication-status-processor"])?;
        ensure!(code == Some(7) && !line.contains("wrong-word"), "{pointer}: {code:?}: {line}");
        says_one_of(&line, words)?;
    }
    Ok(())
}
