//! What the answers of S3 servers mean, CloudServer's internal routes among them (wire reference 0.3, 0.4; replication reference 5.6).

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::model::StoredReplication;
use backbeat_core::request::BucketRules;
use backbeat_core::time::Span;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use crate::http::ClientError;
use crate::objects::{BucketState, Versioning};
use crate::xml::elements;

/// Codes that ask for patience, whatever their status.
const THROTTLING: [&str; 6] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "RequestLimitExceeded",
    "TooManyRequestsException",
];

/// A request that got no answer.
pub(super) fn without_answer<T>(error: &ClientError) -> Ending<T> {
    match error {
        ClientError::Connect { .. } => {
            Ending::Refused(Refusal::new(RefusalKind::Unavailable, "ConnectionFailed"))
        }
        ClientError::Distrust { message, .. } => {
            Ending::Refused(Refusal::new(RefusalKind::Unavailable, format!("TlsFailed: {message}")))
        }
        ClientError::Invalid { message, .. } => {
            Ending::Refused(Refusal::new(RefusalKind::Invalid, message.clone()))
        }
        ClientError::TimedOut { .. } | ClientError::Broken { .. } => Ending::Unknown,
    }
}

/// An answer other than 200: refused, or unknown where a server or proxy failed without saying anything.
pub(super) fn refused<T>(answer: &Response<Bytes>) -> Ending<T> {
    let status = answer.status();
    match error_code(answer.body()) {
        None if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => Ending::Unknown,
        code => {
            let code = code.unwrap_or_else(|| status.as_str().to_owned());
            let kind = kind(status, &code, answer.headers());
            Ending::Refused(Refusal { kind, code })
        }
    }
}

/// The answer was fine and could not be understood.
pub(super) fn unreadable<T>(what: &str) -> Ending<T> {
    Ending::Refused(Refusal::new(RefusalKind::Invalid, what))
}

fn kind(status: StatusCode, code: &str, headers: &HeaderMap) -> RefusalKind {
    let throttled = || {
        let seconds =
            headers.get(http::header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        RefusalKind::Throttled { retry_after: seconds.map(Span::from_secs) }
    };
    match (status.as_u16(), code) {
        (_, code) if THROTTLING.contains(&code) => throttled(),
        (429, _) => throttled(),
        (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
            RefusalKind::ExpiredCredentials
        }
        (_, "NoSuchBucket") => RefusalKind::BucketNotFound,
        // 424: the metadata names data that is not there (any more).
        (404 | 424, _) => RefusalKind::NotFound,
        (409, "InvalidBucketState") => RefusalKind::BucketUnversioned,
        (403, "InvalidObjectState") => RefusalKind::InvalidState,
        (401 | 403, _) | (_, "InvalidToken") => RefusalKind::Denied,
        (412, _) => RefusalKind::Conflict,
        (400, "BadDigest") => RefusalKind::BadDigest,
        (413, _) | (_, "EntityTooLarge") => RefusalKind::TooLarge,
        (501, _) => RefusalKind::Invalid,
        (500.., _) => RefusalKind::Unavailable,
        _ => RefusalKind::Invalid,
    }
}

/// The `code` of a JSON error or the `Code` of an XML one.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Document {
        code: String,
    }
    if body.first() == Some(&b'{') {
        return serde_json::from_slice(body).ok().map(|Document { code }| code);
    }
    let elements = elements(body)?;
    elements.into_iter().find(|(path, _)| path == "Error/Code").map(|(_, text)| text)
}

/// The replication configuration in the answer to `?replication`.
pub(super) fn rules(document: &[u8]) -> Option<BucketRules> {
    let stored = StoredReplication::read(std::str::from_utf8(document).ok()?)?;
    let enabled = stored.rules.into_iter().filter(|rule| rule.is_enabled);
    Some(BucketRules { roles: stored.roles, prefixes: enabled.map(|rule| rule.prefix).collect() })
}

/// The state in the answer to `?versioning`.
pub(crate) fn state(document: &[u8]) -> Option<BucketState> {
    let elements = elements(document)?;
    // Not every store calls the root by its name.
    let is_status = |path: &str| path.split_once('/').is_some_and(|(_, name)| name == "Status");
    let status = elements.iter().find(|(path, _)| is_status(path));
    let versioning = match status.map(|(_, text)| text.trim()) {
        None | Some("") => Versioning::Never,
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        Some(_) => return None,
    };
    Some(BucketState { versioning })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        let body = Bytes::from_static(body.as_bytes());
        Response::builder().status(status).header("retry-after", "3").body(body).expect("a valid answer")
    }

    fn kind_of(status: u16, body: &'static str) -> Option<RefusalKind> {
        match refused::<()>(&answer(status, body)) {
            Ending::Refused(refusal) => Some(refusal.kind),
            Ending::Applied(()) | Ending::Unknown => None,
        }
    }

    #[test]
    fn codes_come_first_and_status_after() {
        let throttled = RefusalKind::Throttled { retry_after: Some(Span::from_secs(3)) };
        let json = |status, code: &'static str| kind_of(status, code);
        for (status, body, expected) in [
            (404, r#"{"code":"ObjNotFound","message":""}"#, RefusalKind::NotFound),
            (404, r#"{"code":"NoSuchBucket","message":""}"#, RefusalKind::BucketNotFound),
            (404, "<?xml version=\"1.0\"?><Error><Code>NoSuchVersion</Code></Error>", RefusalKind::NotFound),
            (404, "", RefusalKind::NotFound),
            (424, r#"{"code":"LocationNotFound"}"#, RefusalKind::NotFound),
            (409, r#"{"code":"InvalidBucketState"}"#, RefusalKind::BucketUnversioned),
            (403, r#"{"code":"InvalidObjectState"}"#, RefusalKind::InvalidState),
            (403, r#"{"code":"AccessDenied"}"#, RefusalKind::Denied),
            (400, r#"{"code":"ExpiredToken"}"#, RefusalKind::ExpiredCredentials),
            (400, r#"{"code":"InvalidToken"}"#, RefusalKind::Denied),
            (400, r#"{"code":"BadDigest"}"#, RefusalKind::BadDigest),
            (400, r#"{"code":"MalformedPOSTRequest"}"#, RefusalKind::Invalid),
            (412, r#"{"code":"PreconditionFailed"}"#, RefusalKind::Conflict),
            (429, "", throttled),
            (503, "<Error><Code>SlowDown</Code></Error>", throttled),
            (503, "", RefusalKind::Unavailable),
            (500, r#"{"code":"InternalError"}"#, RefusalKind::Unavailable),
        ] {
            assert_eq!(json(status, body), Some(expected), "{status} {body}");
        }
    }

    #[test]
    fn a_server_error_without_a_word_may_have_done_it() {
        assert_eq!(refused::<()>(&answer(502, "<html>Bad gateway")), Ending::Unknown);
        assert_eq!(refused::<()>(&answer(500, "")), Ending::Unknown);
    }

    #[test]
    fn rules_are_read_in_any_order_of_members() {
        let document = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Rule><Prefix>a&amp;b/&#233;</Prefix><Status>Enabled</Status><ID>1</ID>
                <Destination><Bucket>arn:aws:s3:::t</Bucket></Destination></Rule>
              <Rule><Status>Disabled</Status><Prefix>off</Prefix></Rule>
              <Rule><ID/><Prefix/><Status>Enabled</Status></Rule>
              <Role>arn:1,arn:2</Role>
            </ReplicationConfiguration>"#;
        let rules = rules(document).expect("valid");
        assert_eq!(rules.roles, ["arn:1", "arn:2"]);
        assert_eq!(rules.prefixes, ["a&b/\u{e9}", ""]);
        assert_eq!(super::rules(b"<html></html>"), None);
        assert_eq!(super::rules(b"<ReplicationConfiguration>"), None);
    }

    #[test]
    fn the_versioning_state_may_be_left_out() {
        let of = |document: &str| state(document.as_bytes()).map(|state| state.versioning);
        let root =
            |inner: &str| format!("<VersioningConfiguration xmlns=\"x\">{inner}</VersioningConfiguration>");
        assert_eq!(of(&root("")), Some(Versioning::Never));
        assert_eq!(of("<VersioningConfiguration/>"), Some(Versioning::Never));
        let other_root =
            "<GetBucketVersioningResponse><Status>Enabled</Status></GetBucketVersioningResponse>";
        assert_eq!(of(other_root), Some(Versioning::Enabled));
        assert_eq!(of(&root("<Status>Enabled</Status>")), Some(Versioning::Enabled));
        assert_eq!(of(&root("<Status>Suspended</Status>")), Some(Versioning::Suspended));
        assert_eq!(of("no XML <"), None);
    }
}
