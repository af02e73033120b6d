//! Bytes on their way: chunks as they come, with their number announced and their end checked.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use md5::{Digest, Md5};

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
        Self { size, chunks: Box::pin(checked) }
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

    /// The same stream, watched: the meter learns its digest, its end, and whether it failed.
    pub(super) fn metered(self) -> (Self, Meter) {
        let meter = Meter::default();
        let (size, watching) = (self.size, meter.clone());
        let watched = self.chunks.map(move |chunk| {
            watching.see(&chunk);
            chunk
        });
        (Self { size, chunks: Box::pin(watched) }, meter)
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

/// What passed through a stream so far.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<Mutex<Passed>>);

#[derive(Default)]
struct Passed {
    md5: Md5,
    error: Option<BodyError>,
}

impl Meter {
    fn see(&self, chunk: &Result<Bytes, BodyError>) {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match chunk {
            Ok(chunk) => passed.md5.update(chunk),
            Err(error) => passed.error = Some(error.clone()),
        }
    }

    /// Lower-case hex MD5 of what passed.
    pub(super) fn md5(&self) -> String {
        let passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hex::encode(passed.md5.clone().finalize())
    }

    /// How the stream failed, if it did.
    pub(super) fn error(&self) -> Option<BodyError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).error.clone()
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
}
