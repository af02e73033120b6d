//! Parked entries: the view of the exceptions topic that is kept in memory, and when each is tried again (decision D6).

use crate::call::Ending;
use crate::exception::{DepositNote, ExceptionRecord, ExceptionState};
use crate::id::{EffectId, Partition};
use crate::intake::LaneKey;
use crate::model::ObjectRef;
use crate::processor::Effect;
use crate::processor::work::Work;
use crate::rules::Rules;
use crate::time::Span;

use super::copies::News;
use super::{SiteProcessor, Timer};

impl<R: Rules> SiteProcessor<R> {
    pub(super) fn load_exceptions(&mut self, partition: Partition) {
        let Some(epoch) = self.intake.consumer.epoch(partition) else { return };
        let id = self.ids.next();
        self.loads.insert(id, (partition, epoch));
        self.effects.push_back(Effect::LoadExceptions { id, partition });
    }

    pub(super) fn exceptions_loaded(&mut self, id: EffectId, ending: Ending<Vec<ExceptionRecord>>) {
        let Some((partition, epoch)) = self.loads.remove(&id) else { return };
        if self.intake.consumer.epoch(partition) != Some(epoch) {
            return;
        }
        let Ending::Applied(records) = ending else {
            let at = self.now.mono + self.config.publish_delay.saturating_mul(8);
            self.timers.set(Timer::Load(partition), at);
            return;
        };
        for record in records {
            if record.site == self.config.copy.site {
                self.note_parked(partition, record);
            }
        }
        self.timers.set(Timer::Load(partition), self.now.mono + self.config.exceptions_refresh);
        self.intake.open(&self.rules, partition);
    }

    pub(super) fn note_parked(&mut self, partition: Partition, record: ExceptionRecord) {
        let Some(parked) = self.parked.get_mut(&partition) else { return };
        let object = record.object.clone();
        let next = record.next;
        parked.insert(record);
        let timer = Timer::Parked(partition, object);
        match next {
            None => {
                self.timers.cancel(&timer);
            }
            Some(next) => {
                let millis = u64::try_from(next.as_millis() - self.now.wall.as_millis()).unwrap_or(0);
                let delay = Span::from_millis(millis).min(self.config.hold_delay);
                self.timers.set(timer, self.now.mono + delay);
            }
        }
    }

    pub(super) fn try_parked(&mut self, partition: Partition, object: &ObjectRef) {
        if !self.intake.consumer.may_start(partition) {
            return;
        }
        let Some(epoch) = self.intake.consumer.epoch(partition) else { return };
        let Some(record) = self.parked.get(&partition).and_then(|parked| parked.waiting(object)) else {
            return;
        };
        let work = Work::of_record(partition, epoch, record.clone());
        // Until its ending is written down, look again after the usual delay: a busy lane must not lose it.
        self.timers.set(Timer::Parked(partition, object.clone()), self.now.mono + self.config.hold_delay);
        self.intake.offer_unless_busy(&self.rules, work);
    }

    /// Writes down what the copy in `lane` wants noted, one note at a time.
    pub(super) fn note(&mut self, lane: LaneKey, note: Box<DepositNote>) {
        let work = self.intake.lanes.running(&lane).expect("its copy was just asked");
        let next = self.now.wall_after(self.config.hold_delay);
        let mut record = self.exception(work, ExceptionState::Copying, String::new(), 0, Some(next));
        record.deposit = Some(note);
        let record = Box::new(record);
        let partition = work.partition;
        let id = self.ids.next();
        self.notes.insert(id, (lane, partition, record.clone()));
        self.effects.push_back(Effect::PutException { id, record });
    }

    /// Whether a note of the copy in `lane` is being written.
    pub(super) fn is_noting(&self, lane: LaneKey) -> bool {
        self.notes.values().any(|(noting, _, _)| *noting == lane)
    }

    /// A note was written, or may have been: its record is deleted at the end of the copy.
    pub(super) fn noted(&mut self, id: EffectId, ending: &Ending<()>) {
        let Some((lane, partition, record)) = self.notes.remove(&id) else { return };
        if !matches!(ending, Ending::Refused(_)) {
            self.note_parked(partition, *record);
        }
        self.advance(lane, News::Noted);
    }
}
