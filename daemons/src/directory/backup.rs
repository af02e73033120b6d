//! Copies of the whole data directory, made while everything runs.
//!
//! Each store is copied as a snapshot, and the order makes the whole consistent: first the engine, then the source, then the
//! targets, while no journal is pruned. What the copied engine has done is then in the copied sites, and what it has not
//! done yet is still in the copied journal. Doing it again is harmless, so a copy starts like a process after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backbeat_backends::embedded::{Store, StoreError};
use backbeat_backends::site::{Copied, Site, SiteError};
use serde::Serialize;
use tokio::sync::Mutex;

use super::layout::{Layout, LayoutError};

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place cannot be used.
    #[error("{} cannot be written to: {problem}", directory.display())]
    Place {
        /// The directory asked for.
        directory: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A store could not be copied.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A site could not be copied.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The copy could not be marked as a data directory.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Copying panicked.
    #[error("copying panicked")]
    Panicked,
}

/// What a copy holds.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Where it is.
    pub directory: PathBuf,
    /// Records of all stores.
    pub records: u64,
    /// Data files of all sites.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Makes copies of one data directory. Clones make copies of the same.
#[derive(Clone)]
pub struct Backups {
    layout: Layout,
    engine: Store,
    /// The source first.
    sites: Vec<(PathBuf, Arc<Site>)>,
    pruning: Arc<Mutex<()>>,
}

impl Backups {
    pub(crate) fn new(layout: Layout, engine: Store, sites: Vec<(PathBuf, Arc<Site>)>) -> Self {
        Self { layout, engine, sites, pruning: Arc::default() }
    }

    /// Locked while journals must not be pruned.
    pub(crate) fn pruning(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.pruning)
    }

    /// Copies everything to `directory`, which must not exist yet. What is not whole has another name. A copy that has begun is
    /// brought to its end, whether anybody waits for it or not.
    pub async fn write(&self, directory: PathBuf) -> Result<Written, BackupError> {
        let backups = self.clone();
        let writing = tokio::spawn(async move { backups.write_whole(&directory).await });
        writing.await.map_err(|_| BackupError::Panicked)?
    }

    async fn write_whole(&self, directory: &Path) -> Result<Written, BackupError> {
        let place = |problem: String| BackupError::Place { directory: directory.to_owned(), problem };
        if !directory.is_absolute() {
            return Err(place("it must be an absolute path".to_owned()));
        }
        if directory.exists() {
            return Err(place("it exists already".to_owned()));
        }
        let mut name = directory.file_name().ok_or_else(|| place("it has no name".to_owned()))?.to_owned();
        name.push(".partial");
        let partial = directory.with_file_name(name);
        std::fs::create_dir(&partial).map_err(|error| place(error.to_string()))?;
        let written = self.write_parts(&partial).await;
        match written {
            Ok(copied) => {
                std::fs::rename(&partial, directory).map_err(|error| place(error.to_string()))?;
                let Copied { records, files, bytes } = copied;
                Ok(Written { directory: directory.to_owned(), records, files, bytes })
            }
            Err(error) => {
                if let Err(error) = std::fs::remove_dir_all(&partial) {
                    tracing::warn!(%error, folder = %partial.display(), "an unfinished copy stays");
                }
                Err(error)
            }
        }
    }

    async fn write_parts(&self, root: &Path) -> Result<Copied, BackupError> {
        let _nothing_is_pruned = self.pruning.lock().await;
        let (engine, place) = (self.engine.clone(), self.layout.place_in(&self.layout.engine(), root));
        let copying = tokio::task::spawn_blocking(move || engine.copy_to(&place));
        let records = copying.await.map_err(|_| BackupError::Panicked)??;
        let mut all = Copied { records, ..Copied::default() };
        for (folder, site) in &self.sites {
            let copied = site.copy_to(&self.layout.place_in(folder, root)).await?;
            all.records += copied.records;
            all.files += copied.files;
            all.bytes += copied.bytes;
        }
        Layout::open(root)?;
        Ok(all)
    }
}
