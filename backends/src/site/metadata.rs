//! The site: its configuration, its store and its data, and the two ways to its metadata: snapshots and commits.

use super::changes::{Changes, EPOCH, META};
use super::cloud::Cloud;
use super::config::{Account, SiteConfig};
use super::data::{DATA, DataOwner, DataRow, DataStore, random_hex};
use super::error::{Outcome, Refusal};
use super::journal::{Journal, last_sequence};
use super::placeholder;
use crate::embedded::{Closed, KeyRange, Read, ReadTxn, Store, StoreError, StoreOptions};
use crate::http::{Credentials, SignedClient};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

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
    config: Arc<SiteConfig>,
    store: Store,
    data: DataStore,
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
        let opened = tokio::task::spawn_blocking(move || -> Result<_, SiteError> {
            let store = Store::open_with(&directory, options)?;
            let data = DataStore::open(store.clone(), &directory)?;
            Ok((store, data))
        })
        .await;
        let (store, data) = opened.map_err(|_| wrong("opening it panicked"))??;
        ensure_epoch(&store).await?;
        let (end, watched) = watch::channel(store.read(|txn| last_sequence(txn))?);
        let journal = Journal::open(store.clone(), watched)?;
        let locations = config.locations.iter().map(Cloud::new).collect();
        // Requests to the API are not signed.
        let nobody = Credentials::new("", "");
        let api = config.api.as_ref().map(|address| SignedClient::new(address, nobody, "us-east-1"));
        let site = Arc::new(Self { config: Arc::new(config), store, data, end, journal, locations, api });
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
        let mut count = self.data.waiting() as u64;
        self.store.read(|txn| {
            txn.visit(DATA, &KeyRange::all(), &mut |_, row| {
                count += u64::from(DataRow::decode(row).owner == DataOwner::Awaited);
            })
        })?;
        Ok(count)
    }

    /// Bytes of all data, of what is being received too: what the quota is compared with.
    pub fn data_bytes(&self) -> u64 {
        self.data.used()
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

    pub(super) fn data(&self) -> &DataStore {
        &self.data
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

    /// Changes metadata, the journal and what it says of data in one durable commit, then removes the data that it made
    /// superfluous.
    pub(super) async fn write<T, F>(&self, write: F) -> Outcome<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Changes<'_, '_>) -> Outcome<T> + Send + 'static,
    {
        let config = self.config.clone();
        let (told, data, settlement) = (self.end.clone(), self.data.changes(), self.data.settlement());
        let committed = self.store.write_then(
            move |txn| {
                let mut changes = Changes::begin(txn, &config, data)?;
                let value = write(&mut changes)?;
                let (end, data) = changes.finish();
                Ok::<_, Refusal>((value, end, data))
            },
            move |(value, end, data), outcome| {
                if outcome.is_ok() {
                    told.send_if_modified(|known| {
                        let is_newer = end > *known;
                        *known = end.max(*known);
                        is_newer
                    });
                }
                (value, settlement.settle(data, outcome))
            },
        );
        let (value, removing) = committed.await?;
        if let Some(removing) = removing {
            // What stays is swept when the site opens next.
            removing.await.unwrap_or_default();
        }
        Ok(value)
    }
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
