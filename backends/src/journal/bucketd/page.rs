//! One answer of a raft log: `{"info": {start, cseq, prune}, "log": [record...]}` (wire reference 4.2).

use backbeat_core::id::{Bucket, Seq};
use backbeat_core::model::{LogError, LogPage, LogRecord};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What of the log was answered.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The number of the first record. None if there are no records.
    pub(super) first: Option<Seq>,
    /// The number of the last record that was committed, 0 if there was none yet. None if it was not told.
    pub(super) last: Option<Seq>,
    /// The oldest record that is kept.
    pub(super) oldest: Option<Seq>,
    /// The identity of the log, if it has one.
    pub(super) epoch: Option<String>,
    /// The records, or what is wrong with them.
    pub(super) records: Vec<Result<LogRecord, LogError>>,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// What is said of the log is not JSON, or of another shape.
    #[error("`info`: {0}")]
    Info(#[from] serde_json::Error),
    /// The text is not JSON, or of another shape.
    #[error("{0}")]
    Shape(#[from] LogError),
    /// The text is none.
    #[error("{0}")]
    Encoding(#[from] std::str::Utf8Error),
    /// Records that nobody can give a number to.
    #[error("`info.start` is missing, although there are records")]
    Start,
}

#[derive(Deserialize)]
struct Info {
    start: Option<u64>,
    cseq: Option<u64>,
    prune: Option<u64>,
    epoch: Option<String>,
}

impl Page {
    /// Reads an answer.
    pub(super) fn parse(body: &[u8]) -> Result<Self, PageError> {
        let LogPage { info, records } = LogPage::split(std::str::from_utf8(body)?)?;
        let info: Info = serde_json::from_str(info.ok_or(LogError::Shape("`info` is missing"))?)?;
        if info.start.is_none() && !records.is_empty() {
            return Err(PageError::Start);
        }
        Ok(Self {
            first: info.start.filter(|_| !records.is_empty()).map(Seq),
            last: info.cseq.map(Seq),
            oldest: info.prune.map(|oldest| Seq(oldest.max(1))),
            epoch: info.epoch,
            records: records.into_iter().map(parse_record).collect(),
        })
    }

    /// One past the newest record.
    pub(super) fn end(&self) -> Option<Seq> {
        self.last.map(Seq::next)
    }
}

/// A record without changes, as elections of a leader leave them, may have no bucket either.
#[derive(Deserialize)]
struct Bare<'a> {
    db: Option<String>,
    #[serde(borrow)]
    entries: Option<&'a RawValue>,
    timestamp: Option<String>,
}

/// Reads a record.
fn parse_record(text: &str) -> Result<LogRecord, LogError> {
    LogRecord::parse(text).or_else(|error| match serde_json::from_str(text) {
        Ok(Bare { db, entries: None, timestamp }) => Ok(LogRecord {
            timestamp: timestamp.map(Into::into),
            db: Bucket::from(db.unwrap_or_default()),
            entries: Vec::new(),
        }),
        Ok(Bare { entries: Some(_), .. }) | Err(_) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<Page, PageError> {
        Page::parse(text.as_bytes())
    }

    #[test]
    fn an_answer_names_its_records() {
        let page = parse(
            r#"{"info":{"start":7,"end":8,"cseq":9,"prune":3},"log":[
                {"db":"b","method":8,"timestamp":"2026-11-20T10:00:00.000Z","entries":[{"key":"k","value":"{}"}]},
                {"method":9}]}"#,
        )
        .expect("it is one");
        assert_eq!((page.first, page.end(), page.oldest), (Some(Seq(7)), Some(Seq(10)), Some(Seq(3))));
        let records: Vec<LogRecord> = page.records.into_iter().filter_map(Result::ok).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(&*records[0].entries[0].kind, "put", "bucketd leaves it out");
        assert!(records[1].entries.is_empty());
    }

    #[test]
    fn nothing_new_has_no_start() {
        let page = parse(r#"{"info":{"start":null,"cseq":9,"prune":1},"log":[]}"#).expect("it is one");
        assert_eq!((page.first, page.end()), (None, Some(Seq(10))));
    }

    #[test]
    fn what_is_no_raft_log_is_refused() {
        for text in
            ["", "{}", "[]", "<html>", r#"{"info":{"start":null},"log":[{}]}"#, r#"{"info":{"start":-1}}"#]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        for record in ["{\"db\":\"b\",\"entries\":7}", "7", "{\"entries\":[7]}"] {
            assert!(parse_record(record).is_err(), "{record}");
        }
    }
}
