//! Temporary credentials in memory: minted on demand, expiring by the clock.

use std::sync::{Mutex, PoisonError};

use backbeat_core::time::{Span, WallTime};

use super::{CredentialSource, Credentials, CredentialsError, Secret};
use crate::clock::WallClock;

/// How long before their expiry credentials are renewed (replication reference 8.2).
pub const RENEWAL_AHEAD: Span = Span::from_secs(60);

/// Mints numbered credentials that live for a fixed time.
#[derive(Debug)]
pub struct MemoryCredentials {
    clock: WallClock,
    life: Span,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    minted: u64,
    held: Option<Credentials>,
    failure: Option<CredentialsError>,
}

impl MemoryCredentials {
    /// A source whose credentials live for `life`.
    pub fn new(clock: WallClock, life: Span) -> Self {
        Self { clock, life, state: Mutex::new(State::default()) }
    }

    /// Makes renewals fail with `failure` until called with `None`.
    pub fn fail_with(&self, failure: Option<CredentialsError>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }
}

fn after(time: WallTime, span: Span) -> WallTime {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_millis(time.as_millis().saturating_add(millis))
}

impl CredentialSource for MemoryCredentials {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lives =
            |held: &&Credentials, ahead| held.expires.is_none_or(|expires| after(now, ahead) < expires);
        if let Some(held) = state.held.as_ref().filter(|held| lives(held, RENEWAL_AHEAD)) {
            return Ok(held.clone());
        }
        if let Some(failure) = &state.failure {
            let held = state.held.as_ref().filter(|held| lives(held, Span::ZERO));
            return held.cloned().ok_or_else(|| failure.clone());
        }
        state.minted += 1;
        let minted = Credentials {
            access_key: format!("temporary-{}", state.minted),
            secret_key: Secret::new(format!("secret-{}", state.minted)),
            session_token: Some(Secret::new(format!("token-{}", state.minted))),
            expires: Some(after(now, self.life)),
        };
        state.held = Some(minted.clone());
        Ok(minted)
    }

    async fn reject(&self, rejected: &Credentials) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held.take_if(|held| held == rejected);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    crate::credentials_conformance!(
        memory,
        MemoryCredentials::new(WallClock::system(), Span::from_secs(3_600))
    );

    fn with_clock(life: Span) -> (MemoryCredentials, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&time);
        let clock = WallClock::new(move || WallTime::from_millis(shown.load(Ordering::Relaxed)));
        (MemoryCredentials::new(clock, life), time)
    }

    #[tokio::test]
    async fn credentials_are_renewed_ahead_of_their_expiry() {
        let (source, time) = with_clock(Span::from_secs(600));
        let first = source.current().await.expect("minted");
        time.store(539_000, Ordering::Relaxed);
        assert_eq!(source.current().await.as_ref(), Ok(&first));
        time.store(540_000, Ordering::Relaxed);
        assert_ne!(source.current().await.expect("minted"), first);
    }

    #[tokio::test]
    async fn a_failed_renewal_matters_only_once_the_old_ones_have_expired() {
        let (source, time) = with_clock(Span::from_secs(600));
        let first = source.current().await.expect("minted");
        let failure = CredentialsError::Unavailable("vault is down".to_owned());
        source.fail_with(Some(failure.clone()));
        time.store(590_000, Ordering::Relaxed);
        assert_eq!(source.current().await.as_ref(), Ok(&first));
        time.store(600_000, Ordering::Relaxed);
        assert_eq!(source.current().await, Err(failure));
    }
}
