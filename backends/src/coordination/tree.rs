//! The tree itself: nodes, versions, sessions and watches, as plain state.

use std::collections::BTreeMap;

use backbeat_core::call::{Refusal, RefusalKind};
use bytes::Bytes;
use tokio::sync::watch;

use super::{Expect, Lifetime, Node, NodePath, NodeVersion, Watch};

/// A session, in the order of beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    data: Bytes,
    version: NodeVersion,
    session: Option<SessionId>,
}

/// A change to the durable part of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put { path: NodePath, data: Bytes, version: NodeVersion },
    Delete { path: NodePath },
}

/// What a valid write is going to do: first its durable part is stored, then it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What has to be stored, in order.
    pub(crate) changes: Vec<Change>,
    ephemeral: Option<(NodePath, Kept)>,
    gone: Option<NodePath>,
    written: Written,
}

/// The node that a plan makes, changes or deletes, and its version afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) path: NodePath,
    pub(crate) version: NodeVersion,
}

impl Plan {
    /// Whether it makes or changes an ephemeral node.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.ephemeral.is_some()
    }

    /// Its durable part alone: the session of the ephemeral one has ended meanwhile.
    pub(crate) fn without_ephemeral(self) -> Self {
        Self { ephemeral: None, ..self }
    }
}

/// Nodes by path, and who watches them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<NodePath, Kept>,
    /// How many nodes were made below each node, and below the root: the next one's number, as ZooKeeper counts.
    made: BTreeMap<Option<NodePath>, u32>,
    watches: BTreeMap<NodePath, watch::Sender<u64>>,
}

fn refusal(kind: RefusalKind, code: &str) -> Refusal {
    Refusal::new(kind, code)
}

impl Tree {
    /// A node, if there is one.
    pub(crate) fn read(&self, path: &NodePath) -> Result<Node, Refusal> {
        let kept = self.kept(path)?;
        Ok(Node { data: kept.data.clone(), version: kept.version })
    }

    /// The names directly below a node.
    pub(crate) fn children(&self, path: &NodePath) -> Result<Vec<String>, Refusal> {
        self.kept(path)?;
        Ok(self.below(path).filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    /// Checks the making of a node.
    pub(crate) fn plan_create(
        &self,
        path: &NodePath,
        data: Bytes,
        lifetime: Lifetime,
        session: SessionId,
    ) -> Result<Plan, Refusal> {
        if self.nodes.contains_key(path) {
            return Err(refusal(RefusalKind::Conflict, "NodeExists"));
        }
        let mut changes = Vec::new();
        let mut above = path.parent();
        while let Some(parent) = above {
            match self.nodes.get(&parent) {
                Some(kept) if kept.session.is_some() => {
                    return Err(refusal(RefusalKind::Invalid, "NoChildrenForEphemerals"));
                }
                Some(_) => break,
                None => {
                    above = parent.parent();
                    changes.push(Change::Put { path: parent, data: Bytes::new(), version: NodeVersion(0) });
                }
            }
        }
        changes.reverse();
        let version = NodeVersion(0);
        let ephemeral = match lifetime {
            Lifetime::Durable => {
                changes.push(Change::Put { path: path.clone(), data, version });
                None
            }
            Lifetime::Session => Some((path.clone(), Kept { data, version, session: Some(session) })),
        };
        Ok(Plan { changes, ephemeral, gone: None, written: Written { path: path.clone(), version } })
    }

    /// Checks the making of a numbered node.
    pub(crate) fn plan_create_numbered(
        &self,
        prefix: &NodePath,
        data: Bytes,
        session: SessionId,
    ) -> Result<Plan, Refusal> {
        let number = self.made.get(&prefix.parent()).copied().unwrap_or_default();
        self.plan_create(&prefix.numbered(number), data, Lifetime::Session, session)
    }

    /// Checks the replacing of a node's data.
    pub(crate) fn plan_write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Result<Plan, Refusal> {
        let kept = self.kept(path)?;
        if !expect.holds(kept.version) {
            return Err(refusal(RefusalKind::Conflict, "BadVersion"));
        }
        let version = NodeVersion(kept.version.0.wrapping_add(1));
        let written = Written { path: path.clone(), version };
        Ok(match kept.session {
            None => Plan {
                changes: vec![Change::Put { path: path.clone(), data, version }],
                ephemeral: None,
                gone: None,
                written,
            },
            Some(session) => {
                let kept = Kept { data, version, session: Some(session) };
                Plan { changes: Vec::new(), ephemeral: Some((path.clone(), kept)), gone: None, written }
            }
        })
    }

    /// Checks the deletion of a node.
    pub(crate) fn plan_delete(&self, path: &NodePath, expect: Expect) -> Result<Plan, Refusal> {
        let kept = self.kept(path)?;
        if !expect.holds(kept.version) {
            return Err(refusal(RefusalKind::Conflict, "BadVersion"));
        }
        if self.below(path).next().is_some() {
            return Err(refusal(RefusalKind::Conflict, "NotEmpty"));
        }
        let written = Written { path: path.clone(), version: kept.version };
        Ok(match kept.session {
            None => Plan {
                changes: vec![Change::Delete { path: path.clone() }],
                ephemeral: None,
                gone: None,
                written,
            },
            Some(_) => Plan { changes: Vec::new(), ephemeral: None, gone: Some(path.clone()), written },
        })
    }

    /// Carries out a plan that was made for the present state.
    pub(crate) fn apply(&mut self, plan: Plan) -> Written {
        for change in plan.changes {
            self.apply_change(change);
        }
        if let Some((path, kept)) = plan.ephemeral {
            self.put(&path, kept);
        }
        if let Some(path) = plan.gone {
            self.remove(&path);
        }
        plan.written
    }

    /// Carries out one durable change.
    pub(crate) fn apply_change(&mut self, change: Change) {
        match change {
            Change::Put { path, data, version } => self.put(&path, Kept { data, version, session: None }),
            Change::Delete { path } => self.remove(&path),
        }
    }

    /// Makes the durable part of the tree what is stored.
    pub(crate) fn replace_durable(&mut self, stored: Vec<Change>) {
        let durable = self.nodes.iter().filter(|(_, kept)| kept.session.is_none());
        let mut gone: Vec<NodePath> = durable.map(|(path, _)| path.clone()).collect();
        for change in stored {
            if let Change::Put { path, .. } = &change {
                gone.retain(|known| known != path);
            }
            self.apply_change(change);
        }
        for path in gone {
            self.remove(&path);
        }
    }

    /// Deletes the ephemeral nodes of a session, and wakes every watch: one of them may be its own.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        let held = self.nodes.iter().filter(|(_, kept)| kept.session == Some(session));
        for path in held.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.remove(&path);
        }
        for changes in self.watches.values() {
            changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Watches a node.
    pub(crate) fn watch(&mut self, path: &NodePath) -> Watch {
        self.watches.retain(|_, changes| changes.receiver_count() > 0);
        Watch::new(self.watches.entry(path.clone()).or_default().subscribe())
    }

    fn kept(&self, path: &NodePath) -> Result<&Kept, Refusal> {
        self.nodes.get(path).ok_or_else(|| refusal(RefusalKind::NotFound, "NoNode"))
    }

    /// The paths below a node, relative to it, in order.
    fn below<'a>(&'a self, path: &'a NodePath) -> impl Iterator<Item = &'a str> {
        let first = format!("{path}/");
        self.nodes
            .range(NodePath(first.clone().into())..)
            .map_while(move |(below, _)| below.as_str().strip_prefix(first.as_str()))
    }

    fn put(&mut self, path: &NodePath, kept: Kept) {
        let made = self.nodes.insert(path.clone(), kept).is_none();
        if made {
            *self.made.entry(path.parent()).or_default() += 1;
        }
        self.touch(path, made);
    }

    fn remove(&mut self, path: &NodePath) {
        if self.nodes.remove(path).is_some() {
            self.made.remove(&Some(path.clone()));
            self.touch(path, true);
        }
    }

    fn touch(&self, path: &NodePath, set_changed: bool) {
        let parent = if set_changed { path.parent() } else { None };
        for watched in std::iter::once(path).chain(parent.as_ref()) {
            if let Some(changes) = self.watches.get(watched) {
                changes.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }
}
