//! Lost records: nothing goes on until the loss is written down and the position behind it is stored.

use crate::call::Ending;
use crate::id::{EffectId, Seq};
use crate::populator::{AfterLoss, Effect, Loss, LossKind, StopReason};
use crate::rules::Rules;

use super::{Phase, Populator};

impl<R: Rules> Populator<R> {
    /// Records are gone that were not queued. Nothing is read or published any more until that is written down and the position
    /// behind it is stored.
    pub(super) fn lost(&mut self, loss: Loss) {
        let then = match loss.kind() {
            LossKind::Replaced => self.config.after_replaced,
            LossKind::CutOff | LossKind::WentBack => self.config.after_cut,
        };
        if then == AfterLoss::Stop {
            return self.stop(StopReason::HistoryLost(loss));
        }
        // What is under way counts as lost: the old producer delivers nothing more.
        self.producer += 1;
        self.rewind(loss.wanted.0);
        self.loss = Some(loss);
        self.phase = Phase::Losing;
    }

    /// Asks for what a loss needs next: that it is written down, then the position.
    pub(super) fn lose(&mut self) {
        if self.saving.is_some() || self.recording.is_some() {
            return;
        }
        if self.doubtful.is_some() {
            return self.load();
        }
        if let Some(loss) = self.loss
            && self.rules.records_loss()
        {
            let id = self.ids.next();
            self.recording = Some(id);
            return self.effects.push_back(Effect::RecordLoss { id, loss });
        }
        self.pass_loss();
        self.save(self.next);
    }

    pub(super) fn loss_recorded(&mut self, id: EffectId, ending: &Ending<()>) {
        if self.recording.take_if(|recording| *recording == id).is_none() {
            return;
        }
        let Ending::Applied(()) = ending else { return self.try_later() };
        self.pass_loss();
    }

    /// Moves behind the loss, in memory only.
    fn pass_loss(&mut self) {
        if let Some(Loss { resumes: (seq, epoch), .. }) = self.loss.take() {
            self.summary.losses += 1;
            self.epoch = epoch;
            self.next = seq;
        }
    }

    /// The position behind a loss is stored: reading goes on there.
    pub(super) fn go_on(&mut self, position: Seq) {
        self.phase = Phase::Running;
        self.rewind(position);
        // What was written meanwhile is not known: what is remembered proves nothing any more.
        if let Some(watch) = &mut self.watch {
            watch.gap();
        }
    }
}
