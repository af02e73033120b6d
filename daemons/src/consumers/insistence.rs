//! Doing something until it is done, however long the other side is away.

use std::future::Future;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};

/// The first wait; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(250);

/// No wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Whether trying again is pointless: what is asked for can never be, or not by us.
pub(super) fn is_final(kind: RefusalKind) -> bool {
    matches!(
        kind,
        RefusalKind::Conflict
            | RefusalKind::Invalid
            | RefusalKind::TooLarge
            | RefusalKind::NotFound
            | RefusalKind::Fenced
    )
}

/// What becomes of an attempt of which nobody knows how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Done twice is as good as done once: try again.
    Repeat,
    /// Done twice is worse than not at all.
    GiveUp,
}

/// Attempts it until it is applied; an error says why it never will be. `what` is for the log, which names the first
/// failure and the end of the trouble.
pub(super) async fn insist<T, F: Future<Output = Ending<T>>>(
    what: &str,
    doubt: Doubt,
    attempt: impl Fn() -> F,
) -> Result<T, Refusal> {
    let mut wait = WAIT_MIN;
    let mut failures = 0_u64;
    loop {
        let code = match attempt().await {
            Ending::Applied(done) => {
                if failures > 0 {
                    tracing::info!(what, failures, "works again");
                }
                return Ok(done);
            }
            Ending::Refused(refusal) if is_final(refusal.kind) => return Err(refusal),
            Ending::Refused(refusal) => refusal.code,
            Ending::Unknown if doubt == Doubt::GiveUp => {
                return Err(Refusal::new(RefusalKind::Unavailable, "NoAnswer"));
            }
            Ending::Unknown => "NoAnswer".into(),
        };
        if failures == 0 {
            tracing::warn!(what, %code, "does not work; trying until it does");
        }
        failures += 1;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    async fn ends(doubt: Doubt, endings: &[Ending<u8>]) -> (Result<u8, Refusal>, usize) {
        let next = Cell::new(0);
        let ended = insist("a test", doubt, || {
            let ending = endings[next.get()].clone();
            next.set(next.get() + 1);
            std::future::ready(ending)
        });
        (ended.await, next.get())
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_until_it_is_done_or_pointless() {
        let away = || Ending::Refused(Refusal::new(RefusalKind::Unavailable, "Away"));
        let wrong = Refusal::new(RefusalKind::Conflict, "WRONGTYPE");
        let many: Vec<_> = (0..20).map(|_| away()).chain([Ending::Unknown, Ending::Applied(7)]).collect();
        assert_eq!(ends(Doubt::Repeat, &many).await, (Ok(7), 22));
        assert!(matches!(ends(Doubt::GiveUp, &many).await, (Err(_), 21)));
        let pointless = [away(), Ending::Refused(wrong.clone())];
        assert_eq!(ends(Doubt::Repeat, &pointless).await, (Err(wrong), 2));
    }
}
