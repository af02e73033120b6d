//! A connection to a metadata daemon: calls that are answered, and streams of records (wire reference 4.3, observed).

use std::time::Duration;

use backbeat_core::id::Seq;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::packet::{self, Packet, PacketError};

/// Where the calls about the log are.
const LOG: &str = "/MDFile/recordLog";
/// Where the calls about the whole database are.
const METADATA: &str = "/MDFile/metadata";
/// The longest packet; what the daemon takes is less than half of it.
const PACKET_BYTES_MAX: usize = 256 << 20;
/// What the records of one answer may need of memory together. A record alone that needs more cannot be read.
const RECORDS_BYTES_MAX: usize = 256 << 20;

/// Why something that was asked has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody is there.
    #[error("cannot be reached: {0}")]
    Connect(String),
    /// It was there.
    #[error("the connection broke off: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// It refused.
    #[error("{call} was refused: {told}")]
    Refused { call: &'static str, told: String },
    /// What answers is no metadata daemon, or speaks another version.
    #[error("does not speak as a metadata daemon does: {0}")]
    Strange(String),
    /// The records that were asked for need more memory than they may.
    #[error("the records need more than {RECORDS_BYTES_MAX} bytes")]
    TooLarge,
}

impl From<PacketError> for CallError {
    fn from(error: PacketError) -> Self {
        Self::Strange(error.to_string())
    }
}

impl From<SocketError> for CallError {
    fn from(error: SocketError) -> Self {
        if matches!(error, SocketError::Capacity(_)) {
            Self::TooLarge
        } else {
            Self::Broken(error.to_string())
        }
    }
}

/// Records that the daemon gave: they are in order, but places between them may be empty.
#[derive(Debug)]
pub(super) struct Page {
    /// The number of the first one.
    pub(super) first: Seq,
    /// The last number that was looked at.
    pub(super) end: Seq,
    /// The records, as text.
    pub(super) records: Vec<Box<RawValue>>,
}

impl Page {
    /// No place between the first number and the last one is empty.
    pub(super) fn is_whole(&self) -> bool {
        usize::try_from(self.end.0.saturating_sub(self.first.0))
            .is_ok_and(|more| more + 1 == self.records.len())
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    info: Info,
    #[serde(borrow)]
    log: Stream<'a>,
}

#[derive(Deserialize)]
struct Info {
    start: Option<u64>,
    end: Option<u64>,
}

#[derive(Deserialize)]
struct Stream<'a> {
    #[serde(rename = "$streamId", borrow)]
    id: std::borrow::Cow<'a, str>,
}

/// What an event of a stream carries.
#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(rename = "streamId", borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(default)]
    data: Vec<Box<RawValue>>,
    #[serde(default)]
    error: Value,
}

/// A connection. After an error it is of no use any more.
#[derive(Debug)]
pub(super) struct Connection {
    socket: WebSocketStream<TcpStream>,
    log_name: String,
    answer_time_max: Duration,
    /// Calls so far.
    calls: u64,
    /// What the daemon calls its database, if it says so.
    pub(super) identity: Option<String>,
}

impl Connection {
    /// Connects to the daemon at `endpoint` (`host:port`), and asks who it is.
    pub(super) async fn open(
        endpoint: &str,
        log_name: &str,
        answer_time_max: Duration,
    ) -> Result<Self, CallError> {
        let connect = async {
            let failed = |error: std::io::Error| CallError::Connect(error.to_string());
            let stream = TcpStream::connect(endpoint).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(PACKET_BYTES_MAX))
                .max_frame_size(Some(PACKET_BYTES_MAX));
            let request = format!("ws://{endpoint}/socket.io/?EIO=4&transport=websocket");
            match client_async_with_config(request, stream, Some(config)).await {
                Ok((socket, _)) => Ok(socket),
                Err(SocketError::Io(error)) => Err(CallError::Connect(error.to_string())),
                Err(error) => Err(CallError::Strange(error.to_string())),
            }
        };
        let socket = within(answer_time_max, connect).await?;
        let log_name = log_name.to_owned();
        let mut connection = Self { socket, log_name, answer_time_max, calls: 0, identity: None };
        for namespace in [LOG, METADATA] {
            connection.join(namespace).await?;
        }
        connection.identity = match connection.call(METADATA, "getUUID", json!({"rpcArgs": []})).await {
            Ok(identity) => serde_json::from_str(identity.get()).map_err(PacketError::from)?,
            // A daemon that is older than this call.
            Err(CallError::Refused { told, .. }) if told.contains("Unknown remote call") => None,
            Err(error) => return Err(error),
        };
        Ok(connection)
    }

    /// The next packet that is not about the connection itself.
    async fn receive(&mut self) -> Result<Utf8Bytes, CallError> {
        let (time_max, socket) = (self.answer_time_max, &mut self.socket);
        let receive = async {
            loop {
                let text = match socket.next().await {
                    None => return Err(CallError::Broken("the daemon ended it".to_owned())),
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(_))) => {
                        return Err(CallError::Broken("the daemon closed it".to_owned()));
                    }
                    // Answered by the client itself.
                    Some(Ok(
                        Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
                    )) => {
                        continue;
                    }
                    Some(Err(error)) => return Err(error.into()),
                };
                match Packet::parse(text.as_str())? {
                    Packet::Ping => socket.send(Message::text(packet::PONG)).await?,
                    Packet::Close => return Err(CallError::Broken("the daemon closed it".to_owned())),
                    Packet::Open | Packet::Other => {}
                    Packet::Joined { .. }
                    | Packet::Left { .. }
                    | Packet::Event { .. }
                    | Packet::Answer { .. } => return Ok(text),
                }
            }
        };
        within(time_max, receive).await
    }

    async fn send(&mut self, text: String) -> Result<(), CallError> {
        let sending = async { self.socket.send(Message::text(text)).await.map_err(CallError::from) };
        within(self.answer_time_max, sending).await
    }

    async fn join(&mut self, wanted: &'static str) -> Result<(), CallError> {
        self.send(packet::join(wanted)).await?;
        loop {
            let text = self.receive().await?;
            let packet = Packet::parse(text.as_str())?;
            if packet == (Packet::Joined { namespace: wanted }) {
                return Ok(());
            }
            if let Packet::Left { namespace, told } = packet
                && namespace == wanted
            {
                return Err(CallError::Strange(format!("it has no {wanted}: {told}")));
            }
        }
    }

    /// Calls a function of the daemon.
    async fn call(
        &mut self,
        at: &'static str,
        name: &'static str,
        arguments: Value,
    ) -> Result<Box<RawValue>, CallError> {
        let number = self.calls;
        self.calls += 1;
        self.send(packet::event(at, number, &("call", name, arguments))?).await?;
        loop {
            let text = self.receive().await?;
            let packet = Packet::parse(text.as_str())?;
            packet.is_there(at)?;
            let Packet::Answer { namespace, id, content } = packet else { continue };
            if namespace != at || id != number {
                continue;
            }
            let items = packet::items(content)?;
            if let Some(error) = items.first().filter(|error| error.get() != "null") {
                return Err(CallError::Refused { call: name, told: told(error.get()) });
            }
            let strange = || CallError::Strange(format!("the answer to {name} is {content}"));
            return items.get(1).map(|data| (*data).to_owned()).ok_or_else(strange);
        }
    }

    /// Records with numbers from `start` on: those up to `end`, or the first one alone. None if there is none.
    pub(super) async fn records(&mut self, start: Seq, end: Option<Seq>) -> Result<Option<Page>, CallError> {
        // The daemon takes 0 for no bound at all.
        let start = start.max(Seq(1));
        let range = match end {
            Some(end) => json!({"startSeq": start.0, "endSeq": end.0.max(1)}),
            None => json!({"startSeq": start.0, "limit": 1}),
        };
        let arguments = json!({"rpcArgs": [range], "logName": self.log_name});
        let answer = self.call(LOG, "readRecords", arguments).await?;
        let Answer { info, log } = serde_json::from_str(answer.get()).map_err(PacketError::from)?;
        let records = self.stream(&log.id).await?;
        match info {
            Info { start: Some(first), end: Some(end) } if !records.is_empty() => {
                Ok(Some(Page { first: Seq(first), end: Seq(end), records }))
            }
            Info { start: None, .. } if records.is_empty() => Ok(None),
            Info { .. } => {
                let count = records.len();
                Err(CallError::Strange(format!("{count} records do not fit to {answer}")))
            }
        }
    }

    /// Everything that comes in a stream. Each piece is acknowledged at once: the daemon sends four ahead, and gives up
    /// after five seconds.
    async fn stream(&mut self, wanted: &str) -> Result<Vec<Box<RawValue>>, CallError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        loop {
            let text = self.receive().await?;
            let packet = Packet::parse(text.as_str())?;
            packet.is_there(LOG)?;
            let Packet::Event { namespace: LOG, id, content } = packet else { continue };
            let items = packet::items(content)?;
            let [name, piece, ..] = items.as_slice() else { continue };
            let piece: Piece<'_> = serde_json::from_str(piece.get()).map_err(PacketError::from)?;
            if piece.id != wanted {
                continue;
            }
            if let Some(id) = id {
                self.send(packet::acknowledgement(LOG, id)).await?;
            }
            match name.get() {
                "\"stream-data\"" => {
                    bytes += piece.data.iter().map(|record| record.get().len()).sum::<usize>();
                    records.extend(piece.data);
                    if bytes > RECORDS_BYTES_MAX {
                        return Err(CallError::TooLarge);
                    }
                }
                "\"stream-end\"" => return Ok(records),
                "\"stream-error\"" => {
                    return Err(CallError::Refused {
                        call: "readRecords",
                        told: told(&piece.error.to_string()),
                    });
                }
                _ => {}
            }
        }
    }
}

impl Packet<'_> {
    /// An error if this says that the namespace was left.
    fn is_there(&self, wanted: &str) -> Result<(), CallError> {
        match *self {
            Self::Left { namespace, told } if namespace == wanted => {
                Err(CallError::Broken(format!("the daemon left {namespace} {told}")))
            }
            Self::Left { .. }
            | Self::Open
            | Self::Close
            | Self::Ping
            | Self::Joined { .. }
            | Self::Event { .. }
            | Self::Answer { .. }
            | Self::Other => Ok(()),
        }
    }
}

async fn within<T>(
    time_max: Duration,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    timeout(time_max, work).await.unwrap_or(Err(CallError::Silent(time_max)))
}

/// What an error of the daemon says.
fn told(error: &str) -> String {
    let Ok(Value::Object(members)) = serde_json::from_str(error) else { return error.to_owned() };
    let texts = ["type", "message", "description"].into_iter().filter_map(|name| members.get(name)?.as_str());
    let mut told: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    told.dedup();
    if told.is_empty() { error.to_owned() } else { told.join(": ") }
}
