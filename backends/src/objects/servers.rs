//! The servers of a site: which of them is asked, who asks, how long may be waited.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Response;
use http_body_util::{BodyExt, BodyStream};
use tokio::time::Instant;

use super::answer::{refused, unreadable, without_answer};
use super::body::{BodyError, ByteStream};
use crate::credentials::{CredentialSource, Credentials, CredentialsError};
use crate::http::{Request, SignedClient, Stream};

/// Largest answer that is collected: metadata of 10,000 parts fits several times.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How often refusals are taken for a sign that the credentials are not what they should be.
const RENEWAL_INTERVAL: Duration = Duration::from_mins(1);

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// A call without data, from its start to the end of the answer.
    pub call: Duration,
    /// From a read of data to the head of the answer, and from one chunk to the next.
    pub chunk: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { call: Duration::from_secs(30), chunk: Duration::from_secs(30) }
    }
}

/// One or more equal servers, asked in the name of whoever `credentials` says.
#[derive(Debug)]
pub(super) struct Servers<C> {
    clients: Vec<SignedClient>,
    /// Index of the server to ask; moves on when one does not serve.
    current: AtomicUsize,
    credentials: Arc<C>,
    pub(super) limits: TimeLimits,
    /// When other credentials were asked for because the site refused.
    renewed: Mutex<Option<Instant>>,
}

impl<C: CredentialSource> Servers<C> {
    /// These servers.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn new(clients: Vec<SignedClient>, credentials: Arc<C>, limits: TimeLimits) -> Self {
        assert!(!clients.is_empty(), "a site has at least one server");
        Self { clients, current: AtomicUsize::new(0), credentials, limits, renewed: Mutex::default() }
    }

    /// The server to ask and the credentials to sign with.
    async fn client<T>(&self) -> Result<(SignedClient, Credentials), Ending<T>> {
        let credentials = self.credentials.current().await.map_err(|error| {
            let kind = match error {
                CredentialsError::Denied(_) => RefusalKind::Denied,
                CredentialsError::Unavailable(_) => RefusalKind::Unavailable,
            };
            Ending::Refused(Refusal::new(kind, error.to_string()))
        })?;
        let server = &self.clients[self.current.load(Ordering::Relaxed) % self.clients.len()];
        Ok((server.with_credentials((&credentials).into()), credentials))
    }

    /// Lets an ending pass, and draws the conclusions: another server, other credentials.
    async fn conclude<T>(&self, ending: Ending<T>, used: &Credentials) -> Ending<T> {
        match &ending {
            Ending::Unknown => self.turn(),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Unavailable => self.turn(),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::ExpiredCredentials => {
                self.credentials.reject(used).await;
            }
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Denied => {
                if self.has_other_credentials(used).await {
                    let code = refusal.code.clone();
                    return Ending::Refused(Refusal::new(RefusalKind::ExpiredCredentials, code));
                }
            }
            Ending::Applied(_) | Ending::Refused(_) => {}
        }
        ending
    }

    /// Whether keys that were refused may have been others than they should be: rotated, or withdrawn before their time. New
    /// ones are asked for, not more often than now and then: what is refused to them, too, is refused.
    async fn has_other_credentials(&self, used: &Credentials) -> bool {
        let is_time = {
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let is_time = renewed.is_none_or(|time| time.elapsed() >= RENEWAL_INTERVAL);
            if is_time {
                *renewed = Some(Instant::now());
            }
            is_time
        };
        if is_time {
            self.credentials.reject(used).await;
        }
        self.credentials.current().await.is_ok_and(|now| now != *used)
    }

    fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// One call that is answered in one piece within `time_max`; what succeeded is read by `read`.
    pub(super) async fn call<T>(
        &self,
        request: Request,
        time_max: Duration,
        read: impl FnOnce(Response<Bytes>) -> Ending<T> + Send,
    ) -> Ending<T> {
        let read = |answer: Response<Bytes>| {
            if answer.status().is_success() { read(answer) } else { refused(&answer) }
        };
        self.exchange(request, time_max, read).await
    }

    /// One call whose answer is read by `read`, whatever its status.
    pub(super) async fn exchange<T>(
        &self,
        request: Request,
        time_max: Duration,
        read: impl FnOnce(Response<Bytes>) -> Ending<T> + Send,
    ) -> Ending<T> {
        let (client, used) = match self.client().await {
            Ok(client) => client,
            Err(ending) => return ending,
        };
        let ending = match client.fetch(request, time_max, ANSWER_BYTES_MAX).await {
            Ok(answer) => read(answer),
            Err(error) => without_answer(&error),
        };
        self.conclude(ending, &used).await
    }

    /// Opens bytes.
    pub(super) async fn read(&self, request: Request) -> Ending<ByteStream> {
        let (client, used) = match self.client().await {
            Ok(client) => client,
            Err(ending) => return ending,
        };
        let ending = match client.send(request, self.limits.chunk).await {
            Ok(answer) => self.open(answer).await,
            Err(error) => without_answer(&error),
        };
        self.conclude(ending, &used).await
    }

    /// The head of an answer to a read of bytes, or what was refused.
    async fn open(&self, answer: Response<Stream>) -> Ending<ByteStream> {
        if !answer.status().is_success() {
            let (head, body) = answer.into_parts();
            let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect();
            let body = match tokio::time::timeout(self.limits.chunk, body).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(_)) | Err(_) => Bytes::new(),
            };
            return refused(&Response::from_parts(head, body));
        }
        let length = answer.headers().get(http::header::CONTENT_LENGTH);
        let Some(size) = length.and_then(|length| length.to_str().ok()?.parse().ok()) else {
            return unreadable("no Content-Length");
        };
        Ending::Applied(ByteStream::new(size, chunks(answer.into_body(), self.limits.chunk)))
    }
}

/// The chunks of an answer; one that is too long in coming ends the stream.
fn chunks(
    body: Stream,
    time_max: Duration,
) -> impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    stream::unfold(Some(BodyStream::new(body)), move |state| async move {
        let mut body = state?;
        loop {
            match tokio::time::timeout(time_max, body.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), Some(body)));
                    }
                }
                Ok(Some(Err(error))) => return Some((Err(BodyError::Broken(error.to_string())), None)),
                Err(_) => {
                    let idle = format!("nothing came for {} s", time_max.as_secs());
                    return Some((Err(BodyError::Broken(idle)), None));
                }
            }
        }
    })
}
