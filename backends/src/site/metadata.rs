//! The site: its configuration, its store and its files, and the two ways to its metadata: snapshots and commits.

use super::changes::{Changes, DATA, EPOCH, META};
use super::cloud::Cloud;
use super::config::{Account, SiteConfig};
use super::data::{DataFiles, random_hex};
use super::error::{Outcome, Refusal};
use super::journal::{Journal, last_sequence};
use super::placeholder;
use crate::embedded::{Closed, KeyRange, Read, ReadTxn, Store, StoreError, StoreOptions};
use crate::http::{Credentials, SignedClient};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// The folder of data files in the data directory.
pub(super) const DATA_FOLDER: &str = "data";
/// Length of the group in version ids.
const GROUP_LENGTH_MAX: usize = 7;

/// Why a site cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// Its store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its data folder cannot.
    #[error("cannot use {folder}: {error}")]
    Data {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The configuration does not make sense.
    #[error("site {name}: {problem}")]
    Configuration {
        /// The site.
        name: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
}

/// A whole S3 site over one data directory. Serve it with [`super::serve`].
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    store: Store,
    files: DataFiles,
    end: watch::Sender<u64>,
    journal: Journal,
    locations: Vec<Cloud>,
    api: Option<SignedClient>,
}

impl Site {
    /// Opens, or creates, the site of a data directory: sweeps data files that no commit mentions and starts to repair
    /// placeholders.
    ///
    /// # Errors
    /// The store's, the file system's, or a configuration that does not make sense.
    pub async fn open(config: SiteConfig) -> Result<Arc<Self>, SiteError> {
        Self::open_with(config, StoreOptions::default()).await
    }

    /// [`Site::open`] with options for its store.
    pub async fn open_with(config: SiteConfig, options: StoreOptions) -> Result<Arc<Self>, SiteError> {
        let wrong = |problem| SiteError::Configuration { name: config.name.clone(), problem };
        if config.accounts.is_empty() {
            return Err(wrong("it has no account: nobody could sign a request"));
        }
        if config.replication_group.is_empty() || config.replication_group.chars().count() > GROUP_LENGTH_MAX
        {
            return Err(wrong("its replication group must have 1 to 7 characters"));
        }
        let directory = config.data_dir.clone();
        let folder = directory.join(DATA_FOLDER);
        let opened = tokio::task::spawn_blocking(move || -> Result<_, SiteError> {
            let store = Store::open_with(&directory, options)?;
            let of_folder = |error| SiteError::Data { folder: folder.clone(), error };
            let files = DataFiles::open(&folder).map_err(of_folder)?;
            let known = known_data(&store)?;
            let swept = files.sweep(&known).map_err(of_folder)?;
            if swept > 0 {
                tracing::info!(swept, "removed data files that no commit mentions");
            }
            Ok((store, files))
        })
        .await;
        let (store, files) = opened.map_err(|_| wrong("opening it panicked"))??;
        ensure_epoch(&store).await?;
        let (end, watched) = watch::channel(store.read(|txn| last_sequence(txn))?);
        let journal = Journal::open(store.clone(), watched)?;
        let locations = config.locations.iter().map(Cloud::new).collect();
        // Requests to the API are not signed.
        let nobody = Credentials::new("", "");
        let api = config.api.as_ref().map(|address| SignedClient::new(address, nobody, "us-east-1"));
        let site = Arc::new(Self { config, store, files, end, journal, locations, api });
        tokio::spawn(placeholder::repair_forever(Arc::downgrade(&site)));
        Ok(site)
    }

    /// What the site was told.
    pub fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// The journal of its metadata.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Data keys that were written through the internal route and wait for metadata that mentions them: orphans, if
    /// their writer died.
    ///
    /// # Errors
    /// The store's.
    pub fn unattached_data(&self) -> Result<u64, StoreError> {
        let rows = self.store.read(|txn| txn.range(DATA, &KeyRange::all(), usize::MAX))?;
        Ok(rows.iter().filter(|(_, owner)| owner.is_empty()).count() as u64)
    }

    /// What tells when the site is closed: nothing uses it any more, and its directory may be opened again.
    pub fn closed(&self) -> Closed {
        self.store.closed()
    }

    /// Durable commits since the site was opened: many writes share one.
    pub fn commits(&self) -> u64 {
        self.store.commits()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn files(&self) -> &DataFiles {
        &self.files
    }

    /// The cloud location of that name.
    pub(super) fn location(&self, name: &str) -> Option<&Cloud> {
        self.locations.iter().find(|location| location.name() == name)
    }

    /// The way to the engine's API.
    pub(super) fn api(&self) -> Option<&SignedClient> {
        self.api.as_ref()
    }

    pub(super) fn account(&self, access_key: &str) -> Option<&Account> {
        self.config.accounts.iter().find(|account| account.access_key == access_key)
    }

    /// Reads a snapshot.
    pub(super) fn read<T>(&self, read: impl FnOnce(&ReadTxn<'_>) -> Outcome<T>) -> Outcome<T> {
        self.store.read(read)
    }

    /// Changes metadata and the journal in one durable commit, then removes the data files that it made superfluous.
    pub(super) async fn write<T, F>(&self, write: F) -> Outcome<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Changes<'_, '_>) -> Outcome<T> + Send + 'static,
    {
        let group = self.config.replication_group.clone();
        let committed = self.store.write(move |txn| {
            let mut changes = Changes::begin(txn, &group)?;
            let value = write(&mut changes)?;
            let (end, removed) = changes.finish();
            Ok::<_, Refusal>((value, end, removed))
        });
        let (value, end, removed) = committed.await?;
        self.end.send_if_modified(|known| {
            let is_newer = end > *known;
            *known = end.max(*known);
            is_newer
        });
        self.files.remove(removed).await;
        Ok(value)
    }
}

/// The data keys that commits mention.
pub(super) fn known_data(store: &Store) -> Result<BTreeSet<String>, StoreError> {
    let rows = store.read(|txn| txn.range(DATA, &KeyRange::all(), usize::MAX))?;
    Ok(rows.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect())
}

async fn ensure_epoch(store: &Store) -> Result<(), StoreError> {
    let fresh = random_hex::<16>()
        .map_err(|error| StoreError::Io { file: store.file().into(), message: error.to_string() })?;
    store
        .write(move |txn| {
            if txn.get(META, EPOCH)?.is_none() {
                txn.put(META, EPOCH, fresh);
            }
            Ok(())
        })
        .await
}
