//! A coordination store that opens another session when one is over, for who keeps nothing through a session but reads,
//! writes and watches durable nodes.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use backbeat_backends::coordination::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion, Watch};
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::Mutex;

/// Opens sessions as they are needed. A call that meets the end of a session is `Unavailable`: the next one has another
/// session. Session nodes are refused: they would vanish without a word.
#[derive(Debug)]
pub struct Renewed<C, F> {
    open: F,
    current: Mutex<Option<Arc<C>>>,
}

impl<C, F, Opening, E> Renewed<C, F>
where
    C: Coordination,
    F: Fn() -> Opening + Send + Sync + 'static,
    Opening: Future<Output = Result<Arc<C>, E>> + Send,
    E: Display,
{
    /// Opens sessions with `open`, the first one with the first call.
    pub fn new(open: F) -> Self {
        Self { open, current: Mutex::new(None) }
    }

    async fn session(&self) -> Result<Arc<C>, Refusal> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        match (self.open)().await {
            Ok(session) => {
                *current = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => Err(Refusal::new(RefusalKind::Unavailable, error.to_string())),
        }
    }

    async fn call<T, A: Future<Output = Ending<T>> + Send>(
        &self,
        ask: impl FnOnce(Arc<C>) -> A + Send,
    ) -> Ending<T> {
        let session = match self.session().await {
            Ok(session) => session,
            Err(refusal) => return Ending::Refused(refusal),
        };
        match ask(Arc::clone(&session)).await {
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Fenced => {
                let mut current = self.current.lock().await;
                if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &session)) {
                    *current = None;
                }
                Ending::Refused(Refusal::new(RefusalKind::Unavailable, refusal.code))
            }
            ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => ending,
        }
    }
}

impl<C, F, Opening, E> Coordination for Renewed<C, F>
where
    C: Coordination,
    F: Fn() -> Opening + Send + Sync + 'static,
    Opening: Future<Output = Result<Arc<C>, E>> + Send,
    E: Display + Send,
{
    async fn read(&self, path: &NodePath) -> Ending<Node> {
        self.call(|session| async move { session.read(path).await }).await
    }

    async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
        if lifetime == Lifetime::Session {
            return Ending::Refused(Refusal::new(RefusalKind::Invalid, "SessionsChange"));
        }
        self.call(|session| async move { session.create(path, data, lifetime).await }).await
    }

    async fn create_numbered(&self, _: &NodePath, _: Bytes) -> Ending<NodePath> {
        Ending::Refused(Refusal::new(RefusalKind::Invalid, "SessionsChange"))
    }

    async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
        self.call(|session| async move { session.write(path, data, expect).await }).await
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

    /// Never: another one is opened.
    async fn expired(&self) {
        std::future::pending::<()>().await;
    }

    async fn close(&self) {
        if let Some(session) = self.current.lock().await.take() {
            session.close().await;
        }
    }
}
