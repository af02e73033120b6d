//! The world around the engine: one event list, one virtual clock, models of everything that the engine talks to.
//!
//! The models are stricter than the real things where they can be; each has its contract written beside it. A run has three
//! phases: *safety* (clients write, faults strike, checkers watch every step), *healing* (faults stop for a healthy set, the
//! rest stays broken for good, and everything must reach its ending within a bound of virtual time) and *fresh* (more work
//! is written and must be served).

pub mod coordination;
pub mod group;
pub mod minting_site;
pub mod process;
pub mod queue;
pub mod site;
pub mod source;

#[expect(clippy::single_match_else, reason = "a message departs or it does not: two equal cases")]
mod brokers;
mod calls;
mod chaos;
mod clients;
mod groups;
#[expect(clippy::single_match_else, reason = "a message departs or it does not: two equal cases")]
mod journal;
mod minting;
mod phases;
mod setup;
mod step;
mod traces;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use backbeat_core::exception::ExceptionRecord;
use backbeat_core::id::{EffectId, JournalEpoch, Offset, Partition, Seq, Topic as TopicName, TopicPartition};
use backbeat_core::request::{BucketRules, SiteRequest};
use backbeat_core::rules::Rules;
use backbeat_core::{populator, processor, status};

use crate::checkers::{Checkers, Seen, Violation};
use crate::faults::Fault;
use crate::ids::{GroupId, ProcId, SiteId, Topic};
use crate::marks::Marks;
use crate::plan::{Broken, FaultCounters, FaultPlan, Operation, Plan, Strike, Workload};
use crate::rng::Rng;
use crate::scenario::{Scenario, Shape};
use crate::schedule::Schedule;
use crate::trace::Trace;
use coordination::Coordination;
use group::Groups;
use process::{Ev, Process};
use queue::Queue;
use site::TargetSite;
use source::SourceSite;

/// A request on its way to a site.
#[derive(Debug)]
pub(crate) struct Arrival {
    from: ProcId,
    life: u32,
    id: EffectId,
    request: Box<SiteRequest>,
    /// The generation of its group that the sender believed in.
    generation: Option<u32>,
    /// When the sender gives up and hears that the ending is unknown.
    deadline: u64,
    /// Whether the sender has heard an ending already, or hears it from another copy of this request.
    silent: bool,
}

/// A message on its way to the queue.
#[derive(Debug)]
pub(crate) struct Append {
    from: ProcId,
    life: u32,
    id: Option<EffectId>,
    body: AppendBody,
    origin: Option<Seq>,
    reply_lost: bool,
    /// The populator's producer that sent it.
    producer: u64,
}

/// What is appended.
#[derive(Debug)]
pub(crate) enum AppendBody {
    /// A message of a topic that consumers read.
    Message { topic: Topic, partition: usize, message: backbeat_core::model::Message },
    /// An exception record.
    Exception { partition: usize, record: Box<ExceptionRecord> },
    /// A message of a topic that nobody in this world reads.
    Other { topic: Topic, text: String },
}

/// What waits on the event list.
#[derive(Debug)]
pub(crate) enum Item {
    /// An event for a machine.
    Deliver { to: ProcId, life: u32, ev: Ev },
    /// A machine's timer.
    Timer { to: ProcId, life: u32 },
    /// A paused process goes on.
    Resume { to: ProcId },
    /// A dead process starts again.
    Restart { to: ProcId },
    /// A request arrives at a site.
    Arrive(Arrival),
    /// A message arrives at the queue.
    Append(Box<Append>),
    /// A commit arrives at the broker.
    Commit {
        from: ProcId,
        life: u32,
        id: EffectId,
        generation: u32,
        tp: TopicPartition,
        upto: Offset,
        reply_lost: bool,
    },
    /// A read of exception records arrives at the broker.
    LoadExceptions { from: ProcId, life: u32, id: EffectId, partition: Partition },
    /// A consumer fetches.
    Fetch { to: ProcId, life: u32, generation: u32, tp: TopicPartition },
    /// The notice of a revocation reaches a member.
    Notice { to: ProcId, life: u32, generation: u32 },
    /// A process asks to join its group.
    Join { from: ProcId, life: u32 },
    /// A rebalance ends whoever is missing.
    RebalanceDue { group: GroupId, generation: u32 },
    /// The broker has not heard from a member for the session time-out.
    SessionOver { group: GroupId, member: ProcId, life: u32 },
    /// A machine must have given its partitions back by now.
    ReleaseDue { to: ProcId, life: u32, generation: u32 },
    /// A member learns that it is none any more.
    LostNews { to: ProcId, life: u32, generation: u32 },
    /// A new assignment reaches a member.
    AssignNews { to: ProcId, life: u32, generation: u32 },
    /// A read of the journal arrives.
    ReadJournal { from: ProcId, life: u32, id: EffectId, at: Option<Seq>, limit: usize, until: u64 },
    /// A read of the journal has waited long enough.
    WaitOver { from: ProcId, life: u32, id: EffectId },
    /// A read of the position arrives.
    LoadPosition { from: ProcId, life: u32, id: EffectId },
    /// A write of the position arrives.
    SavePosition {
        from: ProcId,
        life: u32,
        id: EffectId,
        seq: Seq,
        epoch: JournalEpoch,
        version: u64,
        reply_lost: bool,
    },
    /// A loss that is to be written down arrives at the coordination store.
    RecordLoss { from: ProcId, life: u32, id: EffectId, loss: populator::Loss, reply_lost: bool },
    /// Somebody queues from a listing what is still to be done.
    Resync,
    /// A populator may become the owner of the journal.
    Election,
    /// The session of the journal's owner ends.
    OwnerOver { owner: ProcId, life: u32 },
    /// A client operates.
    Client,
    /// The chaos clock ticks.
    Chaos,
    /// An operator ends a pause of a site, or lets the breaker decide again.
    OperatorEnds { site: SiteId, breaker: bool },
    /// Faults stop.
    Heal,
    /// Look whether everything has its ending.
    Look,
}

/// A read of the journal that waits for something new.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    from: ProcId,
    life: u32,
    id: EffectId,
    at: Seq,
    limit: usize,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Safety,
    Healing { since: u64 },
    Fresh { since: u64 },
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// `handle` calls of machines.
    pub steps: u64,
    /// Virtual time at the end, in microseconds.
    pub simulated: u64,
    /// How often each fault struck.
    pub faults: FaultCounters,
    /// How often each mark was reached.
    pub marks: Marks,
    /// The trace hash.
    pub hash: u64,
    /// The trace, if asked for.
    pub lines: Vec<String>,
    /// What happened, as a plan that runs the same.
    pub plan: Plan,
}

/// Where a run comes from.
#[derive(Clone, Copy, Debug)]
pub enum Course<'a> {
    /// Everything is drawn from a seed.
    Drawn(Scenario, u64),
    /// Everything but latencies is listed.
    Listed(&'a Plan),
}

/// The configurations of the machines.
#[derive(Debug)]
struct Configs {
    populator: populator::Config,
    processors: Vec<processor::Config>,
    status: status::Config,
    /// Configured replay topics in order; index 0 of a processor's topics is the replication topic.
    replay_topics: Vec<TopicName>,
    /// What the source says about the replication of its bucket, and what it says while the rule is disabled.
    rules: Arc<BucketRules>,
    rules_disabled: Arc<BucketRules>,
}

/// The world of one seed.
pub struct World<R: Rules> {
    rules: R,
    seed: u64,
    shape: Shape,
    schedule: Schedule<Item>,
    /// Latencies.
    dice: Rng,
    /// The details of the last strike of a fault.
    struck: Rng,
    /// What clients do.
    workload: Workload,
    /// What they do in the last phase, if a plan lists it.
    fresh: Option<Vec<Operation>>,
    plan: FaultPlan,
    /// What stays broken when faults stop.
    broken: Broken,
    /// What happened, as a plan.
    recorded: Plan,
    counters: FaultCounters,
    marks: Marks,
    trace: Trace,
    checkers: Checkers,
    configs: Configs,
    processes: Vec<Process<R>>,
    groups: Groups,
    queue: Queue,
    coordination: Coordination,
    source: SourceSite,
    targets: Vec<TargetSite>,
    /// The partition of each key.
    partition_of: Vec<usize>,
    /// The queue key of each key.
    keys_encoded: Vec<String>,
    /// Producers of populators that failed: they deliver nothing more.
    broken_pipes: BTreeSet<(ProcId, u32, u64)>,
    /// Writes that a site refused: copies of them that are still on their way are refused, too.
    refused_calls: BTreeSet<(ProcId, u32, EffectId)>,
    waiters: Vec<Waiter>,
    /// Who owned the journal last.
    last_owner: Option<ProcId>,
    /// Journal records already shown to checkers.
    journal_shown: usize,
    operations_left: u32,
    /// Whether clients write the same content again. No tag of a state tells such states apart, so a write that is under way
    /// for long must not exist in these runs.
    repeats: bool,
    /// Values that clients made up.
    values: u32,
    /// Number of versions when the faults stopped.
    fresh_from: u32,
    dead_sites: Vec<SiteId>,
    phase: Phase,
    steps: u64,
    over: bool,
    /// The faults of the run that may strike at every tick of the chaos clock.
    ticking: Vec<Fault>,
    /// Scratch space for effects.
    effects: step::Effects,
}

impl<R: Rules> World<R> {
    /// Runs a course to its end. A failed assertion of a machine is a broken invariant like any other.
    pub fn run(course: &Course<'_>, rules: R, text: bool) -> Report {
        let mut world = Self::new(course, rules, text);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.go_on())) {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a machine failed an assertion".to_owned());
            world.checkers.report("ASSERT", message);
        }
        world.report()
    }

    fn go_on(&mut self) {
        while !self.over {
            let Some(item) = self.schedule.pop() else { break };
            self.dispatch(item);
            if self.checkers.violation().is_some() {
                break;
            }
        }
    }

    fn report(mut self) -> Report {
        let violation = self.checkers.take_violation();
        if let Some(violation) = &violation {
            let at = self.schedule.now();
            self.trace.line(at, || format!("VIOLATION {}: {}", violation.id, violation.message));
        }
        let (hash, lines) = self.trace.finish();
        Report {
            seed: self.seed,
            violation,
            steps: self.steps,
            simulated: self.schedule.now(),
            faults: self.counters,
            marks: self.marks,
            hash,
            lines,
            plan: self.recorded,
        }
    }

    fn dispatch(&mut self, item: Item) {
        match item {
            Item::Deliver { to, life, ev } => self.deliver(to, life, ev),
            Item::Timer { to, life } => self.timer(to, life),
            Item::Resume { to } => self.resume(to),
            Item::Restart { to } => self.restart(to),
            Item::Arrive(arrival) => self.arrive(arrival),
            Item::Append(append) => self.append(*append),
            Item::Commit { from, life, id, generation, tp, upto, reply_lost } => {
                self.commit_arrives(from, life, id, generation, tp, upto, reply_lost);
            }
            Item::LoadExceptions { from, life, id, partition } => {
                self.exceptions_read(from, life, id, partition);
            }
            Item::Fetch { to, life, generation, tp } => self.fetch(to, life, generation, tp),
            Item::Notice { to, life, generation } => self.notice(to, life, generation),
            Item::Join { from, life } => self.join_arrives(from, life),
            Item::RebalanceDue { group, generation } => self.rebalance_due(group, generation),
            Item::SessionOver { group, member, life } => self.session_over(group, member, life),
            Item::ReleaseDue { to, life, generation } => self.release_due(to, life, generation),
            Item::LostNews { to, life, generation } => self.lost_news(to, life, generation),
            Item::AssignNews { to, life, generation } => self.assign_news(to, life, generation),
            Item::ReadJournal { from, life, id, at, limit, until } => {
                self.journal_read_arrives(from, life, id, at, limit, until);
            }
            Item::WaitOver { from, life, id } => self.wait_over(from, life, id),
            Item::LoadPosition { from, life, id } => self.position_read(from, life, id),
            Item::SavePosition { from, life, id, seq, epoch, version, reply_lost } => {
                self.position_write(from, life, id, (seq, epoch, version), reply_lost);
            }
            Item::RecordLoss { from, life, id, loss, reply_lost } => {
                self.loss_arrives(from, life, id, loss, reply_lost);
            }
            Item::Resync => self.resync(),
            Item::Election => self.election(),
            Item::OwnerOver { owner, life } => self.owner_over(owner, life),
            Item::Client => self.client(),
            Item::Chaos => self.chaos_tick(),
            Item::OperatorEnds { site, breaker } => self.operator_ends(site, breaker),
            Item::Heal => self.heal(),
            Item::Look => self.look(),
        }
    }

    fn now(&self) -> u64 {
        self.schedule.now()
    }

    fn after(&mut self, delay: u64, item: Item) {
        let at = self.now() + delay;
        self.schedule.push(at, item);
    }

    fn see(&mut self, seen: &Seen<'_>) {
        self.checkers.observe(seen, &mut self.marks);
    }

    /// Whether `fault` strikes this time. Its details are drawn from `struck`.
    #[expect(
        clippy::inline_always,
        reason = "asked eight times a step, and mostly of faults that do not exist"
    )]
    #[inline(always)]
    fn strikes(&mut self, fault: Fault) -> bool {
        self.plan.strength(fault) > 0 && self.meets(fault)
    }

    fn meets(&mut self, fault: Fault) -> bool {
        match self.plan.meets(fault, self.schedule.now()) {
            None => false,
            Some(strike) => self.is_struck(strike),
        }
    }

    /// Notes a strike. Always true, so that whoever asks has nothing left to do.
    #[cold]
    fn is_struck(&mut self, strike: Strike) -> bool {
        self.counters.count(strike.fault);
        self.struck = Rng::new(u64::from(strike.roll));
        self.recorded.strikes.push(strike);
        true
    }

    /// An ordinary one-way latency.
    #[inline]
    fn latency(&mut self) -> u64 {
        let drawn = self.dice.between(200, self.shape.latency_max);
        if self.plan.strength(Fault::TimersEqual) > 0 {
            self.counters.count(Fault::TimersEqual);
            drawn.div_ceil(5_000) * 5_000
        } else {
            drawn
        }
    }

    fn process(&mut self, id: ProcId) -> &mut Process<R> {
        &mut self.processes[id.index()]
    }
}

/// The topics that a group consumes, by index.
fn topic_of(group: GroupId, index: u8) -> Topic {
    match (group, index) {
        (GroupId::Status, _) => Topic::Status,
        (GroupId::Site(_), 0) => Topic::Replication,
        (GroupId::Site(_), index) => Topic::Replay(index - 1),
    }
}
