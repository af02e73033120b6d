//! What clients of Kafka say by themselves: into the log, once each.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use std::sync::{Mutex, PoisonError};

/// The context of a client that only asks.
#[derive(Default)]
pub(crate) struct Asking {
    heard: Mutex<Heard>,
}

/// What such a client heard of brokers that it did not reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// One of them and this client do not trust each other: why, the last time.
    pub(super) distrust: Option<String>,
    /// None of them is connected.
    pub(super) is_alone: bool,
}

impl Asking {
    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        complain(&error, reason);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(code) if DISTRUST.contains(&code) => heard.distrust = Some(cause(reason).to_owned()),
            Some(RDKafkaErrorCode::AllBrokersDown) => heard.is_alone = true,
            Some(_) | None => {}
        }
    }
}

impl ConsumerContext for Asking {}

/// A line of librdkafka's own.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
    }
}

/// An error that belongs to no call. All of them are mended by the client itself, except fatal ones, which also come to
/// whoever uses the client.
pub(super) fn complain(error: &KafkaError, reason: &str) {
    tracing::warn!(%error, reason, "kafka client");
}

/// A broker and its client do not trust each other: certificates, users, passwords.
const DISTRUST: [RDKafkaErrorCode; 3] =
    [RDKafkaErrorCode::SSL, RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SaslAuthenticationFailed];

/// A reason without how long it took, which is said of each attempt.
fn cause(reason: &str) -> &str {
    reason.split(" (after ").next().unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_distrusts_is_remembered_with_the_cause() {
        let context = Asking::default();
        let error = |code, reason| context.error(KafkaError::Global(code), reason);
        error(RDKafkaErrorCode::BrokerTransportFailure, "a: connection refused");
        assert!(context.heard().distrust.is_none() && !context.heard().is_alone);
        error(RDKafkaErrorCode::Authentication, "a: SASL failed: bad (after 305ms in state AUTH_REQ)");
        error(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let heard = context.heard();
        assert_eq!(heard.distrust.as_deref(), Some("a: SASL failed: bad"));
        assert!(heard.is_alone);
    }
}
