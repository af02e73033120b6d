//! A copy of a site while it is in use: a snapshot of its store, and another name for every file that the snapshot
//! mentions.

use super::error::SiteError;
use super::metadata::Site;
use std::path::Path;
use std::sync::Arc;

/// What a copy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records of metadata, journal, small data and the rest of the store.
    pub records: u64,
    /// Files of larger data.
    pub files: u64,
    /// Bytes of all data, small and larger.
    pub bytes: u64,
}

impl Site {
    /// Copies the site to another directory. Clients do not notice: writes go on, and files that they make superfluous
    /// are removed when the copy is done. Files are linked where the file system can.
    ///
    /// # Errors
    /// The store's, the file system's, or that another copy is under way.
    pub async fn copy_to(self: &Arc<Self>, directory: &Path) -> Result<Copied, SiteError> {
        let wrong = |problem| SiteError::Configuration { name: self.config().name.clone(), problem };
        // First, so that nothing that the snapshot mentions goes meanwhile.
        let hold =
            self.data().hold().ok_or_else(|| wrong("it is being copied already: wait for that to end"))?;
        let (site, directory) = (Arc::clone(self), directory.to_owned());
        let copied = tokio::task::spawn_blocking(move || site.copy_blocking(&directory)).await;
        hold.release().await;
        copied.map_err(|_| wrong("copying it panicked"))?
    }

    fn copy_blocking(&self, directory: &Path) -> Result<Copied, SiteError> {
        let records = self.store().copy_to(directory)?;
        let (files, bytes) = self.data().complete_copy(directory)?;
        Ok(Copied { records, files, bytes })
    }
}
