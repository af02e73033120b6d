//! `backbeat failed`: versions that were given up, and how to queue them again.

use clap::{Args, Subcommand};
use http::Method;

use super::client::Api;
use super::explain;
use super::{Exit, Failure, Global};
use crate::api::report::{Parked, Retried, Retry};

/// List versions that were given up, or queue them again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  backbeat failed list\n  backbeat failed retry --site site-8001")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the versions whose attempts are used up, oldest first.
    #[command(
        after_help = "Examples:\n  backbeat failed list\n  backbeat failed list --site site-8001 --all --json"
    )]
    List {
        /// Only this site.
        #[arg(long)]
        site: Option<String>,
        /// Also those that are tried again by themselves.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        api: Api,
    },
    /// Queue failed versions again.
    #[command(after_help = "Examples:
  backbeat failed retry --site site-8001
  backbeat failed retry --site site-8001 's3://photos/a.jpg?versionId=aJ87MPaUKYOz00000000001I4j3QKItW'")]
    Retry {
        /// Only this site. Needed when objects are named.
        #[arg(long)]
        site: Option<String>,
        /// The versions: s3://BUCKET/KEY?versionId=ID. Without any, all that failed.
        #[arg(value_name = "S3_URL", requires = "site")]
        objects: Vec<String>,
        /// Queue the named versions even if no failure is recorded.
        #[arg(long, requires = "objects")]
        force: bool,
        #[command(flatten)]
        api: Api,
    },
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    match &arguments.action {
        Action::List { site, all, api } => list(site.as_deref(), *all, api, global),
        Action::Retry { site, objects, force, api } => {
            let retries = if objects.is_empty() {
                recorded(site.as_deref(), api)?
            } else {
                named(site.as_deref().unwrap_or_default(), objects, *force)?
            };
            retry(&retries, api, global)
        }
    }
}

fn parked(site: Option<&str>, all: bool, api: &Api) -> Result<Vec<Parked>, Failure> {
    let mut query = Vec::from([("all", if all { "true" } else { "false" })]);
    query.extend(site.map(|site| ("site", site)));
    api.ask(Method::GET, "/api/v1/failed", &query, None)
}

fn list(site: Option<&str>, all: bool, api: &Api, global: &Global) -> Result<Exit, Failure> {
    let parked = parked(site, all, api)?;
    if global.json {
        println!("{}", serde_json::to_string(&parked)?);
        return Ok(Exit::Done);
    }
    for each in &parked {
        let version = each.version_id.as_deref().map(|id| format!("?versionId={id}")).unwrap_or_default();
        println!(
            "{} {} s3://{}/{}{version} {} ({} attempts, last {})",
            each.state, each.site, each.bucket, each.key, each.reason, each.attempts, each.last
        );
    }
    if parked.is_empty() {
        println!("nothing");
    }
    Ok(Exit::Done)
}

fn recorded(site: Option<&str>, api: &Api) -> Result<Vec<Retry>, Failure> {
    let retries = parked(site, false, api)?.into_iter().map(|each| Retry {
        bucket: each.bucket,
        key: each.key,
        version_id: each.version_id,
        storage_class: each.site,
        force_retry: false,
    });
    Ok(retries.collect())
}

fn named(site: &str, objects: &[String], force: bool) -> Result<Vec<Retry>, Failure> {
    let retries = objects.iter().map(|url| {
        let (bucket, key, version) = explain::parse(url)?;
        Ok(Retry {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: version.map(str::to_owned),
            storage_class: site.to_owned(),
            force_retry: force,
        })
    });
    retries.collect()
}

fn retry(retries: &[Retry], api: &Api, global: &Global) -> Result<Exit, Failure> {
    let mut queued: Vec<Retried> = Vec::new();
    for some in retries.chunks(1_000) {
        let body = serde_json::to_vec(some)?;
        queued.extend(api.ask::<Vec<Retried>>(Method::POST, "/api/v1/failed/retry", &[], Some(body))?);
    }
    if global.json {
        println!("{}", serde_json::to_string(&queued)?);
    } else {
        println!("{} of {} queued again", queued.len(), retries.len());
    }
    // A version that was named and has no failure, or is gone, was not found.
    Ok(if queued.len() == retries.len() { Exit::Done } else { Exit::NotFound })
}
