//! Exception records: written, compacted, read by whoever takes a partition over.

use backbeat_core::call::Ending;
use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::{EffectId, Partition};
use backbeat_core::processor;
use backbeat_core::rules::Rules;

use super::PRODUCE_TIMEOUT;
use crate::checkers::Seen;
use crate::ids::{ProcId, SiteId};
use crate::marks::Mark;
use crate::names::known_version_of;
use crate::world::process::{Ev, Role};
use crate::world::{AppendBody, Item, World};

impl<R: Rules> World<R> {
    /// A machine writes an exception record.
    pub(in crate::world) fn put_exception(
        &mut self,
        from: ProcId,
        id: EffectId,
        record: Box<ExceptionRecord>,
    ) {
        // Records of unreadable messages name a place instead of a version.
        let partition = known_version_of(&record.object)
            .map_or(0, |version| self.partition_of[self.source.versions[version.index()].key.index()]);
        self.publish(from, id, AppendBody::Exception { partition, record }, None);
    }

    pub(super) fn append_exception(&mut self, partition: usize, record: &ExceptionRecord) {
        let mark = match record.state {
            ExceptionState::Deferred => Mark::ExceptionDeferred,
            ExceptionState::Held => Mark::ExceptionHeld,
            ExceptionState::Failed => Mark::ExceptionWritten,
            ExceptionState::Copying => Mark::CopyNoted,
            ExceptionState::Resolved => Mark::ExceptionResolved,
        };
        self.marks.hit(mark);
        let site = self
            .shape
            .sites
            .iter()
            .position(|site| *site == record.site)
            .expect("records name configured sites");
        let site = SiteId(u8::try_from(site).expect("few sites"));
        if record.reason == "NewerVersionAtTarget" {
            self.marks.hit(Mark::OlderRefused);
        }
        if record.reason == "RevisionUnstable" {
            self.marks.hit(Mark::StatusRequeueHeld);
        }
        if let Some(version) = known_version_of(&record.object) {
            self.see(&Seen::ExceptionPut { version, site, record });
        }
        self.queue.put_exception(partition, record);
    }

    /// A machine reads exception records.
    pub(in crate::world) fn load_exceptions(&mut self, from: ProcId, id: EffectId, partition: Partition) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        match self.departure(from) {
            Some(at) => self.schedule.push(at, Item::LoadExceptions { from, life, id, partition }),
            None => {
                let ev = Ev::Processor(processor::Event::ExceptionsLoaded { id, ending: Ending::Unknown });
                self.after(PRODUCE_TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    pub(in crate::world) fn exceptions_read(
        &mut self,
        from: ProcId,
        life: u32,
        id: EffectId,
        partition: Partition,
    ) {
        let Role::Processor(site) = self.processes[from.index()].role else { return };
        let name = &self.shape.sites[site.index()];
        let live = &self.queue.exceptions[partition.0 as usize];
        let records: Vec<ExceptionRecord> =
            live.values().filter(|record| record.site == *name).cloned().collect();
        if records.iter().any(|record| record.state != ExceptionState::Failed) {
            self.marks.hit(Mark::ExceptionsAtTakeover);
        }
        let ending = if self.is_unheard(from) { Ending::Unknown } else { Ending::Applied(records) };
        self.answer(from, life, Ev::Processor(processor::Event::ExceptionsLoaded { id, ending }));
    }
}
