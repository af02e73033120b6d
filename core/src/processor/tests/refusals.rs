//! What is refused for good, on either side, and what a copy makes of it.

use super::bench::{Bench, config, is_move, is_read_of, minting, object, refused, source_md};
use crate::call::{Ending, RefusalKind};
use crate::exception::ExceptionState;
use crate::model::{Location, ObjectEntry, ObjectMd};
use crate::request::{MovedPart, Side, SiteReply, SiteRequest};
use crate::time::Span;

/// A source whose version says something else than the bench's own, and its entry.
fn send_changed(bench: &mut Bench, sizes: &[u64], change: impl Fn(&str) -> String) {
    let md = ObjectMd::parse(&change(&source_md("a", "v1", sizes, "x").to_json())).expect("valid metadata");
    bench.source.insert(object("a", "v1"), md.clone());
    bench.send(ObjectEntry::of("photos", &"a".into(), md));
}

fn assert_failed(bench: &Bench, reason: &str) {
    let record = bench.exceptions.last().expect("a record");
    assert_eq!((record.state, &*record.reason), (ExceptionState::Failed, reason));
    assert_eq!(bench.statuses.len(), 1, "{:?}", bench.log);
    assert_eq!(bench.log.last().map(String::as_str), Some("commit 1"));
}

fn moves(bench: &Bench) -> usize {
    bench.log.iter().filter(|line| line.starts_with("move")).count()
}

#[test]
fn a_rule_that_was_withdrawn_fails_the_copy() {
    let mut bench = Bench::new(config());
    bench.rules.prefixes.clear();
    bench.write("a", "v1", &[10], "x");
    bench.run();
    assert_failed(&bench, "ReplicationDisabled");
    assert_eq!(moves(&bench), 0);
}

#[test]
fn a_configuration_that_is_gone_fails_the_copy() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, _) = bench.run_until_call(|request| matches!(request, SiteRequest::ReadRules { .. }));
    let code = "ReplicationConfigurationNotFoundError";
    bench.reply(id, SiteReply::Rules(refused(RefusalKind::NotFound, code)));
    bench.run();
    assert_failed(&bench, code);
    assert_eq!(moves(&bench), 0);
}

#[test]
fn a_part_without_a_digest_is_a_failure_of_its_own() {
    for config in [config(), minting(true)] {
        let mut bench = Bench::new(config);
        send_changed(&mut bench, &[10], |md| md.replace("\"dataStoreETag\":\"1:md5-v1-0\"", "\"other\":1"));
        bench.run();
        assert_failed(&bench, "MissingPartDigest");
        assert_eq!(moves(&bench), 0);
    }
}

#[test]
fn data_that_the_target_forbids_ends_the_copy_without_an_orphan() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[5, 5], "x");
    let (first, request) = bench.run_until_call(is_move);
    let reply = bench.call(request);
    let (second, _) = bench.take_call(is_move);
    bench.reply(
        second,
        SiteReply::Moved { side: Side::Target, ending: refused(RefusalKind::Denied, "AccessDenied") },
    );
    bench.run();
    assert!(!bench.log.iter().any(|line| line.starts_with("delete")), "the other part is on its way");
    bench.reply(first, reply);
    bench.run();
    assert_failed(&bench, "DstAccessDenied");
    assert!(bench.log.contains(&"delete 1 locations".to_owned()), "{:?}", bench.log);
    assert_eq!(moves(&bench), 2, "nothing is tried again");
}

#[test]
fn a_deletion_that_fails_changes_nothing() {
    for ending in [refused(RefusalKind::Unavailable, "ServiceUnavailable"), Ending::Unknown] {
        let mut bench = Bench::new(config());
        bench.write("a", "v1", &[5, 5], "x");
        let (first, request) = bench.run_until_call(is_move);
        let reply = bench.call(request);
        bench.reply(first, reply);
        let (second, _) = bench.run_until_call(is_move);
        let denied = refused(RefusalKind::Denied, "AccessDenied");
        bench.reply(second, SiteReply::Moved { side: Side::Target, ending: denied });
        let (deletion, _) = bench.run_until_call(|request| matches!(request, SiteRequest::DeleteData { .. }));
        bench.reply(deletion, SiteReply::Deleted(ending));
        bench.run();
        assert_failed(&bench, "DstAccessDenied");
        let deletions = bench.log.iter().filter(|line| line.starts_with("delete")).count();
        assert_eq!(deletions, 1, "{:?}", bench.log);
    }
}

#[test]
fn a_source_that_forbids_is_held_and_copied_when_it_does_not_any_more() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    let (id, _) = bench.run_until_call(is_read_of(Side::Source));
    bench.reply(id, SiteReply::Metadata(refused(RefusalKind::Denied, "AccessDenied")));
    bench.run();
    assert_eq!(
        (bench.exceptions[0].state, &*bench.exceptions[0].reason),
        (ExceptionState::Held, "SourceAccessDenied")
    );
    assert!(bench.statuses.is_empty(), "nothing is wrong with the copy itself");
    bench.pass(Span::from_secs(60));
    assert_eq!(bench.statuses.len(), 1);
    assert_eq!(bench.exceptions.last().map(|record| record.state), Some(ExceptionState::Resolved));
}

#[test]
fn a_source_that_stays_down_is_held() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    for _ in 0..4 {
        let (id, _) = bench.run_until_call(is_read_of(Side::Source));
        let down = refused(RefusalKind::Unavailable, "ServiceUnavailable");
        bench.reply(id, SiteReply::Metadata(down));
    }
    bench.run();
    let record = &bench.exceptions[0];
    assert_eq!((record.state, &*record.reason), (ExceptionState::Held, "ServiceUnavailable"));
    assert!(bench.statuses.is_empty(), "nothing is wrong with the copy itself");
}

#[test]
fn bytes_that_never_have_their_digest_fail_the_copy() {
    let mut bench = Bench::new(config());
    bench.write("a", "v1", &[10], "x");
    for _ in 0..4 {
        let (id, _) = bench.run_until_call(is_move);
        let moved = MovedPart::new(Location::stored("bad", "paris-disk"), "other");
        bench.reply(id, SiteReply::Moved { side: Side::Target, ending: Ending::Applied(moved) });
    }
    bench.run();
    assert_failed(&bench, "BadDigest");
    assert_eq!(bench.tag_at_target("a", "v1"), None);
}

#[test]
fn a_part_that_is_refused_for_good_leaves_no_upload() {
    let mut bench = Bench::new(minting(true));
    bench.write("a", "v9", &[5, 3], "x");
    let (first, request) = bench.run_until_call(is_move);
    let reply = bench.call(request);
    let (second, _) = bench.take_call(is_move);
    let denied = refused(RefusalKind::Denied, "AccessDenied");
    bench.reply(second, SiteReply::Moved { side: Side::Target, ending: denied });
    bench.reply(first, reply);
    bench.run();
    assert_failed(&bench, "DstAccessDenied");
    assert!(bench.minting.open_uploads().is_empty(), "{:?}", bench.log);
}

#[test]
fn one_role_is_enough_where_the_target_mints_ids() {
    let one_role = |md: &str| md.replace("role/a,arn:aws:iam::2:role/b", "role/a");
    let mut bench = Bench::new(minting(true));
    bench.rules.roles.truncate(1);
    send_changed(&mut bench, &[10], one_role);
    bench.run();
    assert_eq!(bench.minting.history("a"), ["v1 x"]);

    // Elsewhere the target's role is needed, and the source's is always compared.
    for (config, roles) in [(config(), 1), (minting(true), 0)] {
        let mut bench = Bench::new(config);
        bench.rules.roles.truncate(roles);
        send_changed(&mut bench, &[10], one_role);
        bench.run();
        assert_eq!(moves(&bench), 0);
        assert!(bench.statuses.is_empty());
        assert!(bench.minting.history("a").is_empty());
    }
}
