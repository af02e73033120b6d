//! Reading the bytes of an object from its files.

use super::metadata::Site;
use backbeat_core::model::Location;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use s3s::dto::StreamingBlob;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes read from a file at once.
const CHUNK: usize = 64 << 10;

/// The pieces of files that make up an answer, read one after the other.
pub(super) struct Pieces {
    /// Data key, first byte, bytes; the next one last.
    waiting: Vec<(String, u64, u64)>,
    open: Option<(File, u64)>,
}

impl Pieces {
    /// Those that hold `length` bytes from `start` on.
    pub(super) fn of(locations: &[Location], start: u64, length: u64) -> Self {
        let end = start + length;
        let mut waiting: Vec<_> = locations
            .iter()
            .filter_map(|location| {
                let from = start.max(location.start);
                let to = end.min(location.start.saturating_add(location.size));
                (from < to).then(|| (location.key.to_string(), from - location.start, to - from))
            })
            .collect();
        waiting.reverse();
        Self { waiting, open: None }
    }

    /// Opens the next file if none is open; answers whether there is more to read.
    pub(super) async fn open(&mut self, site: &Site) -> std::io::Result<bool> {
        if self.open.is_none()
            && let Some((key, from, length)) = self.waiting.pop()
        {
            let mut file = site.files().read(&key).await?;
            file.seek(std::io::SeekFrom::Start(from)).await?;
            self.open = Some((file, length));
        }
        Ok(self.open.is_some())
    }

    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self, site: &Site) -> std::io::Result<Option<Bytes>> {
        if !self.open(site).await? {
            return Ok(None);
        }
        let Some((file, left)) = &mut self.open else { return Ok(None) };
        let wanted = usize::try_from((*left).min(CHUNK as u64)).unwrap_or(CHUNK);
        let mut chunk = BytesMut::with_capacity(wanted);
        let read = (&mut *file).take(wanted as u64).read_buf(&mut chunk).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        if *left == 0 {
            self.open = None;
        }
        Ok(Some(chunk.freeze()))
    }

    /// All of it, as the body of an answer.
    pub(super) fn stream(self, site: &Arc<Site>) -> StreamingBlob {
        let state = (self, Arc::clone(site));
        StreamingBlob::wrap(stream::try_unfold(state, |(mut pieces, site)| async move {
            let chunk: Option<Bytes> = pieces.next(&site).await?;
            Ok::<_, std::io::Error>(chunk.map(|chunk| (chunk, (pieces, site))))
        }))
    }
}
