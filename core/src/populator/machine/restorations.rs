//! What status writes overwrote is looked for in every record, read at the source and written back (decision D3).

use crate::call::{Ending, MetadataRefused};
use crate::id::{EffectId, Seq};
use crate::model::{LogRecord, ObjectMd, ObjectRef};
use crate::populator::Effect;
use crate::request::{Condition, Side, SiteReply, SiteRequest};
use crate::rules::Rules;

use super::Populator;

impl<R: Rules> Populator<R> {
    /// Looks for what status writes overwrote.
    pub(super) fn watch_record(&mut self, seq: Seq, record: &LogRecord) {
        let Some(watch) = self.watch.as_mut().filter(|watch| !watch.has_seen(seq)) else { return };
        let mut overwritten = Vec::new();
        for (object, value) in record.versions() {
            if watch.look(seq, &object, value) && self.rules.restores_overwritten() {
                overwritten.push(object);
            }
        }
        watch.seen(seq);
        for object in overwritten {
            self.summary.overwritten += 1;
            self.effects.push_back(Effect::Overwritten { seq, object: object.clone() });
            if self.restorations.begin(&object, seq) {
                self.read_overwritten(object);
            }
        }
    }

    pub(super) fn replied(&mut self, id: EffectId, reply: SiteReply) {
        let Some((object, seq)) = self.restorations.replied(id) else { return };
        match reply {
            SiteReply::Metadata(Ending::Applied(stored)) => {
                let remedy = self.watch.as_ref().and_then(|watch| watch.remedy(&object, &stored, seq));
                match remedy {
                    Some(md) => self.write_back(object, md, &stored),
                    None => self.restoration_ended(object),
                }
            }
            SiteReply::Written(Ending::Applied(())) => {
                self.summary.restored += 1;
                self.restoration_ended(object);
            }
            SiteReply::Metadata(Ending::Refused(refusal)) | SiteReply::Written(Ending::Refused(refusal)) => {
                match refusal.kind.of_metadata() {
                    MetadataRefused::Gone => self.restoration_ended(object),
                    MetadataRefused::Changed => self.read_overwritten(object),
                    MetadataRefused::Later => self.restore_later(&object),
                }
            }
            // What a write of unknown ending did shows in the source.
            SiteReply::Metadata(Ending::Unknown) | SiteReply::Written(Ending::Unknown) => {
                self.restore_later(&object);
            }
            SiteReply::Moved { .. }
            | SiteReply::Deleted(_)
            | SiteReply::Rules(_)
            | SiteReply::Bucket(_)
            | SiteReply::Minting(_) => {
                panic!("the populator asked for metadata only");
            }
        }
    }

    pub(super) fn read_overwritten(&mut self, object: ObjectRef) {
        let id = self.ids.next();
        self.restorations.sent(id, object.clone());
        let request = SiteRequest::ReadMetadata { side: Side::Source, object };
        self.effects.push_back(Effect::Call { id, request: Box::new(request) });
    }

    fn write_back(&mut self, object: ObjectRef, md: ObjectMd, stored: &ObjectMd) {
        let id = self.ids.next();
        self.restorations.sent(id, object.clone());
        let condition = Some(Condition::tag(stored.state_tag()));
        let request =
            SiteRequest::WriteMetadata { side: Side::Source, object, md, condition, keep_data: false };
        self.effects.push_back(Effect::Call { id, request: Box::new(request) });
    }

    fn restore_later(&mut self, object: &ObjectRef) {
        self.restorations.wait(object, self.now.mono + self.config.retry_delay);
    }

    fn restoration_ended(&mut self, object: ObjectRef) {
        if self.restorations.ended(&object) {
            self.read_overwritten(object);
        } else {
            if let Some(watch) = &mut self.watch {
                watch.unpin(&object);
            }
            self.note_progress();
        }
    }
}
