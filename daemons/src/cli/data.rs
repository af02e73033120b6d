//! `backbeat data`: checking and copying a data directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backbeat_backends::embedded::{DATABASE_FILE, StoreError};
use backbeat_backends::site::{self, Checked, Problem, SiteError};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Api;
use super::{Exit, Failure, Global, SAYS, dev};
use crate::directory::{Layout, LayoutError};

/// How long a copy may take before the command gives up waiting for it: it reads all of every database.
const COPY_TIME_MAX: Duration = Duration::from_hours(24);

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
    #[command(hide = true)]
    CheckStore(CheckStore),
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

/// The part of a check that reads one store, and answers in JSON.
#[derive(Debug, Args)]
struct CheckStore {
    /// Its folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
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
        Action::CheckStore(check) => check_store(check),
    }
}

fn check(arguments: &Check, global: &Global) -> Result<Exit, Failure> {
    let data_dir = match &arguments.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => dev::default_data_dir()?,
    };
    let layout = Layout::existing(&data_dir).map_err(of_layout)?;
    let mut all = Checked::default();
    for folder in layout.stores().map_err(of_layout)? {
        let checked = check_apart(&folder)?;
        all.records += checked.records;
        all.files += checked.files;
        all.bytes += checked.bytes;
        all.problems.extend(checked.problems);
    }
    let exit = if all.problems.is_empty() { Exit::Done } else { Exit::Bad };
    if global.json {
        println!("{}", serde_json::to_string(&all)?);
        return Ok(exit);
    }
    for found in &all.problems {
        println!("{}: {}: {}", found.file.display(), found.key, found.problem);
    }
    let (records, files, bytes) = (all.records, all.files, all.bytes);
    println!("{records} records, {files} data files, {bytes} bytes: {} damaged", all.problems.len());
    Ok(exit)
}

/// Checks a store in a process of its own, which some damage ends: then that is what is wrong with it.
fn check_apart(folder: &Path) -> Result<Checked, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["data", "check-store"]).arg(folder).stdin(Stdio::null()).output()?;
    match output.status.code() {
        Some(0) => Ok(serde_json::from_slice(&output.stdout)?),
        Some(code) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.rsplit_once(SAYS).map_or(&*said, |(_, said)| said).trim();
            Err(Failure::say(Exit::of_code(code), said))
        }
        None => {
            let problem = Problem {
                file: folder.join(DATABASE_FILE),
                key: "the whole file".to_owned(),
                problem: format!("it is damaged so that reading it ends the process ({})", output.status),
            };
            Ok(Checked { problems: vec![problem], ..Checked::default() })
        }
    }
}

fn check_store(arguments: &CheckStore) -> Result<Exit, Failure> {
    let checked = site::check(&arguments.folder).map_err(of_site)?;
    println!("{}", serde_json::to_string(&checked)?);
    Ok(Exit::Done)
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
    let written: Value =
        arguments.api.ask_within(COPY_TIME_MAX, Method::POST, "/api/v1/backup", &[], Some(body.into()))?;
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
