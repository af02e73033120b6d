//! `backbeat data`: checking and copying a data directory.

use std::path::{Path, PathBuf};

use backbeat_backends::embedded::StoreError;
use backbeat_backends::site::{self, SiteError};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Api;
use super::{Exit, Failure, Global, dev};
use crate::directory::{Layout, LayoutError};

/// Look after a data directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat data check
  backbeat data backup ./backup-2026-11-20")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(Check),
    Backup(Backup),
}

/// Read every record and every data file of a data directory that is not in use, and compare checksums. Exit 3 if
/// something is damaged. A running stack's data is checked by checking a backup.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat data check
  backbeat data check --data-dir ./backup-2026-11-20")]
struct Check {
    /// The data directory; by default the one that `backbeat dev` uses by default.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Copy the data directory of a running stack, while it goes on. The copy is a data directory itself: `backbeat dev`
/// and `backbeat data check` take it. While nothing runs, any tool may copy the directory.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  backbeat data backup ./backup-2026-11-20")]
struct Backup {
    /// Where to; must not exist yet. Data files are linked, not copied, if it is on the same file system.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    api: Api,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    match &arguments.action {
        Action::Check(check) => self::check(check, global),
        Action::Backup(backup) => self::backup(backup, global),
    }
}

fn check(arguments: &Check, global: &Global) -> Result<Exit, Failure> {
    let data_dir = match &arguments.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => dev::default_data_dir()?,
    };
    let layout = Layout::existing(&data_dir).map_err(of_layout)?;
    let (mut records, mut files, mut bytes) = (0, 0, 0);
    let mut problems = Vec::new();
    for folder in layout.stores().map_err(of_layout)? {
        let checked = site::check(&folder).map_err(of_site)?;
        records += checked.records;
        files += checked.files;
        bytes += checked.bytes;
        problems.extend(checked.problems);
    }
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Bad };
    if global.json {
        let shown = problems
            .iter()
            .map(|found| json!({ "file": found.file, "key": found.key, "problem": found.problem }));
        let problems: Vec<Value> = shown.collect();
        println!("{}", json!({ "records": records, "files": files, "bytes": bytes, "problems": problems }));
        return Ok(exit);
    }
    for found in &problems {
        println!("{}: {}: {}", found.file.display(), found.key, found.problem);
    }
    println!("{records} records, {files} data files, {bytes} bytes: {} damaged", problems.len());
    Ok(exit)
}

fn of_layout(error: LayoutError) -> Failure {
    let exit = match &error {
        LayoutError::Missing(_) => Exit::NotFound,
        LayoutError::Newer { .. } | LayoutError::Foreign { .. } => Exit::Refused,
        LayoutError::Io { .. } => Exit::Error,
    };
    Failure::new(exit, error)
}

fn of_site(error: SiteError) -> Failure {
    if let SiteError::Store(StoreError::InUse { .. }) = &error {
        let hint = "or check a copy made with `backbeat data backup`";
        return Failure::say(Exit::Temporary, format_args!("{error}; {hint}"));
    }
    let is_refused =
        matches!(&error, SiteError::Store(StoreError::NewerFormat { .. } | StoreError::UnknownFormat { .. }));
    Failure::new(if is_refused { Exit::Refused } else { Exit::Error }, error)
}

fn backup(arguments: &Backup, global: &Global) -> Result<Exit, Failure> {
    let directory = std::path::absolute(&arguments.directory)?;
    let body = json!({ "directory": utf8(&directory)? }).to_string();
    let written: Value = arguments.api.ask(Method::POST, "/api/v1/backup", &[], Some(body.into()))?;
    if global.json {
        println!("{written}");
    } else {
        let number = |name: &str| written.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (records, files, bytes) = (number("records"), number("files"), number("bytes"));
        println!("{}: {records} records, {files} data files, {bytes} bytes", directory.display());
    }
    Ok(Exit::Done)
}

fn utf8(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::say(Exit::Usage, "the name of the directory must be UTF-8"))
}
