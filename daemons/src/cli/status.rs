//! `backbeat status` and `backbeat lag`: how replication is doing.

use clap::Args;
use http::Method;
use serde_json::json;

use super::client::Api;
use super::{Exit, Failure, Global};
use crate::api::report::{SiteStatus, Status};

/// How replication to every site is doing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  backbeat status\n  backbeat status --json --api 127.0.0.1:8900")]
pub(super) struct Arguments {
    #[command(flatten)]
    api: Api,
}

/// How far each site is behind. Ends with exit code 3 if one is further behind than allowed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  backbeat lag\n  backbeat lag --max 60 --site site-8001")]
pub(super) struct LagArguments {
    #[command(flatten)]
    api: Api,
    /// Only this site.
    #[arg(long)]
    site: Option<String>,
    /// The age in seconds that the oldest open entry may have.
    #[arg(long, value_name = "SECONDS")]
    max: Option<f64>,
}

fn state(site: &SiteStatus) -> &'static str {
    match site {
        SiteStatus { running: false, .. } => "ended",
        SiteStatus { paused: true, .. } => "paused",
        SiteStatus { reachable: false, .. } => "unreachable",
        SiteStatus { .. } => "running",
    }
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    let status: Status = arguments.api.ask(Method::GET, "/api/v1/status", &[], None)?;
    if global.json {
        println!("{}", serde_json::to_string(&status)?);
        return Ok(Exit::Done);
    }
    let populator = &status.populator;
    println!(
        "journal read up to {}, {} behind; {} outcomes wait to be written",
        populator.position, populator.behind, status.outcomes_waiting
    );
    if populator.losses > 0 {
        println!(
            "the journal lost records before they were queued, {} times: what was written then has to be queued again",
            populator.losses
        );
    }
    println!(
        "{:<24} {:<12} {:>8} {:>8} {:>10} {:>9} {:>6} {:>7} {:>9}",
        "SITE", "STATE", "PENDING", "COPYING", "COMPLETED", "DEFERRED", "HELD", "FAILED", "LAG"
    );
    for site in &status.sites {
        println!(
            "{:<24} {:<12} {:>8} {:>8} {:>10} {:>9} {:>6} {:>7} {:>8.1}s",
            site.site,
            state(site),
            site.pending,
            site.copying,
            site.completed24h,
            site.deferred,
            site.held,
            site.failed,
            site.lag_seconds
        );
    }
    Ok(Exit::Done)
}

pub(super) fn lag(arguments: &LagArguments, global: &Global) -> Result<Exit, Failure> {
    let mut status: Status = arguments.api.ask(Method::GET, "/api/v1/status", &[], None)?;
    if let Some(wanted) = &arguments.site {
        status.sites.retain(|site| site.site == *wanted);
        if status.sites.is_empty() {
            return Err(Failure::say(Exit::NotFound, format_args!("there is no site {wanted}")));
        }
    }
    let is_late = |site: &SiteStatus| arguments.max.is_some_and(|max| site.lag_seconds > max);
    let late = status.sites.iter().any(is_late);
    if global.json {
        let sites = status.sites.iter().map(|site| {
            json!({"site": site.site, "lagSeconds": site.lag_seconds, "pending": site.pending, "late": is_late(site)})
        });
        println!("{}", json!({"journalBehind": status.populator.behind, "sites": sites.collect::<Vec<_>>()}));
    } else {
        println!("journal: {} records behind", status.populator.behind);
        for site in &status.sites {
            let late = if is_late(site) { "  LATE" } else { "" };
            println!("{}: {:.1} s, {} messages{late}", site.site, site.lag_seconds, site.pending);
        }
    }
    Ok(if late { Exit::Bad } else { Exit::Done })
}
