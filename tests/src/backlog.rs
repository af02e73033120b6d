//! Entries that wait: the quickest way to many of them that a client has is deleting keys that are not there, a thousand
//! a request, which makes as many delete markers, each of which is to be replicated.

use crate::dev::Addresses;
use anyhow::{Context as _, Result, ensure};
use backbeat_backends::http::{Body, Credentials, Request, SignedClient};
use http::Method;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const BUCKET: &str = "backlog";
const TIME_MAX: Duration = Duration::from_mins(1);
const ANSWER_MAX: usize = 16 << 20;
/// Keys of one request at most, as S3 has it.
const KEYS_MAX: u32 = 1_000;
/// How long nothing may happen while entries are being queued.
const PATIENCE: Duration = Duration::from_mins(1);

/// A source bucket whose changes are replicated to the first target, and what makes it wait.
pub struct Backlog {
    source: SignedClient,
    api: SignedClient,
    site: String,
    deleted: u32,
}

impl Backlog {
    /// Makes the buckets and the rule.
    pub async fn prepare(addresses: &Addresses) -> Result<Self> {
        const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let keys = Credentials::new("backbeat-dev", "backbeat-dev-secret");
        let client = |address: &String| SignedClient::new(address.clone(), keys.clone(), "us-east-1");
        let (site, target) = addresses.targets.first().context("no target")?;
        let (source, target) = (client(&addresses.source), client(target));
        for place in [&source, &target] {
            ask(place, Request::new(Method::PUT, format!("/{BUCKET}"))).await?;
            let request = Request::new(Method::PUT, format!("/{BUCKET}")).query("versioning", "");
            ask(place, request.body(Body::full(ENABLED))).await?;
        }
        let rules = format!(
            "<ReplicationConfiguration><Role>arn:aws:iam::root:role/b,arn:aws:iam::root:role/b</Role><Rule><ID>all</ID>\
             <Status>Enabled</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::{BUCKET}</Bucket>\
             <StorageClass>{site}</StorageClass></Destination></Rule></ReplicationConfiguration>"
        );
        let request = Request::new(Method::PUT, format!("/{BUCKET}")).query("replication", "");
        ask(&source, request.body(Body::full(rules))).await?;
        Ok(Self {
            source,
            api: client(addresses.api.as_ref().context("dev has an API")?),
            site: site.clone(),
            deleted: 0,
        })
    }

    /// `pause` or `resume`: nothing is copied between the two.
    pub async fn tell(&self, action: &str) -> Result<()> {
        let request = Request::new(Method::POST, format!("/api/v1/{action}/{}", self.site)).unsigned();
        let answer = self.api.fetch(request, TIME_MAX, ANSWER_MAX).await?;
        ensure!(answer.status().is_success(), "{action}: {}", answer.status());
        Ok(())
    }

    /// How many entries wait in the queue of the site.
    pub async fn pending(&self) -> Result<u64> {
        let request = Request::new(Method::GET, "/api/v1/status").unsigned();
        let answer = self.api.fetch(request, TIME_MAX, ANSWER_MAX).await?;
        let status: Value = serde_json::from_slice(answer.body())?;
        status["sites"][0]["pending"].as_u64().context("the status does not say what is pending")
    }

    /// Makes `count` more delete markers.
    pub async fn grow(&mut self, count: u32) -> Result<()> {
        let until = self.deleted + count;
        while self.deleted < until {
            let last = until.min(self.deleted + KEYS_MAX);
            let mut list = "<Delete><Quiet>true</Quiet>".to_owned();
            for number in self.deleted..last {
                write!(list, "<Object><Key>object-{number:08}</Key></Object>")
                    .expect("text can be written to");
            }
            list.push_str("</Delete>");
            let request = Request::new(Method::POST, format!("/{BUCKET}")).query("delete", "");
            ask(&self.source, request.body(Body::full(list))).await?;
            self.deleted = last;
        }
        Ok(())
    }

    /// Waits until `count` entries are queued.
    pub async fn queued(&self, count: u64) -> Result<()> {
        let (mut most, mut since) = (0, Instant::now());
        loop {
            let pending = self.pending().await?;
            if pending >= count {
                return Ok(());
            }
            if pending > most {
                (most, since) = (pending, Instant::now());
            }
            ensure!(since.elapsed() < PATIENCE, "{pending} of {count} entries are queued and no more come");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn ask(site: &SignedClient, request: Request) -> Result<()> {
    let what = request.describe();
    let answer = site.fetch(request, TIME_MAX, ANSWER_MAX).await?;
    ensure!(answer.status().is_success(), "{what}: {} {:?}", answer.status(), answer.body());
    Ok(())
}
