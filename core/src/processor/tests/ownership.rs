//! Rebalances: epochs, draining, and requests that outlive their owner.

use super::bench::{Bench, MAIN, PARTITION, config, is_move, object, source_md};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::consumer::QueueEvent;
use crate::exception::{ExceptionRecord, ExceptionState};
use crate::id::{Epoch, Offset};
use crate::model::{Message, ObjectEntry};
use crate::processor::{Effect, Event};
use crate::time::Span;

fn revoke(bench: &mut Bench, within: Span) {
    let deadline = bench.now.mono + within;
    let partitions = vec![PARTITION];
    bench.handle(Event::Queue(QueueEvent::Revoked { epoch: bench.epoch, partitions, deadline }));
}

#[test]
fn an_idle_partition_is_released_at_once() {
    let mut bench = Bench::new(config());
    revoke(&mut bench, Span::from_secs(10));
    assert_eq!(bench.log, ["release 1"]);
}

#[test]
fn what_runs_is_drained_and_committed_before_the_release() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    bench.write("a", "v2", &[10], "x");
    let held = bench.run_until_call(is_move);
    revoke(&mut bench, Span::from_secs(10));
    assert!(!bench.log.contains(&"release 1".to_owned()));
    let reply = bench.call(held.1);
    bench.reply(held.0, reply);
    bench.run();
    assert_eq!(bench.committed, Offset(1), "what waited was not started");
    assert_eq!(bench.log[bench.log.len() - 2..], ["commit 1", "release 1"]);
}

#[test]
fn past_the_deadline_the_partition_is_released_whatever_runs() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let _held = bench.run_until_call(is_move);
    revoke(&mut bench, Span::from_secs(10));
    bench.pass(Span::from_secs(11));
    assert_eq!(bench.log.last().map(String::as_str), Some("release 1"));
}

#[test]
fn a_request_that_outlives_its_owner_keeps_its_key_closed() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let ghost = bench.run_until_call(is_move);
    bench.handle(Event::Queue(QueueEvent::Lost { epoch: bench.epoch, partitions: vec![PARTITION] }));
    bench.assign(2, 0);
    bench.write("a", "v1", &[10], "x");
    bench.write("b", "v1", &[10], "x");
    bench.run();
    assert!(!bench.log.iter().any(|line| line == "read Target a"), "{:?}", bench.log);
    assert_eq!(bench.statuses.len(), 1, "other keys pass");
    let reply = bench.call(ghost.1);
    bench.reply(ghost.0, reply);
    bench.run();
    assert_eq!((bench.statuses.len(), bench.committed), (2, Offset(2)));
}

#[test]
fn messages_and_answers_of_an_old_assignment_are_ignored() {
    let mut bench = Bench::new(config());
    bench.handle(Event::Queue(QueueEvent::Lost { epoch: bench.epoch, partitions: vec![PARTITION] }));
    bench.assign(2, 5);
    let entry = ObjectEntry::of("photos", &"a".into(), source_md("a", "v1", &[10], "x"));
    let message = Message::Object(Box::new(entry));
    bench.handle(Event::Queue(QueueEvent::Message {
        epoch: Epoch(1),
        from: MAIN,
        offset: Offset(9),
        message,
    }));
    bench.run();
    assert!(bench.log.is_empty(), "{:?}", bench.log);
}

#[test]
fn a_new_owner_takes_parked_entries_over() {
    let mut bench = Bench::new(config());
    bench.source.insert(object("a", "v1"), source_md("a", "v1", &[10], "x"));
    let record = ExceptionRecord {
        site: "paris".into(),
        object: object("a", "v1"),
        state: ExceptionState::Held,
        reason: "BadRole".to_owned(),
        attempts: 3,
        first: bench.now.wall,
        last: bench.now.wall,
        next: Some(bench.now.wall),
        deposit: None,
    };
    let partitions = vec![(PARTITION, vec![Offset(0)])];
    bench.handle(Event::Queue(QueueEvent::Assigned { epoch: Epoch(2), partitions }));
    let load = bench.take(|effect| matches!(effect, Effect::LoadExceptions { .. }));
    let Effect::LoadExceptions { id, .. } = load else { panic!("a load") };
    bench.handle(Event::ExceptionsLoaded { id, ending: Ending::Applied(vec![record]) });
    bench.pass(Span::from_secs(60));
    assert_eq!(bench.statuses.len(), 1);
    assert_eq!(bench.exceptions.last().map(|record| record.state), Some(ExceptionState::Resolved));
}

/// An owner that stood still past its lease lists a failure where its successor, which settled the message, holds the entry. It
/// hears of its loss before it has published the status: the record is all that is left.
#[test]
fn a_failure_that_was_listed_by_an_owner_that_lost_its_partition_is_tried_again() {
    let mut bench = Bench::new(config());
    bench.bucket = Ending::Refused(Refusal::new(RefusalKind::BucketNotFound, "NoSuchBucket"));
    bench.write("a", "v1", &[10], "x");
    let put = bench.run_until(|effect| matches!(effect, Effect::PutException { .. }));
    let Effect::PutException { id, record } = put else { panic!("a record") };
    assert_eq!(record.state, ExceptionState::Failed);
    bench.handle(Event::Queue(QueueEvent::Lost { epoch: bench.epoch, partitions: vec![PARTITION] }));
    bench.handle(Event::Published { id, ending: Ending::Applied(()) });
    bench.run();
    assert!(bench.statuses.is_empty(), "the partition is another's");

    bench.bucket = Ending::Applied(());
    bench.epoch = Epoch(2);
    let partitions = vec![(PARTITION, vec![Offset(1)])];
    bench.handle(Event::Queue(QueueEvent::Assigned { epoch: Epoch(2), partitions }));
    let load = bench.take(|effect| matches!(effect, Effect::LoadExceptions { .. }));
    let Effect::LoadExceptions { id, .. } = load else { panic!("a load") };
    bench.handle(Event::ExceptionsLoaded { id, ending: Ending::Applied(vec![*record]) });
    bench.pass(Span::from_secs(300));
    assert_eq!(bench.statuses.len(), 1);
    assert_eq!(bench.exceptions.last().map(|record| record.state), Some(ExceptionState::Resolved));
}

#[test]
fn messages_wait_until_the_parked_entries_are_known() {
    let mut bench = Bench::new(config());
    let partitions = vec![(PARTITION, vec![Offset(0)])];
    bench.handle(Event::Queue(QueueEvent::Assigned { epoch: Epoch(2), partitions }));
    bench.epoch = Epoch(2);
    bench.write("a", "v1", &[10], "x");
    let load = bench.take(|effect| matches!(effect, Effect::LoadExceptions { .. }));
    bench.run();
    assert!(!bench.log.iter().any(|line| line.starts_with("read")), "{:?}", bench.log);
    let Effect::LoadExceptions { id, .. } = load else { panic!("a load") };
    bench.handle(Event::ExceptionsLoaded { id, ending: Ending::Unknown });
    bench.pass(Span::from_secs(10));
    assert_eq!(bench.committed, Offset(1));
}
