//! Large copies outlive their owner (decision D10).

use super::bench::{Bench, PARTITION, config, is_move, is_write, object, source_md, target_object};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::consumer::QueueEvent;
use crate::exception::{ExceptionRecord, ExceptionState};
use crate::id::Epoch;
use crate::model::{Encryption, ObjectEntry};
use crate::processor::{Effect, Event};
use crate::request::minting::{MintingRequest, TargetKind};
use crate::request::{Side, SiteReply, SiteRequest};
use crate::time::Span;

fn states(bench: &Bench) -> Vec<ExceptionState> {
    bench.exceptions.iter().map(|record| record.state).collect()
}

fn moves(bench: &Bench) -> Vec<&str> {
    bench.log.iter().map(String::as_str).filter(|line| line.starts_with("move")).collect()
}

/// The process loses its partition and gets it again, with the records that are live: as another owner would.
fn hand_over(bench: &mut Bench) {
    bench.live = bench.exceptions.last().cloned().into_iter().collect();
    bench.live.retain(|record| record.state != ExceptionState::Resolved);
    bench.held.clear();
    let lost = QueueEvent::Lost { epoch: Epoch(1), partitions: vec![PARTITION] };
    bench.machine =
        crate::processor::SiteProcessor::new(super::bench::config_of(bench), crate::rules::Production);
    bench.handle(Event::Queue(lost));
    bench.assign(2, 0);
}

fn again(bench: &mut Bench, sizes: &[u64]) {
    bench.send(ObjectEntry::of("photos", &"a".into(), source_md("a", "v9", sizes, "x")));
}

#[test]
fn a_large_copy_is_noted_while_it_runs_and_the_note_is_deleted_at_its_end() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60, 60], "x");
    bench.run();
    let states = states(&bench);
    assert_eq!(states.first(), Some(&ExceptionState::Copying));
    assert_eq!(states.last(), Some(&ExceptionState::Resolved));
    let noted = bench.exceptions[0].deposit.as_ref().expect("a note");
    assert_eq!((noted.parts.len(), noted.parts[0].number), (1, 1));
    let status = bench.log.iter().position(|line| line.starts_with("status")).expect("a status");
    let last_note = bench.log.iter().rposition(|line| line.contains("Copying")).expect("a note");
    assert!(last_note < status, "{:?}", bench.log);
    bench.write("small", "v9", &[10, 10], "x");
    bench.run();
    assert!(!bench.log.iter().any(|line| line.contains("small Copying")));
}

#[test]
fn the_next_owner_moves_only_what_is_missing() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60, 60], "x");
    bench.run_until(|effect| matches!(effect, Effect::Call { request, .. } if is_write(request)));
    bench.run();
    bench.exceptions.truncate(2);
    let noted = bench.exceptions.last().and_then(|record| record.deposit.clone()).expect("a note");
    hand_over(&mut bench);
    again(&mut bench, &[60, 60, 60]);
    bench.run();
    assert_eq!(moves(&bench).len(), 3 - noted.parts.len());
    let replica = &bench.target[&target_object("a", "v9")];
    assert_eq!(replica.locations()[0].key, noted.parts[0].location.key);
    assert_eq!(bench.statuses.len(), 1);
    assert_eq!(states(&bench).last(), Some(&ExceptionState::Resolved));
}

#[test]
fn how_noted_data_is_encrypted_is_noted_too() {
    let aes = Encryption { algorithm: "AES256".to_owned(), ..Encryption::default() };
    let mut bench = Bench::new(config());
    bench.encryption = Some(aes.clone());
    bench.write("a", "v9", &[60, 60], "x");
    bench.run_until(|effect| matches!(effect, Effect::Call { request, .. } if is_write(request)));
    bench.run();
    bench.encryption = None;
    bench.log.clear();
    hand_over(&mut bench);
    again(&mut bench, &[60, 60]);
    bench.run();
    assert!(moves(&bench).is_empty(), "{:?}", bench.log);
    assert_eq!(bench.target[&target_object("a", "v9")].encryption(), aes);
}

#[test]
fn noted_data_of_other_content_is_not_used_and_deleted_only_once_the_target_shows_the_version() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60], "x");
    bench.run_until(|effect| matches!(effect, Effect::Call { request, .. } if is_write(request)));
    bench.run();
    let record: &mut ExceptionRecord = bench.exceptions.last_mut().expect("a note");
    record.deposit.as_mut().expect("a note").content = "other".to_owned();
    hand_over(&mut bench);
    again(&mut bench, &[60, 60]);
    bench.run();
    assert_eq!(moves(&bench).len(), 2);
    let place = |wanted: &str| bench.log.iter().position(|line| line == wanted);
    assert!(place("write a") < place("delete 2 locations"), "{:?}", bench.log);
    assert!(place("delete 2 locations").is_some());
}

#[test]
fn an_owner_never_deletes_noted_data_after_a_refusal() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60], "x");
    let (id, _) = bench.run_until_call(is_write);
    bench.run();
    let refusal = Refusal::new(RefusalKind::Invalid, "MalformedPOSTRequest");
    bench.reply(id, SiteReply::Written(Ending::Refused(refusal)));
    bench.run();
    assert!(!bench.log.iter().any(|line| line.starts_with("delete")), "{:?}", bench.log);
    assert_eq!(bench.exceptions.last().map(|record| record.state), Some(ExceptionState::Failed));
}

#[test]
fn noted_data_that_another_owner_made_needless_is_deleted() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60], "x");
    let (id, _) = bench.run_until_call(is_write);
    bench.run();
    // Another owner wrote the version with data of its own.
    let md = source_md("a", "v9", &[60, 60], "x");
    bench.target.insert(target_object("a", "v9"), md);
    bench.reply(id, SiteReply::Written(Ending::Refused(Refusal::new(RefusalKind::Conflict, "412"))));
    bench.run();
    assert!(bench.log.iter().any(|line| line == "delete 2 locations"), "{:?}", bench.log);
    assert_eq!(bench.statuses.len(), 1);
}

#[test]
fn an_ending_waits_for_the_note_that_is_being_written() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60], "x");
    let (id, _) = bench.run_until_call(is_move);
    let part = Ending::Refused(Refusal::new(RefusalKind::NotFound, "NoSuchVersion"));
    let (other, request) = bench.take_call(is_move);
    let reply = bench.call(request);
    bench.reply(other, reply);
    let note = bench.take(|effect| matches!(effect, Effect::PutException { .. }));
    bench.reply(id, SiteReply::Moved { side: Side::Source, ending: part });
    bench.run();
    assert_eq!(bench.committed.0, 0, "{:?}", bench.log);
    let answer = bench.perform(note).expect("it is answered");
    bench.handle(answer);
    bench.run();
    assert_eq!(states(&bench), [ExceptionState::Copying, ExceptionState::Resolved]);
    assert_eq!(bench.committed.0, 1);
}

#[test]
fn a_note_whose_owner_died_is_looked_at_even_if_no_message_comes() {
    let mut bench = Bench::new(config());
    bench.write("a", "v9", &[60, 60], "x");
    bench.run_until(|effect| matches!(effect, Effect::Call { request, .. } if is_write(request)));
    bench.run();
    hand_over(&mut bench);
    bench.source.remove(&object("a", "v9"));
    bench.pass(Span::from_secs(120));
    assert_eq!(states(&bench).last(), Some(&ExceptionState::Resolved));
}

#[test]
fn the_next_owner_goes_on_with_the_upload_that_was_noted() {
    let mut config = config();
    config.copy.target = TargetKind::MintsVersions { conditional: true };
    let mut bench = Bench::new(config);
    bench.write("a", "v9", &[60, 60, 60], "x");
    let is_completion = |request: &SiteRequest| matches!(request, SiteRequest::Minting(request) if matches!(**request, MintingRequest::CompleteUpload { .. }));
    bench.run_until(|effect| matches!(effect, Effect::Call { request, .. } if is_completion(request)));
    hand_over(&mut bench);
    again(&mut bench, &[60, 60, 60]);
    bench.run();
    assert!(moves(&bench).is_empty(), "{:?}", bench.log);
    assert!(bench.log.contains(&"list parts upload-1".to_owned()), "{:?}", bench.log);
    assert_eq!(bench.minting.history("a"), ["v9 x"]);
    assert!(bench.minting.open_uploads().is_empty());
}
