//! The coordination store: the position node and the ownership of the journal.
//!
//! Contract relied on:
//! - A position write names the node version it replaces; another version refuses it (`Conflict`). Reads are not stale.
//! - At most one live session owns the journal. A session that is not renewed in time ends, and the owner's node with it;
//!   the old owner hears of it later, or never while it stands still.
//! - Being the owner is checked when a position is saved (decision D8): the save of a session that has ended is refused
//!   (`Fenced`).

use backbeat_core::id::{JournalEpoch, Seq};
use backbeat_core::populator::StoredPosition;

use crate::ids::ProcId;

/// The coordination store.
#[derive(Debug, Default)]
pub struct Coordination {
    /// The position node.
    pub position: StoredPosition,
    /// Who owns the journal: process and life.
    pub owner: Option<(ProcId, u32)>,
    /// It answers nothing before this time.
    pub down_until: u64,
}

/// How the store answers a position write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveAnswer {
    /// Stored; the node has this version now.
    Saved(u64),
    /// The node has another version.
    Conflict,
    /// The sender's session does not own the journal.
    Fenced,
}

impl Coordination {
    /// Takes a position write.
    pub fn save(&mut self, by: (ProcId, u32), seq: Seq, epoch: JournalEpoch, version: u64) -> SaveAnswer {
        if self.owner != Some(by) {
            return SaveAnswer::Fenced;
        }
        if self.position.version != version {
            return SaveAnswer::Conflict;
        }
        self.position = StoredPosition { position: Some((seq, epoch)), version: version + 1 };
        SaveAnswer::Saved(version + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_writes_and_only_over_what_it_read() {
        let mut store = Coordination { owner: Some((ProcId(0), 1)), ..Coordination::default() };
        assert_eq!(store.save((ProcId(0), 1), Seq(5), JournalEpoch(1), 0), SaveAnswer::Saved(1));
        assert_eq!(store.save((ProcId(0), 1), Seq(6), JournalEpoch(1), 0), SaveAnswer::Conflict);
        assert_eq!(store.save((ProcId(1), 1), Seq(6), JournalEpoch(1), 1), SaveAnswer::Fenced);
        assert_eq!(store.position.position, Some((Seq(5), JournalEpoch(1))));
    }
}
