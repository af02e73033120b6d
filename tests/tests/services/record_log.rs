//! The record log of a metadata daemon, spoken by the library that the daemon speaks it with.

use backbeat_backends::journal::conformance::{JournalHarness, ReplacedJournalHarness};
use backbeat_backends::journal::dmd::{DmdConfig, DmdJournal, LOG_NAME_DEFAULT};
use backbeat_backends::{journal_conformance, replaced_journal_conformance};
use backbeat_core::id::Seq;
use backbeat_core::model::LogRecord;
use backbeat_tests::binary::workspace;
use backbeat_tests::suite::Test;
use serde_json::{Value, json};
use std::future::ready;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

pub(crate) fn tests() -> Vec<Test> {
    let make = || ready(Daemon::start());
    let make_two = || ready(Two(Daemon::start(), Daemon::start()));
    let mut cases = journal_conformance!(conformance_list, record_log, make);
    cases.extend(replaced_journal_conformance!(conformance_list, record_log, make_two));
    crate::conformance(cases, &installed())
}

/// What the daemon needs, or what is missing.
pub(crate) fn installed() -> Result<String, String> {
    if !workspace().join("target/node/node_modules/socket.io").is_dir() {
        return Err("the module socket.io is not installed: see ci/install".to_owned());
    }
    match Command::new("node").arg("--version").output() {
        Ok(_) => Ok(String::new()),
        Err(error) => Err(format!("node does not run: {error}")),
    }
}

/// A process that serves a record log, by the library that CloudServer's metadata daemon uses.
pub(crate) struct Daemon {
    process: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// The port at loopback.
    pub(crate) port: u16,
    journal: DmdJournal,
}

fn line(from: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("the daemon answers");
    line.trim().to_owned()
}

impl Daemon {
    /// With one record: a bucket is made before there can be objects.
    pub(crate) fn start() -> Self {
        let mut process = Command::new("node")
            .arg(workspace().join("tests/record-log/daemon.js"))
            .env("NODE_PATH", workspace().join("target/node/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let commands = process.stdin.take().expect("it is piped");
        let mut answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let port = line(&mut answers).parse().expect("a port");
        let journal = DmdJournal::new(DmdConfig::new(format!("127.0.0.1:{port}"), LOG_NAME_DEFAULT));
        let daemon = Self { process, pipes: Mutex::new((commands, answers)), port, journal };
        daemon.command(&json!({"append": {"db": "__metastore", "entries": []}}));
        daemon
    }

    /// Has the log one record more.
    pub(crate) fn write(&self, record: &LogRecord) {
        let record: Value = serde_json::from_str(&record.to_json()).expect("JSON");
        self.command(&json!({"append": record}));
    }

    fn command(&self, command: &Value) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.0, "{command}").expect("the daemon listens");
        assert_eq!(line(&mut pipes.1), "ok");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("it was started here");
    }
}

impl JournalHarness for Daemon {
    type Journal = DmdJournal;

    fn journal(&self) -> &DmdJournal {
        &self.journal
    }

    async fn append(&self, record: LogRecord) {
        self.write(&record);
    }

    async fn truncate(&self, oldest: Seq) {
        self.command(&json!({"truncate": oldest.0}));
    }
}

/// Two daemons: the second one takes the place of the first.
struct Two(Daemon, Daemon);

impl ReplacedJournalHarness for Two {
    type Journal = DmdJournal;

    async fn before(&self, record: LogRecord) -> &DmdJournal {
        self.0.append(record).await;
        &self.0.journal
    }

    async fn after(&self) -> &DmdJournal {
        &self.1.journal
    }
}
