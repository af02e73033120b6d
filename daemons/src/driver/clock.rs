//! The clock of a driver: tokio's clock (paused time included) as the monotonic clock of the core, beside a wall clock.

use backbeat_backends::clock::WallClock;
use backbeat_core::time::{Instant, Now};
use std::time::Duration;

/// Tells a driver what time it is. All drivers of a process share one, so that their times compare.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
    wall: WallClock,
}

impl Clock {
    /// A clock that starts now. Must be called inside a tokio runtime.
    pub fn start(wall: WallClock) -> Self {
        Self { origin: tokio::time::Instant::now(), wall }
    }

    /// The time now, on both clocks.
    pub fn now(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now { mono: Instant::from_micros(micros), wall: self.wall.now() }
    }

    /// The point of tokio's clock that the core calls `at`. Timers of tokio fire up to a millisecond late, never early.
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        self.origin + Duration::from_micros(at.as_micros())
    }

    /// Waits until `at`; for ever if there is nothing to wait for.
    pub async fn sleep_until(&self, at: Option<Instant>) {
        match at {
            Some(at) => tokio::time::sleep_until(self.deadline(at)).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_core::time::{Span, WallTime};

    #[tokio::test(start_paused = true)]
    async fn a_timer_never_fires_before_its_time() {
        let clock = Clock::start(WallClock::tokio(WallTime::from_millis(5)));
        for micros in [1, 999, 1_000, 1_001, 123_456] {
            let due = clock.now().mono + Span::from_micros(micros);
            clock.sleep_until(Some(due)).await;
            assert!(clock.now().mono >= due);
        }
        assert!(clock.now().wall > WallTime::from_millis(5));
    }
}
