//! Bytes on their way: chunks as they come, with their number announced and their end checked.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use md5::{Digest, Md5};
use tokio::time::Instant;

/// Why a stream of bytes ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or nothing came for too long.
    #[error("the bytes broke off: {0}")]
    Broken(String),
    /// There were fewer or more bytes than announced.
    #[error("{announced} bytes were announced and {received} came")]
    Length {
        /// What was announced.
        announced: u64,
        /// What came, as far as it was counted.
        received: u64,
    },
}

/// A stream of exactly so many bytes. It ends with an error if there are fewer or more.
pub struct ByteStream {
    size: u64,
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>,
    meter: Option<Meter>,
}

impl ByteStream {
    /// A stream of `size` bytes from `chunks`.
    pub fn new(size: u64, chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        let checked = stream::unfold(Some((Box::pin(chunks), 0_u64)), move |state| async move {
            let (mut chunks, received) = state?;
            match chunks.next().await {
                Some(Ok(chunk)) => {
                    let received = received + chunk.len() as u64;
                    if received > size {
                        return Some((Err(BodyError::Length { announced: size, received }), None));
                    }
                    Some((Ok(chunk), Some((chunks, received))))
                }
                Some(Err(error)) => Some((Err(error), None)),
                None if received < size => Some((Err(BodyError::Length { announced: size, received }), None)),
                None => None,
            }
        });
        Self { size, chunks: Box::pin(checked), meter: None }
    }

    /// A stream of bytes in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(bytes.len() as u64, stream::iter([Ok(bytes)]))
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// All bytes, up to `bytes_max`.
    ///
    /// # Errors
    /// The stream's, or [`BodyError::Length`] if there are more.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        if self.size > bytes_max as u64 {
            return Err(BodyError::Length { announced: bytes_max as u64, received: self.size });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        while let Some(chunk) = self.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes.into())
    }

    /// The same stream, watched: the meter learns its digest, its end, whether it failed, and when it stands still. A stream that
    /// is watched already keeps its meter: every byte is digested once.
    pub(super) fn metered(mut self) -> (Self, Meter) {
        if let Some(meter) = self.meter.clone() {
            return (self, meter);
        }
        let meter = Meter(Arc::new(Mutex::new(Passed {
            md5: Md5::new(),
            error: None,
            bytes_left: self.size,
            asked: false,
            moved_at: Instant::now(),
        })));
        self.chunks = Box::pin(Metered { chunks: self.chunks, meter: meter.clone() });
        self.meter = Some(meter.clone());
        (self, meter)
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("size", &self.size).finish_non_exhaustive()
    }
}

/// A stream whose meter sees each chunk, and whose turn it is.
struct Metered {
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>,
    meter: Meter,
}

impl Stream for Metered {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.chunks.as_mut().poll_next(context);
        self.meter.see(&polled);
        polled
    }
}

/// What passed through a stream so far.
#[derive(Clone)]
pub(super) struct Meter(Arc<Mutex<Passed>>);

struct Passed {
    md5: Md5,
    error: Option<BodyError>,
    bytes_left: u64,
    /// Whoever takes the bytes waits for the next ones.
    asked: bool,
    /// When bytes were last asked for, or came.
    moved_at: Instant,
}

impl Meter {
    fn see(&self, polled: &Poll<Option<Result<Bytes, BodyError>>>) {
        let mut passed = self.passed();
        passed.asked = polled.is_pending();
        passed.moved_at = Instant::now();
        match polled {
            Poll::Ready(Some(Ok(chunk))) => {
                passed.md5.update(chunk);
                passed.bytes_left = passed.bytes_left.saturating_sub(chunk.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => passed.error = Some(error.clone()),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lower-case hex MD5 of what passed.
    pub(super) fn md5(&self) -> String {
        hex::encode(self.passed().md5.clone().finalize())
    }

    /// How the stream failed, if it did.
    pub(super) fn error(&self) -> Option<BodyError> {
        self.passed().error.clone()
    }

    /// How many bytes have not been taken.
    pub(super) fn bytes_left(&self) -> u64 {
        self.passed().bytes_left
    }

    /// Returns when whoever takes the bytes has taken none for `chunk_time_max` while there were some, or has had all of them for
    /// `answer_time_max`. Bytes that do not come count for nothing: their source has a limit of its own.
    pub(super) async fn stalled(&self, chunk_time_max: Duration, answer_time_max: Duration) {
        loop {
            let until = {
                let passed = self.passed();
                let time_max = if passed.bytes_left == 0 { answer_time_max } else { chunk_time_max };
                let since =
                    if passed.asked && passed.bytes_left > 0 { Instant::now() } else { passed.moved_at };
                since + time_max
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
        stream::iter(sizes.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_stream_of_another_length_than_announced_ends_with_an_error() {
        assert_eq!(ByteStream::new(5, chunks(&[2, 3])).collect(10).await.map(|bytes| bytes.len()), Ok(5));
        for sizes in [[2, 2], [2, 4]] {
            let received = sizes.iter().sum::<usize>() as u64;
            let error = ByteStream::new(5, chunks(&sizes)).collect(10).await;
            assert_eq!(error, Err(BodyError::Length { announced: 5, received }));
        }
    }

    #[tokio::test]
    async fn the_meter_learns_digest_and_failure() {
        let (stream, meter) = ByteStream::full("hello").metered();
        stream.collect(10).await.expect("complete");
        assert_eq!((meter.md5().as_str(), meter.error()), ("5d41402abc4b2a76b9719d911017c592", None));
        let (stream, meter) = ByteStream::new(9, chunks(&[3])).metered();
        stream.collect(10).await.expect_err("too short");
        assert_eq!(meter.error(), Some(BodyError::Length { announced: 9, received: 3 }));
    }

    const CHUNK_TIME_MAX: Duration = Duration::from_secs(30);
    const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

    /// After how long `stalled` returned, in seconds, if it did within an hour.
    async fn stalled_after(meter: &Meter) -> Option<u64> {
        let begun = Instant::now();
        let stalled = meter.stalled(CHUNK_TIME_MAX, ANSWER_TIME_MAX);
        tokio::time::timeout(Duration::from_hours(1), stalled).await.ok()?;
        Some(begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_nobody_takes_stall() {
        let (mut stream, meter) = ByteStream::new(6, chunks(&[3, 3])).metered();
        assert_eq!(stalled_after(&meter).await, Some(30), "none taken");
        stream.next().await.expect("a chunk").expect("well");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((stalled_after(&meter).await, meter.bytes_left()), (Some(20), 3), "one of two taken");
        stream.next().await.expect("a chunk").expect("well");
        assert_eq!(
            (stalled_after(&meter).await, meter.bytes_left()),
            (Some(60), 0),
            "only the answer is missing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_do_not_come_are_not_stalled_by_who_takes_them() {
        let never = chunks(&[3]).chain(stream::pending());
        let (mut stream, meter) = ByteStream::new(6, never).metered();
        stream.next().await.expect("a chunk").expect("well");
        let taking = tokio::spawn(async move { stream.next().await });
        assert_eq!(stalled_after(&meter).await, None);
        taking.abort();
    }
}
