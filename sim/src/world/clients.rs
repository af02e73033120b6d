//! Clients of the source: what they put, change and delete.

use backbeat_core::rules::Rules;

use super::{Item, Phase, World};
use crate::checkers::Seen;
use crate::faults::Fault;
use crate::ids::{KeyId, VerId};
use crate::plan::{Act, Change, NullOrigin, Operation, Put, Workload};

impl<R: Rules> World<R> {
    /// One client operation; the next one follows.
    pub(super) fn client(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        self.operations_left -= 1;
        let (since, fresh) = match self.phase {
            Phase::Fresh { since } => (since, true),
            Phase::Safety | Phase::Healing { .. } => (0, false),
        };
        let (key, act) = match &mut self.workload {
            Workload::Drawn(_) => self.draw_operation(),
            Workload::Listed(operations) => {
                let operation = operations.pop().expect("as many as are left");
                (operation.key, operation.act)
            }
        };
        let operation = Operation { at: self.now() - since, key, act };
        if fresh { &mut self.recorded.fresh } else { &mut self.recorded.operations }.push(operation);
        self.operate(key, act);
        if self.operations_left == 0 || matches!(self.phase, Phase::Healing { .. }) {
            return;
        }
        let at = match &mut self.workload {
            Workload::Drawn(rng) => {
                let gap = self.shape.writing * 2 / u64::from(self.shape.operations);
                // Quiet for a while, then a burst, as clients are.
                let delay = if rng.below(4) == 0 { rng.below(gap * 3) } else { rng.below(gap / 2 + 1) };
                self.schedule.now() + delay
            }
            Workload::Listed(operations) => since + operations.last().expect("as many as are left").at,
        };
        self.schedule.push(at, Item::Client);
    }

    /// What clients do next, by chance.
    fn draw_operation(&mut self) -> (KeyId, Act) {
        let Workload::Drawn(rng) = &mut self.workload else { panic!("what is listed is not drawn") };
        let key = if rng.chance(self.shape.hot_ppm) { 0 } else { rng.index(self.shape.keys.len()) };
        let key = KeyId(u16::try_from(key).expect("few keys"));
        let roll = rng.below(100);
        // Mostly the latest, sometimes any.
        let existing = self.source.existing(key).count();
        let back = if existing > 0 && rng.below(3) == 0 { rng.index(existing) } else { 0 };
        let back = u32::try_from(back).expect("few versions");
        let repeats = self.repeats;
        let mut value = || if repeats { u32::try_from(rng.below(3)).expect("small") } else { 0 };
        let act = match roll {
            40..70 if existing > 0 => {
                let value = value();
                let change = match rng.below(4) {
                    0 => Change::NoTags,
                    1 => Change::Acl(value),
                    _ => Change::Tags(value),
                };
                Act::Change(back, change)
            }
            70..78 => Act::Put(Put::Multipart(u32::try_from(rng.between(2, 4)).expect("small"))),
            78..84 => Act::Put(Put::Empty),
            84..90 => Act::Put(Put::Marker),
            90..92 => Act::Put(Put::Replica),
            92 if existing > 0 => Act::Change(back, Change::Replica),
            93.. if existing > 0 && self.plan.has(Fault::JournalAhead) => Act::Delete(back),
            _ => Act::Put(Put::Whole),
        };
        (key, act)
    }

    fn operate(&mut self, key: KeyId, act: Act) {
        let chosen = |back: u32| {
            let existing: Vec<VerId> = self.source.existing(key).collect();
            let last = existing.len().checked_sub(1)?;
            Some(existing[last.saturating_sub(back as usize)])
        };
        match act {
            Act::Put(put) => self.client_puts(key, put),
            Act::Change(back, change) => match chosen(back) {
                Some(version) => {
                    let change = self.renew(version, change);
                    self.client_change(version, change);
                }
                None => self.client_puts(key, Put::Whole),
            },
            Act::Delete(back) => match chosen(back) {
                Some(version) => {
                    self.counters.count(Fault::JournalAhead);
                    self.client_deletes(version);
                }
                None => self.client_puts(key, Put::Whole),
            },
        }
    }

    fn client_puts(&mut self, key: KeyId, put: Put) {
        let now = self.now();
        let version = self.source.put(now, key, put);
        self.trace_client(|| format!("client puts version {} of key {} ({put:?})", version.0, key.0));
        self.show_client_write(version);
    }

    /// What clients wrote before the bucket was replicated.
    pub(super) fn place_nulls(&mut self, rng: &mut crate::rng::Rng) {
        if !self.shape.nulls {
            return;
        }
        for key in 0..self.shape.keys.len() {
            let key = KeyId(u16::try_from(key).expect("few keys"));
            let origin = if rng.coin() { NullOrigin::Unversioned } else { NullOrigin::Suspended };
            let version = self.source.place_null(key, origin);
            self.trace_client(|| format!("key {} holds version {} ({origin:?})", key.0, version.0));
            self.show_client_write(version);
        }
    }

    /// A client changes a version in one of the ways clients do, by the dice of the fault that strikes.
    pub(super) fn client_changes(&mut self, version: VerId) {
        let value = self.struck_value();
        let change = match self.struck.below(4) {
            0 => Change::NoTags,
            1 => Change::Acl(value),
            _ => Change::Tags(value),
        };
        let change = self.renew(version, change);
        self.client_change(version, change);
    }

    /// A client sets tags, by the dice of the fault that strikes.
    pub(super) fn client_tags(&mut self, version: VerId) {
        let value = self.struck_value();
        let change = self.renew(version, Change::Tags(value));
        self.client_change(version, change);
    }

    fn struck_value(&mut self) -> u32 {
        if self.repeats { u32::try_from(self.struck.below(3)).expect("small") } else { 0 }
    }

    /// The change as it is written: its value where clients write the same content again, a new one in all other runs.
    fn renew(&mut self, version: VerId, change: Change) -> Change {
        if self.repeats {
            return change;
        }
        let untagged = self.source.versions[version.index()].untagged;
        match change {
            Change::NoTags if !untagged => change,
            Change::Replica => change,
            Change::Tags(_) | Change::NoTags => {
                self.values += 1;
                Change::Tags(self.values)
            }
            Change::Acl(_) => {
                self.values += 1;
                Change::Acl(self.values)
            }
        }
    }

    fn client_change(&mut self, version: VerId, change: Change) {
        if self.source.change(version, change) {
            self.trace_client(|| format!("client changes version {} ({change:?})", version.0));
            self.show_client_write(version);
        }
    }

    pub(super) fn client_deletes(&mut self, version: VerId) {
        if self.source.delete(version) {
            self.trace_client(|| format!("client deletes version {}", version.0));
            self.see(&Seen::ClientDeleted { version });
            self.show_journal();
        }
    }

    fn show_client_write(&mut self, version: VerId) {
        let stored = &self.source.versions[version.index()];
        let (key, md) = (stored.key, stored.md.clone().expect("just written"));
        let replica = md.replication().status().as_str() == "REPLICA";
        self.see(&Seen::ClientWrote { version, key, md: &md, replica });
        self.show_journal();
    }

    fn trace_client(&mut self, line: impl FnOnce() -> String) {
        let now = self.now();
        self.trace.line(now, line);
    }
}
