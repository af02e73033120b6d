//! Data in files: one a data key, written aside, made durable, then moved into place. Files are never changed after they
//! got their name.

use super::keys::is_data_key;
use super::used::Used;
use crate::site::random::random_hex;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

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
    used: Used,
    /// Where files are removed.
    runtime: Handle,
}

/// As long as it lives no file is removed.
#[derive(Debug)]
pub(in crate::site) struct Hold(DataFiles);

/// A file that is being written.
#[derive(Debug)]
pub(super) struct NewFile {
    key: String,
    to: PathBuf,
    file: File,
    unmentioned: Unmentioned,
}

/// A file that no commit mentions: it goes with this, unless it is kept.
#[derive(Debug)]
pub(super) struct Unmentioned {
    path: PathBuf,
    is_kept: bool,
}

impl Unmentioned {
    fn new(path: PathBuf) -> Self {
        Self { path, is_kept: false }
    }

    /// Moves the file to its durable name.
    fn rename(&mut self, to: PathBuf) -> io::Result<()> {
        std::fs::rename(&self.path, &to)?;
        self.path = to;
        self.sync_name()
    }

    fn sync_name(&self) -> io::Result<()> {
        let folder = self.path.parent().ok_or(io::ErrorKind::InvalidData)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// Leaves the file where it is.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Unmentioned {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, file = %self.path.display(), "an abandoned file stays until the next start");
        }
    }
}

impl DataFiles {
    /// Opens, or creates, the folders under `root`. Files will be removed by the runtime that this is called in.
    pub(super) fn open(root: &Path, used: Used) -> io::Result<Self> {
        Self::create_folders(root)?;
        let incoming = root.join(INCOMING);
        // Whatever was being written when the process ended belongs to nobody.
        if incoming.exists() {
            std::fs::remove_dir_all(&incoming)?;
        }
        std::fs::create_dir_all(&incoming)?;
        std::fs::File::open(root)?.sync_all()?;
        Ok(Self { root: root.into(), held: Arc::default(), used, runtime: Handle::current() })
    }

    pub(super) fn used(&self) -> &Used {
        &self.used
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

    fn path(&self, key: &str) -> Option<PathBuf> {
        is_data_key(key).then(|| self.root.join(&key[..2]).join(key))
    }

    /// A new key and its path.
    fn fresh(&self) -> io::Result<(String, PathBuf)> {
        let key = random_hex::<20>()?;
        let path = self.path(&key).ok_or(io::ErrorKind::InvalidData)?;
        Ok((key, path))
    }

    /// Starts a new file.
    pub(super) async fn create(&self) -> io::Result<NewFile> {
        let (key, to) = self.fresh()?;
        let path = self.root.join(INCOMING).join(&key);
        let file = File::create_new(&path).await?;
        Ok(NewFile { key, to, file, unmentioned: Unmentioned::new(path) })
    }

    /// Opens a file for reading.
    pub(super) async fn read(&self, key: &str) -> io::Result<File> {
        let path = self.path(key).ok_or(io::ErrorKind::NotFound)?;
        File::open(path).await
    }

    /// Gives the bytes of a file a second name, durable like the first; answers it and their number. Files never
    /// change, so that both may share what lies on the disk; where they cannot, they are copied.
    pub(super) async fn duplicate(&self, key: &str) -> io::Result<(String, Unmentioned, u64)> {
        let from = self.path(key).ok_or(io::ErrorKind::NotFound)?;
        let (new, to) = self.fresh()?;
        let incoming = self.root.join(INCOMING).join(&new);
        let duplicated = tokio::task::spawn_blocking(move || {
            let unmentioned = match std::fs::hard_link(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let mut unmentioned = Unmentioned::new(incoming);
                    std::fs::copy(&from, &unmentioned.path)?;
                    std::fs::File::open(&unmentioned.path)?.sync_all()?;
                    unmentioned.rename(to)?;
                    unmentioned
                }
                linked => {
                    linked?;
                    let unmentioned = Unmentioned::new(to);
                    unmentioned.sync_name()?;
                    unmentioned
                }
            };
            let size = std::fs::metadata(&unmentioned.path)?.len();
            Ok::<_, io::Error>((unmentioned, size))
        });
        let (unmentioned, size) = duplicated.await.map_err(io::Error::other)??;
        Ok((new, unmentioned, size))
    }

    /// Removes files that no metadata mentions any more, elsewhere; answers what to wait for. A file that stays is swept
    /// when the site opens next.
    pub(super) fn remove(&self, keys: Vec<String>) -> Option<JoinHandle<()>> {
        if keys.is_empty() {
            return None;
        }
        if let Some(held) = self.held.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            held.extend(keys);
            return None;
        }
        let files = self.clone();
        Some(self.runtime.spawn_blocking(move || {
            for path in keys.iter().filter_map(|key| files.path(key)) {
                let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(%error, file = %path.display(), "a data file stays until the next start");
                } else {
                    files.used.less(bytes);
                }
            }
        }))
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
                    self.used.more(file.metadata()?.len());
                }
            }
        }
        Ok(removed)
    }
}

impl Hold {
    /// Ends it and removes what was put off.
    pub(in crate::site) async fn release(self) {
        let put_off = self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(removing) = self.0.remove(put_off.unwrap_or_default()) {
            // What stays is swept when the site opens next.
            removing.await.unwrap_or_default();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Without a release the files stay until the site opens next and sweeps them.
        drop(self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl NewFile {
    /// Appends bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    /// Makes the file durable under its name; answers its key.
    pub(super) async fn finish(mut self) -> io::Result<(String, Unmentioned)> {
        self.file.flush().await?;
        let file = self.file.into_std().await;
        let (mut unmentioned, to) = (self.unmentioned, self.to);
        let finished = tokio::task::spawn_blocking(move || {
            file.sync_all()?;
            unmentioned.rename(to)?;
            Ok::<_, io::Error>(unmentioned)
        });
        let unmentioned = finished.await.map_err(io::Error::other)??;
        Ok((self.key, unmentioned))
    }
}
