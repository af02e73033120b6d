//! How far a job is, in a file: whoever begins the same job again goes on from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Job, Tally};
use crate::timestamp;

/// A file that says how far a job is.
#[derive(Debug)]
pub struct Place {
    file: PathBuf,
    job: Description,
}

/// What belongs together: another job does not go on where this one was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    source: String,
    bucket: String,
    prefix: String,
    site: String,
    default_site: Option<String>,
    status: Vec<String>,
    before: Option<String>,
    dry_run: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    job: Description,
    /// All keys up to this one are done.
    key: String,
    tally: Tally,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be read or written.
    #[error("{}: {source}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is about something else.
    #[error("{} {what}: name another file, or remove it to begin anew", .file.display())]
    Other {
        /// Which.
        file: PathBuf,
        /// What it is.
        what: String,
    },
}

impl Place {
    /// The place of `job` at `source` (`host:port`) in `file`, which need not be there yet.
    pub fn new(file: &Path, source: &str, job: &Job) -> Self {
        let status = job.resync.standings.iter().map(|standing| standing.name().to_owned()).collect();
        let job = Description {
            source: source.to_owned(),
            default_site: job.resync.default_site.as_ref().map(|site| site.as_str().to_owned()),
            bucket: job.bucket.as_str().to_owned(),
            prefix: job.prefix.clone(),
            site: job.resync.site.as_str().to_owned(),
            status,
            before: job.before.map(timestamp::format),
            dry_run: job.is_dry,
        };
        Self { file: file.to_owned(), job }
    }

    /// The last key that is done, and what was found up to there; nothing if the job was not begun.
    ///
    /// # Errors
    /// It cannot be read, or it is about another job.
    pub fn read(&self) -> Result<Option<(String, Tally)>, PlaceError> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let stored: Stored = serde_json::from_slice(&text)
            .map_err(|error| self.other(format!("does not say how far a job is ({error})")))?;
        if stored.job != self.job {
            let Description { source, bucket, prefix, site, default_site, status, before, dry_run } =
                stored.job;
            let default = default_site.map(|site| format!(" --default-site {site}")).unwrap_or_default();
            let before = before.map(|before| format!(" --before {before}")).unwrap_or_default();
            let dry = if dry_run { " --dry-run" } else { "" };
            let status = status.join(",");
            let what = format!(
                "is how far another job is: at {source}, s3://{bucket}/{prefix} --site {site}{default} --status {status}{before}{dry}"
            );
            return Err(self.other(what));
        }
        Ok(Some((stored.key, stored.tally)))
    }

    /// Says that all keys up to `key` are done. What was said before stays until this is written.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, key: &str, tally: &Tally) -> Result<(), PlaceError> {
        let stored = Stored { job: self.job.clone(), key: key.to_owned(), tally: tally.clone() };
        let text = serde_json::to_vec(&stored).expect("texts and numbers always have a JSON form");
        let mut name = self.file.clone().into_os_string();
        name.push(".new");
        fs::write(&name, text)
            .and_then(|()| fs::rename(&name, &self.file))
            .map_err(|error| self.failed(error))
    }

    /// The job is done.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self) -> Result<(), PlaceError> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> PlaceError {
        PlaceError::File { file: self.file.clone(), source }
    }

    fn other(&self, what: String) -> PlaceError {
        PlaceError::Other { file: self.file.clone(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_core::model::{Resync, Standing};

    fn job(site: &str) -> Job {
        Job {
            bucket: "photos".into(),
            prefix: "2024/".to_owned(),
            resync: Resync {
                site: site.into(),
                standings: [Standing::Failed, Standing::New].into(),
                default_site: None,
                cold_locations: std::collections::BTreeSet::new(),
            },
            before: None,
            is_dry: false,
            concurrency: 10,
        }
    }

    #[test]
    fn a_job_goes_on_where_it_was_and_no_other_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("place");
        let place = Place::new(&file, "here:80", &job("tokyo"));
        assert_eq!(place.read().expect("nothing is there"), None);
        let mut tally = Tally { seen: 7, failed: 1, ..Tally::default() };
        tally.queued.entry("new".to_owned()).or_default().add(5);
        place.write("2024/\u{e9}\n", &tally).expect("it is written");
        assert_eq!(place.read().expect("it is there"), Some(("2024/\u{e9}\n".to_owned(), tally)));
        assert!(Place::new(&file, "there:80", &job("tokyo")).read().is_err(), "another source");
        let error = Place::new(&file, "here:80", &job("paris")).read().expect_err("another job").to_string();
        assert!(error.contains("s3://photos/2024/ --site tokyo --status new,failed"), "{error}");
        place.remove().expect("it goes");
        place.remove().expect("it is gone already");
        assert_eq!(place.read().expect("nothing is there"), None);
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("holiday.jpg");
        fs::write(&file, b"\xff\xd8").expect("it is written");
        let error = Place::new(&file, "here:80", &job("tokyo")).read().expect_err("no place").to_string();
        assert!(error.contains("holiday.jpg"), "{error}");
        assert_eq!(fs::read(&file).expect("it is there"), b"\xff\xd8");
    }
}
