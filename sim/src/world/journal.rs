//! What the journal and the coordination store do for populators.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{EffectId, JournalEpoch, Seq};
use backbeat_core::model::OverallStatus;
use backbeat_core::populator::{AfterLoss, Batch, Event, Loss, LossKind, Populator, StopReason};
use backbeat_core::rules::Rules;
use backbeat_core::time::Span;

use super::coordination::SaveAnswer;
use super::process::{Ev, Machine, Role};
use super::{Item, Waiter, World};
use crate::checkers::Seen;
use crate::faults::Fault;
use crate::ids::ProcId;
use crate::marks::Mark;
use crate::scenario::SECOND;

/// How long a populator waits for the coordination store, and for the journal beyond what it asked for.
const TIMEOUT: u64 = 3 * SECOND;

impl<R: Rules> World<R> {
    /// A populator reads the journal.
    pub(super) fn read_journal(
        &mut self,
        from: ProcId,
        id: EffectId,
        at: Option<Seq>,
        limit: usize,
        wait: Span,
    ) {
        let now = self.now();
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        let until = now + wait.as_micros();
        match self.departure(from) {
            Some(arrives) => {
                self.schedule.push(arrives, Item::ReadJournal { from, life, id, at, limit, until });
            }
            None => {
                let ev = Ev::Populator(Event::JournalRead { id, ending: Ending::Unknown });
                self.schedule.push(until + TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    pub(super) fn journal_read_arrives(
        &mut self,
        from: ProcId,
        life: u32,
        id: EffectId,
        at: Option<Seq>,
        limit: usize,
        until: u64,
    ) {
        let now = self.now();
        if self.source.journal_stalled_until > now {
            let resumes = self.source.journal_stalled_until;
            self.schedule
                .push(resumes, Item::ReadJournal { from, life, id, at, limit, until: until.max(resumes) });
            return;
        }
        let end = self.source.end();
        let from_seq = at.unwrap_or(end);
        if at.is_some() && from_seq == end && now < until {
            self.waiters.push(Waiter { from, life, id, at: from_seq, limit });
            self.schedule.push(until, Item::WaitOver { from, life, id });
            return;
        }
        self.answer_read(from, life, id, from_seq, limit);
    }

    fn answer_read(&mut self, from: ProcId, life: u32, id: EffectId, at: Seq, limit: usize) {
        let (oldest, end) = (self.source.oldest(), self.source.end());
        // What is not in this journal any more, or is in another one, gives an empty batch that says so.
        let last = if (oldest..end).contains(&at) { Seq(end.0.min(at.0 + limit as u64)) } else { at };
        let mut records = Vec::with_capacity(usize::try_from(last.0 - at.0).expect("small"));
        let mut seq = at;
        while seq < last {
            let record = self.source.at(seq).expect("records below the end exist");
            if record.md.as_ref().is_some_and(|md| *md.replication().status() == OverallStatus::Replica) {
                self.marks.hit(Mark::ReplicaIgnored);
            }
            records.push((seq, record.record.clone()));
            seq = seq.next();
        }
        let batch = Batch { records, next: last, end, epoch: self.source.epoch(), oldest };
        let ending = if self.is_unheard(from) { Ending::Unknown } else { Ending::Applied(batch) };
        self.answer(from, life, Ev::Populator(Event::JournalRead { id, ending }));
    }

    /// Shows new journal records to the checkers and wakes the reads that wait for them.
    pub(super) fn show_journal(&mut self) {
        if self.strikes(Fault::JournalDoubled) {
            self.source.double_last();
            self.marks.hit(Mark::DuplicateJournal);
        }
        while let Some(record) = self.source.journal.get(self.journal_shown) {
            let seen = Seen::Journaled {
                index: self.journal_shown,
                version: record.version,
                qualifies: record.qualifies,
            };
            self.checkers.observe(&seen, &mut self.marks);
            self.journal_shown += 1;
        }
        let waiters = std::mem::take(&mut self.waiters);
        let now = self.now();
        for Waiter { from, life, id, at, limit } in waiters {
            self.schedule.push(now, Item::ReadJournal { from, life, id, at: Some(at), limit, until: now });
        }
    }

    /// A read has waited long enough for something new.
    pub(super) fn wait_over(&mut self, from: ProcId, life: u32, id: EffectId) {
        let waits = |waiter: &Waiter| waiter.from == from && waiter.life == life && waiter.id == id;
        if let Some(index) = self.waiters.iter().position(waits) {
            let waiter = self.waiters.remove(index);
            self.answer_read(from, life, id, waiter.at, waiter.limit);
        }
    }

    /// A populator reads the stored position.
    pub(super) fn load_position(&mut self, from: ProcId, id: EffectId) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        match self.departure(from) {
            Some(at) => self.schedule.push(at, Item::LoadPosition { from, life, id }),
            None => {
                let ev = Ev::Populator(Event::PositionLoaded { id, ending: Ending::Unknown });
                self.after(TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    pub(super) fn position_read(&mut self, from: ProcId, life: u32, id: EffectId) {
        let down = self.coordination.down_until > self.now();
        let ending = if down || self.is_unheard(from) {
            Ending::Unknown
        } else {
            Ending::Applied(self.coordination.position)
        };
        self.answer(from, life, Ev::Populator(Event::PositionLoaded { id, ending }));
    }

    /// A populator stores a position.
    pub(super) fn save_position(
        &mut self,
        from: ProcId,
        id: EffectId,
        seq: Seq,
        epoch: JournalEpoch,
        version: u64,
    ) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        if self.strikes(Fault::PositionTouched) {
            self.coordination.position.version += 1;
        }
        let reply_lost = self.strikes(Fault::PositionReplyLost);
        match self.departure(from) {
            Some(at) => {
                self.schedule
                    .push(at, Item::SavePosition { from, life, id, seq, epoch, version, reply_lost });
            }
            None => {
                let ev = Ev::Populator(Event::PositionSaved { id, ending: Ending::Unknown });
                self.after(TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    pub(super) fn position_write(
        &mut self,
        from: ProcId,
        life: u32,
        id: EffectId,
        (seq, epoch, version): (Seq, JournalEpoch, u64),
        reply_lost: bool,
    ) {
        if self.coordination.down_until > self.now() {
            let ev = Ev::Populator(Event::PositionSaved { id, ending: Ending::Unknown });
            return self.answer(from, life, ev);
        }
        let ending = match self.coordination.save((from, life), seq, epoch, version) {
            SaveAnswer::Saved(version) => {
                let index = self.source.index_of(seq).expect("I1: only numbers that were read are saved");
                self.see(&Seen::PositionSaved { next: index });
                Ending::Applied(version)
            }
            SaveAnswer::Conflict => {
                self.marks.hit(Mark::PositionConflict);
                Ending::Refused(Refusal::new(RefusalKind::Conflict, "BadVersion"))
            }
            SaveAnswer::Fenced => {
                self.marks.hit(Mark::PositionFenced);
                Ending::Refused(Refusal::new(RefusalKind::Fenced, "NotOwner"))
            }
        };
        let ending = if reply_lost || self.is_unheard(from) { Ending::Unknown } else { ending };
        self.answer(from, life, Ev::Populator(Event::PositionSaved { id, ending }));
    }

    /// A populator has a loss written down.
    pub(super) fn record_loss(&mut self, from: ProcId, id: EffectId, loss: Loss) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        let reply_lost = self.strikes(Fault::PositionReplyLost);
        match self.departure(from) {
            Some(at) => self.schedule.push(at, Item::RecordLoss { from, life, id, loss, reply_lost }),
            None => {
                let ev = Ev::Populator(Event::LossRecorded { id, ending: Ending::Unknown });
                self.after(TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    pub(super) fn loss_arrives(
        &mut self,
        from: ProcId,
        life: u32,
        id: EffectId,
        loss: Loss,
        reply_lost: bool,
    ) {
        let ending = if self.coordination.down_until > self.now() {
            Ending::Unknown
        } else {
            self.look_at_loss(&loss);
            let index = |seq| self.source.index_of(seq).expect("I1: only numbers that were read are lost");
            let (first, end) = (index(loss.wanted.0), index(loss.resumes.0));
            let oldest = self.source.oldest_index();
            self.see(&Seen::LossRecorded { first, end, oldest });
            // Whoever reads of it queues from a listing what is still to be done.
            let delay = self.dice.below(10 * SECOND);
            self.after(delay, Item::Resync);
            if reply_lost || self.is_unheard(from) { Ending::Unknown } else { Ending::Applied(()) }
        };
        self.answer(from, life, Ev::Populator(Event::LossRecorded { id, ending }));
    }

    /// A loss is one that happened.
    fn look_at_loss(&mut self, loss: &Loss) {
        let (fault, mark) = match loss.kind() {
            LossKind::CutOff => (Fault::JournalCut, Mark::JournalCutNoticed),
            LossKind::Replaced => (Fault::JournalReplaced, Mark::JournalReplacedNoticed),
            LossKind::WentBack => {
                return self.checkers.report("POP-1", format!("no journal ever went back: {loss:?}"));
            }
        };
        self.marks.hit(mark);
        if self.counters.of(fault) == 0 {
            self.checkers.report("POP-1", format!("nothing was lost: {loss:?}"));
        }
    }

    /// A populator may become the owner of the journal.
    pub(super) fn election(&mut self) {
        let now = self.now();
        if self.coordination.owner.is_some() {
            return;
        }
        if self.coordination.down_until > now {
            let at = self.coordination.down_until + SECOND / 10;
            self.schedule.push(at, Item::Election);
            return;
        }
        let candidates: Vec<ProcId> = self
            .processes
            .iter()
            .filter(|process| process.role == Role::Populator && process.up)
            .filter(|process| process.paused_until <= now && process.isolated_until <= now)
            .map(|process| process.id)
            .collect();
        if candidates.is_empty() {
            self.after(SECOND, Item::Election);
            return;
        }
        let winner = candidates[self.dice.index(candidates.len())];
        let config = self.configs.populator.clone();
        let machine = Populator::new(config, self.rules.clone());
        let process = self.process(winner);
        process.stop();
        process.machine = Some(Machine::Populator(Box::new(machine)));
        let life = process.life;
        self.coordination.owner = Some((winner, life));
        if self.last_owner.is_some_and(|last| last != winner) {
            self.marks.hit(Mark::PopulatorTakeover);
        }
        self.last_owner = Some(winner);
        self.step(winner, Ev::Populator(Event::Started));
    }

    /// The session of the journal's owner ends.
    pub(super) fn owner_over(&mut self, owner: ProcId, life: u32) {
        let now = self.now();
        let process = &self.processes[owner.index()];
        let lives = process.up
            && process.life == life
            && process.paused_until <= now
            && process.isolated_until <= now;
        if lives || self.coordination.owner != Some((owner, life)) {
            return;
        }
        self.end_ownership(owner, life);
    }

    /// Ends a session, whatever its owner does.
    pub(super) fn end_ownership(&mut self, owner: ProcId, life: u32) {
        self.coordination.owner = None;
        let mut delay = self.latency();
        if self.strikes(Fault::EphemeralLingers) {
            delay += self.struck.below(20 * SECOND);
        }
        self.after(delay, Item::Election);
        let mut delay = self.latency();
        if self.strikes(Fault::ExpiryLate) {
            delay += self.struck.below(20 * SECOND);
        }
        let at = (self.now() + delay).max(self.processes[owner.index()].paused_until + SECOND / 20);
        self.schedule.push(at, Item::Deliver { to: owner, life, ev: Ev::Populator(Event::OwnershipLost) });
    }

    /// A machine stopped for good: its process competes again.
    pub(super) fn populator_stopped(&mut self, id: ProcId, reason: &StopReason) {
        match reason {
            StopReason::Fenced | StopReason::OwnershipLost => {}
            StopReason::HistoryLost(loss) => {
                self.marks.hit(Mark::StoppedAtLoss);
                self.look_at_loss(loss);
                // Somebody looks, and lets it go on.
                self.configs.populator.after_cut = AfterLoss::GoOn;
                self.configs.populator.after_replaced = AfterLoss::GoOn;
            }
        }
        let process = self.process(id);
        let life = process.life;
        process.machine = None;
        process.timer_at = None;
        process.in_flight = 0;
        if self.coordination.owner == Some((id, life)) {
            self.coordination.owner = None;
        }
        self.after(SECOND, Item::Election);
    }
}
