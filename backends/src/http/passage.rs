//! How a client reaches a server of its own process: the server answers in the client's task.
//!
//! What travels is the same as over a connection: signed requests of HTTP and their answers, bodies as streams. Only the bytes in
//! between are saved, with their copies, system calls and wake-ups. As with a connection, a request that its client no longer
//! waits for is given up, and a server that stops lets those end that it has begun.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a client sends or is answered, as a stream.
pub type Stream = UnsyncBoxBody<Bytes, Interrupted>;

/// A stream that broke off.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Interrupted(#[from] BoxError);

impl From<&str> for Interrupted {
    fn from(message: &str) -> Self {
        Self(message.into())
    }
}

/// What a server does with a request.
pub type Handler = Arc<dyn Fn(Request<Stream>) -> Answering + Send + Sync>;

/// An answer in the making.
pub type Answering = Pin<Box<dyn Future<Output = Response<Stream>> + Send>>;

/// A server that has not opened its door yet is waited for.
const OPENING_TIME_MAX: Duration = Duration::from_secs(5);
const STOPPED: &str = "the server has stopped";

/// The client's end of a way through the process.
#[derive(Clone)]
pub struct Passage {
    state: watch::Receiver<State>,
    inside: Inside,
}

/// The server's end. When it goes, whoever is inside is sent away.
pub struct Door {
    state: watch::Sender<State>,
    inside: Inside,
}

#[derive(Clone)]
enum State {
    Opening,
    Open(Handler),
    Closed,
}

/// The requests that have begun and whose answers have not been read to their end.
#[derive(Clone)]
struct Inside {
    requests: TaskTracker,
    cut_off: CancellationToken,
}

/// How a request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// The server never saw it.
    Away(&'static str),
    /// The server gave it up.
    Off(&'static str),
}

/// A new way, which leads nowhere until its door is opened.
pub fn passage() -> (Passage, Door) {
    let (sender, receiver) = watch::channel(State::Opening);
    let inside = Inside { requests: TaskTracker::new(), cut_off: CancellationToken::new() };
    (Passage { state: receiver, inside: inside.clone() }, Door { state: sender, inside })
}

impl Passage {
    /// Has `request` answered, whatever host and port it names.
    pub(super) async fn send(&self, mut request: Request<Stream>) -> Result<Response<Stream>, Turned> {
        // Taken before the look at the state: who closes the door and then waits, waits for this request too.
        let inside = self.inside.requests.token();
        let handler = self.handler().await?;
        *request.uri_mut() = origin_form(request.uri());
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        let is_head = request.method() == Method::HEAD;
        let request = request.map(|body| Declared { body, left: length, is_over: false }.boxed_unsync());
        let response = tokio::select! {
            biased;
            response = handler(request) => framed(response, is_head),
            () = self.inside.cut_off.cancelled() => return Err(Turned::Off(STOPPED)),
        };
        let cut_off = self.inside.cut_off.clone();
        Ok(response.map(|body| Answer { body, cut_off, _inside: inside }.boxed_unsync()))
    }

    async fn handler(&self) -> Result<Handler, Turned> {
        if let State::Open(handler) = &*self.state.borrow() {
            return Ok(Arc::clone(handler));
        }
        let mut state = self.state.clone();
        let opened = state.wait_for(|state| !matches!(state, State::Opening));
        match tokio::time::timeout(OPENING_TIME_MAX, opened).await {
            Err(_) => Err(Turned::Away("the server does not answer yet")),
            Ok(Err(_)) => Err(Turned::Away(STOPPED)),
            Ok(Ok(state)) => match &*state {
                State::Open(handler) => Ok(Arc::clone(handler)),
                State::Opening | State::Closed => Err(Turned::Away(STOPPED)),
            },
        }
    }
}

impl Door {
    /// From now on `handler` answers.
    pub fn open(&self, handler: Handler) {
        self.state.send_replace(State::Open(handler));
    }

    /// Lets nobody in any more, and ends when the last one has left.
    pub async fn close(&self) {
        self.state.send_replace(State::Closed);
        self.inside.requests.close();
        self.inside.requests.wait().await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.state.send_replace(State::Closed);
        self.inside.cut_off.cancel();
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Passage").finish_non_exhaustive()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Door").finish_non_exhaustive()
    }
}

/// What a server reads on the request line.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// The answer as it would arrive: with its length, if that is known, and without a body where there can be none.
fn framed(mut response: Response<Stream>, is_head: bool) -> Response<Stream> {
    let status = response.status();
    let has_none = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if !has_none
        && !response.headers().contains_key(CONTENT_LENGTH)
        && let Some(length) = response.body().size_hint().exact()
        && !(is_head && length == 0)
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    if has_none || is_head {
        *response.body_mut() = Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    response
}

/// A request's body, which has to be as long as its head says. It may be polled after its end, as a body off a connection may.
struct Declared {
    body: Stream,
    left: u64,
    is_over: bool,
}

impl http_body::Body for Declared {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        self.is_over = !matches!(frame, Some(Ok(_)));
        let frame = match frame {
            None if self.left > 0 => Err("the body ended before its declared length".into()),
            None => return Poll::Ready(None),
            Some(frame) => frame,
        };
        let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(bytes) else {
            self.is_over = true;
            return Poll::Ready(Some(Err("the body is longer than declared".into())));
        };
        self.left = left;
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.left == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer's body. Its request is inside until it is dropped.
struct Answer {
    body: Stream,
    cut_off: CancellationToken,
    _inside: TaskTrackerToken,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if self.cut_off.is_cancelled() {
            return Poll::Ready(Some(Err(STOPPED.into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use http_body_util::{Full, StreamBody};
    use tokio::sync::oneshot;

    fn whole(bytes: Bytes) -> Stream {
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    }

    fn full(text: &'static str) -> Stream {
        whole(Bytes::from_static(text.as_bytes()))
    }

    fn request(method: Method, declared: u64, body: Stream) -> Request<Stream> {
        let request = Request::builder().method(method).uri("http://server:80/bucket/key?acl");
        request.header(CONTENT_LENGTH, declared).body(body).expect("a request")
    }

    /// Answers with what it was sent.
    fn echo() -> Handler {
        Arc::new(|request| {
            Box::pin(async move {
                assert_eq!(request.uri(), "/bucket/key?acl");
                let mut response = Response::new(Stream::default());
                let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                match body {
                    Ok(bytes) => *response.body_mut() = whole(bytes),
                    Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
                }
                response
            })
        })
    }

    async fn text(response: Response<Stream>) -> String {
        String::from_utf8(response.into_body().collect().await.expect("a body").to_bytes().to_vec())
            .expect("text")
    }

    #[tokio::test]
    async fn an_answer_arrives_as_over_a_connection() {
        let (passage, door) = passage();
        door.open(echo());
        let answer = passage.send(request(Method::PUT, 5, full("hello"))).await.expect("an answer");
        assert_eq!(answer.headers()[CONTENT_LENGTH], "5");
        assert_eq!(text(answer).await, "hello");
        let answer = passage.send(request(Method::HEAD, 5, full("hello"))).await.expect("an answer");
        assert_eq!(answer.headers()[CONTENT_LENGTH], "5");
        assert_eq!(text(answer).await, "");
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_declared_is_broken() {
        let (passage, door) = passage();
        door.open(echo());
        for declared in [4, 6] {
            let answer =
                passage.send(request(Method::PUT, declared, full("hello"))).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{declared}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_waited_for_until_it_opens_or_goes() {
        let (passage, door) = passage();
        let early = passage.send(request(Method::PUT, 0, full(""))).await;
        assert_eq!(early.err(), Some(Turned::Away("the server does not answer yet")));
        let waiting = tokio::spawn({
            let passage = passage.clone();
            async move { passage.send(request(Method::PUT, 0, full(""))).await.is_ok() }
        });
        tokio::task::yield_now().await;
        door.open(echo());
        assert!(waiting.await.expect("it ends"));
        drop(door);
        let late = passage.send(request(Method::PUT, 0, full(""))).await;
        assert_eq!(late.err(), Some(Turned::Away(STOPPED)));
    }

    #[tokio::test]
    async fn who_closes_waits_for_those_inside() {
        let (passage, door) = passage();
        let (send, release) = oneshot::channel::<()>();
        let release = release.map(drop).shared();
        door.open(Arc::new(move |_| {
            let release = release.clone();
            Box::pin(async move {
                release.await;
                Response::new(full("late"))
            })
        }));
        let mut asked = std::pin::pin!(passage.send(request(Method::PUT, 0, full(""))));
        assert!(asked.as_mut().now_or_never().is_none());
        let mut closing = std::pin::pin!(door.close());
        assert!(closing.as_mut().now_or_never().is_none());
        let refused = passage.send(request(Method::PUT, 0, full(""))).await;
        assert_eq!(refused.err(), Some(Turned::Away(STOPPED)));
        send.send(()).expect("somebody waits");
        let answer = asked.await.expect("it may end");
        assert!(closing.as_mut().now_or_never().is_none(), "the answer is not read yet");
        assert_eq!(text(answer).await, "late");
        closing.await;
    }

    #[tokio::test]
    async fn whoever_is_inside_when_the_server_goes_is_sent_away() {
        let (passage, door) = passage();
        let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
        door.open(Arc::new(move |request| {
            asked.send(()).expect("somebody listens");
            let is_put = request.method() == Method::PUT;
            Box::pin(async move {
                if is_put {
                    std::future::pending::<()>().await;
                }
                let endless = futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"x"))));
                Response::new(StreamBody::new(endless).boxed_unsync())
            })
        }));
        let got = passage.send(request(Method::GET, 0, full(""))).await.expect("an answer");
        let asked = tokio::spawn({
            let passage = passage.clone();
            async move { passage.send(request(Method::PUT, 0, full(""))).await.err() }
        });
        was_asked.recv().await;
        was_asked.recv().await;
        drop(door);
        assert_eq!(asked.await.expect("it ends"), Some(Turned::Off(STOPPED)));
        assert_eq!(got.into_body().collect().await.expect_err("it is cut off").to_string(), STOPPED);
    }
}
