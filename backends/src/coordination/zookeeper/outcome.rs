//! What an error of the client means to callers of the port.

use backbeat_core::call::{Refusal, RefusalKind};
use zookeeper_client::Error;

/// The refusal that an error stands for, or none if the servers may have done what they were asked.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client may come to know more errors, which say as little"
)]
pub(super) fn refusal(error: &Error) -> Option<Refusal> {
    let (kind, code) = match error {
        Error::NoNode => (RefusalKind::NotFound, "NoNode"),
        Error::BadVersion => (RefusalKind::Conflict, "BadVersion"),
        Error::NodeExists => (RefusalKind::Conflict, "NodeExists"),
        Error::NotEmpty => (RefusalKind::Conflict, "NotEmpty"),
        Error::NoChildrenForEphemerals => (RefusalKind::Invalid, "NoChildrenForEphemerals"),
        Error::BadArguments(_) => (RefusalKind::Invalid, "BadArguments"),
        Error::InvalidAcl => (RefusalKind::Invalid, "InvalidAcl"),
        Error::MarshallingError => (RefusalKind::Invalid, "MarshallingError"),
        Error::Unimplemented => (RefusalKind::Invalid, "Unimplemented"),
        Error::NoAuth => (RefusalKind::Denied, "NoAuth"),
        Error::AuthFailed => (RefusalKind::Denied, "AuthFailed"),
        Error::QuotaExceeded => (RefusalKind::TooLarge, "QuotaExceeded"),
        Error::Throttled => (RefusalKind::Throttled { retry_after: None }, "Throttled"),
        Error::NotReadOnly => (RefusalKind::Unavailable, "NotReadOnly"),
        Error::NoHosts => (RefusalKind::Unavailable, "NoHosts"),
        Error::SessionExpired | Error::SessionMoved | Error::ClientClosed => {
            (RefusalKind::Fenced, "SessionExpired")
        }
        _ => return None,
    };
    Some(Refusal::new(kind, code))
}
