//! Reading data piece by piece, wherever it lies.

use bytes::{Bytes, BytesMut};
use std::io;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Bytes read from a file at once.
const CHUNK: usize = 64 << 10;

/// Bytes of one data key that are being read.
#[derive(Debug)]
pub(in crate::site) enum Reader {
    /// All of them.
    Memory(Bytes),
    /// As many of a file.
    File(File, u64),
}

impl Reader {
    /// The next bytes; none at the end.
    pub(in crate::site) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Self::File(_, 0) => Ok(None),
            Self::File(file, left) => {
                let wanted = usize::try_from((*left).min(CHUNK as u64)).unwrap_or(CHUNK);
                let mut chunk = BytesMut::with_capacity(wanted);
                let read = file.take(wanted as u64).read_buf(&mut chunk).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= read as u64;
                Ok(Some(chunk.freeze()))
            }
        }
    }
}
