//! What the broker does for producers and consumers: appends, commits, fetches, exception records.

mod commits;
mod exceptions;
mod fetching;
mod publishing;

use backbeat_core::call::{Refusal, RefusalKind};

use crate::scenario::SECOND;

/// How long a producer waits for an acknowledgement.
const PRODUCE_TIMEOUT: u64 = 5 * SECOND;

fn unavailable(code: &str) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, code)
}
