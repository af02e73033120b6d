//! A metadata daemon for tests: Socket.IO over websockets, and a record log with the ways of upstream's (wire reference
//! 4.3): numbers from 1 on, streams in pieces of which four may be unacknowledged, no numbers with the records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backbeat_core::model::LogRecord;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Records in a piece of a stream.
const PIECE: usize = 16;
const UNACKNOWLEDGED_MAX: usize = 4;

/// What the daemon has.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) identity: Option<&'static str>,
    pub(super) records: BTreeMap<u64, String>,
    /// The number of the next record.
    pub(super) next: u64,
    /// The ranges that were asked for.
    pub(super) asked: Vec<Value>,
    /// The answer to the next call, instead of what it asks for.
    pub(super) instead: Option<Value>,
}

/// A daemon, on a port of its own.
pub(super) struct Daemon {
    pub(super) address: String,
    log: Arc<Mutex<Log>>,
    /// Connections that are older than the number end.
    age: watch::Sender<u64>,
}

impl Daemon {
    pub(super) async fn start(identity: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let identity = Some(identity);
        let log = Log { identity, records: BTreeMap::new(), next: 1, asked: Vec::new(), instead: None };
        let log = Arc::new(Mutex::new(log));
        let age = watch::Sender::new(0);
        let (served, ended) = (Arc::clone(&log), age.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, mut ended) = (Arc::clone(&served), ended.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, log) => {}
                        _ = ended.changed() => {}
                    }
                });
            }
        });
        Self { address, log, age }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, record: &LogRecord) {
        let mut log = self.log();
        let number = log.next;
        log.records.insert(number, record.to_json());
        log.next += 1;
    }

    /// Numbers that were given to a write that failed.
    pub(super) fn skip(&self, count: u64) {
        self.log().next += count;
    }

    /// Ends all connections.
    pub(super) fn hang_up(&self) {
        self.age.send_modify(|age| *age += 1);
    }
}

/// What upstream's log answers: the first and the last number, and the records.
fn read(log: &Log, range: &Value) -> (Value, Vec<String>) {
    let wanted = |name: &str| range[name].as_u64();
    let mut end = log.next - 1;
    if let Some(wanted) = wanted("endSeq") {
        end = end.min(wanted);
    }
    let start = wanted("startSeq").unwrap_or(0);
    let limit = wanted("limit");
    let found = log.records.range(start..).take_while(|(number, _)| **number <= end);
    let found = found.take(limit.map_or(usize::MAX, |limit| usize::try_from(limit).expect("small")));
    let (numbers, records): (Vec<u64>, Vec<String>) =
        found.map(|(number, record)| (*number, record.clone())).unzip();
    let Some(first) = numbers.first() else { return (json!({"start": null, "end": null}), records) };
    if let Some(limit) = limit.filter(|limit| first + limit <= end) {
        end = first + limit - 1;
    }
    (json!({"start": first, "end": end}), records)
}

struct Peer {
    socket: WebSocketStream<TcpStream>,
    events: u64,
    unacknowledged: usize,
}

impl Peer {
    async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap_or_default();
    }

    /// The next packet; acknowledgements are counted.
    async fn receive(&mut self) -> Option<String> {
        loop {
            let Message::Text(text) = self.socket.next().await?.ok()? else { continue };
            if text.starts_with("43/MDFile/recordLog,") {
                self.unacknowledged -= 1;
            }
            return Some(text.to_string());
        }
    }

    async fn event(&mut self, name: &str, content: Value) -> Option<()> {
        while self.unacknowledged >= UNACKNOWLEDGED_MAX {
            self.receive().await?;
        }
        let number = self.events;
        self.events += 1;
        self.unacknowledged += 1;
        self.send(format!("42/MDFile/recordLog,{number}{}", json!([name, content]))).await;
        Some(())
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Log>>) {
    let Ok(socket) = accept_async(stream).await else { return };
    let mut peer = Peer { socket, events: 0, unacknowledged: 0 };
    peer.send(
        r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000000}"#
            .to_owned(),
    )
    .await;
    peer.send("2".to_owned()).await;
    while let Some(text) = peer.receive().await {
        if let Some(namespace) = text.strip_prefix("40") {
            let namespace = namespace.trim_end_matches(',');
            peer.send(format!("40{namespace},{{\"sid\":\"n\"}}")).await;
        }
        let Some(call) = text.strip_prefix("42") else { continue };
        let (namespace, call) = call.split_once(',').expect("a namespace");
        let (number, call) = call.split_at(call.find('[').expect("a call"));
        let call: Value = serde_json::from_str(call).expect("JSON");
        let unknown = json!([{"is_arsenal_error": true, "type": "InvalidArgument", "code": 400,
            "description": format!("Unknown remote call {} in namespace {namespace}", call[1])}]);
        let (answer, records) = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            match (call[1].as_str(), log.instead.take()) {
                (Some("getUUID"), None) => {
                    (log.identity.map_or(unknown, |identity| json!([null, identity])), None)
                }
                (Some("readRecords"), None) => {
                    assert_eq!(call[2]["logName"], "s3-recordlog");
                    let range = &call[2]["rpcArgs"][0];
                    log.asked.push(range.clone());
                    let (info, records) = read(&log, range);
                    let stream = json!({"$streamId": "u", "readable": true, "writable": false});
                    (json!([null, {"info": info, "log": stream}]), Some(records))
                }
                (_, Some(instead)) => (instead, None),
                _ => (unknown, None),
            }
        };
        peer.send(format!("43{namespace},{number}{answer}")).await;
        let Some(records) = records else { continue };
        let pieces = records.chunks(PIECE).map(|piece| {
            let records = piece.iter().map(|record| serde_json::from_str(record).unwrap_or(Value::Null));
            json!({"streamId": "u", "data": records.collect::<Vec<Value>>()})
        });
        for piece in pieces {
            if peer.event("stream-data", piece).await.is_none() {
                return;
            }
        }
        if peer.event("stream-end", json!({"streamId": "u"})).await.is_none() {
            return;
        }
    }
}
