//! A raft log of bucketd, read over HTTP (wire reference 4.1 and 4.2; replication reference 2.1).
//!
//! The log cannot push: while nothing is new it is asked again, soon at first and then less and less often. A site of
//! this project answers a waiting reader by itself, which spares that.
//!
//! bucketd numbers records without gaps from the one that an answer names as its first. An answer that begins later than
//! it was asked to is history lost, one that ends earlier than it was asked to begin is a log that went back; both are
//! told by the batch, as the port says. A site also tells the epoch of its journal; bucketd has none, which is epoch 0,
//! as for the positions that upstream stored.

mod page;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, sleep, timeout};

use super::Journal;
use super::pace::Pace;
use crate::http::{ClientError, Credentials, Request, SignedClient, Stream, Transport};
use crate::site::raft_log::WAIT;
use page::{Page, PageError};

/// Records asked for at once, at most.
const RECORDS_MAX: usize = 1_000;
/// What an answer may need of memory. A record alone that needs more cannot be read.
const BYTES_MAX: usize = 256 << 20;
/// What of it is kept from one answer to the next, at most.
const PAGE_BYTES_KEPT: usize = 4 << 20;
/// For how long a server that can wait is asked to.
const WAIT_TIME_MAX: Duration = Duration::from_secs(15);
/// An answer that took so long was waited for.
const WAITED_TIME_MIN: Duration = Duration::from_secs(1);
/// How often a log that only says that nothing is new is asked where it ends: it may have gone back.
const CHECK_TIME: Duration = Duration::from_secs(1);

/// Where a raft log is.
#[derive(Clone, Debug)]
pub struct BucketdConfig {
    /// `host:port`.
    pub endpoint: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// The number of the raft session.
    pub session: u32,
    /// Keys and region, to read through a site (`/_/metadata/admin/...`) instead of from bucketd, which asks nobody who
    /// they are.
    pub signer: Option<(Credentials, String)>,
    /// How long an answer may take, beside the time that the server was asked to wait.
    pub answer_time_max: Duration,
}

impl BucketdConfig {
    /// The log of a session of the bucketd at `endpoint`.
    pub fn new(endpoint: impl Into<String>, session: u32) -> Self {
        Self {
            endpoint: endpoint.into(),
            transport: Transport::Http,
            session,
            signer: None,
            answer_time_max: Duration::from_secs(30),
        }
    }
}

/// A raft log.
#[derive(Debug)]
pub struct BucketdJournal {
    client: SignedClient,
    is_signed: bool,
    path: String,
    session: u32,
    answer_time_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pace: Pace,
    /// The epoch of the last answer.
    epoch: Option<String>,
    /// When the log was last asked where it ends.
    checked: Option<Instant>,
    /// The memory of the last answer, for the next one: as much of it every time anew costs more than filling it.
    page: Vec<u8>,
}

/// Why there is no page.
#[derive(Debug)]
enum Failure {
    /// Nothing is there, or not now.
    Refused(Refusal),
    /// No answer in time.
    Silent(String),
    /// The answer needs more memory than it may.
    TooLarge,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// None: where the log ends.
    begin: Option<Seq>,
    limit: usize,
    wait: Duration,
}

impl fmt::Display for BucketdJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raft session {} of {}", self.session, self.client.endpoint())
    }
}

impl BucketdJournal {
    /// The log that `config` names. Nothing is asked yet.
    pub fn new(config: BucketdConfig) -> Self {
        let is_signed = config.signer.is_some();
        let (credentials, region) =
            config.signer.unwrap_or_else(|| (Credentials::new("", ""), String::new()));
        let base = if is_signed { "/_/metadata/admin" } else { "/_" };
        Self {
            client: SignedClient::over(&config.transport, config.endpoint, credentials, region),
            is_signed,
            path: format!("{base}/raft_sessions/{}/log", config.session),
            session: config.session,
            answer_time_max: config.answer_time_max,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One question, one answer.
    async fn ask(&self, question: Question) -> Result<Page, Failure> {
        let mut request = Request::new(Method::GET, self.path.clone())
            .query("limit", question.limit.max(1).to_string())
            .query("targetLeader", "false");
        if let Some(begin) = question.begin {
            request = request.query("begin", begin.0.max(1).to_string());
        }
        if !question.wait.is_zero() {
            request = request.header(WAIT, question.wait.as_millis().to_string());
        }
        if !self.is_signed {
            request = request.unsigned();
        }
        let time_max = self.answer_time_max + question.wait;
        let mut page = std::mem::take(&mut self.state().page);
        let exchange = async {
            let (head, body) = self.client.send(request, time_max).await?.into_parts();
            Ok((head, collect(body, &mut page).await))
        };
        let (head, body) = match timeout(time_max, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failure(&error)),
            Err(_) => return Err(Failure::Silent(format!("no answer from {self} within {time_max:?}"))),
        };
        match body {
            Ok(()) => {}
            Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
                return Err(Failure::TooLarge);
            }
            Err(error) => return Err(unavailable(format!("the answer of {self} broke off: {error}"))),
        }
        let read = self.page(head.status, head.extensions.get(), &page);
        if page.capacity() <= PAGE_BYTES_KEPT {
            page.clear();
            self.state().page = page;
        }
        read
    }

    fn page(
        &self,
        status: StatusCode,
        name: Option<&hyper::ext::ReasonPhrase>,
        body: &[u8],
    ) -> Result<Page, Failure> {
        match status {
            StatusCode::OK => Page::parse(body).map_err(|error| invalid(self, &error)),
            // Nothing new. A site says where its journal ends all the same.
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Page::parse(body).unwrap_or_default()),
            _ => {
                let name = name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
                let name = name.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().to_owned());
                let told = format!("{self} answered {} {name}", status.as_u16());
                let kind = match status {
                    StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => RefusalKind::Denied,
                    // A session that nobody has made yet is one that may come.
                    _ => RefusalKind::Unavailable,
                };
                Err(Failure::Refused(Refusal::new(kind, told)))
            }
        }
    }

    /// Asks for less if the answer is too large.
    async fn ask_in_bounds(&self, mut question: Question) -> Result<Page, Failure> {
        loop {
            match self.ask(question).await {
                Err(Failure::TooLarge) if question.limit > 1 => question.limit /= 2,
                answer => return answer,
            }
        }
    }

    /// Where the log ends. A bucketd that does not know the session yet fails until it was asked for records.
    async fn ask_end(&self) -> Result<Page, Failure> {
        let question = Question { begin: None, limit: 1, wait: Duration::ZERO };
        let mut page = match self.ask(question).await {
            Err(Failure::Refused(refusal)) if refusal.kind == RefusalKind::Unavailable => {
                self.ask(Question { begin: Some(Seq(1)), ..question }).await?
            }
            answer => answer?,
        };
        // Nothing new for one who begins at the beginning: nothing yet.
        if page.records.is_empty() && page.last.is_none() {
            page.last = Some(Seq(0));
        }
        Ok(page)
    }

    fn epoch(&self, page: &Page) -> JournalEpoch {
        let mut state = self.state();
        if let (Some(before), Some(now)) = (&state.epoch, &page.epoch)
            && before != now
        {
            tracing::warn!(log = %self, before, now, "another log answers: its epoch changed");
        }
        if page.epoch.is_some() {
            state.epoch.clone_from(&page.epoch);
        }
        page.epoch.as_deref().map_or(JournalEpoch(0), super::embedded::epoch_of)
    }

    fn failed(&self, failure: Failure) -> Ending<Batch> {
        let (told, ending) = match failure {
            Failure::Refused(refusal) => (refusal.code.clone(), Ending::Refused(refusal)),
            Failure::Silent(told) => (told, Ending::Unknown),
            Failure::TooLarge => {
                let told = format!("a record of {self} needs more than {BYTES_MAX} bytes");
                (told.clone(), Ending::Refused(Refusal::new(RefusalKind::Invalid, told)))
            }
        };
        if self.state().pace.failed() {
            tracing::warn!(log = %self, cause = told, "the log cannot be read; trying again, less and less often");
        }
        ending
    }

    /// One look at what is there now.
    async fn look(&self, question: Question) -> Result<Batch, Failure> {
        let Some(from) = question.begin else {
            let page = self.ask_end().await?;
            let end = page.end().ok_or_else(|| unavailable(format!("{self} does not say where it ends")))?;
            let (epoch, oldest) = (self.epoch(&page), page.oldest.unwrap_or(Seq(1)).min(end));
            return Ok(Batch { records: Vec::new(), next: end, end, epoch, oldest });
        };
        let mut page = self.ask_in_bounds(question).await?;
        if question.limit == 0 {
            page.records.clear();
        }
        let is_due = || self.state().checked.is_none_or(|at| at.elapsed() >= CHECK_TIME);
        if page.records.is_empty() && page.last.is_none() && is_due() {
            page = Page { records: Vec::new(), first: None, ..self.ask_end().await? };
            self.state().checked = Some(Instant::now());
        }
        let epoch = self.epoch(&page);
        let first = page.first.unwrap_or(from.max(Seq(1)));
        let told = page.oldest.unwrap_or(first);
        let oldest = match (page.records.is_empty(), first <= from) {
            (true, _) => told,
            // What was given was there, whatever the log says of itself.
            (false, true) => told.min(first),
            (false, false) => told.max(first),
        };
        let end = page.end().unwrap_or(from);
        let mut records = Vec::new();
        if oldest <= from {
            for (seq, record) in (first.0..).map(Seq).zip(page.records).skip_while(|(seq, _)| *seq < from) {
                match record {
                    Ok(record) => records.push((seq, Arc::new(record))),
                    // Those before it can be worked on.
                    Err(_) if !records.is_empty() => break,
                    Err(error) => {
                        let told = format!("record {} of {self} cannot be read: {error}", seq.0);
                        return Err(Failure::Refused(Refusal::new(RefusalKind::Invalid, told)));
                    }
                }
            }
        }
        let next = records.last().map_or(from, |(seq, _)| seq.next());
        // Records may be newer than what the log said of its end.
        let end = if records.is_empty() { end } else { end.max(next) };
        Ok(Batch { records, next, end, epoch, oldest })
    }
}

/// Reads a body to its end.
async fn collect(body: Stream, into: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut body = Limited::new(body, BYTES_MAX);
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            into.extend_from_slice(bytes);
        }
    }
    Ok(())
}

fn unavailable(told: String) -> Failure {
    Failure::Refused(Refusal::new(RefusalKind::Unavailable, told))
}

fn invalid(log: &BucketdJournal, error: &PageError) -> Failure {
    let told = format!("what answers for {log} does not speak of a raft log: {error}");
    Failure::Refused(Refusal::new(RefusalKind::Invalid, told))
}

fn failure(error: &ClientError) -> Failure {
    match error {
        ClientError::TimedOut { .. } => Failure::Silent(error.to_string()),
        ClientError::Invalid { .. } => {
            Failure::Refused(Refusal::new(RefusalKind::Invalid, error.to_string()))
        }
        ClientError::Connect { .. } | ClientError::Distrust { .. } | ClientError::Broken { .. } => {
            unavailable(error.to_string())
        }
    }
}

impl Journal for BucketdJournal {
    async fn read(&self, from: Option<Seq>, limit: usize, wait: Span) -> Ending<Batch> {
        let deadline = Instant::now() + Duration::from_micros(wait.as_micros());
        let limit = limit.min(RECORDS_MAX);
        loop {
            let pause = self.state().pace.pause_after_failure();
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            let asked = Instant::now();
            let patience = deadline.saturating_duration_since(asked).min(WAIT_TIME_MAX);
            let batch = match self.look(Question { begin: from, limit, wait: patience }).await {
                Ok(batch) => batch,
                Err(failure) => return self.failed(failure),
            };
            if self.state().pace.answered() {
                tracing::info!(log = %self, "the log answers again");
            }
            if from != Some(batch.end) {
                self.state().pace.found();
                return Ending::Applied(batch);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ending::Applied(batch);
            }
            // A server that waited by itself is asked again without a pause.
            if now - asked < WAITED_TIME_MIN {
                let pause = self.state().pace.pause_after_nothing();
                sleep(pause.min(deadline - now)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
