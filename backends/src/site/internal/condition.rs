//! The condition of a metadata write: which stored state it may replace (decision D3).

use super::{IF_REVISION, REVISION};
use crate::site::error::{Outcome, Refusal};
use backbeat_core::model::{ObjectMd, Revision, StateTag};

/// Which stored state a metadata write may replace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// The version must not exist.
    Missing,
    /// What it says must be this, whatever its replication status.
    Revision(Revision),
    /// Exactly this.
    State(StateTag),
}

impl Condition {
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        if text == "none" {
            return Ok(Self::Missing);
        }
        let revision = text.parse().map(Self::Revision);
        revision.or_else(|_| text.parse().map(Self::State)).map_err(|_| {
            Refusal::invalid_argument().with_message(format!(
                "{IF_REVISION} must be a revision, a state tag as {REVISION} gives it, or none"
            ))
        })
    }

    pub(super) fn check(self, stored: Option<&ObjectMd>) -> Outcome<()> {
        let holds = match self {
            Self::Missing => stored.is_none(),
            Self::Revision(revision) => stored.is_some_and(|md| md.revision() == revision),
            Self::State(tag) => stored.is_some_and(|md| md.state_tag() == tag),
        };
        if holds { Ok(()) } else { Err(Refusal::precondition_failed()) }
    }
}
