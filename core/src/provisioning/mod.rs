//! Which populator instance reads which journals: a machine for each instance, which joins the others, deals the journals
//! among all of them while it leads, and says which ones its own instance owns (replication reference 2.9).
//!
//! Instances of upstream take part as equals: same nodes, same content, same dealing.

mod deal;
mod machine;
#[cfg(test)]
mod tests;

pub use deal::{deal, decode, encode, leads};
pub use machine::{Config, Provisioning};

use crate::call::Ending;
use crate::id::{EffectId, Member, Provision};

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The instance wants its share.
    Started,
    /// To [`Effect::Join`].
    Joined {
        /// The effect this answers. From now on it names the session.
        id: EffectId,
        /// Applied: both nodes are there, and so are the watches. Otherwise there is no session.
        ending: Ending<()>,
    },
    /// Something that is watched may have changed.
    Changed {
        /// The session that the watch belongs to.
        session: EffectId,
    },
    /// The session is over, and the nodes with it.
    SessionOver {
        /// Which one.
        session: EffectId,
    },
    /// To [`Effect::Look`].
    Looked {
        /// The effect this answers.
        id: EffectId,
        /// What there is. `Refused(Fenced)`: the session is over.
        ending: Ending<Sight>,
    },
    /// To [`Effect::Deal`].
    Dealt {
        /// The effect this answers.
        id: EffectId,
        /// Applied if every share was written, but for those of members that are gone.
        ending: Ending<()>,
    },
    /// The instance ends and wants nothing more.
    ShutDown,
    /// A timer is due.
    Timer,
}

/// What an instance sees when it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether the instance's own nodes, as a candidate and as an owner, are both there.
    pub is_member: bool,
    /// What its owner node lists.
    pub own: Vec<Provision>,
    /// Everything that has to be known to deal, if the instance leads ([`leads`]).
    pub fleet: Option<Fleet>,
}

/// What a leader deals, and among whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The owners, in the order in which they are dealt to.
    pub owners: Vec<Owner>,
    /// The provisions, in the order in which they are dealt.
    pub provisions: Vec<Provision>,
}

/// An owner node as a leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose it is.
    pub member: Member,
    /// The version of its data.
    pub version: u64,
    /// What it lists; none if it lists nothing that can be read, as a fresh one.
    pub share: Option<Vec<Provision>>,
}

/// A share to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// To whom it is dealt.
    pub member: Member,
    /// The version that the write replaces: a leader that was replaced writes nothing.
    pub version: u64,
    /// What the member owns from now on.
    pub provisions: Vec<Provision>,
}

/// What the machine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open a session, watch, and make the nodes of a candidate and of an owner. Whatever goes wrong or ends unknown on
    /// the way, the session is given up, and all that may have been made with it.
    Join {
        /// Answer with this id.
        id: EffectId,
    },
    /// Look at the nodes.
    Look {
        /// Answer with this id.
        id: EffectId,
    },
    /// Write shares. A member that is gone is passed over.
    Deal {
        /// Answer with this id.
        id: EffectId,
        /// Those that change.
        shares: Vec<Share>,
    },
    /// The instance owns these from now on, and nothing else. Comes only when the list changed. Not answered.
    Own {
        /// The whole list.
        provisions: Vec<Provision>,
    },
    /// Close the session; another one may be asked for. Not answered.
    GiveUp,
    /// Close the session, so that others take over at once. Nothing comes after it. Not answered.
    Leave,
}
