//! Clients of the source: what they put, change and delete.

use backbeat_core::rules::Rules;

use super::ids::{KeyId, VerId};
use super::source::{Change, NullOrigin, Put};
use super::{Item, Phase, World};
use crate::checkers::Seen;
use crate::faults::Fault;

impl<R: Rules> World<R> {
    /// One client operation; the next one follows.
    pub(super) fn client(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        self.operations_left -= 1;
        self.operate();
        let gap = self.shape.writing * 2 / u64::from(self.shape.operations);
        // Quiet for a while, then a burst, as clients are.
        let delay = if self.clients.below(4) == 0 {
            self.clients.below(gap * 3)
        } else {
            self.clients.below(gap / 2 + 1)
        };
        if matches!(self.phase, Phase::Safety | Phase::Fresh { .. }) {
            self.after(delay, Item::Client);
        }
    }

    fn operate(&mut self) {
        let key = if self.clients.chance(self.shape.hot_ppm) {
            0
        } else {
            self.clients.index(self.shape.keys.len())
        };
        let key = KeyId(u16::try_from(key).expect("few keys"));
        let existing: Vec<VerId> = self.source.existing(key).collect();
        let pick = |rng: &mut crate::rng::Rng| {
            // Mostly the latest, sometimes any.
            let latest = *existing.last()?;
            Some(if rng.below(3) == 0 { existing[rng.index(existing.len())] } else { latest })
        };
        let roll = self.clients.below(100);
        let chosen = pick(&mut self.clients);
        match (roll, chosen) {
            (0..40, _) | (40..70, None) => self.client_puts(key, Put::Whole),
            (70..78, _) => {
                let parts = u32::try_from(self.clients.between(2, 4)).expect("small");
                self.client_puts(key, Put::Multipart(parts));
            }
            (78..84, _) => self.client_puts(key, Put::Empty),
            (84..90, _) => self.client_puts(key, Put::Marker),
            (90..92, _) => self.client_puts(key, Put::Replica),
            (40..70, Some(version)) => self.client_changes(version),
            (92..93, Some(version)) => self.client_change(version, Change::Replica),
            (_, Some(version)) if self.plan.has(Fault::JournalAhead) => {
                self.counters.count(Fault::JournalAhead);
                self.client_deletes(version);
            }
            (_, _) => self.client_puts(key, Put::Whole),
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

    /// A client changes a version in one of the ways clients do.
    pub(super) fn client_changes(&mut self, version: VerId) {
        let change = match self.clients.below(4) {
            0 if self.repeats || !self.source.versions[version.index()].untagged => Change::NoTags,
            1 => Change::Acl(self.some_value()),
            _ => self.some_tags(),
        };
        self.client_change(version, change);
    }

    /// Tags as clients set them.
    pub(super) fn some_tags(&mut self) -> Change {
        Change::Tags(self.some_value())
    }

    /// A value from a small set in runs whose clients write the same content again, a new one in others.
    fn some_value(&mut self) -> u32 {
        if self.repeats {
            return u32::try_from(self.clients.below(3)).expect("small");
        }
        self.values += 1;
        self.values
    }

    pub(super) fn client_change(&mut self, version: VerId, change: Change) {
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
