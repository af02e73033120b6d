//! The populator's state machine (decision D8).

mod losses;
mod position;
mod restorations;

use std::collections::{BTreeMap, VecDeque};

use crate::call::Ending;
use crate::id::{EffectId, EffectIds, JournalEpoch, Seq};
use crate::model::{Decision, FilterConfig, LogRecord};
use crate::parts::{InFlight, Ledger};
use crate::populator::loss::Lookout;
use crate::populator::restore::Restorations;
use crate::populator::watch::Watch;
use crate::populator::{AfterLoss, Batch, Effect, Event, Loss, StopReason, StoredPosition};
use crate::rules::Rules;
use crate::time::{Instant, Now, Span};

/// Where a populator starts when no position was ever stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// At the oldest record that is there: nothing is left out.
    Oldest,
    /// After the newest record: history is left out, as upstream does with bucketd (replication reference 2.4).
    End,
    /// Behind another reader of the same journal, whose place is taken. What the journal forgot before that reader got to it
    /// is lost, and told; with a place behind the end of the journal it read another one, and the oldest record comes first.
    Behind {
        /// The first record that it has not read.
        reader: Seq,
        /// So many records before that are read again, as far as they are there: it may not have queued what it read last.
        again: u64,
    },
}

impl Bootstrap {
    /// The first position in a journal that has the records from `oldest` to before `end`.
    fn start(self, oldest: Seq, end: Seq) -> Seq {
        match self {
            Self::Oldest => oldest,
            Self::End => end,
            Self::Behind { reader, .. } if reader > end => oldest,
            // Where `reader` is before the oldest record, what is between them shows as lost with the first read.
            Self::Behind { reader, again } => Seq(reader.0.saturating_sub(again)).max(oldest).min(reader),
        }
    }
}

/// What a populator remembers of a source without conditional metadata writes (decision D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Versions whose last client revision is remembered; beyond it the one that changed least recently is forgotten.
    pub versions_max: usize,
    /// Records before the stored position that a new owner reads to know what was written last. They have to reach back further than
    /// a status write takes.
    pub lookback: u64,
    /// Versions that are restored at once; nothing is read while there are more.
    pub restorations_max: usize,
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
    /// What to do when the journal forgot records that were not queued, or went back.
    pub after_cut: AfterLoss,
    /// What to do when the journal is another one than the position belongs to.
    pub after_replaced: AfterLoss,
    /// Watch for what status writes overwrite: for sources without conditional metadata writes.
    pub watch: Option<WatchLimits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not the owner yet.
    Idle,
    /// Reading the stored position.
    Loading,
    /// Asking the journal where it starts and ends.
    Bootstrapping,
    /// Having a loss written down, and then the position where reading goes on.
    Losing,
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
    /// How often records were lost since the start.
    pub losses: u64,
    /// How often a status write had overwritten something since the start.
    pub overwritten: u64,
    /// How often something overwritten was written back since the start.
    pub restored: u64,
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
    /// The first record to publish; those before it are only watched.
    publish_from: Seq,
    watch: Option<Watch>,
    restorations: Restorations,
    lookout: Lookout,
    /// The loss that is being written down.
    loss: Option<Loss>,
    recording: Option<EffectId>,
    loading: Option<EffectId>,
    reading: Option<EffectId>,
    /// The save under way: its position, and whether its ending was unknown.
    saving: Option<(EffectId, Seq)>,
    /// The position whose save ended unknown: what is stored is read again to learn.
    doubtful: Option<Seq>,
    in_flight: InFlight<Seq>,
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
            watch: config.watch.map(|limits| Watch::new(limits.versions_max)),
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
            publish_from: Seq(0),
            restorations: Restorations::default(),
            lookout: Lookout::default(),
            loss: None,
            recording: None,
            loading: None,
            reading: None,
            saving: None,
            doubtful: None,
            in_flight: InFlight::new(),
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
            Event::LossRecorded { id, ending } => self.loss_recorded(id, &ending),
            Event::Replied { id, reply } => self.replied(id, reply),
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
        let save_due = self.save_due.filter(|_| may_save);
        Instant::earlier(self.retry_at, Instant::earlier(save_due, self.restorations.next_due()))
    }

    /// Counts for the operator.
    pub fn summary(&self) -> Summary {
        Summary {
            position: self.next,
            // While a loss is written down, what is stored may be a number of another journal.
            saved: match self.stored.position {
                Some((seq, _)) if self.phase != Phase::Losing => seq,
                Some(_) | None => Seq(0),
            },
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
        while let Some(object) = self.restorations.pop_due(self.now.mono) {
            self.read_overwritten(object);
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
            Phase::Losing => self.lose(),
            Phase::Running => {
                if self.doubtful.is_some() {
                    self.load();
                } else {
                    self.save_if_due();
                }
                let restorations_max = self.config.watch.map_or(0, |limits| limits.restorations_max);
                if self.in_flight.len() < self.config.in_flight_max
                    && self.restorations.len() <= restorations_max
                {
                    self.read(Some(self.next));
                }
            }
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

    fn journal_read(&mut self, id: EffectId, ending: Ending<Batch>) {
        if self.reading.take_if(|reading| *reading == id).is_none() {
            return;
        }
        let Ending::Applied(batch) = ending else { return self.try_later() };
        self.summary.end = batch.end;
        if self.phase == Phase::Bootstrapping {
            let start = self.config.bootstrap.start(batch.oldest, batch.end);
            self.epoch = batch.epoch;
            self.phase = Phase::Running;
            self.rewind(start);
            return self.save(start);
        }
        if batch.epoch == self.epoch && self.next < self.publish_from && batch.oldest > self.next {
            // What is only watched may be gone.
            self.next = batch.oldest.min(self.publish_from);
        }
        if let Some(loss) =
            self.lookout.judge(&batch, self.epoch, self.next, self.rules.position_to_save(&self.ledger))
        {
            return self.lost(loss);
        }
        if batch.end < self.next {
            return self.try_later();
        }
        for (seq, record) in batch.records {
            if seq >= self.next {
                self.watch_record(seq, &record);
                if seq >= self.publish_from {
                    self.publish_record(seq, &record);
                }
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
                        entry,
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
        let Some(seq) = self.in_flight.remove(id) else { return };
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
        self.in_flight = InFlight::new();
        self.pending.clear();
        self.reading = None;
        self.ledger = Ledger::new(position);
        self.next = position;
        self.publish_from = position;
        self.save_due = None;
    }

    fn try_later(&mut self) {
        self.retry_at = Some(self.now.mono + self.config.retry_delay);
    }
}
