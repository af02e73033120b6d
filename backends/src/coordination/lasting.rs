//! A store that outlives its sessions: whoever keeps nothing through a session need not know that they end.
//!
//! A session that is over is replaced by the next call. Session nodes are refused: they would vanish without a word, and
//! are for those who open sessions themselves.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion, Watch};

/// Opens sessions.
pub trait Sessions: Send + Sync + 'static {
    /// What it opens.
    type Session: Coordination;
    /// Why it cannot.
    type Error: fmt::Display + Send;

    /// Opens a session.
    fn open(&self) -> impl Future<Output = Result<Arc<Self::Session>, Self::Error>> + Send;
}

/// A store that opens sessions as they are needed.
#[derive(Debug)]
pub struct Lasting<O: Sessions> {
    sessions: O,
    current: Mutex<Option<Arc<O::Session>>>,
}

impl<O: Sessions> Lasting<O> {
    /// A store with a session, so that what cannot be reached is known at once.
    ///
    /// # Errors
    /// There is no session to be had.
    pub async fn open(sessions: O) -> Result<Self, O::Error> {
        let first = sessions.open().await?;
        Ok(Self { sessions, current: Mutex::new(Some(first)) })
    }

    async fn session<T>(&self) -> Result<Arc<O::Session>, Ending<T>> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        match self.sessions.open().await {
            Ok(session) => {
                *current = Some(Arc::clone(&session));
                tracing::info!("a new session with the coordination store");
                Ok(session)
            }
            Err(error) => {
                tracing::warn!(%error, "no session with the coordination store; the next request tries again");
                Err(Ending::Refused(Refusal::new(RefusalKind::Unavailable, error.to_string())))
            }
        }
    }

    /// Calls, and once more in a new session if the one in use was over: then nothing was done.
    async fn call<T, F>(&self, call: impl Fn(Arc<O::Session>) -> F) -> Ending<T>
    where
        F: Future<Output = Ending<T>>,
    {
        let session = match self.session().await {
            Ok(session) => session,
            Err(ending) => return ending,
        };
        let ending = call(Arc::clone(&session)).await;
        if !matches!(&ending, Ending::Refused(refusal) if refusal.kind == RefusalKind::Fenced) {
            return ending;
        }
        {
            let mut current = self.current.lock().await;
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &session)) {
                *current = None;
            }
        }
        match self.session().await {
            Ok(session) => call(session).await,
            Err(ending) => ending,
        }
    }
}

impl<O: Sessions> Coordination for Lasting<O> {
    async fn read(&self, path: &NodePath) -> Ending<Node> {
        self.call(|session| async move { session.read(path).await }).await
    }

    async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
        if lifetime == Lifetime::Session {
            return Ending::Refused(Refusal::new(RefusalKind::Invalid, "SessionNode"));
        }
        self.call(|session| {
            let data = data.clone();
            async move { session.create(path, data, lifetime).await }
        })
        .await
    }

    async fn create_numbered(&self, _prefix: &NodePath, _data: Bytes) -> Ending<NodePath> {
        Ending::Refused(Refusal::new(RefusalKind::Invalid, "SessionNode"))
    }

    async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
        self.call(|session| {
            let data = data.clone();
            async move { session.write(path, data, expect).await }
        })
        .await
    }

    async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
        self.call(|session| async move { session.delete(path, expect).await }).await
    }

    async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
        self.call(|session| async move { session.children(path).await }).await
    }

    async fn watch(&self, path: &NodePath) -> Ending<Watch> {
        self.call(|session| async move { session.watch(path).await }).await
    }

    /// Never: another session takes its place.
    async fn expired(&self) {
        std::future::pending::<()>().await;
    }

    async fn close(&self) {
        let session = self.current.lock().await.take();
        if let Some(session) = session {
            session.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::memory::{MemoryCoordination, MemorySession};
    use std::convert::Infallible;

    struct InMemory(MemoryCoordination);

    impl Sessions for InMemory {
        type Session = MemorySession;
        type Error = Infallible;

        async fn open(&self) -> Result<Arc<MemorySession>, Infallible> {
            Ok(Arc::new(self.0.connect()))
        }
    }

    #[tokio::test]
    async fn a_session_that_is_over_is_replaced() {
        let service = MemoryCoordination::new();
        let Ok(store) = Lasting::open(InMemory(service)).await;
        let path = NodePath::new("/a").expect("a path");
        let created = store.create(&path, Bytes::from_static(b"1"), Lifetime::Durable).await;
        assert!(matches!(created, Ending::Applied(_)));
        let refused = store.create(&path, Bytes::new(), Lifetime::Session).await;
        assert!(matches!(refused, Ending::Refused(refusal) if refusal.kind == RefusalKind::Invalid));
        let session = store.current.lock().await.clone().expect("one was opened");
        session.close().await;
        let written = store.write(&path, Bytes::from_static(b"2"), Expect::Any).await;
        assert!(matches!(written, Ending::Applied(_)), "{written:?}");
        let read = store.read(&path).await;
        assert!(matches!(read, Ending::Applied(node) if &node.data[..] == b"2"));
    }
}
