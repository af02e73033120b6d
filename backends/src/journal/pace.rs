//! How often a log is asked: soon after something was there, less and less often while nothing is, and even less often
//! while nobody answers.

use std::time::Duration;

/// The first pause after a record.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause while the log answers.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest pause while it does not.
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pause before the next question.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    failures: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pause: PAUSE_MIN, failures: 0 }
    }
}

impl Pace {
    /// There was something.
    pub(super) fn found(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// There was nothing: how long to wait.
    pub(super) fn pause_after_nothing(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }

    /// It answered; true if it had not before.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// It did not answer; true if it had before.
    pub(super) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// How long to wait before it is asked again, if it did not answer. The first time it is asked at once: the caller has
    /// waited, and one lost connection is not an outage.
    pub(super) fn pause_after_failure(&self) -> Option<Duration> {
        let doublings = self.failures.checked_sub(2)?.min(16);
        Some((PAUSE_MIN * (1 << doublings)).min(FAILURE_PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_is_there() {
        let mut pace = Pace::default();
        let pauses: Vec<u128> = (0..8).map(|_| pace.pause_after_nothing().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        pace.found();
        assert_eq!(pace.pause_after_nothing(), PAUSE_MIN);
    }

    #[test]
    fn pauses_grow_while_nobody_answers() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause_after_failure(), None);
        assert!(pace.failed(), "the first failure is told");
        assert_eq!(pace.pause_after_failure(), None);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(!pace.failed());
            pauses.extend(pace.pause_after_failure());
        }
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[9]), (PAUSE_MIN, FAILURE_PAUSE_MAX));
        assert!(pace.answered());
        assert_eq!(pace.pause_after_failure(), None);
    }
}
