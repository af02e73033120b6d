//! Refusals and trouble: what ends a copy, what makes it wait, and the stable words that failures carry.

use xxhash_rust::xxh3::xxh3_64;

use crate::call::{Refusal, RefusalKind};
use crate::parts::{Retry, RetryDecision};
use crate::request::Side;
use crate::rules::Rules;
use crate::time::Span;

use super::{Context, CopyJob, Outcome, Settled};

impl CopyJob {
    pub(super) fn source_refused<R: Rules>(&mut self, refusal: &Refusal, context: &mut Context<'_, R>) {
        if let Some(outcome) = not_to_be_had(refusal.kind) {
            self.end(outcome);
        } else if refusal.kind.is_transient() {
            self.troubled(Side::Source, &refusal.code, refusal.kind.retry_after(), context);
        } else {
            self.end(Outcome::Held { reason: refusal.code.clone() });
        }
    }

    pub(super) fn target_refused<R: Rules>(&mut self, refusal: &Refusal, context: &mut Context<'_, R>) {
        if refusal.kind.is_transient() {
            self.troubled(Side::Target, &refusal.code, refusal.kind.retry_after(), context);
        } else {
            self.heard_from_target = Some(true);
            self.fail(&target_reason(refusal));
        }
    }

    /// Waits before the present stage is tried again, or gives up.
    pub(super) fn troubled<R: Rules>(
        &mut self,
        side: Side,
        reason: &str,
        retry_after: Option<Span>,
        context: &mut Context<'_, R>,
    ) {
        if side == Side::Target {
            self.heard_from_target = Some(false);
        }
        self.trouble = Some((side, reason.to_owned()));
        if side == Side::Target && context.is_probe {
            self.retry = Some(Retry::new(context.now));
        }
        let seed = xxh3_64(self.object.key.as_str().as_bytes());
        let retry = self.retry.get_or_insert_with(|| Retry::new(context.now));
        match retry.next_after(&context.config.retry, context.now, seed, retry_after) {
            RetryDecision::Retry { at } => self.wait_until = Some(at),
            // A source that cannot be read cannot be written either: nothing could be recorded.
            RetryDecision::GiveUp if side == Side::Source && reason != "BadDigest" => {
                self.end(Outcome::Held { reason: reason.to_owned() });
            }
            RetryDecision::GiveUp => self.fail(reason),
        }
    }
}

/// How a copy ends whose source says that it is not to be had; none if it may be had later.
pub(super) fn not_to_be_had(kind: RefusalKind) -> Option<Outcome> {
    match kind {
        RefusalKind::NotFound | RefusalKind::BucketNotFound => Some(Outcome::Settled(Settled::Gone)),
        RefusalKind::InvalidState => Some(Outcome::Settled(Settled::Archived)),
        RefusalKind::Denied => Some(Outcome::Held { reason: "SourceAccessDenied".to_owned() }),
        RefusalKind::BucketUnversioned
        | RefusalKind::ExpiredCredentials
        | RefusalKind::Throttled { .. }
        | RefusalKind::Unavailable
        | RefusalKind::Conflict
        | RefusalKind::BadDigest
        | RefusalKind::TooLarge
        | RefusalKind::Fenced
        | RefusalKind::Invalid => None,
    }
}

/// The stable word for a refusal of the target (interface page section 2, AWS failure reasons).
pub(super) fn target_reason(refusal: &Refusal) -> String {
    let word = match refusal.kind {
        RefusalKind::BucketNotFound => "DstBucketNotFound",
        RefusalKind::BucketUnversioned => "DstBucketUnversioned",
        RefusalKind::Denied => "DstAccessDenied",
        RefusalKind::NotFound
        | RefusalKind::ExpiredCredentials
        | RefusalKind::Throttled { .. }
        | RefusalKind::Unavailable
        | RefusalKind::Conflict
        | RefusalKind::BadDigest
        | RefusalKind::InvalidState
        | RefusalKind::TooLarge
        | RefusalKind::Fenced
        | RefusalKind::Invalid => &refusal.code,
    };
    word.to_owned()
}
