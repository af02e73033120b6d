//! The sites of a stack: their ports, opened and served. They also run alone, for daemons in other processes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backbeat_backends::embedded::Closed;
use backbeat_backends::site::{self, Limits, Site};
use backbeat_core::id::Site as SiteName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::site::{Reach, RunningSite};
use super::{Addresses, STOP_TIME_MAX, Target, ports, pruning};
use crate::config::{Config, settings};
use crate::directory::Layout;
use crate::running;

/// How often a journal that nobody in this process reads is looked through for records that are too old.
const AGE_LOOK: Duration = Duration::from_mins(1);

/// The ports of sites, taken before any data is touched.
pub(super) struct Ports {
    source: (TcpListener, SocketAddr),
    targets: Vec<(String, TcpListener, SocketAddr)>,
    journal: Option<(TcpListener, SocketAddr)>,
}

impl Ports {
    pub(super) async fn take(source: u16, targets: &[Target], journal: Option<u16>) -> Result<Self> {
        let source = ports::listen(source, "the source site").await?;
        let mut taken = Vec::new();
        for target in targets {
            let (listener, address) = ports::listen(target.port, "a target site").await?;
            let name = target.name.clone().unwrap_or_else(|| format!("site-{}", address.port()));
            taken.push((name, listener, address));
        }
        let journal = match journal {
            Some(port) => Some(ports::listen(port, "the journal").await?),
            None => None,
        };
        let ports = Self { source, targets: taken, journal };
        check_names(&ports.names())?;
        Ok(ports)
    }

    fn names(&self) -> Vec<String> {
        self.targets.iter().map(|(name, ..)| name.clone()).collect()
    }
}

/// A target that is served.
pub(super) struct TargetSite {
    pub(super) name: SiteName,
    pub(super) reach: Reach,
}

/// Sites that are served.
pub(super) struct Sites {
    pub(super) to_source: Reach,
    /// In the order in which they were configured.
    pub(super) targets: Vec<TargetSite>,
    pub(super) journal: site::Journal,
    /// Where each is kept.
    pub(super) opened: Vec<(PathBuf, Arc<Site>)>,
    source_address: SocketAddr,
    target_addresses: Vec<(String, SocketAddr)>,
    journal_address: Option<SocketAddr>,
}

impl Sites {
    /// Opens the sites of a data directory, and serves them until told to stop. The source's route to the API leads to
    /// `api`.
    pub(super) async fn open(
        ports: Ports,
        layout: &Layout,
        limits: &Limits,
        api: Option<SocketAddr>,
        stopped: &watch::Receiver<bool>,
        servers: &mut JoinSet<Result<()>>,
    ) -> Result<Self> {
        let names = ports.names();
        let Ports { source: (listener, source_address), targets, journal } = ports;
        let source = RunningSite::source(layout, &names, api, limits.clone())
            .await
            .context("cannot open the source site")?;
        let to_source = source.serve(listener, source_address, stopped.clone(), servers);
        let journal_address = journal.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = journal {
            source.serve_journal(listener, stopped.clone(), servers);
        }
        let mut opened = vec![(layout.source(), source.site())];
        let (mut served, mut target_addresses) = (Vec::new(), Vec::new());
        for (index, (name, listener, address)) in targets.into_iter().enumerate() {
            let site = RunningSite::target(layout, &name, index, limits.clone())
                .await
                .with_context(|| format!("cannot open the target site {name}"))?;
            let reach = site.serve(listener, address, stopped.clone(), servers);
            opened.push((layout.target(&name), site.site()));
            target_addresses.push((name.clone(), address));
            served.push(TargetSite { name: SiteName::from(name), reach });
        }
        Ok(Self {
            to_source,
            targets: served,
            journal: source.journal(),
            opened,
            source_address,
            target_addresses,
            journal_address,
        })
    }

    /// Where they answer.
    pub(super) fn addresses(&self, api: Option<SocketAddr>) -> Addresses {
        Addresses {
            source: self.source_address,
            targets: self.target_addresses.clone(),
            api,
            journal: self.journal_address,
        }
    }

    /// Resolves when the files are closed.
    pub(super) fn closed(&self) -> impl Iterator<Item = Closed> {
        self.opened.iter().map(|(_, site)| site.closed())
    }
}

/// Sites without an engine: other processes replicate between them.
pub struct SitesAlone {
    addresses: Addresses,
    servers: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
    /// Forgets what is too old in the journal.
    pruning: Option<JoinHandle<()>>,
    stores: Vec<Closed>,
}

impl SitesAlone {
    /// Opens the sites of `data_dir` and serves them; the journal, which others read, always on a port of its own.
    ///
    /// # Errors
    /// A port is taken, or the directory cannot be used.
    pub async fn start(
        data_dir: PathBuf,
        source_port: u16,
        targets: &[Target],
        journal_port: u16,
        config: &Config,
    ) -> Result<Self> {
        let ports = Ports::take(source_port, targets, Some(journal_port)).await?;
        let layout = Layout::open(&data_dir)?;
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let limits = settings::site_limits(config);
        let sites = Sites::open(ports, &layout, &limits, None, &stopped, &mut servers).await?;
        let pruning = settings::journal_age_max(config).map(|age| {
            let (journal, read) = (sites.journal.clone(), sites.journal.clone());
            let forget = async move |below, count| journal.prune(below, count).await;
            let needed = async move || {
                let young = read.first_younger_than(age);
                young
                    .inspect_err(|error| tracing::warn!(%error, "the age of the journal cannot be told"))
                    .ok()
                    .or(Some(0))
            };
            // A copy of the directory is made by the stack only: nothing forbids to prune.
            tokio::spawn(pruning::prune_forever(forget, Arc::default(), AGE_LOOK, needed))
        });
        let (addresses, stores) = (sites.addresses(None), sites.closed().collect());
        Ok(Self { addresses, servers, stop, pruning, stores })
    }

    /// Where they answer.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits for something to end that should not have, and says what it was.
    pub async fn failed(&mut self) -> anyhow::Error {
        running::failed(&mut self.servers).await
    }

    /// Closes the ports and the stores.
    ///
    /// # Errors
    /// Something did not stop in time.
    pub async fn shutdown(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let stopping = async {
            running::ended(&mut self.servers).await?;
            if let Some(pruning) = self.pruning {
                pruning.abort();
                // It ends as cancelled, and with it goes what it held of the store.
                pruning.await.unwrap_or_default();
            }
            for store in self.stores {
                store.wait().await;
            }
            anyhow::Ok(())
        };
        running::in_time(STOP_TIME_MAX, "the sites", stopping).await
    }
}

/// Names of sites stand in replication configurations and in folder names.
fn check_names(names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        ensure!(
            name.chars().all(usable) && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
            "site name {name:?} is not usable: letters, digits, '-', '_' and '.' only, a letter or digit first"
        );
        ensure!(seen.insert(name), "two target sites are called {name}: give each a name of its own");
    }
    ensure!(!names.is_empty(), "there must be at least one target site");
    Ok(())
}
