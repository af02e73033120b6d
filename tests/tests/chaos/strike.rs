//! What is done to the system, and the plan that a seed makes of it.

use backbeat_tests::dev::SITES;
use backbeat_tests::links::End;
use backbeat_tests::relay::Flow;
use backbeat_tests::storm::Random;
use std::time::Duration;

/// One thing that is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strike {
    /// A daemon, `kill -9`, and started again.
    Kill(usize),
    /// A daemon, SIGTERM, which must end well, and started again.
    Restart(usize),
    /// A daemon frozen for a while.
    Freeze(usize, Duration),
    /// The sites, `kill -9`.
    Sites,
    /// The sites frozen for a while: requests hang.
    FreezeSites(Duration),
    /// A broker, `kill -9`, and away for a while: others lead what it led.
    Kafka(usize, Duration),
    /// A broker, SIGTERM: it hands over what it leads.
    RestartKafka(usize),
    /// A broker frozen for a while.
    FreezeKafka(usize, Duration),
    /// Redis, `kill -9`, with everything in it.
    Redis,
    /// Redis emptied.
    FlushRedis,
    /// ZooKeeper, `kill -9`.
    Zookeeper,
    /// ZooKeeper, SIGTERM.
    RestartZookeeper,
    /// ZooKeeper frozen for a while, sometimes for longer than sessions last.
    FreezeZookeeper(Duration),
    /// All connections to ZooKeeper ended.
    CutZookeeper,
    /// A link of one machine carries badly for a while, and other strikes go on meanwhile.
    Link {
        /// Whose.
        machine: usize,
        /// To what.
        end: End,
        /// How.
        flow: Flow,
        /// How long.
        time: Duration,
    },
}

/// A kind of strike, and how many of it are in a deck.
const KINDS: [(Kind, usize); 21] = [
    (Kind::Kill, 6),
    (Kind::Restart, 3),
    (Kind::Freeze, 4),
    (Kind::Sites, 2),
    (Kind::FreezeSites, 2),
    (Kind::Kafka, 2),
    (Kind::RestartKafka, 1),
    (Kind::FreezeKafka, 1),
    (Kind::Redis, 1),
    (Kind::FlushRedis, 1),
    (Kind::Zookeeper, 1),
    (Kind::RestartZookeeper, 1),
    (Kind::FreezeZookeeper, 2),
    (Kind::CutZookeeper, 1),
    (Kind::LinkCut, 4),
    (Kind::LinkSilent, 2),
    (Kind::LinkUnanswered, 3),
    (Kind::LinkLost, 3),
    (Kind::LinkSlow, 4),
    (Kind::TargetBusy, 2),
    (Kind::TargetBreaking, 3),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    Restart,
    Freeze,
    Sites,
    FreezeSites,
    Kafka,
    RestartKafka,
    FreezeKafka,
    Redis,
    FlushRedis,
    Zookeeper,
    RestartZookeeper,
    FreezeZookeeper,
    CutZookeeper,
    LinkCut,
    LinkSilent,
    LinkUnanswered,
    LinkLost,
    LinkSlow,
    TargetBusy,
    TargetBreaking,
}

impl Strike {
    /// What kind of strike it is, for counting.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "daemon killed",
            Self::Restart(_) => "daemon restarted",
            Self::Freeze(..) => "daemon frozen",
            Self::Sites => "sites killed",
            Self::FreezeSites(_) => "sites frozen",
            Self::Kafka(..) => "broker killed",
            Self::RestartKafka(_) => "broker restarted",
            Self::FreezeKafka(..) => "broker frozen",
            Self::Redis => "Redis killed",
            Self::FlushRedis => "Redis flushed",
            Self::Zookeeper => "ZooKeeper killed",
            Self::RestartZookeeper => "ZooKeeper restarted",
            Self::FreezeZookeeper(_) => "ZooKeeper frozen",
            Self::CutZookeeper => "ZooKeeper's connections cut",
            Self::Link { flow, .. } => match flow {
                Flow::Open => "link healed",
                Flow::Silent => "link silent",
                Flow::Unanswered => "link without answers",
                Flow::Lost => "link half-open",
                Flow::Cut => "link cut",
                Flow::Slow { .. } => "link slow",
                Flow::Busy => "target answers 503",
                Flow::Breaking { .. } => "target resets in the middle",
            },
        }
    }
}

/// The strikes of a seed: every kind comes as often as in the deck before it is shuffled again.
pub(crate) struct Plan {
    random: Random,
    deck: Vec<Kind>,
    daemons: u64,
    machines: u64,
    brokers: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, daemons: usize, machines: usize, brokers: usize) -> Self {
        Self {
            random: Random(seed),
            deck: Vec::new(),
            daemons: daemons as u64,
            machines: machines as u64,
            brokers: brokers as u64,
        }
    }

    /// How long nothing happens before the next strike.
    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.below(3_000))
    }

    /// The next strike.
    pub(crate) fn next(&mut self) -> Strike {
        if self.deck.is_empty() {
            self.deck = KINDS.iter().flat_map(|&(kind, count)| vec![kind; count]).collect();
            for last in (1..self.deck.len()).rev() {
                let chosen = self.index(last as u64 + 1);
                self.deck.swap(last, chosen);
            }
        }
        let kind = self.deck.pop().expect("a deck is not empty");
        let daemon = self.index(self.daemons);
        let broker = self.index(self.brokers);
        let time = Duration::from_millis(500 + self.random.below(8_000));
        let flow = match kind {
            Kind::Kill => return Strike::Kill(daemon),
            Kind::Restart => return Strike::Restart(daemon),
            Kind::Freeze => return Strike::Freeze(daemon, time),
            Kind::Sites => return Strike::Sites,
            Kind::FreezeSites => return Strike::FreezeSites(time),
            Kind::Kafka => return Strike::Kafka(broker, time),
            Kind::RestartKafka => return Strike::RestartKafka(broker),
            Kind::FreezeKafka => return Strike::FreezeKafka(broker, time),
            Kind::Redis => return Strike::Redis,
            Kind::FlushRedis => return Strike::FlushRedis,
            Kind::Zookeeper => return Strike::Zookeeper,
            Kind::RestartZookeeper => return Strike::RestartZookeeper,
            Kind::FreezeZookeeper => return Strike::FreezeZookeeper(time + Duration::from_secs(2)),
            Kind::CutZookeeper => return Strike::CutZookeeper,
            Kind::LinkCut => Flow::Cut,
            Kind::LinkSilent => Flow::Silent,
            Kind::LinkUnanswered => Flow::Unanswered,
            Kind::LinkLost => Flow::Lost,
            Kind::LinkSlow => Flow::Slow {
                delay: Duration::from_millis(self.random.below(300)),
                bytes_per_s: 4_096 << self.random.below(8),
            },
            Kind::TargetBusy => Flow::Busy,
            Kind::TargetBreaking => Flow::Breaking { after: 1 << self.random.below(18) },
        };
        let end = if matches!(kind, Kind::TargetBusy | Kind::TargetBreaking) {
            End::Target(self.index(SITES.len() as u64))
        } else {
            self.end()
        };
        let machine = self.index(self.machines);
        // Sessions last six seconds.
        Strike::Link { machine, end, flow, time: time + Duration::from_millis(self.random.below(6_000)) }
    }

    fn end(&mut self) -> End {
        match self.random.below(9) {
            0 => End::Source,
            1..=2 => End::Target(self.index(SITES.len() as u64)),
            3 => End::Journal,
            4..=5 => End::Kafka,
            6..=7 => End::Zookeeper,
            _ => End::Redis,
        }
    }

    fn index(&mut self, end: u64) -> usize {
        usize::try_from(self.random.below(end)).expect("small")
    }
}
