//! The record log of a metadata daemon, read over Socket.IO (wire reference 4.3; replication reference 2.1).
//!
//! The log cannot push: while nothing is new it is asked again, soon at first and then less and less often.
//!
//! The daemon numbers records from 1 on, and does not say the number of each one that it gives, only that of the first and
//! up to where it looked. Numbers whose write failed stay empty for ever, and a number may be given before the record
//! of an earlier one is written. So a read goes no further than records follow each other without a hole. It begins one
//! record before the one that is wanted: that this one is there shows that the log did not go back. A hole is waited for,
//! and passed over, with its numbers in the log, once it has stayed for a while; a hole before which nothing is left is
//! history lost. Upstream counts records and takes what comes behind a hole for the records in it, which makes it read
//! some of them twice.
//!
//! The identity of the journal is the one that the daemon keeps beside its database.

mod connection;
#[cfg(test)]
mod daemon;
mod packet;
mod sight;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::model::LogRecord;
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::Journal;
use super::pace::Pace;
use connection::{CallError, Connection};
use sight::{Sight, find_end, first_from, follow};

/// The log of an installation that names none.
pub const LOG_NAME_DEFAULT: &str = "s3-recordlog";

/// Records asked for at once, at most.
const RECORDS_MAX: usize = 1_000;
/// How often it is looked up how far the log reaches, while there is more than is read at once.
const END_TIME: Duration = Duration::from_secs(10);

/// Where a record log is.
#[derive(Clone, Debug)]
pub struct DmdConfig {
    /// `host:port` of the metadata daemon.
    pub endpoint: String,
    /// The name of the log.
    pub log_name: String,
    /// How long an answer, or the next piece of one, may take.
    pub answer_time_max: Duration,
    /// How long a number must stay without a record before it counts as one of a write that failed.
    pub hole_time: Duration,
}

impl DmdConfig {
    /// The log `log_name` of the daemon at `endpoint`.
    pub fn new(endpoint: impl Into<String>, log_name: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            log_name: log_name.into(),
            answer_time_max: Duration::from_secs(30),
            hole_time: Duration::from_secs(2),
        }
    }
}

/// A record log.
#[derive(Debug)]
pub struct DmdJournal {
    config: DmdConfig,
    /// Taken out while it is used: a read that is cancelled leaves none behind.
    connection: Mutex<Option<Connection>>,
    state: SyncMutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pace: Pace,
    /// The identity that was told last.
    identity: Option<String>,
    /// The oldest record that is kept, as far as is known.
    oldest: Option<Seq>,
    /// One past the last record, when it was looked for last, and when that was.
    end: Option<(Seq, Instant)>,
    /// Where a hole begins, and since when it has been seen.
    hole: Option<(Seq, Instant)>,
}

impl fmt::Display for DmdJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record log {} of {}", self.config.log_name, self.config.endpoint)
    }
}

/// The epoch of the log in a database: 0 if nobody says which one that is, as for the positions that upstream stored.
fn epoch(identity: Option<&str>) -> JournalEpoch {
    identity.map_or(JournalEpoch(0), super::embedded::epoch_of)
}

/// The records from `first` on. Those before a damaged one can be worked on.
fn parsed(first: Seq, texts: Vec<Box<RawValue>>) -> Result<Vec<(Seq, Arc<LogRecord>)>, CallError> {
    let mut records = Vec::with_capacity(texts.len());
    for (seq, text) in (first.0..).map(Seq).zip(texts) {
        match LogRecord::parse(text.get()) {
            Ok(record) => records.push((seq, Arc::new(record))),
            Err(_) if !records.is_empty() => break,
            Err(error) => {
                return Err(CallError::Strange(format!("record {} cannot be read: {error}", seq.0)));
            }
        }
    }
    Ok(records)
}

impl DmdJournal {
    /// The log that `config` names. Nothing is asked yet.
    pub fn new(config: DmdConfig) -> Self {
        Self { config, connection: Mutex::default(), state: SyncMutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let config = &self.config;
        let connection = Connection::open(&config.endpoint, &config.log_name, config.answer_time_max).await?;
        let mut state = self.state();
        match (&state.identity, &connection.identity) {
            (before, Some(now)) if before.as_ref() != Some(now) => {
                if let Some(before) = before {
                    tracing::warn!(log = %self, before, now, "another log answers: its database is another one");
                }
                *state = State {
                    identity: Some(now.clone()),
                    pace: std::mem::take(&mut state.pace),
                    ..State::default()
                };
            }
            (_, Some(_)) => {}
            (_, None) => {
                tracing::warn!(log = %self, "the daemon does not say which database it has: another one in its place is not noticed");
            }
        }
        drop(state);
        Ok(connection)
    }

    /// One look, over the connection that there is, or else over a new one: one that was left alone for long may have been
    /// ended. None if nothing is there yet.
    async fn look(&self, from: Option<Seq>, limit: usize) -> Result<Option<Batch>, CallError> {
        let (mut place, mut limit) = (self.connection.lock().await, limit);
        loop {
            let (mut connection, is_new) = match place.take() {
                Some(connection) => (connection, false),
                None => (self.connect().await?, true),
            };
            match self.look_over(&mut connection, from, limit).await {
                Ok(batch) => {
                    *place = Some(connection);
                    return Ok(batch);
                }
                Err(CallError::Broken(_)) if !is_new => {}
                Err(CallError::TooLarge) if limit > 1 => limit /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    async fn look_over(
        &self,
        connection: &mut Connection,
        from: Option<Seq>,
        limit: usize,
    ) -> Result<Option<Batch>, CallError> {
        let epoch = epoch(connection.identity.as_deref());
        let empty = |next, end, oldest| Some(Batch { records: Vec::new(), next, end, epoch, oldest });
        let Some(from) = from.map(|from| from.max(Seq(1))) else {
            let known = self.state().end.map_or(Seq(1), |(end, _)| end);
            let end = find_end(connection, known).await?;
            let oldest = self.oldest(connection, end).await?;
            return Ok(empty(end, end, oldest));
        };
        let (first, records) = match sight::look(connection, from, limit).await? {
            Sight::Records(records) => (from, records),
            Sight::Nothing => {
                self.state().hole = None;
                return Ok(None);
            }
            Sight::WentBack => {
                let end = find_end(connection, Seq(1)).await?;
                let oldest = self.oldest(connection, end).await?;
                return Ok(empty(from, end, oldest));
            }
            Sight::Hole(next) => {
                let oldest = self.oldest(connection, next).await?;
                // Whoever wants more than the first record has read one that is gone now.
                if (oldest <= from || from <= Seq(1)) && !self.is_to_stay(from) {
                    return Ok(None);
                }
                if oldest > from {
                    return Ok(empty(from, find_end(connection, next).await?, oldest));
                }
                let (from, to) = (from.0, next.0 - 1);
                tracing::warn!(log = %self, from, to, "these numbers of the log have no records: writes that failed; passing them over");
                match follow(connection, next, limit).await? {
                    Some(run) => (run.first, run.records),
                    None => return Ok(None),
                }
            }
        };
        self.state().hole = None;
        let is_full = records.len() >= limit;
        let records = parsed(first, records)?;
        let next = records.last().map_or(from, |(seq, _)| seq.next());
        let end = self.end(connection, next, is_full).await?;
        let oldest = self.state().oldest.map_or(first, |oldest| oldest.min(first)).min(from);
        Ok(Some(Batch { records, next, end, epoch, oldest }))
    }

    /// The oldest record that is kept; `none` if there is none.
    async fn oldest(&self, connection: &mut Connection, none: Seq) -> Result<Seq, CallError> {
        let oldest = first_from(connection, Seq(1)).await?;
        self.state().oldest = oldest;
        Ok(oldest.unwrap_or(none))
    }

    /// That nothing is at `at` yet.
    fn nothing(&self, at: Seq) -> Batch {
        let state = self.state();
        let epoch = epoch(state.identity.as_deref());
        Batch { records: Vec::new(), next: at, end: at, epoch, oldest: state.oldest.unwrap_or(at).min(at) }
    }

    /// Whether the hole at `from` has been seen for long enough.
    fn is_to_stay(&self, from: Seq) -> bool {
        let mut state = self.state();
        match state.hole {
            Some((at, since)) if at == from => since.elapsed() >= self.config.hole_time,
            Some(_) | None => {
                state.hole = Some((from, Instant::now()));
                false
            }
        }
    }

    /// One past the last record. It is looked up now and then while there is more than is read at once, and the end of
    /// what was read otherwise.
    async fn end(&self, connection: &mut Connection, next: Seq, is_more: bool) -> Result<Seq, CallError> {
        if !is_more {
            return Ok(next);
        }
        let known = self.state().end;
        if let Some((end, at)) = known
            && at.elapsed() < END_TIME
        {
            return Ok(end.max(next));
        }
        let end = find_end(connection, next).await?;
        self.state().end = Some((end, Instant::now()));
        Ok(end.max(next))
    }

    fn failed(&self, error: &CallError) -> Ending<Batch> {
        let told = format!("{self}: {error}");
        if self.state().pace.failed() {
            tracing::warn!(log = %self, cause = %error, "the log cannot be read; trying again, less and less often");
        }
        let kind = match error {
            CallError::Silent(_) => return Ending::Unknown,
            CallError::Connect(_) | CallError::Broken(_) | CallError::Refused { .. } => {
                RefusalKind::Unavailable
            }
            CallError::Strange(_) | CallError::TooLarge => RefusalKind::Invalid,
        };
        Ending::Refused(Refusal::new(kind, told))
    }
}

impl Journal for DmdJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        let deadline = Instant::now() + Duration::from_micros(wait.as_micros());
        let limit = limit.clamp(1, RECORDS_MAX);
        loop {
            let pause = self.state().pace.pause_after_failure();
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            let found = match self.look(from, limit).await {
                Ok(found) => found,
                Err(error) => return self.failed(&error),
            };
            if self.state().pace.answered() {
                tracing::info!(log = %self, "the log answers again");
            }
            if let Some(batch) = found {
                self.state().pace.found();
                return Ending::Applied(batch);
            }
            let now = Instant::now();
            if now >= deadline {
                let at = from.unwrap_or(Seq(1)).max(Seq(1));
                return Ending::Applied(self.nothing(at));
            }
            let pause = self.state().pace.pause_after_nothing();
            sleep(pause.min(deadline - now)).await;
        }
    }
}
