//! What a copy does, by what both sides hold.

use super::bench::{Bench, config, is_move, is_read_of, is_write, object, source_md, target_object};
use crate::call::{Ending, Refusal, RefusalKind};
use crate::model::{
    Encryption, Location, ObjectEntry, ObjectRef, OverallStatus, RawJson, SiteStatus, VersionRef,
};
use crate::request::{MovedPart, Side, SiteReply, SiteRequest};
use crate::time::Span;

#[test]
fn an_object_is_copied_recorded_and_committed_in_this_order() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    bench.run();
    let expected = [
        "rules",
        "bucket",
        "read Target a",
        "read Source a",
        "move a part 1",
        "write a",
        "status a COMPLETED",
        "commit 1",
    ];
    assert_eq!(bench.log, expected);
    assert_eq!(bench.statuses[0].site, Some("paris".into()));
    let replica = &bench.target[&target_object("a", "v1")];
    assert_eq!(replica.replication().status(), &OverallStatus::Replica);
    assert_eq!(replica.replication().site_status(&"paris".into()), Some(&SiteStatus::Replica));
    assert_eq!(replica.owner_id(), "target-owner");
    assert_eq!(&*replica.locations()[0].key, "data-1");
    assert_eq!(replica.fingerprint(), bench.source[&object("a", "v1")].fingerprint());
}

/// Either may be encrypted where the other is not.
#[test]
fn a_replica_says_how_the_target_encrypts_its_data() {
    let kms = Encryption {
        algorithm: "aws:kms".to_owned(),
        kms_key_id: "key-1".to_owned(),
        customer_algorithm: String::new(),
    };
    let aes = Encryption { algorithm: "AES256".to_owned(), ..Encryption::default() };
    for (source, target) in [(&aes, None), (&Encryption::default(), Some(&kms)), (&aes, Some(&kms))] {
        let mut bench = Bench::new(config());
        bench.encryption = target.cloned();
        let md = source_md("a", "v1", &[5, 5], "x").with_encryption(source);
        bench.source.insert(object("a", "v1"), md.clone());
        bench.send(ObjectEntry::of("photos", &"a".into(), md));
        bench.run();
        let replica = &bench.target[&target_object("a", "v1")];
        assert_eq!(replica.encryption(), target.cloned().unwrap_or_default());
    }
}

#[test]
fn facts_about_buckets_are_asked_once() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    bench.write("b", "v1", &[10], "x");
    bench.run();
    bench.write("c", "v1", &[10], "x");
    bench.run();
    let asked_late =
        bench.log.iter().skip_while(|line| !line.contains("commit")).filter(|line| *line == "rules");
    assert_eq!(asked_late.count(), 0, "{:?}", bench.log);
}

#[test]
fn parts_keep_their_layout_and_move_a_few_at_a_time() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[5, 5, 3], "x");
    let (first, request) = bench.run_until_call(is_move);
    assert_eq!(bench.held.len(), 1, "two parts at once, not three: {:?}", bench.log);
    let reply = bench.call(request);
    bench.reply(first, reply);
    bench.run();
    let replica = &bench.target[&target_object("a", "v1")];
    let sizes: Vec<u64> = replica.locations().iter().map(|location| location.size).collect();
    assert_eq!(sizes, [5, 5, 3]);
    assert_eq!(replica.part_layout(), bench.source[&object("a", "v1")].part_layout());
}

/// As many parts as S3 allows. What is noted meanwhile is left out: it is about resuming.
#[test]
fn ten_thousand_parts_move_a_few_at_a_time_and_are_written_once() {
    let sizes: Vec<u64> = (1..=10_000).collect();
    let mut config = config();
    config.copy.noted_size_min = u64::MAX;
    let mut bench = Bench::new(config);
    bench.write("a", "v1", &sizes, "x");
    let (first, request) = bench.run_until_call(is_move);
    assert_eq!(bench.held.len(), 1, "two parts at once");
    let reply = bench.call(request);
    bench.reply(first, reply);
    bench.run();
    let count = |word: &str| bench.log.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((count("move a"), count("write a"), count("status a COMPLETED")), (10_000, 1, 1));
    let replica = &bench.target[&target_object("a", "v1")];
    assert_eq!(replica.part_layout(), bench.source[&object("a", "v1")].part_layout());
    let moved: Vec<u64> = replica.locations().iter().map(|location| location.size).collect();
    assert_eq!(moved, sizes);
}

#[test]
fn an_object_without_data_is_written_without_moving_anything() {
    let mut bench = Bench::new(config());
    bench.write("empty", "v1", &[], "x");
    bench.run();
    assert!(!bench.log.iter().any(|line| line.starts_with("move")), "{:?}", bench.log);
    assert!(bench.target[&target_object("empty", "v1")].locations().is_empty());
}

#[test]
fn a_changed_tag_moves_metadata_only_and_keeps_the_target_s_data() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    bench.run();
    bench.log.clear();
    bench.write("a", "v1", &[10], "y");
    bench.run();
    assert_eq!(
        bench.log,
        ["read Target a", "read Source a", "write a keeping data", "status a COMPLETED", "commit 2"]
    );
    let replica = &bench.target[&target_object("a", "v1")];
    assert_eq!(&*replica.locations()[0].key, "data-1");
    assert_eq!(bench.tag_at_target("a", "v1").as_deref(), Some("y"));
}

#[test]
fn an_old_message_never_brings_an_old_tag_back() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "old");
    bench.run();
    bench.write("a", "v1", &[10], "new");
    bench.run();
    let old = source_md("a", "v1", &[10], "old");
    bench.send(ObjectEntry::of("photos", &"a".into(), old));
    bench.run();
    assert_eq!(bench.tag_at_target("a", "v1").as_deref(), Some("new"));
}

#[test]
fn a_version_that_is_at_the_target_already_is_recorded_without_copying() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    bench.run();
    bench.log.clear();
    let again = source_md("a", "v1", &[10], "x");
    bench.send(ObjectEntry::of("photos", &"a".into(), again));
    bench.run();
    assert_eq!(bench.log, ["read Target a", "read Source a", "status a COMPLETED", "commit 2"]);
}

#[test]
fn a_version_that_is_gone_or_done_at_the_source_is_settled_without_a_record() {
    let mut bench = Bench::new(config());
    bench.write("gone", "v1", &[10], "x");
    bench.source.clear();
    bench.run();
    assert_eq!(bench.committed.0, 1);
    bench.write("done", "v1", &[10], "x");
    let done = source_md("done", "v1", &[10], "x");
    let info = done.replication().with_site_status(&"paris".into(), SiteStatus::Completed);
    bench.source.insert(object("done", "v1"), done.with_replication(info));
    bench.run();
    assert_eq!(bench.committed.0, 2);
    assert!(bench.statuses.is_empty() && bench.exceptions.is_empty());
}

#[test]
fn a_source_that_vanishes_under_the_copy_ends_it_and_its_data_is_deleted() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[5, 5], "x");
    let (first, request) = bench.run_until_call(is_move);
    let reply = bench.call(request);
    bench.reply(first, reply);
    let (second, _) = bench.take_call(is_move);
    let ending = Ending::Refused(Refusal::new(RefusalKind::NotFound, "NoSuchVersion"));
    bench.reply(second, SiteReply::Moved { side: Side::Source, ending });
    bench.run();
    assert_eq!(bench.log[6..], ["read Target a", "delete 1 locations", "commit 1"]);
    assert!(bench.statuses.is_empty());
}

#[test]
fn an_unknown_write_is_repeated_with_the_same_data() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, first) = bench.run_until_call(is_write);
    bench.reply(id, SiteReply::Written(Ending::Unknown));
    bench.pass(Span::from_secs(5));
    let writes = bench.log.iter().filter(|line| *line == "write a").count();
    let moves = bench.log.iter().filter(|line| line.starts_with("move")).count();
    assert_eq!((writes, moves), (2, 1), "{:?}", bench.log);
    let SiteRequest::WriteMetadata { md, .. } = first else { panic!("a write") };
    assert_eq!(bench.target[&target_object("a", "v1")].to_json(), md.to_json());
}

#[test]
fn an_unknown_write_that_was_applied_is_found_by_looking() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, request) = bench.run_until_call(is_write);
    bench.call(request);
    bench.reply(id, SiteReply::Written(Ending::Unknown));
    bench.pass(Span::from_secs(5));
    assert_eq!(bench.statuses.len(), 1);
    assert!(!bench.log.iter().any(|line| line.starts_with("delete")), "{:?}", bench.log);
}

/// Lets the first write end as `first` and the one after the wait be refused for good.
fn written_in_vain(first: Ending<()>) -> Bench {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, _) = bench.run_until_call(is_write);
    bench.reply(id, SiteReply::Written(first));
    let (id, _) = bench.run_until_call(is_write);
    let refusal = Refusal::new(RefusalKind::Invalid, "MalformedPOSTRequest");
    bench.reply(id, SiteReply::Written(Ending::Refused(refusal)));
    bench.run();
    assert_eq!(bench.exceptions.len(), 2, "before and after the status");
    bench
}

#[test]
fn data_of_a_write_that_may_still_happen_is_never_deleted() {
    let bench = written_in_vain(Ending::Unknown);
    assert!(!bench.log.iter().any(|line| line.starts_with("delete")), "{:?}", bench.log);
    assert_eq!(bench.machine.summary().leaked, 1);
}

#[test]
fn data_of_writes_that_were_all_refused_is_deleted() {
    let unavailable = Refusal::new(RefusalKind::Unavailable, "ServiceUnavailable");
    let bench = written_in_vain(Ending::Refused(unavailable));
    assert!(bench.log.iter().any(|line| line == "delete 1 locations"), "{:?}", bench.log);
    assert_eq!(bench.machine.summary().leaked, 0);
}

#[test]
fn a_part_with_another_digest_is_never_accepted() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    for _ in 0..2 {
        let (id, _) = bench.run_until_call(is_move);
        let moved = MovedPart::new(Location::stored("bad", "paris-disk"), "other");
        bench.reply(id, SiteReply::Moved { side: Side::Target, ending: Ending::Applied(moved) });
        assert!(bench.statuses.is_empty());
        let due = bench.machine.poll_timeout().expect("the copy tries again");
        bench.pass(due.since(bench.now.mono));
        if bench.committed.0 > 0 {
            break;
        }
    }
    bench.pass(Span::from_secs(60));
    assert_eq!(bench.statuses.len(), 1);
    assert!(bench.log.iter().any(|line| line == "delete 1 locations" || line == "delete 2 locations"));
    assert_ne!(&*bench.target[&target_object("a", "v1")].locations()[0].key, "bad");
}

#[test]
fn a_conflict_at_the_target_makes_the_copy_look_again() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, request) = bench.run_until_call(is_write);
    // Another owner was faster.
    bench.call(request);
    bench.reply(id, SiteReply::Written(Ending::Refused(Refusal::new(RefusalKind::Conflict, "412"))));
    bench.run();
    assert_eq!(bench.statuses.len(), 1);
    assert_eq!(bench.log.iter().filter(|line| *line == "write a").count(), 1);
}

#[test]
fn data_that_the_target_lost_before_the_write_is_moved_again() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, _) = bench.run_until_call(is_write);
    let gone = Refusal::new(RefusalKind::NotFound, "LocationNotFound");
    bench.reply(id, SiteReply::Written(Ending::Refused(gone)));
    bench.run();
    assert_eq!(bench.log.iter().filter(|line| line.starts_with("move")).count(), 2, "{:?}", bench.log);
    assert_eq!(&*bench.target[&target_object("a", "v1")].locations()[0].key, "data-2");
}

#[test]
fn the_target_is_read_before_the_source() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, request) = bench.run_until_call(is_read_of(Side::Target));
    assert!(!bench.log.iter().any(|line| line.starts_with("read Source")));
    let reply = bench.call(request);
    bench.reply(id, reply);
    assert!(bench.log.iter().any(|line| line.starts_with("read Source")));
}

#[test]
fn a_message_that_joins_a_waiting_copy_makes_it_look_again() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "old");
    let (id, _) = bench.run_until_call(is_write);
    let down = Refusal::new(RefusalKind::Unavailable, "ServiceUnavailable");
    bench.reply(id, SiteReply::Written(Ending::Refused(down)));
    bench.write("a", "v1", &[10], "new");
    bench.pass(Span::from_secs(10));
    assert_eq!(bench.tag_at_target("a", "v1").as_deref(), Some("new"));
    let copied: Vec<_> = bench.statuses.iter().map(|entry| entry.md().revision()).collect();
    assert_eq!(copied, [bench.source[&object("a", "v1")].revision()]);
}

#[test]
fn a_version_called_completed_is_copied_where_the_target_shows_something_else() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "second");
    bench.run();
    // The client went back to the first content, and the outcome of the first copy was recorded late.
    let first = source_md("a", "v1", &[10], "first");
    let info = first.replication().with_site_status(&"paris".into(), SiteStatus::Completed);
    bench.source.insert(object("a", "v1"), first.with_replication(info));
    bench.send(ObjectEntry::of("photos", &"a".into(), first));
    bench.run();
    assert_eq!(bench.tag_at_target("a", "v1").as_deref(), Some("first"));
}

/// A null version as a client changed it: `id` is where the source keeps it, if it has one.
fn write_null(bench: &mut Bench, id: Option<&str>, tag: &str) {
    let md = source_md("a", id.unwrap_or("-"), &[10], tag);
    let md = match id {
        Some(_) => md.with_members(&[("isNull", RawJson::bool(true))]),
        None => md.without_member("versionId"),
    };
    let object = ObjectRef::new("photos", "a", md.version_ref());
    bench.source.insert(object, md.clone());
    bench.send(ObjectEntry::of("photos", &"a".into(), md));
}

/// The version that the copy's metadata write names.
fn written_version(bench: &mut Bench) -> VersionRef {
    let (id, request) = bench.run_until_call(is_write);
    let SiteRequest::WriteMetadata { object, .. } = &request else { panic!("a write was looked for") };
    let version = object.version.clone();
    let reply = bench.call(request);
    bench.reply(id, reply);
    bench.run();
    version
}

#[test]
fn a_null_version_is_created_under_the_id_that_the_source_keeps_it_under() {
    let mut bench = Bench::new(config());
    write_null(&mut bench, Some("v0"), "x");
    assert_eq!(written_version(&mut bench), VersionRef::Version("v0".into()));
    assert_eq!(bench.statuses.len(), 1);
}

#[test]
fn an_object_without_an_id_is_created_as_the_null_version() {
    let mut bench = Bench::new(config());
    write_null(&mut bench, None, "x");
    assert_eq!(written_version(&mut bench), VersionRef::Unversioned);
}

#[test]
fn a_null_version_that_the_target_has_is_changed_in_its_place() {
    let mut bench = Bench::new(config());
    let there = source_md("a", "v0", &[10], "w").with_members(&[("isNull", RawJson::bool(true))]);
    bench.target.insert(ObjectRef::new("copies", "a", VersionRef::Null), there);
    write_null(&mut bench, Some("v0"), "x");
    assert_eq!(written_version(&mut bench), VersionRef::Null);
}
