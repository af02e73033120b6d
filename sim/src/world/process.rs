//! Processes of the engine: what they run, whether they run, and what their clocks say.

use std::collections::VecDeque;

use backbeat_core::QueueEvent;
use backbeat_core::id::{Offset, Partition};
use backbeat_core::parts::InFlight;
use backbeat_core::populator::{self, Populator};
use backbeat_core::processor::{self, SiteProcessor};
use backbeat_core::status::{self, StatusProcessor};
use backbeat_core::time::{Instant, Now, WallTime};

use crate::ids::{GroupId, ProcId, SiteId, VerId};

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads the journal.
    Populator,
    /// Copies to one site.
    Processor(SiteId),
    /// Records outcomes.
    Status,
}

impl Role {
    /// The consumer group it belongs to.
    pub fn group(self) -> Option<GroupId> {
        match self {
            Self::Populator => None,
            Self::Processor(site) => Some(GroupId::Site(site)),
            Self::Status => Some(GroupId::Status),
        }
    }
}

/// The machine that a process runs.
#[derive(Debug)]
pub enum Machine<R> {
    /// Reads the journal.
    Populator(Box<Populator<R>>),
    /// Copies to one site.
    Processor(Box<SiteProcessor<R>>),
    /// Records outcomes.
    Status(Box<StatusProcessor<R>>),
}

/// An event for a machine.
#[derive(Clone, Debug)]
pub enum Ev {
    /// For a populator.
    Populator(populator::Event),
    /// For a site processor.
    Processor(processor::Event),
    /// For a status processor.
    Status(status::Event),
}

impl Ev {
    /// News of the queue for a process with this role.
    ///
    /// # Panics
    /// If it is a populator: these read the journal.
    pub fn queue(role: Role, event: QueueEvent) -> Self {
        match role {
            Role::Populator => panic!("populators consume no queue: {event:?}"),
            Role::Processor(_) => Self::Processor(processor::Event::Queue(event)),
            Role::Status => Self::Status(status::Event::Queue(event)),
        }
    }
}

/// The clocks of a process: they differ from virtual time in start, speed and wall time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What the monotonic clock showed at virtual time zero.
    pub offset: u64,
    /// How much faster it runs, in parts per million.
    pub drift: u64,
    /// Wall clock minus true time, in milliseconds.
    pub wall_offset: i64,
}

/// Wall time at virtual time zero, in milliseconds since the epoch.
pub const WALL_START: i64 = 1_800_000_000_000;

impl Clock {
    /// What the clocks show at virtual time `at`.
    pub fn show(&self, at: u64) -> Now {
        let wall = WALL_START + i64::try_from(at / 1_000).expect("fits") + self.wall_offset;
        Now { mono: Instant::from_micros(self.mono(at)), wall: WallTime::from_millis(wall) }
    }

    fn mono(&self, at: u64) -> u64 {
        self.offset + at + at / 1_000_000 * self.drift
    }

    /// The first virtual time at which the monotonic clock shows `mono` or more.
    pub fn when(&self, mono: Instant) -> u64 {
        let since = mono.as_micros().saturating_sub(self.offset);
        if self.drift == 0 {
            return since;
        }
        // Never too late, then a step at a time to a moment that is late enough.
        let mut at = since.saturating_sub((since / 1_000_000 + 1) * self.drift);
        while self.mono(at) < mono.as_micros() {
            at += (mono.as_micros() - self.mono(at)).div_ceil(2).max(1);
        }
        at
    }
}

/// Where a consumer reads one partition of one topic.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// The next offset to hand over.
    pub next: Offset,
    /// Whether a fetch is on the event list.
    pub scheduled: bool,
}

/// What a consumer owns, as its driver knows it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The group's generation; the driver's epoch is the same number.
    pub generation: u32,
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// Per owned partition: one position per topic.
    pub fetches: Vec<Vec<Fetch>>,
    /// Per owned partition: whether messages may flow.
    pub open: Vec<bool>,
    /// Per owned partition: whether the machine gave it back.
    pub released: Vec<bool>,
    /// Set once the machine was told to give them back.
    pub revoked: bool,
    /// Set once the machine released them or they were taken away.
    pub over: bool,
}

/// A process of the engine.
#[derive(Debug)]
pub struct Process<R> {
    /// Its id.
    pub id: ProcId,
    /// What it is for.
    pub role: Role,
    /// Its name in traces.
    pub name: String,
    /// The machine, while it runs.
    pub machine: Option<Machine<R>>,
    /// Grows with every start; answers to an earlier life are nobody's.
    pub life: u32,
    /// Whether the operating system process is there.
    pub up: bool,
    /// Whether it never comes back.
    pub dead_for_ever: bool,
    /// Stands still before this time.
    pub paused_until: u64,
    /// What arrived while it stood still.
    pub mailbox: VecDeque<(u32, Ev)>,
    /// Slow before this time.
    pub slow_until: u64,
    /// Reaches nobody before this time.
    pub isolated_until: u64,
    /// Hears no answers before this time.
    pub deaf_until: u64,
    /// Its traffic is held back until this time.
    pub clogged_until: u64,
    /// Its clocks.
    pub clock: Clock,
    /// The timer on the event list.
    pub timer_at: Option<u64>,
    /// What the machine wanted when that timer was set, unless it comes late.
    pub timer_due: Option<Instant>,
    /// The moment at which its timer fired last, and how often it did then.
    pub spinning: (u64, u32),
    /// Requests and publishes whose answers are still to come, in this life.
    pub in_flight: u32,
    /// Requests to sites whose answers are still to come, in this life.
    pub calls_in_flight: u32,
    /// What it owns.
    pub assignment: Option<Assignment>,
    /// The populator's producer.
    pub producer: u64,
    /// Publishes of that producer that are under way: an older producer's are given up with it.
    pub publishes: InFlight<()>,
    /// Requests under way that change a target, and the versions they change.
    pub target_calls: InFlight<VerId>,
    /// When the last publish on each topic partition is appended: publishes of one process keep their order.
    pub last_append: Box<[u64; 64]>,
    /// When the operator's last word reaches it.
    pub control_at: u64,
    /// Whether an operator paused it (processors).
    pub operator_paused: bool,
}

impl<R> Process<R> {
    /// A process that does not run yet.
    pub fn new(id: ProcId, role: Role, name: String) -> Self {
        Self {
            id,
            role,
            name,
            machine: None,
            life: 0,
            up: false,
            dead_for_ever: false,
            paused_until: 0,
            mailbox: VecDeque::new(),
            slow_until: 0,
            isolated_until: 0,
            deaf_until: 0,
            clogged_until: 0,
            clock: Clock::default(),
            timer_at: None,
            timer_due: None,
            spinning: (0, 0),
            in_flight: 0,
            calls_in_flight: 0,
            assignment: None,
            producer: 0,
            publishes: InFlight::new(),
            target_calls: InFlight::new(),
            last_append: Box::new([0; 64]),
            control_at: 0,
            operator_paused: false,
        }
    }

    /// Whether its machine can take events at `now`.
    pub fn runs(&self, now: u64) -> bool {
        self.up && self.paused_until <= now && self.machine.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_once_the_process_own_clock_says_so() {
        for drift in [0, 1, 77, 300] {
            let clock = Clock { offset: 5_000, drift, wall_offset: 0 };
            for at in [0, 1, 999_999, 1_000_000, 123_456_789, 9_999_999_999] {
                let mono = clock.show(at).mono;
                let due = clock.when(mono);
                assert!(clock.show(due).mono >= mono, "drift {drift} at {at}");
                assert!(due <= at + 1 + drift, "drift {drift} at {at}: {due}");
            }
        }
    }
}
