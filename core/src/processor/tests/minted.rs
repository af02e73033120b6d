//! Copies to targets that mint version ids (decision D11). Here `v8` is newer than `v9`: newer ids sort first.

use super::bench::{Bench, minting, object, source_md, target_object};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::exception::ExceptionState;
use crate::model::{ObjectEntry, ObjectMd, RawJson, SiteStatus};
use crate::request::minting::{MintingReply, MintingRequest};
use crate::request::{Side, SiteReply, SiteRequest};
use crate::time::Span;

fn is_put(request: &SiteRequest) -> bool {
    matches!(request, SiteRequest::Minting(request) if matches!(**request, MintingRequest::PutObject(_)))
}

fn is_tagging(request: &SiteRequest) -> bool {
    matches!(request, SiteRequest::Minting(request) if matches!(**request, MintingRequest::WriteTags { .. }))
}

fn is_completion(request: &SiteRequest) -> bool {
    matches!(request, SiteRequest::Minting(request) if matches!(**request, MintingRequest::CompleteUpload { .. }))
}

fn put_unknown() -> SiteReply {
    SiteReply::Minting(MintingReply::Put { side: Side::Target, ending: Ending::Unknown })
}

fn marker_md(key: &str, version: &str) -> ObjectMd {
    let value = RawJson::parse("true").expect("valid");
    source_md(key, version, &[], "").with_member("isDeleteMarker", &value).expect("an untyped member")
}

/// A client deletes `key`: a delete marker at the source, and the message about it.
fn delete(bench: &mut Bench, key: &str, version: &str) {
    let md = ObjectMd::parse(&marker_md(key, version).to_json()).expect("valid");
    bench.source.insert(object(key, version), md.clone());
    bench.send(ObjectEntry::of("photos", &key.into(), md));
}

#[test]
fn a_new_key_is_looked_at_once_put_and_recorded_with_the_minted_id() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[10], "x");
    bench.run();
    let expected =
        ["rules", "bucket", "find a 100", "read Source a", "put a", "status a COMPLETED", "commit 1"];
    assert_eq!(bench.log, expected);
    assert_eq!(bench.minting.history("a"), ["v9 x"]);
    let backend = bench.statuses[0].replication().backend(&"paris".into()).expect("the site is named");
    assert_eq!(&*backend.data_store_version_id, "minted-1");
}

#[test]
fn without_conditional_requests_a_copy_is_looked_at_once_more() {
    let mut bench = Bench::new(minting(false));
    bench.write("a", "v9", &[10], "x");
    bench.run();
    let expected =
        ["find a 100", "read Source a", "put a", "find a 100", "read Source a", "status a COMPLETED"];
    assert_eq!(bench.log[2..8], expected);
}

#[test]
fn a_message_that_comes_again_adds_no_version() {
    for conditional in [true, false] {
        let mut bench = Bench::new(minting(conditional));
        bench.write("a", "v9", &[10], "x");
        bench.write("a", "v8", &[10], "y");
        bench.run();
        let puts = bench.log.iter().filter(|line| *line == "put a").count();
        bench.send(ObjectEntry::of("photos", &"a".into(), source_md("a", "v9", &[10], "x")));
        bench.run();
        assert_eq!(bench.minting.history("a"), ["v8 y", "v9 x"]);
        assert_eq!(bench.log.iter().filter(|line| *line == "put a").count(), puts);
        assert_eq!(bench.statuses.len(), 3);
    }
}

#[test]
fn a_put_whose_ending_is_unknown_is_found_by_its_marker() {
    for conditional in [true, false] {
        let mut bench = Bench::new(minting(conditional));
        bench.write("a", "v9", &[10], "x");
        let (id, request) = bench.run_until_call(is_put);
        bench.call(request);
        bench.reply(id, put_unknown());
        bench.pass(Span::from_secs(10));
        assert_eq!(bench.minting.history("a"), ["v9 x"]);
        assert_eq!(bench.statuses.len(), 1);
    }
}

#[test]
fn a_put_that_lands_late_is_refused_where_conditions_are_honoured_and_removed_elsewhere() {
    for conditional in [true, false] {
        let mut bench = Bench::new(minting(conditional));
        bench.write("a", "v9", &[10], "x");
        let (id, late) = bench.run_until_call(is_put);
        bench.reply(id, put_unknown());
        bench.pass(Span::from_secs(10));
        bench.call(late);
        bench.write("a", "v8", &[10], "y");
        bench.run();
        assert_eq!(bench.minting.history("a"), ["v8 y", "v9 x"]);
        assert_eq!(bench.machine.summary().late_removed, u64::from(!conditional));
    }
}

#[test]
fn a_zombie_that_put_an_older_version_over_a_newer_one_removes_it() {
    let mut bench = Bench::new(minting(false));
    bench.write("a", "v9", &[10], "x");
    let (id, request) = bench.run_until_call(is_put);
    // Another owner copied both versions while this one slept.
    for (version, tag) in [("v9", "x"), ("v8", "y")] {
        bench.minting.mint(&target_object("a", version), &source_md("a", version, &[10], tag), "etag");
    }
    let reply = bench.call(request);
    assert_eq!(bench.minting.history("a"), ["v9 x", "v8 y", "v9 x"]);
    bench.reply(id, reply);
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v8 y", "v9 x"]);
}

#[test]
fn tags_are_replaced_on_the_version_that_carries_them_and_looked_at_again() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[10], "x");
    bench.write("a", "v8", &[10], "y");
    bench.run();
    bench.log.clear();
    bench.write("a", "v9", &[10], "z");
    bench.run();
    let expected = [
        "find a 100",
        "read Source a",
        "tag minted-1",
        "find a 100",
        "read Source a",
        "status a COMPLETED",
        "commit 3",
    ];
    assert_eq!(bench.log, expected);
    assert_eq!(bench.minting.history("a"), ["v8 y", "v9 z"]);
}

#[test]
fn tags_of_an_older_revision_written_by_a_zombie_are_mended_by_it() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[10], "x");
    bench.run();
    bench.write("a", "v9", &[10], "old");
    let (id, request) = bench.run_until_call(is_tagging);
    // A newer owner copied and recorded a newer revision meanwhile.
    let newer = source_md("a", "v9", &[10], "new");
    let info = newer.replication().with_site_status(&"paris".into(), SiteStatus::Completed);
    bench.source.insert(object("a", "v9"), newer.with_replication(info));
    bench.minting.versions[0].1.tags = newer.tags();
    let reply = bench.call(request);
    bench.reply(id, reply);
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v9 new"]);
}

#[test]
fn a_delete_marker_is_made_once_and_stands_for_all_that_follow_one_another() {
    for conditional in [true, false] {
        let mut bench = Bench::new(minting(conditional));
        bench.write("a", "v9", &[10], "x");
        delete(&mut bench, "a", "v8");
        delete(&mut bench, "a", "v7");
        bench.run();
        bench.send(ObjectEntry::of("photos", &"a".into(), marker_md("a", "v8")));
        bench.run();
        assert_eq!(bench.minting.history("a"), ["deleted", "v9 x"]);
        assert_eq!(bench.statuses.len(), 4);
        // Behind a newer version its place tells that it was made.
        bench.write("a", "v6", &[10], "y");
        bench.run();
        bench.send(ObjectEntry::of("photos", &"a".into(), marker_md("a", "v8")));
        bench.run();
        assert_eq!(bench.minting.history("a"), ["v6 y", "deleted", "v9 x"]);
        assert_eq!(bench.statuses.len(), 6);
    }
}

#[test]
fn an_older_version_never_becomes_the_current_one_and_is_not_deferred() {
    let mut config = minting(true);
    config.replays_max = 3;
    let mut bench = Bench::new(config);
    bench.write("a", "v9", &[10], "x");
    let (id, _) = bench.run_until_call(is_put);
    let refusal = Refusal::new(RefusalKind::Invalid, "EntityTooOdd");
    let ending = Ending::Refused(refusal);
    bench.reply(id, SiteReply::Minting(MintingReply::Put { side: Side::Target, ending }));
    bench.run();
    assert_eq!(bench.exceptions[0].state, ExceptionState::Failed, "nothing is deferred");
    assert_eq!(bench.statuses[0].replay_count, Some(0));
    bench.write("a", "v8", &[10], "y");
    bench.run();
    bench.send(ObjectEntry::of("photos", &"a".into(), source_md("a", "v9", &[10], "x")));
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v8 y"]);
    assert_eq!(bench.exceptions.last().map(|record| &*record.reason), Some("NewerVersionAtTarget"));
}

#[test]
fn a_version_that_failed_before_is_written_over_a_delete_marker_only_if_it_is_current() {
    for newer_deleted in [true, false] {
        let mut bench = Bench::new(minting(true));
        bench.write("a", "v9", &[10], "x");
        bench.run();
        if newer_deleted {
            bench.source.insert(object("a", "v7"), marker_md("a", "v7"));
        }
        let deletion = ObjectMd::parse(r#"{"isDeleteMarker":true}"#).expect("valid");
        bench.minting.mint(&target_object("a", "v7"), &deletion, "");
        let md = source_md("a", "v8", &[10], "y");
        bench.source.insert(object("a", "v8"), md.clone());
        let mut retried = ObjectEntry::of("photos", &"a".into(), md);
        retried.site = Some("paris".into());
        bench.send(retried);
        bench.run();
        assert!(bench.log.contains(&"current a".to_owned()), "{:?}", bench.log);
        let history = bench.minting.history("a");
        if newer_deleted {
            assert_eq!(history, ["deleted", "v9 x"]);
        } else {
            assert_eq!(history, ["v8 y", "deleted", "v9 x"]);
        }
    }
}

#[test]
fn parts_go_into_one_upload_which_is_completed_under_the_condition() {
    let mut bench = Bench::new(minting(true));
    // A predecessor left an upload behind.
    bench.minting.begin(&target_object("a", "v9"), &source_md("a", "v9", &[5, 5, 3], "x"));
    bench.write("a", "v9", &[5, 5, 3], "x");
    bench.run();
    let expected = [
        "find a 100",
        "read Source a",
        "list uploads",
        "abort upload-1",
        "create upload",
        "move a part 1",
        "move a part 2",
        "move a part 3",
        "find a 100",
        "read Source a",
        "complete upload-2",
        // Whether the version has its tags.
        "find a 100",
        "read Source a",
        "status a COMPLETED",
    ];
    assert_eq!(bench.log[2..16], expected);
    assert_eq!(bench.minting.history("a"), ["v9 x"]);
    assert!(bench.minting.open_uploads().is_empty());
}

#[test]
fn tags_that_changed_while_parts_moved_are_replaced_after_the_completion() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[5, 3], "old");
    let is_move = super::bench::is_move;
    let (id, request) = bench.run_until_call(is_move);
    bench.source.insert(object("a", "v9"), source_md("a", "v9", &[5, 3], "new"));
    let reply = bench.call(request);
    bench.reply(id, reply);
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v9 new"]);
    assert_eq!(bench.statuses.len(), 1);
}

#[test]
fn a_completion_whose_ending_is_unknown_adds_no_version() {
    for applied in [true, false] {
        let mut bench = Bench::new(minting(false));
        bench.write("a", "v9", &[5, 3], "x");
        let (id, request) = bench.run_until_call(is_completion);
        if applied {
            bench.call(request);
        }
        bench.reply(id, SiteReply::Minting(MintingReply::Minted(Ending::Unknown)));
        bench.pass(Span::from_secs(20));
        assert_eq!(bench.minting.history("a"), ["v9 x"]);
        let moves = bench.log.iter().filter(|line| line.starts_with("move")).count();
        assert_eq!(moves, 2, "{:?}", bench.log);
        assert!(bench.minting.open_uploads().is_empty());
    }
}

#[test]
fn an_upload_of_a_copy_that_fails_is_aborted() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[5, 3], "x");
    let (id, _) = bench.run_until_call(is_completion);
    let denied = Ending::Refused(Refusal::new(RefusalKind::Denied, "AccessDenied"));
    bench.reply(id, SiteReply::Minting(MintingReply::Minted(denied)));
    bench.run();
    assert!(bench.minting.open_uploads().is_empty());
    assert_eq!(bench.exceptions[0].reason, "DstAccessDenied");
}

#[test]
fn tags_that_the_target_loses_with_an_upload_are_written_afterwards() {
    let mut bench = Bench::new(minting(true));
    bench.minting.loses_tags_of_uploads = true;
    bench.write("a", "v9", &[5, 3], "x");
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v9 x"]);
}

#[test]
fn an_upload_that_somebody_aborted_is_begun_again() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[5, 3], "x");
    let (id, request) = bench.run_until_call(is_completion);
    let SiteRequest::Minting(request) = request else { panic!("a completion") };
    let MintingRequest::CompleteUpload { object, upload, .. } = *request else { panic!("a completion") };
    bench.minting.call(MintingRequest::AbortUpload { object, upload });
    let gone = Ending::Refused(Refusal::new(RefusalKind::NotFound, "NoSuchUpload"));
    bench.reply(id, SiteReply::Minting(MintingReply::Minted(gone)));
    bench.pass(Span::from_secs(20));
    assert_eq!(bench.minting.history("a"), ["v9 x"]);
}

#[test]
fn a_body_that_the_target_stored_with_another_digest_is_removed_and_put_again() {
    let mut bench = Bench::new(minting(false));
    bench.write("a", "v9", &[10], "x");
    let (id, request) = bench.run_until_call(is_put);
    let SiteRequest::Minting(request) = request else { panic!("a put") };
    let MintingRequest::PutObject(put) = *request else { panic!("a put") };
    let bad = bench.minting.mint(&put.to, &put.md, &"0".repeat(32));
    let ending = Ending::Applied(bad);
    bench.reply(id, SiteReply::Minting(MintingReply::Put { side: Side::Target, ending }));
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v9 x"]);
    assert!(bench.log.contains(&"remove minted-1".to_owned()), "{:?}", bench.log);
}

#[test]
fn a_change_that_no_reader_of_the_target_sees_is_recorded_without_a_version() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[10], "x");
    bench.run();
    bench.log.clear();
    let acl = RawJson::parse(r#"{"Canned":"public-read"}"#).expect("valid");
    let md = source_md("a", "v9", &[10], "x").with_member("acl", &acl).expect("an untyped member");
    bench.source.insert(object("a", "v9"), md.clone());
    bench.send(ObjectEntry::of("photos", &"a".into(), md));
    bench.run();
    assert_eq!(bench.log, ["find a 100", "read Source a", "status a COMPLETED", "commit 2"]);
}
