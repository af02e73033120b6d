//! How long a client is waited for: bodies that bring nothing, and answers that nobody takes.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Of a body that nobody wants so much is read.
const REST_BYTES_MAX: usize = 16 << 20;
/// A body that nobody wants is read for so long.
const REST_TIME_MAX: Duration = Duration::from_secs(2);

/// Measures how long nothing has happened.
struct Silence {
    time_max: Duration,
    timer: Pin<Box<Sleep>>,
    is_running: bool,
}

impl Silence {
    fn new(time_max: Duration) -> Self {
        Self { time_max, timer: Box::pin(sleep(time_max)), is_running: false }
    }

    /// Something happened.
    fn end(&mut self) {
        self.is_running = false;
    }

    /// Nothing happened; true if that has been so for too long.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if !self.is_running {
            self.is_running = true;
            self.timer.as_mut().reset(Instant::now() + self.time_max);
        }
        self.timer.as_mut().poll(context).is_ready()
    }
}

/// A request body that fails when it brings nothing for too long.
pub(super) struct SteadyBody<B> {
    body: Arc<Mutex<B>>,
    silence: Silence,
}

/// What is left of a request body when the request has been answered.
pub(super) struct Rest<B>(Arc<Mutex<B>>);

impl<B> SteadyBody<B> {
    pub(super) fn new(body: B, silence_max: Duration) -> (Self, Rest<B>) {
        let body = Arc::new(Mutex::new(body));
        (Self { body: Arc::clone(&body), silence: Silence::new(silence_max) }, Rest(body))
    }
}

/// Nobody panics while holding a body.
fn lock<B>(body: &Mutex<B>) -> MutexGuard<'_, B> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads what is left, within bounds: a client that is still sending when the connection closes may never see the
    /// answer.
    pub(super) async fn read(self) {
        let read = async {
            let mut left = REST_BYTES_MAX;
            while let Some(Ok(frame)) =
                poll_fn(|context| Pin::new(&mut *lock(&self.0)).poll_frame(context)).await
            {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        if tokio::time::timeout(REST_TIME_MAX, read).await.is_err() {
            tracing::debug!("a refused body is too slow to be read to its end");
        }
    }
}

impl<B> Body for SteadyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *lock(&this.body)).poll_frame(context);
        match polled {
            Poll::Ready(frame) => {
                this.silence.end();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if this.silence.is_over(context) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the body brought nothing for too long");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.body).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.body).size_hint()
    }
}

/// A connection whose writes fail when the other side takes nothing for too long.
pub(super) struct SteadyStream<IO> {
    stream: IO,
    silence: Silence,
}

impl<IO> SteadyStream<IO> {
    pub(super) fn new(stream: IO, silence_max: Duration) -> Self {
        Self { stream, silence: Silence::new(silence_max) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for SteadyStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> SteadyStream<IO> {
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: impl FnOnce(Pin<&mut IO>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match written(Pin::new(&mut self.stream), context) {
            Poll::Ready(written) => {
                self.silence.end();
                Poll::Ready(written)
            }
            Poll::Pending if self.silence.is_over(context) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer was not taken")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for SteadyStream<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().watch(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().watch(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().watch(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().watch(context, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const MOMENT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up_and_one_that_is_slow_is_not() {
        let whole = SteadyBody::new(Full::new(Bytes::from_static(b"all")), MOMENT).0.collect().await.unwrap();
        assert_eq!(whole.to_bytes(), "all");
        let slow = futures_util::stream::unfold(0, |count| async move {
            sleep(MOMENT / 2).await;
            let frame = Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x")));
            (count < 10).then_some((frame, count + 1))
        });
        let slow = SteadyBody::new(StreamBody::new(Box::pin(slow)), MOMENT).0.collect().await.unwrap();
        assert_eq!(slow.to_bytes().len(), 10);
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, io::Error>>();
        let error = SteadyBody::new(StreamBody::new(silent), MOMENT).0.collect().await.unwrap_err();
        assert!(error.to_string().contains("nothing for too long"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let (mut far, near) = tokio::io::duplex(16);
        let mut near = SteadyStream::new(near, MOMENT);
        near.write_all(b"0123456789").await.unwrap();
        let error = near.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 10];
        far.read_exact(&mut taken).await.unwrap();
        near.write_all(b"again").await.unwrap();
    }
}
