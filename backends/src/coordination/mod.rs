//! The coordination port: a small durable tree that processes agree on.
//!
//! It holds the journal offset, the pause state of each site, and who is alive. Nodes have versions, so that a write can
//! name the state it replaces; ephemeral nodes live as long as the session that made them. The port promises what
//! ZooKeeper promises and nothing more.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod lasting;
pub mod memory;
mod tree;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use backbeat_core::call::Ending;
use bytes::Bytes;
use tokio::sync::watch;

/// The absolute path of a node, for example `/queue-populator/logState/raft_1/logOffset`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePath(Arc<str>);

/// A path is not one of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node path {0:?} must begin with a slash and have no empty, \".\" or \"..\" segment")]
pub struct InvalidPath(String);

impl NodePath {
    /// Checks and takes a path. The root itself is not a node to be written.
    pub fn new(path: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(path.to_owned());
        let mut segments = path.strip_prefix('/').ok_or_else(invalid)?.split('/');
        let usable = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
        if segments.all(usable) { Ok(Self(path.into())) } else { Err(invalid()) }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The node above, unless that is the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => None,
            Some((parent, _)) => Some(Self(parent.into())),
        }
    }

    /// This path with a number after its last segment, as stores number nodes.
    fn numbered(&self, number: impl fmt::Display) -> Self {
        Self(format!("{}{number:0>10}", self.0).into())
    }

    /// The last segment: what its parent knows the node by.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// The node `name` below this one.
    pub fn child(&self, name: &str) -> Result<Self, InvalidPath> {
        if name.contains('/') {
            return Err(InvalidPath(format!("{}/{name}", self.0)));
        }
        Self::new(&format!("{}/{name}", self.0))
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a node's data: zero when created, another one after every write. Only equality means anything, and only
/// as long as the node was not deleted in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeVersion(pub u32);

/// A node as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its data.
    pub data: Bytes,
    /// The version of its data.
    pub version: NodeVersion,
}

/// How long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until deleted; survives restarts.
    Durable,
    /// Until the session that made it ends. Has no children.
    Session,
}

/// The state a write insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Any version.
    Any,
    /// Exactly this version.
    Version(NodeVersion),
}

impl Expect {
    fn holds(self, found: NodeVersion) -> bool {
        match self {
            Self::Any => true,
            Self::Version(version) => version == found,
        }
    }
}

/// A hint that something changed. It may come without reason, and several changes may come as one: look again.
#[derive(Debug)]
pub struct Watch(watch::Receiver<u64>);

impl Watch {
    /// A watch fed by `changes`; for adapters.
    pub fn new(changes: watch::Receiver<u64>) -> Self {
        Self(changes)
    }

    /// Waits for a change since the watch was made or since the last call. Cancel safe. Returns at once, always, when
    /// the session is over.
    pub async fn changed(&mut self) {
        // A closed channel means that the store is gone: for the caller a reason to look again, like any other.
        self.0.changed().await.unwrap_or_default();
    }

    /// Whether nothing will be heard through it any more: the session it was made in is over. Whoever goes on in another
    /// session makes another watch, or [`Self::changed`] never waits again.
    pub fn is_over(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

/// One session with the store.
///
/// **Endings.** Refusals: `NotFound` (no such node), `Conflict` with code `BadVersion`, `NodeExists` or `NotEmpty`,
/// `Invalid` (children of an ephemeral node), `Fenced` (the session is over: make another one), `Unavailable`.
/// `Unknown`: a write may have happened; read before writing again.
///
/// **Sessions.** Closing the session, dropping it, or the store not hearing of it for its time-out ends it and deletes
/// its ephemeral nodes. Whoever holds something through a session stops acting on it when [`Coordination::expired`]
/// resolves, and knows that another one may have begun before.
pub trait Coordination: Send + Sync + 'static {
    /// Reads a node.
    fn read(&self, path: &NodePath) -> impl Future<Output = Ending<Node>> + Send;

    /// Makes a node; missing nodes above are made too, durable and empty.
    fn create(
        &self,
        path: &NodePath,
        data: Bytes,
        lifetime: Lifetime,
    ) -> impl Future<Output = Ending<NodeVersion>> + Send;

    /// Makes a node that lives as long as the session, and gives its path: `prefix` and a number of ten digits, larger than
    /// that of every numbered node that was made below the same parent before. Missing nodes above are made as
    /// [`create`](Self::create) makes them. Numbers begin again when the parent
    /// is deleted, and with the process of an embedded store, which no such node outlives.
    ///
    /// `Unknown` may have left a node whose name nobody knows. It ends with the session, so whoever cannot live with one
    /// gives the session up.
    fn create_numbered(
        &self,
        prefix: &NodePath,
        data: Bytes,
    ) -> impl Future<Output = Ending<NodePath>> + Send;

    /// Replaces the data of a node, and gives its new version.
    fn write(
        &self,
        path: &NodePath,
        data: Bytes,
        expect: Expect,
    ) -> impl Future<Output = Ending<NodeVersion>> + Send;

    /// Deletes a node without children.
    fn delete(&self, path: &NodePath, expect: Expect) -> impl Future<Output = Ending<()>> + Send;

    /// The names of the nodes directly below, sorted.
    fn children(&self, path: &NodePath) -> impl Future<Output = Ending<Vec<String>>> + Send;

    /// Watches a node, existing or not: its data, its making and deletion, and the set of its children. Watch first,
    /// then read: a change after the watch was made is never missed.
    fn watch(&self, path: &NodePath) -> impl Future<Output = Ending<Watch>> + Send;

    /// Resolves when the session is over.
    fn expired(&self) -> impl Future<Output = ()> + Send;

    /// Ends the session.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A session that several parts of a process hold. It ends when it is closed, or with the last of them.
impl<C: Coordination> Coordination for Arc<C> {
    fn read(&self, path: &NodePath) -> impl Future<Output = Ending<Node>> + Send {
        C::read(self, path)
    }

    fn create(
        &self,
        path: &NodePath,
        data: Bytes,
        lifetime: Lifetime,
    ) -> impl Future<Output = Ending<NodeVersion>> + Send {
        C::create(self, path, data, lifetime)
    }

    fn create_numbered(
        &self,
        prefix: &NodePath,
        data: Bytes,
    ) -> impl Future<Output = Ending<NodePath>> + Send {
        C::create_numbered(self, prefix, data)
    }

    fn write(
        &self,
        path: &NodePath,
        data: Bytes,
        expect: Expect,
    ) -> impl Future<Output = Ending<NodeVersion>> + Send {
        C::write(self, path, data, expect)
    }

    fn delete(&self, path: &NodePath, expect: Expect) -> impl Future<Output = Ending<()>> + Send {
        C::delete(self, path, expect)
    }

    fn children(&self, path: &NodePath) -> impl Future<Output = Ending<Vec<String>>> + Send {
        C::children(self, path)
    }

    fn watch(&self, path: &NodePath) -> impl Future<Output = Ending<Watch>> + Send {
        C::watch(self, path)
    }

    fn expired(&self) -> impl Future<Output = ()> + Send {
        C::expired(self)
    }

    fn close(&self) -> impl Future<Output = ()> + Send {
        C::close(self)
    }
}
