//! How entries end: the order of durable steps, failures, holds, waits and bounds.

use super::bench::{Bench, MAIN, config, is_move, is_write, object, refused, source_md};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::consumer::QueueEvent;
use crate::exception::ExceptionState;
use crate::id::Offset;
use crate::model::{Message, ObjectEntry};
use crate::processor::{Control, Doing, Effect, Event};
use crate::request::{Side, SiteReply};
use crate::time::Span;

#[test]
fn a_failure_is_written_down_before_its_status_and_its_status_before_the_commit() {
    let mut bench = Bench::new(config());
    bench.bucket = refused(RefusalKind::BucketNotFound, "NoSuchBucket");
    bench.write("a", "v1", &[10], "x");
    bench.run();
    assert_eq!(
        bench.log,
        [
            "rules",
            "bucket",
            "read Source a",
            "exception a Failed DstBucketNotFound",
            "status a FAILED",
            "exception a Failed DstBucketNotFound",
            "commit 1"
        ]
    );
    let planned: Vec<bool> = bench.exceptions.iter().map(|record| record.next.is_some()).collect();
    assert_eq!(
        planned,
        [true, false],
        "until the status is out, the record says that the work is tried again"
    );
    assert_eq!(bench.statuses[0].replay_count, None);
}

#[test]
fn an_unversioned_target_bucket_is_a_reason_of_its_own() {
    let mut bench = Bench::new(config());
    bench.bucket = refused(RefusalKind::BucketUnversioned, "InvalidBucketState");
    bench.write("a", "v1", &[10], "x");
    bench.run();
    assert_eq!(bench.exceptions[0].reason, "DstBucketUnversioned");
}

#[test]
fn a_key_stays_closed_until_its_failure_is_durable() {
    let mut bench = Bench::new(config());
    bench.bucket = refused(RefusalKind::BucketNotFound, "NoSuchBucket");
    bench.write("a", "v1", &[10], "x");
    bench.write("a", "v2", &[10], "x");
    let exception = bench.run_until(|effect| matches!(effect, Effect::PutException { .. }));
    bench.run();
    assert!(bench.log.iter().filter(|line| line.starts_with("read Source")).count() == 1, "{:?}", bench.log);
    let answer = bench.perform(exception).expect("it is answered");
    bench.handle(answer);
    bench.run();
    assert_eq!(bench.log.iter().filter(|line| line.starts_with("status")).count(), 2);
    assert_eq!(bench.committed, Offset(2));
}

#[test]
fn a_status_that_cannot_be_published_keeps_its_offset_open() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    for _ in 0..3 {
        let status = bench.run_until(|effect| matches!(effect, Effect::PublishStatus { .. }));
        let Effect::PublishStatus { id, .. } = status else { panic!("a status") };
        bench.handle(Event::Published { id, ending: Ending::Unknown });
        assert_eq!(bench.committed, Offset(0));
    }
    bench.pass(Span::from_secs(10));
    assert_eq!((bench.statuses.len(), bench.committed), (1, Offset(1)));
}

#[test]
fn trouble_at_the_target_is_waited_out_then_reported() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    for _ in 0..4 {
        let (id, _) = bench.run_until_call(is_move);
        let ending = Ending::Refused(Refusal::new(RefusalKind::Unavailable, "ServiceUnavailable"));
        bench.reply(id, SiteReply::Moved { side: Side::Target, ending });
    }
    bench.run();
    assert_eq!(bench.exceptions[0].state, ExceptionState::Failed);
    assert_eq!(bench.exceptions[0].reason, "ServiceUnavailable");
    assert_eq!(bench.exceptions[0].attempts, 4);
    assert_eq!(bench.committed, Offset(1));
}

#[test]
fn changed_roles_are_held_and_released_when_they_are_mended() {
    let mut bench = Bench::new(config());
    let roles = std::mem::take(&mut bench.rules.roles);
    bench.write("a", "v1", &[10], "x");
    bench.run();
    assert_eq!(bench.log.last().map(String::as_str), Some("commit 1"));
    assert_eq!(bench.exceptions[0].state, ExceptionState::Held);
    assert!(bench.statuses.is_empty(), "nothing is wrong with the copy itself");
    let doing = &bench.machine.explain(&"photos".into(), &"a".into())[0].doing;
    assert!(matches!(doing, Doing::Parked { reason, .. } if reason == "BadRole"));
    bench.rules.roles = roles;
    bench.pass(Span::from_secs(120));
    assert_eq!(bench.statuses.len(), 1);
    assert_eq!(bench.exceptions.last().map(|record| record.state), Some(ExceptionState::Resolved));
    assert!(bench.machine.explain(&"photos".into(), &"a".into()).is_empty());
}

#[test]
fn a_full_park_makes_the_lane_wait_instead() {
    let mut config = config();
    config.parked_max = 1;
    let mut bench = Bench::new(config);
    let roles = std::mem::take(&mut bench.rules.roles);
    bench.write("a", "v1", &[10], "x");
    bench.write("b", "v1", &[10], "x");
    bench.run();
    assert_eq!(bench.exceptions.len(), 1);
    assert_eq!(bench.committed, Offset(1), "what is neither finished nor parked is not committed");
    bench.rules.roles = roles;
    bench.pass(Span::from_secs(200));
    assert_eq!((bench.statuses.len(), bench.committed), (2, Offset(2)));
}

#[test]
fn an_unreadable_message_is_parked_with_its_place_and_holds_nothing_up() {
    let mut bench = Bench::new(config());
    bench.send_message(Message::Invalid { reason: "not JSON".to_owned() });
    bench.write("a", "v1", &[10], "x");
    bench.run();
    assert_eq!(bench.exceptions[0].object.key.as_str(), "topic-0/partition-0/offset-0");
    assert_eq!(bench.committed, Offset(2));
}

#[test]
fn entries_for_other_sites_are_settled_at_once() {
    let mut bench = Bench::new(config());
    let md = source_md("a", "v1", &[10], "x");
    let elsewhere = md.with_replication(md.replication().with_storage_class("tokyo"));
    bench.send(ObjectEntry::of("photos", &"a".into(), elsewhere));
    bench.run();
    assert_eq!(bench.log, ["commit 1"]);
}

#[test]
fn waiting_entries_of_one_version_share_one_look() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "first");
    bench.write("a", "v2", &[10], "x");
    bench.write("a", "v2", &[10], "y");
    bench.write("a", "v2", &[10], "z");
    bench.run();
    assert_eq!(bench.statuses.len(), 2, "{:?}", bench.log);
    assert_eq!(bench.committed, Offset(4));
    assert_eq!(bench.tag_at_target("a", "v2").as_deref(), Some("z"));
}

#[test]
fn a_change_that_comes_while_its_version_is_copied_is_looked_at_again() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "old");
    let (id, request) = bench.run_until_call(is_write);
    bench.write("a", "v1", &[10], "new");
    let reply = bench.call(request);
    bench.reply(id, reply);
    bench.run();
    assert_eq!(bench.tag_at_target("a", "v1").as_deref(), Some("new"));
    assert_eq!(bench.statuses.len(), 2);
}

#[test]
fn versions_of_a_key_never_overlap_and_other_keys_pass() {
    let mut bench = Bench::new(config());
    bench.write("a", "v2", &[10], "x");
    let held = bench.run_until_call(is_move);
    bench.write("a", "v1", &[10], "x");
    bench.write("b", "v1", &[10], "x");
    bench.run();
    assert!(bench.target.contains_key(&super::bench::target_object("b", "v1")));
    assert!(!bench.target.contains_key(&super::bench::target_object("a", "v1")));
    let reply = bench.call(held.1);
    bench.reply(held.0, reply);
    bench.run();
    assert!(bench.target.contains_key(&super::bench::target_object("a", "v1")));
    assert_eq!(bench.committed, Offset(3));
}

#[test]
fn a_hot_key_closes_its_partition_and_loses_nothing() {
    let mut bench = Bench::new(config());
    bench.write("hot", "v0", &[10], "x");
    let held = bench.run_until_call(is_move);
    for version in ["v1", "v2", "v3", "v4", "v5", "v6"] {
        bench.write("hot", version, &[10], "x");
    }
    assert!(bench.log.contains(&"flow closed".to_owned()), "{:?}", bench.log);
    let reply = bench.call(held.1);
    bench.reply(held.0, reply);
    bench.run();
    assert_eq!((bench.statuses.len(), bench.committed), (7, Offset(7)));
    assert_eq!(bench.log.iter().filter(|line| *line == "flow open").count(), 1);
    let order: Vec<&str> = bench.log.iter().filter_map(|line| line.strip_prefix("status ")).collect();
    assert_eq!(order.len(), 7);
}

#[test]
fn reading_ahead_is_bounded() {
    let mut config = config();
    config.intake.read_ahead_max = 4;
    let mut bench = Bench::new(config);
    for key in ["a", "b", "c", "d"] {
        bench.write(key, "v1", &[10], "x");
    }
    assert_eq!(bench.log.last().map(String::as_str), Some("flow closed"));
    bench.run();
    assert!(bench.log.contains(&"flow open".to_owned()));
    assert_eq!(bench.committed, Offset(4));
}

#[test]
fn bytes_on_their_way_stay_within_the_budget() {
    let mut config = config();
    config.bytes_max = 2 << 20;
    config.copy.parts_max = 8;
    let mut bench = Bench::new(config);
    bench.write("a", "v1", &[1 << 30; 6], "x");
    let first = bench.run_until_call(is_move);
    assert_eq!(bench.held.len(), 1, "two windows of 1 MiB fit");
    assert_eq!(bench.machine.summary().bytes_held, 2 << 20);
    let reply = bench.call(first.1);
    bench.reply(first.0, reply);
    bench.run();
    assert_eq!((bench.machine.summary().bytes_held, bench.statuses.len()), (0, 1));
}

#[test]
fn a_paused_site_starts_nothing_and_goes_on_where_it_stopped() {
    let mut bench = Bench::new(config());
    bench.handle(Event::Control(Control::Pause));
    bench.handle(Event::Queue(QueueEvent::Message {
        epoch: bench.epoch,
        from: MAIN,
        offset: Offset(0),
        message: Message::Object(Box::new(ObjectEntry::of(
            "photos",
            &"a".into(),
            source_md("a", "v1", &[10], "x"),
        ))),
    }));
    bench.source.insert(object("a", "v1"), source_md("a", "v1", &[10], "x"));
    bench.run();
    assert_eq!(bench.log, ["flow closed"]);
    bench.handle(Event::Control(Control::Resume));
    bench.run();
    assert_eq!(bench.committed, Offset(1));
}

#[test]
fn a_dead_target_is_left_alone_and_burns_no_attempts() {
    let mut config = config();
    config.breaker.failures_to_open = 2;
    let mut bench = Bench::new(config);
    bench.bucket = refused(RefusalKind::Unavailable, "ServiceUnavailable");
    for key in ["a", "b", "c", "d", "e"] {
        bench.write(key, "v1", &[10], "x");
    }
    bench.pass(Span::from_secs(3_600));
    assert!(bench.exceptions.len() <= 1, "{:?}", bench.exceptions);
    assert!(!bench.machine.summary().target_reachable);
    bench.bucket = Ending::Applied(());
    bench.pass(Span::from_secs(300));
    assert_eq!(bench.committed, Offset(5));
    assert!(bench.statuses.iter().all(|entry| entry.replication().status().as_str() == "COMPLETED"));
}

#[test]
fn a_parked_entry_that_fails_keeps_its_record_until_its_status_is_out() {
    let mut bench = Bench::new(config());
    let roles = std::mem::take(&mut bench.rules.roles);
    bench.write("a", "v1", &[10], "x");
    bench.run();
    bench.rules.roles = roles;
    // The bucket vanished meanwhile; only the record asks for this version now.
    bench.pass(Span::from_secs(20));
    bench.bucket = refused(RefusalKind::BucketNotFound, "NoSuchBucket");
    bench.log.clear();
    bench.pass(Span::from_secs(100));
    let steps: Vec<&String> =
        bench.log.iter().filter(|line| line.starts_with("status") || line.starts_with("exception")).collect();
    let last: Vec<&String> = steps.into_iter().skip_while(|line| line.contains("Held")).collect();
    assert_eq!(last, ["status a FAILED", "exception a Failed DstBucketNotFound"]);
}
