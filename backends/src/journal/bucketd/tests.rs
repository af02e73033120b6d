use std::sync::{Arc, Mutex};

use backbeat_core::model::LogRecord;
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::conformance::applied;
use crate::embedded::Store;
use crate::journal::conformance::{JournalHarness, ReplacedJournalHarness};
use crate::site;
use crate::site::raft_log::{self, serve_raft_log};

/// A journal as a site keeps it, served and read over HTTP.
struct Served {
    journal: BucketdJournal,
    written: site::Journal,
    end: watch::Sender<u64>,
    _directory: TempDir,
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

impl Served {
    /// As a site serves it.
    async fn by_site(epoch: &str) -> Self {
        Self::by(epoch, |journal, listener| async {
            serve_raft_log(journal, listener, std::future::pending()).await.expect("loopback");
        })
        .await
    }

    /// As bucketd does: without an epoch, without waiting, and nothing said of an end that was reached.
    async fn by_bucketd() -> Self {
        Self::by("one", |journal, listener| async move {
            while let Ok((stream, _)) = listener.accept().await {
                let journal = journal.clone();
                tokio::spawn(async move {
                    let answer = service_fn(move |request| plain(journal.clone(), request));
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    connection.await.unwrap_or_default();
                });
            }
        })
        .await
    }

    async fn by<F>(epoch: &str, serve: impl FnOnce(site::Journal, TcpListener) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("the store opens");
        let (written, end) = site::Journal::scratch(store, epoch);
        let (listener, address) = listener().await;
        tokio::spawn(serve(written.clone(), listener));
        let journal = BucketdJournal::new(BucketdConfig::new(address, raft_log::SESSION));
        Self { journal, written, end, _directory: directory }
    }
}

async fn plain(
    journal: site::Journal,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    let uri = request.uri();
    let query = site::query(uri);
    let answer = raft_log::answer(&journal, request.method(), uri.path(), query, None).await;
    let body = match answer.status {
        StatusCode::OK => {
            let body = String::from_utf8(answer.body.to_vec()).expect("it is text");
            body.replace(",\"epoch\":\"one\"", "").into()
        }
        _ => Bytes::new(),
    };
    let mut response = http::Response::new(Full::new(body));
    *response.status_mut() = answer.status;
    Ok(response)
}

impl JournalHarness for Served {
    type Journal = BucketdJournal;

    fn journal(&self) -> &BucketdJournal {
        &self.journal
    }

    async fn append(&self, record: LogRecord) {
        let record = serde_json::from_str(&record.to_json()).expect("the forms are the same");
        self.written.append(&self.end, record).await;
    }

    async fn truncate(&self, oldest: Seq) {
        self.written.prune(oldest.0, u64::MAX).await.expect("the store is there");
    }
}

/// Two sites: the second one takes the place of the first.
struct Replaced(Served, Served);

impl ReplacedJournalHarness for Replaced {
    type Journal = BucketdJournal;

    async fn before(&self, record: LogRecord) -> &BucketdJournal {
        self.0.append(record).await;
        &self.0.journal
    }

    async fn after(&self) -> &BucketdJournal {
        &self.1.journal
    }
}

crate::journal_conformance!(site_over_http, Served::by_site("one").await);
crate::replaced_journal_conformance!(
    site_over_http_replaced,
    Replaced(Served::by_site("one").await, Served::by_site("another").await)
);
crate::journal_conformance!(plain_bucketd, Served::by_bucketd().await);

/// A server that gives the answers of a list, one a connection, and the last one again and again; and what it was asked.
async fn scripted(answers: &[&str]) -> (BucketdJournal, Arc<Mutex<Vec<String>>>) {
    let (listener, address) = listener().await;
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let line = head.lines().next().unwrap_or_default().to_owned();
            heard.lock().expect("nobody panics with it").push(line);
            let answer: &String = answers.get(number).or(answers.last()).expect("there is one");
            stream.write_all(answer.as_bytes()).await.unwrap_or_default();
        }
    });
    (BucketdJournal::new(BucketdConfig::new(address, 3)), asked)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn record(number: u64) -> String {
    format!(r#"{{"db":"b","method":8,"entries":[{{"key":"k{number}","value":"{{}}"}}]}}"#)
}

const NO_WAIT: Span = Span::ZERO;
const LONG: Span = Span::from_secs(3_600);

/// The call was refused: the kind, and what was told.
#[track_caller]
fn told(ending: Ending<Batch>) -> (RefusalKind, String) {
    match ending {
        Ending::Refused(refusal) => (refusal.kind, refusal.code),
        ending @ (Ending::Applied(_) | Ending::Unknown) => panic!("{ending:?}"),
    }
}

#[tokio::test]
async fn the_log_is_asked_as_upstream_asks() {
    let body = format!(r#"{{"info":{{"start":7,"cseq":8,"prune":1}},"log":[{},{}]}}"#, record(7), record(8));
    let (journal, asked) = scripted(&[&answer("200 OK", &body)]).await;
    let batch = applied(journal.read(Some(Seq(7)), 500, LONG).await);
    assert_eq!((batch.records.len(), batch.next, batch.end), (2, Seq(9), Seq(9)));
    assert_eq!((batch.oldest, batch.epoch), (Seq(1), JournalEpoch(0)));
    let line = asked.lock().unwrap().remove(0);
    assert_eq!(line, "GET /_/raft_sessions/3/log?limit=500&targetLeader=false&begin=7 HTTP/1.1");
}

#[tokio::test]
async fn a_gap_is_history_lost() {
    let body = format!(r#"{{"info":{{"start":9,"cseq":9,"prune":1}},"log":[{}]}}"#, record(9));
    let (journal, _) = scripted(&[&answer("200 OK", &body)]).await;
    let batch = applied(journal.read(Some(Seq(7)), 500, LONG).await);
    assert_eq!((batch.records.len(), batch.next, batch.oldest), (0, Seq(7), Seq(9)));
    assert_eq!(applied(journal.read(Some(Seq(9)), 500, LONG).await).records.len(), 1);
}

#[tokio::test]
async fn a_log_that_went_back_is_told() {
    let last = format!(r#"{{"info":{{"start":4,"cseq":4,"prune":1}},"log":[{}]}}"#, record(4));
    let nothing = answer("416 InvalidRange", "");
    let (journal, _) = scripted(&[&nothing, &answer("200 OK", &last)]).await;
    let batch = applied(journal.read(Some(Seq(100)), 500, LONG).await);
    assert_eq!((batch.next, batch.end), (Seq(100), Seq(5)));
}

#[tokio::test]
async fn a_damaged_record_is_named_and_those_before_it_are_given() {
    let log = format!(r#"[{},{{"db":"b","entries":[7]}}]"#, record(7));
    let first = format!(r#"{{"info":{{"start":7,"cseq":8,"prune":1}},"log":{log}}}"#);
    let second = r#"{"info":{"start":8,"cseq":8,"prune":1},"log":[{"db":"b","entries":[7]}]}"#;
    let (journal, _) = scripted(&[&answer("200 OK", &first), &answer("200 OK", second)]).await;
    let batch = applied(journal.read(Some(Seq(7)), 500, LONG).await);
    assert_eq!((batch.records.len(), batch.next, batch.end), (1, Seq(8), Seq(9)));
    let (kind, told) = told(journal.read(Some(Seq(8)), 500, LONG).await);
    assert_eq!(kind, RefusalKind::Invalid);
    assert!(told.starts_with("record 8 of raft session 3 of 127.0.0.1:"), "{told}");
}

#[tokio::test]
async fn a_cold_bucketd_is_asked_for_records_first() {
    let body = format!(r#"{{"info":{{"start":1,"cseq":40,"prune":1}},"log":[{}]}}"#, record(1));
    let (journal, asked) = scripted(&[&answer("500 InternalError", ""), &answer("200 OK", &body)]).await;
    let batch = applied(journal.read(None, 1, NO_WAIT).await);
    assert_eq!((batch.records.len(), batch.next, batch.end, batch.oldest), (0, Seq(41), Seq(41), Seq(1)));
    assert!(asked.lock().unwrap()[1].contains("begin=1"), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_be_read_now_is_told_and_read_later() {
    let body = format!(r#"{{"info":{{"start":7,"cseq":7,"prune":1}},"log":[{}]}}"#, record(7));
    let whole = answer("200 OK", &body);
    let broken_off = &whole[..whole.len() - 9];
    let hung_up = "";
    let unknown = answer("404 DBNotFound", "");
    let down = answer("503 ServiceUnavailable", "");
    let (journal, _) = scripted(&[hung_up, broken_off, &unknown, &down, &whole]).await;
    for part in ["127.0.0.1:", "broke off", "raft session 3 of 127.0.0.1:", "503 ServiceUnavailable"] {
        let (kind, told) = told(journal.read(Some(Seq(7)), 500, LONG).await);
        assert_eq!(kind, RefusalKind::Unavailable, "{told}");
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(applied(journal.read(Some(Seq(7)), 500, LONG).await).records.len(), 1);
}

#[tokio::test]
async fn nobody_there_is_named() {
    let (listener, address) = listener().await;
    drop(listener);
    let journal = BucketdJournal::new(BucketdConfig::new(address.clone(), 1));
    let (kind, told) = told(journal.read(None, 1, NO_WAIT).await);
    assert_eq!((kind, told.contains(&address)), (RefusalKind::Unavailable, true), "{told}");
}

#[tokio::test]
async fn what_does_not_speak_of_a_raft_log_is_refused() {
    let (journal, _) = scripted(&[&answer("200 OK", "<html>hello</html>")]).await;
    let (kind, told) = told(journal.read(Some(Seq(1)), 1, NO_WAIT).await);
    assert_eq!(kind, RefusalKind::Invalid);
    assert!(told.contains("does not speak of a raft log"), "{told}");
}
