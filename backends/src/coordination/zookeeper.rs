//! Coordination in ZooKeeper, on the nodes that upstream's processes use.
//!
//! One session is one client. The client reconnects within a session by itself; a session that is over is never taken up
//! again: its owner makes another one and registers anew. What a connection was lost over is `Unknown`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;
use zookeeper_client::{Acls, AddWatchMode, Client, CreateMode, Error, EventType, SessionState};

use super::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion, Watch};
use crate::credentials::Secret;

/// How often missing parents are made, should somebody delete them meanwhile.
const PARENTS_ATTEMPTS: usize = 3;

/// How to reach ZooKeeper.
#[derive(Clone, Debug)]
pub struct ZooKeeperConfig {
    /// `host:port[,host:port...][/folder]`: all paths are below the folder.
    pub connection: String,
    /// Makes the folder if it is missing; otherwise everything in a missing one is `NotFound`.
    pub makes_namespace: bool,
    /// How long the servers keep the session without hearing of it; they may insist on another time.
    pub session_time: Duration,
    /// How long it may take to open a session, and to answer a request.
    pub answer_time_max: Duration,
    /// User and password: nodes are made for that user alone.
    pub digest: Option<(String, Secret)>,
}

impl ZooKeeperConfig {
    /// The servers and the folder of a connection string, with upstream's session time (replication reference 11.2).
    pub fn new(connection: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            makes_namespace: false,
            session_time: Duration::from_secs(30),
            answer_time_max: Duration::from_secs(10),
            digest: None,
        }
    }
}

/// A session with ZooKeeper.
#[derive(Debug)]
pub struct ZooKeeperSession {
    /// None once it is over.
    client: Mutex<Option<Client>>,
    over: watch::Receiver<bool>,
    acls: Acls<'static>,
    answer_time_max: Duration,
}

impl ZooKeeperSession {
    /// Opens a session.
    ///
    /// # Errors
    /// `Unavailable` if no server answers in time, `Denied`, or `Invalid` for a connection string that is none.
    pub async fn connect(config: &ZooKeeperConfig) -> Result<Self, Refusal> {
        let (servers, folder) = match config.connection.find('/') {
            Some(start) => config.connection.split_at(start),
            None => (config.connection.as_str(), ""),
        };
        let folder = folder.trim_end_matches('/');
        let mut connector = Client::connector().with_session_timeout(config.session_time);
        if let Some((user, password)) = &config.digest {
            connector = connector.with_auth("digest", format!("{user}:{}", password.expose()).as_bytes());
        }
        let acls = if config.digest.is_some() { Acls::creator_all() } else { Acls::anyone_all() };
        let opened = async {
            let client = connector.connect(servers).await?;
            if config.makes_namespace && !folder.is_empty() {
                client.mkdir(folder, &CreateMode::Persistent.with_acls(acls)).await?;
            }
            if folder.is_empty() {
                return Ok(client);
            }
            client.chroot(folder.to_owned()).map_err(|_| Error::BadArguments(&"the folder is no path"))
        };
        let unavailable = || Refusal::new(RefusalKind::Unavailable, "NotConnected");
        let client = match timeout(config.answer_time_max, opened).await {
            Ok(Ok(client)) => client,
            Ok(Err(Error::SessionExpired)) | Err(_) => return Err(unavailable()),
            Ok(Err(error)) => return Err(refusal(&error).unwrap_or_else(unavailable)),
        };
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
            client: Mutex::new(Some(client)),
            over: is_over,
            acls,
            answer_time_max: config.answer_time_max,
        })
    }

    /// Makes the servers end the session, as they do when they have not heard of it for its time.
    ///
    /// # Errors
    /// If they cannot be asked.
    #[cfg(feature = "conformance")]
    pub async fn expire(&self, connection: &str) -> Result<(), String> {
        let session = self.client().map_err(|refusal| refusal.code)?.session().clone();
        let servers = connection.split('/').next().unwrap_or_default();
        let double = Client::connector().with_session(session).connect(servers).await;
        // Its end closes the session that it shares.
        let double = double.map_err(|error| error.to_string())?;
        let mut states = double.state_watcher();
        drop(double);
        while !states.changed().await.is_terminated() {}
        Ok(())
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

/// The refusal that an error stands for, or none if the servers may have done what they were asked.
fn refusal(error: &Error) -> Option<Refusal> {
    let (kind, code) = match error {
        Error::NoNode => (RefusalKind::NotFound, "NoNode"),
        Error::BadVersion => (RefusalKind::Conflict, "BadVersion"),
        Error::NodeExists => (RefusalKind::Conflict, "NodeExists"),
        Error::NotEmpty => (RefusalKind::Conflict, "NotEmpty"),
        Error::NoChildrenForEphemerals => (RefusalKind::Invalid, "NoChildrenForEphemerals"),
        Error::BadArguments(_) => (RefusalKind::Invalid, "BadArguments"),
        Error::InvalidAcl => (RefusalKind::Invalid, "InvalidAcl"),
        Error::MarshallingError => (RefusalKind::Invalid, "MarshallingError"),
        Error::Unimplemented => (RefusalKind::Invalid, "Unimplemented"),
        Error::NoAuth => (RefusalKind::Denied, "NoAuth"),
        Error::AuthFailed => (RefusalKind::Denied, "AuthFailed"),
        Error::QuotaExceeded => (RefusalKind::TooLarge, "QuotaExceeded"),
        Error::Throttled => (RefusalKind::Throttled { retry_after: None }, "Throttled"),
        Error::NotReadOnly => (RefusalKind::Unavailable, "NotReadOnly"),
        Error::NoHosts => (RefusalKind::Unavailable, "NoHosts"),
        Error::SessionExpired | Error::SessionMoved | Error::ClientClosed => {
            (RefusalKind::Fenced, "SessionExpired")
        }
        _ => return None,
    };
    Some(Refusal::new(kind, code))
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
        let acls = self.acls;
        let made = self.call(async |client: Client| {
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
        });
        made.await.map(|(stat, _)| version(stat.version))
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
            tokio::spawn(async move {
                loop {
                    let event = tokio::select! {
                        event = watcher.changed() => event,
                        () = changes.closed() => return,
                        _ = over.wait_for(|over| *over) => return,
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
