//! The populator's state machine (decision D8).

use std::collections::{BTreeMap, VecDeque};

use crate::call::{Ending, RefusalKind};
use crate::id::{EffectId, EffectIds, JournalEpoch, Seq};
use crate::model::{Decision, FilterConfig, LogRecord};
use crate::parts::Ledger;
use crate::populator::{Batch, Effect, Event, StopReason, StoredPosition};
use crate::rules::Rules;
use crate::time::{Instant, Now, Span};

/// Where a populator starts when no position was ever stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// At the oldest record that is there: nothing is left out.
    Oldest,
    /// After the newest record: history is left out, as upstream does with bucketd (replication reference 2.4).
    End,
}

/// How a populator works.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is queued.
    pub filter: FilterConfig,
    /// Records read at once (upstream's `batchMaxRead`).
    pub batch_max: usize,
    /// Messages under way beyond which nothing is read.
    pub in_flight_max: usize,
    /// How long the source may hold a read that finds nothing new.
    pub wait: Span,
    /// The longest time between a move of the position and its being saved.
    pub save_interval: Span,
    /// A position that moved by so many records is saved at once.
    pub save_records: u64,
    /// The wait before something that failed is tried again.
    pub retry_delay: Span,
    /// Where to start without a stored position.
    pub bootstrap: Bootstrap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not the owner yet.
    Idle,
    /// Reading the stored position.
    Loading,
    /// Asking the journal where it starts and ends.
    Bootstrapping,
    /// Reading and publishing.
    Running,
    /// Stopped for good.
    Stopped,
}

/// Counts for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The next record to read.
    pub position: Seq,
    /// The position that is stored.
    pub saved: Seq,
    /// One past the newest record of the journal, as last seen.
    pub end: Seq,
    /// Messages under way.
    pub in_flight: usize,
    /// Entries queued since the start.
    pub queued: u64,
    /// Entries that could not be read and were skipped since the start (decision D18).
    pub unreadable: u64,
}

/// The populator. One task owns it.
#[derive(Debug)]
pub struct Populator<R> {
    config: Config,
    rules: R,
    now: Now,
    phase: Phase,
    ids: EffectIds,
    effects: VecDeque<Effect>,
    stored: StoredPosition,
    epoch: JournalEpoch,
    ledger: Ledger<Seq>,
    next: Seq,
    producer: u64,
    loading: Option<EffectId>,
    reading: Option<EffectId>,
    /// The save under way: its position, and whether its ending was unknown.
    saving: Option<(EffectId, Seq)>,
    /// The position whose save ended unknown: what is stored is read again to learn.
    doubtful: Option<Seq>,
    in_flight: BTreeMap<EffectId, Seq>,
    /// Messages still to be acknowledged, for records that have any.
    pending: BTreeMap<Seq, u32>,
    save_due: Option<Instant>,
    retry_at: Option<Instant>,
    summary: Summary,
}

impl<R: Rules> Populator<R> {
    /// A populator that waits to become the owner of its journal.
    pub fn new(config: Config, rules: R) -> Self {
        Self {
            config,
            rules,
            now: Now::default(),
            phase: Phase::Idle,
            ids: EffectIds::default(),
            effects: VecDeque::new(),
            stored: StoredPosition::default(),
            epoch: JournalEpoch::default(),
            ledger: Ledger::new(Seq(0)),
            next: Seq(0),
            producer: 1,
            loading: None,
            reading: None,
            saving: None,
            doubtful: None,
            in_flight: BTreeMap::new(),
            pending: BTreeMap::new(),
            save_due: None,
            retry_at: None,
            summary: Summary::default(),
        }
    }

    /// Applies one event. Drain [`poll_effect`](Self::poll_effect) afterwards.
    pub fn handle(&mut self, now: Now, event: Event) {
        assert!(now.mono >= self.now.mono, "time moved backwards");
        self.now = now;
        if self.phase == Phase::Stopped {
            return;
        }
        match event {
            Event::Started => self.started(),
            Event::OwnershipLost => self.stop(StopReason::OwnershipLost),
            Event::PositionLoaded { id, ending } => self.position_loaded(id, &ending),
            Event::JournalRead { id, ending } => self.journal_read(id, ending),
            Event::Published { id, ending } => self.published(id, &ending),
            Event::PositionSaved { id, ending } => self.position_saved(id, ending),
            Event::Timer => self.timer(),
        }
        self.proceed();
    }

    /// Returns the next effect to carry out. Drain it to `None` after every `handle`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when [`Event::Timer`] is next due, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Stopped {
            return None;
        }
        let may_save = self.saving.is_none() && self.doubtful.is_none();
        [self.retry_at, self.save_due.filter(|_| may_save)].into_iter().flatten().min()
    }

    /// Counts for the operator.
    pub fn summary(&self) -> Summary {
        Summary {
            position: self.next,
            saved: self.stored.position.map_or(Seq(0), |(seq, _)| seq),
            in_flight: self.in_flight.len(),
            ..self.summary
        }
    }

    /// Whether the machine has stopped for good.
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    fn started(&mut self) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Loading;
        }
    }

    fn stop(&mut self, reason: StopReason) {
        self.phase = Phase::Stopped;
        self.effects.push_back(Effect::Stopped { reason });
    }

    fn timer(&mut self) {
        if self.retry_at.is_some_and(|at| at <= self.now.mono) {
            self.retry_at = None;
        }
    }

    /// Asks for whatever the present phase needs next.
    fn proceed(&mut self) {
        if self.retry_at.is_some() {
            return self.save_if_due();
        }
        match self.phase {
            Phase::Idle | Phase::Stopped => {}
            Phase::Loading => self.load(),
            Phase::Bootstrapping => self.read(None),
            Phase::Running => {
                if self.doubtful.is_some() {
                    self.load();
                } else {
                    self.save_if_due();
                }
                if self.in_flight.len() < self.config.in_flight_max {
                    self.read(Some(self.next));
                }
            }
        }
    }

    fn load(&mut self) {
        if self.loading.is_none() {
            let id = self.ids.next();
            self.loading = Some(id);
            self.effects.push_back(Effect::LoadPosition { id });
        }
    }

    fn read(&mut self, from: Option<Seq>) {
        if self.reading.is_none() && self.saving_first().is_none() {
            let id = self.ids.next();
            self.reading = Some(id);
            let limit = if from.is_some() { self.config.batch_max } else { 0 };
            self.effects.push_back(Effect::ReadJournal { id, from, limit, wait: self.config.wait });
        }
    }

    /// The very first save must be durable before anything is read: a restart in between would otherwise start elsewhere.
    fn saving_first(&self) -> Option<EffectId> {
        self.saving.filter(|_| self.stored.position.is_none()).map(|(id, _)| id)
    }

    fn position_loaded(&mut self, id: EffectId, ending: &Ending<StoredPosition>) {
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
            if self.phase == Phase::Running {
                return self.note_progress();
            }
        }
        self.stored = stored;
        match stored.position {
            None => self.phase = Phase::Bootstrapping,
            Some((position, epoch)) => {
                self.epoch = epoch;
                self.phase = Phase::Running;
                self.rewind(position);
            }
        }
    }

    fn journal_read(&mut self, id: EffectId, ending: Ending<Batch>) {
        if self.reading.take_if(|reading| *reading == id).is_none() {
            return;
        }
        let Ending::Applied(batch) = ending else { return self.try_later() };
        self.summary.end = batch.end;
        if self.phase == Phase::Bootstrapping {
            let start = match self.config.bootstrap {
                Bootstrap::Oldest => batch.oldest,
                Bootstrap::End => batch.end,
            };
            self.epoch = batch.epoch;
            self.phase = Phase::Running;
            self.rewind(start);
            return self.save(start);
        }
        if batch.epoch != self.epoch {
            return self.stop(StopReason::EpochChanged { stored: self.epoch, found: batch.epoch });
        }
        if batch.oldest > self.next {
            return self.stop(StopReason::HistoryLost { wanted: self.next, oldest: batch.oldest });
        }
        for (seq, record) in batch.records {
            if seq >= self.next {
                self.publish_record(seq, &record);
                self.next = seq.next();
            }
        }
        self.next = self.next.max(batch.next);
        self.note_progress();
    }

    fn publish_record(&mut self, seq: Seq, record: &LogRecord) {
        self.ledger.consumed(seq);
        let mut messages = 0;
        for entry in record.populator_entries() {
            match self.rules.filter(&entry, &self.config.filter) {
                Decision::Ignore(_) => {}
                Decision::Unreadable(reason) => {
                    self.summary.unreadable += 1;
                    self.effects.push_back(Effect::Unreadable { seq, reason });
                }
                Decision::Publish(publish) => {
                    let id = self.ids.next();
                    self.in_flight.insert(id, seq);
                    messages += 1;
                    self.summary.queued += 1;
                    self.effects.push_back(Effect::Publish {
                        id,
                        producer: self.producer,
                        seq,
                        publish,
                        entry: Box::new(entry),
                    });
                }
            }
        }
        if messages == 0 {
            self.ledger.settled(seq);
        } else {
            self.pending.insert(seq, messages);
        }
    }

    fn published(&mut self, id: EffectId, ending: &Ending<()>) {
        let Some(seq) = self.in_flight.remove(&id) else { return };
        if !self.rules.is_acknowledged(ending) {
            // Publishing one message again out of the middle would put it behind later ones of its key: everything since
            // the saved position is published again, in order, by a new producer.
            self.producer += 1;
            if let Some((position, _)) = self.stored.position {
                self.rewind(position);
            }
            return self.try_later();
        }
        let left = self.pending.get_mut(&seq).expect("a record with messages under way is pending");
        *left -= 1;
        if *left == 0 {
            self.pending.remove(&seq);
            self.ledger.settled(seq);
            self.note_progress();
        }
    }

    /// Goes back to `position`: nothing under way counts any more.
    fn rewind(&mut self, position: Seq) {
        self.in_flight.clear();
        self.pending.clear();
        self.reading = None;
        self.ledger = Ledger::new(position);
        self.next = position;
        self.save_due = None;
    }

    fn try_later(&mut self) {
        self.retry_at = Some(self.now.mono + self.config.retry_delay);
    }

    /// The position that may be saved, if it moved.
    fn unsaved(&self) -> Option<Seq> {
        let saved = self.stored.position.map(|(seq, _)| seq)?;
        let reached = self.rules.position_to_save(&self.ledger);
        (reached > saved).then_some(reached)
    }

    fn note_progress(&mut self) {
        if self.save_due.is_none() && self.unsaved().is_some() {
            self.save_due = Some(self.now.mono + self.config.save_interval);
        }
    }

    fn save_if_due(&mut self) {
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

    fn save(&mut self, position: Seq) {
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

    fn position_saved(&mut self, id: EffectId, ending: Ending<u64>) {
        let Some((_, position)) = self.saving.take_if(|(saving, _)| *saving == id) else { return };
        match ending {
            Ending::Applied(version) => {
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
                self.save_due = Some(self.now.mono);
                self.first_save_failed(position);
                self.try_later();
            }
            Ending::Unknown => {
                self.doubtful = Some(position);
                self.first_save_failed(position);
                self.try_later();
            }
        }
    }

    /// Without a stored position there is nothing to run from: start over with what is stored now.
    fn first_save_failed(&mut self, _position: Seq) {
        if self.stored.position.is_none() {
            self.phase = Phase::Loading;
        }
    }
}
