//! Receiving data: in memory as long as it is small, in a file beyond; and what is all there, but mentioned by no commit.

use super::DataStore;
use super::files::{DataFiles, NewFile, Unmentioned};
use super::keys::key_in_store;
use super::reader::Reader;
use super::used::Counted;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::io;

/// Data of at most so many bytes is small. An upload keeps no more in memory, 32 MiB for all connections of a site; and
/// beyond it the two disk syncs of a file cost less than writing the bytes does.
pub(in crate::site) const SMALL_MAX: usize = 32 << 10;

/// Data that is being received. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub(in crate::site) struct Incoming {
    files: DataFiles,
    md5: Md5,
    counted: Counted,
    gathered: Gathered,
}

/// Where the bytes so far are.
#[derive(Debug)]
enum Gathered {
    Memory(Vec<u8>),
    File(NewFile),
}

/// Data that is all there and that no commit mentions yet: dropped, it leaves nothing. If it is large it is durable.
#[derive(Debug)]
pub(in crate::site) struct Stored {
    pub(super) key: String,
    pub(super) counted: Counted,
    pub(super) lies: Lies,
}

/// Where the bytes lie before a commit mentions them.
#[derive(Debug)]
pub(super) enum Lies {
    Memory(Bytes),
    File(Unmentioned),
}

impl Incoming {
    /// Nothing so far.
    pub(super) fn new(files: DataFiles) -> Self {
        let counted = Counted::new(files.used(), 0);
        Self { files, md5: Md5::new(), counted, gathered: Gathered::Memory(Vec::new()) }
    }

    /// Appends bytes.
    pub(in crate::site) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.counted.add(bytes.len() as u64);
        match &mut self.gathered {
            Gathered::Memory(gathered) if gathered.len() + bytes.len() <= SMALL_MAX => {
                gathered.extend_from_slice(bytes);
            }
            Gathered::Memory(gathered) => {
                let mut file = self.files.create().await?;
                file.write(gathered).await?;
                file.write(bytes).await?;
                self.gathered = Gathered::File(file);
            }
            Gathered::File(file) => file.write(bytes).await?,
        }
        Ok(())
    }

    /// Bytes so far.
    pub(in crate::site) fn size(&self) -> u64 {
        self.counted.bytes()
    }

    /// Lower-case hexadecimal MD5 of the bytes so far.
    pub(in crate::site) fn md5(&self) -> String {
        hex::encode(self.md5.clone().finalize())
    }

    /// Ends it; what is large is made durable.
    pub(in crate::site) async fn finish(self) -> io::Result<Stored> {
        let (key, lies) = match self.gathered {
            Gathered::Memory(bytes) => (key_in_store()?, Lies::Memory(bytes.into())),
            Gathered::File(file) => {
                let (key, unmentioned) = file.finish().await?;
                (key, Lies::File(unmentioned))
            }
        };
        Ok(Stored { key, counted: self.counted, lies })
    }
}

impl Stored {
    /// Its data key.
    pub(in crate::site) fn key(&self) -> &str {
        &self.key
    }

    /// Begins to read it.
    pub(in crate::site) async fn read(&self, data: &DataStore) -> io::Result<Reader> {
        match &self.lies {
            Lies::Memory(bytes) => Ok(Reader::Memory(bytes.clone())),
            Lies::File(_) => Ok(Reader::File(data.files.read(&self.key).await?, self.counted.bytes())),
        }
    }

    /// It is mentioned: the bytes stay.
    pub(super) fn keep(self) {
        self.counted.keep();
        if let Lies::File(unmentioned) = self.lies {
            unmentioned.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::used::Used;
    use super::*;

    #[tokio::test]
    async fn what_is_gathered_in_memory_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let files = DataFiles::open(directory.path(), Used::default()).unwrap();
        for size in [0, 9, SMALL_MAX, SMALL_MAX + 1] {
            let mut incoming = Incoming::new(files.clone());
            for chunk in vec![7; size].chunks(1000) {
                incoming.write(chunk).await.unwrap();
            }
            assert_eq!(incoming.size(), size as u64);
            assert_eq!(incoming.md5(), hex::encode(Md5::digest(vec![7; size])));
            assert_eq!(matches!(incoming.gathered, Gathered::Memory(_)), size <= SMALL_MAX);
        }
    }
}
