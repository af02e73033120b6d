//! Opening a site: what its configuration must say, and what is put right before anybody asks.

use super::config::SiteConfig;
use super::data::DataStore;
use super::error::SiteError;
use super::journal::{EPOCH, Journal, META, last_sequence};
use super::metadata::Site;
use super::random::random_hex;
use super::repair;
use crate::embedded::{Read, Store, StoreError, StoreOptions};
use std::sync::Arc;
use tokio::sync::watch;

/// Length of the group in version ids.
const GROUP_LENGTH_MAX: usize = 7;

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
        let site = Arc::new(Self::new(config, store, data, end, journal));
        tokio::spawn(repair::repair_forever(Arc::downgrade(&site)));
        Ok(site)
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
