//! How a call to Redis ended, by what the client library reports.

use backbeat_core::call::{Refusal, RefusalKind};
use redis::{ErrorKind, RedisError};

use crate::tls::distrust;

/// The refusal that an error stands for, or none if the server may have done what it was asked.
///
/// Codes are the server's, without its text, which may repeat what it was sent.
pub(super) fn refusal(error: &RedisError) -> Option<Refusal> {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Some(Refusal::new(RefusalKind::Denied, "AuthenticationFailed"));
    }
    let server = error.clone().into_server_errors()?;
    let (_, first) = server.first()?;
    let text = first.details().unwrap_or_default();
    let (kind, code) = match first.code() {
        "WRONGTYPE" => (RefusalKind::Conflict, "WRONGTYPE"),
        // Before version 7, errors in scripts lose their code; and a value that is no number is of another kind to us.
        "ERR" if text.contains("WRONGTYPE") || text.contains("not an integer") => {
            (RefusalKind::Conflict, "WRONGTYPE")
        }
        code @ ("NOAUTH" | "WRONGPASS" | "NOPERM") => (RefusalKind::Denied, code),
        code @ ("LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "OOM"
        | "MISCONF" | "NOREPLICAS") => (RefusalKind::Unavailable, code),
        "ERR" if text.contains("max number of clients") => (RefusalKind::Unavailable, "TooManyClients"),
        code => (RefusalKind::Invalid, code),
    };
    Some(Refusal::new(kind, code))
}

/// Whether the connection is of no use any more: it broke, it is silent, or its server is no longer the master.
pub(super) fn is_end(error: &RedisError) -> bool {
    match refusal(error) {
        None => true,
        Some(refusal) => {
            matches!(refusal.code.as_str(), "READONLY" | "MASTERDOWN" | "TooManyClients" | "NOAUTH")
        }
    }
}

/// Why a server could not be connected to.
pub(super) fn unreachable(error: &RedisError) -> Refusal {
    if let Some(why) = distrust(error) {
        return Refusal::new(RefusalKind::Unavailable, format!("TlsFailed: {why}"));
    }
    refusal(error).unwrap_or_else(|| {
        let code = match error {
            error if error.is_connection_refusal() => "ConnectionRefused",
            error if error.is_timeout() => "TimedOut",
            _ => "NotConnected",
        };
        Refusal::new(RefusalKind::Unavailable, code)
    })
}
