//! `backbeat explain`: what becomes of one version.

use clap::Args;
use http::Method;

use super::client::Api;
use super::{Exit, Failure, Global};
use crate::api::report::Explanation;

/// Explain what becomes of one version of an object; without a version id, of the current one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat explain s3://photos/2024/a.jpg
  backbeat explain 's3://photos/2024/a.jpg?versionId=aJ87MPaUKYOz00000000001I4j3QKItW'")]
pub(super) struct Arguments {
    /// s3://BUCKET/KEY, with ?versionId=ID for a version other than the current one.
    #[arg(value_name = "S3_URL")]
    object: String,
    #[command(flatten)]
    api: Api,
}

/// Bucket, key and version of an S3 URL. The key stands as it is: nothing in it is decoded.
pub(super) fn parse(url: &str) -> Result<(&str, &str, Option<&str>), Failure> {
    let usage = || {
        Failure::say(Exit::Usage, format_args!("{url:?} is not of the form s3://BUCKET/KEY[?versionId=ID]"))
    };
    let rest = url.strip_prefix("s3://").ok_or_else(usage)?;
    let (rest, version) = match rest.rsplit_once("?versionId=") {
        Some((rest, version)) => (rest, Some(version)),
        None => (rest, None),
    };
    let (bucket, key) = rest.split_once('/').ok_or_else(usage)?;
    if bucket.is_empty() || key.is_empty() || version == Some("") {
        return Err(usage());
    }
    Ok((bucket, key, version))
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    let (bucket, key, version) = parse(&arguments.object)?;
    let mut query = vec![("bucket", bucket), ("key", key)];
    query.extend(version.map(|version| ("versionId", version)));
    let told: Explanation = arguments.api.ask(Method::GET, "/api/v1/explain", &query, None)?;
    if global.json {
        println!("{}", serde_json::to_string(&told)?);
        return Ok(Exit::Done);
    }
    let version = told.version_id.as_deref().unwrap_or("unversioned");
    println!("s3://{}/{}  version {version}", told.bucket, told.key);
    if told.sites.is_empty() {
        println!("no replication rule applied when it was written");
    } else {
        println!("status at the source: {}", told.status);
    }
    for site in &told.sites {
        println!("  {}: {}: {}", site.site, site.status, site.doing);
        if let Some(record) = &site.record {
            let next = record.next.as_deref().unwrap_or("not planned");
            println!(
                "    {} because of {} since {}, {} attempts, next {next}",
                record.state, record.reason, record.first, record.attempts
            );
        }
    }
    for part in &told.unknown {
        println!("  could not be asked: {part}");
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_without_decoding() {
        assert_eq!(parse("s3://b/a/b%20c?d").ok(), Some(("b", "a/b%20c?d", None)));
        assert_eq!(parse("s3://b/k?versionId=null").ok(), Some(("b", "k", Some("null"))));
        for url in ["b/k", "s3://b", "s3://b/", "s3:///k", "s3://b/k?versionId="] {
            assert!(parse(url).is_err_and(|failure| failure.exit == Exit::Usage), "{url}");
        }
    }
}
