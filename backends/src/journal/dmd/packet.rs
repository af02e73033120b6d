//! Packets of Engine.IO 4 and, within its messages, of Socket.IO 4, as text: one packet a websocket message (observed).

use serde::Serialize;
use serde_json::value::RawValue;

/// Why a packet cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PacketError {
    /// Of no kind that is known.
    #[error("a packet of no known kind: {0:?}")]
    Kind(String),
    /// What it carries is not JSON, or of another shape.
    #[error("what a packet carries cannot be read: {0}")]
    Content(#[from] serde_json::Error),
}

/// What the server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// The connection is open.
    Open,
    /// The connection ends.
    Close,
    /// It wants to be answered with [`PONG`].
    Ping,
    /// A namespace was joined.
    Joined { namespace: &'a str },
    /// A namespace could not be joined, or was left, with what was said.
    Left { namespace: &'a str, told: &'a str },
    /// Something happened. With an `id`, it wants to be acknowledged.
    Event { namespace: &'a str, id: Option<u64>, content: &'a str },
    /// The answer to an event of ours.
    Answer { namespace: &'a str, id: u64, content: &'a str },
    /// Of no matter here.
    Other,
}

/// The answer to a ping.
pub(super) const PONG: &str = "3";

impl<'a> Packet<'a> {
    /// Reads a packet.
    pub(super) fn parse(text: &'a str) -> Result<Self, PacketError> {
        let unknown = || PacketError::Kind(text.chars().take(40).collect());
        let message = match text.as_bytes().first() {
            Some(b'0') => return Ok(Self::Open),
            Some(b'1') => return Ok(Self::Close),
            Some(b'2') => return Ok(Self::Ping),
            Some(b'3' | b'5' | b'6') => return Ok(Self::Other),
            Some(b'4') => &text[1..],
            Some(_) | None => return Err(unknown()),
        };
        let kind = *message.as_bytes().first().ok_or_else(unknown)?;
        if !kind.is_ascii_digit() {
            return Err(unknown());
        }
        let rest = &message[1..];
        let (namespace, rest) =
            if rest.starts_with('/') { rest.split_once(',').unwrap_or((rest, "")) } else { ("/", rest) };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, content) = rest.split_at(digits);
        let id = match id {
            "" => None,
            id => Some(id.parse().map_err(|_| unknown())?),
        };
        match (kind, id) {
            (b'0', _) => Ok(Self::Joined { namespace }),
            (b'1' | b'4', _) => Ok(Self::Left { namespace, told: content }),
            (b'2', id) => Ok(Self::Event { namespace, id, content }),
            (b'3', Some(id)) => Ok(Self::Answer { namespace, id, content }),
            _ => Err(unknown()),
        }
    }
}

/// The request to join a namespace.
pub(super) fn join(namespace: &str) -> String {
    format!("40{namespace},")
}

/// An event that wants to be answered.
pub(super) fn event(namespace: &str, id: u64, content: &impl Serialize) -> Result<String, PacketError> {
    Ok(format!("42{namespace},{id}{}", serde_json::to_string(content)?))
}

/// That an event arrived.
pub(super) fn acknowledgement(namespace: &str, id: u64) -> String {
    format!("43{namespace},{id}[null]")
}

/// The items of the array that an event or an answer carries.
pub(super) fn items(content: &str) -> Result<Vec<&RawValue>, PacketError> {
    Ok(serde_json::from_str(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "/MDFile/recordLog";

    #[test]
    fn packets_as_a_metadata_daemon_sends_them_are_read() {
        let open =
            r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000000}"#;
        assert_eq!(Packet::parse(open).unwrap(), Packet::Open);
        assert_eq!(Packet::parse("2").unwrap(), Packet::Ping);
        assert_eq!(Packet::parse("1").unwrap(), Packet::Close);
        let joined = Packet::parse(r#"40/MDFile/recordLog,{"sid":"x"}"#).unwrap();
        assert_eq!(joined, Packet::Joined { namespace: LOG });
        let answer = Packet::parse(r#"43/MDFile/recordLog,1[null,{"info":{"start":9,"end":11}}]"#).unwrap();
        let Packet::Answer { namespace: LOG, id: 1, content } = answer else { panic!("{answer:?}") };
        assert_eq!(items(content).unwrap()[1].get(), r#"{"info":{"start":9,"end":11}}"#);
        let event = Packet::parse(r#"42/MDFile/recordLog,29["stream-end",{"streamId":"u"}]"#).unwrap();
        let content = r#"["stream-end",{"streamId":"u"}]"#;
        assert_eq!(event, Packet::Event { namespace: LOG, id: Some(29), content });
        let left = Packet::parse(r#"44/MDFile/recordLog,{"message":"Invalid namespace"}"#).unwrap();
        assert_eq!(left, Packet::Left { namespace: LOG, told: r#"{"message":"Invalid namespace"}"# });
    }

    #[test]
    fn packets_are_written_as_upstream_writes_them() {
        assert_eq!(join(LOG), "40/MDFile/recordLog,");
        assert_eq!(acknowledgement(LOG, 29), "43/MDFile/recordLog,29[null]");
        let content = ("call", "getManifest", serde_json::json!({"rpcArgs": [], "logName": "s3-recordlog"}));
        assert_eq!(
            event(LOG, 0, &content).unwrap(),
            r#"42/MDFile/recordLog,0["call","getManifest",{"logName":"s3-recordlog","rpcArgs":[]}]"#
        );
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in ["", "x", "4", "4x", "43/a,[null]", "45/a,1-[]", "49/a,", "42/a,99999999999999999999[]"] {
            assert!(Packet::parse(text).is_err(), "{text}");
        }
        assert!(items("{}").is_err());
    }
}
