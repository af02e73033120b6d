//! The site: its configuration, its store and its data, and the two ways to its metadata: snapshots and commits.

use super::changes::Changes;
use super::cloud::Cloud;
use super::config::{Account, SiteConfig};
use super::data::{DATA, DataOwner, DataRow, DataStore};
use super::error::{Outcome, Refusal};
use super::journal::Journal;
use crate::embedded::{Closed, KeyRange, ReadTxn, Store, StoreError};
use crate::http::{Credentials, SignedClient};
use std::sync::Arc;
use tokio::sync::watch;

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
    /// A site out of what was opened.
    pub(super) fn new(
        config: SiteConfig,
        store: Store,
        data: DataStore,
        end: watch::Sender<u64>,
        journal: Journal,
    ) -> Self {
        let locations = config.locations.iter().map(Cloud::new).collect();
        // Requests to the API are not signed.
        let nobody = Credentials::new("", "");
        let api = config.api.as_ref().map(|address| SignedClient::new(address, nobody, "us-east-1"));
        Self { config: Arc::new(config), store, data, end, journal, locations, api }
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
