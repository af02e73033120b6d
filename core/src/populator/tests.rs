//! Event scripts for the populator.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    AfterLoss, Batch, Bootstrap, Config, Effect, Event, Loss, LossKind, Populator, StopReason,
    StoredPosition, WatchLimits,
};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::id::{EffectId, JournalEpoch, Seq};
use crate::model::{FilterConfig, LogEntry, LogRecord, ObjectMd, OverallStatus, SiteStatus, origin_op};
use crate::request::{Condition, Side, SiteReply, SiteRequest};
use crate::rules::Production;
use crate::time::{Instant, Now, Span, WallTime};

const EPOCH: JournalEpoch = JournalEpoch(7);

struct Bench {
    machine: Populator<Production>,
    now: Now,
    journal: Vec<LogRecord>,
    oldest: Seq,
    epoch: JournalEpoch,
    stored: StoredPosition,
    /// Publishes that were not answered yet.
    publishes: Vec<(EffectId, u64, Seq, String)>,
    /// Messages acknowledged, in order.
    queued: Vec<(u64, Seq)>,
    saves: Vec<Seq>,
    stopped: Option<StopReason>,
    save_ending: Option<Ending<u64>>,
    /// Saves stay under way while this is set.
    hold_saves: bool,
    saving: Option<(EffectId, StoredPosition)>,
    /// Losses written down; held back while the flag is set.
    losses: Vec<Loss>,
    /// Records that showed a loss at the source, and requests to it that were not answered yet.
    overwritten: Vec<Seq>,
    calls: Vec<(EffectId, SiteRequest)>,
    hold_losses: bool,
    losing: Option<(EffectId, Loss)>,
    /// The read that waits for something new.
    reading: Option<EffectId>,
}

fn config() -> Config {
    Config {
        filter: FilterConfig::default(),
        batch_max: 10,
        in_flight_max: 20,
        wait: Span::from_secs(1),
        save_interval: Span::from_secs(1),
        save_records: 1_000,
        retry_delay: Span::from_millis(500),
        bootstrap: Bootstrap::Oldest,
        after_cut: AfterLoss::GoOn,
        after_replaced: AfterLoss::GoOn,
        watch: None,
    }
}

fn record(status: &str) -> LogRecord {
    let value = format!(
        r#"{{"versionId":"v1","replicationInfo":{{"status":"{status}","backends":[{{"site":"paris","status":"{status}","dataStoreVersionId":""}}],"content":["METADATA"],"storageClass":"paris"}}}}"#
    );
    LogRecord { timestamp: None, db: "photos".into(), entries: vec![LogEntry::put("key\0v1", value)] }
}

impl Bench {
    fn new(config: Config, records: &[&str]) -> Self {
        Self {
            machine: Populator::new(config, Production),
            now: Now { mono: Instant::START, wall: WallTime::from_millis(0) },
            journal: records.iter().map(|status| record(status)).collect(),
            oldest: Seq(1),
            epoch: EPOCH,
            stored: StoredPosition::default(),
            publishes: Vec::new(),
            queued: Vec::new(),
            saves: Vec::new(),
            stopped: None,
            save_ending: None,
            hold_saves: false,
            saving: None,
            losses: Vec::new(),
            overwritten: Vec::new(),
            calls: Vec::new(),
            hold_losses: false,
            losing: None,
            reading: None,
        }
    }

    fn stored_at(mut self, position: u64) -> Self {
        self.stored = StoredPosition { position: Some((Seq(position), EPOCH)), version: 3 };
        self
    }

    fn start(mut self) -> Self {
        self.handle(Event::Started);
        self
    }

    /// Applies an event and carries out everything but publishes, which the test answers.
    fn handle(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::LoadPosition { id } => {
                    let ending = Ending::Applied(self.stored);
                    self.machine.handle(self.now, Event::PositionLoaded { id, ending });
                }
                Effect::ReadJournal { id, from, limit, .. } => self.read(id, from, limit),
                Effect::Publish { id, producer, seq, publish, .. } => {
                    self.publishes.push((id, producer, seq, publish.key));
                }
                Effect::SavePosition { id, position, epoch, version } if self.hold_saves => {
                    let position = Some((position, epoch));
                    self.saving = Some((id, StoredPosition { position, version: version + 1 }));
                }
                Effect::SavePosition { id, position, epoch, version } => {
                    let ending = self.save_ending.take().unwrap_or_else(|| {
                        assert_eq!(version, self.stored.version);
                        self.stored =
                            StoredPosition { position: Some((position, epoch)), version: version + 1 };
                        self.saves.push(position);
                        Ending::Applied(version + 1)
                    });
                    self.machine.handle(self.now, Event::PositionSaved { id, ending });
                }
                Effect::RecordLoss { id, loss } if self.hold_losses => self.losing = Some((id, loss)),
                Effect::RecordLoss { id, loss } => {
                    self.losses.push(loss);
                    let recorded = Event::LossRecorded { id, ending: Ending::Applied(()) };
                    self.machine.handle(self.now, recorded);
                }
                Effect::Overwritten { seq, .. } => self.overwritten.push(seq),
                Effect::Call { id, request } => self.calls.push((id, *request)),
                Effect::Stopped { reason } => self.stopped = Some(reason),
                Effect::Unreadable { .. } => {}
            }
        }
    }

    /// Answers a read, unless it would have to wait for something new.
    fn read(&mut self, id: EffectId, from: Option<Seq>, limit: usize) {
        let end = Seq(self.journal.len() as u64 + 1);
        let start = from.unwrap_or(end);
        if from.is_some() && start == end {
            self.reading = Some(id);
            return;
        }
        let all = self
            .journal
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, record)| (Seq(index as u64 + 1), Arc::new(record)));
        let limit = if self.oldest > start { 0 } else { limit };
        let records: Vec<_> = all.filter(|(seq, _)| *seq >= start).take(limit).collect();
        let next = records.last().map_or(start, |(seq, _)| seq.next());
        let batch = Batch { records, next, end, epoch: self.epoch, oldest: self.oldest };
        self.machine.handle(self.now, Event::JournalRead { id, ending: Ending::Applied(batch) });
    }

    fn acknowledge(&mut self, index: usize) {
        let (id, producer, seq, _) = self.publishes.remove(index);
        self.queued.push((producer, seq));
        self.handle(Event::Published { id, ending: Ending::Applied(()) });
    }

    fn pass(&mut self, span: Span) {
        let end = self.now.mono + span;
        while let Some(due) = self.machine.poll_timeout().filter(|&due| due <= end) {
            self.now.mono = due.max(self.now.mono);
            self.handle(Event::Timer);
        }
        self.now.mono = end;
    }
}

#[test]
fn the_first_start_saves_where_it_begins_before_it_reads() {
    let bench = Bench::new(config(), &["PENDING"]).start();
    assert_eq!(bench.saves, [Seq(1)]);
    assert_eq!(bench.publishes.len(), 1);
}

#[test]
fn history_is_left_out_where_the_source_says_so() {
    let bench = Bench::new(Config { bootstrap: Bootstrap::End, ..config() }, &["PENDING"; 3]).start();
    assert_eq!(bench.saves, [Seq(4)]);
    assert!(bench.publishes.is_empty());
}

#[test]
fn the_place_of_another_reader_is_taken_a_little_before_where_it_got_to() {
    for (reader, again, oldest, start) in [
        (5, 2, 1, 3),
        (5, 2, 4, 4),
        (5, 9, 1, 1),
        (6, 0, 1, 6),
        // It was further than this journal reaches.
        (9, 2, 1, 1),
    ] {
        let bootstrap = Bootstrap::Behind { reader: Seq(reader), again };
        let mut bench = Bench::new(Config { bootstrap, ..config() }, &["PENDING"; 5]);
        bench.oldest = Seq(oldest);
        let bench = bench.start();
        assert_eq!(bench.saves, [Seq(start)], "{bootstrap:?}, oldest {oldest}");
        assert!(bench.losses.is_empty());
        assert_eq!(bench.publishes.len() as u64, 6 - start);
    }
}

#[test]
fn what_is_gone_before_another_reader_got_to_it_is_a_loss() {
    let bootstrap = Bootstrap::Behind { reader: Seq(2), again: 1 };
    let mut bench = Bench::new(Config { bootstrap, ..config() }, &["PENDING"; 5]);
    bench.oldest = Seq(4);
    let bench = bench.start();
    assert_eq!(bench.losses, [Loss { wanted: (Seq(2), EPOCH), resumes: (Seq(4), EPOCH) }]);
    assert_eq!(bench.saves, [Seq(2), Seq(4)]);
    assert_eq!(bench.publishes.len(), 2);
}

#[test]
fn a_stored_position_counts_and_not_where_another_reader_got_to() {
    let bootstrap = Bootstrap::Behind { reader: Seq(2), again: 0 };
    let bench = Bench::new(Config { bootstrap, ..config() }, &["PENDING"; 5]).stored_at(4).start();
    assert_eq!((bench.saves.len(), bench.publishes.len()), (0, 2));
}

#[test]
fn only_pending_entries_are_queued() {
    let bench = Bench::new(config(), &["PENDING", "COMPLETED", "REPLICA", "PENDING"]).stored_at(1).start();
    let seqs: Vec<Seq> = bench.publishes.iter().map(|publish| publish.2).collect();
    assert_eq!(seqs, [Seq(1), Seq(4)]);
    assert_eq!(bench.publishes[0].3, "photos%2Fkey");
}

#[test]
fn the_saved_position_never_passes_what_is_not_acknowledged() {
    let mut bench = Bench::new(config(), &["PENDING"; 4]).stored_at(1).start();
    bench.acknowledge(3);
    bench.acknowledge(1);
    bench.pass(Span::from_secs(5));
    assert!(bench.saves.is_empty());
    bench.acknowledge(0);
    bench.pass(Span::from_secs(2));
    assert_eq!(bench.saves, [Seq(3)]);
    bench.acknowledge(0);
    bench.pass(Span::from_secs(2));
    assert_eq!(bench.saves, [Seq(3), Seq(5)]);
}

#[test]
fn records_without_messages_move_the_position_too() {
    let mut bench = Bench::new(config(), &["COMPLETED"; 4]).stored_at(1).start();
    bench.pass(Span::from_secs(2));
    assert_eq!(bench.saves, [Seq(5)]);
}

#[test]
fn a_lost_acknowledgement_rewinds_to_the_saved_position_with_a_new_producer() {
    for ending in [Ending::Unknown, Ending::Refused(Refusal::new(RefusalKind::TooLarge, "MSG_SIZE"))] {
        let mut bench = Bench::new(config(), &["PENDING"; 3]).stored_at(1).start();
        bench.acknowledge(0);
        let (id, ..) = bench.publishes.remove(0);
        let late = bench.publishes.remove(0);
        bench.handle(Event::Published { id, ending });
        // What the old producer still says does not count.
        bench.handle(Event::Published { id: late.0, ending: Ending::Applied(()) });
        bench.pass(Span::from_secs(5));
        assert!(bench.saves.is_empty());
        let again: Vec<(u64, Seq)> = bench.publishes.iter().map(|publish| (publish.1, publish.2)).collect();
        assert_eq!(again, [(2, Seq(1)), (2, Seq(2)), (2, Seq(3))]);
    }
}

#[test]
fn reading_stops_while_too_much_is_under_way() {
    let mut bench = Bench::new(config(), &["PENDING"; 60]).stored_at(1).start();
    assert_eq!(bench.publishes.len(), 20);
    bench.acknowledge(0);
    assert_eq!(bench.publishes.len(), 29);
}

#[test]
fn another_owner_s_save_fences_this_one() {
    let mut bench = Bench::new(config(), &["COMPLETED"]).stored_at(1).start();
    bench.save_ending = Some(Ending::Refused(Refusal::new(RefusalKind::Conflict, "BadVersion")));
    bench.pass(Span::from_secs(2));
    assert_eq!(bench.stopped, Some(StopReason::Fenced));
    assert!(bench.machine.is_stopped());
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_save_of_unknown_ending_is_looked_up() {
    for applied in [false, true] {
        let mut bench = Bench::new(config(), &["COMPLETED"; 2]).stored_at(1).start();
        bench.save_ending = Some(Ending::Unknown);
        if applied {
            bench.stored = StoredPosition { position: Some((Seq(3), EPOCH)), version: 4 };
        }
        bench.pass(Span::from_secs(5));
        assert_eq!(bench.stopped, None);
        assert_eq!(bench.stored.position, Some((Seq(3), EPOCH)));
    }
}

#[test]
fn a_save_of_unknown_ending_that_somebody_else_overtook_stops_the_machine() {
    let mut bench = Bench::new(config(), &["COMPLETED"; 2]).stored_at(1).start();
    bench.save_ending = Some(Ending::Unknown);
    bench.stored = StoredPosition { position: Some((Seq(2), EPOCH)), version: 9 };
    bench.pass(Span::from_secs(5));
    assert_eq!(bench.stopped, Some(StopReason::Fenced));
}

#[test]
fn a_journal_that_lost_records_or_changed_is_not_read_on_if_told_to_stop() {
    let config = || Config { after_cut: AfterLoss::Stop, after_replaced: AfterLoss::Stop, ..config() };
    let mut bench = Bench::new(config(), &["PENDING"; 5]).stored_at(2);
    bench.oldest = Seq(4);
    let bench = bench.start();
    let cut = Loss { wanted: (Seq(2), EPOCH), resumes: (Seq(4), EPOCH) };
    assert_eq!(bench.stopped, Some(StopReason::HistoryLost(cut)));
    assert_eq!(cut.kind(), LossKind::CutOff);

    let mut bench = Bench::new(config(), &["PENDING"; 5]).stored_at(2);
    bench.epoch = JournalEpoch(8);
    let bench = bench.start();
    let replaced = Loss { wanted: (Seq(2), EPOCH), resumes: (Seq(1), JournalEpoch(8)) };
    assert_eq!(bench.stopped, Some(StopReason::HistoryLost(replaced)));
    assert_eq!(replaced.kind(), LossKind::Replaced);
}

#[test]
fn a_loss_is_written_down_before_the_position_passes_it() {
    let mut bench = Bench::new(config(), &["PENDING"; 5]).stored_at(2);
    bench.oldest = Seq(4);
    bench.hold_losses = true;
    let mut bench = bench.start();
    bench.pass(Span::from_secs(5));
    assert!(bench.saves.is_empty() && bench.publishes.is_empty());
    let (id, loss) = bench.losing.take().expect("the loss is being written down");
    assert_eq!(loss, Loss { wanted: (Seq(2), EPOCH), resumes: (Seq(4), EPOCH) });
    bench.handle(Event::LossRecorded { id, ending: Ending::Unknown });
    bench.pass(Span::from_secs(1));
    assert!(bench.saves.is_empty());
    let (id, again) = bench.losing.take().expect("it is written down again");
    assert_eq!(again, loss);
    bench.handle(Event::LossRecorded { id, ending: Ending::Applied(()) });
    assert_eq!(bench.saves, [Seq(4)]);
    let seqs: Vec<Seq> = bench.publishes.iter().map(|publish| publish.2).collect();
    assert_eq!(seqs, [Seq(4), Seq(5)]);
    assert_eq!(bench.machine.summary().losses, 1);
}

#[test]
fn another_journal_is_read_from_its_start_though_its_numbers_are_smaller() {
    let mut bench = Bench::new(config(), &["PENDING"; 2]).stored_at(70);
    bench.epoch = JournalEpoch(8);
    let bench = bench.start();
    let loss = Loss { wanted: (Seq(70), EPOCH), resumes: (Seq(1), JournalEpoch(8)) };
    assert_eq!(bench.losses, [loss]);
    assert_eq!(bench.stored.position, Some((Seq(1), JournalEpoch(8))));
    assert_eq!(bench.publishes.len(), 2);
}

#[test]
fn what_was_under_way_when_the_journal_was_cut_off_is_part_of_the_loss() {
    let mut bench = Bench::new(Config { in_flight_max: 2, batch_max: 2, ..config() }, &["PENDING"; 6]);
    bench = bench.stored_at(1).start();
    assert_eq!(bench.publishes.len(), 2);
    bench.oldest = Seq(5);
    bench.acknowledge(0);
    // The second record was published but is not known to be queued.
    assert_eq!(bench.losses, [Loss { wanted: (Seq(2), EPOCH), resumes: (Seq(5), EPOCH) }]);
    assert_eq!(bench.stored.position, Some((Seq(5), EPOCH)));
    let late = bench.publishes.remove(0);
    bench.handle(Event::Published { id: late.0, ending: Ending::Unknown });
    assert_eq!(bench.stored.position, Some((Seq(5), EPOCH)));
}

/// A timer that stays due while something else is waited for would fire without end.
#[test]
fn nothing_becomes_due_by_a_save_that_ends_while_a_loss_is_written_down() {
    let mut bench = Bench::new(config(), &["COMPLETED"; 2]).stored_at(1).start();
    bench.hold_saves = true;
    bench.hold_losses = true;
    bench.pass(Span::from_secs(1));
    let (id, saved) = bench.saving.take().expect("a save is under way");
    // Another record, which that save does not cover, and then another journal.
    let batch =
        |records, next: u64, epoch| Batch { records, next: Seq(next), end: Seq(next), epoch, oldest: Seq(1) };
    let reading = bench.reading.take().expect("a read waits");
    bench.journal.push(record("COMPLETED"));
    let records = vec![(Seq(3), Arc::new(record("COMPLETED")))];
    bench.handle(Event::JournalRead { id: reading, ending: Ending::Applied(batch(records, 4, EPOCH)) });
    let reading = bench.reading.take().expect("a read waits");
    let another = batch(Vec::new(), 1, JournalEpoch(8));
    bench.handle(Event::JournalRead { id: reading, ending: Ending::Applied(another) });
    bench.stored = saved;
    bench.handle(Event::PositionSaved { id, ending: Ending::Applied(saved.version) });
    assert!(bench.losing.is_some(), "the loss is being written down");
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_save_behind_a_loss_whose_ending_is_unknown_is_looked_up() {
    for applied in [false, true] {
        let mut bench = Bench::new(config(), &["PENDING"; 5]).stored_at(2);
        bench.oldest = Seq(4);
        bench.save_ending = Some(Ending::Unknown);
        bench.hold_losses = true;
        let mut bench = bench.start();
        let (id, _) = bench.losing.take().expect("the loss is being written down");
        if applied {
            bench.stored = StoredPosition { position: Some((Seq(4), EPOCH)), version: 4 };
        }
        bench.handle(Event::LossRecorded { id, ending: Ending::Applied(()) });
        bench.pass(Span::from_secs(3));
        assert_eq!(bench.stopped, None);
        assert_eq!(bench.stored.position, Some((Seq(4), EPOCH)));
        assert_eq!(bench.publishes.len(), 2);
    }
}

#[test]
fn a_journal_that_lags_is_waited_for_and_one_that_went_back_is_a_loss() {
    let mut bench = Bench::new(config(), &["COMPLETED"; 3]).stored_at(9).start();
    bench.pass(Span::from_secs(3));
    assert!(bench.losses.is_empty());
    bench.pass(Span::from_secs(3));
    let loss = Loss { wanted: (Seq(9), EPOCH), resumes: (Seq(4), EPOCH) };
    assert_eq!((bench.losses.as_slice(), loss.kind()), (&[loss][..], LossKind::WentBack));
    assert_eq!(bench.stored.position, Some((Seq(4), EPOCH)));
}

#[test]
fn entries_that_cannot_be_read_are_counted_and_passed_over() {
    let mut bench = Bench::new(config(), &["PENDING"]).stored_at(1);
    bench.journal[0].entries[0].value = Some("not JSON".into());
    let mut bench = bench.start();
    bench.pass(Span::from_secs(2));
    assert_eq!(bench.machine.summary().unreadable, 1);
    assert_eq!(bench.saves, [Seq(2)]);
}

#[test]
fn a_machine_that_lost_its_ownership_does_nothing_more() {
    let mut bench = Bench::new(config(), &["PENDING"; 2]).stored_at(1).start();
    bench.handle(Event::OwnershipLost);
    let before = bench.publishes.len();
    bench.acknowledge(0);
    bench.pass(Span::from_secs(5));
    assert!(bench.saves.is_empty());
    assert_eq!(bench.publishes.len(), before - 1);
    assert_eq!(bench.stopped, Some(StopReason::OwnershipLost));
}

#[test]
fn a_save_that_became_due_while_another_covered_it_does_not_stay_due() {
    let mut bench = Bench::new(config(), &["COMPLETED"; 2]).stored_at(1).start();
    bench.hold_saves = true;
    bench.pass(Span::from_secs(1));
    let (id, saved) = bench.saving.take().expect("a save is under way");
    // A read that brings nothing new notes progress that the save under way covers.
    let reading = bench.reading.take().expect("a read waits");
    let batch = Batch { records: Vec::new(), next: Seq(3), end: Seq(3), epoch: EPOCH, oldest: Seq(1) };
    bench.handle(Event::JournalRead { id: reading, ending: Ending::Applied(batch) });
    bench.stored = saved;
    bench.handle(Event::PositionSaved { id, ending: Ending::Applied(saved.version) });
    bench.now.mono += Span::from_secs(5);
    bench.handle(Event::Timer);
    assert_eq!(bench.machine.poll_timeout(), None);
    assert!(bench.saving.is_none());
}

/// A version as a client leaves it, and as a status processor that read it does.
fn tagged(tag: &str) -> ObjectMd {
    let text = format!(
        r#"{{"versionId":"v1","tags":{{"t":"{tag}"}},"originOp":"s3:ObjectTagging:Put","replicationInfo":{{"status":"PENDING","backends":[{{"site":"paris","status":"PENDING","dataStoreVersionId":""}}],"content":["METADATA"],"storageClass":"paris"}}}}"#
    );
    ObjectMd::parse(&text).expect("valid metadata")
}

fn completed(md: &ObjectMd) -> ObjectMd {
    let replication =
        md.replication().with_site_status(&"paris".into(), SiteStatus::Completed).with_computed_status();
    md.with_replication(replication).with_origin_op(origin_op::COMPLETED)
}

/// A populator of a source without conditional writes, whose journal shows a change that a status write overwrote.
fn watching(lookback: u64, position: u64) -> (Bench, ObjectMd, ObjectMd) {
    let limits = WatchLimits { versions_max: 10, lookback, restorations_max: 10 };
    let mut bench = Bench::new(Config { watch: Some(limits), ..config() }, &[]).stored_at(position);
    let (old, new) = (tagged("a"), tagged("b"));
    let stale = completed(&old);
    let written = [&old, &new, &stale].map(|md| LogRecord {
        timestamp: None,
        db: "photos".into(),
        entries: vec![LogEntry::put("key", md.to_json()), LogEntry::put("key\0v1", md.to_json())],
    });
    bench.journal = written.to_vec();
    (bench.start(), new, stale)
}

impl Bench {
    /// The one request to the source that is under way.
    fn call(&mut self) -> (EffectId, SiteRequest) {
        assert_eq!(self.calls.len(), 1);
        self.calls.remove(0)
    }

    /// Answers a read of the source.
    fn answer_read(&mut self, stored: &ObjectMd) {
        let (id, request) = self.call();
        assert!(matches!(request, SiteRequest::ReadMetadata { side: Side::Source, .. }), "{request:?}");
        let reply = SiteReply::Metadata(Ending::Applied(stored.clone()));
        self.handle(Event::Replied { id, reply });
    }
}

#[test]
fn a_client_s_change_that_a_status_write_overwrote_is_written_back_before_the_position_passes() {
    let (mut bench, new, stale) = watching(0, 1);
    assert_eq!(bench.overwritten, [Seq(3)]);
    while !bench.publishes.is_empty() {
        bench.acknowledge(0);
    }
    bench.pass(Span::from_secs(5));
    assert_eq!(bench.stored.position, Some((Seq(3), EPOCH)), "the record that shows the loss is not passed");
    bench.answer_read(&stale);
    let (id, request) = bench.call();
    let SiteRequest::WriteMetadata { md, condition, .. } = request else { panic!("{request:?}") };
    assert_eq!((md.revision(), md.replication().status()), (new.revision(), &OverallStatus::Pending));
    assert_eq!(condition, Some(Condition::tag(stale.state_tag())));
    // Nobody knows whether it was written: the source is looked at again.
    bench.handle(Event::Replied { id, reply: SiteReply::Written(Ending::Unknown) });
    bench.pass(Span::from_secs(1));
    bench.answer_read(&stale);
    let (id, _) = bench.call();
    bench.handle(Event::Replied { id, reply: SiteReply::Written(Ending::Applied(())) });
    bench.pass(Span::from_secs(5));
    assert_eq!(bench.stored.position, Some((Seq(4), EPOCH)));
    let summary = bench.machine.summary();
    assert_eq!((summary.overwritten, summary.restored), (1, 1));
}

#[test]
fn a_later_change_is_not_overwritten_by_a_restoration() {
    let (mut bench, ..) = watching(0, 1);
    bench.answer_read(&tagged("c"));
    assert!(bench.calls.is_empty());
    assert_eq!(bench.machine.summary().restored, 0);
}

#[test]
fn a_new_owner_looks_back_to_learn_what_was_written_before() {
    let (bench, ..) = watching(2, 3);
    assert_eq!(bench.overwritten, [Seq(3)]);
    assert!(bench.publishes.is_empty(), "what was read only to look back is not published again");
    // What the journal does not have any more cannot be looked at, and is no loss.
    let limits = WatchLimits { versions_max: 10, lookback: 100, restorations_max: 10 };
    let mut bench = Bench::new(Config { watch: Some(limits), ..config() }, &["PENDING"; 5]).stored_at(4);
    bench.oldest = Seq(3);
    let bench = bench.start();
    assert!(bench.losses.is_empty());
    assert_eq!(bench.publishes.len(), 2);
}

proptest::proptest! {
    /// Wherever another reader was: what it did not read is queued or told as lost, what is told as lost is gone, and no more is
    /// read again than was asked for.
    #[test]
    fn nothing_is_left_out_behind_another_reader(
        count in 0_u64..8, reader in 0_u64..12, again in 0_u64..6, forgotten in 0_u64..8,
    ) {
        let bootstrap = Bootstrap::Behind { reader: Seq(reader), again };
        let records = vec!["PENDING"; usize::try_from(count).expect("small")];
        let mut bench = Bench::new(Config { bootstrap, ..config() }, &records);
        bench.oldest = Seq(1 + forgotten.min(count));
        let (oldest, end) = (bench.oldest.0, count + 1);
        let bench = bench.start();
        let queued: BTreeSet<u64> = bench.publishes.iter().map(|publish| publish.2.0).collect();
        let lost: Vec<_> = bench.losses.iter().map(|loss| loss.wanted.0.0..loss.resumes.0.0).collect();
        let reader = if reader > end { 0 } else { reader };
        for seq in reader.max(1)..end {
            let is_lost = lost.iter().any(|lost| lost.contains(&seq));
            // A reader of another journal has read nothing of this one, and what is gone is not its loss.
            let is_gone = seq < oldest;
            proptest::prop_assert!(queued.contains(&seq) != is_gone, "{seq}");
            proptest::prop_assert!(!is_lost || is_gone, "{seq}");
            proptest::prop_assert!(is_lost || !is_gone || reader == 0, "{seq}");
        }
        proptest::prop_assert!(queued.iter().all(|seq| seq + again >= reader));
    }

    /// Whatever the order of acknowledgements and their losses: every PENDING record is queued, the position saved at any
    /// time has nothing unacknowledged below it, and it gets to the end.
    #[test]
    fn nothing_is_lost_whatever_the_acknowledgements_do(
        pending in proptest::collection::vec(proptest::bool::ANY, 1..40),
        choices in proptest::collection::vec((0_usize..100, 0_u8..10), 0..200),
    ) {
        let statuses: Vec<&str> = pending.iter().map(|is| if *is { "PENDING" } else { "COMPLETED" }).collect();
        let mut bench = Bench::new(config(), &statuses).stored_at(1).start();
        let mut acknowledged = BTreeSet::new();
        let mut choices = choices.into_iter();
        for _ in 0..2_000 {
            if bench.publishes.is_empty() {
                bench.pass(Span::from_secs(2));
                if bench.publishes.is_empty() {
                    break;
                }
            }
            let (choice, fate) = choices.next().unwrap_or((0, 9));
            let index = choice % bench.publishes.len();
            if fate == 0 {
                let (id, ..) = bench.publishes.remove(index);
                bench.handle(Event::Published { id, ending: Ending::Unknown });
                bench.publishes.clear();
            } else {
                acknowledged.insert(bench.publishes[index].2);
                bench.acknowledge(index);
            }
            let saved = bench.stored.position.expect("stored from the start").0;
            for (index, is_pending) in pending.iter().enumerate() {
                let seq = Seq(index as u64 + 1);
                proptest::prop_assert!(!is_pending || seq >= saved || acknowledged.contains(&seq));
            }
        }
        bench.pass(Span::from_secs(5));
        proptest::prop_assert_eq!(bench.stored.position.expect("stored").0, Seq(pending.len() as u64 + 1));
    }
}
