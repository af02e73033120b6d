//! Temporary credentials: asked for when they are needed, renewed before they end, once for all who wait.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backbeat_core::time::WallTime;

use super::{CredentialSource, Credentials, CredentialsError};
use crate::clock::WallClock;

/// How long before their end credentials are renewed (replication reference 8.2), milliseconds; those that live for less
/// than twice as long at half of their life.
const AHEAD_MS: i64 = 60_000;
/// So that not all processes renew at the same moment, one does it up to this share of a life earlier.
const JITTER_SHARE: i64 = 10;
/// For so long after a renewal that failed, nobody tries again, milliseconds.
const PAUSE_MS: i64 = 1_000;

/// Where temporary credentials come from.
pub trait Issuer: Send + Sync + 'static {
    /// New credentials.
    fn issue(&self) -> impl Future<Output = Result<Credentials, CredentialsError>> + Send;
}

/// Credentials of an [`Issuer`], held until they end or are rejected.
#[derive(Debug)]
pub struct Renewing<I> {
    issuer: I,
    clock: WallClock,
    state: Mutex<State>,
    /// Held by the one who renews.
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    failed: Option<(WallTime, CredentialsError)>,
}

#[derive(Debug)]
struct Held {
    credentials: Credentials,
    renew_at: Option<WallTime>,
}

/// What is held.
enum Look {
    /// Good for longer.
    Good(Credentials),
    /// Good, and about to end.
    Ending(Credentials),
    /// Nothing, and whoever tried just now got nothing either.
    Failed(CredentialsError),
    /// Nothing.
    Nothing,
}

impl<I: Issuer> Renewing<I> {
    /// Nothing is asked before the first call.
    pub fn new(issuer: I, clock: WallClock) -> Self {
        Self { issuer, clock, state: Mutex::default(), renewal: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Look {
        let (now, state) = (self.clock.now(), self.state());
        let paused = |time: &WallTime| now.as_millis() < time.as_millis().saturating_add(PAUSE_MS);
        let failed = state.failed.as_ref().filter(|(time, _)| paused(time));
        let held = state.held.as_ref();
        let held = held.filter(|held| held.credentials.expires.is_none_or(|expires| now < expires));
        match (held, failed) {
            (Some(held), failed) => {
                let is_due = held.renew_at.is_some_and(|time| time <= now) && failed.is_none();
                let credentials = held.credentials.clone();
                if is_due { Look::Ending(credentials) } else { Look::Good(credentials) }
            }
            (None, Some((_, error))) => Look::Failed(error.clone()),
            (None, None) => Look::Nothing,
        }
    }

    async fn renew(&self) -> Result<Credentials, CredentialsError> {
        let issued = self.issuer.issue().await;
        let now = self.clock.now();
        let mut state = self.state();
        match &issued {
            Ok(credentials) => {
                let renew_at = credentials.expires.map(|expires| renewal_time(now, expires));
                *state =
                    State { held: Some(Held { credentials: credentials.clone(), renew_at }), failed: None };
            }
            Err(error) => {
                tracing::warn!(%error, has_others = state.held.is_some(), "temporary credentials were not renewed");
                state.failed = Some((now, error.clone()));
            }
        }
        issued
    }
}

/// When credentials that were issued `now` are renewed.
fn renewal_time(now: WallTime, expires: WallTime) -> WallTime {
    let life = expires.as_millis().saturating_sub(now.as_millis()).max(0);
    let jitter = {
        let span = u64::try_from(life / JITTER_SHARE).unwrap_or(0).max(1);
        // Without randomness all renew at the same time, which is no reason to fail.
        i64::try_from(getrandom::u64().unwrap_or(0) % span).unwrap_or(0)
    };
    let ahead = (AHEAD_MS + jitter).min(life / 2);
    WallTime::from_millis(expires.as_millis().saturating_sub(ahead))
}

impl<I: Issuer> CredentialSource for Renewing<I> {
    async fn current(&self) -> Result<Credentials, CredentialsError> {
        match self.look() {
            Look::Good(credentials) => return Ok(credentials),
            Look::Failed(error) => return Err(error),
            Look::Ending(credentials) => {
                // One of those who come renews; the others go on with what is still good.
                let Ok(_renewing) = self.renewal.try_lock() else { return Ok(credentials) };
                return Ok(self.renew().await.unwrap_or(credentials));
            }
            Look::Nothing => {}
        }
        let _renewing = self.renewal.lock().await;
        // Who was here before may have done it.
        match self.look() {
            Look::Good(credentials) | Look::Ending(credentials) => Ok(credentials),
            Look::Failed(error) => Err(error),
            Look::Nothing => self.renew().await,
        }
    }

    async fn reject(&self, rejected: &Credentials) {
        self.state().held.take_if(|held| held.credentials == *rejected);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
    use std::time::Duration;

    use super::super::Secret;
    use super::*;

    crate::credentials_conformance!(renewing, source(3_600_000).0);

    /// Issues numbered credentials, slowly, unless it is out of order.
    #[derive(Debug)]
    struct Counter {
        life_ms: i64,
        time: Arc<AtomicI64>,
        issued: Arc<AtomicU32>,
        is_broken: Arc<AtomicU32>,
    }

    impl Issuer for Counter {
        async fn issue(&self) -> Result<Credentials, CredentialsError> {
            let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.is_broken.load(Ordering::Relaxed) == 1 {
                return Err(CredentialsError::Unavailable("out of order".to_owned()));
            }
            Ok(Credentials {
                access_key: format!("key-{number}"),
                secret_key: Secret::new("hush-hush"),
                session_token: Some(Secret::new(format!("token-{number}"))),
                expires: Some(WallTime::from_millis(self.time.load(Ordering::Relaxed) + self.life_ms)),
            })
        }
    }

    struct Hands {
        time: Arc<AtomicI64>,
        issued: Arc<AtomicU32>,
        is_broken: Arc<AtomicU32>,
    }

    fn source(life_ms: i64) -> (Renewing<Counter>, Hands) {
        let (time, issued, is_broken) =
            (Arc::<AtomicI64>::default(), Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let shown = Arc::clone(&time);
        let clock = WallClock::new(move || WallTime::from_millis(shown.load(Ordering::Relaxed)));
        let hands = Hands { time, issued, is_broken };
        let issuer = Counter {
            life_ms,
            time: Arc::clone(&hands.time),
            issued: Arc::clone(&hands.issued),
            is_broken: Arc::clone(&hands.is_broken),
        };
        (Renewing::new(issuer, clock), hands)
    }

    async fn key(source: &Renewing<Counter>) -> Result<String, CredentialsError> {
        source.current().await.map(|credentials| credentials.access_key)
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_one_renewal() {
        let (source, hands) = source(3_600_000);
        let asked = futures_util::future::join_all((0..50).map(|_| key(&source))).await;
        assert!(asked.iter().all(|answer| answer.as_deref() == Ok("key-1")), "{asked:?}");
        // About to end: one renews, and nobody is kept waiting by another.
        hands.time.store(3_550_000, Ordering::Relaxed);
        let asked = futures_util::future::join_all((0..50).map(|_| key(&source))).await;
        assert_eq!(asked.iter().filter(|answer| answer.as_deref() == Ok("key-2")).count(), 1);
        assert_eq!(key(&source).await.as_deref(), Ok("key-2"));
        assert_eq!(hands.issued.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_renewed_a_minute_to_seven_before_an_hour_ends() {
        for _ in 0..100 {
            let at = renewal_time(WallTime::from_millis(0), WallTime::from_millis(3_600_000));
            assert!((3_180_000..=3_540_000).contains(&at.as_millis()), "{at:?}");
        }
        assert_eq!(renewal_time(WallTime::from_millis(0), WallTime::from_millis(60_000)).as_millis(), 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_away_matters_only_once_they_have_ended() {
        let (source, hands) = source(3_600_000);
        assert_eq!(key(&source).await.as_deref(), Ok("key-1"));
        hands.is_broken.store(1, Ordering::Relaxed);
        hands.time.store(3_550_000, Ordering::Relaxed);
        assert_eq!(key(&source).await.as_deref(), Ok("key-1"));
        assert_eq!(key(&source).await.as_deref(), Ok("key-1"), "not asked again at once");
        assert_eq!(hands.issued.load(Ordering::Relaxed), 2);
        hands.time.store(3_600_000, Ordering::Relaxed);
        let asked = futures_util::future::join_all((0..50).map(|_| key(&source))).await;
        assert!(asked.iter().all(Result::is_err));
        assert_eq!(hands.issued.load(Ordering::Relaxed), 3, "those who wait share a failure, too");
        hands.is_broken.store(0, Ordering::Relaxed);
        hands.time.store(3_601_000, Ordering::Relaxed);
        assert_eq!(key(&source).await.as_deref(), Ok("key-4"));
    }
}
