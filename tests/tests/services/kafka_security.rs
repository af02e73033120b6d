//! The queue in Kafka behind doors that not everybody may use: TLS, certificates of clients, users and passwords.

use crate::kafka::{Grouped, config, open};
use anyhow::{Context as _, Result, ensure};
use backbeat_backends::conformance::{applied, run};
use backbeat_backends::credentials::Secret;
use backbeat_backends::queue::kafka::{KafkaConfig, KafkaQueue, KafkaSecurity, KafkaUser, SaslMechanism};
use backbeat_backends::queue::{
    Consumer as _, ConsumerEvent, Group, Producer as _, Queue as _, QueueError, Record, TopicSpec,
};
use backbeat_backends::tls::{IdentityFiles, TlsFiles};
use backbeat_core::id::Topic;
use backbeat_tests::authority::{Authority, Issued};
use backbeat_tests::services::{Door, OwnKafka, unique};
use backbeat_tests::suite::Test;
use std::time::{Duration, Instant};

pub(crate) const USER: &str = "backbeat";
pub(crate) const PASSWORD: &str = "open-sesame";
/// Who is refused hears of it long before a broker that is silent is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a door that does not say why it is closed is tried.
const CLOSED_TIME: Duration = Duration::from_secs(10);

/// The doors, in this order.
const OVER_TLS: usize = 0;
const WITH_CERTIFICATE: usize = 1;
const WITH_PASSWORD: usize = 2;
const IN_THE_OPEN: usize = 3;
const EXPIRED: usize = 4;

pub(crate) fn tests() -> Vec<Test> {
    let name = "kafka::protected_doors_open_to_whom_they_should_and_the_others_are_told_why";
    vec![Test::new(name, Ok::<(), String>(()), doors)]
}

/// What a broker's door says of itself, and whom it believes.
fn tls(own: &Issued, clients: Option<&Authority>) -> Vec<(&'static str, String)> {
    let mut properties = vec![
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", own.both.display().to_string()),
    ];
    if let Some(authority) = clients {
        properties.extend([
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.location", authority.file().display().to_string()),
            ("ssl.client.auth", "required".to_owned()),
        ]);
    }
    properties
}

fn passwords() -> Vec<(&'static str, String)> {
    const MODULES: &str = "org.apache.kafka.common.security";
    let plain = format!(
        "{MODULES}.plain.PlainLoginModule required username=\"x\" password=\"x\" user_{USER}=\"{PASSWORD}\";"
    );
    let scram = format!("{MODULES}.scram.ScramLoginModule required;");
    vec![
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()),
        ("plain.sasl.jaas.config", plain),
        ("scram-sha-256.sasl.jaas.config", scram.clone()),
        ("scram-sha-512.sasl.jaas.config", scram),
    ]
}

fn user(mechanism: SaslMechanism, password: &str) -> KafkaUser {
    KafkaUser { mechanism, name: USER.to_owned(), password: Secret::new(password) }
}

/// A queue behind a door.
fn through(address: &str, tls: Option<TlsFiles>, sasl: Option<KafkaUser>) -> KafkaConfig {
    let mut config = config(address, &unique());
    config.security = KafkaSecurity { tls, sasl };
    config.answer_time_max = PATIENCE;
    config
}

fn believing(authority: &Authority) -> TlsFiles {
    TlsFiles { authorities: Some(authority.file()), identity: None }
}

fn being(authority: &Authority, issued: &Issued) -> TlsFiles {
    let identity = IdentityFiles { certificate: issued.certificate.clone(), key: issued.key.clone() };
    TlsFiles { identity: Some(identity), ..believing(authority) }
}

/// A message goes there and comes back: producer, member of a group and the clients that ask, all of them.
async fn works(config: KafkaConfig) {
    let topic = Topic::from("topic");
    let queue: Grouped = open(config).await;
    applied(queue.create_topic(&TopicSpec::new(topic.clone()).partitioned(1)).await);
    applied(queue.producer().publish(&topic, Record::keyed("key", "hello")).await);
    let consumer =
        queue.subscribe(&Group::from("group"), std::slice::from_ref(&topic)).await.expect("it is there");
    loop {
        if let ConsumerEvent::Message(message) = consumer.next().await.expect("the consumer works") {
            assert_eq!(message.payload.as_deref(), Some(b"hello".as_slice()));
            break;
        }
    }
    consumer.leave().await;
}

/// What is said to who is not let in.
async fn denied(config: KafkaConfig) -> Result<String> {
    let begun = Instant::now();
    let error = KafkaQueue::open(config).await.err().context("the door is open")?;
    ensure!(matches!(error, QueueError::Denied(_)), "{error}");
    ensure!(begun.elapsed() < PATIENCE, "it was told late");
    let told = error.to_string();
    ensure!(!told.contains(PASSWORD) && !told.contains("wrong-word"), "{told}");
    Ok(told)
}

fn with_password(own: &Issued) -> Door {
    Door { protocol: "SASL_SSL", properties: tls(own, None).into_iter().chain(passwords()).collect() }
}

fn users() -> [String; 2] {
    ["SCRAM-SHA-256", "SCRAM-SHA-512"]
        .map(|mechanism| format!("{mechanism}=[name={USER},password={PASSWORD}]"))
}

/// A broker with one door, over TLS, for those who know the password.
pub(crate) fn with_passwords(own: &Issued) -> Result<OwnKafka> {
    OwnKafka::protected(&[with_password(own)], &users())
}

fn doors() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ours = Authority::new(folder.path(), "ours")?;
    let others = Authority::new(folder.path(), "others")?;
    let (broker, client, stranger) =
        (ours.issue("broker")?, ours.issue("client")?, others.issue("stranger")?);
    let doors = [
        Door { protocol: "SSL", properties: tls(&broker, None) },
        Door { protocol: "SSL", properties: tls(&broker, Some(&ours)) },
        with_password(&broker),
        Door { protocol: "SASL_PLAINTEXT", properties: passwords() },
        Door { protocol: "SSL", properties: tls(&ours.issue_expired("former")?, None) },
    ];
    let kafka = OwnKafka::protected(&doors, &users())?;
    let addresses = (0..doors.len()).map(|number| kafka.door(number)).collect::<Result<Vec<_>>>()?;
    let mut checked = Ok(());
    run(async { checked = check(&addresses, &ours, &others, &client, &stranger).await });
    checked
}

async fn check(
    addresses: &[String],
    ours: &Authority,
    others: &Authority,
    client: &Issued,
    stranger: &Issued,
) -> Result<()> {
    let at = |door: usize, tls, sasl| through(&addresses[door], tls, sasl);
    works(at(OVER_TLS, Some(believing(ours)), None)).await;
    works(at(WITH_CERTIFICATE, Some(being(ours, client)), None)).await;
    for mechanism in SaslMechanism::ALL {
        works(at(WITH_PASSWORD, Some(believing(ours)), Some(user(mechanism, PASSWORD)))).await;
        let wrong = user(mechanism, "wrong-word");
        let told = denied(at(WITH_PASSWORD, Some(believing(ours)), Some(wrong))).await?;
        ensure!(told.contains("SASL") && told.contains("uthentication failed"), "{told}");
    }
    works(at(IN_THE_OPEN, None, Some(user(SaslMechanism::ScramSha512, PASSWORD)))).await;

    let told = denied(at(OVER_TLS, Some(believing(others)), None)).await?;
    ensure!(told.contains("certificate verify failed"), "{told}");
    // That it has expired is not told: librdkafka says of every certificate the same.
    let told = denied(at(EXPIRED, Some(believing(ours)), None)).await?;
    ensure!(told.contains("certificate verify failed"), "{told}");
    // Brokers with the newer TLS say only after the handshake what they miss, and librdkafka does not always pass that on: the
    // door stays closed, whatever is said.
    for tls in [believing(ours), being(ours, stranger)] {
        let config = KafkaConfig { answer_time_max: CLOSED_TIME, ..at(WITH_CERTIFICATE, Some(tls), None) };
        let error = KafkaQueue::open(config).await.err().context("the door is open")?;
        ensure!(matches!(error, QueueError::Denied(_) | QueueError::Storage(_)), "{error}");
    }
    Ok(())
}
