//! Where the populator's position is kept: a node with the position as decimal text, as existing installations have it,
//! and beside it the epoch of the journal that it belongs to, and what that journal lost ([`super::losses`]).
//!
//! Older installations have the node at another path. Its position is taken over, and what was taken is noted, so that a
//! process that goes on writing there is noticed: two positions of one journal are refused.

use backbeat_backends::coordination::{
    Coordination, Expect, InvalidPath, Lifetime, Node, NodePath, NodeVersion,
};
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::populator::StoredPosition;
use bytes::Bytes;

use super::ownership::Ownership;

/// The version that stands for a node which does not exist.
const ABSENT: u64 = u64::MAX;

/// The nodes of one journal.
#[derive(Clone, Debug)]
pub struct PositionNodes {
    log_id: String,
    offset: NodePath,
    /// The node of installations of version 7, if that is another one.
    old: Option<NodePath>,
    /// What was taken over from there.
    taken: NodePath,
    epoch: NodePath,
    pub(super) lost: NodePath,
    /// Without it, whoever writes against the version it read may move the position.
    ownership: Option<Ownership>,
}

impl PositionNodes {
    /// The nodes of the journal `log_id` under `zookeeper_path` (upstream's `queuePopulator.zookeeperPath`). The path
    /// appears twice, as upstream's does since version 8 (replication reference 2.3).
    pub fn new(zookeeper_path: &str, log_id: &str) -> Result<Self, InvalidPath> {
        let state = NodePath::new(&format!("{zookeeper_path}{zookeeper_path}/logState/{log_id}"))?;
        let offset = state.child("logOffset")?;
        let old = NodePath::new(&format!("{zookeeper_path}/logState/{log_id}/logOffset"))?;
        Ok(Self {
            log_id: log_id.to_owned(),
            old: (old != offset).then_some(old),
            offset,
            taken: state.child("logOffsetTaken")?,
            epoch: state.child("logEpoch")?,
            lost: state.child("logLost")?,
            ownership: None,
        })
    }

    /// What the journal is called, here and in metrics.
    pub(super) fn log_id(&self) -> &str {
        &self.log_id
    }

    /// The same nodes, for one of several populators: the position is saved only while `ownership` is true (decision D8).
    #[must_use]
    pub fn owned_by(self, ownership: Ownership) -> Self {
        Self { ownership: Some(ownership), ..self }
    }
}

/// Reads the stored position. One without an epoch was stored by a populator of upstream, which knows of none: it is one of
/// the journal that there is, whose epoch `journal_epoch` asks for.
pub(super) async fn load<C: Coordination>(
    store: &C,
    nodes: &PositionNodes,
    journal_epoch: impl AsyncFnOnce() -> Ending<JournalEpoch>,
) -> Ending<StoredPosition> {
    let (data, version) = match store.read(&nodes.offset).await {
        Ending::Applied(Node { data, version }) => (data, u64::from(version.0)),
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => (Bytes::new(), ABSENT),
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    };
    let data = match take_over(store, nodes, data).await {
        Ending::Applied(data) => data,
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    };
    if data.is_empty() {
        return Ending::Applied(StoredPosition { position: None, version });
    }
    let epoch = match read_or_empty(store, &nodes.epoch).await {
        Ending::Applied(epoch) if epoch.is_empty() => match journal_epoch().await {
            Ending::Applied(epoch) => Some(epoch),
            Ending::Refused(refusal) => return Ending::Refused(refusal),
            Ending::Unknown => return Ending::Unknown,
        },
        Ending::Applied(epoch) => number(&epoch).map(JournalEpoch),
        Ending::Refused(refusal) => return Ending::Refused(refusal),
        Ending::Unknown => return Ending::Unknown,
    };
    let (Some(seq), Some(epoch)) = (number(&data), epoch) else {
        tracing::error!(node = %nodes.offset, "stored journal position is not a number; repair or delete the node");
        return Ending::Refused(Refusal::new(RefusalKind::Invalid, "UnusablePosition"));
    };
    Ending::Applied(StoredPosition { position: Some((Seq(seq), epoch)), version })
}

/// The position to go on from, given the data of the node: its own, or what the old node says if it has none.
async fn take_over<C: Coordination>(store: &C, nodes: &PositionNodes, data: Bytes) -> Ending<Bytes> {
    let Some(node) = &nodes.old else { return Ending::Applied(data) };
    let old = match read_or_empty(store, node).await {
        Ending::Applied(old) if old.is_empty() => return Ending::Applied(data),
        Ending::Applied(old) => old,
        ending @ (Ending::Refused(_) | Ending::Unknown) => return ending,
    };
    let taken = match read_or_empty(store, &nodes.taken).await {
        Ending::Applied(taken) => taken,
        ending @ (Ending::Refused(_) | Ending::Unknown) => return ending,
    };
    if taken == old && !data.is_empty() {
        return Ending::Applied(data);
    }
    if !data.is_empty() && data != old {
        tracing::error!(
            node = %nodes.offset,
            position = %data.escape_ascii(),
            other_node = %node,
            other_position = %old.escape_ascii(),
            "two nodes hold different positions of one journal; find out which one is right and delete the other",
        );
        return Ending::Refused(Refusal::new(RefusalKind::Invalid, "TwoPositions"));
    }
    // Before the position moves on: later on the two differ.
    match note(store, &nodes.taken, old.clone()).await {
        Ending::Applied(()) => Ending::Applied(old),
        Ending::Refused(refusal) => Ending::Refused(refusal),
        Ending::Unknown => Ending::Unknown,
    }
}

async fn read_or_empty<C: Coordination>(store: &C, node: &NodePath) -> Ending<Bytes> {
    match store.read(node).await {
        Ending::Applied(node) => Ending::Applied(node.data),
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ending::Applied(Bytes::new()),
        Ending::Refused(refusal) => Ending::Refused(refusal),
        Ending::Unknown => Ending::Unknown,
    }
}

/// Stores a position over `version`, and gives the node's new version. Another owner may come between the look at who owns
/// it and the write: whoever of the two writes second is refused, because the version is another one.
pub(super) async fn save<C: Coordination>(
    store: &C,
    nodes: &PositionNodes,
    position: Seq,
    epoch: JournalEpoch,
    version: u64,
) -> Ending<u64> {
    if let Some(ownership) = &nodes.ownership {
        match ownership.check(store).await {
            Ending::Applied(()) => {}
            Ending::Refused(refusal) => return Ending::Refused(refusal),
            // Nothing was written yet.
            Ending::Unknown => {
                return Ending::Refused(Refusal::new(RefusalKind::Unavailable, "OwnerUnknown"));
            }
        }
    }
    // The epoch goes first: a position without its epoch would be read as one of another journal.
    match note(store, &nodes.epoch, Bytes::from(epoch.0.to_string())).await {
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

/// Makes a node hold `data`.
async fn note<C: Coordination>(store: &C, node: &NodePath, data: Bytes) -> Ending<()> {
    match store.read(node).await {
        Ending::Applied(found) if found.data == data => Ending::Applied(()),
        Ending::Applied(found) => store.write(node, data, Expect::Version(found.version)).await.map(|_| ()),
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
            store.create(node, data, Lifetime::Durable).await.map(|_| ())
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

    const EPOCH: JournalEpoch = JournalEpoch(11);

    /// What is stored, where the journal has the epoch 11.
    async fn loaded(store: &impl Coordination, nodes: &PositionNodes) -> Ending<StoredPosition> {
        load(store, nodes, async || Ending::Applied(EPOCH)).await
    }

    #[tokio::test]
    async fn a_position_survives_and_a_second_writer_is_refused() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let nodes = PositionNodes::new("/queue-populator", "raft_1").expect("a valid path");
        let empty = loaded(&store, &nodes).await;
        assert_eq!(empty, Ending::Applied(StoredPosition { position: None, version: ABSENT }));
        let Ending::Applied(version) = save(&store, &nodes, Seq(7), JournalEpoch(3), ABSENT).await else {
            panic!("the first write makes the node");
        };
        let stored = StoredPosition { position: Some((Seq(7), JournalEpoch(3))), version };
        assert_eq!(loaded(&store, &nodes).await, Ending::Applied(stored));
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

    #[tokio::test]
    async fn an_empty_node_is_no_position_and_nonsense_is_refused() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let nodes = PositionNodes::new("/queue-populator", "raft_1").expect("a valid path");
        let made = store.create(&nodes.offset, Bytes::new(), Lifetime::Durable).await;
        let Ending::Applied(version) = made else { panic!("{made:?}") };
        let version = u64::from(version.0);
        let empty = StoredPosition { position: None, version };
        assert_eq!(loaded(&store, &nodes).await, Ending::Applied(empty));
        assert!(matches!(save(&store, &nodes, Seq(9), EPOCH, version).await, Ending::Applied(_)));
        for nonsense in ["x", "-1", "9.5", "99999999999999999999"] {
            let written = store.write(&nodes.offset, Bytes::from(nonsense), Expect::Any).await;
            assert!(matches!(written, Ending::Applied(_)), "{written:?}");
            let refused = loaded(&store, &nodes).await;
            assert!(
                matches!(&refused, Ending::Refused(refusal) if refusal.code == "UnusablePosition"),
                "{refused:?}"
            );
            let Ending::Applied(node) = store.read(&nodes.offset).await else { panic!("the node exists") };
            assert_eq!(node.data, nonsense, "left for whoever repairs it");
        }
    }

    #[tokio::test]
    async fn the_position_of_an_older_installation_is_taken_over_once() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let nodes = PositionNodes::new("/queue-populator", "raft_1").expect("a valid path");
        let old = NodePath::new("/queue-populator/logState/raft_1/logOffset").expect("valid");
        let write = async |data: &'static [u8]| {
            let data = Bytes::from_static(data);
            match store.create(&old, data.clone(), Lifetime::Durable).await {
                Ending::Applied(_) => {}
                Ending::Refused(_) | Ending::Unknown => {
                    assert!(matches!(store.write(&old, data, Expect::Any).await, Ending::Applied(_)));
                }
            }
        };
        write(b"7").await;
        for _ in 0..2 {
            // Until a position is saved, it is the old one.
            let stored = StoredPosition { position: Some((Seq(7), EPOCH)), version: ABSENT };
            assert_eq!(loaded(&store, &nodes).await, Ending::Applied(stored));
        }
        let saved = save(&store, &nodes, Seq(9), JournalEpoch(3), ABSENT).await;
        let Ending::Applied(version) = saved else { panic!("the first write makes the node") };
        let stored = StoredPosition { position: Some((Seq(9), JournalEpoch(3))), version };
        assert_eq!(loaded(&store, &nodes).await, Ending::Applied(stored), "the old node stays as it was");
        write(b"8").await;
        let refused = loaded(&store, &nodes).await;
        assert!(
            matches!(&refused, Ending::Refused(refusal) if refusal.code == "TwoPositions"),
            "{refused:?}"
        );
        assert!(matches!(store.delete(&old, Expect::Any).await, Ending::Applied(())));
        assert_eq!(loaded(&store, &nodes).await, Ending::Applied(stored));
    }

    #[tokio::test]
    async fn a_position_of_upstream_waits_for_the_journal_to_say_who_it_is() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let nodes = PositionNodes::new("/queue-populator", "bucketFile_log").expect("a valid path");
        let made = store.create(&nodes.offset, Bytes::from_static(b"7"), Lifetime::Durable).await;
        let Ending::Applied(version) = made else { panic!("{made:?}") };
        let away = load(&store, &nodes, async || Ending::Unknown).await;
        assert_eq!(away, Ending::Unknown);
        let version = u64::from(version.0);
        let taken = StoredPosition { position: Some((Seq(7), EPOCH)), version };
        assert_eq!(loaded(&store, &nodes).await, Ending::Applied(taken));
        let saved = save(&store, &nodes, Seq(8), EPOCH, version).await;
        assert!(matches!(saved, Ending::Applied(_)), "{saved:?}");
        // From then on the epoch is stored, and another journal is noticed.
        let later = load(&store, &nodes, async || panic!("nobody asks")).await;
        assert!(
            matches!(later, Ending::Applied(later) if later.position == Some((Seq(8), EPOCH))),
            "{later:?}"
        );
    }

    #[tokio::test]
    async fn two_positions_that_differ_are_refused_and_two_equal_ones_are_one() {
        let service = MemoryCoordination::new();
        let store = service.connect();
        let nodes = PositionNodes::new("/queue-populator", "raft_1").expect("a valid path");
        for (node, data) in [(&nodes.offset, "12"), (nodes.old.as_ref().expect("another one"), "11")] {
            assert!(matches!(
                store.create(node, Bytes::from(data), Lifetime::Durable).await,
                Ending::Applied(_)
            ));
        }
        assert!(matches!(loaded(&store, &nodes).await, Ending::Refused(_)));
        let written = store.write(&nodes.offset, Bytes::from("11"), Expect::Any).await;
        let Ending::Applied(version) = written else { panic!("the node is there") };
        let version = u64::from(version.0);
        let stored = StoredPosition { position: Some((Seq(11), EPOCH)), version };
        assert_eq!(loaded(&store, &nodes).await, Ending::Applied(stored));
        assert!(matches!(save(&store, &nodes, Seq(12), JournalEpoch(0), version).await, Ending::Applied(_)));
        assert!(
            matches!(loaded(&store, &nodes).await, Ending::Applied(_)),
            "what was equal once was taken over"
        );
    }
}
