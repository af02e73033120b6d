//! Coordination in ZooKeeper, on the nodes that upstream's processes use.
//!
//! One session is one client. The client reconnects within a session by itself; a session that is over is never taken up
//! again: its owner makes another one and registers anew. What a connection was lost over is `Unknown`.

mod config;
mod outcome;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;
use zookeeper_client::{
    Acls, AddWatchMode, Client, Connector, CreateMode, CreateSequence, Error, EventType, SessionState, Stat,
    TlsOptions,
};

use super::lasting::Sessions;
use super::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion, Watch};
use crate::tls::{self, Tls};
use config::Place;
pub use config::{ConnectError, ZooKeeperConfig};
use outcome::refusal;

/// How often missing parents are made, should somebody delete them meanwhile.
const PARENTS_ATTEMPTS: usize = 3;

/// Where servers listen that are named without a port.
const PORT_DEFAULT: u16 = 2_181;

/// A session with ZooKeeper.
#[derive(Debug)]
pub struct ZooKeeperSession {
    /// Goes first: nothing may listen to watches of a client that is gone.
    owner: watch::Sender<()>,
    id: i64,
    /// None once it is over.
    client: Mutex<Option<Client>>,
    over: watch::Receiver<bool>,
    acls: Acls<'static>,
    answer_time_max: Duration,
}

impl Sessions for ZooKeeperConfig {
    type Session = ZooKeeperSession;
    type Error = ConnectError;

    async fn open(&self) -> Result<Arc<ZooKeeperSession>, ConnectError> {
        ZooKeeperSession::connect(self).await.map(Arc::new)
    }
}

impl ZooKeeperSession {
    /// Opens a session.
    ///
    /// # Errors
    /// [`ConnectError`], which names the servers.
    pub async fn connect(config: &ZooKeeperConfig) -> Result<Self, ConnectError> {
        let place = config.place()?;
        let mut connector = Client::connector().with_session_timeout(config.session_time);
        if let Some((user, password)) = &config.digest {
            connector = connector.with_auth("digest", format!("{user}:{}", password.expose()).as_bytes());
        }
        if let Some(tls) = &config.tls {
            connector = connector.with_tls(protected(tls, &place)?);
        }
        let acls = if config.digest.is_some() { Acls::creator_all() } else { Acls::anyone_all() };
        let opened = open(connector, config, &place, acls);
        let unreachable =
            || ConnectError::Unreachable { servers: place.servers.clone(), within: config.answer_time_max };
        let client = match timeout(config.answer_time_max, opened).await {
            Ok(Ok(client)) => client,
            // Without a server the client gives up after the time of the session that it wanted.
            Err(_)
            | Ok(Err(Error::Timeout | Error::NoHosts | Error::ConnectionLoss | Error::SessionExpired)) => {
                return Err(distrust(config, &place).await.unwrap_or_else(unreachable));
            }
            Ok(Err(Error::BadArguments(reason))) => {
                let (connection, reason) = (config.connection.clone(), reason.to_string());
                return Err(ConnectError::Invalid { connection, reason });
            }
            Ok(Err(error @ (Error::AuthFailed | Error::NoAuth))) => {
                return Err(ConnectError::Denied { place: place.to_string(), code: error.to_string() });
            }
            Ok(Err(error)) => {
                return Err(ConnectError::Failed { place: place.to_string(), reason: error.to_string() });
            }
        };
        let id = client.session_id().0;
        let (over, is_over) = watch::channel(false);
        let mut states = client.state_watcher();
        // The servers may have closed the session when half of its time has passed after the loss was noticed, which
        // takes up to two fifths of it.
        let patience = client.session_timeout() / 2;
        tokio::spawn(async move {
            let mut state = states.state();
            while !state.is_terminated() {
                state = if state == SessionState::Disconnected {
                    match timeout(patience, states.changed()).await {
                        Ok(state) => state,
                        Err(_) => break,
                    }
                } else {
                    states.changed().await
                };
            }
            // Nobody may be left to be told.
            over.send_replace(true);
        });
        Ok(Self {
            owner: watch::Sender::default(),
            id,
            client: Mutex::new(Some(client)),
            over: is_over,
            acls,
            answer_time_max: config.answer_time_max,
        })
    }

    /// The number by which the servers know the session.
    pub fn id(&self) -> i64 {
        self.id
    }

    fn client(&self) -> Result<Client, Refusal> {
        let fenced = || Refusal::new(RefusalKind::Fenced, "SessionExpired");
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.over.borrow() {
            // A session that was given up must not come back either.
            *client = None;
        }
        client.clone().ok_or_else(fenced)
    }

    async fn call<T, F>(&self, request: impl FnOnce(Client) -> F) -> Ending<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = match self.client() {
            Ok(client) => client,
            Err(refusal) => return Ending::Refused(refusal),
        };
        match timeout(self.answer_time_max, request(client)).await {
            Ok(Ok(value)) => Ending::Applied(value),
            Ok(Err(error)) => refusal(&error).map_or(Ending::Unknown, Ending::Refused),
            Err(_) => Ending::Unknown,
        }
    }

    /// Makes a node, and what is missing above it.
    async fn make(&self, path: &NodePath, data: Bytes, mode: CreateMode) -> Ending<(Stat, CreateSequence)> {
        let acls = self.acls;
        self.call(async |client: Client| {
            let mut attempts = 0;
            loop {
                let made = client.create(path.as_str(), &data, &mode.with_acls(acls)).await;
                attempts += 1;
                match (made, path.parent()) {
                    (Err(Error::NoNode), Some(parent)) if attempts <= PARENTS_ATTEMPTS => {
                        client.mkdir(parent.as_str(), &CreateMode::Persistent.with_acls(acls)).await?;
                    }
                    (made, _) => return made,
                }
            }
        })
        .await
    }

    /// A call that changes nothing: without an answer, nothing was done.
    async fn look<T, F>(&self, request: impl FnOnce(Client) -> F) -> Ending<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match self.call(request).await {
            Ending::Unknown => Ending::Refused(Refusal::new(RefusalKind::Unavailable, "NoAnswer")),
            ending @ (Ending::Applied(_) | Ending::Refused(_)) => ending,
        }
    }
}

/// Opens a session whose paths are below the folder.
async fn open(
    connector: Connector,
    config: &ZooKeeperConfig,
    place: &Place,
    acls: Acls<'static>,
) -> Result<Client, Error> {
    let client = if config.tls.is_some() {
        connector.secure_connect(&place.servers).await?
    } else {
        connector.connect(&place.servers).await?
    };
    if place.folder.is_empty() {
        return Ok(client);
    }
    if config.makes_namespace {
        client.mkdir(&place.folder, &CreateMode::Persistent.with_acls(acls)).await?;
    } else if client.check_stat(&place.folder).await?.is_none() {
        tracing::warn!(
            folder = place.folder,
            servers = place.servers,
            "the folder of the connection string is missing in ZooKeeper: until it is made, nothing can be stored",
        );
    }
    client.chroot(place.folder.clone()).map_err(|_| Error::BadArguments(&"the folder is no path"))
}

/// What the client is told of TLS.
fn protected(tls: &Tls, place: &Place) -> Result<TlsOptions, ConnectError> {
    let unusable =
        |reason: &str| ConnectError::Distrust { server: place.servers.clone(), reason: reason.to_owned() };
    // The client takes a host for a name without asking whether it can be one.
    if let Some(host) = place.hosts().find(|host| !tls::is_server_name(host)) {
        return Err(unusable(&format!("{host:?} is no name that a certificate could have")));
    }
    let authorities = tls.authorities().ok_or_else(|| unusable("no file of authorities is named"))?;
    let options = TlsOptions::new().with_pem_ca(authorities);
    let options = options.and_then(|options| match tls.identity() {
        Some(own) => options.with_pem_identity(&own.certificate, &own.key),
        None => Ok(options),
    });
    options.map_err(|error| unusable(&error.to_string()))
}

/// Whether it is distrust that keeps the servers from answering: the client does not tell.
async fn distrust(config: &ZooKeeperConfig, place: &Place) -> Option<ConnectError> {
    let tls = config.tls.as_ref()?;
    for server in place.servers.split(',') {
        let address =
            if server.contains(':') { server.to_owned() } else { format!("{server}:{PORT_DEFAULT}") };
        if let Some(reason) = tls.distrust_at(&address).await {
            return Some(ConnectError::Distrust { server: address, reason });
        }
    }
    None
}

fn version(found: i32) -> NodeVersion {
    NodeVersion(found.cast_unsigned())
}

fn expected(expect: Expect) -> Option<i32> {
    match expect {
        Expect::Any => None,
        Expect::Version(version) => Some(version.0.cast_signed()),
    }
}

impl Coordination for ZooKeeperSession {
    async fn read(&self, path: &NodePath) -> Ending<Node> {
        let read = self.look(async |client: Client| client.get_data(path.as_str()).await).await;
        read.map(|(data, stat)| Node { data: data.into(), version: version(stat.version) })
    }

    async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
        let mode = match lifetime {
            Lifetime::Durable => CreateMode::Persistent,
            Lifetime::Session => CreateMode::Ephemeral,
        };
        self.make(path, data, mode).await.map(|(stat, _)| version(stat.version))
    }

    async fn create_numbered(&self, prefix: &NodePath, data: Bytes) -> Ending<NodePath> {
        let made = self.make(prefix, data, CreateMode::EphemeralSequential).await;
        made.map(|(_, number)| prefix.numbered(number))
    }

    async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
        let written = self
            .call(async |client: Client| client.set_data(path.as_str(), &data, expected(expect)).await)
            .await;
        written.map(|stat| version(stat.version))
    }

    async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
        self.call(async |client: Client| client.delete(path.as_str(), expected(expect)).await).await
    }

    async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
        let listed = self.look(async |client: Client| client.list_children(path.as_str()).await).await;
        listed.map(|mut names| {
            names.sort_unstable();
            names
        })
    }

    async fn watch(&self, path: &NodePath) -> Ending<Watch> {
        let watching = self
            .look(async |client: Client| client.watch(path.as_str(), AddWatchMode::Persistent).await)
            .await;
        watching.map(|mut watcher| {
            let (changes, seen) = watch::channel(0_u64);
            let mut over = self.over.clone();
            let mut owner = self.owner.subscribe();
            tokio::spawn(async move {
                loop {
                    let event = tokio::select! {
                        // In this order: the client panics when it is asked for changes after its end.
                        biased;
                        () = changes.closed() => return,
                        _ = owner.changed() => return,
                        _ = over.wait_for(|over| *over) => return,
                        event = watcher.changed() => event,
                    };
                    // Of what happened while the connection was lost nothing is told: that is a reason to look, too.
                    changes.send_modify(|count| *count = count.wrapping_add(1));
                    if event.event_type == EventType::Session && event.session_state.is_terminated() {
                        return;
                    }
                }
            });
            Watch::new(seen)
        })
    }

    async fn expired(&self) {
        let mut over = self.over.clone();
        // A closed channel means that nobody watches over the session any more: it ended with the runtime.
        drop(over.wait_for(|over| *over).await);
    }

    async fn close(&self) {
        drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        // The servers end it by themselves if they cannot be told.
        drop(timeout(self.answer_time_max, self.expired()).await);
    }
}
