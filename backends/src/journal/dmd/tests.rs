use std::collections::BTreeSet;
use std::time::Duration;

use backbeat_core::model::{LogEntry, METASTORE};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::daemon::Daemon;
use super::*;
use crate::conformance::applied;
use crate::journal::conformance::{JournalHarness, ReplacedJournalHarness};

/// What a metadata daemon was seen to write.
const CAPTURED: &str = include_str!("../../../tests/captures/captures-record-log.json");

const NO_WAIT: Span = Span::ZERO;
const HOLE_TIME: Duration = Duration::from_millis(100);
const LONG: Span = Span::from_secs(3_600);

struct Served {
    daemon: Daemon,
    journal: DmdJournal,
}

impl Served {
    async fn by(identity: &'static str) -> Self {
        let daemon = Daemon::start(identity).await;
        let mut config = DmdConfig::new(daemon.address.clone(), LOG_NAME_DEFAULT);
        config.hole_time = HOLE_TIME;
        let journal = DmdJournal::new(config);
        // A log is never without records for long: a bucket is made before there can be objects.
        daemon.append(&LogRecord {
            timestamp: None,
            db: METASTORE.into(),
            entries: vec![LogEntry::put("photos", "{}".to_owned())],
        });
        Self { daemon, journal }
    }

    async fn with(count: u64) -> Self {
        let served = Self::by("one").await;
        for number in 2..=count {
            served.daemon.append(&record(number));
        }
        served
    }

    async fn read(&self, from: u64, wait: Span) -> Ending<Batch> {
        self.journal.read(Some(Seq(from)), 500, wait).await
    }

    async fn given(&self, from: u64) -> Batch {
        applied(self.read(from, LONG).await)
    }
}

fn record(number: u64) -> LogRecord {
    LogRecord {
        timestamp: Some("2026-11-20T16:26:15.045Z".into()),
        db: "photos".into(),
        entries: vec![LogEntry::put(format!("key-{number}"), "{}".to_owned())],
    }
}

/// The numbers in a batch, each of which must be the one in its record's key.
#[track_caller]
fn numbers(batch: &Batch) -> Vec<u64> {
    let number = |(seq, record): &(Seq, Arc<LogRecord>)| {
        let key = record.entries[0].key.as_deref().expect("a key");
        assert_eq!(key, format!("key-{}", seq.0));
        seq.0
    };
    batch.records.iter().map(number).collect()
}

impl JournalHarness for Served {
    type Journal = DmdJournal;

    fn journal(&self) -> &DmdJournal {
        &self.journal
    }

    async fn append(&self, record: LogRecord) {
        self.daemon.append(&record);
    }

    async fn truncate(&self, oldest: Seq) {
        let mut log = self.daemon.log();
        log.records = log.records.split_off(&oldest.0);
    }
}

/// Two daemons: the second one takes the place of the first.
struct Replaced(Served, Served);

impl ReplacedJournalHarness for Replaced {
    type Journal = DmdJournal;

    async fn before(&self, record: LogRecord) -> &DmdJournal {
        self.0.append(record).await;
        &self.0.journal
    }

    async fn after(&self) -> &DmdJournal {
        &self.1.journal
    }
}

crate::journal_conformance!(dmd, Served::by("one").await);
crate::replaced_journal_conformance!(
    dmd_replaced,
    Replaced(Served::by("one").await, Served::by("another").await)
);

#[tokio::test]
async fn records_of_a_real_daemon_come_as_it_wrote_them() {
    let captured: Value = serde_json::from_str(CAPTURED).expect("JSON");
    let captured = captured["records"].as_array().expect("a list");
    let served = Served::by("one").await;
    {
        let mut log = served.daemon.log();
        log.records.clear();
        for sample in captured {
            let number = sample["seq"].as_u64().expect("a number");
            log.records.insert(number, sample["record"].to_string());
            log.next = number + 1;
        }
    }
    let mut from = Seq(1);
    let mut kinds = BTreeSet::new();
    for sample in captured {
        // What lies between two samples was not kept: a hole, which is passed over when it has stayed for a while.
        let batch = applied(served.journal.read(Some(from), 1, LONG).await);
        let (seq, record) = &batch.records[0];
        assert_eq!(seq.0, sample["seq"].as_u64().expect("a number"));
        let as_read: Value = serde_json::from_str(&record.to_json()).expect("JSON");
        assert_eq!(as_read, sample["record"]);
        kinds.insert((record.entries[0].kind.to_string(), record.db.to_string()));
        from = batch.next;
    }
    assert!(kinds.len() > 4, "{kinds:?}");
}

#[tokio::test]
async fn the_log_is_asked_for_one_record_before_the_wanted_one() {
    let served = Served::with(8).await;
    let batch = served.given(4).await;
    assert_eq!((numbers(&batch), batch.next, batch.end), (vec![4, 5, 6, 7, 8], Seq(9), Seq(9)));
    assert_eq!(served.daemon.log().asked, [json!({"startSeq": 3, "endSeq": 503})]);
}

#[tokio::test]
async fn nothing_new_takes_one_question() {
    let served = Served::with(8).await;
    let batch = applied(served.read(9, NO_WAIT).await);
    assert_eq!((batch.records.len(), batch.next, batch.end), (0, Seq(9), Seq(9)));
    assert_eq!(served.daemon.log().asked.len(), 1);
}

#[tokio::test]
async fn many_records_come_in_order_and_the_end_is_found() {
    let served = Served::with(3_000).await;
    let (mut from, mut seen) = (2, Vec::new());
    while from <= 3_000 {
        let batch = applied(served.journal.read(Some(Seq(from)), 1_000, LONG).await);
        assert_eq!(batch.end, Seq(3_001));
        seen.extend(numbers(&batch));
        from = batch.next.0;
    }
    assert_eq!(seen, (2..=3_000).collect::<Vec<u64>>());
    let told = applied(served.journal.read(None, 0, NO_WAIT).await);
    assert_eq!((told.end, told.oldest), (Seq(3_001), Seq(1)));
}

#[tokio::test]
async fn numbers_of_failed_writes_are_waited_for_and_then_passed_over() {
    let served = Served::with(4).await;
    served.daemon.skip(3);
    served.daemon.append(&record(8));
    assert_eq!(numbers(&served.given(2).await), [2, 3, 4]);
    // It may be that they are not written yet.
    let batch = applied(served.read(5, NO_WAIT).await);
    assert_eq!((batch.records.len(), batch.next, batch.end), (0, Seq(5), Seq(5)));
    let before = Instant::now();
    let batch = served.given(5).await;
    assert_eq!((numbers(&batch), batch.next), (vec![8], Seq(9)));
    assert!(batch.oldest <= Seq(5));
    assert!(before.elapsed() >= HOLE_TIME);
}

#[tokio::test]
async fn a_record_that_is_written_after_a_later_one_is_not_lost() {
    let served = Served::with(4).await;
    let late = served.daemon.log().next;
    served.daemon.skip(1);
    served.daemon.append(&record(6));
    assert!(applied(served.read(late, NO_WAIT).await).records.is_empty());
    served.daemon.log().records.insert(late, record(late).to_json());
    assert_eq!(numbers(&served.given(late).await), [5, 6]);
}

#[tokio::test]
async fn a_number_whose_write_is_under_way_at_the_end_is_nothing_new() {
    let served = Served::with(4).await;
    served.daemon.skip(2);
    assert_eq!(numbers(&served.given(2).await), [2, 3, 4]);
    let batch = applied(served.read(5, NO_WAIT).await);
    assert_eq!((batch.records.len(), batch.next, batch.end), (0, Seq(5), Seq(5)));
}

#[tokio::test]
async fn a_log_that_went_back_is_told() {
    let served = Served::with(4).await;
    for from in [6, 100] {
        let batch = applied(served.read(from, LONG).await);
        assert_eq!((batch.records.len(), batch.next, batch.end), (0, Seq(from), Seq(5)));
    }
}

#[tokio::test]
async fn an_empty_log_is_not_one_that_went_back() {
    let served = Served::by("one").await;
    {
        let mut log = served.daemon.log();
        log.records.clear();
        log.next = 1;
    }
    let told = applied(served.journal.read(None, 0, NO_WAIT).await);
    assert_eq!((told.next, told.end, told.oldest), (Seq(1), Seq(1), Seq(1)));
    let batch = applied(served.read(1, NO_WAIT).await);
    assert_eq!((batch.next, batch.end, batch.oldest), (Seq(1), Seq(1), Seq(1)));
}

#[tokio::test]
async fn another_database_behind_the_address_has_another_epoch() {
    let served = Served::with(4).await;
    let before = served.given(2).await.epoch;
    served.daemon.hang_up();
    assert_eq!(served.given(2).await.epoch, before, "the same one after a new connection");
    served.daemon.log().identity = Some("another");
    served.daemon.hang_up();
    assert_ne!(served.given(2).await.epoch, before);
}

#[tokio::test]
async fn a_daemon_that_does_not_say_who_it_is_has_epoch_0() {
    let served = Served::with(4).await;
    served.daemon.log().identity = None;
    assert_eq!(served.given(2).await.epoch, JournalEpoch(0));
}

#[tokio::test]
async fn a_refused_call_is_told_and_the_log_is_read_later() {
    let served = Served::with(4).await;
    served.given(2).await;
    let error = json!({"is_arsenal_error": true, "type": "InternalError", "description": "the disk is full"});
    served.daemon.log().instead = Some(json!([error]));
    let (kind, told) = told(served.read(2, LONG).await);
    assert_eq!(kind, RefusalKind::Unavailable);
    assert!(told.ends_with("readRecords was refused: InternalError: the disk is full"), "{told}");
    assert!(told.starts_with("record log s3-recordlog of 127.0.0.1:"), "{told}");
    assert_eq!(numbers(&served.given(2).await), [2, 3, 4]);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_those_before_it_are_given() {
    let served = Served::with(4).await;
    served.daemon.log().records.insert(3, r#"{"db":"photos","entries":7}"#.to_owned());
    assert_eq!(numbers(&served.given(2).await), [2]);
    let (kind, told) = told(served.read(3, LONG).await);
    assert_eq!(kind, RefusalKind::Invalid);
    assert!(told.contains("record 3 cannot be read"), "{told}");
}

#[tokio::test]
async fn nobody_there_and_a_stranger_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    let journal = DmdJournal::new(DmdConfig::new(address.clone(), LOG_NAME_DEFAULT));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.expect("it is there");
    });
    let (kind, stranger) = told(journal.read(None, 0, NO_WAIT).await);
    assert_eq!((kind, stranger.contains("404")), (RefusalKind::Invalid, true), "{stranger}");
    let (kind, nobody) = told(journal.read(None, 0, NO_WAIT).await);
    assert_eq!((kind, nobody.contains(&address)), (RefusalKind::Unavailable, true), "{nobody}");
}

#[tokio::test]
async fn a_silent_daemon_is_an_unknown_ending() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut config = DmdConfig::new(address, LOG_NAME_DEFAULT);
    config.answer_time_max = Duration::from_millis(50);
    let journal = DmdJournal::new(config);
    assert_eq!(journal.read(None, 0, NO_WAIT).await, Ending::Unknown);
    drop(listener);
}

/// The call was refused: the kind, and what was told.
#[track_caller]
fn told(ending: Ending<Batch>) -> (RefusalKind, String) {
    match ending {
        Ending::Refused(refusal) => (refusal.kind, refusal.code),
        ending @ (Ending::Applied(_) | Ending::Unknown) => panic!("{ending:?}"),
    }
}
