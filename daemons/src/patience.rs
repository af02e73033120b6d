//! Trying again what may work later, for a while.

use std::time::Duration;

use backbeat_backends::admin::AdminError;
use backbeat_core::parts::{Retry, RetryDecision, RetryPolicy};
use backbeat_core::time::{Instant, Span};

/// A failure that may pass.
pub trait MayPass: std::fmt::Display {
    /// Whether the same may work later.
    fn may_pass(&self) -> bool;
}

impl MayPass for AdminError {
    fn may_pass(&self) -> bool {
        Self::may_pass(self)
    }
}

/// How long, and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    policy: RetryPolicy,
    began: tokio::time::Instant,
}

impl Patience {
    /// Each thing is tried again for this long at most; not at all if that is zero.
    pub fn of(time_max: Duration) -> Self {
        let policy = RetryPolicy {
            retries_max: time_max.is_zero().then_some(0),
            timeout: Span::from_millis(u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX / 1_000)),
            delay_min: Span::from_millis(500),
            delay_max: Span::from_secs(5),
            ..RetryPolicy::CLASS_DEFAULT
        };
        Self { policy, began: tokio::time::Instant::now() }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Does something until it works, or fails for good, or the time is over.
    ///
    /// # Errors
    /// The last one.
    pub async fn with<T, E: MayPass>(
        &self,
        doing: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut retry = Retry::new(self.now());
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(error),
            };
            let now = self.now();
            match retry.next(&self.policy, now, u64::from(std::process::id())) {
                RetryDecision::GiveUp => return Err(error),
                RetryDecision::Retry { at } => {
                    tracing::warn!(%error, "{doing}: trying again");
                    tokio::time::sleep(Duration::from_micros(at.since(now).as_micros())).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_backends::admin::Refused;

    fn refused(status: u16) -> AdminError {
        AdminError::Refused(Refused {
            endpoint: "e".to_owned(),
            status: http::StatusCode::from_u16(status).expect("a status"),
            code: status.to_string(),
            message: String::new(),
        })
    }

    async fn attempts(time_max: Duration, works_at: u32, status: u16) -> (u32, bool) {
        let mut attempts = 0;
        let patience = Patience::of(time_max);
        let done = patience.with("testing", async || {
            attempts += 1;
            if attempts == works_at { Ok(()) } else { Err(refused(status)) }
        });
        let done = done.await.is_ok();
        (attempts, done)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_for_a_while() {
        let while_ = Duration::from_secs(30);
        assert_eq!(attempts(while_, 3, 503).await, (3, true));
        let began = tokio::time::Instant::now();
        let (tried, done) = attempts(while_, u32::MAX, 503).await;
        assert!(!done && (5..20).contains(&tried), "{tried}");
        assert!((30..40).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        assert_eq!(attempts(while_, 2, 403).await, (1, false));
        assert_eq!(attempts(Duration::ZERO, 2, 503).await, (1, false));
    }
}
