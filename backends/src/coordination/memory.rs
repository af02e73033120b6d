//! Coordination in memory: one tree that any number of sessions share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::watch;

use super::tree::{Plan, SessionId, Tree, Written};
use super::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion, Watch};

/// A tree in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryCoordination(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    sessions_ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    live: BTreeSet<SessionId>,
    sessions: u64,
}

impl MemoryCoordination {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new session.
    pub fn connect(&self) -> MemorySession {
        let mut state = self.0.state();
        state.sessions += 1;
        let session = SessionId(state.sessions);
        state.live.insert(session);
        MemorySession { shared: Arc::clone(&self.0), session }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, session: SessionId) {
        let mut state = self.state();
        if state.live.remove(&session) {
            state.tree.end_session(session);
            drop(state);
            self.sessions_ended.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// A session with a [`MemoryCoordination`].
#[derive(Debug)]
pub struct MemorySession {
    shared: Arc<Shared>,
    session: SessionId,
}

impl MemorySession {
    /// Ends the session as the store would that no longer hears of its owner.
    pub fn expire(&self) {
        self.shared.end(self.session);
    }

    fn live(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.shared.state();
        if state.live.contains(&self.session) {
            Ok(state)
        } else {
            Err(Refusal::new(RefusalKind::Fenced, "SessionExpired"))
        }
    }

    fn change(&self, plan: impl FnOnce(&Tree) -> Result<Plan, Refusal>) -> Ending<Written> {
        let applied = self.live().and_then(|mut state| {
            let plan = plan(&state.tree)?;
            Ok(state.tree.apply(plan))
        });
        ending(applied)
    }
}

fn ending<T>(result: Result<T, Refusal>) -> Ending<T> {
    match result {
        Ok(value) => Ending::Applied(value),
        Err(refusal) => Ending::Refused(refusal),
    }
}

impl Coordination for MemorySession {
    async fn read(&self, path: &NodePath) -> Ending<Node> {
        ending(self.live().and_then(|state| state.tree.read(path)))
    }

    async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
        self.change(|tree| tree.plan_create(path, data, lifetime, self.session)).map(|made| made.version)
    }

    async fn create_numbered(&self, prefix: &NodePath, data: Bytes) -> Ending<NodePath> {
        self.change(|tree| tree.plan_create_numbered(prefix, data, self.session)).map(|made| made.path)
    }

    async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
        self.change(|tree| tree.plan_write(path, data, expect)).map(|written| written.version)
    }

    async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
        self.change(|tree| tree.plan_delete(path, expect)).map(|_| ())
    }

    async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
        ending(self.live().and_then(|state| state.tree.children(path)))
    }

    async fn watch(&self, path: &NodePath) -> Ending<Watch> {
        ending(self.live().map(|mut state| state.tree.watch(path)))
    }

    async fn expired(&self) {
        let mut ended = self.shared.sessions_ended.subscribe();
        while self.live().is_ok() {
            ended.changed().await.expect("the store outlives its sessions");
        }
    }

    async fn close(&self) {
        self.shared.end(self.session);
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.shared.end(self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::conformance::CoordinationHarness;

    impl CoordinationHarness for MemoryCoordination {
        type Session = MemorySession;

        async fn connect(&self) -> MemorySession {
            Self::connect(self)
        }

        async fn expire(&self, session: &MemorySession) {
            session.expire();
        }
    }

    crate::coordination_conformance!(memory, MemoryCoordination::new());
}
