//! Event scripts for the status processor.

use std::collections::VecDeque;

use super::{Config, Effect, Event, Outgoing, StatusProcessor};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::consumer::{QueueEffect, QueueEvent};
use crate::exception::ExceptionState;
use crate::id::{EffectId, Epoch, Offset, Partition, TopicPartition};
use crate::intake::IntakeLimits;
use crate::model::{Message, ObjectEntry, ObjectMd, SiteStatus, StatusConfig};
use crate::parts::RetryPolicy;
use crate::request::{Condition, SiteReply, SiteRequest};
use crate::rules::Production;
use crate::time::{Instant, Now, Span, WallTime};

const FROM: TopicPartition = TopicPartition { topic: 0, partition: Partition(0) };

fn md(tag: &str) -> ObjectMd {
    let text = format!(
        r#"{{"content-length":3,"content-md5":"m","key":"k","versionId":"v1","tags":{{"t":"{tag}"}},"replicationInfo":{{"status":"PENDING","backends":[{{"site":"paris","status":"PENDING","dataStoreVersionId":""}},{{"site":"tokyo","status":"PENDING","dataStoreVersionId":""}}],"content":["DATA","METADATA"],"destination":"arn:aws:s3:::copies","storageClass":"paris,tokyo","role":"arn:aws:iam::1:role/a,arn:aws:iam::2:role/b","storageType":"","dataStoreVersionId":"","isNFS":null}}}}"#
    );
    ObjectMd::parse(&text).expect("the bench writes valid metadata")
}

struct Bench {
    machine: StatusProcessor<Production>,
    now: Now,
    stored: Option<ObjectMd>,
    held: VecDeque<Effect>,
    published: Vec<Outgoing>,
    exceptions: Vec<ExceptionState>,
    writes: u32,
    counts: u32,
    committed: Offset,
    next: u64,
}

impl Bench {
    fn new(decision: StatusConfig) -> Self {
        let config = Config {
            decision,
            concurrency: 4,
            intake: IntakeLimits { read_ahead_max: 100, lane_max: 32 },
            retry: RetryPolicy::CLASS_DEFAULT,
            requeues_max: 3,
            hold_delay: Span::from_secs(60),
        };
        let mut bench = Self {
            machine: StatusProcessor::new(config, Production),
            now: Now { mono: Instant::START, wall: WallTime::from_millis(1_700_000_000_000) },
            stored: Some(md("x")),
            held: VecDeque::new(),
            published: Vec::new(),
            exceptions: Vec::new(),
            writes: 0,
            counts: 0,
            committed: Offset(0),
            next: 0,
        };
        bench.handle(Event::Queue(QueueEvent::Assigned {
            epoch: Epoch(1),
            partitions: vec![(Partition(0), vec![Offset(0)])],
        }));
        bench
    }

    fn handle(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        while let Some(effect) = self.machine.poll_effect() {
            self.held.push_back(effect);
        }
    }

    fn report(&mut self, site: &str, status: &SiteStatus, tag: &str) {
        let entry = ObjectEntry::of("photos", &"k".into(), md(tag));
        let mut entry = match status {
            SiteStatus::Completed => entry.to_completed(&site.into()),
            SiteStatus::Failed => entry.to_failed(&site.into()),
            SiteStatus::Pending | SiteStatus::Replica | SiteStatus::Other(_) => {
                entry.to_pending(&site.into())
            }
        };
        entry.site = Some(site.into());
        self.send(Message::Object(Box::new(entry)));
    }

    fn send(&mut self, message: Message) {
        let offset = Offset(self.next);
        self.next += 1;
        self.handle(Event::Queue(QueueEvent::Message { epoch: Epoch(1), from: FROM, offset, message }));
    }

    fn run(&mut self) {
        while let Some(effect) = self.held.pop_front() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Call { id, request } => {
                let reply = self.call(*request);
                self.handle(Event::Replied { id, reply });
            }
            Effect::Publish { id, outgoing } => {
                self.published.push(outgoing);
                self.handle(Event::Published { id, ending: Ending::Applied(()) });
            }
            Effect::PutException { id, record } => {
                self.exceptions.push(record.state);
                self.handle(Event::Published { id, ending: Ending::Applied(()) });
            }
            Effect::Queue(QueueEffect::Commit { id, upto, .. }) => {
                self.committed = upto;
                self.handle(Event::Queue(QueueEvent::Committed { id, ending: Ending::Applied(()) }));
            }
            Effect::Count(_) => self.counts += 1,
            Effect::Queue(QueueEffect::Flow { .. } | QueueEffect::Release { .. }) => {}
        }
    }

    fn call(&mut self, request: SiteRequest) -> SiteReply {
        match request {
            SiteRequest::ReadMetadata { .. } => SiteReply::Metadata(self.stored.clone().map_or_else(
                || Ending::Refused(Refusal::new(RefusalKind::NotFound, "ObjNotFound")),
                Ending::Applied,
            )),
            SiteRequest::WriteMetadata { md, condition, .. } => {
                let expected = self.stored.as_ref().map(ObjectMd::state_tag);
                if condition != expected.map(Condition::tag) {
                    let conflict = Refusal::new(RefusalKind::Conflict, "PreconditionFailed");
                    return SiteReply::Written(Ending::Refused(conflict));
                }
                self.writes += 1;
                self.stored = Some(md);
                SiteReply::Written(Ending::Applied(()))
            }
            SiteRequest::MovePart(_)
            | SiteRequest::DeleteData { .. }
            | SiteRequest::ReadRules { .. }
            | SiteRequest::CheckBucket { .. }
            | SiteRequest::Minting(_) => panic!("the status processor does not ask for {request:?}"),
        }
    }

    fn take_call(&mut self) -> (EffectId, SiteRequest) {
        match self.held.pop_front() {
            Some(Effect::Call { id, request }) => (id, *request),
            other => panic!("a call was expected: {other:?}"),
        }
    }

    fn pass(&mut self, span: Span) {
        let end = self.now.mono + span;
        self.run();
        while let Some(due) = self.machine.poll_timeout().filter(|&due| due <= end) {
            self.now.mono = due.max(self.now.mono);
            self.handle(Event::Timer);
            self.run();
        }
        self.now.mono = end;
    }

    fn status(&self, site: &str) -> String {
        let stored = self.stored.as_ref().expect("it is stored");
        stored.replication().site_status(&site.into()).expect("the site is a destination").to_string()
    }

    fn overall(&self) -> String {
        self.stored.as_ref().expect("it is stored").replication().status().to_string()
    }
}

#[test]
fn outcomes_of_both_sites_are_recorded() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    bench.run();
    assert_eq!((bench.status("paris"), bench.overall()), ("COMPLETED".into(), "PROCESSING".into()));
    bench.report("tokyo", &SiteStatus::Completed, "x");
    bench.run();
    assert_eq!(bench.overall(), "COMPLETED");
    assert_eq!((bench.committed, bench.counts), (Offset(2), 2));
}

#[test]
fn an_outcome_for_another_revision_is_never_recorded_and_queues_the_stored_one_again() {
    let mut bench = Bench::new(StatusConfig::default());
    for round in 1..=4 {
        bench.report("paris", &SiteStatus::Completed, "old");
        bench.run();
        assert_eq!((bench.writes, bench.committed), (0, Offset(round)));
    }
    assert_eq!(bench.published.len(), 3, "three times at most");
    assert_eq!(bench.exceptions, [ExceptionState::Held]);
    let Outgoing::Requeue { entry } = &bench.published[0] else { panic!("{:?}", bench.published[0]) };
    assert_eq!(entry.md().tags()["t"], "x");
    assert_eq!(entry.site, Some("paris".into()));
    bench.report("paris", &SiteStatus::Completed, "x");
    bench.run();
    assert_eq!(bench.status("paris"), "COMPLETED");
}

#[test]
fn a_change_between_read_and_write_is_not_overwritten() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    let (id, request) = bench.take_call();
    let reply = bench.call(request);
    bench.stored = Some(md("new"));
    bench.handle(Event::Replied { id, reply });
    bench.run();
    assert_eq!(bench.writes, 0);
    assert_eq!(bench.machine.summary().conflicts, 1);
    assert!(matches!(bench.published[..], [Outgoing::Requeue { .. }]));
}

#[test]
fn the_other_site_s_outcome_written_in_between_survives() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    let (id, request) = bench.take_call();
    let reply = bench.call(request);
    let stored = bench.stored.clone().expect("it is stored");
    let info = stored.replication().with_site_status(&"tokyo".into(), SiteStatus::Completed);
    bench.stored = Some(stored.with_replication(info));
    bench.handle(Event::Replied { id, reply });
    bench.run();
    assert_eq!((bench.status("paris"), bench.status("tokyo")), ("COMPLETED".into(), "COMPLETED".into()));
}

#[test]
fn a_write_of_unknown_ending_is_looked_at_again() {
    for applied in [false, true] {
        let mut bench = Bench::new(StatusConfig::default());
        bench.report("paris", &SiteStatus::Completed, "x");
        let (id, request) = bench.take_call();
        let reply = bench.call(request);
        bench.handle(Event::Replied { id, reply });
        let (id, request) = bench.take_call();
        if applied {
            bench.call(request);
        }
        bench.handle(Event::Replied { id, reply: SiteReply::Written(Ending::Unknown) });
        assert_eq!(bench.committed, Offset(0));
        bench.pass(Span::from_secs(10));
        assert_eq!(
            (bench.status("paris"), bench.committed, bench.writes),
            ("COMPLETED".into(), Offset(1), 1)
        );
    }
}

#[test]
fn a_source_that_is_down_loses_nothing_however_long_it_takes() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    for _ in 0..40 {
        let (id, _) = bench.take_call();
        let down = Refusal::new(RefusalKind::Unavailable, "ServiceUnavailable");
        bench.handle(Event::Replied { id, reply: SiteReply::Metadata(Ending::Refused(down)) });
        bench.now.mono = bench.machine.poll_timeout().expect("it tries again");
        bench.handle(Event::Timer);
    }
    bench.run();
    assert_eq!((bench.status("paris"), bench.committed), ("COMPLETED".into(), Offset(1)));
}

#[test]
fn a_version_that_is_gone_is_settled() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.stored = None;
    bench.report("paris", &SiteStatus::Completed, "x");
    bench.run();
    assert_eq!((bench.writes, bench.committed), (0, Offset(1)));
}

#[test]
fn a_failure_is_replayed_first_and_recorded_when_no_replay_is_left() {
    let config = StatusConfig {
        replay_topics: vec!["replay-0".into()],
        monitor_failures: true,
        ..StatusConfig::default()
    };
    let mut bench = Bench::new(config);
    bench.report("paris", &SiteStatus::Failed, "x");
    bench.run();
    assert_eq!(bench.writes, 0);
    let Some(Outgoing::Replay { entry, .. }) = bench.published.pop() else { panic!("a replay") };
    assert_eq!(entry.replay_count, Some(0));
    let mut report = entry.to_failed(&"paris".into());
    report.site = Some("paris".into());
    bench.send(Message::Object(Box::new(report)));
    bench.run();
    assert_eq!((bench.status("paris"), bench.overall()), ("FAILED".into(), "FAILED".into()));
    assert!(matches!(bench.published[..], [Outgoing::Failed { .. }]));
}

#[test]
fn a_failure_record_that_cannot_be_published_keeps_the_offset_open() {
    let mut bench = Bench::new(StatusConfig { monitor_failures: true, ..StatusConfig::default() });
    bench.report("paris", &SiteStatus::Failed, "x");
    while !matches!(bench.held.front(), Some(Effect::Publish { .. })) {
        let effect = bench.held.pop_front().expect("the record comes up");
        bench.perform(effect);
    }
    let Some(Effect::Publish { id, .. }) = bench.held.pop_front() else { panic!("just seen") };
    bench.handle(Event::Published { id, ending: Ending::Unknown });
    bench.run();
    assert_eq!(bench.committed, Offset(0));
    bench.pass(Span::from_secs(10));
    assert_eq!((bench.published.len(), bench.committed), (1, Offset(1)));
}

#[test]
fn outcomes_of_one_object_are_recorded_one_after_the_other() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    bench.report("tokyo", &SiteStatus::Completed, "x");
    assert_eq!(bench.held.len(), 1);
    bench.run();
    assert_eq!((bench.overall().as_str(), bench.committed), ("COMPLETED", Offset(2)));
}

#[test]
fn what_reports_nothing_is_settled_and_counted() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.send(Message::Canary);
    bench.send(Message::Object(Box::new(ObjectEntry::of("photos", &"k".into(), md("x")))));
    bench.run();
    assert_eq!((bench.committed, bench.machine.summary().unusable), (Offset(2), 1));
}

#[test]
fn a_write_that_outlives_its_owner_keeps_the_key_closed() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    let (id, request) = bench.take_call();
    let reply = bench.call(request);
    bench.handle(Event::Replied { id, reply });
    let (ghost, request) = bench.take_call();
    bench.handle(Event::Queue(QueueEvent::Lost { epoch: Epoch(1), partitions: vec![Partition(0)] }));
    bench.handle(Event::Queue(QueueEvent::Assigned {
        epoch: Epoch(1),
        partitions: vec![(Partition(0), vec![Offset(0)])],
    }));
    bench.next = 0;
    bench.report("paris", &SiteStatus::Completed, "x");
    assert!(bench.held.is_empty(), "{:?}", bench.held);
    let reply = bench.call(request);
    bench.handle(Event::Replied { id: ghost, reply });
    bench.run();
    assert_eq!((bench.writes, bench.committed), (1, Offset(1)));
}

#[test]
fn a_revoked_partition_is_drained_before_it_is_released() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Completed, "x");
    let deadline = bench.now.mono + Span::from_secs(10);
    bench.handle(Event::Queue(QueueEvent::Revoked {
        epoch: Epoch(1),
        partitions: vec![Partition(0)],
        deadline,
    }));
    let released = |bench: &Bench| {
        bench.held.iter().any(|effect| matches!(effect, Effect::Queue(QueueEffect::Release { .. })))
    };
    assert!(!released(&bench));
    while !released(&bench) {
        let effect = bench.held.pop_front().expect("the release comes up");
        bench.perform(effect);
    }
    assert_eq!(bench.committed, Offset(1));
}

#[test]
fn nothing_is_recorded_on_a_version_that_became_a_replica() {
    let mut bench = Bench::new(StatusConfig::default());
    let stored = md("x");
    let info = stored.replication().with_status(crate::model::OverallStatus::Replica);
    bench.stored = Some(stored.with_replication(info));
    bench.report("paris", &SiteStatus::Completed, "x");
    bench.run();
    assert_eq!((bench.writes, bench.committed, bench.overall().as_str()), (0, Offset(1), "REPLICA"));
}

#[test]
fn whoever_sets_a_site_back_also_queues_its_work() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Failed, "x");
    bench.run();
    bench.published.clear();
    bench.report("paris", &SiteStatus::Pending, "x");
    bench.run();
    assert_eq!(bench.status("paris"), "PENDING");
    assert!(
        matches!(&bench.published[..], [Outgoing::Requeue { entry }] if entry.site == Some("paris".into()))
    );
}

#[test]
fn a_write_that_sets_a_site_back_and_outlives_its_owner_still_queues_the_work() {
    let mut bench = Bench::new(StatusConfig::default());
    bench.report("paris", &SiteStatus::Failed, "x");
    bench.run();
    bench.published.clear();
    bench.report("paris", &SiteStatus::Pending, "x");
    let is_write = |effect: &Effect| matches!(effect, Effect::Call { request, .. } if matches!(**request, SiteRequest::WriteMetadata { .. }));
    while !bench.held.front().is_some_and(is_write) {
        let effect = bench.held.pop_front().expect("a write comes up");
        bench.perform(effect);
    }
    let Some(Effect::Call { id: write, .. }) = bench.held.pop_front() else { panic!("just seen") };
    bench.handle(Event::Queue(QueueEvent::Lost { epoch: Epoch(1), partitions: vec![Partition(0)] }));
    bench.handle(Event::Replied { id: write, reply: SiteReply::Written(Ending::Applied(())) });
    bench.run();
    assert!(matches!(&bench.published[..], [Outgoing::Requeue { .. }]));
}
