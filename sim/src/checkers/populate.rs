//! POP-1 (I1): every journal record that asks for replication reaches the queue, in order per key, before the saved position
//! passes it. POP-2 (I5): nothing else does. LEASE-1: the position never goes back.

use backbeat_core::id::Seq;

use super::seen::Violation;
use crate::world::ids::{KeyId, VerId};

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: KeyId,
    version: VerId,
    qualifies: bool,
    queued: bool,
}

/// The journal as clients and the engine filled it.
#[derive(Debug, Default)]
pub(super) struct Population {
    entries: Vec<Entry>,
    /// Per key: the newest record that reached the queue.
    newest: Vec<Option<Seq>>,
    saved: u64,
}

fn index(seq: Seq) -> usize {
    usize::try_from(seq.0).expect("an index") - 1
}

impl Population {
    pub(super) fn new(keys: usize) -> Self {
        Self { entries: Vec::new(), newest: vec![None; keys], saved: 1 }
    }

    pub(super) fn journaled(&mut self, seq: Seq, key: KeyId, version: VerId, qualifies: bool) {
        assert_eq!(index(seq), self.entries.len(), "journal records are numbered without gaps");
        self.entries.push(Entry { key, version, qualifies, queued: false });
    }

    /// Whether this journal record was queued before.
    pub(super) fn is_queued(&self, seq: Seq) -> bool {
        self.entries.get(index(seq)).is_some_and(|entry| entry.queued)
    }

    pub(super) fn queued(&mut self, seq: Seq, version: Option<VerId>) -> Result<(), Violation> {
        let Some(entry) = self.entries.get_mut(index(seq)) else {
            return Err(Violation::new("POP-2", format!("record {} is not in the journal", seq.0)));
        };
        if !entry.qualifies || version != Some(entry.version) {
            return Err(Violation::new("POP-2", format!("record {} does not ask for replication", seq.0)));
        }
        if entry.queued {
            return Ok(());
        }
        entry.queued = true;
        let key = entry.key;
        // First appearances follow the journal: nothing older of this key may still be missing.
        let newest = &mut self.newest[key.index()];
        let from = newest.map_or(0, |newest| index(newest) + 1);
        *newest = Some(newest.map_or(seq, |newest| newest.max(seq)));
        let skipped = (from..index(seq)).find(|&at| {
            let earlier = self.entries[at];
            earlier.key == key && earlier.qualifies && !earlier.queued
        });
        match skipped {
            Some(at) => Err(Violation::new(
                "POP-1",
                format!("record {} reached the queue before record {}", seq.0, at + 1),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn saved(&mut self, next: Seq) -> Result<(), Violation> {
        if next.0 < self.saved {
            return Err(Violation::new(
                "LEASE-1",
                format!("the position went back from {} to {}", self.saved, next.0),
            ));
        }
        let lost = (self.saved..next.0).find(|&seq| {
            self.entries.get(index(Seq(seq))).is_none_or(|entry| entry.qualifies && !entry.queued)
        });
        self.saved = next.0;
        match lost {
            Some(seq) => {
                let message =
                    format!("the position was saved as {} but record {seq} is not in the queue", next.0);
                Err(Violation::new("POP-1", message))
            }
            None => Ok(()),
        }
    }

    /// The first record that asks for replication and never reached the queue.
    pub(super) fn missing(&self) -> Option<u64> {
        (1..).zip(&self.entries).find(|(_, entry)| entry.qualifies && !entry.queued).map(|(seq, _)| seq)
    }
}
