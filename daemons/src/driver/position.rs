//! Where the populator's position is kept: a node with the position as decimal text, as existing installations have it,
//! and beside it the epoch of the journal that it belongs to, and what that journal lost ([`super::losses`]).

use backbeat_backends::coordination::{
    Coordination, Expect, InvalidPath, Lifetime, Node, NodePath, NodeVersion,
};
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::populator::StoredPosition;
use bytes::Bytes;

/// The version that stands for a node which does not exist.
const ABSENT: u64 = u64::MAX;

/// The nodes of one journal.
#[derive(Clone, Debug)]
pub struct PositionNodes {
    offset: NodePath,
    epoch: NodePath,
    pub(super) lost: NodePath,
}

impl PositionNodes {
    /// The nodes of the journal `log_id` under `zookeeper_path` (upstream's `queuePopulator.zookeeperPath`). The path
    /// appears twice, as upstream's does (replication reference 2.3).
    pub fn new(zookeeper_path: &str, log_id: &str) -> Result<Self, InvalidPath> {
        let state = NodePath::new(&format!("{zookeeper_path}{zookeeper_path}/logState/{log_id}"))?;
        Ok(Self {
            offset: state.child("logOffset")?,
            epoch: state.child("logEpoch")?,
            lost: state.child("logLost")?,
        })
    }
}

/// Reads the stored position.
pub(super) async fn load<C: Coordination>(store: &C, nodes: &PositionNodes) -> Ending<StoredPosition> {
    let Node { data, version } = match store.read(&nodes.offset).await {
        Ending::Applied(node) => node,
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
            return Ending::Applied(StoredPosition { position: None, version: ABSENT });
        }
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    };
    let version = u64::from(version.0);
    if data.is_empty() {
        return Ending::Applied(StoredPosition { position: None, version });
    }
    let epoch = match store.read(&nodes.epoch).await {
        Ending::Applied(node) => node.data,
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Bytes::from_static(b"0"),
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    };
    let (Some(seq), Some(epoch)) = (number(&data), number(&epoch)) else {
        tracing::error!(node = %nodes.offset, "stored journal position is not a number; repair or delete the node");
        return Ending::Refused(Refusal::new(RefusalKind::Invalid, "UnusablePosition"));
    };
    Ending::Applied(StoredPosition { position: Some((Seq(seq), JournalEpoch(epoch))), version })
}

/// Stores a position over `version`, and gives the node's new version.
pub(super) async fn save<C: Coordination>(
    store: &C,
    nodes: &PositionNodes,
    position: Seq,
    epoch: JournalEpoch,
    version: u64,
) -> Ending<u64> {
    // The epoch goes first: a position without its epoch would be read as one of another journal.
    match save_epoch(store, nodes, epoch).await {
        Ending::Applied(()) => {}
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    }
    let data = Bytes::from(position.0.to_string());
    let ending = if version == ABSENT {
        store.create(&nodes.offset, data, Lifetime::Durable).await
    } else {
        let Ok(version) = u32::try_from(version) else {
            return Ending::Refused(Refusal::new(RefusalKind::Conflict, "BadVersion"));
        };
        store.write(&nodes.offset, data, Expect::Version(NodeVersion(version))).await
    };
    ending.map(|version| u64::from(version.0))
}

async fn save_epoch<C: Coordination>(store: &C, nodes: &PositionNodes, epoch: JournalEpoch) -> Ending<()> {
    let data = Bytes::from(epoch.0.to_string());
    match store.read(&nodes.epoch).await {
        Ending::Applied(node) if node.data == data => Ending::Applied(()),
        Ending::Applied(node) => {
            store.write(&nodes.epoch, data, Expect::Version(node.version)).await.map(|_| ())
        }
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
            store.create(&nodes.epoch, data, Lifetime::Durable).await.map(|_| ())
        }
        Ending::Refused(refusal) => Ending::Refused(refusal),
        Ending::Unknown => Ending::Unknown,
    }
}

fn number(data: &[u8]) -> Option<u64> {
    std::str::from_utf8(data).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_backends::coordination::memory::MemoryCoordination;

    #[tokio::test]
    async fn a_position_survives_and_a_second_writer_is_refused() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let nodes = PositionNodes::new("/queue-populator", "raft_1").expect("a valid path");
        let empty = load(&store, &nodes).await;
        assert_eq!(empty, Ending::Applied(StoredPosition { position: None, version: ABSENT }));
        let Ending::Applied(version) = save(&store, &nodes, Seq(7), JournalEpoch(3), ABSENT).await else {
            panic!("the first write makes the node");
        };
        let stored = StoredPosition { position: Some((Seq(7), JournalEpoch(3))), version };
        assert_eq!(load(&store, &nodes).await, Ending::Applied(stored));
        let again = save(&store, &nodes, Seq(8), JournalEpoch(3), ABSENT).await;
        assert!(matches!(again, Ending::Refused(refusal) if refusal.kind == RefusalKind::Conflict));
        assert!(matches!(save(&store, &nodes, Seq(9), JournalEpoch(3), version).await, Ending::Applied(_)));
        let stale = save(&store, &nodes, Seq(10), JournalEpoch(3), version).await;
        assert!(matches!(stale, Ending::Refused(refusal) if refusal.kind == RefusalKind::Conflict));
        let node =
            NodePath::new("/queue-populator/queue-populator/logState/raft_1/logOffset").expect("valid");
        let Ending::Applied(node) = store.read(&node).await else { panic!("the node exists") };
        assert_eq!(&node.data[..], b"9", "plain decimal text, as others read it");
    }
}
