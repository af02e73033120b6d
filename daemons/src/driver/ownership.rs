//! Who may move the position of a journal: the instance whose owner node lists it (decision D8).

use backbeat_backends::coordination::{Coordination, NodePath};
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::Provision;
use backbeat_core::provisioning::decode;

/// The claim of one membership to one provision. It is true for as long as the owner node of that membership lists the
/// provision: an instance that joins again has another node, and what it claimed before stays untrue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    owner: NodePath,
    provision: Provision,
}

impl Ownership {
    pub(super) fn new(owner: NodePath, provision: Provision) -> Self {
        Self { owner, provision }
    }

    /// The provision that is claimed.
    pub fn provision(&self) -> &Provision {
        &self.provision
    }

    /// Asks the store, through any session. `Refused(Fenced)` if the claim is not true (any more); another refusal or
    /// `Unknown` if the store did not tell.
    pub async fn check<C: Coordination>(&self, store: &C) -> Ending<()> {
        let node = match store.read(&self.owner).await {
            Ending::Applied(node) => node,
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => return self.fenced(),
            Ending::Refused(refusal) => return Ending::Refused(refusal),
            Ending::Unknown => return Ending::Unknown,
        };
        let is_listed = decode(&node.data).is_some_and(|share| share.contains(&self.provision));
        if is_listed { Ending::Applied(()) } else { self.fenced() }
    }

    fn fenced(&self) -> Ending<()> {
        tracing::warn!(provision = %self.provision, owner = %self.owner, "no longer the owner");
        Ending::Refused(Refusal::new(RefusalKind::Fenced, "NotOwner"))
    }
}
