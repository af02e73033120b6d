//! The sections that daemons on real services need, as they stand in `config.json` (replication reference section 11).

use std::fmt;

use backbeat_backends::journal::dmd::LOG_NAME_DEFAULT;
use serde::Deserialize;

/// `kafka` (replication reference 11.3).
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Some brokers, `host:port,host:port`.
    pub hosts: String,
    /// The largest message that is published, bytes.
    pub max_request_size: Option<usize>,
    /// The rack of this process, for reading from followers there.
    pub site: Option<String>,
    /// Where consumers write how far they are.
    #[serde(default)]
    pub backlog_metrics: BacklogMetrics,
    /// Partitions of topics that have to be made while the replication topic is not there yet; ours.
    pub partitions: Option<u32>,
    /// Copies of topics that have to be made; ours.
    pub replication_factor: Option<u16>,
    /// Without a sign of life for so long (milliseconds) a consumer is out of its group; ours.
    pub session_timeout_ms: Option<u64>,
    /// Certificates, if brokers are spoken to over TLS; ours.
    pub tls: Option<Certificates>,
    /// In whose name; ours.
    pub sasl: Option<Sasl>,
    /// Further properties of librdkafka, by its names; ours.
    #[serde(default)]
    pub properties: std::collections::BTreeMap<String, String>,
}

/// Files of TLS, as `certFilePaths` has them (replication reference 8.4). Empty names are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Certificates {
    /// The private key.
    pub key: String,
    /// The certificate that goes with it.
    pub cert: String,
    /// The authorities that are believed.
    pub ca: String,
}

/// `kafka.sasl`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// How it is shown that the password is known, by Kafka's names.
    pub mechanism: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: Option<String>,
    /// A file with the password.
    pub password_file: Option<String>,
}

/// `kafka.backlogMetrics`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BacklogMetrics {
    /// The node above all.
    pub zk_path: Option<String>,
    /// Seconds between two writes.
    pub interval_s: Option<f64>,
}

/// `zookeeper` (replication reference 11.2).
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZooKeeper {
    /// `host:port[,host:port...][/chroot]`.
    pub connection_string: String,
    /// Whether a missing chroot is made.
    #[serde(default)]
    pub auto_create_namespace: bool,
    /// Without a sign of life for so long (milliseconds) a session is over; ours.
    pub session_timeout_ms: Option<u64>,
    /// Certificates, if the servers are spoken to over TLS; ours.
    pub tls: Option<Certificates>,
    /// In whose name; ours.
    pub auth: Option<Login>,
}

/// `zookeeper.auth`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Option<String>,
    /// A file with the password.
    pub password_file: Option<String>,
}

/// `redis` (replication reference 11.4).
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// The server, unless sentinels are named.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// What sentinels call the master.
    pub name: Option<String>,
    /// Sentinels.
    pub sentinels: Option<Sentinels>,
    /// The server's password.
    pub password: Option<String>,
    /// The sentinels' password.
    pub sentinel_password: Option<String>,
    /// A file with the server's password; ours.
    pub password_file: Option<String>,
    /// A file with the sentinels' password; ours.
    pub sentinel_password_file: Option<String>,
    /// Certificates, if servers and sentinels are spoken to over TLS; ours.
    pub tls: Option<Certificates>,
}

/// Where sentinels are.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Sentinels {
    /// `host:port,host:port`.
    Text(String),
    /// One by one.
    List(Vec<HostAndPort>),
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HostAndPort {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl HostAndPort {
    /// `host:port`.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// How servers are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In the open.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Transport {
    /// Where servers listen that are named without a port.
    pub fn port_default(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// How a site is told who asks (replication reference 8.1).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// `account`, `service`, `role` or `assumeRole`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The account of `account` and `service`, and the one whose role `assumeRole` assumes.
    pub account: Option<String>,
    /// The role of `assumeRole`, with its path.
    pub role_name: Option<String>,
    /// Where `assumeRole` assumes it.
    pub sts: Option<Sts>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, account, role_name, .. } = self;
        formatter
            .debug_struct("Auth")
            .field("kind", kind)
            .field("account", account)
            .field("role_name", role_name)
            .finish_non_exhaustive()
    }
}

/// `auth.sts` (replication reference 8.1).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sts {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to; ours.
    #[serde(default)]
    pub transport: Transport,
    /// The keys of whoever may assume the role.
    pub access_key: Option<String>,
    /// The secret one.
    pub secret_key: Option<String>,
    /// A file with both.
    pub external_file: Option<String>,
}

/// `extensions.replication.source`.
#[derive(Clone, Deserialize)]
pub struct Source {
    /// How it is spoken to.
    #[serde(default)]
    pub transport: Transport,
    /// Where its S3 is.
    pub s3: HostAndPort,
    /// Who asks.
    pub auth: Auth,
}

/// `extensions.replication.destination`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// How the sites are spoken to.
    #[serde(default)]
    pub transport: Transport,
    /// Who asks.
    pub auth: Auth,
    /// The sites.
    #[serde(default)]
    pub bootstrap_list: Vec<BootstrapSite>,
}

/// A site of the bootstrap list (replication reference 5.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BootstrapSite {
    /// Its name.
    pub site: String,
    /// Its servers, `host[:port]`; a port that is left out is the usual one.
    #[serde(default)]
    pub servers: Vec<String>,
    /// `s3` for a site that is reached by S3 alone; upstream's names are of clouds that are reached through the source.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whether buckets are echoed to it.
    #[serde(default)]
    pub echo: bool,
    /// What is only said of sites of type `s3`; ours.
    #[serde(flatten)]
    pub s3: S3Options,
}

/// How a site of type `s3` is spoken to, and how its copies are written. All of it is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Options {
    /// How its servers are spoken to; as the other destinations, if it is left out.
    pub transport: Option<Transport>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// Who asks; as at the other destinations, if it is left out.
    pub auth: Option<Auth>,
    /// Whether it honours `If-Match` and `If-None-Match` of puts, completions and deletions.
    #[serde(default)]
    pub conditional_writes: bool,
    /// The storage class of copies.
    pub storage_class: Option<String>,
    /// The encryption of copies.
    pub server_side_encryption: Option<Encryption>,
}

/// `serverSideEncryption` of a site of type `s3`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// `AES256`, `aws:kms` or another one that the site knows.
    pub algorithm: String,
    /// The managed key; the site's own if it is left out.
    pub kms_key_id: Option<String>,
}

/// The type of sites that are reached by S3 alone; ours.
pub const S3_SITE: &str = "s3";

impl BootstrapSite {
    /// Its servers with their ports, this one where none is named.
    pub fn endpoints(&self, port_default: u16) -> Vec<String> {
        let with_port = |server: &String| {
            let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if has_port { server.clone() } else { format!("{server}:{port_default}") }
        };
        self.servers.iter().map(with_port).collect()
    }
}

/// `metrics`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// The topic.
    pub topic: String,
    /// What the names of its consumer groups begin with.
    pub group_id_prefix: String,
}

/// `queuePopulator` (replication reference 11.5).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuePopulator {
    /// Where positions are kept.
    pub zookeeper_path: String,
    /// What kind of journal is read.
    pub log_source: String,
    /// The raft logs.
    pub bucketd: Option<Bucketd>,
    /// The record log of a metadata daemon.
    pub dmd: Option<Dmd>,
    /// A change stream in Kafka.
    pub kafka: Option<ChangeStream>,
    /// How much upstream reads at once.
    pub batch_max_read: u64,
    /// Where a journal is begun whose position was never stored; ours.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Where its probes answer.
    pub probe_server: Option<ProbeServer>,
}

/// Where a journal is begun whose position was never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bootstrap {
    /// At the oldest record that there is: nothing is left out.
    #[default]
    Oldest,
    /// At its end, as upstream does: what was written before is not queued.
    End,
}

/// `queuePopulator.bucketd`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucketd {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    #[serde(default)]
    pub transport: Transport,
    /// Raft sessions that are put among those to be shared out, if they are not there; ours. Elsewhere deployment tools
    /// do that.
    #[serde(default)]
    pub raft_sessions: Vec<u32>,
}

/// `queuePopulator.dmd`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dmd {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name of the log.
    #[serde(default = "log_name")]
    pub log_name: String,
}

fn log_name() -> String {
    LOG_NAME_DEFAULT.to_owned()
}

/// `queuePopulator.kafka`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeStream {
    /// The topic that source connectors write to.
    #[serde(default = "oplog_topic")]
    pub topic: String,
    /// The group that upstream's populators read it in.
    #[serde(default = "oplog_group")]
    pub consumer_group_id: String,
    /// What the log is called.
    #[serde(default = "log_name")]
    pub log_name: String,
    /// What is different for a populator of replication alone.
    #[serde(default)]
    pub replication: ChangeStreamOfOne,
}

/// `queuePopulator.kafka.replication`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeStreamOfOne {
    /// The topic.
    pub topic: Option<String>,
    /// The group.
    pub consumer_group_id: Option<String>,
    /// What the log is called.
    pub log_name: Option<String>,
}

fn oplog_topic() -> String {
    "backbeat-oplog".to_owned()
}

fn oplog_group() -> String {
    "backbeat-oplog-consumer-id".to_owned()
}

/// A probe server, or one for each site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ProbeServer {
    /// One for the process.
    One(ProbePlace),
    /// One for each site.
    BySite(Vec<ProbePlace>),
}

/// Where a probe server listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbePlace {
    /// The address.
    #[serde(default = "localhost")]
    pub bind_address: String,
    /// The port; 0 takes any that is free.
    pub port: u16,
    /// The site that it speaks of.
    pub site: Option<String>,
}

fn localhost() -> String {
    "localhost".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_without_a_port_answer_at_the_usual_one() {
        let site: BootstrapSite =
            serde_json::from_str(r#"{"site":"a","servers":["one","two:8000"]}"#).expect("a site");
        assert_eq!(site.endpoints(Transport::Http.port_default()), ["one:80", "two:8000"]);
        assert_eq!(site.endpoints(Transport::Https.port_default()), ["one:443", "two:8000"]);
    }

    #[test]
    fn probe_servers_come_alone_or_one_for_each_site() {
        let one: ProbeServer = serde_json::from_str(r#"{"port":4042}"#).expect("one");
        let ProbeServer::One(place) = one else { panic!("not a list") };
        assert_eq!((place.bind_address.as_str(), place.port), ("localhost", 4042));
        let list: ProbeServer =
            serde_json::from_str(r#"[{"bindAddress":"0.0.0.0","port":1,"site":"a"}]"#).expect("a list");
        assert!(matches!(list, ProbeServer::BySite(places) if places[0].site.as_deref() == Some("a")));
    }
}
