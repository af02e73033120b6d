//! The command line's way to the API of a running stack.

use std::time::Duration;

use backbeat_backends::http::{Body, ClientError, Credentials, Request, SignedClient};
use clap::Args;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::{Exit, Failure};

/// An answer is never larger.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

/// Where the API is.
#[derive(Debug, Args)]
pub(super) struct Api {
    /// Host and port of the API.
    #[arg(long, value_name = "HOST:PORT", env = "BACKBEAT_API", default_value = "127.0.0.1:8900")]
    api: String,
}

impl Api {
    /// Asks the API, and waits for its answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        self.ask_within(ANSWER_TIME_MAX, method, path, query, body)
    }

    /// [`Api::ask`] for what takes its time.
    pub(super) fn ask_within<T: DeserializeOwned>(
        &self,
        time_max: Duration,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let mut request = Request::new(method, path).unsigned();
        for (name, value) in query {
            request = request.query(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(Body::full(body));
        }
        let client = SignedClient::new(self.api.as_str(), Credentials::new("", ""), "");
        let answer = super::runtime()?
            .block_on(client.fetch(request, time_max, ANSWER_BYTES_MAX))
            .map_err(|error| unanswered(&error))?;
        let body = answer.body();
        if answer.status().is_success() {
            return serde_json::from_slice(body).map_err(|error| {
                Failure::say(
                    Exit::Error,
                    format_args!("{} answered what is not understood: {error}", self.api),
                )
            });
        }
        let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let description = told.get("description").and_then(|text| text.as_str()).unwrap_or("no reason given");
        let exit = match answer.status() {
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::FORBIDDEN => Exit::NotPermitted,
            StatusCode::BAD_REQUEST => Exit::Usage,
            _ => Exit::Error,
        };
        Err(Failure::say(exit, description))
    }
}

fn unanswered(error: &ClientError) -> Failure {
    match error {
        ClientError::TimedOut { .. } => Failure::say(Exit::TimedOut, error),
        ClientError::Invalid { .. } => Failure::say(Exit::Usage, error),
        ClientError::Connect { .. } => {
            let hint = "is `backbeat dev` running? --api or BACKBEAT_API names another address";
            Failure::say(Exit::Temporary, format_args!("{error}; {hint}"))
        }
        ClientError::Broken { .. } | _ => Failure::say(Exit::Temporary, error),
    }
}
