//! How far the demo is: what has been written, what has arrived where. Fed by the writer and by a watcher that asks the
//! source for the status of what is still open.

use super::site::Site;
use super::units;
use anyhow::{Result, bail};
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Versions asked about in one round, oldest first.
const ROUND_MAX: usize = 64;
/// Questions at the same time: the engine should have the machine to itself.
const QUESTIONS_MAX: usize = 3;
/// Rest between two rounds.
const ROUND_REST: Duration = Duration::from_millis(80);
/// The demo gives up when nothing has moved for this long.
const STALL_TIME_MAX: Duration = Duration::from_secs(40);

/// How far one site is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SiteProgress {
    /// The site.
    pub(super) name: String,
    /// Versions under way.
    pub(super) pending: usize,
    /// Versions that arrived.
    pub(super) completed: usize,
    /// Versions that the engine gave up.
    pub(super) failed: usize,
    /// Bytes of the versions that arrived.
    pub(super) bytes: u64,
    /// Age of the oldest version under way.
    pub(super) age_max: Duration,
}

/// How far everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Versions that the plan asks for.
    pub(super) planned: usize,
    /// Versions written.
    pub(super) written: usize,
    /// Tag changes made.
    pub(super) changes: u64,
    /// Bytes written.
    pub(super) bytes: u64,
    /// The sites.
    pub(super) sites: Vec<SiteProgress>,
    /// Time since the start.
    pub(super) elapsed: Duration,
}

impl Snapshot {
    /// Copies that arrived or were given up, of all there will be, in percent.
    pub(super) fn percent(&self) -> usize {
        let settled: usize = self.sites.iter().map(|site| site.completed + site.failed).sum();
        settled * 100 / (self.planned * self.sites.len()).max(1)
    }
}

/// How a version ended at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Completed,
    Failed,
}

/// A version that was written.
struct Version {
    key: String,
    id: String,
    bytes: u64,
    /// When it was written, or changed last.
    since: Instant,
    /// Counts changes, so that an answer from before a change is known as such.
    change: u64,
    /// By site, in the order of the sites.
    endings: Vec<Option<Ending>>,
}

/// What the watcher asks about.
struct Question {
    number: usize,
    change: u64,
    key: String,
    id: String,
}

#[derive(Default)]
struct State {
    versions: Vec<Version>,
    numbers: BTreeMap<(String, String), usize>,
    /// Numbers of the versions that are not settled everywhere, the oldest first.
    open: BTreeSet<usize>,
    changes: u64,
    delays: Vec<Duration>,
    moved: Option<Instant>,
    is_all_written: bool,
}

/// The shared record.
pub(super) struct Progress {
    started: Instant,
    planned: usize,
    sites: Vec<String>,
    state: Mutex<State>,
}

impl Progress {
    /// Nothing yet, of `planned` versions for `sites`.
    pub(super) fn new(planned: usize, sites: Vec<String>) -> Self {
        Self { started: Instant::now(), planned, sites, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version was written.
    pub(super) fn wrote(&self, key: &str, id: &str, bytes: u64) {
        let mut state = self.state();
        let number = state.versions.len();
        let now = Instant::now();
        state.versions.push(Version {
            key: key.to_owned(),
            id: id.to_owned(),
            bytes,
            since: now,
            change: 0,
            endings: vec![None; self.sites.len()],
        });
        state.numbers.insert((key.to_owned(), id.to_owned()), number);
        state.open.insert(number);
        state.moved = Some(now);
    }

    /// The tags of a version were changed: it has to go everywhere once more.
    pub(super) fn changed(&self, key: &str, id: &str) {
        let mut state = self.state();
        let number = state.numbers.get(&(key.to_owned(), id.to_owned())).copied();
        let number = number.expect("a version is written before it is changed");
        let now = Instant::now();
        state.changes += 1;
        state.moved = Some(now);
        state.open.insert(number);
        let version = &mut state.versions[number];
        version.change += 1;
        version.since = now;
        version.endings.fill(None);
    }

    /// Nothing more will be written.
    pub(super) fn finish_writing(&self) {
        self.state().is_all_written = true;
    }

    /// How far everything is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let site = |(number, name): (usize, &String)| {
            let mut site = SiteProgress { name: name.clone(), ..SiteProgress::default() };
            for version in &state.versions {
                match version.endings[number] {
                    Some(Ending::Completed) => {
                        site.completed += 1;
                        site.bytes += version.bytes;
                    }
                    Some(Ending::Failed) => site.failed += 1,
                    None => {
                        site.pending += 1;
                        site.age_max = site.age_max.max(version.since.elapsed());
                    }
                }
            }
            site
        };
        Snapshot {
            planned: self.planned,
            written: state.versions.len(),
            changes: state.changes,
            bytes: state.versions.iter().map(|version| version.bytes).sum(),
            sites: self.sites.iter().enumerate().map(site).collect(),
            elapsed: self.started.elapsed(),
        }
    }

    /// Times from a write to its being seen settled at a site, sorted.
    pub(super) fn delays(&self) -> Vec<Duration> {
        let mut delays = self.state().delays.clone();
        delays.sort();
        delays
    }

    /// Asks the source about what is open until everything is written and settled.
    ///
    /// # Errors
    /// If nothing has moved for a while; the error says what is open, and what the source said if it cannot be asked.
    pub(super) async fn watch(&self, source: &Site, bucket: &str) -> Result<()> {
        let mut trouble = String::new();
        loop {
            let (questions, is_all_written) = self.questions();
            if questions.is_empty() && is_all_written {
                return Ok(());
            }
            let mut answers = stream::iter(questions)
                .map(|question| async move {
                    let statuses = source.statuses(bucket, &question.key, &question.id).await;
                    (question, statuses)
                })
                .buffer_unordered(QUESTIONS_MAX);
            while let Some((question, statuses)) = answers.next().await {
                match statuses {
                    Ok(statuses) => self.answered(&question, &statuses),
                    Err(error) => trouble = format!("; {error:#}"),
                }
            }
            if self.state().moved.is_some_and(|moved| moved.elapsed() > STALL_TIME_MAX) {
                bail!("nothing has arrived for {} s; {}{trouble}", STALL_TIME_MAX.as_secs(), self.oldest());
            }
            tokio::time::sleep(ROUND_REST).await;
        }
    }

    fn oldest(&self) -> String {
        let state = self.state();
        let Some(version) = state.open.first().map(|number| &state.versions[*number]) else {
            return "nothing is open".to_owned();
        };
        let missing = self.sites.iter().zip(&version.endings).filter(|(_, ending)| ending.is_none());
        let missing: Vec<&str> = missing.map(|(site, _)| site.as_str()).collect();
        let (open, key, id) = (state.open.len(), &version.key, &version.id);
        format!(
            "{open} versions are open, the oldest is {} version {id} for {}",
            units::key(key),
            missing.join(", ")
        )
    }

    fn questions(&self) -> (Vec<Question>, bool) {
        let state = self.state();
        let question = |number: &usize| {
            let Version { key, id, change, .. } = &state.versions[*number];
            Question { number: *number, change: *change, key: key.clone(), id: id.clone() }
        };
        (state.open.iter().take(ROUND_MAX).map(question).collect(), state.is_all_written)
    }

    fn answered(&self, question: &Question, statuses: &BTreeMap<String, String>) {
        let mut state = self.state();
        let State { versions, open, delays, moved, .. } = &mut *state;
        let version = &mut versions[question.number];
        if version.change != question.change {
            return;
        }
        for (site, ending) in self.sites.iter().zip(&mut version.endings) {
            let found = match statuses.get(site).map(String::as_str) {
                Some("COMPLETED") => Ending::Completed,
                Some("FAILED") => Ending::Failed,
                _ => continue,
            };
            if ending.replace(found) != Some(found) {
                *moved = Some(Instant::now());
                delays.push(version.since.elapsed());
            }
        }
        if version.endings.iter().all(Option::is_some) {
            open.remove(&question.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress::new(2, vec!["paris".to_owned(), "tokyo".to_owned()])
    }

    fn answer(progress: &Progress, question: &Question, paris: &str, tokyo: &str) {
        let statuses = [("paris", paris), ("tokyo", tokyo)];
        let statuses = statuses.map(|(site, status)| (site.to_owned(), status.to_owned())).into();
        progress.answered(question, &statuses);
    }

    #[test]
    fn a_version_is_done_when_every_site_has_it() {
        let progress = progress();
        progress.wrote("a", "1", 10);
        let question = progress.questions().0.remove(0);
        answer(&progress, &question, "COMPLETED", "PENDING");
        let seen = progress.snapshot();
        assert_eq!((seen.sites[0].completed, seen.sites[0].pending), (1, 0));
        assert_eq!((seen.sites[1].completed, seen.sites[1].pending), (0, 1));
        answer(&progress, &question, "COMPLETED", "COMPLETED");
        assert!(progress.questions().0.is_empty());
        assert_eq!(progress.snapshot().percent(), 50);
        assert_eq!(progress.delays().len(), 2);
    }

    #[test]
    fn an_answer_from_before_a_change_does_not_count() {
        let progress = progress();
        progress.wrote("a", "1", 10);
        let early = progress.questions().0.remove(0);
        progress.changed("a", "1");
        answer(&progress, &early, "COMPLETED", "COMPLETED");
        assert_eq!(progress.questions().0.len(), 1);
        let late = progress.questions().0.remove(0);
        answer(&progress, &late, "COMPLETED", "COMPLETED");
        assert!(progress.questions().0.is_empty());
        assert_eq!(progress.snapshot().sites[0].completed, 1);
    }

    #[test]
    fn a_change_takes_a_finished_version_back() {
        let progress = progress();
        progress.wrote("a", "1", 10);
        let question = progress.questions().0.remove(0);
        answer(&progress, &question, "COMPLETED", "COMPLETED");
        progress.changed("a", "1");
        let seen = progress.snapshot();
        assert_eq!((seen.sites[0].completed, seen.sites[0].pending, seen.sites[0].bytes), (0, 1, 0));
    }

    #[test]
    fn what_was_given_up_is_counted_apart() {
        let progress = progress();
        progress.wrote("a", "1", 10);
        let question = progress.questions().0.remove(0);
        answer(&progress, &question, "FAILED", "COMPLETED");
        let seen = progress.snapshot();
        assert_eq!((seen.sites[0].failed, seen.sites[1].completed), (1, 1));
        assert!(progress.questions().0.is_empty());
    }
}
