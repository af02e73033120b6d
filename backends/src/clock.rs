//! The wall clock as a value, so that adapters which expire things can live under a simulated clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backbeat_core::time::WallTime;

/// Says what time it is. Adapters never look at the system clock themselves: whoever builds them hands one of these in.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> WallTime + Send + Sync>);

impl WallClock {
    /// A clock that asks `now` each time.
    pub fn new(now: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The clock of the machine.
    pub fn system() -> Self {
        Self::new(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            WallTime::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// A clock that starts at `start` and advances with tokio's time, paused time included.
    ///
    /// Must be called inside a tokio runtime.
    pub fn tokio(start: WallTime) -> Self {
        let origin = tokio::time::Instant::now();
        Self::new(move || {
            let elapsed = i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX);
            WallTime::from_millis(start.as_millis().saturating_add(elapsed))
        })
    }

    /// The time now.
    pub fn now(&self) -> WallTime {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_follows_paused_time() {
        let clock = WallClock::tokio(WallTime::from_millis(1_000));
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now(), WallTime::from_millis(1_250));
    }
}
