//! Pause and resume of a site: kept in a node, so that a restart keeps it, and told to the processor at once.

use backbeat_backends::coordination::{Coordination, Expect, Lifetime, NodePath};
use backbeat_backends::queue::Queue;
use backbeat_backends::stats::Stats;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::processor::{Control, Event};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::operator::{Operator, OperatorError, answered};
use crate::driver::Sites;
use crate::pause::STATE;

/// Writers that change a node at the same time try again so often.
const ATTEMPTS: usize = 5;

impl<Q: Queue, S: Stats, C: Coordination, O: Sites> Operator<Q, S, C, O> {
    /// Pauses or resumes `site`, for good.
    pub async fn set_paused(&self, site: &str, paused: bool) -> Result<(), OperatorError> {
        let daemon = self.daemon(site)?;
        self.remember(site, paused).await?;
        let control = if paused { Control::Pause } else { Control::Resume };
        if !daemon.handle.tell(Event::Control(control)).await {
            return Err(OperatorError::Unavailable(format!("the processor of {site} has ended")));
        }
        tracing::info!(site, paused, "replication to the site paused or resumed");
        Ok(())
    }

    /// Whether `site` is paused.
    pub async fn is_paused(&self, site: &str) -> Result<bool, OperatorError> {
        self.daemon(site)?;
        is_paused(&*self.coordination, site).await
    }

    /// Writes the state down; members that are not ours stay.
    async fn remember(&self, site: &str, paused: bool) -> Result<(), OperatorError> {
        let path = path(site)?;
        for _ in 0..ATTEMPTS {
            let (mut state, expect) = match state_of(&*self.coordination, site).await? {
                Some((state, expect)) => (state, Some(expect)),
                None => (Map::new(), None),
            };
            state.insert("paused".to_owned(), Value::Bool(paused));
            state.remove("scheduledResume");
            let data = Bytes::from(Value::Object(state).to_string());
            let written = match expect {
                Some(expect) => self.coordination.write(&path, data, expect).await,
                None => self.coordination.create(&path, data, Lifetime::Durable).await,
            };
            if !matches!(&written, Ending::Refused(refusal) if refusal.kind == RefusalKind::Conflict) {
                return answered(written, "the coordination store").map(drop);
            }
        }
        Err(OperatorError::Unavailable(format!("the state of {site} keeps changing")))
    }
}

/// Whether `site` is paused, as its node says: also of a site that has not started yet.
///
/// # Errors
/// The name is none, or the node cannot be read.
pub async fn is_paused<C: Coordination>(coordination: &C, site: &str) -> Result<bool, OperatorError> {
    let state = state_of(coordination, site).await?.map(|(state, _)| state).unwrap_or_default();
    Ok(state.get("paused").and_then(Value::as_bool).unwrap_or(false))
}

async fn state_of<C: Coordination>(
    coordination: &C,
    site: &str,
) -> Result<Option<(Map<String, Value>, Expect)>, OperatorError> {
    let ending = coordination.read(&path(site)?).await;
    if matches!(&ending, Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound) {
        return Ok(None);
    }
    let node = answered(ending, "the coordination store")?;
    let state = serde_json::from_slice(&node.data).unwrap_or_default();
    Ok(Some((state, Expect::Version(node.version))))
}

fn path(site: &str) -> Result<NodePath, OperatorError> {
    NodePath::new(&format!("{STATE}/{site}")).map_err(|error| OperatorError::Invalid(error.to_string()))
}
