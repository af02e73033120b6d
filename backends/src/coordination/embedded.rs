//! Coordination on the embedded store: durable nodes lie in a table, ephemeral ones and sessions live with the process.
//!
//! Sessions of one process never expire by time: they end when they are closed or dropped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::watch;

use super::tree::{Change, Plan, SessionId, Tree, Written};
use super::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion, Watch};
use crate::embedded::{KeyRange, Read, Store, StoreError, Table};

/// Path to version, big-endian, and data.
const NODES: Table = Table("coordination");

/// The tree of a store; clones share it.
#[derive(Clone, Debug)]
pub struct EmbeddedCoordination(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    state: Mutex<State>,
    /// Held while a change is made, from its plan until it is applied.
    turn: tokio::sync::Mutex<Turn>,
    sessions_ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    live: BTreeSet<SessionId>,
    sessions: u64,
}

/// Whether the durable nodes have to be read again before the next change: a write ended without our learning how.
#[derive(Debug, Default)]
struct Turn {
    is_stale: bool,
}

impl EmbeddedCoordination {
    /// The tree of a store.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: Store) -> Result<Self, StoreError> {
        let mut state = State::default();
        for change in store.read(|txn| load(txn, store.file()))? {
            state.tree.apply_change(change);
        }
        let state = Mutex::new(state);
        let sessions_ended = watch::Sender::default();
        Ok(Self(Arc::new(Shared { store, state, turn: tokio::sync::Mutex::default(), sessions_ended })))
    }

    /// A new session.
    pub fn connect(&self) -> EmbeddedSession {
        let mut state = self.0.state();
        state.sessions += 1;
        let session = SessionId(state.sessions);
        state.live.insert(session);
        EmbeddedSession { shared: Arc::clone(&self.0), session }
    }
}

/// The durable nodes as they are stored.
fn load(txn: &impl Read, file: &Path) -> Result<Vec<Change>, StoreError> {
    txn.range(NODES, &KeyRange::all(), usize::MAX)?
        .into_iter()
        .map(|(key, row)| {
            let path = std::str::from_utf8(&key).ok().and_then(|path| NodePath::new(path).ok());
            let version = row.first_chunk().map(|version| NodeVersion(u32::from_be_bytes(*version)));
            match (path, version) {
                (Some(path), Some(version)) => {
                    Ok(Change::Put { path, data: Bytes::from(row).slice(4..), version })
                }
                _ => Err(StoreError::Damaged {
                    file: file.into(),
                    message: format!("coordination node {} cannot be read", key.escape_ascii()),
                }),
            }
        })
        .collect()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, session: SessionId) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.state();
        if state.live.contains(&session) {
            Ok(state)
        } else {
            Err(Refusal::new(RefusalKind::Fenced, "SessionExpired"))
        }
    }

    fn end(&self, session: SessionId) {
        let mut state = self.state();
        if state.live.remove(&session) {
            state.tree.end_session(session);
            drop(state);
            self.sessions_ended.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Makes one change: planned, made durable, then visible.
    async fn change(
        &self,
        session: SessionId,
        plan: impl FnOnce(&Tree) -> Result<Plan, Refusal> + Send,
    ) -> Ending<Written> {
        let mut turn = self.turn.lock().await;
        if turn.is_stale {
            // Inside a write, because that is what opens the database again after a disk error.
            let file = self.store.file().to_owned();
            match self.store.write(move |txn| load(txn, &file)).await {
                Ok(stored) => self.state().tree.replace_durable(stored),
                Err(error) => return error.into_ending(),
            }
            turn.is_stale = false;
        }
        let planned = self.live(session).and_then(|mut state| {
            let plan = plan(&state.tree)?;
            // Nothing to store: done at once, under the lock.
            if plan.changes.is_empty() { Ok(Err(state.tree.apply(plan))) } else { Ok(Ok(plan)) }
        });
        let plan = match planned {
            Ok(Ok(plan)) => plan,
            Ok(Err(written)) => return Ending::Applied(written),
            Err(refusal) => return Ending::Refused(refusal),
        };
        turn.is_stale = true;
        let changes = plan.changes.clone();
        let written = self.store.write(move |txn| {
            for change in changes {
                match change {
                    Change::Put { path, data, version } => {
                        txn.put(NODES, path.as_str(), [&version.0.to_be_bytes(), data.as_ref()].concat());
                    }
                    Change::Delete { path } => txn.delete(NODES, path.as_str()),
                }
            }
            Ok::<_, StoreError>(())
        });
        if let Err(error) = written.await {
            turn.is_stale = !error.is_definite();
            return error.into_ending();
        }
        turn.is_stale = false;
        let mut state = self.state();
        if !state.live.contains(&session) && plan.is_ephemeral() {
            state.tree.apply(plan.without_ephemeral());
            return Ending::Refused(Refusal::new(RefusalKind::Fenced, "SessionExpired"));
        }
        Ending::Applied(state.tree.apply(plan))
    }
}

/// A session with an [`EmbeddedCoordination`].
#[derive(Debug)]
pub struct EmbeddedSession {
    shared: Arc<Shared>,
    session: SessionId,
}

impl EmbeddedSession {
    /// Ends the session against its owner's will, for tests.
    pub fn expire(&self) {
        self.shared.end(self.session);
    }

    /// Runs a change to its end even if the caller stops waiting: what is stored and what is visible stay the same.
    async fn change(
        &self,
        plan: impl FnOnce(&Tree) -> Result<Plan, Refusal> + Send + 'static,
    ) -> Ending<Written> {
        let (shared, session) = (Arc::clone(&self.shared), self.session);
        let change = tokio::spawn(async move { shared.change(session, plan).await });
        change.await.unwrap_or(Ending::Unknown)
    }
}

fn ending<T>(result: Result<T, Refusal>) -> Ending<T> {
    match result {
        Ok(value) => Ending::Applied(value),
        Err(refusal) => Ending::Refused(refusal),
    }
}

impl Coordination for EmbeddedSession {
    async fn read(&self, path: &NodePath) -> Ending<Node> {
        ending(self.shared.live(self.session).and_then(|state| state.tree.read(path)))
    }

    async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
        let (path, session) = (path.clone(), self.session);
        let made = self.change(move |tree| tree.plan_create(&path, data, lifetime, session)).await;
        made.map(|made| made.version)
    }

    async fn create_numbered(&self, prefix: &NodePath, data: Bytes) -> Ending<NodePath> {
        let (prefix, session) = (prefix.clone(), self.session);
        let made = self.change(move |tree| tree.plan_create_numbered(&prefix, data, session)).await;
        made.map(|made| made.path)
    }

    async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
        let path = path.clone();
        self.change(move |tree| tree.plan_write(&path, data, expect)).await.map(|written| written.version)
    }

    async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
        let path = path.clone();
        self.change(move |tree| tree.plan_delete(&path, expect)).await.map(|_| ())
    }

    async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
        ending(self.shared.live(self.session).and_then(|state| state.tree.children(path)))
    }

    async fn watch(&self, path: &NodePath) -> Ending<Watch> {
        ending(self.shared.live(self.session).map(|mut state| state.tree.watch(path)))
    }

    async fn expired(&self) {
        let mut ended = self.shared.sessions_ended.subscribe();
        while self.shared.live(self.session).is_ok() {
            ended.changed().await.expect("the store outlives its sessions");
        }
    }

    async fn close(&self) {
        self.shared.end(self.session);
    }
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        self.shared.end(self.session);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::conformance::{applied, refused};
    use crate::coordination::conformance::{CoordinationHarness, DurableCoordinationHarness};
    use crate::embedded::{DiskFaults, StoreOptions};

    struct Embedded {
        tree: EmbeddedCoordination,
        _directory: TempDir,
    }

    impl Embedded {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let store = Store::open(directory.path()).expect("the store opens");
            let tree = EmbeddedCoordination::open(store).expect("the tree opens");
            Self { tree, _directory: directory }
        }
    }

    impl CoordinationHarness for Embedded {
        type Session = EmbeddedSession;

        async fn connect(&self) -> EmbeddedSession {
            self.tree.connect()
        }

        async fn expire(&self, session: &EmbeddedSession) {
            session.expire();
        }
    }

    struct Restarting(TempDir);

    impl DurableCoordinationHarness for Restarting {
        type Session = EmbeddedSession;

        async fn open(&self) -> EmbeddedSession {
            let store = Store::open(self.0.path()).expect("the store opens");
            EmbeddedCoordination::open(store).expect("the tree opens").connect()
        }
    }

    crate::coordination_conformance!(embedded, Embedded::new());
    crate::durable_coordination_conformance!(
        embedded_restarts,
        Restarting(tempfile::tempdir().expect("a temporary directory"))
    );

    #[tokio::test]
    async fn a_failed_disk_leaves_what_is_visible_and_what_is_stored_the_same() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let faults = DiskFaults::new();
        let options = StoreOptions { faults: Some(Arc::clone(&faults)), ..StoreOptions::default() };
        let store = Store::open_with(directory.path(), options).expect("the store opens");
        let session = EmbeddedCoordination::open(store.clone()).expect("the tree opens").connect();
        let path = NodePath::new("/offset").expect("valid");
        let version = applied(session.create(&path, Bytes::from_static(b"1"), Lifetime::Durable).await);
        faults.limit_length(store.file().metadata().expect("a file").len());
        let large = Bytes::from(vec![0; 4 << 20]);
        let ending = session.write(&path, large, Expect::Version(version)).await;
        assert_eq!(refused(ending), RefusalKind::Unavailable);
        faults.heal();
        assert_eq!(applied(session.read(&path).await).data, Bytes::from_static(b"1"));
        faults.fail_sync();
        let ending = session.write(&path, Bytes::from_static(b"2"), Expect::Version(version)).await;
        assert!(!matches!(ending, Ending::Applied(_)), "{ending:?}");
        faults.heal();
        // The next change learns what became of the one before.
        applied(session.write(&path, Bytes::from_static(b"3"), Expect::Any).await);
        let again = EmbeddedCoordination::open(store).expect("the tree opens").connect();
        assert_eq!(applied(again.read(&path).await), applied(session.read(&path).await));
    }
}
