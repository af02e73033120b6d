//! POP-1 (I1): every journal record that asks for replication reaches the queue, in order per key, before the saved position
//! passes it, or is written down as lost; and nothing is that could still be read. POP-2 (I5): nothing else reaches the queue.
//! LEASE-1: the position never goes back.

use super::seen::Violation;
use crate::ids::{KeyId, VerId};

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: KeyId,
    version: VerId,
    qualifies: bool,
    queued: bool,
    lost: bool,
}

impl Entry {
    /// Whether it still has to reach the queue.
    fn is_open(&self) -> bool {
        self.qualifies && !self.queued && !self.lost
    }
}

/// The journals as clients and the engine filled them, one after the other.
#[derive(Debug, Default)]
pub(super) struct Population {
    entries: Vec<Entry>,
    /// Per key: the newest record that reached the queue.
    newest: Vec<Option<usize>>,
    saved: usize,
}

impl Population {
    pub(super) fn new(keys: usize) -> Self {
        Self { entries: Vec::new(), newest: vec![None; keys], saved: 0 }
    }

    pub(super) fn journaled(&mut self, index: usize, key: KeyId, version: VerId, qualifies: bool) {
        assert_eq!(index, self.entries.len(), "journal records are numbered without gaps");
        self.entries.push(Entry { key, version, qualifies, queued: false, lost: false });
    }

    /// Whether this journal record was queued before.
    pub(super) fn is_queued(&self, index: usize) -> bool {
        self.entries.get(index).is_some_and(|entry| entry.queued)
    }

    pub(super) fn queued(&mut self, index: usize, version: Option<VerId>) -> Result<(), Violation> {
        let Some(entry) = self.entries.get_mut(index) else {
            return Err(Violation::new("POP-2", format!("record {index} is not in the journal")));
        };
        if !entry.qualifies || version != Some(entry.version) {
            return Err(Violation::new("POP-2", format!("record {index} does not ask for replication")));
        }
        if entry.queued {
            return Ok(());
        }
        entry.queued = true;
        let key = entry.key;
        // First appearances follow the journal: nothing older of this key may still be missing.
        let newest = &mut self.newest[key.index()];
        let from = newest.map_or(0, |newest| newest + 1);
        *newest = Some(newest.map_or(index, |newest| newest.max(index)));
        let skipped = (from..index).find(|&at| {
            let earlier = self.entries[at];
            earlier.key == key && earlier.is_open()
        });
        match skipped {
            Some(at) => {
                Err(Violation::new("POP-1", format!("record {index} reached the queue before record {at}")))
            }
            None => Ok(()),
        }
    }

    /// Records are written down as lost; the oldest that can still be read has the place `oldest`.
    pub(super) fn lost(&mut self, first: usize, end: usize, oldest: usize) -> Result<(), Violation> {
        if end > oldest {
            let message = format!("records up to {end} are given up for lost, but {oldest} can be read");
            return Err(Violation::new("POP-1", message));
        }
        for entry in self.entries.iter_mut().take(end).skip(first) {
            entry.lost = true;
        }
        Ok(())
    }

    pub(super) fn saved(&mut self, next: usize) -> Result<(), Violation> {
        if next < self.saved {
            let message = format!("the position went back from {} to {next}", self.saved);
            return Err(Violation::new("LEASE-1", message));
        }
        let missed = (self.saved..next).find(|&index| self.entries.get(index).is_none_or(Entry::is_open));
        self.saved = next;
        match missed {
            Some(index) => {
                let message =
                    format!("the position was saved as {next} but record {index} is not in the queue");
                Err(Violation::new("POP-1", message))
            }
            None => Ok(()),
        }
    }

    /// The first record that asks for replication and never reached the queue.
    pub(super) fn missing(&self) -> Option<usize> {
        self.entries.iter().position(Entry::is_open)
    }
}
