//! What people ask of stores before anything is replicated: buckets and their configuration over S3, roles and policies over
//! IAM. Nothing is tried twice here; every request may be sent again whatever became of it.

mod buckets;
mod iam;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::http::{ClientError, Request, SignedClient};
use crate::query::{self, Told};

pub use buckets::Buckets;
pub use iam::{Iam, Policy};

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longer messages of servers are cut.
const MESSAGE_CHARS_MAX: usize = 200;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The server said no.
    #[error(transparent)]
    Refused(Refused),
    /// The server did not answer.
    #[error(transparent)]
    NoAnswer(#[from] ClientError),
    /// The answer makes no sense.
    #[error("{endpoint} answered what is not understood: {what}")]
    Unreadable {
        /// Host and port.
        endpoint: String,
        /// What was expected.
        what: &'static str,
    },
}

/// How a server said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Host and port.
    pub endpoint: String,
    /// HTTP's status.
    pub status: StatusCode,
    /// The code, or the number of the status where the server gives none.
    pub code: String,
    /// What the server says about it, in one line; may be empty.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, code, message, .. } = self;
        write!(formatter, "{endpoint} answered {code}")?;
        if message.is_empty() { Ok(()) } else { write!(formatter, ": {message}") }
    }
}

impl AdminError {
    /// The server's code, if it gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => Some(&refused.code),
            Self::NoAnswer(_) | Self::Unreadable { .. } => None,
        }
    }

    /// Whether the same request may work later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refused) => query::may_pass(refused.status, Some(&refused.code)),
            Self::NoAnswer(error) => {
                !matches!(error, ClientError::Invalid { .. } | ClientError::Distrust { .. })
            }
            Self::Unreadable { .. } => false,
        }
    }
}

/// Sends a request; anything but success is an error.
async fn ask(client: &SignedClient, request: Request) -> Result<Bytes, AdminError> {
    let answer = client.fetch(request, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await?;
    if answer.status().is_success() {
        Ok(answer.into_body())
    } else {
        Err(refused(client.endpoint(), &answer))
    }
}

fn refused(endpoint: &str, answer: &Response<Bytes>) -> AdminError {
    let Told { code, message } = query::error(answer.body());
    let message = message.unwrap_or_default();
    let in_one_line: Vec<&str> = message.split_whitespace().collect();
    AdminError::Refused(Refused {
        endpoint: endpoint.to_owned(),
        status: answer.status(),
        code: code.unwrap_or_else(|| answer.status().as_str().to_owned()),
        message: in_one_line.join(" ").chars().take(MESSAGE_CHARS_MAX).collect(),
    })
}

/// What was not there, if that is what the server says.
fn absent<T>(answer: Result<T, AdminError>, code: &str) -> Result<Option<T>, AdminError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(code) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> AdminError {
        let answer = Response::builder().status(status).body(Bytes::from(body.to_owned()));
        refused("s3.example:80", &answer.expect("an answer"))
    }

    #[test]
    fn a_refusal_names_the_endpoint_and_the_code_in_one_line() {
        let denied = error(403, "<Error><Code>AccessDenied</Code><Message>Not\n  you</Message></Error>");
        assert_eq!(denied.to_string(), "s3.example:80 answered AccessDenied: Not you");
        assert!(!denied.may_pass());
        let silent = error(503, "");
        assert_eq!(silent.to_string(), "s3.example:80 answered 503");
        assert!(silent.may_pass());
        let long = format!("<Error><Code>C</Code><Message>{}</Message></Error>", "x".repeat(9_999));
        assert!(error(400, &long).to_string().len() < 300);
    }

    #[test]
    fn only_one_code_says_that_something_is_not_there() {
        let body = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        let gone = absent::<()>(Err(error(404, &body("NoSuchBucket"))), "NoSuchBucket");
        assert!(matches!(gone, Ok(None)), "{gone:?}");
        assert!(absent::<()>(Err(error(404, &body("NoSuchKey"))), "NoSuchBucket").is_err());
    }

    #[test]
    fn connections_may_come_and_distrust_stays() {
        let (endpoint, message) = ("e".to_owned(), String::new());
        let connect = ClientError::Connect { endpoint: endpoint.clone(), message: message.clone() };
        assert!(AdminError::from(connect).may_pass());
        assert!(!AdminError::from(ClientError::Distrust { endpoint, message }).may_pass());
    }
}
