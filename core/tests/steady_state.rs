//! What is done for every message allocates nothing once as much has been under way as ever will be.

use std::collections::VecDeque;

use backbeat_core::id::{Offset, Seq};
use backbeat_core::parts::{Lanes, Ledger, Timers};
use backbeat_core::time::{Instant, Span};

/// Runs `turn` for a while, so that everything gets as large as it will, then counts the allocations of many more turns.
fn allocations(mut turn: impl FnMut(u64)) -> u64 {
    const WARM_UP: u64 = 20_000;
    const TURNS: u64 = 100_000;
    (0..WARM_UP).for_each(&mut turn);
    allocation_counter::measure(|| (WARM_UP..WARM_UP + TURNS).for_each(&mut turn)).count_total
}

/// A number below `bound` that looks like chance and is the same in every run. It comes again and again: all that ever happens has
/// happened while warming up.
fn scattered(number: u64, bound: u64) -> u64 {
    ((number % 2_000).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % bound
}

#[test]
fn the_counter_counts() {
    let count = allocations(|number| {
        std::hint::black_box(Box::new(number));
    });
    assert_eq!(count, 100_000);
}

#[test]
fn a_ledger_of_messages_that_end_in_any_order() {
    const OPEN: u64 = 500;
    let mut ledger = Ledger::new(Offset(0));
    let mut open: Vec<u64> = Vec::with_capacity(1_000);
    let count = allocations(|number| {
        ledger.consumed(Offset(number));
        open.push(number);
        if ledger.uncommitted() as u64 > OPEN {
            // The oldest one ends now and then, else any.
            let index = if number % 8 == 0 { 0 } else { scattered(number, open.len() as u64) };
            let ended = open.remove(usize::try_from(index).expect("an index"));
            assert!(ledger.settled(Offset(ended)));
        }
        while ledger.uncommitted() as u64 >= 2 * OPEN {
            assert!(ledger.settled(Offset(open.remove(0))));
        }
        assert!(ledger.commit_point().0 <= number + 1);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_ledger_of_records_with_gaps() {
    let mut ledger = Ledger::new(Seq(0));
    let count = allocations(|number| {
        ledger.consumed(Seq(3 * number));
        if let Some(late) = number.checked_sub(100) {
            ledger.settled(Seq(3 * late));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn lanes_that_come_and_go() {
    const RUNNING: usize = 64;
    let mut lanes: Lanes<u64, u64> = Lanes::new();
    let mut running = VecDeque::with_capacity(RUNNING + 1);
    let count = allocations(|number| {
        // Keys that return, some of them often, and keys that are never seen again.
        let key = match number % 4 {
            0 => scattered(number, 5),
            1 | 2 => scattered(number, 300),
            _ => 1_000 + number,
        };
        // A hot key has no more than a queue machine lets wait.
        if lanes.len(&key) < 10 {
            lanes.push(key, number);
        }
        running.extend(lanes.start_next_key());
        if running.len() > RUNNING {
            let key = running.pop_front().expect("it is not empty");
            lanes.finish(&key);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn lanes_whose_work_is_put_back_and_waits() {
    let mut lanes: Lanes<u64, u64> = Lanes::new();
    let count = allocations(|number| {
        let now = Instant::from_micros(number);
        let key = scattered(number, 200);
        // No more than a queue has room for from the start: which place gets a hot key is chance.
        if lanes.len(&key) < 3 {
            lanes.push(key, number);
        }
        lanes.wake(now);
        for again in 0..2 {
            let Some(key) = lanes.start_next_key() else { break };
            if scattered(2 * number + again, 3) == 0 {
                lanes.release_to_front(&key, now + Span::from_micros(scattered(number, 50)));
            } else {
                lanes.finish(&key);
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn timers_that_are_set_moved_and_cancelled() {
    let mut timers = Timers::new();
    let count = allocations(|number| {
        let now = Instant::from_micros(number);
        timers.set(scattered(number, 100), now + Span::from_micros(scattered(number, 60)));
        timers.cancel(&scattered(number + 7, 100));
        timers.pop_due(now);
    });
    assert_eq!(count, 0);
}
