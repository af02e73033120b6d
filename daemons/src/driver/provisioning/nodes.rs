//! The nodes that instances share the journals through, and one instance's part in them (replication reference 2.9).

use std::sync::Arc;

use backbeat_backends::coordination::{
    Coordination, Expect, InvalidPath, Lifetime, Node, NodePath, NodeVersion, Watch,
};
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Member, Provision};
use backbeat_core::provisioning::{Fleet, Owner, Share, Sight, decode, encode, leads};
use bytes::Bytes;
use futures_util::StreamExt as _;

/// Shares written, and owners read, at once.
const PARALLEL_MAX: usize = 20;

/// Where the nodes are.
#[derive(Clone, Debug)]
pub struct ProvisioningNodes {
    leaders: NodePath,
    owners: NodePath,
    provisions: NodePath,
}

impl ProvisioningNodes {
    /// The nodes under `zookeeper_path` (upstream's `queuePopulator.zookeeperPath`), for sessions whose paths are below the
    /// folder of `zookeeper.connectionString`. Unlike in the path of the position, `zookeeper_path` appears once
    /// (replication reference 2.9).
    pub fn new(zookeeper_path: &str) -> Result<Self, InvalidPath> {
        Self::of(zookeeper_path, "raft-id-dispatcher")
    }

    /// The same for journals that upstream does not share out: below `folder` instead of upstream's.
    pub fn of(zookeeper_path: &str, folder: &str) -> Result<Self, InvalidPath> {
        let base = NodePath::new(&format!("{}/{folder}", zookeeper_path.trim_end_matches('/')))?;
        Ok(Self {
            leaders: base.child("leaders")?,
            owners: base.child("owners")?,
            provisions: base.child("provisions")?,
        })
    }

    /// The node whose children are the provisions. Whoever installs the system makes one for each journal (bucketd's raft
    /// session number).
    pub fn provisions(&self) -> &NodePath {
        &self.provisions
    }
}

/// A session with the nodes of one instance.
pub(super) struct Membership<C> {
    pub(super) session: Arc<C>,
    nodes: ProvisioningNodes,
    /// The name of the candidate's node.
    candidate: String,
    /// The owner node.
    pub(super) owner: NodePath,
    /// Of the candidates, the owners, the provisions, and the own node.
    pub(super) watches: [Watch; 4],
}

/// A request to the store did not come to a good end.
enum Trouble {
    Refused(Refusal),
    Unknown,
}

fn settled<T>(ending: Ending<T>) -> Result<T, Trouble> {
    match ending {
        Ending::Applied(value) => Ok(value),
        Ending::Refused(refusal) => Err(Trouble::Refused(refusal)),
        Ending::Unknown => Err(Trouble::Unknown),
    }
}

/// A node that is not there is none, and no trouble.
fn found<T>(ending: Ending<T>) -> Result<Option<T>, Trouble> {
    match ending {
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
        ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => settled(ending).map(Some),
    }
}

fn ending<T>(result: Result<T, Trouble>) -> Ending<T> {
    match result {
        Ok(value) => Ending::Applied(value),
        Err(Trouble::Refused(refusal)) => Ending::Refused(refusal),
        Err(Trouble::Unknown) => Ending::Unknown,
    }
}

/// Twelve random hexadecimal digits, as upstream names owners.
fn fresh_name() -> String {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    hex::encode(bytes)
}

impl<C: Coordination> Membership<C> {
    /// Watches, and makes the nodes. Whatever ends badly or unknown ends the session, and all that was made.
    pub(super) async fn join(session: C, nodes: ProvisioningNodes) -> Option<Self> {
        match Self::try_join(&session, &nodes).await {
            Ok((watches, owner, candidate)) => {
                Some(Self { session: Arc::new(session), nodes, candidate, owner, watches })
            }
            Err(trouble) => {
                let reason = match trouble {
                    Trouble::Refused(refusal) => refusal.code,
                    Trouble::Unknown => "no answer".to_owned(),
                };
                tracing::warn!(reason, nodes = %nodes.owners, "the nodes to share the journals could not be made; trying again");
                session.close().await;
                None
            }
        }
    }

    async fn try_join(
        session: &C,
        nodes: &ProvisioningNodes,
    ) -> Result<([Watch; 4], NodePath, String), Trouble> {
        let name = fresh_name();
        let owner = nodes.owners.child(&name).expect("the name has no slash");
        let watches = [
            settled(session.watch(&nodes.leaders).await)?,
            settled(session.watch(&nodes.owners).await)?,
            settled(session.watch(&nodes.provisions).await)?,
            settled(session.watch(&owner).await)?,
        ];
        // An owner first: whoever leads has a share.
        settled(session.create(&owner, Bytes::from_static(b"[]"), Lifetime::Session).await)?;
        let prefix = nodes.leaders.child("leader").expect("the name has no slash");
        let candidate = settled(session.create_numbered(&prefix, Bytes::from(name)).await)?;
        Ok((watches, owner, candidate.name().to_owned()))
    }

    /// Looks at the nodes; as the leader, at all of them.
    pub(super) fn look(&self) -> impl Future<Output = Ending<Sight>> + Send + 'static {
        let (session, nodes) = (Arc::clone(&self.session), self.nodes.clone());
        let (candidate, owner) = (self.candidate.clone(), self.owner.clone());
        async move { ending(see(&*session, &nodes, &candidate, &owner).await) }
    }

    /// Writes shares.
    pub(super) fn deal(&self, shares: Vec<Share>) -> impl Future<Output = Ending<()>> + Send + 'static {
        let (session, owners) = (Arc::clone(&self.session), self.nodes.owners.clone());
        async move {
            let writes = futures_util::stream::iter(shares)
                .map(|share| write(&*session, &owners, share))
                .buffer_unordered(PARALLEL_MAX);
            // All of them are tried, whatever becomes of one.
            let results: Vec<Result<(), Trouble>> = writes.collect().await;
            ending(results.into_iter().collect())
        }
    }
}

async fn see<C: Coordination>(
    session: &C,
    nodes: &ProvisioningNodes,
    candidate: &str,
    owner: &NodePath,
) -> Result<Sight, Trouble> {
    let candidates = found(session.children(&nodes.leaders).await)?.unwrap_or_default();
    let own = found(session.read(owner).await)?;
    let is_member = own.is_some() && candidates.iter().any(|name| name == candidate);
    let own = own.and_then(|node| decode(&node.data)).unwrap_or_default();
    let fleet = if leads(&candidates, candidate) { Some(see_fleet(session, nodes).await?) } else { None };
    Ok(Sight { is_member, own, fleet })
}

async fn see_fleet<C: Coordination>(session: &C, nodes: &ProvisioningNodes) -> Result<Fleet, Trouble> {
    let names = found(session.children(&nodes.owners).await)?.unwrap_or_default();
    let provisions = found(session.children(&nodes.provisions).await)?.unwrap_or_default();
    let read = async |name: String| match nodes.owners.child(&name) {
        Ok(path) => Ok(found(session.read(&path).await)?.map(|node| seen_owner(name, &node))),
        // The store would not have such a node.
        Err(_) => Ok(None),
    };
    let mut owners = Vec::with_capacity(names.len());
    let mut reads = futures_util::stream::iter(names).map(read).buffered(PARALLEL_MAX);
    while let Some(owner) = reads.next().await {
        owners.extend(owner?);
    }
    Ok(Fleet { owners, provisions: provisions.into_iter().map(Provision::from).collect() })
}

fn seen_owner(name: String, node: &Node) -> Owner {
    let version = u64::from(node.version.0);
    Owner { member: Member::from(name), version, share: decode(&node.data) }
}

async fn write<C: Coordination>(session: &C, owners: &NodePath, share: Share) -> Result<(), Trouble> {
    let Ok(path) = owners.child(share.member.as_str()) else { return Ok(()) };
    let version = u32::try_from(share.version).expect("it was read from a node");
    let data = Bytes::from(encode(&share.provisions));
    found(session.write(&path, data, Expect::Version(NodeVersion(version))).await).map(|_| ())
}
