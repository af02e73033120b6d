//! The query protocol of IAM and STS: forms go there. What servers answer that refuse something, S3 in the same words.

use http::{Method, StatusCode};

use crate::http::{Body, Request, percent_encode};
use crate::xml;

impl Request {
    /// A form to `path`, as the query protocol of IAM and STS has it.
    pub fn form(path: impl Into<String>, members: &[(&str, &str)]) -> Self {
        let encoded: Vec<String> =
            members.iter().map(|(name, value)| format!("{name}={}", percent_encode(value, false))).collect();
        Self::new(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::full(encoded.join("&")))
    }
}

/// Codes of what may work the next time.
const PASSING: [&str; 11] = [
    "InternalError",
    "InternalFailure",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// What a refusal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

/// The error in the body of an answer; empty if there is none.
pub(crate) fn error(body: &[u8]) -> Told {
    let mut told = Told::default();
    for (path, text) in xml::elements(body).unwrap_or_default() {
        if path.ends_with("Error/Code") {
            told.code = Some(text);
        } else if path.ends_with("Error/Message") {
            told.message = Some(text);
        }
    }
    told
}

/// Whether the same request may work later.
pub(crate) fn may_pass(status: StatusCode, code: Option<&str>) -> bool {
    code.is_some_and(|code| PASSING.contains(&code))
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
        || status == StatusCode::TOO_MANY_REQUESTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_the_words_of_iam_and_of_s3() {
        let of = |body: &str| {
            let Told { code, message } = error(body.as_bytes());
            (code.unwrap_or_default(), message.unwrap_or_default())
        };
        let said = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        let iam =
            "<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>m</Message></Error></ErrorResponse>";
        assert_eq!(of(iam), said("NoSuchEntity", "m"));
        assert_eq!(
            of("<Error><Message>n</Message><Code>NoSuchBucket</Code></Error>"),
            said("NoSuchBucket", "n")
        );
        assert_eq!(of("<html>"), said("", ""));
    }

    #[test]
    fn a_server_that_does_not_know_the_request_will_not_learn_it() {
        assert!(may_pass(StatusCode::BAD_REQUEST, Some("Throttling")));
        assert!(may_pass(StatusCode::BAD_GATEWAY, None));
        assert!(!may_pass(StatusCode::NOT_IMPLEMENTED, Some("NotImplemented")));
        assert!(!may_pass(StatusCode::FORBIDDEN, Some("AccessDenied")));
    }
}
