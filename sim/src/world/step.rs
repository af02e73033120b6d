//! One step: an event goes into a machine, its effects come out and are carried out. Processes die between the lines.

use backbeat_core::call::Ending;
use backbeat_core::parts::InFlight;
use backbeat_core::rules::Rules;
use backbeat_core::time::Instant;
use backbeat_core::{QueueEffect, QueueEvent, populator, processor, status};

use super::process::{Ev, Machine, Process, Role};
use super::{AppendBody, Item, World, traces};
use crate::checkers::Seen;
use crate::faults::Fault;
use crate::ids::{ProcId, Topic};
use crate::marks::Mark;
use crate::scenario::SECOND;

/// A machine whose timer is due so often at one moment will not stop.
const SPINS_MAX: u32 = 1_000;

/// What one kind of machine asks for.
pub(super) trait Asked: Sized {
    /// Where the effects of a step are gathered.
    fn gathered(effects: &mut Effects) -> &mut Vec<Self>;
    /// What is hashed of it.
    fn words(&self) -> [u64; 3];
    /// It as a line.
    fn show(&self) -> String;
    /// Carries it out for the process `id`.
    fn carry_out<R: Rules>(self, world: &mut World<R>, id: ProcId);
}

/// Scratch space for the effects of one step, by kind of machine: kept between steps.
#[derive(Debug, Default)]
pub(super) struct Effects {
    populator: Vec<populator::Effect>,
    processor: Vec<processor::Effect>,
    status: Vec<status::Effect>,
}

impl<R: Rules> World<R> {
    /// An event reaches a process.
    pub(super) fn deliver(&mut self, to: ProcId, life: u32, ev: Ev) {
        let now = self.now();
        let process = self.process(to);
        if !process.up || process.life != life {
            return;
        }
        if process.paused_until > now {
            process.mailbox.push_back((life, ev));
            return;
        }
        if process.machine.is_none() {
            return;
        }
        self.step(to, ev);
    }

    /// A timer on the event list is due.
    pub(super) fn timer(&mut self, to: ProcId, life: u32) {
        let now = self.now();
        let process = self.process(to);
        if !process.up || process.life != life || process.timer_at.is_none_or(|at| at > now) {
            return;
        }
        process.timer_at = None;
        if process.paused_until > now || process.machine.is_none() {
            // Looked at again when it goes on.
            return;
        }
        let mono = process.clock.show(now).mono;
        let Some(due) = process.timeout() else { return };
        if due > mono {
            self.arm(to);
            return;
        }
        if process.spinning.0 == now {
            process.spinning.1 += 1;
        } else {
            process.spinning = (now, 0);
        }
        if process.spinning.1 > SPINS_MAX {
            let message = format!("{}'s timer fires without end", process.name);
            self.checkers.report("BOUND-1", message);
            return;
        }
        let ev = match process.role {
            Role::Populator => Ev::Populator(populator::Event::Timer),
            Role::Processor(_) => Ev::Processor(processor::Event::Timer),
            Role::Status => Ev::Status(status::Event::Timer),
        };
        self.step(to, ev);
    }

    /// Puts the machine's next timer on the event list, unless an earlier one is there.
    pub(super) fn arm(&mut self, id: ProcId) {
        let now = self.now();
        let process = &self.processes[id.index()];
        let Some(due) = process.timeout() else { return };
        let is_armed = process.timer_at.is_some_and(|armed| armed >= now);
        if is_armed && process.timer_due.is_some_and(|armed| armed <= due) {
            return;
        }
        let at = process.clock.when(due).max(now);
        if process.timer_at.is_some_and(|armed| armed <= at && armed >= now) {
            return;
        }
        let late = if self.strikes(Fault::TimerLate) { self.struck.below(2 * SECOND) } else { 0 };
        let process = &mut self.processes[id.index()];
        process.timer_at = Some(at + late);
        process.timer_due = (late == 0).then_some(due);
        let life = process.life;
        self.schedule.push(at + late, Item::Timer { to: id, life });
    }

    /// A paused process goes on: what arrived meanwhile comes first.
    pub(super) fn resume(&mut self, to: ProcId) {
        let now = self.now();
        if self.process(to).paused_until > now || !self.process(to).up {
            return;
        }
        let name = self.processes[to.index()].name.clone();
        self.trace.line(now, || format!("{name} goes on"));
        while let Some((life, ev)) = self.process(to).mailbox.pop_front() {
            let process = self.process(to);
            if !process.up || process.life != life || process.machine.is_none() {
                continue;
            }
            self.step(to, ev);
        }
        if self.process(to).machine.is_some() {
            self.process(to).timer_at = None;
            self.arm(to);
        }
    }

    /// Lets the machine of a running process handle one event and carries out what it asks for.
    pub(super) fn step(&mut self, id: ProcId, ev: Ev) {
        let now = self.now();
        if self.strikes(Fault::CrashBeforeCompletion) {
            self.crash(id, "before it hears");
            return;
        }
        self.account(id, &ev);
        let is_message = matches!(
            ev,
            Ev::Processor(processor::Event::Queue(QueueEvent::Message { .. }))
                | Ev::Status(status::Event::Queue(QueueEvent::Message { .. }))
        );
        let process = &mut self.processes[id.index()];
        let shown = process.clock.show(now);
        self.steps += 1;
        self.trace.word(now);
        self.trace.word(u64::from(id.0) << 32 | u64::from(process.life));
        traces::hash_event(&mut self.trace, &ev);
        let name = &process.name;
        self.trace.line(now, || format!("{name} <- {}", traces::event(&ev)));
        let effects = &mut self.effects;
        let machine = process.machine.as_mut().expect("a running process has a machine");
        let died = match (machine, ev) {
            (Machine::Populator(machine), Ev::Populator(event)) => {
                machine.handle(shown, event);
                effects.populator.extend(std::iter::from_fn(|| machine.poll_effect()));
                self.carry_out_all::<populator::Effect>(id)
            }
            (Machine::Processor(machine), Ev::Processor(event)) => {
                machine.handle(shown, event);
                effects.processor.extend(std::iter::from_fn(|| machine.poll_effect()));
                self.carry_out_all::<processor::Effect>(id)
            }
            (Machine::Status(machine), Ev::Status(event)) => {
                machine.handle(shown, event);
                effects.status.extend(std::iter::from_fn(|| machine.poll_effect()));
                self.carry_out_all::<status::Effect>(id)
            }
            (_, ev) => panic!("{ev:?} is not for {}", process.name),
        };
        if died {
            self.crash(id, "between two effects");
            return;
        }
        self.arm(id);
        let held = if is_message { self.held(id) } else { 0 };
        let process = &self.processes[id.index()];
        let publishes = u32::try_from(process.publishes.len()).expect("few publishes");
        let in_flight = process.in_flight + publishes;
        self.checkers.load(id, in_flight, held);
    }

    /// Notes that an answer arrived.
    fn account(&mut self, id: ProcId, ev: &Ev) {
        let call = match ev {
            Ev::Processor(processor::Event::Replied { id, .. })
            | Ev::Status(status::Event::Replied { id, .. })
            | Ev::Populator(populator::Event::Replied { id, .. }) => Some(*id),
            Ev::Populator(event) => match event {
                populator::Event::Published { id: publish, .. } => {
                    let publish = *publish;
                    self.process(id).publishes.remove(publish);
                    return;
                }
                populator::Event::PositionLoaded { .. }
                | populator::Event::JournalRead { .. }
                | populator::Event::LossRecorded { .. }
                | populator::Event::PositionSaved { .. } => None,
                populator::Event::Replied { .. } => unreachable!("taken above"),
                populator::Event::Started | populator::Event::OwnershipLost | populator::Event::Timer => {
                    return;
                }
            },
            Ev::Processor(
                processor::Event::Published { .. }
                | processor::Event::Queue(QueueEvent::Committed { .. })
                | processor::Event::ExceptionsLoaded { .. },
            )
            | Ev::Status(
                status::Event::Published { .. } | status::Event::Queue(QueueEvent::Committed { .. }),
            ) => None,
            Ev::Processor(_) | Ev::Status(_) => return,
        };
        let process = self.process(id);
        process.in_flight = process.in_flight.checked_sub(1).expect("every request has one answer");
        let Some(call) = call else { return };
        process.calls_in_flight -= 1;
        if let Some(version) = process.target_calls.remove(call)
            && let Role::Processor(site) = process.role
        {
            self.see(&Seen::TargetAnswered { by: id, site, version });
        }
    }

    fn held(&self, id: ProcId) -> u64 {
        let process = &self.processes[id.index()];
        let (Some(assignment), Some(group)) = (&process.assignment, process.role.group()) else { return 0 };
        if assignment.over {
            return 0;
        }
        let group = &self.groups[group];
        let mut held = 0;
        for (partition, fetches) in assignment.partitions.iter().zip(&assignment.fetches) {
            for (topic, fetch) in fetches.iter().enumerate() {
                held += fetch.next.0.saturating_sub(group.committed[topic][partition.0 as usize].0);
            }
        }
        held
    }

    /// Carries out what the machine asked for in this step. Says whether the process dies before the end of it.
    fn carry_out_all<E: Asked>(&mut self, id: ProcId) -> bool {
        let effects = E::gathered(&mut self.effects);
        let count = effects.len();
        if count == 0 {
            return false;
        }
        effects.reverse();
        let left = if self.strikes(Fault::CrashBetweenEffects) {
            count - 1 - self.struck.index(count)
        } else {
            usize::MAX
        };
        while let Some(effect) = E::gathered(&mut self.effects).pop() {
            self.trace.words(effect.words());
            let (name, now) = (&self.processes[id.index()].name, self.schedule.now());
            self.trace.line(now, || format!("{name} -> {}", effect.show()));
            effect.carry_out(self, id);
            let effects = E::gathered(&mut self.effects);
            if effects.len() == left {
                effects.clear();
                return true;
            }
        }
        false
    }

    fn carry_out_queue(&mut self, id: ProcId, effect: QueueEffect) {
        match effect {
            QueueEffect::Commit { id: commit, epoch, from, upto } => {
                self.send_commit(id, commit, epoch, from, upto);
            }
            QueueEffect::Flow { partition, open } => self.flow(id, partition, open),
            QueueEffect::Release { epoch, partitions } => self.release(id, epoch, &partitions),
        }
    }

    /// A process dies; everything in its memory is gone, everything it sent is on its way.
    #[cold]
    pub(super) fn crash(&mut self, id: ProcId, when: &str) {
        let now = self.now();
        if !self.process(id).up {
            return;
        }
        // Drawn first: its death may be an opportunity for other faults.
        let delay = self.struck.between(SECOND / 10, 20 * SECOND);
        let name = self.processes[id.index()].name.clone();
        self.trace.line(now, || format!("{name} dies {when}"));
        self.trace.word(u64::from(id.0) | 1 << 40);
        let process = self.process(id);
        let (busy, life) = (process.calls_in_flight > 0, process.life);
        let draining = process.assignment.as_ref().is_some_and(|owned| owned.revoked && !owned.over);
        process.stop();
        process.up = false;
        if busy {
            self.marks.hit(Mark::CrashDirty);
        }
        if draining {
            self.marks.hit(Mark::CrashInDrain);
        }
        self.see(&Seen::Died { by: id });
        self.gone(id, life);
        self.after(delay, Item::Restart { to: id });
    }

    /// The operating system process starts.
    pub(super) fn restart(&mut self, id: ProcId) {
        let now = self.now();
        if self.process(id).up || self.process(id).dead_for_ever {
            return;
        }
        let name = self.processes[id.index()].name.clone();
        self.trace.line(now, || format!("{name} starts"));
        let role = self.process(id).role;
        let process = self.process(id);
        process.up = true;
        process.life += 1;
        let life = process.life;
        match role {
            Role::Populator => {
                let delay = self.latency();
                self.after(delay, Item::Election);
            }
            Role::Processor(site) => {
                let config = self.configs.processors[site.index()].clone();
                let machine = processor::SiteProcessor::new(config, self.rules.clone());
                self.process(id).machine = Some(Machine::Processor(Box::new(machine)));
                let delay = self.latency();
                self.after(delay, Item::Join { from: id, life });
                if self.process(id).operator_paused {
                    let ev = Ev::Processor(processor::Event::Control(processor::Control::Pause));
                    self.step(id, ev);
                }
            }
            Role::Status => {
                let machine = status::StatusProcessor::new(self.configs.status.clone(), self.rules.clone());
                self.process(id).machine = Some(Machine::Status(Box::new(machine)));
                let delay = self.latency();
                self.after(delay, Item::Join { from: id, life });
            }
        }
    }

    /// Sends an answer to a process: an ordinary latency away, more if something is wrong with it.
    pub(super) fn answer(&mut self, to: ProcId, life: u32, ev: Ev) {
        let now = self.now();
        let mut at = now + self.latency();
        let process = &self.processes[to.index()];
        at = at.max(process.clogged_until);
        if process.slow_until > now {
            at += self.dice.between(SECOND / 10, SECOND);
        }
        self.schedule.push(at, Item::Deliver { to, life, ev });
    }

    /// Whether an answer to this process is lost: it is cut off.
    pub(super) fn is_unheard(&self, to: ProcId) -> bool {
        let now = self.now();
        let process = &self.processes[to.index()];
        process.isolated_until > now || process.deaf_until > now
    }

    /// When a request that a process sends now arrives; `None` if it never does.
    pub(super) fn departure(&mut self, from: ProcId) -> Option<u64> {
        let now = self.now();
        let mut at = now + self.latency();
        let process = &self.processes[from.index()];
        if process.isolated_until > now {
            return None;
        }
        let (slow, clogged) = (process.slow_until > now, process.clogged_until);
        at = at.max(clogged);
        if slow {
            at += self.dice.between(SECOND / 10, SECOND);
        }
        if self.strikes(Fault::Reordered) {
            at += self.struck.below(SECOND / 4);
        }
        if self.strikes(Fault::DelaySpike) {
            at += self.struck.below(6 * SECOND);
        }
        if self.strikes(Fault::RequestLost) {
            return None;
        }
        Some(at)
    }

    /// The ending of a publish, for the machine that asked.
    pub(super) fn published(&self, to: ProcId, id: backbeat_core::id::EffectId, ending: Ending<()>) -> Ev {
        match self.processes[to.index()].role {
            Role::Populator => Ev::Populator(populator::Event::Published { id, ending }),
            Role::Processor(_) => Ev::Processor(processor::Event::Published { id, ending }),
            Role::Status => Ev::Status(status::Event::Published { id, ending }),
        }
    }
}

impl Asked for populator::Effect {
    fn gathered(effects: &mut Effects) -> &mut Vec<Self> {
        &mut effects.populator
    }

    fn words(&self) -> [u64; 3] {
        traces::populator_words(self)
    }

    fn show(&self) -> String {
        traces::populator_effect(self)
    }

    fn carry_out<R: Rules>(self, world: &mut World<R>, id: ProcId) {
        match self {
            Self::LoadPosition { id: load } => world.load_position(id, load),
            Self::ReadJournal { id: read, from, limit, wait } => {
                world.read_journal(id, read, from, limit, wait);
            }
            Self::Publish { id: publish, producer, seq, publish: what, entry } => {
                world.publish_work(id, publish, producer, seq, &what, &entry);
            }
            Self::Unreadable { .. } => {}
            Self::SavePosition { id: save, position, epoch, version } => {
                world.save_position(id, save, position, epoch, version);
            }
            Self::Overwritten { .. } => world.marks.hit(Mark::OverwriteNoticed),
            Self::Call { id: call, request } => world.send_call(id, call, request),
            Self::RecordLoss { id: record, loss } => world.record_loss(id, record, loss),
            Self::Stopped { reason } => world.populator_stopped(id, &reason),
        }
    }
}

impl Asked for processor::Effect {
    fn gathered(effects: &mut Effects) -> &mut Vec<Self> {
        &mut effects.processor
    }

    fn words(&self) -> [u64; 3] {
        traces::processor_words(self)
    }

    fn show(&self) -> String {
        traces::processor_effect(self)
    }

    fn carry_out<R: Rules>(self, world: &mut World<R>, id: ProcId) {
        match self {
            Self::Call { id: call, request } => world.send_call(id, call, request),
            Self::PublishStatus { id: publish, entry } => {
                let partition = world.partition_of_entry(&entry);
                let message = backbeat_core::model::Message::Object(entry);
                let body = AppendBody::Message { topic: Topic::Status, partition, message };
                world.publish(id, publish, body, None);
            }
            Self::PutException { id: publish, record } => world.put_exception(id, publish, record),
            Self::LoadExceptions { id: load, partition } => world.load_exceptions(id, load, partition),
            Self::Queue(effect) => world.carry_out_queue(id, effect),
        }
    }
}

impl Asked for status::Effect {
    fn gathered(effects: &mut Effects) -> &mut Vec<Self> {
        &mut effects.status
    }

    fn words(&self) -> [u64; 3] {
        traces::status_words(self)
    }

    fn show(&self) -> String {
        traces::status_effect(self)
    }

    fn carry_out<R: Rules>(self, world: &mut World<R>, id: ProcId) {
        match self {
            Self::Call { id: call, request } => world.send_call(id, call, request),
            Self::Publish { id: publish, outgoing } => world.publish_outgoing(id, publish, outgoing),
            Self::PutException { id: publish, record } => world.put_exception(id, publish, record),
            Self::Count(_) => {}
            Self::Queue(effect) => world.carry_out_queue(id, effect),
        }
    }
}

impl<R: Rules> Process<R> {
    /// When the machine's next timer is due, by the process's own clock.
    pub fn timeout(&self) -> Option<Instant> {
        match self.machine.as_ref()? {
            Machine::Populator(machine) => machine.poll_timeout(),
            Machine::Processor(machine) => machine.poll_timeout(),
            Machine::Status(machine) => machine.poll_timeout(),
        }
    }

    /// Drops the machine and everything in memory; answers to this life are nobody's from now on.
    pub fn stop(&mut self) {
        self.machine = None;
        self.life += 1;
        self.mailbox.clear();
        self.paused_until = 0;
        self.timer_at = None;
        self.in_flight = 0;
        self.calls_in_flight = 0;
        self.assignment = None;
        self.producer = 0;
        self.publishes = InFlight::new();
        self.target_calls = InFlight::new();
    }
}
