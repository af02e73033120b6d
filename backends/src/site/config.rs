//! What a site is told when it is opened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a site has to know.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// The name of the site, for people and logs.
    pub name: String,
    /// Where it keeps everything. One process at a time.
    pub data_dir: PathBuf,
    /// Who may sign requests. The first account owns buckets that others do not create.
    pub accounts: Vec<Account>,
    /// The sites that replication configurations may name.
    pub replication_endpoints: Vec<ReplicationEndpoint>,
    /// At most 7 characters, in every version id: must be distinct among sites that replicate to each other.
    pub replication_group: String,
    /// The name that data locations carry, as CloudServer's location constraint.
    pub data_store_name: String,
    /// Buckets at other S3 servers that the routes for cloud locations write to.
    pub locations: Vec<CloudLocation>,
    /// `host:port` of the engine's API, which `/_/backbeat/api/...` leads to; none: there is no such route.
    pub api: Option<String>,
    /// What clients may use of it.
    pub limits: Limits,
}

/// What clients may use of a site. What is beyond a limit is refused, and the site goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait to be accepted.
    pub connections_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// A connection on which no whole request head comes in this time is closed: slow heads and idle connections.
    pub head_time_max: Duration,
    /// A request whose body brings nothing for so long is given up.
    pub body_silence_max: Duration,
    /// A client that takes nothing of an answer for so long is given up.
    pub answer_silence_max: Duration,
    /// Bytes of objects. At this many, clients' writes are refused: `QuotaExceeded`; the engine's with
    /// `ServiceUnavailable`, so that it tries again later. Deletions go on. What is under way may still end.
    pub data_bytes_max: Option<u64>,
    /// Journal records that wait for the engine. At this many, clients' writes are refused with `SlowDown`, while
    /// replication goes on.
    pub journal_records_max: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head_bytes_max: 64 << 10,
            head_time_max: Duration::from_secs(30),
            body_silence_max: Duration::from_mins(1),
            answer_silence_max: Duration::from_mins(1),
            data_bytes_max: None,
            journal_records_max: None,
        }
    }
}

/// A bucket at another S3 server, as CloudServer's locations of type `aws_s3`.
#[derive(Clone)]
pub struct CloudLocation {
    /// Its name in storage classes and in the locations of data.
    pub name: String,
    /// `host:port`, plain HTTP.
    pub endpoint: String,
    /// The bucket there.
    pub bucket: String,
    /// Who signs.
    pub access_key: String,
    /// The secret; never printed.
    pub secret_key: String,
    /// True if objects keep their key (upstream's `bucketMatch`), false if the source bucket is put in front of it.
    pub keeps_keys: bool,
}

impl fmt::Debug for CloudLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CloudLocation")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// Keys and whom they belong to.
#[derive(Clone)]
pub struct Account {
    /// The public key.
    pub access_key: String,
    /// The secret; never printed.
    pub secret_key: String,
    /// The canonical id: the owner written into metadata. `http://acs.zenko.io/accounts/service/<name>` makes it a
    /// service account, which may use every bucket (wire reference 1.3).
    pub canonical_id: String,
    /// The name shown beside it.
    pub display_name: String,
}

impl Account {
    /// True for the accounts of services, which may use every bucket.
    pub fn is_service(&self) -> bool {
        const SERVICES: [&str; 4] = ["replication", "lifecycle", "gc", "md-ingestion"];
        self.canonical_id.rsplit('/').next().is_some_and(|last| SERVICES.contains(&last))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Account")
            .field("access_key", &self.access_key)
            .field("canonical_id", &self.canonical_id)
            .field("display_name", &self.display_name)
            .finish_non_exhaustive()
    }
}

/// A site that buckets may be replicated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationEndpoint {
    /// Its name in `StorageClass`.
    pub site: String,
    /// Its type if it is a cloud (`aws_s3`, `azure`, `gcp`); none for sites that keep version ids.
    pub cloud_type: Option<String>,
    /// Used where a rule names no site. The first endpoint if none is flagged.
    pub is_default: bool,
}
