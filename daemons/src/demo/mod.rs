//! `backbeat demo`: the main job on one machine, from a write over S3 to the proof that every version arrived.
//!
//! It starts the same stack as `backbeat dev`, in an empty directory, and then is only a client of it: everything it
//! does and everything it claims goes through the S3 ports.

mod board;
mod content;
mod listing;
mod progress;
mod receipt;
mod site;
mod units;
mod verify;
mod workload;
mod writer;

use anyhow::{Context, Result};
use backbeat_backends::http::{Credentials, SignedClient};
use board::Board;
use progress::Progress;
use receipt::Facts;
pub use receipt::Receipt;
use site::Site;
use std::path::PathBuf;
use std::time::Instant;
use verify::{Difference, Place};
use workload::ObjectPlan;

/// The bucket that the demo writes to.
const BUCKET: &str = "demo";
/// The bucket at the sites.
const COPY: &str = "demo-copy";

/// Where the demo finds its sites, once they answer.
pub struct Endpoints {
    /// Host and port of the source's S3.
    pub source: String,
    /// Name, host and port of every site.
    pub targets: Vec<(String, String)>,
    /// The keys that open all of them.
    pub credentials: Credentials,
    /// The region to sign for.
    pub region: String,
}

/// Writes `objects` keys, waits for their replication, compares everything.
///
/// # Errors
/// If a site does not answer or refuses what it must take; a bad result is no error but a receipt that says so.
pub async fn replicate_and_verify(
    endpoints: &Endpoints,
    objects: usize,
    data_dir: PathBuf,
    is_data_kept: bool,
) -> Result<Receipt> {
    let site = |name: &str, endpoint: &str| {
        let client = SignedClient::new(endpoint, endpoints.credentials.clone(), endpoints.region.clone());
        Site::new(name, client)
    };
    let source = site("source", &endpoints.source);
    let targets: Vec<Site> = endpoints.targets.iter().map(|(name, endpoint)| site(name, endpoint)).collect();
    prepare(&source, &targets).await.context("failed to prepare the buckets")?;

    let plan = workload::plan(objects);
    let planned = plan.iter().map(ObjectPlan::versions).sum();
    let progress = Progress::new(planned, targets.iter().map(|target| target.name.clone()).collect());
    let mut board = Board::new();
    let mut unsettled = None;
    let work = async {
        let write = async {
            let written = writer::write(&source, BUCKET, &plan, &progress).await.context("failed to write");
            progress.finish_writing();
            written
        };
        let watch = async {
            unsettled = progress.watch(&source, BUCKET).await.err();
            Ok(())
        };
        let (written, ()) = tokio::try_join!(write, watch)?;
        anyhow::Ok(written)
    };
    let written = tokio::select! {
        never = board.follow(&progress) => match never {},
        written = work => written?,
    };
    let snapshot = progress.snapshot();
    board.draw(&snapshot);

    let began = Instant::now();
    let place = Place { source: &source, targets: &targets, bucket: BUCKET, copy: COPY };
    let mut verdict = verify::verify(&place, &written).await.context("failed to compare")?;
    if let Some(error) = unsettled {
        let what = format!("{error:#}");
        let site = "source".to_owned();
        verdict.differences.insert(0, Difference { site, key: String::new(), version: None, what });
    }
    let facts =
        Facts { snapshot, delays: progress.delays(), verify_time: began.elapsed(), data_dir, is_data_kept };
    Ok(Receipt::new(facts, verdict))
}

async fn prepare(source: &Site, targets: &[Site]) -> Result<()> {
    for target in targets {
        target.create_bucket(COPY).await?;
    }
    source.create_bucket(BUCKET).await?;
    let sites: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    source.replicate(BUCKET, COPY, &sites).await
}
