//! The bytes of objects: one file a piece, written aside, made durable, then moved into place.
//!
//! A file belongs to an object only once a metadata commit says so; what no commit mentions is swept when the site
//! opens. Files are never changed after they got their name.

use md5::{Digest, Md5};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Where files are written before they get their name.
const INCOMING: &str = "incoming";
/// Files are spread over this many folders, named by the first byte of the key.
const FOLDERS: u16 = 256;

/// The data files of one site.
#[derive(Clone, Debug)]
pub(super) struct DataFiles {
    root: PathBuf,
    /// While somebody copies the files: the keys that are to be removed afterwards.
    held: Arc<Mutex<Option<Vec<String>>>>,
    /// Bytes of all files, those that are being written included.
    used: Arc<AtomicU64>,
}

/// As long as it lives no file is removed.
#[derive(Debug)]
pub(super) struct Hold(DataFiles);

/// A durable file that no metadata mentions yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its key: 40 hexadecimal digits.
    pub(super) key: String,
    /// Bytes.
    pub(super) size: u64,
    /// Lower-case hexadecimal MD5 of the bytes.
    pub(super) md5: String,
}

/// A file being written. Dropped before [`Incoming::finish`], it leaves nothing.
#[derive(Debug)]
pub(super) struct Incoming {
    files: DataFiles,
    key: String,
    path: PathBuf,
    file: File,
    md5: Md5,
    size: u64,
    is_finished: bool,
}

/// Random hexadecimal digits from the operating system.
pub(super) fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}

impl DataFiles {
    /// Opens, or creates, the folders under `root`.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        Self::create_folders(root)?;
        let incoming = root.join(INCOMING);
        // Whatever was being written when the process ended belongs to nobody.
        if incoming.exists() {
            std::fs::remove_dir_all(&incoming)?;
        }
        std::fs::create_dir_all(&incoming)?;
        std::fs::File::open(root)?.sync_all()?;
        Ok(Self { root: root.into(), held: Arc::default(), used: Arc::default() })
    }

    /// Bytes of all files, those that are being written included.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn less(&self, bytes: u64) {
        // It never goes below zero, whatever became of files behind our back.
        let less = |used: u64| Some(used.saturating_sub(bytes));
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
    }

    /// Puts removals off. Nothing if somebody else does so already.
    pub(super) fn hold(&self) -> Option<Hold> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return None;
        }
        *held = Some(Vec::new());
        Some(Hold(self.clone()))
    }

    /// Gives the file of a key another name too, in the data folder of a copy; where that cannot be, copies it.
    pub(super) fn link(&self, key: &str, root: &Path) -> io::Result<u64> {
        let path = self.path(key).ok_or(io::ErrorKind::InvalidData)?;
        let copy = root.join(&key[..2]).join(key);
        // Files are never changed once they have their name.
        if std::fs::hard_link(&path, &copy).is_err() {
            std::fs::copy(&path, &copy)?;
            std::fs::File::open(&copy)?.sync_all()?;
        }
        Ok(std::fs::metadata(&copy)?.len())
    }

    /// Creates the folders of a data folder.
    pub(super) fn create_folders(root: &Path) -> io::Result<()> {
        (0..FOLDERS).try_for_each(|folder| std::fs::create_dir_all(root.join(format!("{folder:02x}"))))
    }

    /// Makes the names in a data folder durable.
    pub(super) fn sync_folders(root: &Path) -> io::Result<()> {
        for folder in 0..FOLDERS {
            std::fs::File::open(root.join(format!("{folder:02x}")))?.sync_all()?;
        }
        std::fs::File::open(root)?.sync_all()
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        let is_ours = key.len() == 40 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_ours.then(|| self.root.join(&key[..2]).join(key))
    }

    /// Starts a new file.
    pub(super) async fn create(&self) -> io::Result<Incoming> {
        let key = random_hex::<20>()?;
        let path = self.root.join(INCOMING).join(&key);
        let file = File::create_new(&path).await?;
        Ok(Incoming { files: self.clone(), key, path, file, md5: Md5::new(), size: 0, is_finished: false })
    }

    /// Opens a file for reading.
    pub(super) async fn read(&self, key: &str) -> io::Result<File> {
        let path = self.path(key).ok_or(io::ErrorKind::NotFound)?;
        File::open(path).await
    }

    /// Gives the bytes of a file a second name, durable like the first. Files never change, so that both may share what
    /// lies on the disk; where they cannot, they are copied.
    pub(super) async fn duplicate(&self, key: &str) -> io::Result<String> {
        let from = self.path(key).ok_or(io::ErrorKind::NotFound)?;
        let new = random_hex::<20>()?;
        let to = self.path(&new).ok_or(io::ErrorKind::InvalidData)?;
        let incoming = self.root.join(INCOMING).join(&new);
        let duplicated = tokio::task::spawn_blocking(move || {
            match std::fs::hard_link(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::fs::copy(&from, &incoming)?;
                    std::fs::File::open(&incoming)?.sync_all()?;
                    std::fs::rename(&incoming, &to)?;
                }
                linked => linked?,
            }
            let folder = to.parent().ok_or(io::ErrorKind::InvalidData)?;
            std::fs::File::open(folder)?.sync_all()
        });
        duplicated.await.map_err(io::Error::other)??;
        Ok(new)
    }

    /// Removes files that no metadata mentions any more. A file that stays is swept when the site opens next.
    pub(super) async fn remove(&self, keys: Vec<String>) {
        if let Some(held) = self.held.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            held.extend(keys);
            return;
        }
        for path in keys.iter().filter_map(|key| self.path(key)) {
            let bytes = tokio::fs::metadata(&path).await.map_or(0, |file| file.len());
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file = %path.display(), "a data file stays until the next start");
            } else {
                self.less(bytes);
            }
        }
    }

    /// Removes every file whose key is not in `known`, and counts the bytes of the others; answers how many went.
    pub(super) fn sweep(&self, known: &BTreeSet<String>) -> io::Result<u64> {
        let mut removed = 0;
        for folder in 0..FOLDERS {
            for file in std::fs::read_dir(self.root.join(format!("{folder:02x}")))? {
                let file = file?;
                if file.file_name().to_str().is_none_or(|name| !known.contains(name)) {
                    std::fs::remove_file(file.path())?;
                    removed += 1;
                } else {
                    self.used.fetch_add(file.metadata()?.len(), Ordering::Relaxed);
                }
            }
        }
        Ok(removed)
    }
}

impl Hold {
    /// Ends it and removes what was put off.
    pub(super) async fn release(self) {
        let put_off = self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.0.remove(put_off.unwrap_or_default()).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Without a release the files stay until the site opens next and sweeps them.
        drop(self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Incoming {
    /// Appends bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        self.files.used.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all(bytes).await
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Lower-case hexadecimal MD5 of the bytes so far.
    pub(super) fn md5(&self) -> String {
        hex::encode(self.md5.clone().finalize())
    }

    /// Makes the file durable under its name.
    pub(super) async fn finish(mut self) -> io::Result<Stored> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let path = self.files.path(&self.key).ok_or(io::ErrorKind::InvalidData)?;
        let from = self.path.clone();
        tokio::task::spawn_blocking(move || {
            std::fs::rename(&from, &path)?;
            let folder = path.parent().ok_or(io::ErrorKind::InvalidData)?;
            std::fs::File::open(folder)?.sync_all()
        })
        .await
        .map_err(io::Error::other)??;
        self.is_finished = true;
        let md5 = hex::encode(std::mem::take(&mut self.md5).finalize());
        Ok(Stored { key: std::mem::take(&mut self.key), size: self.size, md5 })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_finished {
            self.files.less(self.size);
        }
        if !self.is_finished
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, file = %self.path.display(), "an abandoned file stays until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_file_has_a_name_only_when_it_is_finished_and_unknown_ones_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        let files = DataFiles::open(directory.path()).unwrap();
        let mut kept = files.create().await.unwrap();
        kept.write(b"hello ").await.unwrap();
        kept.write(b"lab").await.unwrap();
        let kept = kept.finish().await.unwrap();
        assert_eq!((kept.size, kept.md5.as_str()), (9, "fdc8467c55bed05303bcb96e9f9e8e02"));
        let lost = files.create().await.unwrap().finish().await.unwrap();
        drop(files.create().await.unwrap());
        assert_eq!(std::fs::read_dir(directory.path().join(INCOMING)).unwrap().count(), 0);

        let files = DataFiles::open(directory.path()).unwrap();
        assert_eq!(files.sweep(&BTreeSet::from([kept.key.clone()])).unwrap(), 1);
        files.read(&lost.key).await.unwrap_err();
        let mut bytes = Vec::new();
        files.read(&kept.key).await.unwrap().read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"hello lab");
        files.read("../../etc/passwd").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_duplicate_outlives_its_original() {
        let directory = tempfile::tempdir().unwrap();
        let files = DataFiles::open(directory.path()).unwrap();
        let mut original = files.create().await.unwrap();
        original.write(b"hello").await.unwrap();
        let original = original.finish().await.unwrap();
        let copy = files.duplicate(&original.key).await.unwrap();
        assert_ne!(copy, original.key);
        files.remove(vec![original.key.clone()]).await;
        let mut bytes = Vec::new();
        files.read(&copy).await.unwrap().read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"hello");
        assert_eq!(files.duplicate(&original.key).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
