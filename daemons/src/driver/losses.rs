//! Where it is written down that the journal lost records before they were queued: a node beside the populator's position, with
//! a JSON list, the newest loss last. People read it; whoever queues the lost changes from a listing may empty it.

use backbeat_backends::coordination::{Coordination, Expect, Lifetime, Node, NodePath, NodeVersion};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::populator::{Loss, LossKind};
use backbeat_core::time::WallTime;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Losses kept; the oldest go first.
const KEPT_MAX: usize = 100;

/// A loss as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written {
    kind: String,
    /// The first record that may be lost, and the epoch of its journal.
    wanted: u64,
    wanted_epoch: u64,
    /// Where reading went on.
    resumes: u64,
    resumes_epoch: u64,
    /// When it was noticed, in milliseconds since the epoch.
    at: i64,
}

impl Written {
    fn of(loss: &Loss, at: WallTime) -> Self {
        let kind = match loss.kind() {
            LossKind::CutOff => "cutOff",
            LossKind::Replaced => "replaced",
            LossKind::WentBack => "wentBack",
        };
        Self {
            kind: kind.to_owned(),
            wanted: loss.wanted.0.0,
            wanted_epoch: loss.wanted.1.0,
            resumes: loss.resumes.0.0,
            resumes_epoch: loss.resumes.1.0,
            at: at.as_millis(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        Self { at: 0, ..self.clone() } == Self { at: 0, ..other.clone() }
    }
}

/// What is written down, and the version of the node if there is one.
async fn load<C: Coordination>(store: &C, node: &NodePath) -> Ending<(Vec<Written>, Option<NodeVersion>)> {
    match store.read(node).await {
        Ending::Applied(Node { data, version }) => {
            let known = serde_json::from_slice(&data).unwrap_or_else(|error| {
                tracing::error!(%node, %error, content = %String::from_utf8_lossy(&data), "list of losses cannot be read; starting a new one");
                Vec::new()
            });
            Ending::Applied((known, Some(version)))
        }
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
            Ending::Applied((Vec::new(), None))
        }
        Ending::Refused(refusal) => Ending::Refused(refusal),
        Ending::Unknown => Ending::Unknown,
    }
}

/// Writes a loss down. One that is the last in the list already is not added again.
pub(super) async fn record<C: Coordination>(
    store: &C,
    node: &NodePath,
    loss: Loss,
    at: WallTime,
) -> Ending<()> {
    let (mut known, version) = match load(store, node).await {
        Ending::Applied(loaded) => loaded,
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    };
    let written = Written::of(&loss, at);
    if known.last().is_some_and(|last| last.is_same(&written)) {
        return Ending::Applied(());
    }
    known.push(written);
    let surplus = known.len().saturating_sub(KEPT_MAX);
    known.drain(..surplus);
    let data = Bytes::from(serde_json::to_vec(&known).unwrap_or_default());
    match version {
        None => store.create(node, data, Lifetime::Durable).await.map(|_| ()),
        Some(version) => store.write(node, data, Expect::Version(version)).await.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_backends::coordination::memory::MemoryCoordination;
    use backbeat_core::id::{JournalEpoch, Seq};

    fn loss(wanted: u64) -> Loss {
        let epoch = JournalEpoch(1);
        Loss { wanted: (Seq(wanted), epoch), resumes: (Seq(wanted + 5), epoch) }
    }

    #[tokio::test]
    async fn losses_are_kept_once_each_and_not_without_end() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let node = NodePath::new("/logState/raft_1/logLost").expect("a valid path");
        for wanted in 0..KEPT_MAX as u64 + 3 {
            for at in [1, 2] {
                let at = WallTime::from_millis(at);
                assert_eq!(record(&store, &node, loss(wanted), at).await, Ending::Applied(()));
            }
        }
        let Ending::Applied((known, _)) = load(&store, &node).await else { panic!("the node exists") };
        assert_eq!((known.len(), known[0].wanted, known[0].at), (KEPT_MAX, 3, 1));
        assert_eq!((known[0].kind.as_str(), known[0].resumes), ("cutOff", 8));
    }
}
