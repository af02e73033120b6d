//! Plans out of a fuzzer's bytes.
//!
//! Every string of bytes is a plan. A head of 16 bytes says what world it is; after it every four bytes are one thing that happens:
//! a client operation or a strike of a fault, later than the one before. What is missing at the end is zero. The plans are
//! small, so that a run takes about a millisecond, and they keep the world's contract ([`Plan::normalise`]): a broken
//! invariant is a bug.

use backbeat_core::request::minting::TargetKind;

use super::{Act, Broken, Operation, Plan, Strike};
use super::{Change, Put};
use crate::faults::{Fault, Shape as How};
use crate::ids::{KeyId, ProcId, SiteId};
use crate::scenario::{SECOND, Shape, key_names, site_names};

/// Bytes of the head.
pub const HEAD: usize = 16;
/// Things that happen at most.
pub const EVENTS_MAX: usize = 120;

/// The plan that `bytes` stand for.
pub fn plan(bytes: &[u8]) -> Plan {
    let mut head = [0_u8; HEAD];
    let (first, rest) = bytes.split_at(bytes.len().min(HEAD));
    head[..first.len()].copy_from_slice(first);
    let [seed, more_seed, latencies, options, sites, kinds, world, latency, broken, fresh, ..] = head;
    let option = |bit: u8| options >> bit & 1 == 1;
    let site_count = 1 + usize::from(sites % 2);
    let kind = |site: usize| match kinds >> (2 * site) & 3 {
        0 | 1 => TargetKind::KeepsVersions,
        2 => TargetKind::MintsVersions { conditional: true },
        _ => TargetKind::MintsVersions { conditional: false },
    };
    let shape = Shape {
        sites: site_names(site_count),
        kinds: (0..site_count).map(kind).collect(),
        partitions: 1 + u32::from(world & 3),
        processors: 1 + u32::from(world >> 2 & 1),
        keys: key_names(1 + u64::from(world >> 3 & 7)),
        latency_max: 1_000 + u64::from(latency) * 150,
        replays: option(0),
        repeats: option(1),
        nulls: option(2),
        source_compares: !option(3),
        marks_changes: option(4),
        wire: option(5) && option(6),
        ..Shape::smallest()
    };
    let number = broken >> 2;
    let mut plan = Plan {
        seed: u64::from(seed) << 8 | u64::from(more_seed),
        latencies: u64::from(latencies),
        broken: match broken & 3 {
            1 => Broken::Site(SiteId(number % 2)),
            2 => Broken::Process(ProcId(number)),
            _ => Broken::Nothing,
        },
        shape,
        heal_at: 0,
        measures: Vec::new(),
        operations: Vec::new(),
        fresh: Vec::new(),
        strikes: Vec::new(),
    };
    let mut now = 0;
    for event in rest.chunks(4).take(EVENTS_MAX) {
        let mut four = [0; 4];
        four[..event.len()].copy_from_slice(event);
        happen(&mut plan, &mut now, four);
    }
    plan.heal_at = now + SECOND;
    let put = |at| Operation { at, key: KeyId(0), act: Act::Put(Put::Whole) };
    plan.fresh = (0..u64::from(fresh & 3)).map(|index| put(index * SECOND / 4)).collect();
    plan.normalise();
    plan
}

/// One thing that happens: what, how much later, and two bytes of details.
fn happen(plan: &mut Plan, now: &mut u64, [what, later, one, two]: [u8; 4]) {
    // Mostly close together, sometimes seconds apart.
    *now += match later {
        0..192 => u64::from(later) * 500,
        _ => u64::from(later - 191) * SECOND / 16,
    };
    let index = usize::from(what & 0x7f);
    if what & 0x80 == 0 {
        let key = KeyId(u16::from(one));
        plan.operations.push(Operation { at: *now, key, act: act(what, two) });
        if what & 0x7f >= DELETIONS && plan.measures.iter().all(|(fault, _)| *fault != Fault::JournalAhead) {
            plan.measures.push((Fault::JournalAhead, 1));
        }
        return;
    }
    let Some(&fault) = Fault::ALL.get(index % Fault::ALL.len()) else { return };
    if fault.shape() == How::Run {
        let listed = plan.measures.iter().any(|(known, _)| *known == fault);
        if fault != Fault::JournalAhead && !listed {
            plan.measures.push((fault, 1 + u32::from(one) % fault.strength_max()));
        }
        return;
    }
    plan.strikes.push(Strike { at: *now, skip: u32::from(two & 3), fault, roll: u32::from(one) });
}

/// From here on an operation is a deletion.
const DELETIONS: u8 = 0x78;

fn act(what: u8, detail: u8) -> Act {
    let back = u32::from(detail >> 5);
    let value = u32::from(detail & 3);
    match what & 0x7f {
        DELETIONS.. => Act::Delete(back),
        0x70.. => Act::Change(back, Change::Replica),
        0x60.. => Act::Change(back, Change::NoTags),
        0x50.. => Act::Change(back, Change::Acl(value)),
        0x38.. => Act::Change(back, Change::Tags(value)),
        0x34.. => Act::Put(Put::Replica),
        0x2c.. => Act::Put(Put::Marker),
        0x28.. => Act::Put(Put::Empty),
        0x20.. => Act::Put(Put::Multipart(2 + value)),
        _ => Act::Put(Put::Whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::runner;

    #[test]
    fn no_bytes_are_the_smallest_world() {
        let plan = plan(&[]);
        assert_eq!(plan.size(), 0);
        assert_eq!(plan.shape, Shape::smallest());
        assert!(runner::run_plan(&plan, false).violation.is_none());
    }

    #[test]
    fn any_bytes_are_a_plan_that_holds() {
        let mut rng = Rng::new(7);
        let (mut steps, mut strikes) = (0, 0);
        for _ in 0..if cfg!(debug_assertions) { 20 } else { 300 } {
            let len = rng.index(HEAD + 4 * EVENTS_MAX);
            let bytes: Vec<u8> = (0..len).map(|_| u8::try_from(rng.below(256)).expect("a byte")).collect();
            let report = runner::run_plan(&plan(&bytes), false);
            assert_eq!(report.violation.as_ref(), None, "{bytes:?}");
            (steps, strikes) = (steps + report.steps, strikes + report.faults.total());
        }
        assert!(steps > 1_000 && strikes > 100, "{steps} steps, {strikes} strikes");
    }
}
