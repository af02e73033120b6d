//! The journal of a site in the form of bucketd's raft log (wire reference 4.1 and 4.2), for populators in other
//! processes and on other machines.
//!
//! The site has one log, the session number 1. Beyond bucketd's form the head of an answer tells the epoch of the
//! journal, and a reader that names a time ([`WAIT`]) is answered as soon as there is something, which spares polling.

mod listener;

pub use listener::serve_raft_log;

use super::journal::{Journal, JournalPart};
use bytes::Bytes;
use http::{Method, StatusCode};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Request header: for how many milliseconds an answer may wait for a record. Others ignore it.
pub const WAIT: &str = "x-backbeat-wait-ms";
/// The number of the site's only session.
pub const SESSION: u32 = 1;
/// bucketd's bound.
const RECORDS_MAX: usize = 10_000;
/// Where an answer ends, whatever was asked for; one record more may go beyond.
const BYTES_MAX: usize = 8 << 20;
/// A reader that waits holds a connection.
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);
/// What CloudServer calls a record whose entries were stored together (wire reference 4.2).
const METHOD_BATCH: &str = "{\"method\":8,";

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// bucketd names its errors in the reason phrase.
    pub(crate) name: Option<&'static str>,
    pub(crate) body: Bytes,
}

impl Answer {
    fn json(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, name: None, body: body.into() }
    }

    fn error(status: StatusCode, name: &'static str) -> Self {
        Self { status, name: Some(name), body: Bytes::new() }
    }
}

/// What a request for the log asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    begin: u64,
    limit: usize,
}

impl Wanted {
    /// Parameters that nobody knows are for others: a log has one server here, which is its leader.
    fn parse(query: impl Iterator<Item = (String, String)>) -> Option<Self> {
        let mut wanted = Self { begin: 1, limit: RECORDS_MAX };
        for (name, value) in query {
            match name.as_str() {
                "begin" => wanted.begin = value.parse::<u64>().ok()?.max(1),
                "limit" => wanted.limit = value.parse::<usize>().ok()?.min(RECORDS_MAX),
                _ => {}
            }
        }
        Some(wanted)
    }
}

/// Answers a request of bucketd's interface. `wait` is what the reader said in [`WAIT`].
pub(crate) async fn answer(
    journal: &Journal,
    method: &Method,
    path: &str,
    query: impl Iterator<Item = (String, String)>,
    wait: Option<&str>,
) -> Answer {
    if method != Method::GET {
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
    }
    let Some(path) = path.strip_prefix("/_/raft_sessions") else {
        return match path {
            "/_/healthcheck" => Answer::json("{}"),
            _ => Answer::error(StatusCode::NOT_FOUND, "RouteNotFound"),
        };
    };
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let Some(session) = segments.next() else {
        return Answer::json(format!("[{{\"id\":{SESSION},\"raftMembers\":[],\"connectedToLeader\":true}}]"));
    };
    if session.parse() != Ok(SESSION) {
        return Answer::error(StatusCode::NOT_FOUND, "RaftSessionNotFound");
    }
    match (segments.next(), segments.next()) {
        (Some("log"), None) => match Wanted::parse(query) {
            Some(wanted) => log(journal, &wanted, time(wait)).await,
            None => Answer::error(StatusCode::BAD_REQUEST, "BadRequest"),
        },
        _ => Answer::error(StatusCode::NOT_FOUND, "RouteNotFound"),
    }
}

fn time(wait: Option<&str>) -> Duration {
    let wait = wait.and_then(|wait| wait.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
    wait.min(WAIT_TIME_MAX)
}

async fn log(journal: &Journal, wanted: &Wanted, wait: Duration) -> Answer {
    let deadline = Instant::now() + wait;
    let mut changes = journal.watch();
    loop {
        // Seen before the look, so that no record falls between the look and the wait.
        changes.borrow_and_update();
        let part = match journal.part(wanted.begin, wanted.limit, BYTES_MAX) {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(%error, "the journal could not be read for another process");
                return Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
            }
        };
        let is_beyond = wanted.begin > part.last;
        if !is_beyond {
            return Answer::json(written(&part, journal.epoch()));
        }
        // A reader beyond the next record has another journal in mind, and is told at once.
        if wanted.begin == part.last + 1 {
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return Answer::error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
                Err(_) => {}
            }
        }
        let body = written(&part, journal.epoch()).into();
        return Answer { status: StatusCode::RANGE_NOT_SATISFIABLE, name: Some("InvalidRange"), body };
    }
}

/// Head first: readers begin with the records before they have the last of them.
fn written(part: &JournalPart, epoch: &str) -> Vec<u8> {
    let start = if part.records.is_empty() { "null".to_owned() } else { part.first.to_string() };
    let epoch = serde_json::Value::from(epoch);
    let (last, oldest) = (part.last, part.oldest);
    let mut out = format!(
        "{{\"info\":{{\"start\":{start},\"cseq\":{last},\"prune\":{oldest},\"epoch\":{epoch}}},\"log\":["
    )
    .into_bytes();
    let bytes: usize = part.records.iter().map(|record| record.len() + METHOD_BATCH.len()).sum();
    out.reserve(bytes + 2);
    for (index, record) in part.records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Records are stored as objects with members.
        match record.strip_prefix(b"{") {
            Some(members) => {
                out.extend_from_slice(METHOD_BATCH.as_bytes());
                out.extend_from_slice(members);
            }
            None => out.extend_from_slice(record),
        }
    }
    out.extend_from_slice(b"]}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Store;
    use crate::site::{EntryKind, JournalEntry, JournalRecord};

    fn record(number: u64) -> JournalRecord {
        let key = format!("key-{number}\0version");
        let entry = JournalEntry { kind: EntryKind::Put, key, value: Some("{\"a\":\"\\u00e9\"}".to_owned()) };
        let timestamp = "2026-11-20T10:00:00.000Z".to_owned();
        JournalRecord { timestamp, db: "bucket".to_owned(), entries: vec![entry] }
    }

    async fn ask(journal: &Journal, target: &str, wait: Option<&str>) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query.split('&').filter_map(|part| part.split_once('='));
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        answer(journal, &Method::GET, path, query, wait).await
    }

    fn document(answer: &Answer) -> serde_json::Value {
        serde_json::from_slice(&answer.body).expect("it is JSON")
    }

    #[tokio::test]
    async fn the_log_is_what_readers_of_bucketd_expect() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (journal, told) = Journal::scratch(Store::open(directory.path()).expect("it opens"), "one");
        let empty = ask(&journal, "/_/raft_sessions/1/log?begin=1&limit=10&targetLeader=false", None).await;
        assert_eq!((empty.status, empty.name), (StatusCode::RANGE_NOT_SATISFIABLE, Some("InvalidRange")));
        for number in 1..=5 {
            journal.append(&told, record(number)).await;
        }
        let page = ask(&journal, "/_/raft_sessions/1/log?begin=2&limit=3", None).await;
        assert!(page.body.starts_with(b"{\"info\":{\"start\":2,\"cseq\":5,\"prune\":1,"), "head first");
        let page = document(&page);
        assert_eq!(page["log"].as_array().map(Vec::len), Some(3));
        assert_eq!(page["log"][0]["db"], "bucket");
        assert_eq!(page["log"][0]["method"], 8);
        assert_eq!(page["log"][0]["entries"][0]["key"], "key-2\0version");
        assert_eq!(page["log"][0]["entries"][0]["value"], "{\"a\":\"\\u00e9\"}");
        let all = document(&ask(&journal, "/_/raft_sessions/1/log", None).await);
        assert_eq!(all["info"]["start"], 1);
        assert_eq!(all["log"].as_array().map(Vec::len), Some(5));
        assert_eq!(journal.prune(4, u64::MAX).await.expect("the store is there"), 0);
        let rest = document(&ask(&journal, "/_/raft_sessions/1/log?begin=1", None).await);
        assert_eq!((&rest["info"]["start"], &rest["info"]["prune"]), (&4.into(), &4.into()));
        let beyond = ask(&journal, "/_/raft_sessions/1/log?begin=6", None).await;
        assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(document(&beyond)["info"]["start"], serde_json::Value::Null);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_answered_by_a_record() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (journal, told) = Journal::scratch(Store::open(directory.path()).expect("it opens"), "one");
        let wait = ask(&journal, "/_/raft_sessions/1/log?begin=1", Some("20000"));
        let (page, ()) = tokio::join!(wait, async {
            tokio::task::yield_now().await;
            journal.append(&told, record(1)).await;
        });
        assert_eq!(page.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (journal, _told) = Journal::scratch(Store::open(directory.path()).expect("it opens"), "one");
        let list = document(&ask(&journal, "/_/raft_sessions/", None).await);
        assert_eq!(list[0]["id"], 1);
        for (target, status) in [
            ("/_/raft_sessions/2/log", 404),
            ("/_/raft_sessions/one/log", 404),
            ("/_/raft_sessions/1/log/more", 404),
            ("/_/raft_sessions/1/log?begin=-1", 400),
            ("/_/raft_sessions/1/log?limit=many", 400),
            ("/default/bucket/bucket", 404),
        ] {
            assert_eq!(ask(&journal, target, None).await.status, status, "{target}");
        }
        let put = answer(&journal, &Method::PUT, "/_/raft_sessions", std::iter::empty(), None).await;
        assert_eq!(put.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
