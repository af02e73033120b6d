//! Reading the bytes of an object, one piece after the other.

use super::data::Reader;
use super::metadata::Site;
use backbeat_core::model::Location;
use bytes::Bytes;
use futures_util::stream;
use s3s::Body;
use s3s::dto::StreamingBlob;
use std::sync::Arc;

/// The pieces of data that make up an answer, read one after the other.
pub(super) struct Pieces {
    /// Data key, first byte, bytes; the next one last.
    waiting: Vec<(String, u64, u64)>,
    open: Option<Reader>,
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

    /// Opens the next piece if none is open; answers whether there is more to read.
    pub(super) async fn open(&mut self, site: &Site) -> std::io::Result<bool> {
        if self.open.is_none()
            && let Some((key, from, length)) = self.waiting.pop()
        {
            self.open = Some(site.data().read(&key, from, length).await?);
        }
        Ok(self.open.is_some())
    }

    /// The next bytes; none at the end.
    async fn next(&mut self, site: &Site) -> std::io::Result<Option<Bytes>> {
        while self.open(site).await? {
            if let Some(reader) = &mut self.open
                && let Some(bytes) = reader.next().await?
            {
                return Ok(Some(bytes));
            }
            self.open = None;
        }
        Ok(None)
    }

    /// All of it, as the body of an answer.
    pub(super) fn stream(self, site: &Arc<Site>) -> StreamingBlob {
        match self.open {
            Some(Reader::Memory(bytes)) if self.waiting.is_empty() => Body::from(bytes).into(),
            open => {
                let state = (Self { open, ..self }, Arc::clone(site));
                StreamingBlob::wrap(stream::try_unfold(state, |(mut pieces, site)| async move {
                    let chunk: Option<Bytes> = pieces.next(&site).await?;
                    Ok::<_, std::io::Error>(chunk.map(|chunk| (chunk, (pieces, site))))
                }))
            }
        }
    }
}
