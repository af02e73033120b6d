//! The stored position: read once, saved behind what is acknowledged, read again when a save ended unknown (invariant I1).

use crate::call::{Ending, RefusalKind};
use crate::id::{EffectId, Seq};
use crate::populator::{Effect, StopReason, StoredPosition};
use crate::rules::Rules;

use super::{Phase, Populator};

impl<R: Rules> Populator<R> {
    pub(super) fn load(&mut self) {
        if self.loading.is_none() {
            let id = self.ids.next();
            self.loading = Some(id);
            self.effects.push_back(Effect::LoadPosition { id });
        }
    }

    /// The very first save must be durable before anything is read: a restart in between would otherwise start elsewhere.
    pub(super) fn saving_first(&self) -> Option<EffectId> {
        self.saving.filter(|_| self.stored.position.is_none()).map(|(id, _)| id)
    }

    pub(super) fn position_loaded(&mut self, id: EffectId, ending: &Ending<StoredPosition>) {
        if self.loading.take_if(|loading| *loading == id).is_none() {
            return;
        }
        let &Ending::Applied(stored) = ending else { return self.try_later() };
        if let Some(attempted) = self.doubtful {
            let mine = stored.position == Some((attempted, self.epoch)) || stored == self.stored;
            if !mine {
                return self.stop(StopReason::Fenced);
            }
            self.doubtful = None;
            self.stored = stored;
            match self.phase {
                Phase::Running => return self.note_progress(),
                Phase::Losing if self.loss.is_none() && stored.position == Some((attempted, self.epoch)) => {
                    return self.go_on(attempted);
                }
                Phase::Losing => return,
                Phase::Idle | Phase::Loading | Phase::Bootstrapping | Phase::Stopped => {}
            }
        }
        self.stored = stored;
        match stored.position {
            None => self.phase = Phase::Bootstrapping,
            Some((position, epoch)) => {
                self.epoch = epoch;
                self.phase = Phase::Running;
                self.rewind(position);
                if let Some(limits) = self.config.watch {
                    self.next = Seq(position.0.saturating_sub(limits.lookback));
                }
            }
        }
    }

    /// The position that may be saved, if it moved.
    fn unsaved(&self) -> Option<Seq> {
        let saved = self.stored.position.map(|(seq, _)| seq)?;
        let reached = self.rules.position_to_save(&self.ledger);
        let reached = self.restorations.first().map_or(reached, |first| reached.min(first));
        (reached > saved).then_some(reached)
    }

    /// Nothing becomes due while a loss is written down: the position waits for it.
    pub(super) fn note_progress(&mut self) {
        if self.phase == Phase::Running && self.save_due.is_none() && self.unsaved().is_some() {
            self.save_due = Some(self.now.mono + self.config.save_interval);
        }
    }

    pub(super) fn save_if_due(&mut self) {
        if self.phase != Phase::Running || self.saving.is_some() || self.doubtful.is_some() {
            return;
        }
        let Some(position) = self.unsaved() else {
            // A save that was under way when this one became due covered it.
            self.save_due = None;
            return;
        };
        let saved = self.stored.position.map_or(0, |(seq, _)| seq.0);
        let due = self.save_due.is_some_and(|due| due <= self.now.mono);
        if due || position.0 - saved >= self.config.save_records {
            self.save(position);
        }
    }

    pub(super) fn save(&mut self, position: Seq) {
        let id = self.ids.next();
        self.saving = Some((id, position));
        self.save_due = None;
        self.effects.push_back(Effect::SavePosition {
            id,
            position,
            epoch: self.epoch,
            version: self.stored.version,
        });
    }

    pub(super) fn position_saved(&mut self, id: EffectId, ending: Ending<u64>) {
        let Some((_, position)) = self.saving.take_if(|(saving, _)| *saving == id) else { return };
        match ending {
            Ending::Applied(version) => {
                if self.phase == Phase::Losing && self.loss.is_none() {
                    // Another journal has other numbers.
                    self.stored = StoredPosition { position: Some((position, self.epoch)), version };
                    return self.go_on(position);
                }
                let before = self.stored.position.map(|(seq, _)| seq);
                assert!(before.is_none_or(|before| before <= position), "I1: the saved position went back");
                self.stored = StoredPosition { position: Some((position, self.epoch)), version };
                self.note_progress();
            }
            Ending::Refused(refusal)
                if matches!(
                    refusal.kind,
                    RefusalKind::Conflict | RefusalKind::Fenced | RefusalKind::NotFound
                ) =>
            {
                self.stop(StopReason::Fenced);
            }
            Ending::Refused(_) => {
                if self.phase == Phase::Running {
                    self.save_due = Some(self.now.mono);
                }
                self.first_save_failed();
                self.try_later();
            }
            Ending::Unknown => {
                self.doubtful = Some(position);
                self.first_save_failed();
                self.try_later();
            }
        }
    }

    /// Without a stored position there is nothing to run from: start over with what is stored now.
    fn first_save_failed(&mut self) {
        if self.stored.position.is_none() {
            self.phase = Phase::Loading;
        }
    }
}
