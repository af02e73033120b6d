//! How a world begins: its size, the configurations of the machines, who runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use backbeat_core::id::{Site, Topic as TopicName};
use backbeat_core::model::{FilterConfig, Owner, StatusConfig, expand_replay_topics, queue_key};
use backbeat_core::parts::{BreakerPolicy, RetryPolicy};
use backbeat_core::processor::copy::CopyConfig;
use backbeat_core::request::BucketRules;
use backbeat_core::request::minting::TargetKind;
use backbeat_core::rules::Rules;
use backbeat_core::time::Span;
use backbeat_core::{IntakeLimits, populator, processor, status};

use super::coordination::Coordination;
use super::group::Groups;
use super::process::{Process, Role};
use super::queue::Queue;
use super::site::TargetSite;
use super::source::{ROLE, SOURCE_BUCKET, SourceSite};
use super::{Configs, Course, Item, Phase, World};
use crate::checkers::Checkers;
use crate::faults::{self, Fault};
use crate::ids::{ProcId, SiteId};
use crate::marks::Marks;
use crate::plan::{Broken, FaultCounters, FaultPlan, LATE, Operation, Plan, Workload};
use crate::rng::Rng;
use crate::scenario::{SECOND, Scenario, Shape};
use crate::schedule::Schedule;
use crate::trace::Trace;

fn replication_configuration(enabled: bool) -> Arc<BucketRules> {
    Arc::new(BucketRules {
        roles: ROLE.split(',').map(str::to_owned).collect(),
        prefixes: if enabled { vec![String::new()] } else { Vec::new() },
    })
}

/// The partition of a key: any stable hash does here, the real one is the queue client's.
fn partition_of(key: &str, partitions: u32) -> usize {
    usize::try_from(xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % u64::from(partitions)).expect("small")
}

/// Whether clients write the same content again in this run.
fn repeats(shape: &Shape, plan: &FaultPlan) -> bool {
    shape.repeats && (shape.marks_changes || !LATE.into_iter().any(|fault| plan.has(fault)))
}

fn after_loss(rng: &mut Rng) -> populator::AfterLoss {
    if rng.coin() { populator::AfterLoss::GoOn } else { populator::AfterLoss::Stop }
}

fn configs(shape: &Shape, rng: &mut Rng) -> Configs {
    let configured: Vec<(TopicName, u32)> = if shape.replays {
        vec![(TopicName::from("replay-0"), 2), (TopicName::from("replay-1"), 1)]
    } else {
        Vec::new()
    };
    let expanded = expand_replay_topics(&configured);
    let replays_max = u32::try_from(expanded.len()).expect("few replays");
    let limits = IntakeLimits {
        read_ahead_max: usize::try_from(rng.between(4, 64)).expect("small"),
        lane_max: usize::try_from(rng.between(1, 16)).expect("small"),
    };
    let retry = RetryPolicy {
        retries_max: if rng.coin() { Some(u32::try_from(rng.between(1, 5)).expect("small")) } else { None },
        timeout: Span::from_secs(rng.between(5, 30)),
        delay_min: Span::from_millis(rng.between(20, 500)),
        delay_max: Span::from_secs(4),
        factor_permille: 1_500,
        jitter_permille: 100,
    };
    let concurrency = usize::try_from(rng.between(2, 12)).expect("small");
    // From every object to none; the parts of the larger ones have 5 MiB.
    let noted_size_min = [1, 11 << 20, u64::MAX][rng.index(3)];
    let note_interval = if rng.coin() { 1 } else { 6 << 20 };
    let processor = |(site, kind): (&Site, &TargetKind)| processor::Config {
        copy: CopyConfig {
            site: site.clone(),
            target: *kind,
            look_depth: 1_000,
            owner: Owner::new(&format!("owner-of-{site}"), "Lisa"),
            retry,
            parts_max: 2,
            part_deadline: Span::from_secs(6),
            noted_size_min,
            note_interval,
        },
        concurrency,
        intake: limits,
        parked_max: 64,
        bytes_max: 48 << 20,
        hold_delay: Span::from_secs(10),
        facts_ttl: Span::from_secs(2),
        exceptions_refresh: Span::from_secs(60),
        replays_max,
        breaker: BreakerPolicy {
            failures_to_open: 5,
            successes_to_close: 2,
            reopen_delay_min: Span::from_millis(500),
            reopen_delay_max: Span::from_secs(8),
            probe_timeout: Span::from_secs(10),
        },
        publish_delay: Span::from_millis(100),
    };
    Configs {
        populator: populator::Config {
            filter: FilterConfig::default(),
            batch_max: usize::try_from(rng.between(1, 50)).expect("small"),
            in_flight_max: usize::try_from(rng.between(1, 40)).expect("small"),
            wait: Span::from_secs(2),
            save_interval: Span::from_millis(rng.between(20, 1_000)),
            save_records: rng.between(1, 50),
            retry_delay: Span::from_millis(300),
            bootstrap: populator::Bootstrap::Oldest,
            after_cut: after_loss(rng),
            after_replaced: after_loss(rng),
            watch: (!shape.source_compares).then_some(populator::WatchLimits {
                versions_max: 500,
                lookback: rng.between(300, 500),
                restorations_max: usize::try_from(rng.between(1, 5)).expect("small"),
            }),
        },
        processors: shape.sites.iter().zip(&shape.kinds).map(processor).collect(),
        status: status::Config {
            decision: StatusConfig {
                replay_topics: expanded,
                monitor_failures: true,
                ..StatusConfig::default()
            },
            concurrency,
            intake: limits,
            retry: RetryPolicy { retries_max: None, timeout: RetryPolicy::NO_TIMEOUT, ..retry },
            requeues_max: 3,
            hold_delay: Span::from_secs(10),
        },
        replay_topics: configured.into_iter().map(|(topic, _)| topic).collect(),
        rules: replication_configuration(true),
        rules_disabled: replication_configuration(false),
    }
}

/// How a run begins, drawn or listed.
struct Beginning {
    /// What is not listed is drawn from its children.
    root: Rng,
    latencies: Rng,
    shape: Shape,
    repeats: bool,
    faults: FaultPlan,
    broken: Broken,
    heal_at: u64,
    workload: Workload,
    fresh: Option<Vec<Operation>>,
    /// When the first client operation is due, and how many there are.
    first: u64,
    operations: u32,
}

impl Beginning {
    fn drawn(scenario: Scenario, seed: u64) -> Self {
        let root = Rng::new(seed);
        let shape = scenario.shape(&mut root.child("shape"));
        let mut faults =
            if shape.calm { FaultPlan::calm() } else { FaultPlan::swarm(&mut root.child("faults")) };
        let mints = shape.kinds.iter().any(|kind| *kind != TargetKind::KeepsVersions);
        if !shape.source_compares || mints {
            // The journal is the only witness of what was overwritten; and what a listing queues behind newer versions cannot find its
            // place at a target that mints version ids.
            faults.set(Fault::JournalCut, 0);
            faults.set(Fault::JournalReplaced, 0);
        }
        let broken = if faults.is_calm() {
            Broken::Nothing
        } else {
            Broken::draw(&mut root.child("broken"), shape.kinds.len(), shape.processes())
        };
        let quiet = if shape.calm { SECOND } else { 10 * SECOND };
        Self {
            latencies: root.child("dice"),
            repeats: repeats(&shape, &faults),
            broken,
            heal_at: shape.writing + quiet,
            workload: Workload::Drawn(root.child("clients")),
            fresh: None,
            first: 0,
            operations: shape.operations,
            root,
            shape,
            faults,
        }
    }

    fn listed(plan: &Plan) -> Self {
        Self {
            root: Rng::new(plan.seed),
            latencies: Rng::new(plan.latencies).child("dice"),
            shape: plan.shape.clone(),
            repeats: plan.shape.repeats,
            faults: FaultPlan::listed(plan),
            broken: plan.broken,
            heal_at: plan.heal_at,
            workload: Workload::listed(&plan.operations),
            fresh: Some(plan.fresh.iter().rev().copied().collect()),
            first: plan.operations.first().map_or(0, |operation| operation.at),
            operations: u32::try_from(plan.operations.len()).expect("few operations"),
        }
    }
}

impl<R: Rules> World<R> {
    /// The world before its first event.
    pub(super) fn new(course: &Course<'_>, rules: R, text: bool) -> Self {
        let (beginning, seed, latencies) = match course {
            Course::Drawn(scenario, seed) => (Beginning::drawn(*scenario, *seed), *seed, *seed),
            Course::Listed(plan) => (Beginning::listed(plan), plan.seed, plan.latencies),
        };
        let Beginning { root, shape, faults: plan, broken, .. } = beginning;
        let recorded = Plan {
            seed,
            latencies,
            shape: shape.listed(beginning.repeats),
            heal_at: beginning.heal_at,
            broken,
            measures: plan.measures(),
            operations: Vec::new(),
            fresh: Vec::new(),
            strikes: Vec::new(),
        };
        let configs = configs(&shape, &mut root.child("configurations"));
        let replays = configs.replay_topics.len();
        let partitions = usize::try_from(shape.partitions).expect("small");
        let bucket = SOURCE_BUCKET.into();
        let keys_encoded: Vec<String> = shape.keys.iter().map(|key| queue_key(&bucket, key)).collect();
        let mut roles = vec![Role::Populator; 2];
        for site in 0..shape.sites.len() {
            let site = SiteId(u8::try_from(site).expect("few sites"));
            roles.extend(std::iter::repeat_n(Role::Processor(site), shape.processors as usize));
        }
        roles.extend([Role::Status; 2]);
        let ticks = |fault: &Fault| fault.shape() == faults::Shape::Tick && plan.has(*fault);
        let ticking = Fault::ALL.iter().copied().filter(ticks).collect();
        let mut world = Self {
            rules,
            seed,
            schedule: Schedule::default(),
            dice: beginning.latencies,
            struck: Rng::new(0),
            workload: beginning.workload,
            fresh: beginning.fresh,
            broken,
            recorded,
            counters: FaultCounters::default(),
            marks: Marks::default(),
            trace: Trace::new(text),
            checkers: Checkers::new(
                shape.keys.len(),
                shape.sites.clone(),
                &shape.kinds,
                replays,
                partitions,
                plan.is_calm() && broken == Broken::Nothing,
                shape.source_compares,
            ),
            configs,
            processes: Vec::new(),
            groups: Groups::new(shape.sites.len(), replays, shape.partitions),
            queue: Queue::new(partitions, replays),
            coordination: Coordination::default(),
            source: SourceSite::new(shape.keys.clone(), &shape.sites, shape.wire, shape.marks_changes),
            targets: shape.kinds.iter().map(|kind| TargetSite::new(*kind, shape.keys.len())).collect(),
            partition_of: keys_encoded.iter().map(|key| partition_of(key, shape.partitions)).collect(),
            keys_encoded,
            broken_pipes: BTreeSet::new(),
            refused_calls: BTreeSet::new(),
            waiters: Vec::new(),
            last_owner: None,
            journal_shown: 0,
            operations_left: beginning.operations,
            repeats: beginning.repeats,
            values: 0,
            fresh_from: u32::MAX,
            dead_sites: Vec::new(),
            phase: Phase::Safety,
            steps: 0,
            over: false,
            ticking,
            effects: super::step::Effects::default(),
            plan,
            shape,
        };
        world.place_nulls(&mut root.child("nulls"));
        world.start(&roles, &mut root.child("clocks"));
        world.schedule.push(beginning.first, Item::Client);
        world.schedule.push(SECOND, Item::Chaos);
        world.schedule.push(beginning.heal_at, Item::Heal);
        world
    }

    /// Whether nothing is wrong with the world at any time.
    pub(super) fn is_calm(&self) -> bool {
        self.plan.is_calm() && self.broken == Broken::Nothing
    }

    fn start(&mut self, roles: &[Role], clocks: &mut Rng) {
        let drift = u64::from(self.plan.strength(Fault::Drift));
        for (index, role) in (0_u8..).zip(roles) {
            let name = match role {
                Role::Populator => format!("populator-{index}"),
                Role::Processor(site) => format!("processor-{index}@{}", self.shape.sites[site.index()]),
                Role::Status => format!("status-{index}"),
            };
            let mut process = Process::new(ProcId(index), *role, name);
            process.clock.offset = clocks.below(1_000 * SECOND);
            if drift > 0 {
                process.clock.drift = clocks.below(drift);
                self.counters.count(Fault::Drift);
            }
            self.processes.push(process);
            let delay = clocks.below(SECOND);
            self.schedule.push(delay, Item::Restart { to: ProcId(index) });
        }
    }
}
