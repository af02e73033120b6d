//! Doors for fuzz targets: to a site without a socket, and to parsers that nothing else outside may reach.

use super::config::{Account, Limits, ReplicationEndpoint, SiteConfig};
use super::internal;
use super::metadata::Site;
use super::placeholder::Placeholder;
use super::replication::ReplicationRules;
use super::versioning::{Wanted, parse_master};
use super::{bucket, data, server};
use s3s::service::S3Service;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// The access key of the only account.
pub const ACCESS_KEY: &str = "fuzz";
/// Its secret key.
pub const SECRET_KEY: &str = "fuzz-secret";

/// Nothing that a target sends may take longer.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes that the pipe to the site holds.
const PIPE_BYTES: usize = 1 << 20;

/// A site without a socket.
pub struct Served {
    site: Arc<Site>,
    service: S3Service,
    /// Connections end when it goes.
    stop: watch::Sender<bool>,
}

impl Served {
    /// Opens a site in a folder.
    pub async fn open(folder: &Path) -> Self {
        let config = SiteConfig {
            name: "fuzz".into(),
            data_dir: folder.into(),
            accounts: vec![Account {
                access_key: ACCESS_KEY.into(),
                secret_key: SECRET_KEY.into(),
                canonical_id: "f".repeat(64),
                display_name: "Fuzz".into(),
            }],
            replication_endpoints: endpoints(),
            replication_group: "RG001".into(),
            data_store_name: "us-east-1".into(),
            locations: Vec::new(),
            api: None,
            limits: Limits::default(),
        };
        let site = Site::open(config).await.expect("an empty folder can be opened");
        let service = server::service(&site);
        Self { site, service, stop: watch::channel(false).0 }
    }

    /// Sends bytes as a client does that closes its side then, and answers what comes back.
    pub async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
        let connection =
            server::connection(server, Arc::clone(&self.site), self.service.clone(), self.stop.subscribe());
        let talk = async {
            // The site may hang up before it has read everything.
            client.write_all(bytes).await.unwrap_or_default();
            client.shutdown().await.unwrap_or_default();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap_or_default();
            answer
        };
        let both = async { tokio::join!(connection, talk).1 };
        tokio::time::timeout(TIME_MAX, both).await.expect("a closed connection is answered soon")
    }
}

fn endpoints() -> Vec<ReplicationEndpoint> {
    let endpoint = |site: &str, cloud_type: Option<&str>| ReplicationEndpoint {
        site: site.into(),
        cloud_type: cloud_type.map(str::to_owned),
        is_default: cloud_type.is_none(),
    };
    vec![endpoint("sf", None), endpoint("aws-loc", Some("aws_s3"))]
}

/// Everything that is parsed of the bodies, queries and headers of internal routes and of stored records. What is
/// accepted is written again and read as the same.
pub fn parsers(bytes: &[u8]) {
    internal::parsers(bytes);
    data::parsers(bytes);
    if let Ok(rules) = ReplicationRules::parse(bytes, &endpoints()) {
        let again = ReplicationRules::parse(rules.to_xml().as_bytes(), &endpoints());
        assert_eq!(again.expect("what is written can be read"), rules);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(Wanted::Version(id)) = Wanted::parse(Some(text)) {
        id.encode();
    }
    if let Some(placeholder) = Placeholder::parse(text) {
        assert!(!placeholder.version_id.encode().is_empty());
    }
    parse_master(text).map(drop).unwrap_or_default();
    if let Ok(info) = bucket::parse(text) {
        let json = serde_json::to_string(&info).expect("attributes can be written");
        assert_eq!(bucket::parse(&json).expect("what is written can be read"), info);
    }
}
