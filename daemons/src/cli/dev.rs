//! `backbeat dev`: the embedded stack, kept running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::signals::Signals;
use super::{Exit, Failure, Global, config};
use crate::stack::{ACCESS_KEY, Addresses, REGION, SECRET_KEY, SitesAlone, Stack, StackConfig, Target};

/// Where the journal of sites that are alone is read, as bucketd's is.
const JOURNAL_PORT_DEFAULT: u16 = 9000;

/// The target when none is named.
const TARGET_PORT_DEFAULT: u16 = 8001;

/// Run a source site, target sites and everything between them on this machine, until Ctrl-C or SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat dev
  backbeat dev --data-dir ./data --source-port 8000 --target paris=8001 --target tokyo=8002
  backbeat dev --json --source-port 0 --target-port 0 --api-port 0
  backbeat dev --sites-only --target paris=8001")]
pub(super) struct Arguments {
    /// Where everything is kept; by default a folder under the user's data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Port of the source's S3; 0 for any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    source_port: u16,
    /// Port of a target's S3, one for each target site; 0 for any that is free. The site is named site-PORT.
    #[arg(long, value_name = "PORT")]
    target_port: Vec<u16>,
    /// A target site with a name of your choice.
    #[arg(long, value_name = "NAME=PORT", value_parser = named_target)]
    target: Vec<Target>,
    /// Port of the API and the web page; 0 for any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 8900)]
    api_port: u16,
    /// Port on which processes of this machine read the source's journal, unsigned, as bucketd's raft session 1; 0 for
    /// any that is free. Without it, the journal is read over the source's S3, signed.
    #[arg(long, value_name = "PORT")]
    journal_port: Option<u16>,
    /// Run the sites only, for daemons in other processes to replicate between; the journal's port is then 9000 unless
    /// --journal-port says otherwise.
    #[arg(long)]
    sites_only: bool,
}

fn named_target(text: &str) -> Result<Target, String> {
    let usage = || format!("{text:?} is not of the form NAME=PORT");
    let (name, port) = text.split_once('=').ok_or_else(usage)?;
    let port = port.parse().map_err(|_| usage())?;
    Ok(Target { name: Some(name.to_owned()), port })
}

/// A folder under the user's data directory.
pub(super) fn default_data_dir() -> Result<PathBuf, Failure> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")));
    let base = base.ok_or_else(|| {
        Failure::say(Exit::Usage, "neither XDG_DATA_HOME nor HOME is set: name a directory with --data-dir")
    })?;
    Ok(base.join("backbeat").join("dev"))
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    let config = config::load(global)?;
    config::log(&config);
    let data_dir = match &arguments.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => default_data_dir()?,
    };
    let ports = arguments.target_port.iter().map(|&port| Target { name: None, port });
    let mut targets: Vec<Target> = ports.chain(arguments.target.iter().cloned()).collect();
    if targets.is_empty() {
        targets.push(Target { name: None, port: TARGET_PORT_DEFAULT });
    }
    let (source_port, api_port) = (arguments.source_port, arguments.api_port);
    if arguments.sites_only {
        let journal_port = arguments.journal_port.unwrap_or(JOURNAL_PORT_DEFAULT);
        let sites = SitesAlone::start(data_dir.clone(), source_port, &targets, journal_port, &config);
        super::runtime()?.block_on(serve_sites(sites, &data_dir, global.json))?;
        return Ok(Exit::Done);
    }
    let journal_port = arguments.journal_port;
    let stack =
        StackConfig { data_dir: data_dir.clone(), source_port, targets, api_port, journal_port, config };
    super::runtime()?.block_on(serve(stack, &data_dir, global.json))?;
    Ok(Exit::Done)
}

async fn serve(config: StackConfig, data_dir: &Path, json: bool) -> Result<()> {
    // Signals are caught before anything starts: one that comes meanwhile is not lost.
    let mut signals = Signals::caught()?;
    let mut stack = Stack::start(config).await?;
    greet(stack.addresses(), data_dir, json);
    signals.unless(stack.failed()).await?;
    stack.shutdown().await.context("did not stop cleanly; nothing acknowledged is lost")
}

async fn serve_sites(
    starting: impl Future<Output = Result<SitesAlone>>,
    data_dir: &Path,
    json: bool,
) -> Result<()> {
    let mut signals = Signals::caught()?;
    let mut sites = starting.await?;
    greet(sites.addresses(), data_dir, json);
    signals.unless(sites.failed()).await?;
    sites.shutdown().await.context("did not stop cleanly; nothing acknowledged is lost")
}

fn greet(addresses: &Addresses, data_dir: &Path, json: bool) {
    if json {
        println!("{}", as_json(addresses, data_dir));
    } else {
        print!("{}", welcome(addresses, data_dir));
    }
}

fn as_json(addresses: &Addresses, data_dir: &Path) -> serde_json::Value {
    let targets = addresses
        .targets
        .iter()
        .map(|(name, address)| json!({"site": name, "endpoint": format!("http://{address}")}));
    let mut line = json!({
        "source": {"endpoint": format!("http://{}", addresses.source)},
        "targets": targets.collect::<Vec<_>>(),
        "accessKey": ACCESS_KEY,
        "secretKey": SECRET_KEY,
        "region": REGION,
        "dataDir": data_dir,
        "pid": std::process::id(),
    });
    if let Some(api) = addresses.api {
        line["api"] = json!({"endpoint": format!("http://{api}")});
    }
    if let Some(journal) = addresses.journal {
        line["journal"] = json!({"endpoint": format!("http://{journal}")});
    }
    line
}

/// What to paste.
fn welcome(addresses: &Addresses, data_dir: &Path) -> String {
    let Addresses { source, targets, api, journal } = addresses;
    let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
    let aws = |address: &SocketAddr| format!("  aws --endpoint-url http://{address}");
    let versioned = |address: &SocketAddr, bucket: &str| {
        let versioning = "--versioning-configuration Status=Enabled";
        let aws = aws(address);
        [
            format!("{aws} s3api create-bucket --bucket {bucket}"),
            format!("{aws} s3api put-bucket-versioning --bucket {bucket} {versioning}"),
        ]
    };
    let rules = json!({
        "Role": "arn:aws:iam::000000000000:role/backbeat",
        "Rules": [{"Status": "Enabled", "Prefix": "", "Destination":
            {"Bucket": "arn:aws:s3:::photos-copy", "StorageClass": names.join(",")}}],
    });
    let mut lines = vec![format!("source  http://{source}")];
    lines.extend(targets.iter().map(|(name, address)| format!("target  http://{address}  (site {name})")));
    if let Some(api) = api {
        lines.push(format!("API     http://{api}"));
    }
    if let Some(journal) = journal {
        lines.push(format!("journal http://{journal}/_/raft_sessions/1/log"));
    }
    lines.push(format!("data    {}", data_dir.display()));
    lines.push("\nTry it:\n".to_owned());
    lines.push(format!(
        "  export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_DEFAULT_REGION={REGION}"
    ));
    lines.extend(versioned(source, "photos"));
    lines.extend(targets.iter().flat_map(|(_, address)| versioned(address, "photos-copy")));
    let source = aws(source);
    lines.push(format!(
        "{source} s3api put-bucket-replication --bucket photos --replication-configuration '{rules}'"
    ));
    lines.push(format!("  echo hello |{source} s3 cp - s3://photos/hello.txt"));
    lines.push(format!(
        "{source} s3api head-object --bucket photos --key hello.txt --query ReplicationStatus"
    ));
    lines.extend(
        targets.iter().map(|(_, address)| format!("{} s3 cp s3://photos-copy/hello.txt -", aws(address))),
    );
    lines.push("\nCtrl-C stops it; the data stays.\n".to_owned());
    lines.join("\n")
}
