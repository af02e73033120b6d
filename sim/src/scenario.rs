//! What a run looks like: size of the world, length of its phases, what is drawn.

use backbeat_core::id::{ObjectKey, Site};
use backbeat_core::request::minting::TargetKind;

use crate::rng::Rng;

/// Seconds of virtual time in microseconds.
pub const SECOND: u64 = 1_000_000;

/// A named kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// 2 sites, 4 partitions, 2 instances of each daemon, 200 client operations, crashes and rebalances, swarm faults.
    Standard,
    /// The standard world without any fault.
    Calm,
    /// 1 site, 2 partitions, 40 operations on 2 keys: short and dense, swarm faults.
    Small,
    /// 3 sites, 8 partitions, 3 processors per site, 600 operations, swarm faults.
    Wide,
    /// The standard world whose targets all mint version ids.
    Minting,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: &'static [Self] = &[Self::Standard, Self::Calm, Self::Small, Self::Wide, Self::Minting];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Calm => "calm",
            Self::Small => "small",
            Self::Wide => "wide",
            Self::Minting => "minting",
        }
    }

    /// What it is.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Standard => {
                "2 sites, 4 partitions, 2 instances of each daemon, 200 client operations, crashes and rebalances"
            }
            Self::Calm => "the standard world without faults",
            Self::Small => "1 site, 2 partitions, 40 operations on 2 keys",
            Self::Minting => "the standard world whose targets all mint version ids",
            Self::Wide => "3 sites, 8 partitions, 3 processors a site, 600 operations",
        }
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name() == name)
    }

    /// What kind of target a site is: half of them mint version ids, half of those honour conditions.
    fn kind(self, rng: &mut Rng) -> TargetKind {
        let (keeps, conditional) = (rng.coin(), rng.coin());
        if keeps && self != Self::Minting {
            TargetKind::KeepsVersions
        } else {
            TargetKind::MintsVersions { conditional }
        }
    }

    /// The shape of the world for one seed.
    pub fn shape(self, rng: &mut Rng) -> Shape {
        let (sites, partitions, processors, operations, keys_max) = match self {
            Self::Standard | Self::Calm | Self::Minting => (2, 4, 2, 200, 24),
            Self::Small => (1, 2, 2, 40, 2),
            Self::Wide => (3, 8, 3, 600, 60),
        };
        let keys = rng.between(2, keys_max);
        let keys = key_names(keys);
        let nulls = rng.below(4) == 0 && self != Self::Minting;
        let source_compares = rng.below(4) != 0 || self == Self::Minting;
        // What has no id of its own has no place among versions that are told by their markers, and what was overwritten goes back
        // there only with its key's next copy: one or the other.
        let keeping = nulls || !source_compares;
        let kind = |_| if keeping { TargetKind::KeepsVersions } else { self.kind(rng) };
        let kinds: Vec<TargetKind> = (0..sites).map(kind).collect();
        let minting = kinds.iter().any(|kind| *kind != TargetKind::KeepsVersions);
        Shape {
            sites: site_names(sites),
            partitions,
            processors,
            operations,
            keys,
            // A hot key takes up to two thirds of the operations.
            hot_ppm: if rng.coin() { u32::try_from(rng.below(666_000)).expect("small") } else { 0 },
            // How long clients write: the denser, the more of everything meets.
            writing: rng.between(5, 60) * SECOND,
            latency_max: rng.between(1_000, 40_000),
            calm: self == Self::Calm || rng.below(16) == 0,
            wire: rng.below(64) == 0,
            replays: rng.coin(),
            repeats: rng.coin(),
            nulls,
            source_compares,
            marks_changes: !minting && rng.coin(),
            kinds,
        }
    }
}

/// The names of so many keys.
pub(crate) fn key_names(count: u64) -> Vec<ObjectKey> {
    (0..count).map(|key| ObjectKey::from(format!("dir/k{key} \u{e9}").as_str())).collect()
}

/// The names of so many sites.
pub(crate) fn site_names(count: usize) -> Vec<Site> {
    (0..count).map(|site| Site::from(format!("site-{site}").as_str())).collect()
}

/// The shape of one world. What a plan lists instead ([`crate::plan::Plan`]) is marked as drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Target sites.
    pub sites: Vec<Site>,
    /// Partitions of every topic.
    pub partitions: u32,
    /// Instances of each site processor.
    pub processors: u32,
    /// Drawn: client operations in the safety phase.
    pub operations: u32,
    /// Keys of the source bucket.
    pub keys: Vec<ObjectKey>,
    /// Drawn: share of the operations that the first key takes beyond its own.
    pub hot_ppm: u32,
    /// Drawn: how long clients write.
    pub writing: u64,
    /// The longest ordinary latency in microseconds.
    pub latency_max: u64,
    /// Drawn: whether no fault exists.
    pub calm: bool,
    /// Whether every message makes the round trip through its wire form.
    pub wire: bool,
    /// Whether clients may write the same content again.
    pub repeats: bool,
    /// Whether every key holds an object that is older than the replication of its bucket.
    pub nulls: bool,
    /// What kind of target each site is.
    pub kinds: Vec<TargetKind>,
    /// Whether the source marks every change of a version (`microVersionId`), as the embedded site does.
    pub marks_changes: bool,
    /// Whether metadata writes at the source compare before they write.
    pub source_compares: bool,
    /// Whether replay topics are configured.
    pub replays: bool,
}

/// Processes of which there are always two: populators and status processors.
pub(crate) const FIXED: usize = 4;

impl Shape {
    /// The smallest world there is: one site that keeps version ids, one partition, one processor, one key.
    pub fn smallest() -> Self {
        Self {
            sites: site_names(1),
            partitions: 1,
            processors: 1,
            operations: 0,
            keys: key_names(1),
            hot_ppm: 0,
            writing: 0,
            latency_max: 1_000,
            calm: false,
            wire: false,
            repeats: false,
            nulls: false,
            kinds: vec![TargetKind::KeepsVersions],
            marks_changes: false,
            source_compares: true,
            replays: false,
        }
    }

    /// The same without what is drawn: a plan lists it.
    pub(crate) fn listed(&self, repeats: bool) -> Self {
        Self { operations: 0, hot_ppm: 0, writing: 0, calm: false, repeats, ..self.clone() }
    }

    /// Number of processes.
    pub(crate) fn processes(&self) -> usize {
        FIXED + self.kinds.len() * self.processors as usize
    }
}

/// The longest time after the faults within which everything must have its ending, in virtual time.
pub const LIVENESS_BOUND: u64 = 1_800 * SECOND;
