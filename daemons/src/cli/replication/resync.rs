//! `backbeat replication resync`: replicate existing objects once more.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backbeat_backends::credentials::CredentialSource;
use backbeat_backends::credentials::account::StaticCredentials;
use backbeat_backends::objects::TimeLimits;
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_core::call::{Refusal, RefusalKind};
use backbeat_core::id::Site;
use backbeat_core::model::{Resync, Standing, is_bucket_name};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::super::{Exit, Failure, Global, config};
use super::{REGION, client, keys};
use crate::config::Config;
use crate::patience::Patience;
use crate::production::{self, SourceSite, StartError};
use crate::resync::{Count, Job, Place, PlaceError, ResyncError, Tally, Trouble, Work};
use crate::setup::Place as Server;
use crate::timestamp;

/// Versions in one page of a list: as many as S3 gives.
const PAGE_MAX: u32 = 1_000;

/// How often people are told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// s3://BUCKET or s3://BUCKET/PREFIX: the versions of all keys that begin so, delete markers included.
    #[arg(value_name = "S3_URL")]
    objects: String,
    /// The site that they are to be replicated to.
    #[arg(long, value_name = "SITE")]
    site: Site,
    /// The site that rules mean which name none, instead of the default of the bootstrap list.
    #[arg(long, value_name = "SITE")]
    default_site: Option<Site>,
    /// Which of them, by how far they are at the site.
    #[arg(long, value_delimiter = ',', default_value = "new", value_name = "STATUS,...")]
    status: Vec<Status>,
    /// Only those last modified before: a date, or date and time (2026-11-20T10:00:00Z).
    #[arg(long, value_name = "DATE")]
    before: Option<String>,
    /// Say how many there are, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// A file in which it is kept how far this is: the same command goes on from there after it ended early.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Keys that are worked on at once.
    #[arg(long, value_name = "KEYS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    concurrency: u16,
    /// Whose the bucket is: a profile of the shared credentials file, instead of extensions.replication.source.auth.
    #[arg(long, value_name = "PROFILE")]
    source_profile: Option<String>,
    /// Where the source's S3 is, instead of extensions.replication.source.s3.
    #[arg(long, value_name = "URL", requires = "source_profile")]
    source_endpoint: Option<String>,
    /// Seconds for which anything that may work later is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_time: u64,
}

/// How far a version is at the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Status {
    /// The site is none of its destinations: it is older than the rule, or than the site in it.
    New,
    /// It waits for the site: for what a queue lost.
    Pending,
    /// The site was given up.
    Failed,
    /// The site has it, or had it: for what a site lost.
    Completed,
}

impl From<Status> for Standing {
    fn from(status: Status) -> Self {
        match status {
            Status::New => Self::New,
            Status::Pending => Self::Pending,
            Status::Failed => Self::Failed,
            Status::Completed => Self::Completed,
        }
    }
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    let config = config::load(global)?;
    config::log(&config);
    let job = job(arguments, &config)?;
    let place = |endpoint: &str| arguments.state.as_deref().map(|file| Place::new(file, endpoint, &job));
    super::super::runtime()?.block_on(async {
        match &arguments.source_profile {
            None => {
                let source = SourceSite::configured(&config).await.map_err(|error| not_started(&error))?;
                let place = place(source.endpoint());
                replicate(&source.client(), &job, place.as_ref(), arguments, global).await
            }
            Some(profile) => {
                let usage = |why: String| Failure::say(Exit::Usage, why);
                let server =
                    Server::of_source(&config, arguments.source_endpoint.as_deref()).map_err(usage)?;
                let place = place(&server.endpoint);
                let keys = keys(profile).map_err(usage)?;
                let server = client(&config, backbeat_core::request::Side::Source, &server, &keys, REGION);
                let keys = Arc::new(StaticCredentials::new(keys));
                let source = CloudServer::over(vec![server.map_err(usage)?], keys, TimeLimits::default());
                replicate(&source, &job, place.as_ref(), arguments, global).await
            }
        }
    })
}

async fn replicate<C: CredentialSource>(
    source: &CloudServer<C>,
    job: &Job,
    place: Option<&Place>,
    arguments: &Arguments,
    global: &Global,
) -> Result<Exit, Failure> {
    let patience = Patience::of(Duration::from_secs(arguments.retry_time));
    let mut told = Instant::now();
    let progress = |key: &str, tally: &Tally| {
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let queued = tally.queued_in_all().versions;
            eprintln!("{} versions looked at, {queued} {}; at {key:?}", tally.seen, what(job));
        }
    };
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    let run = format!("{since}-{}", std::process::id());
    let work = Work { job, source, patience, place, run, page_max: PAGE_MAX };
    let tally = work.run(progress).await.map_err(|error| {
        let again = if place.is_some() { "; the same command goes on where this one was" } else { "" };
        Failure::say(exit_of(&error), format_args!("{error}{}{again}", advice(&error)))
    })?;
    if global.json {
        println!("{}", to_json(job, &tally));
    } else {
        print(job, &tally);
    }
    Ok(if tally.failed == 0 { Exit::Done } else { Exit::Bad })
}

fn job(arguments: &Arguments, config: &Config) -> Result<Job, Failure> {
    let usage = |why: String| Failure::say(Exit::Usage, why);
    let (bucket, prefix) = parse(&arguments.objects).map_err(usage)?;
    let listed = sites(config);
    let site = arguments.site.clone();
    if !listed.is_empty() && !listed.iter().any(|(known, _)| *known == site.as_str()) {
        let known: Vec<&str> = listed.iter().map(|(known, _)| *known).collect();
        return Err(Failure::say(
            Exit::NotFound,
            format_args!("--site: {site} is not in the bootstrap list, which has {}", known.join(", ")),
        ));
    }
    let configured = listed.iter().find(|(_, is_default)| *is_default).or(listed.first());
    let configured = configured.map(|(name, _)| Site::from(*name));
    let before = arguments.before.as_deref().map(|text| {
        timestamp::parse_any(text)
            .or_else(|| timestamp::parse_any(&format!("{text}T00:00:00Z")))
            .ok_or_else(|| usage(format!("--before: {text:?} is no date like 2026-11-20T10:00:00Z")))
    });
    let standings: BTreeSet<Standing> = arguments.status.iter().copied().map(Standing::from).collect();
    Ok(Job {
        bucket: bucket.into(),
        prefix: prefix.to_owned(),
        resync: Resync {
            default_site: arguments.default_site.clone().or(configured),
            site,
            standings,
            cold_locations: production::locations(config).map_err(|error| usage(error.to_string()))?.cold,
        },
        before: before.transpose()?,
        is_dry: arguments.dry_run,
        concurrency: arguments.concurrency.into(),
    })
}

/// Bucket and prefix, which stands as it is: nothing in it is decoded.
fn parse(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("s3://");
    let rest = rest.ok_or_else(|| format!("{url:?} is not of the form s3://BUCKET[/PREFIX]"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if is_bucket_name(bucket) {
        Ok((bucket, prefix))
    } else {
        Err(format!("{url:?}: {bucket:?} cannot be the name of a bucket"))
    }
}

/// The sites that are configured, and which of them is the default.
fn sites(config: &Config) -> Vec<(&str, bool)> {
    let list = config.value("/extensions/replication/destination/bootstrapList").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|site| Some((site["site"].as_str()?, site["default"].as_bool().unwrap_or(false))))
        .collect()
}

fn what(job: &Job) -> &'static str {
    if job.is_dry { "to be queued" } else { "queued" }
}

fn print(job: &Job, tally: &Tally) {
    let line = |what: &str, count: Count| {
        println!("{what:<28} {:>12} versions {:>16} bytes", count.versions, count.bytes);
    };
    for (standing, count) in &tally.queued {
        line(&format!("{} ({standing})", what(job)), *count);
    }
    for (standing, count) in &tally.left {
        line(&format!("left as they are ({standing})"), *count);
    }
    let others = [
        ("no rule for them", tally.no_rule),
        ("replicas", tally.replicas),
        ("in cold locations", tally.cold),
        ("modified later", tally.later),
        ("gone meanwhile", tally.gone),
        ("could not be queued", tally.failed),
    ];
    for (what, versions) in others.into_iter().filter(|(_, versions)| *versions > 0) {
        println!("{what:<28} {versions:>12} versions");
    }
    println!("{:<28} {:>12} versions", "looked at", tally.seen);
    if job.is_dry {
        println!("nothing was changed");
    }
}

fn to_json(job: &Job, tally: &Tally) -> Value {
    json!({
        "bucket": job.bucket.as_str(), "prefix": job.prefix, "site": job.resync.site.as_str(), "dryRun": job.is_dry,
        "seen": tally.seen, "queued": tally.queued, "left": tally.left, "noRule": tally.no_rule,
        "replicas": tally.replicas, "cold": tally.cold, "later": tally.later, "gone": tally.gone, "failed": tally.failed,
    })
}

fn not_started(error: &StartError) -> Failure {
    let exit = match error {
        StartError::Configuration(_) => Exit::Usage,
        StartError::Denied(_) => Exit::NotPermitted,
        StartError::Unavailable(_) => Exit::Temporary,
    };
    Failure::say(exit, error)
}

fn exit_of(error: &ResyncError) -> Exit {
    match &error.trouble {
        Trouble::NoAnswer | Trouble::Changed => Exit::Temporary,
        Trouble::NoRules | Trouble::NoDefault | Trouble::Place(PlaceError::Other { .. }) => Exit::Refused,
        Trouble::Refused(Refusal { kind: RefusalKind::BucketNotFound | RefusalKind::NotFound, .. }) => {
            Exit::NotFound
        }
        Trouble::Refused(Refusal { kind: RefusalKind::Denied, .. }) => Exit::NotPermitted,
        Trouble::Refused(refusal) if refusal.kind.is_transient() => Exit::Temporary,
        Trouble::Refused(_) | Trouble::Place(PlaceError::File { .. }) => Exit::Error,
    }
}

fn advice(error: &ResyncError) -> &'static str {
    match &error.trouble {
        Trouble::NoRules => "; `backbeat replication setup` makes one",
        Trouble::NoDefault => "; name it with --default-site",
        Trouble::Refused(refusal) if refusal.kind == RefusalKind::Denied => {
            "; the account has to list the bucket, and to read and write over the routes that the daemons use"
        }
        Trouble::NoAnswer | Trouble::Changed | Trouble::Refused(_) | Trouble::Place(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_a_bucket_and_a_prefix() {
        assert_eq!(parse("s3://photos"), Ok(("photos", "")));
        assert_eq!(parse("s3://photos/"), Ok(("photos", "")));
        assert_eq!(parse("s3://photos/2024/a%20b?c"), Ok(("photos", "2024/a%20b?c")));
        for url in ["photos/2024", "s3://", "s3:///k", "s3://No"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
