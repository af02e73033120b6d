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

use crate::config::Config;
use crate::stack::{ACCESS_KEY, Addresses, REGION, SECRET_KEY, Stack, StackConfig, Target};
use anyhow::{Context, Result, anyhow};
use backbeat_backends::http::{Credentials, SignedClient};
use board::Board;
use progress::Progress;
use receipt::{Facts, Receipt};
use site::Site;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use verify::{Difference, Place};
use workload::ObjectPlan;

/// The bucket that the demo writes to.
const BUCKET: &str = "demo";
/// The bucket at the sites.
const COPY: &str = "demo-copy";

/// The sites that are replicated to.
const SITES: [&str; 2] = ["paris", "tokyo"];

/// How the demo runs.
#[derive(Debug)]
pub struct Options {
    /// Keys to write.
    pub objects: usize,
    /// Where the data goes; without, into a directory that is removed at the end.
    pub data_dir: Option<PathBuf>,
    /// Whether the sites stay up afterwards, until the process is told to stop.
    pub keep: bool,
    /// Whether the receipt is one line of JSON.
    pub json: bool,
    /// The configuration of the machines.
    pub config: Config,
}

/// Runs the demo; true if everything arrived and is equal.
///
/// # Errors
/// If the stack cannot be started or breaks down, or the demo is interrupted.
pub async fn run(options: Options) -> Result<bool> {
    let temporary = if options.data_dir.is_none() {
        let directory = tempfile::Builder::new().prefix("backbeat-demo-").tempdir();
        Some(directory.context("failed to make a temporary directory")?)
    } else {
        None
    };
    let data_dir = options.data_dir.or(temporary.as_ref().map(|directory| directory.path().to_path_buf()));
    let data_dir = data_dir.context("there is no data directory")?;
    let mut stack = Stack::start(StackConfig {
        data_dir: data_dir.clone(),
        source_port: 0,
        targets: SITES.map(|name| Target { name: Some(name.to_owned()), port: 0 }).to_vec(),
        api_port: 0,
        journal_port: None,
        config: options.config,
    })
    .await?;
    let addresses = stack.addresses().clone();
    let is_data_kept = temporary.is_none() || options.keep;
    let receipt = tokio::select! {
        receipt = replicate_and_verify(&addresses, options.objects, data_dir, is_data_kept) => receipt,
        error = stack.failed() => Err(error),
        stopped = stop_signal() => Err(stopped.err().unwrap_or_else(|| anyhow!("interrupted"))),
    }?;
    if let Some(directory) = temporary.filter(|_| receipt.is_data_kept()) {
        // From here on it is the user's.
        drop(directory.keep());
    }
    let text = if options.json { serde_json::to_string(&receipt)? + "\n" } else { receipt.to_string() };
    std::io::stdout().write_all(text.as_bytes()).context("failed to print the receipt")?;
    if options.keep {
        eprintln!("source S3 http://{}", addresses.source);
        for (name, address) in &addresses.targets {
            eprintln!("{name} S3 http://{address}");
        }
        if let Some(api) = addresses.api {
            eprintln!("API http://{api}");
        }
        eprintln!("access key {ACCESS_KEY}, secret key {SECRET_KEY}, region {REGION}; Ctrl-C ends it");
        tokio::select! {
            stopped = stop_signal() => stopped?,
            error = stack.failed() => return Err(error),
        }
    }
    stack.shutdown().await?;
    if !options.json && !options.keep {
        eprintln!("next: backbeat dev");
    }
    Ok(receipt.is_verified())
}

/// Ends when the process is asked to end: Ctrl-C or SIGTERM.
async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("failed to listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Writes `objects` keys, waits for their replication, compares everything.
///
/// # Errors
/// If a site does not answer or refuses what it must take; a bad result is no error but a receipt that says so.
async fn replicate_and_verify(
    addresses: &Addresses,
    objects: usize,
    data_dir: PathBuf,
    is_data_kept: bool,
) -> Result<Receipt> {
    let site = |name: &str, address: SocketAddr| {
        let keys = Credentials::new(ACCESS_KEY, SECRET_KEY);
        Site::new(name, SignedClient::new(address.to_string(), keys, REGION))
    };
    let source = site("source", addresses.source);
    let targets: Vec<Site> = addresses.targets.iter().map(|(name, address)| site(name, *address)).collect();
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
