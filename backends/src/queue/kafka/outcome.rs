//! What errors of Kafka mean: refused, or unknown.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Errors after which a message or change is not there and never will be.
const REFUSED: [(RDKafkaErrorCode, RefusalKind); 17] = [
    (RDKafkaErrorCode::UnknownTopic, RefusalKind::NotFound),
    (RDKafkaErrorCode::UnknownTopicOrPartition, RefusalKind::NotFound),
    (RDKafkaErrorCode::UnknownPartition, RefusalKind::Invalid),
    (RDKafkaErrorCode::InvalidTopic, RefusalKind::Invalid),
    (RDKafkaErrorCode::InvalidRecord, RefusalKind::Invalid),
    (RDKafkaErrorCode::InvalidConfig, RefusalKind::Invalid),
    (RDKafkaErrorCode::InvalidReplicationFactor, RefusalKind::Invalid),
    (RDKafkaErrorCode::PolicyViolation, RefusalKind::Denied),
    (RDKafkaErrorCode::TopicAuthorizationFailed, RefusalKind::Denied),
    (RDKafkaErrorCode::GroupAuthorizationFailed, RefusalKind::Denied),
    (RDKafkaErrorCode::ClusterAuthorizationFailed, RefusalKind::Denied),
    (RDKafkaErrorCode::MessageSizeTooLarge, RefusalKind::TooLarge),
    (RDKafkaErrorCode::QueueFull, RefusalKind::Unavailable),
    (RDKafkaErrorCode::IllegalGeneration, RefusalKind::Fenced),
    (RDKafkaErrorCode::UnknownMemberId, RefusalKind::Fenced),
    (RDKafkaErrorCode::FencedInstanceId, RefusalKind::Fenced),
    (RDKafkaErrorCode::AssignmentLost, RefusalKind::Fenced),
];

/// What a write that ended with `code` comes to.
pub(super) fn write_ended<T>(code: RDKafkaErrorCode, what: &str) -> Ending<T> {
    match refused(code) {
        Some(kind) => Ending::Refused(Refusal::new(kind, format!("{code:?}: {what}"))),
        None => Ending::Unknown,
    }
}

/// What a question that ended with `error` comes to: whatever was not answered can be asked again.
pub(crate) fn question_ended(error: &KafkaError, what: &str) -> Refusal {
    let kind = error.rdkafka_error_code().and_then(refused).unwrap_or(RefusalKind::Unavailable);
    Refusal::new(kind, format!("{what}: {error}"))
}

fn refused(code: RDKafkaErrorCode) -> Option<RefusalKind> {
    REFUSED.iter().find(|(known, _)| *known == code).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_timed_out_may_still_arrive() {
        for code in [RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::NotEnoughReplicasAfterAppend] {
            assert_eq!(write_ended::<()>(code, "topic a"), Ending::Unknown);
        }
    }

    #[test]
    fn what_was_refused_says_of_what() {
        let Ending::Refused(refusal) = write_ended::<()>(RDKafkaErrorCode::InvalidRecord, "topic a") else {
            panic!("it is refused")
        };
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.code.contains("topic a"), "{}", refusal.code);
    }
}
